//! Replays the fuzz corpus: every input that once found something new must still pass its check.

use std::fs;
use std::path::Path;

#[path = "fuzz/checks/admin.rs"]
mod admin;
#[path = "fuzz/checks/auth.rs"]
mod auth;
#[path = "fuzz/checks/compressed.rs"]
mod compressed;
#[path = "fuzz/checks/config.rs"]
mod config;
#[path = "fuzz/checks/dialog.rs"]
mod dialog;
#[path = "fuzz/checks/frame.rs"]
mod frame;
#[path = "fuzz/checks/labels.rs"]
mod labels;
#[path = "fuzz/checks/login.rs"]
mod login;
#[path = "fuzz/checks/proxy_header.rs"]
mod proxy_header;
#[path = "fuzz/checks/relay.rs"]
mod relay;
#[path = "fuzz/checks/sql.rs"]
mod sql;

fn replay(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let inputs: Vec<_> =
        fs::read_dir(&corpus).expect("the corpus").map(|entry| entry.unwrap().path()).collect();
    assert!(inputs.len() >= 10, "the corpus of {target} has {} inputs only", inputs.len());
    for input in inputs {
        let bytes = fs::read(&input).unwrap();
        let outcome = std::panic::catch_unwind(|| check(&bytes));
        assert!(outcome.is_ok(), "{} fails its check", input.display());
    }
}

#[test]
fn login_packets() {
    replay("login", login::check);
}

#[test]
fn auth_exchanges() {
    replay("auth", auth::check);
}

#[test]
fn labels_and_names() {
    replay("labels", labels::check);
}

#[test]
fn configurations() {
    replay("config", config::check);
}

#[test]
fn admin_statements() {
    replay("admin", admin::check);
}

#[test]
fn frames() {
    replay("frame", frame::check);
}

#[test]
fn compressed_frames() {
    replay("compressed", compressed::check);
}

#[test]
fn dialogs() {
    replay("dialog", dialog::check);
}

#[test]
fn relayed_sessions() {
    replay("relay", relay::check);
}

#[test]
fn proxy_headers() {
    replay("proxy_header", proxy_header::check);
}

#[test]
fn texts_of_sql() {
    replay("sql", sql::check);
}
