//! The query service of a scripted CN: frames by their bytes, and the three questions that a proxy has.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use twox_hash::XxHash64;

use super::proto::{Field, fields, put_bytes, put_number, put_text};
use super::{Fault, House};

const VERSION: u64 = 10;
const EXPORT: u64 = 20;
const IMPORT: u64 = 21;

impl House {
    pub fn answer_queries(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        if self.is(Fault::QueryServiceDies) {
            return Ok(());
        }
        loop {
            let mut length = [0; 4];
            stream.read_exact(&mut length)?;
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut frame)?;
            let Some(request) = self.request(&frame) else { return Ok(()) };
            let Some(response) = self.respond(&request) else { return Ok(()) };
            stream.write_all(&framed(&response))?;
        }
    }

    /// The fields of a request. What a real CN would break by is odd, and ends the connection.
    fn request(&self, frame: &[u8]) -> Option<Vec<(u64, Field)>> {
        let body = frame.get(42..).unwrap_or_default();
        let checksum = frame.get(1..9).is_some_and(|sum| sum == XxHash64::oneshot(0, body).to_be_bytes());
        let left = frame.get(9..17).map(|left| i64::from_be_bytes(left.try_into().expect("8 bytes")));
        let well = frame[0] == 6 && checksum && left.is_some_and(|left| left > 0) && frame[17] == 24;
        match fields(body) {
            Ok(request) if well => Some(request),
            other => {
                self.look(|seen| seen.odd.push(format!("query service: {frame:?} {other:?}")));
                None
            }
        }
    }

    fn respond(&self, request: &[(u64, Field)]) -> Option<Vec<u8>> {
        let find = |tag| request.iter().find(|(found, _)| *found == tag).map(|(_, field)| field.clone());
        let number = |tag| find(tag).map_or(0, |field| field.number());
        let (id, method) = (number(1), number(2));
        let mut out = Vec::new();
        put_number(&mut out, 1, id);
        put_number(&mut out, 2, method);
        match method {
            VERSION => {
                let mut version = Vec::new();
                put_number(&mut version, 1, self.version.load(Ordering::SeqCst) as u64);
                put_bytes(&mut out, 13, &version);
            }
            EXPORT => self.export(&find(23)?.bytes(), &mut out)?,
            IMPORT => self.import(&find(24)?.bytes(), &mut out)?,
            other => failure(&mut out, 20105, &format!("{other} not supported")),
        }
        // MatrixOne writes these whatever is asked.
        for tag in [27, 29, 30, 31] {
            put_bytes(&mut out, tag, b"");
        }
        Some(out)
    }

    /// None where the connection ends.
    fn export(&self, request: &[u8], out: &mut Vec<u8>) -> Option<()> {
        if self.is(Fault::ExportDies) {
            return None;
        }
        if self.is(Fault::ExportIsSilent) {
            std::thread::sleep(Duration::from_secs(20));
        }
        let at_once = 1 + self.exporting.fetch_add(1, Ordering::SeqCst);
        self.look(|seen| seen.exports_at_once = seen.exports_at_once.max(at_once));
        std::thread::sleep(Duration::from_millis(self.export_ms.load(Ordering::SeqCst)));
        self.exporting.fetch_sub(1, Ordering::SeqCst);
        let id = fields(request).ok()?.first().map_or(0, |(_, id)| id.number()) as u32;
        let session = self.look(|seen| seen.sessions.get(&id).cloned());
        let Some(session) = session.filter(|_| !self.is(Fault::ExportFails)) else {
            failure(out, 20101, &format!("internal error: cannot get routine to migrate connection {id}"));
            put_bytes(out, 23, b"");
            return Some(());
        };
        self.look(|seen| seen.exported.push(id));
        let mut exported = Vec::new();
        put_text(&mut exported, 1, session.schema.as_bytes());
        for (name, (text, types)) in &session.prepared {
            let mut statement = Vec::new();
            put_bytes(&mut statement, 1, name.as_bytes());
            put_bytes(&mut statement, 2, text.as_bytes());
            put_text(&mut statement, 3, types);
            put_bytes(&mut exported, 2, &statement);
        }
        if self.is(Fault::ExportTellsMore) {
            put_number(&mut exported, 3, 1);
        }
        put_bytes(out, 23, &exported);
        Some(())
    }

    fn import(&self, request: &[u8], out: &mut Vec<u8>) -> Option<()> {
        if self.is(Fault::ImportDies) {
            return None;
        }
        if self.is(Fault::ImportIsSilent) {
            std::thread::sleep(Duration::from_secs(20));
        }
        let request = fields(request).ok()?;
        let id = request.iter().find(|(tag, _)| *tag == 1).map_or(0, |(_, id)| id.number()) as u32;
        if self.is(Fault::ImportFails) {
            failure(out, 20303, "internal error: cannot prepare");
            return Some(());
        }
        let loses = self.is(Fault::LosesSchema);
        let found = self.look(|seen| {
            let session = seen.sessions.get_mut(&id)?;
            if !std::mem::replace(&mut session.imported, true) {
                for (tag, field) in &request {
                    match tag {
                        2 if !loses => session.schema = field.text(),
                        4 => session.take_statement(&fields(&field.bytes()).ok()?),
                        _ => {}
                    }
                }
            }
            seen.imported.push(id);
            Some(())
        });
        if found.is_none() {
            failure(out, 20101, &format!("internal error: cannot get routine to migrate connection {id}"));
            return Some(());
        }
        let mut done = Vec::new();
        put_number(&mut done, 1, u64::from(!self.is(Fault::ImportDoesNothing)));
        put_bytes(out, 24, &done);
        Some(())
    }
}

fn failure(out: &mut Vec<u8>, code: u64, message: &str) {
    let mut error = Vec::new();
    put_number(&mut error, 1, code);
    put_number(&mut error, 2, 1105);
    put_bytes(&mut error, 3, message.as_bytes());
    put_bytes(&mut error, 4, b"HY000");
    put_bytes(out, 3, &error);
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = (42 + body.len() as u32).to_be_bytes().to_vec();
    frame.push(6);
    frame.extend_from_slice(&XxHash64::oneshot(0, body).to_be_bytes());
    frame.extend_from_slice(&1_000_000_000i64.to_be_bytes());
    frame.push(24);
    frame.extend_from_slice(&[0; 24]);
    frame.extend_from_slice(body);
    frame
}
