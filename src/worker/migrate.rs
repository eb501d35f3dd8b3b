//! Moves a session to another CN: the I/O half of it.
//!
//! The life of a move:
//!
//! 1. [`Movers::order`] takes it down, and [`open`] logs a fresh leg in at the other CN, a bounded number at a time, if what it
//!    was ordered for is still so. The session goes on meanwhile and knows nothing of it.
//! 2. [`rehearse`] has the leg go through the restore of the session as it is at that moment, in a transaction or not, as far as
//!    nothing has to be asked of the old CN for that.
//! 3. The leg is put on the session's card as an [`Offer`]. The session's relay takes it up at its first quiet moment, when its next
//!    command is here, or else after it has been silent for some time.
//! 4. [`carry_over`] asks the old CN for what only it knows, restores at the new one in one burst what the rehearsal has left, and
//!    checks every answer. A session that is not what was rehearsed stays, and gets a leg without a rehearsal. Then the tunnel puts
//!    the new leg in the old one's place.
//!
//! What has to be asked and restored, and whether the answers are right, is for [`crate::session::restore`] to say.
//!
//! Invariant: until the last answer was right the old leg is untouched, and a move that fails leaves the session there.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_lite::FutureExt;
use tracing::{debug, error};

use super::Worker;
use super::approach::leave;
use super::enter::{Asked, Entered, NotEntered, enter};
use super::flag::Flag;
use super::login::Passport;
use super::offer::{Candidate, Offer, Outcome, Rehearsal, Rehearsed, Stays};
use super::roster::{Call, Card};
use super::transfer::{Transfer, TransferError};
use crate::mailbox::message::Event;
use crate::reactor::{Received, Socket};
use crate::route::{Cn, Flavour, WorkState};
use crate::session::dialog::{Dialog, Quiet};
use crate::session::hold::Hold;
use crate::session::ledger::Ledger;
use crate::session::login::{CnLogin, Credential};
use crate::session::restore;
use crate::session::script::{Results, Script, ScriptError};
use crate::session::tracking;
use crate::wire::capability::Capabilities;
use crate::wire::frame::PacketReader;
use crate::wire::status::Status;

/// Moves that wait for their turn to open a leg; as many as a worker may have sessions, or more.
const ORDERS_MAX: usize = 1 << 17;
/// Legs that are logged in and wait for sessions, when another is opened for a session that is held at that moment. One that is
/// not held takes its leg soon, and is not counted against it.
const OFFERS_MAX: u32 = 256;
/// How long a session that is busy is waited for to tell what a rehearsal has to restore.
const REHEARSAL_LIMIT: Duration = Duration::from_millis(100);
/// For so long an answer proves that a CN is well; after that it is asked once more before a session goes there. A login trusts a
/// probe for as long.
const PROVEN_FOR: Duration = Duration::from_secs(1);
/// Bytes of the longest answer to a question of ours.
const ANSWER_MAX: usize = 16 << 20;
/// How long a CN that a session shall leave may take to answer before the session counts as lost with it. A move is given up
/// long before, but the answers must be taken, as the client's next one comes behind them.
const OLD_CN_LIMIT: Duration = Duration::from_secs(30);

/// Moves under way and waiting.
#[derive(Default)]
pub(super) struct Movers {
    /// Turns that are taken.
    openings: Cell<u32>,
    /// Sessions whose CN is lost, and moves that begin anew: they go before the others.
    first: RefCell<VecDeque<Weak<Place>>>,
    waiting: RefCell<VecDeque<Move>>,
    /// Those whose turn had come while they were held and too many offers waited.
    held: RefCell<VecDeque<Move>>,
    /// Legs that are being opened or wait for their sessions.
    offers: Cell<u32>,
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
    reason: Reason,
}

/// Why a session was told to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// An operator wants it, and to hear of it.
    Asked { ticket: u64 },
    /// Its CN is being drained.
    Drain,
    /// It belongs elsewhere, or its CN has too many.
    Balance,
}

impl Reason {
    fn ticket(self) -> Option<u64> {
        match self {
            Self::Asked { ticket } => Some(ticket),
            Self::Drain | Self::Balance => None,
        }
    }
}

impl Move {
    fn is_over(&self, worker: &Worker) -> Option<Stays> {
        is_over(worker, &self.card, &self.to, self.reason)
    }
}

/// Why a move is not worth while any more; none if it is.
pub(super) fn is_over(worker: &Worker, card: &Card, to: &Cn, reason: Reason) -> Option<Stays> {
    if !card.is_alive() {
        return Some(Stays::ended());
    }
    let called_off = |why: String| Some(Stays::CalledOff(why));
    if card.slot() == Some(to.slot) {
        return called_off(format!("it is on {} already", to.id));
    }
    if !worker.still_takes(to) {
        return called_off(format!("{} takes no sessions any more", to.id));
    }
    let view = worker.view();
    let from = card.slot().and_then(|slot| view.as_ref()?.cn(slot).cloned());
    if from.as_ref().is_some_and(|from| !from.shares_data(to)) {
        return called_off(format!("{} and its CN are one, or do not share their data", to.id));
    }
    if reason == Reason::Drain && from.is_some_and(|from| from.work == WorkState::Working) {
        return called_off("its CN is not being drained any more".to_owned());
    }
    None
}

impl Movers {
    /// Takes down that `card`'s session shall move.
    pub fn order(worker: &Rc<Worker>, card: Rc<Card>, to: Arc<Cn>, patience: Duration, reason: Reason) {
        let refused = card.hold().filter(|hold| hold.is_lasting()).map(|hold| hold.why().to_owned());
        let refused = refused.or_else(|| card.leaving.get().map(|_| "it is on its way already".to_owned()));
        let movers = &worker.movers;
        let full = movers.waiting.borrow().len() + movers.held.borrow().len() >= ORDERS_MAX;
        let refused = refused.or_else(|| full.then(|| format!("{ORDERS_MAX} moves wait already")));
        if let Some(why) = refused {
            return answer(worker, reason.ticket(), Err(why));
        }
        worker.counters.moves.ordered.add(1);
        card.leaving.set(Some(to.slot));
        worker.counters.moves.waiting.add(1);
        movers.waiting.borrow_mut().push_back(Move { card, to, patience, reason });
        Self::begin(worker);
    }

    /// The next order to be begun.
    fn next(&self) -> Option<Move> {
        let full = self.offers.get() >= OFFERS_MAX;
        let mut held = self.held.borrow_mut();
        while let Some(next) = self.waiting.borrow_mut().pop_front() {
            if !full || next.card.hold().is_none() {
                return Some(next);
            }
            held.push_back(next);
        }
        if full { None } else { held.pop_front() }
    }

    /// Begins as many moves as may be begun.
    fn begin(worker: &Rc<Worker>) {
        let movers = &worker.movers;
        while movers.openings.get() < worker.migration().at_once {
            let first = movers.first.borrow_mut().pop_front();
            if let Some(place) = first {
                if let Some(place) = place.upgrade() {
                    place.turn.replace(Some(Turn::take(worker)));
                    place.called.raise(&worker.reactor);
                }
                continue;
            }
            let Some(next) = movers.next() else { return };
            let (worker, turn) = (worker.clone(), Turn::take(worker));
            movers.offers.set(movers.offers.get() + 1);
            worker.counters.moves.waiting.sub(1);
            worker.counters.moves.under_way.add(1);
            worker.reactor.clone().spawn(async move {
                let conducted = AssertUnwindSafe(conduct(&worker, &next, turn)).catch_unwind().await;
                let outcome = conducted.unwrap_or_else(|_| {
                    worker.counters.panics.add(1);
                    error!(
                        worker = worker.id.0,
                        session = next.card.id.0,
                        "a move ended by a bug of corelane"
                    );
                    Err(Stays::Failed("a bug of corelane".to_owned()))
                });
                worker.movers.offers.set(worker.movers.offers.get() - 1);
                worker.counters.moves.under_way.sub(1);
                conclude(&worker, &next, outcome);
                Self::begin(&worker);
            });
        }
    }

    /// Waits for a turn to open a leg for a session whose CN is lost, or for a move that begins anew. An urgent one is the next to
    /// get it.
    pub async fn turn(worker: &Rc<Worker>, urgent: bool) -> Turn {
        let place = Rc::new(Place::default());
        let waiting = Rc::downgrade(&place);
        if urgent {
            worker.movers.first.borrow_mut().push_front(waiting);
        } else {
            worker.movers.first.borrow_mut().push_back(waiting);
        }
        Self::begin(worker);
        place.called.raised().await;
        let turn = place.turn.take();
        turn.expect("whoever is called has got a turn")
    }
}

/// A move from its turn to its end.
async fn conduct(worker: &Rc<Worker>, order: &Move, turn: Turn) -> Outcome {
    let until = Instant::now() + order.patience;
    let mut outcome = attempt(worker, order, turn, until, true).await;
    // Once for what was rehearsed, and as often as it becomes another user's meanwhile.
    while outcome == Err(Stays::Changed) && Instant::now() < until {
        let turn = Movers::turn(worker, false).await;
        outcome = attempt(worker, order, turn, until, false).await;
    }
    outcome
}

async fn attempt(
    worker: &Rc<Worker>,
    order: &Move,
    turn: Turn,
    until: Instant,
    with_rehearsal: bool,
) -> Outcome {
    if let Some(over) = order.is_over(worker) {
        return Err(over);
    }
    let transfer = open_transfer(worker, order).await?;
    let passport = order.card.passport.borrow().clone().zip(order.card.credential());
    let (passport, credential) = passport.ok_or_else(Stays::ended)?;
    let mut candidate =
        open(worker, &order.card, passport, credential, order.to.clone()).await.map_err(Stays::Failed)?;
    candidate.transfer = transfer;
    if with_rehearsal
        && candidate.transfer.is_none()
        && let Err(cause) = rehearse(worker, &order.card, &mut candidate).await
    {
        leave(&worker.reactor, candidate.socket);
        return Err(Stays::Failed(CarryError::New(cause).to_string()));
    }
    drop(turn);
    let offer = Rc::new(Offer::new(candidate, order.reason));
    if let Some(over) = order.is_over(worker) {
        withdraw(worker, &offer);
        return Err(over);
    }
    order.card.offer.replace(Some(offer.clone()));
    let outcome = wait_for_session(worker, order, &offer, until).await;
    order.card.offer.replace(None);
    withdraw(worker, &offer);
    outcome
}

/// Reaches the query services of a session's CNs, where these are MatrixOne's.
async fn open_transfer(worker: &Rc<Worker>, order: &Move) -> Result<Option<Transfer>, Stays> {
    let from = order.card.slot().and_then(|slot| worker.view()?.cn(slot).cloned());
    let Some(from) = from.filter(|from| from.flavour == Flavour::Matrixone) else { return Ok(None) };
    let opened = Transfer::open(worker, &from, &order.to).await;
    order.card.barred.set(opened.as_ref().err().and_then(|error| error.cause.hold()));
    opened.map(Some).map_err(|error| Stays::Failed(error.to_string()))
}

/// Restores the session on the leg as it is now, if it can tell.
async fn rehearse(worker: &Rc<Worker>, card: &Card, candidate: &mut Candidate) -> Result<(), TalkError> {
    let rehearsal = Rc::new(Rehearsal::default());
    card.rehearsal.replace(Some(rehearsal.clone()));
    card.call(&worker.reactor, Call::Rehearse);
    if !card.is_alive() {
        card.tell_rehearsal(&worker.reactor, None);
    }
    let told = worker.reactor.until(Instant::now() + REHEARSAL_LIMIT, rehearsal.told()).await;
    card.rehearsal.replace(None);
    card.call_off();
    let Some(script) = told.flatten() else { return Ok(()) };
    let limit = worker.migration().restore_timeout;
    let spoken = candidate.capabilities;
    let results = converse(worker, &candidate.socket, script.clone(), spoken, limit).await?;
    candidate.rehearsed = Rehearsed { script, results };
    candidate.answered_at = Instant::now();
    Ok(())
}

/// Calls the session, again when it has been silent for long enough, and waits until it has moved or could not, but no longer than
/// to an instant.
async fn wait_for_session(worker: &Rc<Worker>, order: &Move, offer: &Offer, patience: Instant) -> Outcome {
    let silence = worker.migration().idle;
    // One that has taken the offer will settle it.
    while !offer.is_taken() {
        let now = Instant::now();
        if patience <= now {
            order.card.call_off();
            let why = order.card.hold().map_or("it was never silent", Hold::why);
            return Err(Stays::Held(why));
        }
        let silent_at = order.card.silent_since(now).map_or(now + silence, |since| since + silence);
        let at_once = silent_at <= now;
        let silent_after = at_once.then(|| order.card.commands.get());
        order.card.call(&worker.reactor, Call::Move { silent_after });
        let again = if at_once { now + silence } else { silent_at };
        if let Some(outcome) = worker.reactor.until(again.min(patience), offer.settled()).await {
            return outcome;
        }
    }
    offer.settled().await
}

/// Closes a leg that nobody took.
fn withdraw(worker: &Worker, offer: &Offer) {
    if let Some(candidate) = offer.take() {
        leave(&worker.reactor, candidate.socket);
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
            debug!(session = card.id.0, to = &*order.to.id, "a session stays: {why}");
            card.last_move.replace(Some(why.to_string().into()));
            card.rests_until.set(rest(worker, card, why).map(|rest| Instant::now() + rest));
        }
    }
    let said = outcome.map(|pause| format!("moved to {} in {} us", order.to.id, pause.as_micros()));
    answer(worker, order.reason.ticket(), said.map_err(|why| why.to_string()));
}

/// How long a session is left alone that stays, and what is counted of it. What holds a session may end at any moment; what failed
/// may fail again.
fn rest(worker: &Worker, card: &Card, why: &Stays) -> Option<Duration> {
    let migration = worker.migration();
    match why {
        Stays::CalledOff(_) | Stays::Changed => None,
        Stays::Held(_) => {
            worker.counters.moves.held_back.add(1);
            Some(migration.back_off)
        }
        Stays::Failed(_) => {
            worker.counters.moves.failed.add(1);
            let rest = migration.back_off * 2u32.saturating_pow(card.failures.get().min(16));
            card.failures.set(card.failures.get() + 1);
            Some(rest.min(migration.back_off_max))
        }
    }
}

pub(super) fn answer(worker: &Worker, ticket: Option<u64>, outcome: Result<String, String>) {
    if let Some(ticket) = ticket {
        worker.report(Event::Answered { ticket, outcome });
    }
}

/// Opens a leg for a session that has logged in before, and has the CN track it.
pub(super) async fn open(
    worker: &Rc<Worker>,
    card: &Card,
    passport: Arc<Passport>,
    credential: Credential,
    cn: Arc<Cn>,
) -> Result<Candidate, String> {
    if cn.is_full(|slot| worker.tally.seats(slot)) {
        return Err(format!("CN {} has as many sessions as it may ([[cn]] max_sessions)", cn.id));
    }
    let seat = worker.seats.take(cn.slot);
    let tracked = cn.flavour == Flavour::Mysql;
    let user = passport.identity.cn_user(cn.flavour);
    let login = CnLogin::new(&passport.login, user, credential.clone()).tracked(tracked);
    let not_entered = |cause| match cause {
        NotEntered::Asks => format!("CN {} asks its user, who cannot be asked any more", cn.id),
        cause => cause.to_string(),
    };
    let entered = enter(worker, &cn, card.origin.get(), login).await;
    let Entered { socket, auth, mut status } = entered.map_err(not_entered)?;
    let (capabilities, connection_id, mariadb) = (auth.capabilities, auth.connection_id, auth.mariadb);
    if let (Some(charset), Credential::Proof(proof)) = (passport.changed, credential) {
        let login = (&passport.login, charset);
        let asked = Asked::ask(worker, &cn, &socket, auth.spoken(), login).await;
        (_, status) = asked.map_err(not_entered)?.prove(proof).await.map_err(not_entered)?;
    }
    let limit = worker.migration().restore_timeout;
    if tracked
        && let Err(cause) =
            converse(worker, &socket, tracking::script(auth.mariadb), capabilities, limit).await
    {
        leave(&worker.reactor, socket);
        return Err(format!("CN {} does not track sessions: {cause}", cn.id));
    }
    let (answered_at, rehearsed) = (Instant::now(), Rehearsed::default());
    let transfer = None;
    Ok(Candidate {
        cn,
        passport,
        socket,
        seat,
        capabilities,
        mariadb,
        connection_id,
        status,
        answered_at,
        rehearsed,
        transfer,
    })
}

/// Why a conversation with a CN came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum TalkError {
    /// Nobody knows what is still under way on that leg.
    #[error("{0}")]
    Broken(String),
    /// Every answer came, and one was wrong.
    #[error("{0}")]
    Wrong(ScriptError),
}

/// Sends a script in one burst and takes all its answers.
pub(super) async fn converse(
    worker: &Worker,
    socket: &Socket,
    script: Script,
    capabilities: Capabilities,
    limit: Duration,
) -> Result<Results, TalkError> {
    let mut bytes = Vec::new();
    script.write(&mut bytes, capabilities);
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
    let talked = worker.reactor.until(Instant::now() + limit, talk).await;
    talked.unwrap_or_else(|| Err(TalkError::Broken(format!("no answer within {limit:?}"))))?;
    answers.finish().map_err(TalkError::Wrong)
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
    #[error("{0}")]
    Transfer(#[from] TransferError),
    #[error("the CN where it should go has not entered the schema {0}")]
    Elsewhere(String),
    #[error("the CN where it should go speaks differently")]
    Differs,
    #[error("it has changed since the rehearsal")]
    Changed,
    #[error("the CN where it is took {0:?} to tell what only it knows")]
    Slow(Duration),
}

/// Makes the candidate's leg the same session as that on `old`, which is none where the old CN is lost. The dialog then goes on with it.
pub(super) async fn carry_over(
    worker: &Worker,
    dialog: &mut Dialog,
    old: Option<&Socket>,
    candidate: &mut Candidate,
) -> Result<(), CarryError> {
    if dialog.spoken() != Some(candidate.capabilities) {
        return Err(CarryError::Differs);
    }
    if let Some(ended) = ended(&candidate.socket).await {
        return Err(CarryError::New(ended));
    }
    let capabilities = candidate.capabilities;
    let limit = worker.migration().restore_timeout;
    let mut quiet = dialog.quiet().map_err(CarryError::Held)?;
    if quiet.ledger().is_some() {
        return transfer(worker, quiet, candidate, Instant::now() + limit).await;
    }
    let asked = match (old, restore::questions(quiet.state())) {
        (Some(old), Some(questions)) => {
            let began = Instant::now();
            let asked = converse(worker, old, questions, capabilities, OLD_CN_LIMIT).await;
            let asked = asked.map_err(CarryError::Old)?;
            if began.elapsed() > limit {
                return Err(CarryError::Slow(began.elapsed()));
            }
            Some(asked)
        }
        _ => None,
    };
    let script = restore::restore(quiet.state(), asked).map_err(CarryError::Held)?;
    let done = std::mem::take(&mut candidate.rehearsed);
    let rest = script.after(&done.script).ok_or(CarryError::Changed)?;
    let later = if rest.is_empty() {
        prove(worker, candidate, limit).await?;
        Results::default()
    } else {
        let restored = converse(worker, &candidate.socket, rest, capabilities, limit).await;
        restored.map_err(CarryError::New)?
    };
    let mut results = done.results.then(later);
    if std::mem::take(&mut results.warned) {
        let cleared = converse(worker, &candidate.socket, restore::clearing(), capabilities, limit).await;
        cleared.map_err(CarryError::New)?;
    }
    let status = results.status.unwrap_or(candidate.status);
    let settled = restore::settle(quiet.state_mut(), results);
    settled.map_err(|cause| CarryError::New(TalkError::Wrong(cause)))?;
    quiet.settle(status);
    Ok(())
}

/// The same for a session on a CN of MatrixOne's: that CN tells what the session has, and the new one takes it.
async fn transfer(
    worker: &Worker,
    quiet: Quiet<'_>,
    candidate: &mut Candidate,
    until: Instant,
) -> Result<(), CarryError> {
    let (Some(ledger), Some(mut transfer)) = (quiet.ledger(), candidate.transfer.take()) else {
        return Err(CarryError::Held(Hold::QueryService));
    };
    // For all steps together, as the client waits.
    let left = || until.saturating_duration_since(Instant::now());
    let connection_id = candidate.connection_id;
    let exported = transfer.export(worker, connection_id, left()).await?;
    let (socket, spoken) = (&candidate.socket, candidate.capabilities);
    for setting in ledger.settings() {
        converse(worker, socket, setting, spoken, left()).await.map_err(CarryError::New)?;
    }
    let import = ledger.import(exported, connection_id);
    let schema = import.schema.clone();
    transfer.import(worker, import, left()).await?;
    let asked = converse(worker, socket, Ledger::whereabouts(), spoken, left()).await;
    let answers = asked.map_err(CarryError::New)?;
    if !Ledger::is_in(&schema, &answers) {
        return Err(CarryError::Elsewhere(String::from_utf8_lossy(&schema).into_owned()));
    }
    let mut status = answers.status.unwrap_or(candidate.status);
    if status.has(Status::IN_TRANS) {
        let ended = converse(worker, socket, Ledger::ending(), spoken, left()).await;
        status = ended.map_err(CarryError::New)?.status.unwrap_or(status);
    }
    quiet.settle(status);
    Ok(())
}

/// Asks a CN that has not answered for some time whether it still does.
async fn prove(worker: &Worker, candidate: &Candidate, limit: Duration) -> Result<(), CarryError> {
    if candidate.answered_at.elapsed() > PROVEN_FOR {
        let (socket, spoken) = (&candidate.socket, candidate.capabilities);
        converse(worker, socket, restore::proof(), spoken, limit).await.map_err(CarryError::New)?;
    }
    Ok(())
}

/// How a leg that should be silent has ended while nobody used it.
async fn ended(socket: &Socket) -> Option<TalkError> {
    let heard = std::future::poll_fn(|cx| Poll::Ready(socket.poll_received(cx))).await;
    match heard {
        Poll::Pending => None,
        Poll::Ready(Received::Broken(errno)) => Some(broken(errno)),
        Poll::Ready(Received::Data | Received::End) => {
            Some(TalkError::Broken("it has closed the connection".to_owned()))
        }
    }
}
