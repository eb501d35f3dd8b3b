//! A real MariaDB server in a directory of its own.
//!
//! The data directory is installed once per server version, cached under `target/tmp` and copied. Users:
//! `root` without a password, `app` (native, password `secret`), `ed` (ed25519, password `secret`),
//! `sbtest` (native, password `sbtest`). `SELECT @@report_host` tells the server's name.
//! Durability is switched off: nothing here survives a crash, and no test may want it to. Some servers write a binary log, as
//! most do outside of tests, since it makes them report more.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use super::place::{Workplace, cache, free_port, wait_until};
use super::process::{Child, run};

/// How long a server may take to start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(90);

pub struct Mariadb {
    pub name: String,
    pub port: u16,
    origin: Origin,
    extra: Vec<String>,
    child: Child,
    workplace: Workplace,
}

/// What a server begins with.
#[derive(Clone)]
pub(super) struct Origin {
    /// The data directory that it gets a copy of.
    pub data: PathBuf,
    /// Whether it makes the usual users and databases when it starts.
    pub init: bool,
    /// Where it finds scripts of its own before it looks into `PATH`.
    pub scripts: Option<PathBuf>,
}

impl Mariadb {
    /// Starts a server that calls itself `name`.
    pub fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    /// Starts a server that writes a binary log.
    pub fn start_logged(name: &str) -> Self {
        Self::start_with(name, BINARY_LOG)
    }

    /// Starts a server with options after the usual ones, e.g. `--max-connections=5`.
    pub fn start_with(name: &str, extra: &[&str]) -> Self {
        let origin = Origin { data: TEMPLATE.clone(), init: true, scripts: None };
        Self::start_from(name, &origin, extra.iter().map(ToString::to_string).collect())
    }

    pub(super) fn start_from(name: &str, origin: &Origin, extra: Vec<String>) -> Self {
        let workplace = Workplace::new(name);
        copy(&origin.data, &workplace.join("data"));
        fs::write(workplace.join("init.sql"), INIT_SQL).expect("write init.sql");
        let port = free_port();
        let child = launch(name, port, origin, &extra, &workplace);
        let mut server = Self { name: name.into(), port, origin: origin.clone(), extra, child, workplace };
        server.wait_ready();
        server
    }

    /// Ends it in order; what is left is its directory, with the data in `data`.
    pub(super) fn end(mut self, limit: Duration) -> Workplace {
        self.child.signal("TERM");
        assert!(self.child.wait(limit).is_some(), "{} ends", self.name);
        self.workplace
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn socket(&self) -> PathBuf {
        self.workplace.join("s.sock")
    }

    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// kill -9: no goodbye to anybody.
    pub fn kill(&mut self) {
        self.child.kill();
    }

    /// Starts again on the same port and data, after [`Mariadb::kill`].
    pub fn restart(&mut self) {
        self.child.kill();
        self.child = launch(&self.name, self.port, &self.origin, &self.extra, &self.workplace);
        self.wait_ready();
    }

    pub fn signal(&self, name: &str) {
        self.child.signal(name);
    }

    fn wait_ready(&mut self) {
        let port = self.port;
        let child = &mut self.child;
        wait_until("mariadbd greets", START_LIMIT, || {
            assert!(child.running(), "mariadbd ended:\n{}", child.log());
            greets(port)
        });
    }
}

/// Whether a server on this port sends a greeting (protocol version 10), not an error.
fn greets(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let mut first = [0; 5];
    stream.read_exact(&mut first).is_ok() && first[4] == 10
}

fn launch(name: &str, port: u16, origin: &Origin, extra: &[String], workplace: &Workplace) -> Child {
    let server = program("mariadbd");
    let mut args: Vec<String> = Vec::new();
    if let Some(scripts) = &origin.scripts {
        args.push(format!("PATH={}:{}", path(scripts), std::env::var("PATH").unwrap_or_default()));
        args.push(path(&server));
    }
    let program = if args.is_empty() { server } else { "env".into() };
    args.extend(OPTIONS.iter().map(ToString::to_string));
    args.push(format!("--datadir={}", path(&workplace.join("data"))));
    // A server that starts clears its directory for temporary tables, so it must not be a shared one.
    args.push(format!("--tmpdir={}", path(workplace.path())));
    args.push(format!("--socket={}", path(&workplace.join("s.sock"))));
    args.push(format!("--pid-file={}", path(&workplace.join("pid"))));
    if origin.init {
        args.push(format!("--init-file={}", path(&workplace.join("init.sql"))));
    }
    args.push(format!("--port={port}"));
    args.push(format!("--report-host={name}"));
    args.extend(user_option());
    args.extend_from_slice(extra);
    Child::start(&program, &args, workplace.join("log"))
}

/// Copies a data directory.
pub(super) fn copy(from: &Path, to: &Path) {
    let copied = run("cp", &["-a", "--reflink=auto", &path(from), &path(to)], START_LIMIT);
    assert!(copied.status.success(), "copy {}", from.display());
}

/// The server's version as it tells it, such as `10.11.19-MariaDB`.
pub(super) fn server_version() -> String {
    let output = run(&path(&program("mariadbd")), &["--version"], START_LIMIT);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = said.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    version.unwrap_or("mariadb").to_string()
}

/// `--user=root` where the tests run as root: the server refuses to without being told.
fn user_option() -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let root = fs::metadata("/proc/self").expect("read /proc/self").uid() == 0;
    root.then(|| "--user=root".to_string())
}

fn program(name: &str) -> PathBuf {
    let system = Path::new("/usr/sbin").join(name);
    if system.exists() { system } else { name.into() }
}

fn path(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_string()
}

static TEMPLATE: LazyLock<PathBuf> = LazyLock::new(|| {
    static INSTALL: Mutex<()> = Mutex::new(());
    let _guard = INSTALL.lock().unwrap_or_else(PoisonError::into_inner);
    let template = cache().join(server_version());
    if !template.exists() {
        install(&template);
    }
    template
});

/// Installs beside the final place and renames, so that a killed run leaves no half template.
fn install(template: &Path) {
    let unfinished = template.with_extension(std::process::id().to_string());
    let datadir = format!("--datadir={}", path(&unfinished));
    let user = user_option();
    let mut args = vec!["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"];
    args.extend(["--innodb-log-file-size=16M", &datadir]);
    args.extend(user.as_deref());
    let output = run("mariadb-install-db", &args, START_LIMIT);
    assert!(output.status.success(), "mariadb-install-db: {}", String::from_utf8_lossy(&output.stderr));
    if fs::rename(&unfinished, template).is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
}

const OPTIONS: &[&str] = &[
    "--no-defaults",
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=16M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=0",
    "--performance-schema=OFF",
    "--local-infile=1",
    "--max-allowed-packet=256M",
    "--max-connections=1200",
    "--back-log=1024",
    "--net-write-timeout=600",
    "--plugin-maturity=unknown",
    "--plugin-load-add=auth_ed25519",
    // A thread that serves another connection goes on counting its statements.
    "--thread-cache-size=0",
];

/// A binary log in the data directory.
pub const BINARY_LOG: &[&str] =
    &["--log-bin=binlog", "--sync-binlog=0", "--log-bin-trust-function-creators=1", "--server-id=1"];

/// One statement per line, as `--init-file` wants it; run at every start.
const INIT_SQL: &str = "\
CREATE DATABASE IF NOT EXISTS test;
CREATE DATABASE IF NOT EXISTS sbtest;
CREATE USER IF NOT EXISTS root@'%';
GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;
CREATE USER IF NOT EXISTS app@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('secret');
GRANT ALL ON *.* TO app@'%';
CREATE USER IF NOT EXISTS ed@'%' IDENTIFIED VIA ed25519 USING PASSWORD('secret');
GRANT ALL ON *.* TO ed@'%';
CREATE USER IF NOT EXISTS sbtest@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('sbtest');
GRANT ALL ON *.* TO sbtest@'%';
";
