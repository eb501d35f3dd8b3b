//! When waiting tasks are to be woken. One wheel per worker, coarse, without a kernel timer per wait.
//!
//! Pure: time comes in as an argument. The ring waits until [`Wheel::next`] at the longest; a worker
//! without timers neither reads the clock nor wakes up.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::{Duration, Instant};

/// How coarse: a timer fires up to this much late, and timers within it share one wake-up.
pub const TICK: Duration = Duration::from_millis(TICK_MS);
const TICK_MS: u64 = 5;

/// A timer that was set, to cancel it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerKey {
    tick: u64,
    serial: u64,
}

#[derive(Debug)]
pub struct Wheel {
    start: Instant,
    serial: u64,
    waiting: BTreeMap<TimerKey, Waker>,
}

impl Wheel {
    pub fn new(start: Instant) -> Self {
        Self { start, serial: 0, waiting: BTreeMap::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Wakes `waker` at the first tick that is not before `at`.
    pub fn set(&mut self, at: Instant, waker: Waker) -> TimerKey {
        let since = at.saturating_duration_since(self.start).as_nanos();
        let tick = since.div_ceil(TICK.as_nanos()) as u64;
        self.serial += 1;
        let key = TimerKey { tick, serial: self.serial };
        self.waiting.insert(key, waker);
        key
    }

    /// Forgets a timer; no effect on one that has fired.
    pub fn cancel(&mut self, key: TimerKey) {
        self.waiting.remove(&key);
    }

    /// How long until the first timer; none without timers.
    pub fn next(&self, now: Instant) -> Option<Duration> {
        let (key, _) = self.waiting.first_key_value()?;
        Some(self.time_of(key.tick).saturating_duration_since(now))
    }

    /// Takes out a timer that is due.
    pub fn due(&mut self, now: Instant) -> Option<Waker> {
        let first = self.waiting.first_entry()?;
        let at = self.start + Duration::from_millis(first.key().tick * TICK_MS);
        (at <= now).then(|| first.remove())
    }

    fn time_of(&self, tick: u64) -> Instant {
        self.start + Duration::from_millis(tick * TICK_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_and_never_early() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let late = wheel.set(start + Duration::from_millis(101), Waker::noop().clone());
        wheel.set(start + Duration::from_millis(12), Waker::noop().clone());
        assert_eq!(wheel.next(start), Some(Duration::from_millis(15)));
        assert!(wheel.due(start + Duration::from_millis(14)).is_none());
        assert!(wheel.due(start + Duration::from_millis(15)).is_some());
        assert!(wheel.due(start + Duration::from_millis(104)).is_none());
        wheel.cancel(late);
        assert!(wheel.is_empty());
    }
}
