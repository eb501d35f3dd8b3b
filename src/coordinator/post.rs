//! The coordinator's side of one mailbox: what the worker still has to be told, and whether it has ended.
//!
//! An order that does not fit stays here. Of pictures only the newest is kept, because each one replaces
//! those before it; of the other orders so many that a worker which reads no more costs no more. They go out in
//! the order in which they were given, after the picture that was in force then, and a stop goes last.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::ident::{IdBlock, WorkerId};
use crate::mailbox::message::{Order, Parcel, Picture, Report};
use crate::mailbox::{CoordinatorEnd, Unsent};
use crate::placement::balance::STEPS_MAX;

/// Orders that wait for a worker, beside pictures and stops: two whole plans.
pub const ORDERS_WAITING_MAX: usize = 2 * STEPS_MAX;

#[derive(Debug)]
pub struct Post {
    end: CoordinatorEnd,
    picture: Option<Box<Picture>>,
    orders: VecDeque<Order>,
    stop: Option<Duration>,
    ended: bool,
}

impl Post {
    pub fn new(end: CoordinatorEnd) -> Self {
        Self { end, picture: None, orders: VecDeque::new(), stop: None, ended: false }
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
        self.picture = Some(Box::new(picture));
    }

    pub fn stop(&mut self, grace: Duration) {
        self.stop = Some(grace);
        // Nothing is moved any more; but a session that is on its way must arrive, to be told why it ends.
        self.orders.retain(|order| matches!(order, Order::Adopt(_)));
    }

    /// Gives an order; false when [`ORDERS_WAITING_MAX`] wait already, and then it is dropped.
    #[must_use]
    pub fn order(&mut self, order: Order) -> bool {
        let fits = self.orders.len() < ORDERS_WAITING_MAX;
        if fits {
            self.orders.push_back(order);
        }
        fits
    }

    /// Hands a session on, however many orders wait: each is bounded by the descriptors that it is. Gives it back where the
    /// worker has ended.
    pub fn adopt(&mut self, parcel: Parcel) -> Result<(), Parcel> {
        if self.has_ended() {
            return Err(parcel);
        }
        self.orders.push_back(Order::Adopt(parcel));
        Ok(())
    }

    /// Hands connection ids on, however many orders wait: a worker asks for one block at a time.
    pub fn give_ids(&mut self, block: IdBlock) {
        self.orders.push_back(Order::Ids(block));
    }

    /// Asks the worker for its sessions, before any other order: somebody waits for it. Gives who it is. One that has as many
    /// orders as it may have is not asked, and will be silent.
    pub fn list_sessions(&mut self, ticket: u64) -> WorkerId {
        if self.orders.len() < ORDERS_WAITING_MAX {
            self.orders.push_front(Order::ListSessions { ticket });
        }
        self.worker()
    }

    /// Sends what fits of what waits; true when nothing waits any more.
    pub fn flush(&mut self) -> bool {
        if let Some(picture) = self.picture.take()
            && let Err(Unsent::Full(Order::Publish(picture))) = self.end.send(Order::Publish(picture))
        {
            self.picture = Some(picture);
        }
        while self.picture.is_none()
            && let Some(order) = self.orders.pop_front()
        {
            if let Err(Unsent::Full(order)) = self.end.send(order) {
                self.orders.push_front(order);
                break;
            }
        }
        if self.orders.is_empty()
            && let Some(grace) = self.stop.take()
            && let Err(Unsent::Full(_)) = self.end.send(Order::Stop { grace })
        {
            self.stop = Some(grace);
        }
        self.picture.is_none() && self.orders.is_empty() && self.stop.is_none()
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

    fn picture(epoch: u64) -> Picture {
        let view = Arc::new(View { epoch: Epoch(epoch), cns: Vec::new() });
        Picture { view, ..Picture::new(&Settings::default()) }
    }

    #[test]
    fn only_the_newest_picture_waits_for_a_full_mailbox() {
        let (end, worker) = pair(WorkerId(0)).unwrap();
        let mut post = Post::new(end);
        for ticket in 0..ORDERS_MAX as u64 {
            assert!(post.order(Order::Census { ticket }));
        }
        assert!(post.flush());
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
    fn orders_wait_in_turn_behind_the_picture_and_before_the_stop() {
        let (end, worker) = pair(WorkerId(0)).unwrap();
        let mut post = Post::new(end);
        for ticket in 0..ORDERS_MAX as u64 {
            assert!(post.order(Order::Census { ticket }));
        }
        post.publish(picture(1));
        assert!(!post.flush());
        let first: Vec<_> = worker.orders().collect();
        assert!(matches!(first[0], Order::Publish(_)));
        assert!(matches!(first[ORDERS_MAX - 1], Order::Census { ticket: 62 }));
        assert!(post.adopt(Parcel(Box::new(()))).is_ok());
        post.list_sessions(7);
        assert!(
            matches!(post.orders.front(), Some(Order::ListSessions { ticket: 7 })),
            "somebody waits for it"
        );
        post.stop(Duration::ZERO);
        assert!(post.flush());
        let last: Vec<_> = worker.orders().collect();
        assert!(matches!(last[..], [Order::Adopt(_), Order::Stop { .. }]), "{last:?}");
        for _ in 0..ORDERS_WAITING_MAX {
            assert!(post.order(Order::Census { ticket: 0 }));
        }
        assert!(!post.order(Order::Census { ticket: 0 }));
        post.list_sessions(8);
        assert_eq!(post.orders.len(), ORDERS_WAITING_MAX);
        assert!(post.adopt(Parcel(Box::new(()))).is_ok(), "a session is not lost for want of room");
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
        assert!(post.adopt(Parcel(Box::new(()))).is_err());
        post.mark_ended();
        assert!(!post.is_lost());
    }
}
