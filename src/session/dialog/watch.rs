//! What a dialog tells the session's state, and the proof that a session may move.
//!
//! A dialog whose session can never move has nobody to tell: its watch is off, with the reason.

use std::cell::Cell;

use super::look::{Look, Patch, Stop};
use super::noted::{Leftovers, Noted};
use super::scanner::{FULL, HEADER, Start, read_header};
use super::{Dialog, Outcome, Pending, Shift, Turn};
use crate::session::hold::Hold;
use crate::session::ledger::Ledger;
use crate::session::state::{Errand, State, Verdict};
use crate::session::tracking::{self, Beginning};
use crate::wire::capability::Capabilities;
use crate::wire::command::Command;
use crate::wire::cursor::Cursor;
use crate::wire::matrixone::MARK;
use crate::wire::reply::{EOF, ERR, OK, OK_MIN, OkPacket};
use crate::wire::statement::{BULK_EXECUTE, EXECUTE, PrepareOk};
use crate::wire::status::Status;
use crate::wire::{self, frame::Header, frame::write_packet};

/// Bytes of the longest OK with session state changes.
pub const CHANGES_MAX: usize = 1 << 20;
/// Bytes of a command up to the end of its statement's id.
const STATEMENT: usize = 5;
/// A command that is longer does not ask what the one before left behind.
const LONG: usize = 2048;

/// Who is told what goes by.
pub enum Watch {
    /// Nobody, as the session can never move.
    Off(Hold),
    On(Box<Watched>),
    /// A session on a CN of MatrixOne's, which reports nothing.
    Noted(Box<Noted>),
}

/// What is known of a session that may move.
pub struct Watched {
    pub state: State,
    /// What the client negotiated.
    pub client: Capabilities,
    /// What the CN leg speaks; it reports session state changes in any case.
    pub cn: Capabilities,
    /// COM_RESET_CONNECTION has ended the tracking, or the client has set its own.
    untracked: bool,
    /// Something of the present reply has come.
    answered: bool,
    /// It began with an ERR that says that the text cannot be parsed.
    unparsed: bool,
    /// The next row of it matters.
    row: bool,
    /// What the state said last about holds, and whether it may say something else now: it is asked after every packet.
    hold: Cell<Option<Hold>>,
    stale: Cell<bool>,
    leftovers: Leftovers,
}

impl Watched {
    pub fn new(state: State, client: Capabilities, cn: Capabilities) -> Self {
        Self {
            state,
            client,
            cn,
            untracked: false,
            answered: false,
            unparsed: false,
            row: false,
            hold: Cell::new(None),
            stale: Cell::new(true),
            leftovers: Leftovers::default(),
        }
    }

    fn hold(&self) -> Option<Hold> {
        if self.stale.replace(false) {
            self.hold.set(self.state.holds().first());
        }
        self.hold.get()
    }
}

/// Why a CN does not track a session as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untracked {
    /// COM_RESET_CONNECTION: nothing else may be said before it tracks again.
    ByReset,
    /// The client has set what it wants to be told. The session is held, and the CN can be asked when nothing is left that the client
    /// may ask of its last statement.
    ByClient,
}

/// The proof that no hold applies. While it lives nobody can speak, as it borrows the dialog.
pub struct Quiet<'a> {
    dialog: &'a mut Dialog,
}

impl Dialog {
    /// Tells `watch` from now on.
    pub fn watch(&mut self, watch: Watch) {
        self.watch = watch;
    }

    pub fn watched(&self) -> Option<&Watched> {
        match &self.watch {
            Watch::On(watched) => Some(watched),
            Watch::Off(_) | Watch::Noted(_) => None,
        }
    }

    pub fn noted(&self) -> Option<&Noted> {
        match &self.watch {
            Watch::Noted(noted) => Some(noted),
            Watch::Off(_) | Watch::On(_) => None,
        }
    }

    /// What the CN leg speaks, where the session may move.
    pub fn spoken(&self) -> Option<Capabilities> {
        match &self.watch {
            Watch::Off(_) => None,
            Watch::On(watched) => Some(watched.cn),
            Watch::Noted(noted) => Some(noted.cn),
        }
    }

    /// About how many commands a move would take.
    pub fn cost(&self) -> u32 {
        match &self.watch {
            Watch::Off(_) => 0,
            Watch::On(watched) => watched.state.cost(),
            Watch::Noted(noted) => noted.ledger.cost(),
        }
    }

    fn watched_mut(&mut self) -> Option<&mut Watched> {
        match &mut self.watch {
            Watch::On(watched) => Some(watched),
            Watch::Off(_) | Watch::Noted(_) => None,
        }
    }

    /// The proof that the session may move now, or why not.
    pub fn quiet(&mut self) -> Result<Quiet<'_>, Hold> {
        match self.hold() {
            None => Ok(Quiet { dialog: self }),
            Some(hold) => Err(hold),
        }
    }

    /// Why the session may not move now.
    pub fn hold(&self) -> Option<Hold> {
        if let Watch::Off(hold) = &self.watch {
            return Some(*hold);
        }
        if self.opaque.is_some() {
            Some(Hold::Opaque)
        } else if self.long_data() {
            Some(Hold::LongData)
        } else if !self.idle() || self.untracked() == Some(Untracked::ByReset) {
            Some(Hold::Reply)
        } else if self.may_be_in_transaction() {
            Some(Hold::Transaction)
        } else {
            match &self.watch {
                Watch::Off(hold) => Some(*hold),
                Watch::On(watched) => watched.hold(),
                Watch::Noted(noted) => noted.hold(),
            }
        }
    }

    /// Without autocommit a statement that fails may have begun a transaction, and an ERR carries no status flags to tell.
    fn may_be_in_transaction(&self) -> bool {
        self.in_transaction() || (self.failed && !self.status.has(Status::AUTOCOMMIT))
    }

    /// Why the CN has to be asked to track the session again; none if it tracks.
    #[inline]
    pub fn untracked(&self) -> Option<Untracked> {
        let watched = self.watched().filter(|watched| watched.untracked)?;
        let by_client = watched.state.is_tracked_otherwise();
        Some(if by_client { Untracked::ByClient } else { Untracked::ByReset })
    }

    /// Whether the client asks for what only a CN knew that the session has left.
    #[inline]
    pub fn is_unanswerable(&self) -> bool {
        match &self.watch {
            Watch::Off(_) => false,
            Watch::On(watched) => watched.state.is_unanswerable(),
            Watch::Noted(noted) => noted.ledger.is_unanswerable(),
        }
    }

    /// Whether the client may name statements that have other names at the CN, and nobody follows it any more.
    #[inline]
    pub(super) fn is_lost(&self) -> bool {
        let Some(opaque) = self.opaque else { return false };
        !opaque.is_final() && self.watched().is_some_and(|watched| watched.state.statements.are_mapped())
    }

    /// The CN tracks again.
    pub fn tracked(&mut self, beginning: &Beginning) {
        if let Some(watched) = self.watched_mut() {
            watched.untracked = false;
            watched.state.tracked(beginning);
            watched.stale.set(true);
        }
    }

    /// The CN has refused to track again. False: nothing is known of the session then. Else it is asked once more after the next
    /// command that matters, and the session is held meanwhile.
    pub fn not_tracked(&mut self) -> bool {
        let Some(watched) = self.watched_mut() else { return false };
        let otherwise = watched.state.is_tracked_otherwise();
        watched.untracked &= !otherwise;
        otherwise
    }

    /// Whether something of an earlier statement is left that the client may still ask for, and that does not move along.
    pub fn has_leftovers(&self) -> bool {
        match &self.watch {
            Watch::Off(_) => false,
            Watch::On(watched) => watched.leftovers.left,
            Watch::Noted(noted) => noted.leftovers.left,
        }
    }

    /// Whether the answer to the client's next command, which `unread` begins with, depends on the one before, or may leave it
    /// possible to ask about that one later.
    pub fn asks_about_last(&self, unread: &[u8]) -> bool {
        let Some(start) = self.client.peek(unread) else { return true };
        let end = HEADER + start.length as usize;
        let payload = &unread[HEADER..end.min(unread.len())];
        let whole = end <= unread.len();
        let command = Command::from_byte(payload.first().copied().unwrap_or_default());
        let executes = matches!(command, Command::StmtExecute | Command::StmtBulkExecute);
        if !executes && !matches!(command, Command::Query | Command::Quit) {
            return true;
        }
        // What is too long to be seen whole asks for nothing of the kind; what has not come yet may.
        match &self.watch {
            Watch::Off(_) => true,
            // What an execution asks for its statement tells.
            _ if !whole && (!executes || payload.len() < STATEMENT) => unread.len() < LONG,
            Watch::On(watched) => watched.state.asks_about_last(command, payload),
            Watch::Noted(noted) => noted.ledger.asks_about_last(command, payload),
        }
    }

    /// How many bytes of an execution that a look has stopped at [`execute`](Self::execute) needs, its header included, as far as
    /// `head` tells; it is enough when it is all that is asked for.
    pub fn execute_needs(&self, head: &[u8]) -> usize {
        let (header, payload) = head.split_at(HEADER.min(head.len()));
        let length =
            header.first_chunk().map_or(0, |&[a, b, c, _]: &[u8; HEADER]| u32::from_le_bytes([a, b, c, 0]));
        let needed = self.watched().and_then(|watched| watched.state.execute_head_len(payload));
        HEADER + needed.unwrap_or(payload.len()).min(length as usize)
    }

    /// What goes to the CN in the place of a frame's `head` that a look has stopped at; the rest of the frame follows it. Where the
    /// packet has further frames the look stops at it: all of it is shifted.
    ///
    /// # Errors
    /// The packet is too long for what has to be added.
    pub fn execute(&mut self, head: &[u8], look: &mut Look) -> wire::Result<Vec<u8>> {
        let (header, payload) = head.split_at(HEADER);
        let (length, seq) = read_header(header);
        let told = self.watched_mut().and_then(|watched| watched.state.execute_head(payload));
        let mut new = told.unwrap_or_else(|| payload.to_vec());
        let added = new.len() - payload.len();
        let grown = if length == FULL { length } else { length + added as u32 };
        if grown >= FULL && length != FULL {
            let (field, limit) = ("COM_STMT_EXECUTE", FULL as usize - 1);
            return Err(wire::Error::TooLarge { field, limit, found: grown as usize });
        }
        self.client_frame(&Start { length, seq, payload }, 0, look);
        self.client.enter(length, payload.len());
        self.overhear(payload);
        if self.client.between_packets() {
            self.client_packet_end();
        }
        for patch in look.patches.drain(..) {
            new[1..5].copy_from_slice(&patch.bytes);
        }
        if added > 0 && length == FULL {
            look.stop = Some(Stop::Shifted(Shift::new(added, new.len())));
        }
        let mut bytes = Vec::with_capacity(HEADER + new.len());
        Header { length: grown, sequence: seq }.write(&mut bytes);
        bytes.extend_from_slice(&new);
        Ok(bytes)
    }

    /// What goes to the client in the place of an OK that a look has stopped at; `packet` is all of it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn changed(&mut self, packet: &[u8], look: &mut Look) -> Result<Vec<u8>, wire::Error> {
        let payload = &packet[HEADER..];
        let errand = self.front.and_then(|pending| pending.errand);
        let mut rewritten = None;
        if let Some(watched) = self.watched_mut() {
            let ok = OkPacket::read(payload, watched.cn)?;
            if !Status(ok.status).has(Status::MORE_RESULTS_EXISTS) {
                watched.state.ran(errand);
            }
            watched.state.changed(errand, ok.changes.unwrap_or_default());
            watched.stale.set(true);
            rewritten = tracking::rewrite(payload, watched.cn, watched.client, &watched.state.wishes())?;
        }
        self.cn.skip(payload);
        look.cn.replies += self.cn_packet_end();
        let mut bytes = Vec::with_capacity(packet.len());
        let mut seq = packet[3];
        write_packet(&mut bytes, &mut seq, rewritten.as_deref().unwrap_or(payload));
        Ok(bytes)
    }

    /// Whether the client's next frame cannot go as it is.
    #[inline]
    pub(super) fn must_stop(&mut self, start: &Start<'_>, at: usize, look: &mut Look) -> bool {
        if self.stops_at_concern(start, at, look) {
            return true;
        }
        let Watch::On(watched) = &mut self.watch else { return false };
        let executes = matches!(start.payload.first(), Some(&(EXECUTE | BULK_EXECUTE)));
        if !executes || self.turn != Turn::Commands || self.client.continues {
            return false;
        }
        let Some(head) = watched.state.execute_head_len(start.payload) else { return false };
        look.taken = at;
        look.stop = Some(Stop::Execute { head: HEADER + head.min(start.length as usize) });
        self.client.forget();
        true
    }

    /// A command begins in the frame at `at`.
    #[inline]
    pub(super) fn watch_command(&mut self, command: Command, payload: &[u8], at: usize, look: &mut Look) {
        let watched = match &mut self.watch {
            Watch::Off(_) => return,
            Watch::On(watched) => watched,
            Watch::Noted(noted) => {
                self.overheard = noted.ledger.begin(command, payload);
                noted.stale.set(true);
                return;
            }
        };
        let statement = match command {
            Command::StmtExecute
            | Command::StmtSendLongData
            | Command::StmtClose
            | Command::StmtReset
            | Command::StmtFetch
            | Command::StmtBulkExecute => payload.get(1..5).and_then(|id| id.first_chunk()),
            _ => None,
        };
        // Before the state hears of it: it forgets a statement that is closed.
        let id = statement.and_then(|id| watched.state.cn_statement(u32::from_le_bytes(*id)));
        self.overheard = watched.state.begin(command, payload);
        // It ends what the client has set of its own tracking; whether that is to be asked for anew, its reply tells.
        watched.untracked &= !matches!(command, Command::ResetConnection | Command::ChangeUser);
        if !matches!(command, Command::Query | Command::StmtExecute | Command::Ping) {
            watched.stale.set(true);
        }
        if let Some(id) = id {
            look.patches.push(Patch { at: at + HEADER + 1, bytes: id.to_le_bytes() });
        }
    }

    /// A piece of a command's payload.
    #[inline]
    pub(super) fn overhear(&mut self, piece: &[u8]) {
        if !self.overheard {
            return;
        }
        match &mut self.watch {
            Watch::Off(_) => {}
            Watch::On(watched) => watched.state.payload(piece),
            Watch::Noted(noted) => noted.ledger.payload(piece),
        }
    }

    /// The client's command is complete.
    #[inline]
    pub(super) fn watch_end(&mut self) -> Option<Errand> {
        self.overheard = false;
        match &mut self.watch {
            Watch::Off(_) => None,
            Watch::On(watched) => {
                let errand = watched.state.end();
                self.alone = watched.state.untracks();
                watched.leftovers.begin(watched.state.clears_and_leaves());
                if errand.is_some() {
                    watched.stale.set(true);
                }
                errand
            }
            Watch::Noted(noted) => {
                let errand = noted.ledger.end();
                noted.leftovers.begin(noted.ledger.clears_and_leaves());
                noted.stale.set(true);
                errand
            }
        }
    }

    /// A packet of the CN's begins, in the frame at `at`, and `self.outcome` and `self.status` are what came of it. `first`: it is the
    /// first of a result.
    #[inline]
    pub(super) fn watch_reply(
        &mut self,
        start: &Start<'_>,
        first: bool,
        was_in_transaction: bool,
        at: usize,
        look: &mut Look,
    ) {
        if let Watch::Noted(_) = &self.watch {
            return self.note_reply(start, first, was_in_transaction);
        }
        let in_transaction = self.in_transaction();
        if let Watch::On(watched) = &mut self.watch {
            if was_in_transaction && !in_transaction {
                watched.state.transaction_ended();
                watched.stale.set(true);
            }
            if first {
                let errand = self.front.and_then(|pending| pending.errand);
                if let Some(errand) = errand {
                    watched.state.result_comes(errand);
                }
                match start.payload {
                    // The id of a prepared statement is none of a row.
                    [OK, ..] if self.front.is_some_and(|front| front.command != Command::StmtPrepare) => {
                        watched.state.inserted(insert_id(start.payload));
                    }
                    [1, ..] => watched.row = errand.is_some_and(|errand| watched.state.wants_row(errand)),
                    _ => watched.row = false,
                }
                watched.unparsed = !watched.answered && start.payload.starts_with(&PARSE_ERROR);
            }
            watched.answered = self.outcome != Outcome::Ended;
        }
        if self.status.has(Status::SESSION_STATE_CHANGED) && self.outcome != Outcome::Malformed {
            self.stop_at_change(start, at, look);
        }
        match self.outcome {
            Outcome::Ended => self.weigh_leftovers(start),
            // One result of several has ended.
            Outcome::More if self.reply.is_first() && warnings(start) != Some(0) => self.keep_leftovers(),
            _ => {}
        }
        match self.front {
            Some(Pending { command: Command::StmtPrepare, .. })
                if first && start.payload.first() == Some(&OK) =>
            {
                self.watch_prepared(start, at, look);
            }
            Some(Pending { command: Command::StmtBulkExecute, errand: Some(errand), .. })
                if start.payload.starts_with(&UNSUPPORTED) =>
            {
                if let Watch::On(watched) = &mut self.watch {
                    watched.state.bulk_refused(errand);
                }
            }
            _ => {}
        }
    }

    /// Whether the rows that come must not be passed over.
    #[inline]
    pub(super) fn wants_row(&self) -> bool {
        matches!(&self.watch, Watch::On(watched) if watched.row)
    }

    /// A row begins.
    #[inline]
    pub(super) fn watch_row(&mut self, start: &Start<'_>) {
        if let Watch::On(watched) = &mut self.watch
            && std::mem::take(&mut watched.row)
            && let Some(errand) = self.front.and_then(|pending| pending.errand)
        {
            watched.state.row(errand, start.payload);
        }
    }

    #[cold]
    fn stop_at_change(&mut self, start: &Start<'_>, at: usize, look: &mut Look) {
        let length = HEADER + start.length as usize;
        let is_ok = matches!(start.payload.first(), Some(&(OK | EOF))) && start.length as usize >= OK_MIN;
        let errand = self.front.and_then(|pending| pending.errand);
        let Watch::On(watched) = &mut self.watch else { return };
        if is_ok && length > CHANGES_MAX {
            // Too long to be put together: it goes on as it is.
            watched.state.changed_unseen(None);
            watched.stale.set(true);
        } else if is_ok {
            look.taken = at;
            look.stop = Some(Stop::Changed { length });
        } else if let &[EOF, low, high, flags, more] = start.payload {
            // A legacy EOF cannot say what has changed, and only who asked for it may hear that something has.
            watched.state.changed_unseen(errand);
            watched.stale.set(true);
            let flags = Status(u16::from_le_bytes([flags, more])) - Status::SESSION_STATE_CHANGED;
            let [flags, more] = flags.0.to_le_bytes();
            look.patches.push(Patch { at: at + HEADER + 1, bytes: [low, high, flags, more] });
        }
    }

    /// What the reply that ends here leaves behind for the client to ask for.
    #[inline]
    pub(super) fn weigh_leftovers(&mut self, start: &Start<'_>) {
        let alone = self.in_flight() == 1;
        let leftovers = match &mut self.watch {
            Watch::Off(_) => return,
            Watch::On(watched) => &mut watched.leftovers,
            Watch::Noted(noted) => &mut noted.leftovers,
        };
        leftovers.weigh(self.failed || warnings(start) != Some(0), alone);
    }

    /// What the client may ask for will not be cleared by the end of this reply.
    #[cold]
    fn keep_leftovers(&mut self) {
        match &mut self.watch {
            Watch::Off(_) => {}
            Watch::On(watched) => watched.leftovers.keep(),
            Watch::Noted(noted) => noted.leftovers.keep(),
        }
    }

    #[cold]
    fn watch_prepared(&mut self, start: &Start<'_>, at: usize, look: &mut Look) {
        let errand = self.front.and_then(|pending| pending.errand);
        let (Watch::On(watched), Some(errand)) = (&mut self.watch, errand) else { return };
        let Some(fields) = start.payload.get(1..9) else { return };
        let ok = PrepareOk {
            statement: u32::from_le_bytes([fields[0], fields[1], fields[2], fields[3]]),
            columns: u16::from_le_bytes([fields[4], fields[5]]),
            parameters: u16::from_le_bytes([fields[6], fields[7]]),
            warnings: 0,
            metadata_follows: true,
        };
        let shown = watched.state.prepared(errand, &ok);
        if shown != ok.statement {
            look.patches.push(Patch { at: at + HEADER + 1, bytes: shown.to_le_bytes() });
        }
    }

    /// The reply to the oldest command is complete.
    #[inline]
    pub(super) fn watch_replied(&mut self) {
        let Some(pending) = self.front else { return };
        let newest = self.behind.is_empty();
        if let Watch::Noted(noted) = &mut self.watch {
            return noted.replied(pending.errand, self.failed, newest);
        }
        let (Watch::On(watched), Some(errand)) = (&mut self.watch, pending.errand) else { return };
        let verdict = match (self.failed, watched.unparsed) {
            (false, _) => Verdict::Done,
            (true, false) => Verdict::Failed,
            (true, true) => Verdict::Unparsed,
        };
        watched.state.replied(errand, verdict, self.status);
        watched.stale.set(true);
        let reset = pending.command == Command::ResetConnection && !self.failed;
        watched.untracked |= reset || watched.state.is_tracked_otherwise();
    }
}

impl Quiet<'_> {
    pub fn state(&self) -> &State {
        let Watch::On(watched) = &self.dialog.watch else {
            unreachable!("a session that is not watched is held")
        };
        &watched.state
    }

    pub fn state_mut(&mut self) -> &mut State {
        let Watch::On(watched) = &mut self.dialog.watch else {
            unreachable!("a session that is not watched is held")
        };
        watched.stale.set(true);
        &mut watched.state
    }

    /// What is noted of a session whose CN reports nothing; none of any other.
    pub fn ledger(&self) -> Option<&Ledger> {
        self.dialog.noted().map(|noted| &noted.ledger)
    }

    /// The session goes on with another CN, whose last status was `status`.
    pub fn settle(self, status: Status) {
        self.dialog.status = status;
        match &mut self.dialog.watch {
            Watch::Off(_) => {}
            Watch::On(watched) => {
                watched.state.move_on();
                watched.leftovers.left = false;
            }
            Watch::Noted(noted) => {
                self.dialog.status = status | MARK;
                noted.ledger.move_on();
                noted.stale.set(true);
                noted.leftovers.left = false;
            }
        }
    }
}

/// The last insert id of an OK, as far as it is at hand.
#[inline]
pub(super) fn insert_id(ok: &[u8]) -> u64 {
    let mut cursor = Cursor::new(&ok[1..]);
    let _affected = cursor.lenenc("affected rows");
    cursor.lenenc("last insert id").unwrap_or_default()
}

/// Warnings of an OK or EOF.
#[inline]
fn warnings(start: &Start<'_>) -> Option<u16> {
    let mut cursor = Cursor::new(start.payload.get(1..)?);
    if start.length as usize >= OK_MIN {
        cursor.lenenc("affected rows").ok()?;
        cursor.lenenc("last insert id").ok()?;
        cursor.u16("status flags").ok()?;
    }
    cursor.u16("warnings").ok()
}

/// ER_PARSE_ERROR.
const PARSE_ERROR: [u8; 3] = [0xff, 0x28, 0x04];

/// The head of an ERR with ER_UNSUPPORTED_PS.
const UNSUPPORTED: [u8; 3] = [ERR, 0x0f, 0x05];
