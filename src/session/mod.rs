//! What one session is and may do: its login, its dialog with a CN, its state, and how it is carried over. Pure.

pub mod account;
pub mod dialog;
pub mod face;
pub mod hold;
pub mod ledger;
pub mod login;
pub mod refusal;
pub mod restore;
pub mod script;
pub mod state;
pub mod statements;
pub mod tracking;
pub mod user;
