//! The coordinator's side of one mailbox: what the worker still has to be told, and whether it has ended.
//!
//! An order that does not fit stays here. Of pictures only the newest is kept, because each one replaces
//! those before it; so what waits here is bounded by one picture and one stop, whatever the worker does.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::ident::WorkerId;
use crate::mailbox::message::{Order, Picture, Report};
use crate::mailbox::{CoordinatorEnd, Unsent};

#[derive(Debug)]
pub struct Post {
    end: CoordinatorEnd,
    picture: Option<Picture>,
    stop: Option<Duration>,
    ended: bool,
}

impl Post {
    pub fn new(end: CoordinatorEnd) -> Self {
        Self { end, picture: None, stop: None, ended: false }
    }

    pub fn worker(&self) -> WorkerId {
        self.end.worker()
    }

    /// See [`CoordinatorEnd::bell`].
    pub fn bell(&self) -> io::Result<OwnedFd> {
        self.end.bell()
    }

    pub fn next_report(&mut self) -> Option<Report> {
        self.end.next_report()
    }

    /// The worker has said that it stopped.
    pub fn mark_ended(&mut self) {
        self.ended = true;
    }

    /// Whether the worker has stopped, or dropped its end without a word.
    pub fn has_ended(&self) -> bool {
        self.ended || self.end.is_gone()
    }

    /// Whether the worker dropped its end without having stopped.
    pub fn is_lost(&self) -> bool {
        self.end.is_gone() && !self.ended
    }

    pub fn publish(&mut self, picture: Picture) {
        self.picture = Some(picture);
    }

    pub fn stop(&mut self, grace: Duration) {
        self.stop = Some(grace);
    }

    /// Asks the worker for its sessions now or not at all: a late answer is no use to anybody.
    #[must_use]
    pub fn list_sessions(&self, ticket: u64) -> bool {
        !self.has_ended() && self.end.send(Order::ListSessions { ticket }).is_ok()
    }

    /// Sends what fits of what waits; true when nothing waits any more.
    pub fn flush(&mut self) -> bool {
        if let Some(picture) = self.picture.take()
            && let Err(Unsent::Full(Order::Publish(picture))) = self.end.send(Order::Publish(picture))
        {
            self.picture = Some(picture);
        }
        if let Some(grace) = self.stop.take()
            && let Err(Unsent::Full(_)) = self.end.send(Order::Stop { grace })
        {
            self.stop = Some(grace);
        }
        self.picture.is_none() && self.stop.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Settings;
    use crate::ident::Epoch;
    use crate::mailbox::{ORDERS_MAX, pair};
    use crate::route::View;
    use crate::session::face::Face;
    use crate::wire::capability::Capabilities;

    fn picture(epoch: u64) -> Picture {
        let settings = Settings::default();
        let face = Face { version: "1".into(), capabilities: Capabilities::default(), charset: 45 };
        Picture {
            view: Arc::new(View { epoch: Epoch(epoch), cns: Vec::new() }),
            users: Arc::default(),
            face: Arc::new(face),
            login: Arc::new(settings.login),
            migration: Arc::new(settings.migration),
            dwell: Duration::ZERO,
        }
    }

    #[test]
    fn only_the_newest_picture_waits_for_a_full_mailbox() {
        let (end, worker) = pair(WorkerId(0)).unwrap();
        let mut post = Post::new(end);
        for ticket in 0..ORDERS_MAX as u64 {
            assert!(post.list_sessions(ticket));
        }
        assert!(!post.list_sessions(99));
        post.publish(picture(1));
        assert!(!post.flush());
        post.publish(picture(2));
        assert!(!post.flush());
        assert_eq!(worker.orders().count(), ORDERS_MAX);
        assert!(post.flush());
        let epochs: Vec<_> = worker
            .orders()
            .map(|order| match order {
                Order::Publish(picture) => picture.view.epoch.0,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(epochs, [2]);
    }

    #[test]
    fn a_lost_worker_needs_no_orders() {
        let (end, worker) = pair(WorkerId(0)).unwrap();
        let mut post = Post::new(end);
        drop(worker);
        post.publish(picture(1));
        post.stop(Duration::ZERO);
        assert!(post.flush());
        assert!(post.next_report().is_none());
        assert!(post.is_lost());
        post.mark_ended();
        assert!(!post.is_lost());
    }
}
