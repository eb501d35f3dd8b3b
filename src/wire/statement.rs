//! Prepared statements: the server's first answer to a prepare, and the fixed fields of what a client does
//! with a statement.
//!
//! Sources: MySQL "COM_STMT_PREPARE", "COM_STMT_EXECUTE", "COM_STMT_FETCH", "COM_STMT_SEND_LONG_DATA",
//! "COM_STMT_CLOSE", "COM_STMT_RESET"; MariaDB "COM_STMT_BULK_EXECUTE". Parameter values are not read.
//! Client packets start with their command byte. Where a page calls for only the head of a packet, what
//! follows may be cut: the relay sees long packets piece by piece.

use bytes::BufMut;

use super::capability::Capabilities;
use super::cursor::Cursor;
use super::{Error, Result};

/// MariaDB: stands for the statement that was prepared last.
pub const LAST_PREPARED: u32 = 0xffff_ffff;

/// First byte of COM_STMT_EXECUTE.
pub const EXECUTE: u8 = 0x17;
/// First byte of MariaDB's COM_STMT_BULK_EXECUTE.
pub const BULK_EXECUTE: u8 = 0xfa;

const PREPARE_OK: u8 = 0x00;
const SEND_LONG_DATA: u8 = 0x18;
const CLOSE: u8 = 0x19;
const RESET: u8 = 0x1a;
const FETCH: u8 = 0x1c;

/// COM_STMT_PREPARE_OK, which definitions of parameters and of columns follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrepareOk {
    pub statement: u32,
    pub columns: u16,
    pub parameters: u16,
    pub warnings: u16,
    /// Only false where both sides agreed on OPTIONAL_RESULTSET_METADATA.
    pub metadata_follows: bool,
}

impl PrepareOk {
    /// Bytes without the optional metadata flag.
    const SIZE: usize = 12;

    pub fn read(payload: &[u8], capabilities: Capabilities) -> Result<Self> {
        let mut cursor = Cursor::new(payload);
        cursor.header(PREPARE_OK, "prepare OK")?;
        let statement = cursor.u32("statement id")?;
        let columns = cursor.u16("column count")?;
        let parameters = cursor.u16("parameter count")?;
        cursor.u8("filler")?;
        let warnings = cursor.u16("warnings")?;
        let optional = capabilities.has(Capabilities::OPTIONAL_RESULTSET_METADATA);
        let metadata_follows = !optional || cursor.u8("metadata flag")? != 0;
        cursor.end("prepare OK")?;
        Ok(Self { statement, columns, parameters, warnings, metadata_follows })
    }

    pub fn write(&self, out: &mut impl BufMut, capabilities: Capabilities) {
        out.put_u8(PREPARE_OK);
        out.put_u32_le(self.statement);
        out.put_u16_le(self.columns);
        out.put_u16_le(self.parameters);
        out.put_u8(0);
        out.put_u16_le(self.warnings);
        if capabilities.has(Capabilities::OPTIONAL_RESULTSET_METADATA) {
            out.put_u8(self.metadata_follows.into());
        }
    }

    /// Whether a payload of that length can be one.
    pub fn fits(length: usize) -> bool {
        length == Self::SIZE || length == Self::SIZE + 1
    }
}

/// The head of COM_STMT_EXECUTE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execute {
    pub statement: u32,
    /// Which cursor to open, and whether the number of parameters follows.
    pub flags: u8,
    /// Always 1.
    pub iterations: u32,
}

impl Execute {
    pub const CURSOR_READ_ONLY: u8 = 1;
    pub const CURSOR_FOR_UPDATE: u8 = 2;
    pub const CURSOR_SCROLLABLE: u8 = 4;
    pub const PARAMETER_COUNT: u8 = 8;

    pub fn read(payload: &[u8]) -> Result<Self> {
        let mut cursor = Cursor::new(payload);
        cursor.header(EXECUTE, "COM_STMT_EXECUTE")?;
        let statement = cursor.u32("statement id")?;
        let flags = cursor.u8("cursor flags")?;
        let iterations = cursor.u32("iteration count")?;
        Ok(Self { statement, flags, iterations })
    }

    pub fn write(self, out: &mut impl BufMut) {
        out.put_u8(EXECUTE);
        out.put_u32_le(self.statement);
        out.put_u8(self.flags);
        out.put_u32_le(self.iterations);
    }

    /// Whether it asks the server to keep rows back for COM_STMT_FETCH.
    pub fn wants_cursor(self) -> bool {
        self.flags & (Self::CURSOR_READ_ONLY | Self::CURSOR_FOR_UPDATE | Self::CURSOR_SCROLLABLE) != 0
    }
}

/// The head of MariaDB's COM_STMT_BULK_EXECUTE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkExecute {
    pub statement: u32,
    pub flags: u16,
}

impl BulkExecute {
    /// The generated ids come back as a result set.
    pub const RETURN_IDS: u16 = 64;
    /// The parameters' types follow.
    pub const SEND_TYPES: u16 = 128;

    pub fn read(payload: &[u8]) -> Result<Self> {
        let mut cursor = Cursor::new(payload);
        cursor.header(BULK_EXECUTE, "COM_STMT_BULK_EXECUTE")?;
        let statement = cursor.u32("statement id")?;
        Ok(Self { statement, flags: cursor.u16("bulk flags")? })
    }
}

/// COM_STMT_FETCH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    pub statement: u32,
    pub rows: u32,
}

impl Fetch {
    pub fn read(payload: &[u8]) -> Result<Self> {
        let mut cursor = Cursor::new(payload);
        cursor.header(FETCH, "COM_STMT_FETCH")?;
        let statement = cursor.u32("statement id")?;
        let rows = cursor.u32("rows to fetch")?;
        cursor.end("COM_STMT_FETCH")?;
        Ok(Self { statement, rows })
    }

    pub fn write(self, out: &mut impl BufMut) {
        out.put_u8(FETCH);
        out.put_u32_le(self.statement);
        out.put_u32_le(self.rows);
    }
}

/// COM_STMT_SEND_LONG_DATA, which has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongData<'a> {
    pub statement: u32,
    pub parameter: u16,
    pub data: &'a [u8],
}

impl<'a> LongData<'a> {
    pub fn read(payload: &'a [u8]) -> Result<Self> {
        let mut cursor = Cursor::new(payload);
        cursor.header(SEND_LONG_DATA, "COM_STMT_SEND_LONG_DATA")?;
        let statement = cursor.u32("statement id")?;
        let parameter = cursor.u16("parameter")?;
        Ok(Self { statement, parameter, data: cursor.rest() })
    }

    pub fn write(self, out: &mut impl BufMut) {
        out.put_u8(SEND_LONG_DATA);
        out.put_u32_le(self.statement);
        out.put_u16_le(self.parameter);
        out.put_slice(self.data);
    }
}

/// What ends a statement, or what it has gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// COM_STMT_CLOSE, which has no answer.
    Close(u32),
    /// COM_STMT_RESET: drops long data and the cursor.
    Reset(u32),
}

impl Ending {
    pub fn read(payload: &[u8]) -> Result<Self> {
        let mut cursor = Cursor::new(payload);
        let command = cursor.u8("command")?;
        let statement = cursor.u32("statement id")?;
        cursor.end("COM_STMT_CLOSE or COM_STMT_RESET")?;
        match command {
            CLOSE => Ok(Self::Close(statement)),
            RESET => Ok(Self::Reset(statement)),
            found => Err(Error::Unexpected {
                field: "command",
                expected: "COM_STMT_CLOSE or COM_STMT_RESET",
                found: found.into(),
            }),
        }
    }

    pub fn write(self, out: &mut impl BufMut) {
        let (command, statement) = match self {
            Self::Close(statement) => (CLOSE, statement),
            Self::Reset(statement) => (RESET, statement),
        };
        out.put_u8(command);
        out.put_u32_le(statement);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONE: Capabilities = Capabilities(0);
    const OPTIONAL: Capabilities = Capabilities::OPTIONAL_RESULTSET_METADATA;
    /// MariaDB 10.11: `select id,v from t where id=?`, prepared and executed.
    const PREPARED: &[u8] = b"\0\x05\0\0\0\x02\0\x01\0\0\0\0";
    const EXECUTED: &[u8] = b"\x17\x05\0\0\0\0\x01\0\0\0\0\x01\x03\0\x01\0\0\0";

    #[test]
    fn captures_are_read() {
        let prepared = PrepareOk::read(PREPARED, NONE).unwrap();
        assert_eq!((prepared.statement, prepared.columns, prepared.parameters), (5, 2, 1));
        assert!(prepared.metadata_follows && PrepareOk::fits(PREPARED.len()));
        let bare = PrepareOk::read(b"\0\x05\0\0\0\x02\0\x01\0\0\0\0\0", OPTIONAL).unwrap();
        assert!(!bare.metadata_follows);
        let execute = Execute::read(EXECUTED).unwrap();
        assert_eq!(execute, Execute { statement: 5, flags: 0, iterations: 1 });
        assert!(!execute.wants_cursor());
    }

    #[test]
    fn every_truncation_is_an_error() {
        for cut in 0..PREPARED.len() {
            assert!(PrepareOk::read(&PREPARED[..cut], NONE).is_err(), "cut at {cut}");
        }
        assert!(PrepareOk::read(PREPARED, OPTIONAL).is_err());
        for cut in 0..10 {
            assert!(Execute::read(&EXECUTED[..cut]).is_err(), "cut at {cut}");
        }
        for cut in 0..7 {
            assert!(LongData::read(&b"\x18\x01\0\0\0\0\0"[..cut]).is_err(), "cut at {cut}");
            assert!(BulkExecute::read(&b"\xfa\x01\0\0\0\x80\0"[..cut]).is_err(), "cut at {cut}");
        }
        for cut in 0..9 {
            assert!(Fetch::read(&b"\x1c\x01\0\0\0\x0a\0\0\0"[..cut]).is_err(), "cut at {cut}");
        }
        for cut in 0..5 {
            assert!(Ending::read(&b"\x19\x01\0\0\0"[..cut]).is_err(), "cut at {cut}");
        }
        assert!(Ending::read(b"\x16\x01\0\0\0").is_err());
    }

    proptest! {
        #[test]
        fn packets_come_back(
            statement: u32,
            (columns, parameters, warnings, metadata_follows) in any::<(u16, u16, u16, bool)>(),
            (flags, iterations, rows) in any::<(u8, u32, u32)>(),
            data: Vec<u8>,
        ) {
            let ok = PrepareOk { statement, columns, parameters, warnings, metadata_follows };
            let mut out = Vec::new();
            ok.write(&mut out, OPTIONAL);
            prop_assert_eq!(PrepareOk::read(&out, OPTIONAL), Ok(ok));

            let execute = Execute { statement, flags, iterations };
            out.clear();
            execute.write(&mut out);
            prop_assert_eq!(Execute::read(&out), Ok(execute));

            out.clear();
            Fetch { statement, rows }.write(&mut out);
            prop_assert_eq!(Fetch::read(&out), Ok(Fetch { statement, rows }));

            let long = LongData { statement, parameter: parameters, data: &data };
            out.clear();
            long.write(&mut out);
            prop_assert_eq!(LongData::read(&out), Ok(long));

            for ending in [Ending::Close(statement), Ending::Reset(statement)] {
                out.clear();
                ending.write(&mut out);
                prop_assert_eq!(Ending::read(&out), Ok(ending));
            }
        }
    }
}
