//! Drives a login over both legs: greets the client, routes it, logs it in to a CN.
//!
//! What is said, and whether it is right, is decided in [`crate::session::login`]; where to go, in
//! [`crate::route`]. Here are the reads, the writes and their time limits, and the walk from one CN to the
//! next for as long as no CN has heard anything of the client.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use super::Worker;
use super::leg::{Leg, LegError};
use super::roster::{Bearer, Card};
use super::tunnel;
use crate::ident::CnSlot;
use crate::mailbox::message::{CnFailure, Picture};
use crate::metrics::Seat;
use crate::net::dial::dial;
use crate::reactor::Socket;
use crate::route::{self, Cn, Identity};
use crate::session::face;
use crate::session::login::{
    ClientLogin, ClientStep, CnAuth, CnLogin, CnLoginError, CnStep, Credential, Proof, Speaker,
};
use crate::session::refusal::Refusal;
use crate::wire::capability::Capabilities;
use crate::wire::greeting::SALT;
use crate::wire::status::Status;

/// A session that a CN has let in.
pub(super) struct Seated {
    pub cn: Arc<Cn>,
    pub cn_socket: Socket,
    pub seat: Seat,
    /// What both legs speak.
    pub capabilities: Capabilities,
    pub status: Status,
}

/// Why a login ended without a seat.
enum Failure {
    /// The client is told in our words.
    Refused(Refusal),
    /// The client is told in the CN's words: an ERR payload.
    CnRefused(Vec<u8>),
    /// The client is gone.
    ClientGone,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A CN failed before it had heard anything of the client: another one may be tried.
struct Passed {
    refusal: Refusal,
    failure: CnFailure,
}

/// Logs a client in. None if it came to nothing; the client has been told why.
pub(super) async fn log_in(worker: &Rc<Worker>, card: &Card, client: Leg) -> Option<(Leg, Seated)> {
    let picture = worker.picture.borrow().clone()?;
    let deadline = Instant::now() + picture.login.client_timeout;
    let capabilities = Capabilities::default();
    let mut driver = Driver { worker, card, picture, client, deadline, capabilities };
    match driver.run().await {
        Ok(seated) => return Some((driver.client, seated)),
        Err(Failure::Refused(refusal)) => {
            debug!(session = card.id.0, client = &*card.client, "login refused: {refusal}");
            tunnel::refuse(worker, driver.client, &refusal.packet(driver.capabilities)).await;
        }
        Err(Failure::CnRefused(err)) => tunnel::refuse(worker, driver.client, &err).await,
        Err(Failure::ClientGone) => {}
    }
    None
}

/// One login on its way.
struct Driver<'a> {
    worker: &'a Rc<Worker>,
    card: &'a Card,
    picture: Picture,
    client: Leg,
    /// Until when the client is waited for.
    deadline: Instant,
    /// What the client understands; known from its login packet on.
    capabilities: Capabilities,
}

impl Driver<'_> {
    async fn run(&mut self) -> Result<Seated, Failure> {
        let salt = fresh_salt()?;
        let greeting = self.picture.face.greeting(&salt, self.card.id);
        self.write_client(&greeting).await?;
        let payload = self.read_client().await?;
        let login = ClientLogin::read(&payload, &self.picture.face)?;
        self.capabilities = login.capabilities;
        let attributes = login.attributes().into_iter().flat_map(|attributes| attributes.iter());
        let attributes: Vec<_> = attributes.collect::<Result<_, _>>().map_err(Refusal::from)?;
        let identity = Identity::read(login.user.as_bytes(), attributes, &self.picture.view)
            .map_err(|error| Refusal::Label { cause: error.to_string() })?;
        let users = self.picture.users.clone();
        let credential = match users.get(&identity.user) {
            Some(user) => {
                self.introduce(&identity, "known");
                let host = self.client_host();
                let step = login.verify(&salt, user, &identity.user, &host);
                Credential::Proof(self.prove(step).await?)
            }
            None => {
                self.introduce(&identity, "relay");
                login.can_relay()?;
                Credential::Relay
            }
        };
        self.find_seat(&login, &identity, &credential).await
    }

    /// Lets a known user prove who it is.
    async fn prove(&mut self, step: ClientStep<'_>) -> Result<Proof, Failure> {
        match step {
            ClientStep::Verified(proof) => Ok(proof),
            ClientStep::Refused(refusal) => Err(refusal.into()),
            ClientStep::SwitchClient { packet, next } => {
                self.write_client(&packet).await?;
                let answer = self.read_client().await?;
                Ok(next.answer(&answer)?)
            }
        }
    }

    /// Tries CNs in the order of routing until one takes the login, or the attempts are used up.
    async fn find_seat(
        &mut self,
        login: &ClientLogin,
        identity: &Identity,
        credential: &Credential,
    ) -> Result<Seated, Failure> {
        let mut tried = Vec::new();
        loop {
            let (cn, seat) = self.choose(identity, &tried)?;
            match self.try_cn(login, identity, credential, &cn).await? {
                Ok((cn_socket, auth)) => return self.authenticate(cn, cn_socket, seat, auth).await,
                Err(Passed { refusal, failure }) => {
                    info!(cn = &*cn.id, "a login is tried elsewhere: {refusal}");
                    self.worker.report_failure(cn.slot, failure);
                    tried.push(cn.slot);
                    let others = self.choose(identity, &tried).is_ok();
                    if !others || tried.len() >= self.picture.login.attempts as usize {
                        return Err(refusal.into());
                    }
                }
            }
        }
    }

    /// The CN for this session, with a seat taken on it before anything is waited for.
    fn choose(&self, identity: &Identity, tried: &[CnSlot]) -> Result<(Arc<Cn>, Seat), Refusal> {
        let worker = self.worker;
        let turn = worker.turns.borrow_mut().take();
        let seats = |slot| worker.tally.seats(slot);
        let cn = route::route(&self.picture.view, identity, seats, tried, turn)
            .map_err(|error| Refusal::Label { cause: error.to_string() })?;
        Ok((cn.clone(), worker.seats.take(cn.slot)))
    }

    /// Dials a CN, hears its greeting and sends it the login.
    async fn try_cn(
        &self,
        login: &ClientLogin,
        identity: &Identity,
        credential: &Credential,
        cn: &Arc<Cn>,
    ) -> Result<Result<(Leg, CnAuth), Passed>, Failure> {
        let until = Instant::now() + self.picture.login.connect_timeout;
        let (mut leg, greeting) = match self.worker.reactor.until(until, self.hear(cn)).await {
            Some(Ok(heard)) => heard,
            Some(Err(cause)) => return Ok(Err(passed(cn, cause, CnFailure::Refused))),
            None => {
                let waited = self.picture.login.connect_timeout;
                let cause = format!("no greeting within {} ms", waited.as_millis());
                return Ok(Err(passed(cn, cause, CnFailure::TimedOut)));
            }
        };
        let cn_user = std::str::from_utf8(identity.cn_user(cn.flavour))
            .map_err(|_| Refusal::HandshakeBad { cause: "user name: expected UTF-8".to_owned() })?;
        match CnLogin::new(login, cn_user, credential.clone()).greeting(&greeting) {
            Ok((response, auth)) => match self.write_cn(&mut leg, &response).await {
                Ok(()) => Ok(Ok((leg, auth))),
                Err(cause) => Ok(Err(passed(cn, cause, CnFailure::Refused))),
            },
            Err(cause) => {
                let refusal = Refusal::CnLogin { cn: cn.id.to_string(), cause };
                Ok(Err(Passed { refusal, failure: CnFailure::Unwilling }))
            }
        }
    }

    async fn hear(&self, cn: &Cn) -> Result<(Leg, Vec<u8>), String> {
        let target = cn.target.as_ref().ok_or("its address is not known")?;
        let socket = dial(&self.worker.reactor, target).await.map_err(|error| error.to_string())?;
        let mut leg = Leg::new(socket);
        let greeting = leg.read().await.map_err(|error| error.to_string())?;
        Ok((leg, greeting))
    }

    /// Carries the authentication to its end: between CN and client, or for the client.
    async fn authenticate(
        &mut self,
        cn: Arc<Cn>,
        mut leg: Leg,
        seat: Seat,
        mut auth: CnAuth,
    ) -> Result<Seated, Failure> {
        let broken = |cause: CnLoginError| Refusal::CnLogin { cn: cn.id.to_string(), cause };
        loop {
            let payload = self.read_cn(&cn, &mut leg).await?;
            let mut step = auth.from_cn(&payload).map_err(broken)?;
            if let CnStep::ToClient { packet, next } = &step {
                self.write_client(packet).await?;
                if *next == Speaker::Client {
                    let answer = self.read_client().await?;
                    step = auth.from_client(&answer).map_err(broken)?;
                }
            }
            match step {
                CnStep::ToCn(packet) => {
                    self.write_cn(&mut leg, &packet).await.map_err(|cause| lost(&cn, cause))?
                }
                CnStep::ToClient { .. } | CnStep::Wait => {}
                CnStep::Refused { err, .. } => return Err(Failure::CnRefused(err)),
                CnStep::Seated { ok, status } => {
                    self.card.cn.replace(Some(cn.id.clone()));
                    self.write_client(&ok).await?;
                    let (status, capabilities) = (Status(status), auth.capabilities);
                    return Ok(Seated { cn, cn_socket: leg.socket, seat, capabilities, status });
                }
            }
        }
    }

    async fn read_client(&mut self) -> Result<Vec<u8>, Failure> {
        let read = self.client.read();
        match self.worker.reactor.until(self.deadline, read).await {
            Some(Ok(payload)) => Ok(payload),
            Some(Err(LegError::Closed | LegError::Broken(_))) => Err(Failure::ClientGone),
            Some(Err(error)) => Err(Refusal::HandshakeBad { cause: error.to_string() }.into()),
            None => Err(Refusal::LoginTimeout.into()),
        }
    }

    async fn write_client(&mut self, payload: &[u8]) -> Result<(), Failure> {
        let write = self.client.write(payload);
        match self.worker.reactor.until(self.deadline, write).await {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => Err(Failure::ClientGone),
        }
    }

    async fn read_cn(&self, cn: &Cn, leg: &mut Leg) -> Result<Vec<u8>, Refusal> {
        let waited = self.picture.login.cn_timeout;
        match self.worker.reactor.until(Instant::now() + waited, leg.read()).await {
            Some(Ok(payload)) => Ok(payload),
            Some(Err(error)) => Err(lost(cn, error.to_string())),
            None => {
                warn!(cn = &*cn.id, "no answer to a login within {} ms", waited.as_millis());
                self.worker.report_failure(cn.slot, CnFailure::TimedOut);
                Err(lost(cn, timed_out(waited)))
            }
        }
    }

    async fn write_cn(&self, leg: &mut Leg, payload: &[u8]) -> Result<(), String> {
        let waited = self.picture.login.cn_timeout;
        match self.worker.reactor.until(Instant::now() + waited, leg.write(payload)).await {
            Some(written) => written.map_err(|error| error.to_string()),
            None => Err(timed_out(waited)),
        }
    }

    fn introduce(&self, identity: &Identity, login: &'static str) {
        self.card.bearer.replace(Bearer {
            user: identity.user.as_str().into(),
            tenant: identity.tenant.as_str().into(),
            labels: identity.asked().without_account().to_string().into(),
            login,
        });
    }

    /// The client's address as a denial names it: without the port.
    fn client_host(&self) -> String {
        self.client.socket.peer().map_or_else(|| "localhost".to_owned(), |peer| peer.ip().to_string())
    }
}

fn fresh_salt() -> Result<[u8; SALT], Refusal> {
    let mut random = [0; SALT];
    match getrandom::fill(&mut random) {
        Ok(()) => Ok(face::salt(random)),
        Err(error) => Err(Refusal::ProxyBug { cause: format!("no random numbers: {error}") }),
    }
}

fn passed(cn: &Cn, cause: String, failure: CnFailure) -> Passed {
    let (id, address) = (cn.id.to_string(), cn.address.to_string());
    Passed { refusal: Refusal::CnUnreachable { cn: id, address, cause }, failure }
}

fn lost(cn: &Cn, cause: String) -> Refusal {
    let (id, address) = (cn.id.to_string(), cn.address.to_string());
    Refusal::CnLost { cn: id, address, cause, during: "login" }
}

fn timed_out(waited: Duration) -> String {
    format!("no answer within {} ms", waited.as_millis())
}
