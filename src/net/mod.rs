//! Sockets as corelane makes them: where it listens, how it dials a CN.
//!
//! No protocol and no time limits here: those who wait set them.

pub mod dial;
pub mod listen;
