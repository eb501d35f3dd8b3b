//! Prepared statements: the server's first answer to a prepare, and the heads of executions.
//!
//! Sources: MySQL "COM_STMT_PREPARE", "COM_STMT_EXECUTE"; MariaDB "COM_STMT_BULK_EXECUTE". Parameter values are not read.
//! Client packets start with their command byte. What follows a head may be cut: the relay sees long packets piece by
//! piece.

use bytes::BufMut;

use super::Result;
use super::capability::Capabilities;
use super::cursor::Cursor;

/// MariaDB: stands for the statement that was prepared last.
pub const LAST_PREPARED: u32 = 0xffff_ffff;

/// First byte of COM_STMT_EXECUTE.
pub const EXECUTE: u8 = 0x17;
/// First byte of MariaDB's COM_STMT_BULK_EXECUTE.
pub const BULK_EXECUTE: u8 = 0xfa;

const PREPARE_OK: u8 = 0x00;

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
}

/// The flags of COM_STMT_EXECUTE, behind the statement's id.
pub struct Execute;

impl Execute {
    pub const CURSOR_READ_ONLY: u8 = 1;
    pub const CURSOR_FOR_UPDATE: u8 = 2;
    pub const CURSOR_SCROLLABLE: u8 = 4;
    /// The number of parameters follows.
    pub const PARAMETER_COUNT: u8 = 8;
}

/// The head of MariaDB's COM_STMT_BULK_EXECUTE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkExecute {
    pub statement: u32,
    pub flags: u16,
}

impl BulkExecute {
    /// The parameters' types follow.
    pub const SEND_TYPES: u16 = 128;

    pub fn read(payload: &[u8]) -> Result<Self> {
        let mut cursor = Cursor::new(payload);
        cursor.header(BULK_EXECUTE, "COM_STMT_BULK_EXECUTE")?;
        let statement = cursor.u32("statement id")?;
        Ok(Self { statement, flags: cursor.u16("bulk flags")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONE: Capabilities = Capabilities(0);
    const OPTIONAL: Capabilities = Capabilities::OPTIONAL_RESULTSET_METADATA;
    /// MariaDB 10.11: `select id,v from t where id=?`.
    const PREPARED: &[u8] = b"\0\x05\0\0\0\x02\0\x01\0\0\0\0";

    #[test]
    fn captures_are_read() {
        let prepared = PrepareOk::read(PREPARED, NONE).unwrap();
        assert_eq!((prepared.statement, prepared.columns, prepared.parameters), (5, 2, 1));
        assert!(prepared.metadata_follows);
        let bare = PrepareOk::read(b"\0\x05\0\0\0\x02\0\x01\0\0\0\0\0", OPTIONAL).unwrap();
        assert!(!bare.metadata_follows);
        let bulk = BulkExecute::read(b"\xfa\x01\0\0\0\x80\0\x03\0").unwrap();
        assert_eq!(bulk, BulkExecute { statement: 1, flags: BulkExecute::SEND_TYPES });
    }

    #[test]
    fn every_truncation_is_an_error() {
        for cut in 0..PREPARED.len() {
            assert!(PrepareOk::read(&PREPARED[..cut], NONE).is_err(), "cut at {cut}");
        }
        assert!(PrepareOk::read(PREPARED, OPTIONAL).is_err());
        for cut in 0..7 {
            assert!(BulkExecute::read(&b"\xfa\x01\0\0\0\x80\0"[..cut]).is_err(), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn packets_come_back(
            statement: u32,
            (columns, parameters, warnings, metadata_follows) in any::<(u16, u16, u16, bool)>(),
        ) {
            let ok = PrepareOk { statement, columns, parameters, warnings, metadata_follows };
            let mut out = Vec::new();
            ok.write(&mut out, OPTIONAL);
            prop_assert_eq!(PrepareOk::read(&out, OPTIONAL), Ok(ok));
        }
    }
}
