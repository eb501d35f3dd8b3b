//! Any bytes as the beginning of a connection: a header is read the same in any pieces, no byte behind it is asked for, and what it
//! tells comes back when it is told on.
//!
//! Input: one byte that says how large the pieces are, then the connection.

use corelane::wire::proxy_header::{Ends, HEADER_MAX, HeaderError, Progress, read, write};

pub fn check(data: &[u8]) {
    let Some((&piece, bytes)) = data.split_first() else { return };
    let whole = read(bytes);
    match in_pieces(bytes, usize::from(piece) + 1) {
        Some(Ok((length, ends))) => {
            assert_eq!(whole, Ok(Progress::Whole { length, ends }));
            assert!(length <= HEADER_MAX);
            if let Some(ends) = ends {
                tell_on(ends);
            }
        }
        Some(Err(_)) => assert!(whole.is_err(), "{whole:?}"),
        None => assert!(!matches!(whole, Ok(Progress::Whole { .. })), "{whole:?}"),
    }
}

/// Reads no more than what is missing; none where the connection ends before the header.
fn in_pieces(bytes: &[u8], piece: usize) -> Option<Result<(usize, Option<Ends>), HeaderError>> {
    let mut have = 0;
    loop {
        match read(&bytes[..have]) {
            Ok(Progress::Lacks(lacks)) => {
                assert!(lacks > 0, "nothing is missing, and it is not whole");
                if have == bytes.len() {
                    return None;
                }
                have += lacks.min(piece).min(bytes.len() - have);
            }
            Ok(Progress::Whole { length, ends }) => {
                assert_eq!(length, have, "a byte behind it was asked for");
                return Some(Ok((length, ends)));
            }
            Err(error) => return Some(Err(error)),
        }
    }
}

fn tell_on(told: Ends) {
    let mut header = Vec::new();
    write(&mut header, Some(told));
    let Ok(Progress::Whole { length, ends: Some(again) }) = read(&header) else { panic!("{header:?}") };
    assert_eq!(length, header.len());
    assert_eq!(again.source.ip(), told.source.ip().to_canonical());
    assert_eq!(
        (again.source.port(), again.destination.port()),
        (told.source.port(), told.destination.port())
    );
}
