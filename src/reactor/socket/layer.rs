//! What lies between the bytes on the wire and those that a session speaks: TLS, compression, or one above the other ([`stack`]).
//!
//! A socket that has a layer on gives and takes the session's own bytes as one without does: what comes from the kernel goes through
//! the layer before it counts as received, and what is sent goes through it before the kernel gets it. What the layer has to say by
//! itself (a handshake, a new key, an alert) is sent between what the session sends. A session never waits for it but in
//! [`Socket::secured`].
//!
//! A layer may make many bytes of few. It opens no more than there is room for ([`ROOM`]), keeps the others as they came, and nothing more
//! is received meanwhile; when the session wants bytes and has read what there were, it goes on.
//!
//! A step of a handshake takes long, so of those that come at a time few are done in a turn ([`ration`](crate::reactor::ration)). What has come
//! for the others is held, and nothing more is received.
//!
//! Received bytes are copied out of their buffers here, and come into memory of their own; a socket without a layer pays for all this
//! with one look whether it has one.
//!
//! Invariant: bytes go through a layer in the order in which they came, each once; a layer that has failed passes nothing on.

mod stack;

use std::any::Any;
use std::future::poll_fn;
use std::task::Poll;

use super::super::buffers::Chain;
use super::{Received, Receiving, Rest, Sending, Socket, State};
use crate::reactor::wake::Wakers;
use crate::reactor::{Core, Slot};

/// Bytes of a session's own that may wait unread before a layer opens no more: what is opened waits for its turn to be passed on.
const ROOM: usize = 32 << 10;
/// Bytes that it opens at a time when a session wants more than that.
const BEYOND: usize = 16 << 10;

/// A layer; what it gives is appended.
pub trait Layer: Any + Send {
    /// Takes bytes off the wire, none at first, and gives those of the session; what it has to say by itself goes to `wire`. One that
    /// makes many bytes of few stops when it has given `room` of them, and [has more](Self::has_more) then.
    ///
    /// # Errors
    /// Why the connection cannot be used any more, in a sentence. What is in `wire` is still sent.
    fn open(
        &mut self,
        sealed: &[u8],
        room: usize,
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<(), String>;

    /// How many of the bytes that it has given the session has not read. Told before something is sealed, unless nobody knows.
    fn unread(&mut self, _bytes: usize) {}

    /// Takes bytes of the session's and gives those for the wire, or gathers them.
    ///
    /// # Errors
    /// Why the connection cannot be used any more, in a sentence.
    fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), String>;

    /// Gives what it has gathered.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    fn flush(&mut self, _wire: &mut Vec<u8>) -> Result<(), String> {
        Ok(())
    }

    /// All that it has given for the wire has left.
    fn sent(&mut self) {}

    /// Takes leave of the peer.
    fn close(&mut self, wire: &mut Vec<u8>);

    /// Whether both sides have agreed, so that bytes of the session may be sent.
    fn is_ready(&self) -> bool;

    /// Whether the peer has taken leave: nothing more will come but what it [has still to open](Self::has_more).
    fn has_ended(&self) -> bool;

    /// Whether it could open more of what has come.
    fn has_more(&self) -> bool {
        false
    }

    /// Itself, or the layers that it is made of, from the wire up.
    fn parts(&self) -> Vec<&dyn Any>;
}

/// A socket's layer, and what is on its way through it.
pub(super) struct Fitted {
    layer: Box<dyn Layer>,
    /// Bytes off the wire that wait for the turn in which the handshake may go on.
    held: Vec<u8>,
    /// Bytes for the wire that wait until the kernel takes more.
    wire: Vec<u8>,
    /// Why it has failed.
    failure: Option<String>,
    /// The end is to be sent behind what waits.
    ends: bool,
}

impl Socket {
    /// Puts a layer on, above one that is there: bytes that are unread go through it, as all that come. It says its first words, if
    /// it has any. Nothing may be in flight where there is a layer.
    pub fn put_on(&self, layer: Box<dyn Layer>) {
        let core = &mut *self.reactor.core.borrow_mut();
        let Some(Slot::Socket(state)) = core.slots.get_mut(self.slot) else { return };
        let received = state.received.take();
        match state.layer.as_deref_mut() {
            None => {
                state.layer = Some(Box::new(Fitted::new(layer)));
                core.open(self.slot, received);
            }
            Some(fitted) => {
                let mut unread = Vec::with_capacity(received.bytes());
                core.buffers.each(&received, |chunk| unread.extend_from_slice(chunk));
                core.buffers.release(received);
                stack::put_above(&mut fitted.layer, layer, unread);
                core.open(self.slot, Chain::EMPTY);
            }
        }
        core.say(self.slot);
    }

    /// Takes the layer off, to go to another worker; to be called after [`Self::detach`].
    pub(super) fn take_off(&self) -> Option<Box<dyn Layer>> {
        let mut core = self.reactor.core.borrow_mut();
        core.socket(self.slot).layer.take().map(|fitted| fitted.layer)
    }

    /// Puts on the layer that the connection had at another worker; what is unread has come through it.
    pub(super) fn put_on_again(&self, layer: Box<dyn Layer>) {
        self.reactor.core.borrow_mut().socket(self.slot).layer = Some(Box::new(Fitted::new(layer)));
    }

    /// Waits until both sides of the layer have agreed.
    ///
    /// # Errors
    /// They have not, and why, in a sentence.
    pub async fn secured(&self) -> Result<(), String> {
        poll_fn(|cx| {
            let mut core = self.reactor.core.borrow_mut();
            let state = core.socket(self.slot);
            let Some(fitted) = &state.layer else { return Poll::Ready(Ok(())) };
            if let Some(failure) = &fitted.failure {
                return Poll::Ready(Err(failure.clone()));
            }
            if fitted.layer.is_ready() {
                return Poll::Ready(Ok(()));
            }
            state.wants_receive = true;
            if !fitted.held.is_empty() {
                state.wait(cx);
                return Poll::Pending;
            }
            if let Some(ended) = state.ended {
                return Poll::Ready(Err(ended
                    .into_result()
                    .map_or_else(|error| error.to_string(), |()| String::new())));
            }
            state.wait(cx);
            if state.receiving == Receiving::Idle {
                core.arm(self.slot);
            }
            Poll::Pending
        })
        .await
    }

    /// Lets `look` see the layer, if there is one of its kind.
    pub fn layer<L: Layer, T>(&self, look: impl FnOnce(&L) -> T) -> Option<T> {
        let mut core = self.reactor.core.borrow_mut();
        let fitted = core.socket(self.slot).layer.as_deref()?;
        fitted.layer.parts().into_iter().find_map(|part| part.downcast_ref::<L>()).map(look)
    }

    /// Why the layer has failed, if it has.
    pub fn failure(&self) -> Option<String> {
        let mut core = self.reactor.core.borrow_mut();
        core.socket(self.slot).layer.as_ref()?.failure.clone()
    }
}

impl Fitted {
    fn new(layer: Box<dyn Layer>) -> Self {
        Self { layer, held: Vec::new(), wire: Vec::new(), failure: None, ends: false }
    }

    /// Takes note of what opening has come to.
    fn note(&mut self, opened: Result<(), String>, ended: &mut Option<Received>) {
        if let Err(failure) = opened {
            self.failure = Some(failure);
            *ended = Some(Received::Broken(libc::EPROTO));
        } else if self.layer.has_ended() {
            *ended = Some(Received::End);
        }
    }
}

impl State {
    /// Whether a layer has stopped opening, for want of room or of its turn.
    pub(super) fn has_more(&self) -> bool {
        self.layer.as_ref().is_some_and(|fitted| {
            fitted.failure.is_none() && (fitted.layer.has_more() || !fitted.held.is_empty())
        })
    }

    /// Tells a layer that what it gave has left.
    #[inline]
    pub(super) fn layer_sent(&mut self) {
        if let Some(fitted) = self.layer.as_deref_mut() {
            fitted.layer.sent();
        }
    }

    /// Whether something of the layer's own waits to be sent.
    pub(super) fn has_words(&self) -> bool {
        self.layer.as_ref().is_some_and(|fitted| !fitted.wire.is_empty() || fitted.ends)
    }
}

impl Core {
    /// Puts bytes off the wire through the layer.
    #[cold]
    pub(super) fn open(&mut self, slot: usize, received: Chain) {
        let Some(Slot::Socket(state)) = self.slots.get_mut(slot) else { return };
        let Some(fitted) = state.layer.as_deref_mut() else { return };
        if !fitted.layer.is_ready() && fitted.failure.is_none() && !received.is_empty() {
            if self.handshakes.is_used_up() || !fitted.held.is_empty() {
                return self.hold(slot, received);
            }
            self.handshakes.take(1);
        }
        let (mut plain, mut opened) = (Vec::new(), Ok(()));
        let mut room = ROOM.saturating_sub(state.received.bytes());
        let mut open = |chunk: &[u8]| {
            if opened.is_ok() && fitted.failure.is_none() {
                let before = plain.len();
                opened = fitted.layer.open(chunk, room, &mut plain, &mut fitted.wire);
                room = room.saturating_sub(plain.len() - before);
            }
        };
        match received.is_empty() {
            true => open(&[]),
            false => self.buffers.each(&received, open),
        }
        self.buffers.release(received);
        self.buffers.bring(&mut state.received, plain.into());
        fitted.note(opened, &mut state.ended);
    }

    /// Keeps bytes off the wire until the handshake may go on.
    fn hold(&mut self, slot: usize, received: Chain) {
        let Some(Slot::Socket(state)) = self.slots.get_mut(slot) else { return };
        let Some(fitted) = state.layer.as_deref_mut() else { return };
        if fitted.held.is_empty() {
            self.handshakes.wait(slot);
        }
        self.buffers.each(&received, |chunk| fitted.held.extend_from_slice(chunk));
        self.buffers.release(received);
    }

    /// The turn has come in which a handshake may go on.
    #[cold]
    pub(in crate::reactor) fn open_held(&mut self, slot: usize, wakers: &Wakers) {
        let Some(Slot::Socket(state)) = self.slots.get_mut(slot) else { return };
        let Some(fitted) = state.layer.as_deref_mut() else { return };
        let (held, mut received) = (std::mem::take(&mut fitted.held), Chain::EMPTY);
        if held.is_empty() || state.closing {
            return;
        }
        self.buffers.bring(&mut received, held.into());
        self.open(slot, received);
        self.say(slot);
        self.socket(slot).wake(wakers);
    }

    /// Opens more of what has come until more than `known` bytes are unread; false if there are no more.
    #[cold]
    pub(super) fn open_until(&mut self, slot: usize, known: usize) -> bool {
        while self.open_more(slot) {
            if self.socket(slot).received.bytes() > known {
                return true;
            }
        }
        false
    }

    fn open_more(&mut self, slot: usize) -> bool {
        let Some(Slot::Socket(state)) = self.slots.get_mut(slot) else { return false };
        let Some(fitted) = state.layer.as_deref_mut() else { return false };
        if fitted.failure.is_some() || !fitted.layer.has_more() {
            return false;
        }
        let room = ROOM.saturating_sub(state.received.bytes()).max(BEYOND);
        let mut plain = Vec::new();
        let opened = fitted.layer.open(&[], room, &mut plain, &mut fitted.wire);
        self.buffers.bring(&mut state.received, plain.into());
        fitted.note(opened, &mut state.ended);
        self.say(slot);
        true
    }

    /// Sends what the layer has to say by itself, if nothing is being sent; true if that is being sent now.
    #[cold]
    pub(super) fn say(&mut self, slot: usize) -> bool {
        let Some(Slot::Socket(state)) = self.slots.get_mut(slot) else { return false };
        let Some(fitted) = state.layer.as_deref_mut() else { return false };
        if !matches!(state.sending, Sending::Nothing) || state.send_error.is_some() {
            return false;
        }
        let wire = std::mem::take(&mut fitted.wire);
        let says = !wire.is_empty();
        if says {
            self.send_wire(slot, wire.into());
        } else if std::mem::take(&mut fitted.ends) {
            self.shut_write(slot);
        }
        says
    }

    /// Sends the first `chain.bytes() - rest.bytes` bytes of a chain through the layer. The rest goes back at once.
    #[cold]
    pub(super) fn seal_chain(&mut self, slot: usize, mut chain: Chain, rest: Rest, wakers: &Wakers) {
        let Some(Slot::Socket(state)) = self.slots.get_mut(slot) else { return };
        let Some(fitted) = state.layer.as_deref_mut() else { return };
        let mut left = chain.bytes() - rest.bytes;
        let mut wire = std::mem::take(&mut fitted.wire);
        let mut sealed = Ok(());
        if !state.rest_is_away {
            fitted.layer.unread(state.received.bytes());
        }
        while left > 0 && sealed.is_ok() {
            let front = self.buffers.front(&chain);
            let here = front.len().min(left);
            sealed = fitted.layer.seal(&front[..here], &mut wire);
            self.buffers.consume(&mut chain, here);
            left -= here;
        }
        let sealed = sealed.and_then(|()| fitted.layer.flush(&mut wire));
        self.seal_ends(slot, sealed, wire);
        if rest.bytes > 0 {
            self.give_back(chain, rest, wakers);
        } else {
            self.buffers.release(chain);
        }
    }

    /// Sends bytes of the session's own through the layer.
    #[cold]
    pub(super) fn seal_bytes(&mut self, slot: usize, bytes: &[u8]) {
        let Some(Slot::Socket(state)) = self.slots.get_mut(slot) else { return };
        let Some(fitted) = state.layer.as_deref_mut() else { return };
        let mut wire = std::mem::take(&mut fitted.wire);
        if !state.rest_is_away {
            fitted.layer.unread(state.received.bytes());
        }
        let sealed = fitted.layer.seal(bytes, &mut wire).and_then(|()| fitted.layer.flush(&mut wire));
        self.seal_ends(slot, sealed, wire);
    }

    fn seal_ends(&mut self, slot: usize, sealed: Result<(), String>, wire: Vec<u8>) {
        let state = self.socket(slot);
        match sealed {
            Ok(()) => self.send_wire(slot, wire.into()),
            Err(failure) => {
                state.send_error = Some(libc::EPROTO);
                if let Some(fitted) = &mut state.layer {
                    fitted.failure.get_or_insert(failure);
                }
            }
        }
    }

    /// Tells the peer that nothing more will come, behind what is being sent.
    #[cold]
    pub(super) fn close_layer(&mut self, slot: usize) {
        let Some(Slot::Socket(state)) = self.slots.get_mut(slot) else { return };
        if let Some(fitted) = state.layer.as_deref_mut() {
            fitted.layer.close(&mut fitted.wire);
            fitted.ends = true;
            self.say(slot);
        }
    }
}
