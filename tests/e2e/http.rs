//! The HTTP door: metrics that agree with the admin door, health and readiness, and clients that behave badly.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::house::{
    HttpDoor, LoginAs, Mariadb, Proxy, RawClient, RawHttp, Scraped, binary, cluster, cn_toml, connect,
    driver_error, driver_opts, number, run, wait_until,
};

const APP: LoginAs = LoginAs { user: "app", password: "secret", database: "" };
const LIMIT: Duration = Duration::from_secs(20);

/// A proxy with these tables and an HTTP door, ready for clients.
fn start(keys: &str, tables: &str) -> (Proxy, HttpDoor) {
    let door = HttpDoor::new();
    let proxy = Proxy::start(&(door.toml(keys) + tables));
    wait_until("it listens", LIMIT, || door.is_open());
    wait_until("it is ready", LIMIT, || door.get("/readyz").status == 200);
    (proxy, door)
}

fn two_cns() -> String {
    let [one, two, _] = cluster();
    cn_toml("cn1", &one.address(), "account = [\"acc1\"]", 2) + &cn_toml("cn2", &two.address(), "", 1)
}

/// A metric, its labels, and the column of the admin door that tells the same.
type InBoth = (&'static str, &'static [(&'static str, &'static str)], &'static str);

const IN_SHOW_WORKERS: [InBoth; 12] = [
    ("corelane_sessions", &[], "sessions"),
    ("corelane_sessions_accepted_total", &[], "accepted"),
    ("corelane_logins_total", &[], "logins"),
    ("corelane_sessions_refused_total", &[], "refused"),
    ("corelane_commands_total", &[], "commands"),
    ("corelane_received_bytes_total", &[("from", "client")], "bytes_in"),
    ("corelane_received_bytes_total", &[("from", "cn")], "bytes_out"),
    ("corelane_buffer_starvations_total", &[], "starved"),
    ("corelane_panics_total", &[], "panics"),
    ("corelane_reports_dropped_total", &[], "reports_dropped"),
    ("corelane_sessions_handed_over_total", &[], "handed_over"),
    ("corelane_sessions_adopted_total", &[], "adopted"),
];

/// Each worker's and each CN's numbers are those of the admin door.
fn agrees_with_the_admin_door(scraped: &Scraped, proxy: &Proxy) {
    for row in proxy.ctl("SHOW WORKERS") {
        let worker = number(&row["worker"]).to_string();
        for (metric, labels, column) in IN_SHOW_WORKERS {
            let labels = [labels, &[("worker", worker.as_str())]].concat();
            assert_eq!(scraped.sum(metric, &labels), number(&row[column]) as f64, "{metric} {row}");
        }
        let cpu = number(&row["cpu"]).to_string();
        assert_eq!(scraped.sum("corelane_worker_info", &[("worker", &worker), ("cpu", &cpu)]), 1.0);
    }
    for row in proxy.ctl("SHOW CNS") {
        let text = |column: &str| row[column].as_str().expect("a text").to_owned();
        let (id, flavour, state) = (text("id"), text("flavour"), text("state"));
        let cn = [("cn", id.as_str()), ("flavour", flavour.as_str())];
        assert_eq!(scraped.sum("corelane_cn_sessions", &cn), number(&row["sessions"]) as f64, "{row}");
        assert_eq!(scraped.sum("corelane_cn_weight", &cn), number(&row["weight"]) as f64, "{row}");
        assert_eq!(scraped.sum("corelane_cn_state", &cn), 1.0, "one state of all: {row}");
        let of_state = [&cn[..], &[("state", state.as_str())]].concat();
        assert_eq!(scraped.sum("corelane_cn_state", &of_state), 1.0, "{row}");
    }
}

#[test]
fn a_scrape_tells_what_the_admin_door_tells() {
    let (proxy, door) = start("", &two_cns());
    let before = door.scrape();
    agrees_with_the_admin_door(&before, &proxy);
    assert_eq!(before.sum("corelane_sessions", &[]), 0.0);
    assert_eq!(before.sum("corelane_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    assert_eq!(before.types["corelane_logins_total"], "counter");
    assert!(!before.has("mo_proxy_connect_counter"), "only where it is asked for");
    let mut sessions: Vec<_> =
        ["acc1:app", "acc1:app", "app"].map(|user| connect(proxy.port, user, "secret")).into();
    for session in &mut sessions {
        for _ in 0..20 {
            session.query_drop("SELECT 1").unwrap();
        }
    }
    let denied = driver_error(mysql::Conn::new(driver_opts(proxy.port, "app", "wrong")));
    assert_eq!(denied.0, 1045);
    wait_until("the refused session is gone", LIMIT, || door.scrape().sum("corelane_sessions", &[]) == 3.0);
    let after = door.scrape();
    agrees_with_the_admin_door(&after, &proxy);
    let grown = |name: &str| after.sum(name, &[]) - before.sum(name, &[]);
    assert_eq!((grown("corelane_sessions"), grown("corelane_logins_total")), (3.0, 3.0));
    assert_eq!(grown("corelane_sessions_accepted_total"), 4.0);
    assert!(grown("corelane_commands_total") >= 60.0);
    assert!(grown("corelane_worker_turns_total") > 0.0);
    assert_eq!(after.sum("corelane_sessions_refused_total", &[("why", "by_cn")]), 1.0);
    assert_eq!(after.sum("corelane_cn_sessions", &[("cn", "cn1")]), 2.0);
    assert!(after.sum("corelane_cn_probe_seconds", &[("cn", "cn1")]) > 0.0);
    assert!(after.sum("corelane_cn_probes_total", &[("cn", "cn1"), ("outcome", "well")]) >= 1.0);
    assert!(after.sum("corelane_view_epoch", &[]) >= 1.0);
    assert!(after.sum("corelane_uptime_seconds", &[]) > 0.0);
}

#[test]
fn ends_and_refusals_are_told_apart() {
    let mut mortal = Mariadb::start("mortal");
    let tables = cn_toml("mortal", &mortal.address(), "account = [\"acc2\"]", 1);
    let here = cn_toml("cn1", &cluster()[0].address(), "account = [\"acc1\"]", 1);
    let (proxy, door) = start("matrixone_names = true", &(tables + &here));
    drop(connect(proxy.port, "acc1:app", "secret"));
    let killed = connect(proxy.port, "acc1:app", "secret");
    proxy.ctl(&format!("KILL SESSION {}", killed.connection_id()));
    let lost = connect(proxy.port, "acc2:app", "secret");
    let (code, message) = driver_error(mysql::Conn::new(driver_opts(proxy.port, "acc3:app", "secret")));
    assert_eq!(code, 20101, "{message}");
    drop(RawHttp::dial(HttpDoor(proxy.port)));
    mortal.kill();
    drop(lost);
    wait_until("all have ended", LIMIT, || door.scrape().sum("corelane_sessions", &[]) == 0.0);
    let scraped = door.scrape();
    let ended = |by| scraped.sum("corelane_sessions_ended_total", &[("by", by)]);
    // Whether the CN or the driver's goodbye came first is chance.
    assert_eq!((ended("corelane"), ended("client") + ended("cn")), (1.0, 2.0));
    let refused = |why| scraped.sum("corelane_sessions_refused_total", &[("why", why)]);
    assert_eq!((refused("no_cn"), refused("client_gone"), refused("denied")), (1.0, 1.0, 0.0));
    let connects = |kind| scraped.sum("mo_proxy_connect_counter", &[("type", kind)]);
    assert_eq!((connects("accepted"), connects("closed"), connects("success")), (5.0, 5.0, 3.0));
    assert_eq!((connects("route-fail"), connects("common-fail")), (1.0, 0.0));
    assert_eq!(scraped.sum("mo_proxy_connections_current", &[]), 0.0);
    wait_until("the CN is down", LIMIT, || proxy.cn("mortal").is_some_and(|row| row["state"] == "down"));
    let available =
        |account| door.scrape().sum("mo_proxy_available_backend_server_num", &[("account", account)]);
    assert_eq!((available("acc1"), available("acc2"), available("sys")), (1.0, 0.0, 0.0));
}

#[test]
fn an_idle_session_of_a_cn_that_dies_is_ended_by_it() {
    let mut mortal = Mariadb::start("mortal");
    let (proxy, door) = start("", &cn_toml("mortal", &mortal.address(), "", 1));
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    mortal.kill();
    client.packets_to_end();
    wait_until("it has ended", LIMIT, || door.scrape().sum("corelane_sessions", &[]) == 0.0);
    let scraped = door.scrape();
    assert_eq!(scraped.sum("corelane_sessions_ended_total", &[("by", "cn")]), 1.0);
    assert_eq!(scraped.sum("corelane_cn_failures_total", &[("cn", "mortal"), ("kind", "lost")]), 1.0);
    wait_until("a probe fails", LIMIT, || {
        door.scrape().sum("corelane_cn_probes_total", &[("cn", "mortal"), ("outcome", "failed")]) > 0.0
    });
    assert_eq!(RawClient::login(proxy.port, &APP).err().map(|err| err.code), Some(1429));
    wait_until("the refusal is counted", LIMIT, || {
        door.scrape().sum("corelane_sessions_refused_total", &[("why", "no_cn")]) == 1.0
    });
    assert_eq!(door.scrape().sum("corelane_login_retries_total", &[]), 1.0);
}

#[test]
fn a_move_is_told_with_its_pause() {
    let address = cluster()[0].address();
    let twin = |id| cn_toml(id, &address, "", 1).replace("[[cn]]", "[[cn]]\ndata = \"d1\"");
    let tables = "[balance]\nenabled = false\n[[user]]\nname = \"app\"\npassword = \"secret\"\n".to_owned()
        + &twin("cn1")
        + &twin("cn2");
    let (proxy, door) = start("matrixone_names = true", &tables);
    let mut client = connect(proxy.port, "app", "secret");
    let from = proxy.ctl("SHOW SESSIONS")[0]["cn"].as_str().expect("a CN").to_owned();
    proxy.ctl(&format!("DRAIN CN '{from}'"));
    proxy.wait_state(&from, "drained");
    assert_eq!(client.query_first("SELECT 1").unwrap(), Some(1));
    let scraped = door.scrape();
    let moves = proxy.ctl("SHOW MOVES LIKE 'all'");
    assert_eq!(scraped.sum("corelane_moves_ordered_total", &[]), number(&moves[0]["ordered"]) as f64);
    for outcome in ["done", "failed", "held_back"] {
        let told = scraped.sum("corelane_moves_total", &[("outcome", outcome)]);
        assert_eq!(told, number(&moves[0][outcome]) as f64, "{outcome}");
    }
    assert_eq!(scraped.sum("corelane_moves_total", &[("outcome", "done")]), 1.0);
    assert_eq!(scraped.sum("corelane_move_pause_seconds_count", &[]), 1.0);
    let longest = number(&moves[0]["pause_max_us"]) as f64;
    assert_eq!((scraped.sum("corelane_move_pause_seconds_sum", &[]) * 1e6).round(), longest);
    assert_eq!(scraped.sum("corelane_drains_total", &[]), 1.0);
    assert_eq!(scraped.sum("corelane_moves_waiting", &[]), 0.0);
    assert_eq!(scraped.sum("corelane_moves_under_way", &[]), 0.0);
    let transfers = |kind| scraped.sum("mo_proxy_connection_transfer_counter", &[("type", kind)]);
    assert_eq!((transfers("success"), transfers("fail")), (1.0, 0.0));
    assert_eq!(scraped.sum("mo_proxy_connection_transfer_duration_count", &[]), 1.0);
    assert_eq!(scraped.sum("mo_proxy_drain_counter", &[]), 1.0);
    assert_eq!(scraped.sum("mo_proxy_available_backend_server_num", &[("account", "sys")]), 1.0);
}

#[test]
fn a_session_that_waits_to_move_is_told() {
    let address = cluster()[0].address();
    let twin = |id| cn_toml(id, &address, "", 1).replace("[[cn]]", "[[cn]]\ndata = \"d1\"");
    let tables = "[migration]\npatience_ms = 60000\n[[user]]\nname = \"app\"\npassword = \"secret\"\n"
        .to_owned()
        + &twin("cn1")
        + &twin("cn2");
    let (proxy, door) = start("matrixone_names = true", &tables);
    let mut client = connect(proxy.port, "app", "secret");
    client.query_drop("BEGIN").unwrap();
    let from = proxy.ctl("SHOW SESSIONS")[0]["cn"].as_str().expect("a CN").to_owned();
    proxy.ctl(&format!("DRAIN CN '{from}'"));
    wait_until("it waits", LIMIT, || door.scrape().sum("corelane_moves_under_way", &[]) == 1.0);
    assert_eq!(door.scrape().sum("mo_proxy_connections_transfer_intent", &[]), 1.0);
    assert_eq!(door.scrape().sum("mo_proxy_connections_need_to_transfer", &[]), 1.0);
    client.query_drop("COMMIT").unwrap();
    proxy.wait_state(&from, "drained");
    assert_eq!(door.scrape().sum("corelane_moves_under_way", &[]), 0.0);
}

#[test]
fn readiness_follows_the_only_cn() {
    let mut mortal = Mariadb::start("mortal");
    let (proxy, door) = start("", &cn_toml("mortal", &mortal.address(), "", 1));
    let becomes = |status, said: &str| {
        wait_until(said, LIMIT, || {
            let answer = door.get("/readyz");
            answer.status == status && answer.body == format!("{said}\n")
        });
        assert_eq!((door.get("/healthz").status, &*door.get("/healthz").body), (200, "ok\n"));
    };
    becomes(200, "ready: 1 of 1 CNs take sessions");
    let mut open = connect(proxy.port, "app", "secret");
    open.query_drop("BEGIN").unwrap();
    proxy.ctl("DRAIN CN 'mortal'");
    becomes(503, "no CN takes sessions: 1 draining");
    drop(open);
    becomes(503, "no CN takes sessions: 1 drained");
    proxy.ctl("RESUME CN 'mortal'");
    becomes(200, "ready: 1 of 1 CNs take sessions");
    mortal.kill();
    becomes(503, "no CN takes sessions: 1 down");
    mortal.restart();
    becomes(200, "ready: 1 of 1 CNs take sessions");
    drop(connect(proxy.port, "app", "secret"));
}

#[test]
fn it_is_not_ready_while_it_stops_and_not_without_a_cn() {
    let (mut proxy, door) = start("", &two_cns());
    let mut client = connect(proxy.port, "app", "secret");
    client.query_drop("BEGIN").unwrap();
    proxy.signal("TERM");
    wait_until("it says so", LIMIT, || door.get("/readyz").body == "corelane is stopping\n");
    assert_eq!((door.get("/readyz").status, door.get("/healthz").status), (503, 200));
    assert_eq!(door.scrape().sum("corelane_sessions", &[]), 1.0);
    client.query_drop("COMMIT").unwrap();
    assert_eq!(proxy.wait(LIMIT).and_then(|status| status.code()), Some(0));
    let door = HttpDoor::new();
    let _bare = Proxy::start(&door.toml(""));
    wait_until("it says so", LIMIT, || door.get("/readyz").body == "there is no CN\n");
    assert_eq!(door.get("/readyz").status, 503);
}

#[test]
fn only_its_pages_are_answered_and_only_to_read() {
    let (_proxy, door) = start("", &two_cns());
    for path in ["/", "/metrics/", "/nothing", "/metricsx", "*"] {
        assert_eq!(door.get(path).status, 404, "{path}");
    }
    assert_eq!(door.get("/metrics?collect=all").status, 200, "scrapers may add a query");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let answer = door.ask(method, "/metrics");
        assert_eq!((answer.status, &*answer.fields["allow"]), (405, "GET, HEAD"), "{method}");
        assert!(answer.body.lines().count() == 1 && answer.body.len() < 100, "{}", answer.body);
    }
    let head = door.ask("HEAD", "/metrics");
    assert_eq!((head.status, &*head.body), (200, ""));
    assert!(head.fields["content-length"].parse::<usize>().unwrap() > 1000);
    let mut kept = RawHttp::dial(door);
    for path in ["/healthz", "/nothing", "/metrics", "/readyz"] {
        assert!(kept.get(path).is_some(), "the connection is kept after {path}");
    }
    // A body that nobody reads does not become the next request.
    kept.send(
        b"POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 28\r\n\r\nGET /healthz HTTP/1.1\r\nx: y\r\n",
    );
    assert_eq!(kept.answer(false).unwrap().status, 405);
}

#[test]
fn what_is_no_request_is_refused() {
    let (proxy, door) = start("", &two_cns());
    let status = |bytes: &[u8]| {
        let mut http = RawHttp::dial(door);
        // It may be closed before all of it is sent.
        let _ = http.try_send(bytes);
        http.answer(false).map(|answer| answer.status)
    };
    let long = format!("GET /metrics HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "a".repeat(15_000));
    assert_eq!(status(long.as_bytes()), Some(200));
    let oversized = format!("GET /metrics HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "a".repeat(17_000));
    assert_eq!(status(oversized.as_bytes()), Some(431));
    let endless = format!("GET /metrics HTTP/1.1\r\nhost: x\r\nx: {}", "a".repeat(20_000));
    assert_eq!(status(endless.as_bytes()), Some(431));
    let many = format!("GET /metrics HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(100));
    assert_eq!(status(many.as_bytes()), Some(431));
    assert_eq!(status(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n"), Some(400));
    assert_eq!(status(b"SELECT 1\r\n\r\n"), Some(400));
    assert_eq!(door.get("/healthz").status, 200);
    assert!(!proxy.log().contains("ERROR"), "{}", proxy.log());
}

#[test]
fn a_head_that_comes_slowly_is_closed_in_time() {
    let (_proxy, door) = start("", &two_cns());
    let begun = Instant::now();
    let (mut slow, mut silent) = (RawHttp::dial(door), RawHttp::dial(door));
    let mut sent = 0;
    for byte in b"GET /metrics HTTP/1.1\r\nhost: ".iter().cycle() {
        if slow.try_send(&[*byte]).is_err() || begun.elapsed() > Duration::from_secs(15) {
            break;
        }
        sent += 1;
        std::thread::sleep(Duration::from_millis(250));
        assert_eq!(door.get("/healthz").status, 200, "others are served meanwhile");
    }
    let took = begun.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(9)).contains(&took), "{sent} bytes in {took:?}");
    assert!(silent.is_closed(), "and one that says nothing");
}

#[test]
fn more_connections_than_the_limit_are_turned_away() {
    let (proxy, door) = start("max_connections = 2", &two_cns());
    let mut kept = Vec::new();
    // Those that asked before may not have left yet.
    wait_until("two have a place", LIMIT, || {
        let mut http = RawHttp::dial(door);
        if http.get("/healthz").is_some_and(|answer| answer.status == 200) {
            kept.push(http);
        }
        kept.len() == 2
    });
    for _ in 0..50 {
        let answer = door.get("/healthz");
        assert_eq!((answer.status, &*answer.body), (503, "too many connections\n"));
    }
    // As many that say nothing as there are, and more.
    let crowd: Vec<_> = (0..200).map(|_| RawHttp::dial(door)).collect();
    assert_eq!(kept[0].get("/readyz").unwrap().status, 200, "those that are there are served");
    assert_eq!(connect(proxy.port, "app", "secret").query_first("SELECT 1").unwrap(), Some(1));
    drop((crowd, kept));
    wait_until("there is room again", LIMIT, || door.get("/healthz").status == 200);
}

#[test]
fn a_flood_of_scrapes_hurts_nobody() {
    let (proxy, door) = start("", &two_cns());
    let mut client = connect(proxy.port, "app", "secret");
    let until = Instant::now() + Duration::from_secs(2);
    let scrapers: Vec<_> = (0..24)
        .map(|_| {
            std::thread::spawn(move || {
                let (mut http, mut count) = (RawHttp::dial(door), 0);
                while Instant::now() < until {
                    assert_eq!(http.get("/metrics").expect("it is kept").status, 200);
                    count += 1;
                }
                count
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    while Instant::now() < until {
        let begun = Instant::now();
        assert_eq!(proxy.ctl("SHOW CNS").len(), 2);
        client.query_drop("SELECT 1").unwrap();
        slowest = slowest.max(begun.elapsed());
    }
    let answered: u32 = scrapers.into_iter().map(|scraper| scraper.join().unwrap()).sum();
    assert!((24..2500).contains(&answered), "{answered} pages in two seconds");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert_eq!(door.get("/healthz").status, 200);
}

#[test]
fn an_address_in_use_is_named_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let (dir, free) = (tempfile::tempdir().unwrap(), HttpDoor::new().0);
    let file = dir.path().join("corelane.toml");
    let text = format!(
        "[listen]\nsql = [\"127.0.0.1:{free}\"]\n[admin]\nlisten = \"127.0.0.1:{}\"\n{}",
        HttpDoor::new().0,
        HttpDoor(port).toml("")
    );
    std::fs::write(&file, text).unwrap();
    let args = ["serve", "--config", file.to_str().unwrap()];
    let ended = run(binary().to_str().unwrap(), &args, LIMIT);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    let expected = format!("cannot listen on 127.0.0.1:{port} for the HTTP door ([http] listen): ");
    assert!(said.contains(&expected), "{said}");
}
