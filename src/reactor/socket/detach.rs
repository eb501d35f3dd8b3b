//! How a socket leaves this reactor for that of another worker.
//!
//! First its receive is taken back: the kernel's last completion may still bring bytes, and after it no byte can
//! come here any more. Then it gets a descriptor of its own, as the ring's table of files belongs to this ring alone. Both
//! leave the socket as usable as it was, so whoever wants several sockets to leave together can still go on
//! when one of them cannot. Only [`Socket::into_unread`] ends it here, without closing the connection, which
//! lives on by the new descriptor; [`Socket::adopt_with`] begins it there.
//!
//! Invariant: a byte that the kernel has handed over is unread either here or there, in the order in which it came.

use std::future::poll_fn;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::task::{Context, Poll};

use io_uring::{cqueue, opcode, types};

use super::{Layer, Receiving, Sending, Socket};
use crate::reactor::files::File;
use crate::reactor::wake::Wakers;
use crate::reactor::{Core, Op, Reactor, Slot};

/// A descriptor that was asked for.
pub(super) enum Descriptor {
    NotAsked,
    Asked,
    /// It, or an `errno`.
    Given(Result<OwnedFd, i32>),
}

impl Socket {
    /// Stops receiving and gives a descriptor of the connection. What is unread stays here, and the socket goes on if it
    /// is used. Fails when something is being sent, when the connection has ended, and when the process has no
    /// descriptor left.
    pub async fn detach(&self) -> io::Result<OwnedFd> {
        poll_fn(|cx| self.reactor.core.borrow_mut().poll_resting(self.slot, cx)).await?;
        poll_fn(|cx| self.reactor.core.borrow_mut().poll_descriptor(self.slot, cx)).await
    }

    /// Ends the socket here and gives the bytes that nobody has read, and its layer. To be called after [`Self::detach`].
    pub fn into_unread(self) -> (Vec<u8>, Option<Box<dyn Layer>>) {
        let layer = self.take_off();
        let mut unread = Vec::with_capacity(self.unread());
        self.read_into(&mut unread, usize::MAX);
        (unread, layer)
    }

    /// Takes over a connected socket of which `unread` was received elsewhere, through `layer` if it has one: these bytes come first.
    pub fn adopt_with(
        reactor: &Reactor,
        fd: OwnedFd,
        unread: Vec<u8>,
        layer: Option<Box<dyn Layer>>,
    ) -> Self {
        let socket = Self::adopt(reactor, fd);
        if let Some(layer) = layer {
            socket.put_on_again(layer);
        }
        let core = &mut *reactor.core.borrow_mut();
        if let Some(Slot::Socket(state)) = core.slots.get_mut(socket.slot) {
            core.buffers.bring(&mut state.received, unread.into());
        }
        socket
    }
}

impl Core {
    /// Takes back the receive, and is ready after its last completion.
    fn poll_resting(&mut self, slot: usize, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let state = self.socket(slot);
        if !matches!(state.sending, Sending::Nothing) || state.rest_is_away {
            return Poll::Ready(Err(io::ErrorKind::ResourceBusy.into()));
        }
        if let Some(errno) = state.send_error {
            return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
        }
        if state.receiving == Receiving::Idle {
            return Poll::Ready(state.ended.map_or(Ok(()), super::Received::into_result));
        }
        // Any completion of the receive wakes who wants bytes; the last one is among them.
        state.wants_receive = true;
        state.wait(cx);
        if state.receiving == Receiving::Armed {
            state.receiving = Receiving::Stopping;
            let receive = state.receive;
            self.cancel(slot, receive);
        }
        Poll::Pending
    }

    fn poll_descriptor(&mut self, slot: usize, cx: &Context<'_>) -> Poll<io::Result<OwnedFd>> {
        let state = self.socket(slot);
        match std::mem::replace(&mut state.descriptor, Descriptor::Asked) {
            Descriptor::Given(given) => {
                state.descriptor = Descriptor::NotAsked;
                return Poll::Ready(given.map_err(io::Error::from_raw_os_error));
            }
            Descriptor::Asked => state.wait(cx),
            Descriptor::NotAsked => match &state.file {
                File::Descriptor(fd) => {
                    let fd = fd.try_clone();
                    state.descriptor = Descriptor::NotAsked;
                    return Poll::Ready(fd);
                }
                File::Place(place) => {
                    // Without flags the descriptor is closed on exec, as all of ours are.
                    let install = opcode::FixedFdInstall::new(types::Fixed(*place), 0).build();
                    state.wait(cx);
                    state.in_flight += 1;
                    // SAFETY: the operation refers to no memory.
                    unsafe { self.ring.push(&install.user_data(Op::Install.tag(slot))) };
                }
            },
        }
        Poll::Pending
    }

    /// The kernel has made a descriptor for a file of the table. If nobody wants it any more it is closed.
    pub(in crate::reactor) fn installed(&mut self, slot: usize, completion: &cqueue::Entry, wakers: &Wakers) {
        let state = self.socket(slot);
        state.in_flight -= 1;
        let given = match completion.result() {
            // SAFETY: the kernel has just made this descriptor, and nobody else has been told of it.
            fd if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            errno => Err(-errno),
        };
        state.descriptor = Descriptor::Given(given);
        state.wake(wakers);
        self.free_if_closed(slot);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::reactor::Received;
    use crate::reactor::buffers::SMALL_BYTES;
    use crate::reactor::rig::{Turned, on_reactor, pair, pattern, read, turned};

    #[test]
    fn unread_bytes_go_along_and_come_first() {
        // In the ring's table, and with descriptors.
        for files in [8, 0] {
            on_reactor(files, async |reactor| {
                let (mut peer, socket) = pair(&reactor);
                let sent = pattern(300_000);
                peer.write_all(&sent[..5000]).expect("room");
                assert_eq!(read(&socket, 10).await, &sent[..10]);
                peer.write_all(&sent[5000..9000]).expect("room");
                let fd = socket.detach().await.expect("nothing is in its way");
                let (unread, _) = socket.into_unread();
                assert!(unread.len() >= 4990, "what was here goes along");
                assert_eq!(unread, &sent[10..10 + unread.len()]);
                let there = Socket::adopt_with(&reactor, fd, unread, None);
                let writer = std::thread::spawn(move || {
                    peer.write_all(&sent[9000..]).expect("somebody reads");
                    (peer, sent)
                });
                let rest = read(&there, 300_000 - 10).await;
                let (mut peer, sent) = writer.join().expect("it wrote");
                assert_eq!(rest, &sent[10..]);
                there.send(b"back".as_slice()).await.expect("it also sends");
                let mut back = [0; 4];
                peer.read_exact(&mut back).expect("the answer");
                assert_eq!(&back, b"back");
            });
        }
    }

    #[test]
    fn a_layer_is_gone_through_and_goes_along() {
        for files in [8, 0] {
            on_reactor(files, async |reactor| {
                let (mut peer, socket) = pair(&reactor);
                peer.write_all(&turned(b"early")).expect("room");
                while socket.unread() < 5 {
                    socket.received().await;
                }
                socket.put_on(Box::new(Turned { said: false, ended: false }));
                socket.secured().await.expect("it is ready at once");
                assert_eq!(read(&socket, 2).await, b"ea");
                socket.send(b"one".as_slice()).await.expect("it is sent");
                let mut heard = vec![0; 9];
                peer.read_exact(&mut heard).expect("its own words come first");
                assert_eq!(heard, [b"turned", &turned(b"one")[..]].concat());
                let fd = socket.detach().await.expect("nothing is in its way");
                let (unread, layer) = socket.into_unread();
                assert_eq!(unread, b"rly", "it has come through the layer");
                let there = Socket::adopt_with(&reactor, fd, unread, layer);
                let many: Vec<u8> = pattern(70_000).iter().map(|byte| byte & 0x3f).collect();
                peer.write_all(&turned(&many)).expect("room");
                assert_eq!(read(&there, 3).await, b"rly");
                assert!(there.layer(|layer: &Turned| layer.said) == Some(true), "nothing is said again");
                // Through the layer in, and out as it is; the rest stays unread.
                let (mut sink, plain) = pair(&reactor);
                assert!(read(&there, 1000).await == many[..1000]);
                poll_fn(|cx| there.poll_received(cx)).await;
                let first = there.unread().min(500);
                plain.forward(&there, first);
                let mut forwarded = vec![0; first];
                poll_fn(|cx| plain.poll_sent(cx)).await.expect("it is sent");
                sink.read_exact(&mut forwarded).expect("it was forwarded");
                assert!(forwarded == many[1000..1000 + first]);
                assert!(read(&there, 69_000 - first).await == many[1000 + first..]);
                // As it is in, and out through the layer.
                sink.write_all(b"answer and more").expect("room");
                while plain.unread() < 15 {
                    poll_fn(|cx| plain.poll_beyond(cx, 14)).await;
                }
                there.forward(&plain, 6);
                assert_eq!(read(&plain, 9).await, b" and more");
                let mut answer = vec![0; 6];
                poll_fn(|cx| there.poll_sent(cx)).await.expect("it is sent");
                peer.read_exact(&mut answer).expect("the answer");
                assert_eq!(answer, turned(b"answer"));
                there.shutdown_write();
                let mut farewell = Vec::new();
                reactor
                    .until(Instant::now() + Duration::from_millis(200), std::future::pending::<()>())
                    .await;
                peer.read_to_end(&mut farewell).expect("the end");
                assert_eq!(farewell, [0]);
            });
        }
    }

    #[test]
    fn a_layer_ends_a_connection_by_farewell_or_failure() {
        on_reactor(8, async |reactor| {
            for (bytes, expected) in [(0, Received::End), (1, Received::Broken(libc::EPROTO))] {
                let (mut peer, socket) = pair(&reactor);
                socket.put_on(Box::new(Turned { said: false, ended: false }));
                peer.write_all(&[!b'x', bytes]).expect("room");
                if expected == Received::End {
                    assert_eq!(read(&socket, 1).await, b"x", "what came before it");
                }
                assert_eq!(socket.received().await, expected);
                assert_eq!(socket.secured().await.is_err(), expected != Received::End);
                let mut said = vec![0; if expected == Received::End { 6 } else { 11 }];
                reactor
                    .until(Instant::now() + Duration::from_millis(100), std::future::pending::<()>())
                    .await;
                peer.read_exact(&mut said).expect("its words, and why it ends");
                assert_eq!(said, &b"turnedalert"[..said.len()]);
            }
        });
    }

    /// Makes 100,000 bytes of each, and opens no more than there is room for.
    struct Blown(Vec<u8>);

    impl Layer for Blown {
        fn open(
            &mut self,
            sealed: &[u8],
            room: usize,
            plain: &mut Vec<u8>,
            _wire: &mut Vec<u8>,
        ) -> Result<(), String> {
            self.0.extend_from_slice(sealed);
            let begin = plain.len();
            while plain.len() - begin < room && !self.0.is_empty() {
                plain.resize(plain.len() + 100_000, self.0.remove(0));
            }
            Ok(())
        }

        fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), String> {
            wire.extend_from_slice(plain);
            Ok(())
        }

        fn close(&mut self, _wire: &mut Vec<u8>) {}

        fn is_ready(&self) -> bool {
            true
        }

        fn has_ended(&self) -> bool {
            false
        }

        fn has_more(&self) -> bool {
            !self.0.is_empty()
        }

        fn parts(&self) -> Vec<&dyn std::any::Any> {
            vec![self]
        }
    }

    #[test]
    fn a_layer_opens_no_more_than_is_wanted() {
        for files in [8, 0] {
            on_reactor(files, async |reactor| {
                let (mut peer, socket) = pair(&reactor);
                socket.put_on(Box::new(Turned { said: true, ended: false }));
                socket.put_on(Box::new(Blown(Vec::new())));
                for byte in 0..200 {
                    peer.write_all(&turned(&[byte])).expect("room");
                }
                drop(peer.shutdown(std::net::Shutdown::Write));
                while socket.layer(|blown: &Blown| blown.0.len()).unwrap_or(0) == 0 {
                    socket.received().await;
                    reactor.sleep_until(Instant::now() + Duration::from_millis(5)).await;
                }
                assert!(socket.unread() <= 200_000, "{}", socket.unread());
                // Who wants more than there may be gets it.
                poll_fn(|cx| socket.poll_beyond(cx, 1_000_000)).await;
                assert!((1_000_001..1_500_000).contains(&socket.unread()));
                for byte in 0..200 {
                    assert!(read(&socket, 100_000).await == vec![byte; 100_000], "{byte}");
                }
                assert_eq!(socket.received().await, Received::End, "behind all that was held");
            });
        }
    }

    #[test]
    fn brought_bytes_are_looked_at_patched_and_forwarded_like_others() {
        on_reactor(8, async |reactor| {
            let (mut peer, own) = UnixStream::pair().expect("a pair of sockets");
            let from = Socket::adopt_with(&reactor, own.into(), pattern(20_000), None);
            let (mut sink, to) = pair(&reactor);
            peer.write_all(b"behind").expect("room");
            while from.unread() < 20_006 {
                poll_fn(|cx| from.poll_beyond(cx, 20_000)).await;
            }
            let mut looked = Vec::new();
            from.look(|chunk| looked.extend_from_slice(chunk));
            assert_eq!(looked, [&pattern(20_000), b"behind".as_slice()].concat());
            from.patch(19_998, b"PATC");
            to.forward(&from, 19_000);
            assert_eq!(read(&from, 1006).await[998..], *b"PATChind");
            let mut heard = vec![0; 19_000];
            sink.read_exact(&mut heard).expect("it was forwarded");
            assert_eq!(heard, &pattern(20_000)[..19_000]);
        });
    }

    #[test]
    fn sockets_in_bulk_and_without_buffers_leave_too() {
        const SOCKETS: usize = 8;
        const BYTES: usize = 150_000;
        on_reactor(2 * SOCKETS as u32, async |reactor| {
            let (mut sockets, mut writers) = (Vec::new(), Vec::new());
            for _ in 0..SOCKETS {
                let (mut peer, socket) = pair(&reactor);
                let armed = poll_fn(|cx| Poll::Ready(socket.poll_received(cx))).await;
                assert!(armed.is_pending(), "nothing was sent yet");
                writers.push(std::thread::spawn(move || peer.write_all(&pattern(BYTES)).map(|()| peer)));
                sockets.push(socket);
            }
            while reactor.starvations() == 0 || !sockets.iter().any(Socket::is_bulk) {
                reactor.sleep_until(Instant::now() + Duration::from_millis(5)).await;
            }
            let mut moved = Vec::new();
            for socket in sockets {
                let fd = socket.detach().await.expect("nothing is in its way");
                moved.push((fd, socket.into_unread().0));
            }
            assert!(moved.iter().any(|(_, unread)| unread.len() > SMALL_BYTES));
            for (fd, unread) in moved {
                let there = Socket::adopt_with(&reactor, fd, unread, None);
                assert!(read(&there, BYTES).await == pattern(BYTES));
            }
            for writer in writers {
                writer.join().expect("no panic").expect("all was read");
            }
        });
    }

    #[test]
    fn a_socket_that_was_asked_to_leave_can_stay() {
        on_reactor(8, async |reactor| {
            let (mut peer, socket) = pair(&reactor);
            for round in 0..100u8 {
                peer.write_all(&[round, 1]).expect("room");
                assert_eq!(read(&socket, 1).await, [round]);
                drop(socket.detach().await.expect("nothing is in its way"));
                peer.write_all(&[2]).expect("room");
                assert_eq!(read(&socket, 2).await, [1, 2]);
            }
            drop(peer);
            assert_eq!(socket.received().await, Received::End);
            assert!(socket.detach().await.is_err(), "it has ended");
        });
    }

    #[test]
    fn nothing_leaves_while_it_is_sending_or_stays_when_it_is_dropped() {
        on_reactor(8, async |reactor| {
            let (peer, socket) = pair(&reactor);
            socket.start_send(vec![7; 1 << 20]);
            let busy = socket.detach().await.expect_err("nobody has read it");
            assert_eq!(busy.kind(), io::ErrorKind::ResourceBusy);
            drop((peer, socket));
            let (mut peer, socket) = pair(&reactor);
            assert!(reactor.until(Instant::now(), socket.detach()).await.is_none());
            drop(socket);
            peer.set_read_timeout(Some(Duration::from_secs(5))).expect("a limit");
            let end = on_a_thread(&reactor, move || peer.read(&mut [0])).await;
            assert_eq!(end.expect("an end, not a descriptor that is left"), 0);
        });
    }

    /// Waits for a thread while the reactor turns.
    async fn on_a_thread<T: Send + 'static>(reactor: &Reactor, f: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = std::thread::spawn(f);
        while !thread.is_finished() {
            reactor.sleep_until(Instant::now() + Duration::from_millis(5)).await;
        }
        thread.join().expect("it did not panic")
    }
}
