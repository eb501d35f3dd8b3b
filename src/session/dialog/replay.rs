//! Tests of the dialog against captures of real servers.
//!
//! A capture says after which bytes an exchange is complete (`tests/data/dialog/record.py` tells how it knows). Replayed
//! in any cut, the dialog must be idle there and nowhere in between, and must have counted the same.

use super::*;
use std::fmt::Write as _;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Cn,
}

#[derive(Debug)]
enum Line {
    Bytes(Side, Vec<u8>),
    Mark { commands: u32, replies: u32, idle: bool },
}

struct Capture {
    capabilities: Capabilities,
    status: Status,
    lines: Vec<Line>,
}

fn captures() -> Vec<(String, Capture)> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/dialog");
    let mut found: Vec<(String, Capture)> = std::fs::read_dir(directory)
        .expect("the captures are part of the package")
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a readable capture");
            (path.file_stem().expect("a name").to_string_lossy().into_owned(), parse(&text))
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(!found.is_empty());
    found
}

fn parse(text: &str) -> Capture {
    let mut capture = Capture { capabilities: Capabilities(0), status: Status(0), lines: Vec::new() };
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["capabilities", number] => capture.capabilities = Capabilities(number_from(number)),
            ["status", number] => capture.status = Status(number_from(number) as u16),
            ["C", bytes] => capture.append(Side::Client, bytes),
            ["S", bytes] => capture.append(Side::Cn, bytes),
            ["=", commands, replies, state] => capture.lines.push(Line::Mark {
                commands: commands.parse().expect("a number"),
                replies: replies.parse().expect("a number"),
                idle: state == "idle",
            }),
            _ => panic!("not a line of a capture: {line}"),
        }
    }
    capture
}

fn number_from(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("a hexadecimal number")
}

impl Capture {
    fn append(&mut self, side: Side, hex: &str) {
        let bytes = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("a hexadecimal byte"));
        match self.lines.last_mut() {
            Some(Line::Bytes(last, so_far)) if *last == side => so_far.extend(bytes),
            _ => self.lines.push(Line::Bytes(side, bytes.collect())),
        }
    }

    fn length(&self) -> usize {
        self.lines.iter().map(|line| if let Line::Bytes(_, bytes) = line { bytes.len() } else { 0 }).sum()
    }

    /// Replays with each run of bytes cut where `cut` says so of the position in the whole stream.
    fn replay(&self, name: &str, cut: impl Fn(usize) -> bool) {
        let mut dialog = Dialog::new(self.capabilities, self.status);
        let (mut at, mut commands, mut replies) = (0, 0, 0);
        let mut trace = String::new();
        for line in &self.lines {
            match line {
                Line::Bytes(side, bytes) => {
                    let mut from = 0;
                    for to in 1..=bytes.len() {
                        if to < bytes.len() && !cut(at + to) {
                            continue;
                        }
                        match side {
                            Side::Client => commands += dialog.client_bytes(&bytes[from..to]).commands,
                            Side::Cn => replies += dialog.cn_bytes(&bytes[from..to]).replies,
                        }
                        assert_eq!(dialog.opaque(), None, "{name}, byte {}{trace}", at + to);
                        from = to;
                    }
                    at += bytes.len();
                }
                Line::Mark { commands: asked, replies: answered, idle } => {
                    assert_eq!((commands, replies), (*asked, *answered), "{name}, byte {at}{trace}");
                    assert_eq!(dialog.idle(), *idle, "{name}, byte {at}{trace}");
                    trace.clear();
                    let _ = write!(trace, ", after {commands} commands");
                }
            }
        }
    }

    /// Byte by byte, the dialog may be idle at marks only.
    fn replay_bytes(&self, name: &str) {
        let mut dialog = Dialog::new(self.capabilities, self.status);
        for (number, line) in self.lines.iter().enumerate() {
            let Line::Bytes(side, bytes) = line else { continue };
            let marked = matches!(self.lines.get(number + 1), Some(Line::Mark { .. }));
            for (at, byte) in bytes.iter().enumerate() {
                match side {
                    Side::Client => _ = dialog.client_bytes(&[*byte]),
                    Side::Cn => _ = dialog.cn_bytes(&[*byte]),
                }
                let last = marked && at + 1 == bytes.len();
                assert!(last || !dialog.idle(), "{name}: idle in line {number}, byte {at}");
            }
        }
    }
}

#[test]
fn captures_in_one_piece() {
    for (name, capture) in captures() {
        capture.replay(&name, |_| false);
    }
}

#[test]
fn captures_byte_by_byte() {
    for (name, capture) in captures() {
        capture.replay(&name, |_| true);
        capture.replay_bytes(&name);
    }
}

#[test]
fn captures_at_every_split() {
    for (name, capture) in captures() {
        for split in 1..capture.length() {
            capture.replay(&name, |at| at == split);
        }
    }
}
