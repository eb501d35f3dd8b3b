//! Compression on either leg: `[compression]` towards clients, here the mariadb command line, and towards real servers. MariaDB has
//! zlib alone; what a session speaks is what the CN itself and the client say of their own connection.

use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use crate::house::{Authority, Proxy, cluster, cn_toml, command_line, said, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// Whether the CN's leg is compressed, as the CN has it.
const AT_CN: &str =
    "SELECT VARIABLE_VALUE FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'COMPRESSION'";

/// The mariadb command line, for long packets and files.
fn client(port: u16, options: &[&str], sql: &str) -> Output {
    command_line(port, &[&["--max-allowed-packet=128M", "--local-infile=1", "test"], options].concat(), sql)
}

/// A proxy in front of one CN, with these keys of `[compression]`.
fn proxy_with(keys: &str) -> Proxy {
    let cn = cn_toml("cn1", &cluster()[0].address(), "", 1);
    let proxy = Proxy::start(&format!("{cn}[compression]\n{keys}"));
    proxy.wait_state("cn1", "working");
    proxy
}

/// `[compression]`, what the client does, and whether either leg is compressed then.
const LEGS: [(&str, &[&str], bool, &str); 5] = [
    ("clients = [\"zlib\", \"zstd\"]\n", &["--compress"], true, "OFF"),
    ("clients = [\"zlib\"]\ncns = \"zlib\"\nlevel_zlib = 6\n", &["--compress"], true, "ON"),
    ("cns = \"zlib\"\n", &["--compress"], false, "ON"),
    ("clients = [\"zlib\"]\ncns = \"zstd\"\n", &["--compress"], true, "OFF"),
    ("clients = [\"zlib\"]\n", &[], false, "OFF"),
];

#[test]
fn either_leg_is_compressed_by_itself() {
    for (keys, options, at_client, at_cn) in LEGS {
        let proxy = proxy_with(keys);
        assert_eq!(said(&client(proxy.port, options, AT_CN)).trim_end(), at_cn, "{keys}");
        let status = said(&client(proxy.port, options, "\\s"));
        assert_eq!(status.contains("Protocol:\t\tCompressed"), at_client, "{keys}: {status}");
    }
}

/// A file of this run, beside the certificates of an authority that keeps the directory.
fn scratch(authority: &Authority, name: &str) -> PathBuf {
    authority.file.with_file_name(name)
}

/// Lines that can be packed, but not to nothing.
fn lines(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 32);
    let mut at: u64 = 1;
    while text.len() < bytes {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text += &format!("{:x} and some more\n", at >> 40);
    }
    text
}

#[test]
fn bytes_are_whole_in_both_directions() {
    let authority = Authority::new("scratch");
    for (keys, options, ..) in LEGS {
        let proxy = proxy_with(keys);
        // A reply of many packets, and one of more than 16 MiB.
        let many = said(&client(proxy.port, options, "SELECT seq, NULL FROM seq_1_to_70000; SELECT 'end'"));
        assert_eq!(many.lines().count(), 70_001, "{keys}");
        assert!(many.ends_with("70000\tNULL\nend\n"), "{keys}");
        let long = said(&client(proxy.port, options, "SELECT REPEAT('abcdefghij', 3400000), 'end'"));
        assert!(long == format!("{}\tend\n", "abcdefghij".repeat(3_400_000)), "{keys}");
        // Statements of some sizes, one of them beyond a frame of 16 MiB.
        let file = scratch(&authority, "statement.sql");
        for bytes in [1, 49, 5_000, 70_000, 17_500_000] {
            let text = lines(bytes);
            let statement =
                format!("SELECT LENGTH('{text}'), MD5('{text}') = MD5('{text}');\nSELECT 'next';\n");
            let statement = if bytes > 1_000_000 {
                format!("SELECT LENGTH('{text}'), 1;\nSELECT 'next';\n")
            } else {
                statement
            };
            std::fs::write(&file, statement).expect("write the statement");
            let answer = said(&client(proxy.port, options, &format!("source {}", file.display())));
            assert_eq!(answer, format!("{}\t1\nnext\n", text.len()), "{keys}");
        }
    }
}

#[test]
fn local_files_are_loaded() {
    let authority = Authority::new("scratch");
    for (keys, options, ..) in LEGS {
        let proxy = proxy_with(keys);
        for bytes in [0, 10, 300_000, 9_000_000] {
            let (file, text) =
                (scratch(&authority, "lines.txt"), if bytes == 0 { String::new() } else { lines(bytes) });
            std::fs::write(&file, &text).expect("write the file");
            // Packets before the request move its number: up to where numbers come round.
            for before in [0, 251, 252, 253, 254] {
                let file = file.display();
                let sql = format!(
                    "CREATE TEMPORARY TABLE t (line TEXT);\nDELIMITER //\n\
                     SELECT seq FROM seq_1_to_{} WHERE {before} > 0; LOAD DATA LOCAL INFILE '{file}' INTO TABLE t; SELECT 'loaded'//\n\
                     DELIMITER ;\nSELECT COUNT(*), COALESCE(SUM(LENGTH(line) + 1), 0) FROM t;\n",
                    before.max(1)
                );
                if before > 0 && bytes > 300_000 {
                    continue;
                }
                let script = scratch(&authority, "load.sql");
                std::fs::write(&script, sql).expect("write the script");
                let answer = said(&client(proxy.port, options, &format!("source {}", script.display())));
                let expected = format!("loaded\n{}\t{}\n", text.lines().count(), text.len());
                assert!(answer.ends_with(&expected), "{keys}, {bytes} bytes, {before} rows before");
            }
        }
    }
}

/// Two CNs between which sessions move, both legs compressed, with what else is to be configured.
fn movable(more: &str) -> Proxy {
    let cns = cluster();
    let proxy = Proxy::start(&format!(
        "{}data = \"d\"\n{}data = \"d\"\n[compression]\nclients = [\"zlib\"]\ncns = \"zlib\"\n[migration]\nidle_ms = 100\n\
         [[user]]\nname = \"app\"\npassword = \"secret\"\n{more}",
        cn_toml("cn1", &cns[0].address(), "", 1),
        cn_toml("cn2", &cns[1].address(), "", 1),
    ));
    proxy.wait_state("cn1", "working");
    proxy.wait_state("cn2", "working");
    proxy
}

/// Moves a session there and back while it talks.
fn talk_and_move(proxy: &Proxy, options: Vec<String>) {
    let port = proxy.port;
    let talk = std::thread::spawn(move || {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let sql = "SET @a = 'kept'; ".to_owned()
            + &format!("SELECT @a, SLEEP(0.1), REPEAT('x', 3000) = '', ({AT_CN}); ").repeat(50);
        said(&client(port, &options, &sql))
    });
    let session = || proxy.ctl("SHOW SESSIONS").into_iter().find(|row| row["user"] == "app");
    wait_until("it is there", SOON, || session().is_some_and(|row| row["cn"].is_string()));
    for _ in 0..10 {
        let Some(row) = session() else { break };
        let to = if row["cn"] == "cn1" { "cn2" } else { "cn1" };
        let _ = proxy.try_ctl(&format!("MOVE SESSION {} TO CN '{to}'", row["id"]));
    }
    let moves = session().map(|row| row["moves"].to_string());
    assert_eq!(talk.join().expect("it talks"), "kept\t0\t0\tON\n".repeat(50));
    assert!(moves.as_ref().is_some_and(|moves| moves.trim_matches('"') != "0"), "{moves:?}");
}

#[test]
fn sessions_move_with_their_compression() {
    talk_and_move(&movable(""), vec!["--compress".to_owned()]);
}

#[test]
fn compression_lies_above_tls() {
    let authority = Authority::new("authority");
    let own = authority.issue("corelane", &["127.0.0.1"]);
    let proxy = movable(&format!("[tls]\n{}", own.toml()));
    let ca = format!("--ssl-ca={}", authority.file.display());
    let options = [&*ca, "--ssl-verify-server-cert", "--compress"];
    let status = said(&client(proxy.port, &options, "\\s"));
    assert!(status.contains("Cipher in use is") && status.contains("Protocol:\t\tCompressed"), "{status}");
    let long = said(&client(proxy.port, &options, "SELECT REPEAT('abcdefghij', 1700000), 'end'"));
    assert!(long == format!("{}\tend\n", "abcdefghij".repeat(1_700_000)));
    talk_and_move(&proxy, options.map(str::to_owned).to_vec());
}

#[test]
fn it_is_changed_while_the_house_runs() {
    let proxy = proxy_with("clients = [\"zlib\"]\n");
    let cn = cn_toml("cn1", &cluster()[0].address(), "", 1);
    let compressed = || said(&client(proxy.port, &["--compress"], "\\s")).contains("Protocol:\t\tCompressed");
    assert!(compressed());
    proxy.reload(&format!("{cn}[compression]\ncns = \"zlib\"\n"));
    wait_until("it is no longer offered", SOON, || !compressed());
    assert_eq!(said(&client(proxy.port, &["--compress"], AT_CN)), "ON\n");
    wait_until("it is said", SOON, || {
        proxy.log().contains("[compression] clients: zlib of level 1 is now none")
    });
}
