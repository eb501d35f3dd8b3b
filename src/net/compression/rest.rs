//! The rest of a long packet as one frame.
//!
//! Servers fill up a buffer, send it off, and send the rest of the packet that did not fit in one more frame, up to 16 MiB; there are
//! clients that rely on it. A frame's header has the length of what is packed, so it cannot be sent before all of it is: the rest is
//! packed as it comes and waits. Where that would be of no use, or too much memory, it is stored: its length is known then, and it
//! passes as it comes.
//!
//! Invariant: all rests that are packed and not sent yet hold no more than [`HELD`] has bytes, before they are packed.

use std::io;

use crate::wire::compressed::codec::{Packer, Packing};
use crate::wire::compressed::share::{Pool, Share};
use crate::wire::compressed::{HEADER, PLAIN_MAX, header};

/// Bytes of rests that the whole process packs at the same time. One that would be too much is stored.
static HELD: Pool = Pool::new(64 << 20);
/// Bytes of a rest that is packed: an eighth more is no more than a frame can hold.
const PACKED_MAX: usize = PLAIN_MAX / 9 * 8;

/// A frame that is being made.
pub struct Rest {
    /// None: it is stored, and has passed so far.
    packed: Option<Packed>,
}

struct Packed {
    packer: Packer,
    number: u8,
    length: usize,
    held: Share,
}

impl Rest {
    /// Begins a frame of `length` bytes, which are to be packed if they can.
    pub fn begin(packing: Option<Packing>, number: u8, length: usize, wire: &mut Vec<u8>) -> Self {
        let packed = packing.filter(|_| length <= PACKED_MAX).and_then(|packing| {
            let held = HELD.take(length)?;
            let packer = Packer::new(packing, vec![0; HEADER]).ok()?;
            Some(Packed { packer, number, length, held })
        });
        if packed.is_none() {
            wire.extend_from_slice(&header(length, number, 0));
        }
        Self { packed }
    }

    /// Goes on with it.
    ///
    /// # Errors
    /// It cannot be packed any more.
    pub fn push(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.packed {
            Some(packed) => packed.packer.push(plain),
            None => {
                wire.extend_from_slice(plain);
                Ok(())
            }
        }
    }

    /// Ends it, when all of its bytes have come. What it holds, if it was packed, it holds until it is sent.
    ///
    /// # Errors
    /// It cannot be packed any more.
    pub fn end(self, wire: &mut Vec<u8>) -> io::Result<Option<Share>> {
        let Some(Packed { packer, number, length, held }) = self.packed else { return Ok(None) };
        let mut frame = packer.finish()?;
        let packed = frame.len() - HEADER;
        frame[..HEADER].copy_from_slice(&header(packed, number, length));
        if wire.is_empty() {
            *wire = frame;
        } else {
            wire.extend_from_slice(&frame);
        }
        Ok(Some(held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::compressed::codec::Algorithm;
    use crate::wire::compressed::frames::{Frames, Opened};

    const PACKINGS: [Packing; 2] =
        [Packing { algorithm: Algorithm::Zlib, level: 1 }, Packing { algorithm: Algorithm::Zstd, level: 1 }];

    /// A frame of all that, which comes in pieces; what it holds, and what of it is on the wire before its end.
    fn rest(packing: Option<Packing>, plain: &[u8], wire: &mut Vec<u8>) -> (usize, usize) {
        let mut rest = Rest::begin(packing, 7, plain.len(), wire);
        plain.chunks(50_000).for_each(|piece| rest.push(piece, wire).unwrap());
        let before = wire.len();
        (rest.end(wire).unwrap().map_or(0, |share| share.bytes()), before)
    }

    fn opened(algorithm: Algorithm, wire: &[u8]) -> Vec<u8> {
        let (mut frames, mut plain) = (Frames::default(), Vec::new());
        frames.push(wire);
        assert_eq!(frames.open(algorithm, usize::MAX, &mut plain), Ok(Some(Opened::Frame(7))));
        assert!(!frames.within_frame() && !frames.has_more());
        plain
    }

    #[test]
    fn a_rest_is_one_frame() {
        let plain: Vec<u8> = (0..3_000_000u32).map(|at| (at / 1000) as u8).collect();
        for packing in PACKINGS {
            let mut wire = b"before".to_vec();
            let (held, before) = rest(Some(packing), &plain, &mut wire);
            assert_eq!((held, before), (plain.len(), 6), "nothing is sent before all is there");
            assert!(wire.len() < 100_000 && opened(packing.algorithm, &wire[6..]) == plain);
            let mut wire = Vec::new();
            let (held, before) = rest(None, &plain, &mut wire);
            assert_eq!((held, before), (0, wire.len()), "it passes as it comes");
            assert!(wire.len() == HEADER + plain.len() && opened(packing.algorithm, &wire) == plain);
        }
    }

    /// One that is said to be packed and cannot be still fits into its frame.
    #[test]
    fn noise_of_any_length_fits() {
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(PACKED_MAX + 1).collect();
        for packing in PACKINGS {
            for (length, packs) in [(PACKED_MAX, true), (PACKED_MAX + 1, false)] {
                let mut wire = Vec::new();
                let (held, _) = rest(Some(packing), &noise[..length], &mut wire);
                assert_eq!(held > 0, packs);
                assert!(opened(packing.algorithm, &wire) == noise[..length]);
            }
        }
    }
}
