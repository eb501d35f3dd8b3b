//! A login at a CN without the client, or a change of its user: by what corelane knows of the user. For a session's second leg, for a
//! KILL, and for a session that becomes a known user's.
//!
//! The client is neither asked nor told; what the CN says in the end is the caller's.

use std::borrow::Borrow;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::Worker;
use super::approach::{Approached, Below, Passed, abandon, approach, compress};
use super::leg::Leg;
use crate::net::Origin;
use crate::net::tls::Tls;
use crate::reactor::Socket;
use crate::route::{Cn, Target};
use crate::session::login::change::request;
use crate::session::login::{Channel, ClientLogin, CnAuth, CnLogin, CnLoginError, CnStep, Proof, Spoken};
use crate::session::refusal::Refusal;
use crate::wire::reply::ErrPacket;
use crate::wire::status::Status;

/// A leg that a CN has let in.
pub(super) struct Entered {
    pub socket: Socket,
    pub auth: CnAuth,
    pub status: Status,
}

/// Why a CN has not let it in.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotEntered {
    #[error("{0}")]
    Passed(Refusal),
    /// In the CN's words: the payload of its ERR.
    #[error("{}", words(.0))]
    Refused(Vec<u8>),
    #[error("it asks the user, who cannot be asked any more")]
    Asks,
    #[error("{0}")]
    Broken(#[from] CnLoginError),
    #[error("{0}")]
    Lost(String),
}

fn words(err: &[u8]) -> String {
    match ErrPacket::read(err) {
        Ok(err) => format!("{} ({})", String::from_utf8_lossy(err.message), err.code),
        Err(error) => error.to_string(),
    }
}

impl NotEntered {
    /// What a client hears for whom it was: the CN's ERR as it is, or a refusal in our words.
    pub fn heard(self, cn: &Cn) -> Result<Vec<u8>, Refusal> {
        let (id, address) = (cn.id.to_string(), cn.address.to_string());
        Err(match self {
            Self::Passed(refusal) => refusal,
            Self::Refused(err) => return Ok(err),
            Self::Asks => Refusal::ProxyBug { cause: "a login that asks".to_owned() },
            Self::Broken(cause) => Refusal::CnLogin { cn: id, cause },
            Self::Lost(cause) => Refusal::CnUnreachable { cn: id, address, cause },
        })
    }
}

/// Logs in at `cn` for the client at `origin`. A CN that fails before it has heard who comes is reported.
pub(super) async fn enter(
    worker: &Worker,
    cn: &Cn,
    origin: Origin,
    login: CnLogin<'_>,
) -> Result<Entered, NotEntered> {
    let (Some(limits), Some(tls)) = (worker.login_limits(), worker.cn_tls()) else {
        return Err(NotEntered::Passed(Refusal::ShuttingDown));
    };
    let login = login.believing_key(worker.trusts_cn_keys());
    let below = Below { tcp: worker.cn_tcp(), tls: &tls, compression: worker.cn_compression() };
    let approached = approach(&worker.reactor, &limits, below, cn, origin, login).await;
    let Approached { mut leg, mut auth, answer } = approached.map_err(|Passed { refusal, failure }| {
        if let Some(failure) = failure {
            worker.report_failure(cn.slot, failure);
        }
        NotEntered::Passed(refusal)
    })?;
    match authenticate(worker, &mut leg, &mut auth, answer, limits.cn_timeout).await {
        Ok((_, status)) => {
            compress(&leg, &auth);
            Ok(Entered { socket: leg.socket, auth, status })
        }
        Err(error @ (NotEntered::Asks | NotEntered::Broken(_))) => {
            abandon(&worker.reactor, leg);
            Err(error)
        }
        Err(error) => Err(error),
    }
}

/// A CN that has been asked to make a leg another user's, and has said something to that.
pub(super) struct Asked<'a> {
    worker: &'a Worker,
    leg: Leg<&'a Socket>,
    spoken: Spoken,
    pub channel: Channel,
    limit: Duration,
    /// The payload of its first answer, which is a question for the password where all is well.
    pub said: Vec<u8>,
}

impl<'a> Asked<'a> {
    /// Asks it, on a leg that is between two commands, for the user of `login`. `charset` is the whole number of the login's collation.
    pub async fn ask(
        worker: &'a Worker,
        cn: &Cn,
        socket: &'a Socket,
        spoken: Spoken,
        (login, charset): (&ClientLogin, u16),
    ) -> Result<Self, NotEntered> {
        let limits = worker.login_limits().ok_or(NotEntered::Passed(Refusal::ShuttingDown))?;
        let private = socket.layer(|_: &Tls| ()).is_some() || matches!(cn.target, Some(Target::Unix(_)));
        let channel = Channel { private, believes_key: worker.trusts_cn_keys() };
        let request = request(login, charset, spoken.capabilities).map_err(CnLoginError::from)?;
        let (mut leg, limit) = (Leg::new(socket), limits.cn_timeout);
        let asked = exchange(&mut leg, Some(&request));
        let said = worker.reactor.until(Instant::now() + limit, asked).await.unwrap_or_else(too_long)?;
        Ok(Self { worker, leg, spoken, channel, limit, said })
    }

    /// Answers it; its OK.
    pub async fn prove(mut self, proof: Proof) -> Result<(Vec<u8>, Status), NotEntered> {
        let mut auth = CnAuth::changing(proof, self.spoken, self.channel);
        authenticate(self.worker, &mut self.leg, &mut auth, self.said, self.limit).await
    }
}

/// Answers the CN, each time within `limit`, up to its OK, which this gives.
async fn authenticate<S: Borrow<Socket>>(
    worker: &Worker,
    leg: &mut Leg<S>,
    auth: &mut CnAuth,
    mut answer: Vec<u8>,
    limit: Duration,
) -> Result<(Vec<u8>, Status), NotEntered> {
    loop {
        let packet = match auth.from_cn(&answer)? {
            CnStep::Seated { ok, status } => return Ok((ok, Status(status))),
            CnStep::Refused { err, .. } => return Err(NotEntered::Refused(err)),
            CnStep::ToCn(packet) => Some(Zeroizing::new(packet)),
            CnStep::Wait => None,
            CnStep::ToClient { .. } => return Err(NotEntered::Asks),
        };
        let asked = exchange(leg, packet.as_deref().map(|packet| &packet[..]));
        answer = worker.reactor.until(Instant::now() + limit, asked).await.unwrap_or_else(too_long)?;
    }
}

fn too_long<T>() -> Result<T, NotEntered> {
    Err(NotEntered::Lost("the login took too long".to_owned()))
}

async fn exchange<S: Borrow<Socket>>(leg: &mut Leg<S>, packet: Option<&[u8]>) -> Result<Vec<u8>, NotEntered> {
    let asked = async {
        if let Some(packet) = packet {
            leg.write(packet).await?;
        }
        leg.read().await
    };
    asked.await.map_err(|error| NotEntered::Lost(error.to_string()))
}
