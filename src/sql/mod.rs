//! Which effects a text of SQL has on its session, as far as the server does not report them, or not exactly.
//!
//! A [`Reader`] takes the text of a COM_QUERY or COM_STMT_PREPARE as it streams past. It is no parser: it
//! tells words from quotes and comments, follows the few statements that matter as far as their names, and in
//! all others looks at functions and variables. When in doubt it reports the effect: one too many keeps a
//! session where it is, one too few would lose something of it.
//!
//! Invariants: any split of the bytes gives the same effects; nothing is kept of the text but names; ordinary
//! statements allocate nothing; no text fails.
//!
//! What it does not see: what stored functions and triggers do, and what a prepared text does before it is
//! read by itself. Texts in a character set where a byte of a letter may look like a quote or a backslash
//! ([`splits_letters`]) it reads wrongly: who knows the session's character set must not ask.

mod effect;
mod keyword;
mod lexer;
mod set;
mod statement;
mod variable;

pub use effect::{Effect, Effects, NAMES_MAX, Named, SEPARATOR};
pub use lexer::unescaped;
pub use statement::NAME_BYTES_MAX;
pub use variable::{TRACKING, UNTRANSFERABLE, is_untransferable};

use lexer::Lexer;
use statement::Statement;

/// What of a session changes how its texts are cut into words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    pub ansi_quotes: bool,
    pub no_backslash_escapes: bool,
    /// `[` begins a quoted name, or may: such a text is not read.
    pub brackets: bool,
    /// Bytes beyond ASCII may be white space, as in latin1: a text with one of those outside of quotes is not read.
    pub spaces: bool,
}

/// Whether letters of this character set may hold bytes that look like quotes or backslashes.
pub fn splits_letters(character_set: &[u8]) -> bool {
    [b"big5".as_slice(), b"cp932", b"gb18030", b"gbk", b"sjis"]
        .iter()
        .any(|name| name.eq_ignore_ascii_case(character_set))
}

/// Reads one text as it streams past.
#[derive(Debug)]
pub struct Reader {
    lexer: Lexer,
    statement: Statement,
}

impl Reader {
    pub fn new(modes: Modes) -> Self {
        Self { lexer: Lexer::new(modes), statement: Statement::new(modes.brackets) }
    }

    /// Takes the next bytes of the text.
    pub fn feed(&mut self, piece: &[u8]) {
        self.lexer.feed(piece, &mut self.statement);
    }

    /// The text is complete: the effects of all its statements together.
    pub fn finish(mut self) -> Effects {
        self.lexer.finish(&mut self.statement);
        self.statement.effects
    }
}

/// The effects of a whole text.
pub fn effects(text: &[u8], modes: Modes) -> Effects {
    let mut reader = Reader::new(modes);
    reader.feed(text);
    reader.finish()
}

#[cfg(test)]
mod cases;
