//! What stands in a COM_QUERY before its text: the command byte, and with MySQL's CLIENT_QUERY_ATTRIBUTES the attributes.
//!
//! Source: the MySQL page "COM_QUERY". The attributes mean nothing to the session; they only have to be passed over.

use crate::wire::cursor::Cursor;

/// Bytes of attributes that are passed over.
pub const PREAMBLE_MAX: usize = 4096;

/// No attributes, in one set of them.
const NONE: [u8; 2] = [0, 1];

/// Where a text begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    At(usize),
    /// More of the payload is needed to tell.
    Cut,
    /// In a form that is not read.
    Unknown,
}

/// Where the text of a COM_QUERY begins in its payload; `attributes`: CLIENT_QUERY_ATTRIBUTES is agreed.
pub fn start(payload: &[u8], attributes: bool) -> Start {
    if !attributes {
        return if payload.is_empty() { Start::Cut } else { Start::At(1) };
    }
    match payload.get(1..3) {
        None => Start::Cut,
        Some(counts) if counts == NONE => Start::At(1 + NONE.len()),
        Some(_) => behind_attributes(payload),
    }
}

#[cold]
fn behind_attributes(payload: &[u8]) -> Start {
    let mut cursor = Cursor::new(&payload[1..]);
    match pass(&mut cursor) {
        Ok(true) if payload.len() - cursor.remaining() <= PREAMBLE_MAX => {
            Start::At(payload.len() - cursor.remaining())
        }
        Ok(_) => Start::Unknown,
        Err(_) => Start::Cut,
    }
}

/// Passes over all attributes; false where their form is not known.
fn pass(cursor: &mut Cursor<'_>) -> crate::wire::Result<bool> {
    let count = cursor.lenenc("attributes")?;
    let sets = cursor.lenenc("sets of attributes")?;
    if count == 0 || count > PREAMBLE_MAX as u64 || sets != 1 {
        return Ok(count == 0 && sets == 1);
    }
    let count = count as usize;
    let nulls = cursor.take(count.div_ceil(8), "null bitmap")?;
    if cursor.u8("types follow")? != 1 {
        return Ok(false);
    }
    let mut kinds = Vec::with_capacity(count);
    for _ in 0..count {
        kinds.push(cursor.u16("type of an attribute")?);
        cursor.lenenc_bytes("name of an attribute")?;
    }
    for (n, kind) in kinds.into_iter().enumerate() {
        let null = nulls[n / 8] & (1 << (n % 8)) != 0;
        if !null && !pass_value(kind as u8, cursor)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Passes over a value of the binary protocol.
fn pass_value(kind: u8, cursor: &mut Cursor<'_>) -> crate::wire::Result<bool> {
    const FIELD: &str = "value of an attribute";
    let length = match kind {
        // NULL
        6 => 0,
        // TINY, BOOL
        1 | 244 => 1,
        // SHORT, YEAR
        2 | 13 => 2,
        // LONG, FLOAT, INT24
        3 | 4 | 9 => 4,
        // DOUBLE, LONGLONG
        5 | 8 => 8,
        // TIMESTAMP, DATE, TIME, DATETIME
        7 | 10..=12 => usize::from(cursor.u8(FIELD)?),
        // DECIMAL, VARCHAR, BIT, JSON, NEWDECIMAL, ENUM, SET, the BLOBs, the strings, GEOMETRY
        0 | 15 | 16 | 245..=255 => {
            cursor.lenenc_bytes(FIELD)?;
            0
        }
        _ => return Ok(false),
    };
    cursor.take(length, FIELD)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_passed_over() {
        // MySQL 9.7 takes the first four of these.
        let table: [(&[u8], Start); 8] = [
            (b"\x03\0\x01SELECT 1", Start::At(3)),
            (b"\x03\x02\x01\0\x01\x03\0\x01a\xfd\0\x02bb\x07\0\0\0\x03xyzSELECT 42", Start::At(22)),
            (b"\x03\x01\x01\x01\x01\x06\0\x01aSELECT 43", Start::At(9)),
            (b"\x03\x01\x01\0\x01\x0c\0\x01a\x04\xe8\x07\x01\x01SELECT 1", Start::At(14)),
            (b"\x03\x01\x01\0\0SELECT 43", Start::Unknown),
            (b"\x03\0\x02SELECT 1", Start::Unknown),
            (b"\x03\x01\x01\0\x01\xf0\0\x01aSELECT 1", Start::Unknown),
            (b"\x03\x01\x01\0\x01\xfd\0\x01a\x30SELECT 1", Start::Cut),
        ];
        for (payload, expected) in table {
            assert_eq!(start(payload, true), expected, "{}", payload.escape_ascii());
            if let Start::At(at) = expected {
                for cut in 0..at {
                    assert_eq!(start(&payload[..cut], true), Start::Cut, "cut at {cut}");
                }
                assert_eq!(start(&payload[..at], true), expected);
            }
        }
        assert_eq!((start(b"\x03", false), start(b"", false)), (Start::At(1), Start::Cut));
    }
}
