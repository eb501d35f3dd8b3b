//! Any bytes as a text of SQL: the pieces make no difference, names are bounded and come with their effect, and
//! a statement behind it is always seen, unless the text cannot be read.
//!
//! Input: one byte that says how large the pieces are (the lower six bits) and which modes hold (the upper two),
//! then the text.

use corelane::sql::{Effect, Effects, Modes, NAME_BYTES_MAX, NAMES_MAX, Reader, effects};

pub fn check(data: &[u8]) {
    let Some((&first, text)) = data.split_first() else { return };
    let modes = Modes {
        ansi_quotes: first & 0x80 != 0,
        no_backslash_escapes: first & 0x40 != 0,
        brackets: first & 0x20 != 0,
        spaces: first & 0x10 != 0,
    };
    let whole = effects(text, modes);
    assert_eq!(whole, in_pieces(text, usize::from(first & 0x3f) + 1, modes));
    assert_eq!(whole, in_pieces(text, 1, modes));
    assert!(whole.named.len() <= NAMES_MAX);
    assert!(whole.named.iter().all(|named| whole.has(named.effect)), "{whole:?}");
    assert!(whole.named.iter().all(|named| named.name.len() <= 2 * NAME_BYTES_MAX + 1), "{whole:?}");
    let followed = effects(&[text, b"\n; SET ROLE r"].concat(), modes);
    assert!(followed.has(Effect::Role) || followed.has(Effect::Unreadable), "{followed:?}");
}

fn in_pieces(text: &[u8], piece: usize, modes: Modes) -> Effects {
    let mut reader = Reader::new(modes);
    text.chunks(piece).for_each(|piece| reader.feed(piece));
    reader.finish()
}
