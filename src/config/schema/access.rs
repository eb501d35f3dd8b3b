//! The section about who may come in.

use super::{Default, Key, Kind, Section};

/// 0 sets no limit.
const COUNT: Kind = Kind::Integer { min: 0, max: 10_000_000 };

pub const ACCESS: Section = Section {
    name: "access",
    repeated: false,
    sentence: "Who may come in. What is denied wins over what is allowed; a list of what is allowed denies all else.",
    acted_on: true,
    keys: &[
        Key {
            name: "deny",
            kind: Kind::Networks,
            default: Default::Absent(r#"["10.9.0.0/16"]"#),
            sentence: "Where clients must not come from: they get error 1130. \"unix\" stands for all Unix sockets; behind a load balancer of [proxy_protocol] it is the address that it tells.",
        },
        Key {
            name: "allow",
            kind: Kind::Networks,
            default: Default::Absent(r#"["10.0.0.0/8", "unix"]"#),
            sentence: "Where clients may come from; without it from everywhere.",
        },
        Key {
            name: "users_denied",
            kind: Kind::Names,
            default: Default::Absent(r#"["root", "test*"]"#),
            sentence: "Users, without tenant and labels, who get error 1045 before a CN hears of them; `*` stands for anything.",
        },
        Key {
            name: "users_allowed",
            kind: Kind::Names,
            default: Default::Absent(r#"["app*"]"#),
            sentence: "Users who may come in; without it all.",
        },
        Key {
            name: "tenants_denied",
            kind: Kind::Names,
            default: Default::Absent(r#"["acc9"]"#),
            sentence: "Tenants whose users get error 1045.",
        },
        Key {
            name: "tenants_allowed",
            kind: Kind::Names,
            default: Default::Absent(r#"["acc*", "sys"]"#),
            sentence: "Tenants whose users may come in; without it all.",
        },
        Key {
            name: "max_connect_errors",
            kind: COUNT,
            default: Default::Value("0"),
            sentence: "Handshakes of one IP address in a row that are broken off or not understood, after which it gets error 1129 for `blocked_s`, over all workers; a login that a CN lets in ends the row. 0 counts none.",
        },
        Key {
            name: "max_failed_logins",
            kind: COUNT,
            default: Default::Value("0"),
            sentence: "The same for logins that are denied (error 1045), by corelane or by a CN. 0 counts none.",
        },
        Key {
            name: "blocked_s",
            kind: Kind::Integer { min: 1, max: 604_800 },
            default: Default::Value("300"),
            sentence: "Seconds for which such an address is shut out; FLUSH HOSTS at the admin door lets all in at once.",
        },
    ],
};
