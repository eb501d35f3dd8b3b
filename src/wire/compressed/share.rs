//! Shares of a pool of bytes: what sessions hold of something together has one limit for the whole process.
//!
//! Invariant: all shares of a pool come to no more than its size.

use std::sync::atomic::{AtomicUsize, Ordering};

/// So many bytes, for all who hold some.
#[derive(Debug)]
pub struct Pool {
    /// Its size in bytes.
    pub max: usize,
    held: AtomicUsize,
}

/// A part of a pool, given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    pool: &'static Pool,
    bytes: usize,
}

impl Pool {
    pub const fn new(max: usize) -> Self {
        Self { max, held: AtomicUsize::new(0) }
    }

    /// Takes so many bytes, if there are as many left.
    pub fn take(&'static self, bytes: usize) -> Option<Share> {
        let fits = |held: usize| held.checked_add(bytes).filter(|&held| held <= self.max);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Share { pool: self, bytes })
    }
}

impl Share {
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.pool.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_an_end_to_what_is_held() {
        static POOL: Pool = Pool::new(100);
        let held = POOL.take(60).unwrap();
        assert!(POOL.take(41).is_none() && POOL.take(usize::MAX).is_none());
        let rest = POOL.take(40).unwrap();
        assert!(POOL.take(1).is_none());
        drop(held);
        assert_eq!(POOL.take(60).unwrap().bytes() + rest.bytes(), 100);
    }
}
