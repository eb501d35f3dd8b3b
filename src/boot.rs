//! The only place that builds: it binds, makes the mailboxes, starts the workers and runs the coordinator.
//!
//! Everything that can fail for an operator's reasons (the kernel, a limit, an address in use, a CPU that is not
//! there) fails here, before the first client is accepted. It stops in reverse: the coordinator ends when
//! every worker has, then the threads that have ended are joined.

use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use tracing::{error, info, warn};

use crate::config::settings::{Http, Settings, Workers};
use crate::coordinator::{Coordinator, CoordinatorError, CoordinatorParts};
use crate::ident::{WORKERS_MAX, WorkerId};
use crate::mailbox::{self, CoordinatorEnd, WorkerEnd};
use crate::metrics::{Counters, Tally};
use crate::net::listen::{self, ListenError, Listeners};
use crate::reactor::limits::{self, OpenFiles};
use crate::reactor::probe::{self, Features, Unfit};
use crate::worker::{self, WorkerError};
use crate::{admin, http};

/// Files that corelane opens apart from two for each session: rings, listeners, probes, logs, libraries.
const OTHER_FILES: u64 = 256;
const FILES_PER_WORKER: u64 = 16;
/// Look-ups of host names at the same time, and one more for what else may block.
const BLOCKING_THREADS_MAX: usize = 9;
/// The kernel's limit for a ring's table of files.
const FILE_TABLE_MAX: u32 = 1 << 20;

/// Why corelane could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error("the limit of open files cannot be read or raised: {0}")]
    Files(io::Error),
    #[error("[workers] cpus: CPU {cpu} is not one that this process may use ({usable})")]
    NoSuchCpu { cpu: usize, usable: String },
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("cannot listen on {address} for the admin door: {cause}")]
    AdminListen { address: String, cause: io::Error },
    #[error("the admin door failed: {0}")]
    AdminDoor(io::Error),
    #[error("cannot listen on {address} for the HTTP door ([http] listen): {cause}")]
    HttpListen { address: String, cause: io::Error },
    #[error("the HTTP door failed: {0}")]
    HttpDoor(io::Error),
    #[error("cannot make a mailbox: {0}")]
    Mailbox(io::Error),
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

/// Serves until told to stop.
pub fn serve(settings: Settings, config_path: &Path) -> Result<(), BootError> {
    let features = probe::check()?;
    let placement = Cpus::choose(&settings.workers)?;
    let files = raise_files(&settings, placement.workers.len(), features)?;
    let listen = &settings.listen;
    let listeners = listen::bind(&listen.sql, placement.workers.len(), listen.backlog)?;
    let doors = Doors::bind(&settings)?;
    let counters: Vec<Arc<Counters>> = placement.workers.iter().map(|_| Arc::default()).collect();
    let tally = Tally::new(placement.workers.len());
    info!(
        workers = ?placement.workers, coordinator = placement.coordinator, open_files = files.limit,
        "corelane {} starts", env!("CARGO_PKG_VERSION")
    );
    let settings = Arc::new(settings);
    let (mailboxes, workers) = make_mailboxes(placement.workers.len())?;
    let Listeners { by_worker, files: socket_files } = listeners;
    let mut threads = Vec::new();
    let books = worker::Books::default();
    for ((mailbox, own), &cpu) in workers.into_iter().zip(by_worker).zip(&placement.workers) {
        let parts = worker::Parts {
            id: mailbox.worker(),
            cpu,
            settings: settings.clone(),
            files: table_places(&settings, files, features),
            listeners: own,
            mailbox,
            counters: counters.clone(),
            tally: tally.clone(),
            books: books.clone(),
        };
        threads.push(start_worker(parts)?);
    }
    let parts = CoordinatorParts {
        settings: (*settings).clone(),
        config_path: Some(config_path.to_owned()),
        mailboxes,
        counters,
        cpus: placement.workers.clone(),
        tally,
        hosts: books.hosts.clone(),
    };
    // When it fails, or gave up on a worker that does not stop, nobody is left to stop the rest: the process
    // ends with them as they are.
    coordinate(placement.coordinator, parts, doors)?;
    for thread in threads.into_iter().filter(thread::JoinHandle::is_finished) {
        // A worker that panicked has ended the process.
        thread.join().unwrap_or(Ok(()))?;
    }
    drop(socket_files);
    Ok(())
}

/// Which CPUs do what.
#[derive(Debug, PartialEq, Eq)]
struct Cpus {
    workers: Vec<usize>,
    coordinator: usize,
}

impl Cpus {
    fn choose(wanted: &Workers) -> Result<Self, BootError> {
        let usable = core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id);
        Self::among(wanted, &usable.collect())
    }

    /// `auto`: the coordinator takes the first CPU, and the workers all others, but for machines of one or two
    /// CPUs, where it shares.
    fn among(wanted: &Workers, usable: &BTreeSet<usize>) -> Result<Self, BootError> {
        let named = wanted.cpus.iter().flatten().chain(&wanted.coordinator_cpu);
        if let Some(&cpu) = named.into_iter().find(|cpu| !usable.contains(cpu)) {
            let usable = usable.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(BootError::NoSuchCpu { cpu, usable });
        }
        let taken: &[usize] = wanted.cpus.as_deref().unwrap_or_default();
        let free = usable.iter().copied().find(|cpu| !taken.contains(cpu));
        let coordinator = wanted.coordinator_cpu.or(free).or(usable.first().copied()).unwrap_or_default();
        let workers = match &wanted.cpus {
            Some(cpus) => cpus.clone(),
            None if usable.len() > 2 => usable.iter().copied().filter(|&cpu| cpu != coordinator).collect(),
            None => usable.iter().copied().collect(),
        };
        Ok(Self { workers: workers.into_iter().take(WORKERS_MAX).collect(), coordinator })
    }
}

/// A session's two sockets live in the table of their worker's ring, which holds as many files as the limit
/// allows, and use descriptors only beyond that. So with sessions spread evenly the limit has to cover one
/// table; without tables it has to cover all sessions.
fn raise_files(settings: &Settings, workers: usize, features: Features) -> Result<OpenFiles, BootError> {
    let sessions = u64::from(settings.listen.max_sessions);
    let tables = if features.file_table { workers as u64 } else { 1 };
    let needed = 2 * sessions.div_ceil(tables) + FILES_PER_WORKER * workers as u64 + OTHER_FILES;
    let files = limits::raise_open_files(needed).map_err(BootError::Files)?;
    if !files.suffice() {
        warn!(
            "the limit of open files is {}, but {sessions} sessions (listen.max_sessions) on {workers} workers \
             need {needed}: raise it (ulimit -n, or LimitNOFILE= of the service) or lower max_sessions",
            files.limit
        );
    }
    Ok(files)
}

fn table_places(settings: &Settings, files: OpenFiles, features: Features) -> u32 {
    if !features.file_table {
        return 0;
    }
    let wanted = 2 * u64::from(settings.listen.max_sessions);
    u32::try_from(wanted.min(files.limit)).unwrap_or(u32::MAX).min(FILE_TABLE_MAX)
}

/// Where operators and monitoring come in.
struct Doors {
    admin: TcpListener,
    http: Option<(TcpListener, Http)>,
}

impl Doors {
    fn bind(settings: &Settings) -> Result<Self, BootError> {
        let address = settings.admin.listen;
        let admin = TcpListener::bind(address)
            .map_err(|cause| BootError::AdminListen { address: address.to_string(), cause })?;
        let http = settings.http.as_ref().map(|http| match TcpListener::bind(http.listen) {
            Ok(listener) => Ok((listener, http.clone())),
            Err(cause) => Err(BootError::HttpListen { address: http.listen.to_string(), cause }),
        });
        Ok(Self { admin, http: http.transpose()? })
    }
}

fn make_mailboxes(workers: usize) -> Result<(Vec<CoordinatorEnd>, Vec<WorkerEnd>), BootError> {
    let pairs: io::Result<Vec<_>> = (0..workers).map(|n| mailbox::pair(WorkerId(n as u16))).collect();
    Ok(pairs.map_err(BootError::Mailbox)?.into_iter().unzip())
}

/// A panic in a session ends that session. One in the worker's own loop leaves a listener that nobody serves
/// and tasks that nobody runs, so it ends the process, for its supervisor to start it again.
fn start_worker(parts: worker::Parts) -> Result<thread::JoinHandle<Result<(), WorkerError>>, BootError> {
    let id = parts.id;
    let run = move || {
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker::run(parts)));
        let end = end.unwrap_or_else(|_| {
            error!("worker {id} ended by a bug of corelane");
            std::process::abort();
        });
        end.inspect_err(|cause| error!("worker {id} cannot run: {cause}"))
    };
    thread::Builder::new().name(format!("worker-{id}")).spawn(run).map_err(BootError::Thread)
}

/// Runs the coordinator on this thread, pinned to its CPU, until all workers have stopped.
fn coordinate(cpu: usize, parts: CoordinatorParts, doors: Doors) -> Result<(), BootError> {
    if !core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        warn!(cpu, "the coordinator could not be pinned");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .map_err(BootError::Thread)?;
    let end = runtime.block_on(async {
        let (coordinator, desk) = Coordinator::new(parts);
        let http = async {
            match doors.http {
                Some((listener, settings)) => http::serve(listener, settings, desk.clone()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            end = coordinator.run() => Ok(end?),
            Err(cause) = admin::serve(doors.admin, desk.clone()) => Err(BootError::AdminDoor(cause)),
            Err(cause) = http => Err(BootError::HttpDoor(cause)),
        }
    });
    // A look-up of a name may hang; nobody waits for it any more.
    runtime.shutdown_background();
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn choose(cpus: Option<&[usize]>, coordinator_cpu: Option<usize>, usable: &[usize]) -> Cpus {
        let wanted = Workers { cpus: cpus.map(<[usize]>::to_vec), coordinator_cpu, spin: Duration::ZERO };
        Cpus::among(&wanted, &usable.iter().copied().collect()).expect("all are usable")
    }

    #[test]
    fn auto_gives_the_coordinator_a_cpu_of_its_own_where_there_are_enough() {
        assert_eq!(choose(None, None, &[0, 1, 2, 3]), Cpus { workers: vec![1, 2, 3], coordinator: 0 });
        assert_eq!(choose(None, Some(3), &[0, 1, 2, 3]), Cpus { workers: vec![0, 1, 2], coordinator: 3 });
        assert_eq!(choose(None, None, &[0, 1]), Cpus { workers: vec![0, 1], coordinator: 0 });
        assert_eq!(choose(Some(&[0]), None, &[0, 1]), Cpus { workers: vec![0], coordinator: 1 });
        assert_eq!(choose(Some(&[0, 1]), None, &[0, 1]), Cpus { workers: vec![0, 1], coordinator: 0 });
        let doubled = choose(Some(&[0, 0, 1, 1]), None, &[0, 1]);
        assert_eq!(doubled, Cpus { workers: vec![0, 0, 1, 1], coordinator: 0 });
    }

    #[test]
    fn a_cpu_that_may_not_be_used_is_named() {
        let wanted = Workers { cpus: Some(vec![1, 7]), coordinator_cpu: None, spin: Duration::ZERO };
        let refusal = Cpus::among(&wanted, &BTreeSet::from([0, 1])).expect_err("no CPU 7").to_string();
        assert_eq!(refusal, "[workers] cpus: CPU 7 is not one that this process may use (0, 1)");
    }
}
