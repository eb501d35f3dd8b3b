//! The header of the PROXY protocol on either leg: heard from a load balancer before the client is greeted, said to a CN before it
//! is heard.
//!
//! What a header looks like is for [`crate::wire::proxy_header`] to say, and who may send one for the configuration. No byte behind
//! the header is read.

use std::io;

use super::leg::LegError;
use crate::config::access::Networks;
use crate::net::{Origin, Peer};
use crate::reactor::{Received, Socket};
use crate::route::{Cn, Target};
use crate::wire::proxy_header::{self, Ends, HeaderError, Progress};

/// Why no header was heard.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unheard {
    #[error("{0}")]
    Leg(LegError),
    #[error("{0}")]
    Bad(HeaderError),
}

/// Whether a connection from there begins with a header.
pub(super) fn is_due(rules: Option<&Networks>, from: Peer) -> bool {
    rules.is_some_and(|rules| match from {
        Peer::Tcp(address) => rules.has(address.ip()),
        Peer::Unix => rules.unix,
    })
}

/// Reads a header. None where it tells of nobody else: the connection's own ends hold.
pub(super) async fn hear(client: &Socket) -> Result<Option<Origin>, Unheard> {
    let mut bytes = Vec::new();
    loop {
        match proxy_header::read(&bytes).map_err(Unheard::Bad)? {
            Progress::Whole { ends, .. } => return Ok(ends.map(origin)),
            Progress::Lacks(lacks) => match client.received().await {
                Received::Data => {
                    client.read_into(&mut bytes, lacks);
                }
                Received::End => return Err(Unheard::Leg(LegError::Closed)),
                Received::Broken(errno) => {
                    return Err(Unheard::Leg(LegError::Broken(io::Error::from_raw_os_error(errno))));
                }
            },
        }
    }
}

fn origin(Ends { source, destination }: Ends) -> Origin {
    Origin { client: Peer::Tcp(source), called: Some(destination) }
}

/// What a CN is sent before all else; nothing if it takes no header. A client on a Unix socket has no address: its connection is told
/// as corelane's own, as which the CN would see it without a header. Told as one on a Unix socket the CN would take it for one on its
/// own host, and let in accounts for `localhost` from wherever corelane runs.
pub(super) fn for_cn(cn: &Cn, origin: Origin) -> Option<Vec<u8>> {
    if !cn.proxy_protocol {
        return None;
    }
    let ends = match origin.client {
        Peer::Unix => None,
        Peer::Tcp(source) => {
            let at = match &cn.target {
                Some(Target::Tcp(address)) => Some(*address),
                Some(Target::Unix(_)) | None => None,
            };
            // The source is all that servers look at.
            Some(Ends { source, destination: origin.called.or(at).unwrap_or(source) })
        }
    };
    let mut header = Vec::new();
    proxy_header::write(&mut header, ends);
    Some(header)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn told(cn: &Cn, client: Peer, called: Option<SocketAddr>) -> Option<Option<Ends>> {
        let header = for_cn(cn, Origin { client, called })?;
        let Ok(Progress::Whole { length, ends }) = proxy_header::read(&header) else { panic!("{header:?}") };
        assert_eq!(length, header.len());
        Some(ends)
    }

    #[test]
    fn a_cn_is_told_who_has_called_whom() {
        let mut cn = Cn {
            slot: crate::ident::CnSlot(0),
            id: "cn1".into(),
            address: "db:3306".into(),
            target: Some(Target::Tcp(([10, 0, 0, 9], 3306).into())),
            query: None,
            flavour: crate::route::Flavour::Mysql,
            state: crate::route::CnState::Working,
            labels: Default::default(),
            weight: 1,
            work: Default::default(),
            data: None,
            proxy_protocol: false,
            tls: None,
            max_sessions: None,
        };
        let (source, called): (SocketAddr, SocketAddr) =
            (([203, 0, 113, 7], 1).into(), ([10, 0, 0, 1], 2).into());
        assert_eq!(told(&cn, Peer::Tcp(source), Some(called)), None);
        cn.proxy_protocol = true;
        let ends = |destination| Some(Some(Ends { source, destination }));
        assert_eq!(told(&cn, Peer::Tcp(source), Some(called)), ends(called));
        assert_eq!(told(&cn, Peer::Tcp(source), None), ends(([10, 0, 0, 9], 3306).into()));
        assert_eq!(told(&cn, Peer::Unix, None), Some(None));
    }

    #[test]
    fn a_header_is_due_from_those_listed() {
        let networks = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().expect("a network")).to_vec();
        let rules = Networks { networks, unix: false };
        let due = |from: &str| is_due(Some(&rules), Peer::Tcp(from.parse().expect("an address")));
        for (from, expected) in [
            ("10.255.0.1:1", true),
            ("[::ffff:10.0.0.1]:1", true),
            ("[fd00::1]:1", true),
            ("11.0.0.1:1", false),
            ("[fe80::1]:1", false),
        ] {
            assert_eq!(due(from), expected, "{from}");
        }
        assert!(!is_due(Some(&rules), Peer::Unix) && !is_due(None, Peer::Unix));
        assert!(is_due(Some(&Networks { unix: true, ..Networks::default() }), Peer::Unix));
    }
}
