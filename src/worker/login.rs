//! Drives a login over both legs: greets the client, routes it, logs it in to a CN.
//!
//! What is said and whether it is right is decided in [`crate::session::login`]; where to go in
//! [`crate::route`]. Here are the reads, the writes and their time limits, and the walk from one CN to the
//! next while a CN refuses before it has heard anything of the client.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tracing::{debug, warn};

use super::Worker;
use super::leg::{Leg, LegError};
use super::roster::{Bearer, Card};
use super::tunnel::refuse;
use crate::ident::CnSlot;
use crate::mailbox::message::{CnFailure, Picture};
use crate::metrics::Seat;
use crate::net::dial::dial;
use crate::reactor::Socket;
use crate::route::{self, Cn, Identity};
use crate::session::login::{ClientAuth, ClientLogin, ClientStep, CnLogin, CnStep, Credential};
use crate::session::refusal::Refusal;
use crate::wire::capability::Capabilities;
use crate::wire::greeting::SALT;
use crate::wire::status::Status;

/// A session that a CN has let in.
pub(super) struct Seated {
    pub cn: Arc<Cn>,
    pub cn_socket: Socket,
    pub seat: Seat,
    pub capabilities: Capabilities,
    pub status: Status,
}

/// Why a login ended without a seat.
enum Failure {
    /// The client is told, in our words.
    Refused(Refusal),
    /// The client is told in the CN's words: an ERR payload.
    CnRefused(Vec<u8>),
    /// The client is gone, or not worth an answer.
    ClientGone,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Logs a client in. None if it did not come to that; it has been told why.
pub(super) async fn log_in(worker: &Rc<Worker>, card: &Card, client: Leg) -> Option<(Leg, Seated)> {
    let picture = worker.picture.borrow().clone()?;
    let deadline = Instant::now() + worker.login.client_timeout;
    let mut driver = Driver { worker, card, picture, client, deadline, capabilities: Capabilities::default() };
    match driver.run().await {
        Ok(seated) => Some((driver.client, seated)),
        Err(failure) => {
            driver.turn_away(failure).await;
            None
        }
    }
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
        let salt = fresh_salt().map_err(|()| Refusal::ProxyBug)?;
        let greeting = self.picture.face.greeting(&salt, self.card.id);
        self.write_client(&greeting).await?;
        let payload = self.read_client().await?;
        let login = ClientLogin::read(&payload, &self.picture.face)?;
        self.capabilities = login.capabilities();
        let identity = Identity::read(login.user(), login.attributes(), &self.picture.view)
            .map_err(Refusal::Identity)?;
        self.fill_card(&identity, "relay");
        let credential = match self.picture.users.clone().get(&identity.user) {
            None => Credential::Relay,
            Some(user) => {
                self.fill_card(&identity, "known");
                let peer = self.card.client.clone();
                let mut step = ClientAuth::begin(&login, &salt, user, &peer);
                loop {
                    step = match step {
                        ClientStep::Verified(proof) => break Credential::Proof(proof),
                        ClientStep::Refused(refusal) => return Err(refusal.into()),
                        ClientStep::Ask { payload, next } => {
                            self.write_client(&payload).await?;
                            next.answer(&self.read_client().await?)
                        }
                    };
                }
            }
        };
        self.find_seat(&login, &identity, &credential).await
    }
}
