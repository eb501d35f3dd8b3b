//! The sections about TLS.

use super::{Default, Key, Kind, Section};

/// Whether a client has to show a certificate.
pub const CLIENT_CERTIFICATES: &[&str] = &["no", "optional", "required"];

/// The oldest version of TLS that is spoken.
pub const VERSIONS: &[&str] = &["1.2", "1.3"];

/// How a CN is spoken to, by MySQL's words for it.
pub const CN_MODES: &[&str] = &["off", "preferred", "required", "verify_ca", "verify_name"];

pub const TLS: Section = Section {
    name: "tls",
    repeated: false,
    sentence: "TLS towards clients, which is offered where there is a certificate. All files are read again on SIGHUP; sessions keep the TLS that they have.",
    acted_on: true,
    keys: &[
        Key {
            name: "certificate_file",
            kind: Kind::File,
            default: Default::Absent(r#""corelane.crt""#),
            sentence: "A file in PEM with corelane's certificate, and behind it those that vouch for it; a relative path starts beside this file.",
        },
        Key {
            name: "key_file",
            kind: Kind::File,
            default: Default::Absent(r#""corelane.key""#),
            sentence: "A file in PEM with its private key.",
        },
        Key {
            name: "required",
            kind: Kind::Switch,
            default: Default::Value("false"),
            sentence: "Whether clients without TLS are refused.",
        },
        Key {
            name: "client_certificates",
            kind: Kind::Word(CLIENT_CERTIFICATES),
            default: Default::Value(r#""no""#),
            sentence: "Whether clients with TLS are asked for a certificate, and refused without one.",
        },
        Key {
            name: "client_ca_file",
            kind: Kind::File,
            default: Default::Absent(r#""clients.ca""#),
            sentence: "A file in PEM with those who vouch for clients.",
        },
        Key {
            name: "certificate_labels",
            kind: Kind::CertificateLabels,
            default: Default::Absent(r#"{ account = "O", tier = "OU" }"#),
            sentence: "Labels that a client's certificate gives, each with the field that it is taken from. A client that asks for something else by its login name, or whose certificate lacks the field, gets error 1045.",
        },
        Key {
            name: "min_version",
            kind: Kind::Word(VERSIONS),
            default: Default::Value(r#""1.2""#),
            sentence: "The oldest version of TLS that is spoken with clients.",
        },
    ],
};

pub const CN_TLS: Section = Section {
    name: "cn_tls",
    repeated: false,
    sentence: "TLS towards CNs of flavour mysql. All files are read again on SIGHUP; sessions keep the TLS that they have.",
    acted_on: true,
    keys: &[
        Key {
            name: "mode",
            kind: Kind::Word(CN_MODES),
            default: Default::Value(r#""off""#),
            sentence: "Whether connections to CNs are encrypted: never; where the CN can; always; always, to a CN whose certificate is vouched for; and for the host name or IP address in its `address`. Unix sockets never are.",
        },
        Key {
            name: "ca_file",
            kind: Kind::File,
            default: Default::Absent(r#""cns.ca""#),
            sentence: "A file in PEM with those who vouch for CNs; needed by \"verify_ca\" and \"verify_name\".",
        },
        Key {
            name: "certificate_file",
            kind: Kind::File,
            default: Default::Absent(r#""corelane-client.crt""#),
            sentence: "A file in PEM with the certificate that CNs are shown, and behind it those that vouch for it.",
        },
        Key {
            name: "key_file",
            kind: Kind::File,
            default: Default::Absent(r#""corelane-client.key""#),
            sentence: "A file in PEM with its private key.",
        },
        Key {
            name: "min_version",
            kind: Kind::Word(VERSIONS),
            default: Default::Value(r#""1.2""#),
            sentence: "The oldest version of TLS that is spoken with CNs.",
        },
    ],
};
