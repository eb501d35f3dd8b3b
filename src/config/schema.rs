//! Every section and key of the configuration: name, type, range, default, one sentence.
//!
//! The one table from which a file is read, `corelane config` is printed and unknown keys are guessed,
//! so that the three cannot drift apart. Ranges and defaults stand here and nowhere else. What the
//! values become is in `assemble`.

mod access;
mod accounts;
mod compression;
mod limits;
mod proxy_protocol;
mod tcp;
mod timeouts;
mod tls;

pub use accounts::ADMIN_USER;

use super::near::near;
use crate::route::certificate::Field;

/// A section of the file.
#[derive(Debug)]
pub struct Section {
    pub name: &'static str,
    /// `[[name]]`, any number of times; otherwise `[name]`, once at most.
    pub repeated: bool,
    pub sentence: &'static str,
    /// False for a section that nothing acts on as long as the file does not have it, whatever the defaults of its keys.
    pub acted_on: bool,
    pub keys: &'static [Key],
}

#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub default: Default,
    pub sentence: &'static str,
}

/// What stands for a key that the file does not have. All as TOML.
#[derive(Debug)]
pub enum Default {
    Value(&'static str),
    /// Nothing; here is an example.
    Absent(&'static str),
    /// The file must have it; here is an example.
    Required(&'static str),
}

/// What a value must look like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Switch,
    Integer {
        min: u64,
        max: u64,
    },
    Number {
        min: f64,
        max: f64,
    },
    /// Without control characters, of so many bytes.
    Text {
        min: usize,
        max: usize,
    },
    ServerVersion,
    LogLevel,
    /// A list of addresses to listen on.
    Listeners,
    /// A list of `host:port`.
    Addresses,
    /// A list of networks, and of `unix`.
    Networks,
    /// A list of names, in which `*` stands for anything.
    Names,
    /// One `ip:port`.
    Socket,
    CnAddress,
    Flavour,
    AtDeadline,
    /// One of these.
    Word(&'static [&'static str]),
    /// A list of these, each once at most.
    Words(&'static [&'static str]),
    Cpus,
    Cpu,
    AdminUsers,
    Labels,
    /// Labels with fields of certificates.
    CertificateLabels,
    /// What certificates have to have.
    Claims,
    NativeHash,
    Sha2Hash,
    File,
}

/// CPUs that Linux counts at most (`CPU_SETSIZE`).
pub const CPU_MAX: u64 = 1023;

/// The longest name of a CN or of a label, in bytes.
pub const NAME_MAX: usize = 64;

/// The longest user name, in bytes: 32 characters in MySQL, 128 in MariaDB.
pub const USER_NAME_MAX: usize = 128;

/// The longest password, in bytes.
const PASSWORD_MAX: usize = 256;

/// The longest of any time limit: an hour.
const HOUR_MS: u64 = 3_600_000;

const TIMEOUT_MS: Kind = Kind::Integer { min: 1, max: HOUR_MS };

impl Kind {
    /// What was expected, to be said after "expected".
    pub fn expects(self) -> String {
        match self {
            Self::Switch => "true or false".to_owned(),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Number { min, max } => format!("a number from {min} to {max}"),
            Self::Text { min: 0, max } => format!("a string of at most {max} bytes"),
            Self::Text { min, max } => format!("a string of {min} to {max} bytes"),
            Self::ServerVersion => "a version in a string, such as \"8.0.36\"".to_owned(),
            Self::LogLevel => "a log level in a string, such as \"info\"".to_owned(),
            Self::Listeners => "a list of addresses, such as [\"127.0.0.1:6009\"]".to_owned(),
            Self::Addresses => "a list of addresses, such as [\"db1:32001\"]".to_owned(),
            Self::Networks => "a list of networks and addresses, such as [\"10.0.0.0/8\"]".to_owned(),
            Self::Names => "a list of names, such as [\"app*\"]".to_owned(),
            Self::Socket => "an address, \"ip:port\"".to_owned(),
            Self::CnAddress => "an address in a string, such as \"db1:3306\"".to_owned(),
            Self::Flavour => "\"mysql\" or \"matrixone\"".to_owned(),
            Self::AtDeadline => "\"close\" or \"leave\"".to_owned(),
            Self::Word(words) => format!("one of {}", quoted(words)),
            Self::Words(words) => format!("a list of {}", quoted(words)),
            Self::Cpus => "\"auto\" or a list of CPU numbers".to_owned(),
            Self::Cpu => "\"auto\" or a CPU number".to_owned(),
            Self::AdminUsers => {
                "a list of users, such as [{ name = \"admin\", password = \"..\" }]".to_owned()
            }
            Self::Labels => "a table of labels, such as { account = [\"acc1\"] }".to_owned(),
            Self::CertificateLabels => {
                format!("a table of labels, each with one of {}", quoted(&Field::names()))
            }
            Self::Claims => format!(
                "a list of \"*\" or \"FIELD=value\" with FIELD one of {}, in which `*` stands for anything",
                Field::names().join(", ")
            ),
            Self::NativeHash => "a string of `*` and 40 hex digits".to_owned(),
            Self::Sha2Hash => {
                "a string of `0x` and 140 hex digits, or of `$A$005$` and 63 characters".to_owned()
            }
            Self::File => "a path in a string".to_owned(),
        }
    }
}

fn quoted(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    words.join(", ")
}

impl Section {
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The key that was probably meant by a name that is none.
    pub fn near(&self, name: &str) -> Option<&'static str> {
        near(name, self.keys.iter().map(|key| key.name))
    }

    /// As it stands in the file.
    pub fn heading(&self) -> String {
        if self.repeated { format!("[[{}]]", self.name) } else { format!("[{}]", self.name) }
    }
}

pub fn section(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name)
}

/// All sections, in the order in which they are printed.
pub static SECTIONS: &[Section] = &[
    Section {
        name: "listen",
        repeated: false,
        sentence: "Where clients connect.",
        acted_on: true,
        keys: &[
            Key {
                name: "sql",
                kind: Kind::Listeners,
                default: Default::Value(r#"["127.0.0.1:6009"]"#),
                sentence: "Addresses for clients: \"ip:port\", \"[ipv6]:port\" or \"unix:/path\".",
            },
            Key {
                name: "backlog",
                kind: Kind::Integer { min: 1, max: 1_000_000 },
                default: Default::Value("4096"),
                sentence: "Connections that wait to be accepted, per listener; the kernel caps it at net.core.somaxconn.",
            },
            Key {
                name: "max_sessions",
                kind: Kind::Integer { min: 1, max: 10_000_000 },
                default: Default::Value("20000"),
                sentence: "Sessions over all workers; one more is refused with error 1040. SIGHUP changes it, up to what it was at the start.",
            },
            Key {
                name: "max_sessions_per_tenant",
                kind: Kind::Integer { min: 0, max: 10_000_000 },
                default: Default::Value("0"),
                sentence: "Sessions of one tenant over all workers; one more is refused with error 1040. 0: as many as there may be.",
            },
            Key {
                name: "first_connection_id",
                kind: Kind::Integer { min: 1, max: 4_294_967_294 },
                default: Default::Value("2147483648"),
                sentence: "The first of the connection ids that clients are told; proxies of one MatrixOne cluster each need ids of their own.",
            },
            Key {
                name: "connection_ids",
                kind: Kind::Integer { min: 1, max: 4_294_967_294 },
                default: Default::Value("2147483647"),
                sentence: "How many ids there are from the first one on, up to 4294967294: at least 128 for each of `max_sessions`.",
            },
            Key {
                name: "server_version",
                kind: Kind::ServerVersion,
                default: Default::Absent(r#""8.0.36""#),
                sentence: "The version that clients are told; without it, the one that the CNs tell.",
            },
            tcp::KEEPALIVE_IDLE,
            tcp::KEEPALIVE_INTERVAL,
            tcp::KEEPALIVE_PROBES,
            tcp::USER_TIMEOUT,
        ],
    },
    proxy_protocol::PROXY_PROTOCOL,
    access::ACCESS,
    limits::LIMITS,
    tls::TLS,
    tls::CN_TLS,
    tcp::CN_TCP,
    compression::COMPRESSION,
    Section {
        name: "workers",
        repeated: false,
        sentence: "The cores that carry the traffic.",
        acted_on: true,
        keys: &[
            Key {
                name: "cpus",
                kind: Kind::Cpus,
                default: Default::Value(r#""auto""#),
                sentence: "The CPUs of the workers: \"auto\" for one on each, or a list such as [1, 2, 3]; one that is named twice has two.",
            },
            Key {
                name: "coordinator_cpu",
                kind: Kind::Cpu,
                default: Default::Value(r#""auto""#),
                sentence: "The CPU of the coordinator: \"auto\", or a number; it may share one with a worker.",
            },
            Key {
                name: "spin_us",
                kind: Kind::Integer { min: 0, max: 10_000 },
                default: Default::Value("0"),
                sentence: "Microseconds that a worker spins before it blocks; 50 lowers latency and burns an idle core.",
            },
        ],
    },
    Section {
        name: "admin",
        repeated: false,
        sentence: "The admin door, which speaks the MySQL protocol.",
        acted_on: true,
        keys: &[
            Key {
                name: "listen",
                kind: Kind::Socket,
                default: Default::Value(r#""127.0.0.1:6032""#),
                sentence: "Address of the admin door.",
            },
            Key {
                name: "users",
                kind: Kind::AdminUsers,
                default: Default::Value(r#"[{ name = "admin", password = "admin" }]"#),
                sentence: "Who may enter; must be written where `listen` is not a loopback address.",
            },
            Key {
                name: "max_connections",
                kind: Kind::Integer { min: 1, max: 1000 },
                default: Default::Value("32"),
                sentence: "Admin connections at the same time.",
            },
        ],
    },
    Section {
        name: "login",
        repeated: false,
        sentence: "Limits of a login.",
        acted_on: true,
        keys: &[
            Key {
                name: "client_timeout_ms",
                kind: TIMEOUT_MS,
                default: Default::Value("10000"),
                sentence: "Milliseconds in which a client must have sent what a login needs.",
            },
            Key {
                name: "connect_timeout_ms",
                kind: TIMEOUT_MS,
                default: Default::Value("3000"),
                sentence: "Milliseconds for connecting to a CN and receiving its greeting.",
            },
            Key {
                name: "cn_timeout_ms",
                kind: TIMEOUT_MS,
                default: Default::Value("10000"),
                sentence: "Milliseconds for each answer of a CN during a login.",
            },
            Key {
                name: "attempts",
                kind: Kind::Integer { min: 1, max: 16 },
                default: Default::Value("3"),
                sentence: "CNs that are tried for one login.",
            },
        ],
    },
    timeouts::TIMEOUTS,
    accounts::AUTH,
    accounts::DISCOVERY,
    Section {
        name: "probe",
        repeated: false,
        sentence: "How the coordinator finds out whether a CN is well.",
        acted_on: true,
        keys: &[
            Key {
                name: "interval_ms",
                kind: Kind::Integer { min: 10, max: HOUR_MS },
                default: Default::Value("1000"),
                sentence: "Milliseconds between two probes of a CN.",
            },
            Key {
                name: "timeout_ms",
                kind: TIMEOUT_MS,
                default: Default::Value("2000"),
                sentence: "Milliseconds for connecting, receiving the greeting and beginning TLS.",
            },
            Key {
                name: "fall",
                kind: Kind::Integer { min: 1, max: 100 },
                default: Default::Value("2"),
                sentence: "Failed probes in a row after which a CN is down.",
            },
            Key {
                name: "rise",
                kind: Kind::Integer { min: 1, max: 100 },
                default: Default::Value("2"),
                sentence: "Good probes in a row after which a CN that was down works again.",
            },
        ],
    },
    Section {
        name: "relay",
        repeated: false,
        sentence: "What a worker may hold in flight.",
        acted_on: true,
        keys: &[Key {
            name: "buffers_mib",
            kind: Kind::Integer { min: 1, max: 65_536 },
            default: Default::Value("64"),
            sentence: "MiB of memory for the receive buffers of one worker.",
        }],
    },
    Section {
        name: "shutdown",
        repeated: false,
        sentence: "What happens on SIGTERM.",
        acted_on: true,
        keys: &[Key {
            name: "grace_ms",
            kind: Kind::Integer { min: 0, max: 24 * HOUR_MS },
            default: Default::Value("30000"),
            sentence: "Milliseconds in which running statements and transactions may end; 0 closes everything at once.",
        }],
    },
    Section {
        name: "log",
        repeated: false,
        sentence: "What is written to standard error.",
        acted_on: true,
        keys: &[Key {
            name: "level",
            kind: Kind::LogLevel,
            default: Default::Value(r#""info""#),
            sentence: "\"error\", \"warn\", \"info\", \"debug\" or \"trace\", or by module: \"info,corelane::worker=debug\".",
        }],
    },
    Section {
        name: "http",
        repeated: false,
        sentence: "The HTTP door, for metrics and health.",
        acted_on: false,
        keys: &[
            Key {
                name: "listen",
                kind: Kind::Socket,
                default: Default::Value(r#""127.0.0.1:6070""#),
                sentence: "Address of the HTTP door, which asks nobody for a password.",
            },
            Key {
                name: "max_connections",
                kind: Kind::Integer { min: 1, max: 1000 },
                default: Default::Value("32"),
                sentence: "HTTP connections at the same time; one more is turned away.",
            },
            Key {
                name: "matrixone_names",
                kind: Kind::Switch,
                default: Default::Value("false"),
                sentence: "Whether /metrics tells the numbers a second time by the names that MatrixOne's proxy has for them.",
            },
        ],
    },
    Section {
        name: "balance",
        repeated: false,
        sentence: "How live sessions are spread over the CNs, and over the workers.",
        acted_on: true,
        keys: &[
            Key {
                name: "enabled",
                kind: Kind::Switch,
                default: Default::Value("true"),
                sentence: "Whether sessions move to make the load even; draining does not depend on it.",
            },
            Key {
                name: "interval_ms",
                kind: Kind::Integer { min: 10, max: HOUR_MS },
                default: Default::Value("1000"),
                sentence: "Milliseconds between two looks at the balance; a change of the CNs is looked at at once.",
            },
            Key {
                name: "tolerance",
                kind: Kind::Number { min: 0.0, max: 10.0 },
                default: Default::Value("0.3"),
                sentence: "How far above its fair share a CN may be before sessions move away: 0.3 is 30 %.",
            },
            Key {
                name: "dwell_ms",
                kind: Kind::Integer { min: 0, max: HOUR_MS },
                default: Default::Value("10000"),
                sentence: "Milliseconds that a session which has moved is left where it is, unless that CN drains.",
            },
            Key {
                name: "moves_per_second",
                kind: Kind::Integer { min: 1, max: 1_000_000 },
                default: Default::Value("5000"),
                sentence: "Sessions that may be told to move for the balance's sake in a second.",
            },
        ],
    },
    Section {
        name: "drain",
        repeated: false,
        sentence: "What DRAIN CN and REMOVE CN do where the statement does not say.",
        acted_on: true,
        keys: &[
            Key {
                name: "deadline_s",
                kind: Kind::Integer { min: 0, max: 86_400 },
                default: Default::Value("0"),
                sentence: "Seconds in which the sessions of a draining CN may leave it; 0 sets no limit.",
            },
            Key {
                name: "at_deadline",
                kind: Kind::AtDeadline,
                default: Default::Value(r#""close""#),
                sentence: "What becomes of those that are still there then: \"close\" ends them with an error, \"leave\" waits for them.",
            },
            Key {
                name: "moves_per_second",
                kind: Kind::Integer { min: 0, max: 1_000_000 },
                default: Default::Value("0"),
                sentence: "Sessions that may be told to leave draining CNs in a second; 0 sets no limit.",
            },
        ],
    },
    Section {
        name: "migration",
        repeated: false,
        sentence: "How a session moves from one CN to another.",
        acted_on: true,
        keys: &[
            Key {
                name: "patience_ms",
                kind: TIMEOUT_MS,
                default: Default::Value("5000"),
                sentence: "Milliseconds that a session told to move, but held by a transaction or the like, is waited for; then it stays.",
            },
            Key {
                name: "idle_ms",
                kind: TIMEOUT_MS,
                default: Default::Value("1000"),
                sentence: "Milliseconds without a command after which a session moves without waiting for its next one; counts and warnings of its last statement are given up.",
            },
            Key {
                name: "restore_timeout_ms",
                kind: TIMEOUT_MS,
                default: Default::Value("3000"),
                sentence: "Milliseconds in which the new CN must have taken a session's state over; its client waits meanwhile.",
            },
            Key {
                name: "back_off_ms",
                kind: TIMEOUT_MS,
                default: Default::Value("1000"),
                sentence: "Milliseconds before a session whose move has failed is told to move again; doubles with each failure.",
            },
            Key {
                name: "back_off_max_ms",
                kind: TIMEOUT_MS,
                default: Default::Value("60000"),
                sentence: "The most that the back-off grows to, in milliseconds.",
            },
            Key {
                name: "at_once",
                kind: Kind::Integer { min: 1, max: 10_000 },
                default: Default::Value("64"),
                sentence: "Sessions of one worker that may be on the move at the same time.",
            },
        ],
    },
    Section {
        name: "cn",
        repeated: true,
        sentence: "A CN: one backend server. One section for each.",
        acted_on: true,
        keys: &[
            Key {
                name: "id",
                kind: Kind::Text { min: 1, max: NAME_MAX },
                default: Default::Required(r#""cn1""#),
                sentence: "Its name, of which there is only one.",
            },
            Key {
                name: "address",
                kind: Kind::CnAddress,
                default: Default::Required(r#""127.0.0.1:3307""#),
                sentence: "Where it is: \"host:port\", \"[ipv6]:port\" or \"unix:/path\".",
            },
            Key {
                name: "flavour",
                kind: Kind::Flavour,
                default: Default::Value(r#""mysql""#),
                sentence: "Its dialect: \"mysql\" (MySQL, MariaDB, Percona) or \"matrixone\".",
            },
            Key {
                name: "labels",
                kind: Kind::Labels,
                default: Default::Absent(r#"{ account = ["acc1"], tier = "gold" }"#),
                sentence: "Whom it serves: for each label the values, `*` standing for anything; without labels it serves whom no labelled CN serves.",
            },
            Key {
                name: "weight",
                kind: Kind::Integer { min: 1, max: 10_000 },
                default: Default::Value("1"),
                sentence: "Its share: a CN of weight 2 carries twice the sessions of one of weight 1.",
            },
            Key {
                name: "max_sessions",
                kind: Kind::Integer { min: 0, max: 10_000_000 },
                default: Default::Value("0"),
                sentence: "Sessions that it may have over all workers; once it has them it is passed over, and a client for whom no other CN is left gets error 1040. 0 sets no limit.",
            },
            Key {
                name: "data",
                kind: Kind::Text { min: 1, max: NAME_MAX },
                default: Default::Absent(r#""d1""#),
                sentence: "The data set that it serves; sessions move only between CNs of the same one, and without one they stay.",
            },
            Key {
                name: "query_address",
                kind: Kind::CnAddress,
                default: Default::Absent(r#""127.0.0.1:19998""#),
                sentence: "Where the query service of a MatrixOne CN is, if not at `query_port` of [discovery] on its own host: \"ip:port\", or its own host name and a port.",
            },
            Key {
                name: "proxy_protocol",
                kind: Kind::Switch,
                default: Default::Value("false"),
                sentence: "Whether connections to it begin with a header of the PROXY protocol, version 2, that tells it the client's address; CNs of flavour mysql only, and only those that take one.",
            },
            Key {
                name: "tls",
                kind: Kind::Word(tls::CN_MODES),
                default: Default::Absent(r#""required""#),
                sentence: "Whether connections to it are encrypted, where that is not as `mode` of [cn_tls] says of all; by the certificates that [cn_tls] names. CNs of flavour mysql only, and not on Unix sockets.",
            },
        ],
    },
    accounts::USER,
];
