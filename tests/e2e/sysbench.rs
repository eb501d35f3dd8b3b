//! Short sysbench runs through the proxy: no error, no reconnect, with and without prepared statements.

use std::sync::OnceLock;
use std::time::Duration;

use crate::house::{Proxy, cluster, cn_toml, run};

const LIMIT: Duration = Duration::from_secs(120);

/// Runs one sysbench command as `user` and returns what it printed.
fn sysbench(port: u16, user: &str, options: &[&str]) -> String {
    let (port, user) = (format!("--mysql-port={port}"), format!("--mysql-user={user}"));
    let fixed = [
        "--mysql-host=127.0.0.1",
        &port,
        &user,
        "--mysql-password=sbtest",
        "--mysql-db=sbtest",
        // Many rows and even odds, or two threads lock each other's rows and the server ends one: a deadlock
        // (1213) that has nothing to do with the proxy.
        "--tables=2",
        "--table-size=20000",
        "--rand-type=uniform",
    ];
    let output = run("sysbench", &[&fixed[..], options].concat(), LIMIT);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// The tables are made once, on the first CN directly.
fn prepare() {
    static PREPARED: OnceLock<()> = OnceLock::new();
    PREPARED.get_or_init(|| {
        sysbench(cluster()[0].port, "sbtest", &["oltp_read_write", "prepare"]);
    });
}

fn run_through(proxy: &Proxy, user: &str, workload: &str, ps_mode: &str) {
    prepare();
    let ps_mode = format!("--db-ps-mode={ps_mode}");
    let said = sysbench(proxy.port, user, &["--threads=4", "--time=2", &ps_mode, workload, "run"]);
    for zero in ["ignored errors:", "reconnects:"] {
        let line = said.lines().find(|line| line.trim_start().starts_with(zero)).expect(zero);
        assert_eq!(line.split_whitespace().nth(zero.split(' ').count()), Some("0"), "{said}");
    }
    let queries = said.lines().find_map(|line| line.trim().strip_prefix("total:")).expect("total");
    assert!(queries.trim().parse::<u64>().unwrap() > 100, "{said}");
}

#[test]
fn point_select_and_read_write_by_relay() {
    let proxy = Proxy::start(&cn_toml("cn1", &cluster()[0].address(), "", 1));
    for workload in ["oltp_point_select", "oltp_read_write"] {
        for ps_mode in ["auto", "disable"] {
            run_through(&proxy, "sbtest", workload, ps_mode);
        }
    }
}

#[test]
fn read_only_and_ranges_as_a_known_user_of_a_tenant() {
    let user = "[[user]]\nname = \"sbtest\"\npassword = \"sbtest\"\n";
    let proxy = Proxy::start(&(cn_toml("cn1", &cluster()[0].address(), "account = [\"acc1\"]", 1) + user));
    for workload in ["oltp_read_only", "select_random_ranges"] {
        run_through(&proxy, "acc1:sbtest", workload, "auto");
    }
}
