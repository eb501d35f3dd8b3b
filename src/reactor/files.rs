//! The ring's own table of files.
//!
//! A socket that is moved into it leaves the process's table of descriptors: it no longer counts against the
//! limit of open files, and the kernel finds it without taking a reference for each operation. The table is
//! as long as it was made; a socket that finds no place keeps its descriptor and works all the same.
//!
//! To close a socket takes the kernel longer than to pass a packet on, as it tells the peer and, where that is on the same machine, does
//! the peer's part too. So of many that end at a time few are closed in each turn, behind what it sends, and turns in which nothing else is to be
//! done are some time apart: whoever shares the CPU gets it in between. The longer the queue the more of it is closed, so that it
//! does not grow beyond what comes in [`SHARE`] turns.
//!
//! Invariant: a place is free only when the kernel has taken the order to empty it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::{opcode, squeue, types};

use super::Op;
use super::ring::Ring;

/// Files closed in a turn at least, if there are as many, and which part of those that wait.
const AT_LEAST: usize = 2;
const SHARE: usize = 64;
/// How long a turn waits for something else while there are files to close.
pub(super) const PAUSE: Duration = Duration::from_micros(200);

/// A file of the ring: in its table, or by descriptor.
#[derive(Debug)]
pub(super) enum File {
    Descriptor(OwnedFd),
    Place(u32),
}

impl File {
    /// What goes into the `fd` field of an operation; see [`Self::aim`].
    #[inline]
    pub fn fd(&self) -> types::Fd {
        match self {
            Self::Descriptor(fd) => types::Fd(fd.as_raw_fd()),
            Self::Place(place) => types::Fd(*place as RawFd),
        }
    }

    /// Says of an operation whether its `fd` is a place in the table.
    #[inline]
    pub fn aim(&self, entry: squeue::Entry) -> squeue::Entry {
        match self {
            Self::Descriptor(_) => entry,
            Self::Place(_) => entry.flags(squeue::Flags::FIXED_FILE),
        }
    }
}

/// The table's free places, and the files that are to be closed.
pub(super) struct Files {
    free: Vec<u32>,
    leaving: VecDeque<File>,
    /// Places whose files the kernel closes with the next turn.
    closing: Vec<u32>,
}

impl Files {
    /// A table with as many places as wanted, or as the kernel gives: it allows no more than files may be
    /// open. Without a table every socket keeps its descriptor.
    pub fn new(ring: &Ring, places: u32) -> Self {
        let free = match ring.submitter().register_files_sparse(places) {
            Ok(()) => (0..places).rev().collect(),
            Err(_) => Vec::new(),
        };
        Self { free, leaving: VecDeque::new(), closing: Vec::new() }
    }

    /// Moves a file into the table.
    pub fn place(&mut self, ring: &Ring, fd: OwnedFd) -> File {
        let Some(place) = self.free.pop() else { return File::Descriptor(fd) };
        match put(ring, place, fd.as_raw_fd()) {
            Ok(()) => File::Place(place),
            Err(_) => {
                self.free.push(place);
                File::Descriptor(fd)
            }
        }
    }

    /// Has a file closed. No operation on it may be in flight.
    pub fn close(&mut self, file: File) {
        self.leaving.push_back(file);
    }

    /// Has some of those closed that are to be closed.
    #[inline]
    pub fn close_some(&mut self, ring: &mut Ring) {
        let some = AT_LEAST.max(self.leaving.len() / SHARE);
        for _ in 0..some {
            let Some(file) = self.leaving.pop_front() else { return };
            // A descriptor is closed by being dropped.
            if let File::Place(place) = file {
                // One that fails leaves a file in its place, which the next one replaces.
                let close = opcode::Close::new(types::Fixed(place)).build();
                let close = close.flags(squeue::Flags::SKIP_SUCCESS).user_data(Op::Forget.tag(0));
                // SAFETY: the operation refers to no memory.
                unsafe { ring.push(&close) };
                self.closing.push(place);
            }
        }
    }

    /// The ring was entered: the places are free whose files the kernel has closed.
    #[inline]
    pub fn settle(&mut self, ring: &mut Ring) {
        if !self.closing.is_empty() && ring.is_drained() {
            self.free.append(&mut self.closing);
        }
    }

    /// Whether all are closed that were to be closed.
    pub fn are_gone(&self) -> bool {
        self.leaving.is_empty() && self.closing.is_empty()
    }
}

fn put(ring: &Ring, place: u32, fd: RawFd) -> io::Result<()> {
    ring.submitter().register_files_update(place, &[fd]).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::{AT_LEAST, SHARE};
    use crate::reactor::rig::{on_reactor, pair};

    fn are_closed(peers: &[UnixStream]) -> usize {
        peers.iter().filter(|peer| (&mut &**peer).read(&mut [0]).is_ok_and(|n| n == 0)).count()
    }

    #[test]
    fn of_many_files_few_are_closed_at_a_time_and_all_before_the_end() {
        // In the ring's table, in part, and with descriptors.
        for files in [1000, 100, 0] {
            let places = files as usize;
            let peers = on_reactor(files, async move |reactor| {
                let (peers, sockets): (Vec<_>, Vec<_>) = (0..400).map(|_| pair(&reactor)).unzip();
                for peer in &peers {
                    peer.set_nonblocking(true).expect("a socket");
                }
                drop(sockets);
                assert_eq!(are_closed(&peers), 0);
                let mut closed = 0;
                while closed < 400 {
                    let core = &mut *reactor.core.borrow_mut();
                    core.files.close_some(&mut core.ring);
                    core.ring.wait(Duration::ZERO, Some(Duration::ZERO));
                    core.files.settle(&mut core.ring);
                    let before = std::mem::replace(&mut closed, are_closed(&peers));
                    assert_eq!(closed - before, (400 - before).min(AT_LEAST.max((400 - before) / SHARE)));
                }
                assert_eq!(reactor.core.borrow().files.free.len(), places);
                drop(pair(&reactor));
                peers
            });
            assert_eq!(are_closed(&peers), 400);
        }
    }
}
