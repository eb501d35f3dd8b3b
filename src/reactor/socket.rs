//! A connected stream socket on the ring: received bytes in lent buffers, one send at a time.
//!
//! **Receiving.** In ordinary traffic one multishot receive stays armed and the kernel puts bytes into small
//! buffers as they come. Once more than [`BULK_BUFFERS`] wait unread the socket goes into *bulk*: the multishot is
//! cancelled, and from then on one receive at a time is armed, into one large buffer, and only when somebody
//! asks for bytes. So a peer that does not read stops its sender through TCP, and a session that is stalled
//! in bulk holds what is in its one large buffer. A short receive ends the bulk. The kernel may bring some 30
//! buffers more before it hears of the cancellation. When small buffers are scarce the bulk begins at
//! [`SCARCE_BUFFERS`].
//!
//! **Starving.** A receive that finds no buffer is for [`starve`].
//!
//! **Sending.** One send at a time: [`send`].
//!
//! **Closing.** Dropping a [`Socket`] cancels what is in flight; buffers come back with the last completion, and the file is closed
//! soon after, as told in [`files`](super::files).
//!
//! **Layers.** A socket may have TLS and compression on: [`layer`].
//!
//! **Leaving.** How a socket goes to the reactor of another worker is told in [`detach`].

mod detach;
mod layer;
mod send;
mod starve;

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use io_uring::{cqueue, opcode};
use socket2::SockAddr;

use super::buffers::{Chain, SMALL_BYTES};
use super::files::File;
use super::ration::LIGHT_BYTES;
use super::wake::Wakers;
use super::{Core, Op, Reactor, Slot};
use detach::Descriptor;
use layer::Fitted;
pub use layer::Layer;
pub(super) use send::Gather;
use send::{Rest, Sending};
use starve::POLL_FIRST;

/// Buffers that may wait unread before a socket goes into bulk.
pub const BULK_BUFFERS: usize = 16;
/// The same when small buffers are scarce.
pub const SCARCE_BUFFERS: usize = 2;

/// A socket of this worker.
pub struct Socket {
    reactor: Reactor,
    slot: usize,
}

/// What there is to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Bytes wait to be read.
    Data,
    /// The peer has sent its last byte, and all were read.
    End,
    /// The connection is broken: an `errno`.
    Broken(i32),
}

impl Received {
    /// The broken connection as an error; an end as `UnexpectedEof`.
    pub fn into_result(self) -> io::Result<()> {
        match self {
            Self::Data => Ok(()),
            Self::End => Err(io::ErrorKind::UnexpectedEof.into()),
            Self::Broken(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// A socket's slot in the reactor.
pub(super) struct State {
    file: File,
    /// Tells it from earlier sockets in its slot.
    birth: u64,
    received: Chain,
    /// What comes next is not here: it is the rest of a chain that is being forwarded.
    rest_is_away: bool,
    receiving: Receiving,
    /// Which receive was armed last.
    receive: Op,
    bulk: bool,
    /// Where the kernel puts bytes when no lent buffer is left.
    own: Option<Vec<u8>>,
    /// Why nothing more will be received.
    ended: Option<Received>,
    sending: Sending,
    /// The `errno` of a send that failed; all later ones fail with it.
    send_error: Option<i32>,
    connecting: Option<Box<Connecting>>,
    descriptor: Descriptor,
    layer: Option<Box<Fitted>>,
    waker: Option<Waker>,
    /// The task waits for bytes, for its turn to pass them on, or for the send to end.
    wants_receive: bool,
    wants_turn: bool,
    wants_sent: bool,
    /// Operations whose last completion has not come.
    in_flight: u8,
    closing: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Receiving {
    Idle,
    Armed,
    /// Cancelled, its last completion is awaited.
    Stopping,
}

struct Connecting {
    address: SockAddr,
    outcome: Option<i32>,
}

impl Socket {
    /// Takes over a connected socket.
    pub fn adopt(reactor: &Reactor, fd: OwnedFd) -> Self {
        let core = &mut *reactor.core.borrow_mut();
        let file = core.files.place(&core.ring, fd);
        core.births += 1;
        let slot = core.slots.insert(Slot::Socket(State::new(file, core.births)));
        Self { reactor: reactor.clone(), slot }
    }

    /// Connects a fresh socket. No time limit: the caller sets one, and drops this when it has passed.
    pub async fn connect(reactor: &Reactor, fd: OwnedFd, address: SockAddr) -> io::Result<Self> {
        let socket = Self::adopt(reactor, fd);
        reactor.core.borrow_mut().connect(socket.slot, address);
        poll_fn(|cx| {
            let mut core = reactor.core.borrow_mut();
            let state = core.socket(socket.slot);
            match state.connecting.as_ref().and_then(|connecting| connecting.outcome) {
                Some(0) => Poll::Ready(Ok(())),
                Some(errno) => Poll::Ready(Err(io::Error::from_raw_os_error(errno))),
                None => {
                    state.wait(cx);
                    Poll::Pending
                }
            }
        })
        .await?;
        reactor.core.borrow_mut().socket(socket.slot).connecting = None;
        Ok(socket)
    }

    /// Whether there is something to read, and arms the receive that will bring it if not.
    #[inline]
    pub fn poll_received(&self, cx: &mut Context<'_>) -> Poll<Received> {
        self.poll_beyond(cx, 0)
    }

    /// Whether more than `known` bytes are unread, and arms the receive that will bring them if not. With the end
    /// of the connection the known ones are not counted: they are all that will ever come.
    #[inline]
    pub fn poll_beyond(&self, cx: &mut Context<'_>, known: usize) -> Poll<Received> {
        let mut core = self.reactor.core.borrow_mut();
        let state = core.socket(self.slot);
        if state.rest_is_away {
            state.wait(cx);
            return Poll::Pending;
        }
        if state.received.bytes() > known {
            return Poll::Ready(Received::Data);
        }
        if state.layer.is_some() && core.open_until(self.slot, known) {
            return Poll::Ready(Received::Data);
        }
        let state = core.socket(self.slot);
        if let Some(ended) = state.ended {
            return Poll::Ready(ended);
        }
        state.wants_receive = true;
        state.wait(cx);
        if state.receiving == Receiving::Idle {
            core.arm(self.slot);
        }
        Poll::Pending
    }

    /// Waits for something to read.
    pub async fn received(&self) -> Received {
        poll_fn(|cx| self.poll_received(cx)).await
    }

    /// The `errno` with which the connection broke, even if bytes are still unread.
    #[inline]
    pub fn broken(&self) -> Option<i32> {
        let mut core = self.reactor.core.borrow_mut();
        let state = core.socket(self.slot);
        match (state.send_error, state.ended) {
            (Some(errno), _) | (None, Some(Received::Broken(errno))) => Some(errno),
            _ => None,
        }
    }

    /// Copies up to `limit` unread bytes to the end of `into` and counts them as read. For the few small
    /// packets of a login, not for the relay.
    pub fn read_into(&self, into: &mut Vec<u8>, limit: usize) -> usize {
        let core = &mut *self.reactor.core.borrow_mut();
        let Some(Slot::Socket(state)) = core.slots.get_mut(self.slot) else { return 0 };
        let mut left = limit.min(state.received.bytes());
        let taken = left;
        while left > 0 {
            let front = core.buffers.front(&state.received);
            let n = front.len().min(left);
            into.extend_from_slice(&front[..n]);
            core.buffers.consume(&mut state.received, n);
            left -= n;
        }
        taken
    }

    /// Shows the unread bytes, piece by piece, without reading them.
    #[inline]
    pub fn look(&self, f: impl FnMut(&[u8])) {
        let core = &mut *self.reactor.core.borrow_mut();
        if let Some(Slot::Socket(state)) = core.slots.get(self.slot) {
            core.buffers.each(&state.received, f);
        }
    }

    /// A copy of the first unread bytes.
    pub fn peek(&self, most: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.look(|chunk| bytes.extend_from_slice(&chunk[..chunk.len().min(most - bytes.len())]));
        bytes
    }

    /// Bytes received and not read.
    #[inline]
    pub fn unread(&self) -> usize {
        self.reactor.core.borrow_mut().socket(self.slot).received.bytes()
    }

    /// Overwrites unread bytes, from the one at `at` on.
    pub fn patch(&self, at: usize, bytes: &[u8]) {
        let core = &mut *self.reactor.core.borrow_mut();
        if let Some(Slot::Socket(state)) = core.slots.get(self.slot) {
            core.buffers.overwrite(&state.received, at, bytes);
        }
    }

    /// Reads and forgets all unread bytes.
    pub fn discard(&self) {
        let core = &mut *self.reactor.core.borrow_mut();
        if let Some(Slot::Socket(state)) = core.slots.get_mut(self.slot) {
            core.buffers.release(state.received.take());
        }
    }

    /// Whether bytes come in bulk, so that the next should be asked for only when these have left.
    #[inline]
    pub fn is_bulk(&self) -> bool {
        self.reactor.core.borrow_mut().socket(self.slot).bulk
    }

    /// Whether what is unread may be passed on in this turn, which is in question only where there is much of it. If not, the task is woken
    /// in the next one.
    #[inline]
    pub fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<()> {
        let core = &mut *self.reactor.core.borrow_mut();
        if !core.bulk.is_used_up() {
            return Poll::Ready(());
        }
        let Some(Slot::Socket(state)) = core.slots.get_mut(self.slot) else { return Poll::Ready(()) };
        if state.received.bytes() <= LIGHT_BYTES && !state.has_more() {
            return Poll::Ready(());
        }
        state.wait(cx);
        if !std::mem::replace(&mut state.wants_turn, true) {
            core.bulk.wait(self.slot);
        }
        Poll::Pending
    }

    /// Whether a send may be started. If not, the task is woken when it may.
    #[inline]
    pub fn poll_sent(&self, cx: &mut Context<'_>) -> Poll<Result<(), i32>> {
        let mut core = self.reactor.core.borrow_mut();
        let state = core.socket(self.slot);
        match (&state.sending, state.send_error) {
            (_, Some(errno)) => Poll::Ready(Err(errno)),
            (Sending::Nothing, None) => Poll::Ready(Ok(())),
            _ => {
                state.wants_sent = true;
                state.wait(cx);
                Poll::Pending
            }
        }
    }

    /// Starts sending the first `n` bytes that are unread on `from`, without copying them. Nothing may be in flight.
    /// The others are unread again when these have left.
    #[inline]
    pub fn forward(&self, from: &Self, n: usize) {
        let core = &mut *self.reactor.core.borrow_mut();
        if n == 0 {
            return;
        }
        core.bulk.take(n);
        let source = core.socket(from.slot);
        let chain = source.received.take();
        let rest = Rest { bytes: chain.bytes() - n, owner: (from.slot, source.birth) };
        source.rest_is_away = rest.bytes > 0;
        if core.socket(self.slot).layer.is_some() {
            return core.seal_chain(self.slot, chain, rest, &self.reactor.wakers);
        }
        core.send_chain(self.slot, chain, rest);
    }

    /// Starts sending bytes of our own. Nothing may be in flight.
    pub fn start_send(&self, bytes: impl Into<Bytes>) {
        self.reactor.core.borrow_mut().send_bytes(self.slot, bytes.into());
    }

    /// Sends bytes of our own, to the last one.
    pub async fn send(&self, bytes: impl Into<Bytes>) -> io::Result<()> {
        poll_fn(|cx| self.poll_sent(cx)).await.map_err(io::Error::from_raw_os_error)?;
        self.reactor.core.borrow_mut().send_bytes(self.slot, bytes.into());
        poll_fn(|cx| self.poll_sent(cx)).await.map_err(io::Error::from_raw_os_error)
    }

    /// Tells the peer that nothing more will come.
    pub fn shutdown_write(&self) {
        let core = &mut *self.reactor.core.borrow_mut();
        match core.socket(self.slot).layer {
            Some(_) => core.close_layer(self.slot),
            None => core.shut_write(self.slot),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.reactor.core.borrow_mut().close(self.slot);
    }
}

impl State {
    fn new(file: File, birth: u64) -> Self {
        Self {
            file,
            birth,
            received: Chain::EMPTY,
            rest_is_away: false,
            receiving: Receiving::Idle,
            receive: Op::Receive,
            bulk: false,
            own: None,
            ended: None,
            sending: Sending::Nothing,
            send_error: None,
            connecting: None,
            descriptor: Descriptor::NotAsked,
            layer: None,
            waker: None,
            wants_receive: false,
            wants_turn: false,
            wants_sent: false,
            in_flight: 0,
            closing: false,
        }
    }

    /// Wakes the task if it has waited for its turn.
    pub(super) fn have_turn(&mut self, wakers: &Wakers) {
        if std::mem::take(&mut self.wants_turn) {
            self.wake(wakers);
        }
    }

    #[inline]
    fn wait(&mut self, cx: &Context<'_>) {
        match &self.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => self.waker = Some(cx.waker().clone()),
        }
    }

    pub(super) fn wake(&mut self, wakers: &Wakers) {
        if let Some(waker) = &self.waker {
            wakers.wake(waker);
        }
    }
}

impl Core {
    #[inline]
    fn socket(&mut self, slot: usize) -> &mut State {
        match self.slots.get_mut(slot) {
            Some(Slot::Socket(state)) => state,
            _ => unreachable!("slot {slot} is not a socket"),
        }
    }

    fn connect(&mut self, slot: usize, address: SockAddr) {
        let Some(Slot::Socket(state)) = self.slots.get_mut(slot) else { return };
        let connecting = state.connecting.insert(Box::new(Connecting { address, outcome: None }));
        let address = &connecting.address;
        let connect = opcode::Connect::new(state.file.fd(), address.as_ptr().cast(), address.len()).build();
        let connect = state.file.aim(connect).user_data(Op::Connect.tag(slot));
        state.in_flight += 1;
        // SAFETY: the address is boxed and its slot is kept until the operation has completed.
        unsafe { self.ring.push(&connect) };
    }

    pub(super) fn connected(&mut self, slot: usize, completion: &cqueue::Entry, wakers: &Wakers) {
        let state = self.socket(slot);
        state.in_flight -= 1;
        if let Some(connecting) = &mut state.connecting {
            connecting.outcome = Some(-completion.result());
        }
        state.wake(wakers);
        self.free_if_closed(slot);
    }

    fn shut_write(&mut self, slot: usize) {
        let state = self.socket(slot);
        let shutdown = opcode::Shutdown::new(state.file.fd(), libc::SHUT_WR).build();
        let shutdown = state.file.aim(shutdown).user_data(Op::Shutdown.tag(slot));
        state.in_flight += 1;
        // SAFETY: the operation refers to no memory.
        unsafe { self.ring.push(&shutdown) };
    }

    /// The end of an operation that nobody waits for. A peer that has gone already is no error here.
    pub(super) fn shut_down(&mut self, slot: usize) {
        self.socket(slot).in_flight -= 1;
        self.free_if_closed(slot);
    }

    /// Arms the receive that fits the socket's mode.
    fn arm(&mut self, slot: usize) {
        let receive = if self.socket(slot).bulk { Op::ReceiveLarge } else { Op::Receive };
        self.arm_with(slot, receive);
    }

    fn arm_with(&mut self, slot: usize, receive: Op) {
        let state = self.socket(slot);
        state.receiving = Receiving::Armed;
        state.in_flight += 1;
        self.push_receive(slot, receive);
    }

    #[inline]
    fn push_receive(&mut self, slot: usize, receive: Op) {
        let state = self.socket(slot);
        state.receive = receive;
        let (fd, group) = (state.file.fd(), receive.group() as u16);
        let entry = match receive {
            Op::Receive => opcode::RecvMulti::new(fd, group).build(),
            Op::ReceiveOwn => {
                let own = state.own.insert(vec![0; SMALL_BYTES]);
                opcode::Recv::new(fd, own.as_mut_ptr(), SMALL_BYTES as u32).build()
            }
            _ => opcode::Recv::new(fd, std::ptr::null_mut(), 0)
                .ioprio(if receive == Op::ReceiveOne { POLL_FIRST } else { 0 })
                .buf_group(group)
                .build()
                .flags(io_uring::squeue::Flags::BUFFER_SELECT),
        };
        let entry = state.file.aim(entry).user_data(receive.tag(slot));
        // SAFETY: the kernel picks lent buffers, or writes to the socket's own memory, which its slot keeps where it is
        // until the completion.
        unsafe { self.ring.push(&entry) };
    }

    #[inline]
    pub(super) fn received(&mut self, slot: usize, op: Op, completion: &cqueue::Entry, wakers: &Wakers) {
        let (result, more) = (completion.result(), cqueue::more(completion.flags()));
        if result > 0 {
            self.take_in(slot, op, completion);
        }
        let Some(Slot::Socket(state)) = self.slots.get_mut(slot) else { return };
        if !more && result == -libc::ENOBUFS && !state.closing && state.receiving == Receiving::Armed {
            self.starve(slot, op);
            return;
        }
        // A layer may have ended it before.
        if result == 0 {
            state.ended.get_or_insert(Received::End);
        } else if result < 0 && ![-libc::ECANCELED, -libc::ENOBUFS].contains(&result) {
            state.ended.get_or_insert(Received::Broken(-result));
        }
        if !more {
            state.receiving = Receiving::Idle;
            state.in_flight -= 1;
            state.own = None;
        }
        if std::mem::take(&mut state.wants_receive) || (!more && state.ended.is_some()) {
            state.wake(wakers);
        }
        if state.closing {
            self.free_if_closed(slot);
        } else if more && state.receiving == Receiving::Armed && self.holds_too_much(slot) {
            self.stop_multishot(slot);
        }
    }

    /// Takes in what has been received.
    #[inline]
    fn take_in(&mut self, slot: usize, op: Op, completion: &cqueue::Entry) {
        let Some(Slot::Socket(state)) = self.slots.get_mut(slot) else { return };
        let (bytes, mut sealed) = (completion.result(), Chain::EMPTY);
        let is_sealed = state.layer.is_some();
        let chain = if is_sealed { &mut sealed } else { &mut state.received };
        if let Some(number) = cqueue::buffer_select(completion.flags()) {
            self.buffers.received(chain, op.group(), number, bytes as u32);
        } else if let Some(own) = &mut state.own {
            own.truncate(bytes as usize);
            self.buffers.bring(chain, std::mem::take(own).into());
        }
        if op != Op::Receive {
            state.bulk = bytes as usize >= SMALL_BYTES;
        }
        if is_sealed {
            self.open(slot, sealed);
            self.say(slot);
            let state = self.socket(slot);
            if op == Op::Receive
                && cqueue::more(completion.flags())
                && state.receiving == Receiving::Armed
                && !state.closing
                && state.has_more()
            {
                self.stop_multishot(slot);
            }
        }
    }

    #[inline]
    fn holds_too_much(&mut self, slot: usize) -> bool {
        let held = self.socket(slot).received.buffers();
        held > BULK_BUFFERS || (held > SCARCE_BUFFERS && self.buffers.are_scarce())
    }

    /// Too much waits unread: goes into bulk.
    fn stop_multishot(&mut self, slot: usize) {
        let state = self.socket(slot);
        state.bulk = true;
        state.receiving = Receiving::Stopping;
        self.cancel(slot, Op::Receive);
    }

    /// The session has dropped the socket.
    fn close(&mut self, slot: usize) {
        let state = self.socket(slot);
        state.closing = true;
        state.waker = None;
        let receiving = (state.receiving != Receiving::Idle).then_some(state.receive);
        let sending = (!matches!(state.sending, Sending::Nothing)).then_some(Op::Send);
        let connecting = state.connecting.as_ref().filter(|connecting| connecting.outcome.is_none());
        for op in [receiving, sending, connecting.map(|_| Op::Connect)].into_iter().flatten() {
            self.cancel(slot, op);
        }
        self.free_if_closed(slot);
    }

    /// Cancels one operation by its tag, which the kernel finds at once; by file it would look at every operation
    /// on the ring.
    fn cancel(&mut self, slot: usize, op: Op) {
        let cancel = opcode::AsyncCancel::new(op.tag(slot)).build().user_data(Op::Forget.tag(0));
        // SAFETY: a cancellation refers to no memory.
        unsafe { self.ring.push(&cancel) };
    }

    fn free_if_closed(&mut self, slot: usize) {
        let Some(Slot::Socket(state)) = self.slots.get(slot) else { return };
        if !state.closing || state.in_flight > 0 {
            return;
        }
        if let Slot::Socket(state) = self.slots.remove(slot) {
            self.buffers.release(state.received);
            self.files.close(state.file);
        }
    }
}
