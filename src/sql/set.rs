//! What a SET statement sets: its items, one by one.
//!
//! Source: MySQL "SET Syntax for Variable Assignment", MariaDB "SET", "SET STATEMENT".

use super::effect::Effect;
use super::keyword::Key;
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
    /// No variables: SET TRANSACTION, SET ROLE and the like.
    Other,
}

/// What SET NAMES and SET CHARACTER SET set.
const CHARACTER_SET: [&str; 4] =
    ["character_set_client", "character_set_results", "character_set_connection", "collation_connection"];

impl Set {
    pub fn wants_text(self) -> bool {
        matches!(self, Self::First | Self::Item | Self::Scoped(_))
    }

    /// Behind `@@`.
    pub fn system(self) -> Self {
        if self.wants_text() { Self::Scoped(Scope::Once) } else { self }
    }
}

impl Statement {
    pub(super) fn set_token(&mut self, set: Set, token: Token<'_>) {
        let key = token.key();
        let next = match (set, key) {
            (Set::Value, Key::For) if self.flags & FOR != 0 && self.at_top() => {
                self.flags &= !FOR;
                self.phase = Phase::Verb;
                return;
            }
            (Set::Value | Set::Other, _) => return,
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
            Key::Names | Key::CharacterSet => {
                CHARACTER_SET.iter().for_each(|name| self.effects.mention(Effect::Sets, name.as_bytes()));
            }
            Key::Transaction => {
                self.effects.add(Effect::NextTransaction);
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
            Key::Authorization => {
                self.effects.add(Effect::Role);
                self.effects.add(Effect::Password);
            }
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
            (Set::Named(scope), b'=') => {
                self.set_variable(scope);
                Set::Value
            }
            (Set::Named(_), _) => {
                self.effects.add(Effect::UntransferableVariable);
                Set::Value
            }
            (Set::Value, b',') if self.depth == 0 => Set::Item,
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

    fn set_variable(&mut self, scope: Scope) {
        let name = std::mem::take(&mut self.subject);
        if name.is_empty() {
            self.effects.add(Effect::UntransferableVariable);
            return;
        }
        if scope != Scope::Server && name.eq_ignore_ascii_case(b"sql_mode") {
            self.flags |= SETS_MODE;
        }
        variable::set(&name, scope, &mut self.effects);
    }
}

/// The scope in `@@scope.name`.
fn written_scope(token: Token<'_>) -> Scope {
    let session = |name: &[u8]| name.eq_ignore_ascii_case(b"session") || name.eq_ignore_ascii_case(b"local");
    if token.name().is_some_and(session) { Scope::Session } else { Scope::Server }
}
