//! What this machine lets a worker do, asked before the first worker starts.
//!
//! There is no fallback to another kind of I/O: corelane says which feature is missing, and why, in words
//! that an operator can act on.

use std::fs;
use std::io;

use io_uring::{IoUring, Probe, opcode};

use super::ring::Ring;

/// Linux 6.1 has all that the ring needs: DEFER_TASKRUN is the newest of it.
const KERNEL_MIN: (u32, u32) = (6, 1);
const FILE_TABLE_MIN: (u32, u32) = (6, 13);
/// glommio refuses to start below it.
const MEMLOCK_MIN_BYTES: u64 = 512 * 1024;

/// Why this machine cannot run corelane.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    #[error("this kernel is Linux {found}, corelane needs {}.{} or newer (io_uring with DEFER_TASKRUN)", KERNEL_MIN.0, KERNEL_MIN.1)]
    KernelTooOld { found: String },
    #[error(
        "io_uring is switched off on this machine: sysctl kernel.io_uring_disabled is {0}; set it to 0{hint}",
        hint = if *.0 == 1 { " or put this user into kernel.io_uring_group" } else { "" }
    )]
    SwitchedOff(u32),
    #[error(
        "the kernel refuses io_uring to this process ({0}): a seccomp profile or a security module forbids it (container run-times do so by default; allow io_uring_setup, io_uring_enter and io_uring_register)"
    )]
    Forbidden(io::Error),
    #[error(
        "the limit of locked memory is {found} bytes, a worker needs {MEMLOCK_MIN_BYTES}: raise RLIMIT_MEMLOCK (ulimit -l, or LimitMEMLOCK= of the service)"
    )]
    MemlockTooSmall { found: u64 },
    #[error("this kernel's io_uring lacks {0}")]
    FeatureMissing(&'static str),
    #[error("io_uring could not be set up: {0}")]
    Other(io::Error),
}

/// What of the optional features this kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// A file that leaves the ring's table is closed at once. Before 6.13 it stays open until every older
    /// operation on the ring has ended, and an idle session's receive never does: no table for such a kernel.
    pub file_table: bool,
}

/// Checks everything that a worker will need.
pub fn check() -> Result<Features, Unfit> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let version = version(&release);
    if version.is_some_and(|version| version < KERNEL_MIN) {
        return Err(Unfit::KernelTooOld { found: release.trim().to_owned() });
    }
    check_switch(&fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default())?;
    let memlock = super::limits::memlock_bytes();
    if memlock < MEMLOCK_MIN_BYTES {
        return Err(Unfit::MemlockTooSmall { found: memlock });
    }
    let ring = Ring::new().map_err(judge)?;
    check_operations(&ring)?;
    super::Buffers::new(&ring, 0).map_err(|_| Unfit::FeatureMissing("provided-buffer rings"))?;
    Ok(Features { file_table: version.is_some_and(|version| version >= FILE_TABLE_MIN) })
}

/// Major and minor number of a release; none if it cannot be read, which is no reason to refuse: the ring
/// itself will tell.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

fn check_switch(sysctl: &str) -> Result<(), Unfit> {
    match sysctl.trim().parse() {
        // With 1 a privileged process may still use it, so only the ring itself can tell.
        Ok(1) => IoUring::new(2).map(drop).map_err(|_| Unfit::SwitchedOff(1)),
        Ok(2) => Err(Unfit::SwitchedOff(2)),
        _ => Ok(()),
    }
}

fn judge(error: io::Error) -> Unfit {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => Unfit::Forbidden(error),
        Some(libc::ENOSYS) => Unfit::FeatureMissing("itself: the system call does not exist"),
        Some(libc::ENOMEM) => Unfit::MemlockTooSmall { found: super::limits::memlock_bytes() },
        Some(libc::EINVAL) => Unfit::FeatureMissing("SINGLE_ISSUER with DEFER_TASKRUN"),
        _ => Unfit::Other(error),
    }
}

fn check_operations(ring: &Ring) -> Result<(), Unfit> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(Unfit::Other)?;
    let needed = [
        (opcode::Accept::CODE, "accept"),
        (opcode::Recv::CODE, "recv"),
        (opcode::Send::CODE, "send"),
        (opcode::SendMsg::CODE, "sendmsg"),
        (opcode::Connect::CODE, "connect"),
        (opcode::Read::CODE, "read"),
        (opcode::AsyncCancel::CODE, "async cancel"),
        (opcode::Shutdown::CODE, "shutdown"),
        (opcode::Close::CODE, "close"),
    ];
    match needed.iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, name)) => Err(Unfit::FeatureMissing(name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_as_far_as_they_go() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("6.18.44\n"), Some((6, 18)));
        assert_eq!(version("5.15.0-91-generic\n"), Some((5, 15)));
        assert_eq!(version("mainline"), None);
        assert_eq!(
            Unfit::KernelTooOld { found: "5.15.0-91-generic".into() }.to_string(),
            "this kernel is Linux 5.15.0-91-generic, corelane needs 6.1 or newer (io_uring with DEFER_TASKRUN)"
        );
    }

    #[test]
    fn this_machine_is_fit() {
        check().expect("tests run on a machine that can run corelane");
    }

    #[test]
    fn a_switched_off_ring_is_named() {
        assert!(check_switch("0\n").is_ok());
        assert!(check_switch("").is_ok());
        let refusal = check_switch("2\n").expect_err("off").to_string();
        assert!(refusal.contains("kernel.io_uring_disabled is 2; set it to 0"), "{refusal}");
    }

    #[test]
    fn refusals_of_the_kernel_are_told_apart() {
        let judged = |errno| judge(io::Error::from_raw_os_error(errno)).to_string();
        assert!(judged(libc::EPERM).contains("seccomp"));
        assert!(judged(libc::EINVAL).contains("DEFER_TASKRUN"));
        assert!(judged(libc::ENOMEM).contains("RLIMIT_MEMLOCK"));
    }
}
