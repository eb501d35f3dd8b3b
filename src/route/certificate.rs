//! What a client's certificate says of it, and what is asked of that: the labels that it gives, and the users that it is good for.
//!
//! A certificate is read once in a login, behind a handshake in which TLS has verified that somebody vouches for it. Unlike what a
//! client says of itself this is proof: a label that the certificate gives cannot be asked for otherwise, and a certificate without the
//! field for a label lets nobody in. A client without a certificate has none of this, and may ask for what it likes; whoever wants it
//! otherwise requires certificates.
//!
//! Fields are those of the subject's name (RFC 5280, 4.1.2.6) and of its alternative names (4.2.1.6). Of several values of one field the
//! first one is the label, and any one is good for a user.
//!
//! Decides only; whether the certificate is to be believed is not asked here.

use std::collections::BTreeMap;
use std::fmt;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::AttributeTypeAndValue;

use super::label::glob_matches;

/// Values that are kept of one certificate at most.
const VALUES_MAX: usize = 64;

/// Bytes of a value at most; longer ones are as good as not there.
const VALUE_MAX: usize = 256;

/// One of the places in which a certificate says whom it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    CommonName,
    Organization,
    Unit,
    Dns,
    Uri,
    Email,
}

impl Field {
    /// As OpenSSL and RFC 4514 write them; the alternative names as OpenSSL does.
    const NAMES: [(&'static str, Self); 6] = [
        ("CN", Self::CommonName),
        ("O", Self::Organization),
        ("OU", Self::Unit),
        ("DNS", Self::Dns),
        ("URI", Self::Uri),
        ("EMAIL", Self::Email),
    ];

    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, field)| *field)
    }

    pub fn names() -> [&'static str; 6] {
        Self::NAMES.map(|(name, _)| name)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES.iter().find(|(_, field)| field == self).map_or("", |(name, _)| name))
    }
}

/// What has to be in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Whatever is in it.
    Any,
    /// A value of this field that fits a glob.
    Has(Field, String),
}

impl Claim {
    /// `*`, or `FIELD=glob`.
    pub fn read(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let (field, glob) = text.split_once('=')?;
        (!glob.is_empty()).then_some(Self::Has(Field::named(field)?, glob.to_owned()))
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Has(field, glob) => write!(f, "{field}={glob}"),
        }
    }
}

/// The fields of one certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate(Vec<(Field, String)>);

impl Certificate {
    /// What is in one in DER; nothing in one that cannot be read, though TLS could.
    pub fn read(der: &[u8]) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Self::default() };
        let subject = certificate.subject();
        let named = [
            (Field::CommonName, texts(subject.iter_common_name())),
            (Field::Organization, texts(subject.iter_organization())),
            (Field::Unit, texts(subject.iter_organizational_unit())),
            (Field::Email, texts(subject.iter_email())),
        ];
        let named =
            named.into_iter().flat_map(|(field, texts)| texts.into_iter().map(move |text| (field, text)));
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.into_iter().flat_map(|names| &names.value.general_names).filter_map(alternative);
        let values = named.chain(names.map(|(field, text)| (field, text.to_owned())));
        let is_sound =
            |text: &str| !text.is_empty() && text.len() <= VALUE_MAX && !text.chars().any(char::is_control);
        Self(values.filter(|(_, text)| is_sound(text)).take(VALUES_MAX).collect())
    }

    /// Whether one of these is in it.
    pub fn meets(&self, claims: &[Claim]) -> bool {
        claims.iter().any(|claim| match claim {
            Claim::Any => true,
            Claim::Has(field, glob) => self.values(*field).any(|value| glob_matches(glob, value)),
        })
    }

    /// The labels that it gives, or the field that it lacks.
    ///
    /// # Errors
    /// A field from which a label is taken is not in it.
    pub fn labels(&self, rules: &[(String, Field)]) -> Result<BTreeMap<String, String>, Field> {
        let label = |(key, field): &(String, Field)| {
            let value = self.values(*field).next().ok_or(*field)?;
            Ok((key.clone(), value.to_owned()))
        };
        rules.iter().map(label).collect()
    }

    fn values(&self, field: Field) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| *known == field).map(|(_, value)| value.as_str())
    }
}

fn texts<'a>(attributes: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>) -> Vec<String> {
    attributes.filter_map(|attribute| attribute.as_str().ok()).map(str::to_owned).collect()
}

fn alternative<'a>(name: &GeneralName<'a>) -> Option<(Field, &'a str)> {
    match name {
        GeneralName::DNSName(name) => Some((Field::Dns, name)),
        GeneralName::URI(uri) => Some((Field::Uri, uri)),
        GeneralName::RFC822Name(address) => Some((Field::Email, address)),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    /// One with these values.
    pub(crate) fn certificate(values: &[(Field, &str)]) -> Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (field, value) in values {
            let name = |value: &str| value.try_into().expect("an IA5String");
            match field {
                Field::CommonName => params.distinguished_name.push(DnType::CommonName, *value),
                Field::Organization => params.distinguished_name.push(DnType::OrganizationName, *value),
                Field::Unit => params.distinguished_name.push(DnType::OrganizationalUnitName, *value),
                Field::Dns => params.subject_alt_names.push(SanType::DnsName(name(value))),
                Field::Uri => params.subject_alt_names.push(SanType::URI(name(value))),
                Field::Email => params.subject_alt_names.push(SanType::Rfc822Name(name(value))),
            }
        }
        let key = KeyPair::generate().expect("a key");
        Certificate::read(params.self_signed(&key).expect("a certificate").der())
    }

    const APP: [(Field, &str); 7] = [
        (Field::CommonName, "app1"),
        (Field::Organization, "Acme, Inc."),
        (Field::Unit, "gold"),
        (Field::Dns, "app1.example"),
        (Field::Dns, "app.example"),
        (Field::Uri, "spiffe://cluster/app1"),
        (Field::Email, "app@example"),
    ];

    #[test]
    fn a_certificate_is_good_for_whom_it_names() {
        let app = certificate(&APP);
        let meets = |claims: &[&str]| {
            let claims: Vec<_> = claims.iter().map(|text| Claim::read(text).expect(text)).collect();
            app.meets(&claims)
        };
        for claim in
            ["*", "CN=app1", "CN=app*", "O=Acme, Inc.", "OU=gold", "DNS=app1.example", "DNS=app.example"]
        {
            assert!(meets(&[claim]) && meets(&["CN=other", claim]), "{claim}");
        }
        assert!(meets(&["URI=spiffe://cluster/*"]) && meets(&["EMAIL=app@example"]));
        for claim in ["CN=APP1", "CN=app", "O=app1", "OU=app1", "DNS=app1", "URI=*x"] {
            assert!(!meets(&[claim]), "{claim}");
        }
        assert!(!meets(&[]), "nobody is named");
    }

    #[test]
    fn labels_are_its_first_values_and_none_may_lack() {
        let rules = [("account".to_owned(), Field::Organization), ("app".to_owned(), Field::Dns)];
        let expected = [("account", "Acme, Inc."), ("app", "app1.example")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(certificate(&APP).labels(&rules), Ok(BTreeMap::from(expected)));
        assert_eq!(certificate(&APP[..2]).labels(&rules), Err(Field::Dns));
        assert_eq!(certificate(&[]).labels(&rules), Err(Field::Organization));
        assert_eq!(certificate(&[]).labels(&[]), Ok(BTreeMap::new()));
    }

    #[test]
    fn what_cannot_be_a_name_is_not_there() {
        let long = "x".repeat(VALUE_MAX + 1);
        let odd =
            certificate(&[(Field::CommonName, &long), (Field::Organization, "a\nb"), (Field::Unit, "")]);
        assert_eq!(odd, Certificate::default());
        assert_eq!(Certificate::read(b"no DER"), Certificate::default());
        let many: Vec<_> = (0..VALUES_MAX + 9).map(|n| format!("d{n}")).collect();
        let many: Vec<_> = many.iter().map(|name| (Field::Dns, name.as_str())).collect();
        assert_eq!(certificate(&many).0.len(), VALUES_MAX);
    }

    #[test]
    fn claims_are_read_and_written_alike() {
        for text in ["*", "CN=app1", "URI=spiffe://a/b?c=d", "EMAIL=*"] {
            assert_eq!(Claim::read(text).expect(text).to_string(), text);
        }
        for text in ["", "CN", "CN=", "cn=app1", "=x", "SERIAL=1", "**"] {
            assert_eq!(Claim::read(text), None, "{text}");
        }
    }
}
