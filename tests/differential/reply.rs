//! One reply, read to its end: all packets of it as they came, under the capabilities of the connection.
//!
//! It follows the protocol by its own reading of the pages "COM_QUERY Response", "COM_STMT_PREPARE Response",
//! "COM_STMT_EXECUTE Response" and "COM_STMT_FETCH", not by the library that is tested.

use std::io;

use super::house::{Can, Extended, RawClient};

const CURSOR_EXISTS: u16 = 0x0040;
const MORE_RESULTS: u16 = 0x0008;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The sequence number of its last frame.
    pub sequence: u8,
    pub payload: Vec<u8>,
}

pub type Reply = Vec<Packet>;

/// Definitions of a statement's results, as a client keeps them that the server need not send them again.
pub type Definitions = Vec<Vec<u8>>;

/// What a command is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// COM_STMT_CLOSE, COM_STMT_SEND_LONG_DATA.
    Nothing,
    /// OK, EOF or ERR.
    One,
    /// Any number of results.
    Results,
    /// Definitions of columns without a count.
    Fields,
    /// A prepared statement with its definitions.
    Prepared,
    /// Rows alone.
    Rows,
}

pub struct Reader<'a> {
    client: &'a mut RawClient,
    /// What the client answers when it is asked for a file.
    file: &'a [u8],
    /// Of the statement that is prepared or executed.
    kept: &'a mut Definitions,
    reply: Reply,
    /// Definitions that were put into the reply.
    put_in: u8,
}

impl<'a> Reader<'a> {
    pub fn new(client: &'a mut RawClient, file: &'a [u8], kept: &'a mut Definitions) -> Self {
        Self { client, file, kept, reply: Vec::new(), put_in: 0 }
    }

    /// The whole reply. An end of the connection within it is an error.
    pub fn read(mut self, shape: Shape) -> io::Result<Reply> {
        match shape {
            Shape::Nothing => (),
            Shape::One => drop(self.next()?),
            Shape::Results => while self.result()? {},
            Shape::Fields | Shape::Rows => drop(self.rows()?),
            Shape::Prepared => self.prepared()?,
        }
        Ok(self.reply)
    }

    fn next(&mut self) -> io::Result<Vec<u8>> {
        let payload = self.client.try_packet()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let sequence = self.client.sequence.wrapping_add(self.put_in);
        self.reply.push(Packet { sequence, payload: payload.clone() });
        Ok(payload)
    }

    fn deprecates_eof(&self) -> bool {
        self.client.capabilities & Can::DEPRECATE_EOF != 0
    }

    /// Whether another result follows.
    fn result(&mut self) -> io::Result<bool> {
        let head = self.next()?;
        let columns = match head[0] {
            0xff => return Ok(false),
            0x00 => return Ok(self.status(&head) & MORE_RESULTS != 0),
            0xfb => return self.infile(),
            few @ 0x01..0xfb => usize::from(few),
            0xfc => usize::from(u16::from_le_bytes([head[1], head[2]])),
            other => panic!("a reply begins with {other:#x}"),
        };
        self.definitions(columns)?;
        if !self.deprecates_eof() {
            let eof = self.next()?;
            if self.status(&eof) & CURSOR_EXISTS != 0 {
                return Ok(self.status(&eof) & MORE_RESULTS != 0);
            }
        }
        let last = self.rows()?;
        Ok(last[0] != 0xff && self.status(&last) & MORE_RESULTS != 0)
    }

    /// Definitions after the count of columns, sent or left out: then those that the client has kept take their place.
    fn definitions(&mut self, columns: usize) -> io::Result<()> {
        let head = self.reply.last_mut().expect("the count of columns");
        let flag = head.payload.last_mut().expect("a flag");
        if self.client.extended & Extended::CACHE_METADATA == 0 || *flag != 0 {
            return self.described(columns);
        }
        *flag = 1;
        let sequence = head.sequence;
        for (definition, after) in self.kept.iter().zip(1..) {
            let sequence = sequence.wrapping_add(after);
            self.reply.push(Packet { sequence, payload: definition.clone() });
            self.put_in = self.put_in.wrapping_add(1);
        }
        Ok(())
    }

    /// Definitions that are sent. Where they are kept, character set and length are masked: MariaDB does not send them anew when
    /// `character_set_results` has changed.
    fn described(&mut self, count: usize) -> io::Result<()> {
        let keeps = self.client.extended & Extended::CACHE_METADATA != 0;
        self.kept.clear();
        for _ in 0..count {
            self.next()?;
            let definition = &mut self.reply.last_mut().expect("a definition").payload;
            let end = definition.len();
            if keeps {
                definition[end - 12..end - 6].fill(0);
            }
            self.kept.push(definition.clone());
        }
        Ok(())
    }

    /// Rows up to the packet that ends them, which is the result.
    fn rows(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let packet = self.next()?;
            let shorter_than = if self.deprecates_eof() { 0xff_ffff } else { 9 };
            if packet[0] == 0xff || packet[0] == 0xfe && packet.len() < shorter_than {
                return Ok(packet);
            }
        }
    }

    fn infile(&mut self) -> io::Result<bool> {
        if !self.file.is_empty() {
            self.client.send(self.client.sequence.wrapping_add(1), self.file);
            self.client.sequence = self.client.sequence.wrapping_add(1);
        }
        self.client.send(self.client.sequence.wrapping_add(1), b"");
        self.result()
    }

    fn prepared(&mut self) -> io::Result<()> {
        let ok = self.next()?;
        if ok[0] == 0xff {
            return Ok(());
        }
        let (columns, parameters) = (u16::from_le_bytes([ok[5], ok[6]]), u16::from_le_bytes([ok[7], ok[8]]));
        for count in [parameters, columns] {
            self.described(count.into())?;
            if count > 0 && !self.deprecates_eof() {
                self.next()?;
            }
        }
        Ok(())
    }

    /// The status flags of an OK, or of an EOF.
    fn status(&self, packet: &[u8]) -> u16 {
        let mut at = 1;
        if packet[0] == 0x00 || self.deprecates_eof() {
            at += lenenc_len(packet[at]);
            at += lenenc_len(packet[at]);
        } else {
            at += 2;
        }
        u16::from_le_bytes([packet[at], packet[at + 1]])
    }
}

/// How many bytes an integer takes that begins with this one.
fn lenenc_len(first: u8) -> usize {
    match first {
        0xfc => 3,
        0xfd => 4,
        0xfe => 9,
        _ => 1,
    }
}
