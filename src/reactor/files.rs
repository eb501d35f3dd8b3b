//! The ring's own table of files.
//!
//! A socket that is moved into it leaves the process's table of descriptors: it no longer counts against the
//! limit of open files, and the kernel finds it without taking a reference for each operation. The table is
//! as long as it was made; a socket that finds no place keeps its descriptor and works all the same.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use io_uring::{squeue, types};

use super::ring::Ring;

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

/// The table's free places.
pub(super) struct Files {
    free: Vec<u32>,
}

impl Files {
    /// A table with as many places as wanted, or as the kernel gives: it allows no more than files may be
    /// open. Without a table every socket keeps its descriptor.
    pub fn new(ring: &Ring, places: u32) -> Self {
        match ring.submitter().register_files_sparse(places) {
            Ok(()) => Self { free: (0..places).rev().collect() },
            Err(_) => Self { free: Vec::new() },
        }
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

    /// Closes a file. No operation on it may be in flight.
    pub fn close(&mut self, ring: &Ring, file: File) {
        match file {
            File::Descriptor(fd) => drop(fd),
            File::Place(place) => {
                // A place that could not be emptied is not used again.
                if put(ring, place, -1).is_ok() {
                    self.free.push(place);
                }
            }
        }
    }
}

fn put(ring: &Ring, place: u32, fd: RawFd) -> io::Result<()> {
    ring.submitter().register_files_update(place, &[fd]).map(drop)
}
