//! The CN table as a worker sees it: immutable, with an epoch.
//!
//! The coordinator makes one whenever its table changes and hands the same `Arc` to every worker.
//! What is not here: seats. They are read live from [`crate::metrics::Tally`].

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::ident::{CnSlot, Epoch};
use crate::route::label::Labels;

/// The dialect that a CN speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// MySQL, MariaDB, Percona.
    Mysql,
    /// MatrixOne.
    Matrixone,
}

/// Whether the connections to a CN have TLS, by MySQL's words for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsMode {
    Off,
    /// Where the CN offers it.
    Preferred,
    /// Always, whatever its certificate.
    Required,
    /// Always, and somebody must vouch for its certificate.
    VerifyCa,
    /// That, and it must be for the CN's host name or IP address.
    VerifyName,
}

impl TlsMode {
    const ALL: [Self; 5] = [Self::Off, Self::Preferred, Self::Required, Self::VerifyCa, Self::VerifyName];

    /// None where it is none of the words.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == word)
    }

    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Preferred => "preferred",
            Self::Required => "required",
            Self::VerifyCa => "verify_ca",
            Self::VerifyName => "verify_name",
        }
    }

    /// Whether somebody has to vouch for the CN.
    pub fn verifies(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyName)
    }
}

/// Where a CN can be reached, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Whether a CN takes new sessions, as the coordinator judges it now; in the order in which routing turns to
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CnState {
    /// Takes sessions.
    Working,
    /// Turned a login away or was too slow for it a moment ago; new sessions go elsewhere for a short time.
    Cooling,
    /// Failed lately; new sessions go elsewhere until a probe finds it well.
    Down,
}

/// `working`, `cooling` or `down`, as `SHOW CNS` prints it.
impl fmt::Display for CnState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Working => "working",
            Self::Cooling => "cooling",
            Self::Down => "down",
        })
    }
}

/// Whether an operator wants a CN to have sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkState {
    #[default]
    Working,
    /// Takes no new sessions, and those that it has move away.
    Draining,
    /// Was draining, and has no session left.
    Drained,
}

/// `working`, `draining` or `drained`, as `SHOW CNS` prints it.
impl fmt::Display for WorkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Working => "working",
            Self::Draining => "draining",
            Self::Drained => "drained",
        })
    }
}

/// One CN as of a view.
#[derive(Clone, Debug)]
pub struct Cn {
    pub slot: CnSlot,
    pub id: Arc<str>,
    /// As the configuration writes it: `host:port` or `unix:/path`.
    pub address: Arc<str>,
    /// `None` while the host name has not been resolved.
    pub target: Option<Target>,
    /// Where its query service is: MatrixOne only, and `None` while its host is not known.
    pub query: Option<Target>,
    pub flavour: Flavour,
    pub state: CnState,
    pub labels: Labels,
    /// At least 1: a CN of weight 2 should carry twice the sessions of one of weight 1.
    pub weight: u32,
    pub work: WorkState,
    /// The data set that it serves: sessions move only between CNs of the same one. Without one they stay.
    pub data: Option<Arc<str>>,
    /// A connection to it begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// None: as `[cn_tls]` says of all.
    pub tls: Option<TlsMode>,
    /// Sessions that it may have at the same time; none: as many as there are.
    pub max_sessions: Option<u32>,
}

impl Cn {
    /// Its host name or IP address as it is written, for which its certificate should be.
    pub fn host(&self) -> &str {
        let host = self.address.rsplit_once(':').map_or(&*self.address, |(host, _)| host);
        host.trim_matches(['[', ']'])
    }

    /// Whether sessions may be moved here now.
    pub fn takes_moves(&self) -> bool {
        self.work == WorkState::Working && self.state == CnState::Working && self.target.is_some()
    }

    /// Whether it has as many sessions as it may, with so many seats taken. Where it is, it takes neither logins nor moves.
    pub fn is_full(&self, seats: impl FnOnce(CnSlot) -> u32) -> bool {
        self.max_sessions.is_some_and(|most| seats(self.slot) >= most)
    }

    /// Whether a session may change between these two CNs without seeing other data. MatrixOne's CNs share
    /// theirs by nature, others say so by the name of a data set. Two entries of one MatrixOne CN share nothing: as the session has the
    /// same id in both, the CN would take the new connection for it, and forget the one that it leaves.
    pub fn shares_data(&self, other: &Self) -> bool {
        self.flavour == other.flavour
            && match self.flavour {
                Flavour::Matrixone => self.target != other.target,
                Flavour::Mysql => self.data.is_some() && self.data == other.data,
            }
    }
}

/// All CNs at one epoch.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub epoch: Epoch,
    pub cns: Vec<Arc<Cn>>,
}

impl View {
    pub fn cn(&self, slot: CnSlot) -> Option<&Arc<Cn>> {
        self.cns.iter().find(|cn| cn.slot == slot)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A working CN of weight 1 with one value for each label.
    pub(crate) fn cn(slot: u16, id: &str, labels: &[(&str, &str)]) -> Arc<Cn> {
        let labels = labels.iter().map(|(key, value)| (key.to_string(), vec![value.to_string()]));
        Arc::new(Cn {
            slot: CnSlot(slot),
            id: id.into(),
            address: "127.0.0.1:3306".into(),
            target: Some(Target::Tcp(([127, 0, 0, 1], 3306).into())),
            query: None,
            flavour: Flavour::Mysql,
            state: CnState::Working,
            labels: Labels(labels.collect()),
            weight: 1,
            work: Default::default(),
            data: None,
            proxy_protocol: false,
            tls: None,
            max_sessions: None,
        })
    }

    pub(crate) fn view(cns: impl IntoIterator<Item = Arc<Cn>>) -> View {
        View { epoch: Epoch(1), cns: cns.into_iter().collect() }
    }

    #[test]
    fn a_cn_is_full_only_where_there_is_a_limit() {
        let mut cn = cn(0, "cn1", &[]);
        assert!(!cn.is_full(|_| panic!("nobody counts")));
        Arc::make_mut(&mut cn).max_sessions = Some(2);
        assert!(!cn.is_full(|_| 1) && cn.is_full(|_| 2) && cn.is_full(|_| 3));
    }

    #[test]
    fn a_cn_is_found_by_its_slot() {
        let view = view([cn(3, "cn1", &[]), cn(1, "cn2", &[])]);
        assert_eq!(&*view.cn(CnSlot(1)).unwrap().id, "cn2");
        assert!(view.cn(CnSlot(0)).is_none());
    }
}
