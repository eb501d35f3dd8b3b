//! The PROXY protocol: load balancers in front of corelane that tell of their clients, and real servers that are told of them.
//!
//! 203.0.113.7 is nobody's address (RFC 5737): a session that has it was told it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;

use mysql::prelude::Queryable;

use crate::house::{
    Authority, Can, Com, ErrPacket, HttpDoor, LoginAs, MO_PASSWORD, Mariadb, MatrixoneCn, Proxy, RawClient,
    cluster, cn_toml, connect, err_of, frames, number, run, wait_until,
};

const APP: LoginAs = LoginAs { user: "app", password: "secret", database: "" };
const FAR: LoginAs = LoginAs { user: "far", password: "secret", database: "" };
const SOON: Duration = Duration::from_secs(20);

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const LINE: &[u8] = b"PROXY TCP4 203.0.113.7 10.0.0.1 51234 6009\r\n";
const LINE6: &[u8] = b"PROXY TCP6 2001:db8::7 ::1 51234 6009\r\n";
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

/// Clients of this machine come through a load balancer.
const FROM_HERE: &str = "[proxy_protocol]\nfrom = [\"127.0.0.0/8\"]\n";
const FROM_ELSEWHERE: &str = "[proxy_protocol]\nfrom = [\"10.0.0.0/8\", \"fd00::/8\", \"unix\"]\n";
const USERS: &str =
    "[[user]]\nname = \"app\"\npassword = \"secret\"\n[[user]]\nname = \"far\"\npassword = \"secret\"\n";

/// A header of version 2.
fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("a short body").to_be_bytes();
    [SIGNATURE, &[0x20 | command, family], &length, body].concat()
}

/// 203.0.113.7:51234, to 10.0.0.1:6009.
const V4: &[u8] = &[203, 0, 113, 7, 10, 0, 0, 1, 0xc8, 0x22, 0x17, 0x79];

/// 203.0.113.7 in IPv6's clothes.
fn mapped() -> Vec<u8> {
    let ip = |v4: [u8; 4]| [&[0; 10][..], &[0xff, 0xff], &v4].concat();
    [&ip([203, 0, 113, 7])[..], &ip([10, 0, 0, 1]), &[0xc8, 0x22, 0x17, 0x79]].concat()
}

fn one_cn() -> String {
    cn_toml("cn1", &cluster()[0].address(), "", 1)
}

/// Dials, and begins with `bytes`.
fn dial(proxy: &Proxy, bytes: &[u8]) -> RawClient {
    let mut client = RawClient::dial(proxy.port);
    client.send_bytes(bytes).expect("send a header");
    client
}

/// The same, and logs in.
fn log_in(proxy: &Proxy, header: &[u8], who: &LoginAs) -> Result<RawClient, ErrPacket> {
    let mut client = dial(proxy, header);
    client.log_in(who)?;
    Ok(client)
}

/// What the one session says of its client.
fn shown_client(proxy: &Proxy) -> String {
    let rows = proxy.ctl("SHOW SESSIONS");
    assert_eq!(rows.len(), 1, "one session: {rows:?}");
    rows[0]["client"].as_str().expect("an address").to_owned()
}

fn leave(proxy: &Proxy, mut client: RawClient) {
    client.command(Com::QUIT, b"");
    drop(client);
    wait_until("it has left", SOON, || proxy.ctl("SHOW SESSIONS").is_empty());
}

/// The refusal of a client that begins with `bytes`, and the number of its packet.
fn refused(proxy: &Proxy, bytes: &[u8]) -> (u8, ErrPacket) {
    let mut client = dial(proxy, bytes);
    for packet in client.packets_to_end() {
        if let Err(err) = err_of(&packet) {
            return (client.sequence, err);
        }
    }
    panic!("it is not refused: {}", bytes.escape_ascii());
}

#[test]
fn a_header_tells_of_the_client() {
    let proxy = Proxy::start(&(one_cn() + FROM_HERE));
    let mapped = binary(1, 0x21, &mapped());
    let tlvs = binary(1, 0x11, &[V4, &[4, 0, 2, 0, 0, 0x20, 0, 1, 7]].concat());
    for (header, expected) in [
        (LINE, "203.0.113.7:51234"),
        (LINE6, "[2001:db8::7]:51234"),
        (&binary(1, 0x11, V4), "203.0.113.7:51234"),
        (&tlvs, "203.0.113.7:51234"),
        (&mapped, "[::ffff:203.0.113.7]:51234"),
    ] {
        let mut client = log_in(&proxy, header, &APP).expect("it gets in");
        assert_eq!(shown_client(&proxy), expected);
        assert_eq!(client.value("SELECT USER()").unwrap(), "app@127.0.0.1", "the CN is not told");
        leave(&proxy, client);
    }
}

#[test]
fn a_header_may_come_byte_by_byte() {
    let proxy = Proxy::start(&(one_cn() + FROM_HERE));
    for header in [LINE, &binary(1, 0x11, V4)] {
        let mut client = RawClient::dial(proxy.port);
        for byte in header {
            client.send_bytes(&[*byte]).expect("send a byte");
            sleep(Duration::from_millis(2));
        }
        client.log_in(&APP).expect("it gets in");
        assert_eq!(shown_client(&proxy), "203.0.113.7:51234");
        leave(&proxy, client);
    }
}

/// A client cannot know the salt yet, so its answer is wrong; it is asked again.
#[test]
fn what_follows_a_header_at_once_is_not_lost() {
    let proxy = Proxy::start(&(one_cn() + FROM_HERE));
    let mut login = Can::USUAL.to_le_bytes().to_vec();
    login.extend_from_slice(&[0, 0, 0, 1, 45]);
    login.extend_from_slice(&[0; 23]);
    login.extend_from_slice(b"app\0\x14aaaaaaaaaaaaaaaaaaaamysql_native_password\0");
    for header in [LINE, &binary(1, 0x11, V4), UNKNOWN] {
        let mut client = dial(&proxy, &[header, &frames(1, &login)].concat());
        assert_eq!(client.packet()[0], 10, "a greeting");
        let request = client.packet();
        assert_eq!(request[0], 0xfe, "a switch");
        client.answer_switch(&request, "secret");
        assert_eq!(client.packet()[0], 0, "it gets in");
        assert_eq!(client.value("SELECT 6*7").unwrap(), "42");
        leave(&proxy, client);
    }
}

#[test]
fn a_header_may_tell_of_nobody_else() {
    let proxy = Proxy::start(&(one_cn() + FROM_HERE));
    let (local, unspecified) = (binary(0, 0, b""), binary(1, 0, b"whatever"));
    let unix = binary(1, 0x31, &[b'x'; 216]);
    for header in [UNKNOWN, b"PROXY UNKNOWN what ever\r\n", &local, &binary(0, 0x11, V4), &unspecified, &unix]
    {
        let client = log_in(&proxy, header, &APP).expect("it gets in");
        assert!(shown_client(&proxy).starts_with("127.0.0.1:"), "{}", header.escape_ascii());
        leave(&proxy, client);
    }
}

#[test]
fn a_denial_names_the_client_that_was_told_of() {
    let proxy = Proxy::start(&(one_cn() + FROM_HERE + USERS));
    let wrong = LoginAs { password: "wrong", ..APP };
    let err = log_in(&proxy, LINE, &wrong).err().expect("a denial");
    assert_eq!(err.message, "Access denied for user 'app'@'203.0.113.7' (using password: YES)");
}

#[test]
fn the_preamble_of_a_matrixone_cn_tells_of_that_client_too() {
    let cn = MatrixoneCn::start("cn1");
    let proxy = Proxy::start(&(cn.toml("") + FROM_HERE));
    proxy.wait_state("cn1", "working");
    let _client = log_in(&proxy, LINE, &LoginAs { password: MO_PASSWORD, ..APP }).expect("it gets in");
    let told = cn.look(|seen| seen.preambles.iter().find(|preamble| !preamble.internal).cloned());
    assert_eq!(told.expect("a preamble").client, "203.0.113.7:51234");
}

#[test]
fn without_a_right_header_nobody_gets_in() {
    const WORDS: &str =
        "No right PROXY protocol header, with which [proxy_protocol] has connections from here begin: ";
    let door = HttpDoor::new();
    let limit = "[login]\nclient_timeout_ms = 1000\n[log]\nlevel = \"debug\"\n";
    let proxy = Proxy::start(&(one_cn() + FROM_HERE + limit + &door.toml("")));
    let mut bystander = log_in(&proxy, LINE, &APP).expect("it gets in");
    let wrong = [
        (b"GET / HTTP/1.1\r\n".to_vec(), "it begins with something else"),
        (b"PROXY TCP4 203.0.113.7 10.0.0.1 051234 6009\r\n".to_vec(), "a line with a bad source port"),
        (b"PROXY TCP4 203.0.113.7 10.0.0.1 51234 6009\n".to_vec(), "a line that does not end with CR LF"),
        ([&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat(), "a line of more than 107 bytes"),
        (binary(0x12, 0x11, V4), "version 3, where 1 and 2 are known"),
        (binary(1, 0x11, &V4[1..]), "11 bytes for addresses that take 12"),
        (binary(1, 0x11, &[V4, &[3, 0, 4, 1, 2, 3, 4]].concat()), "a wrong checksum"),
        (binary(0, 0, &[0; 5000]), "5016 bytes, more than 4096"),
        (Vec::new(), "no whole header within 1000 ms"),
        (LINE[..20].to_vec(), "no whole header within 1000 ms"),
    ];
    for (bytes, cause) in &wrong {
        let (sequence, err) = refused(&proxy, bytes);
        assert_eq!((sequence, err.code, &*err.state), (0, 1105, ""), "{err:?}");
        assert_eq!(err.message, format!("{WORDS}{cause}"));
    }
    let (sequence, err) = refused(&proxy, &[LINE, LINE].concat());
    assert_eq!((sequence, err.message), (2, format!("{WORDS}a second one behind it")));
    assert_eq!(bystander.value("SELECT 6*7").unwrap(), "42");
    let told: f64 = why(door, "proxy_header");
    assert_eq!(told, (wrong.len() + 1) as f64);
    assert_eq!(why(door, "denied"), 0.0);
    assert!(proxy.log().contains("a line with a bad source port"), "it is in the log");
    drop(dial(&proxy, b"PROXY"));
    wait_until("it is seen to leave", SOON, || why(door, "client_gone") == 1.0);
}

/// Sessions refused on all workers for one reason.
fn why(door: HttpDoor, why: &str) -> f64 {
    let mark = format!("why=\"{why}\"");
    let body = door.get("/metrics").body;
    let lines = body.lines().filter(|line| line.starts_with("corelane_sessions_refused_total"));
    let numbers =
        lines.filter(|line| line.contains(&mark)).map(|line| line.rsplit(' ').next().expect("a number"));
    numbers.map(|number| number.parse::<f64>().expect("a number")).sum()
}

#[test]
fn nobody_else_may_tell_of_clients() {
    let door = HttpDoor::new();
    for table in ["", FROM_ELSEWHERE] {
        let proxy = Proxy::start(&(one_cn() + table + &door.toml("")));
        let mut bystander = connect(proxy.port, "app", "secret");
        for header in [LINE, UNKNOWN, &binary(1, 0x11, V4), &binary(0, 0, b"")] {
            let (sequence, err) = refused(&proxy, header);
            // As the answer to the login that a client behind a load balancer will send.
            assert_eq!((sequence, err.code), (2, 1130), "{err:?}");
            assert_eq!(
                err.message,
                "Proxy header is not accepted from 127.0.0.1, which is not among [proxy_protocol] from"
            );
        }
        wait_until("all are counted", SOON, || why(door, "proxy_header") == 4.0);
        assert_eq!(bystander.query_first("SELECT 6*7").unwrap(), Some(42));
    }
}

#[test]
fn unix_sockets_may_be_a_load_balancers() {
    let proxy = Proxy::start(&(one_cn() + FROM_ELSEWHERE));
    let mut stream = UnixStream::connect(proxy.socket()).expect("connect");
    stream.set_read_timeout(Some(SOON)).expect("set a limit");
    stream.write_all(&LINE[..10]).expect("send");
    sleep(Duration::from_millis(100));
    stream.write_all(&LINE[10..]).expect("send");
    let mut start = [0; 5];
    stream.read_exact(&mut start).expect("a greeting");
    assert_eq!(start[4], 10);
    assert_eq!(shown_client(&proxy), "203.0.113.7:51234");
    drop(stream);
    assert!(connect(proxy.port, "app", "secret").ping().is_ok(), "without a header by TCP");
}

#[test]
fn a_reload_counts_for_new_connections() {
    let proxy = Proxy::start(&one_cn());
    let mut old = connect(proxy.port, "app", "secret");
    proxy.reload(&(one_cn() + FROM_HERE));
    wait_until("it is taken up", SOON, || {
        proxy.log().contains("[proxy_protocol] from: [] is now [127.0.0.0/8]")
    });
    wait_until("a header is believed", SOON, || log_in(&proxy, LINE, &APP).is_ok());
    assert_eq!(old.query_first("SELECT 6*7").unwrap(), Some(42));
    proxy.reload(&one_cn());
    // Each worker hears of it by itself.
    wait_until("no more", SOON, || (0..8).all(|_| log_in(&proxy, LINE, &APP).is_err()));
    assert!(connect(proxy.port, "app", "secret").ping().is_ok());
}

/// A server that believes what it is told from here, with an account for one address only.
fn told() -> &'static Mariadb {
    static TOLD: OnceLock<Mariadb> = OnceLock::new();
    TOLD.get_or_init(|| {
        let server = Mariadb::start_with("told", &["--proxy-protocol-networks=127.0.0.0/8,::1,localhost"]);
        let mut root = connect(server.port, "root", "");
        root.query_drop("CREATE USER far@'203.0.113.7' IDENTIFIED BY 'secret'").unwrap();
        root.query_drop("GRANT ALL ON *.* TO far@'203.0.113.7'").unwrap();
        server
    })
}

/// A CN on that server.
fn telling(id: &str, address: &str) -> String {
    cn_toml(id, address, "", 1) + "proxy_protocol = true\ndata = \"d1\"\n"
}

#[test]
fn a_cn_is_told_of_the_client() {
    for users in ["", USERS] {
        let proxy = Proxy::start(&(telling("cn1", &told().address()) + FROM_HERE + users));
        for header in [LINE, &binary(1, 0x11, V4), &binary(1, 0x21, &mapped())] {
            let mut client = log_in(&proxy, header, &FAR).expect("its address lets it in");
            assert_eq!(client.value("SELECT USER()").unwrap(), "far@203.0.113.7");
        }
        let mut client = log_in(&proxy, LINE6, &APP).expect("it gets in");
        assert_eq!(client.value("SELECT USER()").unwrap(), "app@2001:db8::7");
        let other = b"PROXY TCP4 203.0.113.8 10.0.0.1 51234 6009\r\n";
        let err = log_in(&proxy, other, &FAR).err().expect("another address");
        assert_eq!(err.code, 1045, "{err:?}");
        assert!(err.message.contains("'far'@'203.0.113.8'"), "{err:?}");
        let mut local = log_in(&proxy, UNKNOWN, &APP).expect("it gets in");
        assert_eq!(local.value("SELECT USER()").unwrap(), "app@127.0.0.1");
    }
}

#[test]
fn a_client_of_a_unix_socket_is_told_as_corelane() {
    for address in [told().address(), format!("unix:{}", told().socket().display())] {
        let proxy = Proxy::start(&telling("cn1", &address));
        let socket = format!("--socket={}", proxy.socket().display());
        let args = ["--no-defaults", &socket, "-uapp", "-psecret", "-BN", "-e", "SELECT USER()"];
        let output = run("mariadb", &args, SOON);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let expected = if address.starts_with("unix:") { "app@localhost" } else { "app@127.0.0.1" };
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected);
        // One by TCP is told as itself to either.
        let mut client = connect(proxy.port, "app", "secret");
        assert_eq!(client.query_first("SELECT USER()").unwrap(), Some("app@127.0.0.1".to_owned()));
    }
}

#[test]
fn a_session_is_told_of_again_where_it_moves() {
    let address = told().address();
    let proxy = Proxy::start(&(telling("cn1", &address) + &telling("cn2", &address) + FROM_HERE + USERS));
    let mut client = log_in(&proxy, LINE, &FAR).expect("it gets in");
    let mut ids =
        vec![client.value("SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'far'").unwrap()];
    for _ in 0..2 {
        let row = proxy.ctl("SHOW SESSIONS").remove(0);
        let there = if row["cn"] == "cn1" { "cn2" } else { "cn1" };
        proxy.try_ctl(&format!("MOVE SESSION {} TO CN '{there}'", number(&row["id"]))).expect("it moves");
        assert_eq!(client.value("SELECT USER()").unwrap(), "far@203.0.113.7");
        ids.push(client.value("SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'far'").unwrap());
    }
    assert!(ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
    assert_eq!(shown_client(&proxy), "203.0.113.7:51234");
}

#[test]
fn a_header_goes_before_tls() {
    let authority = Authority::new("authority");
    let own = authority.issue("cn1", &["127.0.0.1"]);
    let files = [("--ssl-cert", &own.certificate), ("--ssl-key", &own.key)];
    let [certificate, key] = files.map(|(option, file)| format!("{option}={}", file.display()));
    let server = Mariadb::start_with("secure", &["--proxy-protocol-networks=127.0.0.1", &certificate, &key]);
    let tls = format!("[cn_tls]\nmode = \"verify_name\"\nca_file = \"{}\"\n", authority.file.display());
    let proxy = Proxy::start(&(telling("cn1", &server.address()) + FROM_HERE + &tls));
    let mut client = log_in(&proxy, LINE, &APP).expect("it gets in");
    assert_eq!(client.value("SELECT USER()").unwrap(), "app@203.0.113.7");
    client.command(Com::QUERY, b"SHOW STATUS LIKE 'Ssl_version'");
    let row = client.rows().unwrap().remove(0);
    assert!(String::from_utf8_lossy(&row).contains("TLSv1"), "{}", row.escape_ascii());
}

#[test]
fn probes_keep_a_told_cn_working() {
    let server = Mariadb::start_with("probed", &["--proxy-protocol-networks=*", "--max-connect-errors=3"]);
    let proxy = Proxy::start(&telling("cn1", &server.address()));
    proxy.wait_state("cn1", "working");
    // Some twenty probes, none of which the server may hold against the host.
    sleep(Duration::from_secs(4));
    proxy.wait_state("cn1", "working");
    assert!(connect(proxy.port, "app", "secret").ping().is_ok());
    assert!(connect(server.port, "app", "secret").ping().is_ok(), "the host is not blocked");
}

#[test]
fn a_cn_that_takes_no_header_is_named() {
    let server = Mariadb::start("untold");
    let proxy = Proxy::start(&telling("cn1", &server.address()));
    proxy.wait_state("cn1", "down");
    let said = proxy.cn("cn1").expect("it is listed")["last_error"].as_str().expect("an error").to_owned();
    assert!(said.contains("it takes no PROXY protocol header from corelane"), "{said}");
    assert!(said.ends_with("Proxy header is not accepted from 127.0.0.1 (1130)"), "{said}");
    let err = RawClient::login(proxy.port, &APP).err().expect("a refusal");
    assert!(err.message.contains("PROXY protocol header"), "{err:?}");
    // Without a header from then on.
    proxy.reload(&cn_toml("cn1", &server.address(), "", 1));
    proxy.wait_state("cn1", "working");
    assert!(connect(proxy.port, "app", "secret").ping().is_ok());
}
