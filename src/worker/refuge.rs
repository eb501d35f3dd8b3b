//! A session whose CN is lost, opened anew at another one, so that its client notices nothing.
//!
//! Its life: the CN closed on the session while that was idle. [`Stranded::reopen`] waits until the coordinator has judged the CN to
//! be down, and then for the client's next command, or for silence; it waits for a turn to open a leg, those first whose client
//! has spoken; then it logs in at another CN and restores the session there. What the lost CN alone knew is lost: a session that had
//! any such thing, or whose next command asks about the last one, is not opened anew.
//!
//! It does not tell the client anything: that is for [`tunnel`](super::tunnel).

use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_lite::FutureExt;
use tracing::{debug, info};

use super::Worker;
use super::approach::leave;
use super::forward::PEEK_MAX;
use super::migrate::{Movers, Turn, carry_over, open};
use super::offer::Candidate;
use super::roster::{Call, Card};
use crate::ident::CnSlot;
use crate::reactor::{Received, Socket};
use crate::route::pick::Load;
use crate::route::{self, Cn, CnState};
use crate::session::dialog::Dialog;
use crate::session::hold::Hold;
use crate::wire::command::Command;
use crate::wire::frame::{HEADER, Header};

/// How long a session whose CN closed on it waits to hear whether the CN is down.
const VERDICT_LIMIT: Duration = Duration::from_secs(3);

/// Why a session ends with its CN.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("{}", .0.why())]
    Held(Hold),
    #[error("the CN alone knows some value of its variables")]
    Incomplete,
    #[error("the CN is not down: it has ended this session alone")]
    Alone,
    #[error("its next command asks about the last one")]
    Asks,
    #[error("its client has left")]
    ClientGone,
    #[error("no other CN may take it")]
    NoRefuge,
    #[error("{0}")]
    Failed(String),
    #[error("the worker stops")]
    Stopping,
    #[error("an operator ends it")]
    Killed,
}

/// A session without a CN.
pub(super) struct Stranded<'a> {
    pub worker: &'a Rc<Worker>,
    pub card: &'a Card,
    pub client: &'a Socket,
    pub dialog: &'a mut Dialog,
    /// Where it was.
    pub lost: &'a Cn,
}

impl Stranded<'_> {
    /// The leg with which the session goes on.
    pub async fn reopen(mut self) -> Result<Candidate, Lost> {
        let worker = self.worker.clone();
        let stopped = async {
            worker.stopping.raised().await;
            Err(Lost::Stopping)
        };
        let call = &self.card.call;
        // A call wakes the session's task.
        let killed = poll_fn(|_| match call.get() {
            Call::Kill => Poll::Ready(Err(Lost::Killed)),
            _ => Poll::Pending,
        });
        let reopened = stopped.or(killed).or(self.find_refuge()).await;
        let (session, from) = (self.card.id.0, &*self.lost.id);
        match &reopened {
            Ok(candidate) => {
                self.worker.counters.moves.reopened.add(1);
                debug!(session, from, to = &*candidate.cn.id, "opened anew");
            }
            Err(why @ (Lost::Held(_) | Lost::ClientGone | Lost::Stopping | Lost::Killed)) => {
                debug!(session, from, "ends with its CN: {why}");
            }
            Err(why) => info!(session, from, "ends with its CN: {why}"),
        }
        reopened
    }

    async fn find_refuge(&mut self) -> Result<Candidate, Lost> {
        self.can_be_carried()?;
        if !self.cn_is_down().await {
            return Err(Lost::Alone);
        }
        let _turn = self.turn().await?;
        let (mut tried, mut failure) = (vec![self.lost.slot], Lost::NoRefuge);
        let attempts = self.worker.login_limits().map_or(0, |limits| limits.attempts as usize);
        while tried.len() <= attempts {
            let Some(refuge) = self.refuge(&tried) else { break };
            tried.push(refuge.slot);
            match self.carry_to(refuge).await {
                Ok(candidate) => return Ok(candidate),
                Err(cause) => failure = Lost::Failed(cause),
            }
        }
        Err(failure)
    }

    fn can_be_carried(&self) -> Result<(), Lost> {
        if let Some(hold) = self.dialog.hold().or_else(|| self.card.hold()) {
            return Err(Lost::Held(hold));
        }
        let complete = self.dialog.watched().is_some_and(|watched| watched.state.complete());
        complete.then_some(()).ok_or(Lost::Incomplete)
    }

    /// Whether the CN is down, or has only ended this session, as it does with those that are silent for too long or killed.
    async fn cn_is_down(&self) -> bool {
        let verdict = async {
            loop {
                let news = self.worker.news.borrow().clone();
                let view = self.worker.view();
                let state = view.as_ref().and_then(|view| view.cn(self.lost.slot)).map(|cn| cn.state);
                if state.is_none_or(|state| state == CnState::Down) {
                    return;
                }
                news.raised().await;
            }
        };
        self.worker.reactor.until(Instant::now() + VERDICT_LIMIT, verdict).await.is_some()
    }

    /// A turn to open a leg: urgent if the client has spoken, else when it has been silent for long enough.
    async fn turn(&self) -> Result<Turn, Lost> {
        let now = Instant::now();
        let silence = self.card.silent_since(now).unwrap_or(now) + self.worker.migration().idle;
        let command = async {
            // One that has been silent for long already may say what it likes.
            if silence > now { self.worker.reactor.until(silence, self.next_command()).await } else { None }
        };
        if let Some(command) = command.await {
            command?;
            return Ok(Movers::turn(self.worker, true).await);
        }
        let calm = async { Some(Movers::turn(self.worker, false).await) };
        let spoken = async {
            self.client.received().await;
            None
        };
        if let Some(turn) = spoken.or(calm).await {
            return Ok(turn);
        }
        if self.client.received().await != Received::Data {
            return Err(Lost::ClientGone);
        }
        Ok(Movers::turn(self.worker, true).await)
    }

    /// Waits for the next command, or for as much of it as tells that it does not ask about the one before. One that does not
    /// ask itself but may have such a question behind it is left to wait for silence.
    async fn next_command(&self) -> Result<(), Lost> {
        let mut known = 0;
        while poll_fn(|cx| self.client.poll_beyond(cx, known)).await == Received::Data {
            let bytes = self.client.peek(PEEK_MAX);
            let asks = self.dialog.has_leftovers() || self.dialog.asks_about_last(&bytes);
            if !asks {
                return Ok(());
            }
            if is_whole_statement(&bytes) {
                return Err(Lost::Asks);
            }
            if bytes.len() == PEEK_MAX {
                // What follows is not looked at, so it is not received either.
                return pending().await;
            }
            known = bytes.len();
        }
        Err(Lost::ClientGone)
    }

    /// The CN to go to.
    fn refuge(&self, tried: &[CnSlot]) -> Option<Arc<Cn>> {
        let view = self.worker.view()?;
        let group = self.card.group.borrow().clone()?;
        let refuges = route::moves::refuges(&view, &group, self.lost, tried);
        let load = |cn: &&&Arc<Cn>| Load::with_one_more(cn, self.worker.tally.seats(cn.slot));
        let has_room = |cn: &&&Arc<Cn>| !cn.is_full(|slot| self.worker.tally.seats(slot));
        refuges.iter().filter(has_room).min_by_key(load).map(|cn| (*cn).clone())
    }

    async fn carry_to(&mut self, refuge: Arc<Cn>) -> Result<Candidate, String> {
        let passport = self.card.passport.borrow().clone().zip(self.card.credential());
        let (passport, credential) = passport.ok_or_else(|| Hold::RelayLogin.why().to_owned())?;
        let mut candidate = open(self.worker, self.card, passport, credential, refuge).await?;
        match carry_over(self.worker, self.dialog, None, &mut candidate).await {
            Ok(()) => Ok(candidate),
            Err(cause) => {
                leave(&self.worker.reactor, candidate.socket);
                Err(cause.to_string())
            }
        }
    }
}

/// Whether `unread` begins with a statement that is all there, or so much of one as is looked at.
fn is_whole_statement(unread: &[u8]) -> bool {
    let Some((header, payload)) = unread.split_first_chunk::<HEADER>() else { return false };
    let whole = unread.len() >= PEEK_MAX || Header::read(*header).length as usize <= payload.len();
    let command = Command::from_byte(payload.first().copied().unwrap_or_default());
    whole
        && matches!(
            command,
            Command::Query | Command::StmtExecute | Command::StmtBulkExecute | Command::StmtFetch
        )
}
