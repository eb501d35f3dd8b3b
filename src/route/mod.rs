//! Request and view in, CN out: which compute node should serve a session.

pub mod label;
pub mod pick;
pub mod view;

pub use view::{Cn, CnState, Flavour, Target, View};
