//! One session: the real dialog and state between a client and a leg, and its twin.
//!
//! The twin is a server that hears what the client says directly, and never moves. Whatever the client is answered must be what
//! the twin answers, and what the CN remembers what the twin remembers, but for ids of statements.

use std::collections::BTreeMap;

use fastrand::Rng;

use corelane::session::dialog::{Dialog, Look, Patch, Stop, Watch, Watched};
use corelane::session::hold::Hold;
use corelane::session::restore;
use corelane::session::script::{Results, Script, ScriptError};
use corelane::session::state::State;
use corelane::session::tracking;
use corelane::wire::capability::Capabilities;
use corelane::wire::frame::{PacketReader, write_packet};

use super::client::{Client, Say};
use super::memory::Prepared;
use super::server::Server;

/// Why a session stays where it is. That the new CN refuses what a restore says is no reason, but a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// Known before anything was asked.
    Held(Hold),
    /// Found out when the restore was written.
    HeldLate(Hold),
    /// The new leg was lost before it was settled.
    Broken,
    /// Nobody was silent, or asked about the last answer, for too long.
    Never,
}

impl Stay {
    pub fn name(self) -> &'static str {
        match self {
            Self::Held(hold) | Self::HeldLate(hold) => hold.name(),
            Self::Broken => "broken",
            Self::Never => "never silent",
        }
    }
}

pub struct Talk {
    pub dialog: Dialog,
    pub leg: Server,
    pub twin: Server,
    pub client: Client,
    cn: Capabilities,
    schema: &'static str,
    /// Commands said, until they are taken account of.
    commands: u32,
    /// It is being checked.
    pub failing: bool,
}

/// Those that change what packets look like.
fn capabilities(rng: &mut Rng) -> Capabilities {
    let mut all = Capabilities::PROTOCOL_41
        | Capabilities::TRANSACTIONS
        | Capabilities::MULTI_STATEMENTS
        | Capabilities::MULTI_RESULTS
        | Capabilities::PS_MULTI_RESULTS;
    for optional in [Capabilities::SESSION_TRACK, Capabilities::DEPRECATE_EOF] {
        if rng.bool() {
            all = all | optional;
        }
    }
    all
}

impl Talk {
    /// A session that has just logged in. `watched`: it may ever move.
    pub fn new(rng: &mut Rng, watched: bool) -> Self {
        let client = capabilities(rng);
        let cn = if watched { client | Capabilities::SESSION_TRACK } else { client };
        let schema = ["", "db0"][rng.usize(..2)];
        let ids = rng.u32(..50);
        let mut leg = Server::new(cn, schema, ids);
        let twin = Server::new(client, schema, ids);
        let mut dialog = Dialog::new(client, leg.flags());
        if watched {
            let results = converse(&mut leg, tracking::script(true), cn).expect("a fresh leg answers");
            let beginning = tracking::learn(results).expect("it tells how it began");
            let beginning = match client.has(Capabilities::SESSION_TRACK) {
                true => beginning,
                false => tracking::Beginning { wishes: tracking::Wishes::none(), ..beginning },
            };
            let state = State::new(cn, true, beginning, Some(schema.as_bytes()));
            dialog.watch(Watch::On(Box::new(Watched::new(state, client, cn))));
        } else {
            dialog.watch(Watch::Off(Hold::RelayLogin));
        }
        Self { dialog, leg, twin, client: Client::default(), cn, schema, commands: 0, failing: false }
    }

    /// The client says all of `burst` at once, and hears all answers.
    pub fn exchange(&mut self, burst: &[Say], rng: &mut Rng) {
        self.failing = true;
        self.commands += burst.len() as u32;
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for say in burst {
            write_packet(&mut bytes, &mut 0, &say.payload(|at| self.client.handles[at].id));
            expected.push(self.twin.hear(&say.payload(|at| self.client.handles[at].twin)));
        }
        let asked = self.forward(&bytes, rng);
        let mut answers = Vec::new();
        for command in packets(&asked) {
            answers.extend(self.leg.hear(&command));
        }
        let mut seen = &self.back(&answers, rng)[..];
        for (say, expected) in burst.iter().zip(expected) {
            seen = self.compare(say, &expected, seen);
            self.client.said(say);
        }
        assert!(seen.is_empty(), "more than was asked for: {seen:?}");
        assert_eq!(self.dialog.opaque(), None, "{burst:?}");
        self.retrack();
        self.failing = false;
    }

    /// How many commands it has said since the last time.
    pub fn take_commands(&mut self) -> u32 {
        std::mem::take(&mut self.commands)
    }

    /// What the client said as the CN hears it.
    fn forward(&mut self, bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
        let (mut unread, mut sent, mut rest) = (Vec::new(), Vec::new(), bytes);
        let mut wanted = 0;
        loop {
            if unread.len() <= wanted {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = cut(rest, rng);
                unread.extend_from_slice(piece);
                rest = after;
                continue;
            }
            let mut look = Look::default();
            self.dialog.look_at_client(&unread, &mut look);
            self.dialog.end_client_look(&mut look);
            patch(&mut unread, &look.patches);
            sent.extend(unread.drain(..look.taken));
            wanted = match look.stop {
                Some(Stop::Execute { head }) => self.replace(head, &mut unread, &mut rest, &mut sent),
                Some(other) => panic!("{other:?} of a client"),
                None => unread.len(),
            };
        }
        assert!(unread.is_empty(), "left unread: {unread:?}");
        sent
    }

    /// Sends the head of an execution with the types put in.
    fn replace(
        &mut self,
        mut head: usize,
        unread: &mut Vec<u8>,
        rest: &mut &[u8],
        sent: &mut Vec<u8>,
    ) -> usize {
        loop {
            while unread.len() < head {
                let (byte, after) = rest.split_first().expect("the rest of an execution");
                unread.push(*byte);
                *rest = after;
            }
            let needs = self.dialog.execute_needs(&unread[..head]);
            if needs <= head {
                break;
            }
            head = needs;
        }
        let new = self.dialog.execute(&unread[..head], &mut Look::default()).expect("a short execution");
        sent.extend(new);
        unread.drain(..head);
        0
    }

    /// What the CN said as the client hears it.
    fn back(&mut self, bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
        let (mut unread, mut heard, mut rest) = (Vec::new(), Vec::new(), bytes);
        let mut wanted = 0;
        loop {
            if unread.len() <= wanted {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = cut(rest, rng);
                unread.extend_from_slice(piece);
                rest = after;
                continue;
            }
            let mut look = Look::default();
            self.dialog.look_at_cn(&unread, &mut look);
            self.dialog.end_cn_look(&mut look);
            patch(&mut unread, &look.patches);
            heard.extend(unread.drain(..look.taken));
            wanted = match look.stop {
                Some(Stop::Changed { length }) => {
                    while unread.len() < length {
                        let (byte, after) = rest.split_first().expect("the rest of a packet");
                        unread.push(*byte);
                        rest = after;
                    }
                    let packet: Vec<u8> = unread.drain(..length).collect();
                    heard.extend(self.dialog.changed(&packet, &mut Look::default()).expect("an OK"));
                    0
                }
                Some(other) => panic!("{other:?} of a CN"),
                None => unread.len(),
            };
        }
        assert!(unread.is_empty(), "left unread: {unread:?}");
        heard
    }

    /// The answer to one command is that of the twin, but for a statement's id; gives what comes after it.
    fn compare<'b>(&mut self, say: &Say, expected: &[u8], seen: &'b [u8]) -> &'b [u8] {
        let Some((own, rest)) = seen.split_at_checked(expected.len()) else {
            panic!("{say:?}: {seen:?} is too short for {expected:?}");
        };
        let mut expected = expected.to_vec();
        if let (Say::Prepare(text), Some(0)) = (say, expected.get(4)) {
            let id = |bytes: &[u8]| bytes[5..9].try_into().map(u32::from_le_bytes).expect("an id");
            self.client.prepared(text, id(own), id(&expected));
            expected[5..9].copy_from_slice(&own[5..9]);
        }
        let show = String::from_utf8_lossy;
        assert_eq!(
            own,
            expected,
            "{say:?}: {} is not {}; the dialog holds {:?}",
            show(own),
            show(&expected),
            self.dialog.hold()
        );
        rest
    }

    fn retrack(&mut self) {
        if self.dialog.untracked().is_some() && self.dialog.idle() {
            let results = converse(&mut self.leg, tracking::script(true), self.cn).expect("it tracks again");
            self.dialog.tracked(&tracking::learn(results).expect("it tells how it is"));
        }
    }

    /// Whether it may move now; `next` is what the client says next, none if it has been silent for long.
    pub fn allows(&mut self, next: Option<&[Say]>) -> Result<(), Option<Hold>> {
        self.dialog.quiet().map_err(Some)?;
        let Some(next) = next else { return Ok(()) };
        let mut bytes = Vec::new();
        for say in next {
            write_packet(&mut bytes, &mut 0, &say.payload(|at| self.client.handles[at].id));
        }
        let asks = self.dialog.has_leftovers() || self.dialog.asks_about_last(&bytes);
        (!asks).then_some(()).ok_or(None)
    }

    /// Makes a fresh leg the same session, as a worker does it. `lost`: the old CN cannot be asked. `breaks`: the new one
    /// loses the connection before its last answer.
    pub fn carry_over(&mut self, ids: u32, lost: bool, breaks: bool) -> Result<(), Stay> {
        self.failing = true;
        let carried = self.carry(ids, lost, breaks);
        self.failing = false;
        carried
    }

    fn carry(&mut self, ids: u32, lost: bool, breaks: bool) -> Result<(), Stay> {
        let mut fresh = Server::new(self.cn, self.schema, ids);
        converse(&mut fresh, tracking::script(true), self.cn).expect("a fresh leg answers");
        let mut quiet = self.dialog.quiet().map_err(Stay::Held)?;
        let questions = restore::questions(quiet.state()).filter(|_| !lost);
        let asked = questions.map(|questions| {
            converse(&mut self.leg, questions, self.cn).expect("the old leg answers all that is asked")
        });
        let script = restore::restore(quiet.state(), asked).map_err(Stay::HeldLate)?;
        let mut status = fresh.flags();
        let restores = !script.is_empty();
        let results = converse(&mut fresh, script, self.cn).expect("a restore is never refused");
        if breaks {
            return Err(Stay::Broken);
        }
        if restores {
            status = results.status.unwrap_or(status);
            restore::settle(quiet.state_mut(), results).expect("the answers are those to the restore");
        }
        quiet.settle(status);
        let old = std::mem::replace(&mut self.leg, fresh);
        assert!(!old.has_pins(), "{:?} was moved away from", old.memory.pins);
        assert_eq!(self.leg.memory, old.memory, "the new leg is another session");
        self.check();
        Ok(())
    }

    /// What the last statement left behind is lost with the old leg.
    pub fn forget_diagnostics(&mut self) {
        self.twin.diagnostics = Default::default();
        self.leg.diagnostics = Default::default();
    }

    /// The leg remembers what the twin remembers.
    pub fn check(&self) {
        assert_eq!(self.leg.memory, self.twin.memory, "the leg is not what the client made it");
        let of_client = |statement: &Prepared| Prepared { types: None, ..statement.clone() };
        let state = self.dialog.watched().map(|watched| &watched.state);
        let mut own: BTreeMap<u32, Prepared> = self.leg.statements.clone();
        for handle in &self.client.handles {
            let id = state.and_then(|state| state.cn_statement(handle.id)).unwrap_or(handle.id);
            let at_cn = own.remove(&id).map(|statement| of_client(&statement));
            let twin = self.twin.statements.get(&handle.twin).map(of_client);
            assert_eq!(at_cn, twin, "the client's {} is {id} at the CN", handle.id);
        }
        assert!(own.is_empty(), "statements that the client does not have: {own:?}");
        if self.leg.has_pins() {
            assert!(self.dialog.hold().is_some(), "{:?} would be left behind", self.leg.memory.pins);
        }
    }
}

/// A script as a worker has it answered.
fn converse(leg: &mut Server, script: Script, capabilities: Capabilities) -> Result<Results, ScriptError> {
    let mut bytes = Vec::new();
    script.write(&mut bytes, capabilities);
    let mut answers = script.answers(capabilities);
    for command in packets(&bytes) {
        for packet in packets(&leg.hear(&command)) {
            answers.packet(&packet)?;
        }
    }
    answers.finish()
}

/// The payloads of whole packets.
fn packets(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = PacketReader::new(1 << 20);
    reader.push(bytes);
    let mut all = Vec::new();
    loop {
        reader.expect_any();
        match reader.take().expect("whole packets") {
            Some(packet) => all.push(packet),
            None => return all,
        }
    }
}

/// The bytes that come next, in pieces of any length.
fn cut<'b>(bytes: &'b [u8], rng: &mut Rng) -> (&'b [u8], &'b [u8]) {
    match rng.usize(..3) {
        0 => bytes.split_at(rng.usize(1..=bytes.len())),
        _ => bytes.split_at(bytes.len()),
    }
}

fn patch(bytes: &mut [u8], patches: &[Patch]) {
    for patch in patches {
        bytes[patch.at..patch.at + 4].copy_from_slice(&patch.bytes);
    }
}
