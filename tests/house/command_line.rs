//! The mariadb command line, and what it says.

use std::process::Output;
use std::time::Duration;

use super::process::run;

const LIMIT: Duration = Duration::from_secs(120);

/// Says one text at a port of this machine, as `app`; `options` come last and win.
pub fn command_line(port: u16, options: &[&str], sql: &str) -> Output {
    let port = format!("--port={port}");
    let mut args = vec!["--no-defaults", "-h127.0.0.1", &port, "-uapp", "-psecret", "-BN", "-e", sql];
    args.extend(options);
    run("mariadb", &args, LIMIT)
}

/// What it printed; fails the test if it failed.
pub fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Why it failed; fails the test if it did not.
pub fn refused(output: &Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}
