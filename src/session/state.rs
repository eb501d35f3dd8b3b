//! All that a session has gathered on its CN and that another CN would have to be told.
//!
//! The dialog shows each command as it passes ([`begin`](State::begin), [`payload`](State::payload), [`end`](State::end)) and
//! the replies to those that matter, in the same order. A command that matters is an [`Errand`]; an ordinary one is none, and allocates
//! nothing. Sources are the CN's session tracking, the commands, and a light reading of their SQL. What can be carried over
//! is kept; anything else is a hold, and so is whatever is not certain.
//!
//! What makes a hold counts from the moment the command is sent, also when it fails: of several statements in one text some may have
//! run. What ends a hold counts only when the reply ended without an ERR, and not when the same text makes the hold as
//! well. Nothing here judges whether to move, and nothing writes: that is [`restore`](super::restore).

mod context;
mod errand;
mod held;
mod literal;
mod reading;
mod variables;

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::hold::{Hold, Holds};
use super::statements::{HEAD_MAX, Source, Statements, TEXT_MAX, Told, id_of};
use super::tracking::{Beginning, Wishes};
use crate::sql::{self, Effect, Effects};
use crate::wire::capability::Capabilities;
use crate::wire::command::Command;
use crate::wire::statement::{Execute, LAST_PREPARED, PrepareOk};
use crate::wire::status::Status;
use crate::wire::track::{Change, Changes};
pub use context::{Context, Known};
pub use errand::Errand;
use errand::{Coming, Pending, Said, Target, What};
pub use held::{Held, NAMES_MAX, SQL_PREPARED_MAX, SQL_TEXT_MAX, SqlPrepared, USER_VARIABLES_MAX};
use held::{Inner, Kind, names};
use reading::{Keep, Preamble, Reading, Text};
use variables::{Class, class};
pub use variables::{VARIABLES_MAX, Variable, Variables, write_asked, write_told};

/// Holds that an effect makes by itself.
const HOLDING: [(Effect, Hold); 12] = [
    (Effect::LocksTables, Hold::LockTables),
    (Effect::NextTransaction, Hold::NextTransaction),
    (Effect::Role, Hold::Role),
    (Effect::Password, Hold::ChangedUser),
    (Effect::UntransferableVariable, Hold::Variable),
    (Effect::Tracking, Hold::Tracking),
    (Effect::Xa, Hold::Xa),
    (Effect::Routine, Hold::Routine),
    (Effect::Sequence, Hold::Sequence),
    (Effect::ConnectionId, Hold::ConnectionId),
    (Effect::Profiling, Hold::Profiling),
    (Effect::Unreadable, Hold::Unreadable),
];

/// Those of them that another effect ends.
const ENDING: [(Effect, Hold); 2] = [(Effect::UnlocksTables, Hold::LockTables), (Effect::XaEnds, Hold::Xa)];

/// Further effects that are settled with the reply.
const SETTLED: [Effect; 17] = [
    Effect::UserVariable,
    Effect::LocksInstance,
    Effect::PreparesUnknown,
    Effect::TakesUserLock,
    Effect::ReleasesUserLock,
    Effect::ReleasesAllUserLocks,
    Effect::UnlocksTables,
    Effect::CreatesTemporaryTable,
    Effect::DropsTable,
    Effect::OpensHandler,
    Effect::ClosesHandler,
    Effect::Prepares,
    Effect::Executes,
    Effect::Deallocates,
    Effect::XaEnds,
    Effect::LastInsertId,
    Effect::Sets,
];

/// Effects that a report of "other state" may be about.
const EXPLAINING: [Effect; 14] = [
    Effect::UserVariable,
    Effect::CreatesTemporaryTable,
    Effect::DropsTable,
    Effect::Prepares,
    Effect::PreparesUnknown,
    Effect::Executes,
    Effect::Deallocates,
    Effect::Role,
    Effect::UntransferableVariable,
    Effect::Tracking,
    Effect::Routine,
    Effect::Profiling,
    Effect::LastInsertId,
    Effect::Sets,
];

/// What SET NAMES sets.
pub const CHARACTER_SETS: [&[u8]; 3] =
    [b"character_set_client", b"character_set_connection", b"character_set_results"];

/// What COM_RESET_CONNECTION does not end. The client may have kept the CN's connection id; MariaDB keeps the role.
const LASTING: [Hold; 6] =
    [Hold::RelayLogin, Hold::ChangedUser, Hold::NoDataSet, Hold::Opaque, Hold::Role, Hold::ConnectionId];

/// The session-side record of what a CN holds for one session.
pub struct State {
    capabilities: Capabilities,
    pub(super) mariadb: bool,
    wishes: Wishes,
    /// What it was shown before it changed `session_track_*`.
    first_wishes: Wishes,
    /// The last text read or wrote tables, and so clears what the one before it left behind.
    clears: bool,
    /// The last text asked for the number of all rows that it found.
    leaves: bool,
    /// As the login left it.
    pub(super) login: Arc<Context>,
    pub(super) context: Arc<Context>,
    /// Changes to values that were not told.
    unsure: u32,
    /// Reads texts; made with the first one.
    reading: Option<Box<Reading>>,
    draft: Draft,
    errands: VecDeque<Pending>,
    /// Errands so far.
    sent: u32,
    settled: Holds,
    /// COM_RESET_CONNECTION has ended the CN's tracking.
    untracked: bool,
    /// It holds locks that UNLOCK TABLES does not end.
    instance_locked: bool,
    /// The character sets were last set by SET NAMES with a collation, which the results have since then as well.
    pub(super) names_collate: bool,
    /// LAST_INSERT_ID() may be other than 0.
    pub(super) inserted: bool,
    /// The option of COM_SET_OPTION.
    pub(super) option: Option<u16>,
    pub(super) variables: Variables,
    pub(super) statements: Statements,
    held: Option<Box<Held>>,
}

/// The client's present command.
enum Draft {
    /// Nothing of it matters.
    Plain,
    /// All is known.
    Ready(What),
    Query,
    Prepare,
    /// Its head was not at hand, at most [`HEAD_MAX`] bytes.
    Gather(Command, Vec<u8>),
}

impl State {
    /// `capabilities` are those of the CN leg, `mariadb` tells the flavour of the CN (its greeting leaves LONG_PASSWORD unset),
    /// `beginning` comes from [`learn`](super::tracking::learn), and `schema` is the login's.
    #[must_use]
    pub fn new(
        capabilities: Capabilities,
        mariadb: bool,
        beginning: Beginning,
        schema: Option<&[u8]>,
    ) -> Self {
        let login = Arc::new(Context { schema: schema.unwrap_or_default().into(), ..beginning.context });
        let tracked = capabilities.has(Capabilities::SESSION_TRACK);
        Self {
            capabilities,
            mariadb,
            wishes: beginning.wishes.clone(),
            first_wishes: beginning.wishes,
            clears: false,
            leaves: false,
            context: login.clone(),
            login,
            unsure: 0,
            reading: None,
            draft: Draft::Plain,
            errands: VecDeque::new(),
            sent: 0,
            settled: (!tracked).then_some(Hold::Tracking).into_iter().collect(),
            untracked: false,
            instance_locked: false,
            names_collate: false,
            inserted: false,
            option: None,
            variables: Variables::default(),
            statements: Statements::default(),
            held: None,
        }
    }

    /// What the client is shown of the change that was noted last.
    pub fn wishes(&self) -> Wishes {
        self.wishes.clone()
    }

    /// Whether the last command is sure to clear the warnings and errors of the one before, and whether it leaves more than those
    /// behind.
    pub fn clears_and_leaves(&self) -> (bool, bool) {
        (self.clears, self.leaves)
    }

    /// Something has changed, and the CN could not say what: its reply ended with a legacy EOF.
    pub fn changed_unseen(&mut self, errand: Option<Errand>) {
        if !self.explains(errand) {
            self.settled.add(Hold::Unexplained);
        }
    }

    /// A command begins; `payload` is what is at hand of it, from the command byte on. True if it wants all of the payload.
    pub fn begin(&mut self, command: Command, payload: &[u8]) -> bool {
        (self.clears, self.leaves) = (false, false);
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
                self.untracked = true;
                Draft::Ready(What::ChangeUser)
            }
            Command::ResetConnection => {
                self.untracked = true;
                Draft::Ready(What::ResetConnection)
            }
            Command::InitDb if self.untracked => Draft::Ready(What::InitDb),
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
        self.sent = self.sent.checked_add(1).unwrap_or(1);
        let errand = Errand(NonZeroU32::new(self.sent)?);
        self.errands.push_back(Pending { errand, what });
        Some(errand)
    }

    /// The CN's id for a client's statement id; none: leave it as it is.
    #[inline]
    pub fn cn_statement(&self, client_id: u32) -> Option<u32> {
        if self.is_coming(client_id) {
            return None;
        }
        self.statements.at_cn(client_id)
    }

    /// How many bytes of an execution [`execute_head`](Self::execute_head) needs. None: nothing to do. It grows with what `first`
    /// tells, so it is asked again until it is `first`'s own length.
    pub fn execute_head_len(&self, first: &[u8]) -> Option<usize> {
        if self.is_coming(id_of(first)?) {
            return None;
        }
        self.statements.head_len(first, self.attributes())
    }

    /// What stands in the place of the head of COM_STMT_EXECUTE or COM_STMT_BULK_EXECUTE, with the parameter types that this CN
    /// was never told. None: as it is.
    pub fn execute_head(&mut self, head: &[u8]) -> Option<Vec<u8>> {
        self.execute_head_len(head)?;
        let attributes = self.attributes();
        self.statements.execute_head(head, attributes)
    }

    /// COM_STMT_PREPARE_OK; the id that the client must see.
    pub fn prepared(&mut self, errand: Errand, ok: &PrepareOk) -> u32 {
        let Some(Pending { what: What::Prepare(coming), .. }) =
            self.errands.iter().find(|pending| pending.errand == errand)
        else {
            return ok.statement;
        };
        let (executed, closed) = (coming.executed, coming.closed);
        let (id, fits) = self.statements.enter(coming.source.clone(), self.context.clone(), ok);
        if !fits {
            self.settled.add(Hold::TooMuch);
        }
        if let Some(statement) = self.statements.get_mut(id).filter(|_| executed) {
            statement.note_types(Told::Unknown);
        }
        if closed {
            self.statements.close(id);
        }
        for pending in &mut self.errands {
            if let Some(target @ Target::Coming(_)) = pending.what.target_mut()
                && *target == Target::Coming(errand)
            {
                *target = Target::Known(id);
            }
        }
        id
    }

    /// An OK that carries session-state changes; `errand` is that of the command that it answers.
    pub fn changed(&mut self, errand: Option<Errand>, changes: Changes<'_>) {
        let (mut told, mut other) = (false, false);
        for change in changes.iter() {
            match change {
                Ok(Change::SystemVariable { name, value }) => {
                    told = true;
                    self.variable_reported(errand, &name.to_ascii_lowercase(), value);
                }
                Ok(Change::Schema(schema)) => {
                    told = true;
                    if *self.context.schema != *schema {
                        self.context = Arc::new(Context { schema: schema.into(), ..(*self.context).clone() });
                    }
                }
                Ok(Change::State(_)) => other = true,
                Ok(
                    Change::Gtids { .. }
                    | Change::TransactionCharacteristics(_)
                    | Change::TransactionState(_),
                ) => {}
                Ok(Change::Unknown { .. }) | Err(_) => self.settled.add(Hold::Unexplained),
            }
        }
        if other && !told && !self.explains(errand) {
            self.settled.add(Hold::Unexplained);
        }
    }

    /// An OK with a last insert id other than 0.
    pub fn inserted(&mut self, id: u64) {
        self.inserted |= id != 0;
    }

    /// The status flag IN_TRANS has gone.
    pub fn transaction_ended(&mut self) {
        self.settled.remove(Hold::NextTransaction);
    }

    /// The reply is complete. `failed`: it ended with an ERR; `status`: the flags of its last OK or EOF.
    pub fn replied(&mut self, errand: Errand, failed: bool, status: Status) {
        let Some(at) = self.errands.iter().position(|pending| pending.errand == errand) else { return };
        let Some(Pending { what, .. }) = self.errands.remove(at) else { return };
        if self.untracked && !matches!(what, What::ChangeUser | What::ResetConnection) {
            // It may have changed what the CN did not report.
            self.settled.add(Hold::Unexplained);
        }
        match what {
            What::Text(said) => self.said(*said, failed),
            What::Prepare(_) if failed => self.statements.forget_last(),
            What::Prepare(_) | What::InitDb => {}
            What::Execute { source, target, cursor } => {
                self.note_names(&source.effects);
                for name in names(&source.effects, Effect::Sets) {
                    self.variable_set(&name.to_ascii_lowercase());
                }
                self.settle(&source.effects, failed);
                self.cursor(target, cursor && !failed && status.has(Status::CURSOR_EXISTS));
            }
            What::Fetch(target) if !failed && status.has(Status::LAST_ROW_SENT) => self.cursor(target, false),
            What::Reset(target) if !failed => self.cursor(target, false),
            What::Fetch(_) | What::Reset(_) => {}
            What::SetOption(option) if !failed => self.option = Some(option),
            What::SetOption(_) => {}
            What::ChangeUser | What::ResetConnection if !failed => self.reset(),
            What::ChangeUser | What::ResetConnection => self.settled.add(Hold::Unexplained),
        }
    }

    /// Forgets all that the CN forgets with COM_RESET_CONNECTION: [`replied`](Self::replied) does it. The CN tracks nothing from then
    /// on, which is a hold until [`tracked`](Self::tracked).
    pub fn reset(&mut self) {
        self.untracked = true;
        self.settled = self.settled.and(LASTING.into_iter().collect());
        if !self.capabilities.has(Capabilities::SESSION_TRACK) {
            self.settled.add(Hold::Tracking);
        }
        self.context = Arc::new(Context { schema: self.context.schema.clone(), ..(*self.login).clone() });
        self.variables.clear();
        self.statements.clear();
        self.held = None;
        self.wishes = self.first_wishes.clone();
        self.instance_locked = false;
        self.names_collate = false;
        self.inserted = false;
    }

    /// The CN has answered [`script`](super::tracking::script) anew. What it was like before may differ from what the login made of it:
    /// COM_RESET_CONNECTION forgets what the client's capabilities did to `sql_mode`.
    pub fn tracked(&mut self, beginning: &Beginning) {
        self.untracked = false;
        let mode = &beginning.context.sql_mode;
        if *mode != self.context.sql_mode {
            self.context = Arc::new(Context { sql_mode: mode.clone(), ..(*self.context).clone() });
            if !self.variables.change(b"sql_mode", true, mode.value()) {
                self.settled.add(Hold::TooMuch);
            }
        }
    }

    /// Everything that is known here to keep the session; transaction, reply and long data are the dialog's.
    pub fn holds(&self) -> Holds {
        let mut holds = self.settled;
        if self.untracked {
            holds.add(Hold::Tracking);
        }
        let unqualified = self.capabilities.has(Capabilities::NO_SCHEMA);
        if unqualified && self.held().is_some_and(|held| !held.user_variables.is_empty()) {
            // Such a session cannot ask information_schema which variables it has.
            holds.add(Hold::UserVariable);
        }
        if !self.mariadb
            && self.held().is_some_and(|held| !held.user_variables.iter().all(|name| name.is_ascii()))
        {
            // In another character set the same bytes would be another name, and only MariaDB tells which ones there are.
            holds.add(Hold::UserVariable);
        }
        for pending in &self.errands {
            pending.what.effects().into_iter().for_each(|effects| add_holds(&mut holds, effects));
            if pending.what.opens_cursor().is_some() {
                holds.add(Hold::Cursor);
            }
            if pending.what.prepares_unknown() {
                holds.add(Hold::SqlPrepare);
            }
        }
        if let Some(held) = &self.held {
            Kind::ALL.iter().filter(|kind| held.has(**kind)).for_each(|kind| holds.add(kind.hold()));
            let stays = |one: &SqlPrepared| one.inner.is_none() || !self.can_enter(&one.context);
            if held.sql_prepared.iter().any(stays) {
                holds.add(Hold::SqlPrepare);
            }
        }
        for (_, statement) in self.statements.iter() {
            if statement.cursor {
                holds.add(Hold::Cursor);
            }
            if statement.is_stuck() || !self.can_enter(&statement.context) {
                holds.add(Hold::Statement);
            }
        }
        holds
    }

    /// About how many commands a restore would take, by what can be told at a glance.
    pub fn cost(&self) -> u32 {
        let held = self.held();
        let sql_prepared = held.map_or(0, |held| held.sql_prepared.len());
        let asks = self.inserted || held.is_some_and(|held| !held.user_variables.is_empty());
        let sets = !self.variables.is_empty() || asks;
        (self.statements.len() + sql_prepared) as u32 + u32::from(asks) + u32::from(sets)
    }

    /// All that a restore needs is known without asking the CN.
    pub fn complete(&self) -> bool {
        let user_variables = self.held().is_some_and(|held| !held.user_variables.is_empty());
        !self.inserted && !user_variables && self.variables.iter().all(|variable| variable.value.is_some())
    }

    /// Whether a whole command asks what the command before it left behind, or may do so.
    pub fn asks_about_last(&self, command: Command, payload: &[u8]) -> bool {
        let asks = |effects: &Effects| {
            let asking = [
                Effect::AsksAboutLast,
                Effect::Executes,
                Effect::Routine,
                Effect::PreparesUnknown,
                Effect::Unreadable,
            ];
            asking.into_iter().any(|effect| effects.has(effect))
        };
        match command {
            Command::Query => {
                let text = payload.get(if self.attributes() { 3 } else { 1 }..).unwrap_or_default();
                asks(&sql::effects(text, self.context.modes()))
            }
            Command::StmtExecute | Command::StmtBulkExecute => id_of(payload)
                .and_then(|id| self.statements.get(id))
                .is_none_or(|statement| asks(&statement.source.effects)),
            // The client fetches from a cursor of the old CN.
            Command::StmtFetch => true,
            _ => false,
        }
    }

    pub(super) fn held(&self) -> Option<&Held> {
        self.held.as_deref()
    }

    pub(super) fn is_current(&self, context: &Arc<Context>) -> bool {
        Arc::ptr_eq(context, &self.context) || **context == *self.context
    }

    /// Whether another leg can be brought into a context.
    fn can_enter(&self, context: &Arc<Context>) -> bool {
        self.is_current(context) || context.is_known()
    }

    fn held_mut(&mut self) -> &mut Held {
        self.held.get_or_insert_default()
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn attributes(&self) -> bool {
        self.capabilities.has(Capabilities::QUERY_ATTRIBUTES)
    }
}

/// Reading commands.
impl State {
    fn read_text(&mut self, command: Command, keep: Keep) {
        let doubt = match self.errands.iter().any(|pending| may_change_context(&pending.what)) {
            true => context::Doubt { quotes: true, letters: true },
            false => self.context.doubt(),
        };
        let attributes = command == Command::Query && self.attributes();
        let preamble = if attributes { Preamble::Attributes } else { Preamble::Command };
        let context = &self.context;
        let reading = self.reading.get_or_insert_with(|| Box::new(Reading::new(context)));
        reading.begin(context, doubt, preamble, keep);
    }

    /// Bytes of statement texts for which there is place.
    fn text_left(&self) -> usize {
        let coming = self.errands.iter().filter_map(|pending| match &pending.what {
            What::Prepare(coming) => coming.source.text.as_ref().map(|text| text.len()),
            _ => None,
        });
        TEXT_MAX.saturating_sub(self.statements.text_bytes() + coming.sum::<usize>())
    }

    fn end_text(&mut self) -> Option<Text> {
        let text = self.reading.as_mut()?.finish(&self.context);
        if text.unreadable {
            self.settled.add(Hold::Unreadable);
        }
        let may_insert = [Effect::Inserts, Effect::LastInsertId, Effect::Routine, Effect::Executes];
        self.inserted |= may_insert.into_iter().any(|effect| text.effects.has(effect));
        self.mention(&text.effects);
        Some(text)
    }

    fn mention(&mut self, effects: &Effects) {
        if effects.has(Effect::UserVariable) && !self.held_mut().mention(effects) {
            self.settled.add(Hold::TooMuch);
        }
    }

    fn end_query(&mut self) -> Option<What> {
        let text = self.end_text()?;
        self.weigh_leftovers(&text.effects);
        let unreported = self.untracked && !text.effects.is_plain();
        if !weighs(&text.effects) && !unreported {
            return None;
        }
        let unreported = names(&text.effects, Effect::Sets).map(|name| name.to_ascii_lowercase().into());
        let unreported = unreported.collect();
        let inner = match text.effects.has(Effect::Prepares) {
            true => text.kept.and_then(|text| self.inner(text)),
            false => None,
        };
        let (effects, plain_set) = (text.effects, text.plain_set);
        Some(What::Text(Box::new(Said { effects, plain_set, unreported, inner })))
    }

    fn weigh_leftovers(&mut self, effects: &Effects) {
        self.leaves = effects.has(Effect::FoundRows);
        self.clears = !self.leaves && (effects.has(Effect::Tables) || effects.has(Effect::Inserts));
    }

    /// What a lone PREPARE of a literal prepares.
    fn inner(&mut self, text: Vec<u8>) -> Option<Inner> {
        let modes = self.context.modes();
        let effects = sql::effects(&literal::prepared_text(&text, modes)?, modes);
        self.mention(&effects);
        Some(Inner { text: text.into(), effects: Arc::new(effects) })
    }

    fn end_prepare(&mut self) -> Option<What> {
        let text = self.end_text()?;
        let source = Source { text: text.kept.map(Vec::into_boxed_slice), effects: text.effects };
        Some(What::Prepare(Coming { source: Arc::new(source), executed: false, closed: false }))
    }

    /// Judges a command by its head; none if more of it is needed. `whole`: there is no more.
    fn judge(&mut self, command: Command, payload: &[u8], whole: bool) -> Option<Draft> {
        if command == Command::SetOption {
            let option = payload.get(1..3)?.first_chunk().map(|option| u16::from_le_bytes(*option))?;
            return Some(Draft::Ready(What::SetOption(option)));
        }
        let id = id_of(payload)?;
        let Some(target) = self.target(id) else { return Some(Draft::Plain) };
        match command {
            Command::StmtClose => {
                match target {
                    Target::Known(id) => self.statements.close(id),
                    Target::Coming(_) => {
                        self.coming_mut().into_iter().for_each(|coming| coming.closed = true)
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
        let known = match target {
            Target::Known(id) => self.statements.get(id).map(|statement| statement.source.clone()),
            Target::Coming(_) => None,
        };
        if let Some(source) = known {
            self.weigh_leftovers(&source.effects);
        }
        let cursors = Execute::CURSOR_READ_ONLY | Execute::CURSOR_FOR_UPDATE | Execute::CURSOR_SCROLLABLE;
        let cursor = command == Command::StmtExecute && payload.get(5)? & cursors != 0;
        let (source, open) = match target {
            Target::Coming(_) => {
                let coming = self.coming_mut()?;
                coming.executed = true;
                (coming.source.clone(), true)
            }
            Target::Known(id) => {
                let attributes = self.attributes();
                let statement = self.statements.get_mut(id)?;
                match statement.told_by(payload, attributes) {
                    Told::Cut if !whole => return None,
                    Told::Cut => statement.note_types(Told::Unknown),
                    told => statement.note_types(told),
                }
                let open = statement.cursor;
                statement.cursor |= cursor;
                if !open && !cursor && !weighs(&statement.source.effects) && !self.untracked {
                    return Some(Draft::Plain);
                }
                (statement.source.clone(), open)
            }
        };
        let matters = open || cursor || weighs(&source.effects) || !source.effects.is_plain();
        Some(if matters { Draft::Ready(What::Execute { source, target, cursor }) } else { Draft::Plain })
    }

    /// The statement that an id stands for; none if it is not kept.
    fn target(&self, id: u32) -> Option<Target> {
        if id == LAST_PREPARED
            && let Some(errand) = self.coming()
        {
            return Some(Target::Coming(errand));
        }
        let id = self.statements.resolve(id)?;
        self.statements.get(id).map(|_| Target::Known(id))
    }

    /// Whether a client's id stands for a statement whose preparation has not been answered.
    fn is_coming(&self, id: u32) -> bool {
        id == LAST_PREPARED && self.coming().is_some()
    }

    /// The newest preparation that has not been answered.
    fn coming(&self) -> Option<Errand> {
        self.errands
            .iter()
            .rev()
            .find(|pending| matches!(pending.what, What::Prepare(_)))
            .map(|pending| pending.errand)
    }

    fn coming_mut(&mut self) -> Option<&mut Coming> {
        self.errands.iter_mut().rev().find_map(|pending| match &mut pending.what {
            What::Prepare(coming) => Some(coming),
            _ => None,
        })
    }
}

/// Settling replies.
impl State {
    fn said(&mut self, mut said: Said, failed: bool) {
        // A SET of which any part is refused sets nothing.
        if !(failed && said.plain_set) {
            self.note_names(&said.effects);
            said.unreported.iter().for_each(|name| self.variable_set(name));
        }
        self.settle(&said.effects, failed);
        if said.effects.has(Effect::Executes) {
            self.executed(&said.effects, failed);
        }
        if !failed && let Some(held) = &mut self.held {
            names(&said.effects, Effect::Deallocates).for_each(|name| held.deallocate(name));
        }
        for effect in [Effect::Prepares, Effect::PreparesUnknown] {
            if said.effects.has(effect) {
                let inner = said.inner.take();
                self.sql_prepared(names(&said.effects, effect), inner, failed);
            }
        }
    }

    /// Takes note of whether a text sets the character sets, and how.
    fn note_names(&mut self, effects: &Effects) {
        let sets = |wanted: &[u8]| names(effects, Effect::Sets).any(|name| name.eq_ignore_ascii_case(wanted));
        if CHARACTER_SETS.iter().any(|name| sets(name)) {
            self.names_collate = CHARACTER_SETS.iter().all(|name| sets(name)) && sets(COLLATION);
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
        let unnamed = named.peek().is_none();
        let find = |name: &[u8]| {
            let prepared =
                self.held()?.sql_prepared.iter().find(|one| one.name.eq_ignore_ascii_case(name))?;
            prepared.inner.as_ref().map(|inner| inner.effects.clone())
        };
        let found: Vec<_> = named.map(find).collect();
        if unnamed || found.iter().any(Option::is_none) {
            self.settled.add(Hold::Routine);
        }
        for inner in found.into_iter().flatten() {
            for name in names(&inner, Effect::Sets) {
                self.variable_set(&name.to_ascii_lowercase());
            }
            self.settle(&inner, failed);
        }
    }

    /// Takes note of what a text let go of, and then of what it took.
    fn settle(&mut self, effects: &Effects, failed: bool) {
        let schema = self.context.schema.clone();
        if !failed {
            for (effect, hold) in ENDING {
                if effects.has(effect) && !(hold == Hold::LockTables && self.instance_locked) {
                    self.settled.remove(hold);
                }
            }
            if let Some(held) = &mut self.held
                && !effects.has(Effect::Uses)
            {
                Kind::ALL.into_iter().for_each(|kind| held.release(kind, effects, &schema));
            }
        }
        for (effect, hold) in HOLDING {
            if effects.has(effect) {
                self.settled.add(hold);
            }
        }
        if effects.has(Effect::LocksInstance) {
            self.instance_locked = true;
            self.settled.add(Hold::LockTables);
        }
        if Kind::ALL.iter().any(|kind| effects.has(kind.taken_by())) {
            let held = self.held_mut();
            Kind::ALL.into_iter().for_each(|kind| held.take(kind, effects, &schema));
        }
    }

    fn cursor(&mut self, target: Target, open: bool) {
        let Target::Known(id) = target else { return };
        let coming = self.errands.iter().any(|pending| pending.what.opens_cursor() == Some(target));
        if let Some(statement) = self.statements.get_mut(id) {
            statement.cursor = open || coming;
        }
    }

    fn explains(&self, errand: Option<Errand>) -> bool {
        let pending = self.errands.iter().find(|pending| Some(pending.errand) == errand);
        pending.is_some_and(|pending| match pending.what.effects() {
            Some(effects) => EXPLAINING.into_iter().any(|effect| effects.has(effect)),
            None => matches!(pending.what, What::ChangeUser | What::ResetConnection | What::InitDb),
        })
    }

    /// The tracker has told of a variable, by its name in lower case.
    fn variable_reported(&mut self, errand: Option<Errand>, name: &[u8], value: &[u8]) {
        self.wishes.note(name, value);
        let pending = self.errands.iter_mut().find(|pending| Some(pending.errand) == errand);
        let exact = match pending {
            Some(Pending { what: What::Text(said), .. }) => {
                said.explains(name)
                    && said.plain_set
                    && !(sets_collation(name) && said.sets_collation_twice())
            }
            _ => false,
        };
        self.variable(name, true, exact.then_some(value));
    }

    /// A text sets a variable, by its name in lower case, and the tracker has not told of it.
    fn variable_set(&mut self, name: &[u8]) {
        self.variable(name, false, None);
    }

    fn variable(&mut self, name: &[u8], reported: bool, value: Option<&[u8]>) {
        match class(name) {
            Class::Ignored => return,
            Class::Tracking if name == b"session_track_system_variables" => {
                return self.wishes.note(name, b"");
            }
            Class::Tracking => return,
            Class::InsertId => return self.inserted = true,
            Class::Untransferable => return self.settled.add(Hold::Variable),
            Class::Plain => {}
        }
        if !self.variables.change(name, reported, value) {
            self.settled.add(Hold::TooMuch);
        }
        match name {
            b"sql_mode" | b"character_set_client" => self.change_context(name, value),
            b"character_set_connection" => {
                self.change_context(name, value);
                if value.is_some() {
                    self.variables.forget(COLLATION);
                } else if !self.variables.change(COLLATION, true, None) {
                    self.settled.add(Hold::TooMuch);
                }
            }
            COLLATION => {
                // It sets the character set that it belongs to.
                let charset = value.and_then(|value| value.split(|byte| *byte == b'_').next());
                self.change_context(b"character_set_connection", charset);
                self.change_context(name, value);
            }
            _ => {}
        }
    }

    /// Makes one value of the context another; without a value, one that was not told.
    fn change_context(&mut self, name: &[u8], value: Option<&[u8]>) {
        let known = value.map_or_else(
            || {
                self.unsure += 1;
                Known::Unsure(self.unsure)
            },
            Known::from,
        );
        let mut context = (*self.context).clone();
        match name {
            b"sql_mode" => context.sql_mode = known,
            b"character_set_client" => context.client = known,
            COLLATION => context.collation = known,
            _ => {
                // It brings its default collation with it.
                context.collation =
                    if value.is_some() { Known::Value(Box::default()) } else { known.clone() };
                context.connection = known;
            }
        }
        if context != *self.context {
            self.context = Arc::new(context);
        }
    }
}

fn up_to(bytes: &[u8], most: usize) -> &[u8] {
    &bytes[..bytes.len().min(most)]
}

/// Whether a variable, by its name in lower case, changes the connection's collation.
fn sets_collation(name: &[u8]) -> bool {
    matches!(name, b"character_set_connection" | COLLATION)
}

pub(super) const COLLATION: &[u8] = b"collation_connection";

/// Whether the reply to a text with these effects matters.
fn weighs(effects: &Effects) -> bool {
    let holding = || HOLDING.iter().any(|(effect, _)| effects.has(*effect));
    !effects.is_plain() && (SETTLED.iter().any(|effect| effects.has(*effect)) || holding())
}

fn add_holds(holds: &mut Holds, effects: &Effects) {
    HOLDING.iter().filter(|(effect, _)| effects.has(*effect)).for_each(|(_, hold)| holds.add(*hold));
    Kind::ALL.iter().filter(|kind| effects.has(kind.taken_by())).for_each(|kind| holds.add(kind.hold()));
    if effects.has(Effect::Executes) {
        holds.add(Hold::Routine);
    }
}

/// Whether a command may change how the texts behind it are read.
fn may_change_context(what: &What) -> bool {
    let Some(effects) = what.effects() else {
        return matches!(what, What::ChangeUser | What::ResetConnection);
    };
    let changes = |name: &[u8]| {
        let name = name.to_ascii_lowercase();
        name == b"sql_mode" || name.starts_with(b"character") || name.starts_with(b"names")
    };
    effects.has(Effect::Routine) || effects.has(Effect::Executes) || names(effects, Effect::Sets).any(changes)
}

#[cfg(test)]
pub(super) mod tests;
