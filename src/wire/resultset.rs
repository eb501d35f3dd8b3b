//! Result sets: column count, column definitions, text rows; and the first byte of the request for a local file.
//!
//! Sources: MySQL "Text Resultset", "Column Definition", "LOCAL INFILE Request"; MariaDB "Result set
//! packets". Binary rows are passed on by the relay and not read. [`TextResultSet`] writes a whole answer,
//! for the admin door.

use bytes::BufMut;

use super::capability::Capabilities;
use super::cursor::{Cursor, put_lenenc, put_lenenc_bytes, put_nullable};
use super::frame::write_packet;
use super::reply::{EofPacket, OkPacket};
use super::{Error, Result};

/// First byte of a request for a local file.
pub const LOCAL_INFILE: u8 = 0xfb;

/// Column type of a 64-bit integer.
pub const TYPE_LONGLONG: u8 = 0x08;
/// Column type of a string.
pub const TYPE_VAR_STRING: u8 = 0xfd;

/// Collation `utf8mb4_general_ci`, which MySQL and MariaDB both know.
const UTF8MB4: u16 = 45;
/// Collation `binary`, which numbers have.
const BINARY: u16 = 63;
/// Bytes of the fields of fixed length in a column definition.
const FIXED: u64 = 12;

/// The first packet of a result set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnCount {
    pub columns: u64,
    /// Whether column definitions follow.
    pub metadata_follows: bool,
}

impl ColumnCount {
    /// With either capability servers say behind the count whether definitions follow; MySQL's page has it in front.
    pub fn write(self, out: &mut impl BufMut, capabilities: Capabilities) {
        put_lenenc(out, self.columns);
        let optional = Capabilities::OPTIONAL_RESULTSET_METADATA;
        if capabilities.has(optional) || capabilities.has(Capabilities::MARIADB_CACHE_METADATA) {
            out.put_u8(self.metadata_follows.into());
        }
    }
}

/// ColumnDefinition41. The default value that COM_FIELD_LIST adds is not part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnDefinition<'a> {
    pub catalog: &'a [u8],
    pub schema: &'a [u8],
    /// The table's alias.
    pub table: &'a [u8],
    pub org_table: &'a [u8],
    /// The column's alias.
    pub name: &'a [u8],
    pub org_name: &'a [u8],
    /// MariaDB's extended type information, with EXTENDED_METADATA.
    pub extended: &'a [u8],
    /// Collation id.
    pub charset: u16,
    /// Longest value, in bytes.
    pub length: u32,
    pub kind: u8,
    pub flags: u16,
    pub decimals: u8,
}

impl<'a> ColumnDefinition<'a> {
    /// A column of text that no table stands behind.
    pub fn text(name: &'a str) -> Self {
        Self::plain(name, TYPE_VAR_STRING, UTF8MB4, 1024)
    }

    /// A column of 64-bit integers that no table stands behind.
    pub fn integer(name: &'a str) -> Self {
        Self::plain(name, TYPE_LONGLONG, BINARY, 20)
    }

    pub fn read(payload: &'a [u8], capabilities: Capabilities) -> Result<Self> {
        let mut cursor = Cursor::new(payload);
        let [catalog, schema, table, org_table, name, org_name] = read_names(&mut cursor)?;
        let extended = match capabilities.has(Capabilities::MARIADB_EXTENDED_METADATA) {
            true => cursor.lenenc_bytes("extended type information")?,
            false => &[],
        };
        read_fixed_length(&mut cursor)?;
        let charset = cursor.u16("character set")?;
        let length = cursor.u32("column length")?;
        let kind = cursor.u8("column type")?;
        let flags = cursor.u16("column flags")?;
        let decimals = cursor.u8("decimals")?;
        cursor.take(2, "filler")?;
        cursor.end("column definition")?;
        Ok(Self {
            catalog,
            schema,
            table,
            org_table,
            name,
            org_name,
            extended,
            charset,
            length,
            kind,
            flags,
            decimals,
        })
    }

    pub fn write(&self, out: &mut impl BufMut, capabilities: Capabilities) {
        for text in [self.catalog, self.schema, self.table, self.org_table, self.name, self.org_name] {
            put_lenenc_bytes(out, text);
        }
        if capabilities.has(Capabilities::MARIADB_EXTENDED_METADATA) {
            put_lenenc_bytes(out, self.extended);
        }
        put_lenenc(out, FIXED);
        out.put_u16_le(self.charset);
        out.put_u32_le(self.length);
        out.put_u8(self.kind);
        out.put_u16_le(self.flags);
        out.put_u8(self.decimals);
        out.put_u16_le(0);
    }

    fn plain(name: &'a str, kind: u8, charset: u16, length: u32) -> Self {
        Self { catalog: b"def", name: name.as_bytes(), charset, length, kind, ..Self::default() }
    }
}

fn read_names<'a>(cursor: &mut Cursor<'a>) -> Result<[&'a [u8]; 6]> {
    const FIELDS: [&str; 6] = ["catalog", "schema", "table alias", "table", "column alias", "column"];
    let mut names = [&[][..]; 6];
    for (name, field) in names.iter_mut().zip(FIELDS) {
        *name = cursor.lenenc_bytes(field)?;
    }
    Ok(names)
}

fn read_fixed_length(cursor: &mut Cursor<'_>) -> Result<()> {
    const FIELD: &str = "length of the fixed fields";
    match cursor.lenenc(FIELD)? {
        FIXED => Ok(()),
        found => Err(Error::Unexpected { field: FIELD, expected: "12", found }),
    }
}

/// The values of one text row; `None` is NULL. A malformed one is an error and the last item.
#[derive(Clone, Debug)]
pub struct TextRow<'a>(Cursor<'a>);

impl<'a> TextRow<'a> {
    pub fn new(payload: &'a [u8]) -> Self {
        Self(Cursor::new(payload))
    }
}

impl<'a> Iterator for TextRow<'a> {
    type Item = Result<Option<&'a [u8]>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let value = self.0.nullable("value");
        if value.is_err() {
            self.0.rest();
        }
        Some(value)
    }
}

/// Writes a text result set, frames and all: columns first, then rows, then the end.
#[derive(Debug)]
#[must_use = "a result set has to be ended"]
pub struct TextResultSet<'o> {
    out: &'o mut Vec<u8>,
    sequence: &'o mut u8,
    capabilities: Capabilities,
    /// Server status flags.
    status: u16,
    payload: Vec<u8>,
}

impl<'o> TextResultSet<'o> {
    pub fn begin(
        out: &'o mut Vec<u8>,
        sequence: &'o mut u8,
        capabilities: Capabilities,
        status: u16,
        columns: &[ColumnDefinition<'_>],
    ) -> Self {
        let mut set = Self { out, sequence, capabilities, status, payload: Vec::new() };
        let count = ColumnCount { columns: columns.len() as u64, metadata_follows: true };
        count.write(&mut set.payload, capabilities);
        set.flush();
        for column in columns {
            column.write(&mut set.payload, capabilities);
            set.flush();
        }
        if !capabilities.has(Capabilities::DEPRECATE_EOF) {
            EofPacket { warnings: 0, status }.write(&mut set.payload);
            set.flush();
        }
        set
    }

    /// Writes one row, which must have as many values as there are columns.
    pub fn row<'v>(&mut self, values: impl IntoIterator<Item = Option<&'v [u8]>>) {
        for value in values {
            put_nullable(&mut self.payload, value);
        }
        self.flush();
    }

    pub fn end(mut self) {
        if self.capabilities.has(Capabilities::DEPRECATE_EOF) {
            let ok = OkPacket { status: self.status, ..OkPacket::default() };
            ok.write_as_eof(&mut self.payload, self.capabilities);
        } else {
            EofPacket { warnings: 0, status: self.status }.write(&mut self.payload);
        }
        self.flush();
    }

    fn flush(&mut self) {
        write_packet(self.out, self.sequence, &self.payload);
        self.payload.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::PacketReader;
    use proptest::prelude::*;

    const NONE: Capabilities = Capabilities(0);
    const EXTENDED: Capabilities = Capabilities::MARIADB_EXTENDED_METADATA;
    /// MariaDB 10.11: `d1.t.n decimal(10,2)`.
    const DECIMAL: &[u8] = b"\x03def\x02d1\x01t\x01t\x01n\x01n\x0c?\0\x0c\0\0\0\xf6\0\0\x02\0\0";
    /// MariaDB 10.11 with extended metadata: `d1.t.id int primary key`.
    const KEY: &[u8] = b"\x03def\x02d1\x01t\x01t\x02id\x02id\0\x0c?\0\x0b\0\0\0\x03\x03P\0\0\0";
    /// MariaDB 10.11, framed: the answer to `select 1` with MariaDB's extended flags and EOF.
    const SELECT_1: &[u8] =
        b"\x02\0\0\x01\x01\x01\x18\0\0\x02\x03def\0\0\0\x011\0\0\x0c?\0\x01\0\0\0\x03\x81\0\0\0\0\
        \x05\0\0\x03\xfe\0\0\x02\0\x02\0\0\x04\x011\x05\0\0\x05\xfe\0\0\x02\0";

    #[test]
    fn definitions_are_read_and_written_back() {
        let column = ColumnDefinition::read(DECIMAL, NONE).unwrap();
        assert_eq!((column.schema, column.org_table, column.name), (&b"d1"[..], &b"t"[..], &b"n"[..]));
        assert_eq!((column.kind, column.decimals, column.length), (0xf6, 2, 12));
        let key = ColumnDefinition::read(KEY, EXTENDED).unwrap();
        assert_eq!((key.kind, key.flags), (3, 0x5003));
        for (bytes, capabilities) in [(DECIMAL, NONE), (KEY, EXTENDED)] {
            let mut out = Vec::new();
            ColumnDefinition::read(bytes, capabilities).unwrap().write(&mut out, capabilities);
            assert_eq!(out, bytes);
            for cut in 0..bytes.len() {
                assert!(ColumnDefinition::read(&bytes[..cut], capabilities).is_err(), "cut at {cut}");
            }
        }
        assert!(ColumnDefinition::read(KEY, NONE).is_err(), "the wrong capabilities must not fit");
    }

    #[test]
    fn the_metadata_flag_stands_behind_the_count() {
        let written = |columns, metadata_follows, capabilities| {
            let mut out = Vec::new();
            ColumnCount { columns, metadata_follows }.write(&mut out, capabilities);
            out
        };
        assert_eq!(written(3, true, NONE), b"\x03");
        assert_eq!(written(2, true, Capabilities::MARIADB_CACHE_METADATA), b"\x02\x01");
        assert_eq!(written(2, false, Capabilities::OPTIONAL_RESULTSET_METADATA), b"\x02\x00");
    }

    #[test]
    fn a_written_answer_is_that_of_a_server() {
        let capabilities = EXTENDED | Capabilities::MARIADB_CACHE_METADATA;
        let column = ColumnDefinition {
            catalog: b"def",
            name: b"1",
            charset: 63,
            length: 1,
            kind: 3,
            flags: 0x81,
            ..Default::default()
        };
        let (mut out, mut sequence) = (Vec::new(), 1);
        let mut set = TextResultSet::begin(&mut out, &mut sequence, capabilities, 2, &[column]);
        set.row([Some(&b"1"[..])]);
        set.end();
        assert_eq!(out, SELECT_1);
        assert_eq!(sequence, 6);
    }

    #[test]
    fn without_eof_an_ok_ends_the_rows() {
        let (mut out, mut sequence) = (Vec::new(), 1);
        let columns = [ColumnDefinition::text("id"), ColumnDefinition::integer("sessions")];
        let mut set = TextResultSet::begin(&mut out, &mut sequence, Capabilities::DEPRECATE_EOF, 2, &columns);
        set.row([None, Some(&b"7"[..])]);
        set.end();
        let mut reader = PacketReader::new(1 << 20);
        reader.expect(1);
        reader.push(&out);
        let mut packets = Vec::new();
        while let Some(packet) = reader.take().unwrap() {
            packets.push(packet);
        }
        assert_eq!(packets.len(), 5);
        assert_eq!(ColumnDefinition::read(&packets[2], NONE), Ok(columns[1].clone()));
        assert_eq!(TextRow::new(&packets[3]).collect::<Result<Vec<_>>>(), Ok(vec![None, Some(&b"7"[..])]));
        assert_eq!(packets[4], b"\xfe\0\0\x02\0\0\0");
    }

    proptest! {
        #[test]
        fn rows_come_back(row: Vec<Option<Vec<u8>>>) {
            let mut out = Vec::new();
            row.iter().for_each(|value| put_nullable(&mut out, value.as_deref()));
            let read: Vec<_> = TextRow::new(&out).map(Result::unwrap).collect();
            prop_assert_eq!(read, row.iter().map(|value| value.as_deref()).collect::<Vec<_>>());
        }

        #[test]
        fn noise_never_panics(bytes: Vec<u8>, capabilities: u64) {
            let _ = ColumnDefinition::read(&bytes, Capabilities(capabilities));
            TextRow::new(&bytes).for_each(drop);
        }
    }
}
