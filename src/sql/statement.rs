//! What the words of a text mean for its session: takes the tokens one by one and gathers [`Effects`].
//!
//! It knows how the statements begin that matter, and follows them as far as their names. Of all others it
//! looks at functions and variables only. It is no parser: a text that no server would take may have any
//! effects. Two rules keep it on the safe side:
//!
//! - What takes something counts wherever it stands. What lets go counts only where it surely runs: not in an
//!   executable comment, not in compound statements; a function neither behind FROM, WHERE and the like.
//! - Of an executable comment it is not known whether the server runs it. So the first word behind one that
//!   begins a statement may begin the statement too.

mod call;
mod follow;

use super::effect::{Effect, Effects, SEPARATOR};
use super::keyword::{self, Key};
use super::set::Set;
use super::variable::Scope;

/// Bytes of the longest name that is read: 64 letters of up to 4 bytes, with a qualifier.
pub const NAME_BYTES_MAX: usize = 513;
/// Bytes of a name with its qualifiers and what stands between them.
const QUALIFIED_MAX: usize = 2 * NAME_BYTES_MAX + 1;

/// What the next token may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// The statement's first word.
    #[default]
    Verb,
    /// Behind EXPLAIN: the first word of what is explained, after its options.
    Explained,
    /// The statement began with an unknown word, perhaps a label.
    Label,
    /// Nothing that matters here.
    Rest,
    /// Behind a BEGIN: of a transaction if nothing comes, else of a block. Or behind the first semicolon of a
    /// stored program.
    Begin,
    /// Behind WITH: its tables, and then a statement.
    With,
    Create,
    CreateTemporary,
    CreateName,
    CreateNext,
    /// What the table is made of.
    CreateBody,
    /// A stored program, up to the first semicolon, which may end it or not.
    Body,
    Drop,
    DropName,
    DropNext,
    HandlerName,
    HandlerVerb,
    HandlerAlias,
    PrepareName,
    PrepareFrom,
    PrepareSource,
    PrepareEnd,
    ExecuteName,
    DeallocateWord,
    DeallocateName,
    Lock,
    Unlock,
    Flush,
    Backup,
    Show,
    Grant,
    /// ALTER: what it is about.
    Alter,
    AlterTable,
    /// Behind ALTER TABLE .. RENAME.
    AlterRename,
    Rename,
    Rollback,
    Xa,
    Set(Set),
}

/// A call of a user lock's function, up to the token behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Call {
    #[default]
    None,
    /// Its first argument comes.
    Argument(Key),
    /// That was a literal.
    Literal(Key),
    /// Its other arguments.
    More,
    Closed(Key),
}

/// What waits for the very next token.
const CALL: u8 = 1;
/// Whether LAST_INSERT_ID( has an argument.
const LAST_INSERT_ID: u8 = 2;
/// The next word may begin the statement, for what came before was in an executable comment.
const AGAIN: u8 = 4;
/// CREATE OR REPLACE.
const REPLACING: u8 = 1;
/// The statement may run only some of its functions.
const DOUBT: u8 = 2;
/// It is a SELECT or a DO.
const CALLS: u8 = 4;
const RELEASES_ALL: u8 = 8;
/// SET STATEMENT .. FOR.
pub(super) const FOR: u8 = 16;
/// It sets `sql_mode`.
pub(super) const SETS_MODE: u8 = 32;
/// It holds an executable comment.
const COMMENTED: u8 = 64;
/// A qualifier has been read, and its dot.
pub(super) const QUALIFIED: u8 = 128;

/// Reads the tokens of one text.
#[derive(Debug, Default)]
pub(super) struct Statement {
    pub effects: Effects,
    /// The name that is being read.
    pub subject: Box<[u8]>,
    pub phase: Phase,
    prev: Prev,
    call: Call,
    pub depth: u16,
    alert: u8,
    /// About this statement.
    pub flags: u8,
    /// Within an executable comment, and whether one stood where the statement begins.
    comment: bool,
    began_in_comment: bool,
    /// An earlier statement of this text has set `sql_mode`.
    pub modes_in_doubt: bool,
    /// `[` may be a quote.
    brackets: bool,
    /// A statement of this text has begun, and one has ended.
    begun: bool,
    ended: bool,
}

/// The two tokens before.
#[derive(Clone, Copy, Debug)]
struct Prev {
    last: Key,
    before: Key,
}

impl Default for Prev {
    fn default() -> Self {
        Self { last: Key::Begin, before: Key::Begin }
    }
}

impl Prev {
    /// What comes is not a word by itself.
    #[inline]
    fn qualifies(self) -> bool {
        matches!(self.last, Key::Dot | Key::System)
    }

    #[inline]
    fn shift(&mut self, key: Key) {
        *self = Self { last: key, before: self.last };
    }
}

/// A token with a text: a word, a quoted name, a literal. None: longer than any name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Token<'a> {
    Word(Key, Option<&'a [u8]>),
    Name(Option<&'a [u8]>),
    Literal,
}

impl<'a> Token<'a> {
    pub fn key(self) -> Key {
        match self {
            Self::Word(key, _) => key,
            _ => Key::Quoted,
        }
    }

    /// The text of what may be a name.
    pub fn name(self) -> Option<&'a [u8]> {
        match self {
            Self::Word(_, name) | Self::Name(name) => name.filter(fits),
            Self::Literal => None,
        }
    }
}

fn fits(name: &&[u8]) -> bool {
    name.len() <= NAME_BYTES_MAX
}

impl Statement {
    pub fn new(brackets: bool) -> Self {
        Self { brackets, ..Self::default() }
    }

    /// Whether the next token's text is of interest, and not only which word it is.
    pub fn wants_text(&self) -> bool {
        use Phase as P;
        match self.phase {
            P::CreateName | P::DropName | P::HandlerName | P::HandlerAlias => true,
            P::PrepareName | P::ExecuteName | P::DeallocateName => true,
            P::Set(set) => set.wants_text(),
            _ => matches!(self.call, Call::Argument(_)),
        }
    }

    #[inline]
    pub fn word(&mut self, text: Option<&[u8]>) {
        let key = text.map_or(Key::Other, keyword::find);
        if !self.at_rest() || (key != Key::Other && self.prev.qualifies()) {
            return self.known_word(key, text);
        }
        if key != Key::Other {
            self.anywhere(key);
        }
        self.prev.shift(key);
    }

    /// Whether nothing but what matters anywhere matters here.
    #[inline]
    fn at_rest(&self) -> bool {
        matches!(self.phase, Phase::Rest) && self.alert == 0 && !self.effects.has(Effect::Routine)
    }

    fn known_word(&mut self, mut key: Key, text: Option<&[u8]>) {
        if self.prev.last == Key::Dot {
            // A column, or a sequence's value as Oracle writes it.
            match key {
                Key::Currval => self.effects.add(Effect::LastValue),
                Key::NextValue => self.effects.add(Effect::NextValue),
                _ => {}
            }
            key = self.system_variable(key);
        } else if self.prev.last == Key::System {
            key = self.system_variable(key);
        }
        if self.alert != 0 {
            self.heed(key);
        }
        self.anywhere(key);
        self.token(Token::Word(key, text));
        self.prev.shift(key);
    }

    /// What a word means wherever it stands.
    fn anywhere(&mut self, key: Key) {
        match key {
            Key::SqlCalcFoundRows => self.effects.add(Effect::FoundRows),
            Key::Value if self.prev.last == Key::Next => self.effects.add(Effect::NextValue),
            Key::Value if self.prev.last == Key::Previous => self.effects.add(Effect::LastValue),
            Key::And | Key::Or | Key::Case | Key::If | Key::Union | Key::Fetch => self.flags |= DOUBT,
            Key::From | Key::Where | Key::Having | Key::Limit => {
                if key == Key::From && self.flags & CALLS != 0 && self.depth == 0 && !self.comment {
                    self.effects.add(Effect::Tables);
                }
                self.flags |= DOUBT;
            }
            _ => {}
        }
    }

    /// A word of `@@word`, or one behind a dot; only scopes are still words then.
    fn system_variable(&mut self, key: Key) -> Key {
        let of_system = self.prev.last == Key::System || self.prev.before == Key::System;
        match key {
            Key::Global | Key::Session | Key::Local if self.prev.last == Key::System => Key::System,
            _ if !of_system => Key::Other,
            Key::LeftBehind => {
                self.effects.add(Effect::AsksAboutLast);
                Key::Other
            }
            Key::PseudoThreadId => {
                self.effects.add(Effect::ConnectionId);
                Key::Other
            }
            _ => Key::Other,
        }
    }

    /// A name in quotes: no keyword, but perhaps a function or a system variable.
    pub fn name(&mut self, text: Option<&[u8]>) {
        let mut key = text.map_or(Key::Other, keyword::find);
        if self.prev.qualifies() {
            self.system_variable(key);
            key = Key::Quoted;
        } else if !key.is_function() {
            key = Key::Quoted;
        }
        if self.at_rest() {
            return self.prev.shift(key);
        }
        if self.alert != 0 {
            self.heed(key);
        }
        self.token(Token::Name(text));
        self.prev.shift(key);
    }

    /// A string. Its text is none if nobody wanted it.
    pub fn literal(&mut self, text: Option<&[u8]>) {
        if let (Call::Argument(function), Some(text)) = (self.call, text.filter(fits)) {
            self.call = Call::Literal(function);
            self.subject = text.into();
            self.prev.shift(Key::Quoted);
            return;
        }
        self.heed(Key::Quoted);
        self.token(Token::Literal);
        self.prev.shift(Key::Quoted);
    }

    /// `@name`; none if that is longer than any name.
    pub fn user_variable(&mut self, name: Option<&[u8]>) {
        self.heed(Key::Other);
        // Behind a quoted name it is the host of an account.
        if self.prev.last != Key::Quoted && self.phase != Phase::Body {
            match name.filter(fits) {
                Some(name) => self.effects.mention(Effect::UserVariable, name),
                None => {
                    self.effects.add(Effect::UserVariable);
                    self.effects.add(Effect::Unreadable);
                }
            }
        }
        match self.phase {
            Phase::Set(Set::First | Set::Item) => self.phase = Phase::Set(Set::Value),
            Phase::Set(set) => self.phase = Phase::Set(self.variable_in_set(set)),
            Phase::PrepareSource | Phase::PrepareEnd => self.token(Token::Word(Key::Other, None)),
            Phase::Begin => self.effects.add(Effect::Routine),
            _ => {}
        }
        self.prev.shift(Key::Other);
    }

    /// `@@`
    pub fn system(&mut self) {
        self.heed(Key::System);
        match self.phase {
            Phase::Set(set) if set.wants_text() => self.phase = Phase::Set(Set::Scoped(Scope::Once)),
            Phase::Set(set) => self.phase = Phase::Set(self.variable_in_set(set)),
            Phase::PrepareSource | Phase::PrepareEnd => self.token(Token::Word(Key::Other, None)),
            _ => {}
        }
        self.prev.shift(Key::System);
    }

    /// Any other byte that is no white space.
    #[inline]
    pub fn mark(&mut self, mark: u8) {
        if self.alert != 0 {
            self.heed_mark(mark);
        }
        let mut key = Key::Mark;
        match mark {
            b'(' => {
                if self.prev.last.is_function() {
                    self.call(self.prev.last);
                }
                self.depth = self.depth.saturating_add(1);
            }
            b')' => self.depth = self.depth.saturating_sub(1),
            b',' => key = Key::Comma,
            b'.' => key = Key::Dot,
            b';' => {
                // One without a statement before it is refused when those before have run.
                if self.ended {
                    self.effects.add(Effect::Several);
                }
                self.end();
                return self.effects.end_statement();
            }
            b'&' | b'|' => self.flags |= DOUBT,
            b'[' if self.brackets => self.effects.add(Effect::Unreadable),
            _ => {}
        }
        if !matches!(self.phase, Phase::Rest | Phase::Verb) {
            self.marked(mark);
        }
        if key == Key::Dot && self.prev.last == Key::System {
            // `@@session.`: what comes is still the name of a system variable.
            self.prev = Prev { last: Key::Dot, before: Key::System };
        } else {
            self.prev.shift(key);
        }
    }

    /// A mark where the phase may matter.
    fn marked(&mut self, mark: u8) {
        match (self.phase, mark) {
            (Phase::Label, b':') => self.phase = Phase::Verb,
            (Phase::Label, _) => self.phase = Phase::Rest,
            (Phase::Begin, _) => {
                self.effects.add(Effect::Routine);
                self.phase = Phase::Verb;
            }
            (Phase::CreateNext, b'.') => self.qualify(Phase::CreateName),
            (Phase::DropNext, b'.') => self.qualify(Phase::DropName),
            (Phase::HandlerVerb, b'.') => self.phase = Phase::HandlerName,
            (Phase::CreateName | Phase::CreateNext, _) => self.created(),
            (Phase::DropNext, _) => {
                self.dropped();
                self.phase = if mark == b',' { Phase::DropName } else { Phase::Rest };
            }
            (Phase::PrepareSource | Phase::PrepareEnd, _) => self.prepared(Effect::PreparesUnknown),
            (Phase::AlterRename, _) => self.end_with(Effect::RenamesTable),
            (Phase::Set(set), _) => self.set_mark(set, mark),
            _ => {}
        }
    }

    /// A dot behind a name: the rest of it comes.
    fn qualify(&mut self, name: Phase) {
        self.flags |= QUALIFIED;
        self.phase = name;
    }

    /// The name behind a qualifier, or the first part of one. One with more qualifiers than any server takes is not followed further.
    pub fn enter(&mut self, name: Option<&[u8]>) {
        let name = name.unwrap_or_default();
        if self.flags & QUALIFIED == 0 {
            self.subject = name.into();
        } else if self.subject.len() + name.len() < QUALIFIED_MAX {
            self.subject = [&*self.subject, &[SEPARATOR], name].concat().into();
        } else {
            self.effects.add(Effect::Unreadable);
        }
        self.flags &= !QUALIFIED;
    }

    fn token(&mut self, token: Token<'_>) {
        let key = token.key();
        if self.effects.has(Effect::Routine) && self.begins_in_block(key) {
            self.phase = Phase::Verb;
            return;
        }
        match self.phase {
            Phase::Rest | Phase::Body => {}
            Phase::Verb => self.begin(token),
            Phase::Explained => {
                if key.can_be_explained() {
                    self.begin(token);
                }
            }
            Phase::Label => self.phase = Phase::Rest,
            Phase::Begin if key == Key::Work => self.phase = Phase::Rest,
            Phase::Begin => {
                self.effects.add(Effect::Routine);
                self.begin(token);
            }
            Phase::With => {
                if self.depth == 0 && matches!(key, Key::Insert | Key::Replace) {
                    self.effects.add(Effect::Inserts);
                }
            }
            Phase::Set(set) => self.set_token(set, token),
            _ => self.follow(token),
        }
    }

    /// Outside of parentheses, and not in `NEXT VALUE FOR`.
    pub fn at_top(&self) -> bool {
        self.depth == 0 && self.prev.last != Key::Value
    }

    /// Whether a statement of a block comes behind this word.
    fn begins_in_block(&self, key: Key) -> bool {
        let opens = matches!(key, Key::Then | Key::Do | Key::Loop | Key::Repeat | Key::Atomic);
        opens || (key == Key::BeginWord && self.phase != Phase::Verb)
    }

    /// The first word of a statement.
    fn begin(&mut self, token: Token<'_>) {
        use Effect as E;
        if self.ended {
            self.effects.add(E::Several);
        }
        self.begun = true;
        let (effect, phase) = match token.key() {
            Key::Select | Key::Do => {
                self.flags |= CALLS;
                (None, Phase::Rest)
            }
            Key::Insert | Key::Replace | Key::Load => (Some(E::Inserts), Phase::Rest),
            Key::Set => (None, Phase::Set(Set::First)),
            Key::BeginWord => (None, Phase::Begin),
            Key::Explain | Key::Analyze => {
                self.flags |= DOUBT;
                (None, Phase::Explained)
            }
            Key::With => (None, Phase::With),
            Key::Call => {
                self.effects.add(E::Inserts);
                (Some(E::Routine), Phase::Rest)
            }
            Key::Case | Key::If | Key::While | Key::For | Key::Declare => (Some(E::Routine), Phase::Rest),
            Key::Loop | Key::Repeat => (Some(E::Routine), Phase::Verb),
            Key::Binlog => (Some(E::Routine), Phase::Rest),
            Key::Optimize => (Some(E::AltersTable), Phase::Rest),
            Key::Use => (Some(E::Uses), Phase::Rest),
            Key::Get => (Some(E::AsksAboutLast), Phase::Rest),
            Key::Commit => {
                self.let_go(E::EndsTransaction);
                (None, Phase::Rest)
            }
            key => (None, Self::first_phase(key)),
        };
        if let Some(effect) = effect {
            self.effects.add(effect);
        }
        self.phase = phase;
    }

    /// What follows the first word of a statement that has no effect by that word alone.
    fn first_phase(key: Key) -> Phase {
        match key {
            Key::Create => Phase::Create,
            Key::Drop => Phase::Drop,
            Key::Handler => Phase::HandlerName,
            Key::Prepare => Phase::PrepareName,
            Key::Execute => Phase::ExecuteName,
            Key::Deallocate => Phase::DeallocateWord,
            Key::Lock => Phase::Lock,
            Key::Unlock => Phase::Unlock,
            Key::Flush => Phase::Flush,
            Key::Backup => Phase::Backup,
            Key::Show => Phase::Show,
            Key::Grant => Phase::Grant,
            Key::Alter => Phase::Alter,
            Key::Rename => Phase::Rename,
            Key::Rollback => Phase::Rollback,
            Key::Xa => Phase::Xa,
            Key::Other | Key::Quoted => Phase::Label,
            _ => Phase::Rest,
        }
    }

    /// An effect that lets go counts only where it surely happens.
    fn surely_runs(&self) -> bool {
        self.flags & COMMENTED == 0 && !self.effects.has(Effect::Routine)
    }

    fn let_go(&mut self, effect: Effect) {
        if self.surely_runs() {
            self.effects.add(effect);
        }
    }

    fn let_go_of(&mut self, effect: Effect, name: &[u8]) {
        if self.surely_runs() {
            self.effects.release(effect, name);
        }
    }

    /// An executable comment begins.
    pub fn comment_begins(&mut self) {
        self.comment = true;
        self.flags |= COMMENTED | DOUBT;
        self.began_in_comment |= self.phase == Phase::Verb;
    }

    pub fn comment_ends(&mut self) {
        self.comment = false;
        if self.began_in_comment {
            self.alert |= AGAIN;
        }
    }

    /// The statement ends, by a semicolon or with the text.
    pub fn end(&mut self) {
        if self.alert != 0 {
            self.heed_mark(b';');
        }
        if let Call::More = self.call {
            self.called_in_doubt(Key::GetLock);
        }
        self.complete();
        let locks = self.effects.has(Effect::TakesUserLock) || self.effects.has(Effect::ReleasesUserLock);
        if self.flags & (DOUBT | CALLS) == DOUBT | CALLS && locks {
            self.effects.doubt_user_locks();
        }
        if self.flags & (DOUBT | RELEASES_ALL) == RELEASES_ALL {
            self.let_go(Effect::ReleasesAllUserLocks);
        }
        self.next();
    }

    /// What was followed is as complete as it gets.
    fn complete(&mut self) {
        match self.phase {
            Phase::CreateName | Phase::CreateNext => self.created(),
            Phase::DropNext => self.dropped(),
            Phase::HandlerAlias => self.opened(),
            Phase::PrepareEnd if self.flags & COMMENTED == 0 => self.prepared(Effect::Prepares),
            Phase::PrepareEnd | Phase::PrepareSource => self.prepared(Effect::PreparesUnknown),
            Phase::Rollback => self.rolled_back(),
            Phase::Set(set) => self.set_end(set),
            _ => {}
        }
    }

    fn next(&mut self) {
        self.ended |= self.begun;
        self.modes_in_doubt |= self.flags & SETS_MODE != 0;
        self.phase = if self.phase == Phase::Body { Phase::Begin } else { Phase::Verb };
        self.prev = Prev::default();
        (self.call, self.depth, self.alert, self.flags) = (Call::None, 0, 0, 0);
        self.began_in_comment = self.comment;
        if self.comment {
            self.flags = COMMENTED | DOUBT;
        }
    }
}
