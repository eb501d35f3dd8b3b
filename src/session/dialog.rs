//! Whose turn it is to speak, and where each reply ends.
//!
//! The relay shows the dialog what it is about to forward. The dialog reads frame headers and the few bytes it
//! needs, keeps no payload and never waits for a whole packet; all it may ask for is that the start of a frame that
//! came in parts is held back until it is whole.
//!
//! Where a session may move, the dialog tells its [`State`](super::state::State) what goes by, and the few packets that cannot go as they are make
//! it stop in front of them ([`Stop`]) or be patched ([`Patch`]).
//!
//! ```text
//!   client                                   CN
//!   Commands --- command, seq 0 ---> queue --- first packet ---> Reply ... ended ---> next in the queue
//!      ^                                          |  |
//!      |   empty packet                           |  | 0xFB, LOCAL INFILE
//!      +------------------ Infile <---------------)--+
//!      |                                          | COM_CHANGE_USER: a plugin asks
//!      +------------------ answers, seq goes on --+
//! ```
//!
//! Its invariant: it either knows exactly how many replies are owed and where both streams stand, or it is
//! [`Opaque`], for good, and says why. An opaque session is relayed on and never quiet. It does not read SQL, it does
//! not decide on holds, and it changes no byte.

mod concern;
mod long_data;
mod look;
mod noted;
mod opaque;
mod reply;
mod scanner;
mod shift;
mod watch;

use std::collections::VecDeque;

use crate::session::hold::Hold;
use crate::session::state::Errand;
use crate::wire::capability::Capabilities;
use crate::wire::command::{Command, Shape};
use crate::wire::matrixone::MARK;
use crate::wire::reply::ERR;
use crate::wire::status::Status;
use concern::Concerns;
use long_data::LongData;
pub use look::{Look, Patch, Stop};
pub use noted::Noted;
pub use opaque::Opaque;
use reply::{Outcome, Reply, Terms};
use scanner::{FULL, HEADER, Scanner, Start, read_header};
pub use shift::Shift;
pub use watch::{Quiet, Untracked, Watch, Watched};

/// Commands in flight from which on the next one waits for replies.
pub const PIPELINE_MAX: usize = 64;
/// Commands in flight from which on one that has waited goes on: several go together then.
const PIPELINE_LOW: usize = PIPELINE_MAX / 2;

/// Header, command byte, statement id and the flags of an execution.
const CLIENT_HEAD: usize = HEADER + 6;
const CN_HEAD: usize = HEADER + reply::PAYLOAD_HEAD;

/// What a chunk of the client's bytes brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientNews {
    /// Commands begun, the silent ones too.
    pub commands: u32,
    /// COM_QUIT was among them.
    pub quit: bool,
}

/// What a chunk of the CN's bytes brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CnNews {
    /// Replies ended.
    pub replies: u32,
}

/// Follows the two byte streams of a relayed session after its login.
pub struct Dialog {
    concerns: Concerns,
    client: Scanner<CLIENT_HEAD>,
    cn: Scanner<CN_HEAD>,
    terms: Terms,
    reply: Reply,
    /// The oldest command in flight; `reply` is about it.
    front: Option<Pending>,
    behind: VecDeque<Pending>,
    /// The newest command changes what the CN tells of the session: nothing follows it before its reply, and what comes then may
    /// have to wait until the CN tracks the session again.
    alone: bool,
    /// What the client's present packet is.
    speech: Speech,
    /// What the end of the CN's present packet brings about.
    outcome: Outcome,
    turn: Turn,
    /// A silent command was sent while replies were owed.
    overtaken: bool,
    quit: bool,
    /// The CN's last packet was an ERR after which servers close.
    farewell: bool,
    long_data: LongData,
    status: Status,
    /// The CN is one of MatrixOne's, see [`with_matrixone`](Self::with_matrixone).
    matrixone: bool,
    /// Each command waits for the reply to the one before, see [`pace`](Self::pace).
    paced: bool,
    opaque: Option<Opaque>,
    watch: Watch,
    /// The watch wants the payload of the client's present command.
    overheard: bool,
    /// The CN's last packet was an ERR.
    failed: bool,
    /// A change of the user has been answered; whether it was let in.
    changed_user: Option<bool>,
}

/// A command that is owed a reply.
#[derive(Clone, Copy, Debug)]
struct Pending {
    command: Command,
    errand: Option<Errand>,
    /// The sequence number of the reply's first packet; none while the command is not complete.
    seq: Option<u8>,
}

/// What the client may send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Commands,
    /// Answers to an authentication plugin, or commands once that is content.
    Answers,
    /// The parts of a local file, up to an empty packet.
    File,
}

/// What the client's present packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    /// The newest command in flight.
    Command,
    /// A command without a reply.
    Silent,
    /// An answer to an authentication plugin.
    Answer,
    /// A part of a local file.
    File,
    /// The empty packet after a local file.
    FileEnd,
}

impl Dialog {
    /// `capabilities` are those agreed with both legs, `status` the flags of the login's OK.
    #[must_use]
    pub fn new(capabilities: Capabilities, status: Status) -> Self {
        Self {
            concerns: Concerns::Pass,
            client: Scanner::new(),
            cn: Scanner::new(),
            terms: Terms::from(capabilities),
            reply: Reply::new(Command::Sleep),
            front: None,
            behind: VecDeque::new(),
            alone: false,
            speech: Speech::Silent,
            outcome: Outcome::More,
            turn: Turn::Commands,
            overtaken: false,
            quit: false,
            farewell: false,
            long_data: LongData::None,
            status,
            matrixone: false,
            paced: false,
            opaque: None,
            watch: Watch::Off(Hold::Login),
            overheard: false,
            failed: false,
            changed_user: None,
        }
    }

    /// The CN is one of MatrixOne's. It marks the statuses that tell of transactions, and until one comes the session is known to be
    /// in none, as it is new. And it loses a command that comes before its reply to the one before has left.
    #[must_use]
    pub fn with_matrixone(self) -> Self {
        Self { matrixone: true, paced: true, status: self.status | MARK, ..self }
    }

    /// Lets each command wait for the end of the reply to the one before, as a leg that is compressed needs it: there commands and
    /// replies begin to count anew, and nothing else tells where.
    pub fn pace(&mut self) {
        self.paced = true;
    }

    /// Follows bytes of the client in any cut. For a dialog that is not watched and has few commands in flight, where nothing stops
    /// it.
    #[inline]
    pub fn client_bytes(&mut self, chunk: &[u8]) -> ClientNews {
        let mut look = Look::default();
        self.look_at_client(chunk, &mut look);
        look.client
    }

    /// Follows bytes of the CN in any cut. For a dialog that is not watched, where nothing stops it.
    #[inline]
    pub fn cn_bytes(&mut self, chunk: &[u8]) -> CnNews {
        let mut look = Look::default();
        self.look_at_cn(chunk, &mut look);
        look.cn
    }

    /// Looks at the next unread bytes of the client, which go on where `look` has come to.
    #[inline]
    pub fn look_at_client(&mut self, mut chunk: &[u8], look: &mut Look) {
        if look.stop.is_some() {
            return;
        }
        look.taken += chunk.len();
        let end = look.taken;
        while !chunk.is_empty() && self.opaque.is_none() {
            if self.client.within_frame() {
                chunk = self.client_payload(chunk);
            } else if let Some(start) = self.client.peek(chunk) {
                let at = end - chunk.len();
                if self.must_wait(at, look) || self.must_stop(&start, at, look) {
                    return;
                }
                self.client_frame(&start, at, look);
                self.client.enter(start.length, 0);
                chunk = self.client_payload(&chunk[HEADER..]);
            } else {
                let before = (end - chunk.len()).saturating_sub(self.client.kept());
                let (kept, rest) = self.client.keep(chunk);
                chunk = rest;
                let Some(kept) = kept else { break };
                let start = kept.start();
                if self.must_wait(before, look) || self.must_stop(&start, before, look) {
                    return;
                }
                self.client_frame(&start, before, look);
                self.client.enter(start.length, start.payload.len());
                self.overhear(start.payload);
            }
            if self.client.between_packets() {
                self.client_packet_end();
            }
        }
    }

    /// Looks at the next unread bytes of the CN, which go on where `look` has come to.
    #[inline]
    pub fn look_at_cn(&mut self, mut chunk: &[u8], look: &mut Look) {
        if look.stop.is_some() {
            return;
        }
        look.taken += chunk.len();
        let end = look.taken;
        while !chunk.is_empty() && self.opaque.is_none() {
            if self.cn.within_frame() {
                chunk = self.cn.skip(chunk);
            } else if let Some(start) = self.cn.peek(chunk) {
                self.cn_frame(&start, end - chunk.len(), look);
                self.cn.enter(start.length, 0);
                if look.stop.is_some() {
                    return;
                }
                chunk = self.cn.skip(&chunk[HEADER..]);
            } else {
                let at = (end - chunk.len()).saturating_sub(self.cn.kept());
                let (kept, rest) = self.cn.keep(chunk);
                chunk = rest;
                let Some(kept) = kept else { break };
                let start = kept.start();
                self.cn_frame(&start, at, look);
                if look.stop.is_some() {
                    self.cn.enter(start.length, 0);
                    return;
                }
                self.cn.enter(start.length, start.payload.len());
            }
            if self.cn.between_packets() {
                look.cn.replies += self.cn_packet_end();
                chunk = self.pass_rows(chunk);
            }
        }
    }

    /// Ends a look at the client: the start of a frame that is not whole is held back.
    #[inline]
    pub fn end_client_look(&mut self, look: &mut Look) {
        look.taken -= self.client.forget();
        if self.is_lost() {
            // Nobody knows which of its bytes are a statement's id.
            look.taken = 0;
            look.stop = Some(Stop::Lost);
        }
    }

    /// Ends a look at the CN: the start of a frame that is not whole is held back.
    #[inline]
    pub fn end_cn_look(&mut self, look: &mut Look) {
        look.taken -= self.cn.forget();
    }

    /// Nothing is owed and nothing is half said: no command in flight, no partial packet in either direction, no
    /// file on its way, no long data that waits for its execution. Never true of an opaque dialog or after COM_QUIT.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.opaque.is_none()
            && !self.quit
            && self.front.is_none()
            && self.turn == Turn::Commands
            && self.long_data == LongData::None
            && self.client.between_packets()
            && self.cn.between_packets()
    }

    /// Whether the relay shall go on reading the client.
    #[inline]
    #[must_use]
    pub fn may_speak(&self) -> bool {
        // What the CN asks for belongs to the command itself.
        let waits = (self.alone || self.paced) && self.front.is_some() && self.turn == Turn::Commands;
        // And so does the rest of a command that comes in parts.
        let held_back = waits && self.client.between_packets();
        (self.behind.len() + 1 < PIPELINE_MAX && !held_back) || self.opaque.is_some()
    }

    /// The same after a look has stopped at [`Stop::Full`].
    #[must_use]
    pub fn may_go_on(&self) -> bool {
        (self.in_flight() <= PIPELINE_LOW && self.may_speak()) || self.opaque.is_some()
    }

    /// Whether the CN has said with its last packet that it will close: that ERR is the client's answer, and no
    /// other should follow it.
    #[must_use]
    pub fn farewell(&self) -> bool {
        self.farewell && self.front.is_none()
    }

    /// The server status last seen; an ERR carries none and leaves it.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    #[must_use]
    pub fn in_transaction(&self) -> bool {
        self.status.has(Status::IN_TRANS) || (self.matrixone && !self.status.has(MARK))
    }

    /// The oldest command in flight.
    #[must_use]
    pub fn current(&self) -> Option<Command> {
        self.front.map(|pending| pending.command)
    }

    /// Whether the CN has let in the user of a COM_CHANGE_USER that it has just answered; tells it once.
    #[inline]
    pub fn take_changed_user(&mut self) -> Option<bool> {
        self.changed_user.take()
    }

    /// Commands in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.behind.len() + usize::from(self.front.is_some())
    }

    /// Whether statement parameters sent by COM_STMT_SEND_LONG_DATA wait on the CN for an execution.
    #[must_use]
    pub fn long_data(&self) -> bool {
        self.long_data != LongData::None
    }

    /// The sequence number of an ERR put in the CN's place: only where a reply is owed to a complete command and the CN's
    /// bytes end exactly at a packet's end, and not while the client is still sending a local file.
    #[must_use]
    pub fn cn_boundary(&self) -> Option<u8> {
        let complete = self.front.is_some_and(|pending| pending.seq.is_some());
        let here = self.opaque.is_none() && self.cn.between_packets() && self.turn != Turn::File;
        (complete && here).then_some(self.cn.seq)
    }

    /// Why the dialog gave up, if it did.
    #[must_use]
    pub fn opaque(&self) -> Option<Opaque> {
        self.opaque
    }

    #[cold]
    fn give_up(&mut self, why: Opaque) {
        self.opaque = self.opaque.or(Some(why));
        // The packet at hand still ends; nothing may come of it.
        self.outcome = Outcome::Malformed;
        self.speech = Speech::Silent;
    }

    /// Whether the client's next frame, at `at`, begins a command for which there is no place in the pipeline.
    #[inline]
    fn must_wait(&mut self, at: usize, look: &mut Look) -> bool {
        if self.may_speak() || self.client.continues || self.turn != Turn::Commands {
            return false;
        }
        look.taken = at;
        look.stop = Some(Stop::Full);
        true
    }

    /// Payload of the client's present frame; the rest of `chunk`.
    #[inline]
    fn client_payload<'c>(&mut self, chunk: &'c [u8]) -> &'c [u8] {
        let rest = self.client.skip(chunk);
        self.overhear(&chunk[..chunk.len() - rest.len()]);
        rest
    }

    #[inline]
    fn client_frame(&mut self, start: &Start<'_>, at: usize, look: &mut Look) {
        let in_order = start.seq == self.client.seq;
        if self.client.continues {
            if !in_order {
                self.give_up(Opaque::ClientOutOfOrder);
            }
            return;
        }
        match self.turn {
            Turn::File if in_order => {
                self.speech = if start.length == 0 { Speech::FileEnd } else { Speech::File };
            }
            Turn::File if start.seq == 0 => self.give_up(Opaque::PipelinedPastInfile),
            Turn::Answers if start.seq != 0 && in_order => self.speech = Speech::Answer,
            Turn::Commands | Turn::Answers if start.seq == 0 => {
                self.client.seq = 0;
                self.command(start.payload, at, look);
            }
            _ => self.give_up(Opaque::ClientOutOfOrder),
        }
    }

    #[inline]
    fn command(&mut self, payload: &[u8], at: usize, look: &mut Look) {
        // Servers take an empty packet for COM_SLEEP.
        let command = Command::from_byte(payload.first().copied().unwrap_or(0));
        look.client.commands += 1;
        self.alone = false;
        self.watch_command(command, payload, at, look);
        if self.long_data != LongData::None || command == Command::StmtSendLongData {
            self.long_data.note(command, payload);
        }
        match command.shape() {
            Shape::None => {
                self.speech = Speech::Silent;
                self.overtaken |= self.front.is_some();
                self.quit |= command == Command::Quit;
                look.client.quit |= command == Command::Quit;
            }
            Shape::Opaque => self.give_up(Opaque::opened_by(command)),
            _ => {
                self.speech = Speech::Command;
                self.ask(command);
            }
        }
    }

    #[inline]
    fn ask(&mut self, command: Command) {
        let pending = Pending { command, errand: None, seq: None };
        if self.front.is_none() {
            self.reply = Reply::new(command);
            self.front = Some(pending);
        } else {
            self.behind.push_back(pending);
        }
    }

    #[inline]
    fn client_packet_end(&mut self) {
        let next = self.client.seq;
        match self.speech {
            Speech::Command => {
                let errand = self.watch_end();
                self.command_end(next, errand);
            }
            Speech::Answer => self.cn.seq = next,
            Speech::FileEnd => {
                self.turn = Turn::Commands;
                self.cn.seq = next;
            }
            Speech::Silent => _ = self.watch_end(),
            Speech::File => {}
        }
    }

    /// The newest command is complete, its reply begins with `seq`.
    #[inline]
    fn command_end(&mut self, seq: u8, errand: Option<Errand>) {
        if let Some(newest) = self.behind.back_mut() {
            newest.seq = Some(seq);
            newest.errand = errand;
        } else if let Some(front) = &mut self.front {
            front.seq = Some(seq);
            front.errand = errand;
            self.cn.seq = seq;
        }
    }

    #[inline]
    fn cn_frame(&mut self, start: &Start<'_>, at: usize, look: &mut Look) {
        let in_order = start.seq == self.cn.seq;
        if self.cn.continues {
            if !in_order {
                self.give_up(Opaque::CnOutOfOrder);
            }
            return;
        }
        match self.front {
            None => return self.give_up(Opaque::Unasked),
            Some(Pending { seq: None, .. }) => return self.give_up(Opaque::EarlyReply),
            Some(_) => {}
        }
        // The CN may refuse a local file at any point of it.
        if !in_order && !self.reply.in_infile() {
            return self.give_up(Opaque::CnOutOfOrder);
        }
        self.cn.seq = start.seq;
        self.status = self.status - Status::SESSION_STATE_CHANGED;
        let (first, row) = (self.reply.is_first(), self.reply.in_rows());
        let was_in_transaction = self.in_transaction();
        let (before, described) = (self.status, self.reply.in_definitions());
        self.outcome = self.reply.packet(self.terms, start, &mut self.status);
        if described && self.matrixone {
            self.status = before;
        }
        self.failed = start.payload.first() == Some(&ERR);
        self.watch_reply(start, first, was_in_transaction, at, look);
        if row && self.outcome == Outcome::More {
            self.watch_row(start);
        }
        self.farewell = self.outcome == Outcome::Ended && self.reply.is_farewell(start);
        match (self.outcome, self.front) {
            (Outcome::Malformed, _) => self.give_up(Opaque::MalformedReply),
            (Outcome::Foreign, Some(front)) => self.give_up(Opaque::opened_by(front.command)),
            _ => {}
        }
    }

    /// Acts on the packet that ended; replies ended by it.
    #[inline]
    fn cn_packet_end(&mut self) -> u32 {
        match self.outcome {
            Outcome::More | Outcome::Malformed | Outcome::Foreign => 0,
            Outcome::Ended => {
                if self.current() == Some(Command::ChangeUser) {
                    self.changed_user = Some(!self.failed);
                }
                self.watch_replied();
                self.next_reply();
                1
            }
            Outcome::Infile => {
                self.give_turn(Turn::File, Opaque::PipelinedPastInfile);
                0
            }
            Outcome::Asked => {
                self.give_turn(Turn::Answers, Opaque::PipelinedPastAuth);
                0
            }
        }
    }

    #[inline]
    fn next_reply(&mut self) {
        if self.turn == Turn::Answers {
            self.turn = Turn::Commands;
        }
        self.front = self.behind.pop_front();
        let Some(front) = self.front else {
            self.overtaken = false;
            if self.behind.capacity() > 2 * PIPELINE_MAX {
                self.behind = VecDeque::new();
            }
            return;
        };
        self.reply = Reply::new(front.command);
        self.cn.seq = front.seq.unwrap_or(0);
    }

    /// The CN asks the client for more of the same command; what the client sent behind it would be taken for that.
    #[cold]
    fn give_turn(&mut self, turn: Turn, otherwise: Opaque) {
        if self.overtaken || !self.behind.is_empty() || !self.client.between_packets() {
            return self.give_up(otherwise);
        }
        self.turn = turn;
        self.client.seq = self.cn.seq;
    }

    /// The fast path of large results: skips the rows that lie whole in `chunk`; the rest of it.
    #[inline]
    fn pass_rows<'c>(&mut self, mut chunk: &'c [u8]) -> &'c [u8] {
        if self.outcome != Outcome::More || !self.reply.in_rows() || self.wants_row() {
            return chunk;
        }
        let mut seq = self.cn.seq;
        while let Some(&[a, b, c, number, first]) = chunk.first_chunk() {
            let (length, _) = read_header(&[a, b, c, number]);
            let row = first < 0xfe && length != 0 && length != FULL && number == seq;
            match chunk.get(HEADER + length as usize..) {
                Some(rest) if row => chunk = rest,
                _ => break,
            }
            seq = seq.wrapping_add(1);
        }
        self.cn.seq = seq;
        chunk
    }
}

#[cfg(test)]
mod cases;
#[cfg(test)]
mod model;
#[cfg(test)]
mod replay;
