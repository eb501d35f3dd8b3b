//! The typed, bounded ends between the coordinator and each worker.

pub mod message;
