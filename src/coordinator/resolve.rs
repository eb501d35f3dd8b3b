//! An address as the configuration writes it to one that can be dialled: the system's resolver for names.
//!
//! A name with several addresses gives one of them, and keeps giving the same one for as long as the
//! resolver lists it, so that a round-robin name does not make a CN wander.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::timeout;

use crate::route::Target;

/// How long the system's resolver may take; beyond it the CN keeps the address that it had.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot resolve {address}: {cause}")]
    Lookup { address: String, cause: io::Error },
    #[error("cannot resolve {0}: the resolver took longer than {LOOKUP_LIMIT:?}")]
    TimedOut(String),
    #[error("cannot resolve {0}: the name has no address")]
    Nowhere(String),
}

/// Whether an address needs the resolver: its outcome may change while the configuration does not.
pub fn is_name(address: &str) -> bool {
    fixed(address).is_none()
}

/// Resolves `host:port` or `unix:/path`; prefers `known` among equals.
pub async fn resolve(address: &str, known: Option<&Target>) -> Result<Target, Error> {
    if let Some(target) = fixed(address) {
        return Ok(target);
    }
    let found = match timeout(LOOKUP_LIMIT, tokio::net::lookup_host(address)).await {
        Ok(Ok(found)) => found,
        Ok(Err(cause)) => return Err(Error::Lookup { address: address.to_owned(), cause }),
        Err(_) => return Err(Error::TimedOut(address.to_owned())),
    };
    choose(found, known).ok_or_else(|| Error::Nowhere(address.to_owned()))
}

/// The target of an address that names no host.
fn fixed(address: &str) -> Option<Target> {
    match address.strip_prefix("unix:") {
        Some(path) => Some(Target::Unix(PathBuf::from(path))),
        None => address.parse().ok().map(Target::Tcp),
    }
}

fn choose(found: impl Iterator<Item = SocketAddr>, known: Option<&Target>) -> Option<Target> {
    let mut targets = found.map(Target::Tcp);
    let first = targets.next()?;
    if known == Some(&first) {
        return Some(first);
    }
    targets.find(|target| Some(target) == known).or(Some(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_without_a_name_need_no_resolver() {
        assert_eq!(fixed("10.0.0.1:3306"), Some(Target::Tcp("10.0.0.1:3306".parse().unwrap())));
        assert_eq!(fixed("[::1]:3306"), Some(Target::Tcp("[::1]:3306".parse().unwrap())));
        assert_eq!(fixed("unix:/run/a.sock"), Some(Target::Unix("/run/a.sock".into())));
        assert!(is_name("db:3306"));
    }

    #[test]
    fn a_known_address_is_kept_while_it_is_listed() {
        let all: Vec<SocketAddr> = ["10.0.0.1:1", "10.0.0.2:1"].iter().map(|a| a.parse().unwrap()).collect();
        let second = Target::Tcp(all[1]);
        assert_eq!(choose(all.clone().into_iter(), Some(&second)), Some(second));
        assert_eq!(choose(all.clone().into_iter(), None), Some(Target::Tcp(all[0])));
        let gone = Target::Tcp("10.0.0.9:1".parse().unwrap());
        assert_eq!(choose(all.clone().into_iter(), Some(&gone)), Some(Target::Tcp(all[0])));
        assert_eq!(choose(std::iter::empty(), Some(&gone)), None);
    }

    #[tokio::test]
    async fn the_hosts_file_is_asked() {
        let target = resolve("localhost:3306", None).await.unwrap();
        assert!(matches!(target, Target::Tcp(address) if address.ip().is_loopback()));
        assert!(resolve("no such host:1", None).await.is_err());
    }
}
