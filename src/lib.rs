//! corelane: a thread-per-core, io_uring proxy for clusters that speak the MySQL protocol.
pub mod admin;
pub mod boot;
pub mod cli;
pub mod config;
pub mod coordinator;
pub mod ctl;
pub mod ident;
pub mod mailbox;
pub mod metrics;
pub mod net;
pub mod placement;
pub mod reactor;
pub mod route;
pub mod session;
pub mod wire;
pub mod worker;
