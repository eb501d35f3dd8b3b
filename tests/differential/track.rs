//! The session-state changes of an OK, in a fixed order, without what a server tells at moments of its own choice.
//!
//! Source: MariaDB "OK_Packet", session state info. A server tells the changes of several system variables in the
//! order of its hash table and may put them into one entry or into several; a client makes nothing of that. With any other change it
//! may tell the schema again, and the state of the transaction to who asked for it: so what is tracked decides when.

const SESSION_STATE_CHANGED: u16 = 0x4000;
const SYSTEM_VARIABLE: u8 = 0;
const SCHEMA: u8 = 1;
const TRANSACTION_STATE: u8 = 5;

/// What a side has been told.
#[derive(Debug, Default)]
pub struct Told {
    schema: Vec<u8>,
}

impl Told {
    /// Sorts the changes of an OK packet, or of one that ends rows, and leaves repetitions out; leaves all else as it is.
    pub fn sort(&mut self, packet: &mut Vec<u8>, deprecates_eof: bool) {
        let ends_rows = deprecates_eof && packet.first() == Some(&0xfe);
        if (packet.first() == Some(&0) || ends_rows)
            && let Some(sorted) = sorted(packet, |kind, data| self.is_news(kind, data))
        {
            *packet = sorted;
        }
    }

    fn is_news(&mut self, kind: u8, data: &[u8]) -> bool {
        match kind {
            SCHEMA if data == self.schema => false,
            SCHEMA => {
                self.schema = data.to_vec();
                true
            }
            TRANSACTION_STATE => false,
            _ => true,
        }
    }
}

/// None: it is no OK with changes.
fn sorted(packet: &[u8], mut is_news: impl FnMut(u8, &[u8]) -> bool) -> Option<Vec<u8>> {
    let mut at = 1;
    lenenc(packet, &mut at)?;
    lenenc(packet, &mut at)?;
    let (flags, status) = (at, u16::from_le_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    at += 4;
    if status & SESSION_STATE_CHANGED == 0 {
        return None;
    }
    let info = at;
    let nothing_said = bytes(packet, &mut at)?.is_empty();
    let mut out = packet.get(..at)?.to_vec();
    let changes = bytes(packet, &mut at)?;
    if at != packet.len() {
        return None;
    }
    let mut entries = entries(changes)?;
    entries.retain(|(kind, data)| is_news(*kind, data));
    entries.sort();
    if entries.is_empty() {
        out[flags + 1] &= !(SESSION_STATE_CHANGED >> 8) as u8;
        out.truncate(if nothing_said { info } else { out.len() });
    }
    for (kind, data) in entries {
        out.push(kind);
        out.extend_from_slice(&u32::try_from(data.len()).ok()?.to_le_bytes());
        out.extend_from_slice(&data);
    }
    Some(out)
}

/// Kind and data of each change, one for each variable.
fn entries(changes: &[u8]) -> Option<Vec<(u8, Vec<u8>)>> {
    let (mut entries, mut at) = (Vec::new(), 0);
    while at < changes.len() {
        let kind = changes[at];
        at += 1;
        let data = bytes(changes, &mut at)?;
        let mut within = 0;
        while kind == SYSTEM_VARIABLE && within < data.len() {
            let from = within;
            bytes(data, &mut within)?;
            bytes(data, &mut within)?;
            entries.push((kind, data[from..within].to_vec()));
        }
        if kind != SYSTEM_VARIABLE {
            entries.push((kind, data.to_vec()));
        }
    }
    Some(entries)
}

fn lenenc(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let first = *bytes.get(*at)?;
    let more = match first {
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        _ => 0,
    };
    let tail = bytes.get(*at + 1..*at + 1 + more)?;
    *at += 1 + more;
    if more == 0 {
        return Some(usize::from(first));
    }
    tail.iter().rev().try_fold(0usize, |value, byte| value.checked_mul(256)?.checked_add(usize::from(*byte)))
}

fn bytes<'a>(from: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let length = lenenc(from, at)?;
    let found = from.get(*at..at.checked_add(length)?)?;
    *at += length;
    Some(found)
}
