//! Any bytes as a stream of frames, in any pieces: the pieces make no difference, and packets that are
//! written again read the same.
//!
//! Input: one byte that says how large the pieces are, then the stream.

use corelane::wire::frame::{PacketReader, write_packet};

/// Bytes of the largest packet that the reader takes.
const LIMIT: usize = 4096;

pub fn check(data: &[u8]) {
    let Some((&piece, stream)) = data.split_first() else { return };
    let whole = read(stream, stream.len().max(1));
    let pieces = read(stream, usize::from(piece) + 1);
    assert_eq!(whole, pieces);
    let mut written = Vec::new();
    let mut sequence = 0;
    for packet in &whole.packets {
        write_packet(&mut written, &mut sequence, packet);
    }
    let again = read(&written, written.len().max(1));
    assert_eq!(again.packets, whole.packets);
    assert!(again.error.is_none(), "{again:?}");
}

#[derive(Debug, PartialEq, Eq)]
struct Read {
    packets: Vec<Vec<u8>>,
    error: Option<String>,
}

/// Everything up to the first error, the stream coming in pieces of `piece` bytes.
fn read(stream: &[u8], piece: usize) -> Read {
    let mut reader = PacketReader::new(LIMIT);
    let mut packets = Vec::new();
    for bytes in stream.chunks(piece) {
        reader.push(bytes);
        loop {
            match reader.take() {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(e) => return Read { packets, error: Some(e.to_string()) },
            }
        }
    }
    Read { packets, error: None }
}
