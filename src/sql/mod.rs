//! How little SQL is read: which effects a text may have on its session.
//!
//! A stand-in with the interface of the real one: it gathers the text and looks at its words.

mod effect;

pub use effect::{Effect, Effects, Named};

/// The parts of `sql_mode` that change how a text is cut into words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    pub ansi_quotes: bool,
    pub no_backslash_escapes: bool,
}

/// Reads one text as it streams past.
#[derive(Debug)]
pub struct Reader {
    modes: Modes,
    text: Vec<u8>,
}

impl Reader {
    pub fn new(modes: Modes) -> Self {
        Self { modes, text: Vec::new() }
    }

    pub fn feed(&mut self, piece: &[u8]) {
        self.text.extend_from_slice(piece);
    }

    pub fn finish(self) -> Effects {
        effects(&self.text, self.modes)
    }
}

/// The effects of a whole text.
pub fn effects(text: &[u8], _modes: Modes) -> Effects {
    let mut effects = Effects::default();
    let text = String::from_utf8_lossy(text).into_owned();
    for statement in text.split(';') {
        effect::read(statement.trim(), &mut effects);
    }
    effects
}
