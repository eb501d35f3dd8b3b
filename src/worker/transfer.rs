//! What a MatrixOne CN is asked, beside its SQL port, when a session moves: the connections to the query services of both CNs.
//!
//! Both are opened, and asked for the version of their messages, before the session is offered its new leg, so that only the questions
//! about the session itself fall into the pause that its client may feel. What is asked and what follows from the answers is for
//! [`Ledger`](crate::session::ledger::Ledger) and [`query`] to say.
//!
//! Invariant: nothing here changes the session on its old CN.

use std::io;
use std::time::{Duration, Instant};

use super::Worker;
use crate::net::dial::dial;
use crate::reactor::{Received, Socket};
use crate::route::Cn;
use crate::session::hold::Hold;
use crate::wire::matrixone::frame;
use crate::wire::matrixone::query::{self, Exported, Import, Request, Response};

/// How long a query service may take to be connected to, and to tell its version.
const VERSION_LIMIT: Duration = Duration::from_secs(3);

/// Why a query service could not be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueryError {
    #[error("its address is not known")]
    NoAddress,
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("{0}")]
    Broken(#[from] io::Error),
    #[error("it closed the connection")]
    Closed,
    #[error("it sent {0}")]
    Frame(#[from] frame::Error),
    #[error("it says: {message} ({code})")]
    Refused { code: u32, message: String },
    #[error("it left out what it was asked for")]
    Silent,
    #[error("its messages are of version {found}, which corelane does not know ({} to {})", query::VERSIONS.start(), query::VERSIONS.end())]
    Version { found: i64 },
    #[error("it tells of state of the session that corelane does not know")]
    Unknown,
}

impl QueryError {
    /// The hold that it is, where trying again is of no use.
    pub fn hold(&self) -> Option<Hold> {
        matches!(self, Self::NoAddress | Self::Version { .. } | Self::Unknown).then_some(Hold::QueryService)
    }
}

/// The query services of the CN that a session leaves and of the one where it goes.
pub struct Transfer {
    old: QueryService,
    new: QueryService,
}

/// Which of the two it was.
#[derive(Debug, thiserror::Error)]
#[error("query service of CN {cn}: {cause}")]
pub(super) struct TransferError {
    pub cn: String,
    pub cause: QueryError,
}

impl Transfer {
    /// Connects to both, and has both tell their versions.
    pub async fn open(worker: &Worker, old: &Cn, new: &Cn) -> Result<Self, TransferError> {
        Ok(Self { old: QueryService::open(worker, old).await?, new: QueryService::open(worker, new).await? })
    }

    /// What the session has on its old CN.
    pub async fn export(
        &mut self,
        worker: &Worker,
        connection_id: u32,
        limit: Duration,
    ) -> Result<Exported, TransferError> {
        let asked = self.old.ask(worker, limit, |id| Request::export(id, connection_id)).await;
        let told = asked.and_then(|answer| match answer.session()? {
            Some((exported, true)) => Ok(exported),
            Some((_, false)) => Err(QueryError::Unknown),
            None => Err(QueryError::Silent),
        });
        told.map_err(|cause| self.old.failed(cause))
    }

    /// Gives it to the new one.
    pub async fn import(
        &mut self,
        worker: &Worker,
        import: Import,
        limit: Duration,
    ) -> Result<(), TransferError> {
        let asked = self.new.ask(worker, limit, |id| Request::import(id, import)).await;
        let done = asked.and_then(|answer| match answer.imported {
            Some(imported) if imported.success => Ok(()),
            _ => Err(QueryError::Silent),
        });
        done.map_err(|cause| self.new.failed(cause))
    }
}

/// A connection to the query service of one CN.
struct QueryService {
    cn: String,
    socket: Socket,
    asked: u64,
    heard: Vec<u8>,
}

impl QueryService {
    async fn open(worker: &Worker, cn: &Cn) -> Result<Self, TransferError> {
        let opened = async {
            let target = cn.query.as_ref().ok_or(QueryError::NoAddress)?;
            let tcp = worker.cn_tcp();
            let dialled = dial(&worker.reactor, target, &tcp);
            let dialled = worker.reactor.until(Instant::now() + VERSION_LIMIT, dialled);
            let socket = dialled.await.ok_or(QueryError::TimedOut(VERSION_LIMIT))??;
            let mut service = Self { cn: cn.id.to_string(), socket, asked: 0, heard: Vec::new() };
            let answer = service.ask(worker, VERSION_LIMIT, Request::version).await?;
            let found = answer.version.ok_or(QueryError::Silent)?.version;
            if query::VERSIONS.contains(&found) { Ok(service) } else { Err(QueryError::Version { found }) }
        };
        opened.await.map_err(|cause| TransferError { cn: cn.id.to_string(), cause })
    }

    async fn ask(
        &mut self,
        worker: &Worker,
        limit: Duration,
        request: impl FnOnce(u64) -> Request,
    ) -> Result<Response, QueryError> {
        self.asked += 1;
        let mut frame = Vec::new();
        frame::write(&mut frame, limit, &request(self.asked));
        let talk = async {
            self.socket.send(frame).await?;
            self.answer().await
        };
        let answered = worker.reactor.until(Instant::now() + limit, talk).await;
        let answer = answered.ok_or(QueryError::TimedOut(limit))??;
        match answer.failure() {
            Some(failure) => Err(QueryError::Refused { code: failure.code, message: failure.message }),
            None => Ok(answer),
        }
    }

    /// The answer to the newest request. One to a request before it, which was given up, is passed over.
    async fn answer(&mut self) -> Result<Response, QueryError> {
        loop {
            while let Some((answer, taken)) = frame::read::<Response>(&self.heard)? {
                self.heard.drain(..taken);
                if let Some(answer) = answer.filter(|answer| answer.id == self.asked) {
                    return Ok(answer);
                }
            }
            match self.socket.received().await {
                Received::Data => _ = self.socket.read_into(&mut self.heard, usize::MAX),
                Received::End => return Err(QueryError::Closed),
                Received::Broken(errno) => return Err(io::Error::from_raw_os_error(errno).into()),
            }
        }
    }

    fn failed(&self, cause: QueryError) -> TransferError {
        TransferError { cn: self.cn.clone(), cause }
    }
}
