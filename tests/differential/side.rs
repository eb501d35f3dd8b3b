//! One side of a comparison: a connection, the schemas and statement ids that are its own, and its answers with
//! all of that taken out, so that they can be compared byte for byte.
//!
//! Masked are: the name of the schema (equally long on both sides), statement ids (which may differ after a move, but
//! never meet one that is open) also in the texts of errors, the salt of a COM_CHANGE_USER, the order in which an OK
//! tells several changes of system variables, which is that of a hash table, and one flag of an EOF.

use std::cell::RefCell;
use std::io;

use memchr::memmem;

use super::house::{Can, Com, LoginAs, RawClient, frames};
use super::reply::{Definitions, Packet, Reader, Reply, Shape};
use super::step::{LAST, Step};
use super::stream::Stream;
use super::track;

/// What both sides' schemas are called after masking; as long as a schema's name.
pub const MASK: &str = "diff________x";

/// ER_UNKNOWN_STMT_HANDLER and ER_STMT_HAS_NO_OPEN_CURSOR, whose texts have the statement's id: as an ERR or a binary row
/// tells them, and as a text row does.
const NAME_THE_ID: [&[u8]; 4] = [&1243u16.to_le_bytes(), &1421u16.to_le_bytes(), b"1243", b"1421"];

pub struct Side {
    pub client: RawClient,
    /// The name that its schemas begin with.
    schema: String,
    /// By slot: the id; none where preparing failed.
    ids: Vec<Option<u32>>,
    /// Ids of statements that are open.
    open: Vec<u32>,
    /// By slot.
    kept: Vec<Definitions>,
    /// The slot that was prepared last.
    last: usize,
    told: RefCell<track::Told>,
}

/// Beyond those of a stream.
const NO_SLOT: usize = 200;

/// Who both sides log in as.
pub const USER: &str = "app";
pub const PASSWORD: &str = "secret";

impl Side {
    /// Logs in; the OK that ends the login is the first answer.
    pub fn open(port: u16, database: &str, stream: &Stream, schema: &str) -> (Self, Reply) {
        let mut client = RawClient::dial(port);
        client.capabilities = stream.capabilities;
        client.extended = stream.extended;
        client.collation = stream.collation;
        let ok = client.log_in(&LoginAs { user: USER, password: PASSWORD, database }).expect("log in");
        let side = Self {
            client,
            schema: schema.into(),
            ids: Vec::new(),
            open: Vec::new(),
            kept: Vec::new(),
            last: 0,
            told: RefCell::default(),
        };
        let mut reply = vec![Packet { sequence: 0, payload: ok }];
        side.mask(&mut reply);
        (side, reply)
    }

    /// Sends a step and reads all that answers it, masked.
    pub fn perform(&mut self, step: &Step) -> io::Result<Vec<Reply>> {
        let steps = match step {
            Step::Together(steps) => &steps[..],
            one => std::slice::from_ref(one),
        };
        let bytes: Vec<u8> = steps.iter().flat_map(|step| frames(0, &self.payload(step))).collect();
        self.client.send_bytes(&bytes)?;
        steps.iter().map(|step| self.answer(step)).collect()
    }

    fn answer(&mut self, step: &Step) -> io::Result<Reply> {
        let file: &[u8] = if let Step::Infile(_, file) = step { file } else { b"" };
        let mut reply = match step {
            Step::ChangeUser(_) => self.change_user()?,
            _ => {
                let slot = self.slot_of(step);
                self.kept.resize(self.kept.len().max(slot + 1), Vec::new());
                Reader::new(&mut self.client, file, &mut self.kept[slot]).read(shape(step))?
            }
        };
        self.mask(&mut reply);
        match step {
            Step::Prepare { slot, .. } => self.prepared(*slot, &mut reply),
            Step::Close { slot } => self.closed(*slot),
            Step::ResetConnection | Step::ChangeUser(_) => self.open.clear(),
            _ => (),
        }
        Ok(reply)
    }

    /// The statement that a step is about; any slot for a step that is about none: a text is always described.
    fn slot_of(&mut self, step: &Step) -> usize {
        match step {
            Step::Prepare { slot, .. } => {
                self.last = *slot;
                *slot
            }
            Step::Execute(execute) => execute.slot.unwrap_or(self.last),
            Step::Bulk(bulk) => bulk.slot,
            _ => NO_SLOT,
        }
    }

    fn payload(&self, step: &Step) -> Vec<u8> {
        let named = |text: &[u8]| replace(text, MASK, &self.schema);
        let (com, argument) = match step {
            Step::Query(text) | Step::Infile(text, _) => (Com::QUERY, named(text)),
            Step::InitDb(name) => (Com::INIT_DB, named(name)),
            Step::FieldList(table) => (Com::FIELD_LIST, [table, &b"\0"[..]].concat()),
            Step::Ping => (Com::PING, Vec::new()),
            Step::SetOption(option) => (Com::SET_OPTION, option.to_le_bytes().to_vec()),
            Step::ResetConnection => (Com::RESET_CONNECTION, Vec::new()),
            Step::ChangeUser(schema) => {
                (Com::CHANGE_USER, change_user(&named(schema), self.client.collation))
            }
            Step::Prepare { text, .. } => (Com::STMT_PREPARE, named(text)),
            Step::Execute(execute) => {
                let id = execute.slot.map_or(LAST, |slot| self.id(slot));
                (Com::STMT_EXECUTE, execute.argument(id))
            }
            Step::Bulk(bulk) => (Com::STMT_BULK_EXECUTE, bulk.argument(self.id(bulk.slot))),
            Step::Fetch { slot, rows } => {
                (Com::STMT_FETCH, [self.id(*slot).to_le_bytes(), rows.to_le_bytes()].concat())
            }
            Step::ResetStatement { slot } => (Com::STMT_RESET, self.id(*slot).to_le_bytes().to_vec()),
            Step::Close { slot } => (Com::STMT_CLOSE, self.id(*slot).to_le_bytes().to_vec()),
            Step::LongData { slot, parameter, data } => {
                let head = [&self.id(*slot).to_le_bytes()[..], &parameter.to_le_bytes()].concat();
                (Com::STMT_SEND_LONG_DATA, [head, data.clone()].concat())
            }
            Step::Together(_) => unreachable!("steps are sent together on one floor only"),
        };
        [&[com], &argument[..]].concat()
    }

    /// The id of a statement; where preparing failed, one that no server gives.
    fn id(&self, slot: usize) -> u32 {
        let unknown = 0x7000_0000 + u32::try_from(slot).expect("few statements");
        self.ids.get(slot).copied().flatten().unwrap_or(unknown)
    }

    /// Takes the id out of a COM_STMT_PREPARE_OK and keeps it. One that is open must not be given again.
    fn prepared(&mut self, slot: usize, reply: &mut Reply) {
        let ok = &mut reply[0].payload;
        let id = (ok[0] == 0).then(|| u32::from_le_bytes(ok[1..5].try_into().expect("4 bytes")));
        self.ids.resize(self.ids.len().max(slot + 1), None);
        self.ids[slot] = id;
        if let Some(id) = id {
            let taken = self.open.contains(&id);
            ok[1..5].copy_from_slice(if taken { b"used" } else { b"free" });
            self.open.push(id);
        }
    }

    fn closed(&mut self, slot: usize) {
        let id = self.id(slot);
        self.open.retain(|open| *open != id);
    }

    fn mask(&self, reply: &mut Reply) {
        for packet in reply {
            packet.payload = replace(&packet.payload, &self.schema, MASK);
            mask_id(packet);
            mask_row(packet);
            mask_eof(packet);
            if self.client.capabilities & Can::SESSION_TRACK != 0 {
                let deprecates_eof = self.client.capabilities & Can::DEPRECATE_EOF != 0;
                self.told.borrow_mut().sort(&mut packet.payload, deprecates_eof);
            }
        }
    }

    /// The server asks for the password anew, as the plugin that was named is unknown to it.
    fn change_user(&mut self) -> io::Result<Reply> {
        let mut reply = Vec::new();
        loop {
            let payload = self.client.try_packet()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let asks = payload[0] == 0xfe;
            let masked = if asks { b"asks".to_vec() } else { payload.clone() };
            reply.push(Packet { sequence: self.client.sequence, payload: masked });
            if !asks {
                return Ok(reply);
            }
            self.client.answer_switch(&payload, PASSWORD);
        }
    }
}

/// A text that names a statement's id is cut to what stands behind it.
fn mask_id(packet: &mut Packet) {
    let payload = &packet.payload;
    if !NAME_THE_ID.iter().any(|code| memmem::find(payload, code).is_some()) {
        return;
    }
    let digits = |from: usize| payload[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = memmem::find_iter(payload, b"(").map(|at| (at + 1, at + 1 + digits(at + 1)));
    let mut numbers = number.filter(|(from, to)| from < to && payload[*to..].starts_with(b") "));
    if let Some((_, to)) = numbers.next() {
        packet.payload = [b"statement", &payload[to + 1..]].concat();
    }
}

/// The number of a row in an ERR, or at the end of a row that SHOW WARNINGS gives, goes on counting from an earlier statement of the
/// session, where none of this one came so far.
fn mask_row(packet: &mut Packet) {
    const AT_ROW: &[u8] = b" at row ";
    let Some(at) = memmem::rfind(&packet.payload, AT_ROW) else { return };
    let digits = &packet.payload[at + AT_ROW.len()..];
    let is_last = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if packet.payload.first() == Some(&0xff) || is_last {
        packet.payload.truncate(at + AT_ROW.len());
    }
}

/// Takes out of an EOF that the session's state changed: no change is told with it, so that nobody can act on it.
fn mask_eof(packet: &mut Packet) {
    const SESSION_STATE_CHANGED: u8 = 0x40;
    if let [0xfe, _, _, _, high] = &mut packet.payload[..] {
        *high &= !SESSION_STATE_CHANGED;
    }
}

fn shape(step: &Step) -> Shape {
    match step {
        Step::Query(_) | Step::Infile(..) | Step::Execute(_) | Step::Bulk(_) => Shape::Results,
        Step::FieldList(_) => Shape::Fields,
        Step::Fetch { .. } => Shape::Rows,
        Step::Prepare { .. } => Shape::Prepared,
        Step::Close { .. } | Step::LongData { .. } => Shape::Nothing,
        _ => Shape::One,
    }
}

/// COM_CHANGE_USER behind the command byte: no proof, a plugin that nobody knows.
fn change_user(schema: &[u8], collation: u8) -> Vec<u8> {
    let mut argument = [USER.as_bytes(), b"\0\0", schema, b"\0"].concat();
    argument.extend_from_slice(&u16::from(collation).to_le_bytes());
    argument.extend_from_slice(b"ask_me_again\0");
    argument
}

/// Replaces every occurrence. Where both are equally long, lengths within the bytes stay right.
fn replace(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = 0;
    for at in memmem::find_iter(bytes, from) {
        out.extend_from_slice(&bytes[rest..at]);
        out.extend_from_slice(to.as_bytes());
        rest = at + from.len();
    }
    out.extend_from_slice(&bytes[rest..]);
    out
}
