pub mod face;
pub mod login;
pub mod refusal;
pub mod user;
