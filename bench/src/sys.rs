//! The kernel calls that the standard library lacks: epoll, CPU pinning, limits, signals, what a child inherits.
//!
//! Invariant: every `unsafe` of the bench tools is on this page, each with its reason. It decides nothing.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

pub const READ: u32 = libc::EPOLLIN as u32;
pub const WRITE: u32 = libc::EPOLLOUT as u32;

/// Ready events of one wait.
pub type Events = Vec<libc::epoll_event>;

/// Room for `count` events.
#[must_use]
pub fn events(count: usize) -> Events {
    vec![libc::epoll_event { events: 0, u64: 0 }; count]
}

/// A level-triggered epoll instance.
pub struct Epoll(OwnedFd);

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointer; a non-negative result is a descriptor that nobody else owns.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: as above.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub fn add(&self, fd: &impl AsFd, token: usize, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd.as_fd().as_raw_fd(), token, interest)
    }

    pub fn change(&self, fd: &impl AsFd, token: usize, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd.as_fd().as_raw_fd(), token, interest)
    }

    /// Waits up to `timeout_ms` (-1: for ever) and returns how many of `events` are filled.
    pub fn wait(&self, events: &mut Events, timeout_ms: i32) -> io::Result<usize> {
        let room = i32::try_from(events.len()).unwrap_or(i32::MAX);
        // SAFETY: the pointer and the length are those of one live vector.
        let ready =
            check(unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), room, timeout_ms) });
        match ready {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            other => other.map(|count| count as usize),
        }
    }

    fn control(&self, operation: i32, fd: RawFd, token: usize, interest: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest, u64: token as u64 };
        // SAFETY: `event` lives through the call, which copies it.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &raw mut event) }).map(drop)
    }
}

/// Lets the calling thread run on `cpu` only.
pub fn pin(cpu: usize) -> io::Result<()> {
    allow(&[cpu])
}

/// Lets the calling thread run on `cpus` only. Allocates nothing.
fn allow(cpus: &[usize]) -> io::Result<()> {
    if cpus.iter().any(|&cpu| cpu >= libc::CPU_SETSIZE as usize) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: an all-zero cpu_set_t is the empty set; each index is below its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for &cpu in cpus {
            libc::CPU_SET(cpu, &mut set);
        }
        check(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)).map(drop)
    }
}

/// Raises the limit of open files towards `wanted`, beyond the hard limit where the process may; returns the limit
/// that holds now.
pub fn raise_open_files(wanted: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live rlimit that the call fills.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    if limit.rlim_cur >= wanted {
        return Ok(limit.rlim_cur);
    }
    let beyond = libc::rlimit { rlim_cur: wanted, rlim_max: wanted.max(limit.rlim_max) };
    let within = libc::rlimit { rlim_cur: wanted.min(limit.rlim_max), rlim_max: limit.rlim_max };
    for try_this in [beyond, within] {
        // SAFETY: reads a live rlimit.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const try_this) } == 0 {
            return Ok(try_this.rlim_cur);
        }
    }
    Ok(limit.rlim_cur)
}

/// Leaves the choice of a port to connect time, so that one source address serves many connections to each target.
pub fn bind_without_port(socket: &impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is a live c_int of the given size.
    check(unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// Makes a child that leads its own process group, dies with this thread, starts with no signal blocked and runs
/// on `cpus` only (this thread's own choice of CPUs is not inherited).
pub fn tie(command: &mut Command, cpus: Vec<usize>) {
    let before_exec = move || {
        // SAFETY: prctl and sigprocmask are async-signal-safe, and an emptied set is initialised.
        unsafe {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            check(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()))?;
        }
        allow(&cpus)
    };
    command.process_group(0);
    // SAFETY: the closure allocates nothing and calls only async-signal-safe functions.
    unsafe { command.pre_exec(before_exec) };
}

/// Sends `signal` to a child's whole process group; a group that is gone is no error.
pub fn signal_group(leader: u32, signal: i32) {
    let group = leader as libc::pid_t;
    // SAFETY: takes no pointer. Zero and one would mean other processes than the child's.
    if group > 1 {
        unsafe { libc::kill(-group, signal) };
    }
}

/// Blocks SIGINT and SIGTERM in this thread and those that it starts; `wait_for_stop` receives them.
pub fn block_stop() -> io::Result<()> {
    let set = stop_signals();
    // SAFETY: the set is initialised; no old mask is asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Sleeps until SIGINT or SIGTERM arrives and returns its number.
#[must_use]
pub fn wait_for_stop() -> i32 {
    let set = stop_signals();
    let mut signal = 0;
    // SAFETY: both pointers are to live, initialised values.
    while unsafe { libc::sigwait(&raw const set, &raw mut signal) } != 0 {}
    signal
}

/// CPU time of a process with all its threads, ended ones too, in nanoseconds.
pub fn process_cpu_ns(process: u32) -> io::Result<u64> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` is live; the call only fills it.
    match unsafe { libc::clock_getcpuclockid(process as libc::pid_t, &raw mut clock) } {
        0 => {}
        error => return Err(io::Error::from_raw_os_error(error)),
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is live; the call only fills it.
    check(unsafe { libc::clock_gettime(clock, &raw mut time) })?;
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Bytes in a page of memory.
#[must_use]
pub fn page_size() -> u64 {
    // SAFETY: takes no pointer.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

fn stop_signals() -> libc::sigset_t {
    // SAFETY: sigemptyset initialises the set; the signals exist.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        set
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
