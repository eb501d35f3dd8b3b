//! Calls of functions that matter, those of user locks above all: which lock, how often, and whether surely.
//!
//! And what waits for the token behind one.

use super::{AGAIN, CALL, CALLS, Call, DOUBT, LAST_INSERT_ID, Phase, RELEASES_ALL, Statement};
use crate::sql::effect::Effect;
use crate::sql::keyword::Key;

impl Statement {
    /// A function is called: its parenthesis opens.
    pub(super) fn call(&mut self, function: Key) {
        if self.phase == Phase::Body {
            return;
        }
        match function {
            Key::AsksAboutLast => self.effects.add(Effect::AsksAboutLast),
            Key::NextValue => self.effects.add(Effect::NextValue),
            Key::LastValue => self.effects.add(Effect::LastValue),
            Key::ConnectionId => self.effects.add(Effect::ConnectionId),
            Key::LastInsertId => self.alert |= LAST_INSERT_ID,
            Key::ServiceLocks => self.effects.take(Effect::TakesUserLock, Some(b"")),
            _ => self.call_user_lock(function),
        }
    }

    fn call_user_lock(&mut self, function: Key) {
        // Once in each run of the statement: it stands as a whole among what a SELECT without tables or a DO lists.
        let listed = matches!(self.prev.before, Key::Select | Key::Do | Key::Comma);
        let once = self.flags & (DOUBT | CALLS) == CALLS && listed && self.depth == 0;
        if once && self.call == Call::None {
            self.call = Call::Argument(function);
            self.alert |= CALL;
        } else {
            self.called_in_doubt(function);
        }
    }

    /// It is not known which lock, how often, or whether at all.
    pub(super) fn called_in_doubt(&mut self, function: Key) {
        self.call = Call::None;
        self.alert &= !CALL;
        if function == Key::GetLock {
            self.effects.take(Effect::TakesUserLock, Some(b""));
        }
    }

    /// What waits for a token that is no mark.
    pub(super) fn heed(&mut self, key: Key) {
        if self.alert & LAST_INSERT_ID != 0 {
            self.alert &= !LAST_INSERT_ID;
            self.effects.add(Effect::LastInsertId);
        }
        match self.call {
            Call::Closed(function) if key == Key::As => self.called(function),
            Call::Argument(function) | Call::Literal(function) | Call::Closed(function) => {
                self.called_in_doubt(function);
            }
            Call::More | Call::None => {}
        }
        if self.alert & AGAIN != 0 {
            self.alert &= !AGAIN;
            self.began_in_comment &= self.comment;
            self.begin_again(key);
        }
    }

    /// A word behind an executable comment in which the statement began: it may begin there, or here.
    fn begin_again(&mut self, key: Key) {
        let unknown = matches!(self.phase, Phase::Verb | Phase::Label | Phase::Rest);
        match key {
            _ if !key.is_verb() => {}
            _ if unknown => self.phase = Phase::Verb,
            Key::Insert | Key::Replace => self.effects.add(Effect::Inserts),
            Key::Select | Key::Do | Key::With | Key::If | Key::For => {}
            _ => {
                self.complete();
                self.phase = Phase::Verb;
            }
        }
    }

    pub(super) fn heed_mark(&mut self, mark: u8) {
        if self.alert & LAST_INSERT_ID != 0 {
            self.alert &= !LAST_INSERT_ID;
            let effect = if mark == b')' { Effect::ReadsInsertId } else { Effect::LastInsertId };
            self.effects.add(effect);
        }
        match (self.call, mark) {
            (Call::Argument(Key::ReleaseAllLocks), b')') => self.call = Call::Closed(Key::ReleaseAllLocks),
            (Call::Literal(Key::ReleaseLock), b')') => self.call = Call::Closed(Key::ReleaseLock),
            (Call::Literal(Key::GetLock), b',') => self.call = Call::More,
            (Call::More, b')') if self.depth == 1 => self.call = Call::Closed(Key::GetLock),
            (Call::Closed(function), b',' | b';') => self.called(function),
            (Call::Argument(function) | Call::Literal(function) | Call::Closed(function), _) => {
                self.called_in_doubt(function);
            }
            _ => {}
        }
        if mark != b'(' {
            self.alert &= !AGAIN;
            self.began_in_comment &= self.comment;
        }
    }

    /// A call that stands by itself is complete. What the rest of the statement says may still put it in doubt.
    pub(super) fn called(&mut self, function: Key) {
        self.call = Call::None;
        self.alert &= !CALL;
        let name = std::mem::take(&mut self.subject);
        match function {
            Key::GetLock => {
                self.flags &= !RELEASES_ALL;
                self.effects.take(Effect::TakesUserLock, Some(&name));
            }
            Key::ReleaseLock => self.let_go_of(Effect::ReleasesUserLock, &name),
            _ => self.flags |= RELEASES_ALL,
        }
    }
}
