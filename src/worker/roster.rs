//! The live sessions of one worker, as far as others may look at them.
//!
//! A session keeps its own card up to date and takes it out when it ends, however it ends.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::login::Passport;
use super::offer::Offer;
use crate::ident::{CnSlot, SessionId, WorkerId};
use crate::mailbox::message::{CensusRow, SessionRow};
use crate::net::Peer;
use crate::reactor::Reactor;
use crate::route::{Cn, Group};
use crate::session::dialog::Dialog;
use crate::session::hold::Hold;
use crate::session::login::{Proof, Standing};
use crate::session::user::Users;

/// What a session is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activity {
    #[default]
    Login,
    Idle,
    Busy,
    /// Idle inside a transaction.
    Transaction,
}

impl Activity {
    #[inline]
    pub fn of(dialog: &Dialog) -> Self {
        if !dialog.idle() {
            Self::Busy
        } else if dialog.in_transaction() {
            Self::Transaction
        } else {
            Self::Idle
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Idle => "idle",
            Self::Busy => "busy",
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
    /// The card holds an offer of another CN. `at_once`: without waiting for the client's next command.
    Move {
        at_once: bool,
    },
    /// To the worker that the card names.
    HandOver,
    Kill,
}

/// One session's card: what it shows of itself, and where it is called.
#[derive(Debug)]
pub struct Card {
    pub id: SessionId,
    pub since: Instant,
    pub client: Peer,
    pub bearer: RefCell<Bearer>,
    /// Whether the bearer can be logged in again; unknown until a CN has let it in.
    pub standing: RefCell<Standing>,
    /// The CN that serves it; none while it is logging in.
    pub cn: RefCell<Option<Arc<Cn>>>,
    /// Those to which the same CNs are open; none while it is logging in.
    pub group: RefCell<Option<Arc<Group>>>,
    activity: Cell<Activity>,
    hold: Cell<Option<Hold>>,
    pub commands: Cell<u64>,
    pub call: Cell<Call>,
    /// The CN that it shall move to, from the order on to the end of it.
    pub leaving: Cell<Option<CnSlot>>,
    pub offer: RefCell<Option<Rc<Offer>>>,
    pub hand_to: Cell<WorkerId>,
    /// Why an operator ended it.
    pub killed: RefCell<Option<Arc<str>>>,
    pub moves: Cell<u32>,
    pub moved_at: Cell<Option<Instant>>,
    /// Before then it is left alone, as its last move came to nothing.
    pub rests_until: Cell<Option<Instant>>,
    /// Moves in a row that came to nothing.
    pub failures: Cell<u32>,
    pub last_move: RefCell<Option<Box<str>>>,
    /// Commands that a restore would take.
    pub cost: Cell<u32>,
    /// Who logs in again, with what the standing has for a proof; none where the session can never move.
    pub passport: RefCell<Option<Arc<Passport>>>,
    /// Its task; none before it relays, and after.
    waker: RefCell<Option<Waker>>,
}

impl Card {
    fn new(id: SessionId, client: Peer, since: Instant) -> Self {
        Self {
            id,
            since,
            client,
            bearer: RefCell::default(),
            standing: RefCell::default(),
            cn: RefCell::default(),
            group: RefCell::default(),
            activity: Cell::default(),
            hold: Cell::new(Some(Hold::Login)),
            commands: Cell::new(0),
            call: Cell::default(),
            leaving: Cell::default(),
            offer: RefCell::default(),
            hand_to: Cell::new(WorkerId(0)),
            killed: RefCell::default(),
            moves: Cell::new(0),
            moved_at: Cell::default(),
            rests_until: Cell::default(),
            failures: Cell::new(0),
            last_move: RefCell::default(),
            cost: Cell::new(0),
            passport: RefCell::default(),
            waker: RefCell::default(),
        }
    }

    #[inline]
    pub fn show(&self, activity: Activity, hold: Option<Hold>) {
        self.activity.set(activity);
        self.hold.set(hold);
    }

    /// Why it may not move now. Without a proof it cannot at any time.
    pub fn hold(&self) -> Option<Hold> {
        let unproven = !matches!(&*self.standing.borrow(), Standing::Proven(_));
        self.hold.get().or_else(|| unproven.then_some(Hold::RelayLogin))
    }

    /// Looks whether `users` know by now whom the session belongs to.
    pub fn prove(&self, users: &Users) {
        let _ = self.standing.borrow_mut().proof(users.hashes(&self.bearer.borrow().user));
    }

    /// What logs it in again; none where nothing does.
    pub fn proof(&self) -> Option<Proof> {
        match &*self.standing.borrow() {
            Standing::Proven(proof) => Some(proof.clone()),
            Standing::Unknown | Standing::Witnessed(_) => None,
        }
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
        if let Some(offer) = self.offer.take() {
            offer.settle(reactor, Err("the session has ended".to_owned()));
        }
    }

    /// Calls the session.
    pub fn call(&self, reactor: &Reactor, call: Call) {
        self.call.set(call);
        if let Some(waker) = &*self.waker.borrow() {
            reactor.wake(waker);
        }
    }

    /// Whether it has moved within `dwell`.
    fn dwells(&self, now: Instant, dwell: Duration) -> bool {
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
    cards: RefCell<HashMap<SessionId, Rc<Card>>>,
    count: Cell<u32>,
}

impl Roster {
    pub fn new(worker: WorkerId) -> Self {
        Self { worker, cards: RefCell::default(), count: Cell::new(0) }
    }

    /// Gives a new session its id and card; the card is taken out when the entry is dropped.
    pub fn enter(self: &Rc<Self>, client: Peer, now: Instant) -> Entry {
        let mut cards = self.cards.borrow_mut();
        let id = loop {
            self.count.set(self.count.get().wrapping_add(1));
            let id = SessionId::new(self.worker, self.count.get());
            if !cards.contains_key(&id) {
                break id;
            }
        };
        let card = Rc::new(Card::new(id, client, now));
        cards.insert(id, card.clone());
        Entry { roster: self.clone(), card }
    }

    /// Takes in a session that another worker has given its id.
    pub fn adopt(self: &Rc<Self>, id: SessionId, client: Peer, since: Instant) -> Entry {
        let card = Rc::new(Card::new(id, client, since));
        self.cards.borrow_mut().insert(id, card.clone());
        Entry { roster: self.clone(), card }
    }

    pub fn card(&self, id: SessionId) -> Option<Rc<Card>> {
        self.cards.borrow().get(&id).cloned()
    }

    /// Every card that `fits`.
    pub fn cards(&self, fits: impl Fn(&Card) -> bool) -> Vec<Rc<Card>> {
        self.cards.borrow().values().filter(|card| fits(card)).cloned().collect()
    }

    /// Up to `count` sessions of a group that could move and have not moved within `dwell`: those first whose last move is
    /// long ago and that are cheap to move.
    pub fn choose(
        &self,
        group: &Group,
        from: CnSlot,
        count: u32,
        now: Instant,
        dwell: Duration,
    ) -> Vec<Rc<Card>> {
        let here = |card: &Card| card.slot() == Some(from) && card.group.borrow().as_deref() == Some(group);
        let may = |card: &Card| card.is_movable(now) && !card.dwells(now, dwell);
        let mut cards = self.cards(|card| here(card) && may(card));
        cards.sort_by_key(|card| (card.moved_at.get(), card.hold().is_some(), card.cost.get()));
        cards.truncate(count as usize);
        cards
    }

    /// How many sessions of which group are where, and how many of them are on their way.
    pub fn census(&self, now: Instant, dwell: Duration) -> Vec<CensusRow> {
        let mut rows: BTreeMap<(Arc<Group>, CnSlot), CensusRow> = BTreeMap::new();
        for card in self.cards.borrow().values() {
            let (Some(group), Some(cn)) = (&*card.group.borrow(), card.slot()) else { continue };
            let row = row_of(&mut rows, group, cn);
            row.sessions += 1;
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
            (_, Standing::Unknown | Standing::Witnessed(_)) => "relay",
        }
    }

    fn row(&self, worker: WorkerId, now: Instant) -> SessionRow {
        let bearer = self.bearer.borrow();
        SessionRow {
            id: self.id,
            worker,
            client: self.client.to_string(),
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

    #[test]
    fn a_card_is_there_as_long_as_its_entry() {
        let roster = Rc::new(Roster::new(WorkerId(2)));
        let now = Instant::now();
        let first = roster.enter(Peer::Unix, now);
        let second = roster.enter(Peer::Tcp(([127, 0, 0, 1], 2).into()), now);
        assert_ne!(first.card().id, second.card().id);
        assert_eq!(roster.rows(now).len(), 2);
        drop(first);
        let rows = roster.rows(now);
        assert_eq!((&*rows[0].client, rows[0].login), ("127.0.0.1:2", ""));
        drop(second);
        assert!(roster.is_empty());
    }
}
