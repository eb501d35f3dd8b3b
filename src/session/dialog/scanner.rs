//! One direction of a relayed byte stream, cut into frames without holding them.
//!
//! A frame is a 3-byte length, a sequence number and that many bytes; a frame of the greatest length is
//! followed by another of the same packet (the MySQL page "Protocol Basics"). The scanner names each frame
//! as soon as its first bytes are there, and only where those are split over two chunks does it keep a copy of
//! them: never more than `HEAD`. It invariantly consumes what it has named or kept, unless it is told to
//! [`forget`](Scanner::forget) what it kept, and it judges nothing.

/// Bytes of a frame's header.
pub const HEADER: usize = 4;

/// The payload length that says that the packet goes on in the next frame.
pub const FULL: u32 = 0xff_ffff;

/// `HEAD` is the header plus those bytes of a payload that a decision may need, at most 255.
pub struct Scanner<const HEAD: usize> {
    head: [u8; HEAD],
    /// Bytes kept in `head`.
    kept: u8,
    /// The sequence number that the next frame must carry.
    pub seq: u8,
    /// The present frame is full, so the next one continues its packet.
    pub continues: bool,
    /// Payload bytes of the present frame that are still to come.
    left: u32,
}

/// The start of a frame: its header, and its payload up to the scanner's `HEAD` bytes.
pub struct Start<'a> {
    pub length: u32,
    pub seq: u8,
    pub payload: &'a [u8],
}

/// The start of a frame that was split over chunks, copied out of the scanner.
pub struct Kept<const HEAD: usize> {
    head: [u8; HEAD],
    kept: u8,
}

impl<const HEAD: usize> Kept<HEAD> {
    pub fn start(&self) -> Start<'_> {
        let (length, seq) = read_header(&self.head);
        Start { length, seq, payload: &self.head[HEADER..usize::from(self.kept)] }
    }
}

impl<const HEAD: usize> Scanner<HEAD> {
    pub const fn new() -> Self {
        Self { head: [0; HEAD], kept: 0, seq: 0, continues: false, left: 0 }
    }

    /// Whether the stream stands exactly between two packets.
    #[inline]
    pub fn between_packets(&self) -> bool {
        self.left == 0 && self.kept == 0 && !self.continues
    }

    /// Whether payload bytes of a named frame are still to come.
    #[inline]
    pub fn within_frame(&self) -> bool {
        self.left > 0
    }

    /// Skips payload of the present frame; the rest of `chunk`.
    #[inline]
    pub fn skip<'c>(&mut self, chunk: &'c [u8]) -> &'c [u8] {
        let here = chunk.len().min(self.left as usize);
        self.left -= here as u32;
        &chunk[here..]
    }

    /// The next frame's start where `chunk` holds all of it that can matter.
    #[inline]
    pub fn peek<'c>(&self, chunk: &'c [u8]) -> Option<Start<'c>> {
        let header = chunk.first_chunk::<HEADER>()?;
        if self.kept != 0 {
            return None;
        }
        let (length, seq) = read_header(header);
        let payload = &chunk[HEADER..];
        let wanted = self.wanted(length);
        payload.get(..wanted).map(|payload| Start { length, seq, payload })
    }

    /// Payload bytes that a decision about a frame may need: none where it continues a packet.
    #[inline]
    fn wanted(&self, length: u32) -> usize {
        if self.continues { 0 } else { (length as usize).min(HEAD - HEADER) }
    }

    /// Enters a frame of which `seen` payload bytes are consumed already.
    #[inline]
    pub fn enter(&mut self, length: u32, seen: usize) {
        self.continues = length == FULL;
        self.left = length - seen as u32;
        self.seq = self.seq.wrapping_add(1);
    }

    /// Keeps the start of a split frame; the start if it is whole now, and the rest of `chunk`.
    #[cold]
    pub fn keep<'c>(&mut self, chunk: &'c [u8]) -> (Option<Kept<HEAD>>, &'c [u8]) {
        let rest = self.fill(HEADER, chunk);
        if usize::from(self.kept) < HEADER {
            return (None, rest);
        }
        let (length, _) = read_header(&self.head);
        let wanted = self.wanted(length) + HEADER;
        let rest = self.fill(wanted, rest);
        if usize::from(self.kept) < wanted {
            return (None, rest);
        }
        let start = Kept { head: self.head, kept: self.kept };
        self.kept = 0;
        (Some(start), rest)
    }

    /// Bytes of a split frame's start that are kept.
    #[inline]
    pub fn kept(&self) -> usize {
        usize::from(self.kept)
    }

    /// Forgets the start of a split frame, whose bytes will be shown again; how many they are.
    #[inline]
    pub fn forget(&mut self) -> usize {
        usize::from(std::mem::take(&mut self.kept))
    }

    fn fill<'c>(&mut self, wanted: usize, chunk: &'c [u8]) -> &'c [u8] {
        let kept = usize::from(self.kept);
        let more = wanted.saturating_sub(kept).min(chunk.len());
        self.head[kept..kept + more].copy_from_slice(&chunk[..more]);
        self.kept += more as u8;
        &chunk[more..]
    }
}

/// Length and sequence number; `header` holds at least four bytes.
#[inline]
pub fn read_header(header: &[u8]) -> (u32, u8) {
    let word = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    (word & FULL, (word >> 24) as u8)
}
