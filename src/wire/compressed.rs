//! Compressed frames: the 7-byte header, and the stream of packets cut into such frames.
//!
//! Sources: MySQL "Compressed Packet", MariaDB "0-packet: compressed packet". A frame has the length of what follows (3 bytes), a
//! number (1 byte) and the length of what that was before it was compressed (3 bytes), or 0 where it is stored as it is. What is
//! inside has nothing to do with packets: a frame may hold many of them, or a part of one. How frames are numbered is told in
//! [`turns`], and how bytes are packed in [`codec`].
//!
//! Invariant: a frame gives as many bytes as its header says, which are at most [`PLAIN_MAX`], or an error and nothing.

pub mod codec;
pub mod turns;

use codec::{Algorithm, Packing, pack, unpack};

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
}

/// Frames put together from bytes as they come.
///
/// It holds one frame of at most [`HEADER`] and [`PLAIN_MAX`] bytes and what was pushed behind it; no memory while it holds nothing.
#[derive(Debug, Default)]
pub struct Frames {
    sealed: Vec<u8>,
    /// Bytes at the front that have been taken.
    taken: usize,
}

impl Frames {
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.sealed.drain(..self.taken);
            self.taken = 0;
        }
        self.sealed.extend_from_slice(bytes);
    }

    /// Whether a whole frame can be taken.
    pub fn has_frame(&self) -> bool {
        self.front().is_some()
    }

    /// Takes the next whole frame: appends what was in it, and gives its number.
    ///
    /// # Errors
    /// Its content is not what its header says. Nothing is appended then.
    pub fn take(&mut self, algorithm: Algorithm, plain: &mut Vec<u8>) -> Result<Option<u8>, FrameError> {
        let Some((number, declared, content)) = self.front() else { return Ok(None) };
        let length = content.len();
        if declared == 0 {
            plain.extend_from_slice(content);
        } else {
            let begin = plain.len();
            unpack(algorithm, content, declared, plain).inspect_err(|_| plain.truncate(begin))?;
        }
        self.taken += HEADER + length;
        if self.taken == self.sealed.len() {
            (self.sealed, self.taken) = (Vec::new(), 0);
        }
        Ok(Some(number))
    }

    /// Number, declared length and content of the first frame, if it is whole.
    fn front(&self) -> Option<(u8, usize, &[u8])> {
        let (&[a, b, c, number, d, e, f], behind) =
            self.sealed[self.taken..].split_first_chunk::<HEADER>()?;
        let length = |bytes: [u8; 3]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]) as usize;
        Some((number, length([d, e, f]), behind.get(..length([a, b, c]))?))
    }
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
    use super::*;
    use proptest::prelude::*;

    pub(crate) const PACKINGS: [Packing; 2] =
        [Packing { algorithm: Algorithm::Zlib, level: 6 }, Packing { algorithm: Algorithm::Zstd, level: 3 }];

    /// A query of 45 bytes, packed by zlib.
    const CAPTURED: &[u8] = &[
        0x22, 0, 0, 0, 0x32, 0, 0, 0x78, 0x9c, 0xd3, 0x63, 0x60, 0x60, 0x60, 0x2e, 0x4e, 0xcd, 0x49, 0x4d,
        0x2e, 0x51, 0x50, 0x32, 0x30, 0x34, 0x32, 0x36, 0x31, 0x35, 0x33, 0xb7, 0xb0, 0xc4, 0xcd, 0x52, 0x02,
        0x00, 0x0c, 0xd1, 0x0a, 0x6c,
    ];

    fn frame(declared: usize, content: &[u8]) -> Vec<u8> {
        let mut frame = (content.len() as u32).to_le_bytes()[..3].to_vec();
        frame.push(0);
        frame.extend(&(declared as u32).to_le_bytes()[..3]);
        frame.extend(content);
        frame
    }

    fn taken(algorithm: Algorithm, wire: &[u8]) -> Result<Option<Vec<u8>>, FrameError> {
        let (mut frames, mut plain) = (Frames::default(), b"before".to_vec());
        frames.push(wire);
        let number = frames.take(algorithm, &mut plain);
        if !matches!(number, Ok(Some(_))) {
            assert_eq!(plain, b"before", "nothing is appended");
        }
        Ok(number?.map(|_| plain.split_off(6)))
    }

    #[test]
    fn a_frame_of_zlib_is_read() {
        let plain = taken(Algorithm::Zlib, CAPTURED).unwrap().unwrap();
        assert_eq!(plain[..4], [46, 0, 0, 0]);
        assert!(plain[4..].starts_with(b"\x03select \"0123456789"), "{plain:?}");
    }

    #[test]
    fn short_ones_and_noise_are_stored() {
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(4000).collect();
        for packing in PACKINGS {
            for (plain, stored) in [(&[7; 49][..], true), (&[7; 50], false), (&noise, true), (&[], true)] {
                let mut wire = Vec::new();
                write_frame(packing, 9, plain, &mut wire);
                assert_eq!(wire[4..7] == [0; 3], stored, "{packing:?}, {} bytes", plain.len());
                assert_eq!(wire.len() == HEADER + plain.len(), stored);
                assert_eq!(taken(packing.algorithm, &wire).unwrap().unwrap(), plain);
            }
        }
    }

    #[test]
    fn the_largest_frame_is_read() {
        for packing in PACKINGS {
            let plain = vec![7; PLAIN_MAX];
            let mut wire = Vec::new();
            write_frame(packing, 0, &plain, &mut wire);
            assert!(taken(packing.algorithm, &wire).unwrap().unwrap() == plain);
            let mut stored = frame(0, &[]);
            stored[..3].fill(0xff);
            stored.extend(&plain);
            assert!(taken(packing.algorithm, &stored).unwrap().unwrap() == plain);
        }
    }

    #[test]
    fn content_that_is_not_what_the_header_says_is_refused() {
        for packing in PACKINGS {
            let algorithm = packing.algorithm;
            for length in [100, 70_000] {
                let mut packed = Vec::new();
                assert!(pack(packing, &vec![7; length], &mut packed));
                let refused = |declared: usize, content: &[u8]| {
                    taken(algorithm, &frame(declared, content)).unwrap_err().to_string()
                };
                let shorter = format!("holds {length} bytes and not the {} that it says", length + 1);
                assert!(refused(length + 1, &packed).contains(&shorter));
                let more = format!("holds more than the {} bytes that it says", length - 1);
                assert!(refused(length - 1, &packed).contains(&more));
                assert!(refused(1, &packed).contains("holds more than the 1 bytes"));
                let cut = refused(length, &packed[..packed.len() - 1]);
                assert!(cut.contains("cannot be decompressed"), "{cut}");
                let behind = refused(length, &[&packed[..], b"junk"].concat());
                assert!(behind.contains("behind its end") || behind.contains("cannot be"), "{behind}");
                let mut flipped = packed.clone();
                flipped[0] ^= 0x55;
                assert!(refused(length, &flipped).contains("cannot be decompressed"));
                assert!(refused(length, &[]).contains("cannot be decompressed"));
            }
        }
    }

    /// 300 MiB of zeros that say to be 1000 bytes, or as many as a frame may hold.
    #[test]
    fn bombs_are_refused() {
        for packing in PACKINGS {
            let mut bomb = Vec::new();
            assert!(pack(packing, &vec![0; 300 << 20], &mut bomb));
            for declared in [1000, PLAIN_MAX] {
                let (mut frames, mut plain) = (Frames::default(), Vec::new());
                frames.push(&frame(declared, &bomb));
                let error = frames.take(packing.algorithm, &mut plain).unwrap_err();
                assert_eq!(error, FrameError::Longer { declared });
                assert!(plain.capacity() <= PLAIN_MAX + 1);
            }
        }
    }

    #[test]
    fn nothing_is_kept_when_there_is_nothing() {
        let mut frames = Frames::default();
        let (mut wire, mut plain) = (Vec::new(), Vec::new());
        write_frame(PACKINGS[0], 3, &[1; 100_000], &mut wire);
        write_frame(PACKINGS[0], 4, b"x", &mut wire);
        frames.push(&wire);
        for (number, more) in [(3, true), (4, false)] {
            assert!(frames.has_frame());
            assert_eq!(frames.take(Algorithm::Zlib, &mut plain), Ok(Some(number)));
            assert_eq!(frames.has_frame(), more);
        }
        assert_eq!((frames.take(Algorithm::Zlib, &mut plain), frames.sealed.capacity()), (Ok(None), 0));
    }

    proptest! {
        #[test]
        fn frames_come_whole_at_every_cut(
            parts in proptest::collection::vec((any::<u8>(), 0usize..400, any::<bool>()), 1..8),
            cut in 1usize..50,
            zstd: bool,
        ) {
            let packing = PACKINGS[usize::from(zstd)];
            let parts: Vec<(u8, Vec<u8>)> = parts.into_iter().map(|(number, length, even)| {
                let byte = |at: usize| if even { number } else { (at * at) as u8 ^ number };
                (number, (0..length).map(byte).collect())
            }).collect();
            let mut wire = Vec::new();
            for (number, part) in &parts {
                write_frame(packing, *number, part, &mut wire);
            }
            let (mut frames, mut came) = (Frames::default(), Vec::new());
            for piece in wire.chunks(cut) {
                frames.push(piece);
                let mut plain = Vec::new();
                while let Some(number) = frames.take(packing.algorithm, &mut plain).unwrap() {
                    came.push((number, std::mem::take(&mut plain)));
                }
            }
            prop_assert_eq!(came, parts);
            prop_assert_eq!(frames.sealed.len(), 0);
        }

        #[test]
        fn noise_is_an_error_or_what_it_says(content: Vec<u8>, declared in 0usize..3000, zstd: bool) {
            let algorithm = PACKINGS[usize::from(zstd)].algorithm;
            if let Ok(Some(plain)) = taken(algorithm, &frame(declared, &content)) {
                prop_assert_eq!(plain.len(), if declared == 0 { content.len() } else { declared });
            }
            let _ = taken(algorithm, &content);
        }
    }
}
