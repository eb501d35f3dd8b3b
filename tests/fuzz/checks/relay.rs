//! Any conversation of a session that may move, as the relay shows it to the dialog, with what stands in the place of packets that cannot go
//! as they are: nothing panics, no byte is lost, and it makes no difference to the other side, nor to what is known of the session, where
//! the streams are split.
//!
//! Input: a byte of capabilities, one of the kind of session, then pieces as those of `dialog`.

use corelane::session::dialog::{
    Dialog, Look, Noted, Opaque, PIPELINE_MAX, Shift, Stop, Untracked, Watch, Watched,
};
use corelane::session::hold::Hold;
use corelane::session::state::{Context, Known, State};
use corelane::session::tracking::{Beginning, Wishes};
use corelane::wire::capability::Capabilities;
use corelane::wire::status::Status;

/// Turns of one leg for each byte that it has, and some for what it waits for.
const TURNS_PER_BYTE: usize = 4;

pub fn check(data: &[u8]) {
    let [flags, kind, pieces @ ..] = data else { return };
    let (mut whole, mut split) = (Relay::new(*flags, *kind), Relay::new(*flags, *kind));
    let (mut pieces, mut was_full) = (pieces, false);
    while let Some((&head, after)) = pieces.split_first() {
        let (piece, rest) = after.split_at(usize::from(head & 0x7f).min(after.len()));
        pieces = rest;
        let from_cn = head & 0x80 != 0;
        whole.take(from_cn, piece, piece.len().max(1));
        split.take(from_cn, piece, 1);
        // Where no command has a place, the rest of one that came in pieces waits as well: the two are not at the same place from then on.
        was_full |= whole.dialog.in_flight().max(split.dialog.in_flight()) >= PIPELINE_MAX;
        if !was_full {
            assert_eq!(whole.conclusions(), split.conclusions());
        }
        if whole.ended {
            return;
        }
    }
}

/// Bytes that came from one side, and what the other was sent in their place.
#[derive(Default)]
struct Leg {
    unread: Vec<u8>,
    known: usize,
    stop: Option<Stop>,
    sent: Vec<u8>,
}

impl Leg {
    fn has_more(&self) -> bool {
        self.unread.len() > self.known
    }

    /// As the relay takes note of a look.
    fn after(&mut self, look: &Look) {
        assert!(look.taken <= self.unread.len(), "{look:?}");
        for patch in &look.patches {
            assert!(patch.at + 4 <= look.taken, "{look:?}");
            self.unread[patch.at..patch.at + 4].copy_from_slice(&patch.bytes);
        }
        self.known = match look.stop {
            None => self.unread.len() - look.taken,
            Some(
                Stop::Execute { head: needed }
                | Stop::Changed { length: needed }
                | Stop::Concern { length: needed },
            ) => needed - 1,
            Some(Stop::Full | Stop::Shifted(_) | Stop::Lost) => 0,
        };
        self.stop = look.stop;
        self.forward(look.taken);
    }

    fn sent_of(&self, is_opaque: bool) -> Vec<u8> {
        let unread: &[u8] = if is_opaque { &self.unread } else { &[] };
        [&self.sent, unread].concat()
    }

    fn forward(&mut self, length: usize) {
        self.sent.extend(self.unread.drain(..length));
    }
}

struct Relay {
    dialog: Dialog,
    client: Leg,
    cn: Leg,
    commands: u32,
    replies: u32,
    quit: bool,
    ended: bool,
}

#[derive(Debug, PartialEq)]
struct Conclusions {
    ended: bool,
    /// What was sent. Of a session that is opaque also what will be as soon as more comes.
    to_cn: Vec<u8>,
    to_client: Vec<u8>,
    counts: (u32, u32, bool),
    in_flight: usize,
    idle: bool,
    opaque: Option<Opaque>,
    boundary: Option<u8>,
    untracked: Option<Untracked>,
    hold: Option<Hold>,
    leftovers: bool,
    cost: u32,
}

impl Relay {
    fn new(flags: u8, kind: u8) -> Self {
        let (client, cn) = (capabilities(flags), capabilities(flags) | Capabilities::SESSION_TRACK);
        let mut dialog = Dialog::new(cn, Status::AUTOCOMMIT);
        let mariadb = kind & 4 != 0;
        if kind & 3 == 0 {
            dialog = dialog.with_matrixone();
        }
        dialog.watch(match kind & 3 {
            0 => Watch::Noted(Box::new(Noted::new(client))),
            1 => Watch::Off(Hold::Login),
            _ => {
                let state = State::new(cn, mariadb, beginning(kind & 8 != 0), Some(b"db"));
                Watch::On(Box::new(Watched::new(state, client, cn)))
            }
        });
        if kind & 0x10 != 0 {
            dialog.pace();
        }
        if kind & 0x20 != 0 {
            dialog.stop_at_concerns();
        }
        let (client, cn) = (Leg::default(), Leg::default());
        Self { dialog, client, cn, commands: 0, replies: 0, quit: false, ended: false }
    }

    /// Bytes of one side, in pieces. The client is not listened to in the middle of what the CN says.
    fn take(&mut self, from_cn: bool, bytes: &[u8], piece: usize) {
        for bytes in bytes.chunks(piece) {
            if from_cn {
                self.cn.unread.extend_from_slice(bytes);
                self.listen_to_cn();
            } else {
                self.client.unread.extend_from_slice(bytes);
                self.listen_to_client();
            }
        }
        self.listen_to_client();
    }

    fn listen_to_cn(&mut self) {
        let turns = (self.cn.unread.len() + 1) * TURNS_PER_BYTE;
        for _ in 0..turns {
            if self.ended || !self.cn.has_more() {
                return;
            }
            let mut look = Look::default();
            if let Some(Stop::Changed { length }) = self.cn.stop.take() {
                let packet: Vec<u8> = self.cn.unread.drain(..length).collect();
                match self.dialog.changed(&packet, &mut look) {
                    Ok(bytes) => self.cn.sent.extend(bytes),
                    Err(_) => self.ended = true,
                }
                self.cn.known = 0;
            } else {
                self.dialog.look_at_cn(&self.cn.unread, &mut look);
                self.dialog.end_cn_look(&mut look);
                self.cn.after(&look);
            }
            self.replies += look.cn.replies;
        }
        panic!("the CN is listened to for ever");
    }

    fn listen_to_client(&mut self) {
        let turns = (self.client.unread.len() + 1) * TURNS_PER_BYTE;
        for _ in 0..turns {
            self.retrack();
            if self.ended || !self.client.has_more() || !self.may_listen() {
                return;
            }
            match self.client.stop {
                Some(Stop::Concern { .. })
                    if self.dialog.in_flight() > 0 && self.dialog.opaque().is_none() =>
                {
                    return;
                }
                Some(Stop::Concern { .. }) => {
                    self.dialog.pass_concern();
                    (self.client.stop, self.client.known) = (None, 0);
                }
                Some(stop) => self.replace(stop),
                None => {
                    let mut look = Look::default();
                    self.dialog.look_at_client(&self.client.unread, &mut look);
                    self.dialog.end_client_look(&mut look);
                    if self.dialog.is_unanswerable() {
                        self.ended = true;
                        return;
                    }
                    self.client.after(&look);
                    self.count(&look);
                }
            }
        }
        panic!("the client is listened to for ever");
    }

    /// Whether there is a place for the client's commands.
    fn may_listen(&self) -> bool {
        let has_place = self.client.stop != Some(Stop::Full) || self.dialog.may_go_on();
        self.dialog.may_speak() && has_place && self.dialog.untracked() != Some(Untracked::ByReset)
    }

    /// Where the CN has to be asked to track again, it has been, whether the client says more or not.
    fn retrack(&mut self) {
        if self.dialog.untracked() == Some(Untracked::ByReset) && self.dialog.idle() {
            self.dialog.tracked(&beginning(true));
        }
    }

    fn replace(&mut self, stop: Stop) {
        (self.client.stop, self.client.known) = (None, 0);
        match stop {
            Stop::Full => {}
            Stop::Execute { head } => self.replace_head(head),
            Stop::Shifted(shift) => self.shift(shift),
            Stop::Changed { .. } | Stop::Concern { .. } | Stop::Lost => self.ended = true,
        }
    }

    fn replace_head(&mut self, head: usize) {
        let needed = self.dialog.execute_needs(&self.client.unread[..head]);
        if needed > head {
            (self.client.stop, self.client.known) = (Some(Stop::Execute { head: needed }), needed - 1);
            return;
        }
        let (bytes, mut look) = (self.client.unread.drain(..head).collect::<Vec<_>>(), Look::default());
        match self.dialog.execute(&bytes, &mut look) {
            Ok(bytes) => self.client.sent.extend(bytes),
            Err(_) => self.ended = true,
        }
        self.client.stop = look.stop;
        self.count(&look);
    }

    /// No input is so long that a frame of it is full, so none is shifted for long.
    fn shift(&mut self, mut shift: Shift) {
        let here = shift.left.min(self.client.unread.len());
        let mut look = Look::default();
        self.dialog.look_at_client(&self.client.unread[..here], &mut look);
        shift.left -= here;
        self.client.forward(look.taken);
        self.client.stop = Some(Stop::Shifted(shift));
        self.count(&look);
    }

    fn count(&mut self, look: &Look) {
        self.commands += look.client.commands;
        self.quit |= look.client.quit;
    }

    fn conclusions(&self) -> Conclusions {
        let is_opaque = self.dialog.opaque().is_some();
        Conclusions {
            ended: self.ended,
            to_cn: self.client.sent_of(is_opaque),
            to_client: self.cn.sent_of(is_opaque),
            counts: (self.commands, self.replies, self.quit),
            in_flight: self.dialog.in_flight(),
            idle: self.dialog.idle(),
            opaque: self.dialog.opaque(),
            boundary: self.dialog.cn_boundary(),
            untracked: self.dialog.untracked(),
            hold: self.dialog.hold(),
            leftovers: self.dialog.has_leftovers(),
            cost: self.dialog.cost(),
        }
    }
}

fn beginning(everything: bool) -> Beginning {
    let known = |value: &str| Known::from(value.as_bytes());
    let context = Context {
        schema: Box::default(),
        sql_mode: known("STRICT_TRANS_TABLES"),
        client: known("utf8mb4"),
        connection: known("utf8mb4"),
        collation: known("utf8mb4_general_ci"),
    };
    Beginning { wishes: if everything { Wishes::everything() } else { Wishes::none() }, context }
}

/// Those capabilities that change what is said and where a reply ends.
fn capabilities(flags: u8) -> Capabilities {
    [
        Capabilities::DEPRECATE_EOF,
        Capabilities::SESSION_TRACK,
        Capabilities::MARIADB_CACHE_METADATA,
        Capabilities::QUERY_ATTRIBUTES,
        Capabilities::MARIADB_STMT_BULK_OPERATIONS,
        Capabilities::OPTIONAL_RESULTSET_METADATA,
        Capabilities::MULTI_STATEMENTS,
        Capabilities::MARIADB_BULK_UNIT_RESULTS,
    ]
    .into_iter()
    .enumerate()
    .filter(|(at, _)| flags & (1 << at) != 0)
    .fold(Capabilities::PROTOCOL_41, |all, (_, flag)| all | flag)
}
