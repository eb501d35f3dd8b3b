//! The settings as used: total, validated, with every default filled in.
//!
//! Everybody else in the house takes what they need from here. What the file looks like, and what may
//! stand in it, is [`super::schema`]'s. No `Debug` output here shows a secret.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::route::certificate::Claim;
use crate::route::label::Labels;
use crate::route::{Flavour, TlsMode};
use crate::wire::compressed::codec::{Algorithm, Packing};

use super::access::{Access, Networks};
use super::tls::{CnTls, ServerTls};
use crate::secret::Secret;
use crate::wire::auth::Plugin;
use crate::wire::auth::rsa::ServerKey;
use crate::wire::auth::sha2_crypt::Sha2Hash;

/// Everything that `corelane serve` was told.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub listen: Listen,
    /// Whose connections begin with a header that tells of their client; none where nobody's do.
    pub proxy_protocol: Option<Arc<Networks>>,
    /// None where everybody may come in.
    pub access: Option<Arc<Access>>,
    pub limits: Limits,
    /// None where clients are not offered it.
    pub tls: Option<Arc<ServerTls>>,
    /// None where no CN is.
    pub cn_tls: Arc<CnTls>,
    pub cn_tcp: Keepalive,
    pub compression: Compression,
    pub workers: Workers,
    pub admin: Admin,
    pub login: Login,
    pub timeouts: Timeouts,
    pub auth: Auth,
    pub discovery: Discovery,
    pub probe: Probe,
    pub relay: Relay,
    pub shutdown: Shutdown,
    pub log: Log,
    /// None where the file has no such section: then there is no HTTP door.
    pub http: Option<Http>,
    pub balance: Balance,
    pub drain: Drain,
    pub migration: Migration,
    pub cns: Vec<CnSetting>,
    pub users: Vec<UserSetting>,
}

impl Settings {
    /// What an operator should know about these settings although nothing in them is wrong.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.cns.is_empty() {
            notes.push("there is no [[cn]]: every login will be refused".to_owned());
        }
        if self.discovery.account.is_some() && !self.cns.iter().any(|cn| cn.flavour == Flavour::Matrixone) {
            notes.push("[discovery] has nobody to ask: there is no [[cn]] of flavour matrixone".to_owned());
        }
        let asks = self.tls.as_ref().is_some_and(|tls| tls.asks);
        if !asks && self.tls.as_ref().is_some_and(|tls| !tls.labels.is_empty()) {
            notes.push("[tls] takes labels from certificates, which it asks nobody for".to_owned());
        }
        for user in self.users.iter().filter(|user| user.certificate.is_some() && !asks) {
            notes.push(format!(
                "[[user]] {}: nobody can come in as one who needs a certificate, which [tls] asks nobody for",
                user.name
            ));
        }
        for cn in &self.cns {
            if cn.address.starts_with("unix:") {
                notes.push(format!(
                    "[[cn]] {}: over a Unix socket the CN takes every session for the user that corelane runs as; \
                     an account that logs in by unix_socket or auth_socket then lets anybody in",
                    cn.id
                ));
            }
        }
        let well_known = |user: &AdminUser| user.name == "admin" && &*user.password == "admin";
        if !self.admin.listen.ip().is_loopback() && self.admin.users.iter().any(well_known) {
            notes.push(format!(
                "[admin] lets everybody who reaches {} in with admin/admin",
                self.admin.listen
            ));
        }
        notes
    }
}

impl Default for Settings {
    /// What an empty file means.
    fn default() -> Self {
        super::read("", "default").expect("an empty file is a right one")
    }
}

/// `[listen]`
#[derive(Clone, Debug, PartialEq)]
pub struct Listen {
    /// Where clients connect. Default `127.0.0.1:6009`.
    pub sql: Vec<ListenAddress>,
    /// Connections that wait to be accepted, per listener (the kernel caps it at `somaxconn`). Default 4096.
    pub backlog: u32,
    /// Sessions over all workers; one more gets ERR 1040. Default 20000.
    pub max_sessions: u32,
    /// What that was when the process started, whose tables and open files are made for so many.
    pub laid_down_for: u32,
    /// Sessions of one tenant over all workers; one more gets ERR 1040. Default none.
    pub max_sessions_per_tenant: Option<u32>,
    /// The first connection id, and how many there are. Default 2147483648 and all above but the last.
    pub first_connection_id: u32,
    pub connection_ids: u32,
    /// What the greeting says instead of the CNs' own version. Default none.
    pub server_version: Option<String>,
    pub tcp: Keepalive,
}

/// Of `[listen]`, and `[cn_tcp]`: how the kernel finds out that a peer is gone without a word. Keepalive is always on; none of these
/// is the kernel's own, which is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// Without a byte until the first probe.
    pub idle: Option<Duration>,
    /// Between two probes.
    pub interval: Option<Duration>,
    /// Probes without an answer.
    pub probes: Option<u32>,
    /// For bytes that are not acknowledged.
    pub user_timeout: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    /// As the file writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `[limits]`: how many there may be. Default none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Sessions of one user of a tenant.
    pub sessions_per_user: Option<u32>,
    /// Connections from one IP address.
    pub sessions_per_client: Option<u32>,
    /// Connections taken in a second by all workers.
    pub accepts_per_second: Option<u32>,
}

/// `[compression]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compression {
    /// What clients are offered, and how it is done. Default none.
    pub zlib: Option<Packing>,
    pub zstd: Option<Packing>,
    /// What CNs are asked for. Default none.
    pub cns: Option<Packing>,
}

impl Compression {
    /// How bytes for a client that has asked for `algorithm` are packed; what it was offered may be changed by now.
    pub fn packing(&self, algorithm: Algorithm) -> Packing {
        let packing = match algorithm {
            Algorithm::Zlib => self.zlib,
            Algorithm::Zstd => self.zstd,
        };
        packing.unwrap_or(Packing { algorithm, level: 1 })
    }
}

/// `[workers]`
#[derive(Clone, Debug, PartialEq)]
pub struct Workers {
    /// CPUs to run a worker on, several on one that is there more than once; `None` is `"auto"`: all that the process may use, but for the coordinator's
    /// where there are more than two.
    pub cpus: Option<Vec<usize>>,
    /// The coordinator's CPU; `None` is `"auto"`.
    pub coordinator_cpu: Option<usize>,
    /// How long a worker spins before it blocks. Default 0.
    pub spin: Duration,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Default `127.0.0.1:6032`.
    pub listen: SocketAddr,
    pub users: Vec<AdminUser>,
    /// Admin connections at the same time. Default 32.
    pub max_connections: u32,
}

#[derive(Clone, PartialEq)]
pub struct AdminUser {
    pub name: String,
    pub password: Secret,
}

impl fmt::Debug for AdminUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// `[login]`
#[derive(Clone, Debug, PartialEq)]
pub struct Login {
    /// For each stretch of a login in which the client is waited for; the time that CNs take is not its own.
    /// Default 10 s.
    pub client_timeout: Duration,
    /// TCP connect to a CN and its greeting. Default 3 s.
    pub connect_timeout: Duration,
    /// Each answer of a CN during login. Default 10 s.
    pub cn_timeout: Duration,
    /// CNs tried for one login. Default 3.
    pub attempts: u32,
}

/// `[timeouts]`: how long sessions may take over something. Default none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Without a command outside a transaction.
    pub idle: Option<Duration>,
    /// The same inside one.
    pub transaction: Option<Duration>,
    /// For a statement and its result.
    pub query: Option<Duration>,
}

impl Timeouts {
    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// `[auth]`
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    /// Who reads password hashes from the CNs' user tables; without it nobody does.
    pub query: Option<Account>,
    /// Between two readings of a CN's table. Default 10 s.
    pub query_interval: Duration,
    /// What clients are greeted with. Default `mysql_native_password`.
    pub plugin: Plugin,
    /// By which clients without TLS can send their passwords; none: one is made.
    pub key: Option<Arc<ServerKey>>,
    /// The public key that a CN without TLS shows is believed. Default no.
    pub trusts_cn_keys: bool,
}

/// An account by which corelane itself asks CNs.
#[derive(Clone, PartialEq)]
pub struct Account {
    pub user: String,
    pub password: Secret,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("user", &self.user).finish_non_exhaustive()
    }
}

/// `[discovery]`
#[derive(Clone, Debug, PartialEq)]
pub struct Discovery {
    /// Who asks the CNs of flavour matrixone which CNs there are; without it nobody does.
    pub account: Option<Account>,
    /// Between an answer and the next question. Default 500 ms.
    pub interval: Duration,
    /// Where the query service of a MatrixOne CN is, on the CN's own host. Default 19998.
    pub query_port: u16,
    /// Log services, `host:port`, whose HAKeeper is asked for connection ids; empty without any.
    pub hakeeper: Vec<String>,
}

/// `[probe]`
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Between two probes of a CN. Default 1 s.
    pub interval: Duration,
    /// Connect and greeting. Default 2 s.
    pub timeout: Duration,
    /// Failed probes in a row before a CN is down. Default 2.
    pub fall: u32,
    /// Good probes in a row before a CN works again. Default 2.
    pub rise: u32,
}

/// `[relay]`: bounds of what a worker holds in flight.
#[derive(Clone, Debug, PartialEq)]
pub struct Relay {
    /// Memory that a worker's receive buffers may take, in MiB. Default 64.
    pub buffers_mib: u32,
}

/// `[shutdown]`
#[derive(Clone, Debug, PartialEq)]
pub struct Shutdown {
    /// How long running statements and transactions may take to end after SIGTERM. Default 30 s.
    pub grace: Duration,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// Directives for `tracing_subscriber::EnvFilter`. Default `info`.
    pub level: String,
}

/// `[http]`
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// Default `127.0.0.1:6070`.
    pub listen: SocketAddr,
    /// Connections at the same time. Default 32.
    pub max_connections: u32,
    /// Whether metrics are told by MatrixOne's names as well. Default false.
    pub matrixone_names: bool,
}

/// `[balance]`
#[derive(Clone, Debug, PartialEq)]
pub struct Balance {
    /// Default true.
    pub enabled: bool,
    /// Between two looks. Default 1 s.
    pub interval: Duration,
    /// How far above its fair share a CN may be. Default 0.3.
    pub tolerance: f64,
    /// How long a session that has moved stays. Default 10 s.
    pub dwell: Duration,
    /// Default 5000.
    pub moves_per_second: u32,
}

/// `[drain]`
#[derive(Clone, Debug, PartialEq)]
pub struct Drain {
    /// How long a drain may take; `None` is 0: as long as it takes, which is the default.
    pub deadline: Option<Duration>,
    /// Default `Close`.
    pub at_deadline: AtDeadline,
    /// `None` is 0: no limit, which is the default.
    pub moves_per_second: Option<u32>,
}

/// What becomes of the sessions that a drain has not moved away in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtDeadline {
    /// They end, each with an error that says why.
    Close,
    /// They stay until they leave by themselves.
    Leave,
}

/// `[migration]`: how a worker moves a session.
#[derive(Clone, Debug, PartialEq)]
pub struct Migration {
    /// How long an ordered session that is held is waited for. Default 5 s.
    pub patience: Duration,
    /// Without a command for so long, a session moves without waiting for the next. Default 1 s.
    pub idle: Duration,
    /// All answers of the new CN to a restore. Default 3 s.
    pub restore_timeout: Duration,
    /// After the first failed move of a session; doubles with each. Default 1 s.
    pub back_off: Duration,
    /// Default 60 s.
    pub back_off_max: Duration,
    /// Moves under way on one worker. Default 64.
    pub at_once: u32,
}

/// `[[cn]]`
#[derive(Clone, Debug, PartialEq)]
pub struct CnSetting {
    pub id: String,
    /// `host:port` or `unix:/path`
    pub address: String,
    pub flavour: Flavour,
    pub labels: Labels,
    pub weight: u32,
    /// The data set that it serves, if the file names one.
    pub data: Option<String>,
    /// `host:port` of its query service, where that is not at the usual port of its own host. MatrixOne only; a host
    /// name is that of `address`.
    pub query_address: Option<String>,
    /// It is told of clients by a header. `mysql` only. Default false.
    pub proxy_protocol: bool,
    /// Default what `[cn_tls]` says of all. `mysql` only, and not by a Unix socket.
    pub tls: Option<TlsMode>,
    /// Sessions at the same time. Default no limit.
    pub max_sessions: Option<u32>,
}

/// `[[user]]`
#[derive(Clone, Debug, PartialEq)]
pub struct UserSetting {
    pub name: String,
    pub secret: UserSecret,
    /// By which its clients have to log in; none: as they like.
    pub plugin: Option<Plugin>,
    /// Where they have to come from; none: from everywhere.
    pub from: Option<Networks>,
    /// Of what their certificates have to have one; none: they need none.
    pub certificate: Option<Vec<Claim>>,
}

#[derive(Clone, PartialEq)]
pub enum UserSecret {
    Password(Secret),
    /// SHA1(SHA1(password)), from `native_hash = "*HEX"`.
    NativeHash([u8; 20]),
    /// From `sha2_hash`.
    Sha2Hash(Sha2Hash),
}

impl fmt::Debug for UserSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserSecret(..)")
    }
}
