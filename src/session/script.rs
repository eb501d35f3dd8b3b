//! A script: commands sent in one pipelined burst, and the reader of their answers.
//!
//! All commands go out at once, each a packet with sequence number 0; the answers come in the same order. A command that is
//! refused spoils only its own answer, so the reader goes on to the last one and tells of the first refusal in
//! [`Answers::finish`]: the leg stays usable. An error of [`Answers::packet`] means that the leg's bytes cannot be followed any
//! more, and that it has to be closed. Nothing here sends or receives; what the commands are for is told in
//! [`restore`](super::restore) and [`tracking`](super::tracking).

use std::borrow::Cow;

use crate::wire;
use crate::wire::capability::Capabilities;
use crate::wire::cursor::Cursor;
use crate::wire::frame::{MAX_PAYLOAD, write_packet};
use crate::wire::reply::{EOF, EOF_LIMIT, ERR, ErrPacket, OK, OkPacket, PROGRESS};
use crate::wire::resultset::{ColumnDefinition, TextRow};
use crate::wire::statement::PrepareOk;
use crate::wire::status::Status;

/// Rows of one answer that are kept; more are an error.
pub const ROWS_MAX: usize = 1024;

/// Columns of one answer; no server has more.
const COLUMNS_MAX: u64 = 4096;

const INIT_DB: u8 = 0x02;
const QUERY: u8 = 0x03;
const STMT_PREPARE: u8 = 0x16;
const SET_OPTION: u8 = 0x1b;
const RESET_CONNECTION: u8 = 0x1f;

/// What stands before the text of a COM_QUERY where QUERY_ATTRIBUTES is agreed: no attributes, in one set.
const NO_ATTRIBUTES: [u8; 2] = [0, 1];

/// Why a script came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    #[error("{what}: the CN refuses it: {message} ({code})")]
    Refused { what: Cow<'static, str>, code: u16, message: String },
    #[error("{what}: it has {found} parameters there, not {expected}")]
    Parameters { what: Cow<'static, str>, expected: u16, found: u16 },
    #[error("{what}: the answer comes without definitions")]
    Undescribed { what: Cow<'static, str> },
    #[error("{what}: the answer cannot be read: {error}")]
    Wire { what: Cow<'static, str>, error: wire::Error },
    #[error("{what}: a packet that does not fit there, beginning with {found:#04x}")]
    Unexpected { what: Cow<'static, str>, found: u8 },
    #[error("{what}: more than {ROWS_MAX} rows")]
    TooManyRows { what: Cow<'static, str> },
    #[error("an answer that nobody asked for")]
    Unasked,
    #[error("the answers are not those to these questions")]
    Mismatch,
}

/// Commands in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    command: u8,
    argument: Vec<u8>,
    what: Cow<'static, str>,
    expects: Expects,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    /// OK or EOF.
    Done,
    /// An ERR is an answer too.
    DoneOrRefused,
    /// A result set; `or_refused` where an ERR is an answer too.
    Rows { or_refused: bool },
    /// COM_STMT_PREPARE_OK with so many parameters.
    Prepared { parameters: u16 },
}

impl Script {
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// A statement that is answered by an OK. `what` names it in errors.
    pub fn statement(&mut self, what: impl Into<Cow<'static, str>>, sql: &[u8]) {
        self.push(QUERY, sql, what, Expects::Done);
    }

    /// One that may be answered by an ERR as well, which is then the answer.
    pub fn try_statement(&mut self, what: impl Into<Cow<'static, str>>, sql: &[u8]) {
        self.push(QUERY, sql, what, Expects::DoneOrRefused);
    }

    /// A statement that is answered by rows.
    pub fn question(&mut self, what: impl Into<Cow<'static, str>>, sql: &[u8]) {
        self.push(QUERY, sql, what, Expects::Rows { or_refused: false });
    }

    /// One that may be answered by an ERR as well, which is then the answer.
    pub fn try_question(&mut self, what: impl Into<Cow<'static, str>>, sql: &[u8]) {
        self.push(QUERY, sql, what, Expects::Rows { or_refused: true });
    }

    /// COM_RESET_CONNECTION.
    pub fn reset(&mut self, what: impl Into<Cow<'static, str>>) {
        self.push(RESET_CONNECTION, b"", what, Expects::Done);
    }

    /// COM_INIT_DB.
    pub fn schema(&mut self, schema: &[u8]) {
        self.push(INIT_DB, schema, "default schema", Expects::Done);
    }

    /// COM_SET_OPTION.
    pub fn option(&mut self, option: u16) {
        self.push(SET_OPTION, &option.to_le_bytes(), "multi-statement option", Expects::Done);
    }

    /// COM_STMT_PREPARE of a statement that has so many parameters.
    pub fn prepare(&mut self, what: impl Into<Cow<'static, str>>, text: &[u8], parameters: u16) {
        self.push(STMT_PREPARE, text, what, Expects::Prepared { parameters });
    }

    /// What is left of it when another one has been gone through already; none if it does not begin with that.
    pub fn after(&self, done: &Self) -> Option<Self> {
        let steps = self.steps.strip_prefix(&done.steps[..])?.to_vec();
        Some(Self { steps })
    }

    fn push(&mut self, command: u8, argument: &[u8], what: impl Into<Cow<'static, str>>, expects: Expects) {
        self.steps.push(Step { command, argument: argument.to_vec(), what: what.into(), expects });
    }

    /// Appends all commands as frames; `capabilities` are those of the leg.
    pub fn write(&self, out: &mut Vec<u8>, capabilities: Capabilities) {
        let attributes = capabilities.has(Capabilities::QUERY_ATTRIBUTES);
        for Step { command, argument, .. } in &self.steps {
            let preamble = if attributes && *command == QUERY { &NO_ATTRIBUTES[..] } else { &[] };
            write_packet(out, &mut 0, &[&[*command], preamble, argument].concat());
        }
    }

    /// The reader of the answers; `capabilities` are those of the leg.
    pub fn answers(self, capabilities: Capabilities) -> Answers {
        let mut steps = self.steps.into_iter();
        let step = steps.next();
        let (reading, results) = (Reading::First, Results::default());
        Answers { capabilities, steps, step, reading, refusal: None, results }
    }
}

/// What one command was answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    Rows(Table),
    Refused { code: u16 },
    Prepared(PrepareOk),
}

/// A result set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
}

/// The values of a row; none for NULL.
pub type Row = Vec<Option<Box<[u8]>>>;

/// What a column's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub kind: u8,
    pub flags: u16,
    /// Longest value, in bytes.
    pub length: u32,
}

/// All answers, in the order of the commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results {
    pub answers: Vec<Answer>,
    /// The status flags seen last; none if no answer carried any: that to a COM_STMT_PREPARE does not.
    pub status: Option<Status>,
    /// Some answer came with warnings, which the session could be asked for.
    pub warned: bool,
}

impl Results {
    /// These, and those of a script that came later on the same leg.
    #[must_use]
    pub fn then(mut self, later: Self) -> Self {
        self.answers.extend(later.answers);
        let warned = self.warned || later.warned;
        Self { answers: self.answers, status: later.status.or(self.status), warned }
    }
}

/// Reads the answers to a script.
#[derive(Debug)]
pub struct Answers {
    capabilities: Capabilities,
    steps: std::vec::IntoIter<Step>,
    /// The command whose answer is being read.
    step: Option<Step>,
    reading: Reading,
    /// The first refusal.
    refusal: Option<ScriptError>,
    results: Results,
}

#[derive(Debug)]
enum Reading {
    First,
    /// Column definitions still to come.
    Columns {
        left: u64,
        table: Table,
    },
    /// The legacy EOF after them. No table: they were left out, and rows are not read.
    ColumnsEnd(Option<Table>),
    Rows(Option<Table>),
    /// Definitions of a prepared statement, which are not read.
    Skipped {
        left: u32,
        ok: PrepareOk,
    },
}

impl Answers {
    /// Takes the payload of the next packet. True: all is answered.
    ///
    /// # Errors
    /// The leg can no longer be followed.
    pub fn packet(&mut self, payload: &[u8]) -> Result<bool, ScriptError> {
        let Some(step) = &self.step else { return Err(ScriptError::Unasked) };
        let (what, expects) = (step.what.clone(), step.expects);
        let Some(&first) = payload.first() else { return Err(ScriptError::Unexpected { what, found: 0 }) };
        if first == ERR {
            return self.error(payload, what);
        }
        let reading = std::mem::replace(&mut self.reading, Reading::First);
        let read = match (reading, expects) {
            (Reading::First, Expects::Done | Expects::DoneOrRefused) if first == OK || first == EOF => {
                self.done(payload)
            }
            (Reading::First, Expects::Rows { .. }) if first != OK => self.column_count(payload),
            (Reading::First, Expects::Prepared { .. }) if first == OK => self.prepared(payload),
            (Reading::Columns { left, table }, _) => self.column(payload, left, table),
            (Reading::ColumnsEnd(table), _) if first == EOF && payload.len() < EOF_LIMIT => {
                self.reading = Reading::Rows(table);
                Ok(())
            }
            (Reading::Rows(table), _) if self.is_end(payload) => {
                self.status(payload).map(|()| self.answer(Answer::Rows(table.unwrap_or_default())))
            }
            (Reading::Rows(Some(table)), _) if table.rows.len() >= ROWS_MAX => {
                return Err(ScriptError::TooManyRows { what });
            }
            (Reading::Rows(table), _) => self.row(payload, table),
            (Reading::Skipped { left, ok }, _) => {
                self.skip(left - 1, ok);
                Ok(())
            }
            _ => return Err(ScriptError::Unexpected { what, found: first }),
        };
        read.map_err(|error| ScriptError::Wire { what, error })?;
        Ok(self.step.is_none())
    }

    /// The rows of the answer that is being read, as far as they have come, which are then no longer kept. Of an answer whose rows are
    /// taken so there may be more than [`ROWS_MAX`].
    pub fn take_rows(&mut self) -> Vec<Row> {
        match &mut self.reading {
            Reading::Rows(Some(table)) => std::mem::take(&mut table.rows),
            _ => Vec::new(),
        }
    }

    /// # Errors
    /// The first refusal; the leg itself is in order.
    pub fn finish(self) -> Result<Results, ScriptError> {
        match (self.refusal, self.step) {
            (Some(refusal), _) => Err(refusal),
            (None, Some(_)) => Err(ScriptError::Mismatch),
            (None, None) => Ok(self.results),
        }
    }

    fn error(&mut self, payload: &[u8], what: Cow<'static, str>) -> Result<bool, ScriptError> {
        let err =
            ErrPacket::read(payload).map_err(|error| ScriptError::Wire { what: what.clone(), error })?;
        if err.code == PROGRESS && self.capabilities.has(Capabilities::MARIADB_PROGRESS) {
            return Ok(false);
        }
        self.reading = Reading::First;
        let tolerates =
            |step: &Step| matches!(step.expects, Expects::Rows { or_refused: true } | Expects::DoneOrRefused);
        let tolerated = self.step.as_ref().is_some_and(tolerates);
        if !tolerated {
            let message = String::from_utf8_lossy(err.message).into_owned();
            self.refuse(ScriptError::Refused { what, code: err.code, message });
        }
        self.answer(Answer::Refused { code: err.code });
        Ok(self.step.is_none())
    }

    fn refuse(&mut self, refusal: ScriptError) {
        self.refusal.get_or_insert(refusal);
    }

    fn answer(&mut self, answer: Answer) {
        self.results.answers.push(answer);
        self.step = self.steps.next();
    }

    fn done(&mut self, payload: &[u8]) -> wire::Result<()> {
        self.status(payload)?;
        self.answer(Answer::Done);
        Ok(())
    }

    /// Takes the status flags of an OK or EOF, and whether it warns.
    fn status(&mut self, payload: &[u8]) -> wire::Result<()> {
        let (warnings, status) = match payload {
            &[EOF, warnings, more, low, high] => {
                (u16::from_le_bytes([warnings, more]), u16::from_le_bytes([low, high]))
            }
            _ => (OkPacket::warnings_of(payload)?, OkPacket::status_of(payload)?),
        };
        self.results.status = Some(Status(status));
        self.results.warned |= warnings > 0;
        Ok(())
    }

    fn is_end(&self, payload: &[u8]) -> bool {
        let limit = match self.capabilities.has(Capabilities::DEPRECATE_EOF) {
            true => MAX_PAYLOAD,
            false => EOF_LIMIT,
        };
        payload[0] == EOF && payload.len() < limit
    }

    /// Servers write the flag after the count, whatever MySQL's page says.
    fn column_count(&mut self, payload: &[u8]) -> wire::Result<()> {
        let mut cursor = Cursor::new(payload);
        let left = cursor.lenenc("column count")?;
        let described = cursor.is_empty() || cursor.u8("metadata flag")? != 0;
        cursor.end("column count")?;
        if left == 0 || left > COLUMNS_MAX {
            let (field, expected) = ("column count", "1 to 4096");
            return Err(wire::Error::Unexpected { field, expected, found: left });
        }
        if described {
            self.reading = Reading::Columns { left, table: Table::default() };
        } else {
            let what = self.step.as_ref().map(|step| step.what.clone()).unwrap_or_default();
            self.refuse(ScriptError::Undescribed { what });
            self.columns_end(None);
        }
        Ok(())
    }

    fn column(&mut self, payload: &[u8], left: u64, mut table: Table) -> wire::Result<()> {
        let definition = ColumnDefinition::read(payload, self.capabilities)?;
        let ColumnDefinition { kind, flags, length, .. } = definition;
        table.columns.push(Column { kind, flags, length });
        match left - 1 {
            0 => self.columns_end(Some(table)),
            left => self.reading = Reading::Columns { left, table },
        }
        Ok(())
    }

    fn columns_end(&mut self, table: Option<Table>) {
        self.reading = match self.capabilities.has(Capabilities::DEPRECATE_EOF) {
            true => Reading::Rows(table),
            false => Reading::ColumnsEnd(table),
        };
    }

    fn row(&mut self, payload: &[u8], table: Option<Table>) -> wire::Result<()> {
        let Some(mut table) = table else {
            self.reading = Reading::Rows(None);
            return Ok(());
        };
        let row: Vec<_> =
            TextRow::new(payload).map(|value| Ok(value?.map(Box::from))).collect::<wire::Result<_>>()?;
        if row.len() != table.columns.len() {
            let found = row.len() as u64;
            return Err(wire::Error::Unexpected { field: "row", expected: "a value per column", found });
        }
        table.rows.push(row);
        self.reading = Reading::Rows(Some(table));
        Ok(())
    }

    fn prepared(&mut self, payload: &[u8]) -> wire::Result<()> {
        let ok = PrepareOk::read(payload, self.capabilities)?;
        if let Some(Step { what, expects: Expects::Prepared { parameters: expected }, .. }) = &self.step
            && ok.parameters != *expected
        {
            let (what, expected, found) = (what.clone(), *expected, ok.parameters);
            self.refuse(ScriptError::Parameters { what, expected, found });
        }
        self.results.warned |= ok.warnings > 0;
        let eof = !self.capabilities.has(Capabilities::DEPRECATE_EOF);
        let section = |count: u16| {
            let described = if ok.metadata_follows { u32::from(count) } else { 0 };
            if count == 0 { 0 } else { described + u32::from(eof) }
        };
        self.skip(section(ok.parameters) + section(ok.columns), ok);
        Ok(())
    }

    fn skip(&mut self, left: u32, ok: PrepareOk) {
        match left {
            0 => self.answer(Answer::Prepared(ok)),
            _ => self.reading = Reading::Skipped { left, ok },
        }
    }
}
