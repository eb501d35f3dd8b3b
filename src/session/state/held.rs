//! Things with names that a session keeps on its CN: user locks, temporary tables, open handlers, SQL's own prepared statements; and
//! the names of its user variables.
//!
//! Errs on the side of holding: what was taken without a name, or beyond a limit, is let go of only by what lets go of everything.

use std::sync::Arc;

use super::context::Context;
use crate::session::hold::Hold;
use crate::sql::{Effect, Effects, SEPARATOR};

/// Names of one session, and bytes of each.
pub const NAMES_MAX: usize = 64;
pub const NAME_MAX: usize = 256;

/// User variables of one session.
pub const USER_VARIABLES_MAX: usize = 64;

/// Statements of SQL's own PREPARE, and bytes of one.
pub const SQL_PREPARED_MAX: usize = 64;
pub const SQL_TEXT_MAX: usize = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    UserLock,
    TemporaryTable,
    Handler,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::UserLock, Self::TemporaryTable, Self::Handler];

    pub fn taken_by(self) -> Effect {
        match self {
            Self::UserLock => Effect::TakesUserLock,
            Self::TemporaryTable => Effect::CreatesTemporaryTable,
            Self::Handler => Effect::OpensHandler,
        }
    }

    fn released_by(self) -> Effect {
        match self {
            Self::UserLock => Effect::ReleasesUserLock,
            Self::TemporaryTable => Effect::DropsTable,
            Self::Handler => Effect::ClosesHandler,
        }
    }

    pub fn hold(self) -> Hold {
        match self {
            Self::UserLock => Hold::UserLock,
            Self::TemporaryTable => Hold::TemporaryTable,
            Self::Handler => Hold::Handler,
        }
    }
}

/// A statement of SQL's own PREPARE.
#[derive(Debug)]
pub struct SqlPrepared {
    /// In lower case.
    pub name: Box<[u8]>,
    /// None if its text is not known.
    pub inner: Option<Inner>,
    pub context: Arc<Context>,
}

/// What a lone PREPARE of a literal prepares.
#[derive(Debug)]
pub struct Inner {
    /// The whole PREPARE, as it was sent.
    pub text: Box<[u8]>,
    /// What the text inside does when it is executed.
    pub effects: Arc<Effects>,
}

#[derive(Debug, Default)]
pub struct Held {
    names: Vec<(Kind, Box<[u8]>)>,
    /// Something without a name.
    unnamed: [bool; 3],
    pub sql_prepared: Vec<SqlPrepared>,
    /// As written.
    pub user_variables: Vec<Box<[u8]>>,
}

impl Held {
    pub fn has(&self, kind: Kind) -> bool {
        self.unnamed[kind as usize] || self.names.iter().any(|(other, _)| *other == kind)
    }

    /// Takes note of what a text takes; `schema` is where a table without a qualifier is.
    pub fn take(&mut self, kind: Kind, effects: &Effects, schema: &[u8]) {
        if !effects.has(kind.taken_by()) {
            return;
        }
        let mut named = names(effects, kind.taken_by()).peekable();
        self.unnamed[kind as usize] |= named.peek().is_none();
        for name in named {
            let name = qualify(kind, name, schema);
            // A user lock that is taken again has to be released again.
            let known = kind != Kind::UserLock && self.names.contains(&(kind, name.clone()));
            if name.is_empty() || self.names.len() >= NAMES_MAX || name.len() > NAME_MAX {
                self.unnamed[kind as usize] = true;
            } else if !known {
                self.names.push((kind, name));
            }
        }
    }

    /// Tables have got other names. A temporary one among them is let go of by a name that is not known.
    pub fn rename_tables(&mut self) {
        self.unnamed[Kind::TemporaryTable as usize] |= self.has(Kind::TemporaryTable);
    }

    /// Takes note of what a text that succeeded lets go of.
    pub fn release(&mut self, kind: Kind, effects: &Effects, schema: &[u8]) {
        if kind == Kind::UserLock && effects.has(Effect::ReleasesAllUserLocks) {
            self.unnamed[kind as usize] = false;
            self.names.retain(|(other, _)| *other != kind);
        }
        for name in names(effects, kind.released_by()) {
            let gone = (kind, qualify(kind, name, schema));
            if let Some(at) = self.names.iter().position(|held| *held == gone) {
                self.names.swap_remove(at);
            }
        }
    }

    /// Takes note of the user variables that a text mentions; false if there is no more place.
    #[must_use]
    pub fn mention(&mut self, effects: &Effects) -> bool {
        for name in names(effects, Effect::UserVariable) {
            if self.user_variables.iter().any(|other| other.eq_ignore_ascii_case(name)) {
                continue;
            }
            if self.user_variables.len() >= USER_VARIABLES_MAX || name.len() > NAME_MAX {
                return false;
            }
            self.user_variables.push(name.into());
        }
        true
    }

    /// Enters a statement; false if there is no more place.
    #[must_use]
    pub fn prepare(&mut self, name: &[u8], inner: Option<Inner>, context: Arc<Context>) -> bool {
        self.deallocate(name);
        let fits = self.sql_prepared.len() < SQL_PREPARED_MAX && name.len() <= NAME_MAX;
        if fits {
            let name = name.to_ascii_lowercase().into();
            self.sql_prepared.push(SqlPrepared { name, inner, context });
        }
        fits
    }

    pub fn deallocate(&mut self, name: &[u8]) {
        self.sql_prepared.retain(|statement| !statement.name.eq_ignore_ascii_case(name));
    }
}

/// The names that come with an effect.
pub fn names(effects: &Effects, effect: Effect) -> impl Iterator<Item = &[u8]> {
    effects.named.iter().filter(move |named| named.effect == effect).map(|named| &*named.name)
}

/// User locks are told apart without regard to case, tables by their schema.
fn qualify(kind: Kind, name: &[u8], schema: &[u8]) -> Box<[u8]> {
    match kind {
        _ if name.is_empty() => Box::default(),
        Kind::UserLock => name.to_ascii_lowercase().into(),
        Kind::TemporaryTable if !name.contains(&SEPARATOR) => [schema, &[SEPARATOR], name].concat().into(),
        _ => name.into(),
    }
}
