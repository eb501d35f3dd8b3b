//! Commands whose replies matter, in the order in which they were sent.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::held::{Inner, names};
use super::weight::may_change_unseen;
use crate::session::statements::Source;
use crate::session::tracking::Touched;
use crate::sql::{Effect, Effects};

/// A command whose reply matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errand(pub(in crate::session) NonZeroU32);

/// A prepared statement that a command names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// By the client's id.
    Known(u32),
    /// The one that this errand prepares.
    Coming(Errand),
}

/// An errand that waits for its reply.
#[derive(Debug)]
pub struct Pending {
    pub errand: Errand,
    pub what: What,
}

#[derive(Debug)]
pub enum What {
    Text(Box<Said>),
    Prepare(Coming),
    /// `cursor`: it is to open one; `was_open`: one of its statement may be open, and stay so if it fails. `sets` only where it sets any
    /// variable.
    Execute {
        source: Arc<Source>,
        target: Target,
        cursor: bool,
        was_open: bool,
        sets: Option<Box<Sets>>,
    },
    Fetch(Target),
    Reset(Target),
    /// The schema, by a name in ASCII.
    InitDb(Option<Box<[u8]>>),
    SetOption(u16),
    ChangeUser,
    ResetConnection,
}

/// A COM_QUERY.
#[derive(Debug)]
pub struct Said {
    pub effects: Effects,
    pub sets: Sets,
    /// For a lone PREPARE of a literal.
    pub inner: Option<Inner>,
    /// It asks for one user lock and for nothing else, and the CN has answered that it does not get it.
    pub lock_refused: bool,
}

/// The system variables that a text sets.
#[derive(Debug, Default)]
pub struct Sets {
    /// One SET statement alone, whose reported values are those that stay.
    pub plain: bool,
    /// Those that the tracker has not reported, in lower case.
    pub unreported: Vec<Box<[u8]>>,
    /// The tracker has reported one that may be among them.
    pub reported: bool,
    /// Results that have begun to come.
    pub results: u16,
}

/// Bytes of an execution that are kept until its statement is known.
pub const EXECUTION_MAX: usize = 1024;

/// A COM_STMT_PREPARE, and what has overtaken its reply.
#[derive(Debug)]
pub struct Coming {
    pub source: Arc<Source>,
    /// The front of its one execution so far, up to [`EXECUTION_MAX`] bytes, which tells the types of its parameters; empty after
    /// more than one.
    pub execution: Option<Box<[u8]>>,
    pub closed: bool,
}

/// What SET SESSION TRANSACTION sets, on one server or another.
pub const OF_TRANSACTIONS: [&[u8]; 4] =
    [b"transaction_isolation", b"transaction_read_only", b"tx_isolation", b"tx_read_only"];

impl Sets {
    pub fn of(effects: &Effects, plain: bool) -> Self {
        let unreported = names(effects, Effect::Sets).map(|name| name.to_ascii_lowercase().into());
        Self { plain, unreported: unreported.collect(), reported: false, results: 0 }
    }

    /// Whether a variable that the tracker reports, by its name in lower case, is one of them. Without any names it is SET SESSION
    /// TRANSACTION, whose variables have other names on other servers.
    fn explains(&mut self, effects: &Effects, name: &[u8]) -> bool {
        let at = self.unreported.iter().position(|other| **other == *name);
        let explains =
            at.map(|at| self.unreported.swap_remove(at)).is_some() || is_set_session_transaction(effects);
        self.reported |= explains;
        explains
    }

    /// Whether the value that the tracker reports of a variable is the one that stays.
    pub fn tells(&mut self, effects: &Effects, name: &[u8]) -> bool {
        let collated = matches!(name, b"character_set_connection" | b"collation_connection");
        self.explains(effects, name) && self.plain && !(collated && sets_collation_twice(effects))
    }
}

/// It names the connection's character set and its collation, and the reports do not tell which was last.
fn sets_collation_twice(effects: &Effects) -> bool {
    let sets = |variable: &[u8]| names(effects, Effect::Sets).any(|name| name.eq_ignore_ascii_case(variable));
    sets(b"character_set_connection") && sets(b"collation_connection")
}

/// Whether each statement gives one result. Stored code may give several, or none.
fn counts_statements(effects: &Effects) -> bool {
    !effects.has(Effect::Routine) && !effects.has(Effect::Executes)
}

pub fn is_set_session_transaction(effects: &Effects) -> bool {
    effects.has(Effect::Sets) && names(effects, Effect::Sets).next().is_none()
}

impl What {
    /// The effects of the SQL that it runs.
    pub fn effects(&self) -> Option<&Effects> {
        match self {
            Self::Text(said) => Some(&said.effects),
            Self::Execute { source, .. } => Some(&source.effects),
            _ => None,
        }
    }

    /// The variables that it sets, among its effects.
    pub fn sets(&mut self) -> Option<(&Effects, &mut Sets)> {
        match self {
            Self::Text(said) => Some((&said.effects, &mut said.sets)),
            Self::Execute { source, sets, .. } => Some((&source.effects, sets.as_deref_mut()?)),
            _ => None,
        }
    }

    /// What it has set so far of what the client wants to be told, when the result that came last is no error.
    pub fn sets_tracking(&mut self) -> Option<Touched> {
        let (effects, sets) = self.sets()?;
        if sets.plain {
            return Some(Touched::of(effects));
        }
        counts_statements(effects).then(|| Touched::of_first(effects, sets.results))
    }

    /// The statement of a text of several that the result which came last is of, counted from 0, as far as that can be told.
    pub fn statement(&self) -> Option<u16> {
        let Self::Text(said) = self else { return None };
        if counts_statements(&said.effects) { said.sets.results.checked_sub(1) } else { None }
    }

    /// Whether all that it changes is known without a report of the CN's.
    pub fn tells_all(&self) -> bool {
        match self {
            Self::Text(said) => said.sets.plain,
            Self::Execute { source, .. } => source.plain_set || !may_change_unseen(&source.effects),
            Self::Prepare(_) | Self::Fetch(_) | Self::Reset(_) | Self::SetOption(_) => true,
            Self::InitDb(schema) => schema.is_some(),
            Self::ChangeUser | Self::ResetConnection => true,
        }
    }

    /// A PREPARE of SQL's own whose text inside is not known.
    pub fn prepares_unknown(&self) -> bool {
        let Self::Text(said) = self else { return false };
        let unread = said.inner.is_none() && said.effects.has(Effect::Prepares);
        unread || said.effects.has(Effect::PreparesUnknown)
    }

    pub fn opens_cursor(&self) -> Option<Target> {
        match self {
            Self::Execute { target, cursor: true, .. } => Some(*target),
            _ => None,
        }
    }

    /// The statement that it names.
    pub fn target_mut(&mut self) -> Option<&mut Target> {
        match self {
            Self::Execute { target, .. } | Self::Fetch(target) | Self::Reset(target) => Some(target),
            _ => None,
        }
    }

    /// Whether it may change how the texts behind it are read.
    fn may_change_context(&self) -> bool {
        let Some(effects) = self.effects() else {
            return matches!(self, Self::ChangeUser | Self::ResetConnection);
        };
        let begins = |name: &[u8], word: &[u8]| {
            name.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
        };
        let changes = |name: &[u8]| name.eq_ignore_ascii_case(b"sql_mode") || begins(name, b"character");
        effects.has(Effect::Routine)
            || effects.has(Effect::Executes)
            || names(effects, Effect::Sets).any(changes)
    }

    /// Bytes of a text that is being prepared.
    fn text_bytes(&self) -> u32 {
        match self {
            Self::Prepare(coming) => coming.source.text.as_ref().map_or(0, |text| text.len() as u32),
            _ => 0,
        }
    }
}

/// All errands that wait for their replies. A client may send any number of commands ahead, so what each new one has to know of
/// those before it is summed up.
#[derive(Debug, Default)]
pub struct Errands {
    pending: VecDeque<Pending>,
    /// Errands so far.
    sent: u32,
    /// Of those that wait, how many may change how the texts behind them are read.
    changing: u32,
    /// Bytes of the texts that are being prepared.
    text_bytes: u32,
}

impl Errands {
    pub fn push(&mut self, what: What) -> Errand {
        self.sent = self.next();
        let errand = Errand(NonZeroU32::new(self.sent).unwrap_or(NonZeroU32::MIN));
        self.changing += u32::from(what.may_change_context());
        self.text_bytes += what.text_bytes();
        self.pending.push_back(Pending { errand, what });
        errand
    }

    pub fn take(&mut self, errand: Errand) -> Option<What> {
        let at = self.pending.iter().position(|pending| pending.errand == errand)?;
        let what = self.pending.remove(at)?.what;
        self.changing -= u32::from(what.may_change_context());
        self.text_bytes -= what.text_bytes();
        Some(what)
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// The number of the next errand.
    pub fn next(&self) -> u32 {
        self.sent.checked_add(1).unwrap_or(1)
    }

    pub fn iter(&self) -> impl Iterator<Item = &What> {
        self.pending.iter().map(|pending| &pending.what)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut What> {
        self.pending.iter_mut().map(|pending| &mut pending.what)
    }

    pub fn find(&self, errand: Option<Errand>) -> Option<&What> {
        self.pending.iter().find(|pending| Some(pending.errand) == errand).map(|pending| &pending.what)
    }

    pub fn find_mut(&mut self, errand: Option<Errand>) -> Option<&mut What> {
        let pending = self.pending.iter_mut().find(|pending| Some(pending.errand) == errand);
        pending.map(|pending| &mut pending.what)
    }

    /// Whether some errand may have this effect.
    pub fn may(&self, effect: Effect) -> bool {
        self.iter().any(|what| what.effects().is_some_and(|effects| effects.has(effect)))
    }

    pub fn may_change_context(&self) -> bool {
        self.changing > 0
    }

    pub fn text_bytes(&self) -> usize {
        self.text_bytes as usize
    }

    /// The newest preparation that has not been answered.
    pub fn coming(&self) -> Option<Errand> {
        let mut newest = self.pending.iter().rev();
        newest.find(|pending| matches!(pending.what, What::Prepare(_))).map(|pending| pending.errand)
    }

    pub fn coming_mut(&mut self) -> Option<&mut Coming> {
        self.pending.iter_mut().rev().find_map(|pending| match &mut pending.what {
            What::Prepare(coming) => Some(coming),
            _ => None,
        })
    }
}
