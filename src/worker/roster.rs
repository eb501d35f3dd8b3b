//! The live sessions of one worker, as far as others may look at them.
//!
//! A session keeps its own card up to date and takes it out when it ends, however it ends.
//!
//! A session that goes to another worker takes its id along, with a [`Claim`] to it: as long as that lives, wherever it
//! is, the worker that gave the id does not give it again.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::book::Places;
use super::login::Passport;
use super::offer::{Offer, Rehearsal, Stays};
use super::stock::Stock;
use crate::ident::{CnSlot, IdBlock, IdRange, SessionId, WorkerId};
use crate::mailbox::message::{CensusRow, SessionRow};
use crate::metrics::TimedOut;
use crate::net::{Origin, Peer};
use crate::reactor::Reactor;
use crate::route::{Cn, Group};
use crate::session::dialog::Dialog;
use crate::session::hold::Hold;
use crate::session::login::{Credential, Inspection, Standing};
use crate::session::script::Script;
use crate::session::user::Users;

/// Ids of sessions abroad that are kept without a look at whether those still live.
const SWEEP_MIN: usize = 64;

/// What a session is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activity {
    #[default]
    Login,
    Idle,
    Busy,
    /// Nobody can tell, as its dialog can no longer be followed.
    Opaque,
    /// Idle inside a transaction.
    Transaction,
}

impl Activity {
    #[inline]
    pub fn of(dialog: &Dialog) -> Self {
        if dialog.opaque().is_some() {
            Self::Opaque
        } else if !dialog.idle() {
            Self::Busy
        } else if dialog.in_transaction() {
            Self::Transaction
        } else {
            Self::Idle
        }
    }

    fn is_busy(self) -> bool {
        matches!(self, Self::Busy | Self::Opaque)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Idle => "idle",
            Self::Busy | Self::Opaque => "busy",
            Self::Transaction => "transaction",
        }
    }
}

/// Who a session turned out to be.
#[derive(Clone, Debug, Default)]
pub struct Bearer {
    pub user: Box<str>,
    pub tenant: Box<str>,
    pub labels: Box<str>,
}

/// What somebody wants of a session, to be done at its next quiet moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Call {
    #[default]
    None,
    /// To tell what it would have restored now: the card holds the question.
    Rehearse,
    /// The card holds an offer of another CN. `silent_after`: without waiting for the client's next command, as long as it has
    /// sent no more than these.
    Move { silent_after: Option<u64> },
    /// To the worker that the card names.
    HandOver,
    /// To end, as this took too long; not if it has had more commands than these.
    TimeOut { over: TimedOut, commands: u64 },
    /// To end, as its CN shall have no sessions any more; not if it has left that CN meanwhile.
    Evict { from: CnSlot },
    /// To end.
    Kill,
}

impl Call {
    /// A call takes the place of one of no higher rank.
    fn rank(self) -> u8 {
        match self {
            Self::None | Self::Rehearse | Self::Move { .. } | Self::HandOver => 0,
            Self::TimeOut { .. } | Self::Evict { .. } => 1,
            Self::Kill => 2,
        }
    }

    pub fn is_to_end(self) -> bool {
        self.rank() > 0
    }
}

/// One session's card: what it shows of itself, and where it is called.
#[derive(Debug)]
pub struct Card {
    pub id: SessionId,
    pub since: Instant,
    /// As a load balancer has told, where one has.
    pub origin: Cell<Origin>,
    pub bearer: RefCell<Bearer>,
    /// Whether the bearer can be logged in again; unknown until a CN has let it in.
    pub standing: RefCell<Standing>,
    /// The CN that serves it; none while it is logging in.
    pub cn: RefCell<Option<Arc<Cn>>>,
    /// That CN's own id of the connection.
    pub cn_connection: Cell<u32>,
    /// Those to which the same CNs are open; none while it is logging in.
    pub group: RefCell<Option<Arc<Group>>>,
    activity: Cell<Activity>,
    hold: Cell<Option<Hold>>,
    /// What its last move has found out of its CNs that keeps it where it is.
    pub barred: Cell<Option<Hold>>,
    pub commands: Cell<u64>,
    /// As it was when somebody last looked: its commands, whether it was busy, and since when both were known to be so.
    seen: Cell<Option<(u64, bool, Instant)>>,
    /// Its CN was told to stop the statement that it had under way: its commands then, and when.
    pub halted: Cell<Option<(u64, Instant)>>,
    pub call: Cell<Call>,
    /// The CN that it shall move to, from the order on to the end of it.
    pub leaving: Cell<Option<CnSlot>>,
    pub rehearsal: RefCell<Option<Rc<Rehearsal>>>,
    pub offer: RefCell<Option<Rc<Offer>>>,
    pub hand_to: Cell<WorkerId>,
    /// Why it was called to end, where it was not by an operator's KILL.
    pub evicted: RefCell<Arc<str>>,
    pub moves: Cell<u32>,
    pub moved_at: Cell<Option<Instant>>,
    /// Before then it is left alone, as its last move came to nothing.
    pub rests_until: Cell<Option<Instant>>,
    /// Moves in a row that came to nothing.
    pub failures: Cell<u32>,
    pub last_move: RefCell<Option<Box<str>>>,
    /// About how many commands a restore would take.
    cost: Cell<u32>,
    /// Who logs in again, with what the standing has for a proof; none where the session can never move, unless it left a proof at once.
    pub passport: RefCell<Option<Arc<Passport>>>,
    /// Where it is counted, from when on it is.
    pub places: RefCell<Places>,
    /// None for a session that lives where it got its id.
    claim: RefCell<Option<Claim>>,
    /// Its task; none before it relays, and after.
    waker: RefCell<Option<Waker>>,
}

/// A session's right to its id while it lives abroad.
#[derive(Clone, Debug, Default)]
pub struct Claim(Arc<()>);

/// What a card says of a session whichever worker it lives at.
#[derive(Debug)]
pub struct Facts {
    id: SessionId,
    claim: Claim,
    since: Instant,
    origin: Origin,
    bearer: Bearer,
    standing: Standing,
    cn: Option<Arc<Cn>>,
    cn_connection: u32,
    group: Option<Arc<Group>>,
    commands: u64,
    seen: Option<(u64, bool, Instant)>,
    moves: u32,
    moved_at: Option<Instant>,
    rests_until: Option<Instant>,
    failures: u32,
    last_move: Option<Box<str>>,
    cost: u32,
    passport: Option<Arc<Passport>>,
    places: Places,
}

impl Card {
    fn new(id: SessionId, origin: Origin, since: Instant) -> Self {
        Self {
            id,
            since,
            origin: Cell::new(origin),
            bearer: RefCell::default(),
            standing: RefCell::default(),
            cn: RefCell::default(),
            cn_connection: Cell::default(),
            group: RefCell::default(),
            activity: Cell::default(),
            hold: Cell::new(Some(Hold::Login)),
            barred: Cell::default(),
            commands: Cell::new(0),
            seen: Cell::default(),
            halted: Cell::default(),
            call: Cell::default(),
            leaving: Cell::default(),
            rehearsal: RefCell::default(),
            offer: RefCell::default(),
            hand_to: Cell::new(WorkerId(0)),
            evicted: RefCell::new("".into()),
            moves: Cell::new(0),
            moved_at: Cell::default(),
            rests_until: Cell::default(),
            failures: Cell::new(0),
            last_move: RefCell::default(),
            cost: Cell::new(0),
            passport: RefCell::default(),
            places: RefCell::default(),
            claim: RefCell::default(),
            waker: RefCell::default(),
        }
    }

    fn facts(&self, claim: Claim) -> Facts {
        Facts {
            id: self.id,
            claim,
            since: self.since,
            origin: self.origin.get(),
            bearer: self.bearer.borrow().clone(),
            standing: self.standing.borrow().clone(),
            cn: self.cn.borrow().clone(),
            cn_connection: self.cn_connection.get(),
            group: self.group.borrow().clone(),
            commands: self.commands.get(),
            seen: self.seen.get(),
            moves: self.moves.get(),
            moved_at: self.moved_at.get(),
            rests_until: self.rests_until.get(),
            failures: self.failures.get(),
            last_move: self.last_move.borrow().clone(),
            cost: self.cost.get(),
            passport: self.passport.borrow().clone(),
            places: self.places.take(),
        }
    }

    fn of(facts: Facts) -> Self {
        Self {
            bearer: RefCell::new(facts.bearer),
            standing: RefCell::new(facts.standing),
            cn: RefCell::new(facts.cn),
            cn_connection: Cell::new(facts.cn_connection),
            group: RefCell::new(facts.group),
            commands: Cell::new(facts.commands),
            seen: Cell::new(facts.seen),
            moves: Cell::new(facts.moves),
            moved_at: Cell::new(facts.moved_at),
            rests_until: Cell::new(facts.rests_until),
            failures: Cell::new(facts.failures),
            last_move: RefCell::new(facts.last_move),
            cost: Cell::new(facts.cost),
            passport: RefCell::new(facts.passport),
            places: RefCell::new(facts.places),
            claim: RefCell::new(Some(facts.claim)),
            ..Self::new(facts.id, facts.origin, facts.since)
        }
    }

    /// Where its client is.
    pub fn client(&self) -> Peer {
        self.origin.get().client
    }

    #[inline]
    pub fn show(&self, dialog: &Dialog) {
        self.activity.set(Activity::of(dialog));
        self.hold.set(dialog.hold());
        self.cost.set(dialog.cost());
    }

    /// Why it may not move now. Without a proof it cannot at any time.
    pub fn hold(&self) -> Option<Hold> {
        let unproven = !matches!(&*self.standing.borrow(), Standing::Proven(_) | Standing::Replayed(_));
        let stays = || unproven.then_some(Hold::RelayLogin).or(self.barred.get());
        self.hold.get().or_else(stays)
    }

    /// Looks whether `users` know by now whom the session belongs to.
    pub fn prove(&self, users: &Users) {
        let _ = self.standing.borrow_mut().proof(users.hashes(&self.bearer.borrow().user));
    }

    /// Looks at the password that its CN took, by the hashes of its user, if that is all that is missing.
    pub fn inspect(&self, users: &Users) -> Option<Inspection> {
        let hashes = users.hashes(&self.bearer.borrow().user)?;
        self.standing.borrow().inspect(hashes)
    }

    /// Whether it is still the user's who logs in by this passport.
    pub fn is_still(&self, passport: &Arc<Passport>) -> bool {
        self.passport.borrow().as_ref().is_some_and(|own| Arc::ptr_eq(own, passport))
    }

    /// What logs it in again; none where nothing does.
    pub fn credential(&self) -> Option<Credential> {
        self.standing.borrow().credential()
    }

    pub fn activity(&self) -> Activity {
        self.activity.get()
    }

    pub fn is_idle(&self) -> bool {
        self.activity.get() == Activity::Idle
    }

    /// The slot of its CN.
    pub fn slot(&self) -> Option<CnSlot> {
        self.cn.borrow().as_ref().map(|cn| cn.slot)
    }

    /// Whose task to wake when it is called.
    pub fn listen(&self, waker: &Waker) {
        self.waker.replace(Some(waker.clone()));
    }

    /// Whether its session relays.
    pub fn is_alive(&self) -> bool {
        self.waker.borrow().is_some()
    }

    /// The session has ended, or lives elsewhere from now on: nobody is called any more.
    pub fn retire(&self, reactor: &Reactor) {
        self.waker.replace(None);
        drop(self.places.take());
        self.tell_rehearsal(reactor, None);
        if let Some(offer) = self.offer.take() {
            offer.settle(reactor, Err(Stays::ended()));
        }
    }

    /// Answers what the session would have restored now, if that was asked.
    pub fn tell_rehearsal(&self, reactor: &Reactor, script: Option<Script>) {
        if let Some(rehearsal) = self.rehearsal.take() {
            rehearsal.tell(reactor, script);
        }
    }

    /// Since when it is known to have been silent, by this look and those before; none while it is busy. The session itself
    /// reads no clock.
    pub fn silent_since(&self, now: Instant) -> Option<Instant> {
        let since = self.stretch(now);
        (!self.activity.get().is_busy()).then_some(since)
    }

    /// Since when it is known to do what it does, by this look and those before: to be silent, or to be busy with one command.
    pub fn stretch(&self, now: Instant) -> Instant {
        let (commands, busy) = (self.commands.get(), self.activity.get().is_busy());
        let known = self.seen.get().filter(|(before, was, _)| (*before, *was) == (commands, busy));
        let since = known.map_or(now, |(_, _, since)| since);
        self.seen.set(Some((commands, busy, since)));
        since
    }

    /// Calls the session, unless it has been called to end.
    pub fn call(&self, reactor: &Reactor, call: Call) {
        if call.rank() >= self.call.get().rank() {
            self.call.set(call);
        }
        if let Some(waker) = &*self.waker.borrow() {
            reactor.wake(waker);
        }
    }

    /// Takes a call back that is no longer meant; not one to end.
    pub fn call_off(&self) {
        if !self.call.get().is_to_end() {
            self.call.set(Call::None);
        }
    }

    /// Whether it has moved within `dwell`.
    pub fn dwells(&self, now: Instant, dwell: Duration) -> bool {
        self.moved_at.get().is_some_and(|at| now < at + dwell)
    }

    /// Whether it may be ordered to move, though something may hold it for the moment.
    pub fn is_movable(&self, now: Instant) -> bool {
        let settled = self.hold().is_some_and(Hold::is_lasting);
        let rests = self.rests_until.get().is_some_and(|until| now < until);
        !settled && !rests && self.leaving.get().is_none() && self.call.get() == Call::None
    }
}

/// The cards of one worker.
#[derive(Debug)]
pub struct Roster {
    worker: WorkerId,
    ids: IdRange,
    stock: RefCell<Stock>,
    cards: RefCell<HashMap<SessionId, Rc<Card>>>,
    count: Cell<u32>,
    abroad: RefCell<Abroad>,
}

/// Ids of this worker whose sessions went to others; some may have ended there.
#[derive(Debug, Default)]
struct Abroad {
    claims: HashMap<SessionId, Weak<()>>,
    /// At so many those that have ended are swept out.
    sweep_at: usize,
}

impl Abroad {
    fn add(&mut self, id: SessionId, claim: &Claim) {
        if self.claims.len() >= self.sweep_at {
            self.claims.retain(|_, claim| claim.strong_count() > 0);
            self.sweep_at = 2 * self.claims.len() + SWEEP_MIN;
        }
        self.claims.insert(id, Arc::downgrade(&claim.0));
    }

    fn has(&self, id: SessionId) -> bool {
        self.claims.get(&id).is_some_and(|claim| claim.strong_count() > 0)
    }
}

impl Roster {
    /// `count` is where it begins to give ids: another place than the process before it, whose sessions may live on at their CNs.
    pub fn new(worker: WorkerId, ids: IdRange, count: u32) -> Self {
        Self {
            worker,
            ids,
            stock: RefCell::default(),
            cards: RefCell::default(),
            count: Cell::new(count),
            abroad: RefCell::default(),
        }
    }

    /// Lays in ids that the cluster has given.
    pub fn stock_up(&self, block: IdBlock) {
        self.stock.borrow_mut().add(block);
    }

    /// Whether the cluster's ids run out; if so, `ask` tells somebody, unless it cannot.
    pub fn ask_for_ids(&self, ask: impl FnOnce() -> bool) {
        if self.stock.borrow().runs_low() && ask() {
            self.stock.borrow_mut().mark_asked();
        }
    }

    /// Whether an id is one that this process gives by itself. CNs count theirs from 1 on.
    pub fn may_have(&self, id: u32) -> bool {
        self.ids.contains(id)
    }

    /// An id that no session has: one of the cluster's, while there are any.
    pub fn spare_id(&self) -> SessionId {
        loop {
            let id = self.stock.borrow_mut().take().unwrap_or_else(|| {
                self.count.set(self.count.get().wrapping_add(1));
                self.ids.id(self.worker, self.count.get())
            });
            let taken = self.cards.borrow().contains_key(&id) || self.abroad.borrow().has(id);
            if id != SessionId::NOBODY && !taken {
                return id;
            }
        }
    }

    /// Gives a new session its id and card; the card is taken out when the entry is dropped.
    pub fn enter(self: &Rc<Self>, origin: Origin, now: Instant) -> Entry {
        let id = self.spare_id();
        let card = Rc::new(Card::new(id, origin, now));
        self.cards.borrow_mut().insert(id, card.clone());
        Entry { roster: self.clone(), card }
    }

    /// What a session takes along to another worker. Its card stays until its entry is dropped.
    pub fn send_off(&self, card: &Card) -> Facts {
        let claim = card.claim.borrow().clone().unwrap_or_else(|| {
            let claim = Claim::default();
            self.abroad.borrow_mut().add(card.id, &claim);
            claim
        });
        card.facts(claim)
    }

    /// Takes in a session from another worker, with the id that it has.
    pub fn adopt(self: &Rc<Self>, facts: Facts) -> Entry {
        let card = Rc::new(Card::of(facts));
        // It comes home.
        if self.abroad.borrow_mut().claims.remove(&card.id).is_some() {
            card.claim.replace(None);
        }
        self.cards.borrow_mut().insert(card.id, card.clone());
        Entry { roster: self.clone(), card }
    }

    /// Up to `count` sessions that could go to the worker `to`, those that are about to already counted: idle ones
    /// first. None that somebody wants something else of.
    pub fn emigrants(&self, to: WorkerId, count: u32) -> Vec<Rc<Card>> {
        let leaving = |card: &Card| card.call.get() == Call::HandOver && card.hand_to.get() == to;
        let leaving = self.cards(leaving).len();
        let free = |card: &Card| card.call.get() == Call::None && card.leaving.get().is_none();
        let mut cards = self.cards(|card| card.is_alive() && free(card));
        cards.sort_by_key(|card| !card.is_idle());
        cards.truncate((count as usize).saturating_sub(leaving));
        cards
    }

    pub fn card(&self, id: SessionId) -> Option<Rc<Card>> {
        self.cards.borrow().get(&id).cloned()
    }

    /// Every card that `fits`.
    pub fn cards(&self, fits: impl Fn(&Card) -> bool) -> Vec<Rc<Card>> {
        self.cards.borrow().values().filter(|card| fits(card)).cloned().collect()
    }

    /// The sessions that could move, by group and CN: in each lot those first that nothing holds at the moment, that are cheap to
    /// move, and whose last move is long ago.
    pub fn movable(&self, now: Instant) -> HashMap<(Arc<Group>, CnSlot), Vec<Rc<Card>>> {
        let mut lots: HashMap<_, Vec<Rc<Card>>> = HashMap::new();
        for card in self.cards(|card| card.is_movable(now)) {
            if let (Some(group), Some(cn)) = (card.group.borrow().clone(), card.slot()) {
                lots.entry((group, cn)).or_default().push(card.clone());
            }
        }
        for cards in lots.values_mut() {
            cards.sort_by_key(|card| (card.hold().is_some(), card.cost.get(), card.moved_at.get()));
        }
        lots
    }

    /// How many sessions of which group are where, and how many of them are on their way. It looks, too, which are silent.
    pub fn census(&self, now: Instant, dwell: Duration) -> Vec<CensusRow> {
        let mut rows: BTreeMap<(Arc<Group>, CnSlot), CensusRow> = BTreeMap::new();
        for card in self.cards.borrow().values() {
            let (Some(group), Some(cn)) = (&*card.group.borrow(), card.slot()) else { continue };
            let row = row_of(&mut rows, group, cn);
            row.sessions += 1;
            let _ = card.silent_since(now);
            let movable = card.is_movable(now);
            row.movable += u32::from(movable);
            row.dwelling += u32::from(movable && card.dwells(now, dwell));
            row.leaving += u32::from(card.leaving.get().is_some());
            if let Some(to) = card.leaving.get() {
                row_of(&mut rows, group, to).arriving += 1;
            }
        }
        rows.into_values().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.cards.borrow().is_empty()
    }

    /// Looks at every session again, as other `users` are known now.
    pub fn prove(&self, users: &Users) {
        self.cards.borrow().values().for_each(|card| card.prove(users));
    }

    /// Every session as a row.
    pub fn rows(&self, now: Instant) -> Vec<SessionRow> {
        self.cards.borrow().values().map(|card| card.row(self.worker, now)).collect()
    }
}

impl Card {
    fn login(&self) -> &'static str {
        match (self.activity.get(), &*self.standing.borrow()) {
            (Activity::Login, _) => "",
            (_, Standing::Proven(_)) => "known",
            (_, Standing::Replayed(_)) => "replayed",
            (_, Standing::Unknown | Standing::Witnessed(_)) => "relay",
        }
    }

    fn row(&self, worker: WorkerId, now: Instant) -> SessionRow {
        let bearer = self.bearer.borrow();
        SessionRow {
            id: self.id,
            worker,
            client: self.client().to_string(),
            user: bearer.user.to_string(),
            tenant: bearer.tenant.to_string(),
            labels: bearer.labels.to_string(),
            cn: self.cn.borrow().as_ref().map(|cn| cn.id.clone()),
            state: self.activity.get().name(),
            login: self.login(),
            commands: self.commands.get(),
            hold: self.hold(),
            moves: self.moves.get(),
            last_move: self.last_move.borrow().clone(),
            age_s: now.saturating_duration_since(self.since).as_secs(),
        }
    }
}

fn row_of<'r>(
    rows: &'r mut BTreeMap<(Arc<Group>, CnSlot), CensusRow>,
    group: &Arc<Group>,
    cn: CnSlot,
) -> &'r mut CensusRow {
    rows.entry((group.clone(), cn)).or_insert_with(|| CensusRow {
        group: group.clone(),
        cn,
        sessions: 0,
        movable: 0,
        dwelling: 0,
        leaving: 0,
        arriving: 0,
    })
}

/// A session's place in the roster.
#[derive(Debug)]
pub struct Entry {
    roster: Rc<Roster>,
    card: Rc<Card>,
}

impl Entry {
    pub fn card(&self) -> &Rc<Card> {
        &self.card
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.roster.cards.borrow_mut().remove(&self.card.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: Origin = Origin { client: Peer::Unix, called: None };

    #[test]
    fn a_card_is_there_as_long_as_its_entry() {
        let roster = Rc::new(Roster::new(WorkerId(2), IdRange::default(), 0));
        let now = Instant::now();
        let first = roster.enter(LOCAL, now);
        let second =
            roster.enter(Origin { client: Peer::Tcp(([127, 0, 0, 1], 2).into()), called: None }, now);
        assert_ne!(first.card().id, second.card().id);
        assert_eq!(roster.rows(now).len(), 2);
        drop(first);
        let rows = roster.rows(now);
        assert_eq!((&*rows[0].client, rows[0].login), ("127.0.0.1:2", ""));
        drop(second);
        assert!(roster.is_empty());
    }

    #[test]
    fn silence_is_known_from_one_look_to_the_next() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let card = Card::new(SessionId(1), LOCAL, now);
        card.activity.set(Activity::Idle);
        assert_eq!(card.silent_since(now), Some(now));
        assert_eq!(card.silent_since(now + second), Some(now));
        card.commands.set(1);
        card.activity.set(Activity::Busy);
        assert_eq!(card.silent_since(now + 2 * second), None, "a statement runs");
        assert_eq!(card.stretch(now + 3 * second), now + 2 * second, "it still does");
        card.activity.set(Activity::Idle);
        assert_eq!(card.silent_since(now + 3 * second), Some(now + 3 * second), "it may have ended just now");
        card.commands.set(2);
        assert_eq!(card.silent_since(now + 4 * second), Some(now + 4 * second));
        assert_eq!(card.silent_since(now + 5 * second), Some(now + 4 * second));
    }

    #[test]
    fn an_id_abroad_is_given_again_only_when_its_session_has_ended() {
        let now = Instant::now();
        let home = Rc::new(Roster::new(WorkerId(0), IdRange::default(), 0));
        let abroad = Rc::new(Roster::new(WorkerId(1), IdRange::default(), 0));
        let born = home.enter(LOCAL, now);
        let id = born.card().id;
        born.card().commands.set(7);
        let facts = home.send_off(born.card());
        drop(born);
        let guest = abroad.adopt(facts);
        assert_eq!((guest.card().id, guest.card().commands.get()), (id, 7));
        let again = |roster: &Rc<Roster>| {
            roster.count.set(0);
            roster.enter(LOCAL, now).card().id
        };
        assert_ne!(again(&home), id, "it lives abroad");
        let facts = abroad.send_off(guest.card());
        drop(guest);
        let returned = home.adopt(facts);
        assert_eq!(home.abroad.borrow().claims.len(), 0);
        assert_ne!(again(&home), id, "it lives here again");
        let facts = home.send_off(returned.card());
        drop(returned);
        drop(abroad.adopt(facts));
        assert_eq!(again(&home), id, "it has ended abroad");
    }

    #[test]
    fn ids_abroad_are_swept() {
        let mut abroad = Abroad::default();
        let kept = Claim::default();
        for count in 0..100_000 {
            let gone = Claim::default();
            let claim = if count % 10_000 == 0 { &kept } else { &gone };
            abroad.add(IdRange::default().id(WorkerId(0), count), claim);
        }
        assert!(abroad.claims.len() < 2 * 10 + 2 * SWEEP_MIN);
        assert!(abroad.has(IdRange::default().id(WorkerId(0), 90_000)));
    }
}
