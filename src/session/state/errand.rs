//! Commands whose replies matter, in the order in which they were sent.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::held::{Inner, names};
use crate::session::statements::Source;
use crate::sql::{Effect, Effects};

/// A command whose reply matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errand(pub(super) NonZeroU32);

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
    Execute { source: Arc<Source>, target: Target, cursor: bool },
    Fetch(Target),
    Reset(Target),
    InitDb,
    SetOption(u16),
    ChangeUser,
    ResetConnection,
}

/// A COM_QUERY.
#[derive(Debug)]
pub struct Said {
    pub effects: Effects,
    /// One SET statement alone, whose reported values are those that stay.
    pub plain_set: bool,
    /// Variables that it sets and that the tracker has not reported, in lower case.
    pub unreported: Vec<Box<[u8]>>,
    /// For a lone PREPARE of a literal.
    pub inner: Option<Inner>,
}

/// A COM_STMT_PREPARE, and what has overtaken its reply.
#[derive(Debug)]
pub struct Coming {
    pub source: Arc<Source>,
    pub executed: bool,
    pub closed: bool,
}

impl Said {
    /// Whether a variable that the tracker reports, by its name in lower case, is one that it sets. Without any names it is SET SESSION
    /// TRANSACTION, whose variables have other names on other servers.
    pub fn explains(&mut self, name: &[u8]) -> bool {
        let at = self.unreported.iter().position(|other| **other == *name);
        at.map(|at| self.unreported.swap_remove(at)).is_some()
            || (self.effects.has(Effect::Sets) && names(&self.effects, Effect::Sets).next().is_none())
    }

    /// It names the connection's character set and its collation, and the reports do not tell which was last.
    pub fn sets_collation_twice(&self) -> bool {
        let sets = |variable: &[u8]| {
            names(&self.effects, Effect::Sets).any(|name| name.eq_ignore_ascii_case(variable))
        };
        sets(b"character_set_connection") && sets(b"collation_connection")
    }
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
}
