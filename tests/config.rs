//! The configuration from outside: wrong files and what is said of them, the files that must be right,
//! and the exit codes of the built binary.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use corelane::config::settings::{Keepalive, ListenAddress, UserSecret};
use corelane::config::{self, Mistakes, Settings};
use proptest::prelude::*;

/// A file, and for every mistake in it `line:column message | help`, in order.
type Case = (&'static str, &'static [&'static str]);

const SYNTAX: &[Case] = &[
    ("[listen]\nbacklog == 1\n", &["2:10 TOML: extra `=`, expected nothing"]),
    (
        "[login]\nattempts = 0\nx\n[probe]\nfall = 0\nfall = 1\n",
        &[
            "2:12 `attempts` cannot be 0 | expected a whole number from 1 to 16",
            "3:2 TOML: key with no value, expected `=`",
            "5:8 `fall` cannot be 0 | expected a whole number from 1 to 100",
            "6:1 TOML: duplicate key",
        ],
    ),
    (
        "[listen]\nsql = [\n  \"127.0.0.1:1\",\n[probe]\nfal = 1\n",
        &[
            "2:7 TOML: this list has no closing `]`",
            "5:1 unknown key `fal` in [probe] | did you mean `fall`?",
        ],
    ),
    (
        "[lis ten]\nbacklog = 0\n[login]\nattempts = 0\n",
        &[
            "1:5 TOML: unclosed table, expected `]`",
            "4:12 `attempts` cannot be 0 | expected a whole number from 1 to 16",
        ],
    ),
];

const NAMES: &[Case] = &[
    ("[lisen]\n", &["1:2 unknown section `lisen` | did you mean `[listen]`?"]),
    ("[[cns]]\n", &["1:3 unknown section `cns` | did you mean `[[cn]]`?"]),
    ("backlog = 1\n", &["1:1 `backlog` stands outside of any section | `backlog` belongs in [listen]"]),
    ("listen = 1\n", &["1:1 `listen` is not a section | write `[listen]`, once"]),
    ("[[probe]]\n", &["1:3 `probe` is not a section | write `[probe]`, once"]),
    (
        "[cn]\nid = \"a\"\naddress = \"a\"\n",
        &[
            "1:2 `cn` is not a list of sections | write `[[cn]]`, with two brackets on either side",
            "3:11 bad address `a`: no port | write `a:PORT`",
        ],
    ),
    ("[listen]\nbakclog = 1\n", &["2:1 unknown key `bakclog` in [listen] | did you mean `backlog`?"]),
    ("[listen]\nspin_us = 1\n", &["2:1 unknown key `spin_us` in [listen] | `spin_us` belongs in [workers]"]),
    ("[relay]\nzebra = 1\n", &["2:1 unknown key `zebra` in [relay] | [relay] has `buffers_mib`"]),
    (
        "[admin]\nusers = [{ name = \"a\", pasword = \"b\" }]\n",
        &[
            "2:10 [[admin.users]] has no password | write one of `password`, `password_file`, `password_env`, \
             `password_credential`",
            "2:24 unknown key `pasword` in [[admin.users]] | did you mean `password`?",
        ],
    ),
    (
        "[[cn]]\nid = \"a\"\nadress = \"a:1\"\nlables = {}\n",
        &[
            "3:1 unknown key `adress` in [[cn]] | did you mean `address`?",
            "4:1 unknown key `lables` in [[cn]] | did you mean `labels`?",
        ],
    ),
];

const VALUES: &[Case] = &[
    (
        "[listen]\nbacklog = \"many\"\nmax_sessions = 1.5\nserver_version = \"MariaDB\"\n",
        &[
            "2:11 `backlog` is a string | expected a whole number from 1 to 1000000",
            "3:16 `max_sessions` is a float | expected a whole number from 1 to 10000000",
            "4:18 `server_version` is not a version that drivers can read \
             | begin with a digit; at most 64 printable ASCII characters, no spaces",
        ],
    ),
    (
        "[login]\nclient_timeout_ms = 0\nconnect_timeout_ms = 0\ncn_timeout_ms = -1\n",
        &[
            "2:21 `client_timeout_ms` cannot be 0 | expected a whole number from 1 to 3600000",
            "3:22 `connect_timeout_ms` cannot be 0 | expected a whole number from 1 to 3600000",
            "4:17 `cn_timeout_ms` cannot be -1 | expected a whole number from 1 to 3600000",
        ],
    ),
    (
        "[probe]\ntimeout_ms = 0\ninterval_ms = 99999999999999999999999999\n",
        &[
            "2:14 `timeout_ms` cannot be 0 | expected a whole number from 1 to 3600000",
            "3:15 `interval_ms` cannot be 99999999999999999999999999 \
             | expected a whole number from 10 to 3600000",
        ],
    ),
    (
        "[balance]\ntolerance = -0.1\n[http]\nlisten = \"localhost:6070\"\n",
        &[
            "2:13 `tolerance` cannot be -0.1 | expected a number from 0 to 10",
            "4:10 bad address `localhost:6070`: `localhost` is a host name, and a listener needs an IP address \
             | write `127.0.0.1:6070`",
        ],
    ),
    (
        "[drain]\nat_deadline = \"closed\"\n",
        &["2:15 `at_deadline` cannot be \"closed\" | did you mean \"close\"?"],
    ),
    ("[balance]\nenabled = 1\n", &["2:11 `enabled` is an integer | expected true or false"]),
    ("[balance]\ntolerance = nan\n", &["2:13 `tolerance` cannot be nan | expected a number from 0 to 10"]),
    ("[log]\nlevel = \"infoo\"\n", &["2:9 `infoo` is not a log level | did you mean \"info\"?"]),
    (
        "[log]\nlevel = \"info,corelane=loud\"\n",
        &["2:9 `loud` is not a log level | expected one of error, warn, info, debug, trace, off"],
    ),
    (
        "[workers]\ncpus = [0, 1, 0, 1024, -1, \"2\"]\ncoordinator_cpu = \"any\"\n",
        &[
            "2:18 1024 is not a CPU number from 0 to 1023",
            "2:24 -1 is not a CPU number from 0 to 1023",
            "2:28 `cpus` is a string | expected \"auto\" or a list of CPU numbers",
            "3:19 `coordinator_cpu` cannot be \"any\" | expected \"auto\" or a CPU number",
        ],
    ),
    ("[workers]\ncpus = []\n", &["2:8 `cpus` is empty | expected \"auto\" or a list of CPU numbers"]),
    (
        "[listen]\nfirst_connection_id = 4294900000\nconnection_ids = 3000000\n",
        &["3:18 3000000 connection ids from 4294900000 on would go beyond 4294967294"],
    ),
    (
        "[listen]\nmax_sessions = 1000\nfirst_connection_id = 1\nconnection_ids = 127999\n",
        &["4:18 127999 connection ids from 1 on are too few: 1000 sessions need 128000"],
    ),
];

const LISTENERS: &[Case] = &[
    (
        "[listen]\nsql = []\n",
        &["2:7 `sql` is empty | expected a list of addresses, such as [\"127.0.0.1:6009\"]"],
    ),
    (
        "[listen]\nsql = \"127.0.0.1:6009\"\n",
        &["2:7 `sql` is a string | expected a list of addresses, such as [\"127.0.0.1:6009\"]"],
    ),
    (
        "[listen]\nsql = [\"1.2.3.4\", \"::1:2\", \"unix:a\", \"127.0.0.1:0\", \"1.2.3.400:1\", \"[::g]:1\", 5]\n",
        &[
            "2:8 bad address `1.2.3.4`: no port | write `1.2.3.4:PORT`",
            "2:19 bad address `::1:2`: an IPv6 address stands in brackets before its port | write `[::1]:3306`",
            "2:28 bad address `unix:a`: `unix:` needs an absolute path | write `unix:/path/to/socket`",
            "2:38 bad address `127.0.0.1:0`: `0` is not a port from 1 to 65535",
            "2:53 bad address `1.2.3.400:1`: `1.2.3.400` is not a host name",
            "2:68 bad address `[::g]:1`: `::g` is not an IPv6 address",
            "2:79 `sql` is an integer | expected a list of addresses, such as [\"127.0.0.1:6009\"]",
        ],
    ),
    (
        "[listen]\nsql = [\"127.0.0.1:1\", \"127.0.0.1:1\", \"0.0.0.0:1\"]\n",
        &["2:23 two listeners on 127.0.0.1:1", "2:38 two listeners in one place: 127.0.0.1:1 and 0.0.0.0:1"],
    ),
    (
        "[listen]\nsql = [\"127.0.0.1:6032\"]\n",
        &["2:8 [admin] listens on 127.0.0.1:6032, where [listen] sql does (127.0.0.1:6032)"],
    ),
    (
        "[admin]\nlisten = \"127.0.0.1:6009\"\n",
        &["2:10 [admin] listens on 127.0.0.1:6009, where [listen] sql does (127.0.0.1:6009)"],
    ),
    (
        "[admin]\nlisten = \"0.0.0.0:6032\"\n",
        &["2:10 [admin] has no `users`, and 0.0.0.0:6032 is not a loopback address \
           | the default admin/admin holds for loopback only; write `users = [{ name = \"..\", password = \"..\" }]`"],
    ),
    (
        "[admin]\nusers = [{ name = \"a\", password = \"1\" }, { name = \"a\" }, 1]\n",
        &[
            "2:42 [[admin.users]] has no password | write one of `password`, `password_file`, `password_env`, `password_credential`",
            "2:51 two admin users are called `a` | the other one is in line 2",
            "2:58 `users` is an integer | expected a list of users, such as [{ name = \"admin\", password = \"..\" }]",
        ],
    ),
];

const CNS: &[Case] = &[
    (
        "[[cn]]\n",
        &[
            "1:1 [[cn]] has no `id` | write `id = \"cn1\"`",
            "1:1 [[cn]] has no `address` | write `address = \"127.0.0.1:3307\"`",
        ],
    ),
    (
        "[[cn]]\nid = \"a\"\naddress = \"a:1\"\n[[cn]]\nid = \"a\"\naddress = \"b:1\"\n",
        &["5:6 two CNs are called `a` | the other one is in line 2"],
    ),
    (
        "[[cn]]\nid = \"\"\naddress = \"a b:1\"\nflavour = \"mysq\"\nweight = 0\ndata = \"\"\n",
        &[
            "2:6 `id` is empty",
            "3:11 bad address `a b:1`: `a b` is not a host name",
            "4:11 `mysq` is not a flavour | did you mean \"mysql\"?",
            "5:10 `weight` cannot be 0 | expected a whole number from 1 to 10000",
            "6:8 `data` is empty",
        ],
    ),
    (
        "[[cn]]\nid = \"é\"\naddress = \"a:1\"\nflavour = \"oracle\"\n\
         labels = { \"\" = \"x\", b = [], c = \"\", d = [\"y\", \" \"], e = 1 }\n",
        &[
            "4:11 `oracle` is not a flavour | expected one of mysql, matrixone",
            "5:12 a label has a name of 1 to 64 bytes",
            "5:26 label `b` has no value",
            "5:34 label `c` has an empty value",
            "5:48 label `d` has an empty value",
            "5:58 label `e` has an integer for a value | expected a string or a list of strings",
        ],
    ),
];

const USERS: &[Case] = &[
    (
        "[[user]]\nname = \"a\"\n",
        &[
            "1:1 [[user]] has no password | write `native_hash`, `sha2_hash` or one of `password`, `password_file`, `password_env`, `password_credential`",
        ],
    ),
    (
        "[[user]]\nname = \"a\"\npassword = \"x\"\nnative_hash = \"*14E65567ABDB5135D0CFD9A70B3032C179A49EE7\"\n",
        &["4:1 [[user]] has a password and `native_hash` | only one of them can be right"],
    ),
    (
        "[[user]]\nname = \"a\"\nnative_hash = \"14E6\"\n",
        &["3:15 `native_hash` is not `*` and 40 hex digits: 4 hex digits, no `*`"],
    ),
    (
        "[[user]]\nname = \"a\"\npassword = \"x\"\n[[user]]\nname = \"a\"\npassword = \"y\"\n",
        &["5:8 two users are called `a` | the other one is in line 2"],
    ),
    (
        "[[user]]\nname = \"a\"\npassword_file = \"/nonexistent/file\"\n",
        &["3:17 password file `/nonexistent/file`: No such file or directory (os error 2)"],
    ),
    (
        "[[user]]\nname = \"a\"\npassword_env = \"CORELANE_HAS_NONE\"\n",
        &["3:16 environment variable `CORELANE_HAS_NONE`: environment variable not found"],
    ),
    (
        "[[user]]\nname = \"a\"\npassword_credential = \"../shadow\"\n",
        &["3:23 credential `../shadow`: it is not the name of a credential"],
    ),
    (
        "[[user]]\nname = \"a\"\nnative_hash = \"*14E65567ABDB5135D0CFD9A70B3032C179A49EE7\"\nplugin = \"client_ed25519\"\n",
        &["4:1 client_ed25519 cannot be checked by a hash of another plugin | write `password`"],
    ),
    (
        "[[user]]\nname = \"a\"\npassword = \"x\"\nplugin = \"sha256_password\"\n",
        &["4:10 `plugin` cannot be \"sha256_password\" | expected one of mysql_native_password, \
             caching_sha2_password, client_ed25519, mysql_clear_password"],
    ),
];

const AUTH: &[Case] = &[
    (
        "[auth]\nquery_user = \"m\"\n",
        &["1:1 [auth] query_user has no password | write one of `query_password`, `query_password_file`, \
             `query_password_env`, `query_password_credential`"],
    ),
    (
        "[auth]\nquery_password = \"x\"\n",
        &["1:1 [auth] has a password and no `query_user` | write `query_user`"],
    ),
    (
        "[auth]\nquery_user = \"m\"\nquery_password = \"x\"\nquery_password_file = \"/nonexistent/file\"\n",
        &[
            "4:1 [auth] has `query_password` and `query_password_file` | only one of them can be right",
            "4:23 password file `/nonexistent/file`: No such file or directory (os error 2)",
        ],
    ),
    (
        "[auth]\nplugin = \"client_ed25519\"\nrsa_key_file = \"/dev/null\"\ntrust_cn_keys = 1\n",
        &[
            "2:10 `plugin` cannot be \"client_ed25519\" | expected one of mysql_native_password, caching_sha2_password",
            "3:16 `/dev/null`: it is no key in PEM",
            "4:17 `trust_cn_keys` is an integer | expected true or false",
        ],
    ),
    (
        "[auth]\nquery_interval_ms = 99\n",
        &["2:21 `query_interval_ms` cannot be 99 | expected a whole number from 100 to 3600000"],
    ),
];

const DISCOVERY: &[Case] = &[
    (
        "[discovery]\nuser = \"dump\"\n",
        &[
            "1:1 [discovery] user has no password | write one of `password`, `password_file`, `password_env`, \
           `password_credential`",
        ],
    ),
    ("[discovery]\npassword = \"x\"\n", &["1:1 [discovery] has a password and no `user` | write `user`"]),
    (
        "[discovery]\nuser = \"dump\"\npassword = \"x\"\npassword_file = \"/nonexistent/file\"\n",
        &[
            "4:1 [discovery] has `password` and `password_file` | only one of them can be right",
            "4:17 password file `/nonexistent/file`: No such file or directory (os error 2)",
        ],
    ),
    (
        "[discovery]\ninterval_ms = 99\nquery_port = 0\nusr = \"a\"\n",
        &[
            "2:15 `interval_ms` cannot be 99 | expected a whole number from 100 to 60000",
            "3:14 `query_port` cannot be 0 | expected a whole number from 1 to 65535",
            "4:1 unknown key `usr` in [discovery] | did you mean `user`?",
        ],
    ),
    (
        "[discovery]\nhakeeper = [\"log1\", \"unix:/x\", \"log2:32001\", 7]\n",
        &[
            "2:13 bad address `log1`: no port | write `log1:PORT`",
            "2:21 bad address `unix:/x`: `/x` is not a port from 1 to 65535",
            "2:46 `hakeeper` is an integer | expected a list of addresses, such as [\"db1:32001\"]",
        ],
    ),
    (
        "[discovery]\ninterval_ms = 60001\nquery_port = 65536\n",
        &[
            "2:15 `interval_ms` cannot be 60001 | expected a whole number from 100 to 60000",
            "3:14 `query_port` cannot be 65536 | expected a whole number from 1 to 65535",
        ],
    ),
    (
        "[[cn]]\nid = \"a\"\naddress = \"db1:6001\"\nquery_address = \"10.0.0.1:19998\"\n",
        &[
            "4:1 `query_address` is for CNs of flavour matrixone | leave it out, or write `flavour = \"matrixone\"`",
        ],
    ),
    (
        "[[cn]]\nid = \"a\"\naddress = \"db1:6001\"\nflavour = \"matrixone\"\nquery_address = \"db2:19998\"\n",
        &[
            "5:17 bad address `db2:19998`: `db2` is another host name than that of the CN, and a query service needs \
             an IP address then",
        ],
    ),
    (
        "[[cn]]\nid = \"a\"\naddress = \"db1:6001\"\nflavour = \"matrixon\"\nquery_address = \"db1\"\n",
        &[
            "4:11 `matrixon` is not a flavour | did you mean \"matrixone\"?",
            "5:17 bad address `db1`: no port | write `db1:PORT`",
        ],
    ),
];

fn mistakes_of(text: &str) -> Mistakes {
    match config::read(text, "corelane.toml") {
        Ok(_) => panic!("no mistake found in\n{text}"),
        Err(mistakes) => mistakes,
    }
}

fn settings_of(text: &str) -> Settings {
    config::read(text, "corelane.toml").unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn check(cases: &[Case]) {
    for (text, expected) in cases {
        let mistakes = mistakes_of(text);
        let found: Vec<String> = mistakes
            .list()
            .iter()
            .map(|mistake| {
                let help = mistake.help.as_ref().map_or(String::new(), |help| format!(" | {help}"));
                format!("{}:{} {}{help}", mistake.line, mistake.column, mistake.message)
            })
            .collect();
        assert_eq!(found, *expected, "in\n{text}");
        let report = mistakes.to_string();
        for mistake in mistakes.list() {
            let place = format!("--> corelane.toml:{}:{}\n", mistake.line, mistake.column);
            assert!(report.contains(&place), "the report lacks {place}:\n{report}");
        }
    }
}

#[test]
fn broken_toml() {
    check(SYNTAX);
}

#[test]
fn unknown_names() {
    check(NAMES);
}

#[test]
fn wrong_values() {
    check(VALUES);
}

#[test]
fn wrong_listeners() {
    check(LISTENERS);
}

#[test]
fn wrong_cns() {
    check(CNS);
}

#[test]
fn wrong_users() {
    check(USERS);
}

#[test]
fn wrong_account_queries() {
    check(AUTH);
}

const TLS: &[Case] = &[
    ("[tls]\nrequired = true\n", &["1:1 [tls] has no certificate | write `certificate_file` and `key_file`"]),
    (
        "[tls]\ncertificate_file = \"/nonexistent/file\"\nmin_version = \"1.1\"\n",
        &[
            "1:1 [tls] has only one of certificate and key | write `key_file`",
            "2:20 `/nonexistent/file`: No such file or directory (os error 2)",
            "3:15 `min_version` cannot be \"1.1\" | did you mean \"1.3\"?",
        ],
    ),
    (
        "[tls]\ncertificate_file = \"/dev/null\"\nkey_file = \"/dev/null\"\nclient_certificates = \"requird\"\n",
        &[
            "2:20 there is no certificate in it",
            "4:23 `client_certificates` cannot be \"requird\" | did you mean \"required\"?",
        ],
    ),
    (
        "[tls]\ncertificate_labels = { account = \"ON\", \"\" = 7 }\n[[user]]\nname = \"a\"\npassword = \"a\"\ncertificate = [\"app1\", 7]\n",
        &[
            "2:34 `ON` is not a field of certificates | expected one of CN, O, OU, DNS, URI, EMAIL",
            "2:45 a label has a name of 1 to 64 bytes",
            "2:45 `certificate_labels` is an integer | expected a table of labels, each with one of \"CN\", \"O\", \"OU\", \"DNS\", \"URI\", \"EMAIL\"",
            "6:16 `certificate` cannot have \"app1\" | expected a list of \"*\" or \"FIELD=value\" with FIELD one of CN, O, OU, DNS, URI, EMAIL, in which `*` stands for anything",
            "6:24 `certificate` is an integer | expected a list of \"*\" or \"FIELD=value\" with FIELD one of CN, O, OU, DNS, URI, EMAIL, in which `*` stands for anything",
        ],
    ),
    (
        "[cn_tls]\nmode = \"verify_ca\"\n",
        &["1:1 [cn_tls] mode is \"verify_ca\", and nobody vouches for CNs | write `ca_file`"],
    ),
];

const PROXY_PROTOCOL: &[Case] = &[
    (
        "[proxy_protocol]\nfrom = [\"10.1.2.3/8\", \"10.0.0.0/33\", \"unix:/run/a\", 7, \"unix\", \"::1\"]\n",
        &[
            "2:9 bad address `10.1.2.3/8`: the network is 10.0.0.0/8 | write `10.0.0.0/8`, or the address alone",
            "2:23 bad address `10.0.0.0/33`: it is neither a network nor an IP address, nor `unix`",
            "2:38 bad address `unix:/run/a`: it is neither a network nor an IP address, nor `unix`",
            "2:53 `from` is an integer | expected a list of networks and addresses, such as [\"10.0.0.0/8\"]",
        ],
    ),
    (
        "[proxy_protocol]\nfrom = \"10.0.0.0/8\"\n",
        &["2:8 `from` is a string | expected a list of networks and addresses, such as [\"10.0.0.0/8\"]"],
    ),
    (
        "[[cn]]\nid = \"a\"\naddress = \"db1:6001\"\nflavour = \"matrixone\"\nproxy_protocol = true\n",
        &[
            "5:1 `proxy_protocol` is for CNs of flavour mysql | leave it out: its preamble tells a MatrixOne CN the \
             client's address",
        ],
    ),
];

#[test]
fn wrong_proxy_protocols() {
    check(PROXY_PROTOCOL);
}

#[test]
fn load_balancers_are_listed_by_their_networks() {
    assert_eq!(settings_of("[proxy_protocol]\nfrom = []\n").proxy_protocol, None);
    let rules = settings_of("[proxy_protocol]\nfrom = [\"10.0.0.0/8\", \"unix\"]\n").proxy_protocol;
    let rules = rules.expect("there are some");
    let has = |ip: &str| rules.has(ip.parse().expect("an address"));
    assert!(rules.unix && has("10.9.9.9") && has("::ffff:10.1.1.1") && !has("11.0.0.1") && !has("::1"));
}

#[test]
fn wrong_compression() {
    check(&[
        (
            "[compression]\nclients = [\"zlib\", \"zst\", \"zlib\"]\n",
            &[
                "2:20 `clients` cannot have \"zst\" | did you mean \"zstd\"?",
                "2:27 `clients` has \"zlib\" twice",
            ],
        ),
        ("[compression]\ncns = \"of\"\n", &["2:7 `cns` cannot be \"of\" | did you mean \"off\"?"]),
    ]);
}

#[test]
fn wrong_keepalive() {
    check(&[
        (
            "[listen]\nkeepalive_idle_s = 32768\n",
            &["2:20 `keepalive_idle_s` cannot be 32768 | expected a whole number from 0 to 32767"],
        ),
        (
            "[cn_tcp]\nkeepalive_probes = 128\n",
            &["2:20 `keepalive_probes` cannot be 128 | expected a whole number from 0 to 127"],
        ),
        (
            "[cn_tcp]\nuser_timeout_ms = \"1s\"\n",
            &["2:19 `user_timeout_ms` is a string | expected a whole number from 0 to 3600000"],
        ),
        (
            "[cn_tcp]\nkeepalive_idle = 60\n",
            &["2:1 unknown key `keepalive_idle` in [cn_tcp] | did you mean `keepalive_idle_s`?"],
        ),
    ]);
}

#[test]
fn keepalive_is_the_kernels_until_it_is_written() {
    let settings = settings_of("[cn_tcp]\nkeepalive_idle_s = 60\nuser_timeout_ms = 0\n");
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(settings.listen.tcp, Keepalive::default());
    assert_eq!(settings.cn_tcp, Keepalive { idle: seconds(60), ..Keepalive::default() });
}

#[test]
fn addresses_are_shut_out_where_a_limit_is_written() {
    let blocking = |text: &str| settings_of(text).access.and_then(|access| access.blocking);
    assert_eq!(blocking("[access]\nblocked_s = 9\n"), None);
    let written = blocking("[access]\nmax_failed_logins = 5\n").unwrap();
    assert_eq!((written.connect_errors, written.failed_logins), (None, Some(5)));
    assert_eq!(written.lasts, Duration::from_secs(300));
    check(&[(
        "[access]\nmax_connect_errors = -1\nblocked_s = 0\n",
        &[
            "2:22 `max_connect_errors` cannot be -1 | expected a whole number from 0 to 10000000",
            "3:13 `blocked_s` cannot be 0 | expected a whole number from 1 to 604800",
        ],
    )]);
}

const SHA2_HASH: &str = "0x244124303041243F4C061F05433B401A4A7A353D7F5E43765A510E434C705866734A3343464A487558733269457761534755552F7347536B6D744C786E5261465544466F6833";

#[test]
fn hashes_of_sha2_are_read_in_either_form() {
    let user = |secret: &str| format!("[[user]]\nname = \"a\"\nsha2_hash = \"{secret}\"\n");
    let plain = r"$A$00A$?L\u0006\u001F\u0005C;@\u001AJz5=\u007F^CvZQ\u000ECLpXfsJ3CFJHuXs2iEwaSGUU/sGSkmtLxnRaFUDFoh3";
    let [hex, plain] = [SHA2_HASH, plain].map(|secret| settings_of(&user(secret)).users[0].secret.clone());
    assert!(matches!(hex, UserSecret::Sha2Hash(_)) && hex == plain);
    let mistakes = |text: &str| {
        mistakes_of(text).list().iter().map(|mistake| mistake.message.clone()).collect::<Vec<_>>()
    };
    assert_eq!(mistakes(&user("$A$005$hunter2")), ["`sha2_hash` is no hash of caching_sha2_password"]);
    for (more, said) in [
        ("password = \"x\"\n", "[[user]] has a password and `sha2_hash`"),
        (
            "native_hash = \"*14E65567ABDB5135D0CFD9A70B3032C179A49EE7\"\n",
            "[[user]] has `native_hash` and `sha2_hash`",
        ),
        (
            "plugin = \"mysql_native_password\"\n",
            "mysql_native_password cannot be checked by a hash of another plugin",
        ),
    ] {
        assert_eq!(mistakes(&(user(SHA2_HASH) + more)), [said]);
    }
    assert!(!mistakes_of(&user("$A$005$hunter2")).to_string().contains("hunter2"), "no secret is shown");
}

#[test]
fn wrong_tls() {
    check(TLS);
}

#[test]
fn wrong_discoveries() {
    check(DISCOVERY);
}

#[test]
fn discovery_is_off_until_it_has_an_account() {
    let off = settings_of("").discovery;
    assert_eq!((off.account.is_none(), off.interval.as_millis(), off.query_port), (true, 500, 19998));
    assert!(off.hakeeper.is_empty());
    let two = settings_of("[discovery]\nhakeeper = [\"log1:32001\", \"[::1]:1\"]\n").discovery.hakeeper;
    assert_eq!(two, ["log1:32001", "[::1]:1"]);
    let text = "[discovery]\nuser = \"dump\"\npassword = \"open\"\ninterval_ms = 100\nquery_port = 7\n";
    let settings = settings_of(text);
    let account = settings.discovery.account.clone().expect("an account");
    assert_eq!((account.user.as_str(), &*account.password), ("dump", "open"));
    assert!(!format!("{settings:?}").contains("open"));
    assert!(settings.notes().iter().any(|note| note.starts_with("[discovery] has nobody to ask")));
    let seed =
        "[[cn]]\nid = \"a\"\naddress = \"db1:6001\"\nflavour = \"matrixone\"\nquery_address = \"db1:7\"\n";
    let settings = settings_of(&format!("{text}{seed}"));
    assert!(!settings.notes().iter().any(|note| note.starts_with("[discovery]")));
    assert_eq!(settings.cns[0].query_address.as_deref(), Some("db1:7"));
}

#[test]
fn an_account_query_keeps_its_password_to_itself() {
    let auth = settings_of("[auth]\nquery_user = \"m\"\nquery_password = \"open\"\n").auth;
    let query = auth.query.clone().expect("an account");
    assert_eq!((query.user.as_str(), &*query.password), ("m", "open"));
    assert!(!format!("{auth:?}").contains("open"), "{auth:?}");
    let empty = settings_of("[auth]\nquery_user = 'm'\nquery_password = ''\n").auth.query.unwrap();
    assert!(empty.password.is_empty());
    assert_eq!(settings_of("").auth.query, None);
    let report = mistakes_of("[auth]\nquery_user = \"m\"\nquery_password = 5\n").to_string();
    assert!(!report.contains("= 5"), "{report}");
}

#[test]
fn every_mistake_is_found_in_one_pass() {
    // All wrong files but those with broken lines and with names at the top, one below the other.
    let mut count = 0;
    let mut text = String::new();
    for (part, expected) in VALUES.iter().take(4) {
        text += part;
        count += expected.len();
    }
    for (part, expected) in CNS.iter().skip(2).chain(&USERS[..3]) {
        text += &part.replace("name = \"a\"", &format!("name = \"u{count}\""));
        count += expected.len();
    }
    assert_eq!(mistakes_of(&text).list().len(), count, "{}", mistakes_of(&text));
    assert!(count > 20);
}

#[test]
fn limits_on_numbers() {
    let cpus = |count: usize| {
        let list: Vec<String> = (0..count).map(|cpu| cpu.to_string()).collect();
        format!("[workers]\ncpus = [{}]\n", list.join(", "))
    };
    assert_eq!(settings_of(&cpus(128)).workers.cpus.map(|cpus| cpus.len()), Some(128));
    assert_eq!(mistakes_of(&cpus(129)).list()[0].message, "129 workers, more than 128");

    let cns = |count: usize| -> String {
        (0..count).map(|cn| format!("[[cn]]\nid = \"cn{cn}\"\naddress = \"db{cn}:3306\"\n")).collect()
    };
    assert_eq!(settings_of(&cns(1024)).cns.len(), 1024);
    let mistakes = mistakes_of(&cns(1025));
    assert_eq!(mistakes.list()[0].message, "1025 CNs, more than 1024");
    assert_eq!(mistakes.list()[0].line, 3 * 1024 + 1);
}

#[test]
fn every_key_of_the_schema_is_read() {
    for section in config::schema::SECTIONS {
        for key in section.keys {
            // A date is right for no key.
            let text = format!("{}\n{} = 1979-05-27\n", section.heading(), key.name);
            let mistakes = mistakes_of(&text);
            let message = format!("`{}` is a datetime", key.name);
            let place = (2, key.name.len() + 4, message.as_str());
            assert!(
                mistakes.list().iter().any(|m| (m.line, m.column, m.message.as_str()) == place),
                "{text}{mistakes}"
            );
        }
    }
}

#[test]
fn values_arrive() {
    let settings = settings_of(
        "[listen]\nsql = [\"[::1]:3306\", \"unix:/run/a.sock\"]\nmax_sessions = 10_000\n\
         [workers]\ncpus = [3, 1]\ncoordinator_cpu = 0\nspin_us = 50\n\
         [[cn]]\nid = \"a\"\naddress = \"db1:3306\"\nlabels = { t = \"x\", u = [\"y\", \"z*\"] }\nweight = 3\n\
         [[user]]\nname = \"u\"\nnative_hash = \"*14e65567abdb5135d0cfd9a70b3032c179a49ee7\"\n",
    );
    assert_eq!(settings.listen.sql[0], ListenAddress::Tcp("[::1]:3306".parse().unwrap()));
    assert_eq!(settings.listen.sql[1], ListenAddress::Unix("/run/a.sock".into()));
    assert_eq!(settings.listen.max_sessions, 10_000);
    assert_eq!((settings.workers.cpus, settings.workers.coordinator_cpu), (Some(vec![3, 1]), Some(0)));
    assert_eq!(settings.workers.spin.as_micros(), 50);
    let cn = &settings.cns[0];
    assert_eq!(
        (cn.address.as_str(), cn.weight, &cn.labels.0["u"][..]),
        ("db1:3306", 3, &["y".into(), "z*".into()][..])
    );
    let UserSecret::NativeHash(hash) = &settings.users[0].secret else { panic!("no hash") };
    assert_eq!((hash[0], hash[19]), (0x14, 0xe7));
}

#[test]
fn a_password_file_lies_beside_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("secret"), "first line\r\nsecond line\n").unwrap();
    let path = directory.path().join("corelane.toml");
    std::fs::write(&path, "[[user]]\nname = \"u\"\npassword_file = \"secret\"\n").unwrap();
    let settings = config::load(&path).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert!(settings.users[0].secret == UserSecret::Password("first line".into()));
}

#[test]
fn secrets_come_from_the_environment_and_from_the_service_manager() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("web.password"), "of a service\n").unwrap();
    let path = directory.path().join("corelane.toml");
    let text = "[admin]\nusers = [{ name = \"op\", password_env = \"OP_PASSWORD\" }]\n[[user]]\nname = \"app\"\n\
                password_env = \"APP_PASSWORD\"\n[[user]]\nname = \"web\"\npassword_credential = \"web.password\"\n";
    std::fs::write(&path, text).unwrap();
    let check = |credentials: Option<&Path>| {
        let mut check = Command::new(env!("CARGO_BIN_EXE_corelane"));
        check.args(["check", "--config", path.to_str().unwrap()]).env_remove("CREDENTIALS_DIRECTORY");
        check.env("APP_PASSWORD", "of the environment").env("OP_PASSWORD", "an operator's");
        check.envs(credentials.map(|directory| ("CREDENTIALS_DIRECTORY", directory)));
        check.output().unwrap()
    };
    let found = check(Some(directory.path()));
    assert_eq!(found.status.code(), Some(0), "{}", text_of(&found));
    let missing = check(None);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text_of(&missing).contains("no service manager has left any"), "{}", text_of(&missing));
}

fn text_of(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].concat().escape_ascii().to_string()
}

#[test]
fn no_report_and_no_debug_output_shows_a_secret() {
    let text = "[admin]\nusers = [{ name = \"a\", pasword = \"hunter2\" }]\n\
                [[user]]\nname = \"a\"\npassword = [\"hunter2\"]\n\
                [[user]]\nname = \"b\"\npassword = \"hunter2\"\nnative_hash = \"*hunter2\"\n\
                [[user]]\nname = \"c\"\npassword = \"hunter2\n";
    let report = mistakes_of(text).to_string();
    assert!(!report.contains("hunter2"), "{report}");
    let right = "[admin]\nusers = [{ name = \"a\", password = \"hunter2\" }]\n\
                 [[user]]\nname = \"a\"\npassword = \"hunter2\"\n";
    assert!(!format!("{:?}", settings_of(right)).contains("hunter2"));
}

#[test]
fn a_file_that_is_not_text() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("corelane.toml");
    std::fs::write(&path, b"[listen]\nbacklog = \xff\n").unwrap();
    let mistakes = config::load(&path).unwrap_err();
    let mistake = &mistakes.list()[0];
    assert_eq!((mistake.line, mistake.column, mistake.message.as_str()), (2, 11, "byte 0xff is not UTF-8"));
}

#[test]
fn the_http_door_opens_where_it_is_written() {
    assert_eq!(settings_of("").http, None);
    let http = settings_of("[http]\n").http.unwrap();
    assert_eq!(http.listen, "127.0.0.1:6070".parse().unwrap());
    assert_eq!((http.max_connections, http.matrixone_names), (32, false));
    let http = settings_of("[http]\nmatrixone_names = true\nlisten = \"[::1]:1\"\n").http.unwrap();
    assert_eq!((http.listen, http.matrixone_names), ("[::1]:1".parse().unwrap(), true));
    // The default of its address takes nothing from others as long as the door is not there.
    assert_eq!(settings_of("[admin]\nlisten = \"127.0.0.1:6070\"\n").http, None);
}

#[test]
fn what_needs_no_word_gets_none() {
    let notes = settings_of("[http]\n[balance]\ntolerance = 1\n").notes();
    assert_eq!(notes, ["there is no [[cn]]: every login will be refused"]);
    assert_eq!(settings_of("[[cn]]\nid = \"a\"\naddress = \"a:1\"\n").notes(), [""; 0]);
}

proptest! {
    /// Whatever is cut out of a right file or put into it: settings or mistakes, and a report that fits.
    #[test]
    fn no_text_stops_the_reader(at in 0usize..6000, cut in 0usize..40, put in "[\\[\\]{}=\"'#\n,a-z0é.]{0,8}") {
        let text = example();
        let boundary = |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        let (start, end) = (boundary(at), boundary(at + cut));
        let text = format!("{}{put}{}", &text[..start], &text[end..]);
        if let Err(mistakes) = config::read(&text, "mutant.toml") {
            prop_assert!(!mistakes.list().is_empty());
            let report = mistakes.to_string();
            prop_assert!(report.contains("mutant.toml"));
        }
    }
}

fn example() -> String {
    std::fs::read_to_string(example_path()).unwrap()
}

fn example_path() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config/corelane.toml"))
}

#[test]
fn the_example_names_every_key() {
    let example = example();
    for section in config::schema::SECTIONS {
        assert!(example.contains(&section.heading()), "{}", section.heading());
        for key in section.keys {
            let named = example.lines().any(|line| {
                let line = line.strip_prefix("# ").unwrap_or(line);
                line.strip_prefix(key.name).is_some_and(|rest| rest.starts_with(" = "))
            });
            assert!(named, "{} {}", section.heading(), key.name);
        }
    }
}

fn corelane(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_corelane"))
        .args(arguments)
        .env_remove("CORELANE_PASSWORD")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_example_passes_check() {
    let path = example_path().to_str().unwrap();
    let output = corelane(&["check", "--config", path]);
    assert_eq!(text(&output.stderr), "");
    assert_eq!(text(&output.stdout), format!("{path}: ok\n"));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn what_config_prints_passes_check() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("printed.toml");
    let printed = corelane(&["config"]);
    assert_eq!(printed.status.code(), Some(0));
    std::fs::write(&path, &printed.stdout).unwrap();
    let output = corelane(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(config::load(&path).unwrap_or_else(|mistakes| panic!("{mistakes}")), Settings::default());
}

#[test]
fn a_bad_configuration_ends_with_2() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bad.toml");
    let path = path.to_str().unwrap();
    std::fs::write(path, "[listen]\nbakclog = 1\n").unwrap();
    for arguments in [
        ["check", "--config", path, ""],
        ["serve", "--config", path, ""],
        ["ctl", "--config", path, "SHOW CNS"],
        ["check", "--config", "/nonexistent", ""],
    ] {
        let output = corelane(&arguments[..if arguments[3].is_empty() { 3 } else { 4 }]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stdout), "");
        assert!(!output.stderr.contains(&0x1b), "colour without a terminal");
    }
    let report = corelane(&["check", "--config", path]).stderr;
    assert!(text(&report).contains(&format!("{path}:2:1")), "{}", text(&report));
    assert!(text(&report).contains("did you mean `backlog`?"));
}

#[test]
fn bad_usage_ends_with_2() {
    for arguments in [
        &[][..],
        &["serve"],
        &["check"],
        &["nonsense"],
        &["ctl"],
        &["ctl", "--config", "a", "--user", "b", "SHOW CNS"],
        &["ctl", "--admin", "nowhere", "SHOW CNS"],
    ] {
        assert_eq!(corelane(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_closed_door_ends_with_1() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = corelane(&["ctl", "--admin", &free.to_string(), "--password", "hunter2", "SHOW CNS"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&free.to_string()), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("hunter2"));
}

#[test]
fn the_version_says_what_it_needs() {
    let output = corelane(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).starts_with(concat!("corelane ", env!("CARGO_PKG_VERSION"))));
    assert!(text(&output.stdout).contains("rustc 1."));
    assert!(text(&output.stdout).contains("Linux 6.1"));
}

#[test]
fn wrong_access_lists() {
    check(&[
        (
            "[access]\nallow = []\nusers_allowed = []\nusers_denied = [\"\", 7, \"a*\"]\ndeny = [\"10.0.0.1/8\"]\n",
            &[
                "2:9 `allow` is empty, and would keep everybody out | leave it out to let everybody in",
                "3:17 `users_allowed` is empty, and would keep everybody out | leave it out to let everybody in",
                "4:17 `users_denied` has a name that cannot be one | a name has 1 to 128 bytes, and no control characters",
                "4:21 `users_denied` is an integer | expected a list of names, such as [\"app*\"]",
                "5:9 bad address `10.0.0.1/8`: the network is 10.0.0.0/8 | write `10.0.0.0/8`, or the address alone",
            ],
        ),
        (
            "[[user]]\nname = \"u\"\npassword = \"\"\nfrom = []\n",
            &["4:8 `from` is empty, and would keep everybody out | leave it out to let everybody in"],
        ),
    ]);
}

#[test]
fn who_may_come_in_is_nobodys_business_unless_it_is_written() {
    assert_eq!(settings_of("[access]\ndeny = []\nusers_denied = []\n").access, None);
    let text = "[[user]]\nname = \"u\"\npassword = \"\"\nfrom = [\"unix\"]\n";
    let access = settings_of(text).access.expect("a user has a home");
    assert!(
        access.lets_in_as("u", "sys", None, None) && access.lets_in_as("v", "sys", "::1".parse().ok(), None)
    );
    assert!(!access.lets_in_as("u", "sys", "::1".parse().ok(), None));
}
