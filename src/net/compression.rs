//! Compression on one leg: corelane as the server of its clients, or as the client of a CN.
//!
//! A [`Compression`] is a layer of a socket. It lies above TLS where there is any, and is put on behind the login's OK. What a frame
//! is and how frames are numbered is told in [`crate::wire::compressed`]; here bytes are gathered into frames as they are sent, and
//! opened no further than they are wanted.
//!
//! A frame ends with a packet where it can: the front of a packet waits for its rest, up to [`FRAME_MAX`]. Nobody can do anything with
//! it before. There are clients that look for the rest of a packet in one more frame only, as servers send it, so a client is sent
//! a rest that is longer in one frame too ([`rest`]).
//!
//! Invariant: between two calls it holds what came and is no whole frame, or may not be opened yet, and of a packet of which more is to
//! come fewer than [`FRAME_MAX`] bytes, or its rest as far as it is packed; between two packets it holds no memory.

mod rest;

use std::any::Any;

use rest::Rest;

use crate::reactor::{Layer, Socket};
use crate::wire::compressed::codec::Packing;
use crate::wire::compressed::frames::{Frames, Opened};
use crate::wire::compressed::share::Share;
use crate::wire::compressed::turns::{Commander, Sealed, Turns};
use crate::wire::compressed::write_frame;

/// Bytes that are packed together at most. More would hardly be packed better, zlib looks back 32 KiB, and would be waited for.
const FRAME_MAX: usize = 64 << 10;

/// One connection's compression.
pub struct Compression {
    packing: Packing,
    frames: Frames,
    turns: Turns,
    /// Bytes of the next frame.
    plain: Vec<u8>,
    /// A long packet's rest, which is a frame by itself.
    rest: Option<Rest>,
    /// What rests take that are packed and not sent yet.
    on_wire: Vec<Share>,
    /// Whether packing has made the last frame shorter.
    packs: bool,
    whole_rests: bool,
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
        Self {
            packing,
            frames: Frames::default(),
            turns: Turns::new(commander),
            plain: Vec::new(),
            rest: None,
            on_wire: Vec::new(),
            packs: true,
            whole_rests: commander == Commander::Peer,
            failed: false,
        }
    }

    /// Opens frames until there are `room` bytes or more.
    fn unpack(&mut self, room: usize, plain: &mut Vec<u8>) -> Result<(), String> {
        let before = plain.len();
        while plain.len() - before < room {
            let begin = plain.len();
            let opened = self.frames.open(self.packing.algorithm, room - (begin - before), plain);
            let begun = match opened.map_err(|error| error.to_string())? {
                None => break,
                Some(Opened::More) => Ok(()),
                Some(Opened::Frame(number)) => self.turns.begin(number),
            };
            if let Err(error) = begun {
                plain.truncate(begin);
                return Err(error.to_string());
            }
            self.turns.open(&mut plain[begin..]);
        }
        Ok(())
    }

    /// Sends off what is gathered.
    fn send_off(&mut self, wire: &mut Vec<u8>) {
        if !self.plain.is_empty() {
            self.packs = write_frame(self.packing, self.turns.next_frame(), &self.plain, wire);
        }
        self.plain.clear();
    }

    /// Begins a frame with the rest of the present packet, if that would not fit into one that is gathered.
    fn begin_rest(&mut self, wire: &mut Vec<u8>) {
        let length = self.turns.rest();
        if self.whole_rests && length > FRAME_MAX {
            let packing = self.packs.then_some(self.packing);
            self.rest = Some(Rest::begin(packing, self.turns.next_frame(), length, wire));
        }
    }

    /// Goes on with a rest: how many bytes belong to it.
    fn go_on(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<usize, String> {
        let Some(rest) = &mut self.rest else { return Ok(0) };
        let here = self.turns.pass(plain);
        let pushed = rest.push(&plain[..here], wire);
        let done = if self.turns.rest() > 0 { pushed } else { pushed.and_then(|()| self.end_rest(wire)) };
        done.map_err(|error| format!("a packet cannot be compressed: {error}"))?;
        Ok(here)
    }

    fn end_rest(&mut self, wire: &mut Vec<u8>) -> std::io::Result<()> {
        if let Some(rest) = self.rest.take() {
            self.on_wire.extend(rest.end(wire)?);
        }
        Ok(())
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
        loop {
            plain = &plain[self.go_on(plain, wire)?..];
            if self.rest.is_some() {
                return Ok(());
            }
            match self.turns.seal(plain, &mut self.plain, FRAME_MAX) {
                Sealed::All => return Ok(()),
                Sealed::UpTo(at) => {
                    self.send_off(wire);
                    plain = &plain[at..];
                }
                Sealed::Full(at) => {
                    self.send_off(wire);
                    self.begin_rest(wire);
                    plain = &plain[at..];
                }
            }
        }
    }

    fn flush(&mut self, wire: &mut Vec<u8>) -> Result<(), String> {
        if !self.turns.within_packet() {
            self.send_off(wire);
            self.plain = Vec::new();
        }
        Ok(())
    }

    fn sent(&mut self) {
        self.on_wire = Vec::new();
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
        !self.failed && self.frames.has_more()
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

    /// How long each frame is, and whether it is packed, of packets that come in pieces.
    fn frames(layer: &mut Compression, said: &[u8]) -> Vec<(usize, bool)> {
        let (mut wire, mut frames) = (Vec::new(), Vec::new());
        for part in said.chunks(5000) {
            layer.seal(part, &mut wire).unwrap();
            layer.flush(&mut wire).unwrap();
        }
        layer.sent();
        let (mut opened, mut plain, mut at) = (Frames::default(), Vec::new(), 0);
        opened.push(&wire);
        while opened.open(layer.packing.algorithm, usize::MAX, &mut plain).unwrap().is_some() {
            let content = u32::from_le_bytes([wire[at], wire[at + 1], wire[at + 2], 0]) as usize;
            frames.push((plain.len(), wire[at + 4..at + 7] != [0; 3]));
            plain.clear();
            at += 7 + content;
        }
        frames
    }

    /// A packet that is no longer than a frame of ours lies in two of them at most, and so does a longer one that goes to a client.
    #[test]
    fn a_packet_waits_for_its_rest() {
        for packing in PACKINGS {
            let row = vec![7; FRAME_MAX - 4];
            let reply = packets(1, &[&row[..60_000], &row, &row, b"\xfe"]);
            let found = frames(&mut Compression::server(packing), &reply);
            assert_eq!(found[..2], [(FRAME_MAX, true); 2]);
            assert_eq!(found.iter().map(|frame| frame.0).sum::<usize>(), reply.len());
            let (long, short) = (vec![7; 300_000], [8]);
            let reply = packets(1, &[b"head", &long, &short, &long, b"\xfe"]);
            let rest = 8 + 4 + 300_000 - FRAME_MAX;
            let last = 5 + 4 + 300_000 - FRAME_MAX;
            let whole = [(FRAME_MAX, true), (rest, true), (FRAME_MAX, true), (last, true), (5, false)];
            assert_eq!(frames(&mut Compression::server(packing), &reply), whole);
            let command = packets(0, &[&long]);
            let cut = frames(&mut Compression::client(packing), &command);
            assert_eq!(cut.len(), command.len().div_ceil(FRAME_MAX), "a server puts together what comes");
        }
    }

    #[test]
    fn a_rest_that_would_not_be_shorter_passes_as_it_comes() {
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(1 << 20).collect();
        let mut server = Compression::server(PACKINGS[0]);
        let found = frames(&mut server, &packets(1, &[&noise, b"\xfe"]));
        assert_eq!(found, [(FRAME_MAX, false), (4 + (1 << 20) - FRAME_MAX, false), (5, false)]);
        let mut wire = Vec::new();
        server.seal(&packets(1, &[&noise])[..500_000], &mut wire).unwrap();
        assert!(wire.len() > 500_000, "the front, and of the rest what has come");
    }

    /// What a rest held it gives back when it is sent: many times as much as may be held goes by packed.
    #[test]
    fn what_is_sent_is_held_no_more() {
        let mut server = Compression::server(PACKINGS[1]);
        let reply = packets(1, &[&vec![7; 8 << 20]]);
        for _ in 0..20 {
            let mut wire = Vec::new();
            server.seal(&reply, &mut wire).unwrap();
            server.sent();
            assert!(wire.len() < 1 << 20);
        }
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
            server.open(&[], 1000, &mut plain, &mut Vec::new()).unwrap();
            assert_eq!(plain.len(), (1 << 20) + 1000);
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
