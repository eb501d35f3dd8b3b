//! What one worker asks or tells another about a session. The coordinator carries it and does not look inside.
//!
//! Only for what is rare: a KILL names a session by its id, and nobody but the worker where it lives knows where that is. A letter that
//! finds no room is lost, and so is one to a worker that has ended; who waits for an answer waits for [`SEEK_LIMIT`] at most. A session
//! that is just between two workers is not found.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::error;

use super::Worker;
use super::flag::Flag;
use super::halt::Whereabouts;
use super::roster::Call;
use crate::ident::{SessionId, WorkerId};
use crate::mailbox::message::{Event, Parcel};

/// How long the other workers may take to say whether they have a session.
const SEEK_LIMIT: Duration = Duration::from_secs(2);

enum Letter {
    /// To be answered by [`Letter::Here`].
    Where {
        ticket: u64,
        session: SessionId,
        asker: WorkerId,
    },
    Here {
        ticket: u64,
        found: Option<Whereabouts>,
    },
    /// To end, if it lives there.
    End {
        session: SessionId,
        why: Arc<str>,
    },
}

/// The sessions that this worker looks for.
#[derive(Default)]
pub(super) struct Seeks {
    last_ticket: Cell<u64>,
    open: RefCell<HashMap<u64, Rc<Seek>>>,
}

struct Seek {
    /// Workers that have not answered.
    silent: Cell<usize>,
    found: RefCell<Option<Whereabouts>>,
    over: Flag,
}

/// Where a session is, at whichever worker; none if nobody says.
pub(super) async fn seek(worker: &Worker, session: SessionId) -> Option<Whereabouts> {
    if let Some(card) = worker.roster.card(session) {
        return Whereabouts::of(&card);
    }
    let ticket = worker.seeks.last_ticket.get() + 1;
    worker.seeks.last_ticket.set(ticket);
    let others: Vec<_> = others(worker).collect();
    let seek =
        Rc::new(Seek { silent: Cell::new(others.len()), found: RefCell::default(), over: Flag::default() });
    worker.seeks.open.borrow_mut().insert(ticket, seek.clone());
    others.iter().for_each(|to| post(worker, *to, Letter::Where { ticket, session, asker: worker.id }));
    if !others.is_empty() {
        worker.reactor.until(Instant::now() + SEEK_LIMIT, seek.over.raised()).await;
    }
    worker.seeks.open.borrow_mut().remove(&ticket);
    seek.found.take()
}

/// Ends a session at whichever worker.
pub(super) fn end(worker: &Worker, session: SessionId, why: &str) {
    let why: Arc<str> = why.into();
    if !end_here(worker, session, &why) {
        others(worker).for_each(|to| post(worker, to, Letter::End { session, why: why.clone() }));
    }
}

/// Opens a letter of another worker's.
pub(super) fn receive(worker: &Worker, parcel: Parcel) {
    let Ok(letter) = parcel.0.downcast::<Letter>() else {
        return error!(worker = worker.id.0, "a parcel with no letter in it");
    };
    match *letter {
        Letter::Where { ticket, session, asker } => {
            let found = worker.roster.card(session).and_then(|card| Whereabouts::of(&card));
            post(worker, asker, Letter::Here { ticket, found });
        }
        Letter::Here { ticket, found } => {
            let Some(seek) = worker.seeks.open.borrow().get(&ticket).cloned() else { return };
            seek.silent.set(seek.silent.get().saturating_sub(1));
            let has = found.is_some();
            if has {
                seek.found.replace(found);
            }
            if has || seek.silent.get() == 0 {
                seek.over.raise(&worker.reactor);
            }
        }
        Letter::End { session, why } => {
            end_here(worker, session, &why);
        }
    }
}

fn end_here(worker: &Worker, session: SessionId, why: &Arc<str>) -> bool {
    let card = worker.roster.card(session);
    if let Some(card) = &card {
        card.evicted.replace(why.clone());
        card.call(&worker.reactor, Call::Kill);
    }
    card.is_some()
}

fn others(worker: &Worker) -> impl Iterator<Item = WorkerId> {
    let own = worker.id;
    (0..worker.all_counters.len()).map(|nth| WorkerId(nth as u16)).filter(move |id| *id != own)
}

fn post(worker: &Worker, to: WorkerId, letter: Letter) {
    worker.report(Event::Letter { to, parcel: Parcel(Box::new(letter)) });
}

const _: () = {
    const fn may_change_threads<T: Send>() {}
    may_change_threads::<Letter>();
};
