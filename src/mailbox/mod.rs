//! The typed, bounded ends between the coordinator and each worker.
//!
//! Each worker has one mailbox: orders come down, reports go up. Each direction is a bounded channel and
//! a bell, a file descriptor that says "look into it", because a worker waits in its ring and the
//! coordinator in tokio. The worker's bell is an eventfd, the coordinator's a pipe: tokio has a safe type for
//! a pipe and none for an eventfd, and a pipe also tells that the worker is gone.
//!
//! Invariant: nobody ever waits for a full mailbox, so the two sides cannot deadlock. What does not fit
//! is given back to the sender, who decides: a worker keeps the session that it wanted to hand over, and counts and drops
//! any other report; the coordinator keeps the order. And a bell never rings before its message lies in the channel.

pub mod hosts;
pub mod message;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::ident::WorkerId;
use message::{Order, Report};

/// Orders that a worker may leave unread.
pub const ORDERS_MAX: usize = 64;

/// Reports that the coordinator may leave unread, per worker.
pub const REPORTS_MAX: usize = 1024;

/// The mailbox of one worker, as its two ends. Fails when the process has no file descriptor left.
pub fn pair(worker: WorkerId) -> io::Result<(CoordinatorEnd, WorkerEnd)> {
    // A ring's read of a non-blocking eventfd fails at once instead of waiting, so this one blocks. Ringing
    // it could block too, but only after 2^64 - 2 unread rings.
    let orders_bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
    let (reports_heard, reports_bell) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let (order_in, order_out) = crossbeam_channel::bounded(ORDERS_MAX);
    let (report_in, report_out) = crossbeam_channel::bounded(REPORTS_MAX);
    let coordinator = CoordinatorEnd {
        worker,
        orders: order_in,
        reports: report_out,
        orders_bell: orders_bell.clone(),
        reports_heard,
        gone: false,
    };
    let worker = WorkerEnd { worker, orders: order_out, reports: report_in, orders_bell, reports_bell };
    Ok((coordinator, worker))
}

/// A report did not fit, and here it is back: the coordinator is behind by [`REPORTS_MAX`] reports, or has ended.
#[derive(Debug, thiserror::Error)]
#[error("the coordinator's mailbox is full")]
pub struct Full(pub Report);

/// Why an order was not sent.
#[derive(Debug)]
pub enum Unsent {
    /// [`ORDERS_MAX`] orders lie unread; here is this one back.
    Full(Order),
    /// The worker has ended: nobody will read orders any more.
    Gone,
}

/// The worker's end: orders out, reports in.
#[derive(Debug)]
pub struct WorkerEnd {
    worker: WorkerId,
    orders: Receiver<Order>,
    // Dropped before its bell, whose end wakes the coordinator, so that it then sees that this end is gone.
    reports: Sender<Report>,
    orders_bell: Arc<OwnedFd>,
    reports_bell: OwnedFd,
}

impl WorkerEnd {
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// The orders that lie here now, oldest first. Never waits.
    pub fn orders(&self) -> impl Iterator<Item = Order> + '_ {
        self.orders.try_iter()
    }

    /// The eventfd that becomes readable when an order comes: 8 bytes to read, whose value means nothing.
    /// It blocks, so it is for a ring to read and not for a thread.
    pub fn eventfd(&self) -> BorrowedFd<'_> {
        self.orders_bell.as_fd()
    }

    /// Sends a report; never waits. The caller decides about one that does not fit.
    pub fn report(&self, report: Report) -> Result<(), Full> {
        self.reports.try_send(report).map_err(|unsent| Full(unsent.into_inner()))?;
        // EAGAIN means that thousands of rings are unheard, so the coordinator is called already.
        ring(&self.reports_bell, b"\n");
        Ok(())
    }
}

/// The coordinator's end: orders in, reports out.
#[derive(Debug)]
pub struct CoordinatorEnd {
    worker: WorkerId,
    orders: Sender<Order>,
    reports: Receiver<Report>,
    orders_bell: Arc<OwnedFd>,
    reports_heard: OwnedFd,
    gone: bool,
}

impl CoordinatorEnd {
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Sends an order; never waits.
    pub fn send(&self, order: Order) -> Result<(), Unsent> {
        match self.orders.try_send(order) {
            Ok(()) => {
                ring(&self.orders_bell, &1_u64.to_ne_bytes());
                Ok(())
            }
            Err(TrySendError::Full(order)) => Err(Unsent::Full(order)),
            Err(TrySendError::Disconnected(_)) => Err(Unsent::Gone),
        }
    }

    /// The next report that lies here, oldest first. Never waits.
    pub fn next_report(&mut self) -> Option<Report> {
        match self.reports.try_recv() {
            Ok(report) => Some(report),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                self.gone = true;
                None
            }
        }
    }

    /// Whether the worker dropped its end and its last report has been read.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// The read end of a pipe: every report writes a byte, and the worker's end of the mailbox is its last
    /// write end. Non-blocking; reading it is the caller's business.
    pub fn bell(&self) -> io::Result<OwnedFd> {
        self.reports_heard.try_clone()
    }
}

fn ring(bell: &OwnedFd, bytes: &[u8]) {
    while rustix::io::write(bell, bytes) == Err(Errno::INTR) {}
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::message::{Event, Parcel};
    use super::*;
    use crate::ident::Epoch;

    fn stopped() -> Report {
        Report { worker: WorkerId(3), epoch: Epoch(1), event: Event::Stopped }
    }

    fn readable(fd: impl AsFd) -> bool {
        use rustix::event::{PollFd, PollFlags, poll};
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).unwrap() == 1
    }

    #[test]
    fn orders_come_in_order_and_ring() {
        let (coordinator, worker) = pair(WorkerId(3)).unwrap();
        assert!(!readable(&coordinator.orders_bell));
        coordinator.send(Order::ListSessions { ticket: 1 }).unwrap();
        coordinator.send(Order::ListSessions { ticket: 2 }).unwrap();
        assert!(readable(&worker.orders_bell));
        let tickets: Vec<_> = worker
            .orders()
            .map(|order| match order {
                Order::ListSessions { ticket } => ticket,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(tickets, [1, 2]);
    }

    #[test]
    fn a_full_mailbox_gives_the_message_back_at_once() {
        let (mut coordinator, worker) = pair(WorkerId(3)).unwrap();
        for _ in 0..ORDERS_MAX {
            coordinator.send(Order::ListSessions { ticket: 0 }).unwrap();
        }
        let grace = Duration::from_secs(9);
        match coordinator.send(Order::Stop { grace }) {
            Err(Unsent::Full(Order::Stop { grace: back })) => assert_eq!(back, grace),
            other => panic!("{other:?}"),
        }
        for _ in 0..REPORTS_MAX {
            worker.report(stopped()).unwrap();
        }
        let parcel = Parcel(Box::new("a session"));
        let report = Report { event: Event::HandedOver { to: WorkerId(4), parcel }, ..stopped() };
        match worker.report(report) {
            Err(Full(Report { event: Event::HandedOver { parcel, .. }, .. })) => {
                assert_eq!(parcel.0.downcast_ref(), Some(&"a session"));
            }
            other => panic!("{other:?}"),
        }
        assert!(coordinator.next_report().is_some());
        assert!(worker.report(stopped()).is_ok());
    }

    #[test]
    fn every_report_rings() {
        let (coordinator, worker) = pair(WorkerId(3)).unwrap();
        let bell = coordinator.bell().unwrap();
        for _ in 0..2 {
            assert!(!readable(&bell));
            worker.report(stopped()).unwrap();
            assert!(readable(&bell));
            rustix::io::read(&bell, &mut [0; 8]).unwrap();
        }
    }

    #[test]
    fn a_dropped_end_is_seen_after_its_last_report() {
        let (mut coordinator, worker) = pair(WorkerId(3)).unwrap();
        worker.report(stopped()).unwrap();
        let bell = coordinator.bell().unwrap();
        rustix::io::read(&bell, &mut [0; 8]).unwrap();
        drop(worker);
        assert_eq!(rustix::io::read(&bell, &mut [0; 8]), Ok(0));
        assert!(coordinator.next_report().is_some());
        assert!(!coordinator.is_gone());
        assert!(coordinator.next_report().is_none());
        assert!(coordinator.is_gone());
        assert!(matches!(coordinator.send(Order::ListSessions { ticket: 1 }), Err(Unsent::Gone)));
    }
}
