//! Why a login ended without a seat: what the client is told, and as what it is counted.

use crate::metrics::Refused;
use crate::session::refusal::Refusal;

/// Why a login ended without a seat.
pub(in crate::worker) enum Failure {
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
    pub(super) fn why(&self) -> Refused {
        match self {
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
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
