//! Child processes that cannot outlive the tests.
//!
//! The kernel kills each child when the thread that started it ends (PR_SET_PDEATHSIG, by way of
//! `setpriv`), and libtest runs every test on a thread of its own. So one nursery thread, which lives as
//! long as the process, starts them all; then a server shared by several tests outlives its first user.

use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::time::{Duration, Instant};

/// A running program with its output in a log file; killed and reaped when dropped.
pub struct Child {
    process: std::process::Child,
    log: PathBuf,
}

impl Child {
    /// Starts `program` with its standard output and error in `log`.
    pub fn start(program: &Path, args: &[String], log: PathBuf) -> Self {
        let out = File::create(&log).expect("create the log file");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(args);
        command.stdin(Stdio::null()).stderr(out.try_clone().expect("share the log file")).stdout(out);
        let process = in_nursery(command).unwrap_or_else(|e| panic!("start {}: {e}", program.display()));
        Self { process, log }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Sends a signal by its name: `TERM`, `HUP`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(status.expect("run kill").success(), "send SIG{name} to {}", self.pid());
    }

    /// kill -9, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Waits for its end; `None` when it is still running after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("wait for a child") {
                return Some(status);
            }
            if start.elapsed() > limit {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Resident memory in KiB, as the kernel accounts it.
    pub fn rss_kib(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("read its status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("VmRSS in KiB")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a program to its end, at most `limit`; it is killed after that and the test fails.
pub fn run(program: &str, args: &[&str], limit: Duration) -> Output {
    let seconds = limit.as_secs().to_string();
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", &seconds, program]).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = in_nursery(command).unwrap_or_else(|e| panic!("start {program}: {e}"));
    let output = child.wait_with_output().expect("read its output");
    assert!(
        output.status.signal().is_none() && output.status.code() != Some(137),
        "{program} took over {limit:?}"
    );
    output
}

type Request = (Command, std::sync::mpsc::SyncSender<io::Result<std::process::Child>>);

static NURSERY: LazyLock<std::sync::Mutex<Sender<Request>>> = LazyLock::new(|| {
    let (sender, receiver) = channel::<Request>();
    let spawner = move || {
        for (mut command, answer) in receiver {
            let _ = answer.send(command.spawn());
        }
    };
    std::thread::Builder::new().name("nursery".into()).spawn(spawner).expect("start the nursery thread");
    std::sync::Mutex::new(sender)
});

fn in_nursery(command: Command) -> io::Result<std::process::Child> {
    let (answer, child) = sync_channel(1);
    NURSERY.lock().expect("the nursery").send((command, answer)).expect("the nursery lives");
    child.recv().expect("the nursery answers")
}
