//! A client of the admin door: one connection, one statement, its answers; or the same two again and
//! again, which is `top`.
//!
//! Speaks the MySQL protocol and nothing of its own, so any MySQL server will do in its place. It runs
//! on a tokio runtime of its own that ends with the answer. Every wait has a limit. The connection sends
//! no statement but the one that was asked for.

mod answer;
mod top;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, Row};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

pub use answer::{Answer, Cell, Column, Form};
pub use top::{look, top};

use crate::config::settings::Admin;

/// From dialling to the end of the login.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// From the statement to the last row of its answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// The longest packet either side may send, in bytes. Given, so that the client does not ask for it.
const PACKET_MAX: usize = 64 << 20;

/// How long the server keeps an idle connection, in seconds. Given, so that the client does not ask.
const IDLE_LIMIT_S: usize = 28_800;

/// An admin door and who enters.
#[derive(Clone)]
pub struct Door {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
}

impl Door {
    /// The door that these settings open, seen from the same machine, for the first of its users.
    pub fn of(admin: &Admin) -> Self {
        let ip = match admin.listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let user = admin.users.first();
        Self {
            host: ip.to_string(),
            port: admin.listen.port(),
            user: user.map_or(String::new(), |user| user.name.clone()),
            password: user.map_or(String::new(), |user| user.password.to_string()),
        }
    }

    fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn opts(&self) -> Opts {
        OptsBuilder::default()
            .ip_or_hostname(&self.host)
            .tcp_port(self.port)
            .user(Some(&self.user))
            .pass(Some(&self.password))
            .prefer_socket(false)
            .stmt_cache_size(0)
            .max_allowed_packet(Some(PACKET_MAX))
            .wait_timeout(Some(IDLE_LIMIT_S))
            .into()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    #[error("ERROR {code} ({state}): {message}")]
    Refused { code: u16, state: String, message: String },
    #[error("the admin door at {address}: {source}")]
    Broken { address: String, source: Box<mysql_async::Error> },
    #[error("the admin door at {address} let nobody in within {} s", CONNECT_LIMIT.as_secs())]
    NoLogin { address: String },
    #[error("the admin door at {address} gave no answer within {} s", limit.as_secs())]
    NoAnswer { address: String, limit: Duration },
    #[error("no runtime for the client: {0}")]
    NoRuntime(std::io::Error),
    #[error("the terminal: {0}")]
    Terminal(std::io::Error),
}

/// Splits `host:port`, with an IPv6 address in brackets.
pub fn split_address(text: &str) -> Result<(String, u16), String> {
    let (host, port) = text.rsplit_once(':').ok_or("expected host:port")?;
    let port = port.parse().map_err(|_| format!("`{port}` is not a port"))?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bare.unwrap_or(host) {
        "" => Err("expected a host before the port".to_owned()),
        host if bare.is_none() && host.contains(':') => Err(format!("write `[{host}]:{port}`")),
        host => Ok((host.to_owned(), port)),
    }
}

/// Enters, asks one statement and leaves.
pub fn ask(door: &Door, statement: &str) -> Result<Vec<Answer>, CtlError> {
    runtime()?.block_on(async {
        let mut line = Line::open(door).await?;
        let answers = line.ask(statement).await?;
        line.close().await;
        Ok(answers)
    })
}

fn runtime() -> Result<Runtime, CtlError> {
    Builder::new_current_thread().enable_all().build().map_err(CtlError::NoRuntime)
}

/// An open connection to a door.
struct Line {
    address: String,
    conn: Conn,
}

impl Line {
    async fn open(door: &Door) -> Result<Self, CtlError> {
        let address = door.address();
        match timeout(CONNECT_LIMIT, Conn::new(door.opts())).await {
            Ok(Ok(conn)) => Ok(Self { address, conn }),
            Ok(Err(error)) => Err(failure(address, error)),
            Err(_) => Err(CtlError::NoLogin { address }),
        }
    }

    async fn ask(&mut self, statement: &str) -> Result<Vec<Answer>, CtlError> {
        match timeout(ANSWER_LIMIT, answers(&mut self.conn, statement)).await {
            Ok(Ok(answers)) => Ok(answers),
            Ok(Err(error)) => Err(failure(self.address.clone(), error)),
            Err(_) => Err(CtlError::NoAnswer { address: self.address.clone(), limit: ANSWER_LIMIT }),
        }
    }

    /// The answer is there already, so a farewell that fails changes nothing.
    async fn close(self) {
        let _ = timeout(CONNECT_LIMIT, self.conn.disconnect()).await;
    }
}

async fn answers(conn: &mut Conn, statement: &str) -> Result<Vec<Answer>, mysql_async::Error> {
    let mut result = conn.query_iter(statement).await?;
    let mut answers = Vec::new();
    loop {
        let columns = result.columns().unwrap_or_default();
        let (affected, info) = (result.affected_rows(), result.info().into_owned());
        let rows: Vec<Row> = result.collect().await?;
        answers.push(Answer::new(&columns, rows, affected, info));
        if result.is_empty() {
            return Ok(answers);
        }
    }
}

fn failure(address: String, error: mysql_async::Error) -> CtlError {
    match error {
        mysql_async::Error::Server(error) => {
            CtlError::Refused { code: error.code, state: error.state, message: error.message }
        }
        error => CtlError::Broken { address, source: Box::new(error) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_split_at_their_port() {
        assert_eq!(split_address("db:1"), Ok(("db".to_owned(), 1)));
        assert_eq!(split_address("[::1]:6032"), Ok(("::1".to_owned(), 6032)));
        for bad in ["db", "db:", ":1", "::1:6032", "db:70000"] {
            assert!(split_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wildcard_door_is_entered_by_loopback() {
        let mut admin = crate::config::Settings::default().admin;
        admin.listen = "[::]:7".parse().unwrap();
        assert_eq!(Door::of(&admin).address(), "[::1]:7");
    }
}
