//! Another CN offered to a session: a leg that is logged in and waits, and what became of it. Before that the session may have told
//! what it would have restored, and the leg may have been through it: then nothing is left to be done when the session takes it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::flag::Flag;
use super::login::Passport;
use super::migrate::Reason;
use super::transfer::Transfer;
use crate::metrics::Seat;
use crate::reactor::{Reactor, Socket};
use crate::route::Cn;
use crate::session::script::{Results, Script};
use crate::wire::capability::Capabilities;
use crate::wire::status::Status;

/// A leg to a CN that is logged in and tracks the session, but serves nobody yet.
pub struct Candidate {
    pub cn: Arc<Cn>,
    /// Who it is logged in as.
    pub passport: Arc<Passport>,
    pub socket: Socket,
    pub seat: Seat,
    pub capabilities: Capabilities,
    /// The CN is a MariaDB.
    pub mariadb: bool,
    /// The CN's id of it.
    pub connection_id: u32,
    pub status: Status,
    /// When the CN answered last.
    pub answered_at: Instant,
    pub rehearsed: Rehearsed,
    /// Where the session is one of MatrixOne's.
    pub transfer: Option<Transfer>,
}

/// The front of a restore that a leg has been through, and every answer was right.
#[derive(Debug, Default)]
pub struct Rehearsed {
    pub script: Script,
    pub results: Results,
}

/// The question what a session would have restored now.
#[derive(Debug, Default)]
pub struct Rehearsal {
    script: RefCell<Option<Script>>,
    told: Flag,
}

impl Rehearsal {
    /// The session's answer; none if a rehearsal is no use.
    pub fn tell(&self, reactor: &Reactor, script: Option<Script>) {
        self.script.replace(script);
        self.told.raise(reactor);
    }

    pub async fn told(&self) -> Option<Script> {
        self.told.raised().await;
        self.script.take()
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Candidate").field(&self.cn.id).finish()
    }
}

/// How a move ended: what the session's client may have felt of it, or why it stays.
pub type Outcome = Result<Duration, Stays>;

/// Why a session stays that was ordered to move.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stays {
    /// It was held, or never silent, for longer than it is waited for.
    #[error("{0}")]
    Held(&'static str),
    /// What the order was for is no longer so.
    #[error("{0}")]
    CalledOff(String),
    /// It is no longer as it was at the rehearsal.
    #[error("its state has changed while it was on the move")]
    Changed,
    #[error("{0}")]
    Failed(String),
}

impl Stays {
    pub fn ended() -> Self {
        Self::Failed("the session has ended".to_owned())
    }
}

/// An offer, shared by the session and whoever makes it. The session takes the candidate and leaves the outcome.
#[derive(Debug)]
pub struct Offer {
    candidate: RefCell<Option<Candidate>>,
    pub reason: Reason,
    outcome: RefCell<Option<Outcome>>,
    taken: Cell<bool>,
    settled: Flag,
}

impl Offer {
    pub(super) fn new(candidate: Candidate, reason: Reason) -> Self {
        Self {
            candidate: RefCell::new(Some(candidate)),
            reason,
            outcome: RefCell::default(),
            taken: Cell::default(),
            settled: Flag::default(),
        }
    }

    /// The candidate, once.
    pub fn take(&self) -> Option<Candidate> {
        self.taken.set(true);
        self.candidate.take()
    }

    /// Whether the session is busy with it.
    pub fn is_taken(&self) -> bool {
        self.taken.get()
    }

    pub fn settle(&self, reactor: &Reactor, outcome: Outcome) {
        self.outcome.replace(Some(outcome));
        self.settled.raise(reactor);
    }

    /// Waits for the outcome.
    pub async fn settled(&self) -> Outcome {
        self.settled.raised().await;
        self.outcome.take().unwrap_or_else(|| Err(Stays::ended()))
    }
}
