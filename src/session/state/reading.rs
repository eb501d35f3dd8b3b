//! One text of SQL as it passes: its effects, how it begins, and a copy where one is wanted.
//!
//! Made once for a session and used again for each text, so that ordinary statements allocate nothing. Any split of the bytes
//! gives the same result.

use super::context::{Context, Doubt};
use super::preamble::{self, PREAMBLE_MAX, Start};
use crate::sql::{Effect, Effects, Reader};

/// Bytes of a text's beginning that are looked at, after white space.
const OPENING: usize = 24;

/// What of a text shall be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Up to so many bytes.
    Any(usize),
    /// Only what begins with PREPARE.
    Prepare(usize),
    /// Only what begins with SET.
    Set(usize),
}

pub struct Reading {
    reader: Reader,
    doubt: Doubt,
    /// The text has not begun yet.
    ahead: bool,
    /// There are query attributes before it.
    attributes: bool,
    /// What came before the text, if that came in pieces.
    preamble: Vec<u8>,
    opening: [u8; OPENING],
    opened: u8,
    unreadable: bool,
    keep: Keep,
    kept: Option<Vec<u8>>,
}

/// A text that was read to its end.
#[derive(Debug)]
pub struct Text {
    /// With [`Effect::Unreadable`] if it cannot be said with certainty what it is.
    pub effects: Effects,
    /// One SET statement alone, and not SET STATEMENT.
    pub plain_set: bool,
    /// Its copy; none where none was wanted or it is too long.
    pub kept: Option<Vec<u8>>,
}

impl Reading {
    pub fn new(context: &Context) -> Self {
        Self {
            reader: Reader::new(context.modes()),
            doubt: Doubt::default(),
            ahead: false,
            attributes: false,
            preamble: Vec::new(),
            opening: [0; OPENING],
            opened: 0,
            unreadable: false,
            keep: Keep::Any(0),
            kept: None,
        }
    }

    pub fn begin(&mut self, context: &Context, doubt: Doubt, attributes: bool, keep: Keep) {
        self.reader = Reader::new(context.modes());
        self.doubt = doubt;
        (self.ahead, self.attributes) = (true, attributes);
        self.preamble.clear();
        (self.opened, self.unreadable) = (0, false);
        self.keep = keep;
        self.kept = matches!(keep, Keep::Any(_)).then(Vec::new);
    }

    pub fn feed(&mut self, mut piece: &[u8]) {
        if self.ahead {
            let Some(text) = self.behind_preamble(piece) else { return };
            piece = text;
        }
        self.unreadable |= self.doubt.applies(piece);
        let unopened = self.open(piece);
        self.copy(piece, unopened);
        self.reader.feed(piece);
    }

    /// What of `piece` belongs to the text; none as long as that has not begun.
    fn behind_preamble<'p>(&mut self, piece: &'p [u8]) -> Option<&'p [u8]> {
        if self.preamble.is_empty()
            && let Start::At(at) = preamble::start(piece, self.attributes)
        {
            self.ahead = false;
            return Some(&piece[at..]);
        }
        let before = self.preamble.len();
        self.preamble.extend_from_slice(&piece[..piece.len().min(PREAMBLE_MAX - before)]);
        let Start::At(at) = preamble::start(&self.preamble, self.attributes) else { return None };
        self.ahead = false;
        Some(&piece[at - before..])
    }

    /// Fills the opening; the bytes of `piece` that had no place in it.
    fn open<'p>(&mut self, piece: &'p [u8]) -> &'p [u8] {
        let mut rest = piece;
        while usize::from(self.opened) < OPENING {
            let Some((&byte, after)) = rest.split_first() else { break };
            rest = after;
            if self.opened > 0 || !byte.is_ascii_whitespace() {
                self.opening[usize::from(self.opened)] = byte;
                self.opened += 1;
                if usize::from(self.opened) == OPENING && self.is_wanted() {
                    self.kept = Some(self.opening.to_vec());
                }
            }
        }
        rest
    }

    /// Whether it begins with what shall be kept.
    fn is_wanted(&self) -> bool {
        let word: &[u8] = match self.keep {
            Keep::Any(_) => return false,
            Keep::Prepare(_) => b"PREPARE",
            Keep::Set(_) => b"SET",
        };
        self.words().0.eq_ignore_ascii_case(word)
    }

    fn copy(&mut self, piece: &[u8], unopened: &[u8]) {
        let (limit, piece) = match self.keep {
            Keep::Any(limit) => (limit, piece),
            Keep::Prepare(limit) | Keep::Set(limit) => (limit, unopened),
        };
        let Some(kept) = &mut self.kept else { return };
        if kept.len() + piece.len() > limit {
            self.kept = None;
            self.keep = Keep::Any(0);
        } else {
            kept.extend_from_slice(piece);
        }
    }

    /// The first two words, as far as they are seen.
    fn words(&self) -> (&[u8], &[u8]) {
        let mut words = self.opening[..usize::from(self.opened)].split(|byte| byte.is_ascii_whitespace());
        let first = words.next().unwrap_or_default();
        (first, words.find(|word| !word.is_empty()).unwrap_or_default())
    }

    pub fn finish(&mut self, context: &Context) -> Text {
        if self.kept.is_none() && usize::from(self.opened) < OPENING && self.is_wanted() {
            self.kept = Some(self.opening[..usize::from(self.opened)].to_vec());
        }
        let reader = std::mem::replace(&mut self.reader, Reader::new(context.modes()));
        let mut effects = reader.finish();
        if self.unreadable || self.ahead {
            effects.add(Effect::Unreadable);
        }
        let plain_set = self.begins_as_set()
            && ![Effect::Several, Effect::Unreadable].into_iter().any(|effect| effects.has(effect));
        Text { effects, plain_set, kept: self.kept.take() }
    }

    /// SET and what can be set, but not SET STATEMENT.
    fn begins_as_set(&self) -> bool {
        let (first, second) = self.words();
        let named = second.first().is_some_and(|byte| byte.is_ascii_alphabetic() || b"@`_".contains(byte));
        let statement =
            b"STATEMENT".get(..second.len()).is_some_and(|word| word.eq_ignore_ascii_case(second));
        first.eq_ignore_ascii_case(b"SET") && named && !statement
    }
}
