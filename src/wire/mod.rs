//! The MySQL protocol as corelane speaks it: one packet per page, fields in wire order.
//!
//! Packets are read out of borrowed payloads and written to anything that is a [`bytes::BufMut`]. Every
//! read is bounded by the payload: a short, long or lying packet gives an [`Error`] that names the field,
//! never a panic. Nothing here reads a socket, knows a session or decides anything.

pub mod auth;
pub mod capability;
pub mod change_user;
pub mod command;
pub mod compressed;
pub mod cursor;
pub mod frame;
pub mod greeting;
pub mod login;
pub mod matrixone;
pub mod proxy_header;
pub mod reply;
pub mod resultset;
pub mod statement;
pub mod status;
pub mod track;

/// What was wrong with a packet: which field, what it should have been, what was there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{field}: expected {expected} more bytes, found {found}")]
    Short { field: &'static str, expected: u64, found: usize },
    #[error("{field}: expected a NUL at its end, found none in {found} bytes")]
    Unterminated { field: &'static str, found: usize },
    #[error("{packet}: expected its end, found {found} more bytes")]
    Trailing { packet: &'static str, found: usize },
    #[error("{field}: expected {expected}, found {found:#x}")]
    Unexpected { field: &'static str, expected: &'static str, found: u64 },
    #[error("{field}: expected at most {limit} bytes, found {found}")]
    TooLarge { field: &'static str, limit: usize, found: usize },
    #[error("sequence number: expected {expected}, found {found}")]
    Sequence { expected: u8, found: u8 },
}

pub type Result<T> = std::result::Result<T, Error>;
