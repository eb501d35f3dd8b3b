//! All that a session has gathered on its CN and that another CN would have to be told.
//!
//! The dialog shows each command as it passes ([`begin`](State::begin), [`payload`](State::payload), [`end`](State::end)) and
//! the replies to those that matter, in the same order. A command that matters is an [`Errand`]; an ordinary one is none, and allocates
//! nothing. Sources are the CN's session tracking, the commands, and a light reading of their SQL. What can be carried over
//! is kept; anything else is a hold, and so is whatever is not certain.
//!
//! What makes a hold counts from the moment the command is sent, also when it fails: of several statements in one text some may have
//! run. What ends a hold counts only when the reply ended without an ERR, and not when the same text makes the hold afterwards.
//! A text that the CN could not parse has done nothing. Nothing here judges whether to move, and nothing writes: that is
//! [`restore`](super::restore).

mod command;
pub(super) mod context;
pub(super) mod errand;
pub(super) mod held;
mod literal;
pub(super) mod preamble;
pub(super) mod reading;
mod reply;
mod report;
pub(super) mod sequence;
mod variables;
mod weight;

use std::sync::Arc;

use super::hold::{Hold, Holds};
use super::statements::{Statements, Told, id_of};
use super::tracking::{Beginning, Touched, Wishes};
use crate::sql::{self, Effect, Effects};
use crate::wire::capability::Capabilities;
use crate::wire::command::Command;
use crate::wire::statement::{LAST_PREPARED, PrepareOk};
pub use context::{Context, Known};
pub use errand::Errand;
use errand::{Errands, Target, What};
use held::Kind;
pub use held::{Held, NAMES_MAX, SQL_PREPARED_MAX, SQL_TEXT_MAX, SqlPrepared, USER_VARIABLES_MAX};
use preamble::Start;
use reading::Reading;
pub use reply::Verdict;
pub use report::{CLIENT, COLLATION, CONNECTION, RESULTS};
use sequence::Sequences;
pub use variables::{VARIABLES_MAX, Variable, Variables, write_asked, write_told};
use weight::add_holds;

/// What COM_RESET_CONNECTION does not end. The client may have kept the CN's connection id.
const LASTING: [Hold; 5] =
    [Hold::RelayLogin, Hold::ChangedUser, Hold::NoDataSet, Hold::Opaque, Hold::ConnectionId];

/// The session-side record of what a CN holds for one session.
pub struct State {
    capabilities: Capabilities,
    pub(super) mariadb: bool,
    wishes: Wishes,
    /// The last text read or wrote tables, and so clears what the one before it left behind.
    clears: bool,
    /// The last text asked for the number of all rows that it found.
    leaves: bool,
    /// The client's present command changes what the CN tells.
    untracks: bool,
    /// SET SESSION TRANSACTION within a transaction: it is in force after the next COMMIT or ROLLBACK, and not after any other end.
    pending_characteristics: bool,
    /// As the login left it, or the last COM_RESET_CONNECTION.
    pub(super) login: Arc<Context>,
    pub(super) context: Arc<Context>,
    /// Changes to values that were not told.
    unsure: u32,
    /// Reads texts; made with the first one.
    reading: Option<Box<Reading>>,
    draft: Draft,
    errands: Errands,
    settled: Holds,
    /// The CN does not report what corelane has asked it to.
    untracked: Option<Untracked>,
    /// There was a COM_RESET_CONNECTION, which undoes what the CN does by itself at a login (`init_connect`).
    pub(super) reset: bool,
    /// The schema was entered since: till then the character set that goes with it is another one.
    pub(super) entered: bool,
    /// It holds locks that UNLOCK TABLES does not end.
    instance_locked: bool,
    pub(super) collation: Collation,
    /// LAST_INSERT_ID() may be other than 0.
    pub(super) inserted: bool,
    /// It has set a role.
    pub(super) role: bool,
    sequences: Sequences,
    /// A text asks for what only a CN knew that the session has left.
    unanswerable: bool,
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
    /// Its head was not at hand, at most [`HEAD_MAX`](super::statements::HEAD_MAX) bytes.
    Gather(Command, Vec<u8>),
}

/// The collation of what the client sends as parameters and of how results are described, which no variable tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Collation {
    /// That of the login, or the default one of `character_set_client` and `character_set_results`.
    Default,
    /// That of the connection, where these are so: it comes from the last SET NAMES, which had a collation. The others have the default
    /// one.
    Connection { client: bool, results: bool },
    /// It came from a SET NAMES with a collation, and that of the connection is another one now; or from one that perhaps has not run.
    Lost,
}

/// Since when, and why, the CN does not report what corelane has asked it to.
#[derive(Clone, Copy, Debug)]
struct Untracked {
    by: By,
    /// The errand that did it.
    since: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// COM_RESET_CONNECTION, COM_CHANGE_USER.
    Reset,
    /// The client has set by itself what it wants to be told.
    Client(Touched),
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
            wishes: beginning.wishes,
            clears: false,
            leaves: false,
            untracks: false,
            pending_characteristics: false,
            context: login.clone(),
            login,
            unsure: 0,
            reading: None,
            draft: Draft::Plain,
            errands: Errands::default(),
            settled: (!tracked).then_some(Hold::Tracking).into_iter().collect(),
            untracked: None,
            reset: false,
            entered: false,
            instance_locked: false,
            collation: Collation::Default,
            inserted: false,
            role: false,
            sequences: Sequences::default(),
            unanswerable: false,
            option: None,
            variables: Variables::default(),
            statements: Statements::default(),
            held: None,
        }
    }

    pub fn is_mariadb(&self) -> bool {
        self.mariadb
    }

    /// What the client is shown of the change that was noted last.
    pub fn wishes(&self) -> Wishes {
        match self.untracked {
            // Of what the client has set by itself the CN tells no more than it wants.
            Some(Untracked { by: By::Client(touched), .. }) => self.wishes.opened(touched),
            _ => self.wishes.clone(),
        }
    }

    /// Whether the last command is sure to clear the warnings and errors of the one before, and whether it leaves more than those
    /// behind.
    pub fn clears_and_leaves(&self) -> (bool, bool) {
        (self.clears, self.leaves)
    }

    /// Whether the last command changes what the CN tells of the session.
    pub fn untracks(&self) -> bool {
        self.untracks
    }

    /// Whether the client asks for what no CN knows any more that the session is on: any answer would be a wrong one.
    pub fn is_unanswerable(&self) -> bool {
        self.unanswerable
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
        let Some(What::Prepare(coming)) = self.errands.find(Some(errand)) else { return ok.statement };
        let (source, execution, closed) = (coming.source.clone(), coming.execution.clone(), coming.closed);
        let (id, known) = self.statements.enter(source, self.context.clone(), ok);
        if !known {
            self.settled.add(Hold::TooMuch);
        }
        if let Some(execution) = execution {
            let attributes = self.attributes();
            let told = self.statements.get(id).map(|statement| statement.told_by(&execution, attributes));
            let told = told.filter(|told| *told != Told::Cut && !execution.is_empty());
            let told = told.unwrap_or(Told::Unknown);
            self.statements.note_types(id, told);
        }
        if closed {
            self.statements.close(id);
        }
        for what in self.errands.iter_mut() {
            if let Some(target @ Target::Coming(_)) = what.target_mut()
                && *target == Target::Coming(errand)
            {
                *target = Target::Known(id);
            }
        }
        id
    }

    /// An OK with a last insert id other than 0.
    pub fn inserted(&mut self, id: u64) {
        self.inserted |= id != 0;
    }

    /// The status flag IN_TRANS has gone.
    pub fn transaction_ended(&mut self) {
        if !self.pending_characteristics {
            self.settled.remove(Hold::NextTransaction);
        }
    }

    /// From the next errand on the CN does not report what it should. What the client sets after a reset changes nothing of that.
    fn untrack(&mut self, by: By) {
        self.untracks = true;
        let since = self.errands.next();
        self.untracked = match (self.untracked, by) {
            (Some(reset @ Untracked { by: By::Reset, .. }), By::Client(_)) => Some(reset),
            (Some(Untracked { by: By::Client(before), since, .. }), By::Client(touched)) => {
                Some(Untracked { by: By::Client(before.and(touched)), since })
            }
            _ => Some(Untracked { by, since }),
        };
    }

    /// A command has set what the client wants to be told.
    fn settle_tracking(&mut self, now: Touched) {
        if let Some(Untracked { by: By::Client(touched), .. }) = &mut self.untracked {
            *touched = touched.and(now);
        }
    }

    /// Whether the CN has to be asked to track again because of what the client has set.
    pub fn is_tracked_otherwise(&self) -> bool {
        matches!(self.untracked, Some(Untracked { by: By::Client(_), .. }))
    }

    /// Forgets all that the CN forgets with COM_RESET_CONNECTION: [`replied`](Self::replied) does it. The CN tracks nothing from then
    /// on, which is a hold until [`tracked`](Self::tracked).
    fn reset(&mut self) {
        (self.reset, self.entered) = (true, false);
        // Until it tracks again the CN itself tells no more than the client shall see.
        self.wishes = Wishes::everything();
        self.settled = self.settled.and(LASTING.into_iter().collect());
        if !self.capabilities.has(Capabilities::SESSION_TRACK) {
            self.settled.add(Hold::Tracking);
        }
        self.context = Arc::new(Context { schema: self.context.schema.clone(), ..(*self.login).clone() });
        self.variables.clear();
        self.statements.clear();
        self.held = None;
        self.instance_locked = false;
        self.collation = Collation::Default;
        self.inserted = false;
        self.sequences.reset();
    }

    /// The CN has answered [`script`](super::tracking::script) anew. After a reset all that it tells is what the session begins with
    /// from now on, which may be other than what the login made of it. After a setting of the client's it is what the client
    /// wants to be told, and values that were in doubt.
    pub fn tracked(&mut self, beginning: &Beginning) {
        match self.untracked.take().map(|untracked| untracked.by) {
            Some(By::Reset) => {
                self.wishes = beginning.wishes.clone();
                let begun =
                    |schema: &[u8]| Arc::new(Context { schema: schema.into(), ..beginning.context.clone() });
                self.login = begun(&self.login.schema);
                self.context = begun(&self.context.schema);
            }
            Some(By::Client(touched)) => {
                self.wishes.take(&beginning.wishes, touched);
                self.learn(&beginning.context);
            }
            None => {}
        }
    }

    /// Everything that is known here to keep the session; transaction, reply and long data are the dialog's.
    pub fn holds(&self) -> Holds {
        let mut holds = self.settled;
        if self.untracked.is_some() {
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
        if self.collation == Collation::Lost {
            holds.add(Hold::Variable);
        }
        if self.sequences.hold(self.errands.may(Effect::NextValue)) {
            holds.add(Hold::Sequence);
        }
        self.add_coming(&mut holds);
        self.add_kept(&mut holds);
        holds
    }

    /// What is under way.
    fn add_coming(&self, holds: &mut Holds) {
        for what in self.errands.iter() {
            what.effects().into_iter().for_each(|effects| add_holds(holds, effects));
            if what.opens_cursor().is_some() {
                holds.add(Hold::Cursor);
            }
            if what.prepares_unknown() {
                holds.add(Hold::SqlPrepare);
            }
        }
    }

    fn add_kept(&self, holds: &mut Holds) {
        if let Some(held) = &self.held {
            Kind::ALL.iter().filter(|kind| held.has(**kind)).for_each(|kind| holds.add(kind.hold()));
            let stays = |one: &SqlPrepared| {
                let retyped = one.inner.as_ref().is_none_or(|inner| self.retypes(&inner.effects));
                retyped || !self.can_enter(&one.context)
            };
            if held.sql_prepared.iter().any(stays) {
                holds.add(Hold::SqlPrepare);
            }
        }
        for (_, statement) in self.statements.iter() {
            if statement.cursor {
                holds.add(Hold::Cursor);
            }
            let retyped = self.retypes(&statement.source.effects);
            if statement.is_stuck() || retyped || !self.can_enter(&statement.context) {
                holds.add(Hold::Statement);
            }
        }
    }

    /// Whether a prepared text has other types when it is prepared anew. MySQL gives a user variable the type that it has when the text
    /// is prepared first (from 8.0.22 on).
    fn retypes(&self, effects: &Effects) -> bool {
        !self.mariadb && effects.has(Effect::UserVariable)
    }

    /// About how many commands a restore would take, by what can be told at a glance.
    pub fn cost(&self) -> u32 {
        let held = self.held();
        let sql_prepared = held.map_or(0, |held| held.sql_prepared.len());
        let asks = self.inserted || self.role || held.is_some_and(|held| !held.user_variables.is_empty());
        let sets = !self.variables.is_empty() || asks;
        (self.statements.len() + sql_prepared) as u32 + u32::from(asks) + u32::from(sets)
    }

    /// All that a restore needs is known without asking the CN.
    pub fn complete(&self) -> bool {
        let user_variables = self.held().is_some_and(|held| !held.user_variables.is_empty());
        let values = self.variables.iter().all(|variable| variable.value.is_some());
        !self.inserted && !self.role && !user_variables && values
    }

    /// Whether a whole command asks what the command before it left behind, or may do so.
    pub fn asks_about_last(&self, command: Command, payload: &[u8]) -> bool {
        match command {
            Command::Query => {
                let Start::At(at) = preamble::start(payload, self.attributes()) else { return true };
                let text = &payload[at..];
                self.context.doubt().applies(text) || self.asks(&sql::effects(text, self.context.modes()))
            }
            Command::StmtExecute | Command::StmtBulkExecute => id_of(payload)
                .and_then(|id| self.statements.get(id))
                .is_none_or(|statement| self.asks(&statement.source.effects)),
            _ => false,
        }
    }

    fn asks(&self, effects: &Effects) -> bool {
        let asking = [
            Effect::AsksAboutLast,
            Effect::Executes,
            Effect::Routine,
            Effect::PreparesUnknown,
            Effect::Unreadable,
        ];
        let value = self.sequences.taken() && effects.has(Effect::LastValue);
        value || asking.into_iter().any(|effect| effects.has(effect))
    }

    /// The session is at another CN.
    pub(super) fn move_on(&mut self) {
        self.statements.note_move();
        self.sequences.move_on();
    }

    /// Whether a client's id stands for a statement whose preparation has not been answered.
    fn is_coming(&self, id: u32) -> bool {
        id == LAST_PREPARED && self.errands.coming().is_some()
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

#[cfg(test)]
pub(super) mod tests;
