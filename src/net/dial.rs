//! A new connection to a CN.

use std::io;
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, SockAddr, Type};

use super::{UNSENT_MAX, keepalive};
use crate::config::settings::Keepalive;
use crate::reactor::{Reactor, Socket};
use crate::route::Target;

/// Connects to a CN; without Nagle's delay and with keepalive, as `times` says over TCP. The caller limits how long it may take.
pub async fn dial(reactor: &Reactor, target: &Target, times: &Keepalive) -> io::Result<Socket> {
    let (fd, address) = socket_for(target, times)?;
    Socket::connect(reactor, fd, address).await
}

/// Whether a failed dial says something about the CN; otherwise it is this host that lacks files, memory or
/// ports.
pub fn is_about_the_cn(error: &io::Error) -> bool {
    let Some(errno) = error.raw_os_error() else { return true };
    ![libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL, libc::EAGAIN]
        .contains(&errno)
}

fn socket_for(target: &Target, times: &Keepalive) -> io::Result<(OwnedFd, SockAddr)> {
    match target {
        Target::Tcp(address) => {
            let domain = Domain::for_address(*address);
            let socket =
                socket2::Socket::new(domain, Type::STREAM.cloexec().nonblocking(), Some(Protocol::TCP))?;
            socket.set_tcp_nodelay(true)?;
            socket.set_keepalive(true)?;
            socket.set_tcp_notsent_lowat(UNSENT_MAX)?;
            keepalive::set(&socket, times)?;
            Ok((socket.into(), SockAddr::from(*address)))
        }
        Target::Unix(path) => {
            // Blocking: a full backlog then makes the connect wait in the ring instead of failing.
            let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
            Ok((socket.into(), SockAddr::unix(path)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use socket2::SockRef;

    use super::*;

    #[test]
    fn tcp_is_watched_as_was_said_and_a_unix_socket_is_let_be() {
        let times = Keepalive { idle: Some(Duration::from_secs(33)), ..Keepalive::default() };
        let (tcp, _) = socket_for(&Target::Tcp("127.0.0.1:1".parse().unwrap()), &times).unwrap();
        let tcp = SockRef::from(&tcp);
        assert!(tcp.keepalive().unwrap());
        assert_eq!(tcp.tcp_keepalive_time().unwrap(), Duration::from_secs(33));
        let (unix, _) = socket_for(&Target::Unix("/nowhere".into()), &times).unwrap();
        assert!(!SockRef::from(&unix).keepalive().unwrap());
    }
}
