//! Reading and writing the protocol's integers and strings, within bounds.
//!
//! Sources: MySQL "Integer Types" and "String Types". A [`Cursor`] walks over one payload; each read names
//! the field it is for, so that an error can say which one was cut. Writers append to any [`BufMut`].

use bytes::BufMut;
use memchr::memchr;

use super::{Error, Result};

/// Marks SQL NULL where a length-encoded integer could stand.
pub const NULL: u8 = 0xfb;

/// A position in one payload. All integers are little-endian.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    left: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn new(payload: &'a [u8]) -> Self {
        Self { left: payload }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.left.len()
    }

    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// The next byte, without reading it.
    pub fn peek(&self) -> Option<u8> {
        self.left.first().copied()
    }

    pub fn u8(&mut self, field: &'static str) -> Result<u8> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    pub fn u16(&mut self, field: &'static str) -> Result<u16> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub fn u32(&mut self, field: &'static str) -> Result<u32> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, field: &'static str) -> Result<u64> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// A length-encoded integer; NULL is an error here.
    pub fn lenenc(&mut self, field: &'static str) -> Result<u64> {
        let Some((value, rest)) = split_lenenc(self.left) else { return Err(self.no_lenenc(field)) };
        self.left = rest;
        Ok(value)
    }

    #[cold]
    fn no_lenenc(&self, field: &'static str) -> Error {
        match self.left {
            [] => Error::Short { field, expected: 1, found: 0 },
            [first, rest @ ..] => match lenenc_width(*first) {
                Some(width) => Error::Short { field, expected: width as u64, found: rest.len() },
                None => {
                    let (expected, found) = ("a length-encoded integer", (*first).into());
                    Error::Unexpected { field, expected, found }
                }
            },
        }
    }

    /// A length-encoded string.
    pub fn lenenc_bytes(&mut self, field: &'static str) -> Result<&'a [u8]> {
        let length = self.lenenc(field)?;
        self.take_u64(length, field)
    }

    /// A length-encoded string or NULL, as in a text row.
    pub fn nullable(&mut self, field: &'static str) -> Result<Option<&'a [u8]>> {
        if self.peek() == Some(NULL) {
            self.u8(field)?;
            return Ok(None);
        }
        self.lenenc_bytes(field).map(Some)
    }

    /// A string that ends with a NUL, which is read but not returned.
    pub fn nul_terminated(&mut self, field: &'static str) -> Result<&'a [u8]> {
        let end = memchr(0, self.left).ok_or(Error::Unterminated { field, found: self.left.len() })?;
        let text = &self.left[..end];
        self.left = &self.left[end + 1..];
        Ok(text)
    }

    pub fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8]> {
        self.take_u64(length as u64, field)
    }

    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N]> {
        let Some((head, tail)) = self.left.split_first_chunk::<N>() else {
            return Err(Error::Short { field, expected: N as u64, found: self.left.len() });
        };
        self.left = tail;
        Ok(*head)
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.left)
    }

    /// Says that the packet ends here.
    pub fn end(self, packet: &'static str) -> Result<()> {
        if self.left.is_empty() { Ok(()) } else { Err(Error::Trailing { packet, found: self.left.len() }) }
    }

    /// Reads the packet's first byte, which must be `expected`.
    pub fn header(&mut self, expected: u8, packet: &'static str) -> Result<()> {
        let found = self.u8(packet)?;
        if found == expected {
            return Ok(());
        }
        Err(Error::Unexpected { field: packet, expected: "its header byte", found: found.into() })
    }

    fn take_u64(&mut self, length: u64, field: &'static str) -> Result<&'a [u8]> {
        let short = Error::Short { field, expected: length, found: self.left.len() };
        let length = usize::try_from(length).map_err(|_| short.clone())?;
        let (head, tail) = self.left.split_at_checked(length).ok_or(short)?;
        self.left = tail;
        Ok(head)
    }
}

/// A length-encoded integer and what follows it, where it is whole and one at all.
#[inline]
pub fn split_lenenc(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let width = match lenenc_width(first)? {
        0 => return Some((first.into(), rest)),
        width => width,
    };
    let (number, rest) = rest.split_at_checked(width)?;
    let mut little = [0; 8];
    little[..width].copy_from_slice(number);
    Some((u64::from_le_bytes(little), rest))
}

/// Bytes behind the first one of a length-encoded integer.
#[inline]
fn lenenc_width(first: u8) -> Option<usize> {
    match first {
        0..NULL => Some(0),
        0xfc => Some(2),
        0xfd => Some(3),
        0xfe => Some(8),
        NULL | 0xff => None,
    }
}

pub fn put_u24(out: &mut impl BufMut, value: u32) {
    debug_assert!(value < 1 << 24);
    out.put_uint_le(u64::from(value), 3);
}

/// Writes a length-encoded integer in its shortest form.
pub fn put_lenenc(out: &mut impl BufMut, value: u64) {
    match value {
        0..=0xfa => out.put_u8(value as u8),
        0xfb..=0xffff => {
            out.put_u8(0xfc);
            out.put_u16_le(value as u16);
        }
        0x1_0000..=0xff_ffff => {
            out.put_u8(0xfd);
            out.put_uint_le(value, 3);
        }
        _ => {
            out.put_u8(0xfe);
            out.put_u64_le(value);
        }
    }
}

pub fn put_lenenc_bytes(out: &mut impl BufMut, bytes: &[u8]) {
    put_lenenc(out, bytes.len() as u64);
    out.put_slice(bytes);
}

/// Writes a length-encoded string, or NULL.
pub fn put_nullable(out: &mut impl BufMut, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => put_lenenc_bytes(out, bytes),
        None => out.put_u8(NULL),
    }
}

/// Writes a string and its NUL. A NUL inside the string would end it early, so the string is cut there.
pub fn put_nul_terminated(out: &mut impl BufMut, text: &[u8]) {
    let end = memchr(0, text).unwrap_or(text.len());
    out.put_slice(&text[..end]);
    out.put_u8(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_are_little_endian() {
        let bytes: Vec<u8> = (1..=18).collect();
        let mut cursor = Cursor::new(&bytes);
        assert_eq!(cursor.u8("a"), Ok(0x01));
        assert_eq!(cursor.u16("b"), Ok(0x0302));
        assert_eq!(cursor.array("c"), Ok([4, 5, 6]));
        assert_eq!(cursor.u32("d"), Ok(0x0a09_0807));
        assert_eq!(cursor.u64("e"), Ok(0x1211_100f_0e0d_0c0b));
        assert_eq!(cursor.end("all"), Ok(()));
    }

    #[test]
    fn an_error_names_the_field_and_both_sizes() {
        let short = Cursor::new(&[1]).u32("thread id");
        assert_eq!(short, Err(Error::Short { field: "thread id", expected: 4, found: 1 }));
        assert_eq!(short.unwrap_err().to_string(), "thread id: expected 4 more bytes, found 1");
        let lying = Cursor::new(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xffx").lenenc_bytes("name");
        assert_eq!(lying, Err(Error::Short { field: "name", expected: u64::MAX, found: 1 }));
        assert_eq!(
            Cursor::new(b"abc").nul_terminated("user"),
            Err(Error::Unterminated { field: "user", found: 3 })
        );
        assert_eq!(Cursor::new(b"ab").end("EOF"), Err(Error::Trailing { packet: "EOF", found: 2 }));
    }

    #[test]
    fn null_and_ff_are_no_integers() {
        for byte in [0xfb, 0xff] {
            assert!(Cursor::new(&[byte, 0, 0]).lenenc("n").is_err());
        }
        assert_eq!(Cursor::new(&[NULL]).nullable("v"), Ok(None));
    }

    proptest! {
        #[test]
        fn length_encoded_integers_come_back(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            let mut out = Vec::new();
            put_lenenc(&mut out, value);
            for cut in 0..out.len() {
                prop_assert!(Cursor::new(&out[..cut]).lenenc("n").is_err());
            }
            let mut cursor = Cursor::new(&out);
            prop_assert_eq!(cursor.lenenc("n"), Ok(value));
            prop_assert!(cursor.is_empty());
        }

        #[test]
        fn strings_come_back(text in "[^\0]{0,300}", value: Option<Vec<u8>>) {
            let mut out = Vec::new();
            put_nul_terminated(&mut out, text.as_bytes());
            put_nullable(&mut out, value.as_deref());
            let mut cursor = Cursor::new(&out);
            prop_assert_eq!(cursor.nul_terminated("text"), Ok(text.as_bytes()));
            prop_assert_eq!(cursor.nullable("value"), Ok(value.as_deref()));
            prop_assert_eq!(cursor.end("all"), Ok(()));
        }
    }
}
