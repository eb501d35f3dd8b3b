//! The live sessions of one worker, as far as others may look at them.
//!
//! A session keeps its own card up to date and takes it out when it ends, however it ends.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::ident::{SessionId, WorkerId};
use crate::mailbox::message::SessionRow;
use crate::net::Peer;
use crate::session::dialog::Dialog;
use crate::session::login::Standing;
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

/// One session's card.
#[derive(Debug)]
pub struct Card {
    pub id: SessionId,
    pub since: Instant,
    pub client: Peer,
    pub bearer: RefCell<Bearer>,
    /// Whether the bearer can be logged in again; unknown until a CN has let it in.
    pub standing: RefCell<Standing>,
    pub cn: RefCell<Option<Arc<str>>>,
    pub activity: Cell<Activity>,
    pub commands: Cell<u64>,
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
        let card = Rc::new(Card {
            id,
            since: now,
            client,
            bearer: RefCell::default(),
            standing: RefCell::default(),
            cn: RefCell::default(),
            activity: Cell::default(),
            commands: Cell::new(0),
        });
        cards.insert(id, card.clone());
        Entry { roster: self.clone(), card }
    }

    pub fn is_empty(&self) -> bool {
        self.cards.borrow().is_empty()
    }

    /// Every session as a row. `users` are those that are known now.
    pub fn rows(&self, users: &Users, now: Instant) -> Vec<SessionRow> {
        self.cards.borrow().values().map(|card| card.row(self.worker, users, now)).collect()
    }
}

impl Card {
    /// Whether corelane can log its user in again by itself.
    pub fn is_known(&self, users: &Users) -> bool {
        let bearer = self.bearer.borrow();
        self.standing.borrow_mut().proof(users.hashes(&bearer.user)).is_some()
    }

    fn login(&self, users: &Users) -> &'static str {
        match self.activity.get() {
            Activity::Login => "",
            _ if self.is_known(users) => "known",
            _ => "relay",
        }
    }

    fn row(&self, worker: WorkerId, users: &Users, now: Instant) -> SessionRow {
        let bearer = self.bearer.borrow();
        SessionRow {
            id: self.id,
            worker,
            client: self.client.to_string(),
            user: bearer.user.to_string(),
            tenant: bearer.tenant.to_string(),
            labels: bearer.labels.to_string(),
            cn: self.cn.borrow().clone(),
            state: self.activity.get().name(),
            login: self.login(users),
            commands: self.commands.get(),
            hold: None,
            moves: 0,
            last_move: None,
            age_s: now.saturating_duration_since(self.since).as_secs(),
        }
    }
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
        let users = Users::default();
        assert_eq!(roster.rows(&users, now).len(), 2);
        drop(first);
        let rows = roster.rows(&users, now);
        assert_eq!((&*rows[0].client, rows[0].login), ("127.0.0.1:2", ""));
        drop(second);
        assert!(roster.is_empty());
    }
}
