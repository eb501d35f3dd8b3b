//! Sessions that go from one worker to another, so that workers which accept unevenly come to be even.
//!
//! The life of a handover:
//!
//! 1. The coordinator orders it, and [`give`] calls the sessions that shall go, idle ones first.
//! 2. Each one's relay pauses at its next idle moment, with nothing being sent; its tunnel takes both legs off the ring and
//!    packs them with what nobody has read yet, the dialog and what its card says: the [`Luggage`].
//! 3. [`depart`] strikes it from this worker's books and gives it to the coordinator, who passes it on.
//! 4. There [`adopt`] enters it into the books and goes on where it stopped. Neither peer can tell.
//!
//! Which worker gives how many to which is for the coordinator to say.
//!
//! Invariants: the session is in exactly one place: a tunnel here, the luggage, or a tunnel there. If the coordinator cannot
//! take it, it is unpacked where it was. Whoever drops the luggage closes the session, and its counts with it.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, error};

use super::forward::Flow;
use super::roster::{Call, Card, Facts};
use super::{SessionGuard, Worker, tunnel};
use crate::ident::WorkerId;
use crate::mailbox::message::{Event, Parcel};
use crate::metrics::Transit;
use crate::reactor::{Layer, Socket};
use crate::route::Cn;
use crate::session::dialog::Dialog;
use crate::session::login::Spoken;
use crate::wire::capability::Capabilities;
use crate::wire::greeting::SALT;

/// A session that was called to go and is not idle once within this time stays.
const HANDOVER_PATIENCE: Duration = Duration::from_millis(500);
/// Sessions that one order sends off at most. Each is two descriptors of the process until it has arrived.
const HANDOVERS_MAX: u32 = 256;

/// All that a session is, apart from its card.
pub(super) struct Luggage {
    pub client: PackedLeg,
    pub cn_leg: PackedLeg,
    pub cn: Arc<Cn>,
    pub capabilities: Capabilities,
    pub spoken: Spoken,
    pub salt: [u8; SALT],
    pub dialog: Dialog,
    pub flow: Flow,
    pub transit: Transit,
}

/// A connection, what was received of it but not read, and its TLS.
pub(super) struct PackedLeg {
    fd: OwnedFd,
    unread: Vec<u8>,
    layer: Option<Box<dyn Layer>>,
}

impl PackedLeg {
    /// `fd` is what detaching the socket gave.
    pub fn pack(fd: OwnedFd, socket: Socket) -> Self {
        let (unread, layer) = socket.into_unread();
        Self { fd, unread, layer }
    }

    pub fn unpack(self, worker: &Worker) -> Socket {
        Socket::adopt_with(&worker.reactor, self.fd, self.unread, self.layer)
    }
}

/// What lies in a parcel.
struct Traveller {
    facts: Facts,
    luggage: Box<Luggage>,
}

const _: () = {
    const fn may_change_threads<T: Send>() {}
    may_change_threads::<Traveller>();
};

/// Calls up to `count` sessions to go to the worker `to`, and calls off those that do not come to it in time.
pub(super) fn give(worker: &Rc<Worker>, to: WorkerId, count: u32) {
    if worker.is_stopping() || to == worker.id {
        return;
    }
    let called = worker.roster.emigrants(to, count.min(HANDOVERS_MAX));
    for card in &called {
        card.hand_to.set(to);
        card.call(&worker.reactor, Call::HandOver);
    }
    let host = worker.clone();
    worker.reactor.spawn(async move {
        host.reactor.until(Instant::now() + HANDOVER_PATIENCE, host.finished.raised()).await;
        for card in called.iter().filter(|card| card.call.get() == Call::HandOver) {
            card.call_off();
        }
    });
}

/// Whether nothing speaks against it that a session leaves now: it is not about to move to another CN either, and will
/// not have to end with this worker.
pub(super) fn may_leave(worker: &Worker, card: &Card) -> bool {
    card.leaving.get().is_none() && !worker.is_stopping()
}

/// Sends a session off. If nobody takes it, it goes on here.
pub(super) fn depart(session: SessionGuard, luggage: Box<Luggage>) {
    let (worker, id) = (session.worker.clone(), session.card().id);
    let to = session.card().hand_to.get();
    let facts = worker.roster.send_off(session.card());
    drop(session);
    let parcel = Parcel(Box::new(Traveller { facts, luggage }));
    match worker.try_report(Event::HandedOver { to, parcel }) {
        Err(Event::HandedOver { parcel, .. }) => {
            worker.counters.reports_dropped.add(1);
            debug!(session = id.0, "it stays: the coordinator has no room for it");
            unpack(&worker, parcel);
        }
        _ => worker.counters.handed_over.add(1),
    }
}

/// Takes in a session from another worker. The limit of sessions is not for it: it was let in long ago.
pub(super) fn adopt(worker: &Rc<Worker>, parcel: Parcel) {
    worker.counters.adopted.add(1);
    unpack(worker, parcel);
}

fn unpack(worker: &Rc<Worker>, parcel: Parcel) {
    let Ok(traveller) = parcel.0.downcast::<Traveller>() else {
        error!(worker = worker.id.0, "a parcel with no session in it");
        return;
    };
    let Traveller { facts, luggage } = *traveller;
    let session = SessionGuard::adopt(worker, facts);
    if let Some(picture) = &*worker.picture.borrow() {
        session.card().prove(&picture.users);
    }
    worker.host(tunnel::resume(session, luggage));
}
