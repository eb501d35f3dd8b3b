//! A bell that another thread rings to wake this worker: an eventfd that is read on the ring.

use std::future::poll_fn;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::task::{Poll, Waker};

use io_uring::{cqueue, opcode, types};

use super::wake::Wakers;
use super::{Core, Op, Reactor, Slot};

/// This worker's end of an eventfd.
pub struct Bell {
    reactor: Reactor,
    slot: usize,
}

pub(super) struct State {
    fd: OwnedFd,
    /// Where the kernel puts the eventfd's count; boxed, as the slot may move.
    count: Box<u64>,
    reading: bool,
    rung: bool,
    closing: bool,
    waker: Option<Waker>,
}

impl Bell {
    pub fn new(reactor: &Reactor, eventfd: OwnedFd) -> Self {
        let state = State {
            fd: eventfd,
            count: Box::new(0),
            reading: false,
            rung: false,
            closing: false,
            waker: None,
        };
        let slot = reactor.core.borrow_mut().slots.insert(Slot::Bell(state));
        Self { reactor: reactor.clone(), slot }
    }

    /// Waits until somebody rings; rings in between count once.
    pub async fn rung(&self) {
        poll_fn(|cx| {
            let mut core = self.reactor.core.borrow_mut();
            let state = core.bell(self.slot);
            if std::mem::take(&mut state.rung) {
                return Poll::Ready(());
            }
            state.waker = Some(cx.waker().clone());
            core.listen(self.slot);
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        let mut core = self.reactor.core.borrow_mut();
        let state = core.bell(self.slot);
        state.closing = true;
        if !state.reading {
            core.slots.remove(self.slot);
            return;
        }
        let cancel = opcode::AsyncCancel::new(Op::Ring.tag(self.slot)).build().user_data(Op::Forget.tag(0));
        // SAFETY: a cancellation refers to no memory.
        unsafe { core.ring.push(&cancel) };
    }
}

impl Core {
    fn bell(&mut self, slot: usize) -> &mut State {
        match self.slots.get_mut(slot) {
            Some(Slot::Bell(state)) => state,
            _ => unreachable!("slot {slot} is not a bell"),
        }
    }

    fn listen(&mut self, slot: usize) {
        let state = self.bell(slot);
        if std::mem::replace(&mut state.reading, true) {
            return;
        }
        let fd: RawFd = state.fd.as_raw_fd();
        let read = opcode::Read::new(types::Fd(fd), std::ptr::from_mut(&mut *state.count).cast(), 8)
            .build()
            .user_data(Op::Ring.tag(slot));
        // SAFETY: `count` is boxed and its slot is kept until the read has completed.
        unsafe { self.ring.push(&read) };
    }

    pub(super) fn rang(&mut self, slot: usize, _: &cqueue::Entry, wakers: &Wakers) {
        let state = self.bell(slot);
        state.reading = false;
        if state.closing {
            self.slots.remove(slot);
            return;
        }
        state.rung = true;
        if let Some(waker) = state.waker.take() {
            wakers.wake(&waker);
        }
    }
}
