//! The hot loop: bytes from one leg to the other, not copied, while the dialog follows.
//!
//! Each received chunk is shown to the dialog and then handed to the other leg's send, buffers and all. Nothing
//! here reads the clock, takes a lock or logs. Two things may allocate, neither for each message: the dialog's
//! queue when a client pipelines commands, and a block for `sendmsg` when the worker has none to reuse.
//!
//! Invariant: what a session holds in flight is bounded by what the reactor lends one socket; in bulk a leg
//! is read only when the other has taken what came before.

use std::future::poll_fn;
use std::task::{Context, Poll};

use super::Worker;
use super::roster::{Activity, Card};
use crate::reactor::{Received, Socket};
use crate::session::dialog::Dialog;

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
    /// The worker stops, and the session is idle or out of time.
    ShutDown,
}

/// A session's two legs while bytes flow.
pub(super) struct Relay<'a> {
    pub worker: &'a Worker,
    pub card: &'a Card,
    pub client: &'a Socket,
    pub cn: &'a Socket,
    pub dialog: Dialog,
    quit: bool,
}

impl<'a> Relay<'a> {
    pub fn new(
        worker: &'a Worker,
        card: &'a Card,
        client: &'a Socket,
        cn: &'a Socket,
        dialog: Dialog,
    ) -> Self {
        Self { worker, card, client, cn, dialog, quit: false }
    }

    /// Forwards until one side ends it.
    pub async fn run(&mut self) -> Ending {
        poll_fn(|cx| self.poll(cx)).await
    }

    #[inline]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        let mut ending = self.poll_client(cx);
        if ending.is_none() {
            let held_back = !self.dialog.may_speak();
            ending = self.poll_cn(cx);
            if ending.is_none() && held_back && self.dialog.may_speak() {
                ending = self.poll_client(cx);
            }
        }
        self.card.activity.set(Activity::of(&self.dialog));
        match ending {
            Some(ending) => Poll::Ready(ending),
            None if self.worker.is_stopping() && self.may_stop() => Poll::Ready(Ending::ShutDown),
            None => Poll::Pending,
        }
    }

    /// Client to CN. None when there is nothing more to forward for now.
    #[inline]
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        loop {
            if self.client.is_bulk() && self.cn.poll_sent(cx).is_pending() {
                return self.client.broken().map(|_| Ending::ClientGone);
            }
            match self.client.poll_received(cx) {
                Poll::Pending => return None,
                Poll::Ready(Received::Data) => {}
                Poll::Ready(Received::End | Received::Broken(_)) => return Some(Ending::ClientGone),
            }
            if !self.dialog.may_speak() {
                return None;
            }
            match self.cn.poll_sent(cx) {
                Poll::Pending => return self.client.broken().map(|_| Ending::ClientGone),
                Poll::Ready(Ok(())) => {}
                // What the CN said last may explain it, and is still to be read.
                Poll::Ready(Err(_)) => return None,
            }
            let (mut bytes, mut commands) = (0, 0);
            let (dialog, quit) = (&mut self.dialog, &mut self.quit);
            self.client.look(|chunk| {
                let news = dialog.client_bytes(chunk);
                bytes += chunk.len();
                commands += u64::from(news.commands);
                *quit |= news.quit;
            });
            self.cn.forward(self.client);
            self.worker.counters.bytes_in.add(bytes as u64);
            if commands > 0 {
                self.worker.counters.commands.add(commands);
                self.card.commands.set(self.card.commands.get() + commands);
            }
        }
    }

    /// CN to client.
    #[inline]
    fn poll_cn(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        loop {
            if self.cn.is_bulk() && self.client.poll_sent(cx).is_pending() {
                return None;
            }
            match self.cn.poll_received(cx) {
                Poll::Pending => return None,
                Poll::Ready(Received::Data) => {}
                Poll::Ready(_) if self.quit => return Some(Ending::Quit),
                Poll::Ready(Received::End) => return Some(Ending::CnClosed),
                Poll::Ready(Received::Broken(errno)) => return Some(Ending::CnBroken(errno)),
            }
            match self.client.poll_sent(cx) {
                Poll::Pending => return None,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Some(Ending::ClientGone),
            }
            let mut bytes = 0;
            let dialog = &mut self.dialog;
            self.cn.look(|chunk| {
                dialog.cn_bytes(chunk);
                bytes += chunk.len();
            });
            self.client.forward(self.cn);
            self.worker.counters.bytes_out.add(bytes as u64);
        }
    }

    /// A stopping worker waits for statements and transactions, until it is out of patience.
    fn may_stop(&self) -> bool {
        self.worker.is_out_of_patience() || (self.dialog.idle() && !self.dialog.in_transaction())
    }
}
