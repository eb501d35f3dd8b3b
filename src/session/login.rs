//! The two logins of a session, as machines that take a packet and say what comes next.
//!
//! [`client`] is the login of a client at corelane: read what it sent; [`examiner`] checks a known user. [`cn`] is the login of corelane
//! at a CN: with the [`Proof`] that the client's login left behind, in [`Credential::Relay`], where the CN asks the client through
//! corelane, or by a [`Replay`] of the client's own packet, where the CN is one of MatrixOne's. What it leaves behind in turn is a
//! [`Standing`]. [`change`] is both logins again, on the same legs, for a session that wants to be another user. Neither reads a socket,
//! a clock or randomness: the salt comes from outside, and deadlines are the worker's.
//!
//! ```text
//! client               corelane                CN
//!   | <------ greeting -- |                     |
//!   | - login ----------> | ClientLogin::read   |
//!   | <-- known user: --> | Examiner, Question -> Proof
//!   |                     | <------- greeting - | CnLogin::greeting
//!   |                     | - login ----------> |
//!   | <------- relay: switch, data, answers --> | CnAuth::from_cn, CnAuth::from_client
//!   | <------------ OK -- | <------------- OK - | CnStep::Seated
//! ```

pub mod change;
pub mod client;
pub mod cn;
pub mod examiner;
pub mod inspection;
mod interpreter;
mod prover;
pub mod replay;
pub mod standing;

pub use change::Change;
pub use client::ClientLogin;
pub use cn::{ClientChannel, CnAuth, CnLogin, CnLoginError, CnStep, Speaker, Spoken, WantsTls};
pub use examiner::{ClientStep, Examiner, Nonce, Question};
pub use inspection::Inspection;
pub use prover::Channel;
pub use replay::{Replay, Sent};
pub use standing::{Standing, Witness};

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::wire::auth::{NativeKey, native_key};

/// Bytes of the largest packet during a login. Connection attributes may take 64 KiB by themselves.
pub const PACKET_MAX: usize = 128 << 10;

/// Packets of plugin data that a CN may send during one login. PAM asks a question with each.
pub const AUTH_ROUNDS_MAX: u32 = 32;

/// By what corelane logs in to a CN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The client answers the CN's salt itself, through corelane.
    Relay,
    /// Corelane answers it.
    Proof(Proof),
    /// The client has answered a salt, which the CN is told.
    Replay(Arc<Replay>),
}

/// What answers a CN's salt without the client, held of a user who logged in here.
#[derive(Clone, PartialEq, Eq)]
pub struct Proof {
    /// SHA1(password); none for an empty password.
    pub native_key: Option<Zeroizing<NativeKey>>,
    /// The password itself, where the configuration or the client gave it.
    pub password: Option<Secret>,
}

impl Proof {
    pub fn of(password: &Secret) -> Self {
        let native_key = (!password.is_empty()).then(|| Zeroizing::new(native_key(password)));
        Self { native_key, password: Some(password.clone()) }
    }

    pub(in crate::session::login) fn empty() -> Self {
        Self { native_key: None, password: Some(Secret::from("")) }
    }

    /// Whether the password is the empty one.
    pub fn is_empty(&self) -> bool {
        self.native_key.is_none()
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof(..)")
    }
}
