//! A token bucket: how many moves may be ordered by now. It holds what accrues in a second.

use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Bucket {
    per_second: f64,
    tokens: f64,
    /// When it was refilled last.
    at: Duration,
}

impl Bucket {
    /// A full one.
    pub fn new(per_second: u32) -> Self {
        Self { per_second: per_second.into(), tokens: per_second.into(), at: Duration::ZERO }
    }

    /// Takes over another rate; what was taken lately stays taken.
    pub fn set_rate(&mut self, per_second: u32) {
        self.per_second = per_second.into();
        self.tokens = self.tokens.min(self.per_second);
    }

    /// Adds what has accrued since the last time. Time that runs backwards adds nothing.
    pub fn refill(&mut self, now: Duration) {
        let accrued = now.saturating_sub(self.at).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + accrued).min(self.per_second);
        self.at = self.at.max(now);
    }

    /// Takes one token; false when there is none.
    pub fn take(&mut self) -> bool {
        // What floating point loses must not cost a token.
        let has = self.tokens > 1.0 - 1e-6;
        if has {
            self.tokens -= 1.0;
        }
        has
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_rate_and_saves_no_more_than_a_second() {
        let mut bucket = Bucket::new(100);
        let mut taken = |at: u64| {
            bucket.refill(Duration::from_millis(at));
            std::iter::repeat_with(|| bucket.take()).take_while(|took| *took).count()
        };
        assert_eq!(taken(0), 100);
        assert_eq!(taken(0), 0);
        assert_eq!(taken(250), 25);
        assert_eq!(taken(3_600_000), 100);
        assert_eq!(taken(10), 0);
    }
}
