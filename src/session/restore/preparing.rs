//! Statements prepared again on another leg, so that it describes their results anew.
//!
//! With MARIADB_CACHE_METADATA a CN leaves out the definitions of a result that are those which it sent last for the same
//! statement. A new CN sends them with its answer to the preparation, which the client never sees; and what the client has seen
//! last may be something else, as a table was altered or a parameter had another type. But MariaDB describes a result also when
//! `character_set_client` is another one than when it did so last. So a statement with a result is prepared under a stand-in,
//! a character set in which its text reads the same, and is described with its first execution.

use crate::session::hold::Hold;
use crate::session::script::Script;
use crate::session::statements::Statement;
use crate::sql::splits_letters;

/// The client's character set in a context.
pub struct Own {
    pub charset: Vec<u8>,
    /// The statement that sets it, with its collation.
    pub back: Vec<u8>,
}

impl Own {
    /// With the default collation.
    pub fn by_default(charset: Vec<u8>) -> Self {
        let back = set_client(&charset);
        Self { charset, back }
    }
}

/// Preparations in a script, all of them under one context.
pub struct Preparing<'s> {
    script: &'s mut Script,
    /// None where results are always described.
    own: Option<Own>,
    stand_in: Option<&'static str>,
}

impl<'s> Preparing<'s> {
    pub fn new(script: &'s mut Script, own: Option<Own>) -> Self {
        Self { script, own, stand_in: None }
    }

    /// # Errors
    /// There is no stand-in for this text.
    pub fn statement(&mut self, id: u32, statement: &Statement) -> Result<(), Hold> {
        let text = statement.source.text.as_ref().ok_or(Hold::TooMuch)?;
        if let Some(own) = &self.own {
            let stand_in = match statement.columns {
                // It reads the same under either.
                0 if text.is_ascii() => self.stand_in,
                0 => None,
                _ => Some(stand_in(&own.charset, text).ok_or(Hold::Statement)?),
            };
            self.change(stand_in);
        }
        self.script.prepare(format!("prepared statement {id}"), text, statement.parameters);
        Ok(())
    }

    /// Leaves the context as it was.
    pub fn end(mut self) {
        self.change(None);
    }

    fn change(&mut self, stand_in: Option<&'static str>) {
        if stand_in == self.stand_in {
            return;
        }
        self.stand_in = stand_in;
        let own = self.own.as_ref().map(|own| own.back.clone());
        let sql = stand_in.map(|name| set_client(name.as_bytes())).or(own).unwrap_or_default();
        self.script.statement("character set of prepared statements", &sql);
    }
}

fn set_client(charset: &[u8]) -> Vec<u8> {
    [b"SET @@session.character_set_client='", charset, b"'"].concat()
}

/// Another character set in which a text in `own` reads the same. `ascii` is one that no client is likely to change to.
fn stand_in(own: &[u8], text: &[u8]) -> Option<&'static str> {
    let is_plain = !splits_letters(own) && own != b"swe7";
    if is_plain && text.is_ascii() {
        return Some(if own == b"ascii" { "latin1" } else { "ascii" });
    }
    let text = str::from_utf8(text).ok()?;
    match own {
        b"utf8mb4" if text.chars().all(|letter| letter.len_utf8() < 4) => Some("utf8mb3"),
        b"utf8mb3" | b"utf8" => Some("utf8mb4"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stand_in_reads_the_text_the_same() {
        let table: [(&[u8], &[u8], Option<&str>); 10] = [
            (b"utf8mb4", b"SELECT 1", Some("ascii")),
            (b"ascii", b"SELECT 1", Some("latin1")),
            (b"latin1", b"SELECT 1", Some("ascii")),
            (b"latin1", b"SELECT '\xe9'", None),
            (b"sjis", b"SELECT 1", None),
            (b"swe7", b"SELECT 1", None),
            (b"utf8mb4", "SELECT 'é'".as_bytes(), Some("utf8mb3")),
            (b"utf8mb4", "SELECT '😀'".as_bytes(), None),
            (b"utf8mb4", b"SELECT '\xe9'", None),
            (b"utf8mb3", "SELECT 'é'".as_bytes(), Some("utf8mb4")),
        ];
        for (own, text, expected) in table {
            assert_eq!(stand_in(own, text), expected, "{} {}", own.escape_ascii(), text.escape_ascii());
        }
    }
}
