//! Where all that happens comes in: rings of mailboxes, outcomes of probes, look-ups, readings of user tables, what CNs
//! tell of others, connection ids, questions, signals, time.
//!
//! It sorts nothing and judges nothing. Every way in is bounded, and whoever finds one full waits there, not
//! the coordinator.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::unix::pipe;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::accounts::Reading;
use super::desk::{QUESTIONS_MAX, Question};
use super::discovery::Sighting;
use super::ids::Grant;
use super::post::Post;
use super::resolve::Lookup;
use super::signal::Signal;
use super::watch::Outcome;
use crate::ident::CNS_MAX;

/// Look-ups that may wait to be heeded.
const LOOKUPS_WAITING: usize = 64;

/// Readings that may wait to be heeded.
const READINGS_WAITING: usize = 8;

/// Sightings that may wait to be heeded.
const SIGHTINGS_WAITING: usize = 2;

/// Blocks of connection ids that may wait to be heeded.
const GRANTS_WAITING: usize = 8;

pub struct Inbox {
    bell: Arc<Notify>,
    bells: JoinSet<()>,
    outcomes: mpsc::Receiver<Outcome>,
    lookups: mpsc::Receiver<Lookup>,
    lookups_in: mpsc::Sender<Lookup>,
    readings: mpsc::Receiver<Reading>,
    readings_in: mpsc::Sender<Reading>,
    sightings: mpsc::Receiver<Sighting>,
    sightings_in: mpsc::Sender<Sighting>,
    grants: mpsc::Receiver<Grant>,
    grants_in: mpsc::Sender<Grant>,
    questions: mpsc::Receiver<Question>,
}

/// What ends a wait.
pub enum Wake {
    /// A report lies in some mailbox, or it is time for something.
    Turn,
    Outcome(Outcome),
    Lookup(Lookup),
    Reading(Reading),
    Sighting(Sighting),
    Grant(Grant),
    Question(Question),
    Signal(Signal),
}

impl Inbox {
    /// An inbox, with the ways in for questions and for the outcomes of probes.
    pub fn new() -> (Self, mpsc::Sender<Question>, mpsc::Sender<Outcome>) {
        let (questions_in, questions) = mpsc::channel(QUESTIONS_MAX);
        let (outcomes_in, outcomes) = mpsc::channel(CNS_MAX);
        let (lookups_in, lookups) = mpsc::channel(LOOKUPS_WAITING);
        let (readings_in, readings) = mpsc::channel(READINGS_WAITING);
        let (sightings_in, sightings) = mpsc::channel(SIGHTINGS_WAITING);
        let (grants_in, grants) = mpsc::channel(GRANTS_WAITING);
        let inbox = Self {
            bell: Arc::default(),
            bells: JoinSet::new(),
            outcomes,
            lookups,
            lookups_in,
            readings,
            readings_in,
            sightings,
            sightings_in,
            grants,
            grants_in,
            questions,
        };
        (inbox, questions_in, outcomes_in)
    }

    /// The way in for look-ups.
    pub fn lookups_in(&self) -> mpsc::Sender<Lookup> {
        self.lookups_in.clone()
    }

    /// The way in for readings of user tables.
    pub fn readings_in(&self) -> mpsc::Sender<Reading> {
        self.readings_in.clone()
    }

    /// The way in for what CNs tell of others.
    pub fn sightings_in(&self) -> mpsc::Sender<Sighting> {
        self.sightings_in.clone()
    }

    /// The way in for connection ids.
    pub fn grants_in(&self) -> mpsc::Sender<Grant> {
        self.grants_in.clone()
    }

    /// Has a report in any mailbox wake the coordinator.
    pub fn listen(&mut self, posts: &[Post]) -> io::Result<()> {
        for post in posts {
            let bell = pipe::Receiver::from_owned_fd(post.bell()?)?;
            self.bells.spawn(pass_on(bell, self.bell.clone()));
        }
        Ok(())
    }

    /// Waits until something happens, or until `due`.
    pub async fn wait(&mut self, signals: &mut mpsc::Receiver<Signal>, due: Option<Instant>) -> Wake {
        let due_in = async {
            match due {
                Some(due) => sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        // A channel whose other side is gone is left out: its pattern does not match.
        tokio::select! {
            () = self.bell.notified() => Wake::Turn,
            () = due_in => Wake::Turn,
            Some(signal) = signals.recv() => Wake::Signal(signal),
            Some(outcome) = self.outcomes.recv() => Wake::Outcome(outcome),
            Some(lookup) = self.lookups.recv() => Wake::Lookup(lookup),
            Some(reading) = self.readings.recv() => Wake::Reading(reading),
            Some(sighting) = self.sightings.recv() => Wake::Sighting(sighting),
            Some(grant) = self.grants.recv() => Wake::Grant(grant),
            Some(question) = self.questions.recv() => Wake::Question(question),
        }
    }

    /// What else has come in, so that a turn heeds all of it and publishes once.
    pub fn next(&mut self) -> Option<Wake> {
        if let Ok(outcome) = self.outcomes.try_recv() {
            return Some(Wake::Outcome(outcome));
        }
        if let Ok(lookup) = self.lookups.try_recv() {
            return Some(Wake::Lookup(lookup));
        }
        if let Ok(reading) = self.readings.try_recv() {
            return Some(Wake::Reading(reading));
        }
        if let Ok(sighting) = self.sightings.try_recv() {
            return Some(Wake::Sighting(sighting));
        }
        if let Ok(grant) = self.grants.try_recv() {
            return Some(Wake::Grant(grant));
        }
        self.questions.try_recv().ok().map(Wake::Question)
    }
}

/// Passes rings on until the worker is gone, which is the last one.
async fn pass_on(bell: pipe::Receiver, to: Arc<Notify>) {
    let mut rings = [0; 64];
    while bell.readable().await.is_ok() {
        let heard = bell.try_read(&mut rings);
        if matches!(&heard, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            continue;
        }
        to.notify_one();
        if !matches!(heard, Ok(1..)) {
            return;
        }
    }
}
