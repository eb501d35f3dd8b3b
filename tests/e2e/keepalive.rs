//! TCP keepalive as the settings have it, read back from the kernel: of clients' connections and of those to CNs.

use std::fs;
use std::time::Duration;

use crate::house::{LoginAs, Proxy, RawClient, cluster, cn_toml, wait_until};

const APP: LoginAs = LoginAs { user: "app", password: "secret", database: "test" };

/// Seconds until the kernel probes the idle connections from `local` to `remote` port, where it does; as `/proc/net/tcp` tells them.
fn probes(local: impl Fn(u16) -> bool, remote: impl Fn(u16) -> bool) -> Vec<u64> {
    const ESTABLISHED: &str = "01";
    const KEEPALIVE: &str = "02";
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next().unwrap(), 16).unwrap();
    let table = fs::read_to_string("/proc/net/tcp").expect("read the kernel's table");
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let idle = lines.filter_map(|fields| {
        let (timer, when) = fields[5].split_once(':')?;
        let ours = local(port(fields[1])) && remote(port(fields[2])) && fields[3] == ESTABLISHED;
        // In hundredths of a second.
        (ours && timer == KEEPALIVE).then(|| u64::from_str_radix(when, 16).unwrap().div_ceil(100))
    });
    idle.collect()
}

/// Waits until there is one of `about` so many seconds: bytes in flight have timers of their own.
fn wait_probe(what: &str, about: u64, probes: impl Fn() -> Vec<u64>) {
    wait_until(what, Duration::from_secs(10), || {
        probes().iter().any(|seconds| (about - 10..=about).contains(seconds))
    });
}

#[test]
fn peers_are_probed_as_the_settings_say() {
    let address = cluster()[0].address();
    let cn_port: u16 = address.rsplit(':').next().unwrap().parse().unwrap();
    let tables = cn_toml("cn1", &address, "", 1);
    let proxy = Proxy::start_with(
        "keepalive_idle_s = 901\n",
        &(tables.clone() + "[cn_tcp]\nkeepalive_idle_s = 801\n"),
    );
    let client = RawClient::login(proxy.port, &APP).unwrap();
    // Other tests' proxies leave the shared CN's connections to the kernel, and those have two hours.
    let of_clients = || probes(|local| local == proxy.port, |_| true);
    let of_cns = || probes(|_| true, |remote| remote == cn_port);
    wait_probe("the client's", 901, of_clients);
    wait_probe("the CN's", 801, of_cns);
    proxy.reload(&(tables + "[cn_tcp]\nkeepalive_idle_s = 701\n"));
    wait_until("the file is read", Duration::from_secs(20), || {
        proxy.log().contains("[cn_tcp] keepalive_idle_s")
    });
    let mut others = Vec::new();
    wait_until("new ones are probed sooner", Duration::from_secs(20), || {
        others.push(RawClient::login(proxy.port, &APP).unwrap());
        of_cns().iter().any(|seconds| (691..=701).contains(seconds))
    });
    wait_probe("the old one's stays", 801, of_cns);
    drop((client, others));
}
