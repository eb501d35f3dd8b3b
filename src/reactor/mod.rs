//! The worker's ring: the one place where a worker waits.
//!
//! Every socket, the listeners, the mailbox's eventfd and all timers of a worker hang on one io_uring. A
//! *turn* submits what tasks have asked for, waits for completions, dispatches them, and lets the tasks
//! run that were woken:
//!
//! ```text
//!   +-> submit and wait -> dispatch completions -> woken tasks run -+
//!   +---------------------------------------------------------------+
//! ```
//!
//! Tasks run on the executor (see [`executor`]); they are woken only through `wake::Wakers`, which counts,
//! so that the worker never sleeps in the ring while a task is ready.
//!
//! What this does not do: it knows no protocol, and it decides nothing about sessions.
//!
//! Invariants: an operation's memory (a buffer being sent, an address being connected to) is owned by its slot
//! here and stays put until the operation's last completion, even when the session is long gone; a slot
//! is freed only when none of its operations is in flight.

mod buffers;
pub mod executor;
mod files;
pub mod limits;
mod listen;
mod memory;
pub mod probe;
mod ration;
#[cfg(test)]
mod rig;
mod ring;
mod signal;
mod socket;
mod timer;
mod wake;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use io_uring::cqueue;
use slab::Slab;

pub use listen::Acceptor;
pub use signal::Bell;
pub use socket::{Layer, Received, Socket};

use buffers::{Buffers, Group};
use files::Files;
use ration::Ration;
use ring::Ring;
use timer::Wheel;
use wake::Wakers;

/// Completions copied out of the ring at a time.
const BATCH: usize = 256;

/// How a worker's reactor is to be.
#[derive(Clone, Debug)]
pub struct Config {
    /// Memory that receive buffers may take, in bytes.
    pub buffer_bytes: usize,
    /// Sockets that the ring's own table of files takes; more of them keep their descriptors.
    pub files: u32,
    /// How long to spin before blocking.
    pub spin: Duration,
}

/// A worker's reactor. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct Reactor {
    core: Rc<RefCell<Core>>,
    wakers: Rc<Wakers>,
    spin: Duration,
    turns: Rc<Cell<u64>>,
}

/// What the clones share. The ring comes first, so that it is closed before the memory that it may write to.
struct Core {
    ring: Ring,
    slots: Slab<Slot>,
    /// Sockets made so far.
    births: u64,
    buffers: Buffers,
    files: Files,
    timers: Wheel,
    bulk: Ration,
    handshakes: Ration,
    /// Receives that found no buffer so far.
    starvations: u64,
    /// Blocks for reuse. Boxed, because the kernel reads one where it lies while it is in flight.
    #[expect(clippy::vec_box)]
    gathers: Vec<Box<socket::Gather>>,
}

/// What a completion can be about.
enum Slot {
    Socket(socket::State),
    Acceptor(listen::State),
    Bell(signal::State),
}

/// The operation that a completion ends, as the top byte of its user data; the slot is the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Op {
    /// A cancellation: nobody waits for its outcome.
    Forget = 0,
    /// A multishot receive into small buffers.
    Receive,
    /// One receive into a large buffer.
    ReceiveLarge,
    /// One receive into a small buffer, for want of a large one.
    ReceiveOne,
    /// One receive into memory of the socket's own, for want of any buffer.
    ReceiveOwn,
    Send,
    Connect,
    Shutdown,
    Accept,
    Ring,
    /// A descriptor for a file of the ring's table.
    Install,
}

impl Op {
    fn tag(self, slot: usize) -> u64 {
        ((self as u64) << 56) | slot as u64
    }

    fn of(user_data: u64) -> (Self, usize) {
        const ALL: [Op; 11] = [
            Op::Forget,
            Op::Receive,
            Op::ReceiveLarge,
            Op::ReceiveOne,
            Op::ReceiveOwn,
            Op::Send,
            Op::Connect,
            Op::Shutdown,
            Op::Accept,
            Op::Ring,
            Op::Install,
        ];
        (ALL[(user_data >> 56) as usize], (user_data & ((1 << 56) - 1)) as usize)
    }
}

impl Op {
    /// The buffers that a receive takes.
    fn group(self) -> Group {
        if self == Self::ReceiveLarge { Group::Large } else { Group::Small }
    }
}

impl Reactor {
    /// Makes the ring. To be called on the thread that will use it.
    pub fn new(config: &Config) -> io::Result<Self> {
        let ring = Ring::new()?;
        let mut buffers = Buffers::new(&ring, config.buffer_bytes)?;
        buffers.lend();
        let files = Files::new(&ring, config.files);
        let core = Core {
            ring,
            slots: Slab::new(),
            births: 0,
            buffers,
            files,
            timers: Wheel::new(Instant::now()),
            bulk: Ration::new(ration::BYTES),
            handshakes: Ration::new(ration::STEPS),
            starvations: 0,
            gathers: Vec::new(),
        };
        Ok(Self {
            core: Rc::new(RefCell::new(core)),
            wakers: Rc::new(Wakers::default()),
            spin: config.spin,
            turns: Rc::default(),
        })
    }

    /// Turns until `done` says so. The root task of a worker.
    pub async fn run(&self, mut done: impl FnMut() -> bool) {
        self.let_tasks_run().await;
        while !done() {
            self.turn();
            self.let_tasks_run().await;
        }
    }

    /// Submits, waits, dispatches.
    fn turn(&self) {
        self.turns.set(self.turns.get() + 1);
        let core = &mut *self.core.borrow_mut();
        core.buffers.lend();
        let patience = core.patience();
        core.files.close_some(&mut core.ring);
        core.ring.wait(self.spin, patience);
        core.files.settle(&mut core.ring);
        core.renew_rations(&self.wakers);
        core.dispatch(&self.wakers);
        core.fire_timers(&self.wakers);
    }

    /// Yields to the executor until no task is left that was woken.
    async fn let_tasks_run(&self) {
        while self.wakers.take() > 0 {
            futures_lite::future::yield_now().await;
        }
    }

    /// Runs `task` on this worker, beside the others.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.wakers.count();
        executor::spawn(task);
    }

    /// Wakes every task that waits for a socket, so that it looks at what has changed elsewhere.
    pub fn wake_all(&self) {
        for (_, slot) in &mut self.core.borrow_mut().slots {
            if let Slot::Socket(socket) = slot {
                socket.wake(&self.wakers);
            }
        }
    }

    /// Wakes a waker that does not hang on a completion.
    pub fn wake(&self, waker: &std::task::Waker) {
        self.wakers.wake(waker);
    }

    /// Whether nothing hangs on the ring any more.
    pub fn is_empty(&self) -> bool {
        let core = self.core.borrow();
        core.slots.is_empty() && core.files.are_gone()
    }

    /// Turns so far.
    pub fn turns(&self) -> u64 {
        self.turns.get()
    }

    /// How often a receive found no buffer so far.
    pub fn starvations(&self) -> u64 {
        self.core.borrow().starvations
    }

    /// Waits until `at`.
    pub async fn sleep_until(&self, at: Instant) {
        let mut timer = Timer { reactor: self, key: None };
        std::future::poll_fn(|cx| {
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            timer.set(at, cx.waker());
            Poll::Pending
        })
        .await;
    }

    /// Drives `work` until `at`; none when it was not done by then.
    pub async fn until<T>(&self, at: Instant, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut sleep = pin!(self.sleep_until(at));
        std::future::poll_fn(|cx| {
            if let Poll::Ready(value) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(value));
            }
            sleep.as_mut().poll(cx).map(|()| None)
        })
        .await
    }
}

/// A timer that is cancelled when nobody waits for it any more.
struct Timer<'a> {
    reactor: &'a Reactor,
    key: Option<timer::TimerKey>,
}

impl Timer<'_> {
    /// Sets the timer, once: a task is polled by its own waker all its life.
    fn set(&mut self, at: Instant, waker: &std::task::Waker) {
        if self.key.is_none() {
            self.key = Some(self.reactor.core.borrow_mut().timers.set(at, waker.clone()));
        }
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.reactor.core.borrow_mut().timers.cancel(key);
        }
    }
}

impl Core {
    /// How long a turn may wait; none if for ever.
    fn patience(&self) -> Option<Duration> {
        if self.bulk.is_awaited() || self.handshakes.is_awaited() {
            return Some(Duration::ZERO);
        }
        let timer = self.next_timer();
        if self.files.are_gone() {
            return timer;
        }
        Some(timer.map_or(files::PAUSE, |timer| timer.min(files::PAUSE)))
    }

    /// Gives those a turn that have waited for it.
    #[inline]
    fn renew_rations(&mut self, wakers: &Wakers) {
        for _ in 0..self.bulk.renew() {
            let slot = self.bulk.next();
            if let Some(Slot::Socket(socket)) = slot.and_then(|slot| self.slots.get_mut(slot)) {
                socket.have_turn(wakers);
            }
        }
        self.handshakes.renew();
        while !self.handshakes.is_used_up()
            && let Some(slot) = self.handshakes.next()
        {
            self.open_held(slot, wakers);
        }
    }

    fn next_timer(&self) -> Option<Duration> {
        if self.timers.is_empty() { None } else { self.timers.next(Instant::now()) }
    }

    fn fire_timers(&mut self, wakers: &Wakers) {
        if self.timers.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(waker) = self.timers.due(now) {
            wakers.wake(&waker);
        }
    }

    fn dispatch(&mut self, wakers: &Wakers) {
        let mut batch = [const { MaybeUninit::uninit() }; BATCH];
        loop {
            let completions = self.ring.completions(&mut batch);
            if completions.is_empty() {
                return;
            }
            for completion in completions {
                self.complete(completion, wakers);
            }
        }
    }

    #[inline]
    fn complete(&mut self, completion: &cqueue::Entry, wakers: &Wakers) {
        let (op, slot) = Op::of(completion.user_data());
        match op {
            Op::Forget => {}
            Op::Receive | Op::ReceiveLarge | Op::ReceiveOne | Op::ReceiveOwn => {
                self.received(slot, op, completion, wakers);
            }
            Op::Send => self.sent(slot, completion, wakers),
            Op::Shutdown => self.shut_down(slot),
            Op::Connect => self.connected(slot, completion, wakers),
            Op::Accept => self.accepted(slot, completion, wakers),
            Op::Ring => self.rang(slot, completion, wakers),
            Op::Install => self.installed(slot, completion, wakers),
        }
    }
}
