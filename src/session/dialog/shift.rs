//! A packet of several frames that has grown at its head.
//!
//! Every frame but the last is full, so what was added pushes as many bytes out of each frame into the next one. The frames keep
//! their number and their sequence numbers, by which the CN will number its reply; where one more would be needed, the packet
//! cannot be sent.

use super::scanner::{FULL, HEADER, read_header};
use crate::wire;
use crate::wire::frame::Header;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift {
    /// Bytes that were added.
    by: usize,
    /// Bytes of the client's that still belong to the present frame.
    pub left: usize,
}

impl Shift {
    /// `first` are the bytes that the first frame has in the place of its head; `by` of them were added.
    pub(super) fn new(by: usize, first: usize) -> Self {
        Self { by, left: FULL as usize - first }
    }

    /// Bytes of the client's from which the head of the next frame is made: the last ones of a frame, and the next header.
    pub fn head(self) -> usize {
        self.by + HEADER
    }

    /// The head of the next frame, and how it goes on if it is not the last one. Then its own bytes follow as they are.
    ///
    /// # Errors
    /// The last frame would be full, and another one be needed.
    pub fn next(self, head: &[u8]) -> Result<(Vec<u8>, Option<Self>), wire::Error> {
        let (pushed, header) = head.split_at(self.by);
        let (length, sequence) = read_header(header);
        let grown = length as usize + self.by;
        if length != FULL && grown >= FULL as usize {
            let (field, limit) = ("the last frame of an execution", FULL as usize - 1);
            return Err(wire::Error::TooLarge { field, limit, found: grown });
        }
        let mut bytes = Vec::with_capacity(head.len());
        Header { length: grown.min(FULL as usize) as u32, sequence }.write(&mut bytes);
        bytes.extend_from_slice(pushed);
        let goes_on = (length == FULL).then(|| Self { left: FULL as usize - self.by, ..self });
        Ok((bytes, goes_on))
    }
}
