//! One reply of a CN: what its next packet may be, and which packet is its last.
//!
//! ```text
//!            OK, ERR                                    terminal OK or EOF, ERR
//!   First ---------------> ended          Rows ----------------------------------> ended
//!     |   count            ^                ^                                        |
//!     +--> Definitions --> MetadataEnd -----+         MORE_RESULTS_EXISTS: First <---+
//!     +--> Infile ---> OK, ERR
//! ```
//!
//! Sources: the MySQL pages "Text Resultset", "COM_STMT_PREPARE Response", "COM_STMT_EXECUTE Response",
//! "COM_CHANGE_USER"; the MariaDB pages "Result Set Packets", "ERR_Packet" (progress). Where MySQL's page and its
//! server differ, the server counts: the "metadata follows" byte stands *after* the column count, and the EOF after the
//! definitions is sent even if the definitions are left out. A reply never looks at continuation frames, and
//! it does not know sequence numbers.

use super::scanner::{FULL, Start};
use crate::wire::capability::Capabilities;
use crate::wire::command::{Command, Shape};
use crate::wire::cursor::split_lenenc;
use crate::wire::reply::{EOF, EOF_LIMIT, ERR, OK, OK_MIN, PROGRESS};
use crate::wire::resultset::LOCAL_INFILE;
use crate::wire::status::Status;

/// Bytes of a payload that decide: an OK packet's header, two 9-byte numbers and the status.
pub const PAYLOAD_HEAD: usize = 21;

/// ER_SERVER_SHUTDOWN; ER_QUERY_INTERRUPTED, as the answer to a KILL of oneself; MariaDB's ER_CONNECTION_KILLED.
const LAST_ERRORS: [u16; 3] = [1053, 1317, 1927];

/// What was negotiated, as far as it changes how replies look.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    deprecate_eof: bool,
    /// MariaDB: progress reports may come.
    progress: bool,
    /// A column count is followed by a byte that says whether definitions follow.
    optional_result_metadata: bool,
    /// MySQL: so is COM_STMT_PREPARE_OK.
    optional_prepare_metadata: bool,
}

impl From<Capabilities> for Terms {
    fn from(capabilities: Capabilities) -> Self {
        let mysql = capabilities.has(Capabilities::OPTIONAL_RESULTSET_METADATA);
        Self {
            deprecate_eof: capabilities.has(Capabilities::DEPRECATE_EOF),
            progress: capabilities.has(Capabilities::MARIADB_PROGRESS),
            optional_result_metadata: mysql || capabilities.has(Capabilities::MARIADB_CACHE_METADATA),
            optional_prepare_metadata: mysql,
        }
    }
}

/// What the end of the present packet brings about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The reply goes on.
    More,
    /// The reply ends.
    Ended,
    /// The client is asked for a file.
    Infile,
    /// The client is asked by an authentication plugin, or told something by it.
    Asked,
    /// A stream of another protocol begins.
    Foreign,
    /// The packet does not belong here.
    Malformed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The first packet of a reply, or of a further result.
    First,
    Definitions,
    /// The legacy EOF after definitions.
    MetadataEnd,
    /// Rows, or what else goes on up to a terminal packet.
    Rows,
    /// The client's file is on its way; OK or ERR comes.
    Infile,
}

/// The reply to the oldest command in flight.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    command: Command,
    phase: Phase,
    /// Definition packets still to come.
    definitions: u16,
    /// Column definitions of a prepared statement, which follow those of its parameters.
    columns: u16,
    /// Definition packets are sent at all.
    described: bool,
    /// A legacy MySQL server announces the OK after OUT parameters in the first EOF only.
    out_parameters: bool,
}

impl Reply {
    #[inline]
    pub fn new(command: Command) -> Self {
        let phase = match command.shape() {
            Shape::Rows | Shape::FieldList => Phase::Rows,
            _ => Phase::First,
        };
        Self { command, phase, definitions: 0, columns: 0, described: true, out_parameters: false }
    }

    /// Whether any packet of less than the full length that begins neither with 0xFE nor with 0xFF changes nothing.
    #[inline]
    pub fn in_rows(&self) -> bool {
        self.phase == Phase::Rows
    }

    /// Whether nothing of a result has come yet.
    #[inline]
    pub fn is_first(&self) -> bool {
        self.phase == Phase::First
    }

    /// Whether definitions come, or the EOF behind them.
    #[inline]
    pub fn in_definitions(&self) -> bool {
        matches!(self.phase, Phase::Definitions | Phase::MetadataEnd)
    }

    pub fn in_infile(&self) -> bool {
        self.phase == Phase::Infile
    }

    /// Judges the first frame of a packet; `status` is renewed where the packet carries one.
    #[inline]
    pub fn packet(&mut self, terms: Terms, start: &Start<'_>, status: &mut Status) -> Outcome {
        let Some(&first) = start.payload.first() else { return Outcome::Malformed };
        if first == ERR && self.command != Command::Statistics {
            return self.error(terms, start);
        }
        match self.phase {
            Phase::Rows => self.row(terms, start, first, status),
            Phase::Definitions if first == EOF => Outcome::Malformed,
            Phase::Definitions => self.definition(terms),
            Phase::First => self.first(terms, start, first, status),
            Phase::MetadataEnd => self.metadata_end(terms, start, first, status),
            Phase::Infile if first == OK => self.result_end(start, status),
            Phase::Infile => Outcome::Malformed,
        }
    }

    /// Whether a packet that ended the reply is an ERR after which servers close the connection.
    pub fn is_farewell(&self, start: &Start<'_>) -> bool {
        let [ERR, low, high, ..] = start.payload else { return false };
        self.command == Command::ChangeUser || LAST_ERRORS.contains(&u16::from_le_bytes([*low, *high]))
    }

    fn error(&self, terms: Terms, start: &Start<'_>) -> Outcome {
        if terms.progress && start.payload.get(1..3) == Some(&PROGRESS.to_le_bytes()) {
            return Outcome::More;
        }
        Outcome::Ended
    }

    #[inline]
    fn first(&mut self, terms: Terms, start: &Start<'_>, first: u8, status: &mut Status) -> Outcome {
        match (self.command.shape(), first) {
            (Shape::ResultSet, OK) => self.result_end(start, status),
            (Shape::ResultSet, LOCAL_INFILE) => {
                self.phase = Phase::Infile;
                Outcome::Infile
            }
            (Shape::ResultSet, _) => self.column_count(terms, start),
            (Shape::Prepare, OK) => self.prepare_ok(terms, start),
            (Shape::OkOrErr | Shape::EofOrErr, OK | EOF) | (Shape::Auth, OK) => {
                if renew(status, start) {
                    Outcome::Ended
                } else {
                    Outcome::Malformed
                }
            }
            (Shape::Statistics, _) => Outcome::Ended,
            (Shape::Auth, _) => Outcome::Asked,
            (Shape::Foreign, _) => Outcome::Foreign,
            _ => Outcome::Malformed,
        }
    }

    #[inline]
    fn row(&mut self, terms: Terms, start: &Start<'_>, first: u8, status: &mut Status) -> Outcome {
        let limit = if terms.deprecate_eof { FULL } else { EOF_LIMIT as u32 };
        if first == EOF && start.length < limit {
            return self.result_end(start, status);
        }
        Outcome::More
    }

    /// An OK or EOF that ends a result, and the reply unless another result is announced.
    #[inline]
    fn result_end(&mut self, start: &Start<'_>, status: &mut Status) -> Outcome {
        if !renew(status, start) {
            return Outcome::Malformed;
        }
        let announced = std::mem::take(&mut self.out_parameters) || status.has(Status::MORE_RESULTS_EXISTS);
        if announced && self.command.shape() == Shape::ResultSet {
            self.phase = Phase::First;
            return Outcome::More;
        }
        Outcome::Ended
    }

    #[inline]
    fn column_count(&mut self, terms: Terms, start: &Start<'_>) -> Outcome {
        let Some((count, rest)) = split_lenenc(start.payload) else { return Outcome::Malformed };
        let flag = if terms.optional_result_metadata { rest.first().copied() } else { Some(1) };
        match (u16::try_from(count), flag) {
            (Ok(count @ 1..), Some(flag @ 0..=1)) => {
                self.described = flag == 1;
                self.section(terms, count)
            }
            _ => Outcome::Malformed,
        }
    }

    /// COM_STMT_PREPARE_OK: statement id (4), columns (2), parameters (2), a filler, warnings (2), metadata follows.
    fn prepare_ok(&mut self, terms: Terms, start: &Start<'_>) -> Outcome {
        let &[_, _, _, _, _, columns_low, columns_high, params_low, params_high, ..] = start.payload else {
            return Outcome::Malformed;
        };
        self.described = !terms.optional_prepare_metadata || start.payload.get(12) != Some(&0);
        self.columns = u16::from_le_bytes([columns_low, columns_high]);
        match u16::from_le_bytes([params_low, params_high]) {
            0 => self.section_end(terms),
            parameters => self.section(terms, parameters),
        }
    }

    /// Enters a section of `count` definitions, at least one.
    #[inline]
    fn section(&mut self, terms: Terms, count: u16) -> Outcome {
        self.definitions = count;
        self.phase = Phase::Definitions;
        if self.described { Outcome::More } else { self.definitions_end(terms) }
    }

    #[inline]
    fn definition(&mut self, terms: Terms) -> Outcome {
        self.definitions -= 1;
        if self.definitions == 0 { self.definitions_end(terms) } else { Outcome::More }
    }

    #[inline]
    fn definitions_end(&mut self, terms: Terms) -> Outcome {
        if terms.deprecate_eof {
            return self.section_end(terms);
        }
        self.phase = Phase::MetadataEnd;
        Outcome::More
    }

    fn metadata_end(&mut self, terms: Terms, start: &Start<'_>, first: u8, status: &mut Status) -> Outcome {
        if first != EOF || start.length >= EOF_LIMIT as u32 || !renew(status, start) {
            return Outcome::Malformed;
        }
        if self.command == Command::StmtExecute {
            if status.has(Status::CURSOR_EXISTS) {
                return Outcome::Ended;
            }
            self.out_parameters = status.has(Status::PS_OUT_PARAMS);
        }
        self.section_end(terms)
    }

    /// What follows a section of definitions, its EOF included.
    #[inline]
    fn section_end(&mut self, terms: Terms) -> Outcome {
        if self.command != Command::StmtPrepare {
            self.phase = Phase::Rows;
            return Outcome::More;
        }
        match std::mem::take(&mut self.columns) {
            0 => Outcome::Ended,
            columns => self.section(terms, columns),
        }
    }
}

/// Renews `status` from an OK or EOF; false where the packet is too short for one.
#[inline]
fn renew(status: &mut Status, start: &Start<'_>) -> bool {
    let read = read_status(start);
    *status = read.unwrap_or(*status);
    read.is_some()
}

/// The status of an OK (affected rows, last insert id, status) or a legacy EOF (warnings, status).
#[inline]
fn read_status(start: &Start<'_>) -> Option<Status> {
    let (&first, fields) = start.payload.split_first()?;
    let flags = if first == EOF && start.length < OK_MIN as u32 {
        fields.get(2..)?
    } else {
        let (_affected, rest) = split_lenenc(fields)?;
        let (_insert_id, rest) = split_lenenc(rest)?;
        rest
    };
    flags.first_chunk().map(|flags| Status(u16::from_le_bytes(*flags)))
}
