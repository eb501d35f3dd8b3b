pub mod face;
pub mod user;
