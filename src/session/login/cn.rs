//! The login of corelane at a CN, for a client that it has already heard.
//!
//! In relay mode corelane names a plugin that no server has. The server then sends an AuthSwitchRequest with
//! the account's real plugin and its own salt, also for accounts without a password and for users that do
//! not exist; that goes to the client, and the client's answer back, for as many rounds as the plugin takes.
//! With a [`Proof`](super::Proof) corelane answers by itself, as its [`Prover`] can. With a [`Replay`](super::Replay) it says again what
//! the client has said, as the CN was told to which salt.
//!
//! One thing of a relayed login does not pass as it is: the password itself, by the full path of `caching_sha2_password`, where one of
//! the two legs is private and the other is not. The client sends it as its own leg allows, and the [`Interpreter`] hands it on as the
//! CN's does. Where a CN's table has a hash of `caching_sha2_password` of the user, that password is wanted
//! ([`CnLogin::known_by`]), so that corelane can log the user in again; what was heard of it is the login's [`Witness`].

use std::sync::Arc;

use super::interpreter::{Heard, Interpreter};
use super::prover::{Channel, Prover, native_answer};
use super::{AUTH_ROUNDS_MAX, ClientLogin, Credential, Proof, Standing, Witness};
use crate::session::user::Sha2Secret;
use crate::wire;
use crate::wire::auth::rsa::{RsaError, ServerKey};
use crate::wire::auth::{AuthSwitchRequest, CACHING_SHA2, MORE_DATA, NATIVE, Plugin, SHA2_FAST_OK, SWITCH};
use crate::wire::capability::Capabilities;
use crate::wire::compressed::codec::Packing;
use crate::wire::greeting::{Greeting, Hello, SALT};
use crate::wire::login::HandshakeResponse;
use crate::wire::reply::{ERR, ErrPacket, OK, OkPacket};

/// The plugin that no server has.
pub(super) const RELAY_PLUGIN: &str = "corelane_relay";
/// Its data: something, because a server may take nothing for an empty password.
const RELAY_DATA: &[u8] = b"x";

/// Why a login at a CN came to no answer of the CN's own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CnLoginError {
    #[error("it sent what cannot be read: {0}")]
    Wire(#[from] wire::Error),
    /// An ERR in place of a greeting: another CN may be willing.
    #[error("it does not serve: {message} ({code})")]
    Unwilling { code: u16, sqlstate: Option<[u8; 5]>, message: String },
    #[error("it has not taken the preamble of a proxy (is proxy-enabled set in its [cn.frontend]?)")]
    NoPreamble,
    #[error(
        "it takes no PROXY protocol header from corelane, which [[cn]] proxy_protocol has it sent: {said}"
    )]
    NoHeader { said: String },
    #[error("it offers no TLS, which [[cn]] tls or [cn_tls] asks for")]
    NoTls,
    #[error("it asks for the password in clear text, and the connection to it has no TLS ([cn_tls])")]
    Unprotected,
    #[error(
        "it asks for the password, and the connection to it has no TLS ([cn_tls]), nor may the public key that it shows be believed \
         ([auth] trust_cn_keys)"
    )]
    NoKey,
    /// The client would take it for data of the plugin that it has named, which may be one that sends the password as it is.
    #[error("it sent data of a plugin before it asked for one")]
    NotAsked,
    #[error("its public key cannot be used: {0}")]
    BadKey(RsaError),
    #[error("it lacks {capability}, which the client was promised")]
    Lacks { capability: &'static str },
    #[error("its plugin {plugin} wants more than is known of the user")]
    CannotProve { plugin: String },
    #[error("more than {AUTH_ROUNDS_MAX} rounds of authentication")]
    TooManyRounds,
    #[error("a packet of the client's while the CN was to speak")]
    OutOfTurn,
}

/// How a CN speaks on a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spoken {
    pub capabilities: Capabilities,
    /// The CN is a MariaDB.
    pub mariadb: bool,
}

/// A login that waits for the CN's greeting.
#[derive(Debug)]
pub struct CnLogin<'a> {
    login: &'a ClientLogin,
    user: &'a [u8],
    credential: Credential,
    /// Session tracking is asked for, whether the client knows it or not.
    tracked: bool,
    tls: WantsTls,
    client: ClientChannel,
    /// The public key that the CN shows may be believed.
    believes_key: bool,
    /// Nobody can read along on this leg even without TLS.
    local: bool,
    compression: Option<Packing>,
    /// Of a user who logs in by relay.
    secrets: Arc<[Arc<Sha2Secret>]>,
}

/// How the client speaks with corelane.
#[derive(Clone, Debug, Default)]
pub struct ClientChannel {
    pub has_tls: bool,
    /// It is on this machine, by a Unix socket.
    pub local: bool,
    /// By which it can encrypt its password.
    pub key: Option<Arc<ServerKey>>,
}

/// Whether TLS is wanted on a leg to a CN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WantsTls {
    #[default]
    No,
    IfOffered,
    Yes,
}

impl<'a> CnLogin<'a> {
    /// `user` is the name as the CN knows it, without tenant and labels.
    pub fn new(login: &'a ClientLogin, user: &'a [u8], credential: Credential) -> Self {
        Self {
            login,
            user,
            credential,
            tracked: false,
            tls: WantsTls::No,
            client: ClientChannel::default(),
            believes_key: false,
            local: false,
            compression: None,
            secrets: Arc::default(),
        }
    }

    /// Lets the CN report changes of the session's state, also for a client that did not ask for it.
    pub fn tracked(self, tracked: bool) -> Self {
        Self { tracked, ..self }
    }

    /// How the client speaks with corelane, which a relayed login has to know.
    pub fn for_client(self, client: ClientChannel) -> Self {
        Self { client, ..self }
    }

    /// Whether the public key that the CN shows may be believed.
    pub fn believing_key(self, believes_key: bool) -> Self {
        Self { believes_key, ..self }
    }

    /// What is wanted of the leg; `local` is one within this machine.
    pub fn secured(self, tls: WantsTls, local: bool) -> Self {
        Self { tls, local, ..self }
    }

    /// By what the leg is to be compressed if the CN offers it.
    pub fn compressed(self, compression: Option<Packing>) -> Self {
        Self { compression, ..self }
    }

    /// The hashes of `caching_sha2_password` that CNs' tables have of the user: the password that they are of is wanted, if it is
    /// not known yet.
    pub fn known_by(self, secrets: Arc<[Arc<Sha2Secret>]>) -> Self {
        Self { secrets, ..self }
    }

    /// Whether corelane answers for the client, which then hears nothing before the CN's verdict.
    pub fn has_proof(&self) -> bool {
        matches!(self.credential, Credential::Proof(_) | Credential::Replay(_))
    }

    /// What to send the CN before it greets.
    pub fn preamble(&self) -> Option<&[u8]> {
        match &self.credential {
            Credential::Replay(replay) => Some(replay.preamble()),
            Credential::Relay | Credential::Proof(_) => None,
        }
    }

    /// Takes the CN's greeting and gives the payload to answer it with.
    ///
    /// # Errors
    /// [`CnLoginError::Unwilling`], [`CnLoginError::Lacks`] and [`CnLoginError::Wire`]: in each case the CN
    /// has not seen anything of the client, so another one may be tried.
    pub fn greeting(self, payload: &[u8]) -> Result<(Vec<u8>, CnAuth), CnLoginError> {
        let greeting = match Hello::read(payload)? {
            Hello::Greeting(greeting) => greeting,
            Hello::Unwilling(err) => return Err(unwilling(&err)),
        };
        if let Credential::Replay(replay) = &self.credential
            && !replay.is_taken(&greeting)
        {
            return Err(CnLoginError::NoPreamble);
        }
        self.promises_kept(greeting.capabilities)?;
        let has_tls = match (self.tls, greeting.capabilities.has(Capabilities::SSL)) {
            (WantsTls::No, _) | (WantsTls::IfOffered, false) => false,
            (WantsTls::IfOffered | WantsTls::Yes, true) => true,
            (WantsTls::Yes, false) => return Err(CnLoginError::NoTls),
        };
        let tracking = if self.tracked { Capabilities::SESSION_TRACK } else { Capabilities::default() };
        let capabilities = ((self.login.capabilities | tracking) & greeting.capabilities)
            | (self.login.capabilities & Capabilities::LONG_PASSWORD);
        let tls = if has_tls { Capabilities::SSL } else { Capabilities::default() };
        let flag = |packing: &Packing| Capabilities::of_compression(packing.algorithm);
        let compression = self.compression.filter(|packing| greeting.capabilities.has(flag(packing)));
        let compressed = compression.as_ref().map(flag).unwrap_or_default();
        let response = self.response(&greeting, capabilities | tls | compressed)?;
        let plugin = match self.credential {
            Credential::Relay => RELAY_PLUGIN,
            Credential::Proof(_) | Credential::Replay(_) => NATIVE,
        };
        let auth = CnAuth {
            capabilities,
            connection_id: greeting.connection_id,
            mariadb: !greeting.capabilities.has(Capabilities::LONG_PASSWORD),
            credential: self.credential,
            plugin: plugin.to_owned(),
            rounds: 0,
            speaker: Speaker::Cn,
            asked: None,
            witness: None,
            has_tls,
            compression,
            exposes: (self.client.has_tls || self.client.local) && !has_tls && !self.local,
            channel: Channel { private: has_tls || self.local, believes_key: self.believes_key },
            prover: Prover::default(),
            interpreter: Interpreter::new(self.client, !self.secrets.is_empty()),
            secrets: self.secrets,
        };
        Ok((response, auth))
    }

    fn response(&self, greeting: &Greeting<'_>, capabilities: Capabilities) -> Result<Vec<u8>, CnLoginError> {
        let scramble;
        let (plugin, auth) = match &self.credential {
            Credential::Relay => (RELAY_PLUGIN, RELAY_DATA),
            Credential::Proof(proof) => {
                scramble = native_answer(proof, &greeting.salt);
                (NATIVE, &scramble[..])
            }
            Credential::Replay(replay) => return Ok(replay.login().to_vec()),
        };
        let response = HandshakeResponse {
            capabilities,
            max_packet: self.login.max_packet,
            charset: self.login.charset,
            user: self.user,
            auth,
            database: self.login.database.as_deref(),
            plugin: Some(plugin.as_bytes()),
            attributes: self.login.attributes(),
            zstd_level: self.compression.map(|packing| packing.level),
        };
        let mut payload = Vec::with_capacity(256);
        response.write(&mut payload)?;
        Ok(payload)
    }

    /// Looks for what the client was promised, and counts on, but this CN does not do.
    fn promises_kept(&self, cn: Capabilities) -> Result<(), CnLoginError> {
        let relay =
            (self.credential == Credential::Relay).then_some((Capabilities::PLUGIN_AUTH, "PLUGIN_AUTH"));
        let promised = PROMISES.into_iter().chain(relay);
        for (flag, capability) in promised {
            if self.login.capabilities.has(flag) && !cn.has(flag) {
                return Err(CnLoginError::Lacks { capability });
            }
        }
        Ok(())
    }
}

/// Who sends the next packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    Client,
    Cn,
}

/// What to do with a packet, as payloads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum CnStep {
    /// Pass it to the client, then listen to `next`.
    ToClient { packet: Vec<u8>, next: Speaker },
    /// Send it to the CN, then listen to the CN.
    ToCn(Vec<u8>),
    /// Nothing to send: the CN goes on by itself.
    Wait,
    /// Logged in. The OK is for the client, as it is.
    Seated { ok: Vec<u8>, status: u16 },
    /// The CN's ERR, for the client as it is.
    Refused { err: Vec<u8>, code: u16 },
}

/// A login that the CN has been sent, until its OK or ERR.
#[derive(Debug)]
pub struct CnAuth {
    /// What the CN leg speaks.
    pub capabilities: Capabilities,
    /// The CN's own id of the connection, which a KILL has to name; none, 0, where its leg is as old as its session.
    pub connection_id: u32,
    /// The CN is a MariaDB.
    pub mariadb: bool,
    credential: Credential,
    plugin: String,
    /// Packets of the CN's so far.
    rounds: u32,
    speaker: Speaker,
    /// The salt, if the client has just been asked for an answer to it by one of these plugins that leave a witness.
    asked: Option<(Plugin, [u8; SALT])>,
    /// That answer, as long as the CN has not asked for anything more.
    witness: Option<Witness>,
    secrets: Arc<[Arc<Sha2Secret>]>,
    has_tls: bool,
    /// By what the leg is compressed once the CN has let it in.
    pub compression: Option<Packing>,
    /// What the client says in private, through TLS or a Unix socket, would be heard on this leg.
    exposes: bool,
    channel: Channel,
    prover: Prover,
    interpreter: Interpreter,
}

impl CnAuth {
    /// The authentication of a leg that is to be another user's from now on, of whom corelane has this proof. The CN has been asked for
    /// that by [`request`](super::change::request).
    pub fn changing(proof: Proof, spoken: Spoken, channel: Channel) -> Self {
        Self {
            capabilities: spoken.capabilities,
            connection_id: 0,
            mariadb: spoken.mariadb,
            credential: Credential::Proof(proof),
            plugin: RELAY_PLUGIN.to_owned(),
            rounds: 0,
            speaker: Speaker::Cn,
            asked: None,
            witness: None,
            secrets: Arc::default(),
            has_tls: false,
            compression: None,
            exposes: false,
            channel,
            prover: Prover::default(),
            interpreter: Interpreter::new(ClientChannel::default(), false),
        }
    }

    pub fn spoken(&self) -> Spoken {
        Spoken { capabilities: self.capabilities, mariadb: self.mariadb }
    }

    /// Whether TLS begins on this leg before the login packet is sent, behind its first [`TLS_REQUEST`] bytes.
    pub fn has_tls(&self) -> bool {
        self.has_tls
    }

    /// Takes a packet of the CN's.
    ///
    /// # Errors
    /// The login cannot go on, and the leg has to be closed.
    pub fn from_cn(&mut self, payload: &[u8]) -> Result<CnStep, CnLoginError> {
        self.rounds += 1;
        if self.rounds > AUTH_ROUNDS_MAX {
            return Err(CnLoginError::TooManyRounds);
        }
        let witness = self.witness.take();
        match payload.first() {
            Some(&OK) => {
                let status = OkPacket::status_of(payload)?;
                self.witness = witness;
                Ok(CnStep::Seated { ok: payload.to_vec(), status })
            }
            Some(&ERR) => {
                let code = ErrPacket::read(payload)?.code;
                Ok(CnStep::Refused { err: payload.to_vec(), code })
            }
            Some(&SWITCH) => self.switch(payload),
            Some(_) | None => self.data(payload, witness),
        }
    }

    /// Takes a packet of the client's, in relay mode.
    ///
    /// # Errors
    /// [`CnLoginError::OutOfTurn`] when it was for the CN to speak.
    pub fn from_client(&mut self, payload: &[u8]) -> Result<CnStep, CnLoginError> {
        if self.speaker != Speaker::Client {
            return Err(CnLoginError::OutOfTurn);
        }
        self.speaker = Speaker::Cn;
        match self.asked.take() {
            Some((Plugin::Native, salt)) => self.witness = Witness::native(salt, payload),
            Some((_, salt)) => self.witness = Witness::sha2(salt, payload),
            None => {}
        }
        match self.interpreter.client_says(payload) {
            Heard::Pass => Ok(CnStep::ToCn(payload.to_vec())),
            Heard::ToCn(packet) => Ok(CnStep::ToCn(packet)),
            Heard::ToClient(packet) => Ok(self.ask_client(&packet, Speaker::Client)),
            Heard::Enough => Ok(CnStep::Wait),
        }
    }

    /// What the login leaves behind, once the CN has let it in.
    pub fn standing(self) -> Standing {
        match (self.credential, self.witness, self.interpreter.heard()) {
            (Credential::Proof(proof), ..) => Standing::Proven(proof),
            (Credential::Replay(replay), ..) => Standing::Replayed(replay),
            // The CN has taken the answer, so a password that this is not made of is not the user's.
            (Credential::Relay, Some(witness), Some(password)) if !witness.is_of(password) => {
                Standing::Witnessed(witness)
            }
            (Credential::Relay, _, Some(password)) => {
                Standing::Witnessed(Witness::Password(password.clone()))
            }
            (Credential::Relay, Some(witness), None) => Standing::Witnessed(witness),
            (Credential::Relay, None, None) => Standing::Unknown,
        }
    }

    fn switch(&mut self, payload: &[u8]) -> Result<CnStep, CnLoginError> {
        let request = AuthSwitchRequest::read(payload)?;
        self.plugin = String::from_utf8_lossy(request.plugin).into_owned();
        let proof = match &self.credential {
            Credential::Relay if self.exposes && IN_CLEAR.contains(&self.plugin.as_str()) => {
                return Err(CnLoginError::Unprotected);
            }
            Credential::Relay => {
                // Without a salt the password could not be kept from those who may read along.
                if self.plugin == CACHING_SHA2 {
                    request.salt::<SALT>()?;
                }
                let plugin = Plugin::named(request.plugin).filter(|plugin| match plugin {
                    Plugin::Native => true,
                    Plugin::CachingSha2 => !self.secrets.is_empty(),
                    Plugin::Ed25519 | Plugin::Clear => false,
                });
                self.asked = plugin.zip(request.salt().ok());
                self.interpreter.switch(&request);
                return Ok(self.ask_client(payload, Speaker::Client));
            }
            Credential::Replay(_) => return Err(self.cannot_prove()),
            Credential::Proof(proof) => proof,
        };
        self.prover.switch(proof, &request, self.channel)
    }

    /// Data of the plugin, with the byte before it or, from MariaDB, without.
    fn data(&mut self, payload: &[u8], witness: Option<Witness>) -> Result<CnStep, CnLoginError> {
        let sha2 = self.plugin == CACHING_SHA2;
        let said = if sha2 { payload.strip_prefix(&[MORE_DATA]).unwrap_or(payload) } else { &[] };
        match &self.credential {
            Credential::Relay if self.plugin == RELAY_PLUGIN => Err(CnLoginError::NotAsked),
            Credential::Relay if said == [SHA2_FAST_OK] && witness.is_some() => {
                let is_known = witness.as_ref().and_then(|witness| witness.known_by(&self.secrets)).is_some();
                self.witness = witness;
                let asks = if is_known { None } else { self.interpreter.ask_too() };
                Ok(match asks {
                    Some(question) => self.ask_client(&question, Speaker::Client),
                    None => self.ask_client(payload, Speaker::Cn),
                })
            }
            Credential::Relay => match self.interpreter.cn_says(said, self.channel)? {
                Heard::Pass | Heard::ToClient(_) | Heard::Enough => {
                    let next = if said == [SHA2_FAST_OK] { Speaker::Cn } else { Speaker::Client };
                    Ok(self.ask_client(payload, next))
                }
                Heard::ToCn(packet) => Ok(CnStep::ToCn(packet)),
            },
            Credential::Proof(proof) => self.prover.data(proof, said, self.channel),
            Credential::Replay(_) => Err(self.cannot_prove()),
        }
    }

    fn ask_client(&mut self, payload: &[u8], next: Speaker) -> CnStep {
        self.speaker = next;
        CnStep::ToClient { packet: payload.to_vec(), next }
    }

    fn cannot_prove(&self) -> CnLoginError {
        CnLoginError::CannotProve { plugin: self.plugin.clone() }
    }
}

/// All of [`PROMISES`].
pub(super) const PROMISED: Capabilities = {
    let (mut all, mut at) = (0, 0);
    while at < PROMISES.len() {
        all |= PROMISES[at].0.0;
        at += 1;
    }
    Capabilities(all)
};

/// Plugins by which a client that nobody can overhear sends its password as it is, or a token that is as good. `dialog` is MariaDB's for
/// PAM.
const IN_CLEAR: [&str; 4] =
    ["mysql_clear_password", "sha256_password", "dialog", "authentication_openid_connect_client"];

/// What changes the form of packets, or which commands a client sends.
const PROMISES: [(Capabilities, &str); 9] = [
    (Capabilities::PROTOCOL_41, "PROTOCOL_41"),
    (Capabilities::SESSION_TRACK, "SESSION_TRACK"),
    (Capabilities::DEPRECATE_EOF, "DEPRECATE_EOF"),
    (Capabilities::OPTIONAL_RESULTSET_METADATA, "OPTIONAL_RESULTSET_METADATA"),
    (Capabilities::QUERY_ATTRIBUTES, "QUERY_ATTRIBUTES"),
    (Capabilities::MARIADB_STMT_BULK_OPERATIONS, "MARIADB_STMT_BULK_OPERATIONS"),
    (Capabilities::MARIADB_EXTENDED_METADATA, "MARIADB_EXTENDED_METADATA"),
    (Capabilities::MARIADB_CACHE_METADATA, "MARIADB_CACHE_METADATA"),
    (Capabilities::MARIADB_BULK_UNIT_RESULTS, "MARIADB_BULK_UNIT_RESULTS"),
];

fn unwilling(err: &ErrPacket<'_>) -> CnLoginError {
    let message = String::from_utf8_lossy(err.message).into_owned();
    CnLoginError::Unwilling { code: err.code, sqlstate: err.sqlstate, message }
}

#[cfg(test)]
mod tests;
