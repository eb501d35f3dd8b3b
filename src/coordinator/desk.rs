//! The desk: where the doors ask the coordinator for what it knows or have it do something, and what they get.
//!
//! Questions go through a bounded channel and each carries the place for its answer, so a door never
//! touches the table and a crowd of askers slows nobody but itself. What workers count themselves is read
//! directly from their counters.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::errand::Outcome;
use super::logbook::Logbook;
use crate::config::settings::{Admin, AtDeadline, CnSetting};
use crate::ident::{SessionId, WorkerId};
use crate::mailbox::hosts::{Host, Hosts};
use crate::mailbox::message::SessionRow;
use crate::metrics::Counters;
use crate::route::label::Labels;
use crate::route::{Cn, View};

/// Questions that may wait for the coordinator's next turn; whoever asks one more waits.
pub const QUESTIONS_MAX: usize = 64;

/// What a door may ask.
#[derive(Debug)]
pub enum Question {
    Cns(oneshot::Sender<Vec<CnRow>>),
    Overview(oneshot::Sender<Overview>),
    Sessions(oneshot::Sender<Roll>),
    /// What came of it, in words.
    Operate(Operation, oneshot::Sender<Outcome>),
}

/// What an operator may have done. Values are as the configuration would take them.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    Drain {
        cn: String,
        terms: DrainTerms,
    },
    Resume {
        cn: String,
    },
    MoveSession {
        session: SessionId,
        to: String,
    },
    Kill {
        session: SessionId,
    },
    Alter {
        cn: String,
        changes: Vec<Alteration>,
    },
    Add(Box<CnSetting>),
    /// Drains first.
    Remove {
        cn: String,
        terms: DrainTerms,
    },
    /// Lets in who is shut out, and forgets what has failed.
    FlushHosts,
}

/// Where nothing is said, `[drain]` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainTerms {
    /// Zero is none.
    pub deadline_s: Option<u32>,
    pub at_deadline: Option<AtDeadline>,
}

/// What may be changed of a CN that stays the same.
#[derive(Clone, Debug, PartialEq)]
pub enum Alteration {
    Weight(u32),
    /// All of them, in place of those it had.
    Labels(Labels),
    Data(Option<String>),
    /// None: as many as there may be.
    MaxSessions(Option<u32>),
}

/// As the log tells it: a name that an operator wrote cannot break a line there.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drain { cn, .. } => write!(f, "drain {}", cn.escape_debug()),
            Self::Resume { cn } => write!(f, "resume {}", cn.escape_debug()),
            Self::MoveSession { session, to } => write!(f, "move session {session} to {}", to.escape_debug()),
            Self::Kill { session } => write!(f, "kill session {session}"),
            Self::Alter { cn, .. } => write!(f, "alter {}", cn.escape_debug()),
            Self::Add(setting) => write!(f, "add {}", setting.id.escape_debug()),
            Self::Remove { cn, .. } => write!(f, "remove {}", cn.escape_debug()),
            Self::FlushHosts => f.write_str("flush hosts"),
        }
    }
}

/// A CN as the coordinator knows it now.
#[derive(Clone, Debug)]
pub struct CnRow {
    pub cn: Arc<Cn>,
    /// Seats taken by all workers together.
    pub sessions: u32,
    /// The server version of its last greeting; none before the first.
    pub version: Option<String>,
    /// What the last failure was, with its age; none if there was none since it last came up.
    pub last_error: Option<String>,
    /// How long the last good probe took.
    pub probe: Option<Duration>,
    /// Who has put it into the table.
    pub source: &'static str,
}

/// How far the process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No client is let in yet.
    Starting,
    Serving,
    /// No client is let in any more.
    Stopping,
}

/// All that the coordinator knows by itself, at one moment.
#[derive(Clone, Debug)]
pub struct Overview {
    pub stage: Stage,
    /// By which the workers route, or will in a moment.
    pub view: Arc<View>,
    /// The CNs of the view, in its order.
    pub cns: Vec<CnRow>,
    /// Sessions on their way between two workers, which no worker counts.
    pub travellers: u32,
    pub logbook: Logbook,
}

/// The sessions of all workers.
#[derive(Clone, Debug, Default)]
pub struct Roll {
    pub rows: Vec<SessionRow>,
    /// Workers that did not answer in time: their sessions are not among the rows.
    pub silent: Vec<WorkerId>,
}

/// One worker, as boot made it.
#[derive(Clone, Debug)]
pub struct WorkerFacts {
    pub worker: WorkerId,
    pub cpu: usize,
    pub counters: Arc<Counters>,
}

/// A door's access to the coordinator. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Desk {
    questions: mpsc::Sender<Question>,
    admin: Arc<Admin>,
    workers: Arc<[WorkerFacts]>,
    hosts: Arc<Hosts>,
    started: Instant,
}

/// The coordinator has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator has ended")]
pub struct Closed;

impl Desk {
    pub(super) fn new(
        questions: mpsc::Sender<Question>,
        admin: Arc<Admin>,
        workers: Arc<[WorkerFacts]>,
        hosts: Arc<Hosts>,
    ) -> Self {
        Self { questions, admin, workers, hosts, started: Instant::now() }
    }

    pub async fn cns(&self) -> Result<Vec<CnRow>, Closed> {
        self.ask(Question::Cns).await
    }

    pub async fn overview(&self) -> Result<Overview, Closed> {
        self.ask(Question::Overview).await
    }

    /// All sessions; takes at most `roll::ROLL_LIMIT` and a turn.
    pub async fn sessions(&self) -> Result<Roll, Closed> {
        self.ask(Question::Sessions).await
    }

    /// Has something done; takes at most [`super::errand::ERRAND_LIMIT`] and a turn. The outcome is told in
    /// words, or why there is none.
    pub async fn operate(&self, operation: Operation) -> Result<Outcome, Closed> {
        self.ask(|answer| Question::Operate(operation, answer)).await
    }

    pub fn workers(&self) -> &[WorkerFacts] {
        &self.workers
    }

    /// The addresses that have failed.
    pub fn hosts(&self) -> Vec<Host> {
        self.hosts.list(Instant::now())
    }

    /// How many of them are shut out.
    pub fn hosts_blocked(&self) -> usize {
        self.hosts.count_blocked(Instant::now())
    }

    /// `[admin]`, which only a restart changes.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    pub fn started(&self) -> Instant {
        self.started
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Result<T, Closed> {
        let (answer, answered) = oneshot::channel();
        self.questions.send(question(answer)).await.map_err(|_| Closed)?;
        answered.await.map_err(|_| Closed)
    }
}
