//! What a process and its children used: CPU time and resident memory, as the kernel accounts for them.
//!
//! CPU time comes from each process's CPU clock, in nanoseconds and with its ended threads (`/proc/PID/stat` counts
//! ticks of 10 ms). It holds the kernel's work in the process's name, softirqs that ran on its stack included, unless
//! the kernel was built with IRQ_TIME_ACCOUNTING; `CpuBusy` is the check on that. It starts and stops nothing.

use std::fs;
use std::io;

use crate::sys;

/// A process, its process group and all descendants.
pub struct Tree {
    root: u32,
}

impl Tree {
    #[must_use]
    pub fn new(root: u32) -> Self {
        Self { root }
    }

    /// CPU time so far, in nanoseconds. Children that have ended are not in it.
    pub fn cpu_ns(&self) -> io::Result<u64> {
        let own = sys::process_cpu_ns(self.root)?;
        let others = self.processes()?.into_iter().filter(|&process| process != self.root);
        // A child that ends between the listing and the reading counts nothing.
        Ok(own + others.filter_map(|process| sys::process_cpu_ns(process).ok()).sum::<u64>())
    }

    /// Resident memory, in bytes. Pages that two of the processes share count twice.
    pub fn rss_bytes(&self) -> io::Result<u64> {
        let pages = |process: u32| -> Option<u64> {
            fs::read_to_string(format!("/proc/{process}/statm")).ok()?.split(' ').nth(1)?.parse().ok()
        };
        Ok(self.processes()?.into_iter().filter_map(pages).sum::<u64>() * sys::page_size())
    }

    fn processes(&self) -> io::Result<Vec<u32>> {
        let mut all = vec![];
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(process) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            if let Some((parent, group)) = parent_and_group(process) {
                all.push((process, parent, group));
            }
        }
        let mut found = vec![self.root];
        loop {
            let before = found.len();
            for &(process, parent, group) in &all {
                if !found.contains(&process) && (group == self.root || found.contains(&parent)) {
                    found.push(process);
                }
            }
            if found.len() == before {
                return Ok(found);
            }
        }
    }
}

/// Ticks that one CPU was not idle: whatever ran there, in whoever's name.
pub struct CpuBusy {
    busy: u64,
    total: u64,
}

impl CpuBusy {
    /// Reads the counters of `cpu`; `None` where there are none.
    #[must_use]
    pub fn read(cpu: usize) -> Option<Self> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let name = format!("cpu{cpu} ");
        let line = stat.lines().find_map(|line| line.strip_prefix(&name))?;
        let fields: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        let total = fields.iter().take(8).sum::<u64>();
        // idle, iowait and what the hypervisor took
        let away = fields.get(3)? + fields.get(4)? + fields.get(7)?;
        Some(Self { busy: total - away, total })
    }

    /// The share of the time since `earlier` that the CPU worked, from 0 to 1.
    #[must_use]
    pub fn share_since(&self, earlier: &Self) -> f64 {
        let total = self.total.saturating_sub(earlier.total);
        if total == 0 { 0.0 } else { self.busy.saturating_sub(earlier.busy) as f64 / total as f64 }
    }
}

/// The parent and the process group in `/proc/PID/stat`, whose second field may hold blanks and brackets.
fn parent_and_group(process: u32) -> Option<(u32, u32)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_cpu_and_memory() {
        let tree = Tree::new(std::process::id());
        let before = tree.cpu_ns().unwrap();
        let spun = (0..5_000_000_u64).fold(0_u64, |sum, n| std::hint::black_box(sum ^ n));
        assert!(tree.cpu_ns().unwrap() > before, "{spun}");
        assert!(tree.rss_bytes().unwrap() > 100_000);
    }

    #[test]
    fn a_process_that_is_gone_has_no_account() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(Tree::new(child.id()).cpu_ns().is_err());
    }
}
