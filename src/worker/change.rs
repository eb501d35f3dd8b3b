//! A session that becomes another user's: the I/O of it where corelane knows that user.
//!
//! 1. [`Changing::of`] says whether the client's next command, a COM_CHANGE_USER, is corelane's to answer; if not, it is relayed.
//! 2. [`Changing::run`] asks the CN to make its leg the user's. It may ask for what corelane cannot or may not tell; then it asks the
//!    client, and the rest is relayed.
//! 3. Else the client is examined, by the salt that it was shown last, and the CN told what it has proven. The CN's verdict is the
//!    client's. If it was let in, the session begins anew on both of its connections: with a dialog of its own, as the CN has forgotten
//!    all that it had, and with a passport and a proof by which it can move as that user.
//!
//! Invariants: whoever has not proven to be the user never becomes it, and whom corelane tells no is gone, as MySQL has it. Until the CN has
//! let the user in the card tells of the one before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::Worker;
use super::admission::{self, Newcomer};
use super::enter::{Asked, NotEntered};
use super::examination::{Unproven, examine};
use super::forward::Ending;
use super::leg::{Leg, LegError};
use super::login::{Passport, random};
use super::opening::{LetIn, Opening};
use super::roster::Card;
use crate::mailbox::message::{CnFailure, Picture};
use crate::metrics::EndedBy;
use crate::net::Peer;
use crate::net::compression::Compression;
use crate::net::tls::Tls;
use crate::reactor::Socket;
use crate::route::{Cn, Flavour, Identity};
use crate::session::dialog::Dialog;
use crate::session::face;
use crate::session::hold::Hold;
use crate::session::login::{Change, ClientLogin, Examiner, Nonce, PACKET_MAX, Proof, Spoken, Standing};
use crate::session::refusal::Refusal;
use crate::wire::auth::SWITCH;
use crate::wire::capability::Capabilities;
use crate::wire::change_user::{ChangeUser, NEEDED};
use crate::wire::frame::{self, HEADER, Header};
use crate::wire::greeting::SALT;
use crate::wire::status::Status;

/// A session whose client asks to be another user.
pub(super) struct Changing<'a> {
    pub worker: &'a Worker,
    pub card: &'a Card,
    pub client: &'a Socket,
    pub cn: &'a Cn,
    pub cn_socket: &'a Socket,
    /// What the client and corelane speak.
    pub capabilities: Capabilities,
    pub spoken: Spoken,
    /// What the client was shown last.
    pub salt: &'a mut [u8; SALT],
}

/// Whose it is to answer.
pub(super) enum Answers {
    Corelane,
    /// More of the command has to be seen to tell: so many bytes.
    NotYet(usize),
    Cn,
}

/// What came of it.
pub(super) enum Outcome {
    /// The session is the user's, and goes on with this dialog.
    Changed(Box<Dialog>),
    /// The CN asks what only the client can answer, and the client has been told so: the payload of it. It is the CN's to judge from here.
    Asked { question: Vec<u8>, newcomer: Newcomer },
    /// The CN has refused the user, and the client has been told so: the payload of it. Whether the session goes on as it was the CN
    /// decides: MariaDB's do, MySQL's close it.
    Refused { err: Vec<u8> },
}

/// Why the session has not become the user's.
enum Unchanged {
    /// In corelane's words.
    Refused(Refusal, EndedBy),
    /// In the CN's: the payload of its ERR.
    ByCn(Vec<u8>),
    ClientGone,
}

impl From<Refusal> for Unchanged {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal, EndedBy::Corelane)
    }
}

impl Changing<'_> {
    /// Whose it is to answer a COM_CHANGE_USER that begins with these bytes, for a user of that name.
    pub fn answers(&self, command: &[u8], name: &[u8], picture: &Picture) -> Answers {
        let can = self.cn.flavour == Flavour::Mysql
            && self.capabilities.has(NEEDED)
            && self.spoken.capabilities.has(NEEDED);
        let Some((header, payload)) = command.split_first_chunk::<HEADER>() else { return Answers::Cn };
        let length = Header::read(*header).length as usize;
        if !can || length > PACKET_MAX || !Change::may_concern(name, &picture.users) {
            return Answers::Cn;
        }
        if payload.len() < length {
            return Answers::NotYet(HEADER + length);
        }
        let change = ChangeUser::read(payload, self.capabilities);
        match change.map(|change| Change::of(&change, &picture.users, self.salt)) {
            Ok(Change::Examined(_) | Change::Proven(_)) => Answers::Corelane,
            Ok(Change::Relayed) | Err(_) => Answers::Cn,
        }
    }

    /// Answers the command with this payload, which has been read off the client's leg.
    ///
    /// # Errors
    /// The session has to end; the client has been told why.
    pub async fn run(
        mut self,
        payload: &[u8],
        newcomer: Newcomer,
        picture: &Picture,
    ) -> Result<Outcome, Ending> {
        let mut client = Leg::at(self.client, 1);
        let why = match self.attempt(&mut client, payload, newcomer, picture).await {
            Ok(outcome) => return Ok(outcome),
            Err(why) => why,
        };
        let (err, by) = match why {
            Unchanged::Refused(refusal, by) => {
                let session = self.card.id.0;
                info!(session, client = %self.card.client(), "a change of its user is refused: {refusal}");
                (refusal.packet(self.capabilities), by)
            }
            Unchanged::ByCn(err) => {
                client.write(&err).await.map_err(|_| Ending::ClientGone)?;
                return Ok(Outcome::Refused { err });
            }
            Unchanged::ClientGone => return Err(Ending::ClientGone),
        };
        client.write(&err).await.map_err(|_| Ending::ClientGone)?;
        Err(Ending::Told(by))
    }

    async fn attempt(
        &mut self,
        client: &mut Leg<&Socket>,
        payload: &[u8],
        newcomer: Newcomer,
        picture: &Picture,
    ) -> Result<Outcome, Unchanged> {
        let change = ChangeUser::read(payload, self.capabilities).map_err(Refusal::from)?;
        let login = ClientLogin::changed(&change, self.capabilities);
        let way = Change::of(&change, &picture.users, self.salt);
        let by_table = matches!(way, Change::Proven(_));
        let private = self.card.client() == Peer::Unix || self.client.layer(|_: &Tls| ()).is_some();
        let charset = change.charset;
        let asked = Asked::ask(self.worker, self.cn, self.cn_socket, self.spoken, (&login, charset)).await;
        let asked = asked.map_err(|cause| self.unchanged(cause))?;
        let question = asked.said.clone();
        if !way.can_answer(&question, asked.channel, private) {
            self.tell(client, &question, picture).await?;
            return Ok(Outcome::Asked { question, newcomer });
        }
        let proof = self.prove(client, way, &login, private, picture).await?;
        let let_in = match asked.prove(proof.clone()).await.map_err(|cause| self.unchanged(cause)) {
            Err(refused @ Unchanged::ByCn(_)) if by_table && question.starts_with(&[SWITCH]) => {
                self.ask_in_vain(client, &question, picture).await?;
                return Err(refused);
            }
            let_in => let_in?,
        };
        let (dialog, shown) = self.open(let_in, &login, picture.login.cn_timeout).await?;
        admission::renamed(self.worker, self.card, &newcomer)?;
        self.note(login, charset, proof);
        self.tell(client, &shown, picture).await?;
        Ok(Outcome::Changed(Box::new(dialog)))
    }

    /// Notes on the card as whom the session logs in from now on.
    fn note(&self, login: ClientLogin, charset: u16, proof: Proof) {
        let identity = Identity::of_user(&self.card.bearer.borrow().tenant, &login.user);
        let passport = Passport { login: login.without_answer(), identity, changed: Some(charset) };
        self.card.standing.replace(Standing::Proven(proof));
        self.card.passport.replace(Some(Arc::new(passport)));
    }

    async fn tell(
        &self,
        client: &mut Leg<&Socket>,
        packet: &[u8],
        picture: &Picture,
    ) -> Result<(), Unchanged> {
        match self.worker.reactor.until(deadline(picture), client.write(packet)).await {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => Err(Unchanged::ClientGone),
        }
    }

    /// What the client has proven.
    async fn prove(
        &mut self,
        client: &mut Leg<&Socket>,
        way: Change<'_>,
        login: &ClientLogin,
        private: bool,
        picture: &Picture,
    ) -> Result<Proof, Unchanged> {
        let known = match way {
            Change::Examined(known) => known,
            Change::Proven(proof) => return Ok(proof),
            Change::Relayed => {
                return Err(Refusal::ProxyBug { cause: "a change that is the CN's".to_owned() }.into());
            }
        };
        let (user, host) = (String::from_utf8_lossy(&login.user), self.card.client().host());
        let examiner = Examiner { known, user: &user, host: &host, private, key: picture.key.as_deref() };
        let step = examiner.begin(login, self.salt, &same_salt(self.salt)?);
        examine(self.worker, client, deadline(picture), self.salt, step).await.map_err(|why| match why {
            Unproven::Refused(refusal) => refusal.into(),
            Unproven::Unheard(Some(LegError::Closed | LegError::Broken(_))) | Unproven::Gone => {
                Unchanged::ClientGone
            }
            Unproven::Unheard(Some(error)) => Refusal::HandshakeBad { cause: error.to_string() }.into(),
            Unproven::Unheard(None) => Refusal::LoginTimeout.into(),
        })
    }

    /// Asks a client what the CN has asked, though it has refused the user by now, as it asks everybody: else who tries passwords could
    /// tell one that is in the tables, of an account that is not for its host, from any other.
    async fn ask_in_vain(
        &self,
        client: &mut Leg<&Socket>,
        question: &[u8],
        picture: &Picture,
    ) -> Result<(), Unchanged> {
        self.tell(client, question, picture).await?;
        let heard = self.worker.reactor.until(deadline(picture), client.read()).await;
        heard.and_then(Result::ok).map(drop).ok_or(Unchanged::ClientGone)
    }

    fn unchanged(&self, cause: NotEntered) -> Unchanged {
        match cause {
            NotEntered::Lost(cause) => {
                warn!(cn = &*self.cn.id, "lost during a change of the user: {cause}");
                self.worker.report_failure(self.cn.slot, CnFailure::Lost);
                let (cn, address) = (self.cn.id.to_string(), self.cn.address.to_string());
                let during = "a change of the user";
                Unchanged::Refused(Refusal::CnLost { cn, address, cause, during }, EndedBy::Cn)
            }
            cause => match cause.heard(self.cn) {
                Ok(err) => Unchanged::ByCn(err),
                Err(refusal) => Unchanged::Refused(refusal, EndedBy::Cn),
            },
        }
    }

    /// The dialog of the session that begins here, and the OK for its client.
    async fn open(
        &self,
        (ok, status): (Vec<u8>, Status),
        login: &ClientLogin,
        limit: Duration,
    ) -> Result<(Dialog, Vec<u8>), Unchanged> {
        let opening = Opening {
            worker: self.worker,
            cn: self.cn,
            socket: self.cn_socket,
            spoken: self.spoken,
            client: self.capabilities,
            paced: Compression::is_on(self.client) || Compression::is_on(self.cn_socket),
            limit,
        };
        let hold = self.cn.data.is_none().then_some(Hold::NoDataSet);
        let let_in = LetIn { ok: &ok, status, schema: login.database.as_deref() };
        let opened = opening.dialog(let_in, hold, Hold::ChangedUser).await;
        opened.map_err(|cause| {
            Unchanged::Refused(Refusal::CnTracking { cn: self.cn.id.to_string(), cause }, EndedBy::Cn)
        })
    }
}

/// Until when a client is waited for that is to speak, or to listen, now.
fn deadline(picture: &Picture) -> Instant {
    Instant::now() + picture.login.client_timeout
}

/// What a client is asked by: the salt that it has, as there are some that heed no other one. Servers, too, show the same one again at a
/// change of the user. A longer one has fresh bytes behind it.
fn same_salt(salt: &[u8; SALT]) -> Result<Nonce, Refusal> {
    let mut nonce: Nonce = face::salt(random()?);
    nonce[..SALT].copy_from_slice(salt);
    Ok(nonce)
}

/// An ERR in the place of the reply to a COM_CHANGE_USER of which nothing else was said.
pub(super) fn refused(refusal: &Refusal, capabilities: Capabilities) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::write_packet(&mut bytes, &mut 1, &refusal.packet(capabilities));
    bytes
}
