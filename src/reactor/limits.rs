//! The process's limits: open files and locked memory.

use std::io;

/// Open files as far as they may now be opened, after [`raise_open_files`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    pub limit: u64,
    pub needed: u64,
}

impl OpenFiles {
    pub fn suffice(self) -> bool {
        self.limit >= self.needed
    }
}

/// Raises the soft limit of open files to the hard one, and both to `needed` where the process may.
pub fn raise_open_files(needed: u64) -> io::Result<OpenFiles> {
    let mut limit = get(libc::RLIMIT_NOFILE)?;
    if limit.rlim_max < needed {
        let higher = libc::rlimit { rlim_cur: needed, rlim_max: needed };
        // Only a privileged process may; without the right, the hard limit stays as it is.
        if set(libc::RLIMIT_NOFILE, higher).is_ok() {
            limit = higher;
        }
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        set(libc::RLIMIT_NOFILE, limit)?;
    }
    Ok(OpenFiles { limit: limit.rlim_cur, needed })
}

/// The limit of locked memory.
pub(super) fn memlock_bytes() -> u64 {
    get(libc::RLIMIT_MEMLOCK).map_or(0, |limit| limit.rlim_cur)
}

fn get(what: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    match unsafe { libc::getrlimit(what, &raw mut limit) } {
        0 => Ok(limit),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set(what: libc::__rlimit_resource_t, limit: libc::rlimit) -> io::Result<()> {
    // SAFETY: `limit` is valid and only read.
    match unsafe { libc::setrlimit(what, &raw const limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let files = raise_open_files(1).expect("the limit can be read");
        assert_eq!(get(libc::RLIMIT_NOFILE).expect("readable").rlim_cur, files.limit);
        assert!(files.suffice());
        assert!(!OpenFiles { limit: 10, needed: 11 }.suffice());
    }
}
