//! What the tests of this room share: a reactor to run on, pairs of sockets, and a layer that is easy to follow.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{Config, Layer, Reactor, Received, Socket, executor};

/// Runs `test` on a reactor of its own; `files` as in [`Config`].
pub(super) fn on_reactor<T: 'static>(files: u32, test: impl AsyncFnOnce(Reactor) -> T + 'static) -> T {
    let cpu = core_affinity::get_core_ids().expect("CPUs are known")[0].id;
    executor::run(cpu, async move {
        let config = Config { buffer_bytes: 0, files, spin: Duration::ZERO };
        let reactor = Reactor::new(&config).expect("this machine has io_uring");
        let outcome = std::rc::Rc::new(std::cell::RefCell::new(None));
        let (own, kept) = (reactor.clone(), outcome.clone());
        reactor.spawn(async move {
            let done = test(own).await;
            kept.replace(Some(done));
        });
        reactor.run(|| outcome.borrow().is_some()).await;
        reactor.run(|| reactor.is_empty()).await;
        outcome.take().expect("the test has run")
    })
    .expect("a core to run on")
}

pub(super) fn pair(reactor: &Reactor) -> (UnixStream, Socket) {
    let (peer, own) = UnixStream::pair().expect("a pair of sockets");
    (peer, Socket::adopt(reactor, own.into()))
}

pub(super) async fn read(socket: &Socket, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < length {
        assert_eq!(socket.received().await, Received::Data);
        let missing = length - bytes.len();
        socket.read_into(&mut bytes, missing);
    }
    bytes
}

/// Bytes that differ from their neighbours near and far.
pub(super) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at ^ (at >> 8)) as u8).collect()
}

/// Turns the other way each byte that comes and goes, and says so at first; a zero off the wire is the peer's farewell.
pub(super) struct Turned {
    pub said: bool,
    pub ended: bool,
}

impl Layer for Turned {
    fn open(
        &mut self,
        sealed: &[u8],
        _room: usize,
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<(), String> {
        if !std::mem::replace(&mut self.said, true) {
            wire.extend(b"turned");
        }
        self.ended |= sealed.contains(&0);
        if sealed.contains(&1) {
            wire.extend(b"alert");
            return Err("a one".to_owned());
        }
        plain.extend(sealed.iter().filter(|byte| **byte != 0).map(|byte| !byte));
        Ok(())
    }

    fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), String> {
        wire.extend(plain.iter().map(|byte| !byte));
        Ok(())
    }

    fn close(&mut self, wire: &mut Vec<u8>) {
        wire.push(0);
    }

    fn is_ready(&self) -> bool {
        self.said
    }

    fn has_ended(&self) -> bool {
        self.ended
    }

    fn parts(&self) -> Vec<&dyn std::any::Any> {
        vec![self]
    }
}

pub(super) fn turned(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| !byte).collect()
}
