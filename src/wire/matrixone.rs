//! What a MatrixOne proxy says to MatrixOne's CNs beside the MySQL protocol: a [preamble] in front of it, and a
//! [query service](query) on a port of its own; and what it asks their [HAKeeper](hakeeper).
//!
//! The MySQL part of the conversation is on the other pages, but for one custom: [`MARK`].

pub mod frame;
pub mod hakeeper;
pub mod preamble;
pub mod query;

use super::status::Status;

/// MatrixOne sets these two flags in each OK, and in each EOF that ends a result, but not in the EOF behind column definitions. With
/// them [`Status::IN_TRANS`] tells what it says; without them it tells nothing.
pub const MARK: Status = Status(Status::QUERY_WAS_SLOW.0 | Status::NO_GOOD_INDEX_USED.0);
