//! One side of a session while it logs in: whole packets in and out, with their sequence numbers.
//!
//! For the few small packets before the relay takes over; it copies, and has a limit. Bytes behind the
//! packet that was read stay in the socket.

use std::borrow::Borrow;
use std::io;

use crate::reactor::{Received, Socket};
use crate::session::login::PACKET_MAX;
use crate::wire::{frame, proxy_header};

const HEADER: usize = 4;

/// Why no packet could be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LegError {
    #[error("the connection was closed")]
    Closed,
    #[error("{0}")]
    Broken(io::Error),
    #[error("a packet of {found} bytes, at most {PACKET_MAX} are expected during login")]
    TooLong { found: usize },
    #[error("a header of the PROXY protocol in the place of a packet")]
    ProxyHeader,
    #[error("packet number {found} came out of order, {expected} was expected")]
    OutOfOrder { found: u8, expected: u8 },
}

/// A socket, its own or a session's, and the number of the next packet on it.
pub struct Leg<S = Socket> {
    pub socket: S,
    seq: u8,
}

impl<S: Borrow<Socket>> Leg<S> {
    pub fn new(socket: S) -> Self {
        Self::at(socket, 0)
    }

    /// In the middle of a conversation.
    pub fn at(socket: S, seq: u8) -> Self {
        Self { socket, seq }
    }

    /// Reads the payload of the first packet of a CN, and counts on from its number: servers differ in how
    /// they number an ERR that stands in for their greeting.
    pub async fn read_first(&mut self) -> Result<Vec<u8>, LegError> {
        self.read_numbered(None).await
    }

    /// Reads the payload of the next packet.
    pub async fn read(&mut self) -> Result<Vec<u8>, LegError> {
        self.read_numbered(Some(self.seq)).await
    }

    async fn read_numbered(&mut self, expected: Option<u8>) -> Result<Vec<u8>, LegError> {
        let mut bytes = Vec::new();
        self.fill(&mut bytes, HEADER).await?;
        let length = usize::from(bytes[0]) | usize::from(bytes[1]) << 8 | usize::from(bytes[2]) << 16;
        if proxy_header::is_start([bytes[0], bytes[1], bytes[2], bytes[3]]) {
            // Behind it is the packet, which is what is answered.
            self.seq = expected.unwrap_or_default().wrapping_add(1);
            return Err(LegError::ProxyHeader);
        }
        if length > PACKET_MAX {
            return Err(LegError::TooLong { found: length });
        }
        match expected {
            Some(expected) if bytes[3] != expected => {
                return Err(LegError::OutOfOrder { found: bytes[3], expected });
            }
            _ => self.seq = bytes[3].wrapping_add(1),
        }
        bytes.clear();
        self.fill(&mut bytes, length).await?;
        Ok(bytes)
    }

    /// The number of the packet that was read last.
    pub fn last_number(&self) -> u8 {
        self.seq.wrapping_sub(1)
    }

    /// Writes `payload` as the next packet.
    pub async fn write(&mut self, payload: &[u8]) -> Result<(), LegError> {
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        frame::write_packet(&mut bytes, &mut self.seq, payload);
        self.socket.borrow().send(bytes).await.map_err(LegError::Broken)
    }

    async fn fill(&self, bytes: &mut Vec<u8>, length: usize) -> Result<(), LegError> {
        while bytes.len() < length {
            let socket = self.socket.borrow();
            match socket.received().await {
                Received::Data => {
                    socket.read_into(bytes, length - bytes.len());
                }
                Received::End => return Err(LegError::Closed),
                Received::Broken(errno) => return Err(LegError::Broken(io::Error::from_raw_os_error(errno))),
            }
        }
        Ok(())
    }
}
