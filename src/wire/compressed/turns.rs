//! How frames and the packets in them are numbered, on one compressed connection.
//!
//! Without compression packets are numbered, and everybody looks at their numbers. With it frames are numbered in their place: from 0
//! at each command, the answer goes on from there, and packets inside are numbered somehow, which servers and most clients do not look
//! at (MariaDB and MySQL set the number of packets to that of frames whenever they send off what they have). The session of corelane
//! speaks without compression on both of its sides, so here packets get the numbers that they would have without it when they are
//! opened ([`Turns::open`]), and frames get theirs when packets are sealed ([`Turns::seal`]): each command and each answer begins a
//! frame of its own. Sealed packets are numbered on from the frame that they begin in, as there are clients that do look.
//!
//! A turn is what one side says until the other one speaks. Who begins it with what number is known only where a command is taken after
//! the answer to the one before has ended; who owns the session has to see to that. Frames are refused that servers would refuse.

use std::collections::VecDeque;

use super::FrameError;

const HEADER: usize = 4;
const PAYLOAD_MAX: u32 = 0xff_ffff;
/// The first byte of the packet that asks for a local file.
const FILE_REQUEST: u8 = 0xfb;

/// Who begins turns by commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commander {
    /// It is a client's connection.
    Peer,
    /// It is a connection to a server.
    Us,
}

/// One connection's numbers.
#[derive(Debug)]
pub struct Turns {
    commander: Commander,
    /// The peer's packets, with the numbers that the session is shown.
    theirs: Packets,
    /// The session's packets, with the numbers that it has given.
    ours: Packets,
    speaker: Speaker,
    /// Number of the peer's last frame, of our next frame, and of the last packet as we have written it.
    their_frame: u8,
    our_frame: u8,
    written: u8,
    /// Where the peer's commander speaks: bytes opened, and of those that the session has not taken, the ends of frames with their
    /// numbers.
    opened: u64,
    untaken: VecDeque<(u64, u8)>,
    taken: u64,
    /// We had spoken last when the peer's present frame began, and no packet has begun in it. What is in a frame was said at once, however
    /// it is opened.
    heard: bool,
    /// What is sealed next answers bytes that the session has taken since, and begins with this frame.
    answers: Option<u8>,
    /// The first frame of a turn of which the header is here, while what goes before it has to be sent off.
    kept: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaker {
    Peer,
    Us,
}

/// What the commanding side says at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    Command,
    /// Something that was asked for: the parts of a file up to an empty packet, or what a plugin wants.
    Answer,
}

/// One direction's packets, followed in any cut.
#[derive(Debug)]
struct Packets {
    head: [u8; HEADER],
    kept: usize,
    /// The frame in which that header has begun.
    frame: u8,
    /// Bytes of the present frame of the packet that are still to come, and all of its last one.
    left: u32,
    length: u32,
    /// Its number, and the first byte of the packet.
    number: u8,
    first: Option<u8>,
    speech: Speech,
}

/// What sealing has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// All bytes were taken.
    All,
    /// So many were, and what was sealed so far has to be sent off before there can be more.
    UpTo(usize),
    /// So many were, and the frame is as full as it may be.
    Full(usize),
}

impl Packets {
    fn new() -> Self {
        Self {
            head: [0; HEADER],
            kept: 0,
            frame: 0,
            left: 0,
            length: 0,
            number: u8::MAX,
            first: None,
            speech: Speech::Command,
        }
    }

    /// Whether the last frame of the last packet has ended.
    fn between_packets(&self) -> bool {
        self.kept == 0 && self.left == 0 && !self.continues()
    }

    /// Whether the next frame belongs to the same packet.
    fn continues(&self) -> bool {
        self.length == PAYLOAD_MAX
    }

    /// Takes payload off the front of `chunk`: how much.
    fn payload(&mut self, chunk: &[u8]) -> usize {
        let here = chunk.len().min(self.left as usize);
        if here > 0 && self.first.is_none() {
            self.first = Some(chunk[0]);
        }
        self.left -= here as u32;
        here
    }

    /// Takes one byte of a header, which came in `frame`; true if it is the last.
    fn header(&mut self, byte: u8, frame: u8) -> bool {
        if self.kept == 0 {
            self.frame = frame;
        }
        self.head[self.kept] = byte;
        self.kept += 1;
        self.kept == HEADER
    }

    /// Begins the packet, or the next frame of it, of which the header is here.
    fn begin(&mut self, number: u8) {
        let [a, b, c, _] = self.head;
        if !self.continues() {
            self.first = None;
        }
        self.length = u32::from_le_bytes([a, b, c, 0]);
        (self.left, self.kept, self.number) = (self.length, 0, number);
    }

    /// Whether a packet with this number, behind a whole one, is a command, if the other side has not spoken since. In a local file
    /// numbers come round to 0 again and again; it ends with an empty packet.
    fn commands_next(&self, number: u8) -> bool {
        match self.speech {
            Speech::Command => true,
            Speech::Answer => self.length == 0 && number == 0,
        }
    }

    /// The same if it has spoken last, by these packets, with `last` as its last number.
    fn commands_after(other: &Self, last: u8, number: u8) -> bool {
        let file = other.first == Some(FILE_REQUEST) && last == u8::MAX;
        number == 0 && !file
    }
}

impl Turns {
    /// Behind a login, which the server has ended with its OK.
    pub fn new(commander: Commander) -> Self {
        let speaker = if commander == Commander::Peer { Speaker::Us } else { Speaker::Peer };
        Self {
            commander,
            theirs: Packets::new(),
            ours: Packets::new(),
            speaker,
            their_frame: u8::MAX,
            our_frame: 0,
            written: u8::MAX,
            opened: 0,
            untaken: VecDeque::new(),
            taken: 0,
            heard: false,
            answers: None,
            kept: None,
        }
    }

    /// A frame of the peer's begins.
    ///
    /// # Errors
    /// A server would refuse its number.
    pub fn begin(&mut self, frame: u8) -> Result<(), FrameError> {
        self.check(frame)?;
        (self.their_frame, self.heard) = (frame, self.speaker == Speaker::Us);
        Ok(())
    }

    /// Bytes of that frame have been opened: numbers the packets in them as the session is to see them.
    pub fn open(&mut self, mut plain: &mut [u8]) {
        let frame = self.their_frame;
        self.note(frame, plain.len());
        while !plain.is_empty() {
            let payload = self.theirs.payload(plain);
            plain = &mut plain[payload..];
            let Some((byte, rest)) = plain.split_first_mut() else { break };
            if self.theirs.header(*byte, frame) {
                let number = self.opened_number(self.theirs.frame);
                self.theirs.begin(number);
                *byte = number;
                (self.speaker, self.heard) = (Speaker::Peer, false);
            }
            plain = rest;
        }
    }

    /// How much of what was opened the session has not taken yet.
    pub fn untaken(&mut self, bytes: usize) {
        let taken = self.opened.saturating_sub(bytes as u64);
        if self.commander == Commander::Us || taken <= self.taken {
            return;
        }
        self.taken = taken;
        while let Some(&(end, frame)) = self.untaken.front() {
            // If it is the last, the last byte that was taken is in it.
            self.answers = Some(frame.wrapping_add(1));
            if end > taken {
                return;
            }
            self.untaken.pop_front();
            if end == taken {
                break;
            }
        }
        if self.untaken.is_empty() {
            self.untaken = VecDeque::new();
        }
    }

    /// Takes bytes of the session's, appends them to `frame` with the numbers that they have there. It stops in front of a packet
    /// that begins a turn as long as there is something in `frame`, and when there are `full` bytes; a header is not cut.
    pub fn seal(&mut self, chunk: &[u8], frame: &mut Vec<u8>, full: usize) -> Sealed {
        let mut at = 0_usize;
        if let Some(begin) = self.kept.take() {
            self.our_frame = begin;
            frame.extend_from_slice(&self.ours.head);
        }
        loop {
            let end = chunk.len().min(at.saturating_add(full.saturating_sub(frame.len())));
            let payload = self.ours.payload(&chunk[at..end]);
            frame.extend_from_slice(&chunk[at..at + payload]);
            at += payload;
            if frame.len() >= full {
                return Sealed::Full(at);
            }
            let Some(&byte) = chunk.get(at) else { return Sealed::All };
            at += 1;
            if !self.ours.header(byte, 0) {
                continue;
            }
            let begins = self.begin_sealed();
            self.ours.head[3] = self.written;
            if begins.is_some() && !frame.is_empty() {
                self.kept = begins;
                return Sealed::UpTo(at);
            }
            self.our_frame = begins.unwrap_or(self.our_frame);
            frame.extend_from_slice(&self.ours.head);
        }
    }

    /// Passes bytes of the session's that go on with the payload of a packet which was sealed in part: how many do.
    pub fn pass(&mut self, chunk: &[u8]) -> usize {
        self.ours.payload(chunk)
    }

    /// The bytes of the present packet that are still to be sealed; 0 also where they are not the last of its frames.
    pub fn rest(&self) -> usize {
        if self.ours.continues() { 0 } else { self.ours.left as usize }
    }

    /// The number of the frame that is sent off next. One that begins a turn is known only when it is.
    pub fn next_frame(&mut self) -> u8 {
        let number = self.our_frame;
        self.our_frame = number.wrapping_add(1);
        number
    }

    /// Whether the session has said a part of a packet, or of a header, of which the rest is to come.
    pub fn within_packet(&self) -> bool {
        !self.ours.between_packets()
    }

    /// Whether a frame of that number may come now.
    fn check(&self, frame: u8) -> Result<(), FrameError> {
        let (next, begins) = (self.their_frame.wrapping_add(1), frame == 0);
        let (right, expected) = match self.commander {
            // An answer begins at 1 where its command was one frame. Of several commands that were sent together each answer may
            // begin anew, and what a server says unasked is numbered 0.
            Commander::Us => ([next, 1, 0, self.our_frame].contains(&frame), next),
            Commander::Peer if !self.theirs.between_packets() => (frame == next, next),
            Commander::Peer if self.speaker == Speaker::Us => (begins || frame == self.our_frame, 0),
            Commander::Peer => match self.theirs.speech {
                Speech::Command => (begins, 0),
                Speech::Answer => (frame == next || (begins && self.theirs.length == 0), next),
            },
        };
        if right { Ok(()) } else { Err(FrameError::OutOfOrder { found: frame, expected }) }
    }

    /// Notes where bytes that came in a frame end. Frames of the same number are as good as one.
    fn note(&mut self, frame: u8, bytes: usize) {
        self.opened += bytes as u64;
        if self.commander == Commander::Us || bytes == 0 {
            return;
        }
        match self.untaken.back_mut() {
            Some((end, number)) if *number == frame => *end = self.opened,
            _ => self.untaken.push_back((self.opened, frame)),
        }
    }

    /// The number of a packet of the peer's as it would be without compression.
    fn opened_number(&mut self, frame: u8) -> u8 {
        let heard = self.heard;
        if self.theirs.continues() || self.commander == Commander::Us {
            let last = if heard && !self.theirs.continues() { self.ours.number } else { self.theirs.number };
            return last.wrapping_add(1);
        }
        let commands = match heard {
            true => Packets::commands_after(&self.ours, self.our_frame.wrapping_sub(1), frame),
            false => self.theirs.commands_next(frame),
        };
        if commands {
            self.theirs.speech = Speech::Command;
            return 0;
        }
        if heard {
            self.theirs.speech = Speech::Answer;
        }
        if heard { self.ours.number } else { self.theirs.number }.wrapping_add(1)
    }

    /// Begins a packet of the session's; gives the number of the frame that it begins, if it begins a turn.
    fn begin_sealed(&mut self) -> Option<u8> {
        let number = self.ours.head[3];
        let turn = if self.ours.continues() {
            None
        } else if self.commander == Commander::Peer {
            self.answer(number)
        } else {
            self.command(number)
        };
        self.ours.begin(number);
        self.speaker = Speaker::Us;
        self.written = turn.unwrap_or_else(|| self.written.wrapping_add(1));
        turn
    }

    /// The number with which the session begins to answer the peer, if it does.
    fn answer(&mut self, number: u8) -> Option<u8> {
        if let Some(begin) = self.answers.take() {
            return Some(begin);
        }
        // Nobody has asked: the farewell of a session that is idle.
        (number != self.ours.number.wrapping_add(1)).then_some(number)
    }

    /// The number with which the session begins a command, or an answer to the peer, if it does.
    fn command(&mut self, number: u8) -> Option<u8> {
        let heard = self.speaker == Speaker::Peer;
        let commands = match heard {
            true => Packets::commands_after(&self.theirs, self.theirs.number, number),
            false => self.ours.commands_next(number),
        };
        if commands {
            self.ours.speech = Speech::Command;
            return Some(0);
        }
        if heard {
            self.ours.speech = Speech::Answer;
        }
        heard.then(|| self.their_frame.wrapping_add(1))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::wire::frame::write_packet;
    use proptest::prelude::*;

    /// A client or a server as MySQL's and MariaDB's are: it counts packets and frames by themselves, and sets the one to the other
    /// when it sends off what it has.
    pub(crate) struct Real {
        packet: u8,
        frame: u8,
        gathered: Vec<u8>,
        pub frames: Vec<(u8, Vec<u8>)>,
    }

    impl Real {
        pub(crate) fn new() -> Self {
            Self { packet: 0, frame: 0, gathered: Vec::new(), frames: Vec::new() }
        }

        pub(crate) fn begin_command(&mut self) {
            (self.packet, self.frame) = (0, 0);
        }

        /// Says a packet; sends off whenever there are `buffer` bytes.
        pub(crate) fn say(&mut self, payload: &[u8], buffer: usize) {
            write_packet(&mut self.gathered, &mut self.packet, payload);
            while self.gathered.len() >= buffer {
                let rest = self.gathered.split_off(buffer);
                self.send(rest);
            }
        }

        pub(crate) fn flush(&mut self) {
            if !self.gathered.is_empty() {
                self.send(Vec::new());
            }
            self.packet = self.frame;
        }

        fn send(&mut self, rest: Vec<u8>) {
            self.frames.push((self.frame, std::mem::replace(&mut self.gathered, rest)));
            self.frame = self.frame.wrapping_add(1);
        }

        /// Hears a frame, of which it looks at the number alone.
        pub(crate) fn hear(&mut self, frame: u8) {
            assert_eq!(frame, self.packet, "packets out of order");
            self.packet = self.packet.wrapping_add(1);
            self.frame = self.packet;
        }
    }

    /// What the session sees of frames.
    fn open(turns: &mut Turns, frames: Vec<(u8, Vec<u8>)>) -> Result<Vec<u8>, FrameError> {
        let mut seen = Vec::new();
        for (number, mut plain) in frames {
            turns.begin(number)?;
            turns.open(&mut plain);
            seen.extend(plain);
        }
        Ok(seen)
    }

    /// The frames in which bytes of the session go, cut into such parts.
    fn seal(turns: &mut Turns, bytes: &[u8], cut: usize, frame_max: usize) -> Vec<(u8, Vec<u8>)> {
        let (mut frames, mut plain) = (Vec::new(), Vec::new());
        let mut send = |turns: &mut Turns, plain: &mut Vec<u8>| {
            for part in std::mem::take(plain).chunks(frame_max) {
                frames.push((turns.next_frame(), part.to_vec()));
            }
        };
        for mut part in bytes.chunks(cut) {
            while let Sealed::UpTo(at) = turns.seal(part, &mut plain, usize::MAX) {
                send(turns, &mut plain);
                part = &part[at..];
            }
            send(turns, &mut plain);
        }
        frames
    }

    fn packets(mut number: u8, payloads: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        payloads.iter().for_each(|payload| write_packet(&mut bytes, &mut number, payload));
        bytes
    }

    fn numbers(frames: &[(u8, Vec<u8>)]) -> Vec<u8> {
        frames.iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn a_client_speaks_to_a_server_as_without_compression() {
        let mut turns = Turns::new(Commander::Peer);
        let mut client = Real::new();
        for rows in [1, 3, 254, 255, 256, 600] {
            client.begin_command();
            client.say(b"\x03SELECT", 5);
            client.flush();
            let frames = std::mem::take(&mut client.frames);
            assert_eq!(numbers(&frames), [0, 1, 2], "in small frames");
            assert_eq!(open(&mut turns, frames).unwrap(), packets(0, &[b"\x03SELECT"]));
            turns.untaken(0);
            // The reply begins at 1, as its command was one packet.
            let reply = packets(1, &vec![&b"\xfbrow"[..]; rows]);
            let frames = seal(&mut turns, &reply, 7, 5);
            frames.iter().for_each(|(number, _)| client.hear(*number));
            assert_eq!(frames[0].1[..4], [4, 0, 0, 3], "packets are numbered on from their frame");
        }
    }

    #[test]
    fn a_local_file_goes_on_with_the_numbers_of_the_request() {
        for before in [0, 250, 251, 252, 253, 254, 255, 256, 511] {
            for file_buffer in [1 << 20, 30, 14] {
                let mut turns = Turns::new(Commander::Peer);
                let mut client = Real::new();
                client.say(b"\x03SELECT; LOAD", 1 << 20);
                client.flush();
                open(&mut turns, std::mem::take(&mut client.frames)).unwrap();
                turns.untaken(0);
                let mut reply = vec![&b"\x05other rows"[..]; before];
                reply.push(b"\xfbfile");
                let request = seal(&mut turns, &packets(1, &reply), 15, 1000);
                request.iter().for_each(|(number, _)| client.hear(*number));
                for _ in 0..700 {
                    client.say(b"ten bytes!", file_buffer);
                }
                client.say(b"", file_buffer);
                client.flush();
                let parts = [vec![&b"ten bytes!"[..]; 700], vec![&b""[..]]].concat();
                let first = (before + 2) as u8;
                let seen = open(&mut turns, std::mem::take(&mut client.frames)).unwrap();
                assert!(seen == packets(first, &parts), "{before} packets before, {file_buffer}");
                turns.untaken(0);
                let ok =
                    seal(&mut turns, &packets(first.wrapping_add((701 % 256) as u8), &[b"\0"]), 100, 1000);
                ok.iter().for_each(|(number, _)| client.hear(*number));
                client.begin_command();
                client.say(b"\x0e", 100);
                client.flush();
                let next = open(&mut turns, std::mem::take(&mut client.frames));
                assert_eq!(next, Ok(packets(0, &[b"\x0e"])));
            }
        }
    }

    #[test]
    fn a_server_is_heard_as_without_compression() {
        let mut turns = Turns::new(Commander::Us);
        let mut server = Real::new();
        for (rows, flush_each) in [(1, 1), (300, 7), (256, 256), (255, 1), (257, 100)] {
            let frames = seal(&mut turns, &packets(0, &[b"\x03SELECT"]), 3, 4);
            server.begin_command();
            frames.iter().for_each(|(number, _)| server.hear(*number));
            for row in 0..rows {
                server.say(if row + 1 < rows { b"\xfbrow" } else { b"\xfe" }, 20);
                if row % flush_each == 0 {
                    server.flush();
                }
            }
            server.flush();
            let seen = open(&mut turns, std::mem::take(&mut server.frames)).unwrap();
            let mut said = vec![&b"\xfbrow"[..]; rows];
            said[rows - 1] = b"\xfe";
            assert!(seen == packets(1, &said), "{rows} rows");
        }
    }

    #[test]
    fn a_server_is_given_a_local_file_whatever_its_packets_are_numbered() {
        for before in [0, 252, 253, 254, 255] {
            let mut turns = Turns::new(Commander::Us);
            let mut server = Real::new();
            let command = seal(&mut turns, &packets(0, &[b"\x03LOAD"]), 100, 100);
            command.iter().for_each(|(number, _)| server.hear(*number));
            (0..before).for_each(|_| server.say(b"\x05other rows", 1000));
            server.say(b"\xfbfile", 1000);
            server.flush();
            open(&mut turns, std::mem::take(&mut server.frames)).unwrap();
            let parts = [vec![&b"part"[..]; 600], vec![&b""[..]]].concat();
            let file = seal(&mut turns, &packets((before + 2) as u8, &parts), 40, 1000);
            file.iter().for_each(|(number, _)| server.hear(*number));
            server.say(b"\0", 1000);
            server.flush();
            let ok = open(&mut turns, std::mem::take(&mut server.frames)).unwrap();
            assert_eq!(ok[3], (before + 2 + 601) as u8);
            let next = seal(&mut turns, &packets(0, &[b"\x03SELECT"]), 100, 100);
            assert_eq!(numbers(&next), [0], "{before}");
        }
    }

    #[test]
    fn each_of_several_commands_begins_a_frame() {
        let mut turns = Turns::new(Commander::Us);
        let commands =
            [packets(0, &[b"\x19close"]), packets(0, &[b"\x03a"]), packets(0, &[b"\x03b"])].concat();
        for cut in 1..commands.len() {
            let frames = seal(&mut turns, &commands, 1000.min(cut * 1000), 1000);
            assert_eq!(numbers(&frames), [0, 0, 0]);
            assert_eq!(frames.concat_plain(), commands);
        }
        // Each is answered from 1 on, as is checked and not taken amiss.
        assert!(turns.check(1).is_ok() && turns.check(7).is_err());
    }

    trait ConcatPlain {
        fn concat_plain(&self) -> Vec<u8>;
    }

    impl ConcatPlain for Vec<(u8, Vec<u8>)> {
        fn concat_plain(&self) -> Vec<u8> {
            self.iter().flat_map(|(_, plain)| plain.clone()).collect()
        }
    }

    #[test]
    fn pipelined_commands_are_answered_one_by_one() {
        let mut turns = Turns::new(Commander::Peer);
        let mut client = Real::new();
        for text in [&b"\x03one"[..], b"\x03second, which takes two frames", b"\x03c"] {
            client.begin_command();
            client.say(text, 20);
            client.flush();
        }
        let frames = std::mem::take(&mut client.frames);
        assert_eq!(numbers(&frames), [0, 0, 1, 0]);
        let mut unread = open(&mut turns, frames).unwrap().len();
        for (bytes, first) in [(8, 1), (35, 2), (6, 1)] {
            unread -= bytes;
            turns.untaken(unread);
            let reply = seal(&mut turns, &packets(1, &vec![&b"r"[..]; 300]), 9, 100);
            let expected: Vec<u8> = (0..reply.len()).map(|at| (first + at) as u8).collect();
            assert_eq!(numbers(&reply), expected);
        }
        assert_eq!(unread, 0);
        let farewell = seal(&mut turns, &packets(0, &[b"\xff killed"]), 100, 100);
        assert_eq!(numbers(&farewell), [0], "as it is without compression");
    }

    /// Commands in one frame, of which the first is answered before the rest is opened.
    #[test]
    fn it_makes_no_difference_how_much_of_a_frame_is_opened_at_once() {
        let said =
            [packets(0, &[b"\x03one"]), packets(0, &[b"\x03two"]), packets(0, &[b"\x03three"])].concat();
        for number in [0, 7] {
            for cut in 1..said.len() {
                let mut turns = Turns::new(Commander::Peer);
                for frame in 0..number {
                    turns.begin(frame).unwrap();
                    let mut front = if frame == 0 { vec![250, 0, 0, 0, 3] } else { vec![b'x'] };
                    turns.open(&mut front);
                }
                turns.begin(number).unwrap();
                let rest = if number == 0 { vec![] } else { vec![b'x'; 250 - usize::from(number)] };
                let mut seen = [&rest[..], &said].concat();
                let (front, back) = seen.split_at_mut(rest.len() + cut);
                turns.open(front);
                turns.untaken(front.len().saturating_sub(rest.len() + 8));
                seal(&mut turns, &packets(1, &[b"\0"]), 100, 100);
                turns.open(back);
                assert_eq!(seen[rest.len()..], said, "frame {number}, cut at {cut}");
            }
        }
    }

    #[test]
    fn frames_that_servers_refuse_are_refused() {
        let select = packets(0, &[b"\x03SELECT"]);
        let opened = |frames: &[(u8, &[u8])]| {
            let mut turns = Turns::new(Commander::Peer);
            let frames = frames.iter().map(|(number, plain)| (*number, plain.to_vec())).collect();
            open(&mut turns, frames).map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(opened(&[(0, &select[..5]), (1, &select[5..]), (0, &select)]), Ok(()));
        let wrong = |found, expected| {
            Err(format!("compressed frame number {found} came out of order, {expected} was expected"))
        };
        assert_eq!(opened(&[(1, &select)]), wrong(1, 0));
        assert_eq!(opened(&[(0, &select), (1, &select)]), wrong(1, 0));
        assert_eq!(opened(&[(0, &select[..5]), (0, &select[5..])]), wrong(0, 1));
        assert_eq!(opened(&[(0, &select[..2]), (2, &select[2..])]), wrong(2, 1));
    }

    #[test]
    fn a_packet_of_several_frames_is_one() {
        let big = vec![3; PAYLOAD_MAX as usize];
        let mut turns = Turns::new(Commander::Peer);
        let mut client = Real::new();
        client.say(&big, 5 << 20);
        client.flush();
        let seen = open(&mut turns, std::mem::take(&mut client.frames)).unwrap();
        assert!(seen == packets(0, &[&big]), "the second, empty frame of it is numbered 1");
        turns.untaken(0);
        let reply = seal(&mut turns, &packets(2, &[b"\0"]), 100, 100);
        assert_eq!(numbers(&reply), [4], "behind four compressed ones");
        let mut turns = Turns::new(Commander::Us);
        let frames = seal(&mut turns, &packets(0, &[&big]), 1 << 20, 1 << 19);
        let expected: Vec<u8> = (0..frames.len()).map(|at| at as u8).collect();
        assert_eq!(numbers(&frames), expected);
        let reply = open(&mut turns, vec![(frames.len() as u8, packets(frames.len() as u8, &[b"\0"]))]);
        assert_eq!(reply, Ok(packets(2, &[b"\0"])));
    }

    proptest! {
        #[test]
        fn noise_never_panics_and_loses_no_byte(
            steps in proptest::collection::vec((0u8..3, any::<u8>(), any::<Vec<u8>>(), 0usize..300), 0..60),
            us: bool,
        ) {
            let mut turns = Turns::new(if us { Commander::Us } else { Commander::Peer });
            let (mut said, mut sealed) = (0, 0);
            for (kind, number, mut bytes, unread) in steps {
                match kind {
                    0 => {
                        let _ = turns.begin(number);
                        turns.open(&mut bytes);
                    }
                    1 => turns.untaken(unread),
                    _ => {
                        said += bytes.len();
                        sealed += seal(&mut turns, &bytes, 10, 50).iter().map(|(_, plain)| plain.len()).sum::<usize>();
                    }
                }
            }
            prop_assert!(sealed <= said && said - sealed < HEADER);
        }
    }
}
