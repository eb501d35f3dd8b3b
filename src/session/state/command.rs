//! What the client says: each command as it passes, up to the errand that is made of it.

use std::sync::Arc;

use super::context::Doubt;
use super::errand::{Coming, EXECUTION_MAX, Errand, Said, Sets, Target, What};
use super::held::{Inner, SQL_TEXT_MAX};
use super::reading::{Keep, Reading, Text};
use super::weight::{may_change_unseen, weighs};
use super::{By, Draft, State, literal};
use crate::session::hold::Hold;
use crate::session::statements::{HEAD_MAX, Source, TEXT_MAX, Told, id_of};
use crate::session::tracking::Touched;
use crate::sql::{self, Effect, Effects};
use crate::wire::command::Command;
use crate::wire::statement::{Execute, LAST_PREPARED};

/// What an execution has to do with cursors.
struct Cursor {
    opens: bool,
    /// There may be one from before, which it closes unless it fails.
    was_open: bool,
}

impl State {
    /// A command begins; `payload` is what is at hand of it, from the command byte on. True if it wants all of the payload.
    pub fn begin(&mut self, command: Command, payload: &[u8]) -> bool {
        (self.clears, self.leaves, self.untracks) = (false, false, false);
        self.draft = match command {
            Command::Query => {
                self.read_text(command, Keep::Prepare(SQL_TEXT_MAX));
                Draft::Query
            }
            Command::StmtPrepare => {
                self.read_text(command, Keep::Any(self.text_left()));
                Draft::Prepare
            }
            Command::StmtExecute
            | Command::StmtBulkExecute
            | Command::StmtFetch
            | Command::StmtReset
            | Command::StmtClose
            | Command::SetOption => {
                self.judge(command, payload, false).unwrap_or_else(|| Draft::Gather(command, Vec::new()))
            }
            Command::ChangeUser => {
                self.settled.add(Hold::ChangedUser);
                self.untrack(By::Reset);
                Draft::Ready(What::ChangeUser)
            }
            Command::ResetConnection => {
                self.untrack(By::Reset);
                Draft::Ready(What::ResetConnection)
            }
            Command::InitDb => Draft::Gather(command, Vec::new()),
            Command::RegisterReplica => {
                self.settled.add(Hold::Unexplained);
                Draft::Plain
            }
            _ => Draft::Plain,
        };
        matches!(self.draft, Draft::Query | Draft::Prepare | Draft::Gather(..))
    }

    /// Payload of a command that wanted it, the command byte included, in any pieces.
    pub fn payload(&mut self, piece: &[u8]) {
        match &mut self.draft {
            Draft::Query | Draft::Prepare => {
                if let Some(reading) = &mut self.reading {
                    reading.feed(piece);
                }
            }
            Draft::Gather(command, bytes) if bytes.is_empty() => {
                // Mostly it is all of the command, and need not be copied.
                let command = *command;
                let judged = self.judge(command, piece, false);
                self.draft =
                    judged.unwrap_or_else(|| Draft::Gather(command, up_to(piece, HEAD_MAX).to_vec()));
            }
            Draft::Gather(_, bytes) => bytes.extend_from_slice(up_to(piece, HEAD_MAX - bytes.len())),
            Draft::Plain | Draft::Ready(_) => {}
        }
    }

    /// The command's last byte has passed.
    pub fn end(&mut self) -> Option<Errand> {
        let draft = match std::mem::replace(&mut self.draft, Draft::Plain) {
            Draft::Gather(command, bytes) => self.judge(command, &bytes, true).unwrap_or(Draft::Plain),
            other => other,
        };
        let what = match draft {
            Draft::Plain | Draft::Gather(..) => return None,
            Draft::Ready(what) => what,
            Draft::Query => self.end_query()?,
            Draft::Prepare => self.end_prepare()?,
        };
        Some(self.errands.push(what))
    }

    fn read_text(&mut self, command: Command, keep: Keep) {
        let doubt = if self.errands.may_change_context() { Doubt::ALL } else { self.context.doubt() };
        let attributes = command == Command::Query && self.attributes();
        let context = &self.context;
        let reading = self.reading.get_or_insert_with(|| Box::new(Reading::new(context)));
        reading.begin(context, doubt, attributes, keep);
    }

    /// Bytes of statement texts for which there is place.
    fn text_left(&self) -> usize {
        TEXT_MAX.saturating_sub(self.statements.text_bytes() + self.errands.text_bytes())
    }

    fn end_text(&mut self) -> Option<Text> {
        let text = self.reading.as_mut()?.finish(&self.context);
        let may_insert = [Effect::Inserts, Effect::LastInsertId, Effect::Routine, Effect::Executes];
        self.inserted |= may_insert.into_iter().any(|effect| text.effects.has(effect));
        self.ask_sequences(&text.effects);
        Some(text)
    }

    /// Takes note of a text that asks for the value that a sequence gave last.
    fn ask_sequences(&mut self, effects: &Effects) {
        self.unanswerable |= effects.has(Effect::LastValue) && !self.sequences.ask();
    }

    fn end_query(&mut self) -> Option<What> {
        let text = self.end_text()?;
        self.weigh_leftovers(&text.effects);
        if !self.matters(&text.effects) {
            return None;
        }
        let inner = match text.effects.has(Effect::Prepares) {
            true => text.kept.and_then(|text| self.inner(text)),
            false => None,
        };
        self.note_tracking(&text.effects);
        let sets = Sets::of(&text.effects, text.plain_set);
        let said = Said { effects: text.effects, sets, inner, lock_refused: false };
        Some(What::Text(Box::new(said)))
    }

    /// Whether the reply to a text matters as things stand.
    fn matters(&self, effects: &Effects) -> bool {
        let unseen = self.untracked.is_some() && may_change_unseen(effects);
        // These two may come with every other text.
        let takes = effects.has(Effect::NextValue) && !(self.sequences.taken() && self.errands.is_empty());
        let ends = effects.has(Effect::EndsTransaction)
            && (self.settled.has(Hold::NextTransaction) || self.errands.may(Effect::NextTransaction));
        unseen || takes || ends || weighs(effects)
    }

    /// A text that sets what the client wants to be told sets what the CN tells corelane as well.
    fn note_tracking(&mut self, effects: &Effects) {
        if effects.has(Effect::Tracking) {
            self.untrack(By::Client(Touched::of(effects).perhaps()));
        }
    }

    fn weigh_leftovers(&mut self, effects: &Effects) {
        self.leaves = effects.has(Effect::FoundRows);
        self.clears = !self.leaves && effects.clear_leftovers();
    }

    /// What a lone PREPARE of a literal prepares.
    fn inner(&mut self, text: Vec<u8>) -> Option<Inner> {
        let modes = self.context.modes();
        let effects = sql::effects(&literal::prepared_text(&text, modes)?, modes);
        if effects.has(Effect::Tracking) {
            // What it does must be known before its reply.
            return None;
        }
        self.ask_sequences(&effects);
        Some(Inner { text: text.into(), effects: Arc::new(effects) })
    }

    fn end_prepare(&mut self) -> Option<What> {
        let text = self.end_text()?;
        let (text, effects, plain_set) = (text.kept.map(Vec::into_boxed_slice), text.effects, text.plain_set);
        let source = Source { text, effects, plain_set };
        Some(What::Prepare(Coming { source: Arc::new(source), execution: None, closed: false }))
    }

    /// Judges a command by its head; none if more of it is needed. `whole`: there is no more.
    fn judge(&mut self, command: Command, payload: &[u8], whole: bool) -> Option<Draft> {
        if command == Command::SetOption {
            let option = payload.get(1..3)?.first_chunk().map(|option| u16::from_le_bytes(*option))?;
            return Some(Draft::Ready(What::SetOption(option)));
        }
        if command == Command::InitDb {
            let schema = payload.get(1..).filter(|schema| schema.is_ascii()).map(Box::from);
            return whole.then_some(Draft::Ready(What::InitDb(schema)));
        }
        let id = id_of(payload)?;
        let Some(target) = self.target(id) else { return Some(Draft::Plain) };
        match command {
            Command::StmtClose => {
                match target {
                    Target::Known(id) => self.statements.close(id),
                    Target::Coming(_) => {
                        self.errands.coming_mut().into_iter().for_each(|coming| coming.closed = true)
                    }
                }
                Some(Draft::Plain)
            }
            Command::StmtFetch | Command::StmtReset => {
                let open = match target {
                    Target::Known(id) => self.statements.get(id).is_some_and(|statement| statement.cursor),
                    Target::Coming(_) => true,
                };
                Some(match (open, command) {
                    (false, _) => Draft::Plain,
                    (true, Command::StmtFetch) => Draft::Ready(What::Fetch(target)),
                    (true, _) => Draft::Ready(What::Reset(target)),
                })
            }
            _ => self.judge_execution(command, payload, target, whole),
        }
    }

    fn judge_execution(
        &mut self,
        command: Command,
        payload: &[u8],
        target: Target,
        whole: bool,
    ) -> Option<Draft> {
        let cursors = Execute::CURSOR_READ_ONLY | Execute::CURSOR_FOR_UPDATE | Execute::CURSOR_SCROLLABLE;
        let opens = command == Command::StmtExecute && payload.get(5)? & cursors != 0;
        let Target::Known(id) = target else {
            if !whole && payload.len() < EXECUTION_MAX {
                return None;
            }
            let coming = self.errands.coming_mut()?;
            let first = coming.execution.is_none();
            coming.execution =
                Some(if first { up_to(payload, EXECUTION_MAX).into() } else { Box::default() });
            let source = coming.source.clone();
            return Some(self.execution(source, target, Cursor { opens, was_open: false }, true));
        };
        let attributes = self.attributes();
        let statement = self.statements.get_mut(id)?;
        let told = match statement.told_by(payload, attributes) {
            Told::Cut if !whole => return None,
            Told::Cut => Told::Unknown,
            told => told,
        };
        let (was_open, stuck) = (statement.cursor, statement.is_stuck());
        statement.cursor |= opens;
        let source = statement.source.clone();
        let retyped = if command == Command::StmtBulkExecute {
            self.statements.note_bulk_types(id, told)
        } else {
            self.statements.note_types(id, told);
            false
        };
        let freed_or_stuck = self.statements.get(id).is_some_and(|statement| statement.is_stuck() != stuck);
        Some(self.execution(source, target, Cursor { opens, was_open }, retyped || freed_or_stuck))
    }

    /// An execution whose head is known; `matters`: there may be a cursor that it closes, or types that it is refused with.
    fn execution(&mut self, source: Arc<Source>, target: Target, cursor: Cursor, matters: bool) -> Draft {
        self.weigh_leftovers(&source.effects);
        self.ask_sequences(&source.effects);
        let Cursor { opens, was_open } = cursor;
        if !matters && !opens && !was_open && !self.matters(&source.effects) {
            return Draft::Plain;
        }
        self.note_tracking(&source.effects);
        let set = source.effects.has(Effect::Sets);
        let sets = set.then(|| Box::new(Sets::of(&source.effects, source.plain_set)));
        Draft::Ready(What::Execute { source, target, cursor: opens, was_open, sets })
    }

    /// The statement that an id stands for; none if it is not kept.
    fn target(&self, id: u32) -> Option<Target> {
        if id == LAST_PREPARED
            && let Some(errand) = self.errands.coming()
        {
            return Some(Target::Coming(errand));
        }
        let id = self.statements.resolve(id)?;
        self.statements.get(id).map(|_| Target::Known(id))
    }
}

fn up_to(bytes: &[u8], most: usize) -> &[u8] {
    &bytes[..bytes.len().min(most)]
}
