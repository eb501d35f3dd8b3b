//! Something that happens once in a worker's life and that tasks wait for.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

use slab::Slab;

use crate::reactor::Reactor;

#[derive(Debug, Default)]
pub(super) struct Flag {
    raised: Cell<bool>,
    waiting: RefCell<Slab<Waker>>,
}

impl Flag {
    pub fn is_raised(&self) -> bool {
        self.raised.get()
    }

    /// Raises it, for good, and wakes who waits.
    pub fn raise(&self, reactor: &Reactor) {
        self.raised.set(true);
        for (_, waker) in self.waiting.borrow().iter() {
            reactor.wake(waker);
        }
    }

    /// Waits until it is raised.
    pub async fn raised(&self) {
        let mut place = Place { flag: self, key: None };
        poll_fn(|cx| {
            if self.is_raised() {
                return Poll::Ready(());
            }
            // A task is polled by its own waker all its life, so one is enough.
            place.key.get_or_insert_with(|| self.waiting.borrow_mut().insert(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// A waker's place among those that wait, given up when nobody waits any more.
struct Place<'a> {
    flag: &'a Flag,
    key: Option<usize>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = self.flag.waiting.borrow_mut().remove(key);
            drop(waker);
        }
    }
}
