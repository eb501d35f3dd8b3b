//! A long frame that is opened as it comes.
//!
//! It takes what has come of the content, gives no more than there is room for, and goes on where it has stopped. A frame of 16 MiB
//! costs its session no more than what the algorithm has to remember: 32 KiB for zlib, a window for zstd, which whoever packs chooses.
//! Small windows belong to the session; those larger than [`OWN_WINDOW`] share a pool, and a frame that finds no room there is refused.
//!
//! The last byte waits until the frame has turned out to be what it says, its checksum included: a packet that ends with the frame, as a
//! command does, is not whole before. What lies in front of it is passed on unchecked, as it would be without compression.
//!
//! Invariant: it gives as many bytes as were declared, and then ends, or fails before the last one.

use super::FrameError;
use super::codec::{Algorithm, Step, Unpacker};
use super::share::{Pool, Share};

/// Bytes that are unpacked by one call of the library.
const SLICE: usize = 64 << 10;
/// Bytes of a window that every session may have. zstd needs no more up to level 8; 3 is what clients and servers take if not told.
const OWN_WINDOW: usize = 2 << 20;
/// Larger windows, of all sessions. A frame needs 16 MiB at most.
static WINDOWS: Pool = Pool::new(32 << 20);

/// A frame of which the header and the front are here.
#[derive(Debug)]
pub struct Opening {
    /// Bytes of its content that are still to come.
    left: usize,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Stored,
    Packed(Box<Packed>),
}

#[derive(Debug)]
struct Packed {
    unpacker: Unpacker,
    declared: usize,
    found: usize,
    /// The last byte, and one more that there must not be.
    last: [u8; 2],
    /// The room was used up: there may be more without anything that comes.
    stopped: bool,
    ended: bool,
    /// What it holds of the pool.
    _window: Option<Share>,
}

impl Opening {
    /// A frame with `length` bytes of content, of which `front` has come: as many as [`Unpacker::FRONT`], or all.
    ///
    /// # Errors
    /// It needs memory that is not there.
    pub fn begin(
        algorithm: Algorithm,
        length: usize,
        declared: usize,
        front: &[u8],
    ) -> Result<Self, FrameError> {
        let content = match declared {
            0 => Content::Stored,
            _ => Content::Packed(Box::new(Packed::new(algorithm, declared, front)?)),
        };
        Ok(Self { left: length, content })
    }

    /// Takes what has come, appends `room` bytes at most, and the last one. How much of `came` is done with.
    ///
    /// # Errors
    /// The content is not what the header says.
    pub fn go_on(&mut self, came: &[u8], room: usize, plain: &mut Vec<u8>) -> Result<usize, FrameError> {
        let here = &came[..came.len().min(self.left)];
        let taken = match &mut self.content {
            Content::Stored => {
                let taken = &here[..here.len().min(room)];
                plain.extend_from_slice(taken);
                taken.len()
            }
            Content::Packed(packed) => packed.go_on(here, self.left, room, plain)?,
        };
        self.left -= taken;
        Ok(taken)
    }

    pub fn has_ended(&self) -> bool {
        match &self.content {
            Content::Stored => self.left == 0,
            Content::Packed(packed) => packed.ended,
        }
    }

    /// Whether there may be more without anything that comes.
    pub fn has_stopped(&self) -> bool {
        matches!(&self.content, Content::Packed(packed) if packed.stopped)
    }
}

impl Packed {
    fn new(algorithm: Algorithm, declared: usize, front: &[u8]) -> Result<Self, FrameError> {
        let window = Unpacker::window(algorithm, front).min(declared);
        let share = match window > OWN_WINDOW {
            true => Some(WINDOWS.take(window).ok_or(FrameError::NoRoom { window, max: WINDOWS.max })?),
            false => None,
        };
        let unpacker = Unpacker::new(algorithm)?;
        Ok(Self { unpacker, declared, found: 0, last: [0; 2], stopped: false, ended: false, _window: share })
    }

    /// `left` bytes of content are still to come, of which `here` is the front.
    fn go_on(
        &mut self,
        here: &[u8],
        left: usize,
        mut room: usize,
        plain: &mut Vec<u8>,
    ) -> Result<usize, FrameError> {
        let mut taken = 0;
        loop {
            let front = (self.declared - 1).saturating_sub(self.found);
            self.stopped = front > 0 && room == 0;
            if self.stopped {
                return Ok(taken);
            }
            let slice = front.min(room).min(SLICE);
            let step = self.step(&here[taken..], slice, plain)?;
            taken += step.read;
            self.found += step.written;
            room -= step.written.min(slice);
            if self.found > self.declared {
                return Err(FrameError::Longer { declared: self.declared });
            }
            if step.ended {
                self.end(left - taken, plain)?;
                return Ok(taken);
            }
            if step.read == 0 && step.written == 0 {
                // It wants more, of which there has to be some.
                let cut = || FrameError::Broken("it ends too early".to_owned());
                return if left == taken { Err(cut()) } else { Ok(taken) };
            }
        }
    }

    /// Unpacks into a slice of so many bytes behind `plain`, or, if there are none to come but the last, into that.
    fn step(&mut self, here: &[u8], slice: usize, plain: &mut Vec<u8>) -> Result<Step, FrameError> {
        if slice == 0 {
            return self.unpacker.step(here, &mut self.last[self.found + 1 - self.declared..]);
        }
        let begin = plain.len();
        plain.resize(begin + slice, 0);
        let step = self.unpacker.step(here, &mut plain[begin..]);
        plain.truncate(begin + step.as_ref().map_or(0, |step| step.written));
        step
    }

    /// The algorithm has come to its end, with so many bytes of content behind it.
    fn end(&mut self, behind: usize, plain: &mut Vec<u8>) -> Result<(), FrameError> {
        let (declared, found) = (self.declared, self.found);
        if behind > 0 {
            return Err(FrameError::Trailing { found: behind });
        }
        if found < declared {
            return Err(FrameError::Shorter { declared, found });
        }
        plain.push(self.last[0]);
        self.ended = true;
        Ok(())
    }
}
