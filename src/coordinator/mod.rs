//! (in progress)
pub mod desk;
mod post;
mod probe;
mod resolve;
mod roll;
pub mod signal;
