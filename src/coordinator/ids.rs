//! Connection ids from the cluster's own source: asks HAKeeper, where the configuration says which log services may have it.
//!
//! Each worker gets a block of ids before the first picture is published, and another one whenever it asks for it. A task asks the log
//! services one after the other, beginning with the one that answered last; when all have failed, it tries again after a pause that
//! doubles up to [`BACK_OFF_MAX`]. Meanwhile workers give ids of this process's own range.
//!
//! A block that the cluster gave is never given to two workers, nor taken back: what is left of it when the process ends is lost, as
//! it is with MatrixOne's own proxy. A block that has ids of the own range is refused.
//!
//! Invariant: for each worker at most one block is being asked for.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::config::settings::Listen;
use crate::ident::{IdBlock, SessionId, WORKERS_MAX, WorkerId};
use crate::wire::matrixone::frame;
use crate::wire::matrixone::hakeeper::{Request, Response};

/// Ids of one block.
pub const BLOCK: u32 = 1000;

/// For connecting to one log service and asking it, the look-up of its name included.
pub const QUESTION_LIMIT: Duration = Duration::from_secs(3);

/// Between two rounds in which every log service has failed, at first.
const BACK_OFF: Duration = Duration::from_millis(200);

/// What that pause doubles up to.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// Bytes of the longest answer that is taken.
const ANSWER_MAX: usize = 64 << 10;

/// What came of one round of questions for a worker.
#[derive(Debug)]
pub struct Grant {
    /// The task that it comes from.
    task: u64,
    worker: WorkerId,
    block: Result<IdBlock, Failure>,
}

/// No log service has given ids.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", causes.join("; "))]
struct Failure {
    /// A sentence for each log service.
    causes: Vec<String>,
}

/// Why a log service has given no ids.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no answer within {QUESTION_LIMIT:?}")]
    TimedOut,
    #[error("cannot be reached: {0}")]
    Unreachable(io::Error),
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    #[error("it closed the connection")]
    Closed,
    #[error("it sent {0}")]
    Frame(#[from] frame::Error),
    #[error("its answer has more than {ANSWER_MAX} bytes")]
    TooLong,
    #[error("HAKeeper is not there")]
    Elsewhere,
    #[error("it says: {message} ({code})")]
    Refused { code: u32, message: String },
    #[error("it left out what it was asked for")]
    Silent,
    #[error("it gives {count} ids from {first} on, which are not free here", count = BLOCK)]
    NotFree { first: u64 },
}

/// Who asks, and for whom.
#[derive(Debug)]
pub struct Ids {
    source: Source,
    /// Workers for which a block is being asked for.
    waiting: BTreeSet<WorkerId>,
    /// The way into the task.
    wants: Option<mpsc::Sender<WorkerId>>,
    task: JoinSet<()>,
    /// Tasks begun so far.
    tasks: u64,
    to: mpsc::Sender<Grant>,
    /// Why the last round has failed.
    failure: Option<Failure>,
}

/// Where ids come from, and where not.
#[derive(Clone, Debug)]
struct Source {
    addresses: Arc<[String]>,
    /// First and count of those that this process gives by itself.
    own: (u32, u32),
}

impl Ids {
    /// Nobody is asked yet; what comes of it will go to `to`.
    pub fn new(addresses: &[String], own: &Listen, to: mpsc::Sender<Grant>) -> Self {
        let source =
            Source { addresses: addresses.into(), own: (own.first_connection_id, own.connection_ids) };
        Self {
            source,
            waiting: BTreeSet::new(),
            wants: None,
            task: JoinSet::new(),
            tasks: 0,
            to,
            failure: None,
        }
    }

    /// Asks for a block for each of these workers, where anybody is to be asked.
    pub fn begin(&mut self, workers: impl Iterator<Item = WorkerId>) {
        (self.task, self.failure, self.wants) = (JoinSet::new(), None, None);
        self.waiting.clear();
        if self.source.addresses.is_empty() {
            return;
        }
        let (wants_in, wants) = mpsc::channel(WORKERS_MAX);
        self.wants = Some(wants_in);
        self.tasks += 1;
        let asker = Asker { source: self.source.clone(), task: self.tasks, to: self.to.clone(), last: 0 };
        self.task.spawn(asker.keep_asking(wants));
        for worker in workers {
            self.want(worker);
        }
    }

    /// Takes over other log services; each worker gets a block of theirs beside what it has.
    pub fn set_addresses(&mut self, addresses: &[String], workers: impl Iterator<Item = WorkerId>) {
        if *self.source.addresses != *addresses {
            self.source.addresses = addresses.into();
            self.begin(workers);
        }
    }

    /// A worker needs more.
    pub fn want(&mut self, worker: WorkerId) {
        let Some(wants) = &self.wants else { return };
        if self.waiting.insert(worker) && wants.try_send(worker).is_err() {
            // One place for each worker: it is never full while the task lives.
            self.waiting.remove(&worker);
        }
    }

    /// Takes note of what came of asking, and says what is new; gives the block, and to whom.
    pub fn learn(&mut self, grant: Grant) -> Option<(WorkerId, IdBlock)> {
        if self.wants.is_none() || grant.task != self.tasks {
            return None;
        }
        match grant.block {
            Ok(block) => {
                self.waiting.remove(&grant.worker);
                if self.failure.take().is_some() {
                    info!("HAKeeper gives connection ids again");
                }
                Some((grant.worker, block))
            }
            Err(failure) => {
                if self.failure.as_ref() != Some(&failure) {
                    warn!("HAKeeper gives no connection ids, they come from [listen] meanwhile: {failure}");
                    self.failure = Some(failure);
                }
                None
            }
        }
    }

    /// Whether each worker has got its first block, or asking has failed at least once.
    pub fn has_tried(&self) -> bool {
        self.waiting.is_empty() || self.failure.is_some()
    }
}

/// What the task knows.
struct Asker {
    source: Source,
    task: u64,
    to: mpsc::Sender<Grant>,
    /// The one that answered last, by its place in the list.
    last: usize,
}

impl Asker {
    async fn keep_asking(mut self, mut wants: mpsc::Receiver<WorkerId>) {
        while let Some(worker) = wants.recv().await {
            let mut pause = BACK_OFF;
            loop {
                let block = self.round().await;
                let failed = block.is_err();
                // Nobody listens any more when the process ends.
                let _ = self.to.send(Grant { task: self.task, worker, block }).await;
                if !failed {
                    break;
                }
                sleep(pause).await;
                pause = (pause * 2).min(BACK_OFF_MAX);
            }
        }
    }

    /// Asks one after the other until one gives ids.
    async fn round(&mut self) -> Result<IdBlock, Failure> {
        let (addresses, mut causes) = (self.source.addresses.clone(), Vec::new());
        for turn in 0..addresses.len() {
            let at = (self.last + turn) % addresses.len();
            let answer = timeout(QUESTION_LIMIT, allocate(&addresses[at])).await;
            match answer.unwrap_or(Err(Error::TimedOut)).and_then(|first| self.source.block(first)) {
                Ok(block) => {
                    self.last = at;
                    return Ok(block);
                }
                Err(error) => causes.push(format!("{}: {error}", addresses[at])),
            }
        }
        causes.sort();
        Err(Failure { causes })
    }
}

impl Source {
    /// The block whose first id the cluster has given. Ids have 32 bits in the protocol, so the cluster's counter is cut to these, as
    /// MatrixOne's proxy does.
    fn block(&self, first: u64) -> Result<IdBlock, Error> {
        let block = IdBlock { first: first as u32, count: BLOCK };
        let is_whole = block.first > 0 && block.first <= SessionId::NOBODY.0 - BLOCK;
        if first == 0 || !is_whole || block.overlaps(self.own.0, self.own.1) {
            return Err(Error::NotFree { first });
        }
        Ok(block)
    }
}

/// Asks one log service for a block: its first id.
async fn allocate(address: &str) -> Result<u64, Error> {
    let mut stream = TcpStream::connect(address).await.map_err(Error::Unreachable)?;
    if !ask(&mut stream, Request::check(1)).await?.is_hakeeper {
        return Err(Error::Elsewhere);
    }
    let answer = ask(&mut stream, Request::allocate(2, BLOCK)).await?;
    answer.allocated.map(|allocated| allocated.first).ok_or(Error::Silent)
}

/// Asks one question; the answer to it.
async fn ask(stream: &mut TcpStream, request: Request) -> Result<Response, Error> {
    let (mut bytes, mut heard) = (Vec::new(), Vec::new());
    frame::write(&mut bytes, QUESTION_LIMIT, &request);
    stream.write_all(&bytes).await.map_err(Error::Broken)?;
    loop {
        while let Some((answer, taken)) = frame::read::<Response>(&heard)? {
            heard.drain(..taken);
            match answer {
                Some(answer) if answer.id != request.id => {}
                Some(answer) if answer.error != 0 => {
                    return Err(Error::Refused { code: answer.error, message: answer.message });
                }
                Some(answer) => return Ok(answer),
                // A sign of life.
                None => {}
            }
        }
        if heard.len() > ANSWER_MAX {
            return Err(Error::TooLong);
        }
        if stream.read_buf(&mut heard).await.map_err(Error::Broken)? == 0 {
            return Err(Error::Closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use tokio::net::TcpListener;

    use super::*;
    use crate::ident::FIRST_ID;
    use crate::wire::matrixone::hakeeper::Allocated;

    const OWN: (u32, u32) = (FIRST_ID, u32::MAX - FIRST_ID);

    fn ids(addresses: &[String]) -> (Ids, mpsc::Receiver<Grant>) {
        let (to, grants) = mpsc::channel(1);
        let mut listen = crate::config::read("", "test").unwrap().listen;
        (listen.first_connection_id, listen.connection_ids) = OWN;
        (Ids::new(addresses, &listen, to), grants)
    }

    /// A log service that answers each question by `answer`; its address.
    async fn service(answer: impl Fn(Request) -> Response + Send + Sync + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut heard = Vec::new();
                while stream.read_buf(&mut heard).await.is_ok_and(|n| n > 0) {
                    while let Ok(Some((Some(request), taken))) = frame::read(&heard) {
                        heard.drain(..taken);
                        let mut bytes = Vec::new();
                        frame::write(&mut bytes, QUESTION_LIMIT, &answer(request));
                        stream.write_all(&bytes).await.unwrap();
                    }
                }
            }
        });
        address
    }

    fn counter(from: u64) -> impl Fn(Request) -> Response {
        let next = std::sync::atomic::AtomicU64::new(from);
        move |request| match request.allocate {
            None => Response { id: request.id, is_hakeeper: true, ..Response::default() },
            Some(allocate) => {
                assert_eq!(allocate.key, "____server_conn_id");
                let first = next.fetch_add(allocate.batch, std::sync::atomic::Ordering::SeqCst);
                Response { id: request.id, allocated: Some(Allocated { first }), ..Response::default() }
            }
        }
    }

    #[tokio::test]
    async fn each_worker_gets_a_block_of_its_own_and_more_when_it_asks() {
        let follower = service(|request| Response { id: request.id, ..Response::default() }).await;
        let keeper = service(counter(5001)).await;
        let (mut ids, mut grants) = ids(&[follower, keeper]);
        assert!(ids.has_tried(), "nobody asks yet");
        ids.begin([WorkerId(0), WorkerId(1)].into_iter());
        let mut given = Vec::new();
        for nth in 0..3 {
            assert_eq!(ids.has_tried(), nth == 2);
            if nth == 2 {
                ids.want(WorkerId(1));
                ids.want(WorkerId(1));
            }
            given.extend(ids.learn(grants.recv().await.unwrap()));
        }
        let block = |first| IdBlock { first, count: 1000 };
        assert_eq!(
            given,
            [(WorkerId(0), block(5001)), (WorkerId(1), block(6001)), (WorkerId(1), block(7001))]
        );
        assert!(ids.has_tried() && grants.try_recv().is_err(), "one request at a time");
    }

    #[tokio::test(start_paused = true)]
    async fn while_nobody_gives_any_it_is_said_once_and_tried_again() {
        let (mut ids, mut grants) = ids(&["127.0.0.1:1".to_owned()]);
        ids.begin([WorkerId(7)].into_iter());
        let begun = tokio::time::Instant::now();
        for _ in 0..3 {
            let grant = grants.recv().await.unwrap();
            assert!(
                grant.block.as_ref().is_err_and(|failure| failure.causes[0].starts_with("127.0.0.1:1: "))
            );
            assert!(ids.learn(grant).is_none() && ids.has_tried());
        }
        assert_eq!(begun.elapsed().as_millis() / 100, 6, "0.2 s and 0.4 s");
        let keeper = service(counter(1)).await;
        ids.set_addresses(&[keeper], [WorkerId(7)].into_iter());
        assert!(!ids.has_tried());
        let grant = grants.recv().await.unwrap();
        assert_eq!(ids.learn(grant), Some((WorkerId(7), IdBlock { first: 1, count: 1000 })));
        ids.set_addresses(&[], [WorkerId(7)].into_iter());
        ids.want(WorkerId(7));
        assert!(ids.has_tried(), "nobody is to be asked");
    }

    #[tokio::test]
    async fn what_a_log_service_says_is_judged() {
        let of = |answer: fn(Request) -> Response| async move { allocate(&service(answer).await).await };
        let error = of(|request| Response { id: request.id, ..Response::default() }).await.unwrap_err();
        assert_eq!(error.to_string(), "HAKeeper is not there");
        let error = of(|request| Response {
            id: request.id,
            error: u32::from(request.allocate.is_some()) * 20101,
            message: "not running".into(),
            is_hakeeper: true,
            ..Response::default()
        });
        assert_eq!(error.await.unwrap_err().to_string(), "it says: not running (20101)");
        let error = of(|request| Response { id: request.id, is_hakeeper: true, ..Response::default() });
        assert_eq!(error.await.unwrap_err().to_string(), "it left out what it was asked for");
        let long = of(|request| Response {
            id: request.id + 1,
            message: "x".repeat(1 << 20),
            ..Response::default()
        });
        assert!(matches!(long.await, Err(Error::TooLong)));
    }

    #[test]
    fn ids_that_are_not_free_here_are_refused() {
        let source = Source { addresses: Arc::from([]), own: OWN };
        assert!(source.block(0).is_err() && source.block(1 << 32).is_err());
        assert!(
            source.block(u64::from(FIRST_ID) - 999).is_err() && source.block(u64::from(FIRST_ID)).is_err()
        );
        let last = IdBlock { first: FIRST_ID - 1000, count: 1000 };
        assert_eq!(source.block(u64::from(FIRST_ID) - 1000).unwrap(), last);
        assert_eq!(source.block((7 << 32) + 5).unwrap().first, 5, "cut to 32 bits");
        let own = Source { own: (1, 10), ..source };
        assert!(own.block(u64::from(u32::MAX) - 999).is_err() && own.block(11).is_ok());
        assert!(Response::default().encode_to_vec().is_empty());
    }
}
