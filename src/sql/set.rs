//! What a SET statement sets: its items, one by one.
//!
//! Source: MySQL "SET Syntax for Variable Assignment", MariaDB "SET", "SET STATEMENT".

use super::effect::{Effect, SEPARATOR};
use super::keyword::{Key, LONGEST};
use super::statement::{FOR, Phase, QUALIFIED, SETS_MODE, Statement, Token};
use super::variable::{self, Scope};

/// Where in a SET the next token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// Behind SET.
    First,
    /// Behind a comma.
    Item,
    /// Behind SESSION, GLOBAL, `@@` and the like: a name comes.
    Scoped(Scope),
    /// Behind a name.
    Named(Scope),
    /// Up to the next comma outside of parentheses.
    Value,
    /// A character set comes which brings its default collation with it, if nothing else follows.
    Charset(Charset),
    /// Behind that.
    CharsetEnd(Charset),
    /// No variables: SET TRANSACTION, SET ROLE and the like.
    Other,
}

/// Whose character set comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charset {
    /// That of SET NAMES.
    Names,
    /// `character_set_connection`.
    Connection,
}

/// What SET NAMES and SET CHARACTER SET set.
const CHARACTER_SETS: [&[u8]; 3] = [b"character_set_client", RESULTS, CONNECTION];
const RESULTS: &[u8] = b"character_set_results";
const CONNECTION: &[u8] = b"character_set_connection";
const COLLATION: &[u8] = b"collation_connection";

impl Set {
    pub fn wants_text(self) -> bool {
        matches!(self, Self::First | Self::Item | Self::Scoped(_))
    }
}

impl Statement {
    pub(super) fn set_token(&mut self, set: Set, token: Token<'_>) {
        let key = token.key();
        let next = match (set, key) {
            (Set::Value | Set::CharsetEnd(_), Key::For) if self.flags & FOR != 0 && self.at_top() => {
                self.flags &= !FOR;
                self.phase = Phase::Verb;
                return;
            }
            (Set::Value | Set::Other, _) => return,
            (Set::Charset(whose), _) if names_charset(token) => Set::CharsetEnd(whose),
            (Set::CharsetEnd(Charset::Names), Key::Collate) => {
                self.effects.add(Effect::NamesCollate);
                self.other_collation()
            }
            (Set::Charset(_) | Set::CharsetEnd(_), _) => self.other_collation(),
            (Set::First, Key::Statement) => {
                self.flags |= FOR;
                Set::Item
            }
            (Set::First | Set::Item, _) => self.set_item(key, token),
            (Set::Scoped(Scope::Once), Key::System) => Set::Scoped(written_scope(token)),
            (Set::Scoped(scope), _) => self.set_scoped(scope, key, token),
            // A form that is not known, such as SET RESOURCE GROUP.
            (Set::Named(_), _) => {
                self.effects.add(Effect::UntransferableVariable);
                Set::Value
            }
        };
        self.phase = Phase::Set(next);
    }

    /// The first word of an item.
    fn set_item(&mut self, key: Key, token: Token<'_>) -> Set {
        match key {
            Key::Global => return Set::Scoped(Scope::Server),
            Key::Session | Key::Local => return Set::Scoped(Scope::Session),
            Key::Names => {
                self.effects.add(Effect::SetsNames);
                self.set_character_sets();
                return Set::Charset(Charset::Names);
            }
            // The connection gets the character set of the schema, and its collation.
            Key::CharacterSet => {
                self.set_character_sets();
                self.effects.add(Effect::CollatesApart);
                return self.other_collation();
            }
            Key::Transaction => {
                self.effects.take(Effect::NextTransaction, None);
                return Set::Other;
            }
            Key::Role => {
                self.effects.add(Effect::Role);
                return Set::Other;
            }
            Key::Default => return Set::Other,
            Key::Password => self.effects.add(Effect::Password),
            _ => {
                self.enter(token.name());
                return Set::Named(Scope::Plain);
            }
        }
        Set::Value
    }

    fn set_scoped(&mut self, scope: Scope, key: Key, token: Token<'_>) -> Set {
        match key {
            Key::Transaction if scope == Scope::Session => self.effects.add(Effect::Sets),
            Key::Transaction => {}
            Key::Authorization => self.effects.add(Effect::Password),
            _ => {
                self.enter(token.name());
                return Set::Named(scope);
            }
        }
        Set::Other
    }

    pub(super) fn set_mark(&mut self, set: Set, mark: u8) {
        let next = match (set, mark) {
            (Set::Named(scope), b'.') => {
                self.flags |= QUALIFIED;
                Set::Scoped(scope)
            }
            (Set::Named(_), b':') => return,
            (Set::Named(scope), b'=') => self.set_variable(scope),
            (Set::Named(_), _) => {
                self.effects.add(Effect::UntransferableVariable);
                Set::Value
            }
            (Set::Value | Set::CharsetEnd(_), b',') if self.depth == 0 => Set::Item,
            (Set::Charset(_) | Set::CharsetEnd(_), _) => self.other_collation(),
            _ => return,
        };
        self.phase = Phase::Set(next);
    }

    /// The SET ends in the middle of an item.
    pub(super) fn set_end(&mut self, set: Set) {
        if let Set::Named(_) = set {
            self.effects.add(Effect::UntransferableVariable);
        }
    }

    /// A variable's name is complete, and its value comes.
    fn set_variable(&mut self, scope: Scope) -> Set {
        let mut name = std::mem::take(&mut self.subject);
        if name.is_empty() {
            self.effects.add(Effect::UntransferableVariable);
            return Set::Value;
        }
        name.iter_mut().filter(|byte| **byte == SEPARATOR).for_each(|byte| *byte = b'.');
        if scope != Scope::Server && name.eq_ignore_ascii_case(b"sql_mode") {
            self.flags |= SETS_MODE;
        }
        variable::set(&name, scope, &mut self.effects);
        if self.flags & FOR != 0 && variable::is_tracking(&name) {
            // What is set back after it is corelane's, and yet the client may have meant to keep it.
            self.effects.add(Effect::UntransferableVariable);
        }
        let sets = |names: &[&[u8]]| {
            scope != Scope::Server && names.iter().any(|other| name.eq_ignore_ascii_case(other))
        };
        if sets(&CHARACTER_SETS) || sets(&[COLLATION]) {
            self.effects.add(Effect::CollatesApart);
        }
        if sets(&[CONNECTION]) { Set::Charset(Charset::Connection) } else { Set::Value }
    }

    fn set_character_sets(&mut self) {
        CHARACTER_SETS.iter().for_each(|name| self.effects.mention(Effect::Sets, name));
    }

    /// The connection's collation may be another than its character set's default.
    fn other_collation(&mut self) -> Set {
        self.effects.mention(Effect::Sets, COLLATION);
        Set::Value
    }

    /// A variable stands in a SET, but not where it could be what is set.
    pub(super) fn variable_in_set(&mut self, set: Set) -> Set {
        match set {
            Set::Charset(_) | Set::CharsetEnd(_) => self.other_collation(),
            other => other,
        }
    }
}

/// Whether a token names a character set; DEFAULT stands for a collation as well, and so does a number.
fn names_charset(token: Token<'_>) -> bool {
    match token {
        Token::Literal | Token::Name(_) => true,
        Token::Word(key, text) => {
            let number = |text: &[u8]| text.len() <= LONGEST && text[0].is_ascii_digit();
            key != Key::Default && !text.is_some_and(number)
        }
    }
}

/// The scope in `@@scope.name`.
fn written_scope(token: Token<'_>) -> Scope {
    let session = |name: &[u8]| name.eq_ignore_ascii_case(b"session") || name.eq_ignore_ascii_case(b"local");
    if token.name().is_some_and(session) { Scope::Session } else { Scope::Server }
}
