//! A Galera cluster as CNs: what one node has committed the other has too, so data agree wherever a session is.

use mysql::prelude::Queryable;

use crate::house::{Galera, Proxy, cn_toml, connect};

#[test]
fn what_is_committed_on_one_node_is_read_on_the_other() {
    let cluster = Galera::start(2);
    let tables: String =
        cluster.nodes.iter().map(|node| cn_toml(&node.name, &node.address(), "", 1)).collect();
    let proxy = Proxy::start(&tables);
    let [mut one, mut two] = [(); 2].map(|()| connect(proxy.port, "app", "secret"));
    let home = "SELECT @@report_host";
    let homes: [Option<String>; 2] = [one.query_first(home).unwrap(), two.query_first(home).unwrap()];
    assert_ne!(homes[0], homes[1], "a session on each node");
    one.query_drop("CREATE TABLE agreed (a INT PRIMARY KEY)").unwrap();
    for n in 1..=20 {
        one.query_drop(format!("INSERT INTO agreed VALUES ({n})")).unwrap();
        // Waits until the node has applied all that the cluster has committed.
        two.query_drop("SET SESSION wsrep_sync_wait = 1").unwrap();
        assert_eq!(two.query_first("SELECT MAX(a) FROM agreed").unwrap(), Some(n));
    }
}
