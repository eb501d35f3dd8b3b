//! SIGHUP: the CN list changes under running sessions, and a wrong file changes nothing.

use std::time::Duration;

use mysql::prelude::Queryable;

use crate::house::{Proxy, cluster, cn_toml, connect, wait_until};

fn cn(index: usize) -> String {
    let cn = &cluster()[index];
    cn_toml(&cn.name, &cn.address(), "", 1)
}

fn serving(proxy: &Proxy) -> String {
    connect(proxy.port, "app", "secret").query_first("SELECT @@report_host").unwrap().unwrap()
}

#[test]
fn a_cn_that_is_added_takes_sessions() {
    let proxy = Proxy::start(&cn(0));
    let mut old = connect(proxy.port, "app", "secret");
    proxy.reload(&(cn(0) + &cn(1)));
    wait_until("cn2 is known", Duration::from_secs(10), || proxy.cn("cn2").is_some());
    proxy.wait_state("cn2", "working");
    assert_eq!(serving(&proxy), "cn2", "cn1 has a session already");
    assert_eq!(old.query_first("SELECT @@report_host").unwrap(), Some("cn1".to_string()));
}

#[test]
fn a_cn_that_is_removed_takes_no_more_and_keeps_what_it_has() {
    let proxy = Proxy::start(&(cn(0) + &cn(1)));
    let mut old: Vec<_> = (0..4).map(|_| connect(proxy.port, "app", "secret")).collect();
    proxy.reload(&cn(1));
    wait_until("cn1 takes no more", Duration::from_secs(10), || (0..3).all(|_| serving(&proxy) == "cn2"));
    for _ in 0..6 {
        assert_eq!(serving(&proxy), "cn2");
    }
    let mut names: Vec<String> =
        old.iter_mut().map(|conn| conn.query_first("SELECT @@report_host").unwrap().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["cn1", "cn1", "cn2", "cn2"], "running sessions stay");
}

#[test]
fn changed_labels_count_for_new_sessions() {
    let address = cluster()[0].address();
    let proxy = Proxy::start(&cn_toml("cn1", &address, "account = [\"acc1\"]", 1));
    drop(connect(proxy.port, "acc1:app", "secret"));
    proxy.reload(&cn_toml("cn1", &address, "account = [\"acc2\"]", 1));
    wait_until("cn1 belongs to acc2", Duration::from_secs(10), || {
        proxy.cn("cn1").is_some_and(|row| row["labels"].to_string().contains("acc2"))
    });
    drop(connect(proxy.port, "acc2:app", "secret"));
}

#[test]
fn a_wrong_file_is_refused_whole_and_said_in_the_log() {
    let mut proxy = Proxy::start(&cn(0));
    proxy.reload(&(cn(1) + "[[cn]]\nid = 7\n"));
    wait_until("the log names the file", Duration::from_secs(10), || proxy.log().contains("corelane.toml"));
    assert!(proxy.running());
    assert_eq!(serving(&proxy), "cn1");
    assert!(proxy.cn("cn2").is_none(), "nothing of the wrong file is used");
}
