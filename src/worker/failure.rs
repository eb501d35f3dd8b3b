//! Why a login ended without a seat: what the client is told, how it is counted, and whether it counts against the client's address.

use crate::mailbox::hosts::Fault;
use crate::metrics::Refused;
use crate::session::refusal::Refusal;
use crate::wire::reply::ErrPacket;

/// Why a login ended without a seat.
pub(super) enum Failure {
    /// The client is told in our words.
    Refused(Refusal),
    /// The same, of one who may not come in.
    NotLetIn(Refusal),
    /// The same, of one too many.
    Limited(Refusal),
    /// No CN could take it; the client is told why, of the last one.
    NoCn(Refusal),
    /// The client is told in the CN's words: an ERR payload.
    CnRefused(Vec<u8>),
    /// The client is gone.
    ClientGone,
    /// The client and corelane have not agreed on TLS, and cannot speak.
    NoTls,
}

impl Failure {
    /// As it is counted.
    pub fn why(&self) -> Refused {
        match self {
            Self::NotLetIn(Refusal::HostBlocked { .. }) => Refused::Blocked,
            Self::NotLetIn(_) => Refused::Access,
            Self::Limited(_) => Refused::Limit,
            Self::NoCn(_) => Refused::NoCn,
            Self::CnRefused(_) => Refused::ByCn,
            Self::ClientGone => Refused::ClientGone,
            Self::NoTls => Refused::Tls,
            Self::Refused(Refusal::CnLost { .. } | Refusal::CnLogin { .. } | Refusal::CnTracking { .. }) => {
                Refused::CnLost
            }
            Self::Refused(Refusal::ProxyHeaderBad { .. } | Refusal::ProxyHeaderUnasked { .. }) => {
                Refused::ProxyHeader
            }
            Self::Refused(_) => Refused::Denied,
        }
    }

    /// What of it counts against the client's address. A client that leaves when it has said all that corelane asked of it may have lost
    /// its patience with a CN.
    pub fn fault(&self, heard: bool) -> Option<Fault> {
        match self {
            Self::Refused(Refusal::AccessDenied { .. }) | Self::NotLetIn(Refusal::AccessDenied { .. }) => {
                Some(Fault::Login)
            }
            Self::CnRefused(err) => {
                let code = ErrPacket::read(err).map_or(0, |err| err.code);
                DENIALS.contains(&code).then_some(Fault::Login)
            }
            Self::ClientGone if heard => None,
            Self::ClientGone | Self::NoTls => Some(Fault::Handshake),
            Self::Refused(refusal) => {
                let broken = matches!(
                    refusal,
                    Refusal::HandshakeBad { .. }
                        | Refusal::TlsNotOffered
                        | Refusal::LoginTooLong
                        | Refusal::LoginTimeout
                );
                broken.then_some(Fault::Handshake)
            }
            Self::NotLetIn(_) | Self::Limited(_) | Self::NoCn(_) => None,
        }
    }
}

/// ER_ACCESS_DENIED_ERROR, and MariaDB's ER_ACCESS_DENIED_NO_PASSWORD_ERROR.
const DENIALS: [u16; 2] = [1045, 1698];

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::capability::Capabilities;

    fn denied() -> Refusal {
        Refusal::AccessDenied { user: "u".into(), host: "h".into(), password: true }
    }

    fn by_cn(code: u16) -> Failure {
        let mut err = Vec::new();
        ErrPacket { code, sqlstate: Some(*b"28000"), message: b"no" }
            .write(&mut err, Capabilities::PROTOCOL_41);
        Failure::CnRefused(err)
    }

    #[test]
    fn what_is_the_clients_own_fault_counts() {
        let bad = || Refusal::HandshakeBad { cause: "no".into() };
        for (failure, heard, fault) in [
            (Failure::Refused(denied()), false, Some(Fault::Login)),
            (Failure::NotLetIn(denied()), false, Some(Fault::Login)),
            (by_cn(1045), true, Some(Fault::Login)),
            (by_cn(1698), true, Some(Fault::Login)),
            (by_cn(1049), true, None),
            (by_cn(1129), true, None),
            (Failure::ClientGone, false, Some(Fault::Handshake)),
            (Failure::ClientGone, true, None),
            (Failure::NoTls, false, Some(Fault::Handshake)),
            (Failure::Refused(bad()), true, Some(Fault::Handshake)),
            (Failure::Refused(Refusal::LoginTimeout), false, Some(Fault::Handshake)),
            (Failure::Refused(Refusal::ProxyHeaderBad { cause: "no".into() }), false, None),
            (Failure::Refused(Refusal::TlsRequired), false, None),
            (Failure::Refused(Refusal::ShuttingDown), false, None),
            (Failure::NotLetIn(Refusal::HostDenied { host: "h".into() }), false, None),
            (Failure::NotLetIn(Refusal::HostBlocked { host: "h".into(), faults: "f" }), false, None),
            (Failure::Limited(Refusal::TooManySessions), false, None),
            (Failure::NoCn(denied()), true, None),
        ] {
            assert_eq!(failure.fault(heard), fault, "{:?} {heard}", failure.why());
        }
    }
}
