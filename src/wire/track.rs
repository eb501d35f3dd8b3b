//! Session state changes: what a statement did to the session, as the server tells it in an OK.
//!
//! Sources: MySQL "Session State Information", MariaDB "OK_Packet: session state info". A change of a kind
//! that is not known is handed on as such, so that whoever relies on the list can tell that it is not
//! complete.

use bytes::BufMut;

use super::Result;
use super::cursor::{Cursor, put_lenenc_bytes};

/// The changes of one OK, not yet taken apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes<'a>(pub &'a [u8]);

impl<'a> Changes<'a> {
    /// Each change, without allocation. A malformed one is an error and the last item.
    pub fn iter(self) -> ChangeIter<'a> {
        ChangeIter { entries: Cursor::new(self.0), variables: Cursor::new(&[]) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    SystemVariable {
        name: &'a [u8],
        value: &'a [u8],
    },
    /// The default database is another one; empty for none.
    Schema(&'a [u8]),
    /// Something of the session's state changed: `1`.
    State(&'a [u8]),
    /// The GTIDs of the session's commits, after the byte that says how they are encoded.
    Gtids {
        encoding: u8,
        gtids: &'a [u8],
    },
    /// SQL that would set the same characteristics and start the same transaction again.
    TransactionCharacteristics(&'a [u8]),
    /// Eight letters, `_` where nothing applies: transaction, reads and writes of two kinds, unsafe
    /// statements, sent rows, locked tables.
    TransactionState(&'a [u8]),
    Unknown {
        kind: u8,
        data: &'a [u8],
    },
}

impl Change<'_> {
    pub fn write(&self, out: &mut impl BufMut) {
        let mut data = Vec::new();
        let kind = match *self {
            Self::SystemVariable { name, value } => {
                put_lenenc_bytes(&mut data, name);
                put_lenenc_bytes(&mut data, value);
                SYSTEM_VARIABLES
            }
            Self::Schema(name) => text(&mut data, name, SCHEMA),
            Self::State(flag) => text(&mut data, flag, STATE),
            Self::Gtids { encoding, gtids } => {
                data.push(encoding);
                text(&mut data, gtids, GTIDS)
            }
            Self::TransactionCharacteristics(sql) => text(&mut data, sql, CHARACTERISTICS),
            Self::TransactionState(letters) => text(&mut data, letters, TRANSACTION),
            Self::Unknown { kind, data: bytes } => {
                data.extend_from_slice(bytes);
                kind
            }
        };
        out.put_u8(kind);
        put_lenenc_bytes(out, &data);
    }
}

#[derive(Clone, Debug)]
pub struct ChangeIter<'a> {
    entries: Cursor<'a>,
    /// What is left of an entry of system variables: MariaDB may put several into one.
    variables: Cursor<'a>,
}

impl<'a> Iterator for ChangeIter<'a> {
    type Item = Result<Change<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let change = if !self.variables.is_empty() {
            self.variable()
        } else if !self.entries.is_empty() {
            self.entry()
        } else {
            return None;
        };
        if change.is_err() {
            self.entries.rest();
            self.variables.rest();
        }
        Some(change)
    }
}

impl<'a> ChangeIter<'a> {
    fn entry(&mut self) -> Result<Change<'a>> {
        let kind = self.entries.u8("kind of change")?;
        let data = self.entries.lenenc_bytes("change")?;
        let mut cursor = Cursor::new(data);
        let change = match kind {
            SYSTEM_VARIABLES => {
                self.variables = cursor;
                return self.variable();
            }
            SCHEMA => Change::Schema(cursor.lenenc_bytes("schema")?),
            STATE => Change::State(read_flag(&mut cursor)),
            GTIDS => {
                let encoding = cursor.u8("GTID encoding")?;
                Change::Gtids { encoding, gtids: cursor.lenenc_bytes("GTIDs")? }
            }
            CHARACTERISTICS => {
                Change::TransactionCharacteristics(cursor.lenenc_bytes("transaction characteristics")?)
            }
            TRANSACTION => Change::TransactionState(cursor.lenenc_bytes("transaction state")?),
            kind => Change::Unknown { kind, data: cursor.rest() },
        };
        cursor.end("change")?;
        Ok(change)
    }

    fn variable(&mut self) -> Result<Change<'a>> {
        let name = self.variables.lenenc_bytes("system variable")?;
        Ok(Change::SystemVariable { name, value: self.variables.lenenc_bytes("value of a system variable")? })
    }
}

const SYSTEM_VARIABLES: u8 = 0;
const SCHEMA: u8 = 1;
const STATE: u8 = 2;
const GTIDS: u8 = 3;
const CHARACTERISTICS: u8 = 4;
const TRANSACTION: u8 = 5;

/// The flag of a state change comes with its length by the protocol's page, but bare from real servers.
fn read_flag<'a>(cursor: &mut Cursor<'a>) -> &'a [u8] {
    let mut ahead = *cursor;
    match ahead.lenenc_bytes("state") {
        Ok(flag) if ahead.is_empty() => {
            cursor.rest();
            flag
        }
        _ => cursor.rest(),
    }
}

fn text(data: &mut Vec<u8>, bytes: &[u8], kind: u8) -> u8 {
    if kind == STATE {
        data.extend_from_slice(bytes)
    } else {
        put_lenenc_bytes(data, bytes)
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// MariaDB 10.11: `set names latin1`, all variables tracked.
    const SET_NAMES: &[u8] =
        b"\0 \x18character_set_connection\x06latin1\0\x1c\x14character_set_client\x06latin1\
        \0\x1d\x15character_set_results\x06latin1\x02\x011";
    /// MariaDB 10.11: `begin`, transactions tracked.
    const BEGIN: &[u8] = b"\x05\x09\x08T_______\x04\x13\x12START TRANSACTION;";

    #[test]
    fn changes_of_real_servers_are_read() {
        let changes: Vec<_> = Changes(SET_NAMES).iter().map(Result::unwrap).collect();
        assert_eq!(changes[1], Change::SystemVariable { name: b"character_set_client", value: b"latin1" });
        assert_eq!(changes[3], Change::State(b"1"));
        assert_eq!(changes.len(), 4);
        let changes: Vec<_> = Changes(BEGIN).iter().map(Result::unwrap).collect();
        assert_eq!(changes[0], Change::TransactionState(b"T_______"));
        assert_eq!(changes[1], Change::TransactionCharacteristics(b"START TRANSACTION;"));
    }

    #[test]
    fn several_variables_may_share_an_entry() {
        let changes: Vec<_> = Changes(b"\0\x08\x01a\x01b\x01c\x01d").iter().map(Result::unwrap).collect();
        assert_eq!(changes[1], Change::SystemVariable { name: b"c", value: b"d" });
        assert_eq!(changes.len(), 2);
    }

    #[test]
    fn mysql_gtids_are_read() {
        let changes: Vec<_> = Changes(b"\x03\x07\0\x05u:1-2").iter().collect();
        assert_eq!(changes, [Ok(Change::Gtids { encoding: 0, gtids: b"u:1-2" })]);
    }

    #[test]
    fn a_truncation_is_an_error_or_a_shorter_list() {
        for bytes in [SET_NAMES, BEGIN] {
            let whole = Changes(bytes).iter().count();
            for cut in 0..bytes.len() {
                let list: Vec<_> = Changes(&bytes[..cut]).iter().collect();
                assert!(list.last().is_some_and(Result::is_err) || list.len() < whole, "cut at {cut}");
            }
        }
    }

    proptest! {
        #[test]
        fn changes_come_back(name: Vec<u8>, value: Vec<u8>, encoding: u8) {
            let changes = [
                Change::SystemVariable { name: &name, value: &value },
                Change::Schema(&name),
                Change::State(b"1"),
                Change::Gtids { encoding, gtids: &value },
                Change::TransactionCharacteristics(&value),
                Change::TransactionState(&name),
                Change::Unknown { kind: 77, data: &value },
            ];
            let mut out = Vec::new();
            changes.iter().for_each(|change| change.write(&mut out));
            let read: Result<Vec<_>> = Changes(&out).iter().collect();
            prop_assert_eq!(read, Ok(changes.to_vec()));
        }

        #[test]
        fn noise_never_panics(bytes: Vec<u8>) {
            Changes(&bytes).iter().for_each(drop);
        }
    }
}
