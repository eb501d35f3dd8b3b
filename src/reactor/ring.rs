//! The io_uring instance itself: entries in, completions out, one system call a turn.
//!
//! It is made on the thread that uses it (SINGLE_ISSUER) and runs the kernel's part of each completion
//! only inside our own `io_uring_enter` (DEFER_TASKRUN), so nothing interrupts a worker between turns.
//! Source: io_uring_setup(2), io_uring_enter(2).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::{IoUring, cqueue, squeue};

/// Submission entries that fit before the ring has to be entered.
const SQ_ENTRIES: u32 = 1024;
/// Completions that fit between two turns; the kernel keeps what is beyond them, at a cost.
const CQ_ENTRIES: u32 = 16 * 1024;
/// Looks at the ring between two looks at the clock while spinning.
const SPINS_PER_CLOCK: u32 = 32;

const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;

/// `struct io_uring_getevents_arg`
#[repr(C)]
struct EnterArg {
    sigmask: u64,
    sigmask_size: u32,
    min_wait_us: u32,
    timespec: u64,
}

pub(super) struct Ring {
    uring: IoUring,
    /// The ring's index among this thread's registered rings; none if it could not be registered.
    registered: Option<RawFd>,
}

impl Ring {
    pub fn new() -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(CQ_ENTRIES)
            .setup_clamp()
            .dontfork()
            .build(SQ_ENTRIES)?;
        let registered = register_ring_fd(&uring);
        Ok(Self { uring, registered })
    }

    pub fn submitter(&self) -> io_uring::Submitter<'_> {
        self.uring.submitter()
    }

    /// Queues one operation for the next turn; enters the ring only when the queue is full.
    ///
    /// # Safety
    ///
    /// Every address in `entry` must stay valid until the operation's last completion.
    #[inline]
    pub unsafe fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: promised by the caller.
        while unsafe { self.uring.submission().push(entry) }.is_err() {
            self.enter(0, None, ENTER_GETEVENTS);
        }
    }

    /// Submits what is queued and waits for a completion, at most for `timeout`; spins for `spin` first. Without time to wait it
    /// takes what is there.
    pub fn wait(&mut self, spin: Duration, timeout: Option<Duration>) {
        if timeout == Some(Duration::ZERO) {
            self.enter(0, None, ENTER_GETEVENTS);
        } else if spin.is_zero() || !self.spin(spin) {
            self.enter(1, timeout, ENTER_GETEVENTS);
        }
    }

    /// Waits awake until there are completions or the time is over. True if there are some.
    fn spin(&mut self, spin: Duration) -> bool {
        if !self.is_drained() {
            self.enter(0, None, 0);
        }
        let end = Instant::now() + spin;
        while self.uring.completion().is_empty() {
            if self.has_task_work() {
                self.enter(0, None, ENTER_GETEVENTS);
            } else if Instant::now() >= end {
                return false;
            }
        }
        true
    }

    /// Watches for work that the kernel has left for this thread. It only reads: what it reads lies in the cache
    /// line that the kernel's other side has to write to, and each store of ours there would cost it a transfer.
    fn has_task_work(&mut self) -> bool {
        let queue = self.uring.submission();
        for _ in 0..SPINS_PER_CLOCK {
            if queue.taskrun() {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// Whether the kernel has taken all that was queued.
    pub fn is_drained(&mut self) -> bool {
        self.uring.submission().is_empty()
    }

    /// Moves completions into `into`; an empty slice means that there are no more.
    #[inline]
    pub fn completions<'a>(&mut self, into: &'a mut [MaybeUninit<cqueue::Entry>]) -> &'a mut [cqueue::Entry] {
        self.uring.completion().fill(into)
    }

    /// `io_uring_enter`. Only with GETEVENTS does it run the kernel's part of completions. The errors that it can give here (a signal, the timeout, a completion queue
    /// that is full) all mean the same: look at the completions and come again.
    fn enter(&mut self, want: u32, timeout: Option<Duration>, mut flags: u32) {
        let queued = self.uring.submission().len() as u32;
        let spec = timeout.map(|t| libc::timespec {
            tv_sec: t.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(t.subsec_nanos()),
        });
        let arg = EnterArg {
            sigmask: 0,
            sigmask_size: 0,
            min_wait_us: 0,
            timespec: spec.as_ref().map_or(0, |spec| std::ptr::from_ref(spec) as u64),
        };
        let fd = match self.registered {
            Some(index) => {
                flags |= ENTER_REGISTERED_RING;
                index
            }
            None => self.uring.as_raw_fd(),
        };
        let (arg_at, arg_size) = if spec.is_some() {
            flags |= ENTER_EXT_ARG;
            (std::ptr::from_ref(&arg), size_of::<EnterArg>())
        } else {
            (std::ptr::null(), 0)
        };
        // SAFETY: the ring is ours and used by this thread alone; `arg` and `spec` outlive the call.
        let _ = unsafe { libc::syscall(libc::SYS_io_uring_enter, fd, queued, want, flags, arg_at, arg_size) };
    }
}

impl Drop for Ring {
    /// A registered ring is kept open by its registration.
    fn drop(&mut self) {
        if let Some(index) = self.registered {
            let mut update = Update { offset: index as u32, resv: 0, data: 0 };
            register(&self.uring, UNREGISTER_RING_FDS, &mut update);
        }
    }
}

const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;

/// `struct io_uring_rsrc_update`
#[repr(C)]
struct Update {
    offset: u32,
    resv: u32,
    data: u64,
}

/// Registers the ring with itself, which saves a look-up of the file at each entry (Linux 5.18).
fn register_ring_fd(uring: &IoUring) -> Option<RawFd> {
    let mut update = Update { offset: u32::MAX, resv: 0, data: uring.as_raw_fd() as u64 };
    (register(uring, REGISTER_RING_FDS, &mut update) == 1).then_some(update.offset as RawFd)
}

fn register(uring: &IoUring, what: u32, update: &mut Update) -> libc::c_long {
    // SAFETY: one valid, writable entry is passed, as its count says.
    unsafe {
        libc::syscall(libc::SYS_io_uring_register, uring.as_raw_fd(), what, std::ptr::from_mut(update), 1)
    }
}
