//! Numbers that cannot be confused with each other: workers, sessions, CN slots, epochs.

use std::fmt;

/// CNs that one process can know at the same time; the length of every seat row.
pub const CNS_MAX: usize = 1024;

/// Workers that one process can run.
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

/// A session, by the connection id that its client saw in the greeting. Out of an [`IdRange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u32);

impl SessionId {
    /// An id that no session gets.
    pub const NOBODY: Self = Self(u32::MAX);
}

/// The connection ids of one process, cut into a piece for each worker.
///
/// The usual range has the top bit set, so that its ids cannot be taken for a CN's own. Proxies of one cluster whose CNs take their
/// ids (MatrixOne's) each need a range of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    first: u32,
    /// Ids of each worker, at least 1.
    each: u32,
    /// Ids of all of them.
    all: u32,
}

/// The first id of the usual range.
pub const FIRST_ID: u32 = 0x8000_0000;

impl IdRange {
    /// `count` ids from `first` on, for so many workers. The range ends below [`SessionId::NOBODY`].
    pub fn new(first: u32, count: u32, workers: usize) -> Self {
        let workers = u32::try_from(workers.max(1)).unwrap_or(u32::MAX);
        Self { first, each: (count / workers).max(1), all: count.max(workers) }
    }

    /// Whether an id is one of the range.
    pub fn contains(self, id: u32) -> bool {
        id.wrapping_sub(self.first) < self.all
    }

    /// The id of the `count`-th session of a worker; the count wraps where its piece ends.
    pub fn id(self, worker: WorkerId, count: u32) -> SessionId {
        let piece = u32::from(worker.0).wrapping_mul(self.each);
        SessionId(self.first.wrapping_add(piece).wrapping_add(count % self.each))
    }
}

/// Connection ids that a MatrixOne cluster has set aside for this process: so many from the first one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdBlock {
    pub first: u32,
    pub count: u32,
}

impl IdBlock {
    /// Takes the next id out.
    pub fn take(&mut self) -> Option<SessionId> {
        let id = SessionId(self.first);
        self.count = self.count.checked_sub(1)?;
        self.first += 1;
        Some(id)
    }

    /// Whether any of these ids is one of the `count` from `first` on.
    pub fn overlaps(self, first: u32, count: u32) -> bool {
        let (here, there) = (u64::from(self.first), u64::from(first));
        here < there + u64::from(count) && there < here + u64::from(self.count)
    }
}

/// The usual range, for as many workers as there may be.
impl Default for IdRange {
    fn default() -> Self {
        Self { first: FIRST_ID, each: 1 << 24, all: 1 << 31 }
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
        let usual = IdRange::default();
        assert_eq!(usual.id(WorkerId(0), 1).0, 0x8000_0001);
        assert_eq!(usual.id(WorkerId(127), 0x0100_0002).0, 0xff00_0002);
        let own = IdRange::new(1000, 300, 3);
        assert_eq!(own.id(WorkerId(2), 99), SessionId(1299));
        assert_eq!(own.id(WorkerId(2), 100), SessionId(1200));
    }

    #[test]
    fn a_block_gives_each_of_its_ids_once() {
        let mut block = IdBlock { first: u32::MAX - 2, count: 2 };
        assert!(block.overlaps(FIRST_ID, u32::MAX - FIRST_ID) && block.overlaps(u32::MAX - 1, 1));
        assert!(!block.overlaps(FIRST_ID, 7) && !block.overlaps(u32::MAX, 1));
        let ids = [block.take(), block.take(), block.take()];
        assert_eq!(ids, [Some(SessionId(u32::MAX - 2)), Some(SessionId(u32::MAX - 1)), None]);
    }
}
