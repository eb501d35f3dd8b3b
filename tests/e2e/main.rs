//! End to end: the built proxy between real clients and real MariaDB servers, or scripted ones.
//!
//! Each file is one promise of the proxy; `house` brings the processes. The three CNs of
//! `house::cluster` are shared, so a test reads what it counts from its own proxy, never from a CN.

#[path = "../house/mod.rs"]
mod house;

mod access;
mod accounts;
mod admin;
mod auth;
mod change;
mod compression;
mod discovery;
mod galera;
mod http;
mod keepalive;
mod kill;
mod lifecycle;
mod login;
mod matrixone;
mod migrate;
mod pressure;
mod proxy_protocol;
mod relay;
mod reload;
mod road;
mod route;
mod sysbench;
mod tls;
