//! A client of the simulation: what it says next, by chance, and what it knows of its own statements.

use fastrand::Rng;

use super::server::{LAST_PREPARED, SCHEMAS, Server};

/// Statements that a client keeps.
const STATEMENTS_MAX: usize = 5;

/// A prepared statement by the id that the client was given, and the one that its twin was given.
#[derive(Clone, Debug)]
pub struct Handle {
    pub id: u32,
    pub twin: u32,
    parameters: usize,
    /// The kinds of its parameters as they were told last.
    kinds: Option<Vec<u8>>,
}

/// One command; statements by their place among the client's.
#[derive(Clone, Debug)]
pub enum Say {
    Query(String),
    Prepare(String),
    Execute { at: usize, body: Vec<u8>, cursor: bool },
    ExecuteLast,
    Fetch(usize),
    Reset(usize),
    Close(usize),
    LongData(usize, &'static str),
    InitDb(&'static str),
    SetOption(u8),
    Ping,
    ResetConnection,
}

/// Statements without more to them, by how often they are said.
const TEXTS: [(&str, usize); 47] = [
    ("SELECT 1", 20),
    ("SELECT c FROM t", 20),
    ("INSERT INTO t VALUES (#)", 6),
    ("INSERT INTO t VALUES ('no number')", 2),
    ("SELECT LAST_INSERT_ID()", 2),
    ("SELECT 1/0", 2),
    ("SHOW WARNINGS", 2),
    ("SELECT ROW_COUNT()", 2),
    ("SELECT nonsense FROM", 1),
    ("BEGIN", 4),
    ("COMMIT", 4),
    ("SET @u0 = #", 3),
    ("SET @u1 = 'it''s #'", 2),
    ("SET @u2 := #.50, @u3 = NULL", 2),
    ("SET @`U4` = #e0", 1),
    ("SELECT @u0, @u1", 3),
    ("SELECT @u0 := #", 1),
    ("SELECT @u2, @u3, @u4", 2),
    ("SET wait_timeout = #", 2),
    ("SET SESSION lock_wait_timeout = #, @@session.sql_select_limit = 1#", 1),
    ("SET max_statement_time = #.250000", 1),
    ("SET @@time_zone = '+01:00'", 1),
    ("SET autocommit = 0", 1),
    ("SET autocommit = 1", 2),
    ("SET foreign_key_checks = OFF", 1),
    ("SET sql_mode = 'ANSI_QUOTES'", 1),
    ("SET sql_mode = ''", 1),
    ("SET NAMES latin1", 1),
    ("SET NAMES utf8mb4 COLLATE utf8mb4_bin", 1),
    ("SET collation_connection = latin1_bin", 1),
    ("SET character_set_connection = utf8mb4", 1),
    ("SET character_set_results = NULL", 1),
    ("SET wait_timeout = #, nonsense = 1", 1),
    ("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", 1),
    ("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", 1),
    ("SET @u0 = #; SELECT @u0", 2),
    ("SET wait_timeout = #; SELECT 1; SET lock_wait_timeout = #", 1),
    ("CREATE TEMPORARY TABLE tmp0 (a INT)", 1),
    ("DROP TABLE tmp0", 1),
    ("SELECT GET_LOCK('l0', 1)", 1),
    ("SELECT RELEASE_LOCK('l0')", 1),
    ("LOCK TABLES t READ", 1),
    ("UNLOCK TABLES", 1),
    ("HANDLER t OPEN", 1),
    ("HANDLER t CLOSE", 1),
    ("PREPARE s0 FROM 'SELECT #'", 1),
    ("EXECUTE s0", 2),
];

/// Texts to prepare.
const PREPARED: [&str; 8] = [
    "SELECT ?",
    "SELECT ?, ?",
    "SELECT c FROM t",
    "INSERT INTO t VALUES (?)",
    "SET @u0 = ?",
    "SET SESSION wait_timeout = ?",
    "SELECT 1",
    "SELECT nonsense",
];

#[derive(Debug, Default)]
pub struct Client {
    pub handles: Vec<Handle>,
}

impl Client {
    /// What it says next, at most three commands at once.
    pub fn burst(&mut self, rng: &mut Rng) -> Vec<Say> {
        let count = if rng.usize(..12) == 0 { 2 + rng.usize(..2) } else { 1 };
        let mut burst: Vec<Say> = Vec::new();
        for _ in 0..count {
            let say = self.next(rng);
            // What closes or resets statements would leave what follows it without a place.
            let alone = matches!(say, Say::Close(_) | Say::ResetConnection | Say::Prepare(_));
            if alone && !burst.is_empty() {
                break;
            }
            burst.push(say);
            if alone {
                break;
            }
        }
        burst
    }

    fn next(&mut self, rng: &mut Rng) -> Say {
        match rng.usize(..100) {
            0..4 => Say::InitDb(SCHEMAS[rng.usize(..3)]),
            4..6 => Say::Query(format!("USE {}", ["db0", "db1", "db2", "nowhere"][rng.usize(..4)])),
            6..9 => Say::Ping,
            9 => Say::SetOption(rng.u8(..2)),
            10 if rng.usize(..4) == 0 => Say::ResetConnection,
            11..17 if self.handles.len() < STATEMENTS_MAX => {
                Say::Prepare(PREPARED[rng.usize(..PREPARED.len())].to_owned())
            }
            17..45 if !self.handles.is_empty() => {
                let at = rng.usize(..self.handles.len());
                self.about_statement(at, rng)
            }
            _ => Say::Query(self.text(rng)),
        }
    }

    fn about_statement(&mut self, at: usize, rng: &mut Rng) -> Say {
        let text = self.handles[at].parameters > 0;
        match rng.usize(..20) {
            0 => Say::Close(at),
            1 => Say::Reset(at),
            2 => Say::Fetch(at),
            3 if text => Say::LongData(at, "in pieces"),
            4 => Say::ExecuteLast,
            _ => self.execute(at, rng),
        }
    }

    fn text(&self, rng: &mut Rng) -> String {
        let total: usize = TEXTS.iter().map(|(_, weight)| weight).sum();
        let mut left = rng.usize(..total);
        let found = TEXTS.iter().find(|(_, weight)| match left.checked_sub(*weight) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        found.map_or("SELECT 1", |(text, _)| text).replace('#', &rng.u32(1..999).to_string())
    }

    /// An execution with all its values; types are told when they differ from the last ones, and now and then anyway.
    fn execute(&mut self, at: usize, rng: &mut Rng) -> Say {
        let handle = &mut self.handles[at];
        let kinds = match &handle.kinds {
            Some(kinds) if rng.usize(..4) != 0 => kinds.clone(),
            _ => (0..handle.parameters).map(|_| [8, 253][rng.usize(..2)]).collect(),
        };
        let new = handle.kinds.as_ref() != Some(&kinds) || rng.usize(..8) == 0;
        handle.kinds = Some(kinds.clone());
        let mut body = Vec::new();
        if !kinds.is_empty() {
            body.extend(std::iter::repeat_n(0, kinds.len().div_ceil(8)));
            body.push(u8::from(new));
            if new {
                kinds.iter().for_each(|kind| body.extend([*kind, 0]));
            }
            for kind in kinds {
                match kind {
                    8 => body.extend(rng.i64(1..1000).to_le_bytes()),
                    _ => body.extend([3, b'a', rng.u8(b'a'..=b'z'), b'c']),
                }
            }
        }
        Say::Execute { at, body, cursor: rng.usize(..10) == 0 }
    }

    /// What makes it free to move again, as far as its twin knows; COM_RESET_CONNECTION where nothing else does.
    pub fn release(&self, twin: &Server) -> Say {
        self.unpin(twin).unwrap_or(Say::ResetConnection)
    }

    fn unpin(&self, twin: &Server) -> Option<Say> {
        let pins = &twin.memory.pins;
        let query = |text: &str| Some(Say::Query(text.to_owned()));
        let busy = |handle: &Handle| {
            let statement = twin.statements.get(&handle.twin);
            statement.is_some_and(|statement| statement.cursor || statement.long_data.is_some())
        };
        if let Some(at) = self.handles.iter().position(busy) {
            return Some(Say::Reset(at));
        }
        if pins.locked_tables {
            return query("UNLOCK TABLES");
        }
        if pins.next_transaction && !pins.transaction {
            return query("BEGIN");
        }
        if pins.transaction {
            return query("COMMIT");
        }
        if let Some((schema, table)) = pins.temporary.first().and_then(|table| table.split_once('.')) {
            let elsewhere = SCHEMAS.into_iter().find(|name| *name == schema && schema != twin.memory.schema);
            return Some(elsewhere.map_or(Say::Query(format!("DROP TABLE {table}")), Say::InitDb));
        }
        if !pins.user_locks.is_empty() {
            return query("SELECT RELEASE_ALL_LOCKS()");
        }
        let handler = pins.handlers.first()?;
        Some(Say::Query(format!("HANDLER {handler} CLOSE")))
    }

    /// It was given ids for a statement that it prepared.
    pub fn prepared(&mut self, text: &str, id: u32, twin: u32) {
        assert!(!self.handles.iter().any(|handle| handle.id == id), "the id {id} is given twice");
        self.handles.push(Handle { id, twin, parameters: text.matches('?').count(), kinds: None });
    }

    /// It said something that was not refused.
    pub fn said(&mut self, say: &Say) {
        match say {
            Say::Close(at) => _ = self.handles.remove(*at),
            Say::ResetConnection => self.handles.clear(),
            _ => {}
        }
    }
}

impl Say {
    /// The command's payload, with one or the other id of a statement.
    pub fn payload(&self, id: impl Fn(usize) -> u32) -> Vec<u8> {
        let with_id = |command: u8, id: u32, rest: &[u8]| [&[command], &id.to_le_bytes()[..], rest].concat();
        let execute = |id: u32, cursor: u8, rest: &[u8]| {
            with_id(0x17, id, &[&[cursor][..], &1_u32.to_le_bytes(), rest].concat())
        };
        match self {
            Self::Query(text) => [b"\x03", text.as_bytes()].concat(),
            Self::Prepare(text) => [b"\x16", text.as_bytes()].concat(),
            Self::Execute { at, body, cursor } => execute(id(*at), u8::from(*cursor), body),
            // Without parameter types: only one that has none, or was told them before, runs.
            Self::ExecuteLast => execute(
                LAST_PREPARED,
                0,
                &[0, 0, 3, b'x', b'y', b'z', 3, b'x', b'y', b'z', 3, b'x', b'y', b'z', 3, b'x', b'y', b'z'],
            ),
            Self::Fetch(at) => with_id(0x1c, id(*at), &10_u32.to_le_bytes()),
            Self::Reset(at) => with_id(0x1a, id(*at), b""),
            Self::Close(at) => with_id(0x19, id(*at), b""),
            Self::LongData(at, data) => with_id(0x18, id(*at), &[b"\0\0", data.as_bytes()].concat()),
            Self::InitDb(name) => [b"\x02", name.as_bytes()].concat(),
            Self::SetOption(option) => vec![0x1b, *option, 0],
            Self::Ping => vec![0x0e],
            Self::ResetConnection => vec![0x1f],
        }
    }
}
