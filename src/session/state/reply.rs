//! Settling replies: what a command did, as far as its text and its reply tell.

use super::State;
use super::errand::{Errand, OF_TRANSACTIONS, Said, Sets, Target, What, is_set_session_transaction};
use super::held::{Inner, Kind, names};
use super::weight::{ENDING, HOLDING};
use crate::session::hold::Hold;
use crate::session::tracking::{Touched, Wishes};
use crate::sql::{Effect, Effects};
use crate::wire::status::Status;

/// How a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Done,
    /// By an ERR: some of it may be done.
    Failed,
    /// By an ERR which says that the text cannot be parsed, and nothing came before it.
    Unparsed,
}

impl State {
    /// The reply is complete; `status` are the flags of its last OK or EOF.
    pub fn replied(&mut self, errand: Errand, verdict: Verdict, status: Status) {
        let Some(what) = self.errands.take(errand) else { return };
        let failed = verdict != Verdict::Done;
        let untold = self.untracked.is_some_and(|untracked| errand.0.get() > untracked.since);
        if untold && !what.tells_all() {
            // It may have changed what the CN did not report.
            self.settled.add(Hold::Unexplained);
        }
        if !failed && let Some(effects) = what.effects() {
            self.settle_tracking(Touched::of(effects));
            self.pending_characteristics |= status.has(Status::IN_TRANS) && sets_characteristics(effects);
        }
        match what {
            What::Text(said) if verdict == Verdict::Unparsed && says_all(&said.effects) => {}
            What::Text(said) => self.said(*said, failed),
            What::Prepare(coming) => {
                if verdict != Verdict::Unparsed {
                    self.mention(&coming.source.effects);
                }
                if failed {
                    self.statements.forget_last();
                }
            }
            What::Execute { source, target, cursor, was_open, sets } => {
                if let Some(sets) = sets {
                    self.set(&source.effects, &sets, failed);
                }
                self.settle(&source.effects, failed);
                let opened = cursor && status.has(Status::CURSOR_EXISTS);
                self.cursor(target, if failed { was_open } else { opened });
                if let Target::Known(id) = target {
                    self.statements.keep_types(id);
                }
            }
            What::Fetch(target) if !failed && status.has(Status::LAST_ROW_SENT) => self.cursor(target, false),
            What::Reset(target) if !failed => self.cursor(target, false),
            What::SetOption(option) if !failed => self.option = Some(option),
            What::InitDb(Some(schema)) if !failed => self.enter_schema(&schema),
            What::InitDb(_) | What::Fetch(_) | What::Reset(_) | What::SetOption(_) => {}
            What::ChangeUser | What::ResetConnection if !failed => self.reset(),
            What::ResetConnection => self.settled.add(Hold::Unexplained),
            What::ChangeUser => {
                // A server has forgotten what it should track before it refuses the new user.
                self.wishes = Wishes::everything();
                self.settled.add(Hold::Unexplained);
            }
        }
        self.weigh_characteristics();
    }

    /// Holds a session whose next transaction is not like its variables say.
    fn weigh_characteristics(&mut self) {
        if self.pending_characteristics {
            self.settled.add(Hold::NextTransaction);
        }
    }

    /// A bulk execution was refused because its statement is none for that.
    pub fn bulk_refused(&mut self, errand: Errand) {
        if let Some(What::Execute { target: Target::Known(id), .. }) = self.errands.find(Some(errand)) {
            let id = *id;
            self.statements.take_back(id);
        }
    }

    /// Whether the first row of a reply matters.
    pub fn wants_row(&self, errand: Errand) -> bool {
        let Some(What::Text(said)) = self.errands.find(Some(errand)) else { return false };
        let lock = said.effects.named.first().is_some_and(|named| !named.name.is_empty());
        said.effects.is_only(Effect::TakesUserLock) && said.effects.named.len() == 1 && lock
    }

    /// The beginning of the one row, of one column, that answers a GET_LOCK: what it did not take has not to be released.
    pub fn row(&mut self, errand: Errand, row: &[u8]) {
        const NULL: u8 = 0xfb;
        if let Some(What::Text(said)) = self.errands.find_mut(Some(errand)) {
            said.lock_refused = matches!(row, [NULL] | [1, b'0']);
        }
    }

    fn said(&mut self, mut said: Said, failed: bool) {
        self.mention(&said.effects);
        if let Some(inner) = &said.inner {
            let effects = inner.effects.clone();
            self.mention(&effects);
        }
        self.set(&said.effects, &said.sets, failed);
        if said.lock_refused && !failed {
            return;
        }
        self.settle(&said.effects, failed);
        for effect in [Effect::Prepares, Effect::PreparesUnknown] {
            if said.effects.has(effect) {
                let inner = said.inner.take();
                self.sql_prepared(names(&said.effects, effect), inner, failed);
            }
        }
        if said.effects.has(Effect::Executes) {
            self.executed(&said.effects, failed);
        }
        if !failed && let Some(held) = &mut self.held {
            names(&said.effects, Effect::Deallocates).for_each(|name| held.deallocate(name));
        }
    }

    fn mention(&mut self, effects: &Effects) {
        if effects.has(Effect::UserVariable) && !self.held_mut().mention(effects) {
            self.settled.add(Hold::TooMuch);
        }
    }

    /// Takes note of the variables that a text has set without a report.
    fn set(&mut self, effects: &Effects, sets: &Sets, failed: bool) {
        // A SET of which any part is refused sets nothing.
        if failed && sets.plain {
            return;
        }
        self.note_collation(effects, failed);
        sets.unreported.iter().for_each(|name| self.variable_set(name));
        if is_set_session_transaction(effects) && !sets.reported {
            OF_TRANSACTIONS.iter().for_each(|name| self.variable_set(name));
        }
    }

    fn sql_prepared<'n>(
        &mut self,
        named: impl Iterator<Item = &'n [u8]>,
        mut inner: Option<Inner>,
        failed: bool,
    ) {
        // A lone PREPARE that fails leaves no statement of that name.
        let gone = failed && inner.is_some();
        let mut named = named.peekable();
        if named.peek().is_none() {
            self.settled.add(Hold::SqlPrepare);
        }
        for name in named {
            let (inner, context) = (inner.take(), self.context.clone());
            if gone {
                self.held_mut().deallocate(name);
            } else if !self.held_mut().prepare(name, inner, context) {
                self.settled.add(Hold::TooMuch);
            }
        }
    }

    /// EXECUTE: the effects are those of the text inside.
    fn executed(&mut self, effects: &Effects, failed: bool) {
        let mut named = names(effects, Effect::Executes).peekable();
        let mut unknown = named.peek().is_none();
        let mut found = Vec::new();
        for name in named {
            let prepared = self.held().map_or(&[][..], |held| &held.sql_prepared);
            let one = prepared.iter().find(|one| one.name.eq_ignore_ascii_case(name));
            match one.map(|one| &one.inner) {
                Some(Some(inner)) => found.push(inner.effects.clone()),
                // There is no such statement, as the CN has said.
                None if failed => {}
                Some(None) | None => unknown = true,
            }
        }
        if unknown {
            self.settled.add(Hold::Routine);
        }
        for inner in found {
            self.set(&inner, &Sets::of(&inner, false), failed);
            self.settle(&inner, failed);
        }
    }

    /// Takes note of what a text took, and then of what it let go of: what it took after that, it does not let go of by its effects.
    fn settle(&mut self, effects: &Effects, failed: bool) {
        for (effect, hold) in HOLDING {
            if effects.has(effect) {
                self.settled.add(hold);
            }
        }
        if effects.has(Effect::LocksInstance) {
            self.instance_locked = true;
            self.settled.add(Hold::LockTables);
        }
        if effects.has(Effect::NextValue) {
            self.sequences.take();
        }
        self.role |= effects.has(Effect::Role);
        let schema = self.context.schema.clone();
        if Kind::ALL.iter().any(|kind| effects.has(kind.taken_by())) {
            let held = self.held_mut();
            Kind::ALL.into_iter().for_each(|kind| held.take(kind, effects, &schema));
        }
        if let Some(held) = &mut self.held
            && effects.has(Effect::RenamesTable)
        {
            held.rename_tables();
        }
        if !failed {
            self.let_go(effects, &schema);
        }
    }

    fn let_go(&mut self, effects: &Effects, schema: &[u8]) {
        self.pending_characteristics &= !effects.has(Effect::EndsTransaction);
        for (effect, hold) in ENDING {
            if effects.has(effect) && !(hold == Hold::LockTables && self.instance_locked) {
                self.settled.remove(hold);
            }
        }
        if let Some(held) = &mut self.held
            && !effects.has(Effect::Uses)
        {
            Kind::ALL.into_iter().for_each(|kind| held.release(kind, effects, schema));
        }
    }

    fn cursor(&mut self, target: Target, open: bool) {
        let Target::Known(id) = target else { return };
        let coming = self.errands.iter().any(|what| what.opens_cursor() == Some(target));
        if let Some(statement) = self.statements.get_mut(id) {
            statement.cursor = open || coming;
        }
    }
}

/// Whether all that a text runs is parsed with it, and not later.
fn says_all(effects: &Effects) -> bool {
    let later = [Effect::Routine, Effect::Executes, Effect::Prepares, Effect::PreparesUnknown];
    !later.into_iter().any(|effect| effects.has(effect))
}

/// Whether a text sets, for the session, how its transactions are.
fn sets_characteristics(effects: &Effects) -> bool {
    let named = |name: &[u8]| OF_TRANSACTIONS.iter().any(|other| name.eq_ignore_ascii_case(other));
    is_set_session_transaction(effects) || names(effects, Effect::Sets).any(named)
}
