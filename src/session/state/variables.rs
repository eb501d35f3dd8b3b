//! The system variables that a session has changed, and how their values are written.
//!
//! Names come from the tracker and from the texts themselves, as some forms of SET are not tracked. A value is kept only where the
//! tracker told it in a reply that leaves no doubt; any other is asked of the CN before a move. A value of NULL is told as an
//! empty string, so an empty value counts as not told.

use crate::session::script::Column;
use crate::sql::{TRACKING, is_untransferable};

/// Variables of one session.
pub const VARIABLES_MAX: usize = 128;

/// Bytes of a value that is kept.
pub const VALUE_MAX: usize = 4 << 10;

/// Follow the schema.
const IGNORED: [&[u8]; 2] = [b"character_set_database", b"collation_database"];

/// Told by the CN of its own accord: MariaDB's place of the session's last write in the binary log, MySQL's number of the
/// statement. Nobody can set them.
const NOISE: [&[u8]; 2] = [b"last_gtid", b"statement_id"];

/// The value of LAST_INSERT_ID(), which is asked by itself.
const INSERT_ID: [&[u8]; 2] = [b"last_insert_id", b"identity"];

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Plain,
    Ignored,
    /// Nothing that a statement has set.
    Noise,
    /// What the CN reports of the session.
    Tracking,
    InsertId,
    /// Setting the same value again is not the same.
    Untransferable,
}

/// The class of a name in lower case.
pub fn class(name: &[u8]) -> Class {
    if IGNORED.contains(&name) {
        Class::Ignored
    } else if NOISE.contains(&name) {
        Class::Noise
    } else if TRACKING.iter().any(|tracking| tracking.as_bytes() == name) {
        Class::Tracking
    } else if INSERT_ID.contains(&name) {
        Class::InsertId
    } else if is_untransferable(name) {
        Class::Untransferable
    } else {
        Class::Plain
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// In lower case.
    pub name: Box<[u8]>,
    /// The tracker has told of it, so it can be asked for.
    pub reported: bool,
    /// None if it has to be asked for.
    pub value: Option<Box<[u8]>>,
}

#[derive(Debug, Default)]
pub struct Variables(Vec<Variable>);

impl Variables {
    /// Takes note of a change; false if there is no more place.
    #[must_use]
    pub fn change(&mut self, name: &[u8], reported: bool, value: Option<&[u8]>) -> bool {
        let exact = |value: &&[u8]| value.len() <= VALUE_MAX && (!value.is_empty() || name == b"sql_mode");
        let value: Option<Box<[u8]>> = value.filter(exact).map(Box::from);
        if let Some(known) = self.0.iter_mut().find(|known| *known.name == *name) {
            known.reported |= reported;
            known.value = value;
        } else if self.0.len() < VARIABLES_MAX {
            self.0.push(Variable { name: name.into(), reported, value });
        } else {
            return false;
        }
        true
    }

    /// The value of a variable that was changed is known after all.
    pub fn learn(&mut self, name: &[u8], value: &[u8]) {
        if self.0.iter().any(|known| *known.name == *name) {
            let _known = self.change(name, true, Some(value));
        }
    }

    pub fn forget(&mut self, name: &[u8]) {
        self.0.retain(|known| *known.name != *name);
    }

    pub fn clear(&mut self) {
        self.0 = Vec::new();
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Variable> {
        self.0.iter()
    }
}

/// Writes a value that the tracker told, or none if it cannot be written with certainty.
pub fn write_told(value: &[u8]) -> Option<Vec<u8>> {
    let number = value.iter().all(|byte| byte.is_ascii_digit() || b"+-.".contains(byte));
    if number && !value.is_empty() {
        return Some(value.to_vec());
    }
    write_text(value)
}

/// Writes a value that the CN answered.
pub fn write_asked(column: Column, value: Option<&[u8]>) -> Option<Vec<u8>> {
    match value {
        None => Some(b"NULL".to_vec()),
        Some(value) if NUMBERS.contains(&column.kind) => {
            let number = |byte: &u8| byte.is_ascii_digit() || b"+-.e".contains(byte);
            (!value.is_empty() && value.iter().all(number)).then(|| value.to_vec())
        }
        Some(value) => write_text(value),
    }
}

/// Values that are no plain ASCII would be read in other character sets than they were written in, and a backslash
/// depends on the SQL mode.
fn write_text(value: &[u8]) -> Option<Vec<u8>> {
    if !value.iter().all(|byte| matches!(byte, b' '..=b'~') && *byte != b'\\') {
        return None;
    }
    Some(quote(value))
}

/// A string literal; `value` has no backslash.
fn quote(value: &[u8]) -> Vec<u8> {
    let mut out = vec![b'\''];
    for byte in value {
        if *byte == b'\'' {
            out.push(b'\'');
        }
        out.push(*byte);
    }
    out.push(b'\'');
    out
}

/// Column types of numbers: TINY, SHORT, LONG, FLOAT, DOUBLE, LONGLONG, INT24, DECIMAL, NEWDECIMAL.
const NUMBERS: [u8; 9] = [1, 2, 3, 4, 5, 8, 9, 0, 246];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_values_are_written_as_they_can_be_read() {
        let table: [(&str, Option<&str>); 6] = [
            ("100", Some("100")),
            ("1.500000", Some("1.500000")),
            ("+01:00", Some("'+01:00'")),
            ("", Some("''")),
            ("it's", Some("'it''s'")),
            ("a\\b", None),
        ];
        for (value, written) in table {
            let out = write_told(value.as_bytes());
            assert_eq!(out.as_deref(), written.map(str::as_bytes), "{value}");
        }
    }

    #[test]
    fn asked_values_go_by_their_column() {
        let column = |kind| Column { kind, flags: 0, length: 0 };
        let write = |kind, value: Option<&str>| write_asked(column(kind), value.map(str::as_bytes));
        assert_eq!(write(8, Some("7")), Some(b"7".to_vec()));
        assert_eq!(write(253, Some("7")), Some(b"'7'".to_vec()));
        assert_eq!(write(253, None), Some(b"NULL".to_vec()));
        assert_eq!(write(8, Some("7; DROP")), None);
        assert_eq!(write(253, Some("7\0")), None);
    }

    #[test]
    fn an_empty_value_is_not_told() {
        let mut variables = Variables::default();
        assert!(variables.change(b"character_set_results", true, Some(b"")));
        assert!(variables.change(b"sql_mode", true, Some(b"")));
        let values: Vec<_> = variables.iter().map(|variable| variable.value.is_some()).collect();
        assert_eq!(values, [false, true]);
    }
}
