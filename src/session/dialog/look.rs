//! One look at the unread bytes of a leg: how far it came, what it brought, and what has to be done before they go on.
//!
//! A look begins at the first unread byte. All offsets count from there. Bytes that were taken have been followed, and
//! the relay must forward them before it looks again; the others will be shown again.

use super::{ClientNews, CnNews, Shift};

#[derive(Debug, Default)]
pub struct Look {
    /// Bytes that may go on now.
    pub taken: usize,
    /// To be done to them before.
    pub patches: Vec<Patch>,
    /// Why it ends where it ends; none at the end of what there is.
    pub stop: Option<Stop>,
    pub client: ClientNews,
    pub cn: CnNews,
}

/// Statement ids that mean something else on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patch {
    pub at: usize,
    pub bytes: [u8; 4],
}

/// What cannot go as it is; it is what is unread next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// An execution that counts on parameter types which this CN was not told: `head` bytes of the frame are to be
    /// replaced, see [`super::Dialog::execute`].
    Execute { head: usize },
    /// The rest of an execution that has grown beyond its frame: each of the others begins with bytes of the one before it.
    Shifted(Shift),
    /// A command when [`PIPELINE_MAX`](super::PIPELINE_MAX) of them are in flight, or one that changes what the CN tells of the
    /// session: it waits for replies.
    Full,
    /// What may concern corelane, and has to be seen for `length` bytes with its header: a KILL, which may have to go to another CN, or
    /// the name in a COM_CHANGE_USER.
    Concern { length: usize },
    /// The dialog gave up, and statement ids are not those of the CN: the session has to end here.
    Lost,
    /// An OK with session state changes, which is `length` bytes long with its header, see [`super::Dialog::changed`].
    Changed { length: usize },
}
