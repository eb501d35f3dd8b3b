//! The CN table as a worker sees it: immutable, with an epoch.
//!
//! The coordinator makes one whenever its table changes and hands the same `Arc` to every worker.
//! What is not here: seats. They are read live from [`crate::metrics::Tally`].

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

/// Where a CN can be reached, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Whether a CN takes new sessions, as the coordinator judges it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CnState {
    /// Takes sessions.
    Working,
    /// Failed lately; new sessions go elsewhere until a probe finds it well.
    Down,
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
    pub flavour: Flavour,
    pub state: CnState,
    pub labels: Labels,
    /// At least 1: a CN of weight 2 should carry twice the sessions of one of weight 1.
    pub weight: u32,
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
