//! A new connection to a CN.

use std::io;
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, SockAddr, Type};

use crate::reactor::{Reactor, Socket};
use crate::route::Target;

/// Connects to a CN; without Nagle's delay and with keepalive. The caller limits how long it may take.
pub async fn dial(reactor: &Reactor, target: &Target) -> io::Result<Socket> {
    let (fd, address) = socket_for(target)?;
    Socket::connect(reactor, fd, address).await
}

fn socket_for(target: &Target) -> io::Result<(OwnedFd, SockAddr)> {
    match target {
        Target::Tcp(address) => {
            let domain = Domain::for_address(*address);
            let socket =
                socket2::Socket::new(domain, Type::STREAM.cloexec().nonblocking(), Some(Protocol::TCP))?;
            socket.set_tcp_nodelay(true)?;
            socket.set_keepalive(true)?;
            Ok((socket.into(), SockAddr::from(*address)))
        }
        Target::Unix(path) => {
            let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM.cloexec().nonblocking(), None)?;
            Ok((socket.into(), SockAddr::unix(path)?))
        }
    }
}
