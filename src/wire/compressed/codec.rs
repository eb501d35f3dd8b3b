//! The two algorithms by which the content of a frame is packed: zlib and zstd.
//!
//! Every frame is packed by itself, so nothing has to be remembered from one to the next, and the contexts (a quarter of a MiB for
//! deflating, more for zstd) belong to the thread and not to the session: an idle session costs none, a busy worker makes each once.
//!
//! What is packed or unpacked as it comes has a context of its own for as long ([`Packer`], [`Unpacker`]).
//!
//! Invariant: unpacking writes no byte more than was declared, and one to notice that there are more.

use std::cell::RefCell;
use std::io::Write;

use flate2::write::ZlibEncoder;
use flate2::{Compress, Compression, Decompress, DecompressError, FlushCompress, FlushDecompress, Status};
use zstd::bulk::{Compressor, Decompressor};
use zstd::stream::raw::{DParameter, Decoder, Operation};
use zstd::stream::write::Encoder;
use zstd::zstd_safe;

use super::FrameError;

/// How content is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    Zlib,
    Zstd,
}

/// An algorithm, and how much work is spent on it: 1 to 9 for zlib, 1 to 22 for zstd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Packing {
    pub algorithm: Algorithm,
    pub level: u8,
}

/// A thread's contexts, each made when it is first needed. Those for packing stand with their level.
#[derive(Default)]
struct Contexts {
    deflate: Option<(u8, Compress)>,
    inflate: Option<Decompress>,
    zstd: Option<(u8, Compressor<'static>)>,
    unzstd: Option<Decompressor<'static>>,
}

thread_local! {
    static CONTEXTS: RefCell<Contexts> = RefCell::default();
}

/// Content that is packed as it comes, behind what was in a buffer. It may become longer, by an eighth at most.
pub enum Packer {
    Zlib(Box<ZlibEncoder<Vec<u8>>>),
    Zstd(Box<Encoder<'static, Vec<u8>>>),
}

impl Packer {
    /// # Errors
    /// There is no memory for its context.
    pub fn new(packing: Packing, out: Vec<u8>) -> std::io::Result<Self> {
        Ok(match packing.algorithm {
            Algorithm::Zlib => {
                Self::Zlib(Box::new(ZlibEncoder::new(out, Compression::new(packing.level.into()))))
            }
            Algorithm::Zstd => Self::Zstd(Box::new(Encoder::new(out, packing.level.into())?)),
        })
    }

    /// # Errors
    /// The library cannot go on.
    pub fn push(&mut self, plain: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Zlib(encoder) => encoder.write_all(plain),
            Self::Zstd(encoder) => encoder.write_all(plain),
        }
    }

    /// The buffer with all of it.
    ///
    /// # Errors
    /// The library cannot go on.
    pub fn finish(self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Zlib(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

/// Content that is unpacked as it comes.
pub enum Unpacker {
    Zlib(Box<Decompress>),
    Zstd(Box<Decoder<'static>>),
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Zlib(_) => "zlib",
            Self::Zstd(_) => "zstd",
        })
    }
}

/// What one call has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub read: usize,
    pub written: usize,
    /// The content is whole.
    pub ended: bool,
}

/// The largest window that zstd's own programs make, as the logarithm of its size. What of it is used is bounded by what a frame holds.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Bytes that zlib looks back.
const ZLIB_WINDOW: usize = 32 << 10;

impl Unpacker {
    /// Bytes at the front of some content that tell how large a window it needs.
    pub const FRONT: usize = 18;

    /// # Errors
    /// There is no memory for its context.
    pub fn new(algorithm: Algorithm) -> Result<Self, FrameError> {
        Ok(match algorithm {
            Algorithm::Zlib => Self::Zlib(Box::new(Decompress::new(true))),
            Algorithm::Zstd => {
                let mut decoder = Decoder::new().map_err(broken)?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).map_err(broken)?;
                Self::Zstd(Box::new(decoder))
            }
        })
    }

    /// How many bytes it has to remember for content that begins so (RFC 8878, 3.1.1.1.2: the window, or, of a single segment, all). Of
    /// no importance where it is none of zstd's.
    pub fn window(algorithm: Algorithm, front: &[u8]) -> usize {
        let &[_, _, _, _, descriptor, window, ..] = front else { return 0 };
        if algorithm == Algorithm::Zlib {
            return ZLIB_WINDOW;
        }
        if descriptor & 0x20 != 0 {
            let all = zstd_safe::get_frame_content_size(front).ok().flatten().unwrap_or(0);
            return usize::try_from(all).unwrap_or(usize::MAX);
        }
        let base = 1_usize << (10 + (window >> 3));
        base + base / 8 * usize::from(window & 7)
    }

    /// Goes on as far as it can.
    ///
    /// # Errors
    /// The content is broken.
    pub fn step(&mut self, packed: &[u8], room: &mut [u8]) -> Result<Step, FrameError> {
        match self {
            Self::Zlib(context) => {
                let before = (context.total_in(), context.total_out());
                let status = context.decompress(packed, room, FlushDecompress::None).map_err(no_deflate)?;
                Ok(Step {
                    read: (context.total_in() - before.0) as usize,
                    written: (context.total_out() - before.1) as usize,
                    ended: status == Status::StreamEnd,
                })
            }
            Self::Zstd(decoder) => {
                let status = decoder.run_on_buffers(packed, room).map_err(broken)?;
                Ok(Step {
                    read: status.bytes_read,
                    written: status.bytes_written,
                    ended: status.remaining == 0,
                })
            }
        }
    }
}

/// Without the library's own words, which depend on how the content is cut.
fn no_deflate(_: DecompressError) -> FrameError {
    FrameError::Broken("its deflate stream is broken".to_owned())
}

fn broken(error: std::io::Error) -> FrameError {
    FrameError::Broken(error.to_string())
}

/// Appends `plain` packed; false, and nothing is appended, if that would be no shorter.
pub fn pack(packing: Packing, plain: &[u8], out: &mut Vec<u8>) -> bool {
    let begin = out.len();
    out.resize(begin + plain.len().saturating_sub(1), 0);
    let packed = CONTEXTS.with_borrow_mut(|contexts| {
        let room = &mut out[begin..];
        match packing.algorithm {
            Algorithm::Zlib => contexts.deflate(packing.level, plain, room),
            Algorithm::Zstd => contexts.zstd(packing.level, plain, room),
        }
    });
    out.truncate(begin + packed.unwrap_or(0));
    packed.is_some()
}

/// Appends the content of `packed`, which is said to be `declared` bytes.
///
/// # Errors
/// It is not, or cannot be unpacked. What has been appended then is of no use.
pub fn unpack(
    algorithm: Algorithm,
    packed: &[u8],
    declared: usize,
    plain: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let begin = plain.len();
    plain.resize(begin + declared + 1, 0);
    let found = CONTEXTS.with_borrow_mut(|contexts| {
        let room = &mut plain[begin..];
        match algorithm {
            Algorithm::Zlib => contexts.inflate(packed, room),
            Algorithm::Zstd => contexts.unzstd(packed, room),
        }
    })?;
    plain.truncate(begin + found);
    if found < declared { Err(FrameError::Shorter { declared, found }) } else { Ok(()) }
}

impl Contexts {
    /// How many bytes of `room` it takes; none if it does not fit.
    fn deflate(&mut self, level: u8, plain: &[u8], room: &mut [u8]) -> Option<usize> {
        self.deflate.take_if(|(made_for, _)| *made_for != level);
        let make = || (level, Compress::new(Compression::new(level.into()), true));
        let (_, context) = self.deflate.get_or_insert_with(make);
        context.reset();
        match context.compress(plain, room, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => Some(context.total_out() as usize),
            Ok(Status::Ok | Status::BufError) | Err(_) => None,
        }
    }

    fn zstd(&mut self, level: u8, plain: &[u8], room: &mut [u8]) -> Option<usize> {
        self.zstd.take_if(|(made_for, _)| *made_for != level);
        if self.zstd.is_none() {
            self.zstd = Some((level, Compressor::new(level.into()).ok()?));
        }
        let (_, context) = self.zstd.as_mut()?;
        context.compress_to_buffer(plain, room).ok()
    }

    /// How many bytes there were, one fewer than there is room at most.
    fn inflate(&mut self, packed: &[u8], room: &mut [u8]) -> Result<usize, FrameError> {
        let context = self.inflate.get_or_insert_with(|| Decompress::new(true));
        context.reset(true);
        let status = context.decompress(packed, room, FlushDecompress::Finish).map_err(no_deflate)?;
        let (found, behind) = (context.total_out() as usize, packed.len() - context.total_in() as usize);
        match status {
            _ if found == room.len() => Err(FrameError::Longer { declared: room.len() - 1 }),
            Status::StreamEnd if behind > 0 => Err(FrameError::Trailing { found: behind }),
            Status::StreamEnd => Ok(found),
            Status::Ok | Status::BufError => Err(FrameError::Broken("it ends too early".to_owned())),
        }
    }

    /// The same by zstd.
    fn unzstd(&mut self, packed: &[u8], room: &mut [u8]) -> Result<usize, FrameError> {
        let declared = room.len() - 1;
        // What a frame of zstd says of itself comes first: without it there would only be "too small".
        let says = zstd_safe::get_frame_content_size(packed).ok().flatten();
        if says.is_some_and(|says| says > declared as u64) {
            return Err(FrameError::Longer { declared });
        }
        let behind = zstd_safe::find_frame_compressed_size(packed).map_or(0, |length| packed.len() - length);
        if behind > 0 {
            return Err(FrameError::Trailing { found: behind });
        }
        if self.unzstd.is_none() {
            self.unzstd = Some(Decompressor::new().map_err(broken)?);
        }
        let Some(context) = self.unzstd.as_mut() else { return Ok(0) };
        match context.decompress_to_buffer(packed, room).map_err(broken)? {
            // No bytes at all are no frame.
            0 => Err(FrameError::Broken("it is empty".to_owned())),
            found if found > declared => Err(FrameError::Longer { declared }),
            found => Ok(found),
        }
    }
}
