//! A listener whose connections are accepted on the ring: one multishot operation for all of them.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::task::{Poll, Waker};

use io_uring::{cqueue, opcode, types};

use super::wake::Wakers;
use super::{Core, Op, Reactor, Slot};

/// This worker's end of a listening socket.
pub struct Acceptor {
    reactor: Reactor,
    slot: usize,
}

pub(super) struct State {
    fd: OwnedFd,
    accepted: VecDeque<io::Result<OwnedFd>>,
    armed: bool,
    closing: bool,
    waker: Option<Waker>,
}

impl Acceptor {
    pub fn new(reactor: &Reactor, listener: OwnedFd) -> Self {
        let state =
            State { fd: listener, accepted: VecDeque::new(), armed: false, closing: false, waker: None };
        let slot = reactor.core.borrow_mut().slots.insert(Slot::Acceptor(state));
        Self { reactor: reactor.clone(), slot }
    }

    /// The next connection. An error (the process is out of files, say) is about this attempt only.
    pub async fn accept(&self) -> io::Result<OwnedFd> {
        poll_fn(|cx| {
            let mut core = self.reactor.core.borrow_mut();
            let state = core.acceptor(self.slot);
            if let Some(accepted) = state.accepted.pop_front() {
                return Poll::Ready(accepted);
            }
            state.waker = Some(cx.waker().clone());
            core.arm_accept(self.slot);
            Poll::Pending
        })
        .await
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        let mut core = self.reactor.core.borrow_mut();
        let state = core.acceptor(self.slot);
        state.closing = true;
        if !state.armed {
            core.slots.remove(self.slot);
            return;
        }
        let cancel = opcode::AsyncCancel::new(Op::Accept.tag(self.slot)).build().user_data(Op::Forget.tag(0));
        // SAFETY: a cancellation refers to no memory.
        unsafe { core.ring.push(&cancel) };
    }
}

impl Core {
    fn acceptor(&mut self, slot: usize) -> &mut State {
        match self.slots.get_mut(slot) {
            Some(Slot::Acceptor(state)) => state,
            _ => unreachable!("slot {slot} is not an acceptor"),
        }
    }

    fn arm_accept(&mut self, slot: usize) {
        let state = self.acceptor(slot);
        if std::mem::replace(&mut state.armed, true) {
            return;
        }
        let accept = opcode::AcceptMulti::new(types::Fd(state.fd.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
            .build()
            .user_data(Op::Accept.tag(slot));
        // SAFETY: no address is asked for, so the operation refers to no memory.
        unsafe { self.ring.push(&accept) };
    }

    pub(super) fn accepted(&mut self, slot: usize, completion: &cqueue::Entry, wakers: &Wakers) {
        let state = self.acceptor(slot);
        if !cqueue::more(completion.flags()) {
            state.armed = false;
        }
        let result = completion.result();
        // SAFETY: the kernel has just made this descriptor for us; nobody else has it.
        let accepted = match result {
            0.. => Ok(unsafe { OwnedFd::from_raw_fd(result) }),
            _ => Err(io::Error::from_raw_os_error(-result)),
        };
        if state.closing {
            if !state.armed {
                self.slots.remove(slot);
            }
            return;
        }
        state.accepted.push_back(accepted);
        if let Some(waker) = state.waker.take() {
            wakers.wake(&waker);
        }
    }
}
