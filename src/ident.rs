//! Numbers that cannot be confused with each other: workers, sessions, CN slots, epochs.

use std::fmt;

/// CNs that one process can know at the same time; the length of every seat row.
pub const CNS_MAX: usize = 1024;

/// Workers that one process can run; a connection id has 7 bits for its worker.
pub const WORKERS_MAX: usize = 128;

/// A pinned core that runs sessions, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u16);

impl WorkerId {
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A session, by the connection id that its client saw in the greeting.
///
/// Ids have the top bit set, so that they cannot be taken for a CN's own connection ids, then 7 bits
/// of worker and 24 bits of count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u32);

impl SessionId {
    const MARK: u32 = 0x8000_0000;

    /// An id that no session gets.
    pub const NOBODY: Self = Self(u32::MAX);

    /// The id of the `count`-th session of a worker; the count wraps at 24 bits.
    pub fn new(worker: WorkerId, count: u32) -> Self {
        debug_assert!(worker.index() < WORKERS_MAX);
        Self(Self::MARK | (u32::from(worker.0) << 24) | (count & 0x00ff_ffff))
    }

    /// The worker that gave the id, wherever the session lives now.
    pub fn birthplace(self) -> WorkerId {
        WorkerId((self.0 >> 24) as u16 & (WORKERS_MAX as u16 - 1))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A CN's place in every seat row. It stays the same for as long as the process knows the CN, and
/// is given to another CN only when nobody sits there any more. Always below [`CNS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CnSlot(pub u16);

impl CnSlot {
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The version of the CN table that a view or a message is about. Grows by one with every change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_keep_worker_and_count_apart() {
        assert_eq!(SessionId::new(WorkerId(0), 1).0, 0x8000_0001);
        assert_eq!(SessionId::new(WorkerId(127), 0x0100_0002).0, 0xff00_0002);
        for worker in [WorkerId(0), WorkerId(5), WorkerId(127)] {
            assert_eq!(SessionId::new(worker, u32::MAX).birthplace(), worker);
        }
    }
}
