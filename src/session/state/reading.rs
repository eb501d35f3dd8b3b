//! One text of SQL as it passes: its effects, how it begins, and a copy where one is wanted.
//!
//! Made once for a session and used again for each text, so that ordinary statements allocate nothing. Any split of the bytes
//! gives the same result.

use memchr::{memchr, memchr2};

use super::context::{Context, Doubt};
use crate::sql::{Effects, Reader};

/// Bytes of a text's beginning that are looked at, after white space.
const OPENING: usize = 24;

/// What of a text shall be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Up to so many bytes.
    Any(usize),
    /// Only what begins with PREPARE.
    Prepare(usize),
}

/// Which bytes stand before the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preamble {
    /// The command byte.
    Command,
    /// MySQL's query attributes: their number, and that of sets of them.
    Attributes,
}

pub struct Reading {
    reader: Reader,
    doubt: Doubt,
    /// Bytes of the preamble still to come.
    ahead: u8,
    preamble: Preamble,
    opening: [u8; OPENING],
    opened: u8,
    unreadable: bool,
    semicolon: bool,
    keep: Keep,
    kept: Option<Vec<u8>>,
}

/// A text that was read to its end.
#[derive(Debug)]
pub struct Text {
    pub effects: Effects,
    /// It cannot be said with certainty what it is.
    pub unreadable: bool,
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
            ahead: 0,
            preamble: Preamble::Command,
            opening: [0; OPENING],
            opened: 0,
            unreadable: false,
            semicolon: false,
            keep: Keep::Any(0),
            kept: None,
        }
    }

    pub fn begin(&mut self, context: &Context, doubt: Doubt, preamble: Preamble, keep: Keep) {
        self.reader = Reader::new(context.modes());
        self.doubt = doubt;
        self.preamble = preamble;
        self.ahead = if preamble == Preamble::Command { 1 } else { 3 };
        (self.opened, self.unreadable, self.semicolon) = (0, false, false);
        self.keep = keep;
        self.kept = matches!(keep, Keep::Any(_)).then(Vec::new);
    }

    pub fn feed(&mut self, mut piece: &[u8]) {
        while self.ahead > 0 {
            let Some((&byte, rest)) = piece.split_first() else { return };
            // Of attributes only their absence is known: none of them, in one set.
            self.unreadable |= match (self.preamble, self.ahead) {
                (Preamble::Attributes, 2) => byte != 0,
                (Preamble::Attributes, 1) => byte != 1,
                _ => false,
            };
            self.ahead -= 1;
            piece = rest;
        }
        self.look(piece);
        let unopened = self.open(piece);
        self.copy(piece, unopened);
        self.reader.feed(piece);
    }

    /// Looks for bytes that matter wherever they stand.
    fn look(&mut self, piece: &[u8]) {
        self.unreadable |= self.doubt.quotes && memchr2(b'"', b'\\', piece).is_some();
        self.unreadable |= self.doubt.letters && !piece.is_ascii();
        self.semicolon = self.semicolon || memchr(b';', piece).is_some();
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
                if usize::from(self.opened) == OPENING && self.wants_prepare() {
                    self.kept = Some(self.opening.to_vec());
                }
            }
        }
        rest
    }

    fn wants_prepare(&self) -> bool {
        matches!(self.keep, Keep::Prepare(_)) && self.words().0.eq_ignore_ascii_case(b"PREPARE")
    }

    fn copy(&mut self, piece: &[u8], unopened: &[u8]) {
        let (limit, piece) = match self.keep {
            Keep::Any(limit) => (limit, piece),
            Keep::Prepare(limit) => (limit, unopened),
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
        if self.kept.is_none() && usize::from(self.opened) < OPENING && self.wants_prepare() {
            self.kept = Some(self.opening[..usize::from(self.opened)].to_vec());
        }
        let reader = std::mem::replace(&mut self.reader, Reader::new(context.modes()));
        let plain_set = self.is_plain_set();
        Text {
            effects: reader.finish(),
            unreadable: self.unreadable || self.ahead > 0,
            plain_set,
            kept: self.kept.take(),
        }
    }

    fn is_plain_set(&self) -> bool {
        let (first, second) = self.words();
        let named = second.first().is_some_and(|byte| byte.is_ascii_alphabetic() || b"@`_".contains(byte));
        let statement =
            b"STATEMENT".get(..second.len()).is_some_and(|word| word.eq_ignore_ascii_case(second));
        first.eq_ignore_ascii_case(b"SET") && named && !statement && !self.semicolon
    }
}
