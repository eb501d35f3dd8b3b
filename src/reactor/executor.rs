//! The executor of a worker: glommio, pinned to one core. The only file that names it.
//!
//! glommio pins the thread and runs the session tasks; its own reactor is never parked in. Its preemption
//! timer is pushed out of reach: with tasks ready it would send the executor into that reactor, where
//! glommio 0.9 can go to sleep although tasks are ready.

use std::future::Future;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};

/// Never, for all practical purposes.
const PREEMPT_TIMER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// glommio's registered I/O memory, which we have no use for; it takes this as the least.
const IO_MEMORY_BYTES: usize = 0;

/// An executor could not be made on a core.
#[derive(Debug, thiserror::Error)]
#[error("cannot run a worker on CPU {cpu}: {cause}")]
pub struct ExecutorError {
    cpu: usize,
    cause: String,
}

/// Pins this thread to `cpu` and runs `root` to its end, together with all that it spawns.
pub fn run<T>(cpu: usize, root: impl Future<Output = T>) -> Result<T, ExecutorError> {
    let executor = LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .io_memory(IO_MEMORY_BYTES)
        .preempt_timer(PREEMPT_TIMER)
        .make()
        .map_err(|cause| ExecutorError { cpu, cause: cause.to_string() })?;
    Ok(executor.run(root))
}

/// Spawns a task on this thread's executor.
pub(super) fn spawn(task: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(task).detach();
}
