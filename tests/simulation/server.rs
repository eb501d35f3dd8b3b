//! One leg at a CN of the simulation: a session's memory, and proper packets for an answer to each command.
//!
//! It knows the commands and statements that the simulation's clients say and those that corelane says on its own account. Anything
//! else is a syntax error, so a restore that speaks of something new fails the move, and with it the test.

use std::collections::BTreeMap;

use corelane::session::tracking;
use corelane::wire::capability::Capabilities;
use corelane::wire::frame::write_packet;
use corelane::wire::reply::{EofPacket, ErrPacket, OkPacket};
use corelane::wire::resultset::{ColumnCount, ColumnDefinition};
use corelane::wire::statement::PrepareOk;
use corelane::wire::status::Status;
use corelane::wire::track::{Change, Changes};

use super::memory::{Diagnostics, Kind, Memory, Prepared, Value, default_collation, variable};
use super::sql::{after, between, evaluate, shown, split, system_name, user_name};

const LONGLONG: u8 = 8;
const DOUBLE: u8 = 5;
const NEWDECIMAL: u8 = 246;
const VAR_STRING: u8 = 253;
/// MariaDB's length of a user variable that was never set.
const NEVER_SET: u32 = 1 << 24;
pub const LAST_PREPARED: u32 = u32::MAX;
pub const SCHEMAS: [&str; 3] = ["db0", "db1", "db2"];
/// The variables that MariaDB reports to whoever does not ask for others.
const REPORTED: [&str; 5] =
    ["autocommit", "character_set_client", "character_set_connection", "character_set_results", "time_zone"];

/// What it reports of the changes that a statement makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tracking {
    all_variables: bool,
    state: bool,
}

/// Changes of the present statement.
#[derive(Debug, Default)]
struct Told {
    variables: Vec<&'static str>,
    schema: bool,
    state: bool,
}

/// What a statement is answered with.
enum Answer {
    Done { affected: u64, insert_id: u64 },
    Rows { columns: Vec<Cell>, rows: Vec<Vec<Option<Vec<u8>>>> },
    Failed { code: u16, message: String },
}

/// A column's kind and length.
type Cell = (u8, u32);

pub struct Server {
    capabilities: Capabilities,
    pub memory: Memory,
    pub statements: BTreeMap<u32, Prepared>,
    pub diagnostics: Diagnostics,
    last_id: u32,
    last_prepared: Option<u32>,
    tracking: Tracking,
    told: Told,
    status: Status,
}

fn text_cell() -> Cell {
    (VAR_STRING, 1024)
}

fn failed(code: u16, message: &str) -> Answer {
    Answer::Failed { code, message: message.to_owned() }
}

fn done() -> Answer {
    Answer::Done { affected: 0, insert_id: 0 }
}

fn one_row(cells: Vec<(Cell, Option<Vec<u8>>)>) -> Answer {
    let (columns, row) = cells.into_iter().unzip();
    Answer::Rows { columns, rows: vec![row] }
}

impl Server {
    /// Statement ids begin above `ids`.
    pub fn new(capabilities: Capabilities, schema: &str, ids: u32) -> Self {
        Self {
            capabilities,
            memory: Memory::new(schema),
            statements: BTreeMap::new(),
            diagnostics: Diagnostics::default(),
            last_id: ids,
            last_prepared: None,
            tracking: Tracking { all_variables: false, state: false },
            told: Told::default(),
            status: Status::default(),
        }
    }

    /// The server status flags as they are now.
    pub fn flags(&self) -> Status {
        let on = |is_on: bool, flag: Status| if is_on { flag } else { Status::default() };
        on(self.memory.is_on("autocommit"), Status::AUTOCOMMIT)
            | on(self.memory.pins.transaction, Status::IN_TRANS)
    }

    pub fn has_pins(&self) -> bool {
        let stuck = |statement: &Prepared| statement.cursor || statement.long_data.is_some();
        !self.memory.pins.is_empty() || self.statements.values().any(stuck)
    }

    /// Answers one command.
    pub fn hear(&mut self, payload: &[u8]) -> Vec<u8> {
        (self.told, self.status) = (Told::default(), Status::default());
        let (mut out, mut seq) = (Vec::new(), 1);
        let text = || String::from_utf8_lossy(&payload[1..]).into_owned();
        let id = || payload[1..5].try_into().map(u32::from_le_bytes).expect("a statement id");
        match payload[0] {
            0x02 => {
                let answer = self.use_schema(&text());
                self.write(&mut out, &mut seq, answer, false);
            }
            0x03 => self.query(&text(), &mut out, &mut seq),
            0x0e => self.write(&mut out, &mut seq, done(), false),
            0x16 => self.prepare(text(), &mut out, &mut seq),
            0x17 => {
                let answer = self.execute(payload, id());
                self.write(&mut out, &mut seq, answer, true);
            }
            0x18 => self.long_data(id(), &payload[7..]),
            0x19 => _ = self.close(id()),
            0x1a => {
                let answer = self.reset_statement(id());
                self.write(&mut out, &mut seq, answer, false);
            }
            0x1b => {
                self.memory.multi_statements = payload[1] == 0;
                self.write_eof(&mut out, &mut seq);
            }
            0x1c => self.fetch(id(), &mut out, &mut seq),
            0x1f => {
                self.memory.reset();
                self.statements.clear();
                self.last_prepared = None;
                self.tracking = Tracking { all_variables: false, state: false };
                self.diagnostics = Diagnostics::default();
                self.write(&mut out, &mut seq, done(), false);
            }
            other => panic!("a command that nobody says: {other:#04x}"),
        }
        out
    }

    fn query(&mut self, text: &str, out: &mut Vec<u8>, seq: &mut u8) {
        let parts = split(text, b';');
        if parts.len() > 1 && !self.memory.multi_statements {
            let answer = failed(1064, "one statement at a time");
            return self.write(out, seq, answer, false);
        }
        for (at, part) in parts.iter().enumerate() {
            (self.told, self.status) = (Told::default(), Status::default());
            let answer = self.run(part, &mut Vec::new().into_iter());
            let ends = matches!(answer, Answer::Failed { .. });
            if at + 1 < parts.len() {
                self.status = Status::MORE_RESULTS_EXISTS;
            }
            self.write(out, seq, answer, false);
            if ends {
                return;
            }
        }
    }

    fn run(&mut self, text: &str, parameters: &mut std::vec::IntoIter<Value>) -> Answer {
        let asks = ["SHOW WARNINGS", "SELECT ROW_COUNT()"].iter().any(|asking| after(text, asking).is_some());
        let before = std::mem::take(&mut self.diagnostics);
        if asks {
            self.diagnostics = before.clone();
        }
        let answer = self.statement(text, &before, parameters);
        match &answer {
            Answer::Rows { .. } if !asks => self.diagnostics.row_count = -1,
            Answer::Done { affected, .. } => self.diagnostics.row_count = *affected as i64,
            Answer::Failed { .. } => self.diagnostics = Diagnostics { warnings: 1, row_count: -1 },
            Answer::Rows { .. } => {}
        }
        answer
    }

    fn statement(
        &mut self,
        text: &str,
        before: &Diagnostics,
        parameters: &mut std::vec::IntoIter<Value>,
    ) -> Answer {
        if let Some(rest) = after(text, "SELECT ") {
            return self.select(rest, before, parameters);
        }
        if let Some(rest) = after(text, "SET ") {
            return self.set(rest, parameters);
        }
        if let Some(rest) = after(text, "USE ") {
            return self.use_schema(rest);
        }
        if let Some(rest) = after(text, "INSERT INTO t VALUES (") {
            return self.insert(rest, parameters);
        }
        if after(text, "SHOW WARNINGS").is_some() {
            return one_row(vec![(text_cell(), Some(before.warnings.to_string().into_bytes()))]);
        }
        self.pin(text).or_else(|| self.sql_prepared(text)).unwrap_or_else(|| failed(1064, "syntax error"))
    }

    fn touch_tables(&mut self) {
        if !self.memory.is_on("autocommit") {
            self.memory.pins.transaction = true;
        } else if !self.memory.pins.transaction {
            self.memory.pins.next_transaction = false;
        }
    }

    /// What makes a session stay, and what ends that.
    fn pin(&mut self, text: &str) -> Option<Answer> {
        let name = text.split(' ').nth(2).unwrap_or_default().to_owned();
        match text.split(' ').next()? {
            "CREATE" | "DROP" if self.memory.schema.is_empty() => {
                return Some(failed(1046, "no database selected"));
            }
            "BEGIN" => {
                self.memory.end_transaction();
                self.memory.pins.locked_tables = false;
                self.memory.pins.transaction = true;
            }
            "COMMIT" | "ROLLBACK" => {
                self.memory.end_transaction();
                self.memory.pins.next_transaction = false;
            }
            "CREATE" => {
                let table = format!("{}.{}", self.memory.schema, text.split(' ').nth(3)?);
                self.told.state = true;
                if !self.memory.pins.temporary.insert(table) {
                    return Some(failed(1050, "table exists"));
                }
            }
            "DROP" => {
                let table = format!("{}.{name}", self.memory.schema);
                self.told.state = true;
                if !self.memory.pins.temporary.remove(&table) {
                    return Some(failed(1051, "unknown table"));
                }
            }
            "LOCK" => {
                self.memory.end_transaction();
                self.memory.pins.locked_tables = true;
            }
            "UNLOCK" => self.memory.pins.locked_tables = false,
            "HANDLER" if text.contains(" OPEN") => {
                if !self.memory.pins.handlers.insert(text.split(' ').nth(1)?.to_owned()) {
                    return Some(failed(1066, "not a unique handler"));
                }
            }
            "HANDLER" => {
                if !self.memory.pins.handlers.remove(text.split(' ').nth(1)?) {
                    return Some(failed(1109, "unknown handler"));
                }
            }
            _ => return None,
        }
        Some(done())
    }

    fn sql_prepared(&mut self, text: &str) -> Option<Answer> {
        if let Some(rest) = after(text, "PREPARE ") {
            self.told.state = true;
            let (name, inner) = (rest.split(' ').next()?, between(rest, "'", "'")?);
            self.memory.sql_prepared.insert(name.to_owned(), (inner.to_owned(), self.memory.context()));
            return Some(done());
        }
        if let Some(name) = after(text, "EXECUTE ") {
            let Some((inner, context)) = self.memory.sql_prepared.get(name).cloned() else {
                return Some(failed(1243, "unknown prepared statement"));
            };
            let told = format!("{inner} in {context:?}");
            return Some(one_row(vec![(text_cell(), Some(told.into_bytes()))]));
        }
        let name = after(text, "DEALLOCATE PREPARE ")?;
        self.told.state = true;
        let gone = self.memory.sql_prepared.remove(name);
        Some(if gone.is_some() { done() } else { failed(1243, "unknown prepared statement") })
    }

    fn insert(&mut self, rest: &str, parameters: &mut std::vec::IntoIter<Value>) -> Answer {
        self.touch_tables();
        let Some(Value::Integer(id)) = evaluate(rest.trim_end_matches(')'), &self.memory, parameters) else {
            return failed(1366, "incorrect integer");
        };
        self.memory.last_insert_id = id as u64;
        Answer::Done { affected: 1, insert_id: id as u64 }
    }

    fn use_schema(&mut self, name: &str) -> Answer {
        if !SCHEMAS.contains(&name) {
            return failed(1049, "unknown database");
        }
        self.memory.schema = name.to_owned();
        (self.told.schema, self.told.state) = (true, true);
        done()
    }

    fn select(
        &mut self,
        items: &str,
        before: &Diagnostics,
        parameters: &mut std::vec::IntoIter<Value>,
    ) -> Answer {
        if items == &tracking::LEARN["SELECT ".len()..] {
            return self.learn();
        }
        if items.starts_with("VARIABLE_NAME FROM information_schema.USER_VARIABLES") {
            let names = self.memory.user_variables.keys();
            let rows = names.map(|name| vec![Some(name.clone().into_bytes())]).collect();
            return Answer::Rows { columns: vec![text_cell()], rows };
        }
        if items.contains(" FROM t") {
            self.touch_tables();
            return one_row(vec![(text_cell(), Some(b"of t".to_vec()))]);
        }
        let (items, limit) = match items.rsplit_once(" LIMIT ") {
            Some((items, limit)) => (items, limit),
            None => (items, "1"),
        };
        let mut cells = Vec::new();
        for item in split(items, b',') {
            match self.item(item, before, parameters) {
                Ok(cell) => cells.push(cell),
                Err(answer) => return answer,
            }
        }
        match one_row(cells) {
            Answer::Rows { columns, .. } if limit == "0" => Answer::Rows { columns, rows: Vec::new() },
            answer => answer,
        }
    }

    fn learn(&self) -> Answer {
        let list = if self.tracking.all_variables { "*".to_owned() } else { REPORTED.join(",") };
        let state = if self.tracking.state { "1" } else { "0" };
        let told = ["sql_mode", "character_set_client", "character_set_connection", "collation_connection"];
        let told = told.map(|name| self.memory.text(name).to_owned());
        let values = ["1".to_owned(), list, state.to_owned()].into_iter().chain(told);
        one_row(values.map(|value| (text_cell(), Some(value.into_bytes()))).collect())
    }

    fn item(
        &mut self,
        item: &str,
        before: &Diagnostics,
        parameters: &mut std::vec::IntoIter<Value>,
    ) -> Result<(Cell, Option<Vec<u8>>), Answer> {
        let integer = |number: i64| ((LONGLONG, 20), Some(number.to_string().into_bytes()));
        if let Some(name) = after(item, "@@session.") {
            return self.system_variable(name);
        }
        if let Some((name, value)) = item.split_once(":=") {
            let value = evaluate(value, &self.memory, parameters).ok_or_else(|| failed(1064, "no value"))?;
            self.told.state = true;
            let name = user_name(name.trim()).ok_or_else(|| failed(1064, "no variable"))?;
            self.memory.user_variables.insert(name, value.clone());
            return Ok((text_cell(), shown(&value)));
        }
        if let Some(cell) = self.about_user_variable(item) {
            return Ok(cell);
        }
        Ok(match item.split('(').next().unwrap_or_default() {
            "LAST_INSERT_ID" => integer(self.memory.last_insert_id as i64),
            "ROW_COUNT" => integer(before.row_count),
            "1/0" => {
                self.diagnostics.warnings = 1;
                (text_cell(), None)
            }
            "GET_LOCK" => {
                let name = between(item, "'", "'").unwrap_or_default().to_owned();
                *self.memory.pins.user_locks.entry(name).or_default() += 1;
                integer(1)
            }
            "RELEASE_LOCK" => integer(self.release_lock(between(item, "'", "'").unwrap_or_default())),
            "RELEASE_ALL_LOCKS" => {
                let held = std::mem::take(&mut self.memory.pins.user_locks);
                integer(held.values().map(|count| i64::from(*count)).sum())
            }
            _ => match evaluate(item, &self.memory, parameters) {
                Some(value) => (cell_of(&value), shown(&value)),
                None => return Err(failed(1064, "syntax error")),
            },
        })
    }

    fn release_lock(&mut self, name: &str) -> i64 {
        let Some(count) = self.memory.pins.user_locks.get_mut(name) else { return 0 };
        *count -= 1;
        if *count == 0 {
            self.memory.pins.user_locks.remove(name);
        }
        1
    }

    fn system_variable(&self, name: &str) -> Result<(Cell, Option<Vec<u8>>), Answer> {
        let (name, kind) = variable(name).ok_or_else(|| failed(1193, "unknown system variable"))?;
        let value = self.memory.variables[name].clone();
        Ok(match (kind, value) {
            (Kind::Switch, value) => {
                ((LONGLONG, 1), Some(u8::from(value.as_deref() == Some("ON")).to_string().into()))
            }
            (Kind::Number, value) => ((LONGLONG, 20), value.map(String::into_bytes)),
            (Kind::Text, value) => (text_cell(), value.map(String::into_bytes)),
        })
    }

    /// What a restore asks of a user variable.
    fn about_user_variable(&self, item: &str) -> Option<(Cell, Option<Vec<u8>>)> {
        let value = |from: &str| self.memory.user_variables.get(&user_name(from.trim())?);
        if item.starts_with('@') {
            return Some(match value(item) {
                Some(value) => (cell_of(value), shown(value)),
                None => ((VAR_STRING, NEVER_SET), None),
            });
        }
        let (function, arguments) = item.split_once('(')?;
        let bytes = |name: &str| value(name).and_then(shown);
        let first = arguments.split([',', ')']).next()?;
        match function {
            "LENGTH" => {
                Some(((LONGLONG, 20), bytes(first).map(|bytes| bytes.len().to_string().into_bytes())))
            }
            "LEFT" => Some((text_cell(), bytes(first))),
            "IF" => {
                let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
                Some((text_cell(), bytes(between(item, "HEX(", ")")?).map(|bytes| hex(bytes).into_bytes())))
            }
            "COLLATION" => Some((
                text_cell(),
                Some(match value(first) {
                    Some(Value::Text { collation, .. }) => collation.clone().into_bytes(),
                    _ => b"binary".to_vec(),
                }),
            )),
            _ => None,
        }
    }

    fn set(&mut self, items: &str, parameters: &mut std::vec::IntoIter<Value>) -> Answer {
        if let Some(level) = after(items, "SESSION TRANSACTION ISOLATION LEVEL ") {
            self.assign("tx_isolation", Kind::Text, Some(level.replace(' ', "-")));
            return done();
        }
        if after(items, "TRANSACTION ISOLATION LEVEL ").is_some() {
            if self.memory.pins.transaction {
                return failed(1568, "a transaction is under way");
            }
            self.memory.pins.next_transaction = true;
            return done();
        }
        let items = split(items, b',');
        let known = |item: &&str| {
            let name = item.split('=').next().unwrap_or_default().trim();
            let other = ["timestamp", "last_insert_id"].contains(&system_name(name));
            after(item, "NAMES ").is_some()
                || user_name(name).is_some()
                || other
                || system_name(name).starts_with("session_track_")
                || variable(system_name(name)).is_some()
        };
        if !items.iter().all(known) {
            return failed(1193, "unknown system variable");
        }
        for item in items {
            if self.set_item(item, parameters).is_none() {
                return failed(1064, "syntax error");
            }
        }
        done()
    }

    fn set_item(&mut self, item: &str, parameters: &mut std::vec::IntoIter<Value>) -> Option<()> {
        if let Some(names) = after(item, "NAMES ") {
            let mut words = names.split(" COLLATE ").map(|word| word.trim_matches('\'').to_owned());
            let charset = words.next()?;
            for name in ["character_set_client", "character_set_connection", "character_set_results"] {
                self.assign(name, Kind::Text, Some(charset.clone()));
            }
            let collation = words.next().unwrap_or_else(|| default_collation(&charset));
            self.memory.set("collation_connection", Kind::Text, Some(collation));
            return Some(());
        }
        let (name, value) = item.split_once('=')?;
        let name = name.trim_end_matches(':').trim();
        let value = evaluate(value, &self.memory, parameters)?;
        self.told.state = true;
        if let Some(name) = user_name(name) {
            self.memory.user_variables.insert(name, value);
            return Some(());
        }
        let text = shown(&value).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        match system_name(name) {
            "timestamp" => self.memory.pins.clock = true,
            "last_insert_id" => self.memory.last_insert_id = text?.parse().ok()?,
            "session_track_system_variables" => self.tracking.all_variables = text?.contains('*'),
            "session_track_state_change" => self.tracking.state = text? == "1",
            "session_track_schema" => {}
            name => {
                let (name, kind) = variable(name)?;
                let number = matches!(value, Value::Integer(_) | Value::Decimal(_));
                (kind != Kind::Number || number).then(|| self.assign(name, kind, text))?;
            }
        }
        Some(())
    }

    fn assign(&mut self, name: &'static str, kind: Kind, value: Option<String>) {
        self.told.state = true;
        self.told.variables.push(name);
        self.memory.set(name, kind, value);
    }
}

/// Prepared statements.
impl Server {
    fn prepare(&mut self, text: String, out: &mut Vec<u8>, seq: &mut u8) {
        if text.contains("nonsense") {
            self.last_prepared = None;
            return self.write(out, seq, failed(1064, "syntax error"), false);
        }
        self.last_id += 1;
        // A text that assigns a user variable makes it NULL.
        if let Some(name) = after(&text, "SET ").and_then(|rest| user_name(rest.split('=').next()?.trim())) {
            self.memory.user_variables.insert(name, Value::Null);
        }
        let context = self.memory.context();
        let statement = Prepared { text, context, types: None, long_data: None, cursor: false };
        let columns = u16::from(statement.text.starts_with("SELECT"));
        let parameters = statement.parameters() as u16;
        let ok =
            PrepareOk { statement: self.last_id, columns, parameters, warnings: 0, metadata_follows: true };
        let mut payload = Vec::new();
        ok.write(&mut payload, self.capabilities);
        write_packet(out, seq, &payload);
        for count in [parameters, columns] {
            for _ in 0..count {
                self.write_column(out, seq, text_cell());
            }
            if count > 0 && !self.capabilities.has(Capabilities::DEPRECATE_EOF) {
                self.write_eof(out, seq);
            }
        }
        self.statements.insert(self.last_id, statement);
        self.last_prepared = Some(self.last_id);
    }

    fn find(&mut self, id: u32) -> Option<&mut Prepared> {
        let id = if id == LAST_PREPARED { self.last_prepared? } else { id };
        self.statements.get_mut(&id)
    }

    fn execute(&mut self, payload: &[u8], id: u32) -> Answer {
        let Some(statement) = self.find(id) else {
            return failed(1243, "unknown prepared statement handler");
        };
        let count = statement.parameters();
        statement.cursor = false;
        let mut values = Vec::new();
        if count > 0 {
            let flag = 10 + count.div_ceil(8);
            let mut at = flag + 1;
            if payload[flag] == 1 {
                statement.types = Some(payload[at..at + 2 * count].to_vec());
                at += 2 * count;
            }
            let Some(types) = statement.types.clone() else {
                return failed(1210, "parameter types were never told");
            };
            let long = statement.long_data.take();
            values = read_values(&payload[at..], &types, long);
        }
        let (text, context) = (statement.text.clone(), statement.context.clone());
        let types = statement.types.clone();
        if !text.starts_with("SELECT") {
            return self.run(&text, &mut values.into_iter());
        }
        let cursor = payload[5] & 1 != 0 && text.contains(" FROM t");
        if let Some(statement) = self.find(id) {
            statement.cursor = cursor;
        }
        let variables = &self.memory.user_variables;
        let told = format!("{text} in {context:?} of {types:?}: {values:?} with {:?}", variables.get("u0"));
        let answer = self.run(&text, &mut values.into_iter());
        match answer {
            Answer::Failed { .. } => answer,
            _ if cursor => {
                self.status = Status::CURSOR_EXISTS;
                Answer::Rows { columns: vec![text_cell()], rows: Vec::new() }
            }
            _ => one_row(vec![(text_cell(), Some(told.into_bytes()))]),
        }
    }

    fn long_data(&mut self, id: u32, data: &[u8]) {
        if let Some(statement) = self.find(id) {
            statement.long_data.get_or_insert_default().extend_from_slice(data);
        }
    }

    fn close(&mut self, id: u32) -> Option<()> {
        let id = if id == LAST_PREPARED { self.last_prepared? } else { id };
        self.statements.remove(&id)?;
        if self.last_prepared == Some(id) {
            self.last_prepared = None;
        }
        Some(())
    }

    fn reset_statement(&mut self, id: u32) -> Answer {
        let Some(statement) = self.find(id) else {
            return failed(1243, "unknown prepared statement handler");
        };
        (statement.cursor, statement.long_data) = (false, None);
        done()
    }

    fn fetch(&mut self, id: u32, out: &mut Vec<u8>, seq: &mut u8) {
        let open = self.find(id).is_some_and(|statement| std::mem::take(&mut statement.cursor));
        if !open {
            return self.write(out, seq, failed(1243, "no cursor"), true);
        }
        self.status = Status::LAST_ROW_SENT;
        write_row(out, seq, &[Some(b"of t".to_vec())], true);
        self.write_rows_end(out, seq);
    }
}

/// Packets.
impl Server {
    fn write(&mut self, out: &mut Vec<u8>, seq: &mut u8, answer: Answer, binary: bool) {
        let mut payload = Vec::new();
        match answer {
            Answer::Failed { code, message } => {
                let err = ErrPacket { code, sqlstate: Some(*b"HY000"), message: message.as_bytes() };
                err.write(&mut payload, self.capabilities);
                write_packet(out, seq, &payload);
            }
            Answer::Done { affected, insert_id } => {
                let changes = self.changes();
                let ok = OkPacket {
                    affected_rows: affected,
                    last_insert_id: insert_id,
                    status: (self.flags() | self.status).0,
                    warnings: self.diagnostics.warnings,
                    info: b"",
                    changes: (!changes.is_empty()).then_some(Changes(&changes)),
                };
                ok.write(&mut payload, self.capabilities);
                write_packet(out, seq, &payload);
            }
            Answer::Rows { columns, rows } => {
                let count = ColumnCount { columns: columns.len() as u64, metadata_follows: true };
                count.write(&mut payload, self.capabilities);
                write_packet(out, seq, &payload);
                columns.iter().for_each(|cell| self.write_column(out, seq, *cell));
                let has_cursor = self.status.has(Status::CURSOR_EXISTS);
                if !self.capabilities.has(Capabilities::DEPRECATE_EOF) {
                    self.write_eof(out, seq);
                    if has_cursor {
                        return;
                    }
                }
                rows.iter().for_each(|row| write_row(out, seq, row, binary));
                self.write_rows_end(out, seq);
            }
        }
    }

    fn write_column(&self, out: &mut Vec<u8>, seq: &mut u8, (kind, length): Cell) {
        let mut payload = Vec::new();
        let column = ColumnDefinition { kind, length, ..ColumnDefinition::text("c") };
        column.write(&mut payload, self.capabilities);
        write_packet(out, seq, &payload);
    }

    /// A legacy EOF can say that something has changed, but not what.
    fn write_eof(&mut self, out: &mut Vec<u8>, seq: &mut u8) {
        let changed = self.capabilities.has(Capabilities::SESSION_TRACK) && !self.changes().is_empty();
        let changed = if changed { Status::SESSION_STATE_CHANGED } else { Status::default() };
        let status = (self.flags() | self.status | changed).0;
        let mut payload = Vec::new();
        EofPacket { warnings: self.diagnostics.warnings, status }.write(&mut payload);
        write_packet(out, seq, &payload);
    }

    fn write_rows_end(&mut self, out: &mut Vec<u8>, seq: &mut u8) {
        if !self.capabilities.has(Capabilities::DEPRECATE_EOF) {
            return self.write_eof(out, seq);
        }
        let changes = self.changes();
        let ok = OkPacket {
            status: (self.flags() | self.status).0,
            warnings: self.diagnostics.warnings,
            changes: (!changes.is_empty()).then_some(Changes(&changes)),
            ..OkPacket::default()
        };
        let mut payload = Vec::new();
        ok.write_as_eof(&mut payload, self.capabilities);
        write_packet(out, seq, &payload);
    }

    /// What is reported of the present statement.
    fn changes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let shown = |name: &&&str| self.tracking.all_variables || REPORTED.contains(name);
        for name in self.told.variables.iter().filter(shown) {
            let value = self.memory.variables[*name].as_deref().unwrap_or_default();
            Change::SystemVariable { name: name.as_bytes(), value: value.as_bytes() }.write(&mut out);
        }
        if self.told.schema {
            Change::Schema(self.memory.schema.as_bytes()).write(&mut out);
        }
        if self.told.state && self.tracking.state {
            Change::State(b"1").write(&mut out);
        }
        out
    }
}

fn cell_of(value: &Value) -> Cell {
    match value {
        Value::Null => (VAR_STRING, 0),
        Value::Integer(_) => (LONGLONG, 20),
        Value::Decimal(_) => (NEWDECIMAL, 30),
        Value::Double(_) => (DOUBLE, 20),
        Value::Text { .. } => text_cell(),
    }
}

/// Text rows and binary ones of text; no value is longer than 250 bytes or 64 KiB.
fn write_row(out: &mut Vec<u8>, seq: &mut u8, row: &[Option<Vec<u8>>], binary: bool) {
    let mut payload = Vec::new();
    if binary {
        payload.push(0);
        payload.extend(std::iter::repeat_n(0, (row.len() + 9) / 8));
    }
    for value in row {
        match value {
            None => payload.push(0xfb),
            Some(value) => corelane::wire::cursor::put_lenenc_bytes(&mut payload, value),
        }
    }
    write_packet(out, seq, &payload);
}

/// Parameters: 8-byte integers and short strings; the first one may have come as long data. What is cut short is read as far as it goes.
fn read_values(mut bytes: &[u8], types: &[u8], mut long: Option<Vec<u8>>) -> Vec<Value> {
    let mut values = Vec::new();
    for kind in types.chunks(2) {
        if let Some(bytes) = long.take() {
            values.push(Value::Text { bytes, collation: "binary".to_owned() });
            continue;
        }
        let length = match kind[0] {
            LONGLONG => 8,
            _ => bytes.split_off_first().copied().unwrap_or_default().into(),
        };
        let (value, rest) = bytes.split_at(bytes.len().min(length));
        bytes = rest;
        values.push(match kind[0] {
            LONGLONG => {
                Value::Integer(value.iter().rev().fold(0, |number, byte| number << 8 | i64::from(*byte)))
            }
            _ => Value::Text { bytes: value.to_vec(), collation: "utf8mb4_general_ci".to_owned() },
        });
    }
    values
}
