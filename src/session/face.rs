//! How corelane presents itself in its greeting: version, capabilities, character set.
//!
//! A client should see what it would see of its CN. As corelane greets before it knows which CN the
//! session goes to, the face is what all CNs have in common.

use crate::wire::capability::Capabilities;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Face {
    /// The server version string, at most 255 bytes.
    pub version: String,
    pub capabilities: Capabilities,
    /// The default collation id.
    pub charset: u8,
}
