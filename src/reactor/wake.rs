//! Every wake of a worker's task goes through here and is counted.
//!
//! Why: the worker sleeps in its ring, where the executor cannot reach it. It may do so only when no task is
//! ready, and this count is how it knows.

use std::cell::Cell;
use std::task::Waker;

#[derive(Default)]
pub(super) struct Wakers {
    woken: Cell<usize>,
}

impl Wakers {
    #[inline]
    pub fn wake(&self, waker: &Waker) {
        self.count();
        waker.wake_by_ref();
    }

    /// A task has become ready in another way: it was spawned.
    #[inline]
    pub fn count(&self) {
        self.woken.set(self.woken.get() + 1);
    }

    /// How many were woken since the last call.
    #[inline]
    pub fn take(&self) -> usize {
        self.woken.take()
    }
}
