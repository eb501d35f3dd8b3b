//! How a server ends what it has to say: OK, ERR, EOF.
//!
//! Sources: MySQL "OK_Packet", "ERR_Packet", "EOF_Packet". An OK also stands where an EOF used to, with the
//! header byte of the EOF, when both sides agreed on DEPRECATE_EOF. These are the packets themselves; which
//! one is meant by a byte at some point of a conversation is for the dialog to know.

use bytes::BufMut;

use super::capability::Capabilities;
use super::cursor::{Cursor, put_lenenc, put_lenenc_bytes};
use super::track::Changes;
use super::{Error, Result};

/// First byte of an OK.
pub const OK: u8 = 0x00;
/// First byte of an ERR.
pub const ERR: u8 = 0xff;
/// First byte of an EOF, and of the OK that replaces it.
pub const EOF: u8 = 0xfe;

/// The ERR code by which MariaDB marks a progress report, which is not an error and ends nothing.
pub const PROGRESS: u16 = 0xffff;

/// Bytes of the shortest OK; a shorter packet with an EOF's header byte is an EOF.
pub const OK_MIN: usize = 7;

/// Bytes of the shortest row that begins with an EOF's header byte, which is a length of 8 bytes; an EOF is shorter.
pub const EOF_LIMIT: usize = 9;

/// Status flag: session state changes follow.
const STATE_CHANGED: u16 = 0x4000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OkPacket<'a> {
    pub affected_rows: u64,
    pub last_insert_id: u64,
    /// Server status flags.
    pub status: u16,
    pub warnings: u16,
    pub info: &'a [u8],
    /// Only with SESSION_TRACK, and when the status flags say so.
    pub changes: Option<Changes<'a>>,
}

impl<'a> OkPacket<'a> {
    /// Reads an OK with either header byte.
    pub fn read(payload: &'a [u8], capabilities: Capabilities) -> Result<Self> {
        let mut cursor = Cursor::new(payload);
        let header = cursor.u8("OK")?;
        if header != OK && header != EOF {
            return Err(Error::Unexpected { field: "OK", expected: "0x00 or 0xfe", found: header.into() });
        }
        let affected_rows = cursor.lenenc("affected rows")?;
        let last_insert_id = cursor.lenenc("last insert id")?;
        let status = cursor.u16("status flags")?;
        let warnings = cursor.u16("warnings")?;
        let (info, changes) = read_info(&mut cursor, capabilities, status)?;
        cursor.end("OK")?;
        Ok(Self { affected_rows, last_insert_id, status, warnings, info, changes })
    }

    /// Reads no further than the status flags, for an OK that is passed on as it is.
    pub fn status_of(payload: &[u8]) -> Result<u16> {
        let mut cursor = Cursor::new(payload);
        cursor.u8("OK")?;
        cursor.lenenc("affected rows")?;
        cursor.lenenc("last insert id")?;
        cursor.u16("status flags")
    }

    /// Reads no further than the number of warnings; none where it ends before.
    pub fn warnings_of(payload: &[u8]) -> Result<u16> {
        let mut cursor = Cursor::new(payload);
        cursor.u8("OK")?;
        cursor.lenenc("affected rows")?;
        cursor.lenenc("last insert id")?;
        cursor.u16("status flags")?;
        if cursor.is_empty() { Ok(0) } else { cursor.u16("warnings") }
    }

    /// Writes it with the header byte of an OK.
    pub fn write(&self, out: &mut impl BufMut, capabilities: Capabilities) {
        self.write_as(OK, out, capabilities);
    }

    /// Writes it in the place of an EOF, for DEPRECATE_EOF.
    pub fn write_as_eof(&self, out: &mut impl BufMut, capabilities: Capabilities) {
        self.write_as(EOF, out, capabilities);
    }

    fn write_as(&self, header: u8, out: &mut impl BufMut, capabilities: Capabilities) {
        let changes = self.changes.filter(|_| capabilities.has(Capabilities::SESSION_TRACK));
        let status = match changes {
            Some(_) => self.status | STATE_CHANGED,
            None => self.status & !STATE_CHANGED,
        };
        out.put_u8(header);
        put_lenenc(out, self.affected_rows);
        put_lenenc(out, self.last_insert_id);
        out.put_u16_le(status);
        out.put_u16_le(self.warnings);
        if changes.is_some() || !self.info.is_empty() {
            put_lenenc_bytes(out, self.info);
        }
        if let Some(changes) = changes {
            put_lenenc_bytes(out, changes.0);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrPacket<'a> {
    pub code: u16,
    /// Missing from an ERR in place of a greeting and from servers before 4.1.
    pub sqlstate: Option<[u8; 5]>,
    pub message: &'a [u8],
}

impl<'a> ErrPacket<'a> {
    pub fn read(payload: &'a [u8]) -> Result<Self> {
        let mut cursor = Cursor::new(payload);
        cursor.header(ERR, "ERR")?;
        let code = cursor.u16("error code")?;
        let sqlstate = match cursor.peek() {
            Some(b'#') => {
                cursor.u8("SQL state marker")?;
                Some(cursor.array("SQL state")?)
            }
            _ => None,
        };
        Ok(Self { code, sqlstate, message: cursor.rest() })
    }

    /// Writes the SQL state only to a client that can read it.
    pub fn write(&self, out: &mut impl BufMut, capabilities: Capabilities) {
        out.put_u8(ERR);
        out.put_u16_le(self.code);
        if let Some(state) = self.sqlstate.filter(|_| capabilities.has(Capabilities::PROTOCOL_41)) {
            out.put_u8(b'#');
            out.put_slice(&state);
        }
        out.put_slice(self.message);
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EofPacket {
    pub warnings: u16,
    /// Server status flags.
    pub status: u16,
}

impl EofPacket {
    pub fn read(payload: &[u8]) -> Result<Self> {
        let mut cursor = Cursor::new(payload);
        cursor.header(EOF, "EOF")?;
        let warnings = cursor.u16("warnings")?;
        let status = cursor.u16("status flags")?;
        cursor.end("EOF")?;
        Ok(Self { warnings, status })
    }

    pub fn write(self, out: &mut impl BufMut) {
        out.put_u8(EOF);
        out.put_u16_le(self.warnings);
        out.put_u16_le(self.status);
    }
}

/// The protocol's page gives the message without its length where SESSION_TRACK is off, but MySQL and MariaDB
/// write the length there too, and leave the whole field out when it is empty. Both forms are read.
fn read_info<'a>(
    cursor: &mut Cursor<'a>,
    capabilities: Capabilities,
    status: u16,
) -> Result<(&'a [u8], Option<Changes<'a>>)> {
    if !capabilities.has(Capabilities::SESSION_TRACK) {
        let mut ahead = *cursor;
        return Ok(match ahead.lenenc_bytes("message") {
            Ok(info) if ahead.is_empty() => {
                cursor.rest();
                (info, None)
            }
            _ => (cursor.rest(), None),
        });
    }
    let changed = status & STATE_CHANGED != 0;
    let info = if cursor.is_empty() && !changed { &[][..] } else { cursor.lenenc_bytes("message")? };
    let changes = changed.then(|| cursor.lenenc_bytes("session state changes").map(Changes)).transpose()?;
    Ok((info, changes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRACK: Capabilities = Capabilities::SESSION_TRACK;
    const NONE: Capabilities = Capabilities(0);
    /// MariaDB 10.11: the end of a login that named a database.
    const LOGGED_IN: &[u8] = b"\0\0\0\x02@\0\0\0\x05\x01\x03\x02d1";
    /// MariaDB 10.11: LOAD DATA, without session tracking.
    const LOADED: &[u8] = b"\0\0\0\x02\0\0\0/Records: 0  Deleted: 0  Skipped: 0  Warnings: 0";
    /// MariaDB 10.11: an insert, with session tracking and nothing to tell.
    const INSERTED: &[u8] = b"\0\x01\0\x02\0\0\0";

    #[test]
    fn an_ok_is_read_with_and_without_tracking() {
        let ok = OkPacket::read(LOGGED_IN, TRACK).unwrap();
        assert_eq!((ok.status, ok.changes), (0x4002, Some(Changes(b"\x01\x03\x02d1"))));
        let ok = OkPacket::read(LOADED, NONE).unwrap();
        assert_eq!(ok.info, b"Records: 0  Deleted: 0  Skipped: 0  Warnings: 0");
        let ok = OkPacket::read(INSERTED, TRACK).unwrap();
        assert_eq!((ok.affected_rows, ok.info, ok.changes), (1, &b""[..], None));
        let ok = OkPacket::read(b"\xfe\0\0\x22\0\0\0", TRACK).unwrap();
        assert_eq!(ok.status, 0x22);
        let ok = OkPacket::read(b"\0\0\0\x02\0\0\0as the page says", NONE).unwrap();
        assert_eq!(ok.info, b"as the page says");
    }

    #[test]
    fn captures_are_written_as_they_were_read() {
        for (bytes, capabilities) in [(LOGGED_IN, TRACK), (LOADED, NONE), (INSERTED, TRACK)] {
            let mut out = Vec::new();
            OkPacket::read(bytes, capabilities).unwrap().write(&mut out, capabilities);
            assert_eq!(out, bytes);
        }
        let denied = b"\xff\x15\x04#28000Access denied for user 'napw'@'localhost' (using password: YES)";
        let err = ErrPacket::read(denied).unwrap();
        assert_eq!((err.code, err.sqlstate), (1045, Some(*b"28000")));
        let mut out = Vec::new();
        err.write(&mut out, Capabilities::PROTOCOL_41);
        assert_eq!(out, denied);
        let eof = EofPacket::read(b"\xfe\0\0\x22\0").unwrap();
        assert_eq!(eof, EofPacket { warnings: 0, status: 0x22 });
    }

    #[test]
    fn truncations_are_errors() {
        for cut in 0..LOGGED_IN.len() {
            assert!(OkPacket::read(&LOGGED_IN[..cut], TRACK).is_err(), "cut at {cut}");
        }
        for cut in 0..7 {
            assert!(OkPacket::read(&LOADED[..cut], NONE).is_err(), "cut at {cut}");
        }
        for cut in (0..3).chain(4..9) {
            assert!(ErrPacket::read(&b"\xff\x15\x04#28000"[..cut]).is_err(), "cut at {cut}");
        }
        for cut in 0..5 {
            assert!(EofPacket::read(&b"\xfe\0\0\x02\0"[..cut]).is_err(), "cut at {cut}");
        }
        assert!(EofPacket::read(b"\xfe\0\0\x02\0\0").is_err());
    }

    #[test]
    fn an_old_client_gets_no_sql_state() {
        let err = ErrPacket { code: 1040, sqlstate: Some(*b"08004"), message: b"Too many connections" };
        let mut out = Vec::new();
        err.write(&mut out, NONE);
        assert_eq!(out, b"\xff\x10\x04Too many connections");
    }

    proptest! {
        #[test]
        fn oks_come_back(
            (affected_rows, last_insert_id, status, warnings) in any::<(u64, u64, u16, u16)>(),
            info: Vec<u8>,
            changes: Option<Vec<u8>>,
        ) {
            let status = if changes.is_some() { status | STATE_CHANGED } else { status & !STATE_CHANGED };
            let changes = changes.as_deref().map(Changes);
            let ok = OkPacket { affected_rows, last_insert_id, status, warnings, info: &info, changes };
            let mut out = Vec::new();
            ok.write_as_eof(&mut out, TRACK);
            prop_assert_eq!(OkPacket::read(&out, TRACK), Ok(ok));
        }

        #[test]
        fn noise_never_panics(bytes: Vec<u8>) {
            for header in [OK, ERR, EOF] {
                let packet = [&[header], &bytes[..]].concat();
                let _ = OkPacket::read(&packet, NONE);
                let _ = OkPacket::read(&packet, TRACK);
                let _ = ErrPacket::read(&packet);
                let _ = EofPacket::read(&packet);
            }
        }
    }
}
