//! Where the house keeps things: temporary directories, free ports, and the one way to wait.
//!
//! Each run owns `<temp>/corelane-e2e/<pid>`; a run that finds the directory of a process that is gone
//! removes it. The path is short because a Unix socket's path may have 107 bytes only.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A directory of this run, removed when dropped.
pub struct Workplace(PathBuf);

impl Workplace {
    /// A new empty directory whose name begins with `name`.
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let path = RUN.join(format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&path).expect("create a directory for the test");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A TCP port of 127.0.0.1 that nobody listens on now, and that this run does not give again.
///
/// It lies below the ports which the kernel gives to connections, so that none of those takes it before its server starts.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(std::process::id() * 61));
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let ports = u32::from(first_of_connections()) - FIRST;
    let candidates = (0..ports).map(|_| FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % ports);
    candidates.map(|port| port as u16).find(free).expect("a free port")
}

/// The first port that the kernel takes for a connection's own end.
fn first_of_connections() -> u16 {
    let range =
        fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("read the range of ports");
    range.split_whitespace().next().and_then(|first| first.parse().ok()).expect("a number")
}

/// Whether somebody listens on a TCP port of 127.0.0.1, by the kernel's own list: no connection is made.
pub fn listens(port: u16) -> bool {
    /// State `TCP_LISTEN` as `/proc/net/tcp` prints it.
    const LISTEN: &str = "0A";
    let local = format!("0100007F:{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp").expect("read /proc/net/tcp");
    table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .any(|columns| columns.get(1) == Some(&local.as_str()) && columns.get(3) == Some(&LISTEN))
}

/// Asks every 20 ms until the answer is yes; fails the test after `limit` with `what`.
pub fn wait_until(what: &str, limit: Duration, mut yes: impl FnMut() -> bool) {
    let start = Instant::now();
    while !yes() {
        assert!(start.elapsed() < limit, "waited {limit:?} for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where things that outlive one run are cached.
pub fn cache() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

static RUN: LazyLock<PathBuf> = LazyLock::new(|| {
    let base = std::env::temp_dir().join("corelane-e2e");
    sweep(&base);
    let run = base.join(std::process::id().to_string());
    fs::create_dir_all(&run).expect("create the directory of this run");
    run
});

/// Removes what runs that were killed, or held shared servers to their end, have left.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let alive = Path::new("/proc").join(entry.file_name()).exists();
        if !alive {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
