//! The test house: real MariaDB servers, the built proxy, odd clients and scripted CNs for end-to-end tests.
//!
//! Everything here starts real processes and sockets on free ports of 127.0.0.1, in temporary directories,
//! and stops them when dropped. Nothing survives the test process: children die with it, and the
//! directories of a run that was killed are swept by the next one.
//!
//! It knows the protocol by its own bytes and uses nothing of the library, so that a mistake there cannot
//! hide here. It judges nothing: the tests do.

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part of the house")]

mod certificates;
mod client;
mod cluster;
mod command_line;
mod galera;
mod http;
mod mariadb;
mod matrixone;
mod place;
mod process;
mod prometheus;
mod proxy;
mod scripted;

pub use certificates::{Authority, Issued};
pub use client::{
    Can, Com, ErrPacket, Extended, LoginAs, RawClient, check as err_of, frames, native_scramble, short_text,
};
pub use cluster::{Driver, cluster, connect, driver_error, driver_opts};
pub use command_line::{command_line, refused, said};
pub use galera::Galera;
pub use http::{HttpAnswer, HttpDoor, RawHttp};
pub use mariadb::{BINARY_LOG, Mariadb};
pub use matrixone::{
    Fault, LogService, MO_PASSWORD, MatrixoneCn, Seen, TakenPreamble, seating_behind_preamble,
};
pub use place::{free_port, wait_until};
pub use process::run;
pub use prometheus::Scraped;
pub use proxy::{Proxy, binary, cn_toml, number};
pub use scripted::{OK, Round, ScriptedCn, err_packet, greet, one_row, read_frame, rows};
