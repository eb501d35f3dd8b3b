//! Any bytes as compressed frames, in any pieces and with any room: neither makes a difference, and a frame gives what it says or an
//! error. Of several things that are wrong with one, another may be met first.
//!
//! Input: one byte that says how large the pieces are and by which algorithm they are packed, then the stream.

use corelane::wire::compressed::codec::{Algorithm, Packing};
use corelane::wire::compressed::frames::{Frames, Opened};
use corelane::wire::compressed::turns::{Commander, Turns};
use corelane::wire::compressed::{PLAIN_MAX, write_frame};

pub fn check(data: &[u8]) {
    let Some((&piece, stream)) = data.split_first() else { return };
    let algorithm = if piece & 1 == 0 { Algorithm::Zlib } else { Algorithm::Zstd };
    let whole = read(algorithm, stream, stream.len().max(1), usize::MAX);
    assert_eq!(whole, read(algorithm, stream, usize::from(piece) + 1, 100 * usize::from(piece) + 10));
    let mut written = Vec::new();
    for (number, plain) in &whole.frames {
        assert!(plain.len() <= PLAIN_MAX);
        write_frame(Packing { algorithm, level: 1 }, *number, plain, &mut written);
    }
    let again = read(algorithm, &written, written.len().max(1), usize::MAX);
    assert_eq!((again.frames, again.failed), (whole.frames, false));
}

#[derive(Debug, PartialEq, Eq)]
struct Read {
    frames: Vec<(u8, Vec<u8>)>,
    failed: bool,
}

/// All whole frames up to the first error, the stream coming in pieces of `piece` bytes.
fn read(algorithm: Algorithm, stream: &[u8], piece: usize, room: usize) -> Read {
    let (mut frames, mut read, mut last) = (Frames::default(), Vec::new(), None);
    let mut turns = [Commander::Peer, Commander::Us].map(Turns::new);
    for bytes in stream.chunks(piece) {
        frames.push(bytes);
        loop {
            let mut plain = Vec::new();
            match frames.open(algorithm, room, &mut plain) {
                Ok(Some(opened)) => {
                    for turns in &mut turns {
                        // Whether the number is in order makes no difference to what is in the frame.
                        if let Opened::Frame(number) = opened {
                            let _ = turns.begin(number);
                        }
                        turns.open(&mut plain.clone());
                        turns.untaken(0);
                    }
                    if let Opened::Frame(number) = opened {
                        last = Some((number, Vec::new()));
                    }
                    last.as_mut().expect("a frame begins").1.extend(plain);
                    if !frames.within_frame() {
                        read.extend(last.take());
                    }
                }
                Ok(None) => break,
                Err(_) => return Read { frames: read, failed: true },
            }
        }
    }
    Read { frames: read, failed: false }
}
