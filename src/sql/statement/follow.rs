//! What follows the first words of a statement that matters, as far as its names.

use super::{Phase, QUALIFIED, REPLACING, Statement, Token};
use crate::sql::effect::Effect;
use crate::sql::keyword::Key;

impl Statement {
    /// A token within a statement that is followed.
    pub(super) fn follow(&mut self, token: Token<'_>) {
        use Phase as P;
        match self.phase {
            P::Create | P::CreateTemporary | P::CreateName | P::CreateNext | P::CreateBody => {
                self.follow_create(token)
            }
            P::Drop | P::DropName | P::DropNext => self.follow_drop(token),
            P::HandlerName | P::HandlerVerb | P::HandlerAlias => self.follow_handler(token),
            P::Lock | P::Unlock | P::Flush | P::Backup => self.follow_lock(token.key()),
            P::Show => self.follow_show(token.key()),
            P::Alter | P::AlterTable | P::AlterRename | P::Rename => self.follow_alter(token.key()),
            P::Rollback => match token.key() {
                Key::Work => {}
                Key::To => self.phase = P::Rest,
                _ => self.rolled_back(),
            },
            P::Grant if token.key() == Key::Identified => self.end_with(Effect::Password),
            P::Grant => {}
            P::Xa => match token.key() {
                Key::Recover => self.phase = P::Rest,
                Key::Commit | Key::Rollback => {
                    self.let_go(Effect::XaEnds);
                    self.phase = P::Rest;
                }
                _ => {
                    self.effects.take(Effect::Xa, None);
                    self.phase = P::Rest;
                }
            },
            _ => self.follow_prepared(token),
        }
    }

    pub(super) fn end_with(&mut self, effect: Effect) {
        self.effects.add(effect);
        self.phase = Phase::Rest;
    }

    fn follow_alter(&mut self, key: Key) {
        match (self.phase, key) {
            (Phase::Alter | Phase::Rename, Key::User) => self.end_with(Effect::Password),
            (Phase::Alter, Key::Ignore) => {}
            (Phase::Alter, Key::Table) => {
                self.effects.add(Effect::AltersTable);
                self.phase = Phase::AlterTable;
            }
            (Phase::AlterTable, Key::Rename) => self.phase = Phase::AlterRename,
            (Phase::AlterTable, _) => {}
            (Phase::AlterRename, Key::Index) => self.phase = Phase::AlterTable,
            (Phase::AlterRename, _) | (Phase::Rename, Key::Table) => self.end_with(Effect::RenamesTable),
            _ => self.phase = Phase::Rest,
        }
    }

    pub(super) fn rolled_back(&mut self) {
        self.let_go(Effect::EndsTransaction);
        self.phase = Phase::Rest;
    }

    fn follow_create(&mut self, token: Token<'_>) {
        let key = token.key();
        match (self.phase, key) {
            (Phase::Create, Key::Replace) => self.flags |= REPLACING,
            (Phase::Create, Key::Temporary) => self.phase = Phase::CreateTemporary,
            (Phase::Create, Key::Table) => self.phase = Phase::CreateBody,
            (Phase::Create, Key::Index) => self.effects.add(Effect::AltersTable),
            (Phase::Create, Key::User) if self.flags & REPLACING != 0 => self.end_with(Effect::Password),
            (Phase::Create, Key::Routine) if self.depth == 0 => self.phase = Phase::Body,
            (Phase::CreateTemporary, Key::Table | Key::Sequence) => {
                self.subject = Box::default();
                self.phase = Phase::CreateName;
            }
            (Phase::CreateName, Key::If | Key::Not | Key::Exists) if self.flags & QUALIFIED == 0 => {}
            (Phase::CreateName, _) => {
                self.enter(token.name());
                self.phase = Phase::CreateNext;
            }
            (Phase::CreateNext, _) => {
                self.created();
                self.follow_create(token);
            }
            (Phase::Create | Phase::CreateBody, Key::Select | Key::Values | Key::Table) => {
                self.effects.add(Effect::Inserts);
            }
            _ => {}
        }
    }

    /// The name of a temporary table is complete.
    pub(super) fn created(&mut self) {
        let name = std::mem::take(&mut self.subject);
        self.effects.take(Effect::CreatesTemporaryTable, Some(&name));
        self.phase = Phase::CreateBody;
    }

    fn follow_drop(&mut self, token: Token<'_>) {
        match (self.phase, token.key()) {
            (Phase::Drop, Key::Temporary) => {}
            (Phase::Drop, Key::Table | Key::Sequence) => self.phase = Phase::DropName,
            (Phase::Drop, Key::Prepare) => self.phase = Phase::DeallocateName,
            (Phase::Drop, Key::User) => self.end_with(Effect::Password),
            (Phase::Drop, Key::Index) => self.end_with(Effect::AltersTable),
            (Phase::Drop, _) => self.phase = Phase::Rest,
            (Phase::DropName, Key::If | Key::Not | Key::Exists) if self.flags & QUALIFIED == 0 => {}
            (Phase::DropName, _) => {
                self.enter(token.name());
                self.phase = Phase::DropNext;
            }
            _ => {
                self.dropped();
                self.phase = Phase::Rest;
            }
        }
    }

    pub(super) fn dropped(&mut self) {
        let name = std::mem::take(&mut self.subject);
        self.let_go_of(Effect::DropsTable, &name);
    }

    fn follow_handler(&mut self, token: Token<'_>) {
        match (self.phase, token.key()) {
            (Phase::HandlerName, _) => {
                self.enter(token.name());
                self.phase = Phase::HandlerVerb;
            }
            (Phase::HandlerVerb, Key::Open) => self.phase = Phase::HandlerAlias,
            (Phase::HandlerVerb, Key::Close) => {
                let name = std::mem::take(&mut self.subject);
                self.let_go_of(Effect::ClosesHandler, &name);
                self.phase = Phase::Rest;
            }
            (Phase::HandlerAlias, Key::As) => {}
            (Phase::HandlerAlias, _) => {
                self.enter(token.name());
                self.opened();
            }
            _ => self.phase = Phase::Rest,
        }
    }

    pub(super) fn opened(&mut self) {
        let name = std::mem::take(&mut self.subject);
        self.effects.take(Effect::OpensHandler, Some(&name));
        self.phase = Phase::Rest;
    }

    fn follow_lock(&mut self, key: Key) {
        match (self.phase, key) {
            (Phase::Lock, Key::Table) => self.effects.take(Effect::LocksTables, None),
            (Phase::Lock, _) => self.lock_instance(),
            (Phase::Backup, Key::Unlock) => {}
            (Phase::Backup, _) => self.lock_instance(),
            (Phase::Unlock, Key::Table) => self.let_go(Effect::UnlocksTables),
            (Phase::Flush, Key::With | Key::Export | Key::Lock) => {
                self.effects.take(Effect::LocksTables, None);
            }
            (Phase::Flush, _) => return,
            _ => {}
        }
        self.phase = Phase::Rest;
    }

    fn lock_instance(&mut self) {
        self.effects.take(Effect::LocksTables, None);
        self.effects.add(Effect::LocksInstance);
    }

    fn follow_show(&mut self, key: Key) {
        match key {
            Key::Session | Key::Local => return,
            Key::Warnings | Key::Errors | Key::Count | Key::Status | Key::Variables => {
                self.effects.add(Effect::AsksAboutLast);
            }
            _ => {}
        }
        self.phase = Phase::Rest;
    }

    /// PREPARE, EXECUTE, DEALLOCATE.
    fn follow_prepared(&mut self, token: Token<'_>) {
        match (self.phase, token) {
            (Phase::PrepareName, _) => {
                self.enter(token.name());
                self.phase = Phase::PrepareFrom;
            }
            (Phase::PrepareFrom, Token::Word(Key::From, _)) => self.phase = Phase::PrepareSource,
            (Phase::PrepareSource, Token::Literal) => self.phase = Phase::PrepareEnd,
            (Phase::PrepareSource | Phase::PrepareEnd, _) => self.prepared(Effect::PreparesUnknown),
            (Phase::ExecuteName, Token::Word(Key::Immediate, _)) => {
                self.effects.take(Effect::PreparesUnknown, None);
                self.effects.add(Effect::Inserts);
                self.end_with(Effect::Routine);
            }
            (Phase::ExecuteName, _) => {
                self.effects.take(Effect::Executes, Some(token.name().unwrap_or_default()));
                self.end_with(Effect::Inserts);
            }
            (Phase::DeallocateWord, Token::Word(Key::Prepare, _)) => self.phase = Phase::DeallocateName,
            (Phase::DeallocateName, _) => {
                self.let_go_of(Effect::Deallocates, token.name().unwrap_or_default());
                self.phase = Phase::Rest;
            }
            _ => self.phase = Phase::Rest,
        }
    }

    pub(super) fn prepared(&mut self, effect: Effect) {
        let name = std::mem::take(&mut self.subject);
        self.effects.take(effect, Some(&name));
        self.phase = Phase::Rest;
    }
}
