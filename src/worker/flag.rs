//! Something that happens once in a worker's life and that tasks wait for.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

use crate::reactor::Reactor;

#[derive(Debug, Default)]
pub(super) struct Flag {
    raised: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Flag {
    pub fn is_raised(&self) -> bool {
        self.raised.get()
    }

    /// Raises it, for good, and wakes who waits.
    pub fn raise(&self, reactor: &Reactor) {
        self.raised.set(true);
        for waker in self.waiting.take() {
            reactor.wake(&waker);
        }
    }

    /// Waits until it is raised.
    pub async fn raised(&self) {
        poll_fn(|cx| {
            if self.is_raised() {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}
