//! The rules of the house, as `docs/ARCHITECTURE.md` lays them down, checked against the sources.
//!
//! Which room may use which, what is forbidden below the waterline, where `unsafe` and each runtime live, and that every file
//! says at its head what it is. Tests inside the files (from `#[cfg(test)]` on) may do as they like, but for their length.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room with the rooms that it may use, floor by floor from the ground; a room may always use itself.
const ROOMS: [(&str, &[&str]); 20] = [
    ("ident", &[]),
    ("secret", &[]),
    ("metrics", &["ident"]),
    ("wire", &[]),
    ("sql", &[]),
    ("route", &["ident", "metrics"]),
    ("session", &["ident", "secret", "wire", "sql"]),
    ("config", &["ident", "secret", "wire", "route"]),
    // `CnFailure` and `CensusRow`, types without behaviour.
    ("placement", &["ident", "route", "config", "mailbox"]),
    ("mailbox", &["ident", "wire", "route", "session", "config"]),
    ("reactor", &[]),
    ("net", &["wire", "reactor", "route", "config"]),
    ("worker", &["ident", "metrics", "wire", "route", "session", "config", "mailbox", "reactor", "net"]),
    ("coordinator", &["ident", "metrics", "wire", "route", "session", "config", "placement", "mailbox"]),
    ("ctl", &["config"]),
    ("admin", &["ident", "metrics", "wire", "route", "session", "config", "mailbox", "coordinator"]),
    ("http", &["metrics", "route", "config", "coordinator"]),
    (
        "boot",
        &[
            "ident",
            "metrics",
            "config",
            "mailbox",
            "reactor",
            "net",
            "worker",
            "coordinator",
            "admin",
            "http",
        ],
    ),
    ("cli", &["config", "ctl", "boot"]),
    ("main", &[]),
];

/// Rooms that neither know the time nor reach the kernel.
const BELOW_THE_WATERLINE: [&str; 8] =
    ["ident", "secret", "metrics", "wire", "sql", "route", "session", "placement"];

/// What such a room must not name.
const REACHES: [&str; 11] = [
    "Instant",
    "SystemTime",
    "std::fs",
    "std::thread",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "getrandom",
    "libc::",
    "tokio",
    "io_uring",
];

/// Code lines of a file, its tests not counted.
const LINES_MAX: usize = 700;

struct Source {
    path: PathBuf,
    room: String,
    code: String,
}

/// Every source file of the library and the binary.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    assert!(found.len() > 100, "the sources are found");
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("read a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            collect(root, &entry, found);
        } else if entry.extension().is_some_and(|ext| ext == "rs") {
            let inside = entry.strip_prefix(root).expect("below the root");
            let first = inside.components().next().expect("a name").as_os_str().to_string_lossy();
            let text = fs::read_to_string(&entry).expect("read a source");
            let room = first.trim_end_matches(".rs").to_owned();
            found.push(Source { path: inside.to_owned(), room, code: code_of(&entry, text) });
        }
    }
}

/// The text up to its tests; nothing of a file that is all tests.
fn code_of(path: &Path, text: String) -> String {
    let is_test_file = |name: &str| ["tests", "cases", "model", "replay", "simulation"].contains(&name);
    if path.with_extension("").iter().any(|part| is_test_file(&part.to_string_lossy())) {
        return String::new();
    }
    let end =
        text.find("#[cfg(test)]\nmod tests {").or_else(|| text.find("#[cfg(test)]\npub(crate) mod tests {"));
    text[..end.unwrap_or(text.len())].to_owned()
}

/// Lines without comments, so that a rule can be spoken of.
fn statements(code: &str) -> impl Iterator<Item = &str> {
    code.lines().map(|line| line.split("//").next().unwrap_or_default())
}

/// The rooms that a line names by `crate::room`.
fn rooms_named(line: &str) -> impl Iterator<Item = &str> {
    let names = line.split("crate::").skip(1);
    names.map(|rest| rest.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap_or_default())
}

fn broken(rule: &str, breaches: &BTreeSet<String>) {
    assert!(breaches.is_empty(), "{rule}:\n{}", breaches.iter().cloned().collect::<Vec<_>>().join("\n"));
}

#[test]
fn every_room_uses_only_what_it_may() {
    let mut breaches = BTreeSet::new();
    for source in sources().iter().filter(|source| source.room != "lib") {
        let Some((_, may)) = ROOMS.iter().find(|(room, _)| *room == source.room) else {
            breaches.insert(format!("{} is in no known room", source.path.display()));
            continue;
        };
        for name in statements(&source.code).flat_map(rooms_named) {
            if name != source.room && !may.contains(&name) && !name.is_empty() {
                breaches.insert(format!("{} uses {name}", source.path.display()));
            }
        }
    }
    broken("a room uses floors below its own, and the exceptions of the architecture", &breaches);
}

#[test]
fn below_the_waterline_nobody_reaches_out() {
    let mut breaches = BTreeSet::new();
    for source in sources().iter().filter(|source| BELOW_THE_WATERLINE.contains(&&*source.room)) {
        for reach in REACHES {
            if statements(&source.code).any(|line| line.contains(reach)) {
                breaches.insert(format!("{} names {reach}", source.path.display()));
            }
        }
    }
    broken("what decides neither knows the time nor reaches the kernel", &breaches);
}

#[test]
fn unsafe_code_and_runtimes_live_where_they_belong() {
    let mut breaches = BTreeSet::new();
    for source in &sources() {
        let (room, path) = (&*source.room, source.path.display());
        let names = |what: &str| statements(&source.code).any(|line| line.contains(what));
        if room != "reactor" && names("unsafe ") {
            breaches.insert(format!("{path}: unsafe"));
        }
        if source.path != Path::new("reactor/executor.rs") && names("glommio::") {
            breaches.insert(format!("{path}: glommio"));
        }
        if ["worker", "reactor", "net"].contains(&room) && names("tokio") {
            breaches.insert(format!("{path}: tokio"));
        }
    }
    broken(
        "unsafe is the reactor's, glommio is its executor's, tokio is the coordinator's and the doors'",
        &breaches,
    );
}

#[test]
fn unsafe_blocks_give_their_reasons() {
    let mut breaches = BTreeSet::new();
    for source in &sources() {
        let lines: Vec<&str> = source.code.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.contains("unsafe {")) {
            // The reason stands above the statement that the block is part of.
            let above = lines[..at].iter().rev().take(8).any(|line| line.contains("// SAFETY:"));
            if !above {
                breaches.insert(format!("{}:{}: {}", source.path.display(), at + 1, line.trim()));
            }
        }
    }
    broken("each unsafe block has its reason", &breaches);
}

#[test]
fn every_file_says_what_it_is_and_can_be_read_in_one_sitting() {
    let mut breaches = BTreeSet::new();
    for source in sources().iter().filter(|source| !source.code.is_empty()) {
        if !source.code.starts_with("//!") {
            breaches.insert(format!("{} has no head", source.path.display()));
        }
        let lines = source.code.lines().count();
        if lines > LINES_MAX {
            breaches.insert(format!("{} has {lines} lines", source.path.display()));
        }
    }
    broken("files begin with what they are and are not long", &breaches);
}

#[test]
fn the_architecture_names_every_file() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ARCHITECTURE.md");
    let page = fs::read_to_string(page).expect("read the architecture");
    let mut breaches = BTreeSet::new();
    for source in sources().iter().filter(|source| !source.code.is_empty()) {
        let (path, name) = (source.path.display().to_string(), source.path.file_name().expect("a name"));
        let listed =
            page.contains(&format!("`src/{path}`")) || page.contains(&format!("`{}`", name.display()));
        if !listed {
            breaches.insert(path);
        }
    }
    broken("the architecture lists the files as they are", &breaches);
}

/// A merge that was taken as it came leaves them in pages, which nothing else reads.
#[test]
fn no_page_has_a_mark_of_a_merge() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["docs", "config", "tests/acceptance", "tests/fuzz", "bench", "."];
    let pages = folders.iter().flat_map(|folder| fs::read_dir(root.join(folder)).expect("read a folder"));
    let pages = pages.map(|entry| entry.expect("an entry").path());
    let mut read = 0;
    for page in pages.filter(|page| page.extension().is_some_and(|ext| ext == "md" || ext == "toml")) {
        let text = fs::read_to_string(&page).expect("read a page");
        let marked =
            text.lines().position(|line| ["<<<<<<< ", ">>>>>>> "].iter().any(|mark| line.starts_with(mark)));
        assert_eq!(marked.map(|at| at + 1), None, "{}", page.display());
        read += 1;
    }
    assert!(read > 8, "the pages are found: {read}");
}
