//! Connection ids from the cluster's own source, kept in stock by a worker, so that no client waits for one.
//!
//! The coordinator lays in the first block; more are asked for before the last id is gone. Where that takes too long the worker gives
//! ids of its own range, which the cluster does not.
//!
//! Invariant: at most one request is under way, so there are at most [`STOCK_LOW`] ids and the block that was asked for.

use std::collections::VecDeque;

use crate::ident::{IdBlock, SessionId};

/// When no more ids than these are left, more are asked for.
pub const STOCK_LOW: u32 = 500;

#[derive(Debug, Default)]
pub struct Stock {
    blocks: VecDeque<IdBlock>,
    left: u32,
    wish: Wish,
}

/// How it stands with the next block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wish {
    /// Not even a first one was given.
    #[default]
    None,
    Unsaid,
    Said,
}

impl Stock {
    pub fn add(&mut self, block: IdBlock) {
        self.left = self.left.saturating_add(block.count);
        self.blocks.push_back(block);
        self.wish = Wish::Unsaid;
    }

    /// An id that the cluster gives to nobody else.
    pub fn take(&mut self) -> Option<SessionId> {
        loop {
            if let Some(id) = self.blocks.front_mut()?.take() {
                self.left -= 1;
                return Some(id);
            }
            self.blocks.pop_front();
        }
    }

    /// Whether it is time to ask for more. Never before the first block was given.
    pub fn runs_low(&self) -> bool {
        self.wish == Wish::Unsaid && self.left <= STOCK_LOW
    }

    /// More have been asked for.
    pub fn mark_asked(&mut self) {
        self.wish = Wish::Said;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_asked_for_once_before_the_last_is_gone() {
        let mut stock = Stock::default();
        assert!(stock.take().is_none() && !stock.runs_low(), "nobody gives any");
        stock.add(IdBlock { first: 7, count: STOCK_LOW + 1 });
        assert!(!stock.runs_low());
        assert_eq!(stock.take(), Some(SessionId(7)));
        assert!(stock.runs_low());
        stock.mark_asked();
        assert!(!stock.runs_low());
        stock.add(IdBlock { first: 9000, count: 1 });
        for nth in 0..STOCK_LOW {
            assert_eq!(stock.take(), Some(SessionId(8 + nth)));
        }
        assert!(stock.runs_low(), "the next block was given");
        assert_eq!((stock.take(), stock.take()), (Some(SessionId(9000)), None));
    }

    #[test]
    fn an_empty_stock_that_was_given_once_asks_until_it_is_heard() {
        let mut stock = Stock::default();
        stock.add(IdBlock { first: 1, count: 1 });
        assert_eq!(stock.take(), Some(SessionId(1)));
        // The request did not fit into the mailbox.
        assert!(stock.runs_low());
        assert!(stock.take().is_none());
        assert!(stock.runs_low());
    }
}
