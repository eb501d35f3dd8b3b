//! The census: the sessions of each worker by group and CN, as they were last counted.
//!
//! At most one census is under way. It is over when every worker that was asked has answered, or its time is up;
//! of a worker that was silent the last count stands, but nothing of it is held to be movable. It asks nobody
//! itself: the coordinator sends the orders.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::ident::{CnSlot, Epoch, WorkerId};
use crate::mailbox::message::CensusRow;

/// How long workers may take to count their sessions.
pub const CENSUS_LIMIT: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub struct Census {
    last_ticket: u64,
    open: Option<Open>,
    counts: BTreeMap<WorkerId, Count>,
}

#[derive(Debug)]
struct Open {
    ticket: u64,
    silent: BTreeSet<WorkerId>,
    deadline: Instant,
}

#[derive(Debug, Default)]
struct Count {
    rows: Vec<CensusRow>,
    /// The epoch in which the worker was; `None` before its first count.
    epoch: Option<Epoch>,
}

impl Census {
    /// Begins a census; gives the ticket that its orders have to carry. Workers that are not asked are gone.
    pub fn begin(&mut self, asked: &[WorkerId], now: Instant) -> u64 {
        self.last_ticket += 1;
        self.counts.retain(|worker, _| asked.contains(worker));
        for worker in asked {
            self.counts.entry(*worker).or_default();
        }
        let silent = asked.iter().copied().collect();
        self.open = Some(Open { ticket: self.last_ticket, silent, deadline: now + CENSUS_LIMIT });
        self.last_ticket
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// A worker has counted. True when with it the census is over.
    pub fn answered(&mut self, ticket: u64, worker: WorkerId, epoch: Epoch, rows: Vec<CensusRow>) -> bool {
        let Some(open) = self.open.as_mut().filter(|open| open.ticket == ticket) else { return false };
        if open.silent.remove(&worker) {
            self.counts.insert(worker, Count { rows, epoch: Some(epoch) });
        }
        let over = open.silent.is_empty();
        if over {
            self.open = None;
        }
        over
    }

    /// Ends a census whose time is up; true if it did.
    pub fn expire(&mut self, now: Instant) -> bool {
        let Some(open) = self.open.take_if(|open| open.deadline <= now) else { return false };
        for worker in open.silent {
            for row in self.counts.get_mut(&worker).map_or(&mut [][..], |count| &mut count.rows) {
                row.movable = 0;
            }
        }
        true
    }

    /// When [`Self::expire`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.deadline)
    }

    pub fn rows(&self) -> impl Iterator<Item = (WorkerId, &CensusRow)> {
        self.counts.iter().flat_map(|(worker, count)| count.rows.iter().map(|row| (*worker, row)))
    }

    /// The sessions that were on a CN or on their way to it.
    pub fn sessions(&self, cn: CnSlot) -> u32 {
        let rows = self.rows().filter(|(_, row)| row.cn == cn);
        rows.fold(0_u32, |sum, (_, row)| sum.saturating_add(row.sessions).saturating_add(row.arriving))
    }

    /// Whether any session was on its way from one CN to another.
    pub fn is_moving(&self) -> bool {
        self.rows().any(|(_, row)| row.leaving > 0)
    }

    /// The oldest epoch in which any worker counted last; `None` while one has never counted.
    pub fn epoch(&self) -> Option<Epoch> {
        self.counts.values().map(|count| count.epoch).min().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::route::Group;

    const WORKERS: [WorkerId; 2] = [WorkerId(0), WorkerId(1)];

    fn row(sessions: u32) -> CensusRow {
        let group = Arc::new(Group { tenant: "sys".into(), labels: BTreeMap::new(), anywhere: false });
        CensusRow { group, cn: CnSlot(3), sessions, movable: sessions, dwelling: 0, leaving: 0, arriving: 1 }
    }

    #[test]
    fn a_census_ends_with_the_last_count() {
        let (mut census, now) = (Census::default(), Instant::now());
        let ticket = census.begin(&WORKERS, now);
        assert!(!census.answered(ticket, WORKERS[0], Epoch(4), vec![row(5)]));
        assert!(!census.answered(ticket, WORKERS[0], Epoch(4), vec![row(5)]), "twice is once");
        assert!(!census.answered(ticket + 1, WORKERS[1], Epoch(3), vec![row(5)]));
        assert_eq!(census.epoch(), None);
        assert!(census.answered(ticket, WORKERS[1], Epoch(3), vec![row(2)]));
        assert_eq!((census.epoch(), census.sessions(CnSlot(3))), (Some(Epoch(3)), 9));
        assert_eq!((census.is_open(), census.deadline()), (false, None));
    }

    #[test]
    fn of_a_silent_worker_nothing_can_move_and_a_lost_one_is_forgotten() {
        let (mut census, now) = (Census::default(), Instant::now());
        let ticket = census.begin(&WORKERS, now);
        for worker in WORKERS {
            census.answered(ticket, worker, Epoch(1), vec![row(5)]);
        }
        let ticket = census.begin(&WORKERS, now);
        census.answered(ticket, WORKERS[0], Epoch(2), vec![row(6)]);
        assert!(!census.expire(now + CENSUS_LIMIT - Duration::from_millis(1)));
        assert!(census.expire(now + CENSUS_LIMIT));
        let counted: Vec<_> =
            census.rows().map(|(worker, row)| (worker.0, row.sessions, row.movable)).collect();
        assert_eq!(counted, [(0, 6, 6), (1, 5, 0)]);
        assert_eq!(census.epoch(), Some(Epoch(1)));
        census.begin(&WORKERS[..1], now);
        assert_eq!(census.sessions(CnSlot(3)), 7);
    }
}
