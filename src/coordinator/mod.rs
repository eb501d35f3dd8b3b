//! The coordinator: the one thread that owns the CN table and every decision about it.
//!
//! It runs on a tokio current-thread runtime and takes turns: it heeds what has happened (reports, probes, addresses,
//! what CNs tell, questions, signals, time), has sessions counted and moved where that is due, publishes the picture if
//! it has changed, and sends what the workers' mailboxes take. It never waits for a worker. What to make of it all is
//! [`crate::placement`]'s judgement; here are the clock and the sockets that placement must not have.
//!
//! The life of a process as the coordinator sees it: `Stage::Starting` while the first probes are out, so
//! that the first picture has the right face; `Stage::Serving`; `Stage::Stopping` after a signal, until all
//! workers have stopped.

mod accounts;
mod census;
pub mod desk;
mod discovery;
pub mod errand;
mod ids;
mod inbox;
mod line;
pub mod logbook;
mod operate;
mod post;
pub mod probe;
mod reload;
mod resolve;
mod road;
mod roll;
pub mod signal;
mod steer;
mod watch;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::config::Settings;
use crate::ident::WorkerId;
use crate::mailbox::CoordinatorEnd;
use crate::mailbox::hosts::Hosts;
use crate::mailbox::message::{CnFailure, Event, Order, Picture, Report};
use crate::metrics::{Counters, Tally};
use crate::placement::{self, Decision, Placement, Source};
use crate::route::View;
use crate::session::face::Face;
use accounts::{Reading, Tables};
use desk::{CnRow, Desk, DrainTerms, Overview, Question, Roll, WorkerFacts};
use discovery::{Scout, Sighting};
use errand::Errands;
use ids::{Grant, Ids};
use inbox::{Inbox, Wake};
use logbook::Logbook;
use post::Post;
use resolve::{Lookup, keep_resolving};
use roll::Rolls;
use signal::Signal;
use steer::Helm;
use watch::{Outcome, Watches};

/// How long the first picture waits for the first round of probes.
const FIRST_ROUND_LIMIT: Duration = Duration::from_millis(500);

/// What workers get on top of the grace to say that they have stopped.
const STOP_SLACK: Duration = Duration::from_secs(2);

/// When to try again to fill a mailbox that was full. A drain of many tenants gives thousands of orders.
const POST_RETRY: Duration = Duration::from_millis(5);

/// All that a coordinator is made of. The lists have one entry for each worker, in the workers' order.
pub struct CoordinatorParts {
    pub settings: Settings,
    /// Read again on SIGHUP; without it a reload is refused.
    pub config_path: Option<PathBuf>,
    pub mailboxes: Vec<CoordinatorEnd>,
    pub counters: Vec<Arc<Counters>>,
    pub cpus: Vec<usize>,
    pub tally: Tally,
    /// The workers' own.
    pub hosts: Arc<Hosts>,
}

#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    #[error("cannot catch signals: {0}")]
    Signals(io::Error),
    #[error("cannot listen to the workers' mailboxes: {0}")]
    Mailboxes(io::Error),
    #[error("every worker has ended without being told to")]
    WorkersLost,
}

/// The coordinator. It does nothing before [`Coordinator::run`].
pub struct Coordinator {
    settings: Settings,
    config_path: Option<PathBuf>,
    stage: Stage,
    /// All times given to placement are since then.
    epoch: Instant,
    posts: Vec<Post>,
    counters: Vec<Arc<Counters>>,
    tally: Tally,
    hosts: Arc<Hosts>,
    placement: Placement,
    helm: Helm,
    errands: Errands,
    picture: Picture,
    /// Whether the workers have not been given the picture as it is now.
    unpublished: bool,
    watches: Watches,
    tables: Tables,
    scout: Scout,
    ids: Ids,
    rolls: Rolls,
    logbook: Logbook,
    resolver: JoinSet<()>,
    /// Ids and addresses of the CNs whose names are being looked up; `None` when that is to begin anew.
    names: Option<Vec<(String, String)>>,
    inbox: Inbox,
}

/// How far the process has come.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Nothing has been published yet.
    Starting {
        publish_by: Instant,
    },
    Serving,
    /// Workers are ending their sessions.
    Stopping {
        give_up: Instant,
    },
}

impl Coordinator {
    /// A coordinator, and the desk for the doors.
    pub fn new(parts: CoordinatorParts) -> (Self, Desk) {
        let (inbox, questions_in, outcomes_in) = Inbox::new();
        let settings = parts.settings;
        let facts = facts(parts.counters.clone(), &parts.cpus);
        let desk = Desk::new(questions_in, Arc::new(settings.admin.clone()), facts, parts.hosts.clone());
        let now = Instant::now();
        let coordinator = Self {
            stage: Stage::Starting { publish_by: now + FIRST_ROUND_LIMIT },
            epoch: now,
            posts: parts.mailboxes.into_iter().map(Post::new).collect(),
            counters: parts.counters,
            tally: parts.tally,
            hosts: parts.hosts,
            helm: Helm::new(&settings, now),
            errands: Errands::default(),
            placement: Placement::new(&settings.probe, &settings.discovery),
            picture: Picture {
                users: Arc::new(reload::users(&settings.users)),
                face: Arc::new(face([], &settings)),
                key: reload::key(&settings, reload::modes(&settings), None),
                ..Picture::new(&settings)
            },
            unpublished: true,
            watches: Watches::new(reload::probing(&settings), outcomes_in),
            tables: Tables::new(settings.auth.clone(), settings.cn_tls.clone(), inbox.readings_in()),
            scout: Scout::new(settings.discovery.clone(), inbox.sightings_in()),
            ids: Ids::new(&settings.discovery.hakeeper, &settings.listen, inbox.grants_in()),
            rolls: Rolls::default(),
            logbook: Logbook::default(),
            resolver: JoinSet::new(),
            names: None,
            inbox,
            config_path: parts.config_path,
            settings,
        };
        (coordinator, desk)
    }

    /// Runs until a signal stops it and the workers have stopped.
    pub async fn run(self) -> Result<(), CoordinatorError> {
        let signals = signal::catch().map_err(CoordinatorError::Signals)?;
        self.run_with(signals).await
    }

    /// [`Coordinator::run`] with signals from elsewhere.
    pub async fn run_with(mut self, mut signals: mpsc::Receiver<Signal>) -> Result<(), CoordinatorError> {
        self.stage = Stage::Starting { publish_by: Instant::now() + FIRST_ROUND_LIMIT };
        self.inbox.listen(&self.posts).map_err(CoordinatorError::Mailboxes)?;
        self.take_cns();
        self.ids.begin(self.posts.iter().map(Post::worker));
        loop {
            self.heed_reports();
            self.heed_time();
            self.publish();
            self.steer();
            let all_sent = self.posts.iter_mut().map(Post::flush).fold(true, |all, sent| all & sent);
            if let Some(end) = self.end() {
                return end;
            }
            let wake = self.inbox.wait(&mut signals, self.next_due(all_sent)).await;
            self.heed(wake);
            while let Some(wake) = self.inbox.next() {
                self.heed(wake);
            }
        }
    }

    fn heed(&mut self, wake: Wake) {
        match wake {
            Wake::Turn => (),
            Wake::Outcome(outcome) => self.heed_outcome(outcome),
            Wake::Lookup(lookup) => self.heed_lookup(lookup),
            Wake::Reading(reading) => self.heed_reading(reading),
            Wake::Sighting(sighting) => self.heed_sighting(sighting),
            Wake::Grant(grant) => self.heed_grant(grant),
            Wake::Question(question) => self.answer(question),
            Wake::Signal(Signal::Reload) => self.reload(),
            Wake::Signal(Signal::Stop) => self.stop(),
        }
    }

    fn heed_reports(&mut self) {
        for at in 0..self.posts.len() {
            let was_lost = self.posts[at].is_lost();
            while let Some(report) = self.posts[at].next_report() {
                self.heed_report(at, report);
            }
            if self.posts[at].is_lost() && !was_lost {
                error!("worker {} has ended without being told to", self.posts[at].worker());
            }
        }
    }

    fn heed_report(&mut self, at: usize, report: Report) {
        match report.event {
            Event::CnFailed { slot, failure } => {
                let decision = self.placement.report(slot, report.epoch, failure, self.epoch.elapsed());
                if let Some(record) = self.watches.record(slot) {
                    record.failed(said(failure).to_owned());
                }
                self.logbook.failed(slot, failure);
                self.follow(decision);
            }
            Event::Sessions { ticket, rows } => self.rolls.answered(ticket, report.worker, rows),
            Event::Census { ticket, rows } => {
                if self.helm.census.answered(ticket, report.worker, report.epoch, rows) {
                    self.helm.silence_said = false;
                    self.order_moves();
                }
            }
            Event::IdsWanted => self.ids.want(report.worker),
            Event::Answered { ticket, outcome } => self.errands.answered(ticket, outcome),
            Event::NotHere { ticket } => self.errands.not_here(ticket, report.worker),
            Event::HandedOver { to, parcel } => self.pass_on(report.worker, to, parcel),
            Event::Letter { to, parcel } => self.order(to, Order::Letter(parcel)),
            Event::Stopped => {
                info!("worker {} has stopped", report.worker);
                self.posts[at].mark_ended();
            }
        }
    }

    fn heed_outcome(&mut self, outcome: Outcome) {
        if !self.watches.learn(&outcome) {
            return;
        }
        self.logbook.probed(outcome.slot, outcome.face.is_ok());
        let judged = match &outcome.face {
            Ok(_) => placement::Outcome::Well,
            Err(error @ probe::Error::Unwilling { .. }) => {
                placement::Outcome::Unwilling { cause: error.to_string() }
            }
            Err(error) => placement::Outcome::Failed { cause: error.to_string() },
        };
        let now = self.epoch.elapsed();
        let took = outcome.begun.elapsed();
        let decision = self.placement.probe_result(outcome.slot, outcome.epoch, &judged, took, now);
        self.follow(decision);
        self.compose_face();
    }

    fn heed_lookup(&mut self, lookup: Lookup) {
        match lookup.answers {
            // It may be about an address that the CN no longer has.
            Ok(_) if !self.placement.unresolved().any(|cn| cn == (&lookup.id, &lookup.address)) => {}
            Ok(answers) => {
                let decision = self.placement.resolved(&lookup.id, &answers);
                self.follow(decision);
            }
            Err(error) => {
                warn!("{}: cannot look up {}: {error}", lookup.id, lookup.address);
                if let Some(record) = self.watches.record_of(&lookup.id) {
                    record.failed(format!("cannot look up {}: {error}", lookup.address));
                }
            }
        }
    }

    fn heed_reading(&mut self, reading: Reading) {
        if self.tables.learn(reading) {
            self.compose_users();
        }
    }

    fn heed_sighting(&mut self, sighting: Sighting) {
        let Some(answer) = self.scout.learn(sighting) else { return };
        let (terms, now) = (self.terms(DrainTerms::default(), true), self.epoch.elapsed());
        let decision = self.placement.found(&answer, |slot| self.tally.seats(slot), terms, now);
        self.follow(decision);
    }

    fn heed_grant(&mut self, grant: Grant) {
        let Some((worker, block)) = self.ids.learn(grant) else { return };
        if let Some(post) = self.posts.iter_mut().find(|post| post.worker() == worker) {
            post.give_ids(block);
        }
    }

    fn heed_time(&mut self) {
        let now = Instant::now();
        let decision = self.placement.tick(now - self.epoch);
        self.follow(decision);
        if self.placement.drain_due().is_some_and(|due| self.epoch + due <= now) {
            self.judge_drains();
        }
        self.rolls.expire(now);
        self.errands.expire(now);
    }

    /// Does what placement has decided.
    fn follow(&mut self, decision: Decision) {
        for sentence in &decision.say {
            info!("{sentence}");
        }
        if decision.changed {
            let before = std::mem::replace(&mut self.picture.view, Arc::new(self.placement.view()));
            self.logbook.turn_over(&before, &self.picture.view);
            self.watches.fit(&self.picture.view);
            if self.tables.fit(&self.picture.view) {
                self.compose_users();
            }
            self.scout.fit(&self.picture.view);
            self.unpublished = true;
            self.helm.table_changed = true;
            self.look_names_up();
        }
        for slot in decision.probe_now {
            self.watches.poke(slot);
        }
        for (slot, why) in decision.evict {
            self.evict(slot, &why);
        }
    }

    /// Takes over the CNs of the settings, and looks their names up from now on.
    fn take_cns(&mut self) {
        let (terms, now) = (self.terms(DrainTerms::default(), true), self.epoch.elapsed());
        let seats = |slot| self.tally.seats(slot);
        let decision = self.placement.reload(&self.settings.cns, seats, terms, now);
        self.follow(decision);
        self.compose_face();
        self.names = None;
        self.look_names_up();
    }

    /// Looks up the names that are in the table now, from now on.
    fn look_names_up(&mut self) {
        let named = self.placement.unresolved();
        let names: Vec<_> = named.map(|(id, address)| (id.to_owned(), address.to_owned())).collect();
        if self.names.as_ref() == Some(&names) {
            return;
        }
        self.names = Some(names.clone());
        self.resolver = JoinSet::new();
        if !names.is_empty() {
            self.resolver.spawn(keep_resolving(names, self.inbox.lookups_in()));
        }
    }

    fn compose_face(&mut self) {
        let face = face(self.watches.faces(), &self.settings);
        if face != *self.picture.face {
            info!("clients are greeted as version {}", face.version);
            self.picture.face = Arc::new(face);
            self.unpublished = true;
        }
    }

    /// The users of the configuration and those of the CNs' tables.
    fn compose_users(&mut self) {
        let users = self.tables.add_to(reload::users(&self.settings.users));
        self.picture.users = Arc::new(users.remembering(&self.picture.users));
        self.unpublished = true;
        // Sessions may have become movable.
        self.helm.table_changed = true;
    }

    fn publish(&mut self) {
        if let Stage::Starting { publish_by } = self.stage {
            let all_seen = self.watches.all_seen() && self.tables.all_tried();
            let all_seen = all_seen && self.scout.has_tried() && self.ids.has_tried();
            if !all_seen && Instant::now() < publish_by {
                return;
            }
            self.stage = Stage::Serving;
        }
        if std::mem::take(&mut self.unpublished) {
            for post in self.posts.iter_mut().filter(|post| !post.has_ended()) {
                post.publish(self.picture.clone());
            }
        }
    }

    fn stop(&mut self) {
        let again = matches!(self.stage, Stage::Stopping { .. });
        let grace = if again { Duration::ZERO } else { self.settings.shutdown.grace };
        info!("stopping; sessions have {grace:?} to end");
        self.stage = Stage::Stopping { give_up: Instant::now() + grace + STOP_SLACK };
        for post in self.posts.iter_mut().filter(|post| !post.has_ended()) {
            post.stop(grace);
        }
    }

    /// Whether it is over, and how.
    fn end(&self) -> Option<Result<(), CoordinatorError>> {
        let running = || self.posts.iter().filter(|post| !post.has_ended());
        match self.stage {
            Stage::Stopping { give_up } if Instant::now() >= give_up => {
                for post in running() {
                    warn!("worker {} has not stopped in time", post.worker());
                }
                Some(Ok(()))
            }
            Stage::Stopping { .. } => running().next().is_none().then_some(Ok(())),
            _ if running().next().is_none() && !self.posts.is_empty() => {
                Some(Err(CoordinatorError::WorkersLost))
            }
            _ => None,
        }
    }

    /// When a turn is due though nothing happens.
    fn next_due(&self, all_sent: bool) -> Option<Instant> {
        let stage = match self.stage {
            Stage::Starting { publish_by } => Some(publish_by),
            Stage::Serving => None,
            Stage::Stopping { give_up } => Some(give_up),
        };
        let placement = self.placement.due().map(|due| self.epoch + due);
        let retry = (!all_sent).then(|| Instant::now() + POST_RETRY);
        let helm = matches!(self.stage, Stage::Serving).then(|| self.helm.due());
        let answers = [self.rolls.deadline(), self.errands.deadline()];
        [stage, placement, retry, helm].into_iter().chain(answers).flatten().min()
    }

    fn answer(&mut self, question: Question) {
        match question {
            // Whoever asked may have gone away meanwhile.
            Question::Cns(answer) => drop(answer.send(self.cn_rows())),
            Question::Overview(answer) => drop(answer.send(self.overview())),
            Question::Sessions(answer) => self.call_roll(answer),
            Question::Operate(operation, answer) => self.operate(operation, answer),
        }
    }

    fn cn_rows(&mut self) -> Vec<CnRow> {
        let view: Arc<View> = self.picture.view.clone();
        let rows = view.cns.iter().map(|cn| {
            let record = self.watches.record(cn.slot);
            let record = record.as_deref();
            let failure = record.and_then(|record| record.failure.as_ref());
            CnRow {
                cn: cn.clone(),
                sessions: self.tally.seats(cn.slot),
                version: record.and_then(|record| record.face.as_ref()).map(|face| face.version.clone()),
                last_error: failure.map(|(said, at)| format!("{} s ago: {said}", at.elapsed().as_secs())),
                probe: record.and_then(|record| record.took),
                source: self.placement.source(cn.slot).map_or("", Source::name),
            }
        });
        rows.collect()
    }

    fn overview(&mut self) -> Overview {
        Overview {
            stage: match self.stage {
                Stage::Starting { .. } => desk::Stage::Starting,
                Stage::Serving => desk::Stage::Serving,
                Stage::Stopping { .. } => desk::Stage::Stopping,
            },
            view: self.picture.view.clone(),
            cns: self.cn_rows(),
            travellers: self.tally.travellers(),
            logbook: self.logbook.clone(),
        }
    }

    fn call_roll(&mut self, answer: oneshot::Sender<Roll>) {
        let ticket = self.rolls.next_ticket();
        let running = self.posts.iter_mut().filter(|post| !post.has_ended());
        let asked: Vec<WorkerId> = running.map(|post| post.list_sessions(ticket)).collect();
        self.rolls.open(ticket, &asked, Instant::now(), answer);
    }
}

/// What all CNs have in common, and TLS and compression where they are offered.
fn face<'a>(cns: impl IntoIterator<Item = &'a Face>, settings: &Settings) -> Face {
    let common = Face::common(cns, settings.listen.server_version.as_deref());
    let common = common.with_plugin(settings.auth.plugin);
    let [zlib, zstd] = [settings.compression.zlib, settings.compression.zstd];
    let common = common.with_compression(zlib.into_iter().chain(zstd).map(|packing| packing.algorithm));
    if settings.tls.is_some() { common.with_tls() } else { common }
}

fn facts(counters: Vec<Arc<Counters>>, cpus: &[usize]) -> Arc<[WorkerFacts]> {
    let pairs = counters.into_iter().zip(cpus).zip(0..);
    pairs.map(|((counters, cpu), nth)| WorkerFacts { worker: WorkerId(nth), cpu: *cpu, counters }).collect()
}

fn said(failure: CnFailure) -> &'static str {
    match failure {
        CnFailure::Refused => "it refused a session's connection",
        CnFailure::TimedOut => "a session's login timed out",
        CnFailure::Unwilling => "it turned a session's login away",
        CnFailure::Lost => "it broke a session's connection",
    }
}
