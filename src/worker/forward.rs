//! The hot loop: bytes from one leg to the other, not copied, while the dialog follows.
//!
//! What is unread is shown to the dialog and then handed to the other leg's send, buffers and all, up to where the
//! dialog came: the start of a frame that is not whole yet stays unread, and so does a frame that cannot go as it is
//! ([`Stop`]) until it is whole and has been replaced. Nothing here reads the clock, takes a lock or logs. Three things may
//! allocate, none for each message: the dialog's queue when a client pipelines commands, a block for `sendmsg` when the worker
//! has none to reuse, and a packet that is replaced.
//!
//! Invariant: what a session holds in flight is bounded by what the reactor lends one socket; in bulk a leg
//! is read only when the other has taken what came before.

use std::future::poll_fn;
use std::task::{Context, Poll};

use super::Worker;
use super::roster::{Activity, Call, Card};
use crate::metrics::{EndedBy, TimedOut};
use crate::reactor::{Received, Socket};
use crate::session::dialog::{Dialog, Look, Shift, Stop, Untracked};
use crate::session::restore;

/// Bytes of a next command that are looked at to tell whether its answer depends on the one before.
pub(super) const PEEK_MAX: usize = 4096;

/// Why the relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The client said goodbye and the CN closed.
    Quit,
    /// The client closed, or its connection broke.
    ClientGone,
    /// The CN closed although the client had not said goodbye.
    CnClosed,
    /// The connection to the CN broke: an `errno`.
    CnBroken(i32),
    /// What the CN or the client sent cannot be replaced as it must be.
    Unreadable,
    /// The client asks for what only a CN knew that the session has left.
    Unanswerable,
    /// The client has been told why, in the place of the reply to its last command.
    Told(EndedBy),
    /// It has become a user's who has as many sessions as there may be, so many; or a tenant's.
    OneTooMany { of_user: Option<u32> },
    /// An operator ends the session.
    Killed,
    /// Its CN is drained, and the time for that is over.
    Evicted,
    /// This took too long.
    TimedOut(TimedOut),
    /// The worker stops, and the session is idle or out of time.
    ShutDown,
}

/// Why the relay pauses: something is to be done between two packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    End(Ending),
    /// The session is quiet, and another CN waits for it.
    Move,
    /// The CN has to be asked to track the session again.
    Retrack,
    /// The session is idle, and another worker waits for it.
    HandOver,
    /// The client's next command may concern corelane, as its first so many bytes tell, and nothing else is under way.
    Concern {
        length: usize,
    },
    /// The CN has answered a COM_CHANGE_USER.
    ChangedUser {
        let_in: bool,
    },
}

/// How far the bytes have come; lives as long as the session.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// The client has said COM_QUIT.
    quit: bool,
    client: Waiting,
    cn: Waiting,
}

impl Flow {
    /// The client's next command has been dealt with, or may go now.
    pub fn take_concern(&mut self) {
        self.client = Waiting::default();
    }

    /// More of the client's next command has to be seen: so many bytes.
    pub fn await_concern(&mut self, length: usize) {
        self.client = Waiting { known: length - 1, stop: Some(Stop::Concern { length }) };
    }

    /// Another CN's leg has taken the place of the present one: nothing of that one is waited for.
    pub fn change_cn(&mut self) {
        self.cn = Waiting::default();
    }
}

/// What one leg waits for.
#[derive(Debug, Default)]
struct Waiting {
    /// Unread bytes that do not suffice: the next look needs more.
    known: usize,
    /// What has to be done to the next frame.
    stop: Option<Stop>,
}

impl Waiting {
    /// Takes note of a look at `unread` bytes.
    #[inline]
    fn after(&mut self, look: &Look, unread: usize) {
        self.stop = look.stop;
        self.known = match look.stop {
            None => unread - look.taken,
            Some(
                Stop::Execute { head: needed }
                | Stop::Changed { length: needed }
                | Stop::Concern { length: needed },
            ) => needed - 1,
            Some(Stop::Full | Stop::Shifted(_) | Stop::Lost) => 0,
        };
    }
}

/// A session's two legs while bytes flow.
pub(super) struct Relay<'a> {
    pub worker: &'a Worker,
    pub card: &'a Card,
    pub client: &'a Socket,
    pub cn: &'a Socket,
    pub dialog: &'a mut Dialog,
    pub flow: &'a mut Flow,
}

impl Relay<'_> {
    /// Forwards until one side ends it, or something is to be done.
    pub async fn run(&mut self) -> Step {
        poll_fn(|cx| self.poll(cx)).await
    }

    #[inline]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        let mut step = if self.card.call.get() == Call::None { None } else { self.heed_call(cx) };
        // The CN first: one that has gone must not be sent a command that another could answer, and its replies let a client
        // speak that is held back.
        if step.is_none() {
            step = self.poll_cn(cx);
            if let Some(let_in) = self.dialog.take_changed_user() {
                step = step.or(Some(Step::ChangedUser { let_in }));
            }
        }
        if step.is_none() {
            step = self.poll_client(cx);
        }
        self.card.show(self.dialog);
        match step {
            Some(step) => Poll::Ready(step),
            None if self.worker.is_stopping() && self.may_stop() => Poll::Ready(Step::End(Ending::ShutDown)),
            None => Poll::Pending,
        }
    }

    /// Client to CN. None when there is nothing more to forward for now.
    #[inline]
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Option<Step> {
        loop {
            if self.client.poll_turn(cx).is_pending() {
                return None;
            }
            if self.client.is_bulk() && self.cn.poll_sent(cx).is_pending() {
                return self.client.broken().map(|_| Step::End(Ending::ClientGone));
            }
            match self.client.poll_beyond(cx, self.flow.client.known) {
                Poll::Pending => return self.retrack(None),
                Poll::Ready(Received::Data) => {}
                Poll::Ready(Received::End | Received::Broken(_)) => {
                    return Some(Step::End(Ending::ClientGone));
                }
            }
            if !self.may_speak() {
                return None;
            }
            if let Some(why) = self.dialog.untracked() {
                let step = self.retrack(Some(why));
                if step.is_some() || why == Untracked::ByReset {
                    return step;
                }
            }
            match self.cn.poll_sent(cx) {
                Poll::Pending => return self.client.broken().map(|_| Step::End(Ending::ClientGone)),
                Poll::Ready(Ok(())) => {}
                // What the CN said last may explain it, and is still to be read.
                Poll::Ready(Err(_)) => return None,
            }
            if let Some(Stop::Concern { length }) = self.flow.client.stop {
                // Long data that waits for its execution waits behind it.
                let ready = self.dialog.in_flight() == 0 || self.dialog.opaque().is_some();
                return ready.then_some(Step::Concern { length });
            }
            if let Some(stop) = self.flow.client.stop {
                if self.replace(stop).is_none() {
                    return Some(Step::End(Ending::Unreadable));
                }
                continue;
            }
            let (mut look, mut unread) = (Look::default(), 0);
            self.client.look(|chunk| {
                unread += chunk.len();
                self.dialog.look_at_client(chunk, &mut look);
            });
            self.dialog.end_client_look(&mut look);
            if self.dialog.is_unanswerable() {
                return Some(Step::End(Ending::Unanswerable));
            }
            for patch in &look.patches {
                self.client.patch(patch.at, &patch.bytes);
            }
            self.cn.forward(self.client, look.taken);
            self.flow.client.after(&look, unread);
            self.count_client(&look, look.taken);
        }
    }

    /// Whether there is a place for commands of the client's. One that had none waits until there is for several.
    #[inline]
    fn may_speak(&self) -> bool {
        self.dialog.may_speak() && (self.flow.client.stop != Some(Stop::Full) || self.dialog.may_go_on())
    }

    #[inline]
    fn count_client(&mut self, look: &Look, bytes: usize) {
        self.flow.quit |= look.client.quit;
        self.worker.counters.bytes_in.add(bytes as u64);
        let commands = u64::from(look.client.commands);
        if commands > 0 {
            self.worker.counters.commands.add(commands);
            self.card.commands.set(self.card.commands.get() + commands);
        }
    }

    /// CN to client.
    #[inline]
    fn poll_cn(&mut self, cx: &mut Context<'_>) -> Option<Step> {
        loop {
            if self.cn.poll_turn(cx).is_pending() {
                return None;
            }
            if self.cn.is_bulk() && self.client.poll_sent(cx).is_pending() {
                return None;
            }
            let ending = match self.cn.poll_beyond(cx, self.flow.cn.known) {
                Poll::Pending => return None,
                Poll::Ready(Received::Data) => None,
                Poll::Ready(_) if self.flow.quit => Some(Ending::Quit),
                Poll::Ready(Received::End) => Some(Ending::CnClosed),
                Poll::Ready(Received::Broken(errno)) => Some(Ending::CnBroken(errno)),
            };
            if let Some(ending) = ending {
                return Some(Step::End(ending));
            }
            match self.client.poll_sent(cx) {
                Poll::Pending => return None,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Some(Step::End(Ending::ClientGone)),
            }
            if let Some(Stop::Changed { length }) = self.flow.cn.stop {
                if self.replace_packet(length).is_none() {
                    return Some(Step::End(Ending::Unreadable));
                }
                continue;
            }
            let (mut look, mut unread) = (Look::default(), 0);
            self.cn.look(|chunk| {
                unread += chunk.len();
                self.dialog.look_at_cn(chunk, &mut look);
            });
            self.dialog.end_cn_look(&mut look);
            for patch in &look.patches {
                self.cn.patch(patch.at, &patch.bytes);
            }
            self.client.forward(self.cn, look.taken);
            self.flow.cn.after(&look, unread);
            self.worker.counters.bytes_out.add(look.taken as u64);
        }
    }

    /// Sends the CN what stands in the place of what the client sent.
    #[cold]
    fn replace(&mut self, stop: Stop) -> Option<()> {
        self.flow.client = Waiting::default();
        match stop {
            Stop::Execute { head } => self.replace_head(head),
            Stop::Shifted(shift) if shift.left > 0 => self.pass_shifted(shift),
            Stop::Shifted(shift) => self.begin_shifted(shift),
            Stop::Full => Some(()),
            Stop::Changed { .. } | Stop::Concern { .. } | Stop::Lost => None,
        }
    }

    /// The head of the client's next frame.
    fn replace_head(&mut self, head: usize) -> Option<()> {
        let mut bytes = self.client.peek(head);
        let needed = self.dialog.execute_needs(&bytes);
        if needed > head {
            self.flow.client = Waiting { known: needed - 1, stop: Some(Stop::Execute { head: needed }) };
            return Some(());
        }
        bytes.clear();
        self.client.read_into(&mut bytes, head);
        let mut look = Look::default();
        self.cn.start_send(self.dialog.execute(&bytes, &mut look).ok()?);
        self.flow.client.stop = look.stop;
        self.count_client(&look, head);
        Some(())
    }

    /// What belongs to the present frame of a packet whose frames are shifted.
    fn pass_shifted(&mut self, mut shift: Shift) -> Option<()> {
        let mut look = Look::default();
        self.client.look(|chunk| {
            let here = chunk.len().min(shift.left);
            shift.left -= here;
            self.dialog.look_at_client(&chunk[..here], &mut look);
        });
        self.cn.forward(self.client, look.taken);
        self.flow.client.stop = Some(Stop::Shifted(shift));
        self.count_client(&look, look.taken);
        Some(())
    }

    /// The head of its next one.
    fn begin_shifted(&mut self, shift: Shift) -> Option<()> {
        let (head, unread) = (shift.head(), self.client.unread());
        if unread < head {
            self.flow.client = Waiting { known: head - 1, stop: Some(Stop::Shifted(shift)) };
            return Some(());
        }
        let (mut bytes, mut look) = (Vec::with_capacity(head), Look::default());
        self.client.read_into(&mut bytes, head);
        self.dialog.look_at_client(&bytes, &mut look);
        let (bytes, shift) = shift.next(&bytes).ok()?;
        self.cn.start_send(bytes);
        self.flow.client.stop = shift.map(Stop::Shifted);
        self.count_client(&look, head);
        Some(())
    }

    /// Sends the client what stands in the place of the CN's next packet.
    #[cold]
    fn replace_packet(&mut self, length: usize) -> Option<()> {
        self.flow.cn = Waiting::default();
        let mut bytes = Vec::with_capacity(length);
        self.cn.read_into(&mut bytes, length);
        let mut look = Look::default();
        self.client.start_send(self.dialog.changed(&bytes, &mut look).ok()?);
        self.worker.counters.bytes_out.add(length as u64);
        Some(())
    }

    /// Whether the CN is to be asked to track again, now that nothing is under way. `with_command`: why, where the client's next
    /// command is here.
    #[inline]
    fn retrack(&self, with_command: Option<Untracked>) -> Option<Step> {
        let now = match with_command.or_else(|| self.dialog.untracked())? {
            Untracked::ByReset => self.dialog.idle(),
            Untracked::ByClient => {
                let asks = || self.dialog.asks_about_last(&self.client.peek(PEEK_MAX));
                with_command.is_some() && self.dialog.idle() && !self.dialog.has_leftovers() && !asks()
            }
        };
        now.then_some(Step::Retrack)
    }

    /// Does what the card asks for, if it can be done now.
    #[cold]
    fn heed_call(&mut self, cx: &mut Context<'_>) -> Option<Step> {
        match self.card.call.get() {
            Call::None => None,
            Call::Kill => Some(Step::End(Ending::Killed)),
            Call::Evict { from } if self.card.slot() == Some(from) => Some(Step::End(Ending::Evicted)),
            // It has moved meanwhile.
            Call::Evict { .. } => {
                self.card.call.set(Call::None);
                None
            }
            Call::TimeOut { over, commands } => {
                // Something may have come meanwhile.
                self.card.call.set(Call::None);
                let activity = match over {
                    TimedOut::Idle => Activity::Idle,
                    TimedOut::Transaction => Activity::Transaction,
                    TimedOut::Query => Activity::Busy,
                };
                let still = self.card.commands.get() == commands && Activity::of(self.dialog) == activity;
                still.then_some(Step::End(Ending::TimedOut(over)))
            }
            Call::Rehearse => {
                if self.dialog.idle() {
                    let rehearsal =
                        self.dialog.watched().and_then(|watched| restore::rehearsal(&watched.state));
                    self.card.tell_rehearsal(&self.worker.reactor, rehearsal);
                    self.card.call_off();
                }
                None
            }
            Call::HandOver => {
                let resting = self.client.poll_sent(cx).is_ready() && self.cn.poll_sent(cx).is_ready();
                (resting && self.dialog.idle() && self.flow.client.stop.is_none()).then_some(Step::HandOver)
            }
            Call::Move { silent_after } => {
                let at_once = silent_after == Some(self.card.commands.get());
                let step = self.step_to_move()?;
                self.next_command_allows(cx, at_once).then_some(step)
            }
        }
    }

    /// The next step of a move; none while something holds the session. Where the client has set its own tracking, the CN is
    /// asked about that first: then the session can tell what else holds it.
    fn step_to_move(&mut self) -> Option<Step> {
        match self.dialog.untracked() {
            Some(_) => self.dialog.idle().then_some(Step::Retrack),
            None => self.dialog.quiet().is_ok().then_some(Step::Move),
        }
    }

    /// The best moment to move is when the next command is here and does not ask about the one before. Without one the
    /// session moves only when it has been silent for long.
    fn next_command_allows(&mut self, cx: &mut Context<'_>, at_once: bool) -> bool {
        match self.client.poll_received(cx) {
            Poll::Pending => at_once,
            Poll::Ready(Received::Data) => {
                let left = !at_once && self.dialog.has_leftovers();
                !left && !self.dialog.asks_about_last(&self.client.peek(PEEK_MAX))
            }
            Poll::Ready(Received::End | Received::Broken(_)) => false,
        }
    }

    /// A stopping worker waits for statements and transactions, until it is out of patience.
    fn may_stop(&self) -> bool {
        self.worker.is_out_of_patience() || (self.dialog.idle() && !self.dialog.in_transaction())
    }
}
