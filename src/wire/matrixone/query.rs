//! The query service of a MatrixOne CN, as far as a proxy needs it: what a session has that its SQL connection does not tell, and
//! giving it to another CN. Each message is in a [frame](super::frame).
//!
//! A request has an id, and its answer has the same. There is no authentication. Both messages have grown with MatrixOne's versions:
//! what a CN says beyond what is read here is state of the session that would be lost, so [`Response::session`] tells whether there is
//! any, and a CN is asked for its [version](VERSIONS) first.
//!
//! Texts are bytes here, because a statement is kept in the character set that it came in.

use prost::Message;

use super::frame::Error;

/// Versions of the protocol whose messages are those of this page: MatrixOne 1.2.0 to 4.1.x.
pub const VERSIONS: std::ops::RangeInclusive<i64> = 1..=4;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Method {
    Query = 0,
    ProtocolVersion = 10,
    Export = 20,
    Import = 21,
}

#[derive(Clone, PartialEq, Message)]
pub struct Request {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(enumeration = "Method", tag = "2")]
    pub method: i32,
    #[prost(message, optional, tag = "13")]
    pub version: Option<Nothing>,
    #[prost(message, optional, tag = "23")]
    pub export: Option<Export>,
    #[prost(message, optional, tag = "24")]
    pub import: Option<Import>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Response {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(enumeration = "Method", tag = "2")]
    pub method: i32,
    /// A [`Failure`], or nothing.
    #[prost(bytes = "vec", tag = "3")]
    pub error: Vec<u8>,
    #[prost(message, optional, tag = "13")]
    pub version: Option<Version>,
    /// An [`Exported`].
    #[prost(bytes = "vec", optional, tag = "23")]
    pub exported: Option<Vec<u8>>,
    #[prost(message, optional, tag = "24")]
    pub imported: Option<Imported>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Nothing {}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Version {
    #[prost(int64, tag = "1")]
    pub version: i64,
}

/// Why a CN could not do what it was asked.
#[derive(Clone, PartialEq, Message)]
pub struct Failure {
    #[prost(uint32, tag = "1")]
    pub code: u32,
    #[prost(string, tag = "3")]
    pub message: String,
}

/// Asks for what a session has; nothing changes there.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Export {
    #[prost(uint32, tag = "1")]
    pub connection_id: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Exported {
    #[prost(bytes = "vec", tag = "1")]
    pub schema: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    pub statements: Vec<Prepared>,
}

/// A prepared statement. One of the protocol's own is named by its id.
#[derive(Clone, PartialEq, Message)]
pub struct Prepared {
    #[prost(bytes = "vec", tag = "1")]
    pub name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub text: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub types: Vec<u8>,
}

/// Gives a session what another had. A CN takes it once for a connection, and does nothing the next time.
#[derive(Clone, PartialEq, Message)]
pub struct Import {
    #[prost(uint32, tag = "1")]
    pub connection_id: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub schema: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    pub statements: Vec<Prepared>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Imported {
    #[prost(bool, tag = "1")]
    pub success: bool,
}

impl Request {
    pub fn version(id: u64) -> Self {
        Self { id, method: Method::ProtocolVersion.into(), version: Some(Nothing {}), ..Self::default() }
    }

    pub fn export(id: u64, connection_id: u32) -> Self {
        Self { id, method: Method::Export.into(), export: Some(Export { connection_id }), ..Self::default() }
    }

    pub fn import(id: u64, import: Import) -> Self {
        Self { id, method: Method::Import.into(), import: Some(import), ..Self::default() }
    }
}

impl Response {
    /// Why the CN could not do it, if it could not.
    pub fn failure(&self) -> Option<Failure> {
        if self.error.is_empty() {
            return None;
        }
        let unreadable =
            || Failure { code: 0, message: String::from_utf8_lossy(&self.error).escape_debug().to_string() };
        Some(Failure::decode(&self.error[..]).unwrap_or_else(|_| unreadable()))
    }

    /// What a session has, and whether that is all that the CN has told of it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn session(&self) -> Result<Option<(Exported, bool)>, Error> {
        let Some(bytes) = &self.exported else { return Ok(None) };
        let exported = Exported::decode(&bytes[..])?;
        let whole = exported.encoded_len() == bytes.len();
        Ok(Some((exported, whole)))
    }
}

impl Prepared {
    /// The name that the protocol's own statement has by its id.
    pub fn name_of(id: u32) -> Vec<u8> {
        format!("__mo_stmt_id_{id}").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::matrixone::frame;
    use proptest::prelude::*;
    use std::time::Duration;
    use twox_hash::XxHash64;

    fn framed(message: &impl Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, Duration::from_secs(3), message);
        bytes
    }

    #[test]
    fn a_request_is_laid_out_as_told() {
        let bytes = framed(&Request::export(7, 1001));
        let body = b"\x08\x07\x10\x14\xba\x01\x03\x08\xe9\x07";
        assert_eq!(bytes[..4], [0, 0, 0, 42 + 10]);
        assert_eq!(bytes[4], 6);
        assert_eq!(bytes[5..13], XxHash64::oneshot(0, body).to_be_bytes());
        assert_eq!(bytes[13..21], 3_000_000_000i64.to_be_bytes());
        assert_eq!((bytes[21], &bytes[22..46]), (24, &[0; 24][..]));
        assert_eq!(&bytes[46..], body);
    }

    #[test]
    fn state_that_is_not_known_here_is_seen() {
        let known = Exported { schema: b"db".to_vec(), statements: Vec::new() };
        let tell = |bytes: Vec<u8>| Response { exported: Some(bytes), ..Response::default() }.session();
        assert_eq!(tell(known.encode_to_vec()), Ok(Some((known.clone(), true))));
        // LastAffectedRows, of MatrixOne 4.2.
        let more = [&known.encode_to_vec()[..], b"\x18\x01"].concat();
        assert_eq!(tell(more), Ok(Some((known, false))));
        assert_eq!(Response::default().session(), Ok(None));
    }

    #[test]
    fn a_failure_tells_its_words() {
        let failure = Failure { code: 20101, message: "internal error: cannot get routine".into() };
        let response = Response { error: failure.encode_to_vec(), ..Response::default() };
        assert_eq!(response.failure(), Some(failure));
        let odd = Response { error: b"\xffx".to_vec(), ..Response::default() };
        assert_eq!(odd.failure().unwrap().message, "\u{fffd}x");
        assert_eq!(Response::default().failure(), None);
    }

    proptest! {
        #[test]
        fn noise_never_panics(bytes: Vec<u8>) {
            let _ = Response { exported: Some(bytes.clone()), error: bytes, ..Response::default() }.session();
        }
    }
}
