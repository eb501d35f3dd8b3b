//! (in progress)
pub mod desk;
mod post;
mod resolve;
mod roll;
pub mod signal;
