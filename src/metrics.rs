//! What one worker counts: traffic, and seats on CNs.
//!
//! Every number here has exactly one writer, the worker that owns it, so an increment is a plain load
//! and store; anybody may read. Nothing here is a lock or a read-modify-write instruction.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::ident::{CNS_MAX, CnSlot, WorkerId};

/// A count that one thread writes and all may read.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `n`. To be called by the owning thread alone.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Takes `n` away. To be called by the owning thread alone.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    /// Copies a count that is kept elsewhere. To be called by the owning thread alone.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The traffic of one worker since it started. On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    /// Sessions open now, those still logging in included.
    pub sessions: Count,
    /// Sessions accepted.
    pub accepted: Count,
    /// Logins that reached a CN and were let in.
    pub logins: Count,
    /// Sessions that ended before they were let in: refused by us or by a CN, or left by the client.
    pub refused: Count,
    /// Commands forwarded to CNs.
    pub commands: Count,
    /// Bytes received from clients.
    pub bytes_in: Count,
    /// Bytes received from CNs.
    pub bytes_out: Count,
    /// Turns of the worker's loop.
    pub turns: Count,
    /// Times that a socket found no receive buffer and had to wait for one.
    pub starved: Count,
    /// Sessions that ended by a panic that was caught.
    pub panics: Count,
    /// Reports that did not fit into the coordinator's mailbox.
    pub reports_dropped: Count,
    pub moves: Moves,
    pub pauses: Pauses,
}
#[derive(Debug, Default)]
pub struct Moves {
    pub ordered: Count,
    pub done: Count,
    pub failed: Count,
    pub held: Count,
    pub reopened: Count,
}
#[derive(Debug, Default)]
pub struct Pauses {}
impl Pauses {
    pub fn record(&self, _p: std::time::Duration) {}
}

/// The seats of one worker, by CN slot.
#[derive(Debug)]
#[repr(align(128))]
pub struct SeatRow(Box<[AtomicU32]>);

impl Default for SeatRow {
    fn default() -> Self {
        Self((0..CNS_MAX).map(|_| AtomicU32::new(0)).collect())
    }
}

/// The seats taken on every CN, one row for each worker.
///
/// A worker writes its own row alone; whoever picks a CN sums a column, so a burst of logins on several
/// workers sees itself at once.
#[derive(Clone, Debug)]
pub struct Tally(Arc<[SeatRow]>);

impl Tally {
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| SeatRow::default()).collect())
    }

    /// Seats taken on a CN by all workers together.
    pub fn seats(&self, slot: CnSlot) -> u32 {
        self.0.iter().map(|row| row.0[slot.index()].load(Relaxed)).sum()
    }

    /// Seats taken on a CN by one worker.
    pub fn seats_of(&self, worker: WorkerId, slot: CnSlot) -> u32 {
        self.0[worker.index()].0[slot.index()].load(Relaxed)
    }
}

/// A worker's right to write its row of the [`Tally`]. Not `Send`: it stays on its worker.
#[derive(Clone, Debug)]
pub struct SeatBook(Rc<Tally>, WorkerId);

impl SeatBook {
    pub fn new(tally: Tally, worker: WorkerId) -> Self {
        Self(Rc::new(tally), worker)
    }

    /// Takes a seat; it is returned when the value is dropped.
    pub fn take(&self, slot: CnSlot) -> Seat {
        self.change(slot, |n| n + 1);
        Seat { book: self.clone(), slot }
    }

    fn change(&self, slot: CnSlot, f: impl Fn(u32) -> u32) {
        let seats = &self.0.0[self.1.index()].0[slot.index()];
        seats.store(f(seats.load(Relaxed)), Relaxed);
    }
}

/// One counted place on a CN. Dropping it gives the place back, so a count cannot leak.
#[derive(Debug)]
pub struct Seat {
    book: SeatBook,
    slot: CnSlot,
}

impl Seat {
    pub fn slot(&self) -> CnSlot {
        self.slot
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.book.change(self.slot, |n| n - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_summed_over_workers_and_returned() {
        let tally = Tally::new(2);
        let first = SeatBook::new(tally.clone(), WorkerId(0));
        let second = SeatBook::new(tally.clone(), WorkerId(1));
        let a = first.take(CnSlot(3));
        let _b = second.take(CnSlot(3));
        let _c = second.take(CnSlot(4));
        assert_eq!(tally.seats(CnSlot(3)), 2);
        assert_eq!(tally.seats_of(WorkerId(1), CnSlot(3)), 1);
        drop(a);
        assert_eq!(tally.seats(CnSlot(3)), 1);
        assert_eq!(tally.seats(CnSlot(4)), 1);
    }
}
