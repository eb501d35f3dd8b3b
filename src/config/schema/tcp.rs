//! The keys about peers that are gone without a word, in `[listen]`, and the section with the same for CNs.

use super::{Default, HOUR_MS, Key, Kind, Section};

/// The most seconds that Linux takes for either, and the most probes. 0 leaves it to the kernel.
const SECONDS: Kind = Kind::Integer { min: 0, max: 32_767 };
const PROBES: Kind = Kind::Integer { min: 0, max: 127 };

pub const KEEPALIVE_IDLE: Key = Key {
    name: "keepalive_idle_s",
    kind: SECONDS,
    default: Default::Value("0"),
    sentence: "Seconds without a byte after which TCP probes whether the peer is still there (TCP_KEEPIDLE). 0: the kernel's net.ipv4.tcp_keepalive_time, mostly two hours.",
};

pub const KEEPALIVE_INTERVAL: Key = Key {
    name: "keepalive_interval_s",
    kind: SECONDS,
    default: Default::Value("0"),
    sentence: "Seconds between two such probes (TCP_KEEPINTVL). 0: the kernel's.",
};

pub const KEEPALIVE_PROBES: Key = Key {
    name: "keepalive_probes",
    kind: PROBES,
    default: Default::Value("0"),
    sentence: "Probes without an answer after which the connection is given up (TCP_KEEPCNT). 0: the kernel's.",
};

pub const USER_TIMEOUT: Key = Key {
    name: "user_timeout_ms",
    kind: Kind::Integer { min: 0, max: HOUR_MS },
    default: Default::Value("0"),
    sentence: "Milliseconds that bytes may stay unacknowledged before the connection is given up (TCP_USER_TIMEOUT); where it is set, it takes the place of keepalive_probes as well. 0: the kernel's, mostly a quarter of an hour.",
};

pub const CN_TCP: Section = Section {
    name: "cn_tcp",
    repeated: false,
    sentence: "How TCP finds out that a CN is gone without a word; for connections that sessions make from then on.",
    acted_on: true,
    keys: &[KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES, USER_TIMEOUT],
};
