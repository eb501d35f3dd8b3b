//! Every message between the coordinator and its workers, both directions, on one page.

use std::sync::Arc;
use std::time::Duration;

use crate::config::settings::Login;
use crate::ident::{CnSlot, Epoch, SessionId, WorkerId};
use crate::route::View;
use crate::session::face::Face;
use crate::session::user::Users;

/// All that a worker needs to know to log sessions in. Published whole, replaced whole.
#[derive(Clone, Debug)]
pub struct Picture {
    pub view: Arc<View>,
    /// The users that corelane can log in by itself.
    pub users: Arc<Users>,
    /// How corelane presents itself in its greeting.
    pub face: Arc<Face>,
    /// The limits of a login, which a reload may change.
    pub login: Arc<Login>,
}

/// From the coordinator to a worker.
#[derive(Clone, Debug)]
pub enum Order {
    /// Route by this from now on.
    Publish(Picture),
    /// Answer with [`Event::Sessions`], carrying the same ticket.
    ListSessions { ticket: u64 },
    /// Stop accepting; close each session as soon as it is idle and outside a transaction, all of them
    /// after `grace`; then answer with [`Event::Stopped`] and end.
    Stop { grace: Duration },
}

/// From a worker to the coordinator. Every report says what epoch the worker was in.
#[derive(Clone, Debug)]
pub struct Report {
    pub worker: WorkerId,
    pub epoch: Epoch,
    pub event: Event,
}

#[derive(Clone, Debug)]
pub enum Event {
    /// A CN could not be logged in to, or died under a session.
    CnFailed { slot: CnSlot, failure: CnFailure },
    /// The answer to [`Order::ListSessions`].
    Sessions { ticket: u64, rows: Vec<SessionRow> },
    /// The worker has closed its last session and has ended.
    Stopped,
}

/// How a CN failed a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CnFailure {
    /// The connection was refused, reset or unreachable while dialling.
    Refused,
    /// No connection, no greeting, or no answer to a login, within the limit.
    TimedOut,
    /// It greeted with an error (too many connections, host blocked).
    Unwilling,
    /// It closed or reset a session that had not asked for it.
    Lost,
}

/// One session as `SHOW SESSIONS` prints it.
#[derive(Clone, Debug)]
pub struct SessionRow {
    pub id: SessionId,
    pub worker: WorkerId,
    pub client: String,
    pub user: String,
    pub tenant: String,
    /// The labels that the session asked for, `k=v,k2=v2`.
    pub labels: String,
    /// The CN that serves it; none while it is logging in.
    pub cn: Option<Arc<str>>,
    /// `login`, `idle`, `busy` or `transaction`.
    pub state: &'static str,
    /// How corelane knows the user: `relay` or `known`; empty while it is logging in.
    pub login: &'static str,
    pub commands: u64,
    /// Seconds since the session was accepted.
    pub age_s: u64,
}
