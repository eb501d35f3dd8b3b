//! The section about load balancers in front of corelane.

use super::{Default, Key, Kind, Section};

pub const PROXY_PROTOCOL: Section = Section {
    name: "proxy_protocol",
    repeated: false,
    sentence: "Load balancers in front of corelane that tell it of their clients, by the PROXY protocol of version 1 or 2.",
    acted_on: true,
    keys: &[Key {
        name: "from",
        kind: Kind::Networks,
        default: Default::Absent(r#"["10.0.0.0/8", "fd00::/8", "unix"]"#),
        sentence: "Where they are: a connection from there must begin with a header, whose address is believed, and one from elsewhere must not; \"unix\" stands for all Unix sockets.",
    }],
};
