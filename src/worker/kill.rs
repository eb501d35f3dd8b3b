//! A KILL of a client's, taken to the CN of the session that it names: for MatrixOne's CNs, which know no sessions but their own.
//!
//! The CN judges it: it is asked on a connection of its own, logged in as the client that kills. A session of this worker is known by
//! its card; any other, of another worker or another proxy, is found by asking one CN after the other, as ids are the same
//! everywhere and the wrong CN says that it knows none. The client gets the one answer that counts.

use std::sync::Arc;
use std::time::Instant;

use super::Worker;
use super::approach::{Approached, approach, leave};
use super::leg::Leg;
use super::login::Passport;
use super::roster::Card;
use crate::ident::SessionId;
use crate::route::{Cn, Flavour};
use crate::session::kill::Kill;
use crate::session::login::{CnLogin, CnStep, Credential, Replay};
use crate::session::refusal::Refusal;
use crate::wire::reply::{ERR, ErrPacket};

/// CNs that are asked for one KILL.
const CNS_MAX: usize = 64;

/// MatrixOne's internal error, and how it begins where a CN does not know the session.
const INTERNAL: u16 = 20101;
const UNKNOWN: &[u8] = b"internal error: Unknown connection id";

const QUERY: u8 = 0x03;

/// Carries a KILL out; the payload of what the client is answered.
pub(super) async fn kill(worker: &Worker, card: &Card, kill: &Kill) -> Vec<u8> {
    let (passport, credential) = (card.passport.borrow().clone(), card.standing.borrow().credential());
    let (Some(passport), Some(Credential::Replay(replay))) = (passport, credential) else {
        return bug("a session of MatrixOne's without its login");
    };
    let Ok(replay) = replay.with_id(worker.roster.spare_id().0).map(Arc::new) else {
        return bug("a preamble that cannot be written again");
    };
    let mut last = None;
    for cn in candidates(worker, card, kill) {
        let answer = ask(worker, &cn, &passport, replay.clone(), kill).await;
        match answer {
            Ok(answer) if !is_unknown(&answer) => return answer,
            Ok(answer) => last = Some(answer),
            Err(refusal) => last = last.or_else(|| Some(refusal.packet(passport.login.capabilities))),
        }
    }
    last.unwrap_or_else(|| bug("no CN to ask"))
}

/// The CNs to ask: that of the session if it is known, then the killer's own, then all others.
fn candidates(worker: &Worker, card: &Card, kill: &Kill) -> Vec<Arc<Cn>> {
    let Some(view) = worker.view() else { return Vec::new() };
    let target = worker.roster.card(SessionId(kill.target)).and_then(|card| card.slot());
    let first = [target, card.slot()];
    let rank = |cn: &&Arc<Cn>| first.iter().position(|slot| *slot == Some(cn.slot)).unwrap_or(first.len());
    let mut cns: Vec<_> = view.cns.iter().filter(|cn| cn.flavour == Flavour::Matrixone).collect();
    cns.sort_by_key(rank);
    cns.into_iter().take(CNS_MAX).cloned().collect()
}

async fn ask(
    worker: &Worker,
    cn: &Cn,
    passport: &Passport,
    replay: Arc<Replay>,
    kill: &Kill,
) -> Result<Vec<u8>, Refusal> {
    let limits = worker.login_limits().ok_or(Refusal::ShuttingDown)?;
    let user = passport.identity.cn_user(cn.flavour);
    let login = CnLogin::new(&passport.login, user, Credential::Replay(replay));
    let approached = approach(&worker.reactor, &limits, cn, login).await.map_err(|passed| passed.refusal)?;
    let Approached { leg, mut auth, answer } = approached;
    match auth.from_cn(&answer) {
        Ok(CnStep::Seated { .. }) => {}
        Ok(CnStep::Refused { err, .. }) => return Ok(err),
        Ok(_) => return Err(Refusal::ProxyBug { cause: "a login that asks".to_owned() }),
        Err(cause) => return Err(Refusal::CnLogin { cn: cn.id.to_string(), cause }),
    }
    let mut leg = Leg::new(leg.socket);
    let asked = async {
        leg.write(&[&[QUERY][..], &kill.text].concat()).await?;
        leg.read().await
    };
    let answered = worker.reactor.until(Instant::now() + limits.cn_timeout, asked).await;
    leave(&worker.reactor, leg.socket);
    let lost = |cause: String| Refusal::CnUnreachable {
        cn: cn.id.to_string(),
        address: cn.address.to_string(),
        cause,
    };
    match answered {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(error)) => Err(lost(error.to_string())),
        None => Err(lost(format!("no answer to a KILL within {} ms", limits.cn_timeout.as_millis()))),
    }
}

fn is_unknown(answer: &[u8]) -> bool {
    answer.first() == Some(&ERR)
        && ErrPacket::read(answer).is_ok_and(|err| err.code == INTERNAL && err.message.starts_with(UNKNOWN))
}

fn bug(cause: &str) -> Vec<u8> {
    Refusal::ProxyBug { cause: cause.to_owned() }.packet(Default::default())
}
