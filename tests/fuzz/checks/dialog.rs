//! Any conversation, whole and byte by byte: the dialog never panics, and comes to the same conclusions
//! wherever the byte streams are split.
//!
//! Input: a byte of capabilities, then pieces of a header byte (top bit: from the CN; below: length) and as
//! many bytes of stream.

use corelane::session::dialog::{Dialog, Opaque, PIPELINE_MAX};
use corelane::wire::capability::Capabilities;
use corelane::wire::status::Status;

pub fn check(data: &[u8]) {
    let Some((&flags, mut pieces)) = data.split_first() else { return };
    let mut whole = Follower::new(flags);
    let mut split = Follower::new(flags);
    while let Some((&head, after)) = pieces.split_first() {
        let length = usize::from(head & 0x7f).min(after.len());
        let (piece, rest) = after.split_at(length);
        pieces = rest;
        let from_cn = head & 0x80 != 0;
        // A command is four bytes at least; the relay would not show one that is too many.
        if !from_cn && whole.dialog.in_flight() + length / 4 >= PIPELINE_MAX {
            continue;
        }
        whole.take(from_cn, piece);
        piece.chunks(1).for_each(|byte| split.take(from_cn, byte));
        assert_eq!(whole.conclusions(), split.conclusions());
    }
}

struct Follower {
    dialog: Dialog,
    commands: u32,
    quit: bool,
    replies: u32,
}

#[derive(Debug, PartialEq)]
struct Conclusions {
    commands: u32,
    quit: bool,
    replies: u32,
    idle: bool,
    in_transaction: bool,
    in_flight: usize,
    boundary: Option<u8>,
    opaque: Option<Opaque>,
}

impl Follower {
    fn new(flags: u8) -> Self {
        Self {
            dialog: Dialog::new(capabilities(flags), Status::default()),
            commands: 0,
            quit: false,
            replies: 0,
        }
    }

    fn take(&mut self, from_cn: bool, bytes: &[u8]) {
        if from_cn {
            self.replies += self.dialog.cn_bytes(bytes).replies;
        } else {
            let news = self.dialog.client_bytes(bytes);
            self.commands += news.commands;
            self.quit |= news.quit;
        }
    }

    fn conclusions(&self) -> Conclusions {
        Conclusions {
            commands: self.commands,
            quit: self.quit,
            replies: self.replies,
            idle: self.dialog.idle(),
            in_transaction: self.dialog.in_transaction(),
            in_flight: self.dialog.in_flight(),
            boundary: self.dialog.cn_boundary(),
            opaque: self.dialog.opaque(),
        }
    }
}

/// Those capabilities that change where a reply ends.
fn capabilities(flags: u8) -> Capabilities {
    let mut base = Capabilities::PROTOCOL_41.base();
    if flags & 1 != 0 {
        base |= Capabilities::DEPRECATE_EOF.base();
    }
    if flags & 2 != 0 {
        base |= Capabilities::SESSION_TRACK.base();
    }
    let extended = if flags & 4 != 0 { Capabilities::MARIADB_CACHE_METADATA.extended() } else { 0 };
    Capabilities::new(base, extended)
}
