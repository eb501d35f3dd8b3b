//! The built proxy, started on free ports from a configuration file in a directory of its own.
//!
//! `CORELANE_BIN` names another binary to test than the one cargo built, e.g. the release build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;

use super::place::{Workplace, free_port, listens, wait_until};
use super::process::{Child, run};

const START_LIMIT: Duration = Duration::from_secs(30);
const CTL_LIMIT: Duration = Duration::from_secs(20);

pub struct Proxy {
    pub port: u16,
    pub admin_port: u16,
    child: Child,
    head: String,
    workplace: Workplace,
}

/// One `[[cn]]` table. `labels` is the inside of an inline table: `account = ["acc1"]`.
pub fn cn_toml(id: &str, address: &str, labels: &str, weight: u32) -> String {
    format!(
        "[[cn]]\nid = \"{id}\"\naddress = \"{address}\"\nflavour = \"mysql\"\n\
         labels = {{ {labels} }}\nweight = {weight}\n"
    )
}

impl Proxy {
    /// Starts with two workers (where the machine has two CPUs) and these `[[cn]]` and other tables.
    pub fn start(tables: &str) -> Self {
        Self::start_with("", tables)
    }

    /// The same with further keys of `[listen]`, e.g. `max_sessions = 2`.
    pub fn start_with(listen_keys: &str, tables: &str) -> Self {
        Self::launch("\"auto\"", listen_keys, tables)
    }

    /// Starts with a single worker, so that all sessions share its buffers and its turns.
    pub fn start_on_one_worker(tables: &str) -> Self {
        Self::launch("[0]", "", tables)
    }

    fn launch(cpus: &str, listen_keys: &str, tables: &str) -> Self {
        let workplace = Workplace::new("proxy");
        let (port, admin_port) = (free_port(), free_port());
        let head = head(&workplace, port, admin_port, cpus, listen_keys);
        let file = workplace.join("corelane.toml");
        fs::write(&file, format!("{head}{tables}")).expect("write the configuration");
        let args = ["serve", "--config", file.to_str().expect("UTF-8")].map(str::to_string);
        let child = Child::start(&binary(), &args, workplace.join("log"));
        let mut proxy = Self { port, admin_port, child, head, workplace };
        proxy.wait_ready();
        proxy
    }

    /// Waits until it listens on both doors; asks the kernel, as a connection would show up as a session.
    fn wait_ready(&mut self) {
        let (port, admin_port) = (self.port, self.admin_port);
        let child = &mut self.child;
        wait_until("corelane listens", START_LIMIT, || {
            assert!(child.running(), "corelane ended:\n{}", child.log());
            listens(admin_port) && listens(port)
        });
    }

    /// Replaces the tables in the configuration file and sends SIGHUP.
    pub fn reload(&self, tables: &str) {
        fs::write(self.config_file(), format!("{}{tables}", self.head)).expect("write the configuration");
        self.signal("HUP");
    }

    pub fn config_file(&self) -> PathBuf {
        self.workplace.join("corelane.toml")
    }

    /// The proxy's Unix socket for SQL.
    pub fn socket(&self) -> PathBuf {
        self.workplace.join("sql.sock")
    }

    /// The rows of an admin statement, by `corelane ctl --json`. Fails the test when ctl fails.
    pub fn ctl(&self, statement: &str) -> Vec<Value> {
        self.try_ctl(statement).unwrap_or_else(|said| panic!("ctl {statement}: {said}"))
    }

    /// The same; an error is what ctl wrote to standard error.
    pub fn try_ctl(&self, statement: &str) -> Result<Vec<Value>, String> {
        let door = format!("127.0.0.1:{}", self.admin_port);
        let args = ["ctl", "--admin", &door, "--user", "admin", "--password", "admin", "--json", statement];
        let output = run(binary().to_str().expect("UTF-8"), &args, CTL_LIMIT);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        match serde_json::from_slice(&output.stdout) {
            Ok(Value::Array(rows)) => Ok(rows),
            other => panic!("ctl {statement} printed no JSON array: {other:?}"),
        }
    }

    /// The row of one CN in `SHOW CNS`.
    pub fn cn(&self, id: &str) -> Option<Value> {
        self.ctl("SHOW CNS").into_iter().find(|row| row["id"] == id)
    }

    /// Sessions that a CN holds now, by `SHOW CNS`.
    pub fn seats(&self, id: &str) -> u64 {
        let row = self.cn(id).unwrap_or_else(|| panic!("SHOW CNS has no {id}"));
        number(&row["sessions"])
    }

    /// Waits until `SHOW CNS` says that this CN is in this state.
    pub fn wait_state(&self, id: &str, state: &str) {
        wait_until(&format!("{id} is {state}"), Duration::from_secs(30), || {
            self.cn(id)
                .is_some_and(|row| row["state"].as_str().is_some_and(|s| s.eq_ignore_ascii_case(state)))
        });
    }

    pub fn signal(&self, name: &str) {
        self.child.signal(name);
    }

    /// Waits for its end; `None` when it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.child.wait(limit)
    }

    pub fn running(&mut self) -> bool {
        self.child.running()
    }

    pub fn rss_kib(&self) -> u64 {
        self.child.rss_kib()
    }

    pub fn log(&self) -> String {
        self.child.log()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of corelane ---\n{}", self.child.log());
        }
    }
}

/// A number of an admin answer, which may be printed as a JSON number or, in text protocol, as a string.
pub fn number(value: &Value) -> u64 {
    let parsed = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
    parsed.unwrap_or_else(|| panic!("not a number: {value}"))
}

/// The binary under test.
pub fn binary() -> PathBuf {
    std::env::var_os("CORELANE_BIN")
        .map_or_else(|| Path::new(env!("CARGO_BIN_EXE_corelane")).into(), PathBuf::from)
}

fn head(workplace: &Workplace, port: u16, admin_port: u16, cpus: &str, listen_keys: &str) -> String {
    let socket = workplace.join("sql.sock");
    format!(
        "[listen]\nsql = [\"127.0.0.1:{port}\", \"unix:{}\"]\n{listen_keys}\n\
         [workers]\ncpus = {cpus}\n\
         [admin]\nlisten = \"127.0.0.1:{admin_port}\"\nusers = [{{ name = \"admin\", password = \"admin\" }}]\n\
         [probe]\ninterval_ms = 200\n",
        socket.display()
    )
}
