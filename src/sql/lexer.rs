//! Bytes to tokens, as they stream past: words, quoted texts, variables and marks go to a [`Statement`],
//! comments and white space nowhere.
//!
//! Between two pieces it keeps where it stands and, of a token that was cut, no more than a keyword needs; a
//! whole name only where one is wanted. Sources: MySQL "Language Structure" and "Comments", MariaDB "Comment
//! Syntax"; where these are silent, `sql_lex.cc` of both.

use memchr::{memchr, memchr2, memchr3};

use super::Modes;
use super::effect::Effect;
use super::keyword::LONGEST;
use super::statement::{NAME_BYTES_MAX, Statement};

/// Where the next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Between,
    Word,
    Quoted(Quote),
    /// Behind a backslash.
    Escape(Quote),
    /// Behind a quote that is the end, or the first half of one.
    Closing(Quote),
    /// Behind `-`, `--`, `/`
    Dash,
    DashDash,
    Slash,
    /// Behind `/*`, `/*M`
    Opening,
    OpeningM,
    /// Behind `/*!`, with so many digits of a version.
    Version(u8),
    Comment,
    /// Behind `*` in a comment.
    CommentStar,
    /// In a comment up to the end of the line.
    Line,
    /// Behind `*` in an executable comment.
    Star,
    /// Behind `@`.
    At,
    UserVariable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quote {
    byte: u8,
    of: Quoted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quoted {
    Literal,
    Name,
    UserVariable,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Space,
    Word,
    Mark,
    Special,
}

static CLASSES: [Class; 256] = {
    let mut classes = [Class::Mark; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => Class::Space,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'$' | 0x80.. => Class::Word,
            b'\'' | b'"' | b'`' | b'-' | b'/' | b'*' | b'#' | b'@' => Class::Special,
            _ => Class::Mark,
        };
        byte += 1;
    }
    classes
};

fn class(byte: u8) -> Class {
    CLASSES[usize::from(byte)]
}

/// The no-break space of latin1 and its like, of cp852, cp866 and keybcs2: white space to servers.
const SPACES: [u8; 2] = [0xa0, 0xff];

/// Digits of a version in an executable comment.
const VERSION_DIGITS: u8 = 6;

/// Bytes within quotes that are looked at one by one.
const SHORT: usize = 16;

#[derive(Debug)]
pub(super) struct Lexer {
    scrap: Scrap,
    place: Place,
    modes: Modes,
    /// Within an executable comment.
    comment: bool,
}

impl Lexer {
    pub fn new(modes: Modes) -> Self {
        Self { scrap: Scrap::default(), place: Place::Between, modes, comment: false }
    }

    pub fn feed(&mut self, mut piece: &[u8], statement: &mut Statement) {
        while let Some(&byte) = piece.first() {
            piece = match self.place {
                Place::Between => self.between(piece, statement),
                Place::Word => self.rest_of_word(piece, statement),
                Place::UserVariable => self.user_variable(piece, statement),
                Place::Quoted(quote) => self.quoted(piece, quote, statement),
                Place::Comment => self.comment(piece),
                Place::Line => self.line(piece, statement),
                _ => {
                    let taken = self.takes(byte, statement);
                    &piece[usize::from(taken)..]
                }
            };
        }
    }

    /// Everything up to a token that needs more than its first byte to be known.
    fn between<'p>(&mut self, piece: &'p [u8], statement: &mut Statement) -> &'p [u8] {
        let mut at = 0;
        while let Some(&byte) = piece.get(at) {
            match class(byte) {
                Class::Space => at += 1,
                Class::Word => {
                    let end = at + word_length(&piece[at..]);
                    if end == piece.len() {
                        self.place = Place::Word;
                        self.look_for_space(&piece[at..], statement);
                        self.scrap.push(&piece[at..], statement.wants_text());
                        return &[];
                    }
                    self.look_for_space(&piece[at..end], statement);
                    word(Some(&piece[at..end]), statement);
                    at = end;
                }
                Class::Mark => {
                    statement.mark(byte);
                    at += 1;
                }
                Class::Special => {
                    at += 1;
                    self.special(byte, statement);
                    if self.place != Place::Between {
                        return &piece[at..];
                    }
                }
            }
        }
        &[]
    }

    fn special(&mut self, byte: u8, statement: &mut Statement) {
        self.place = match byte {
            b'\'' => Place::Quoted(Quote { byte, of: Quoted::Literal }),
            b'`' => Place::Quoted(Quote { byte, of: Quoted::Name }),
            b'"' => {
                if statement.modes_in_doubt {
                    statement.effects.add(Effect::Unreadable);
                }
                let of = if self.modes.ansi_quotes { Quoted::Name } else { Quoted::Literal };
                Place::Quoted(Quote { byte, of })
            }
            b'-' => Place::Dash,
            b'/' => Place::Slash,
            b'#' => Place::Line,
            b'@' => Place::At,
            _ if self.comment => Place::Star,
            _ => {
                statement.mark(byte);
                Place::Between
            }
        };
    }

    /// Within a word there may be white space that only servers see, in some character sets.
    #[inline]
    fn look_for_space(&self, word: &[u8], statement: &mut Statement) {
        if self.modes.spaces && word.iter().any(|byte| SPACES.contains(byte)) {
            statement.effects.add(Effect::Unreadable);
        }
    }

    fn rest_of_word<'p>(&mut self, piece: &'p [u8], statement: &mut Statement) -> &'p [u8] {
        let end = word_length(piece);
        self.look_for_space(&piece[..end], statement);
        self.scrap.push(&piece[..end], statement.wants_text());
        if end < piece.len() {
            self.end_word(statement);
        }
        &piece[end..]
    }

    fn end_word(&mut self, statement: &mut Statement) {
        self.place = Place::Between;
        word(self.scrap.text(), statement);
        self.scrap.clear();
    }

    /// `@` is read, and a part of the name perhaps.
    fn user_variable<'p>(&mut self, piece: &'p [u8], statement: &mut Statement) -> &'p [u8] {
        let ends = |&byte: &u8| class(byte) != Class::Word && byte != b'.';
        let end = piece.iter().position(ends).unwrap_or(piece.len());
        self.look_for_space(&piece[..end], statement);
        self.scrap.push(&piece[..end], true);
        if end < piece.len() {
            self.end_user_variable(statement);
        }
        &piece[end..]
    }

    fn end_user_variable(&mut self, statement: &mut Statement) {
        self.place = Place::Between;
        statement.user_variable(self.scrap.text());
        self.scrap.clear();
    }

    fn quoted<'p>(&mut self, piece: &'p [u8], quote: Quote, statement: &mut Statement) -> &'p [u8] {
        let Some(at) = self.end_of_run(piece, quote) else {
            self.keep(piece, quote, statement);
            return &[];
        };
        let closes = piece[at] == quote.byte;
        let whole = closes && piece.get(at + 1).is_some_and(|&next| next != quote.byte);
        if whole && self.scrap.is_empty() {
            self.place = Place::Between;
            give(quote.of, Some(&piece[..at]), statement);
            return &piece[at + 1..];
        }
        self.keep(&piece[..at], quote, statement);
        if closes {
            self.place = Place::Closing(quote);
        } else if piece[at] == b'\\' {
            self.place = Place::Escape(quote);
            if statement.modes_in_doubt {
                statement.effects.add(Effect::Unreadable);
            }
        } else {
            // A server that does not run this comment sees no quotes in it, and perhaps its end here.
            statement.effects.add(Effect::Unreadable);
            self.keep(b"*", quote, statement);
        }
        &piece[at + 1..]
    }

    /// The next byte within quotes that is not simply part of the text.
    #[inline]
    fn end_of_run(&self, piece: &[u8], quote: Quote) -> Option<usize> {
        // Most quoted texts are shorter than it takes to set up a search by the vector.
        let (near, far) = piece.split_at(piece.len().min(SHORT));
        let ends = |&byte: &u8| byte == quote.byte || byte == b'\\' || byte == b'*';
        match near.iter().position(ends) {
            Some(at) if near[at] == quote.byte => Some(at),
            Some(at) => self.search(&piece[at..], quote).map(|end| at + end),
            None => self.search(far, quote).map(|end| near.len() + end),
        }
    }

    fn search(&self, piece: &[u8], quote: Quote) -> Option<usize> {
        match (self.escapes(quote), self.comment) {
            (true, false) => memchr2(quote.byte, b'\\', piece),
            (false, false) => memchr(quote.byte, piece),
            (true, true) => memchr3(quote.byte, b'\\', b'*', piece),
            (false, true) => memchr2(quote.byte, b'*', piece),
        }
    }

    fn escapes(&self, quote: Quote) -> bool {
        let literal = quote.byte == b'\'' || (quote.byte == b'"' && !self.modes.ansi_quotes);
        literal && !self.modes.no_backslash_escapes
    }

    fn keep(&mut self, text: &[u8], quote: Quote, statement: &Statement) {
        let whole = quote.of == Quoted::UserVariable || statement.wants_text();
        if whole || quote.of == Quoted::Name {
            self.scrap.push(text, whole);
        }
    }

    fn close(&mut self, quote: Quote, statement: &mut Statement) {
        self.place = Place::Between;
        give(quote.of, self.scrap.text(), statement);
        self.scrap.clear();
    }

    fn comment<'p>(&mut self, piece: &'p [u8]) -> &'p [u8] {
        let Some(at) = memchr(b'*', piece) else { return &[] };
        self.place = Place::CommentStar;
        &piece[at + 1..]
    }

    fn line<'p>(&mut self, piece: &'p [u8], statement: &mut Statement) -> &'p [u8] {
        let end = memchr(b'\n', piece);
        let (line, rest) = piece.split_at(end.unwrap_or(piece.len()));
        if self.comment && memchr(b'*', line).is_some() {
            statement.effects.add(Effect::Unreadable);
        }
        if end.is_some() {
            self.place = Place::Between;
        }
        rest
    }

    /// A place where one byte decides. Whether that byte is used up.
    fn takes(&mut self, byte: u8, statement: &mut Statement) -> bool {
        match self.place {
            Place::Escape(quote) => {
                self.keep(unescaped(&byte), quote, statement);
                self.place = Place::Quoted(quote);
                true
            }
            Place::Closing(quote) if byte == quote.byte => {
                self.keep(&[byte], quote, statement);
                self.place = Place::Quoted(quote);
                true
            }
            Place::Closing(quote) => {
                self.close(quote, statement);
                false
            }
            Place::At => self.behind_at(byte, statement),
            Place::Dash | Place::DashDash => self.behind_dash(byte, statement),
            _ => self.behind_slash_or_star(byte, statement),
        }
    }

    fn behind_at(&mut self, byte: u8, statement: &mut Statement) -> bool {
        match byte {
            b'@' => {
                statement.system();
                self.place = Place::Between;
                true
            }
            b'\'' | b'"' | b'`' => {
                self.place = Place::Quoted(Quote { byte, of: Quoted::UserVariable });
                true
            }
            _ => {
                self.place = Place::UserVariable;
                false
            }
        }
    }

    fn behind_dash(&mut self, byte: u8, statement: &mut Statement) -> bool {
        let second = self.place == Place::DashDash;
        if second && (byte <= b' ' || byte == 0x7f) {
            self.place = Place::Line;
            return false;
        }
        if second {
            statement.mark(b'-');
        }
        if byte == b'-' {
            self.place = Place::DashDash;
            return true;
        }
        statement.mark(b'-');
        self.place = Place::Between;
        false
    }

    fn behind_slash_or_star(&mut self, byte: u8, statement: &mut Statement) -> bool {
        let (next, taken) = match (self.place, byte) {
            (Place::Slash, b'*') => (Place::Opening, true),
            (Place::Slash, _) => {
                statement.mark(b'/');
                (Place::Between, false)
            }
            (Place::Opening | Place::OpeningM, b'!') => {
                self.comment = true;
                statement.comment_begins();
                (Place::Version(0), true)
            }
            (Place::Opening, b'M') => (Place::OpeningM, true),
            (Place::Opening | Place::OpeningM, _) => (Place::Comment, false),
            (Place::Version(digits), b'0'..=b'9') if digits < VERSION_DIGITS => {
                (Place::Version(digits + 1), true)
            }
            (Place::CommentStar, b'/') => (Place::Between, true),
            (Place::CommentStar, b'*') => (Place::CommentStar, true),
            (Place::CommentStar, _) => (Place::Comment, true),
            (Place::Star, b'/') => {
                self.comment = false;
                statement.comment_ends();
                (Place::Between, true)
            }
            (Place::Star, _) => {
                statement.mark(b'*');
                (Place::Between, false)
            }
            _ => (Place::Between, false),
        };
        self.place = next;
        taken
    }

    /// The text ends.
    pub fn finish(&mut self, statement: &mut Statement) {
        match self.place {
            Place::Word => self.end_word(statement),
            Place::At | Place::UserVariable => self.end_user_variable(statement),
            Place::Closing(quote) => self.close(quote, statement),
            Place::Dash => statement.mark(b'-'),
            Place::Slash => statement.mark(b'/'),
            Place::Star => statement.mark(b'*'),
            Place::Quoted(_) | Place::Escape(_) => statement.effects.add(Effect::Unreadable),
            Place::Opening | Place::OpeningM | Place::Comment | Place::CommentStar => {
                statement.effects.add(Effect::Unreadable);
            }
            Place::Between | Place::DashDash | Place::Version(_) | Place::Line => {}
        }
        if self.comment {
            statement.effects.add(Effect::Unreadable);
        }
        statement.end();
    }
}

fn word_length(text: &[u8]) -> usize {
    text.iter().position(|&byte| class(byte) != Class::Word).unwrap_or(text.len())
}

fn word(text: Option<&[u8]>, statement: &mut Statement) {
    // `$$` or `$tag$` quotes a stored program in another language.
    let dollar = |text: &[u8]| text[0] == b'$' && text.len() <= LONGEST && text[1..].contains(&b'$');
    if text.is_some_and(dollar) {
        statement.effects.add(Effect::Unreadable);
    }
    statement.word(text);
}

fn give(quoted: Quoted, text: Option<&[u8]>, statement: &mut Statement) {
    match quoted {
        Quoted::Literal => statement.literal(text),
        Quoted::Name => statement.name(text),
        Quoted::UserVariable => statement.user_variable(text),
    }
}

/// What a byte behind a backslash stands for.
pub fn unescaped(byte: &u8) -> &[u8] {
    match byte {
        b'n' => b"\n",
        b't' => b"\t",
        b'r' => b"\r",
        b'b' => b"\x08",
        b'0' => b"\0",
        b'Z' => b"\x1a",
        b'%' => b"\\%",
        b'_' => b"\\_",
        _ => std::slice::from_ref(byte),
    }
}

/// What was read of a token that came in several parts.
#[derive(Debug, Default)]
struct Scrap {
    long: Vec<u8>,
    short: [u8; LONGEST],
    length: u8,
    /// It had more than there is place for.
    cut: bool,
}

impl Scrap {
    /// Adds a part; beyond the longest keyword only if the `whole` is wanted.
    fn push(&mut self, part: &[u8], whole: bool) {
        let length = usize::from(self.length);
        if self.long.is_empty() && length + part.len() <= LONGEST {
            self.short[length..length + part.len()].copy_from_slice(part);
            self.length += part.len() as u8;
        } else if whole && length + self.long.len() + part.len() <= NAME_BYTES_MAX {
            self.long.extend_from_slice(&self.short[..length]);
            self.long.extend_from_slice(part);
            self.length = 0;
        } else {
            self.cut = true;
        }
    }

    fn is_empty(&self) -> bool {
        self.length == 0 && self.long.is_empty() && !self.cut
    }

    fn text(&self) -> Option<&[u8]> {
        let text = if self.long.is_empty() { &self.short[..usize::from(self.length)] } else { &self.long };
        (!self.cut).then_some(text)
    }

    fn clear(&mut self) {
        self.long.clear();
        (self.length, self.cut) = (0, false);
    }
}
