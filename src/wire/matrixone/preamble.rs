//! The preamble that a proxy sends a MatrixOne CN right after it has connected, before it reads anything.
//!
//! ```text
//!   2  length of what follows, little-endian
//!      protobuf, fields in ascending order, none where it is its type's default:
//!   1  bytes                salt          20 bytes, which the CN puts into its greeting
//!   2  bool                 internal      for the CN's statistics
//!   3  uint32               connection id the CN's own for this connection from now on
//!   4  map<string, string>  labels        with `account`, the tenant
//!   5  string               client        `ip:port`
//! ```
//!
//! The CN does not answer it; it goes on with its greeting. It waits for a preamble only if it is told to (`proxy-enabled`), and
//! then for 200 ms, and it loses whatever follows the preamble before its greeting. A CN of another flavour takes these bytes for a
//! packet out of order, so they must never be sent to one.
//!
//! This is the format since MatrixOne 1.2.0, of 2024-05. Those before are not spoken: up to 0.8 the bare salt and then the labels; in
//! 1.0 salt, internal flag and labels in one packet; in 1.1 the same behind a version of three numbers, with the connection id.

use std::collections::BTreeMap;

use bytes::BufMut;
use prost::Message;

use crate::wire::greeting::SALT;
use crate::wire::{Error, Result};

/// Bytes of the longest preamble, behind its length.
pub const PREAMBLE_MAX: usize = u16::MAX as usize;

/// What the CN is told of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// What the client answers with its password, and so what the CN has to check its answer by.
    pub salt: [u8; SALT],
    pub internal: bool,
    /// The id that the client was told. Never 0: the CN would take that too.
    pub connection_id: u32,
    pub labels: BTreeMap<String, String>,
    /// `ip:port`.
    pub client: String,
}

#[derive(Clone, PartialEq, Message)]
struct Fields {
    #[prost(bytes = "vec", tag = "1")]
    salt: Vec<u8>,
    #[prost(bool, tag = "2")]
    internal: bool,
    #[prost(uint32, tag = "3")]
    connection_id: u32,
    #[prost(btree_map = "string, string", tag = "4")]
    labels: BTreeMap<String, String>,
    #[prost(string, tag = "5")]
    client: String,
}

impl Preamble {
    /// Appends the whole preamble.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for labels that do not fit.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        let fields = Fields {
            salt: self.salt.to_vec(),
            internal: self.internal,
            connection_id: self.connection_id,
            labels: self.labels.clone(),
            client: self.client.clone(),
        };
        let length = fields.encoded_len();
        let too_large = Error::TooLarge { field: "preamble", limit: PREAMBLE_MAX, found: length };
        out.put_u16_le(u16::try_from(length).map_err(|_| too_large)?);
        out.put_slice(&fields.encode_to_vec());
        Ok(())
    }

    /// Reads what follows the length.
    ///
    /// # Errors
    /// It is no such message, or its salt has another length.
    pub fn read(fields: &[u8]) -> Result<Self> {
        let fields = Fields::decode(fields).map_err(|_| Error::Unexpected {
            field: "preamble",
            expected: "a protobuf message of its fields",
            found: fields.len() as u64,
        })?;
        let found = fields.salt.len() as u64;
        let salt = fields.salt.try_into();
        Ok(Self {
            salt: salt.map_err(|_| Error::Unexpected { field: "salt", expected: "20 bytes", found })?,
            internal: fields.internal,
            connection_id: fields.connection_id,
            labels: fields.labels,
            client: fields.client,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Preamble {
        Preamble {
            salt: std::array::from_fn(|at| at as u8 + 1),
            internal: true,
            connection_id: 1001,
            labels: BTreeMap::from([("account".to_owned(), "acc1".to_owned())]),
            client: "10.0.0.7:51234".to_owned(),
        }
    }

    /// As MatrixOne 1.2.0 to 4.2.0 write and read it.
    #[test]
    fn the_bytes_are_those_of_matrixones_proxy() {
        let mut bytes = Vec::new();
        example().write(&mut bytes).unwrap();
        let expected = b"\x3c\x00\
            \x0a\x14\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\
            \x10\x01\x18\xe9\x07\
            \x22\x0f\x0a\x07account\x12\x04acc1\
            \x2a\x0e10.0.0.7:51234";
        assert_eq!(bytes, expected);
        assert_eq!(bytes.len(), 62);
        assert_eq!(Preamble::read(&bytes[2..]), Ok(example()));
    }

    #[test]
    fn defaults_are_left_out() {
        let mut bytes = Vec::new();
        let preamble = Preamble {
            internal: false,
            connection_id: u32::MAX,
            labels: BTreeMap::new(),
            client: String::new(),
            ..example()
        };
        preamble.write(&mut bytes).unwrap();
        assert_eq!(bytes[..4], [28, 0, 0x0a, 0x14]);
        assert_eq!(bytes[24..], [0x18, 0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(Preamble::read(&bytes[2..]), Ok(preamble));
    }

    #[test]
    fn labels_that_do_not_fit_are_an_error() {
        let labels = BTreeMap::from([("k".to_owned(), "v".repeat(PREAMBLE_MAX))]);
        let error = Preamble { labels, ..example() }.write(&mut Vec::new()).unwrap_err();
        assert!(error.to_string().starts_with("preamble: expected at most 65535 bytes"), "{error}");
    }

    #[test]
    fn noise_is_an_error() {
        assert!(Preamble::read(b"\x0a\x03abc").unwrap_err().to_string().contains("20 bytes"));
        assert!(Preamble::read(b"\x0a\x14abc").is_err());
    }
}
