//! The section about how many there may be.

use super::{Default, Key, Kind, Section};

/// 0 sets no limit.
const COUNT: Kind = Kind::Integer { min: 0, max: 10_000_000 };

pub const LIMITS: Section = Section {
    name: "limits",
    repeated: false,
    sentence: "How many sessions there may be of whom, beside `max_sessions` of [listen]. Taken up on SIGHUP: who is in stays in.",
    acted_on: true,
    keys: &[
        Key {
            name: "sessions_per_user",
            kind: COUNT,
            default: Default::Value("0"),
            sentence: "Sessions of one user of a tenant over all workers; one more is refused with error 1226. 0 sets no limit.",
        },
        Key {
            name: "sessions_per_client",
            kind: COUNT,
            default: Default::Value("0"),
            sentence: "Connections from one IP address over all workers, those still logging in included; one more is refused with error 1040. 0 sets no limit; Unix sockets have none.",
        },
        Key {
            name: "accepts_per_second",
            kind: COUNT,
            default: Default::Value("0"),
            sentence: "Connections that are taken in a second, each worker having its share; what goes beyond is refused with error 1040 at once. 0 sets no limit.",
        },
    ],
};
