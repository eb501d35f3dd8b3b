//! A login at a CN without the client: by what corelane knows of the user. For a session's second leg, and for a KILL.
//!
//! The client is neither asked nor told; what the CN says in the end is the caller's.

use std::time::Instant;

use super::Worker;
use super::approach::{Approached, Below, Passed, abandon, approach, compress};
use super::leg::Leg;
use crate::net::Origin;
use crate::reactor::Socket;
use crate::route::Cn;
use crate::session::login::{CnAuth, CnLogin, CnLoginError, CnStep};
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
    let Approached { mut leg, mut auth, mut answer } =
        approached.map_err(|Passed { refusal, failure }| {
            if let Some(failure) = failure {
                worker.report_failure(cn.slot, failure);
            }
            NotEntered::Passed(refusal)
        })?;
    loop {
        let packet = match next(&mut auth, &answer) {
            Ok(Turn::Ours(packet)) => packet,
            Ok(Turn::In(status)) => {
                compress(&leg, &auth);
                return Ok(Entered { socket: leg.socket, auth, status });
            }
            Err(refused @ NotEntered::Refused(_)) => return Err(refused),
            Err(error) => {
                abandon(&worker.reactor, leg);
                return Err(error);
            }
        };
        let asked = exchange(&mut leg, packet.as_deref());
        let answered = worker.reactor.until(Instant::now() + limits.cn_timeout, asked).await;
        answer = answered.unwrap_or_else(|| Err(NotEntered::Lost("the login took too long".to_owned())))?;
    }
}

/// Whose turn it is after an answer of the CN's.
enum Turn {
    /// To send this, or only to listen.
    Ours(Option<Vec<u8>>),
    In(Status),
}

fn next(auth: &mut CnAuth, answer: &[u8]) -> Result<Turn, NotEntered> {
    match auth.from_cn(answer)? {
        CnStep::Seated { status, .. } => Ok(Turn::In(Status(status))),
        CnStep::Refused { err, .. } => Err(NotEntered::Refused(err)),
        CnStep::ToCn(packet) => Ok(Turn::Ours(Some(packet))),
        CnStep::Wait => Ok(Turn::Ours(None)),
        CnStep::ToClient { .. } => Err(NotEntered::Asks),
    }
}

async fn exchange(leg: &mut Leg, packet: Option<&[u8]>) -> Result<Vec<u8>, NotEntered> {
    let asked = async {
        if let Some(packet) = packet {
            leg.write(packet).await?;
        }
        leg.read().await
    };
    asked.await.map_err(|error| NotEntered::Lost(error.to_string()))
}
