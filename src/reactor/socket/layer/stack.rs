//! Two layers as one: what comes off the wire goes through the one below and then through the one above, what is sent the other way.
//!
//! Compression lies above TLS, as it is agreed on in a login that has TLS already. The one above says nothing by itself before the one
//! below is ready, since it is put on later.

use std::any::Any;

use super::Layer;

struct Stack {
    below: Box<dyn Layer>,
    above: Box<dyn Layer>,
    /// What has come through the one below before there was another; it goes through the one above first.
    between: Vec<u8>,
}

/// Puts `above` on a layer that is there, of which `unread` bytes have come that nobody has read.
pub(super) fn put_above(layer: &mut Box<dyn Layer>, above: Box<dyn Layer>, unread: Vec<u8>) {
    let below = std::mem::replace(layer, Box::new(Nothing));
    *layer = Box::new(Stack { below, above, between: unread });
}

/// No layer: what stands in the place of one for the moment in which it is put below another.
struct Nothing;

impl Layer for Nothing {
    fn open(&mut self, _: &[u8], _: usize, _: &mut Vec<u8>, _: &mut Vec<u8>) -> Result<(), String> {
        Ok(())
    }

    fn seal(&mut self, _: &[u8], _: &mut Vec<u8>) -> Result<(), String> {
        Ok(())
    }

    fn close(&mut self, _: &mut Vec<u8>) {}

    fn is_ready(&self) -> bool {
        true
    }

    fn has_ended(&self) -> bool {
        false
    }

    fn parts(&self) -> Vec<&dyn Any> {
        Vec::new()
    }
}

impl Stack {
    /// Sends what the one above gives through the one below.
    fn send_down(&mut self, sealed: &[u8], wire: &mut Vec<u8>) -> Result<(), String> {
        if sealed.is_empty() { Ok(()) } else { self.below.seal(sealed, wire) }
    }
}

impl Layer for Stack {
    fn open(
        &mut self,
        sealed: &[u8],
        room: usize,
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<(), String> {
        let mut between = std::mem::take(&mut self.between);
        let opened = self.below.open(sealed, usize::MAX, &mut between, wire);
        let mut said = Vec::new();
        let above = self.above.open(&between, room, plain, &mut said);
        self.send_down(&said, wire)?;
        opened.and(above)
    }

    fn unread(&mut self, bytes: usize) {
        self.above.unread(bytes);
    }

    fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), String> {
        let mut sealed = Vec::new();
        self.above.seal(plain, &mut sealed)?;
        self.send_down(&sealed, wire)
    }

    fn flush(&mut self, wire: &mut Vec<u8>) -> Result<(), String> {
        let mut sealed = Vec::new();
        self.above.flush(&mut sealed)?;
        self.send_down(&sealed, wire)?;
        self.below.flush(wire)
    }

    fn sent(&mut self) {
        self.above.sent();
        self.below.sent();
    }

    fn close(&mut self, wire: &mut Vec<u8>) {
        let mut sealed = Vec::new();
        self.above.close(&mut sealed);
        // Who cannot be told cannot be taken leave of either.
        let _ = self.send_down(&sealed, wire);
        self.below.close(wire);
    }

    fn is_ready(&self) -> bool {
        self.below.is_ready() && self.above.is_ready()
    }

    fn has_ended(&self) -> bool {
        self.below.has_ended() || self.above.has_ended()
    }

    fn has_more(&self) -> bool {
        self.above.has_more()
    }

    fn parts(&self) -> Vec<&dyn Any> {
        let mut parts = self.below.parts();
        parts.extend(self.above.parts());
        parts
    }
}
