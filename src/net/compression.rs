//! Compression on one leg: corelane as the server of its clients, or as the client of a CN.
//!
//! A [`Compression`] is a layer of a socket. It lies above TLS where there is any, and is put on behind the login's OK. What a frame
//! is and how frames are numbered is told in [`crate::wire::compressed`]; here bytes are gathered into frames as they are sent, and
//! opened no further than they are wanted.
//!
//! Invariant: between two calls it holds what came and is no whole frame, or may not be opened yet, and the beginning of a header that
//! was sent in parts; an idle session's holds no memory for either.

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
        for plain in self.plain.chunks(FRAME_MAX) {
            write_frame(self.packing, self.turns.next_frame(), plain, wire);
        }
        self.plain.clear();
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
        if self.plain.len() >= FRAME_MAX {
            self.send_off(wire);
        }
        Ok(())
    }

    fn flush(&mut self, wire: &mut Vec<u8>) -> Result<(), String> {
        self.send_off(wire);
        self.plain = Vec::new();
        Ok(())
    }

    fn close(&mut self, _wire: &mut Vec<u8>) {}

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
