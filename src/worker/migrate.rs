//! Moves a session to another CN: the I/O half of it.
//!
//! The life of a move:
//!
//! 1. [`Movers::order`] takes it down, and [`open`] logs a fresh leg in at the other CN, a bounded number at a time. The session
//!    goes on meanwhile and knows nothing of it.
//! 2. The leg is put on the session's card as an [`Offer`]. The session's relay takes it up at its first quiet moment, when its next
//!    command is here, or else after it has been silent for some time.
//! 3. [`carry_over`] asks the old CN for what only it knows, restores the session at the new one in one burst and checks
//!    every answer. Then the tunnel puts the new leg in the old one's place.
//!
//! What has to be asked and restored, and whether the answers are right, is for [`crate::session::restore`] to say.
//!
//! Invariant: until the last answer was right the old leg is untouched, and a move that fails leaves the session there.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::debug;

use super::Worker;
use super::approach::{Approached, abandon, approach, leave};
use super::flag::Flag;
use super::leg::Leg;
use super::login::Passport;
use super::offer::{Candidate, Offer, Outcome};
use super::roster::{Call, Card};
use crate::mailbox::message::Event;
use crate::reactor::{Received, Socket};
use crate::route::Cn;
use crate::session::dialog::Dialog;
use crate::session::hold::Hold;
use crate::session::login::{CnLogin, CnStep, Credential, Proof};
use crate::session::restore;
use crate::session::script::{Results, Script};
use crate::session::tracking;
use crate::wire::capability::Capabilities;
use crate::wire::frame::PacketReader;
use crate::wire::reply::ErrPacket;
use crate::wire::status::Status;

/// Moves that wait for their turn to open a leg; as many as a worker may have sessions, or more.
const ORDERS_MAX: usize = 1 << 17;
/// Bytes of the longest answer to a question of ours.
const ANSWER_MAX: usize = 16 << 20;

/// Moves under way and waiting.
#[derive(Default)]
pub(super) struct Movers {
    /// Turns that are taken.
    openings: Cell<u32>,
    /// Sessions whose CN is lost: they go before those that have one.
    stranded: RefCell<VecDeque<Weak<Place>>>,
    waiting: RefCell<VecDeque<Move>>,
}

/// A turn to open a leg. There are `[migration] at_once`; it is given back when dropped.
pub(super) struct Turn {
    worker: Rc<Worker>,
}

/// Where one waits for a turn.
#[derive(Default)]
struct Place {
    turn: RefCell<Option<Turn>>,
    called: Flag,
}

impl Turn {
    fn take(worker: &Rc<Worker>) -> Self {
        worker.movers.openings.set(worker.movers.openings.get() + 1);
        Self { worker: worker.clone() }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.worker.movers.openings.set(self.worker.movers.openings.get() - 1);
        Movers::begin(&self.worker);
    }
}

/// One session ordered to move.
struct Move {
    card: Rc<Card>,
    to: Arc<Cn>,
    patience: Duration,
    /// Who wants to hear of it.
    ticket: Option<u64>,
    /// It was held for longer than the patience.
    held_back: Cell<bool>,
}

impl Movers {
    /// Takes down that `card`'s session shall move.
    pub fn order(worker: &Rc<Worker>, card: Rc<Card>, to: Arc<Cn>, patience: Duration, ticket: Option<u64>) {
        let refused = card.hold().filter(|hold| hold.is_lasting()).map(|hold| hold.why().to_owned());
        let refused = refused.or_else(|| card.leaving.get().map(|_| "it is on its way already".to_owned()));
        let full = worker.movers.waiting.borrow().len() >= ORDERS_MAX;
        let refused = refused.or_else(|| full.then(|| format!("{ORDERS_MAX} moves wait already")));
        if let Some(why) = refused {
            return answer(worker, ticket, Err(why));
        }
        worker.counters.moves.ordered.add(1);
        card.leaving.set(Some(to.slot));
        worker.movers.waiting.borrow_mut().push_back(Move {
            card,
            to,
            patience,
            ticket,
            held_back: Cell::new(false),
        });
        Self::begin(worker);
    }

    /// Begins as many moves as may be begun.
    fn begin(worker: &Rc<Worker>) {
        let movers = &worker.movers;
        while movers.openings.get() < worker.migration().at_once {
            let stranded = movers.stranded.borrow_mut().pop_front();
            if let Some(place) = stranded {
                if let Some(place) = place.upgrade() {
                    place.turn.replace(Some(Turn::take(worker)));
                    place.called.raise(&worker.reactor);
                }
                continue;
            }
            let Some(next) = movers.waiting.borrow_mut().pop_front() else { return };
            let (worker, turn) = (worker.clone(), Turn::take(worker));
            worker.reactor.clone().spawn(async move {
                let outcome = conduct(&worker, &next, turn).await;
                conclude(&worker, &next, outcome);
            });
        }
    }

    /// Waits for a turn to open a leg for a session whose CN is lost. An urgent one is the next to get it.
    pub async fn turn(worker: &Rc<Worker>, urgent: bool) -> Turn {
        let place = Rc::new(Place::default());
        let waiting = Rc::downgrade(&place);
        if urgent {
            worker.movers.stranded.borrow_mut().push_front(waiting);
        } else {
            worker.movers.stranded.borrow_mut().push_back(waiting);
        }
        Self::begin(worker);
        place.called.raised().await;
        place.turn.take().unwrap_or_else(|| Turn::take(worker))
    }
}

/// A move from its turn to its end.
async fn conduct(worker: &Rc<Worker>, order: &Move, turn: Turn) -> Outcome {
    let passport = order.card.passport.borrow().clone().zip(order.card.proof());
    let opened = match passport {
        Some((passport, proof)) if order.card.is_alive() => {
            open(worker, &passport, proof, order.to.clone()).await
        }
        _ => Err("the session has ended".to_owned()),
    };
    drop(turn);
    let offer = Rc::new(Offer::new(opened?));
    if !order.card.is_alive() {
        withdraw(worker, &offer);
        return Err("the session has ended".to_owned());
    }
    order.card.offer.replace(Some(offer.clone()));
    let outcome = wait_for_session(worker, order, &offer).await;
    order.card.offer.replace(None);
    withdraw(worker, &offer);
    outcome
}

/// Calls the session, again when it has been silent for long enough, and waits until it has moved or could not.
async fn wait_for_session(worker: &Rc<Worker>, order: &Move, offer: &Offer) -> Outcome {
    let silence = worker.migration().idle;
    let patience = Instant::now() + order.patience;
    loop {
        let now = Instant::now();
        let silent_at = order.card.silent_since(now).map_or(now + silence, |since| since + silence);
        let at_once = silent_at <= now;
        if !offer.is_taken() {
            let silent_after = at_once.then(|| order.card.commands.get());
            order.card.call(&worker.reactor, Call::Move { silent_after });
        }
        let again = if at_once { now + silence } else { silent_at };
        if let Some(outcome) = worker.reactor.until(again.min(patience), offer.settled()).await {
            return outcome;
        }
        if !offer.is_taken() && Instant::now() >= patience {
            order.card.call.set(Call::None);
            worker.counters.moves.held_back.add(1);
            order.held_back.set(true);
            return Err(order.card.hold().map_or("it was never silent", Hold::why).to_owned());
        }
    }
}

/// Closes a leg that nobody took.
fn withdraw(worker: &Worker, offer: &Offer) {
    if let Some(candidate) = offer.take() {
        leave(&worker.reactor, candidate.leg);
    }
}

fn conclude(worker: &Rc<Worker>, order: &Move, outcome: Outcome) {
    let card = &order.card;
    card.leaving.set(None);
    match &outcome {
        Ok(pause) => {
            worker.counters.moves.done.add(1);
            worker.counters.moves.pauses.add(u64::try_from(pause.as_micros()).unwrap_or(u64::MAX));
            card.moves.set(card.moves.get() + 1);
            card.failures.set(0);
            card.last_move.replace(None);
            card.moved_at.set(Some(Instant::now()));
        }
        // It has not stayed either.
        Err(_) if !card.is_alive() => {}
        Err(why) => {
            if !order.held_back.get() {
                worker.counters.moves.failed.add(1);
            }
            debug!(session = card.id.0, to = &*order.to.id, "a session stays: {why}");
            let migration = worker.migration();
            let rest = migration.back_off * 2u32.saturating_pow(card.failures.get().min(16));
            card.failures.set(card.failures.get() + 1);
            card.last_move.replace(Some(why.as_str().into()));
            card.rests_until.set(Some(Instant::now() + rest.min(migration.back_off_max)));
        }
    }
    let said = outcome.map(|pause| format!("moved to {} in {} us", order.to.id, pause.as_micros()));
    answer(worker, order.ticket, said);
}

pub(super) fn answer(worker: &Worker, ticket: Option<u64>, outcome: Result<String, String>) {
    if let Some(ticket) = ticket {
        worker.report(Event::Answered { ticket, outcome });
    }
}

/// Opens a leg for a session that has logged in before, and has the CN track it.
pub(super) async fn open(
    worker: &Rc<Worker>,
    passport: &Passport,
    proof: Proof,
    cn: Arc<Cn>,
) -> Result<Candidate, String> {
    let seat = worker.seats.take(cn.slot);
    let limits = worker.login_limits().ok_or("the worker has no picture yet")?;
    let login =
        CnLogin::new(&passport.login, passport.identity.cn_user(cn.flavour), Credential::Proof(proof))
            .tracked(true);
    let Approached { mut leg, mut auth, mut answer } =
        approach(&worker.reactor, &limits, &cn, login).await.map_err(|passed| {
            if let Some(failure) = passed.failure {
                worker.report_failure(cn.slot, failure);
            }
            passed.refusal.to_string()
        })?;
    let status = loop {
        let packet = match auth.from_cn(&answer) {
            Ok(CnStep::Seated { status, .. }) => break Status(status),
            Ok(CnStep::Refused { err, .. }) => return Err(said(&err)),
            Ok(CnStep::ToCn(packet)) => Some(packet),
            Ok(CnStep::Wait) => None,
            Ok(CnStep::ToClient { .. }) => {
                abandon(&worker.reactor, leg);
                return Err(format!("CN {} asks its user, who cannot be asked any more", cn.id));
            }
            Err(cause) => {
                abandon(&worker.reactor, leg);
                return Err(cause.to_string());
            }
        };
        let asked = async {
            if let Some(packet) = &packet {
                leg.write(packet).await?;
            }
            leg.read().await
        };
        let answered = worker.reactor.until(Instant::now() + limits.cn_timeout, asked).await;
        answer = answered.ok_or("the login took too long")?.map_err(|cause| cause.to_string())?;
    };
    let capabilities = auth.capabilities;
    let asked = tracking::script();
    if let Err(cause) = converse(worker, &leg.socket, asked, capabilities).await {
        return Err(format!("CN {} does not track sessions: {cause}", cn.id));
    }
    Ok(Candidate { cn, leg, seat, capabilities, status })
}

/// The words of an ERR.
fn said(err: &[u8]) -> String {
    match ErrPacket::read(err) {
        Ok(err) => format!("{} ({})", String::from_utf8_lossy(err.message), err.code),
        Err(cause) => cause.to_string(),
    }
}

/// Why a conversation with a CN came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum TalkError {
    /// Nobody knows what is still under way on that leg.
    #[error("{0}")]
    Broken(String),
    /// Every answer came, and one was wrong.
    #[error("{0}")]
    Wrong(String),
}

/// Sends a script in one burst and takes all its answers.
pub(super) async fn converse(
    worker: &Worker,
    socket: &Socket,
    script: Script,
    capabilities: Capabilities,
) -> Result<Results, TalkError> {
    let mut bytes = Vec::new();
    script.write(&mut bytes);
    let mut answers = script.answers(capabilities);
    let talk = async {
        std::future::poll_fn(|cx| socket.poll_sent(cx)).await.map_err(broken)?;
        // Not waited for: the CN may not take all of it before its answers are read.
        socket.start_send(bytes);
        let mut reader = PacketReader::new(ANSWER_MAX);
        loop {
            match socket.received().await {
                Received::Data => {}
                Received::End => return Err(TalkError::Broken("it closed the connection".to_owned())),
                Received::Broken(errno) => return Err(broken(errno)),
            }
            let mut heard = Vec::new();
            socket.read_into(&mut heard, usize::MAX);
            reader.push(&heard);
            reader.expect_any();
            while let Some(packet) = reader.take().map_err(|cause| TalkError::Broken(cause.to_string()))? {
                reader.expect_any();
                if answers.packet(&packet).map_err(|cause| TalkError::Broken(cause.to_string()))? {
                    return Ok(());
                }
            }
        }
    };
    let limit = worker.migration().restore_timeout;
    let talked = worker.reactor.until(Instant::now() + limit, talk).await;
    talked.unwrap_or_else(|| Err(TalkError::Broken(format!("no answer within {limit:?}"))))?;
    answers.finish().map_err(|cause| TalkError::Wrong(cause.to_string()))
}

fn broken(errno: i32) -> TalkError {
    TalkError::Broken(std::io::Error::from_raw_os_error(errno).to_string())
}

/// Why a session could not be carried over.
#[derive(Debug, thiserror::Error)]
pub(super) enum CarryError {
    #[error("{0}")]
    Held(Hold),
    #[error("the CN where it is: {0}")]
    Old(TalkError),
    #[error("the CN where it should go: {0}")]
    New(TalkError),
    #[error("the CN where it should go speaks differently")]
    Differs,
}

/// Makes the candidate's leg the same session as that on `old`, which is none where the old CN is lost. The dialog then goes on with it.
pub(super) async fn carry_over(
    worker: &Worker,
    dialog: &mut Dialog,
    old: Option<&Socket>,
    candidate: &Candidate,
) -> Result<(), CarryError> {
    let spoken = dialog.watched().map(|watched| watched.cn);
    if spoken != Some(candidate.capabilities) {
        return Err(CarryError::Differs);
    }
    let capabilities = candidate.capabilities;
    let mut quiet = dialog.quiet().map_err(CarryError::Held)?;
    let asked = match (old, restore::questions(quiet.state())) {
        (Some(old), Some(questions)) => {
            Some(converse(worker, old, questions, capabilities).await.map_err(CarryError::Old)?)
        }
        _ => None,
    };
    let script = restore::restore(quiet.state(), asked).map_err(CarryError::Held)?;
    let mut status = candidate.status;
    if !script.is_empty() {
        let results =
            converse(worker, &candidate.leg.socket, script, capabilities).await.map_err(CarryError::New)?;
        status = results.status;
        let settled = restore::settle(quiet.state_mut(), results);
        settled.map_err(|cause| CarryError::New(TalkError::Wrong(cause.to_string())))?;
    }
    quiet.settle(status);
    Ok(())
}

/// Says goodbye on a leg that a session has left.
pub(super) fn part(worker: &Worker, socket: Socket) {
    leave(&worker.reactor, Leg::new(socket));
}
