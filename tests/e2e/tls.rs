//! TLS on either leg: `[tls]` towards clients, here the mariadb command line, and `[cn_tls]` towards real servers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use crate::house::{
    Authority, Issued, Mariadb, Proxy, cluster, cn_toml, command_line, refused, run, said, wait_until,
};

const LIMIT: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(10);

fn ca(file: &Path) -> String {
    format!("--ssl-ca={}", file.display())
}

fn shown(issued: &Issued) -> [String; 2] {
    [format!("--ssl-cert={}", issued.certificate.display()), format!("--ssl-key={}", issued.key.display())]
}

/// A proxy in front of one CN, and who vouches for it.
fn proxy_with(keys: &str) -> (Proxy, Authority) {
    let authority = Authority::new("authority");
    let own = authority.issue("corelane", &["localhost", "127.0.0.1"]);
    let cn = cn_toml("cn1", &cluster()[0].address(), "", 1);
    let proxy = Proxy::start(&format!("{cn}[tls]\n{}{keys}", own.toml()));
    proxy.wait_state("cn1", "working");
    (proxy, authority)
}

#[test]
fn a_client_may_speak_through_tls() {
    let (proxy, authority) = proxy_with("");
    let verified = [&*ca(&authority.file), "--ssl-verify-server-cert"];
    for version in ["TLSv1.2", "TLSv1.3"] {
        let of_version = format!("--tls-version={version}");
        let options = [verified[0], verified[1], &of_version];
        let status = said(&command_line(proxy.port, &options, "\\s"));
        assert!(status.contains("Cipher in use is"), "{status}");
        let length = said(&command_line(
            proxy.port,
            &options,
            "SELECT LENGTH(REPEAT('x', 12000000)), REPEAT('y', 9000000)",
        ));
        assert_eq!(length.trim_end(), format!("12000000\t{}", "y".repeat(9_000_000)), "{version}");
    }
    let other = Authority::new("other");
    let error =
        refused(&command_line(proxy.port, &[&ca(&other.file), "--ssl-verify-server-cert"], "SELECT 1"));
    assert!(error.contains("ERROR 2026"), "{error}");
    let status = said(&command_line(proxy.port, &["--skip-ssl"], "\\s"));
    assert!(status.contains("Not in use"), "{status}");
    assert_eq!(said(&command_line(proxy.port, &["--ssl"], "SELECT 1 + 1")), "2\n");
}

#[test]
fn sent_bytes_are_whole_in_both_directions() {
    let (proxy, authority) = proxy_with("");
    let ca = ca(&authority.file);
    let options = [&*ca, "--ssl-verify-server-cert", "--max-allowed-packet=64M"];
    // The command line takes no longer arguments.
    let file = authority.file.with_file_name("statement.sql");
    for length in [1, 4_000, 16_384, 70_000, 7_000_000] {
        let text: String = (0..length).map(|at| char::from(b'a' + (at % 23) as u8)).collect();
        std::fs::write(&file, format!("SELECT '{text}', LENGTH('{text}');")).expect("write the statement");
        let answer = said(&command_line(proxy.port, &options, &format!("source {}", file.display())));
        assert!(answer == format!("{text}\t{length}\n"), "{length} bytes");
    }
}

#[test]
fn tls_may_be_required() {
    let (proxy, _authority) = proxy_with("required = true\nmin_version = \"1.3\"\n");
    let error = refused(&command_line(proxy.port, &["--skip-ssl"], "SELECT 1"));
    assert!(error.contains("ERROR 3159"), "{error}");
    assert_eq!(said(&command_line(proxy.port, &["--ssl"], "SELECT 1")), "1\n");
    let error = refused(&command_line(proxy.port, &["--ssl", "--tls-version=TLSv1.2"], "SELECT 1"));
    assert!(error.contains("ERROR 2026") || error.contains("ERROR 2013"), "{error}");
}

#[test]
fn a_client_may_have_to_show_a_certificate() {
    let authority = Authority::new("authority");
    let keys =
        format!("client_certificates = \"required\"\nclient_ca_file = \"{}\"\n", authority.file.display());
    let (proxy, _) = proxy_with(&keys);
    let shows = |issued: &Issued| {
        let [certificate, key] = shown(issued);
        command_line(proxy.port, &["--ssl", &certificate, &key], "SELECT 1")
    };
    assert_eq!(said(&shows(&authority.issue("app", &[]))), "1\n");
    refused(&shows(&Authority::new("other").issue("app", &[])));
    refused(&command_line(proxy.port, &["--ssl"], "SELECT 1"));
    assert_eq!(
        said(&command_line(proxy.port, &["--skip-ssl"], "SELECT 1")),
        "1\n",
        "without TLS nobody is asked"
    );
}

/// In front of CNs of the tenants acc1 and acc2, with these keys of `[tls]` and sections behind it.
fn tenants_with(keys: &str) -> (Proxy, Authority) {
    let authority = Authority::new("authority");
    let own = authority.issue("corelane", &["127.0.0.1"]);
    let cns = cluster().iter().zip(["acc1", "acc2"]);
    let cns =
        cns.map(|(cn, tenant)| cn_toml(&cn.name, &cn.address(), &format!("account = [\"{tenant}\"]"), 1));
    let asks =
        format!("client_certificates = \"optional\"\nclient_ca_file = \"{}\"\n", authority.file.display());
    let proxy = Proxy::start(&format!("{}[tls]\n{}{asks}{keys}", cns.collect::<String>(), own.toml()));
    proxy.wait_state("cn1", "working");
    proxy.wait_state("cn2", "working");
    (proxy, authority)
}

const WHERE: &str = "SELECT @@report_host";

#[test]
fn a_certificate_gives_labels_that_nobody_can_contradict() {
    let (proxy, authority) = tenants_with(
        "certificate_labels = { account = \"O\" }\n[log]\nlevel = \"info,corelane::worker=debug\"\n",
    );
    let comes = |issued: &Issued, user: &str| {
        let [certificate, key] = shown(issued);
        command_line(proxy.port, &["--ssl", &certificate, &key, &format!("-u{user}")], WHERE)
    };
    for (tenant, cn) in [("acc1", "cn1\n"), ("acc2", "cn2\n")] {
        let issued = authority.issue_of("client", tenant);
        assert_eq!(said(&comes(&issued, "app")), cn);
        assert_eq!(said(&comes(&issued, &format!("{tenant}:app"))), cn);
        let error = refused(&comes(&issued, "acc3:app"));
        assert!(error.contains("ERROR 1045"), "{error}");
        let error = refused(&comes(&issued, "app?account=acc3"));
        assert!(error.contains("ERROR 1045"), "{error}");
    }
    let error = refused(&comes(&authority.issue("nobody", &[]), "acc1:app"));
    assert!(error.contains("ERROR 1045"), "{error}");
    assert!(proxy.log().contains("its certificate has no O"));
    for options in [["-uacc2:app", "--ssl"], ["-uacc2:app", "--skip-ssl"]] {
        assert_eq!(said(&command_line(proxy.port, &options, WHERE)), "cn2\n", "certificates are optional");
    }
}

#[test]
fn a_user_may_need_a_certificate_of_its_own() {
    let user = "[[user]]\nname = \"app\"\npassword = \"secret\"\ncertificate = [\"CN=app*\", \"O=acme\"]\n";
    let (proxy, authority) = tenants_with(user);
    let comes = |issued: &Issued| {
        let [certificate, key] = shown(issued);
        command_line(proxy.port, &["--ssl", &certificate, &key, "-uacc1:app"], WHERE)
    };
    for issued in [authority.issue("app7", &[]), authority.issue_of("other", "acme")] {
        assert_eq!(said(&comes(&issued)), "cn1\n");
    }
    for output in [
        comes(&authority.issue("other", &[])),
        comes(&authority.issue_of("other", "acme2")),
        command_line(proxy.port, &["--ssl", "-uacc1:app"], WHERE),
        command_line(proxy.port, &["--skip-ssl", "-uacc1:app"], WHERE),
    ] {
        let error = refused(&output);
        assert!(error.contains("ERROR 1045"), "{error}");
    }
}

#[test]
fn certificates_are_read_again_and_sessions_keep_theirs() {
    let (proxy, authority) = proxy_with("");
    let old = authority.issue("corelane", &["127.0.0.1"]);
    proxy.signal("HUP");
    wait_until("the new certificate is taken up", SOON, || {
        proxy.log().contains("[tls] has other certificates")
    });
    drop(old);
    let next = Authority::new("next");
    let issued = next.issue("corelane", &["127.0.0.1"]);
    let cn = cn_toml("cn1", &cluster()[0].address(), "", 1);
    proxy.reload(&format!("{cn}[tls]\n{}", issued.toml()));
    let verified = |authority: &Authority| {
        command_line(proxy.port, &[&ca(&authority.file), "--ssl-verify-server-cert"], "SELECT 1")
            .status
            .success()
    };
    wait_until("the next authority's is taken up", SOON, || verified(&next));
    assert!(!verified(&authority));
    std::fs::write(&issued.key, "no key").expect("write the key");
    proxy.signal("HUP");
    wait_until("the mistake is said", SOON, || proxy.log().contains("no private key in PEM"));
    assert!(verified(&next), "nothing is changed");
    proxy.reload(&cn);
    wait_until("TLS is no longer offered", SOON, || {
        said(&command_line(proxy.port, &[], "\\s")).contains("Not in use")
    });
}

/// 32 bytes that ask for TLS, as a client sends them behind the greeting.
fn ask_for_tls(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    stream.set_read_timeout(Some(SOON)).expect("a limit");
    let mut greeting = [0; 4];
    stream.read_exact(&mut greeting).expect("a greeting");
    let mut rest = vec![0; usize::from(greeting[0])];
    stream.read_exact(&mut rest).expect("a greeting");
    let mut request = vec![32, 0, 0, 1, 0x85, 0xae, 0xff, 0x00, 0, 0, 0, 1, 45];
    request.resize(4 + 32, 0);
    stream.write_all(&request).expect("send");
    stream
}

#[test]
fn garbage_in_the_place_of_tls_hurts_only_itself() {
    let (proxy, _authority) = proxy_with("");
    let mut garbage: Vec<(&str, Vec<u8>)> = vec![
        ("text", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("zeros", vec![0; 2000]),
        ("a login", b"\x20\0\0\x02\x85\xa6\xff\0\0\0\0\x01\x2d".to_vec()),
        ("an endless record", [&[22, 3, 1, 0xff, 0xff][..], &[1; 70_000]].concat()),
        ("a record of nothing, often", [22, 3, 1, 0, 0].repeat(5000)),
        ("an alert", vec![21, 3, 1, 0, 2, 2, 40]),
    ];
    garbage.push(("the request again", vec![32, 0, 0, 2, 0x85, 0xae, 0xff, 0]));
    for (what, bytes) in garbage {
        let mut stream = ask_for_tls(proxy.port);
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer[0] == 21, "{what}: an alert at most: {answer:?}");
        assert_eq!(said(&command_line(proxy.port, &["--ssl"], "SELECT 1")), "1\n", "{what}");
    }
    assert!(!proxy.log().contains("no TLS with a client"), "nobody fills the log: {}", proxy.log());
    // Nobody waits for a client that says nothing more than it may take to log in.
    drop(ask_for_tls(proxy.port));
    let row = proxy.ctl("SHOW SESSIONS");
    assert!(row.len() <= 1, "{row:?}");
}

#[test]
fn sessions_move_with_their_tls() {
    let authority = Authority::new("authority");
    let own = authority.issue("corelane", &["127.0.0.1"]);
    let cns = cluster();
    let tables = format!(
        "{}data = \"d\"\n{}data = \"d\"\n[tls]\n{}[migration]\nidle_ms = 100\n[[user]]\nname = \"app\"\npassword = \"secret\"\n",
        cn_toml("cn1", &cns[0].address(), "", 1),
        cn_toml("cn2", &cns[1].address(), "", 1),
        own.toml()
    );
    let proxy = Proxy::start(&tables);
    proxy.wait_state("cn1", "working");
    proxy.wait_state("cn2", "working");
    let ca = ca(&authority.file);
    let port = proxy.port;
    // A conversation of five seconds.
    let talk = std::thread::spawn(move || {
        let sql = "SET @a = 'kept'; ".to_owned() + &"SELECT @a, SLEEP(0.1); ".repeat(50);
        said(&command_line(port, &[&ca, "--ssl-verify-server-cert"], &sql))
    });
    let session = || proxy.ctl("SHOW SESSIONS").into_iter().find(|row| row["user"] == "app");
    wait_until("it is there", SOON, || session().is_some_and(|row| row["cn"].is_string()));
    for _ in 0..10 {
        let Some(row) = session() else { break };
        let to = if row["cn"] == "cn1" { "cn2" } else { "cn1" };
        let _ = proxy.try_ctl(&format!("MOVE SESSION {} TO CN '{to}'", row["id"]));
    }
    let moves = session().map(|row| row["moves"].to_string());
    assert_eq!(talk.join().expect("it talks"), "kept\t0\n".repeat(50));
    assert!(moves.as_ref().is_some_and(|moves| moves.trim_matches('"') != "0"), "{moves:?}");
}

/// A server that takes nobody without TLS.
fn secure_server(name: &str, authority: &Authority, hosts: &[&str]) -> Mariadb {
    secure_server_with(name, authority, hosts, &[])
}

/// The same with options of its own.
pub fn secure_server_with(name: &str, authority: &Authority, hosts: &[&str], extra: &[&str]) -> Mariadb {
    let issued = authority.issue(name, hosts);
    let [certificate, key] = shown(&issued);
    let options = [&*certificate, &*key, "--require-secure-transport=ON"];
    Mariadb::start_with(name, &[&options, extra].concat())
}

#[test]
fn cns_are_spoken_to_through_tls() {
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    let named = secure_server("named", &authority, &["127.0.0.1"]);
    let strange = secure_server("strange", &authority, &["elsewhere.example"]);
    let plain = &cluster()[0];
    let [by, by_other] = [&authority, &other].map(|ca| format!("ca_file = \"{}\"\n", ca.file.display()));
    // CN, `[cn_tls]`, and what comes of it.
    for (cn, rules, expected) in [
        (&named, "mode = \"preferred\"\n".to_owned(), ""),
        (&named, "mode = \"required\"\nmin_version = \"1.3\"\n".to_owned(), ""),
        (&named, format!("mode = \"verify_ca\"\n{by}"), ""),
        (&named, format!("mode = \"verify_name\"\n{by}"), ""),
        (&named, format!("mode = \"verify_ca\"\n{by_other}"), "TLS: invalid peer certificate"),
        (&strange, format!("mode = \"verify_ca\"\n{by}"), ""),
        (&strange, format!("mode = \"verify_name\"\n{by}"), "TLS: invalid peer certificate"),
        (plain, "mode = \"preferred\"\n".to_owned(), ""),
        (
            plain,
            "mode = \"required\"\n".to_owned(),
            "it offers no TLS, which [[cn]] tls or [cn_tls] asks for",
        ),
        (&named, "mode = \"off\"\n".to_owned(), "Access denied"),
    ] {
        let has_tls = !std::ptr::eq(cn, plain);
        let tables = format!("{}[cn_tls]\n{rules}", cn_toml("cn1", &cn.address(), "", 1));
        let proxy = Proxy::start(&tables);
        // Without TLS the server has nothing against probes, whose login is refused anyway.
        let is_well = expected.is_empty() || expected == "Access denied";
        proxy.wait_state("cn1", if is_well { "working" } else { "down" });
        let last = proxy.cn("cn1").expect("it is listed")["last_error"].to_string();
        assert!(is_well || last.contains(expected), "{rules}: {last}");
        for user in ["app", "ed"] {
            let sql = "SELECT VARIABLE_VALUE <> '' FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'SSL_CIPHER'";
            let user_option = format!("-u{user}");
            let output = command_line(proxy.port, &["--skip-ssl", &user_option], sql);
            if expected.is_empty() {
                assert_eq!(said(&output).trim_end() == "1", has_tls, "{user} {rules}");
            } else {
                let error = refused(&output);
                assert!(error.contains(expected), "{user} {rules}: {error}");
            }
        }
    }
}

#[test]
fn both_legs_have_tls_and_sessions_move_between_such_cns() {
    let authority = Authority::new("authority");
    let cns = ["one", "two"].map(|name| secure_server(name, &authority, &["127.0.0.1"]));
    let own = authority.issue("corelane", &["127.0.0.1"]);
    let tables = format!(
        "{}data = \"d\"\n{}data = \"d\"\n[tls]\nrequired = true\n{}[cn_tls]\nmode = \"verify_name\"\nca_file = \"{}\"\n\
         [migration]\nidle_ms = 100\n[[user]]\nname = \"app\"\npassword = \"secret\"\n",
        cn_toml("cn1", &cns[0].address(), "", 1),
        cn_toml("cn2", &cns[1].address(), "", 1),
        own.toml(),
        authority.file.display()
    );
    let proxy = Proxy::start(&tables);
    proxy.wait_state("cn1", "working");
    proxy.wait_state("cn2", "working");
    let socket = format!("--socket={}", proxy.socket().display());
    let local =
        run("mariadb", &["--no-defaults", &socket, "-uapp", "-psecret", "-BN", "-e", "SELECT 1"], LIMIT);
    assert_eq!(said(&local), "1\n", "nobody reads along on a Unix socket");
    let port = proxy.port;
    let ca = ca(&authority.file);
    let talk = std::thread::spawn(move || {
        let sql = "SET @a = 'kept'; ".to_owned() + &"SELECT @a, SLEEP(0.1); ".repeat(30);
        said(&command_line(port, &[&ca, "--ssl-verify-server-cert"], &sql))
    });
    let session = || proxy.ctl("SHOW SESSIONS").into_iter().find(|row| row["user"] == "app");
    wait_until("it is there", SOON, || session().is_some_and(|row| row["cn"].is_string()));
    let row = session().expect("it is there");
    let to = if row["cn"] == "cn1" { "cn2" } else { "cn1" };
    proxy.ctl(&format!("MOVE SESSION {} TO CN '{to}'", row["id"]));
    assert_eq!(session().expect("it is there")["cn"], to);
    assert_eq!(talk.join().expect("it talks"), "kept\t0\n".repeat(30));
}
