//! Receives that find no buffer.
//!
//! Such a receive takes a buffer of the other kind, and when there is none of either, memory of its own, of the size of a small
//! buffer. So a session never waits for what others hold: they might hold it until they are answered, and the answer might be
//! what finds no buffer.
//!
//! The kernel looks for a buffer before it looks for bytes, so a leg that found none first waits for bytes ([`POLL_FIRST`]), and only
//! one that has some gets memory of its own: one piece at most for each time that it asked for bytes.

use super::super::buffers::Group;
use super::{Core, Op, Receiving};

/// IORING_RECVSEND_POLL_FIRST (io_uring_enter(2)): bytes are waited for before a buffer is taken for them.
pub(super) const POLL_FIRST: u16 = 1;

impl Core {
    /// No buffer was there. Who does not wait for bytes will ask for them in time; who does gets them some other way.
    #[cold]
    pub(super) fn starve(&mut self, slot: usize, op: Op) {
        self.starvations += 1;
        self.buffers.exhausted(op.group());
        let state = self.socket(slot);
        state.receiving = Receiving::Idle;
        state.in_flight -= 1;
        if !state.wants_receive {
            return;
        }
        let receive = match op {
            Op::Receive if self.buffers.has_lent(Group::Small) => Op::Receive,
            _ if self.buffers.has_lent(Group::Large) => Op::ReceiveLarge,
            Op::ReceiveOne if !self.buffers.has_lent(Group::Small) => Op::ReceiveOwn,
            _ => Op::ReceiveOne,
        };
        self.arm_with(slot, receive);
    }
}
