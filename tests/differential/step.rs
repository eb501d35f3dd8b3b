//! A step of a stream: what a client sends at once, and how a reader of a failed stream sees it.
//!
//! Prepared statements are told apart by their place in the stream, not by ids: ids are given by each side.

use std::fmt;

/// The id that MariaDB takes for the statement that was prepared last.
pub const LAST: u32 = u32::MAX;

#[derive(Clone, Debug)]
pub enum Step {
    Query(Vec<u8>),
    /// LOAD DATA LOCAL: the text, and what the client sends when it is asked for the file.
    Infile(Vec<u8>, Vec<u8>),
    InitDb(Vec<u8>),
    FieldList(Vec<u8>),
    Ping,
    SetOption(u16),
    ResetConnection,
    /// To the same user, with this default schema.
    ChangeUser(Vec<u8>),
    /// The statement number `slot` of the stream.
    Prepare {
        slot: usize,
        text: Vec<u8>,
    },
    Execute(Execute),
    /// COM_STMT_BULK_EXECUTE.
    Bulk(Bulk),
    Fetch {
        slot: usize,
        rows: u32,
    },
    ResetStatement {
        slot: usize,
    },
    Close {
        slot: usize,
    },
    LongData {
        slot: usize,
        parameter: u16,
        data: Vec<u8>,
    },
    /// Sent in one write, before any answer is read.
    Together(Vec<Step>),
}

#[derive(Clone, Debug)]
pub struct Execute {
    /// None: the statement that was prepared last ([`LAST`]).
    pub slot: Option<usize>,
    pub cursor: bool,
    /// Whether the types are told; else the server takes those that it was told before.
    pub types: bool,
    pub values: Vec<Value>,
}

/// An execution with several rows of values. All of a column have the type of the first, or are NULL.
#[derive(Clone, Debug)]
pub struct Bulk {
    pub slot: usize,
    pub types: bool,
    pub rows: Vec<Vec<Value>>,
}

/// A parameter's value, which has its type.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Tiny(i8),
    Int(i32),
    Big(i64),
    Unsigned(u64),
    Double(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
    /// So many bytes, more than a frame has.
    Long(u32),
    /// Year, month, day, hour, minute, second.
    DateTime(u16, [u8; 5]),
    /// Has been sent by [`Step::LongData`].
    Sent,
}

impl Value {
    /// The type as the protocol numbers it, and the flag for unsigned.
    pub fn kind(&self) -> [u8; 2] {
        match self {
            Self::Null => [0x06, 0],
            Self::Tiny(_) => [0x01, 0],
            Self::Int(_) => [0x03, 0],
            Self::Big(_) => [0x08, 0],
            Self::Unsigned(_) => [0x08, 0x80],
            Self::Double(_) => [0x05, 0],
            Self::Text(_) => [0xfd, 0],
            Self::Blob(_) | Self::Long(_) | Self::Sent => [0xfc, 0],
            Self::DateTime(..) => [0x0c, 0],
        }
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null | Self::Sent => (),
            Self::Tiny(value) => out.extend_from_slice(&value.to_le_bytes()),
            Self::Int(value) => out.extend_from_slice(&value.to_le_bytes()),
            Self::Big(value) => out.extend_from_slice(&value.to_le_bytes()),
            Self::Unsigned(value) => out.extend_from_slice(&value.to_le_bytes()),
            Self::Double(value) => out.extend_from_slice(&value.to_le_bytes()),
            Self::Text(bytes) | Self::Blob(bytes) => {
                // A length of two bytes, whatever it is: also shorter ones may be told so.
                out.push(0xfc);
                out.extend_from_slice(&u16::try_from(bytes.len()).expect("16 bits").to_le_bytes());
                out.extend_from_slice(bytes);
            }
            Self::Long(length) => {
                out.push(0xfe);
                out.extend_from_slice(&u64::from(*length).to_le_bytes());
                out.extend((0..*length).map(|at| at as u8));
            }
            Self::DateTime(year, rest) => {
                out.push(7);
                out.extend_from_slice(&year.to_le_bytes());
                out.extend_from_slice(rest);
            }
        }
    }
}

impl Execute {
    /// The payload of COM_STMT_EXECUTE behind the command byte.
    pub fn argument(&self, id: u32) -> Vec<u8> {
        let mut out = id.to_le_bytes().to_vec();
        out.push(u8::from(self.cursor));
        out.extend_from_slice(&1u32.to_le_bytes());
        if self.values.is_empty() {
            return out;
        }
        let mut nulls = vec![0; self.values.len().div_ceil(8)];
        for (n, _) in self.values.iter().enumerate().filter(|(_, value)| **value == Value::Null) {
            nulls[n / 8] |= 1 << (n % 8);
        }
        out.extend_from_slice(&nulls);
        out.push(u8::from(self.types));
        if self.types {
            out.extend(self.values.iter().flat_map(Value::kind));
        }
        self.values.iter().for_each(|value| value.write(&mut out));
        out
    }
}

impl Bulk {
    /// The payload of COM_STMT_BULK_EXECUTE behind the command byte.
    pub fn argument(&self, id: u32) -> Vec<u8> {
        const SEND_TYPES: u16 = 128;
        let mut out = id.to_le_bytes().to_vec();
        out.extend_from_slice(&(if self.types { SEND_TYPES } else { 0 }).to_le_bytes());
        if self.types {
            out.extend(self.rows[0].iter().flat_map(Value::kind));
        }
        for value in self.rows.iter().flatten() {
            out.push(u8::from(*value == Value::Null));
            value.write(&mut out);
        }
        out
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query(text) => write!(f, "query {}", text.escape_ascii()),
            Self::Infile(text, data) => {
                write!(f, "query {}, file {}", text.escape_ascii(), data.escape_ascii())
            }
            Self::InitDb(name) => write!(f, "init_db {}", name.escape_ascii()),
            Self::FieldList(table) => write!(f, "field_list {}", table.escape_ascii()),
            Self::Ping => write!(f, "ping"),
            Self::SetOption(option) => write!(f, "set_option {option}"),
            Self::ResetConnection => write!(f, "reset_connection"),
            Self::ChangeUser(schema) => write!(f, "change_user to itself in {}", schema.escape_ascii()),
            Self::Prepare { slot, text } => write!(f, "prepare #{slot} {}", text.escape_ascii()),
            Self::Execute(execute) => write!(f, "{execute}"),
            Self::Bulk(Bulk { slot, types, rows }) => {
                write!(f, "bulk #{slot}{} {rows:?}", if *types { "" } else { " without types" })
            }
            Self::Fetch { slot, rows } => write!(f, "fetch {rows} of #{slot}"),
            Self::ResetStatement { slot } => write!(f, "reset #{slot}"),
            Self::Close { slot } => write!(f, "close #{slot}"),
            Self::LongData { slot, parameter, data } => {
                write!(f, "long data for {parameter} of #{slot}: {} bytes", data.len())
            }
            Self::Together(steps) => steps.iter().enumerate().try_for_each(|(n, step)| match n {
                0 => write!(f, "together: {step}"),
                _ => write!(f, " | {step}"),
            }),
        }
    }
}

impl fmt::Display for Execute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.slot {
            Some(slot) => write!(f, "execute #{slot}")?,
            None => write!(f, "execute the last")?,
        }
        write!(
            f,
            "{}{}",
            if self.cursor { " by cursor" } else { "" },
            if self.types { "" } else { " without types" }
        )?;
        write!(f, " {:?}", self.values)
    }
}
