//! What a text is read and prepared under: default schema, SQL mode, character sets.
//!
//! Two statements that were prepared under equal contexts can be prepared under either. What was not told by the CN
//! is [`Known::Unsure`] with a number of its own, which equals nothing but itself. Contexts are immutable and shared.

use memchr::memchr2;

use crate::sql::{Modes, splits_letters};

/// A value as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    Value(Box<[u8]>),
    /// Changed to something that was not told; a number for each such change.
    Unsure(u32),
}

impl Known {
    pub fn value(&self) -> Option<&[u8]> {
        match self {
            Self::Value(value) => Some(value),
            Self::Unsure(_) => None,
        }
    }
}

impl From<&[u8]> for Known {
    fn from(value: &[u8]) -> Self {
        Self::Value(value.into())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Empty for none.
    pub schema: Box<[u8]>,
    pub sql_mode: Known,
    /// character_set_client.
    pub client: Known,
    /// character_set_connection.
    pub connection: Known,
    /// collation_connection; an empty value is the default of `connection`.
    pub collation: Known,
}

/// Which texts cannot be cut into words with certainty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doubt {
    /// Those with a double quote or a backslash.
    pub quotes: bool,
    /// Those with a byte beyond ASCII.
    pub letters: bool,
}

impl Doubt {
    /// Of all texts of which any context would make something else.
    pub const ALL: Self = Self { quotes: true, letters: true };

    /// Whether a piece of a text is in doubt.
    pub fn applies(self, piece: &[u8]) -> bool {
        (self.quotes && memchr2(b'"', b'\\', piece).is_some()) || (self.letters && !piece.is_ascii())
    }
}

impl Context {
    pub fn modes(&self) -> Modes {
        let modes = self.sql_mode.value().unwrap_or_default();
        let has = |mode: &[u8]| modes.split(|byte| *byte == b',').any(|one| one.eq_ignore_ascii_case(mode));
        let ascii = |set: &[u8]| set.starts_with(b"utf8") || set == b"ascii";
        Modes {
            ansi_quotes: has(b"ANSI_QUOTES"),
            no_backslash_escapes: has(b"NO_BACKSLASH_ESCAPES"),
            brackets: self.sql_mode.value().is_none() || has(b"MSSQL"),
            spaces: !self.client.value().is_some_and(ascii),
        }
    }

    pub fn doubt(&self) -> Doubt {
        Doubt {
            quotes: self.sql_mode.value().is_none(),
            letters: self.client.value().is_none_or(splits_letters),
        }
    }

    /// Whether it can be entered anew: all of it is known.
    pub fn is_known(&self) -> bool {
        [&self.sql_mode, &self.client, &self.connection, &self.collation]
            .iter()
            .all(|part| part.value().is_some())
    }

    /// The same, with what is in doubt as it was in `before` the way it is `now`.
    pub fn learnt(&self, before: &Self, now: &Self) -> Self {
        let learn = |part: &Known, before: &Known, now: &Known| {
            let doubtful = part.value().is_none() && part == before;
            if doubtful { now.clone() } else { part.clone() }
        };
        Self {
            schema: self.schema.clone(),
            sql_mode: learn(&self.sql_mode, &before.sql_mode, &now.sql_mode),
            client: learn(&self.client, &before.client, &now.client),
            connection: learn(&self.connection, &before.connection, &now.connection),
            collation: learn(&self.collation, &before.collation, &now.collation),
        }
    }

    /// Whether COM_INIT_DB would be read by the CN as the tracker wrote the name, which is in UTF-8.
    pub fn can_name_schema(&self) -> bool {
        self.schema.is_ascii() || self.client.value().is_some_and(|set| set.starts_with(b"utf8"))
    }
}
