//! The sections about users, and about the accounts by which corelane itself asks CNs.
//!
//! Each secret can be given in one of four ways: as it is, in a file, in an environment variable, or as a credential of the service
//! manager's.

use super::{Default, HOUR_MS, Key, Kind, PASSWORD_MAX, Section, USER_NAME_MAX};
use crate::wire::auth::{CACHING_SHA2, CLEAR, ED25519, NATIVE};

/// The longest name of an environment variable or credential, in bytes.
const VARIABLE_MAX: usize = 128;

/// Plugins by which a user can log in at corelane.
const PLUGINS: &[&str] = &[NATIVE, CACHING_SHA2, ED25519, CLEAR];

/// Plugins that clients can be greeted with.
const GREETED: &[&str] = &[NATIVE, CACHING_SHA2];

pub const AUTH: Section = Section {
    name: "auth",
    repeated: false,
    sentence: "Whose passwords corelane knows, beside those of the users in this file.",
    acted_on: true,
    keys: &[
        Key {
            name: "plugin",
            kind: Kind::Word(GREETED),
            default: Default::Value(r#""mysql_native_password""#),
            sentence: "The authentication plugin that clients are greeted with; what a client does not know, or a user needs otherwise, is asked for afterwards.",
        },
        Key {
            name: "rsa_key_file",
            kind: Kind::File,
            default: Default::Absent(r#""corelane-rsa.key""#),
            sentence: "A file in PEM with the private RSA key (PKCS #8) by which clients without TLS can send their passwords; without it one is made at the start.",
        },
        Key {
            name: "trust_cn_keys",
            kind: Kind::Switch,
            default: Default::Value("false"),
            sentence: "Whether a CN without TLS is sent passwords that it asks for (caching_sha2_password), encrypted by the public key that it shows; who can change what is sent between here and the CN could read them.",
        },
        Key {
            name: "query_user",
            kind: Kind::Text { min: 1, max: USER_NAME_MAX },
            default: Default::Absent(r#""monitor""#),
            sentence: "The account by which password hashes are read from the CNs' table mysql.user, which it must be granted to SELECT.",
        },
        Key {
            name: "query_password",
            kind: Kind::Text { min: 0, max: PASSWORD_MAX },
            default: Default::Absent(r#""secret""#),
            sentence: "Its password in clear text.",
        },
        Key {
            name: "query_password_file",
            kind: Kind::File,
            default: Default::Absent(r#""monitor.password""#),
            sentence: "A file whose first line is its password; a relative path starts beside this file.",
        },
        Key {
            name: "query_password_env",
            kind: Kind::Text { min: 1, max: VARIABLE_MAX },
            default: Default::Absent(r#""MONITOR_PASSWORD""#),
            sentence: "The environment variable that holds it.",
        },
        Key {
            name: "query_password_credential",
            kind: Kind::Text { min: 1, max: VARIABLE_MAX },
            default: Default::Absent(r#""monitor.password""#),
            sentence: "The credential of the service manager's that holds it, as systemd's LoadCredential= names it.",
        },
        Key {
            name: "query_interval_ms",
            kind: Kind::Integer { min: 100, max: HOUR_MS },
            default: Default::Value("10000"),
            sentence: "Milliseconds between two readings of a CN's table; a CN that comes up is read at once.",
        },
    ],
};

pub const DISCOVERY: Section = Section {
    name: "discovery",
    repeated: false,
    sentence: "How corelane finds out which MatrixOne CNs there are, beside those in this file.",
    acted_on: true,
    keys: &[
        Key {
            name: "user",
            kind: Kind::Text { min: 1, max: USER_NAME_MAX },
            default: Default::Absent(r#""dump""#),
            sentence: "The account by which any CN of flavour matrixone is asked for all of them; only \"dump\" and \"root\" of the tenant sys are told of all.",
        },
        Key {
            name: "password",
            kind: Kind::Text { min: 0, max: PASSWORD_MAX },
            default: Default::Absent(r#""secret""#),
            sentence: "Its password in clear text.",
        },
        Key {
            name: "password_file",
            kind: Kind::File,
            default: Default::Absent(r#""dump.password""#),
            sentence: "A file whose first line is its password; a relative path starts beside this file.",
        },
        Key {
            name: "password_env",
            kind: Kind::Text { min: 1, max: VARIABLE_MAX },
            default: Default::Absent(r#""DUMP_PASSWORD""#),
            sentence: "The environment variable that holds it.",
        },
        Key {
            name: "password_credential",
            kind: Kind::Text { min: 1, max: VARIABLE_MAX },
            default: Default::Absent(r#""dump.password""#),
            sentence: "The credential of the service manager's that holds it, as systemd's LoadCredential= names it.",
        },
        Key {
            name: "interval_ms",
            kind: Kind::Integer { min: 100, max: 60_000 },
            default: Default::Value("500"),
            sentence: "Milliseconds between an answer and the next question.",
        },
        Key {
            name: "query_port",
            kind: Kind::Integer { min: 1, max: 65_535 },
            default: Default::Value("19998"),
            sentence: "The port of a CN's query service on its own host, for CNs whose `query_address` does not say otherwise.",
        },
        Key {
            name: "hakeeper",
            kind: Kind::Addresses,
            default: Default::Absent(r#"["log1:32001", "log2:32001"]"#),
            sentence: "The log services of the MatrixOne cluster (its `service-addresses`), whose HAKeeper gives connection ids that are unique in the cluster; without them, or while none answers, ids come from `first_connection_id` on.",
        },
    ],
};

pub const USER: Section = Section {
    name: "user",
    repeated: true,
    sentence: "A user whom corelane can log in by itself. Has `name`, and its secret in exactly one of the ways below.",
    acted_on: true,
    keys: &[
        Key {
            name: "name",
            kind: Kind::Text { min: 1, max: USER_NAME_MAX },
            default: Default::Required(r#""sbtest""#),
            sentence: "The name on the CNs, without tenant and labels.",
        },
        Key {
            name: "password",
            kind: Kind::Text { min: 0, max: PASSWORD_MAX },
            default: Default::Absent(r#""secret""#),
            sentence: "The password in clear text.",
        },
        Key {
            name: "native_hash",
            kind: Kind::NativeHash,
            default: Default::Absent(r#""*14E65567ABDB5135D0CFD9A70B3032C179A49EE7""#),
            sentence: "What mysql_native_password stores, as `SELECT PASSWORD('..')` prints it on MariaDB.",
        },
        Key {
            name: "sha2_hash",
            kind: Kind::Sha2Hash,
            default: Default::Absent(
                r#""0x244124303041243F4C061F05433B401A4A7A353D7F5E43765A510E434C705866734A3343464A487558733269457761534755552F7347536B6D744C786E5261465544466F6833""#,
            ),
            sentence: "What caching_sha2_password stores (`authentication_string` of mysql.user), as `SHOW CREATE USER` prints it on MySQL with print_identified_with_as_hex. The user's clients show their passwords, by TLS or RSA, until corelane knows them.",
        },
        Key {
            name: "password_file",
            kind: Kind::File,
            default: Default::Absent(r#""sbtest.password""#),
            sentence: "A file whose first line is the password; a relative path starts beside this file.",
        },
        Key {
            name: "password_env",
            kind: Kind::Text { min: 1, max: VARIABLE_MAX },
            default: Default::Absent(r#""SBTEST_PASSWORD""#),
            sentence: "The environment variable that holds it.",
        },
        Key {
            name: "password_credential",
            kind: Kind::Text { min: 1, max: VARIABLE_MAX },
            default: Default::Absent(r#""sbtest.password""#),
            sentence: "The credential of the service manager's that holds it, as systemd's LoadCredential= names it.",
        },
        Key {
            name: "plugin",
            kind: Kind::Word(PLUGINS),
            default: Default::Absent(r#""caching_sha2_password""#),
            sentence: "The authentication plugin that the user's clients have to log in by; without it by the one that they prefer, as far as it can be checked.",
        },
        Key {
            name: "from",
            kind: Kind::Networks,
            default: Default::Absent(r#"["10.0.0.0/8", "unix"]"#),
            sentence: "Where the user's clients have to come from, else they get error 1045; without it from everywhere.",
        },
        Key {
            name: "certificate",
            kind: Kind::Claims,
            default: Default::Absent(r#"["CN=app1", "URI=spiffe://cluster/app*"]"#),
            sentence: "Of what the certificate that the user's clients show has to have one, else they get error 1045; \"*\" is any certificate. Without it they need none of their own.",
        },
    ],
};

/// One entry of `users` in `[admin]`.
pub const ADMIN_USER: Section = Section {
    name: "admin.users",
    repeated: true,
    sentence: "Who may enter by the admin door.",
    acted_on: true,
    keys: &[
        Key {
            name: "name",
            kind: Kind::Text { min: 1, max: USER_NAME_MAX },
            default: Default::Required(r#""admin""#),
            sentence: "The name to log in with.",
        },
        Key {
            name: "password",
            kind: Kind::Text { min: 0, max: PASSWORD_MAX },
            default: Default::Absent(r#""admin""#),
            sentence: "The password in clear text.",
        },
        Key {
            name: "password_file",
            kind: Kind::File,
            default: Default::Absent(r#""admin.password""#),
            sentence: "A file whose first line is the password; a relative path starts beside this file.",
        },
        Key {
            name: "password_env",
            kind: Kind::Text { min: 1, max: VARIABLE_MAX },
            default: Default::Absent(r#""ADMIN_PASSWORD""#),
            sentence: "The environment variable that holds it.",
        },
        Key {
            name: "password_credential",
            kind: Kind::Text { min: 1, max: VARIABLE_MAX },
            default: Default::Absent(r#""admin.password""#),
            sentence: "The credential of the service manager's that holds it, as systemd's LoadCredential= names it.",
        },
    ],
};
