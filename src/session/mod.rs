pub mod dialog;
pub mod face;
pub mod user;
