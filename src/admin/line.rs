//! One admin connection as packets: whole ones in, whole replies out.
//!
//! Replies are gathered and sent at once. Packets are bounded: an admin statement is short.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::wire;
use crate::wire::capability::Capabilities;
use crate::wire::frame::{PacketReader, write_packet};
use crate::wire::resultset::{ColumnDefinition, TextResultSet};

/// Bytes of the largest packet that a client may send.
pub const PACKET_MAX: usize = 64 * 1024;

/// How long a client may take to read a reply.
const SEND_LIMIT: Duration = Duration::from_secs(30);

/// Bytes read at once.
const READ: usize = 4096;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the client closed the connection")]
    Closed,
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("the client does not read what it asked for")]
    Stalled,
    #[error("the client broke the protocol: {0}")]
    Wire(#[from] wire::Error),
}

#[derive(Debug)]
pub struct Line {
    stream: TcpStream,
    reader: PacketReader,
    /// The sequence number of the next packet out.
    sequence: u8,
    out: Vec<u8>,
}

impl Line {
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, reader: PacketReader::new(PACKET_MAX), sequence: 0, out: Vec::new() }
    }

    /// The next packet of the conversation that goes on, as in a login.
    pub async fn receive(&mut self) -> Result<Vec<u8>, Error> {
        self.reader.expect(self.sequence);
        self.read_packet().await
    }

    /// The next command: with it the numbering begins anew.
    pub async fn receive_command(&mut self) -> Result<Vec<u8>, Error> {
        self.reader.expect(0);
        self.read_packet().await
    }

    /// Adds a packet to the reply.
    pub fn put(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut payload = Vec::new();
        write(&mut payload);
        write_packet(&mut self.out, &mut self.sequence, &payload);
    }

    /// Adds a result set, whose rows `rows` writes, to the reply.
    pub fn put_result_set(
        &mut self,
        capabilities: Capabilities,
        status: u16,
        columns: &[ColumnDefinition<'_>],
        rows: impl FnOnce(&mut TextResultSet<'_>),
    ) {
        let mut set = TextResultSet::begin(&mut self.out, &mut self.sequence, capabilities, status, columns);
        rows(&mut set);
        set.end();
    }

    /// Sends the reply.
    pub async fn send(&mut self) -> Result<(), Error> {
        let written = timeout(SEND_LIMIT, self.stream.write_all(&self.out)).await;
        self.out.clear();
        Ok(written.map_err(|_| Error::Stalled)??)
    }

    async fn read_packet(&mut self) -> Result<Vec<u8>, Error> {
        loop {
            if let Some(packet) = self.reader.take()? {
                self.sequence = self.reader.next_sequence();
                return Ok(packet);
            }
            let mut bytes = [0; READ];
            match self.stream.read(&mut bytes).await? {
                0 => return Err(Error::Closed),
                n => self.reader.push(&bytes[..n]),
            }
        }
    }
}
