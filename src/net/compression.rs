//! Compression on one leg: corelane as the server of its clients, or as the client of a CN.
//!
//! A [`Compression`] is a layer of a socket. It lies above TLS where there is any, and is put on behind the login's OK. What a frame
//! is and how frames are numbered is told in [`crate::wire::compressed`]; here bytes are gathered into frames as they are sent, and
//! opened no further than they are wanted.
//!
//! A frame ends with a packet where it can: the front of a packet waits for its rest, up to [`FRAME_MAX`]. Nobody can do anything with
//! it before, and there are clients that look for the rest of a packet in one more frame only.
//!
//! Invariant: between two calls it holds what came and is no whole frame, or may not be opened yet, and fewer than [`FRAME_MAX`] bytes
//! of a packet of which more is to come; between two packets it holds no memory.

use std::any::Any;

use crate::reactor::{Layer, Socket};
use crate::wire::compressed::codec::Packing;
use crate::wire::compressed::turns::{Commander, Sealed, Turns};
use crate::wire::compressed::{Frames, write_frame};

/// Bytes that are packed together at most. More would hardly be packed better, zlib looks back 32 KiB, and would be waited for.
const FRAME_MAX: usize = 64 << 10;

/// One connection's compression.
pub struct Compression {
    packing: Packing,
    frames: Frames,
    turns: Turns,
    /// Bytes of the next frame.
    plain: Vec<u8>,
    failed: bool,
}

impl Compression {
    /// Corelane's side of a client's connection.
    pub fn server(packing: Packing) -> Box<Self> {
        Box::new(Self::new(packing, Commander::Peer))
    }

    /// Corelane's side of a connection to a CN.
    pub fn client(packing: Packing) -> Box<Self> {
        Box::new(Self::new(packing, Commander::Us))
    }

    /// Whether a socket has it on.
    pub fn is_on(socket: &Socket) -> bool {
        socket.layer(|_: &Self| ()).is_some()
    }

    fn new(packing: Packing, commander: Commander) -> Self {
        let (frames, turns) = (Frames::default(), Turns::new(commander));
        Self { packing, frames, turns, plain: Vec::new(), failed: false }
    }

    /// Opens frames until there are `room` bytes or more.
    fn unpack(&mut self, room: usize, plain: &mut Vec<u8>) -> Result<(), String> {
        let before = plain.len();
        while plain.len() - before < room {
            let begin = plain.len();
            let taken = self.frames.take(self.packing.algorithm, plain);
            let Some(number) = taken.map_err(|error| error.to_string())? else { break };
            if let Err(error) = self.turns.opened(number, &mut plain[begin..]) {
                plain.truncate(begin);
                return Err(error.to_string());
            }
        }
        Ok(())
    }

    /// Sends off what is gathered, in as many frames as it takes.
    fn send_off(&mut self, wire: &mut Vec<u8>) {
        self.send_full(wire);
        if !self.plain.is_empty() {
            write_frame(self.packing, self.turns.next_frame(), &self.plain, wire);
        }
        self.plain.clear();
    }

    /// Sends off as many full frames as are gathered.
    fn send_full(&mut self, wire: &mut Vec<u8>) {
        let frames = self.plain.chunks_exact(FRAME_MAX);
        let left = frames.remainder().len();
        for plain in frames {
            write_frame(self.packing, self.turns.next_frame(), plain, wire);
        }
        self.plain.drain(..self.plain.len() - left);
    }
}

impl Layer for Compression {
    fn open(
        &mut self,
        sealed: &[u8],
        room: usize,
        plain: &mut Vec<u8>,
        _wire: &mut Vec<u8>,
    ) -> Result<(), String> {
        if self.failed {
            return Err("compression has failed before".to_owned());
        }
        self.frames.push(sealed);
        let unpacked = self.unpack(room, plain);
        if unpacked.is_err() {
            (self.failed, self.frames) = (true, Frames::default());
        }
        unpacked
    }

    fn unread(&mut self, bytes: usize) {
        self.turns.untaken(bytes);
    }

    fn seal(&mut self, mut plain: &[u8], wire: &mut Vec<u8>) -> Result<(), String> {
        while let Sealed::UpTo(at) = self.turns.seal(plain, &mut self.plain) {
            self.send_off(wire);
            plain = &plain[at..];
        }
        self.send_full(wire);
        Ok(())
    }

    fn flush(&mut self, wire: &mut Vec<u8>) -> Result<(), String> {
        if !self.turns.within_packet() {
            self.send_off(wire);
            self.plain = Vec::new();
        }
        Ok(())
    }

    fn close(&mut self, wire: &mut Vec<u8>) {
        self.send_off(wire);
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn has_ended(&self) -> bool {
        false
    }

    fn has_more(&self) -> bool {
        !self.failed && self.frames.has_frame()
    }

    fn parts(&self) -> Vec<&dyn Any> {
        vec![self]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::compressed::codec::Algorithm;
    use crate::wire::frame::write_packet;

    const PACKINGS: [Packing; 2] =
        [Packing { algorithm: Algorithm::Zlib, level: 1 }, Packing { algorithm: Algorithm::Zstd, level: 1 }];

    fn packets(mut number: u8, payloads: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        payloads.iter().for_each(|payload| write_packet(&mut bytes, &mut number, payload));
        bytes
    }

    /// Says bytes by one side, which come in pieces, and hears them by the other.
    fn pass(from: &mut Compression, to: &mut Compression, said: &[u8], piece: usize) -> Vec<u8> {
        let (mut wire, mut heard) = (Vec::new(), Vec::new());
        for said in said.chunks(piece) {
            from.unread(0);
            from.seal(said, &mut wire).unwrap();
            from.flush(&mut wire).unwrap();
        }
        for wire in wire.chunks(piece) {
            to.open(wire, usize::MAX, &mut heard, &mut Vec::new()).unwrap();
        }
        heard
    }

    #[test]
    fn both_sides_hear_what_was_said_however_it_is_cut() {
        for packing in PACKINGS {
            let (mut server, mut client) = (Compression::server(packing), Compression::client(packing));
            for (round, piece) in [1, 3, 7, 4096, 70_000, 1 << 20].into_iter().enumerate() {
                let long = vec![b'a' + round as u8; 200_000];
                let command = packets(0, &[b"\x03SELECT ", &[]]);
                assert_eq!(pass(&mut client, &mut server, &command[..12], piece), command[..12]);
                let reply = packets(1, &[b"\x01", &long, b"", &long[..60], b"\xfe"]);
                assert!(pass(&mut server, &mut client, &reply, piece) == reply, "{piece}");
                let long = packets(0, &[&long]);
                assert!(pass(&mut client, &mut server, &long, piece) == long, "{piece}");
                let reply = packets(1, &[b"\0"]);
                assert_eq!(pass(&mut server, &mut client, &reply, piece), reply);
            }
            for idle in [&server, &client] {
                assert_eq!(idle.plain.capacity(), 0);
                assert!(!idle.has_more());
            }
        }
    }

    /// A packet that is no longer than a frame of ours lies in two of them at most.
    #[test]
    fn a_packet_waits_for_its_rest() {
        let mut server = Compression::server(PACKINGS[0]);
        let row = vec![7; FRAME_MAX - 4];
        let (mut wire, mut frames) = (Vec::new(), Vec::new());
        for part in packets(1, &[&row[..60_000], &row, &row, b"\xfe"]).chunks(5000) {
            server.seal(part, &mut wire).unwrap();
            server.flush(&mut wire).unwrap();
        }
        let mut opened = Frames::default();
        opened.push(&wire);
        let mut plain = Vec::new();
        while opened.take(Algorithm::Zlib, &mut plain).unwrap().is_some() {
            frames.push(plain.len());
            plain.clear();
        }
        assert_eq!(frames[..frames.len() - 1], [FRAME_MAX; 2]);
        assert_eq!(frames.iter().sum::<usize>(), 60_000 + 2 * row.len() + 4 * 4 + 1);
    }

    #[test]
    fn no_more_is_opened_than_there_is_room_for() {
        for packing in PACKINGS {
            let mut server = Compression::server(packing);
            let (mut wire, mut plain) = (Vec::new(), Vec::new());
            let mut said = packets(0, &[&vec![3; 5 << 20]]);
            for (number, part) in said.chunks_mut(1 << 20).enumerate() {
                write_frame(packing, number as u8, part, &mut wire);
            }
            server.open(&wire, 1 << 20, &mut plain, &mut Vec::new()).unwrap();
            assert_eq!((plain.len(), server.has_more()), (1 << 20, true));
            server.open(&[], 0, &mut plain, &mut Vec::new()).unwrap();
            assert_eq!(plain.len(), 1 << 20);
            server.open(&[], 1, &mut plain, &mut Vec::new()).unwrap();
            assert_eq!(plain.len(), 2 << 20);
            server.open(&[], usize::MAX, &mut plain, &mut Vec::new()).unwrap();
            assert_eq!((plain == said, server.has_more()), (true, false));
        }
    }

    #[test]
    fn what_is_wrong_ends_it_for_good() {
        let mut server = Compression::server(PACKINGS[0]);
        let (mut wire, mut plain) = (Vec::new(), Vec::new());
        write_frame(PACKINGS[0], 0, &packets(0, &[b"\x0e"]), &mut wire);
        write_frame(PACKINGS[0], 5, &packets(0, &[b"\x0e"]), &mut wire);
        let error = server.open(&wire, usize::MAX, &mut plain, &mut Vec::new()).unwrap_err();
        assert_eq!(error, "compressed frame number 5 came out of order, 0 was expected");
        assert_eq!(plain, packets(0, &[b"\x0e"]), "what was right");
        assert!(server.open(&[], 1, &mut plain, &mut Vec::new()).is_err() && !server.has_more());
    }
}
