//! Frames: the 4-byte header, the sequence number and the split at 16 MiB.
//!
//! Source: MySQL "MySQL Packets". A packet of [`MAX_PAYLOAD`] bytes or more travels in several frames; the
//! last one is shorter than that, and empty if need be. [`PacketReader`] puts *cold* packets together (login,
//! admin); the relay follows frames in place and never gathers a payload.

use bytes::BufMut;

use super::cursor::put_u24;
use super::{Error, Result};

/// Bytes of a frame's header.
pub const HEADER: usize = 4;

/// Payload bytes of the largest frame. A frame of this size is continued by the next one.
pub const MAX_PAYLOAD: usize = 0xff_ffff;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Payload bytes, without the header.
    pub length: u32,
    pub sequence: u8,
}

impl Header {
    pub fn read(bytes: [u8; HEADER]) -> Self {
        let [a, b, c, sequence] = bytes;
        Self { length: u32::from_le_bytes([a, b, c, 0]), sequence }
    }

    pub fn write(self, out: &mut impl BufMut) {
        put_u24(out, self.length);
        out.put_u8(self.sequence);
    }

    /// Whether the next frame carries on the same packet.
    pub fn continued(self) -> bool {
        self.length as usize == MAX_PAYLOAD
    }
}

/// Appends `payload` as frames and moves `sequence` on past them.
pub fn write_packet(out: &mut impl BufMut, sequence: &mut u8, payload: &[u8]) {
    let mut left = payload;
    loop {
        let (frame, next) = left.split_at(left.len().min(MAX_PAYLOAD));
        let header = Header { length: frame.len() as u32, sequence: *sequence };
        header.write(out);
        out.put_slice(frame);
        *sequence = sequence.wrapping_add(1);
        left = next;
        if !header.continued() {
            return;
        }
    }
}

/// Puts packets together from bytes as they come, in memory of its own.
///
/// It holds at most one packet of `limit` bytes and what one [`push`](Self::push) brought, as long as the
/// caller takes until there is nothing to take.
#[derive(Debug)]
pub struct PacketReader {
    limit: usize,
    /// The sequence number of the next frame; `None` takes any.
    sequence: Option<u8>,
    received: Vec<u8>,
    /// Payload of frames that were continued.
    gathered: Vec<u8>,
}

impl PacketReader {
    /// Expects sequence number 0 first.
    pub fn new(limit: usize) -> Self {
        Self { limit, sequence: Some(0), received: Vec::new(), gathered: Vec::new() }
    }

    /// Sets the sequence number that the next frame has to have.
    pub fn expect(&mut self, sequence: u8) {
        self.sequence = Some(sequence);
    }

    /// Takes the next frame with any sequence number and counts on from it. Servers differ in how they number
    /// an ERR that stands in for their greeting.
    pub fn expect_any(&mut self) {
        self.sequence = None;
    }

    /// The sequence number after the last frame taken, with which an answer has to be sent.
    pub fn next_sequence(&self) -> u8 {
        self.sequence.unwrap_or(0)
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The next whole packet, without its headers.
    pub fn take(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let Some((&head, after)) = self.received.split_first_chunk::<HEADER>() else { return Ok(None) };
            let header = Header::read(head);
            self.check(header)?;
            let Some(payload) = after.get(..header.length as usize) else { return Ok(None) };
            self.gathered.extend_from_slice(payload);
            self.received.drain(..HEADER + header.length as usize);
            self.sequence = Some(header.sequence.wrapping_add(1));
            if !header.continued() {
                return Ok(Some(std::mem::take(&mut self.gathered)));
            }
        }
    }

    /// Bytes received but not taken: the start of what follows, when this reader is done.
    pub fn into_rest(self) -> Vec<u8> {
        self.received
    }

    /// Whether no part of a packet is held.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty() && self.gathered.is_empty()
    }

    fn check(&self, header: Header) -> Result<()> {
        if let Some(expected) = self.sequence
            && header.sequence != expected
        {
            return Err(Error::Sequence { expected, found: header.sequence });
        }
        let found = self.gathered.len() + header.length as usize;
        if found > self.limit {
            return Err(Error::TooLarge { field: "packet", limit: self.limit, found });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_packet_of_exactly_16_mib_is_ended_by_an_empty_frame() {
        for (size, frames) in [(0, 1), (MAX_PAYLOAD - 1, 1), (MAX_PAYLOAD, 2), (MAX_PAYLOAD + 1, 2)] {
            let payload = vec![7; size];
            let (mut out, mut sequence) = (Vec::new(), 255);
            write_packet(&mut out, &mut sequence, &payload);
            assert_eq!(out.len(), size + frames * HEADER);
            assert_eq!(sequence, 255u8.wrapping_add(frames as u8));
            let mut reader = PacketReader::new(MAX_PAYLOAD + 1);
            reader.expect(255);
            reader.push(&out);
            assert!(reader.take().unwrap() == Some(payload));
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn a_wrong_sequence_number_is_an_error() {
        let mut reader = PacketReader::new(100);
        reader.push(b"\x01\0\0\x05x");
        assert_eq!(reader.take(), Err(Error::Sequence { expected: 0, found: 5 }));
        reader.expect_any();
        assert_eq!(reader.take(), Ok(Some(b"x".to_vec())));
        assert_eq!(reader.next_sequence(), 6);
    }

    #[test]
    fn a_packet_over_the_limit_is_refused_by_its_header() {
        let mut reader = PacketReader::new(10);
        reader.push(b"\x0b\0\0\0");
        assert_eq!(reader.take(), Err(Error::TooLarge { field: "packet", limit: 10, found: 11 }));
    }

    #[test]
    fn what_follows_is_handed_on() {
        let mut reader = PacketReader::new(10);
        reader.push(b"\x01\0\0\0x\x01\0\0\0y");
        assert_eq!(reader.take(), Ok(Some(b"x".to_vec())));
        assert_eq!(reader.into_rest(), b"\x01\0\0\0y");
    }

    proptest! {
        #[test]
        fn packets_come_back_whatever_the_cuts(
            packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 1..8),
            piece in 1usize..20,
        ) {
            let (mut out, mut sequence) = (Vec::new(), 0);
            for packet in &packets {
                write_packet(&mut out, &mut sequence, packet);
            }
            let mut reader = PacketReader::new(50);
            let mut taken = Vec::new();
            for bytes in out.chunks(piece) {
                reader.push(bytes);
                while let Some(packet) = reader.take().unwrap() {
                    taken.push(packet);
                }
            }
            prop_assert_eq!(taken, packets);
            prop_assert_eq!(reader.next_sequence(), sequence);
        }
    }
}
