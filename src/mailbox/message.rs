//! Every message between the coordinator and its workers, both directions, on one page.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::access::{Access, Networks};
use crate::config::settings::{
    Account, Compression, Keepalive, Limits, Login, Migration, Settings, Timeouts,
};
use crate::config::tls::{CnTls, ServerTls};
use crate::ident::{CnSlot, Epoch, IdBlock, SessionId, WorkerId};
use crate::route::{Group, View};
use crate::session::face::Face;
use crate::session::hold::Hold;
use crate::session::user::Users;
use crate::wire::auth::rsa::ServerKey;

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
    /// How long sessions may take over something.
    pub timeouts: Arc<Timeouts>,
    /// How many there may be, of all and of each kind.
    pub max_sessions: u32,
    pub max_sessions_per_tenant: Option<u32>,
    pub limits: Limits,
    /// Whose connections begin with a header that tells of their client; none where nobody's do.
    pub proxy_protocol: Option<Arc<Networks>>,
    /// Who may come in; none where everybody may.
    pub access: Option<Arc<Access>>,
    /// How the kernel finds out that a client is gone, and that a CN is.
    pub client_tcp: Keepalive,
    pub cn_tcp: Keepalive,
    /// TLS towards clients, where it is offered.
    pub tls: Option<Arc<ServerTls>>,
    /// The account by which corelane itself asks CNs of MySQL's, where there is one.
    pub monitor: Option<Arc<Account>>,
    /// TLS towards CNs.
    pub cn_tls: Arc<CnTls>,
    /// By which clients without TLS can send their passwords, where any may have to.
    pub key: Option<Arc<ServerKey>>,
    /// The public key that a CN without TLS shows is believed.
    pub trusts_cn_keys: bool,
    /// What clients are offered, and CNs are asked for.
    pub compression: Compression,
    /// How sessions move, which a reload may change.
    pub migration: Arc<Migration>,
    /// How long a session that has moved stays where it is, `[balance] dwell_ms`.
    pub dwell: Duration,
}

impl Picture {
    /// With all that the settings say, and neither CNs nor users nor a key yet.
    pub fn new(settings: &Settings) -> Self {
        Self {
            view: Arc::default(),
            users: Arc::default(),
            face: Arc::default(),
            login: settings.login.clone().into(),
            timeouts: settings.timeouts.into(),
            max_sessions: settings.listen.max_sessions,
            max_sessions_per_tenant: settings.listen.max_sessions_per_tenant,
            limits: settings.limits,
            proxy_protocol: settings.proxy_protocol.clone(),
            access: settings.access.clone(),
            client_tcp: settings.listen.tcp,
            cn_tcp: settings.cn_tcp,
            tls: settings.tls.clone(),
            monitor: settings.auth.query.clone().map(Arc::new),
            cn_tls: settings.cn_tls.clone(),
            key: None,
            trusts_cn_keys: settings.auth.trusts_cn_keys,
            compression: settings.compression,
            migration: settings.migration.clone().into(),
            dwell: settings.balance.dwell,
        }
    }
}

/// From the coordinator to a worker.
#[derive(Debug)]
pub enum Order {
    /// Route by this from now on.
    Publish(Box<Picture>),
    /// Answer with [`Event::Sessions`], carrying the same ticket.
    ListSessions { ticket: u64 },
    /// Answer with [`Event::Census`], carrying the same ticket.
    Census { ticket: u64 },
    /// Move sessions to another CN, each as soon as it is quiet.
    Move(MoveOrder),
    /// End the sessions on a CN that are still there, each with an ERR that says `why`.
    Evict { from: CnSlot, why: Arc<str> },
    /// End one session; answer with [`Event::Answered`] if it lives here, else with [`Event::NotHere`].
    Kill { ticket: u64, session: SessionId },
    /// Give up to `count` quiet sessions to another worker, by way of the coordinator. Those that are about to leave for
    /// it count, so that an order may be given again.
    Handover { to: WorkerId, count: u32 },
    /// Take in a session that another worker has given up.
    Adopt(Parcel),
    /// What another worker has to say.
    Letter(Parcel),
    /// Give these connection ids to new sessions. The answer to [`Event::IdsWanted`]; the first one comes unasked.
    Ids(IdBlock),
    /// Stop accepting; close each session as soon as it is idle and outside a transaction, all of them
    /// after `grace`; then answer with [`Event::Stopped`] and end.
    Stop { grace: Duration },
}

/// From a worker to the coordinator. Every report says what epoch the worker was in.
#[derive(Debug)]
pub struct Report {
    pub worker: WorkerId,
    pub epoch: Epoch,
    pub event: Event,
}

#[derive(Debug)]
pub enum Event {
    /// A CN could not be logged in to, or died under a session.
    CnFailed { slot: CnSlot, failure: CnFailure },
    /// The answer to [`Order::ListSessions`].
    Sessions { ticket: u64, rows: Vec<SessionRow> },
    /// The answer to [`Order::Census`].
    Census { ticket: u64, rows: Vec<CensusRow> },
    /// The answer to an order about one session that lives here: what came of it, or why not.
    Answered { ticket: u64, outcome: Result<String, String> },
    /// The answer to an order about one session that does not live here.
    NotHere { ticket: u64 },
    /// The connection ids that the cluster gave are running out. Said once for each [`Order::Ids`].
    IdsWanted,
    /// A session on its way to another worker.
    HandedOver { to: WorkerId, parcel: Parcel },
    /// Something for another worker.
    Letter { to: WorkerId, parcel: Parcel },
    /// The worker has closed its last session and has ended.
    Stopped,
}

/// Which sessions to move, and where to.
#[derive(Clone, Debug)]
pub struct MoveOrder {
    pub whom: Whom,
    pub to: CnSlot,
    /// How long a session that is held is waited for; then it stays, and may be ordered anew.
    pub patience: Duration,
    /// Sessions that dwell, having moved lately, are to move as well: the CN is being drained.
    pub dwelling_too: bool,
}

#[derive(Clone, Debug)]
pub enum Whom {
    /// This one. The worker where it lives answers with [`Event::Answered`] when it has moved or stays, the
    /// others with [`Event::NotHere`] at once.
    Session { ticket: u64, session: SessionId },
    /// So many of a group on a CN, those first that are cheap to move, and beside those that have been ordered
    /// to move already: the coordinator counts these as gone.
    Some { group: Arc<Group>, from: CnSlot, count: u32 },
}

/// The sessions of one group on one CN at one worker.
#[derive(Clone, Debug)]
pub struct CensusRow {
    pub group: Arc<Group>,
    pub cn: CnSlot,
    /// All of them, ordered to move or not.
    pub sessions: u32,
    /// Of them, those that could be moved: of a known user, on a CN with a data set, not backing off, not
    /// ordered to move already. What holds them at the moment may end.
    pub movable: u32,
    /// Of the movable, those that have moved within [`Picture::dwell`].
    pub dwelling: u32,
    /// Ordered to move, and still here.
    pub leaving: u32,
    /// Sessions of this group on other CNs that have been ordered to move here; they are not among `sessions`. A
    /// row may have nothing but these.
    pub arriving: u32,
}

/// Something between two workers that only workers can unpack: a session with its sockets, state and unread bytes, or a word about
/// one. The coordinator passes it on; dropping a session closes its connections.
pub struct Parcel(pub Box<dyn Any + Send>);

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parcel(..)")
    }
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
    /// Whether corelane could log the user in again: `known`, or `relay` if only its client can; empty while it is
    /// logging in.
    pub login: &'static str,
    pub commands: u64,
    /// Why it cannot move now; none if it could.
    pub hold: Option<Hold>,
    /// How often it has moved to another CN.
    pub moves: u32,
    /// Why its last move came to nothing.
    pub last_move: Option<Box<str>>,
    /// Seconds since the session was accepted.
    pub age_s: u64,
}
