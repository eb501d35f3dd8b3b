//! A new connection to a CN.

use std::io;
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, SockAddr, Type};

use super::UNSENT_MAX;
use crate::reactor::{Reactor, Socket};
use crate::route::Target;

/// Connects to a CN; without Nagle's delay and with keepalive. The caller limits how long it may take.
pub async fn dial(reactor: &Reactor, target: &Target) -> io::Result<Socket> {
    let (fd, address) = socket_for(target)?;
    Socket::connect(reactor, fd, address).await
}

/// Whether a failed dial says something about the CN; otherwise it is this host that lacks files, memory or
/// ports.
pub fn is_about_the_cn(error: &io::Error) -> bool {
    let Some(errno) = error.raw_os_error() else { return true };
    ![libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL, libc::EAGAIN]
        .contains(&errno)
}

fn socket_for(target: &Target) -> io::Result<(OwnedFd, SockAddr)> {
    match target {
        Target::Tcp(address) => {
            let domain = Domain::for_address(*address);
            let socket =
                socket2::Socket::new(domain, Type::STREAM.cloexec().nonblocking(), Some(Protocol::TCP))?;
            socket.set_tcp_nodelay(true)?;
            socket.set_keepalive(true)?;
            socket.set_tcp_notsent_lowat(UNSENT_MAX)?;
            Ok((socket.into(), SockAddr::from(*address)))
        }
        Target::Unix(path) => {
            // Blocking: a full backlog then makes the connect wait in the ring instead of failing.
            let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
            Ok((socket.into(), SockAddr::unix(path)?))
        }
    }
}
