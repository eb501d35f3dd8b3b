//! What a socket sends: one send at a time.
//!
//! The kernel does not order two sends on one socket, so there is never more than one. What is sent is a chain of received buffers,
//! forwarded without a copy, or bytes of our own; either belongs to the slot until the send has completed. Where only the front of a
//! chain is forwarded, the rest goes with it and comes back to the socket that received it when the front has left.

use bytes::Bytes;
use io_uring::{cqueue, opcode};

use super::State;
use crate::reactor::buffers::{Buffers, Chain};
use crate::reactor::wake::Wakers;
use crate::reactor::{Core, Op, Slot};

/// Buffers that one `sendmsg` takes.
const GATHER_MAX: usize = 16;
/// `sendmsg` blocks kept for reuse.
const GATHERS_KEPT: usize = 64;

pub(super) enum Sending {
    Nothing,
    Chain { chain: Chain, gather: Option<Box<Gather>>, rest: Rest },
    Bytes(Box<Bytes>),
}

/// The end of a chain that is not to be sent.
#[derive(Clone, Copy, Default)]
pub(super) struct Rest {
    pub(super) bytes: usize,
    /// Slot and birth of the socket that it goes back to.
    pub(super) owner: (usize, u64),
}

/// What `sendmsg` reads while it is in flight.
pub(in crate::reactor) struct Gather {
    header: libc::msghdr,
    parts: [libc::iovec; GATHER_MAX],
}

impl Default for Gather {
    fn default() -> Self {
        // SAFETY: both are plain C structures for which all zeroes means empty.
        unsafe { std::mem::zeroed() }
    }
}

impl Core {
    pub(super) fn send_bytes(&mut self, slot: usize, bytes: Bytes) {
        let state = self.socket(slot);
        if bytes.is_empty() || state.send_error.is_some() {
            return;
        }
        if state.layer.is_some() {
            return self.seal_bytes(slot, &bytes);
        }
        self.send_wire(slot, bytes);
    }

    /// Sends bytes as they are.
    pub(super) fn send_wire(&mut self, slot: usize, bytes: Bytes) {
        let state = self.socket(slot);
        if bytes.is_empty() {
            return;
        }
        debug_assert!(matches!(state.sending, Sending::Nothing));
        state.sending = Sending::Bytes(Box::new(bytes));
        state.in_flight += 1;
        self.push_send(slot);
    }

    #[inline]
    pub(super) fn send_chain(&mut self, slot: usize, chain: Chain, rest: Rest) {
        let state = self.socket(slot);
        if chain.is_empty() || state.send_error.is_some() {
            self.buffers.release(chain);
            if let Some(owner) = self.owner(rest) {
                owner.rest_is_away = false;
            }
            return;
        }
        debug_assert!(matches!(state.sending, Sending::Nothing));
        state.sending = Sending::Chain { chain, gather: None, rest };
        state.in_flight += 1;
        self.push_send(slot);
    }

    /// Hands the next bytes of what is being sent to the kernel.
    #[inline]
    fn push_send(&mut self, slot: usize) {
        let Some(Slot::Socket(state)) = self.slots.get_mut(slot) else { return };
        let fd = state.file.fd();
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let entry = match &mut state.sending {
            Sending::Nothing => return,
            Sending::Bytes(bytes) => {
                opcode::Send::new(fd, bytes.as_ptr(), bytes.len() as u32).flags(flags).build()
            }
            Sending::Chain { chain, gather, rest } => {
                let front = self.buffers.front(chain);
                let wanted = chain.bytes() - rest.bytes;
                if wanted <= front.len() {
                    opcode::Send::new(fd, front.as_ptr(), wanted as u32).flags(flags).build()
                } else {
                    let block = gather.get_or_insert_with(|| self.gathers.pop().unwrap_or_default());
                    block.fill(&self.buffers, chain, wanted);
                    opcode::SendMsg::new(fd, &raw const block.header).flags(flags as u32).build()
                }
            }
        };
        // SAFETY: what is sent belongs to the slot, which is kept until the send has completed; a chain's
        // buffers and the gather block are not touched until then.
        unsafe { self.ring.push(&state.file.aim(entry).user_data(Op::Send.tag(slot))) };
    }

    #[inline]
    pub(in crate::reactor) fn sent(&mut self, slot: usize, completion: &cqueue::Entry, wakers: &Wakers) {
        let Some(Slot::Socket(state)) = self.slots.get_mut(slot) else { return };
        let result = completion.result();
        if result <= 0 {
            state.send_error = Some(if result == 0 { libc::EPIPE } else { -result });
        }
        let n = result.max(0) as usize;
        let done = match &mut state.sending {
            Sending::Nothing => true,
            Sending::Bytes(bytes) => {
                bytes::Buf::advance(&mut **bytes, n);
                bytes.is_empty()
            }
            Sending::Chain { chain, rest, .. } => {
                self.buffers.consume(chain, n);
                chain.bytes() == rest.bytes
            }
        };
        if !done && state.send_error.is_none() && !state.closing {
            self.push_send(slot);
            return;
        }
        state.in_flight -= 1;
        let sent = std::mem::replace(&mut state.sending, Sending::Nothing);
        state.layer_sent();
        if state.has_words() && !state.closing && self.say(slot) {
            return;
        }
        let state = self.socket(slot);
        if std::mem::take(&mut state.wants_sent) || state.send_error.is_some() {
            state.wake(wakers);
        }
        if state.closing {
            self.free_if_closed(slot);
        }
        if let Sending::Chain { chain, gather, rest } = sent {
            if let Some(gather) = gather.filter(|_| self.gathers.len() < GATHERS_KEPT) {
                self.gathers.push(gather);
            }
            if rest.bytes > 0 {
                self.give_back(chain, rest, wakers);
            } else {
                self.buffers.release(chain);
            }
        }
    }

    /// What was not to be sent is unread again, unless the socket that received it is gone.
    #[cold]
    pub(super) fn give_back(&mut self, mut chain: Chain, rest: Rest, wakers: &Wakers) {
        let Some(owner) = self.owner(rest) else { return self.buffers.release(chain) };
        owner.rest_is_away = false;
        owner.wake(wakers);
        if owner.closing {
            return self.buffers.release(chain);
        }
        let mut later = owner.received.take();
        // What goes before it may not have been sent; it counts as read all the same.
        let unsent = chain.bytes() - rest.bytes;
        self.buffers.consume(&mut chain, unsent);
        self.buffers.prepend(chain, &mut later);
        if let Some(owner) = self.owner(rest) {
            owner.received = later;
        }
    }

    /// The socket that a rest goes back to, if it is still the same one.
    fn owner(&mut self, rest: Rest) -> Option<&mut State> {
        let (slot, birth) = rest.owner;
        match self.slots.get_mut(slot) {
            Some(Slot::Socket(owner)) if owner.birth == birth => Some(owner),
            _ => None,
        }
    }
}

impl Gather {
    /// Points at the first buffers of `chain`, up to `wanted` bytes.
    fn fill(&mut self, buffers: &Buffers, chain: &Chain, wanted: usize) {
        self.header.msg_iovlen = buffers.gather(chain, wanted, &mut self.parts);
        self.header.msg_iov = self.parts.as_mut_ptr();
    }
}
