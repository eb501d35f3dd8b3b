//! How much of what takes long is done in one turn, so that those with little to say do not wait for it.
//!
//! A turn ends when no woken task is left, and who is heard meanwhile is answered in the next one: its length is everybody's delay. So
//! two things are counted that come in heaps, each by a [`Ration`] of its own:
//!
//! - Bytes that are passed on. Once [`BYTES`] of them have passed, a session that has more than [`LIGHT_BYTES`] unread, or a layer with more
//!   to open, waits for the next turn; all others go on. See [`Socket::poll_turn`](super::Socket::poll_turn).
//! - Steps of handshakes. Beyond [`STEPS`] what has come for a layer that is not ready is held ([`layer`](super::socket)).
//!
//! Those that wait come first in the next turn, which begins at once; what gets done in all is as before.
//!
//! Invariant: who waits is in its ration's queue, and the reactor does not sleep while somebody is.

use std::collections::VecDeque;

use super::buffers::SMALL_BYTES;

/// Unread bytes that never wait: a page, which most requests and replies fit into.
pub(super) const LIGHT_BYTES: usize = SMALL_BYTES;
/// Bytes after which those with more than that wait. To read as many as SQL takes some third of a millisecond at most.
pub(super) const BYTES: usize = 64 << 10;
/// Steps of handshakes. A login by TLS costs 0.2 ms more than one without, most of it in one step.
pub(super) const STEPS: usize = 2;

/// What one kind may take of a turn.
pub(super) struct Ration {
    most: usize,
    taken: usize,
    /// The slots of those that wait. A socket that waits may go, and another one get its slot.
    waiting: VecDeque<usize>,
}

impl Ration {
    pub fn new(most: usize) -> Self {
        Self { most, taken: 0, waiting: VecDeque::new() }
    }

    #[inline]
    pub fn take(&mut self, some: usize) {
        self.taken += some;
    }

    #[inline]
    pub fn is_used_up(&self) -> bool {
        self.taken >= self.most
    }

    /// Puts a slot at the end of the queue.
    pub fn wait(&mut self, slot: usize) {
        self.waiting.push_back(slot);
    }

    #[inline]
    pub fn is_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Begins a turn. How many wait for it.
    #[inline]
    pub fn renew(&mut self) -> usize {
        self.taken = 0;
        self.waiting.len()
    }

    /// The first of the queue.
    pub fn next(&mut self) -> Option<usize> {
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write;
    use std::task::Poll;

    use crate::reactor::Socket;
    use crate::reactor::rig::{Turned, on_reactor, pair, pattern, read, turned};

    #[test]
    fn who_has_much_waits_for_the_next_turn_and_who_has_little_does_not() {
        on_reactor(8, async |reactor| {
            const MUCH: usize = 40_000;
            let legs: Vec<_> = (0..4).map(|_| (pair(&reactor), pair(&reactor))).collect();
            for (at, ((peer, socket), _)) in legs.iter().enumerate() {
                let length = if at == 3 { 100 } else { MUCH };
                (&*peer).write_all(&pattern(length)).expect("room");
                poll_fn(|cx| socket.poll_beyond(cx, length - 1)).await;
            }
            let turn = reactor.turns();
            poll_fn(|cx| {
                let ready = legs.iter().map(|((_, from), (_, to))| {
                    let ready = from.poll_turn(cx).is_ready();
                    if ready {
                        to.forward(from, from.unread());
                    }
                    ready
                });
                assert_eq!(ready.collect::<Vec<_>>(), [true, true, false, true]);
                Poll::Ready(())
            })
            .await;
            let ((_, third), _) = &legs[2];
            poll_fn(|cx| third.poll_turn(cx)).await;
            assert_eq!(reactor.turns(), turn + 1);
            assert_eq!(read(third, MUCH).await, pattern(MUCH));
        });
    }

    #[test]
    fn few_handshakes_go_on_in_a_turn_and_no_byte_is_lost() {
        on_reactor(16, async |reactor| {
            let mut legs: Vec<_> = (0..5).map(|_| pair(&reactor)).collect();
            for (peer, socket) in &mut legs {
                peer.write_all(&turned(b"hello")).expect("room");
                poll_fn(|cx| socket.poll_beyond(cx, 4)).await;
            }
            for (_, socket) in &legs {
                socket.put_on(Box::new(Turned { said: false, ended: false }));
            }
            let has_begun = |socket: &Socket| socket.layer(|layer: &Turned| layer.said) == Some(true);
            assert_eq!(legs.iter().filter(|(_, socket)| has_begun(socket)).count(), 2);
            for (peer, _) in &mut legs {
                peer.write_all(&turned(b", and on")).expect("room");
            }
            let (_, last) = &legs[4];
            let turn = reactor.turns();
            last.secured().await.expect("it has its turn");
            assert_eq!(reactor.turns(), turn + 2, "two in each turn");
            for (_, socket) in &legs {
                socket.secured().await.expect("it had its turn before");
                assert_eq!(read(socket, 13).await, b"hello, and on");
            }
        });
    }

    #[test]
    fn a_peer_that_goes_while_its_handshake_is_held_is_heard_first() {
        on_reactor(16, async |reactor| {
            let mut legs: Vec<_> = (0..5).map(|_| pair(&reactor)).collect();
            for (peer, socket) in &mut legs {
                peer.write_all(&turned(b"hello")).expect("room");
                poll_fn(|cx| socket.poll_beyond(cx, 4)).await;
            }
            let sockets: Vec<_> = legs.into_iter().map(|(_, socket)| socket).collect();
            for socket in &sockets {
                socket.put_on(Box::new(Turned { said: false, ended: false }));
            }
            for socket in &sockets {
                socket.secured().await.expect("it has said hello");
                assert_eq!(read(socket, 5).await, b"hello");
            }
        });
    }
}
