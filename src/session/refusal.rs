//! The one page that turns what went wrong into the ERR packet that a client sees.
//!
//! Codes and SQL states are those of MySQL where it has one that says the same, so that drivers act rightly:
//! class `08` means to them that the connection is gone. An ERR that a CN itself sent is passed on as it is
//! and does not come by here.

use super::login::CnLoginError;
use crate::wire;
use crate::wire::capability::Capabilities;
use crate::wire::reply::ErrPacket;

/// Bytes of the longest message; clients keep no more.
pub const MESSAGE_MAX: usize = 512;

/// Why corelane itself refuses a session or ends it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("Too many connections")]
    TooManySessions,
    /// Not 1226, which is about a user, and which nobody expects before a login.
    #[error("Too many connections from '{host}': there may be {limit}")]
    TooManyOfClient { host: String, limit: u32 },
    /// MySQL's words.
    #[error("User '{user}' has exceeded the 'max_user_connections' resource (current value: {limit})")]
    TooManyOfUser { user: String, limit: u32 },
    #[error("Bad handshake: {cause}")]
    HandshakeBad { cause: String },
    /// MatrixOne's words for a login packet beyond the limit.
    #[error("Got a packet bigger than 'max_allowed_packet' bytes")]
    LoginTooLong,
    #[error("Bad handshake: TLS was asked for, but this proxy does not offer it")]
    TlsNotOffered,
    /// A client of whom a load balancer should have told, or one that is taken for such a load balancer.
    #[error(
        "No right PROXY protocol header, with which [proxy_protocol] has connections from here begin: {cause}"
    )]
    ProxyHeaderBad { cause: String },
    /// MariaDB's words, and why.
    #[error("Proxy header is not accepted from {host}, which is not among [proxy_protocol] from")]
    ProxyHeaderUnasked { host: String },
    /// MySQL's words.
    #[error("Connections using insecure transport are prohibited while --require_secure_transport=ON.")]
    TlsRequired,
    #[error("Client does not support authentication plugins, which this proxy needs; consider upgrading it")]
    ClientTooOld,
    #[error("Access denied for user '{user}'@'{host}' (using password: {})", yes_no(.password))]
    AccessDenied { user: String, host: String, password: bool },
    /// MySQL's words.
    #[error("Host '{host}' is not allowed to connect to this MySQL server")]
    HostDenied { host: String },
    /// MySQL's words, and a way out that is there.
    #[error(
        "Host '{host}' is blocked because of many {faults}; unblock with 'FLUSH HOSTS' at the proxy's admin door, or wait"
    )]
    HostBlocked { host: String, faults: &'static str },
    /// A login name that cannot be read, or no CN for what it asks.
    #[error("internal error: {cause}")]
    Route { cause: String },
    /// MatrixOne's words for CNs that all take too long.
    #[error("all CN servers are busy, possibly due to too many active transactions ({last})")]
    AllBusy { last: String },
    #[error("Unable to connect to CN {cn} at {address}: {cause}")]
    CnUnreachable { cn: String, address: String, cause: String },
    #[error("Login to CN {cn} failed: {cause}")]
    CnLogin { cn: String, cause: CnLoginError },
    #[error("CN {cn} does not track the session: {cause}")]
    CnTracking { cn: String, cause: String },
    #[error("Connection was killed: {why}")]
    Killed { why: String },
    #[error("Lost connection to CN {cn} at {address} during {during}: {cause}")]
    CnLost { cn: String, address: String, cause: String, during: &'static str },
    /// LASTVAL() and the like after a move; LAST_INSERT_ID() after one between MatrixOne's CNs.
    #[error(
        "Lost connection: this session asks CN {cn} for a value (of a sequence, or LAST_INSERT_ID()) that only \
         the CN knew where it was before it moved"
    )]
    ValueLost { cn: String },
    /// MySQL's words, as those for a statement that took too long; of a transaction it has none.
    #[error("The client was disconnected by the server because of inactivity.")]
    IdleTooLong,
    #[error("The client was disconnected by the server because of inactivity inside a transaction.")]
    TransactionTooLong,
    #[error("Query execution was interrupted, maximum statement execution time exceeded")]
    StatementTooLong,
    #[error("Server shutdown in progress")]
    ShuttingDown,
    #[error("Login took too long")]
    LoginTimeout,
    #[error("internal error of the proxy: {cause}")]
    ProxyBug { cause: String },
}

impl Refusal {
    /// The ERR's payload. Before the client has said what it can do, `capabilities` are none, and the SQL
    /// state is left out, as servers do.
    pub fn packet(&self, capabilities: Capabilities) -> Vec<u8> {
        let (code, sqlstate) = self.code();
        let message = match self {
            Self::CnLogin { cause: CnLoginError::Unwilling { message, .. }, .. } => message.clone(),
            other => other.to_string(),
        };
        let message = &message.as_bytes()[..message.floor_char_boundary(MESSAGE_MAX)];
        let mut payload = Vec::with_capacity(9 + message.len());
        ErrPacket { code, sqlstate: Some(sqlstate), message }.write(&mut payload, capabilities);
        payload
    }

    /// Error code and SQL state.
    pub fn code(&self) -> (u16, [u8; 5]) {
        match self {
            // ER_USER_LIMIT_REACHED
            Self::TooManyOfUser { .. } => (1226, *b"42000"),
            Self::TooManySessions | Self::TooManyOfClient { .. } => (1040, *b"08004"),
            Self::HandshakeBad { .. } | Self::TlsNotOffered => (1043, *b"08S01"),
            // ER_UNKNOWN_ERROR and ER_HOST_NOT_PRIVILEGED, as MariaDB has them for this.
            Self::ProxyHeaderBad { .. } => (UNKNOWN_ERROR, *b"HY000"),
            Self::ProxyHeaderUnasked { .. } | Self::HostDenied { .. } => (1130, *b"HY000"),
            // ER_HOST_IS_BLOCKED
            Self::HostBlocked { .. } => (1129, *b"HY000"),
            // ER_SECURE_TRANSPORT_REQUIRED
            Self::TlsRequired => (3159, *b"HY000"),
            Self::LoginTooLong => (13125, *b"HY000"),
            // ER_NOT_SUPPORTED_AUTH_MODE
            Self::ClientTooOld => (1251, *b"08004"),
            Self::AccessDenied { .. } => (1045, *b"28000"),
            // MatrixOne's proxy answers with its "internal error" here, which its clients know.
            Self::Route { .. } => (20101, *b"HY000"),
            Self::AllBusy { .. } => (20508, *b"HY000"),
            // ER_CONNECT_TO_FOREIGN_DATA_SOURCE: MySQL's own code for "a server behind me is out of reach".
            // 2003 would say the same, but codes from 2000 on belong to the client's library.
            Self::CnUnreachable { .. } => (1429, *b"HY000"),
            Self::CnLogin { cause: CnLoginError::Unwilling { code, sqlstate, .. }, .. } => {
                (*code, sqlstate.unwrap_or(*b"HY000"))
            }
            Self::CnLogin { .. } | Self::CnTracking { .. } | Self::ProxyBug { .. } => {
                (UNKNOWN_ERROR, *b"HY000")
            }
            // MariaDB's ER_CONNECTION_KILLED, which it sends too when it ends a session from its side. Not 1053:
            // a client would take a crash for an orderly shutdown. The SQL state tells drivers that do not know
            // the code that the connection is gone; the text says which CN and why.
            Self::CnLost { .. } | Self::ValueLost { .. } => (1927, *b"08S01"),
            // The same code as a server gives it to a session that is killed.
            Self::Killed { .. } => (1927, *b"70100"),
            // ER_QUERY_TIMEOUT
            Self::StatementTooLong => (3024, *b"HY000"),
            // ER_CLIENT_INTERACTION_TIMEOUT, for a transaction too: MySQL has no limit of that kind, and drivers know by this code that
            // a connection was closed because its client was silent.
            Self::IdleTooLong | Self::TransactionTooLong => (4031, *b"HY000"),
            Self::ShuttingDown => (1053, *b"08S01"),
            // ER_NET_READ_INTERRUPTED
            Self::LoginTimeout => (1159, *b"08S01"),
        }
    }
}

impl From<wire::Error> for Refusal {
    /// A packet of the client's that cannot be read.
    fn from(error: wire::Error) -> Self {
        Self::HandshakeBad { cause: error.to_string() }
    }
}

fn yes_no(password: &bool) -> &'static str {
    if *password { "YES" } else { "NO" }
}

const UNKNOWN_ERROR: u16 = 1105;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_has_the_usual_words() {
        let denied = Refusal::AccessDenied { user: "u".into(), host: "h".into(), password: true };
        assert_eq!(
            denied.packet(Capabilities::PROTOCOL_41),
            b"\xff\x15\x04#28000Access denied for user 'u'@'h' (using password: YES)"
        );
        let denied = Refusal::AccessDenied { user: "u".into(), host: "h".into(), password: false };
        assert!(denied.to_string().ends_with("(using password: NO)"));
    }

    #[test]
    fn before_the_login_there_is_no_sql_state() {
        let payload = Refusal::TooManySessions.packet(Capabilities::default());
        assert_eq!(payload, b"\xff\x10\x04Too many connections");
    }

    #[test]
    fn a_lost_cn_is_named_with_its_cause() {
        let lost = Refusal::CnLost {
            cn: "cn1".into(),
            address: "10.0.0.1:3306".into(),
            cause: "connection reset by peer".into(),
            during: "a statement",
        };
        assert_eq!(
            lost.packet(Capabilities::PROTOCOL_41),
            b"\xff\x87\x07#08S01Lost connection to CN cn1 at 10.0.0.1:3306 during a statement: \
              connection reset by peer"
        );
    }

    #[test]
    fn what_an_unwilling_cn_said_is_passed_on() {
        let cause =
            CnLoginError::Unwilling { code: 1040, sqlstate: None, message: "Too many connections".into() };
        let refusal = Refusal::CnLogin { cn: "cn1".into(), cause };
        assert_eq!(refusal.packet(Capabilities::PROTOCOL_41), b"\xff\x10\x04#HY000Too many connections");
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let payload = Refusal::Route { cause: "é".repeat(600) }.packet(Capabilities::PROTOCOL_41);
        assert!(payload.len() <= 9 + MESSAGE_MAX);
        assert!(std::str::from_utf8(&payload[9..]).is_ok());
    }
}
