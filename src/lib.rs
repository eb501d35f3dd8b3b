//! corelane: a thread-per-core, io_uring proxy for clusters that speak the MySQL protocol.
//!
//! The floors, from the top; a module may use any floor below its own:
//!
//! ```text
//! 6 entry       main  cli  boot
//! 5 doors       admin  http  ctl
//! 4 actors      coordinator   |   worker
//! 3 reach       net -> reactor   |   mailbox
//! ------------------------------------------ waterline: no I/O, no clock below
//! 2 judgement   session   |   placement -> route
//! 1 language    wire   |   sql
//! 0 ground      metrics   ident
//! ```
//!
//! `config` stands beside them: its `settings` are plain values that all from `placement` up may take. Reading
//! a file is for `cli`, and for the coordinator on SIGHUP. `placement` takes one more type from above, the
//! failures in [`mailbox::message`]. The whole house is told in `docs/ARCHITECTURE.md`.

pub mod admin;
pub mod boot;
pub mod cli;
pub mod config;
pub mod coordinator;
pub mod ctl;
pub mod http;
pub mod ident;
pub mod mailbox;
pub mod metrics;
pub mod net;
pub mod placement;
pub mod reactor;
pub mod route;
pub mod secret;
pub mod session;
pub mod sql;
pub mod wire;
pub mod worker;
