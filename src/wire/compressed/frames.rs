//! Frames put together from bytes as they come, and opened.
//!
//! Short ones are opened when they are whole, by what their thread keeps for it, so that they cost nothing in between. Longer ones are
//! opened as they come ([`super::opening`]): neither their content nor what is in it is ever here at once.
//!
//! Invariant: a frame gives as many bytes as its header says, which are at most [`PLAIN_MAX`](super::PLAIN_MAX), or an error before the
//! last of them. What is held is a short frame, or what was pushed behind it and not opened for want of room, and no memory while there
//! is nothing.

use super::codec::{Algorithm, Unpacker, unpack};
use super::opening::Opening;
use super::{FrameError, HEADER};

/// Bytes of a frame, packed and not, that is opened when it is whole.
const WHOLE_MAX: usize = 128 << 10;

/// The frames of one direction of one connection.
#[derive(Debug, Default)]
pub struct Frames {
    sealed: Vec<u8>,
    /// Bytes at the front that are done with.
    taken: usize,
    /// A long frame that has begun and not ended.
    opening: Option<Opening>,
}

/// A frame's header.
#[derive(Clone, Copy, Debug)]
struct Head {
    number: u8,
    length: usize,
    declared: usize,
}

/// What a call of [`Frames::open`] has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// A frame of that number, or the front of it.
    Frame(u8),
    /// More of the frame before.
    More,
}

impl Head {
    fn is_short(self) -> bool {
        self.length.max(self.declared) <= WHOLE_MAX
    }

    /// Bytes of the content that have to be here before it can be opened.
    fn wanted(self) -> usize {
        if self.is_short() { self.length } else { self.length.min(Unpacker::FRONT) }
    }
}

impl Frames {
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.sealed.drain(..self.taken);
            self.taken = 0;
        }
        self.sealed.extend_from_slice(bytes);
    }

    /// Whether something can be opened.
    pub fn has_more(&self) -> bool {
        match &self.opening {
            Some(opening) => opening.has_stopped() || self.taken < self.sealed.len(),
            None => self.front().is_some(),
        }
    }

    /// Whether a frame has been opened in part.
    pub fn within_frame(&self) -> bool {
        self.opening.is_some()
    }

    /// Opens a frame, or a part of one: appends what is in it, `room` bytes at most unless it is a short one.
    ///
    /// # Errors
    /// Its content is not what its header says, or there is no memory for it. Of a short one nothing is appended then.
    pub fn open(
        &mut self,
        algorithm: Algorithm,
        room: usize,
        plain: &mut Vec<u8>,
    ) -> Result<Option<Opened>, FrameError> {
        if !self.has_more() {
            return Ok(None);
        }
        let opened = match self.front().filter(|_| self.opening.is_none()) {
            None => Opened::More,
            Some((head, content)) if head.is_short() => {
                open_whole(algorithm, head, content, plain)?;
                self.take(HEADER + head.length);
                return Ok(Some(Opened::Frame(head.number)));
            }
            Some((head, content)) => {
                self.opening = Some(Opening::begin(algorithm, head.length, head.declared, content)?);
                self.taken += HEADER;
                Opened::Frame(head.number)
            }
        };
        self.go_on(room, plain)?;
        Ok(Some(opened))
    }

    /// Goes on with a long frame.
    fn go_on(&mut self, room: usize, plain: &mut Vec<u8>) -> Result<(), FrameError> {
        let Some(opening) = &mut self.opening else { return Ok(()) };
        let taken = opening.go_on(&self.sealed[self.taken..], room, plain)?;
        if opening.has_ended() {
            self.opening = None;
        }
        self.take(taken);
        Ok(())
    }

    fn take(&mut self, bytes: usize) {
        self.taken += bytes;
        if self.taken == self.sealed.len() {
            (self.sealed, self.taken) = (Vec::new(), 0);
        }
    }

    /// The next frame's header and what has come of its content, if it can be opened.
    fn front(&self) -> Option<(Head, &[u8])> {
        let (&[a, b, c, number, d, e, f], behind) =
            self.sealed[self.taken..].split_first_chunk::<HEADER>()?;
        let length = |bytes: [u8; 3]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]) as usize;
        let head = Head { number, length: length([a, b, c]), declared: length([d, e, f]) };
        let content = &behind[..behind.len().min(head.length)];
        (content.len() >= head.wanted()).then_some((head, content))
    }
}

fn open_whole(
    algorithm: Algorithm,
    head: Head,
    content: &[u8],
    plain: &mut Vec<u8>,
) -> Result<(), FrameError> {
    if head.declared == 0 {
        plain.extend_from_slice(content);
        return Ok(());
    }
    let begin = plain.len();
    unpack(algorithm, content, head.declared, plain).inspect_err(|_| plain.truncate(begin))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::codec::pack;
    use super::super::tests::PACKINGS;
    use super::super::{PLAIN_MAX, write_frame};
    use super::*;
    use proptest::prelude::*;

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

    /// Frames as they are opened from pieces of a stream: each whole one, and the error that ended it.
    fn read(
        algorithm: Algorithm,
        wire: &[u8],
        piece: usize,
        room: usize,
    ) -> (Vec<(u8, Vec<u8>)>, Option<FrameError>) {
        let (mut frames, mut whole, mut last) = (Frames::default(), Vec::new(), None);
        for piece in wire.chunks(piece) {
            frames.push(piece);
            loop {
                let mut plain = Vec::new();
                let number = match frames.open(algorithm, room, &mut plain) {
                    Err(error) => return (whole, Some(error)),
                    Ok(None) => break,
                    Ok(Some(Opened::Frame(number))) => Some(number),
                    Ok(Some(Opened::More)) => None,
                };
                assert!(plain.len().saturating_sub(1) <= room.max(WHOLE_MAX));
                last = number.map(|number| (number, Vec::new())).or(last);
                last.as_mut().unwrap().1.extend(plain);
                if !frames.within_frame() {
                    whole.extend(last.take());
                }
            }
        }
        assert!(frames.sealed.len() <= HEADER + WHOLE_MAX);
        (whole, None)
    }

    /// All frames of a stream, which have to be whole and right.
    pub(crate) fn opened(algorithm: Algorithm, wire: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let (whole, error) = read(algorithm, wire, wire.len(), usize::MAX);
        assert_eq!(error, None);
        whole
    }

    fn refused(algorithm: Algorithm, declared: usize, content: &[u8]) -> String {
        let wire = frame(declared, content);
        let all = read(algorithm, &wire, wire.len(), usize::MAX);
        assert!(all.0.is_empty());
        let error = all.1.map_or_else(|| "nothing".to_owned(), |error| error.to_string());
        let pieces = read(algorithm, &wire, 1000, 3000).1.map(|error| error.to_string());
        assert_eq!(pieces.as_ref(), Some(&error), "in pieces");
        error
    }

    #[test]
    fn a_frame_of_zlib_is_read() {
        let plain = &opened(Algorithm::Zlib, CAPTURED)[0].1;
        assert_eq!(plain[..4], [46, 0, 0, 0]);
        assert!(plain[4..].starts_with(b"\x03select \"0123456789"), "{plain:?}");
    }

    #[test]
    fn the_largest_frame_is_opened_as_it_comes() {
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(1 << 20).collect();
        for packing in PACKINGS {
            let mut plain = noise.repeat(16);
            plain.truncate(PLAIN_MAX);
            let mut packed = Vec::new();
            write_frame(packing, 5, &plain, &mut packed);
            let mut stored = frame(0, &[]);
            stored[..3].fill(0xff);
            stored.extend(&plain);
            for wire in [packed, stored] {
                for (piece, room) in [(usize::MAX, usize::MAX), (70_000, 1000), (1 << 20, 300_000)] {
                    let (whole, error) = read(packing.algorithm, &wire, piece.min(wire.len()), room);
                    assert_eq!((whole.len(), error), (1, None));
                    assert!(whole[0].1 == plain, "{packing:?}, {piece}, {room}");
                }
            }
        }
    }

    #[test]
    fn content_that_is_not_what_the_header_says_is_refused() {
        for packing in PACKINGS {
            let algorithm = packing.algorithm;
            for length in [100, 70_000, WHOLE_MAX + 5000, 1_000_000] {
                let mut packed = Vec::new();
                assert!(pack(packing, &vec![7; length], &mut packed));
                let shorter = format!("holds {length} bytes and not the {} that it says", length + 1);
                assert!(refused(algorithm, length + 1, &packed).contains(&shorter));
                let more = format!("holds more than the {} bytes that it says", length - 1);
                assert!(refused(algorithm, length - 1, &packed).contains(&more));
                assert!(refused(algorithm, 1, &packed).contains("holds more than the 1 bytes"));
                let cut = refused(algorithm, length, &packed[..packed.len() - 1]);
                assert!(cut.contains("cannot be decompressed"), "{cut}");
                let behind = refused(algorithm, length, &[&packed[..], b"junk"].concat());
                assert!(behind.contains("has 4 bytes behind its end"), "{behind}");
                let mut flipped = packed.clone();
                flipped[0] ^= 0x55;
                assert!(refused(algorithm, length, &flipped).contains("cannot be decompressed"));
                assert!(refused(algorithm, length, &[]).contains("cannot be decompressed"));
            }
        }
    }

    /// What was packed is not what is unpacked, and only the checksum at the end tells: the last byte is not given away.
    #[test]
    fn a_wrong_checksum_is_found_before_the_last_byte_is_given() {
        let length = 3 * WHOLE_MAX;
        let mut zlib = Vec::new();
        assert!(pack(PACKINGS[0], &vec![7; length], &mut zlib));
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_checksum(true).unwrap();
        std::io::Write::write_all(&mut encoder, &vec![7; length]).unwrap();
        for (algorithm, mut packed) in [(Algorithm::Zlib, zlib), (Algorithm::Zstd, encoder.finish().unwrap())]
        {
            assert_eq!(opened(algorithm, &frame(length, &packed))[0].1.len(), length);
            *packed.last_mut().unwrap() ^= 1;
            for room in [1000, usize::MAX] {
                let (mut frames, mut plain) = (Frames::default(), Vec::new());
                frames.push(&frame(length, &packed));
                let error = loop {
                    match frames.open(algorithm, room, &mut plain) {
                        Ok(opened) => assert!(opened.is_some()),
                        Err(error) => break error,
                    }
                };
                assert!(matches!(error, FrameError::Broken(_)) && plain.len() < length, "{error}");
            }
        }
    }

    /// 20 MiB of zeros that say to be 1000 bytes, or as many as a frame may hold.
    #[test]
    fn bombs_are_refused() {
        for packing in PACKINGS {
            let mut bomb = Vec::new();
            assert!(pack(packing, &vec![0; 20 << 20], &mut bomb));
            for declared in [1000, PLAIN_MAX] {
                let wire = frame(declared, &bomb);
                let (frames, error) = read(packing.algorithm, &wire, wire.len(), 100_000);
                assert_eq!((frames.len(), error), (0, Some(FrameError::Longer { declared })));
            }
        }
    }

    /// A frame of a single segment has to remember all of itself, or as much as its window says, and sessions share room for that.
    #[test]
    fn large_windows_have_an_end() {
        let mut packed = Vec::new();
        let packing = super::super::codec::Packing { algorithm: Algorithm::Zstd, level: 22 };
        assert!(pack(packing, &vec![7; PLAIN_MAX], &mut packed));
        let begun = || {
            let mut frames = Frames::default();
            frames.push(&frame(PLAIN_MAX, &packed));
            let mut plain = Vec::new();
            frames.open(Algorithm::Zstd, 1000, &mut plain).map(|_| frames)
        };
        let held: Vec<_> = (0..3).map(|_| begun()).collect();
        assert!(held[0].is_ok() && held[1].is_ok());
        let said = held[2].as_ref().unwrap_err().to_string();
        assert!(said.contains("needs a window of 16777215 bytes"), "{said}");
        drop(held);
        assert!(begun().is_ok(), "they are given back");
    }

    #[test]
    fn nothing_is_kept_when_there_is_nothing() {
        let mut frames = Frames::default();
        let (mut wire, mut plain) = (Vec::new(), Vec::new());
        write_frame(PACKINGS[0], 3, &[1; 1_000_000], &mut wire);
        write_frame(PACKINGS[0], 4, b"x", &mut wire);
        frames.push(&wire);
        for (opened, more) in [(Opened::Frame(3), true), (Opened::More, true), (Opened::Frame(4), false)] {
            assert!(frames.has_more());
            assert_eq!(frames.open(Algorithm::Zlib, 500_000, &mut plain), Ok(Some(opened)));
            assert_eq!(frames.has_more(), more);
        }
        assert_eq!(frames.open(Algorithm::Zlib, 1, &mut plain), Ok(None));
        assert_eq!((frames.sealed.capacity(), frames.within_frame()), (0, false));
    }

    proptest! {
        #[test]
        fn frames_come_whole_at_every_cut(
            parts in proptest::collection::vec((any::<u8>(), 0usize..400, any::<bool>(), any::<bool>()), 1..8),
            cut in 1usize..50,
            room in 1usize..2000,
            zstd: bool,
        ) {
            let packing = PACKINGS[usize::from(zstd)];
            let parts: Vec<(u8, Vec<u8>)> = parts.into_iter().map(|(number, length, even, long)| {
                let byte = |at: usize| if even { number } else { (at * at) as u8 ^ number };
                let length = if long { length + WHOLE_MAX } else { length };
                (number, (0..length).map(byte).collect())
            }).collect();
            let mut wire = Vec::new();
            for (number, part) in &parts {
                write_frame(packing, *number, part, &mut wire);
            }
            prop_assert!(read(packing.algorithm, &wire, cut, room) == (parts, None));
        }

        #[test]
        fn noise_is_an_error_or_what_it_says(
            content: Vec<u8>,
            declared in 0usize..3000,
            long: bool,
            zstd: bool,
        ) {
            let algorithm = PACKINGS[usize::from(zstd)].algorithm;
            let declared = if long { declared + WHOLE_MAX } else { declared };
            let wire = frame(declared, &content);
            if let (frames, None) = read(algorithm, &wire, wire.len(), 1000) {
                prop_assert_eq!(frames[0].1.len(), if declared == 0 { content.len() } else { declared });
            }
            if !content.is_empty() {
                read(algorithm, &content, content.len(), 1000);
            }
        }
    }
}
