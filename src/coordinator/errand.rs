//! Errands: orders about one session that every worker was given, as nobody but the worker where it lives
//! knows where that is. The first answer is the answer; when all have said that it is not there, there is none such.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::ident::{SessionId, WorkerId};

/// How long a worker may take to do what it was told with a session.
pub const ERRAND_LIMIT: Duration = Duration::from_secs(10);

/// What came of it, in words for whoever asked.
pub type Outcome = Result<String, String>;

#[derive(Debug, Default)]
pub struct Errands {
    last_ticket: u64,
    open: HashMap<u64, Errand>,
}

#[derive(Debug)]
struct Errand {
    session: SessionId,
    silent: BTreeSet<WorkerId>,
    deadline: Instant,
    answer: oneshot::Sender<Outcome>,
}

impl Errands {
    /// Begins to wait for `asked`; gives the ticket that the orders have to carry.
    pub fn begin(
        &mut self,
        session: SessionId,
        asked: impl IntoIterator<Item = WorkerId>,
        now: Instant,
        answer: oneshot::Sender<Outcome>,
    ) -> u64 {
        self.last_ticket += 1;
        let silent = asked.into_iter().collect();
        let errand = Errand { session, silent, deadline: now + ERRAND_LIMIT, answer };
        self.open.insert(self.last_ticket, errand);
        self.last_ticket
    }

    /// The worker where the session lives has answered.
    pub fn answered(&mut self, ticket: u64, outcome: Outcome) {
        if let Some(errand) = self.open.remove(&ticket) {
            // Whoever asked may have gone away meanwhile.
            let _ = errand.answer.send(outcome);
        }
    }

    /// The session is not at this worker.
    pub fn not_here(&mut self, ticket: u64, worker: WorkerId) {
        let Some(errand) = self.open.get_mut(&ticket) else { return };
        errand.silent.remove(&worker);
        if errand.silent.is_empty() {
            let session = errand.session;
            self.answered(ticket, Err(format!("there is no session {session}")));
        }
    }

    /// Ends the errands whose time is over.
    pub fn expire(&mut self, now: Instant) {
        let over = self.open.iter().filter(|(_, errand)| errand.deadline <= now);
        for ticket in over.map(|(ticket, _)| *ticket).collect::<Vec<_>>() {
            let limit = ERRAND_LIMIT.as_secs();
            self.answered(
                ticket,
                Err(format!("no worker has answered within {limit} s; it may still be done")),
            );
        }
    }

    /// When [`Self::expire`] has something to do next.
    pub fn deadline(&self) -> Option<Instant> {
        self.open.values().map(|errand| errand.deadline).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKERS: [WorkerId; 2] = [WorkerId(0), WorkerId(1)];
    const SESSION: SessionId = SessionId(0x8000_0007);

    #[test]
    fn the_worker_that_has_the_session_answers_for_all() {
        let (mut errands, now) = (Errands::default(), Instant::now());
        let (answer, mut outcome) = oneshot::channel();
        let ticket = errands.begin(SESSION, WORKERS, now, answer);
        errands.not_here(ticket, WORKERS[1]);
        errands.answered(ticket, Ok("moved".into()));
        errands.not_here(ticket, WORKERS[0]);
        assert_eq!(outcome.try_recv().unwrap(), Ok("moved".to_owned()));
    }

    #[test]
    fn a_session_that_nobody_has_is_unknown_and_silence_ends() {
        let (mut errands, now) = (Errands::default(), Instant::now());
        let (answer, mut outcome) = oneshot::channel();
        let ticket = errands.begin(SESSION, WORKERS, now, answer);
        errands.not_here(ticket, WORKERS[1]);
        errands.not_here(ticket, WORKERS[1]);
        assert!(outcome.try_recv().is_err());
        errands.not_here(ticket, WORKERS[0]);
        assert_eq!(outcome.try_recv().unwrap(), Err("there is no session 2147483655".to_owned()));
        let (answer, mut outcome) = oneshot::channel();
        errands.begin(SESSION, WORKERS, now, answer);
        assert_eq!(errands.deadline(), Some(now + ERRAND_LIMIT));
        errands.expire(now + ERRAND_LIMIT);
        assert!(outcome.try_recv().unwrap().unwrap_err().starts_with("no worker has answered within 10 s"));
    }
}
