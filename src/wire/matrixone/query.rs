//! The query service of a MatrixOne CN, as far as a proxy needs it: what a session has that its SQL connection does not tell, and
//! giving it to another CN.
//!
//! ```text
//!   4  length of what follows; all numbers of the frame are big-endian
//!   1  flags: bit 1 a checksum, bit 2 further headers
//!   8  checksum: XXH64, seed 0, of the message
//!   8  time that is left for the answer, in ns
//!   1  length of the next field
//!      trace: 16 bytes for a trace and 8 for a span, all 0 here
//!      message: protobuf
//! ```
//!
//! A request has an id, and its answer has the same. There is no authentication. Both messages have grown with MatrixOne's versions:
//! what a CN says beyond what is read here is state of the session that would be lost, so [`Response::session`] tells whether there is
//! any, and a CN is asked for its [version](VERSIONS) first.
//!
//! Texts are bytes here, because a statement is kept in the character set that it came in.

use std::time::Duration;

use bytes::{Buf, BufMut};
use prost::Message;
use twox_hash::XxHash64;

/// Bytes of the longest frame that is taken. MatrixOne's own limit is 100 MiB; what a session has prepared fits into less.
pub const FRAME_MAX: usize = 16 << 20;

/// Versions of the protocol whose messages are those of this page: MatrixOne 1.2.0 to 4.1.x.
pub const VERSIONS: std::ops::RangeInclusive<i64> = 1..=4;

const CHECKSUM: u8 = 1 << 1;
const HEADERS: u8 = 1 << 2;
const PING: u8 = 1 << 5;
const PONG: u8 = 1 << 6;

/// A trace that nobody follows.
const TRACE: [u8; 24] = [0; 24];

/// What was wrong with a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("a frame of {found} bytes, at most {FRAME_MAX} are taken")]
    TooLong { found: usize },
    #[error("a frame that ends within its {field}")]
    Short { field: &'static str },
    #[error("a frame of another form, by its flags {found:#04x}")]
    Flags { found: u8 },
    #[error("a frame whose checksum is wrong")]
    Checksum,
    #[error("a message that cannot be read: {0}")]
    Message(String),
}

impl From<prost::DecodeError> for Error {
    fn from(error: prost::DecodeError) -> Self {
        Self::Message(error.to_string())
    }
}

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

/// Appends a frame; `left` is the time for the answer.
pub fn write(out: &mut Vec<u8>, left: Duration, message: &impl Message) {
    let body = message.encode_to_vec();
    let length = 1 + 8 + 8 + 1 + TRACE.len() + body.len();
    out.put_u32(u32::try_from(length).expect("what a session has is bounded"));
    out.put_u8(CHECKSUM | HEADERS);
    out.put_u64(XxHash64::oneshot(0, &body));
    out.put_i64(i64::try_from(left.as_nanos()).unwrap_or(i64::MAX));
    out.put_u8(TRACE.len() as u8);
    out.put_slice(&TRACE);
    out.put_slice(&body);
}

/// The message of the frame that `bytes` begin with, none for a sign of life, and how many bytes it takes. None as long as it is not
/// all there.
///
/// # Errors
/// It is no frame of this form, and nothing behind it can be read either.
pub fn read<M: Message + Default>(bytes: &[u8]) -> Result<Option<(Option<M>, usize)>, Error> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let found = u32::from_be_bytes(*length) as usize;
    if found > FRAME_MAX {
        return Err(Error::TooLong { found });
    }
    let Some(frame) = rest.get(..found) else { return Ok(None) };
    Ok(Some((read_frame(frame)?, 4 + found)))
}

fn read_frame<M: Message + Default>(mut frame: &[u8]) -> Result<Option<M>, Error> {
    let short = |field| Error::Short { field };
    let flags = frame.try_get_u8().map_err(|_| short("flags"))?;
    if flags & (PING | PONG) != 0 {
        return Ok(None);
    }
    if flags & !(CHECKSUM | HEADERS) != 0 {
        return Err(Error::Flags { found: flags });
    }
    let checksum = match flags & CHECKSUM {
        0 => None,
        _ => Some(frame.try_get_u64().map_err(|_| short("checksum"))?),
    };
    if flags & HEADERS != 0 {
        frame.try_get_i64().map_err(|_| short("deadline"))?;
        let trace = usize::from(frame.try_get_u8().map_err(|_| short("trace"))?);
        frame = frame.get(trace..).ok_or(short("trace"))?;
    }
    // Of a message without a byte no checksum is written.
    if checksum.is_some_and(|sum| !frame.is_empty() && sum != XxHash64::oneshot(0, frame)) {
        return Err(Error::Checksum);
    }
    Ok(Some(M::decode(frame)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(message: &impl Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, Duration::from_secs(3), message);
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
    fn what_is_written_is_read_whatever_the_cut() {
        let statements =
            vec![Prepared { name: Prepared::name_of(3), text: b"select \xff".to_vec(), types: vec![8, 0] }];
        let import = Import { connection_id: 9, schema: b"db".to_vec(), statements };
        let request = Request::import(1, import);
        let bytes = framed(&request);
        for cut in 0..bytes.len() {
            assert_eq!(read::<Request>(&bytes[..cut]), Ok(None), "cut at {cut}");
        }
        let more = [&bytes[..], b"more"].concat();
        assert_eq!(read(&more), Ok(Some((Some(request), bytes.len()))));
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

    #[test]
    fn a_frame_of_another_form_is_an_error() {
        let mut bytes = framed(&Request::version(1));
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert_eq!(read::<Request>(&bytes), Err(Error::Checksum));
        for (frame, error) in [
            (&b"\x7f\xff\xff\xff"[..], Error::TooLong { found: 0x7fff_ffff }),
            (b"\0\0\0\0", Error::Short { field: "flags" }),
            (b"\0\0\0\x01\x06", Error::Short { field: "checksum" }),
            (b"\0\0\0\x0a\x04\0\0\0\0\0\0\0\0\x05", Error::Short { field: "trace" }),
            (b"\0\0\0\x01\x0e", Error::Flags { found: 0x0e }),
        ] {
            assert_eq!(read::<Response>(frame), Err(error));
        }
        assert_eq!(read::<Response>(b"\0\0\0\x01\x20"), Ok(Some((None, 5))), "a ping");
    }

    proptest! {
        #[test]
        fn noise_never_panics(bytes: Vec<u8>) {
            let _ = read::<Response>(&bytes);
            let _ = read::<Response>(&[&(bytes.len() as u32).to_be_bytes()[..], &bytes].concat());
            let _ = Response { exported: Some(bytes.clone()), error: bytes, ..Response::default() }.session();
        }
    }
}
