//! Addresses as the configuration writes them: where corelane listens, and where a CN is.
//!
//! Nothing is resolved here; a host name is only checked for its form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net};

use super::settings::ListenAddress;

/// The bytes of a socket path that Linux takes (`sun_path` without its terminating zero).
const UNIX_PATH_MAX: usize = 107;

/// The bytes of a host name that DNS takes (RFC 1035, 2.3.4).
const HOST_MAX: usize = 253;

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("no port")]
    NoPort,
    #[error("`{0}` is not a port from 1 to 65535")]
    BadPort(String),
    #[error("no host before the port")]
    NoHost,
    #[error("`{0}` is not a host name")]
    BadHost(String),
    #[error("an IPv6 address stands in brackets before its port")]
    BareIpv6,
    #[error("`{0}` is not an IPv6 address")]
    BadIpv6(String),
    #[error("`{0}` is a host name, and a listener needs an IP address")]
    NameToListen(String),
    #[error("`{0}` is another host name than that of the CN, and a query service needs an IP address then")]
    OtherName(String),
    #[error("it is neither a network nor an IP address, nor `unix`")]
    BadNetwork,
    #[error("the network is {0}")]
    HostBits(IpNet),
    #[error("`unix:` needs an absolute path")]
    RelativePath,
    #[error("the socket path has {0} bytes, more than the 107 that Linux takes")]
    LongPath(usize),
}

impl AddressError {
    /// What to write instead, where `text` is what was written.
    pub fn help(&self, text: &str) -> Option<String> {
        match self {
            Self::NoPort => Some(format!("write `{}:PORT`", text.trim_end_matches(':'))),
            Self::BareIpv6 => Some("write `[::1]:3306`".to_owned()),
            Self::NameToListen(host) if host == "localhost" => {
                Some(format!("write `{}`", text.replace("localhost", "127.0.0.1")))
            }
            Self::NameToListen(_) => Some("use `0.0.0.0` for every address of this machine".to_owned()),
            Self::HostBits(network) => Some(format!("write `{network}`, or the address alone")),
            Self::RelativePath => Some("write `unix:/path/to/socket`".to_owned()),
            _ => None,
        }
    }
}

/// Reads `ip:port` or `unix:/path`.
pub fn listen_address(text: &str) -> Result<ListenAddress, AddressError> {
    match text.strip_prefix("unix:") {
        Some(path) => unix_path(path).map(ListenAddress::Unix),
        None => socket_address(text).map(ListenAddress::Tcp),
    }
}

/// Reads `ip:port`.
pub fn socket_address(text: &str) -> Result<SocketAddr, AddressError> {
    let (host, port) = host_and_port(text)?;
    match host {
        Host::Ip(ip) => Ok(SocketAddr::new(ip, port)),
        Host::Name(name) => Err(AddressError::NameToListen(name.to_owned())),
    }
}

/// Reads a network in CIDR notation, or a single address. One of IPv4 in IPv6's clothes is one of IPv4.
pub fn network(text: &str) -> Result<IpNet, AddressError> {
    let single = text.parse::<IpAddr>().ok().map(IpNet::from);
    let network = single.or_else(|| text.parse().ok()).ok_or(AddressError::BadNetwork)?;
    if network.addr() != network.network() {
        return Err(AddressError::HostBits(network.trunc()));
    }
    let mapped = match network.addr() {
        IpAddr::V6(ip) => ip.to_ipv4_mapped().zip(network.prefix_len().checked_sub(96)),
        IpAddr::V4(_) => None,
    };
    let as_v4 = mapped.and_then(|(ip, prefix)| Ipv4Net::new(ip, prefix).ok());
    Ok(as_v4.map_or(network, IpNet::V4))
}

/// Checks the address of a CN: `host:port` or `unix:/path`.
pub fn check_cn_address(text: &str) -> Result<(), AddressError> {
    match text.strip_prefix("unix:") {
        Some(path) => unix_path(path).map(drop),
        None => host_and_port(text).map(drop),
    }
}

/// Checks where a CN's query service is: `ip:port`, or a port of the host whose name is in the CN's own address.
pub fn check_query_address(text: &str, cn_address: &str) -> Result<(), AddressError> {
    match (host_and_port(text)?.0, host_and_port(cn_address)) {
        (Host::Ip(_), _) => Ok(()),
        (Host::Name(name), Ok((Host::Name(own), _))) if name.eq_ignore_ascii_case(own) => Ok(()),
        (Host::Name(name), _) => Err(AddressError::OtherName(name.to_owned())),
    }
}

/// Checks `host:port`.
pub fn check_tcp_address(text: &str) -> Result<(), AddressError> {
    host_and_port(text).map(drop)
}

/// Whether two listeners would take the same place.
pub fn clash(one: &ListenAddress, other: &ListenAddress) -> bool {
    match (one, other) {
        (ListenAddress::Tcp(one), ListenAddress::Tcp(other)) => {
            one.port() == other.port() && (one.ip() == other.ip() || covers(one, other) || covers(other, one))
        }
        (one, other) => one == other,
    }
}

/// Whether a wildcard address takes in the other; `[::]` listens to IPv4 as well.
fn covers(wide: &SocketAddr, narrow: &SocketAddr) -> bool {
    wide.ip().is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
}

enum Host<'t> {
    Ip(IpAddr),
    Name(&'t str),
}

fn host_and_port(text: &str) -> Result<(Host<'_>, u16), AddressError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or_else(|| AddressError::BadIpv6(text.to_owned()))?;
        let ip: Ipv6Addr = host.parse().map_err(|_| AddressError::BadIpv6(host.to_owned()))?;
        return Ok((Host::Ip(ip.into()), port(after.strip_prefix(':').ok_or(AddressError::NoPort)?)?));
    }
    if text.matches(':').count() > 1 {
        return Err(AddressError::BareIpv6);
    }
    let (name, digits) = text.split_once(':').ok_or(AddressError::NoPort)?;
    Ok((host(name)?, port(digits)?))
}

fn port(digits: &str) -> Result<u16, AddressError> {
    if digits.is_empty() {
        return Err(AddressError::NoPort);
    }
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .parse()
        .ok()
        .filter(|port| plain && *port != 0)
        .ok_or_else(|| AddressError::BadPort(digits.to_owned()))
}

fn host(name: &str) -> Result<Host<'_>, AddressError> {
    if name.is_empty() {
        return Err(AddressError::NoHost);
    }
    if let Ok(ip) = name.parse::<Ipv4Addr>() {
        return Ok(Host::Ip(ip.into()));
    }
    let bad = || AddressError::BadHost(name.to_owned());
    let numeric = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let parts_fit = name.strip_suffix('.').unwrap_or(name).split('.').all(|part| {
        !part.is_empty()
            && part.len() <= 63
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    });
    if numeric || !parts_fit || name.len() > HOST_MAX { Err(bad()) } else { Ok(Host::Name(name)) }
}

fn unix_path(path: &str) -> Result<PathBuf, AddressError> {
    if !path.starts_with('/') {
        return Err(AddressError::RelativePath);
    }
    if path.len() > UNIX_PATH_MAX {
        return Err(AddressError::LongPath(path.len()));
    }
    Ok(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cn_addresses() {
        for good in ["db1:3306", "127.0.0.1:1", "[::1]:3306", "unix:/run/a.sock", "a-b.c_d.example:65535"] {
            assert_eq!(check_cn_address(good), Ok(()), "{good}");
        }
        for bad in
            ["db1", "db1:", ":3306", "db1:0", "db1:65536", "db1:+1", "::1:3306", "[::1]", "[x]:1", "1.2.3:1"]
        {
            assert!(check_cn_address(bad).is_err(), "{bad}");
        }
        for bad in ["a b:1", "a..b:1", "unix:a", "", "unix:"] {
            assert!(check_cn_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn query_addresses() {
        for (good, cn) in [
            ("10.0.0.1:19998", "db:6001"),
            ("[::1]:1", "unix:/run/cn.sock"),
            ("DB.svc:19998", "db.svc:6001"),
            ("10.0.0.1:7", "10.0.0.1:6001"),
        ] {
            assert_eq!(check_query_address(good, cn), Ok(()), "{good}");
        }
        for (bad, cn) in [
            ("db2:19998", "db1:6001"),
            ("db:19998", "10.0.0.1:6001"),
            ("db:19998", "unix:/run/cn.sock"),
            ("unix:/run/cn.sock", "unix:/run/cn.sock"),
            ("10.0.0.1", "10.0.0.1:6001"),
            ("db:0", "db:6001"),
        ] {
            assert!(check_query_address(bad, cn).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks() {
        for (text, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("fd00::/8", "fd00::/8"),
            ("203.0.113.7", "203.0.113.7/32"),
            ("::1", "::1/128"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ] {
            assert_eq!(network(text).unwrap().to_string(), expected);
        }
        for bad in ["10.0.0.0/33", "10.0.0/8", "db1", "", "10.0.0.0/", "10.0.0.0/8/8", "[::1]", "10.0.0.1:1"]
        {
            assert_eq!(network(bad), Err(AddressError::BadNetwork), "{bad}");
        }
        let error = network("10.1.2.3/8").unwrap_err();
        assert_eq!(error.to_string(), "the network is 10.0.0.0/8");
        assert!(error.help("10.1.2.3/8").unwrap().starts_with("write `10.0.0.0/8`"));
    }

    #[test]
    fn wildcards_clash_with_what_they_cover() {
        let clash = |one, other| clash(&listen_address(one).unwrap(), &listen_address(other).unwrap());
        assert!(clash("0.0.0.0:1", "127.0.0.1:1"));
        assert!(clash("127.0.0.1:1", "[::]:1"));
        assert!(!clash("0.0.0.0:1", "[::1]:1"));
        assert!(!clash("127.0.0.2:1", "127.0.0.1:1"));
        assert!(!clash("127.0.0.1:1", "unix:/a"));
        assert!(clash("unix:/a", "unix:/a"));
    }
}
