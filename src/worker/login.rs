//! Drives a login over both legs: greets the client, routes it, logs it in to a CN.
//!
//! What is said, and whether it is right, is decided in [`crate::session::login`]; where to go, in
//! [`crate::route`]. Here are the reads, the writes and their time limits, and the walk from one CN to the
//! next for as long as no CN has heard anything of the client.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use futures_lite::FutureExt;
use tracing::{debug, info, warn};
use zeroize::Zeroizing;

use super::Worker;
use super::admission::{self, Shown};
use super::approach::{Approached, Below, Passed, abandon, approach, compress, leave, timed_out};
use super::examination::{Unproven, examine};
use super::failure::Failure;
use super::known;
use super::leg::{Leg, LegError};
use super::opening::{LetIn, Opening};
use super::proxy_header::{self, Unheard};
use super::roster::{Bearer, Card};
use super::tunnel;
use crate::config::tls::ServerTls;
use crate::ident::CnSlot;
use crate::mailbox::message::{CnFailure, Picture};
use crate::metrics::{Refused, Seat};
use crate::net::Peer;
use crate::net::compression::Compression;
use crate::net::tls::Tls;
use crate::reactor::Socket;
use crate::route::certificate::Certificate;
use crate::route::{self, Cn, Flavour, Group, Identity, IdentityError, View};
use crate::session::dialog::Dialog;
use crate::session::face;
use crate::session::hold::Hold;
use crate::session::login::{
    ClientChannel, ClientLogin, ClientStep, CnAuth, CnLogin, CnStep, Credential, Examiner, Proof, Replay,
    Sent, Speaker, Spoken, replay,
};
use crate::session::refusal::Refusal;
use crate::session::user::Sha2Secret;
use crate::wire::auth::salt_shown;
use crate::wire::capability::Capabilities;
use crate::wire::compressed::codec::Packing;
use crate::wire::greeting::SALT;
use crate::wire::matrixone::preamble::Preamble;
use crate::wire::status::Status;

/// A session that a CN has let in.
pub(super) struct Seated {
    pub cn: Arc<Cn>,
    pub cn_socket: Socket,
    pub seat: Seat,
    /// What the client and corelane speak.
    pub capabilities: Capabilities,
    pub spoken: Spoken,
    /// What the client was shown last.
    pub salt: [u8; SALT],
    pub dialog: Dialog,
}

/// Who a session logs in as at another CN; with what, is on its card.
#[derive(Debug)]
pub struct Passport {
    pub login: ClientLogin,
    pub identity: Identity,
    /// It became so by a change of the user, with this collation: a login is followed by such a change, as that leaves a leg otherwise.
    pub changed: Option<u16>,
}

/// A client that has sent its login, and what it has proven so far, to corelane or for a CN.
struct Applicant {
    login: ClientLogin,
    identity: Identity,
    packet: Vec<u8>,
    /// What its answer in `packet` is for.
    salt: [u8; SALT],
    /// For CNs of MySQL's.
    credential: Option<Credential>,
    /// For those of MatrixOne's.
    replay: Option<Arc<Replay>>,
}

/// What came of the login at one CN.
enum Attempt {
    Seated(Box<Seated>),
    /// Another CN may be tried.
    Passed {
        refusal: Refusal,
        timed_out: bool,
    },
}

/// Logs a client in. If it came to nothing the client has been told why.
pub(super) async fn log_in(worker: &Rc<Worker>, card: &Card, client: Leg) -> Result<(Leg, Seated), Refused> {
    let picture = worker.picture.borrow().clone().ok_or(Refused::Denied)?;
    let deadline = Instant::now() + picture.login.client_timeout;
    let capabilities = Capabilities::default();
    let mut driver = Driver {
        worker,
        card,
        picture,
        client,
        deadline,
        capabilities,
        has_tls: false,
        has_header: false,
        heard: false,
        packing: None,
        salt: [0; SALT],
    };
    let stopped = async {
        worker.out_of_patience.raised().await;
        Err(Refusal::ShuttingDown.into())
    };
    let ended = stopped.or(driver.run()).await;
    let fault = ended.as_ref().map(|_| ()).map_err(|failure| failure.fault(driver.heard));
    admission::ended(worker, &driver.picture, card, fault);
    let failure = match ended {
        Ok(seated) => return Ok((driver.client, seated)),
        Err(failure) => failure,
    };
    let why = failure.why();
    match failure {
        Failure::Refused(refusal)
        | Failure::NotLetIn(refusal)
        | Failure::Limited(refusal)
        | Failure::NoCn(refusal) => {
            debug!(session = card.id.0, client = %card.client(), "login refused: {refusal}");
            tunnel::refuse(worker, driver.client, &refusal.packet(driver.capabilities)).await;
        }
        Failure::CnRefused(err) => tunnel::refuse(worker, driver.client, &err).await,
        Failure::NoTls => tunnel::let_go(worker, &driver.client.socket).await,
        Failure::ClientGone => {}
    }
    Err(why)
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
    /// The client speaks through TLS.
    has_tls: bool,
    /// A load balancer has told of the client.
    has_header: bool,
    /// The client has said all that corelane itself asks of it.
    heard: bool,
    /// How its bytes are compressed once it has been let in.
    packing: Option<Packing>,
    /// What the client was shown last.
    salt: [u8; SALT],
}

impl Driver<'_> {
    async fn run(&mut self) -> Result<Seated, Failure> {
        if proxy_header::is_due(self.picture.proxy_protocol.as_deref(), self.card.client()) {
            self.hear_header().await?;
        }
        let access = self.picture.access.as_deref();
        admission::host(self.worker, access, self.card)?;
        let salt = fresh_salt()?;
        self.salt = salt;
        let greeting = self.picture.face.greeting(&salt, self.card.id);
        self.write_client(&greeting).await?;
        let mut packet = self.read_client().await?;
        let tls = self.picture.tls.clone();
        if let Some(tls) = &tls
            && ClientLogin::asks_for_tls(&packet)
        {
            self.secure_client(tls).await?;
            packet = self.read_client().await?;
        }
        let login = ClientLogin::read(&packet, &self.picture.face)?;
        self.capabilities = login.capabilities;
        self.packing = login.compression.map(|algorithm| self.picture.compression.packing(algorithm));
        if tls.is_some_and(|tls| tls.required) && !self.has_tls && !self.is_local() {
            return Err(Refusal::TlsRequired.into());
        }
        // Servers read no more of the attributes than how long all of them are, so a broken one only ends the labels.
        let attributes = login.attributes().into_iter().flat_map(|all| all.iter()).map_while(Result::ok);
        let certificate = admission::certificate(&self.client.socket);
        let certified = self.certified(certificate.as_ref(), &login)?;
        let identity = Identity::read_certified(&login.user, attributes, &certified, &self.picture.view)
            .map_err(|error| self.misnamed(error, &login))?;
        self.introduce(&identity);
        let access = self.picture.access.as_deref();
        let shown = Shown { certificate: certificate.as_ref(), password: login.has_password() };
        admission::names(self.worker, access, self.card, &identity, shown)?;
        let mut applicant = Applicant { login, identity, packet, salt, credential: None, replay: None };
        if self.has_only(Flavour::Mysql) {
            // Who cannot prove anything need not wait for a CN, nor hear of any.
            self.credential(&mut applicant).await?;
        }
        self.heard = true;
        self.find_seat(applicant).await
    }

    /// The labels that its certificate gives.
    fn certified(
        &self,
        certificate: Option<&Certificate>,
        login: &ClientLogin,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let (Some(certificate), Some(tls)) = (certificate, &self.picture.tls) else {
            return Ok(BTreeMap::new());
        };
        certificate.labels(&tls.labels).map_err(|field| {
            debug!(session = self.card.id.0, client = %self.card.client(), "its certificate has no {field}");
            self.denied(login)
        })
    }

    fn misnamed(&self, error: IdentityError, login: &ClientLogin) -> Failure {
        match error {
            IdentityError::Uncertified => {
                debug!(session = self.card.id.0, client = %self.card.client(), "{error}");
                self.denied(login)
            }
            error => Refusal::Route { cause: error.to_string() }.into(),
        }
    }

    fn denied(&self, login: &ClientLogin) -> Failure {
        let user = String::from_utf8_lossy(&login.user).into_owned();
        let (host, password) = (self.card.client().host(), login.has_password());
        Failure::NotLetIn(Refusal::AccessDenied { user, host, password })
    }

    /// Hears who the client is, before it is greeted.
    async fn hear_header(&mut self) -> Result<(), Failure> {
        self.has_header = true;
        let heard = proxy_header::hear(&self.client.socket);
        let cause = match self.worker.reactor.until(self.deadline, heard).await {
            Some(Ok(told)) => {
                self.card.origin.set(told.unwrap_or(self.card.origin.get()));
                return Ok(());
            }
            Some(Err(Unheard::Leg(_))) => return Err(Failure::ClientGone),
            Some(Err(Unheard::Bad(cause))) => cause.to_string(),
            None => timed_out("whole header", self.picture.login.client_timeout),
        };
        Err(Refusal::ProxyHeaderBad { cause }.into())
    }

    /// A header in the place of the login: somebody tells of a client who is not asked to, or for the second time.
    fn unasked_header(&self) -> Refusal {
        if self.has_header {
            return Refusal::ProxyHeaderBad { cause: "a second one behind it".to_owned() };
        }
        Refusal::ProxyHeaderUnasked { host: self.card.client().host() }
    }

    /// Begins TLS, which the client has asked for. One that does not agree hears so by TLS itself.
    async fn secure_client(&mut self, tls: &ServerTls) -> Result<(), Failure> {
        let layer = Tls::server(&tls.context.context);
        let layer = layer.map_err(|error| Refusal::ProxyBug { cause: format!("TLS: {error}") })?;
        self.client.socket.put_on(layer);
        let secured = self.client.socket.secured();
        let failure = match self.worker.reactor.until(self.deadline, secured).await {
            Some(Ok(())) => {
                self.has_tls = true;
                return Ok(());
            }
            Some(Err(error)) => error,
            None => "it takes too long".to_owned(),
        };
        // As any refusal of somebody who has not been let in: it is counted, and nobody fills the log by it.
        debug!(session = self.card.id.0, client = %self.card.client(), "no TLS with a client: {failure}");
        Err(Failure::NoTls)
    }

    /// Whether the client is on this machine, and nobody can read along.
    fn is_local(&self) -> bool {
        matches!(self.card.client(), Peer::Unix)
    }

    /// Whether there are CNs of no other flavour.
    fn has_only(&self, flavour: Flavour) -> bool {
        self.picture.view.cns.iter().all(|cn| cn.flavour == flavour)
    }

    /// By what the client is logged in to CNs of MySQL's.
    async fn credential(&mut self, applicant: &mut Applicant) -> Result<Credential, Failure> {
        if let Some(credential) = &applicant.credential {
            return Ok(credential.clone());
        }
        let Applicant { login, identity, salt, .. } = applicant;
        let users = self.picture.users.clone();
        let credential = match users.get(&identity.user) {
            Some(user) => {
                let host = self.card.client().host();
                let (key, private) = (self.picture.key.clone(), self.has_tls || self.is_local());
                let (key, name) = (key.as_deref(), &*identity.user);
                let examiner = Examiner { known: user, user: name, host: &host, private, key };
                let step = examiner.begin(login, salt, &face::salt(random()?));
                Credential::Proof(self.prove(step).await?)
            }
            None => {
                login.can_relay()?;
                Credential::Relay
            }
        };
        applicant.credential = Some(credential.clone());
        Ok(credential)
    }

    /// What logs the client in to CNs of MatrixOne's.
    async fn replay(&mut self, applicant: &mut Applicant) -> Result<Credential, Failure> {
        if let Some(replay) = &applicant.replay {
            return Ok(Credential::Replay(replay.clone()));
        }
        let mut switched = None;
        if !applicant.login.answers_natively() {
            applicant.login.can_relay()?;
            applicant.salt = fresh_salt()?;
            self.salt = applicant.salt;
            self.write_client(&replay::switch_request(&applicant.salt)).await?;
            switched = Some(self.read_client().await?);
        }
        let labels = applicant.identity.asked().pairs();
        let preamble = Preamble {
            salt: applicant.salt,
            internal: false,
            connection_id: self.card.id.0,
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            client: self.card.client().address(),
        };
        let Applicant { login, packet, salt, .. } = &*applicant;
        let sent = Sent { login, packet, salt: *salt, switched: switched.as_deref() };
        let replay = Arc::new(Replay::new(sent, preamble).map_err(Refusal::from)?);
        applicant.replay = Some(replay.clone());
        Ok(Credential::Replay(replay))
    }

    /// Lets a known user prove who it is.
    async fn prove(&mut self, step: ClientStep<'_>) -> Result<Proof, Failure> {
        let mut salt = self.salt;
        let examined = examine(self.worker, &mut self.client, self.deadline, &mut salt, step).await;
        self.salt = salt;
        examined.map_err(|why| match why {
            Unproven::Refused(refusal) => refusal.into(),
            Unproven::Unheard(why) => self.unheard(why),
            Unproven::Gone => Failure::ClientGone,
        })
    }

    /// Tries CNs in the order of routing until one lets the session in, or the attempts are used up.
    async fn find_seat(&mut self, mut applicant: Applicant) -> Result<Seated, Failure> {
        let (group, mut tried) = (Group::of(&applicant.identity), Vec::new());
        // With none of MySQL's among them, and none that failed in another way.
        let mut all_busy = true;
        loop {
            let (cn, seat) = self.choose(&group, &tried)?;
            let credential = match cn.flavour {
                Flavour::Mysql => self.credential(&mut applicant).await?,
                Flavour::Matrixone => self.replay(&mut applicant).await?,
            };
            let Applicant { login, identity, .. } = &applicant;
            let hold = self.lasting_hold(&cn, identity, &credential);
            let proven = matches!(credential, Credential::Proof(_));
            let tracked = hold.is_none() && cn.flavour == Flavour::Mysql;
            let cn_login = CnLogin::new(login, identity.cn_user(cn.flavour), credential);
            let channel = ClientChannel {
                has_tls: self.has_tls,
                local: self.is_local(),
                key: self.picture.key.clone(),
            };
            let cn_login = cn_login
                .tracked(tracked)
                .for_client(channel)
                .believing_key(self.picture.trusts_cn_keys)
                .known_by(if proven { Arc::default() } else { self.secrets(identity) });
            let (refusal, timed_out) = match self.attempt(&cn, seat, cn_login, hold, login).await? {
                Attempt::Seated(seated) => {
                    self.card.group.replace(Some(Arc::new(group)));
                    if hold.is_none() || proven {
                        let Applicant { login, identity, .. } = applicant;
                        let passport = Passport { login: login.without_answer(), identity, changed: None };
                        self.card.passport.replace(Some(Arc::new(passport)));
                    }
                    return Ok(*seated);
                }
                Attempt::Passed { refusal, timed_out } => (refusal, timed_out),
            };
            info!(cn = &*cn.id, "a login is turned away: {refusal}");
            all_busy &= timed_out && cn.flavour == Flavour::Matrixone;
            self.worker.counters.retries.add(1);
            tried.push(cn.slot);
            let others = route::candidates(&self.view(), &group, &tried).is_ok();
            if !others || tried.len() >= self.picture.login.attempts as usize {
                let busy = || Refusal::AllBusy { last: refusal.to_string() };
                return Err(Failure::NoCn(if all_busy { busy() } else { refusal }));
            }
        }
    }

    /// Tries one CN. It may be passed over for another one as long as the client has heard nothing of it: until it has answered
    /// the login, and to its end where corelane answers for the client.
    async fn attempt(
        &mut self,
        cn: &Arc<Cn>,
        seat: Seat,
        cn_login: CnLogin<'_>,
        hold: Option<Hold>,
        login: &ClientLogin,
    ) -> Result<Attempt, Failure> {
        let answers_for_client = cn_login.has_proof();
        let limits = &self.picture.login;
        let picture = &self.picture;
        let (tcp, compression) = (picture.cn_tcp, picture.compression.cns);
        let below = Below { tcp, tls: &picture.cn_tls, compression };
        match approach(&self.worker.reactor, limits, below, cn, self.card.origin.get(), cn_login).await {
            Ok(approached) => {
                let schema = login.database.as_deref();
                match self.take_seat(cn.clone(), seat, approached, hold, schema).await {
                    Ok(seated) => Ok(Attempt::Seated(Box::new(seated))),
                    Err(Failure::Refused(lost @ (Refusal::CnLost { .. } | Refusal::CnTracking { .. })))
                        if answers_for_client =>
                    {
                        self.card.cn.replace(None);
                        Ok(Attempt::Passed { refusal: lost, timed_out: false })
                    }
                    Err(failure) => Err(failure),
                }
            }
            Err(Passed { refusal, failure }) => {
                if let Some(failure) = failure {
                    self.worker.report_failure(cn.slot, failure);
                }
                Ok(Attempt::Passed { refusal, timed_out: failure == Some(CnFailure::TimedOut) })
            }
        }
    }

    /// What the CNs' tables have of a user by `caching_sha2_password`.
    fn secrets(&self, identity: &Identity) -> Arc<[Arc<Sha2Secret>]> {
        let hashes = self.picture.users.hashes(&identity.user);
        hashes.map(|hashes| hashes.sha2.clone()).unwrap_or_default()
    }

    /// Why a session could never move, if there is a reason from the beginning. A relayed login of which a CN's table
    /// has a hash may leave a proof.
    fn lasting_hold(&self, cn: &Cn, identity: &Identity, credential: &Credential) -> Option<Hold> {
        if *credential == Credential::Relay && self.picture.users.hashes(&identity.user).is_none() {
            return Some(Hold::RelayLogin);
        }
        (cn.data.is_none() && cn.flavour != Flavour::Matrixone).then_some(Hold::NoDataSet)
    }

    /// The CNs as they are now: those of the login's beginning may be drained by now, or gone.
    fn view(&self) -> Arc<View> {
        self.worker.view().unwrap_or_else(|| self.picture.view.clone())
    }

    /// The CN for this session, with a seat taken on it before anything is waited for.
    fn choose(&self, group: &Group, tried: &[CnSlot]) -> Result<(Arc<Cn>, Seat), Failure> {
        let worker = self.worker;
        let turn = worker.turns.borrow_mut().take();
        let seats = |slot| worker.tally.seats(slot);
        let view = self.view();
        let mut passed = tried.to_vec();
        passed.extend(view.cns.iter().filter(|cn| cn.is_full(seats)).map(|cn| cn.slot));
        let full = || passed.len() > tried.len() && route::candidates(&view, group, tried).is_ok();
        let cn = route::route(&view, group, seats, &passed, turn).map_err(|error| match full() {
            true => Failure::Limited(Refusal::TooManySessions),
            false => Failure::NoCn(Refusal::Route { cause: error.to_string() }),
        })?;
        let cn = cn.clone();
        let seat = worker.seats.take(cn.slot);
        Ok((cn, seat))
    }

    /// Carries the authentication to its end; one that does not get there is abandoned in order.
    async fn take_seat(
        &mut self,
        cn: Arc<Cn>,
        seat: Seat,
        approached: Approached,
        hold: Option<Hold>,
        schema: Option<&[u8]>,
    ) -> Result<Seated, Failure> {
        let Approached { mut leg, mut auth, answer } = approached;
        self.card.cn.replace(Some(cn.clone()));
        let (ok, status) = match self.authenticate(&cn, &mut leg, &mut auth, answer).await {
            Ok(let_in) => let_in,
            Err(failure) => {
                if !matches!(failure, Failure::CnRefused(_)) {
                    abandon(&self.worker.reactor, leg);
                }
                return Err(failure);
            }
        };
        compress(&leg, &auth);
        let opening = Opening {
            worker: self.worker,
            cn: &cn,
            socket: &leg.socket,
            spoken: auth.spoken(),
            client: self.capabilities,
            paced: self.packing.is_some() || auth.compression.is_some(),
            limit: self.picture.login.cn_timeout,
        };
        let opened = opening.dialog(LetIn { ok: &ok, status, schema }, hold, Hold::Tracking).await;
        let (dialog, ok) = match opened {
            Ok(opened) => opened,
            Err(cause) => {
                leave(&self.worker.reactor, leg.socket);
                return Err(Refusal::CnTracking { cn: cn.id.to_string(), cause }.into());
            }
        };
        self.allow_more_time();
        if let Err(full) = admission::seated(self.worker, self.card) {
            leave(&self.worker.reactor, leg.socket);
            return Err(full);
        }
        if let Err(gone) = self.write_client(&ok).await {
            leave(&self.worker.reactor, leg.socket);
            return Err(gone);
        }
        self.card.cn_connection.set(auth.connection_id);
        if let Some(packing) = self.packing {
            self.client.socket.put_on(Compression::server(packing));
        }
        let spoken = auth.spoken();
        self.card.standing.replace(auth.standing());
        known::check(self.worker, self.card).await;
        let (cn_socket, capabilities, salt) = (leg.socket, self.capabilities, self.salt);
        Ok(Seated { cn, cn_socket, seat, capabilities, spoken, salt, dialog })
    }

    /// The time that CNs take is not the client's.
    fn allow_more_time(&mut self) {
        self.deadline = Instant::now() + self.picture.login.client_timeout;
    }

    /// Passes packets between CN and client, or answers for the client, until the CN's OK or ERR. The OK is
    /// still to be passed on.
    async fn authenticate(
        &mut self,
        cn: &Cn,
        leg: &mut Leg,
        auth: &mut CnAuth,
        mut answer: Vec<u8>,
    ) -> Result<(Vec<u8>, Status), Failure> {
        let broken = |cause| Refusal::CnLogin { cn: cn.id.to_string(), cause };
        loop {
            self.allow_more_time();
            let mut step = auth.from_cn(&answer).map_err(broken)?;
            while let CnStep::ToClient { packet, next } = &step {
                self.write_client(packet).await?;
                self.salt = salt_shown(packet).unwrap_or(self.salt);
                if *next == Speaker::Cn {
                    break;
                }
                let reply = Zeroizing::new(self.read_client().await?);
                step = auth.from_client(&reply).map_err(broken)?;
            }
            match step {
                CnStep::ToCn(packet) => answer = self.ask_cn(cn, leg, Some(&packet)).await?,
                CnStep::ToClient { .. } | CnStep::Wait => answer = self.ask_cn(cn, leg, None).await?,
                CnStep::Refused { err, .. } => return Err(Failure::CnRefused(err)),
                CnStep::Seated { ok, status } => return Ok((ok, Status(status))),
            }
        }
    }

    /// Sends a packet to the CN, where there is one to send, and hears what it says to it.
    async fn ask_cn(&self, cn: &Cn, leg: &mut Leg, packet: Option<&[u8]>) -> Result<Vec<u8>, Refusal> {
        let asked = async {
            if let Some(packet) = packet {
                leg.write(packet).await?;
            }
            leg.read().await
        };
        let waited = self.picture.login.cn_timeout;
        let (cause, failure) = match self.worker.reactor.until(Instant::now() + waited, asked).await {
            Some(Ok(payload)) => return Ok(payload),
            Some(Err(error)) => (error.to_string(), CnFailure::Lost),
            None => (timed_out("answer", waited), CnFailure::TimedOut),
        };
        warn!(cn = &*cn.id, "lost during a login: {cause}");
        self.worker.report_failure(cn.slot, failure);
        let (id, address) = (cn.id.to_string(), cn.address.to_string());
        Err(Refusal::CnLost { cn: id, address, cause, during: "login" })
    }

    async fn read_client(&mut self) -> Result<Vec<u8>, Failure> {
        let read = self.client.read();
        match self.worker.reactor.until(self.deadline, read).await {
            Some(Ok(payload)) => Ok(payload),
            Some(Err(error)) => Err(self.unheard(Some(error))),
            None => Err(self.unheard(None)),
        }
    }

    /// Why nothing was read of the client; none: not in time.
    fn unheard(&self, why: Option<LegError>) -> Failure {
        match why {
            Some(LegError::Closed | LegError::Broken(_)) => Failure::ClientGone,
            Some(LegError::ProxyHeader) => self.unasked_header().into(),
            Some(LegError::TooLong { .. }) if self.has_only(Flavour::Matrixone) => {
                Refusal::LoginTooLong.into()
            }
            Some(error) => Refusal::HandshakeBad { cause: error.to_string() }.into(),
            None => Refusal::LoginTimeout.into(),
        }
    }

    async fn write_client(&mut self, payload: &[u8]) -> Result<(), Failure> {
        let write = self.client.write(payload);
        match self.worker.reactor.until(self.deadline, write).await {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => Err(Failure::ClientGone),
        }
    }

    fn introduce(&self, identity: &Identity) {
        self.card.bearer.replace(Bearer {
            user: identity.user.as_str().into(),
            tenant: identity.tenant.as_str().into(),
            labels: identity.asked().without_account().to_string().into(),
        });
    }
}

fn fresh_salt() -> Result<[u8; SALT], Refusal> {
    random().map(face::salt)
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], Refusal> {
    let mut random = [0; N];
    match getrandom::fill(&mut random) {
        Ok(()) => Ok(random),
        Err(error) => Err(Refusal::ProxyBug { cause: format!("no random numbers: {error}") }),
    }
}
