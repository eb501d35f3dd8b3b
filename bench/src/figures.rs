//! What a load run showed: round trips, latency, errors.
//!
//! Latency is kept in nanoseconds with three digits and told in microseconds. Invariant: a figure comes with the errors made
//! while it was taken. It asks nobody anything and reads the clock only for the beginning of a window.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency that is told apart.
const LATENCY_LIMIT_NS: u64 = 60_000_000_000;

/// What one stretch of time showed.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    pub seconds: f64,
    /// Replies, or logins in the mode for those.
    pub round_trips: u64,
    pub per_second: f64,
    pub mib_in_per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
    pub errors: u64,
    pub first_error: Option<String>,
}

impl Figures {
    /// Silence is an error and no measurement.
    #[must_use]
    pub fn not_silent(mut self) -> Self {
        if self.round_trips == 0 {
            self.errors += 1;
            self.first_error.get_or_insert_with(|| "not one reply came".to_owned());
        }
        self
    }

    /// To standard output, in one line.
    pub fn print(&self, json: bool) {
        if json {
            println!("{}", serde_json::to_string(self).expect("numbers and strings make JSON"));
            return;
        }
        println!(
            "{:.0}/s  {:.1} MiB/s  p50 {:.1} us  p99 {:.1} us  p99.9 {:.1} us  max {:.1} us  errors {}{}",
            self.per_second,
            self.mib_in_per_second,
            self.p50_us,
            self.p99_us,
            self.p999_us,
            self.max_us,
            self.errors,
            self.first_error.as_ref().map(|text| format!(" ({text})")).unwrap_or_default(),
        );
    }
}

/// Figures in the making.
pub struct Window {
    pub begin: Instant,
    latency: Histogram<u64>,
    pub bytes: u64,
}

impl Window {
    pub fn new() -> Self {
        let latency =
            Histogram::new_with_bounds(1, LATENCY_LIMIT_NS, 3).expect("the bounds are constant and fit");
        Self { begin: Instant::now(), latency, bytes: 0 }
    }

    pub fn record(&mut self, latency: Duration, replies: u32) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record_n(nanoseconds, replies.into());
    }

    pub fn close(self, now: Instant, errors: u64, first_error: Option<String>) -> Figures {
        let seconds = now.duration_since(self.begin).as_secs_f64();
        let round_trips = self.latency.len();
        let quantile = |q: f64| self.latency.value_at_quantile(q) as f64 / 1000.0;
        Figures {
            seconds,
            round_trips,
            per_second: round_trips as f64 / seconds,
            mib_in_per_second: self.bytes as f64 / seconds / f64::from(1 << 20),
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            max_us: self.latency.max() as f64 / 1000.0,
            errors,
            first_error,
        }
    }
}
