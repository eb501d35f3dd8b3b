//! The section about sessions that take too long.

use super::{Default, HOUR_MS, Key, Kind, Section};

/// The longest limit of a session: a week. 0 sets none.
const LIMIT_MS: Kind = Kind::Integer { min: 0, max: 7 * 24 * HOUR_MS };

pub const TIMEOUTS: Section = Section {
    name: "timeouts",
    repeated: false,
    sentence: "How long sessions may take over something. Looked at four times a second.",
    acted_on: true,
    keys: &[
        Key {
            name: "idle_ms",
            kind: LIMIT_MS,
            default: Default::Value("0"),
            sentence: "Milliseconds without a command outside a transaction, after which a session ends with error 4031; 0 sets no limit.",
        },
        Key {
            name: "transaction_ms",
            kind: LIMIT_MS,
            default: Default::Value("0"),
            sentence: "Milliseconds without a command inside a transaction, after which a session ends with error 4031 and its CN rolls back; 0 sets no limit.",
        },
        Key {
            name: "query_ms",
            kind: LIMIT_MS,
            default: Default::Value("0"),
            sentence: "Milliseconds that a statement may take, its result included; then its CN is told to stop it, and where nobody can say so the session ends with error 3024. 0 sets no limit.",
        },
    ],
};
