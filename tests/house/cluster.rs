//! Three real CNs shared by all tests of a binary, two of them with a binary log, and the ordinary driver.
//!
//! Tests that stop, fill or reconfigure a server start one of their own.

use std::sync::OnceLock;
use std::time::Duration;

use mysql::{Conn, Opts, OptsBuilder};

use super::mariadb::Mariadb;

/// How long the driver waits for any answer, so that a proxy that hangs fails a test and does not hang it.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// The ordinary blocking driver.
pub type Driver = Conn;

/// `cn1`, `cn2` and `cn3`, started on first use, alive to the end of the test process.
pub fn cluster() -> &'static [Mariadb; 3] {
    static CLUSTER: OnceLock<[Mariadb; 3]> = OnceLock::new();
    CLUSTER
        .get_or_init(|| [Mariadb::start_logged("cn1"), Mariadb::start_logged("cn2"), Mariadb::start("cn3")])
}

/// Options of the driver for a TCP port of 127.0.0.1; an empty password is none.
pub fn driver_opts(port: u16, user: &str, password: &str) -> OptsBuilder {
    let password = Some(password).filter(|password| !password.is_empty());
    OptsBuilder::new()
        .ip_or_hostname(Some("127.0.0.1"))
        .tcp_port(port)
        .user(Some(user))
        .pass(password)
        .db_name(Some("test"))
        .prefer_socket(false)
        .tcp_connect_timeout(Some(ANSWER_LIMIT))
        .read_timeout(Some(ANSWER_LIMIT))
        .write_timeout(Some(ANSWER_LIMIT))
}

/// Connects or fails the test.
pub fn connect(port: u16, user: &str, password: &str) -> Driver {
    let opts: Opts = driver_opts(port, user, password).into();
    Conn::new(opts).unwrap_or_else(|e| panic!("connect as {user:?}: {e}"))
}

/// The ERR that made a driver call fail: code and message. Fails the test on any other outcome.
pub fn driver_error<T>(outcome: mysql::Result<T>) -> (u16, String) {
    match outcome {
        Err(mysql::Error::MySqlError(e)) => (e.code, e.message),
        Err(other) => panic!("expected an ERR packet, got: {other}"),
        Ok(_) => panic!("expected an ERR packet, but it succeeded"),
    }
}
