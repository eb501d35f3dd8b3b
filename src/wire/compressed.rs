//! Compressed frames: the 7-byte header, and the stream of packets cut into such frames.
//!
//! Sources: MySQL "Compressed Packet", MariaDB "0-packet: compressed packet". A frame has the length of what follows (3 bytes), a
//! number (1 byte) and the length of what that was before it was compressed (3 bytes), or 0 where it is stored as it is. What is
//! inside has nothing to do with packets: a frame may hold many of them, or a part of one. How frames are opened is told in
//! [`frames`], how they are numbered in [`turns`], and how bytes are packed in [`codec`].

pub mod codec;
pub mod frames;
mod opening;
pub mod share;
pub mod turns;

use codec::{Packing, pack};

/// Bytes of a frame's header.
pub const HEADER: usize = 7;

/// Bytes that a frame holds at most, packed or not.
pub const PLAIN_MAX: usize = 0xff_ffff;

/// Fewer bytes than these are not packed; servers do the same.
const PACKED_FROM: usize = 50;

/// What is wrong with a frame. The sentence is about the peer that has sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("compressed frame number {found} came out of order, {expected} was expected")]
    OutOfOrder { found: u8, expected: u8 },
    #[error("a compressed frame cannot be decompressed: {0}")]
    Broken(String),
    #[error("a compressed frame holds more than the {declared} bytes that it says")]
    Longer { declared: usize },
    #[error("a compressed frame holds {found} bytes and not the {declared} that it says")]
    Shorter { declared: usize, found: usize },
    #[error("a compressed frame has {found} bytes behind its end")]
    Trailing { found: usize },
    /// It is not the peer's fault alone.
    #[error(
        "a compressed frame needs a window of {window} bytes, and all sessions together may hold {max} in such windows"
    )]
    NoRoom { window: usize, max: usize },
}

/// Appends `plain`, at most [`PLAIN_MAX`] bytes, as one frame: packed, unless that would be no shorter. Whether it is packed.
pub fn write_frame(packing: Packing, number: u8, plain: &[u8], wire: &mut Vec<u8>) -> bool {
    debug_assert!(plain.len() <= PLAIN_MAX);
    let begin = wire.len();
    wire.extend_from_slice(&[0; HEADER]);
    let packed = plain.len() >= PACKED_FROM && pack(packing, plain, wire);
    let declared = if packed { plain.len() } else { 0 };
    if !packed {
        wire.extend_from_slice(plain);
    }
    let length = wire.len() - begin - HEADER;
    wire[begin..begin + HEADER].copy_from_slice(&header(length, number, declared));
    packed
}

/// The header of a frame with `length` bytes of content, which were `declared` bytes before, or 0 if it is stored.
pub fn header(length: usize, number: u8, declared: usize) -> [u8; HEADER] {
    debug_assert!(length <= PLAIN_MAX && declared <= PLAIN_MAX);
    let ([a, b, c, _], [d, e, f, _]) = ((length as u32).to_le_bytes(), (declared as u32).to_le_bytes());
    [a, b, c, number, d, e, f]
}

#[cfg(test)]
pub(crate) mod tests {
    use super::codec::Algorithm;
    use super::frames::tests::opened;
    use super::*;

    pub(crate) const PACKINGS: [Packing; 2] =
        [Packing { algorithm: Algorithm::Zlib, level: 6 }, Packing { algorithm: Algorithm::Zstd, level: 3 }];

    #[test]
    fn short_ones_and_noise_are_stored() {
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(4000).collect();
        for packing in PACKINGS {
            for (plain, stored) in [(&[7; 49][..], true), (&[7; 50], false), (&noise, true), (&[], true)] {
                let mut wire = Vec::new();
                write_frame(packing, 9, plain, &mut wire);
                assert_eq!(wire[4..7] == [0; 3], stored, "{packing:?}, {} bytes", plain.len());
                assert_eq!(wire.len() == HEADER + plain.len(), stored);
                assert_eq!(opened(packing.algorithm, &wire), [(9, plain.to_vec())]);
            }
        }
    }
}
