//! The section about compression.

use super::{Default, Key, Kind, Section};

/// The algorithms that clients may be offered.
pub const CLIENTS: &[&str] = &["zlib", "zstd"];

/// What connections to CNs may be compressed by.
pub const CNS: &[&str] = &["off", "zlib", "zstd"];

pub const COMPRESSION: Section = Section {
    name: "compression",
    repeated: false,
    sentence: "Compression of the bytes on either leg of a session, each by itself. A change is for new connections.",
    acted_on: true,
    keys: &[
        Key {
            name: "clients",
            kind: Kind::Words(CLIENTS),
            default: Default::Value("[]"),
            sentence: "The algorithms that clients are offered; they ask for one of them, or for none. With both, zlib is taken.",
        },
        Key {
            name: "cns",
            kind: Kind::Word(CNS),
            default: Default::Value(r#""off""#),
            sentence: "By what connections to CNs of flavour mysql are compressed where the CN offers it. Unix sockets never are.",
        },
        Key {
            name: "level_zlib",
            kind: Kind::Integer { min: 1, max: 9 },
            default: Default::Value("1"),
            sentence: "How hard zlib tries: 1 is fastest, and what the worker's other sessions wait for least.",
        },
        Key {
            name: "level_zstd",
            kind: Kind::Integer { min: 1, max: 22 },
            default: Default::Value("1"),
            sentence: "How hard zstd tries; CNs are asked to try as hard.",
        },
    ],
};
