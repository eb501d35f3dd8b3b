//! A Galera cluster of private MariaDB servers: several CNs whose data agree.
//!
//! Every node begins as a copy of one data directory, which is that of a cluster of one node after an orderly end;
//! it is cached like the directory of a single server. So a joiner lacks a few write sets only, and gets them from
//! the cache of its donor: no rsync, no backup tool. `wsrep/wsrep_sst_twin` is the transfer that transfers nothing.
//!
//! A node that was killed cannot join again, as what it wrote last may be lost. Users are those of
//! [`Mariadb`]; an account that is made later is the whole cluster's.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;

use super::cluster::driver_opts;
use super::mariadb::{Mariadb, Origin, server_version};
use super::place::{cache, free_port, wait_until};

/// How long a node may take to join and to be level with the others.
const JOIN_LIMIT: Duration = Duration::from_secs(120);
/// How long a node may take to end in order.
const END_LIMIT: Duration = Duration::from_secs(60);

const ASK_STATE: &str = "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS \
                         WHERE VARIABLE_NAME = 'WSREP_LOCAL_STATE_COMMENT'";

const PROVIDER: &str = "/usr/lib/galera/libgalera_smm.so";

pub struct Galera {
    /// `cn1`, `cn2` and so on, all synced.
    pub nodes: Vec<Mariadb>,
}

impl Galera {
    /// Starts a cluster of so many nodes and waits until each is synced.
    pub fn start(size: usize) -> Self {
        let channels: Vec<u16> = (0..size).map(|_| free_port()).collect();
        let mut nodes = Vec::new();
        for own in 0..size {
            // One after the other: nodes that join at the same time wait for each other's time-outs.
            let node = start_node(&format!("cn{}", own + 1), &TEMPLATE, &channels, own);
            wait_synced(&node);
            nodes.push(node);
        }
        Self { nodes }
    }
}

/// Starts node number `own` of the cluster whose nodes talk to each other on these ports.
fn start_node(name: &str, data: &Path, channels: &[u16], own: usize) -> Mariadb {
    let peers: Vec<String> = channels.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let mut options: Vec<String> = OPTIONS.iter().map(ToString::to_string).collect();
    options.push(format!("--wsrep-provider={PROVIDER}"));
    options.push(format!("--wsrep-cluster-address=gcomm://{}", peers.join(",")));
    options.push(format!("--wsrep-node-name={name}"));
    options.push(format!("--wsrep-node-address={}", peers[own]));
    options.push(format!(
        "--wsrep-provider-options=gmcast.listen_addr=tcp://{};ist.recv_addr=127.0.0.1:{};\
         gcache.size=32M;gcache.page_size=32M",
        peers[own],
        free_port()
    ));
    if own == 0 {
        options.push("--wsrep-new-cluster".into());
    }
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/house/wsrep");
    Mariadb::start_from(name, &Origin { data: data.into(), init: false, scripts: Some(scripts) }, options)
}

/// Waits until it is level with the others. A node that joins may close any connection before it has answered.
fn wait_synced(node: &Mariadb) {
    wait_until(&format!("{} is synced", node.name), JOIN_LIMIT, || {
        let state =
            Conn::new(driver_opts(node.port, "root", "")).and_then(|mut node| node.query_first(ASK_STATE));
        state.is_ok_and(|state: Option<String>| state.as_deref() == Some("Synced"))
    });
}

static TEMPLATE: LazyLock<PathBuf> = LazyLock::new(|| {
    static MAKE: Mutex<()> = Mutex::new(());
    let _guard = MAKE.lock().unwrap_or_else(PoisonError::into_inner);
    let template = cache().join(format!("{}-galera", server_version()));
    if !template.exists() {
        make(&template);
    }
    template
});

/// A server with the usual users, then the same data as a cluster of one, ended in order: from then on the
/// directory holds a position that others can join at.
fn make(template: &Path) {
    let users = Mariadb::start_with("users", &[]).end(END_LIMIT);
    let founder = start_node("founder", &users.join("data"), &[free_port()], 0);
    wait_synced(&founder);
    let ended = founder.end(END_LIMIT);
    let data = ended.join("data");
    for of_the_run in ["galera.cache", "gvwstate.dat"] {
        let _ = fs::remove_file(data.join(of_the_run));
    }
    let unfinished = template.with_extension(std::process::id().to_string());
    super::mariadb::copy(&data, &unfinished);
    if fs::rename(&unfinished, template).is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
}

const OPTIONS: &[&str] = &[
    "--wsrep-on=ON",
    "--wsrep-cluster-name=house",
    "--wsrep-sst-method=twin",
    "--binlog-format=ROW",
    "--innodb-autoinc-lock-mode=2",
];
