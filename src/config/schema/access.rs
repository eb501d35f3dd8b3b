//! The section about who may come in.

use super::{Default, Key, Kind, Section};

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
    ],
};
