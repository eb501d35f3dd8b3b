//! Protobuf by its bytes, as far as a proxy and a CN exchange it.

use super::TakenPreamble;

/// A field of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

impl Field {
    pub fn text(&self) -> String {
        match self {
            Self::Number(_) => String::new(),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        if let Self::Bytes(bytes) = self { bytes.clone() } else { Vec::new() }
    }

    pub fn number(&self) -> u64 {
        if let Self::Number(number) = self { *number } else { 0 }
    }
}

/// The fields of a message in their order.
pub fn fields(mut bytes: &[u8]) -> Result<Vec<(u64, Field)>, String> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)?),
            2 => {
                let length = varint(&mut bytes)? as usize;
                let (field, rest) = bytes.split_at_checked(length).ok_or("a field that is cut")?;
                bytes = rest;
                Field::Bytes(field.to_vec())
            }
            other => return Err(format!("wire type {other}")),
        };
        fields.push((key >> 3, field));
    }
    Ok(fields)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or("a number that is cut")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number of more than ten bytes".to_owned())
}

pub fn put_number(out: &mut Vec<u8>, tag: u64, value: u64) {
    if value != 0 {
        put_varint(out, tag << 3);
        put_varint(out, value);
    }
}

/// As proto3 writes text: not at all where there is none.
pub fn put_text(out: &mut Vec<u8>, tag: u64, value: &[u8]) {
    if !value.is_empty() {
        put_bytes(out, tag, value);
    }
}

pub fn put_bytes(out: &mut Vec<u8>, tag: u64, value: &[u8]) {
    put_varint(out, tag << 3 | 2);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A preamble, every field of it as MatrixOne's own proxy would have sent it.
pub fn preamble(bytes: &[u8]) -> Result<TakenPreamble, String> {
    let mut taken = TakenPreamble::default();
    let mut last = 0;
    for (tag, field) in fields(bytes)? {
        if tag < last || (tag == last && tag != 4) {
            return Err(format!("field {tag} behind field {last}"));
        }
        last = tag;
        match (tag, &field) {
            (1, Field::Bytes(salt)) if salt.len() == 20 => taken.salt = salt.clone(),
            (2, Field::Number(1)) => taken.internal = true,
            (3, Field::Number(id)) if (1..=u64::from(u32::MAX)).contains(id) => {
                taken.connection_id = *id as u32
            }
            (4, Field::Bytes(entry)) => taken.labels.push(label(entry)?),
            (5, Field::Bytes(_)) => taken.client = field.text(),
            _ => return Err(format!("field {tag}: {field:?}")),
        }
    }
    taken.labels.sort();
    if taken.salt.is_empty() || taken.connection_id == 0 {
        return Err("no salt, or no connection id".to_owned());
    }
    Ok(taken)
}

fn label(entry: &[u8]) -> Result<(String, String), String> {
    match &fields(entry)?[..] {
        [(1, key), (2, value)] => Ok((key.text(), value.text())),
        other => Err(format!("a label of {other:?}")),
    }
}

/// User, answer and schema of a HandshakeResponse41.
pub fn login(packet: &[u8]) -> (String, Vec<u8>, String) {
    let flags = u32::from_le_bytes(packet[..4].try_into().expect("capabilities"));
    let mut rest = &packet[32..];
    let until_zero = |rest: &mut &[u8]| {
        let end = rest.iter().position(|byte| *byte == 0).expect("a zero");
        let text = String::from_utf8_lossy(&rest[..end]).into_owned();
        *rest = &rest[end + 1..];
        text
    };
    let user = until_zero(&mut rest);
    let (answer, after) = rest[1..].split_at(usize::from(rest[0]));
    rest = after;
    let schema = if flags & 8 != 0 { until_zero(&mut rest) } else { String::new() };
    (user, answer.to_vec(), schema)
}
