//! Prepared statements of a session: by the id that the client knows, with all that another CN needs to prepare them again.
//!
//! A client's ids never change. On its first CN they are that CN's own; after a move each statement has an id of the new CN as well, and
//! an id that the client never got must not reach a statement by accident. What the client told the old CN of parameter types has
//! to be told to the new one, once. Texts and types are bounded; the values of parameters are never looked at.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::state::Context;
use crate::sql::Effects;
use crate::wire::cursor::Cursor;
use crate::wire::statement::{BULK_EXECUTE, BulkExecute, EXECUTE, Execute, LAST_PREPARED, PrepareOk};

/// Statements of one session that another CN could be told.
pub const STATEMENTS_MAX: usize = 1024;

/// Statements of one session that are known: beyond the others by their ids and effects only, to see when they are closed.
pub const KNOWN_MAX: usize = 8192;

/// Bytes of the texts of one session's statements.
pub const TEXT_MAX: usize = 1 << 20;

/// Bytes of the names in the effects of one session's statements.
pub const EFFECT_NAMES_MAX: usize = 1 << 20;

/// Parameters of one statement.
pub const PARAMETERS_MAX: u16 = 4096;

/// Bytes of an execution up to the end of its parameter types, names of query attributes included.
pub const HEAD_MAX: usize = 64 << 10;

/// Bytes of the parameter types of one session's statements.
pub const TYPES_MAX: usize = 1 << 20;

/// An id that servers give to no statement.
const NO_STATEMENT: u32 = 0;

/// COM_STMT_EXECUTE without null bitmap.
const EXECUTE_FIXED: usize = 10;
const BULK_FIXED: usize = 7;

/// A text as it was prepared.
#[derive(Debug)]
pub struct Source {
    /// None if it is longer than there was place for.
    pub text: Option<Box<[u8]>>,
    pub effects: Effects,
    /// One SET statement alone, whose reported values are those that stay.
    pub plain_set: bool,
}

/// Parameter types as the client sent them last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Types {
    /// Never sent.
    None,
    Known(Box<[u8]>),
    /// Sent in a form that is not read, or too many.
    Unknown,
}

impl Types {
    fn len(&self) -> u32 {
        if let Self::Known(types) = self { types.len() as u32 } else { 0 }
    }
}

#[derive(Debug)]
pub struct Statement {
    /// The id at the CN.
    pub cn: u32,
    pub source: Arc<Source>,
    /// Under which it was prepared.
    pub context: Arc<Context>,
    pub parameters: u16,
    pub columns: u16,
    pub types: Types,
    /// The CN knows the types.
    pub told: bool,
    /// Types, and whether they were told, before a bulk execution that told others and may be refused without a look at them.
    before: Option<Box<(Types, bool)>>,
    /// An execution has left a cursor open, or may have.
    pub cursor: bool,
    /// It is beyond a limit: another CN cannot be told of it, and its types are not kept.
    pub beyond: bool,
}

/// What a command says of parameter types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told<'a> {
    /// The payload at hand does not reach so far.
    Cut,
    Nothing,
    Types(&'a [u8]),
    Unknown,
}

#[derive(Debug, Default)]
pub struct Statements {
    by_id: BTreeMap<u32, Statement>,
    /// The client's id of the one prepared last, for MariaDB's LAST_PREPARED.
    last: Option<u32>,
    /// Ids of the client's are not those of the CN any more.
    moved: bool,
    text_bytes: u32,
    name_bytes: u32,
    type_bytes: u32,
}

impl Statements {
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Statement)> {
        self.by_id.iter().map(|(id, statement)| (*id, statement))
    }

    pub fn contexts_mut(&mut self) -> impl Iterator<Item = &mut Arc<Context>> {
        self.by_id.values_mut().map(|statement| &mut statement.context)
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub fn last(&self) -> Option<u32> {
        self.last
    }

    /// Bytes of all texts.
    pub fn text_bytes(&self) -> usize {
        self.text_bytes as usize
    }

    /// The client's own id for one that may be [`LAST_PREPARED`].
    pub fn resolve(&self, id: u32) -> Option<u32> {
        if id == LAST_PREPARED { self.last } else { Some(id) }
    }

    pub fn get(&self, id: u32) -> Option<&Statement> {
        self.by_id.get(&self.resolve(id)?)
    }

    pub fn get_mut(&mut self, id: u32) -> Option<&mut Statement> {
        let id = self.resolve(id)?;
        self.by_id.get_mut(&id)
    }

    /// Whether the client's ids are not those of the CN.
    pub fn are_mapped(&self) -> bool {
        self.moved && !self.by_id.is_empty()
    }

    /// The CN's id in place of the client's; none if it is the same. An id that the client does not have becomes one that no CN has.
    #[inline]
    pub fn at_cn(&self, id: u32) -> Option<u32> {
        if !self.moved {
            return None;
        }
        let at_cn = self.get(id).map_or(NO_STATEMENT, |statement| statement.cn);
        (at_cn != id).then_some(at_cn)
    }

    /// Enters a statement that the CN has prepared; the id for the client, and whether its end will be known. One that is not
    /// known is entered only where its id must be.
    pub fn enter(&mut self, source: Arc<Source>, context: Arc<Context>, ok: &PrepareOk) -> (u32, bool) {
        let id = self.free_id(ok.statement);
        let length = source.text.as_ref().map_or(0, |text| text.len());
        let fits = self.by_id.len() < STATEMENTS_MAX
            && self.text_bytes() + length <= TEXT_MAX
            && ok.parameters <= PARAMETERS_MAX
            && source.text.is_some();
        let names = source.name_bytes();
        let known =
            self.by_id.len() < KNOWN_MAX && self.name_bytes as usize + names as usize <= EFFECT_NAMES_MAX;
        let (fits, names) = (fits && known, if known { names } else { 0 });
        let source = if fits { source } else { source.without_text(known) };
        self.last = Some(id);
        if known || self.moved {
            self.close(id);
            self.last = Some(id);
            self.text_bytes += if fits { length as u32 } else { 0 };
            self.name_bytes += names;
            let statement = Statement {
                cn: ok.statement,
                source,
                context,
                parameters: ok.parameters,
                columns: ok.columns,
                types: Types::None,
                told: true,
                before: None,
                cursor: false,
                beyond: !fits,
            };
            self.by_id.insert(id, statement);
        }
        (id, known)
    }

    fn free_id(&self, wanted: u32) -> u32 {
        let usable = |id: u32| id != NO_STATEMENT && id != LAST_PREPARED && !self.by_id.contains_key(&id);
        if !self.moved || usable(wanted) {
            return wanted;
        }
        let after = self.by_id.last_key_value().map_or(1, |(id, _)| id.wrapping_add(1));
        if usable(after) {
            return after;
        }
        (1..LAST_PREPARED).find(|id| usable(*id)).unwrap_or(wanted)
    }

    /// The preparation that was sent last has failed.
    pub fn forget_last(&mut self) {
        self.last = None;
    }

    pub fn close(&mut self, id: u32) {
        let Some(id) = self.resolve(id) else { return };
        if let Some(statement) = self.by_id.remove(&id) {
            self.text_bytes -= statement.source.text.as_ref().map_or(0, |text| text.len() as u32);
            self.name_bytes -= statement.source.name_bytes();
            self.type_bytes -= statement.types.len();
        }
        if self.last == Some(id) {
            self.last = None;
        }
    }

    /// Takes note of the types that go to the CN with a statement; those of one beyond a limit are not needed.
    pub fn note_types(&mut self, id: u32, told: Told<'_>) {
        if matches!(told, Told::Cut | Told::Nothing) {
            return;
        }
        let others = self.type_bytes - self.get(id).map_or(0, |statement| statement.types.len());
        let Some(statement) = self.get_mut(id).filter(|statement| !statement.beyond) else { return };
        match told {
            Told::Types(types) if others as usize + types.len() <= TYPES_MAX => {
                statement.told = true;
                if !matches!(&statement.types, Types::Known(known) if **known == *types) {
                    statement.types = Types::Known(types.into());
                }
            }
            _ => statement.types = Types::Unknown,
        }
        self.type_bytes = others + self.get(id).map_or(0, |statement| statement.types.len());
    }

    /// The same of a bulk execution. True if the CN was told types by it that may have to be [taken back](Self::take_back).
    pub fn note_bulk_types(&mut self, id: u32, told: Told<'_>) -> bool {
        let Some(statement) = self.get_mut(id) else { return false };
        let same = match (told, &statement.types) {
            (Told::Types(types), Types::Known(known)) => statement.told && **known == *types,
            (Told::Types(_), _) => false,
            _ => true,
        };
        if !same {
            statement.before = Some(Box::new((statement.types.clone(), statement.told)));
        }
        let retyped = statement.before.is_some();
        self.note_types(id, told);
        retyped
    }

    /// The CN has refused a bulk execution without a look at its types.
    pub fn take_back(&mut self, id: u32) {
        let Some(statement) = self.get_mut(id) else { return };
        let Some(before) = statement.before.take() else { return };
        let now = statement.types.len();
        (statement.types, statement.told) = *before;
        let then = statement.types.len();
        self.type_bytes = self.type_bytes - now + then;
    }

    /// The CN has taken note of the types.
    pub fn keep_types(&mut self, id: u32) {
        if let Some(statement) = self.get_mut(id) {
            statement.before = None;
        }
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Gives a statement its id at a new CN, which knows nothing of its types.
    pub fn settle(&mut self, id: u32, at_cn: u32) {
        self.moved = true;
        if let Some(statement) = self.by_id.get_mut(&id) {
            statement.cn = at_cn;
            statement.told = false;
        }
    }

    /// The session is on another CN, with statements or without.
    pub fn note_move(&mut self) {
        self.moved = true;
    }

    /// How many bytes of an execution [`execute_head`](Self::execute_head) needs; none if there is nothing to do. `attributes`:
    /// QUERY_ATTRIBUTES is agreed.
    pub fn head_len(&self, payload: &[u8], attributes: bool) -> Option<usize> {
        let statement = self.get(id_of(payload)?)?;
        if statement.told || !matches!(statement.types, Types::Known(_)) {
            return None;
        }
        match payload[0] {
            BULK_EXECUTE => Some(BULK_FIXED),
            EXECUTE if payload.len() < EXECUTE_FIXED => Some(EXECUTE_FIXED),
            EXECUTE => Some(flag_at(payload, statement.parameters, attributes)?.at + 1),
            _ => None,
        }
    }

    /// The head of an execution with the types that the CN was not told; none if it can go as it is.
    pub fn execute_head(&mut self, head: &[u8], attributes: bool) -> Option<Vec<u8>> {
        let length = self.head_len(head, attributes)?;
        if head.len() != length || head.len() < BULK_FIXED {
            return None;
        }
        let statement = self.get_mut(id_of(head)?)?;
        let Types::Known(types) = &statement.types else { return None };
        let mut out = head.to_vec();
        if head[0] == EXECUTE {
            let beside = flag_at(head, statement.parameters, attributes)?.beside;
            let flag = out.last_mut()?;
            if *flag != 0 || beside {
                return None;
            }
            *flag = 1;
        } else {
            let flags = BulkExecute::read(head).ok()?.flags;
            if flags & BulkExecute::SEND_TYPES != 0 {
                return None;
            }
            out[5..7].copy_from_slice(&(flags | BulkExecute::SEND_TYPES).to_le_bytes());
        }
        out.extend_from_slice(types);
        if head[0] == BULK_EXECUTE {
            statement.before = Some(Box::new((statement.types.clone(), false)));
        }
        statement.told = true;
        Some(out)
    }
}

impl Source {
    /// The same without its text, for which there is no place; nor are its effects of use where the session stays for good.
    fn without_text(&self, with_effects: bool) -> Arc<Self> {
        let effects = if with_effects { self.effects.clone() } else { Effects::default() };
        Arc::new(Self { text: None, effects, plain_set: self.plain_set })
    }

    fn name_bytes(&self) -> u32 {
        self.effects.named.iter().map(|named| named.name.len() as u32).sum()
    }
}

impl Statement {
    /// Whether a new CN could not be told what the old one knows.
    pub fn is_stuck(&self) -> bool {
        self.beyond || (self.types == Types::Unknown && self.parameters > 0)
    }

    /// Reads what an execution says of types.
    pub fn told_by<'a>(&self, payload: &'a [u8], attributes: bool) -> Told<'a> {
        match payload.first() {
            _ if self.beyond => Told::Nothing,
            Some(&EXECUTE) => told_by_execute(payload, self.parameters, attributes),
            Some(&BULK_EXECUTE) => told_by_bulk(payload, self.parameters),
            _ => Told::Nothing,
        }
    }
}

/// The statement id of a command that has one.
pub fn id_of(payload: &[u8]) -> Option<u32> {
    payload.get(1..5)?.first_chunk().map(|id| u32::from_le_bytes(*id))
}

/// The byte new_params_bound of an execution.
struct Flag {
    /// Where it stands, or how much more of the payload tells that.
    at: usize,
    /// There are query attributes beside the parameters.
    beside: bool,
}

/// None where the form is not known. `payload` has at least the fixed part, and there are parameters.
fn flag_at(payload: &[u8], parameters: u16, attributes: bool) -> Option<Flag> {
    let mut at = EXECUTE_FIXED;
    let mut values = usize::from(parameters);
    if attributes {
        // MySQL writes the number of values whether the flag for it is set or not.
        let mut cursor = Cursor::new(&payload[EXECUTE_FIXED..]);
        if cursor.is_empty() {
            // One byte more tells how long the number is.
            return Some(Flag { at: EXECUTE_FIXED, beside: false });
        }
        let before = cursor.remaining();
        match cursor.lenenc("parameter count") {
            // Query attributes come behind the parameters.
            Ok(count @ ..=0xffff) if count >= u64::from(parameters) => {
                at += before - cursor.remaining();
                values = count as usize;
            }
            Ok(_) => return None,
            Err(_) => return Some(Flag { at: EXECUTE_FIXED + 2, beside: false }),
        }
    } else if payload[5] & Execute::PARAMETER_COUNT != 0 {
        return None;
    }
    Some(Flag { at: at + values.div_ceil(8), beside: values > usize::from(parameters) })
}

fn told_by_execute(payload: &[u8], parameters: u16, attributes: bool) -> Told<'_> {
    if parameters == 0 {
        return Told::Nothing;
    }
    if payload.len() < EXECUTE_FIXED {
        return Told::Cut;
    }
    let Some(flag) = flag_at(payload, parameters, attributes) else { return Told::Unknown };
    let Some((flag, types)) = payload.get(flag.at..).and_then(<[u8]>::split_first) else { return Told::Cut };
    match (flag, attributes) {
        (0, _) => Told::Nothing,
        (1, false) => take_types(types, parameters),
        (1, true) => take_named_types(types, parameters),
        _ => Told::Unknown,
    }
}

fn told_by_bulk(payload: &[u8], parameters: u16) -> Told<'_> {
    match BulkExecute::read(payload) {
        Err(_) => Told::Cut,
        Ok(bulk) if bulk.flags & BulkExecute::SEND_TYPES == 0 => Told::Nothing,
        Ok(_) => take_types(&payload[BULK_FIXED..], parameters),
    }
}

fn take_types(bytes: &[u8], parameters: u16) -> Told<'_> {
    bytes.get(..2 * usize::from(parameters)).map_or(Told::Cut, Told::Types)
}

/// With query attributes a name follows each type.
fn take_named_types(bytes: &[u8], parameters: u16) -> Told<'_> {
    let mut cursor = Cursor::new(bytes);
    for _ in 0..parameters {
        let one = cursor.u16("parameter type").and_then(|_| cursor.lenenc_bytes("parameter name"));
        if one.is_err() {
            return Told::Cut;
        }
    }
    Told::Types(&bytes[..bytes.len() - cursor.remaining()])
}
