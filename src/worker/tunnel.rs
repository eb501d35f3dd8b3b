//! One session from accept to close.
//!
//! 1. [`serve`] gives it an id, a card in the roster and a place among the sessions, or refuses it.
//! 2. [`login`] greets the client, routes it by its labels and logs it in to a CN.
//! 3. [`Relay`] forwards until one side ends it; that is where a session spends its life. It pauses where something has to be
//!    done between two packets: when the session moves to another CN ([`migrate`](super::migrate)), and when its CN
//!    has to track it again. When its CN dies while it is idle, it is opened anew at another one
//!    ([`refuge`](super::refuge)). And it may leave for another worker ([`handover`](super::handover)), where [`resume`] goes on with it.
//! 4. [`Parting`] tells the client why, if it does not know yet: when the CN was lost, or corelane stops.
//!
//! The login is boxed and gone before the relay begins, so an idle session holds two sockets, the dialog
//! and its card, and no buffer.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_lite::FutureExt;
use tracing::{debug, info};
use zeroize::Zeroizing;

use super::admission::{self, Newcomer};
use super::approach::leave;
use super::change::{self, Answers, Changing, Outcome};
use super::forward::{Ending, Flow, Relay, Step};
use super::halt::{Killer, stop_orphan};
use super::handover::{self, Luggage, PackedLeg};
use super::leg::Leg;
use super::login::{self, Seated};
use super::migrate::{CarryError, TalkError, carry_over, converse, is_over};
use super::offer::{Candidate, Stays};
use super::refuge::{Lost, Stranded};
use super::roster::{Call, Card};
use super::{SessionGuard, Worker, kill};
use crate::mailbox::message::{CnFailure, Picture};
use crate::metrics::{EndedBy, Refused, Seat, TimedOut, Transit};
use crate::net::compression::Compression;
use crate::net::{self, Origin, Peer, keepalive};
use crate::reactor::{Received, Socket};
use crate::route::{Cn, Flavour};
use crate::session;
use crate::session::dialog::Dialog;
use crate::session::login::Spoken;
use crate::session::refusal::Refusal;
use crate::session::tracking;
use crate::wire::capability::Capabilities;
use crate::wire::command::ChangedUser;
use crate::wire::frame;
use crate::wire::greeting::SALT;

/// How long a closing session waits for its last bytes to leave, and for the client to close.
const LINGER: Duration = Duration::from_secs(1);

/// A client's connection, to its end. `called` is the address that it was made to, where that is known.
pub(super) async fn serve(worker: &Rc<Worker>, fd: OwnedFd, called: Option<SocketAddr>) {
    let origin = Origin { client: net::peer(&fd), called };
    if origin.client != Peer::Unix {
        // A session that could not be watched is still one.
        let _ = keepalive::set(&fd, &worker.client_tcp());
    }
    let session = SessionGuard::begin(worker, origin);
    let client = Leg::new(Socket::adopt(&worker.reactor, fd));
    if worker.is_overfull() {
        worker.counters.refuse(Refused::Full);
        refuse(worker, client, &Refusal::TooManySessions.packet(Capabilities::default())).await;
        return;
    }
    let (client, seated) = match Box::pin(login::log_in(worker, session.card(), client)).await {
        Ok(logged_in) => logged_in,
        Err(why) => return worker.counters.refuse(why),
    };
    worker.counters.logins.add(1);
    let Seated { cn, cn_socket, seat, capabilities, spoken, salt, dialog } = seated;
    let flow = Flow::default();
    let tunnel = Box::new(Tunnel {
        worker,
        card: session.card(),
        client: client.socket,
        cn,
        cn_socket,
        seat,
        capabilities,
        spoken,
        salt,
        dialog,
        flow,
        newcomer: None,
    });
    if let Some(luggage) = tunnel.run().await {
        handover::depart(session, luggage);
    }
}

/// Goes on with a session that came from another worker.
pub(super) async fn resume(session: SessionGuard, luggage: Box<Luggage>) {
    let worker = &session.worker;
    let Luggage { client, cn_leg, cn, capabilities, spoken, salt, dialog, flow, transit } = *luggage;
    let tunnel = Box::new(Tunnel {
        worker,
        card: session.card(),
        client: client.unpack(worker),
        cn_socket: cn_leg.unpack(worker),
        seat: worker.seats.take(cn.slot),
        cn,
        capabilities,
        spoken,
        salt,
        dialog,
        flow,
        newcomer: None,
    });
    drop(transit);
    if let Some(luggage) = tunnel.run().await {
        handover::depart(session, luggage);
    }
}

/// How a tunnel is left.
enum Left {
    Ended(Ending),
    /// The session is to go on at another worker, by these descriptors.
    Detached {
        client: OwnedFd,
        cn: OwnedFd,
    },
}

/// Why a session has not moved.
enum Unmoved {
    Stays(Stays),
    Ends(Stays, Ending),
}

/// A session that is logged in.
struct Tunnel<'a> {
    worker: &'a Rc<Worker>,
    card: &'a Rc<Card>,
    client: Socket,
    cn: Arc<Cn>,
    cn_socket: Socket,
    seat: Seat,
    /// What the client and corelane speak.
    capabilities: Capabilities,
    spoken: Spoken,
    /// What the client was shown last.
    salt: [u8; SALT],
    dialog: Dialog,
    flow: Flow,
    /// Who the session is if the CN lets in the user whom the command under way names.
    newcomer: Option<Box<Newcomer>>,
}

impl Tunnel<'_> {
    /// To its end here, which is that of the session unless there is something to take along to another worker.
    ///
    /// The tunnel is boxed, as a future has room for every place that a value is moved to, and so is the parting.
    async fn run(mut self: Box<Self>) -> Option<Box<Luggage>> {
        match self.live().await {
            Left::Ended(ending) => {
                Box::pin(self.part(ending)).await;
                None
            }
            Left::Detached { client, cn } => Some(self.pack(client, cn)),
        }
    }

    /// Ends the session.
    async fn part(self: Box<Self>, ending: Ending) {
        self.card.retire(&self.worker.reactor);
        let Self { worker, card, client, cn, cn_socket, seat, capabilities, dialog, .. } = *self;
        let by_cn =
            matches!(ending, Ending::Quit | Ending::CnClosed | Ending::CnBroken(_) | Ending::Unreadable);
        if !by_cn && dialog.current().is_some() {
            stop_orphan(worker, card, cn.clone());
        }
        debug!(session = card.id.0, cn = &*cn.id, ?ending, "session ends");
        for (leg, socket) in [("client", &client), ("CN", &cn_socket)] {
            if let Some(failure) = socket.failure() {
                info!(
                    session = card.id.0,
                    cn = &*cn.id,
                    "the connection to the {leg} is of no use: {failure}"
                );
            }
        }
        worker.counters.ends.add(ended_by(ending));
        drop(cn_socket);
        let parting = Parting { worker, client: &client, capabilities };
        match ending {
            Ending::Quit | Ending::ClientGone | Ending::Told(_) => parting.flush().await,
            Ending::OneTooMany { of_user } => {
                let user = card.bearer.borrow().user.to_string();
                let of_user = of_user.map(|limit| Refusal::TooManyOfUser { user, limit });
                parting.tell(&dialog, &of_user.unwrap_or(Refusal::TooManySessions)).await;
            }
            Ending::CnClosed | Ending::CnBroken(_) | Ending::Unreadable => {
                drop(seat);
                card.cn.replace(None);
                parting.cn_lost(&dialog, &cn, ending).await;
            }
            Ending::Killed | Ending::Evicted => {
                let said = card.evicted.borrow().to_string();
                let why = if said.is_empty() { "by an operator".to_owned() } else { said };
                parting.tell(&dialog, &Refusal::Killed { why }).await;
            }
            Ending::Unanswerable => {
                parting.tell(&dialog, &Refusal::ValueLost { cn: cn.id.to_string() }).await;
            }
            Ending::TimedOut(over) => {
                // A statement was counted when its CN was told to stop it.
                if over != TimedOut::Query {
                    worker.counters.timeouts.add(over);
                }
                parting.tell(&dialog, &too_long(over)).await;
            }
            Ending::ShutDown => parting.tell(&dialog, &Refusal::ShuttingDown).await,
        }
    }

    /// Relays to the end, with the pauses that are asked for.
    async fn live(&mut self) -> Left {
        poll_fn(|cx| {
            self.card.listen(cx.waker());
            Poll::Ready(())
        })
        .await;
        loop {
            let mut relay = Relay {
                worker: self.worker,
                card: self.card,
                client: &self.client,
                cn: &self.cn_socket,
                dialog: &mut self.dialog,
                flow: &mut self.flow,
            };
            // What is done in a pause is boxed: it is rare, and a session that relays need not have room for it.
            let done = match relay.run().await {
                Step::End(ending @ (Ending::CnClosed | Ending::CnBroken(_))) => {
                    self.worker.report_failure(self.cn.slot, CnFailure::Lost);
                    Box::pin(self.reopen(ending)).await
                }
                Step::End(ending) => Err(ending),
                Step::Move => Box::pin(self.take_offer()).await,
                Step::Retrack => Box::pin(self.retrack()).await,
                Step::Concern { length } => Box::pin(self.concern(length)).await,
                Step::ChangedUser { let_in } => self.changed_user(let_in),
                Step::HandOver => match Box::pin(self.detach()).await {
                    Some(detached) => return detached,
                    None => Ok(()),
                },
            };
            if let Err(ending) = done {
                return Left::Ended(ending);
            }
        }
    }

    /// Takes both legs off the ring, to go to another worker. None if the session stays as it was: its legs cannot leave,
    /// or something else is wanted of it meanwhile.
    async fn detach(&self) -> Option<Left> {
        let detached =
            async { Ok::<_, std::io::Error>((self.client.detach().await?, self.cn_socket.detach().await?)) };
        let detached = detached.await;
        let wanted = self.card.call.get() == Call::HandOver;
        if wanted {
            self.card.call_off();
        }
        match detached {
            Ok((client, cn)) if wanted && handover::may_leave(self.worker, self.card) => {
                Some(Left::Detached { client, cn })
            }
            Ok(_) => None,
            Err(cause) => {
                debug!(session = self.card.id.0, "it cannot go to another worker: {cause}");
                None
            }
        }
    }

    /// All that the session is, by the new descriptors of its legs. Its seat here is given back.
    fn pack(self: Box<Self>, client: OwnedFd, cn_leg: OwnedFd) -> Box<Luggage> {
        Box::new(Luggage {
            client: PackedLeg::pack(client, self.client),
            cn_leg: PackedLeg::pack(cn_leg, self.cn_socket),
            transit: Transit::begin(&self.worker.tally, self.cn.slot),
            cn: self.cn,
            capabilities: self.capabilities,
            spoken: self.spoken,
            salt: self.salt,
            dialog: self.dialog,
            flow: self.flow,
        })
    }

    /// Moves to the CN that the card offers. A move that fails leaves the session where it is, unless its own CN failed.
    async fn take_offer(&mut self) -> Result<(), Ending> {
        self.card.call_off();
        let offer = self.card.offer.borrow().clone();
        let Some((offer, mut candidate)) = offer.and_then(|offer| Some((offer.clone(), offer.take()?)))
        else {
            return Ok(());
        };
        let began = Instant::now();
        let moved = match is_over(self.worker, self.card, &candidate.cn, offer.reason) {
            Some(over) => Err(Unmoved::Stays(over)),
            None if !self.card.is_still(&candidate.passport) => Err(Unmoved::Stays(Stays::Changed)),
            None => self.move_to(&mut candidate).await,
        };
        if moved.is_ok() {
            self.go_on_with(candidate);
        } else {
            leave(&self.worker.reactor, candidate.socket);
        }
        let (outcome, ending) = match moved {
            Ok(()) => (Ok(began.elapsed()), None),
            Err(Unmoved::Stays(why)) => (Err(why), None),
            Err(Unmoved::Ends(why, ending)) => (Err(why), Some(ending)),
        };
        offer.settle(&self.worker.reactor, outcome);
        ending.map_or(Ok(()), Err)
    }

    /// Makes the candidate's leg this session, unless the session has to end meanwhile.
    async fn move_to(&mut self, candidate: &mut Candidate) -> Result<(), Unmoved> {
        let ended = async {
            let ending = called_to_end(self.worker, self.card).await;
            Err(Unmoved::Ends(Stays::ended(), ending))
        };
        let carried = async {
            let carried = carry_over(self.worker, &mut self.dialog, Some(&self.cn_socket), candidate).await;
            if let Err(CarryError::Transfer(error)) = &carried {
                self.card.barred.set(error.cause.hold());
            }
            carried.map_err(|cause| match cause {
                CarryError::Changed => Unmoved::Stays(Stays::Changed),
                CarryError::Old(TalkError::Broken(_)) => {
                    Unmoved::Ends(Stays::Failed(cause.to_string()), Ending::CnBroken(libc::ECONNABORTED))
                }
                cause => Unmoved::Stays(Stays::Failed(cause.to_string())),
            })
        };
        ended.or(carried).await
    }

    /// Puts the candidate's leg in the place of the present one.
    fn go_on_with(&mut self, candidate: Candidate) {
        let Candidate { cn, socket, seat, capabilities, mariadb, connection_id, .. } = candidate;
        self.spoken = Spoken { capabilities, mariadb };
        if Compression::is_on(&socket) {
            self.dialog.pace();
        }
        leave(&self.worker.reactor, std::mem::replace(&mut self.cn_socket, socket));
        self.flow.change_cn();
        self.seat = seat;
        self.card.cn.replace(Some(cn.clone()));
        self.card.cn_connection.set(connection_id);
        self.cn = cn;
    }

    /// Has the CN track the session again, after COM_RESET_CONNECTION or what the client has set of its own tracking.
    async fn retrack(&mut self) -> Result<(), Ending> {
        let spoken = self.dialog.watched().map(|watched| watched.cn).unwrap_or_default();
        let limit = self.worker.migration().restore_timeout;
        let script =
            tracking::script(self.dialog.watched().is_some_and(|watched| watched.state.is_mariadb()));
        let asked = async { Ok(converse(self.worker, &self.cn_socket, script, spoken, limit).await) };
        let ended = async { Err(called_to_end(self.worker, self.card).await) };
        let asked = ended.or(asked).await?;
        if matches!(asked, Err(TalkError::Wrong(_))) && self.dialog.not_tracked() {
            return Ok(());
        }
        let learnt = asked
            .map_err(|cause| cause.to_string())
            .and_then(|asked| tracking::learn(asked).map_err(|cause| cause.to_string()));
        match learnt {
            Ok(beginning) => {
                self.dialog.tracked(&beginning);
                Ok(())
            }
            Err(cause) => {
                info!(
                    session = self.card.id.0,
                    cn = &*self.cn.id,
                    "it does not track a session again: {cause}"
                );
                Err(Ending::CnBroken(libc::EPROTO))
            }
        }
    }

    /// Looks at the client's next command, which may be a KILL or name another user.
    async fn concern(&mut self, length: usize) -> Result<(), Ending> {
        self.flow.take_concern();
        // It may have a password in it.
        let command = Zeroizing::new(self.client.peek(length));
        let user = command.get(frame::HEADER..).and_then(ChangedUser::read);
        let picture = self.worker.picture.borrow().clone();
        match (user, picture) {
            (Some(user), Some(picture)) if self.dialog.opaque().is_none() => {
                self.change_user(&command, user, &picture).await
            }
            _ => self.kill(length, &command).await,
        }
    }

    /// Takes a command that names another user to whom it is to judge.
    async fn change_user(
        &mut self,
        command: &[u8],
        user: ChangedUser<'_>,
        picture: &Picture,
    ) -> Result<(), Ending> {
        let (worker, card) = (self.worker, self.card);
        let newcomer = match admission::change(worker, picture, card, &self.client, &self.cn, user) {
            Ok(newcomer) => newcomer,
            Err(refusal) => {
                let client = card.client();
                info!(session = card.id.0, %client, "a change of its user is refused: {refusal}");
                let err = change::refused(&refusal, self.capabilities);
                self.client.send(err).await.map_err(|_| Ending::ClientGone)?;
                return Err(Ending::Told(EndedBy::Corelane));
            }
        };
        let changing = Changing {
            worker,
            card,
            client: &self.client,
            cn: &self.cn,
            cn_socket: &self.cn_socket,
            capabilities: self.capabilities,
            spoken: self.spoken,
            salt: &mut self.salt,
        };
        match changing.answers(command, user.name, picture) {
            Answers::Corelane => {
                take_command(worker, card, &self.client, command.len());
                let ended = async { Err(called_to_end(worker, card).await) };
                let changed = changing.run(&command[frame::HEADER..], newcomer, picture);
                match ended.or(changed).await? {
                    Outcome::Changed(dialog) => self.dialog = *dialog,
                    Outcome::Asked { question, newcomer } => {
                        self.newcomer = Some(Box::new(newcomer));
                        self.take_as_relayed(command, &question);
                    }
                    Outcome::Refused { err } => self.take_as_relayed(command, &err),
                }
            }
            Answers::NotYet(length) => self.flow.await_concern(length),
            Answers::Cn => {
                self.newcomer = Some(Box::new(newcomer));
                self.dialog.pass_concern();
            }
        }
        Ok(())
    }

    /// Goes on as if the command had been relayed, and what the CN says to it.
    fn take_as_relayed(&mut self, command: &[u8], said: &[u8]) {
        self.dialog.pass_concern();
        self.dialog.client_bytes(command);
        let mut answer = Vec::new();
        frame::write_packet(&mut answer, &mut 1, said);
        self.dialog.cn_bytes(&answer);
    }

    /// The CN has answered a COM_CHANGE_USER that it was to judge. Nobody knows how to log in the user whom it has let in.
    fn changed_user(&mut self, let_in: bool) -> Result<(), Ending> {
        let Some(newcomer) = self.newcomer.take().filter(|_| let_in) else { return Ok(()) };
        if self.cn.flavour == Flavour::Mysql {
            self.card.standing.take();
            self.card.passport.take();
        }
        admission::renamed(self.worker, self.card, &newcomer).map_err(|refusal| Ending::OneTooMany {
            of_user: if let Refusal::TooManyOfUser { limit, .. } = refusal { Some(limit) } else { None },
        })
    }

    /// Takes a command that may be a KILL to the CN that it concerns.
    async fn kill(&mut self, length: usize, command: &[u8]) -> Result<(), Ending> {
        let attributes = self.capabilities.has(Capabilities::QUERY_ATTRIBUTES);
        let kill = command.get(frame::HEADER..).and_then(|payload| session::kill::read(payload, attributes));
        let here = |target| self.cn.flavour == Flavour::Matrixone || self.worker.roster.may_have(target);
        let Some(kill) = kill.filter(|kill| self.dialog.opaque().is_none() && here(kill.target)) else {
            self.dialog.pass_concern();
            return Ok(());
        };
        take_command(self.worker, self.card, &self.client, length);
        let ended = async { Err(called_to_end(self.worker, self.card).await) };
        let status = self.dialog.status();
        let asked = async {
            let answer = match self.cn.flavour {
                Flavour::Matrixone => kill::kill(self.worker, self.card, &kill, status).await,
                Flavour::Mysql => self.killer().kill(&kill, status).await?,
            };
            let mut bytes = Vec::new();
            frame::write_packet(&mut bytes, &mut 1, &answer);
            self.client.send(bytes).await.map_err(|_| Ending::ClientGone)?;
            // Who kills its own session is not opened anew elsewhere, when the CN has closed it.
            let ends = kill.target == self.card.id.0 && !kill.query && self.cn.flavour == Flavour::Mysql;
            if ends { Err(Ending::Quit) } else { Ok(()) }
        };
        ended.or(asked).await
    }

    fn killer(&self) -> Killer<'_> {
        let spoken = self.dialog.watched().map_or(self.capabilities, |watched| watched.cn);
        Killer { worker: self.worker, card: self.card, cn: &self.cn, cn_socket: &self.cn_socket, spoken }
    }

    /// Goes on at another CN, as the present one has closed. If it cannot, it ends by `ending`.
    async fn reopen(&mut self, ending: Ending) -> Result<(), Ending> {
        let (worker, lost) = (self.worker, self.cn.clone());
        let stranded =
            Stranded { worker, card: self.card, client: &self.client, dialog: &mut self.dialog, lost: &lost };
        match stranded.reopen().await {
            Ok(candidate) => {
                self.go_on_with(candidate);
                Ok(())
            }
            Err(Lost::Stopping) => Err(Ending::ShutDown),
            Err(Lost::Killed) => Err(Ending::Killed),
            Err(_) => Err(ending),
        }
    }
}

/// Reads a command off the client's leg that does not go to the CN as it is.
fn take_command(worker: &Worker, card: &Card, client: &Socket, length: usize) {
    client.read_into(&mut Zeroizing::default(), length);
    worker.counters.bytes_in.add(length as u64);
    worker.counters.commands.add(1);
    card.commands.set(card.commands.get() + 1);
}

fn too_long(over: TimedOut) -> Refusal {
    match over {
        TimedOut::Idle => Refusal::IdleTooLong,
        TimedOut::Transaction => Refusal::TransactionTooLong,
        TimedOut::Query => Refusal::StatementTooLong,
    }
}

fn ended_by(ending: Ending) -> EndedBy {
    match ending {
        Ending::Quit | Ending::ClientGone => EndedBy::Client,
        Ending::CnClosed | Ending::CnBroken(_) | Ending::Unreadable => EndedBy::Cn,
        Ending::Told(by) => by,
        Ending::OneTooMany { .. }
        | Ending::Unanswerable
        | Ending::Killed
        | Ending::Evicted
        | Ending::TimedOut(_)
        | Ending::ShutDown => EndedBy::Corelane,
    }
}

/// Waits until the session has to end, even in a pause.
async fn called_to_end(worker: &Worker, card: &Card) -> Ending {
    let stopped = async {
        worker.out_of_patience.raised().await;
        Ending::ShutDown
    };
    // A call wakes the session's task.
    let called = poll_fn(|_| match card.call.get() {
        Call::Kill => Poll::Ready(Ending::Killed),
        Call::Evict { from } if card.slot() == Some(from) => Poll::Ready(Ending::Evicted),
        _ => Poll::Pending,
    });
    stopped.or(called).await
}

/// Tells a connection that comes too fast so, without a task or a wait: the kernel has room for so few bytes of a new one. It is closed
/// when `fd` is; a client that has spoken already may miss the words.
pub(super) fn turn_away(worker: &Worker, fd: &OwnedFd) {
    worker.counters.accepted.add(1);
    worker.counters.refuse(Refused::Rate);
    let mut bytes = Vec::new();
    frame::write_packet(&mut bytes, &mut 0, &Refusal::TooManySessions.packet(Capabilities::default()));
    net::send_now(fd, &bytes);
}

/// Sends the one ERR of a session that never began, and closes.
pub(super) async fn refuse(worker: &Worker, mut client: Leg, err: &[u8]) {
    let until = Instant::now() + LINGER;
    let sent = worker.reactor.until(until, client.write(err)).await;
    if matches!(sent, Some(Ok(()))) {
        hang_up(worker, &client.socket, until).await;
    }
}

/// Closes a session that never began, with what has been said last.
pub(super) async fn let_go(worker: &Worker, client: &Socket) {
    hang_up(worker, client, Instant::now() + LINGER).await;
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
            Ending::Unreadable => "it sent what cannot be read".to_owned(),
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
