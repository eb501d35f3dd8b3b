//! How many connections a worker takes in a second: its share of what the process may.
//!
//! A bucket of tokens that holds what accrues in a second, and one at least. The kernel spreads connections over the workers by their
//! addresses, so a few clients may meet the share of one worker before all of them together come to the limit.

use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct Gate {
    /// Of all workers.
    rate: u32,
    per_second: f64,
    tokens: f64,
    /// When it was refilled last.
    at: Instant,
}

impl Gate {
    /// The share of one of so many workers, all of it there.
    pub fn new(rate: u32, workers: usize, now: Instant) -> Self {
        let share = f64::from(rate) / workers.max(1) as f64;
        Self { rate, per_second: share, tokens: share.max(1.0), at: now }
    }

    /// What all workers may take in a second.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// Whether one more may come in.
    pub fn admits(&mut self, now: Instant) -> bool {
        let accrued = now.saturating_duration_since(self.at).min(Duration::from_secs(3600)).as_secs_f64();
        self.tokens = (self.tokens + accrued * self.per_second).min(self.per_second.max(1.0));
        self.at = self.at.max(now);
        // What floating point loses must not cost a token.
        let admits = self.tokens > 1.0 - 1e-6;
        if admits {
            self.tokens -= 1.0;
        }
        admits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(gate: &mut Gate, now: Instant) -> usize {
        std::iter::repeat_with(|| gate.admits(now)).take_while(|admits| *admits).count()
    }

    #[test]
    fn a_gate_admits_its_share_and_saves_no_more_than_a_second() {
        let start = Instant::now();
        let mut gate = Gate::new(100, 2, start);
        let counts = [0, 0, 500, 60_000].map(|ms| admitted(&mut gate, start + Duration::from_millis(ms)));
        assert_eq!(counts, [50, 0, 25, 50]);
        assert_eq!(admitted(&mut gate, start), 0, "time does not run backwards");
    }

    #[test]
    fn a_share_below_one_still_admits_somebody() {
        let start = Instant::now();
        let mut gate = Gate::new(1, 4, start);
        let counts = [0, 3_900, 4_000].map(|ms| admitted(&mut gate, start + Duration::from_millis(ms)));
        assert_eq!(counts, [1, 0, 1]);
    }
}
