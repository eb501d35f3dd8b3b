//! A scripted log service that has HAKeeper: it counts connection ids out, in frames as a real one writes them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use twox_hash::XxHash64;

use super::proto::{Field, fields, put_bytes, put_number};
use crate::house::ScriptedCn;

const CHECK_HAKEEPER: u64 = 10;
const ALLOCATE_ID: u64 = 13;

pub struct LogService {
    service: ScriptedCn,
    counter: Arc<Counter>,
}

struct Counter {
    next: AtomicU64,
    has_hakeeper: AtomicBool,
}

impl LogService {
    /// The first id that it gives is `first`.
    pub fn start(first: u64) -> Self {
        let counter = Arc::new(Counter { next: AtomicU64::new(first), has_hakeeper: AtomicBool::new(true) });
        let house = counter.clone();
        let service = ScriptedCn::start(move |mut stream, _| _ = house.answer(&mut stream));
        Self { service, counter }
    }

    pub fn address(&self) -> String {
        self.service.address()
    }

    /// Whether HAKeeper lives here from now on.
    pub fn has_hakeeper(&self, has: bool) {
        self.counter.has_hakeeper.store(has, Ordering::SeqCst);
    }

    /// The id that it gives next.
    pub fn next(&self) -> u64 {
        self.counter.next.load(Ordering::SeqCst)
    }
}

impl Counter {
    fn answer(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        loop {
            let mut length = [0; 4];
            stream.read_exact(&mut length)?;
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut frame)?;
            // Flags, checksum, deadline, length of the trace, trace.
            let request = fields(&frame[42..]).expect("a message");
            stream.write_all(&framed(&self.respond(&request)))?;
        }
    }

    fn respond(&self, request: &[(u64, Field)]) -> Vec<u8> {
        let find = |message: &[(u64, Field)], tag| {
            message.iter().find(|(found, _)| *found == tag).map(|(_, field)| field.clone())
        };
        let number = |tag| find(request, tag).map_or(0, |field| field.number());
        let (id, method) = (number(1), number(2));
        let has_hakeeper = self.has_hakeeper.load(Ordering::SeqCst);
        let mut out = Vec::new();
        put_number(&mut out, 1, id);
        put_number(&mut out, 2, method);
        match method {
            CHECK_HAKEEPER => put_number(&mut out, 5, has_hakeeper.into()),
            ALLOCATE_ID => {
                let allocate = fields(&find(request, 8).expect("what to allocate").bytes()).expect("fields");
                assert_eq!(find(&allocate, 1).expect("a key").text(), "____server_conn_id");
                let batch = find(&allocate, 2).expect("a batch").number();
                let mut allocated = Vec::new();
                put_number(&mut allocated, 1, self.next.fetch_add(batch, Ordering::SeqCst));
                put_bytes(&mut out, 11, &allocated);
            }
            other => panic!("method {other}"),
        }
        // MatrixOne writes it whatever is asked.
        put_bytes(&mut out, 6, b"");
        out
    }
}

/// A frame of a service whose messages may have payloads, without one.
fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = ((1 + 8 + 4 + 8 + 1 + 24 + body.len()) as u32).to_be_bytes().to_vec();
    frame.push(7);
    frame.extend(XxHash64::oneshot(0, body).to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(1_000_000_000i64.to_be_bytes());
    frame.push(24);
    frame.extend([0; 24]);
    frame.extend(body);
    frame
}
