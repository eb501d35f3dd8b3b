//! The sockets that clients connect to, bound before the workers start so that a mistake is told at once.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::UNSENT_MAX;
use crate::config::settings::ListenAddress;

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {cause}")]
pub struct ListenError {
    address: String,
    cause: io::Error,
}

/// A socket file of ours; removed when the process ends in order.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else may have cleaned up already.
        let _ = fs::remove_file(&self.0);
    }
}

/// The listeners of all workers.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For each worker, its listeners.
    pub by_worker: Vec<Vec<OwnedFd>>,
    pub files: Vec<SocketFile>,
}

/// Binds every address for every worker: TCP with SO_REUSEPORT, a socket of its own for each worker; a Unix
/// path once, shared by all.
pub fn bind(addresses: &[ListenAddress], workers: usize, backlog: u32) -> Result<Listeners, ListenError> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    let mut listeners = Listeners::default();
    listeners.by_worker.resize_with(workers, Vec::new);
    for address in addresses {
        let named = |cause| ListenError { address: name(address), cause };
        match address {
            ListenAddress::Tcp(tcp) => {
                for own in &mut listeners.by_worker {
                    own.push(bind_tcp(*tcp, backlog).map_err(named)?);
                }
            }
            ListenAddress::Unix(path) => {
                let listener = bind_unix(path, backlog).map_err(named)?;
                listeners.files.push(SocketFile(path.clone()));
                for own in &mut listeners.by_worker {
                    own.push(listener.try_clone().map_err(named)?);
                }
            }
        }
    }
    Ok(listeners)
}

/// Accepted sockets inherit these options from the listener, which saves the calls for each.
fn bind_tcp(address: SocketAddr, backlog: i32) -> io::Result<OwnedFd> {
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM.cloexec().nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    socket.set_tcp_notsent_lowat(UNSENT_MAX)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// A socket file that nobody listens on any more is taken over; a living one is an error.
fn bind_unix(path: &Path, backlog: i32) -> io::Result<OwnedFd> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err() {
        fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec().nonblocking(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

fn name(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(tcp) => tcp.to_string(),
        ListenAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_has_its_own_listener_on_one_port() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let probe = bind_tcp(any, 1).expect("a free port");
        let bound = socket2::SockRef::from(&probe).local_addr().expect("bound");
        let address = ListenAddress::Tcp(bound.as_socket().expect("an internet address"));
        let listeners = bind(&[address], 3, 16).expect("bound again");
        assert_eq!(listeners.by_worker.len(), 3);
        assert!(listeners.by_worker.iter().all(|own| own.len() == 1));
    }

    #[test]
    fn a_dead_socket_file_is_taken_over_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let address = ListenAddress::Unix(dir.path().join("sql.sock"));
        let first = bind(std::slice::from_ref(&address), 2, 16).expect("bound");
        let second = bind(std::slice::from_ref(&address), 2, 16).expect_err("somebody listens");
        assert!(second.to_string().starts_with("cannot listen on unix:/"), "{second}");
        let Listeners { by_worker, files } = first;
        drop(by_worker);
        let again = bind(std::slice::from_ref(&address), 1, 16).expect("the old listener is gone");
        files.into_iter().for_each(std::mem::forget);
        drop(again);
        assert!(!dir.path().join("sql.sock").exists());
    }
}
