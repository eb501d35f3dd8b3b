//! How fast requests are answered: one at a time, and some way apart, as they are answered where the coordinator works.
//!
//! However many ask, and however often, making pages takes no more than a small part of that thread. Whoever comes too
//! early waits, in the order of coming.

use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep_until};

/// From one answer to the next request, at least.
const APART: Duration = Duration::from_millis(1);

/// A page that took so long to make is followed by a pause of so many times that.
const PAUSE_FACTOR: u32 = 9;

/// When the next request may be answered.
pub struct Pace(Mutex<Instant>);

impl Default for Pace {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Pace {
    /// Waits until it is this request's turn, which lasts until the value is dropped.
    pub async fn turn(&self) -> Turn<'_> {
        let next = self.0.lock().await;
        sleep_until(*next).await;
        Turn { next, work: Duration::ZERO }
    }
}

/// The right to answer a request.
pub struct Turn<'p> {
    next: MutexGuard<'p, Instant>,
    work: Duration,
}

impl Turn<'_> {
    /// Does what takes time, and remembers how much.
    pub fn work<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        self.work += began.elapsed();
        done
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.next = Instant::now() + APART.max(self.work * PAUSE_FACTOR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_are_answered_apart_and_one_at_a_time() {
        let pace = Pace::default();
        let began = Instant::now();
        drop(pace.turn().await);
        drop(pace.turn().await);
        drop(pace.turn().await);
        assert_eq!(began.elapsed(), 2 * APART);
        let turn = pace.turn().await;
        assert!(tokio::time::timeout(Duration::from_secs(1), pace.turn()).await.is_err());
        drop(turn);
        drop(pace.turn().await);
    }

    #[tokio::test]
    async fn a_page_that_takes_long_is_followed_by_a_longer_pause() {
        let pace = Pace::default();
        pace.turn().await.work(|| std::thread::sleep(Duration::from_millis(10)));
        let began = Instant::now();
        drop(pace.turn().await);
        assert!(began.elapsed() >= Duration::from_millis(85), "{:?}", began.elapsed());
    }
}
