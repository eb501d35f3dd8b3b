//! The frame of MatrixOne's services (`morpc`), around one message of [query](super::query) or [hakeeper](super::hakeeper).
//!
//! ```text
//!   4  length of what follows; all numbers of the frame are big-endian
//!   1  flags: bit 0 a payload, bit 1 a checksum, bit 2 further headers
//!   8  checksum: XXH64, seed 0, of message and payload
//!   4  length of the payload
//!   8  time that is left for the answer, in ns
//!   1  length of the next field
//!      trace: 16 bytes for a trace and 8 for a span, all 0 here
//!      message: protobuf
//!      payload
//! ```
//!
//! A field whose flag is not set is left out. Payloads are read over, and none is written.

use std::time::Duration;

use bytes::{Buf, BufMut};
use prost::Message;
use twox_hash::XxHash64;

/// Bytes of the longest frame that is taken. MatrixOne's own limit is 100 MiB; what a session has prepared fits into less.
pub const FRAME_MAX: usize = 16 << 20;

const PAYLOAD: u8 = 1;
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
    if flags & !(PAYLOAD | CHECKSUM | HEADERS) != 0 {
        return Err(Error::Flags { found: flags });
    }
    let checksum = match flags & CHECKSUM {
        0 => None,
        _ => Some(frame.try_get_u64().map_err(|_| short("checksum"))?),
    };
    let payload = match flags & PAYLOAD {
        0 => 0,
        _ => frame.try_get_u32().map_err(|_| short("payload's length"))? as usize,
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
    let message = frame.len().checked_sub(payload).ok_or(short("payload"))?;
    Ok(Some(M::decode(&frame[..message])?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::matrixone::query::{Import, Prepared, Request, Response};
    use proptest::prelude::*;

    fn framed(message: &impl Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, Duration::from_secs(3), message);
        bytes
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
            (b"\0\0\0\x03\x01\0\0", Error::Short { field: "payload's length" }),
            (b"\0\0\0\x06\x01\0\0\0\x02\x08", Error::Short { field: "payload" }),
            (b"\0\0\0\x01\x0e", Error::Flags { found: 0x0e }),
        ] {
            assert_eq!(read::<Response>(frame), Err(error));
        }
        assert_eq!(read::<Response>(b"\0\0\0\x01\x20"), Ok(Some((None, 5))), "a ping");
    }

    #[test]
    fn a_payload_is_read_over() {
        let body = b"\x08\x07\x10\x0dpayload";
        let mut bytes = vec![0, 0, 0, (1 + 8 + 4 + body.len()) as u8, PAYLOAD | CHECKSUM];
        bytes.put_u64(XxHash64::oneshot(0, body));
        bytes.put_u32(7);
        bytes.put_slice(body);
        let response = Response { id: 7, method: 13, ..Response::default() };
        assert_eq!(read(&bytes), Ok(Some((Some(response), bytes.len()))));
        *bytes.last_mut().unwrap() ^= 1;
        assert_eq!(read::<Response>(&bytes), Err(Error::Checksum));
    }

    proptest! {
        #[test]
        fn noise_never_panics(bytes: Vec<u8>) {
            let _ = read::<Response>(&bytes);
            let _ = read::<Response>(&[&(bytes.len() as u32).to_be_bytes()[..], &bytes].concat());
        }
    }
}
