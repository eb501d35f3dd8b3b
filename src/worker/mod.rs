//! One worker, one core: it owns its listeners and its sessions, and obeys the coordinator's orders.
//!
//! Its life: [`run`] pins the thread and makes the ring; one task accepts on each listener and
//! starts a session task for each connection (`tunnel`); one task reads the orders; the root task turns the
//! ring until a stop was ordered and the last session has ended.

mod admission;
mod approach;
mod book;
mod change;
mod enter;
mod examination;
mod failure;
mod flag;
mod forward;
mod gate;
mod halt;
mod handover;
mod kill;
mod known;
mod leg;
mod letter;
mod listener;
mod login;
mod migrate;
mod offer;
mod opening;
mod proxy_header;
mod refuge;
mod roster;
mod stock;
mod sweep;
mod transfer;
mod tunnel;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::FutureExt;
use tracing::error;

use crate::config::settings::{Account, Keepalive, Login, Migration, Settings, Timeouts};
use crate::config::tls::CnTls;
use crate::wire::compressed::codec::Packing;
pub use book::Books;

use crate::ident::{CnSlot, IdRange, SessionId, WorkerId};
use crate::mailbox::message::{CnFailure, Event, MoveOrder, Order, Picture, Report, Whom};
use crate::mailbox::{Full, WorkerEnd};
use crate::metrics::{Counters, SeatBook, Tally};
use crate::net::Origin;
use crate::reactor::executor::{self, ExecutorError};
use crate::reactor::{self, Bell, Reactor};
use crate::route::pick::Turns;
use crate::route::{self, Cn, View};
use crate::session::hold::Hold;
use crate::session::user::Users;
use flag::Flag;
use gate::Gate;
use migrate::{Movers, Reason, answer};
use roster::{Call, Card, Entry, Facts, Roster};

/// What a worker is made of. Built by `boot`, used on the worker's own thread.
pub struct Parts {
    pub id: WorkerId,
    pub cpu: usize,
    pub settings: Arc<Settings>,
    /// Sockets that the ring's own table takes.
    pub files: u32,
    pub listeners: Vec<OwnedFd>,
    pub mailbox: WorkerEnd,
    /// The counters of all workers; its own are at its number.
    pub counters: Vec<Arc<Counters>>,
    pub tally: Tally,
    /// Shared by all workers.
    pub books: Books,
}

/// Why a worker could not run.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    #[error("worker {worker}: the ring cannot be made: {cause}")]
    Ring { worker: WorkerId, cause: io::Error },
}

/// What the tasks of a worker share.
struct Worker {
    id: WorkerId,
    reactor: Reactor,
    books: Books,
    /// None where connections may come as fast as they like.
    gate: RefCell<Option<Gate>>,
    counters: Arc<Counters>,
    all_counters: Vec<Arc<Counters>>,
    tally: Tally,
    seats: SeatBook,
    turns: RefCell<Turns>,
    roster: Rc<Roster>,
    mailbox: WorkerEnd,
    picture: RefCell<Option<Picture>>,
    /// Raised by the next picture.
    news: RefCell<Rc<Flag>>,
    /// Sessions that are looked for at other workers.
    seeks: letter::Seeks,
    /// Statements of ended sessions that are being stopped.
    orphans: Cell<u32>,
    movers: Movers,
    /// How sessions move, as long as there is no picture.
    first_migration: Arc<Migration>,
    /// Until when sessions may go on, once a stop was ordered.
    stop_at: Cell<Option<Instant>>,
    stopping: Flag,
    out_of_patience: Flag,
    /// The last session has ended.
    finished: Flag,
}

/// Runs a worker on this thread until it is ordered to stop.
pub fn run(parts: Parts) -> Result<(), WorkerError> {
    let (id, cpu) = (parts.id, parts.cpu);
    executor::run(cpu, work(parts))?.map_err(|cause| WorkerError::Ring { worker: id, cause })
}

async fn work(parts: Parts) -> io::Result<()> {
    let config = reactor::Config {
        buffer_bytes: parts.settings.relay.buffers_mib as usize * 1024 * 1024,
        files: parts.files,
        spin: parts.settings.workers.spin,
    };
    let reactor = Reactor::new(&config)?;
    let bell = Bell::new(&reactor, parts.mailbox.eventfd().try_clone_to_owned()?);
    let listen = &parts.settings.listen;
    let ids = IdRange::new(listen.first_connection_id, listen.connection_ids, parts.counters.len());
    let worker = Rc::new(Worker {
        id: parts.id,
        reactor: reactor.clone(),
        books: parts.books,
        gate: RefCell::default(),
        counters: parts.counters[parts.id.index()].clone(),
        all_counters: parts.counters,
        seats: SeatBook::new(parts.tally.clone(), parts.id),
        tally: parts.tally,
        turns: RefCell::new(Turns::new(parts.id)),
        roster: Rc::new(Roster::new(parts.id, ids, random())),
        mailbox: parts.mailbox,
        picture: RefCell::default(),
        news: RefCell::default(),
        movers: Movers::default(),
        seeks: letter::Seeks::default(),
        orphans: Cell::default(),
        first_migration: Arc::new(parts.settings.migration.clone()),
        stop_at: Cell::default(),
        stopping: Flag::default(),
        out_of_patience: Flag::default(),
        finished: Flag::default(),
    });
    reactor.spawn(obey(worker.clone(), bell, parts.listeners));
    reactor.spawn(sweep::sweep(worker.clone()));
    let ended = || {
        worker.count_turns();
        worker.is_stopping() && worker.roster.is_empty()
    };
    reactor.run(ended).await;
    // Tasks and reactor hold each other: only a task that has ended lets go of its descriptors.
    worker.finished.raise(&reactor);
    reactor.run(|| reactor.is_empty()).await;
    worker.report(Event::Stopped);
    Ok(())
}

/// Any number; without randomness always the same.
fn random() -> u32 {
    let mut bytes = [0; 4];
    if getrandom::fill(&mut bytes).is_err() {
        return 0;
    }
    u32::from_le_bytes(bytes)
}

/// Follows orders until the worker has finished. Accepts from the first picture on, as nobody could be
/// routed before.
async fn obey(worker: Rc<Worker>, bell: Bell, listeners: Vec<OwnedFd>) {
    let mut waiting = Some(listeners);
    while !worker.finished.is_raised() {
        let orders: Vec<Order> = worker.mailbox.orders().collect();
        let mut moves = Vec::new();
        for order in orders {
            // Moves that come together need one look at the sessions only.
            if !matches!(order, Order::Move(_)) {
                worker.order_moves(moves.drain(..));
            }
            match order {
                Order::Publish(picture) => {
                    worker.limit(&picture);
                    let users = picture.users.clone();
                    let before = worker.picture.replace(Some(*picture));
                    if before.is_some_and(|before| !Arc::ptr_eq(&before.users, &users)) {
                        worker.roster.prove(&users);
                        known::check_all(&worker, users);
                    }
                    worker.news.take().raise(&worker.reactor);
                    for fd in waiting.take().into_iter().flatten() {
                        worker.reactor.spawn(listener::accept(worker.clone(), fd));
                    }
                }
                Order::ListSessions { ticket } => {
                    worker.report(Event::Sessions { ticket, rows: worker.roster.rows(Instant::now()) });
                }
                Order::Census { ticket } => {
                    worker.report(Event::Census {
                        ticket,
                        rows: worker.roster.census(Instant::now(), worker.dwell()),
                    });
                }
                Order::Move(order) => moves.push(order),
                Order::Evict { from, why } => worker.evict(from, &why),
                Order::Kill { ticket, session } => worker.kill(ticket, session),
                Order::Handover { to, count } => handover::give(&worker, to, count),
                Order::Adopt(parcel) => handover::adopt(&worker, parcel),
                Order::Letter(parcel) => letter::receive(&worker, parcel),
                Order::Ids(block) => worker.roster.stock_up(block),
                Order::Stop { grace } => worker.stop(Instant::now() + grace),
            }
        }
        worker.order_moves(moves.drain(..));
        worker.finished.raised().or(bell.rung()).await;
    }
}

impl Worker {
    /// Runs a session beside the others. A panic ends the session that it happened in, and no other.
    fn host(self: &Rc<Self>, session: impl Future<Output = ()> + 'static) {
        let worker = self.clone();
        self.reactor.spawn(async move {
            if AssertUnwindSafe(session).catch_unwind().await.is_err() {
                worker.counters.panics.add(1);
                error!(worker = worker.id.0, "a session ended by a bug of corelane");
            }
        });
    }

    /// Takes over how many there may be. Who is here stays.
    fn limit(&self, picture: &Picture) {
        self.books.limit(picture);
        let (mut gate, rate) = (self.gate.borrow_mut(), picture.limits.accepts_per_second);
        if gate.as_ref().map(Gate::rate) != rate {
            *gate = rate.map(|rate| Gate::new(rate, self.all_counters.len(), Instant::now()));
        }
    }

    /// Whether one more connection may come in now.
    fn admits(&self) -> bool {
        self.gate.borrow_mut().as_mut().is_none_or(|gate| gate.admits(Instant::now()))
    }

    /// Whether there are more sessions than there may be.
    fn is_overfull(&self) -> bool {
        let most = self.picture.borrow().as_ref().map(|picture| picture.max_sessions);
        most.is_some_and(|most| self.sessions_everywhere() > u64::from(most))
    }

    fn is_stopping(&self) -> bool {
        self.stopping.is_raised()
    }

    fn is_out_of_patience(&self) -> bool {
        self.out_of_patience.is_raised()
    }

    /// Begins to stop, or stops sooner. Sessions notice when they are woken.
    fn stop(self: &Rc<Self>, at: Instant) {
        if self.stop_at.get().is_some_and(|earlier| earlier <= at) {
            return;
        }
        self.stop_at.set(Some(at));
        self.stopping.raise(&self.reactor);
        self.reactor.wake_all();
        let worker = self.clone();
        self.reactor.spawn(async move {
            if worker.reactor.until(at, worker.finished.raised()).await.is_none() {
                worker.out_of_patience.raise(&worker.reactor);
                worker.reactor.wake_all();
            }
        });
    }

    /// Orders sessions to move.
    fn order_moves(self: &Rc<Self>, orders: impl Iterator<Item = MoveOrder>) {
        let (mut movable, now) = (None, Instant::now());
        for MoveOrder { whom, to, patience, dwelling_too } in orders {
            match whom {
                Whom::Session { ticket, session } => self.order_move(ticket, session, to, patience),
                Whom::Some { group, from, count } => {
                    let Some(to) = self.view().and_then(|view| view.cn(to).cloned()) else { continue };
                    let movable = movable.get_or_insert_with(|| self.roster.movable(now));
                    let Some(lot) = movable.get_mut(&(group, from)) else { continue };
                    let reason = if dwelling_too { Reason::Drain } else { Reason::Balance };
                    let mut left = count;
                    lot.retain(|card| {
                        let goes = left > 0 && (dwelling_too || !card.dwells(now, self.dwell()));
                        if goes {
                            left -= 1;
                            Movers::order(self, card.clone(), to.clone(), patience, reason);
                        }
                        !goes
                    });
                }
            }
        }
    }

    fn order_move(self: &Rc<Self>, ticket: u64, session: SessionId, to: CnSlot, patience: Duration) {
        let Some(card) = self.roster.card(session) else { return self.report(Event::NotHere { ticket }) };
        match self.may_move(&card, to) {
            Ok(to) => Movers::order(self, card, to, patience, Reason::Asked { ticket }),
            Err(why) => answer(self, Some(ticket), Err(why)),
        }
    }

    /// Whether sessions may still be moved to a CN of an earlier view.
    fn still_takes(&self, cn: &Cn) -> bool {
        let view = self.view();
        let now = view.as_ref().and_then(|view| view.cn(cn.slot));
        now.is_some_and(|now| now.id == cn.id && now.target == cn.target && now.takes_moves())
    }

    /// The CN that a session is to move to, if it may go there.
    fn may_move(&self, card: &Card, to: CnSlot) -> Result<Arc<Cn>, String> {
        let (view, group, from) = (self.view(), card.group.borrow().clone(), card.slot());
        let (Some(view), Some(group), Some(from)) = (view, group, from) else {
            return Err(Hold::Login.why().to_owned());
        };
        if let Some(hold) = card.hold().filter(|hold| hold.is_lasting()) {
            return Err(hold.why().to_owned());
        }
        route::moves::may_move(&view, &group, from, to).map_err(|barred| barred.to_string())?;
        view.cn(to).cloned().ok_or_else(|| "there is no such CN".to_owned())
    }

    /// Ends all sessions on a CN.
    fn evict(&self, from: CnSlot, why: &Arc<str>) {
        for card in self.roster.cards(|card| card.slot() == Some(from)) {
            card.evicted.replace(why.clone());
            card.call(&self.reactor, Call::Evict { from });
        }
    }

    fn kill(&self, ticket: u64, session: SessionId) {
        let Some(card) = self.roster.card(session) else { return self.report(Event::NotHere { ticket }) };
        card.call(&self.reactor, Call::Kill);
        answer(self, Some(ticket), Ok(format!("session {session} is ended")));
    }

    fn view(&self) -> Option<Arc<View>> {
        self.picture.borrow().as_ref().map(|picture| picture.view.clone())
    }

    /// Who is known; none before the first picture.
    fn users(&self) -> Option<Arc<Users>> {
        self.picture.borrow().as_ref().map(|picture| picture.users.clone())
    }

    /// How sessions move.
    fn migration(&self) -> Arc<Migration> {
        self.picture
            .borrow()
            .as_ref()
            .map_or_else(|| self.first_migration.clone(), |picture| picture.migration.clone())
    }

    /// How long a session that has moved stays where it is.
    fn dwell(&self) -> Duration {
        self.picture.borrow().as_ref().map(|picture| picture.dwell).unwrap_or_default()
    }

    /// How long sessions may take over something.
    fn timeouts(&self) -> Timeouts {
        self.picture.borrow().as_ref().map(|picture| *picture.timeouts).unwrap_or_default()
    }

    /// The limits of a login at a CN.
    fn login_limits(&self) -> Option<Arc<Login>> {
        self.picture.borrow().as_ref().map(|picture| picture.login.clone())
    }

    /// Sessions on all workers, this one's newest included, and between them.
    fn sessions_everywhere(&self) -> u64 {
        let settled: u64 = self.all_counters.iter().map(|counters| counters.sessions.get()).sum();
        settled + u64::from(self.tally.travellers())
    }

    /// TLS towards CNs; none before the first picture.
    fn cn_tls(&self) -> Option<Arc<CnTls>> {
        self.picture.borrow().as_ref().map(|picture| picture.cn_tls.clone())
    }

    /// How the kernel finds out that a client is gone.
    fn client_tcp(&self) -> Keepalive {
        self.picture.borrow().as_ref().map(|picture| picture.client_tcp).unwrap_or_default()
    }

    /// The same of a CN.
    fn cn_tcp(&self) -> Keepalive {
        self.picture.borrow().as_ref().map(|picture| picture.cn_tcp).unwrap_or_default()
    }

    /// Whether the public key of a CN without TLS is believed.
    fn trusts_cn_keys(&self) -> bool {
        self.picture.borrow().as_ref().is_some_and(|picture| picture.trusts_cn_keys)
    }

    /// The account by which corelane itself asks CNs of MySQL's.
    fn monitor(&self) -> Option<Arc<Account>> {
        self.picture.borrow().as_ref().and_then(|picture| picture.monitor.clone())
    }

    /// By what connections to CNs are compressed.
    fn cn_compression(&self) -> Option<Packing> {
        self.picture.borrow().as_ref().and_then(|picture| picture.compression.cns)
    }

    fn report_failure(&self, slot: CnSlot, failure: CnFailure) {
        self.report(Event::CnFailed { slot, failure });
    }

    fn report(&self, event: Event) {
        if self.try_report(event).is_err() {
            self.counters.reports_dropped.add(1);
        }
    }

    /// Reports, or gives the event back where it does not fit.
    fn try_report(&self, event: Event) -> Result<(), Event> {
        let epoch = self.picture.borrow().as_ref().map_or_else(Default::default, |p| p.view.epoch);
        let report = Report { worker: self.id, epoch, event };
        self.mailbox.report(report).map_err(|Full(report)| report.event)
    }

    /// Copies what the reactor counts to where it can be read.
    fn count_turns(&self) {
        self.counters.turns.set(self.reactor.turns());
        self.counters.starved.set(self.reactor.starvations());
    }
}

/// A session's share of the worker's books, for as long as it lives.
struct SessionGuard {
    worker: Rc<Worker>,
    entry: Entry,
}

impl SessionGuard {
    fn begin(worker: &Rc<Worker>, origin: Origin) -> Self {
        worker.counters.accepted.add(1);
        worker.counters.sessions.add(1);
        let entry = worker.roster.enter(origin, Instant::now());
        worker.roster.ask_for_ids(|| worker.try_report(Event::IdsWanted).is_ok());
        Self { worker: worker.clone(), entry }
    }

    /// Takes in a session from another worker.
    fn adopt(worker: &Rc<Worker>, facts: Facts) -> Self {
        worker.counters.sessions.add(1);
        Self { worker: worker.clone(), entry: worker.roster.adopt(facts) }
    }

    fn card(&self) -> &Rc<Card> {
        self.entry.card()
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.card().retire(&self.worker.reactor);
        self.worker.counters.sessions.sub(1);
    }
}
