//! What must hold for a CN that does not come from a file: the rules of the file, from the same schema.
//!
//! Each error is a sentence for whoever asked for the value.

use crate::route::Flavour;
use crate::route::label::Labels;

use super::address::{check_cn_address, check_query_address};
use super::schema::{Kind, NAME_MAX, section};
use super::settings::CnSetting;

/// All rules at once.
pub fn cn(cn: &CnSetting) -> Result<(), String> {
    id(&cn.id)?;
    address(&cn.address).map_err(|error| format!("bad address `{}`: {error}", cn.address))?;
    labels(&cn.labels)?;
    weight(cn.weight)?;
    max_sessions(cn.max_sessions.unwrap_or(0))?;
    cn.data.as_deref().map_or(Ok(()), data)?;
    if cn.proxy_protocol && cn.flavour == Flavour::Matrixone {
        return Err("the PROXY protocol is for CNs of flavour mysql".to_owned());
    }
    if cn.tls.is_some() {
        tls(cn.flavour, &cn.address).map_err(str::to_owned)?;
    }
    let Some(query) = &cn.query_address else { return Ok(()) };
    check_query_address(query, &cn.address).map_err(|error| format!("bad address `{query}`: {error}"))
}

pub fn id(name: &str) -> Result<(), String> {
    text("id", name)
}

pub fn address(address: &str) -> Result<(), String> {
    check_cn_address(address).map_err(|error| error.to_string())
}

pub fn weight(weight: u32) -> Result<(), String> {
    count("weight", weight)
}

/// As it is written: 0 is no limit.
pub fn max_sessions(most: u32) -> Result<(), String> {
    count("max_sessions", most)
}

/// Whether a CN may have a TLS mode of its own.
pub fn tls(flavour: Flavour, address: &str) -> Result<(), &'static str> {
    match flavour {
        Flavour::Matrixone => Err("`tls` is for CNs of flavour mysql"),
        Flavour::Mysql if address.starts_with("unix:") => Err("there is no TLS on a Unix socket"),
        Flavour::Mysql => Ok(()),
    }
}

pub fn data(name: &str) -> Result<(), String> {
    text("data", name)
}

pub fn labels(labels: &Labels) -> Result<(), String> {
    for (key, values) in &labels.0 {
        if key.trim().is_empty() || key.len() > NAME_MAX {
            return Err(format!("a label has a name of 1 to {NAME_MAX} bytes"));
        }
        if values.is_empty() || values.iter().any(|value| value.trim().is_empty()) {
            return Err(format!("label `{key}` has an empty value"));
        }
    }
    Ok(())
}

fn count(key: &str, count: u32) -> Result<(), String> {
    let kind = kind(key);
    match kind {
        Kind::Integer { min, max } if (min..=max).contains(&count.into()) => Ok(()),
        _ => Err(format!("`{key}` is {count}, and must be {}", kind.expects())),
    }
}

fn text(key: &str, value: &str) -> Result<(), String> {
    let kind = kind(key);
    match kind {
        _ if value.is_empty() => Err(format!("`{key}` is empty")),
        _ if value.chars().any(char::is_control) => Err(format!("`{key}` has a control character")),
        Kind::Text { min, max } if (min..=max).contains(&value.len()) => Ok(()),
        _ => Err(format!("`{key}` has {} bytes, and must be {}", value.len(), kind.expects())),
    }
}

fn kind(key: &str) -> Kind {
    let key = section("cn").and_then(|section| section.key(key));
    key.expect("every key that is asked for is in the schema").kind
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::TlsMode;

    #[test]
    fn the_rules_of_the_file_hold() {
        let good = CnSetting {
            id: "cn1".into(),
            address: "db:3306".into(),
            flavour: Flavour::Mysql,
            labels: Labels([("account".to_owned(), vec!["a*".to_owned()])].into()),
            weight: 10_000,
            data: Some("d1".into()),
            query_address: Some("10.0.0.1:19998".into()),
            proxy_protocol: true,
            tls: Some(TlsMode::Required),
            max_sessions: None,
        };
        assert_eq!(cn(&good), Ok(()));
        let long = "x".repeat(NAME_MAX + 1);
        for (bad, expected) in [
            (
                CnSetting { id: long.clone(), ..good.clone() },
                "`id` has 65 bytes, and must be a string of 1 to 64 bytes",
            ),
            (CnSetting { id: "a\n".into(), ..good.clone() }, "`id` has a control character"),
            (
                CnSetting { weight: 0, ..good.clone() },
                "`weight` is 0, and must be a whole number from 1 to 10000",
            ),
            (
                CnSetting { max_sessions: Some(10_000_001), ..good.clone() },
                "`max_sessions` is 10000001, and must be a whole number from 0 to 10000000",
            ),
            (CnSetting { data: Some(String::new()), ..good.clone() }, "`data` is empty"),
            (CnSetting { address: "db".into(), ..good.clone() }, "bad address `db`: no port"),
            (CnSetting { query_address: Some("db2".into()), ..good.clone() }, "bad address `db2`: no port"),
            (
                CnSetting { flavour: Flavour::Matrixone, proxy_protocol: false, ..good.clone() },
                "`tls` is for CNs of flavour mysql",
            ),
            (
                CnSetting { address: "unix:/run/cn".into(), query_address: None, ..good.clone() },
                "there is no TLS on a Unix socket",
            ),
            (
                CnSetting { flavour: Flavour::Matrixone, ..good.clone() },
                "the PROXY protocol is for CNs of flavour mysql",
            ),
            (
                CnSetting { labels: Labels([(long, vec![])].into()), ..good },
                "a label has a name of 1 to 64 bytes",
            ),
        ] {
            assert_eq!(cn(&bad), Err(expected.to_owned()));
        }
    }
}
