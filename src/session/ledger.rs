//! What a session has said on a CN of MatrixOne's that another of its CNs has to hear.
//!
//! Such a CN tells nothing of a session's state as it goes by, but it gives its schema and its prepared statements when it is asked
//! ([`Exported`]), and it takes them from another. What is left is kept here: the [settings](Ledger::settings), which are said again in
//! their order; the statements that were closed, because a CN may be asked before it has heard of that; and what makes a hold. Like
//! [`State`](super::state::State), whose place it has in the dialog, it is shown each command as it passes and the replies to those
//! that matter.
//!
//! A SET counts when the CN has taken it, and only where saying it again must give the same values: literals, for this session alone.
//! Any other is a hold. So is a user variable that is named in another statement than a query, which only reads it: MatrixOne has no
//! other assignment than SET. LAST_INSERT_ID() cannot be carried over: a session that asks
//! for it is held once it has inserted, and one that asks for the first time after it has moved cannot be answered.

mod setting;

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;

use super::hold::{Hold, Holds};
use super::script::{Answer, Results, Script};
use super::state::Errand;
use super::state::context::{Context, Known};
use super::state::held::{Held, Kind, names};
use super::state::preamble::{self, Start};
use super::state::reading::{Keep, Reading};
use super::state::sequence::Sequences;
use super::statements::id_of;
use crate::sql::{self, Effect, Effects};
use crate::wire::capability::Capabilities;
use crate::wire::command::{Command, Shape};
use crate::wire::matrixone::query::{Exported, Import, Prepared};
use crate::wire::statement::Execute;

/// Settings of one session, and bytes of all of them.
pub const SETTINGS_MAX: usize = 256;
pub const SETTINGS_BYTES_MAX: usize = 64 << 10;

/// Closed statements of which the CN may not have heard, as nothing behind them was answered yet.
pub const CLOSED_MAX: usize = 4096;

/// Statements with a cursor that are told apart.
const CURSORS_MAX: usize = 256;

/// Bytes of a text that is kept until its reply.
const TEXT_MAX: usize = 16 << 10;

/// Has the CN make the session ready for what is imported; MatrixOne's own words.
const TRANSFERRED: &[u8] = b"/* cloud_nonuser */ set transferred=1;";

/// The holds of effects that nothing ends, or only what [`Ledger::said`] knows of.
const HOLDS: [(Effect, Hold); 13] = [
    (Effect::LocksTables, Hold::LockTables),
    (Effect::LocksInstance, Hold::LockTables),
    (Effect::Prepares, Hold::SqlPrepare),
    (Effect::PreparesUnknown, Hold::SqlPrepare),
    (Effect::NextTransaction, Hold::NextTransaction),
    (Effect::Role, Hold::Role),
    (Effect::Password, Hold::ChangedUser),
    (Effect::UntransferableVariable, Hold::Variable),
    (Effect::Xa, Hold::Xa),
    (Effect::Routine, Hold::Routine),
    (Effect::NextValue, Hold::Sequence),
    (Effect::Profiling, Hold::Profiling),
    (Effect::Unreadable, Hold::Unreadable),
];

/// What COM_RESET_CONNECTION does not end.
const LASTING: [Hold; 2] = [Hold::ChangedUser, Hold::Unexplained];

pub struct Ledger {
    /// Query attributes come before each text.
    attributes: bool,
    /// In the order in which they are said again; of two equal texts the later one counts.
    settings: Vec<Box<[u8]>>,
    closed: Closed,
    cursors: BTreeSet<u32>,
    held: Held,
    /// What is said there of sequences is true of LAST_INSERT_ID().
    inserts: Sequences,
    settled: Holds,
    /// How texts are read.
    context: Arc<Context>,
    reading: Box<Reading>,
    draft: Draft,
    /// The present command is owed no reply.
    silent: bool,
    waiting: VecDeque<(Errand, What)>,
    errands: u32,
    clears: bool,
    leaves: bool,
    unanswerable: bool,
    /// Statements of the protocol that may be open. Each means the tables of the schema in which it was prepared.
    prepared: u32,
    /// Some prepared text asks about the statement before it, or inserts.
    prepared_asks: bool,
    prepared_inserts: bool,
}

/// Statements of which the CN may not have heard that they are closed.
#[derive(Default)]
struct Closed {
    /// Before the newest command that is owed a reply.
    before: BTreeSet<u32>,
    since: BTreeSet<u32>,
}

impl Closed {
    /// False if there is no more place.
    #[must_use]
    fn add(&mut self, id: u32) -> bool {
        let fits = self.before.len() + self.since.len() < CLOSED_MAX;
        if fits {
            self.since.insert(id);
        }
        fits
    }

    fn asked(&mut self) {
        if !self.since.is_empty() {
            self.before.append(&mut self.since);
        }
    }

    fn names(&self) -> BTreeSet<Vec<u8>> {
        self.before.union(&self.since).map(|id| Prepared::name_of(*id)).collect()
    }
}

/// The client's present command.
#[derive(Default)]
enum Draft {
    #[default]
    Plain,
    Ready(What),
    Query,
    Prepare,
}

/// A command whose reply matters.
enum What {
    Text(Box<Said>),
    ResetCursor(u32),
    ResetConnection,
    SetOption,
}

struct Said {
    effects: Effects,
    /// To be said again if the CN takes it.
    setting: Option<Box<[u8]>>,
}

impl Ledger {
    /// `capabilities` are those of the CN leg.
    #[must_use]
    pub fn new(capabilities: Capabilities) -> Self {
        let context = Arc::new(Context {
            schema: Box::default(),
            sql_mode: Known::from(&b""[..]),
            client: Known::from(&b"utf8mb4"[..]),
            connection: Known::from(&b""[..]),
            collation: Known::from(&b""[..]),
        });
        Self {
            attributes: capabilities.has(Capabilities::QUERY_ATTRIBUTES),
            settings: Vec::new(),
            closed: Closed::default(),
            cursors: BTreeSet::new(),
            held: Held::default(),
            inserts: Sequences::default(),
            settled: Holds::default(),
            reading: Box::new(Reading::new(&context)),
            context,
            draft: Draft::Plain,
            silent: false,
            waiting: VecDeque::new(),
            errands: 0,
            clears: false,
            leaves: false,
            unanswerable: false,
            prepared: 0,
            prepared_asks: false,
            prepared_inserts: false,
        }
    }

    /// A command begins; `payload` is what is at hand of it, from the command byte on, with the flags of an execution. True if it
    /// wants all of the payload.
    pub fn begin(&mut self, command: Command, payload: &[u8]) -> bool {
        (self.clears, self.leaves) = (false, false);
        self.silent = command.shape() == Shape::None;
        let id = id_of(payload);
        self.draft = match (command, id) {
            (Command::Query, _) => self.read(Keep::Set(TEXT_MAX), Draft::Query),
            (Command::StmtPrepare, _) => self.read(Keep::Any(0), Draft::Prepare),
            (Command::StmtExecute, Some(id)) => self.execute(id, payload),
            (Command::StmtClose, Some(id)) => self.close(id),
            (Command::StmtReset, Some(id)) if self.cursors.contains(&id) => {
                Draft::Ready(What::ResetCursor(id))
            }
            (Command::InitDb, _) => {
                self.leave_schema();
                Draft::Plain
            }
            (Command::ResetConnection, _) => Draft::Ready(What::ResetConnection),
            (Command::SetOption, _) => Draft::Ready(What::SetOption),
            (Command::ChangeUser, _) => self.hold(Hold::ChangedUser),
            (Command::RegisterReplica, _) => self.hold(Hold::Unexplained),
            _ => Draft::Plain,
        };
        matches!(self.draft, Draft::Query | Draft::Prepare)
    }

    /// Payload of a command that wanted it, the command byte included, in any pieces.
    pub fn payload(&mut self, piece: &[u8]) {
        if let Draft::Query | Draft::Prepare = self.draft {
            self.reading.feed(piece);
        }
    }

    /// The command's last byte has passed.
    pub fn end(&mut self) -> Option<Errand> {
        if !self.silent {
            self.closed.asked();
        }
        let what = match std::mem::take(&mut self.draft) {
            Draft::Plain => return None,
            Draft::Ready(what) => what,
            Draft::Query => self.end_query()?,
            Draft::Prepare => {
                self.end_prepare();
                return None;
            }
        };
        self.errands = self.errands.wrapping_add(1).max(1);
        let errand = Errand(NonZeroU32::new(self.errands).unwrap_or(NonZeroU32::MIN));
        self.waiting.push_back((errand, what));
        Some(errand)
    }

    /// The reply to the newest command has ended: the CN has heard of all before that.
    pub fn caught_up(&mut self) {
        self.closed.before.clear();
    }

    /// The reply to an errand has ended; `failed`: with an ERR.
    pub fn replied(&mut self, errand: Errand, failed: bool) {
        let Some(at) = self.waiting.iter().position(|(waiting, _)| *waiting == errand) else { return };
        let Some((_, what)) = self.waiting.remove(at) else { return };
        match what {
            What::Text(said) if failed => self.failed(&said),
            _ if failed => {}
            What::Text(said) => self.said(*said),
            What::ResetCursor(id) => _ = self.cursors.remove(&id),
            What::ResetConnection => self.reset(),
            What::SetOption => self.settled.add(Hold::Variable),
        }
    }

    /// An OK with a last insert id other than 0.
    pub fn inserted(&mut self) {
        self.inserts.take();
    }

    pub fn transaction_ended(&mut self) {
        self.settled.remove(Hold::NextTransaction);
    }

    /// The session is at another CN.
    pub fn move_on(&mut self) {
        self.closed = Closed::default();
        self.inserts.move_on();
    }

    pub fn holds(&self) -> Holds {
        let mut holds = self.settled;
        for kind in Kind::ALL.into_iter().filter(|kind| self.held.has(*kind)) {
            holds.add(kind.hold());
        }
        if !self.cursors.is_empty() {
            holds.add(Hold::Cursor);
        }
        if self.inserts.hold(false) {
            holds.add(Hold::InsertId);
        }
        holds
    }

    /// Whether the last command is sure to clear the warnings and errors of the one before, and whether it leaves more than those
    /// behind.
    pub fn clears_and_leaves(&self) -> (bool, bool) {
        (self.clears, self.leaves)
    }

    /// Whether the client asks for what only a CN knew that the session has left.
    pub fn is_unanswerable(&self) -> bool {
        self.unanswerable
    }

    /// Whether a whole command asks what the command before it left behind, or may do so.
    pub fn asks_about_last(&self, command: Command, payload: &[u8]) -> bool {
        match command {
            Command::Query => {
                let Start::At(at) = preamble::start(payload, self.attributes) else { return true };
                let text = &payload[at..];
                self.context.doubt().applies(text) || self.asks(&sql::effects(text, self.context.modes()))
            }
            Command::StmtExecute => self.prepared_asks,
            _ => false,
        }
    }

    /// About how many commands a move would take.
    pub fn cost(&self) -> u32 {
        self.settings.len() as u32
    }

    /// What a fresh leg is told before it imports the rest, one after the other: such a CN loses what comes in a burst.
    pub fn settings(&self) -> impl Iterator<Item = Script> {
        let first = ("the beginning of a transfer", TRANSFERRED);
        let settings = self.settings.iter().map(|setting| ("a setting", &**setting));
        std::iter::once(first).chain(settings).map(|(what, sql)| {
            let mut script = Script::default();
            script.statement(what, sql);
            script
        })
    }

    /// What a leg is asked when it has imported: a CN that could not enter the schema says nothing of it.
    pub fn whereabouts() -> Script {
        let mut script = Script::default();
        script.question("the schema", b"SELECT DATABASE()");
        script
    }

    /// What ends the transaction that [`whereabouts`](Self::whereabouts) has begun, where a session is without autocommit.
    pub fn ending() -> Script {
        let mut script = Script::default();
        script.statement("the end of a transfer", b"ROLLBACK");
        script
    }

    /// Whether a leg that has answered [`whereabouts`](Self::whereabouts) is in a schema.
    pub fn is_in(schema: &[u8], answers: &Results) -> bool {
        let [Answer::Rows(table)] = &answers.answers[..] else { return false };
        let [row] = &table.rows[..] else { return false };
        matches!(&row[..], [found] if found.as_deref().unwrap_or_default() == schema)
    }

    /// What the new CN is to import. `connection_id` is the session's, at each CN.
    pub fn import(&self, exported: Exported, connection_id: u32) -> Import {
        let closed = self.closed.names();
        let mut statements = exported.statements;
        statements.retain(|statement| !closed.contains(&statement.name));
        Import { connection_id, schema: exported.schema, statements }
    }

    fn asks(&self, effects: &Effects) -> bool {
        asks(effects) || (effects.has(Effect::ReadsInsertId) && self.inserts.taken())
    }

    fn hold(&mut self, hold: Hold) -> Draft {
        self.settled.add(hold);
        Draft::Plain
    }

    fn read(&mut self, keep: Keep, draft: Draft) -> Draft {
        let attributes = self.attributes && matches!(draft, Draft::Query);
        self.reading.begin(&self.context, self.context.doubt(), attributes, keep);
        draft
    }

    fn execute(&mut self, id: u32, payload: &[u8]) -> Draft {
        let cursors = Execute::CURSOR_READ_ONLY | Execute::CURSOR_FOR_UPDATE | Execute::CURSOR_SCROLLABLE;
        if payload.get(5).is_none_or(|flags| flags & cursors == 0) {
            self.cursors.remove(&id);
        } else if self.cursors.len() < CURSORS_MAX {
            self.cursors.insert(id);
        } else {
            self.settled.add(Hold::TooMuch);
        }
        if self.prepared_inserts {
            self.inserts.take();
        }
        Draft::Plain
    }

    fn close(&mut self, id: u32) -> Draft {
        self.cursors.remove(&id);
        self.prepared = self.prepared.saturating_sub(1);
        if self.closed.add(id) { Draft::Plain } else { self.hold(Hold::TooMuch) }
    }

    fn end_query(&mut self) -> Option<What> {
        let text = self.reading.finish(&self.context);
        let effects = text.effects;
        self.leaves = effects.has(Effect::FoundRows);
        self.clears = !self.leaves && effects.clear_leftovers();
        self.ask_insert_id(&effects);
        if inserts(&effects) {
            self.inserts.take();
        }
        let ends = effects.has(Effect::EndsTransaction) && self.settled.has(Hold::NextTransaction);
        if effects.is_plain() && !ends {
            return None;
        }
        let setting = text.kept.filter(|kept| text.plain_set && setting::can_be_said_again(kept));
        if effects.has(Effect::Uses) {
            self.leave_schema();
        }
        if setting.is_none() {
            self.hold_for_sets(&effects, text.is_query);
        }
        self.take(&effects);
        let setting = setting.map(Vec::into_boxed_slice);
        Some(What::Text(Box::new(Said { effects, setting })))
    }

    /// Nobody looks at executions, so what a text would do then counts from now on.
    fn end_prepare(&mut self) {
        let text = self.reading.finish(&self.context);
        self.prepared += 1;
        self.prepared_asks |= asks(&text.effects) || text.effects.has(Effect::ReadsInsertId);
        self.prepared_inserts |= inserts(&text.effects);
        self.ask_insert_id(&text.effects);
        self.hold_for_sets(&text.effects, text.is_query);
        self.take(&text.effects);
    }

    fn ask_insert_id(&mut self, effects: &Effects) {
        self.unanswerable |= effects.has(Effect::ReadsInsertId) && !self.inserts.ask();
    }

    /// What is open was prepared in the present schema, and would be prepared anew in the next.
    fn leave_schema(&mut self) {
        if self.prepared > 0 {
            self.settled.add(Hold::Statement);
        }
    }

    fn hold_for_sets(&mut self, effects: &Effects, is_query: bool) {
        if effects.has(Effect::Sets) {
            self.settled.add(Hold::Variable);
        }
        let reads = is_query && !effects.has(Effect::Several);
        if effects.has(Effect::UserVariable) && !reads {
            self.settled.add(Hold::UserVariable);
        }
    }

    /// What holds from the moment a text is sent, also if it fails.
    fn take(&mut self, effects: &Effects) {
        for (_, hold) in HOLDS.iter().filter(|(effect, _)| effects.has(*effect)) {
            self.settled.add(*hold);
        }
        for kind in Kind::ALL {
            self.held.take(kind, effects, b"");
        }
        // Texts are in UTF-8 to MatrixOne, whatever the character set.
        if sets_mode(effects) || effects.has(Effect::Unreadable) {
            self.enter_mode(Known::Unsure(0));
        }
    }

    fn enter_mode(&mut self, sql_mode: Known) {
        self.context = Arc::new(Context { sql_mode, ..(*self.context).clone() });
    }

    /// A text that the CN has refused. Of a SET with several items it has taken those before the wrong one.
    fn failed(&mut self, said: &Said) {
        if said.setting.as_ref().is_some_and(|setting| setting.contains(&b',')) {
            self.hold_for_sets(&said.effects, false);
        }
    }

    /// A text that the CN has taken.
    fn said(&mut self, said: Said) {
        // Which table a name means depends on a schema that is not known here.
        self.held.release(Kind::UserLock, &said.effects, b"");
        for (effect, hold) in [
            (Effect::UnlocksTables, Hold::LockTables),
            (Effect::XaEnds, Hold::Xa),
            (Effect::EndsTransaction, Hold::NextTransaction),
        ] {
            if said.effects.has(effect) {
                self.settled.remove(hold);
            }
        }
        let Some(setting) = said.setting else { return };
        if sets_mode(&said.effects)
            && let Some(mode) = setting::only_literal(&setting)
        {
            self.enter_mode(Known::from(mode));
        }
        self.settings.retain(|other| *other != setting);
        let bytes: usize = self.settings.iter().map(|setting| setting.len()).sum();
        if self.settings.len() < SETTINGS_MAX && bytes + setting.len() <= SETTINGS_BYTES_MAX {
            self.settings.push(setting);
        } else {
            self.settled.add(Hold::TooMuch);
        }
    }

    /// The CN has forgotten the session but for its schema.
    fn reset(&mut self) {
        self.settings.clear();
        self.cursors.clear();
        self.held = Held::default();
        self.inserts.reset();
        self.settled = self.settled.and(LASTING.into_iter().collect());
        (self.prepared, self.prepared_asks, self.prepared_inserts) = (0, false, false);
    }
}

fn sets_mode(effects: &Effects) -> bool {
    names(effects, Effect::Sets).any(|set| set == b"sql_mode")
}

/// Whether LAST_INSERT_ID() may be another one then.
fn inserts(effects: &Effects) -> bool {
    let inserting = [Effect::Inserts, Effect::LastInsertId, Effect::Routine, Effect::Executes];
    inserting.into_iter().any(|effect| effects.has(effect))
}

fn asks(effects: &Effects) -> bool {
    let asking = [Effect::AsksAboutLast, Effect::Executes, Effect::Routine, Effect::Unreadable];
    asking.into_iter().any(|effect| effects.has(effect))
}

#[cfg(test)]
mod tests;
