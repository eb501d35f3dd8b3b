//! Sockets as corelane makes them: where it listens, how it dials a CN. And who is at the other end.
//!
//! No protocol and no time limits here: those who wait set them.

pub mod compression;
pub mod dial;
pub mod keepalive;
pub mod listen;
pub mod tls;

/// Bytes that the kernel may hold for a peer that does not take them yet, on either leg, beside what is in flight.
/// Without a limit a client that stops reading in the middle of a large result pins megabytes of the memory that
/// all TCP sockets of the machine share.
const UNSENT_MAX: u32 = 256 * 1024;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Tcp(SocketAddr),
    Unix,
}

impl Peer {
    /// None for a client on a Unix socket.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Unix => None,
        }
    }

    /// The host as MySQL names it in a denial: without the port.
    pub fn host(self) -> String {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().to_string(),
            Self::Unix => "localhost".to_owned(),
        }
    }

    /// `ip:port`, for who has to have one: that of this host without a port for a local client.
    pub fn address(self) -> String {
        match self {
            Self::Tcp(address) => SocketAddr::new(address.ip().to_canonical(), address.port()).to_string(),
            Self::Unix => "127.0.0.1:0".to_owned(),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// A client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub client: Peer,
    /// The address that it has connected to, where that is known.
    pub called: Option<SocketAddr>,
}

/// The one address at which a listener takes connections; none where it takes those to any.
pub fn called(listener: &OwnedFd) -> Option<SocketAddr> {
    let address = socket2::SockRef::from(listener).local_addr().ok()?.as_socket()?;
    (!address.ip().is_unspecified()).then_some(address)
}

/// Sends as much of `bytes` as the kernel takes at once, if any.
pub fn send_now(socket: &OwnedFd, bytes: &[u8]) {
    let _ = socket2::SockRef::from(socket).send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
}

/// Who is at the other end; one that has gone already counts as local.
pub fn peer(socket: &OwnedFd) -> Peer {
    let address = socket2::SockRef::from(socket).peer_addr();
    address.ok().and_then(|address| address.as_socket()).map_or(Peer::Unix, Peer::Tcp)
}
