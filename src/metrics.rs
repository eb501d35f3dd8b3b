//! What one worker counts: traffic, how logins and sessions ended, seats on CNs, and moves with the pauses that they cost.
//!
//! Every number here has exactly one writer, the worker that owns it, so an increment is a plain load
//! and store; anybody may read. Nothing here is a lock, and nothing a read-modify-write instruction but a
//! [`Transit`], which belongs to no worker and is rare.

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
    /// Statements that sessions left under way and that were stopped on their CNs; those that were left to them.
    pub statements_stopped: Count,
    pub statements_left: Count,
    /// Sessions that ended by a panic that was caught.
    pub panics: Count,
    /// Reports that did not fit into the coordinator's mailbox.
    pub reports_dropped: Count,
    /// Sessions that left for another worker.
    pub handed_over: Count,
    /// Sessions that came from another worker.
    pub adopted: Count,
    /// CNs that could not take a login, so that another one was looked for.
    pub retries: Count,
    /// The refused sessions by why.
    pub refusals: Refusals,
    /// The sessions that had been let in and have ended, by who ended them.
    pub ends: Ends,
    /// What took too long.
    pub timeouts: TimeOuts,
    pub moves: Moves,
}

impl Counters {
    /// Counts a session that ended before it was let in. To be called by the owning thread alone.
    pub fn refuse(&self, why: Refused) {
        self.refused.add(1);
        self.refusals.0[why as usize].add(1);
    }
}

/// Why a session ended before it was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There were as many sessions as there may be.
    Full,
    /// There was no CN for what it asked, or none that could take it.
    NoCn,
    /// Corelane said no: a login that cannot be read, a wrong password, too slow, too late.
    Denied,
    /// Its CN said no.
    ByCn,
    /// Its CN was lost, or did not answer in order.
    CnLost,
    /// The client left.
    ClientGone,
    /// The client and corelane have not agreed on TLS.
    Tls,
    /// Its header of the PROXY protocol was missing or wrong, or nobody had asked for one.
    ProxyHeader,
    /// It may not come in: from there, or by this name.
    Access,
    /// There were as many of its tenant, of its user or from its address as there may be, or its CNs were full.
    Limit,
    /// It came too soon after others.
    Rate,
    /// Its address is shut out for a time.
    Blocked,
}

impl Refused {
    pub const ALL: [Self; 12] = [
        Self::Full,
        Self::NoCn,
        Self::Denied,
        Self::ByCn,
        Self::CnLost,
        Self::ClientGone,
        Self::Tls,
        Self::ProxyHeader,
        Self::Access,
        Self::Limit,
        Self::Rate,
        Self::Blocked,
    ];

    /// The reason in one word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::NoCn => "no_cn",
            Self::Denied => "denied",
            Self::ByCn => "by_cn",
            Self::CnLost => "cn_lost",
            Self::ClientGone => "client_gone",
            Self::Tls => "tls",
            Self::ProxyHeader => "proxy_header",
            Self::Access => "access",
            Self::Limit => "limit",
            Self::Rate => "rate",
            Self::Blocked => "blocked",
        }
    }
}

/// How many sessions were refused for which reason.
#[derive(Debug, Default)]
pub struct Refusals([Count; Refused::ALL.len()]);

impl Refusals {
    pub fn get(&self, why: Refused) -> u64 {
        self.0[why as usize].get()
    }
}

/// Who ended a session that had been let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    Client,
    /// The CN closed, broke, or sent what cannot be read.
    Cn,
    /// An operator, the end of a drain's time, a stop; or a question that only another CN could have answered.
    Corelane,
}

impl EndedBy {
    pub const ALL: [Self; 3] = [Self::Client, Self::Cn, Self::Corelane];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Cn => "cn",
            Self::Corelane => "corelane",
        }
    }
}

/// How many sessions were ended by whom.
#[derive(Debug, Default)]
pub struct Ends([Count; EndedBy::ALL.len()]);

impl Ends {
    /// Counts one. To be called by the owning thread alone.
    pub fn add(&self, by: EndedBy) {
        self.0[by as usize].add(1);
    }

    pub fn get(&self, by: EndedBy) -> u64 {
        self.0[by as usize].get()
    }
}

/// What a session has taken too long over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimedOut {
    /// It was idle outside a transaction, and has ended.
    Idle,
    /// It was idle inside a transaction, and has ended.
    Transaction,
    /// A statement, which its CN was told to stop.
    Query,
}

impl TimedOut {
    pub const ALL: [Self; 3] = [Self::Idle, Self::Transaction, Self::Query];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Transaction => "transaction",
            Self::Query => "query",
        }
    }
}

/// How often which took too long.
#[derive(Debug, Default)]
pub struct TimeOuts([Count; TimedOut::ALL.len()]);

impl TimeOuts {
    /// Counts one. To be called by the owning thread alone.
    pub fn add(&self, over: TimedOut) {
        self.0[over as usize].add(1);
    }

    pub fn get(&self, over: TimedOut) -> u64 {
        self.0[over as usize].get()
    }
}

/// The moves of one worker's sessions from CN to CN since it started.
#[derive(Debug, Default)]
pub struct Moves {
    /// Sessions that were told to move. Those that end meanwhile are counted nowhere below.
    pub ordered: Count,
    /// Of them, those that wait now for their turn to have a leg opened.
    pub waiting: Count,
    /// Of them, those whose leg is being opened now, or is there and waits for a quiet moment.
    pub under_way: Count,
    /// Of them, those that are on the new CN.
    pub done: Count,
    /// Those that stayed because something failed: the new CN, a restore, an answer that was not right.
    pub failed: Count,
    /// Those that stayed because they were held for longer than the patience.
    pub held_back: Count,
    /// Idle sessions of a CN that was lost, opened anew on another.
    pub reopened: Count,
    /// How long each session that moved could not serve its client.
    pub pauses: Pauses,
}

/// Buckets of [`Pauses`]: one for each microsecond below 64, then 32 for each power of two, up to 2^32 (71 minutes).
const BUCKETS: usize = 64 + 26 * 32;

/// How many pauses were how long, in microseconds: a log-linear histogram. A pause is known to 1/32 of itself, that
/// is to 3.2 %, and told by the middle of its bucket, at most 1.6 % off; what is longer than 71 minutes counts as
/// that.
#[derive(Debug)]
pub struct Pauses {
    buckets: Box<[Count]>,
    longest: Count,
    total: Count,
}

impl Default for Pauses {
    fn default() -> Self {
        let buckets = (0..BUCKETS).map(|_| Count::default()).collect();
        Self { buckets, longest: Count::default(), total: Count::default() }
    }
}

impl Pauses {
    /// Counts one. To be called by the owning thread alone.
    pub fn add(&self, micros: u64) {
        let micros = micros.min(u64::from(u32::MAX));
        self.buckets[bucket(micros)].add(1);
        self.total.add(micros);
        if micros > self.longest.get() {
            self.longest.set(micros);
        }
    }
}

/// The pauses of several workers together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PauseSummary {
    counts: Vec<u64>,
    longest: u64,
    total: u64,
}

impl PauseSummary {
    pub fn of<'p>(all: impl IntoIterator<Item = &'p Pauses>) -> Self {
        let mut summary = Self { counts: vec![0; BUCKETS], longest: 0, total: 0 };
        for pauses in all {
            for (sum, count) in summary.counts.iter_mut().zip(&pauses.buckets) {
                *sum += count.get();
            }
            summary.longest = summary.longest.max(pauses.longest.get());
            summary.total += pauses.total.get();
        }
        summary
    }

    /// The least pause, in microseconds, that a share of `quantile` (0 to 1) of all did not exceed; none where
    /// there were no pauses.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        let total: u64 = self.counts.iter().sum();
        let rank = ((total as f64 * quantile).ceil() as u64).clamp(1, total.max(1));
        let mut below = 0;
        let at = self.counts.iter().position(|count| {
            below += count;
            below >= rank
        })?;
        Some(middle(at).min(self.longest))
    }

    /// How many pauses there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All pauses together, in microseconds.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many pauses were shorter than so many microseconds. That is exact where a bucket begins there: below 64, and where all but
    /// the first six binary digits are zero.
    pub fn shorter_than(&self, micros: u64) -> u64 {
        self.counts[..bucket(micros.min(u64::from(u32::MAX)))].iter().sum()
    }

    /// The longest pause, in microseconds, exactly; none where there were no pauses.
    pub fn longest(&self) -> Option<u64> {
        self.counts.iter().any(|count| *count > 0).then_some(self.longest)
    }
}

/// Where a number of microseconds is counted; it must be below 2^32.
fn bucket(micros: u64) -> usize {
    let micros = usize::try_from(micros).unwrap_or(usize::MAX);
    // So far to the right that six bits are left, of which the upper one is set.
    let shift = (usize::BITS - micros.leading_zeros()).saturating_sub(6) as usize;
    shift * 32 + (micros >> shift)
}

/// The middle of what a bucket counts.
fn middle(bucket: usize) -> u64 {
    let shift = (bucket / 32).saturating_sub(1);
    let first = ((bucket - shift * 32) as u64) << shift;
    first + ((1_u64 << shift) - 1) / 2
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
/// workers sees itself at once. A session between two workers keeps its seat in a row of its own, so that no seat
/// looks free that is not.
#[derive(Clone, Debug)]
pub struct Tally(Arc<Rows>);

#[derive(Debug)]
struct Rows {
    workers: Box<[SeatRow]>,
    transit: SeatRow,
    travellers: AtomicU32,
}

impl Tally {
    pub fn new(workers: usize) -> Self {
        let workers = (0..workers).map(|_| SeatRow::default()).collect();
        Self(Arc::new(Rows { workers, transit: SeatRow::default(), travellers: AtomicU32::new(0) }))
    }

    /// Seats taken on a CN by all workers together, and by sessions on their way between two.
    pub fn seats(&self, slot: CnSlot) -> u32 {
        let rows = self.0.workers.iter().chain([&self.0.transit]);
        rows.map(|row| row.0[slot.index()].load(Relaxed)).sum()
    }

    /// Sessions on their way between two workers, which no worker counts.
    pub fn travellers(&self) -> u32 {
        self.0.travellers.load(Relaxed)
    }

    /// Seats taken on a CN by one worker.
    pub fn seats_of(&self, worker: WorkerId, slot: CnSlot) -> u32 {
        self.0.workers[worker.index()].0[slot.index()].load(Relaxed)
    }
}

/// A session between two workers, counted with its seat. Dropping it ends that, whoever does.
///
/// Who sends a session off begins its transit before its own seat and count are given back, and who takes it in ends it
/// when it has its own: a sum over all may for a moment have one too many, and never one too few.
#[derive(Debug)]
pub struct Transit {
    tally: Tally,
    slot: CnSlot,
}

impl Transit {
    pub fn begin(tally: &Tally, slot: CnSlot) -> Self {
        tally.0.transit.0[slot.index()].fetch_add(1, Relaxed);
        tally.0.travellers.fetch_add(1, Relaxed);
        Self { tally: tally.clone(), slot }
    }
}

impl Drop for Transit {
    fn drop(&mut self) {
        self.tally.0.transit.0[self.slot.index()].fetch_sub(1, Relaxed);
        self.tally.0.travellers.fetch_sub(1, Relaxed);
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
        let seats = &self.0.0.workers[self.1.index()].0[slot.index()];
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
    fn every_pause_has_a_bucket_that_knows_it_well() {
        let mut last = 0;
        for micros in
            (0..20_000).chain((20_000..u64::from(u32::MAX)).step_by(99_991)).chain([u32::MAX.into()])
        {
            let at = bucket(micros);
            assert!(at == last || at == last + 1 || micros > 20_000, "{micros}");
            assert!(at < BUCKETS, "{micros}");
            let told = middle(at);
            assert!(told.abs_diff(micros) * 60 <= micros, "{micros} is told as {told}");
            last = at;
        }
    }

    #[test]
    fn quantiles_are_taken_over_workers() {
        let (first, second) = (Pauses::default(), Pauses::default());
        assert_eq!(PauseSummary::of([&first, &second]).quantile(0.5), None);
        assert_eq!(PauseSummary::of([&first]).longest(), None);
        for micros in 1..=50 {
            first.add(micros);
            second.add(micros + 50);
        }
        second.add(1_000_000);
        let summary = PauseSummary::of([&first, &second]);
        assert_eq!(summary.quantile(0.0), Some(1));
        assert_eq!(summary.quantile(0.5), Some(51));
        assert_eq!(summary.longest(), Some(1_000_000));
        let last = summary.quantile(1.0).unwrap();
        assert!((970_000..=1_000_000).contains(&last), "{last}");
        second.add(u64::MAX);
        assert_eq!(PauseSummary::of([&second]).longest(), Some(u32::MAX.into()));
    }

    #[test]
    fn pauses_are_counted_up_to_where_a_bucket_begins() {
        let pauses = Pauses::default();
        for micros in [9, 10, 639, 640, 5_242_879, 5_242_880, u64::MAX] {
            pauses.add(micros);
        }
        let summary = PauseSummary::of([&pauses]);
        let below = [10, 640, 5_242_880, u64::MAX].map(|micros| summary.shorter_than(micros));
        assert_eq!((below, summary.count()), ([1, 3, 5, 6], 7));
        assert_eq!(summary.total(), 9 + 10 + 639 + 640 + 5_242_879 + 5_242_880 + u64::from(u32::MAX));
    }

    #[test]
    fn a_refused_session_is_counted_once_with_its_reason() {
        let counters = Counters::default();
        counters.refuse(Refused::NoCn);
        counters.refuse(Refused::ClientGone);
        counters.refuse(Refused::ClientGone);
        let all = Refused::ALL.map(|why| counters.refusals.get(why));
        assert_eq!((all, counters.refused.get()), ([0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0], 3));
        assert!(Refused::ALL.iter().enumerate().all(|(at, why)| at == *why as usize));
        assert!(TimedOut::ALL.iter().enumerate().all(|(at, over)| at == *over as usize));
        assert!(EndedBy::ALL.iter().enumerate().all(|(at, by)| at == *by as usize));
    }

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

    #[test]
    fn a_session_in_transit_keeps_a_seat() {
        let tally = Tally::new(2);
        let seat = SeatBook::new(tally.clone(), WorkerId(0)).take(CnSlot(3));
        let transit = Transit::begin(&tally, CnSlot(3));
        drop(seat);
        assert_eq!((tally.seats(CnSlot(3)), tally.travellers()), (1, 1));
        assert_eq!(tally.seats_of(WorkerId(0), CnSlot(3)), 0);
        std::thread::spawn(move || drop(transit)).join().expect("it may end anywhere");
        assert_eq!((tally.seats(CnSlot(3)), tally.travellers()), (0, 0));
    }
}
