//! Property tests of the dialog: generated conversations that are valid by construction, in any cut, and garbage.

use super::cases::frame;
use super::*;
use proptest::prelude::*;

/// A command and the reply that the CN gives.
#[derive(Clone, Debug)]
enum Exchange {
    Silent,
    Ok,
    Err,
    Results(Vec<ResultSet>),
    Prepare { parameters: u8, columns: u8 },
    Cursor { columns: u8 },
    Fetch { rows: Vec<u8> },
}

/// Columns, and rows by their first byte; `fails` instead of ending well.
#[derive(Clone, Debug)]
struct ResultSet {
    columns: u8,
    rows: Vec<u8>,
    fails: bool,
}

/// Writes the CN's side packet by packet.
struct Cn {
    capabilities: Capabilities,
    seq: u8,
    bytes: Vec<u8>,
}

impl Cn {
    fn says(&mut self, payload: &[u8]) {
        self.bytes.extend(frame(self.seq, payload));
        self.seq = self.seq.wrapping_add(1);
    }

    fn legacy(&self) -> bool {
        !self.capabilities.has(Capabilities::DEPRECATE_EOF)
    }

    fn definitions(&mut self, count: u8, status: u8) {
        for _ in 0..count {
            self.says(b"\x03def\0\0\0\x01a\x01a\x0c\0\0\0\0\0\0\0\0\0\0");
        }
        if count > 0 && self.legacy() {
            self.says(&[0xfe, 0, 0, status, 0]);
        }
    }

    fn ends(&mut self, status: u8) {
        if self.legacy() {
            self.says(&[0xfe, 0, 0, status, 0])
        } else {
            self.says(&[0xfe, 0, 0, status, 0, 0, 0])
        }
    }

    fn rows(&mut self, rows: &[u8]) {
        for first in rows {
            // 0xFE is left out: such a row is at least 16 MiB long.
            self.says(&[&[(*first).min(0xfd)][..], &vec![0xfe; usize::from(*first) % 40]].concat());
        }
    }

    fn result(&mut self, result: &ResultSet, more: u8) {
        if result.columns == 0 {
            return self.says(if result.fails {
                b"\xff\x01\x02no"
            } else if more == 0 {
                &[0, 0, 0, 2, 0, 0, 0]
            } else {
                &[0, 0, 0, 10, 0, 0, 0]
            });
        }
        self.says(&[result.columns]);
        self.definitions(result.columns, 2 | more);
        self.rows(&result.rows);
        if result.fails { self.says(b"\xff\x01\x02no") } else { self.ends(2 | more) }
    }

    fn answers(&mut self, exchange: &Exchange) {
        self.seq = 1;
        match exchange {
            Exchange::Silent => {}
            Exchange::Ok => self.says(&[0, 0, 0, 2, 0, 0, 0]),
            Exchange::Err => self.says(b"\xff\x01\x02#42000no"),
            Exchange::Results(results) => {
                for (at, result) in results.iter().enumerate() {
                    let more = if at + 1 < results.len() { 8 } else { 0 };
                    self.result(result, more);
                    if result.fails {
                        break;
                    }
                }
            }
            Exchange::Prepare { parameters, columns } => {
                self.says(&[0, 1, 0, 0, 0, *columns, 0, *parameters, 0, 0, 0, 0]);
                self.definitions(*parameters, 2);
                self.definitions(*columns, 2);
            }
            Exchange::Cursor { columns } => {
                self.says(&[*columns]);
                self.definitions(*columns, 0x42);
                if !self.legacy() {
                    self.ends(0x42);
                }
            }
            Exchange::Fetch { rows } => {
                self.rows(rows);
                self.ends(0x42);
            }
        }
    }
}

fn command(exchange: &Exchange) -> Vec<u8> {
    frame(
        0,
        match exchange {
            Exchange::Silent => b"\x19\x01\0\0\0",
            Exchange::Ok => b"\x0e",
            Exchange::Err => b"\x02nowhere",
            Exchange::Results(_) => b"\x03SELECT 1; SELECT 2",
            Exchange::Prepare { .. } => b"\x16SELECT ?",
            Exchange::Cursor { .. } => b"\x17\x01\0\0\0\x01\x01\0\0\0",
            Exchange::Fetch { .. } => b"\x1c\x01\0\0\0\x09\0\0\0",
        },
    )
}

fn rows() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..6)
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let result = (0u8..4, rows(), prop::bool::weighted(0.1)).prop_map(|(columns, rows, fails)| ResultSet {
        columns,
        rows,
        fails,
    });
    prop_oneof![
        Just(Exchange::Silent),
        Just(Exchange::Ok),
        Just(Exchange::Err),
        prop::collection::vec(result, 1..4).prop_map(Exchange::Results),
        (0u8..3, 0u8..3).prop_map(|(parameters, columns)| Exchange::Prepare { parameters, columns }),
        (1u8..4).prop_map(|columns| Exchange::Cursor { columns }),
        rows().prop_map(|rows| Exchange::Fetch { rows }),
    ]
}

/// Cuts `bytes` into pieces of the given sizes, again and again.
fn pieces<'b>(bytes: &'b [u8], sizes: &'b [usize]) -> impl Iterator<Item = &'b [u8]> {
    let mut rest = bytes;
    let mut sizes = sizes.iter().cycle();
    std::iter::from_fn(move || {
        let size = (*sizes.next()?).min(rest.len());
        let (piece, after) = rest.split_at(size);
        rest = after;
        (size > 0).then_some(piece)
    })
}

proptest! {
    #[test]
    fn valid_conversations(
        bursts in prop::collection::vec(prop::collection::vec(exchange(), 1..8), 1..6),
        deprecate_eof in any::<bool>(),
        sizes in prop::collection::vec(1usize..50, 1..8),
    ) {
        let capabilities = if deprecate_eof { Capabilities::DEPRECATE_EOF } else { Capabilities::default() };
        let mut dialog = Dialog::new(capabilities, Status::default());
        for burst in &bursts {
            let asked: Vec<u8> = burst.iter().flat_map(command).collect();
            let begun: u32 = pieces(&asked, &sizes).map(|piece| dialog.client_bytes(piece).commands).sum();
            prop_assert_eq!(begun as usize, burst.len());
            let mut cn = Cn { capabilities, seq: 0, bytes: Vec::new() };
            burst.iter().for_each(|exchange| cn.answers(exchange));
            let owed = burst.iter().filter(|exchange| !matches!(exchange, Exchange::Silent)).count();
            prop_assert_eq!(dialog.in_flight(), owed);
            let mut ended = 0;
            for piece in pieces(&cn.bytes, &sizes) {
                prop_assert!(!dialog.idle());
                ended += dialog.cn_bytes(piece).replies as usize;
                prop_assert_eq!(dialog.in_flight(), owed - ended);
            }
            prop_assert_eq!((ended, dialog.opaque(), dialog.idle()), (owed, None, true));
        }
    }

    /// Garbage, and the same garbage in pieces, leads to the same end.
    #[test]
    fn garbage(
        chunks in prop::collection::vec((any::<bool>(), shortish()), 0..30),
        capabilities in any::<u64>(),
        sizes in prop::collection::vec(1usize..20, 1..8),
    ) {
        let mut whole = Dialog::new(Capabilities(capabilities), Status::default());
        let mut cut = Dialog::new(Capabilities(capabilities), Status::default());
        for (client, bytes) in &chunks {
            if *client && whole.in_flight() + bytes.len() / HEADER < PIPELINE_MAX {
                let news = whole.client_bytes(bytes);
                let sum: u32 = pieces(bytes, &sizes).map(|piece| cut.client_bytes(piece).commands).sum();
                prop_assert_eq!(news.commands, sum);
            } else if !client {
                let news = whole.cn_bytes(bytes);
                let sum: u32 = pieces(bytes, &sizes).map(|piece| cut.cn_bytes(piece).replies).sum();
                prop_assert_eq!(news.replies, sum);
            }
            prop_assert_eq!(whole.opaque(), cut.opaque());
            prop_assert_eq!(whole.status(), cut.status());
            prop_assert_eq!(whole.idle(), cut.idle());
            prop_assert_eq!(whole.cn_boundary(), cut.cn_boundary());
            prop_assert_eq!(whole.in_flight(), cut.in_flight());
        }
    }
}

/// Bytes that often look like frames.
fn shortish() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..30),
        (
            prop::sample::select(vec![0u8, 1, 2, 3, 0x11, 0x16, 0x17, 0x18, 0x1c, 0xfb, 0xfe, 0xff]),
            any::<[u8; 6]>()
        )
            .prop_map(|(first, rest)| [&[first][..], &rest.map(|byte| byte % 4)].concat()),
    ];
    let framed = (0u8..6, payload.clone()).prop_map(|(seq, payload)| frame(seq, &payload));
    prop_oneof![4 => framed, 1 => payload]
}
