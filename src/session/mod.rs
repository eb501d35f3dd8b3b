pub mod account;
pub mod dialog;
pub mod face;
pub mod hold;
pub mod login;
pub mod refusal;
pub mod user;
