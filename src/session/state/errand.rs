//! Commands whose replies matter, in the order in which they were sent.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::held::Inner;
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
        matches!(self, Self::Text(said) if said.inner.is_none() && said.effects.has(Effect::Prepares))
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
