//! One session from accept to close.
//!
//! 1. [`serve`] gives it an id, a card in the roster and a place among the sessions, or refuses it.
//! 2. [`login`](super::login) greets the client, routes it by its labels and logs it in to a CN.
//! 3. [`Relay`] forwards until one side ends it; that is where a session spends its life.
//! 4. [`Parting`] tells the client why, if it does not know yet: when the CN was lost, or corelane stops.
//!
//! The login is boxed and gone before the relay begins, so an idle session holds two sockets, the dialog
//! and its card, and no buffer.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tracing::debug;

use super::forward::{Ending, Relay};
use super::leg::Leg;
use super::login::{self, Seated};
use super::roster::Card;
use super::{SessionGuard, Worker};
use crate::mailbox::message::CnFailure;
use crate::reactor::{Received, Socket};
use crate::route::Cn;
use crate::session::dialog::Dialog;
use crate::session::refusal::Refusal;
use crate::wire::capability::Capabilities;
use crate::wire::frame;

/// How long a closing session waits for its last bytes to leave, and for the client to close.
const LINGER: Duration = Duration::from_secs(1);

/// A client's connection, to its end.
pub(super) async fn serve(worker: &Rc<Worker>, fd: OwnedFd) {
    let session = SessionGuard::begin(worker, &fd);
    let client = Leg::new(Socket::adopt(&worker.reactor, fd));
    if worker.sessions_everywhere() > u64::from(worker.max_sessions) {
        worker.counters.refused.add(1);
        refuse(worker, client, &Refusal::TooManySessions.packet(Capabilities::default())).await;
        return;
    }
    let Some((client, seated)) = Box::pin(login::log_in(worker, session.card(), client)).await else {
        worker.counters.refused.add(1);
        return;
    };
    worker.counters.logins.add(1);
    relay(worker, session.card(), client, seated).await;
}

async fn relay(worker: &Rc<Worker>, card: &Card, client: Leg, seated: Seated) {
    let Seated { cn, cn_socket, seat, capabilities, status } = seated;
    let dialog = Dialog::new(capabilities, status);
    let mut relay = Relay::new(worker, card, &client.socket, &cn_socket, dialog);
    let ending = relay.run().await;
    let dialog = relay.dialog;
    debug!(session = card.id.0, cn = &*cn.id, ?ending, "session ends");
    drop(cn_socket);
    let parting = Parting { worker, client: &client.socket, capabilities };
    match ending {
        Ending::Quit | Ending::ClientGone => parting.flush().await,
        Ending::CnClosed | Ending::CnBroken(_) => {
            worker.report_failure(cn.slot, CnFailure::Lost);
            drop(seat);
            card.cn.replace(None);
            parting.cn_lost(&dialog, &cn, ending).await;
        }
        Ending::ShutDown => parting.tell(&dialog, &Refusal::ShuttingDown).await,
    }
}

/// Sends the one ERR of a session that never began, and closes.
pub(super) async fn refuse(worker: &Worker, mut client: Leg, err: &[u8]) {
    let until = Instant::now() + LINGER;
    let sent = worker.reactor.until(until, client.write(err)).await;
    if matches!(sent, Some(Ok(()))) {
        hang_up(worker, &client.socket, until).await;
    }
}

/// Closes so that the client reads what was sent last: a socket that is closed with unread bytes is reset,
/// and a reset may overtake them.
async fn hang_up(worker: &Worker, client: &Socket, until: Instant) {
    client.shutdown_write();
    let drained = async {
        while client.received().await == Received::Data {
            client.discard();
        }
    };
    worker.reactor.until(until, drained).await;
}

/// The end of a session, as far as the client is to be told.
struct Parting<'a> {
    worker: &'a Worker,
    client: &'a Socket,
    capabilities: Capabilities,
}

impl Parting<'_> {
    /// Lets the last bytes for the client leave.
    async fn flush(&self) {
        let sent = std::future::poll_fn(|cx| self.client.poll_sent(cx));
        self.worker.reactor.until(Instant::now() + LINGER, sent).await;
    }

    /// The CN is gone: tells the client, whether it waits for a reply or is idle. Servers do so too when they
    /// end an idle session, with an ERR that is numbered 0, and drivers know it.
    async fn cn_lost(&self, dialog: &Dialog, cn: &Cn, ending: Ending) {
        if dialog.farewell() {
            return self.flush().await;
        }
        let cause = match ending {
            Ending::CnBroken(errno) => std::io::Error::from_raw_os_error(errno).to_string(),
            _ => "it closed the connection".to_owned(),
        };
        let during = if dialog.current().is_some() { "a statement" } else { "an idle moment" };
        let (id, address) = (cn.id.to_string(), cn.address.to_string());
        self.tell(dialog, &Refusal::CnLost { cn: id, address, cause, during }).await;
    }

    /// Sends one ERR between two packets, and closes. In the middle of one, or where nobody knows where the
    /// stream stands, there is no place for it: then the session only closes.
    async fn tell(&self, dialog: &Dialog, refusal: &Refusal) {
        self.flush().await;
        let seq = if dialog.current().is_some() { dialog.cn_boundary() } else { Some(0) };
        let Some(mut seq) = seq.filter(|_| dialog.opaque().is_none()) else { return };
        let until = Instant::now() + LINGER;
        let mut bytes = Vec::new();
        frame::write_packet(&mut bytes, &mut seq, &refusal.packet(self.capabilities));
        let sent = self.worker.reactor.until(until, self.client.send(bytes)).await;
        if matches!(sent, Some(Ok(()))) {
            hang_up(self.worker, self.client, until).await;
        }
    }
}
