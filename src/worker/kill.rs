//! A KILL of a client's, taken to the CN of the session that it names: for MatrixOne's CNs, which know no sessions but their own.
//!
//! The CN judges it: it is asked on a connection of its own, logged in as the client that kills. A session of this worker is known by
//! its card, and its CN alone is asked. Any other, of another worker or another proxy, is found by asking all CNs, as ids are the same
//! everywhere and the wrong CN says that it knows none. All of them, because a session that is about to move has a second
//! connection of its id at the CN where it goes. The client gets the one answer that counts, with the status of its own session.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Worker;
use super::approach::leave;
use super::enter::{Entered, NotEntered, enter};
use super::leg::Leg;
use super::login::Passport;
use super::roster::Card;
use crate::ident::SessionId;
use crate::route::{Cn, Flavour};
use crate::session::kill::{Kill, Verdict};
use crate::session::login::{CnLogin, Credential, Replay};
use crate::session::refusal::Refusal;
use crate::wire::reply::OK;
use crate::wire::status::Status;

/// CNs that are asked for one KILL, and how long all of them may take.
const CNS_MAX: usize = 64;
const KILL_LIMIT: Duration = Duration::from_secs(10);

const QUERY: u8 = 0x03;

/// Carries a KILL out; the payload of what the client is answered.
pub(super) async fn kill(worker: &Worker, card: &Card, kill: &Kill, status: Status) -> Vec<u8> {
    let asked = worker.reactor.until(Instant::now() + KILL_LIMIT, ask_all(worker, card, kill)).await;
    let late = || {
        let spoken = card.passport.borrow().as_ref().map(|passport| passport.login.capabilities);
        let last = format!("no answer to a KILL within {} s", KILL_LIMIT.as_secs());
        Refusal::AllBusy { last }.packet(spoken.unwrap_or_default())
    };
    let answer = asked.unwrap_or_else(late);
    if answer.first() != Some(&OK) {
        return answer;
    }
    done(status)
}

/// The OK that a client is answered, with the status of its own session: that of the other connection would tell of another one.
pub(super) fn done(status: Status) -> Vec<u8> {
    let [low, high] = (status - Status::MORE_RESULTS_EXISTS).0.to_le_bytes();
    vec![OK, 0, 0, low, high, 0, 0]
}

/// Ends a session's own connection at its CN: the session has left it with a statement under way.
pub(super) async fn kill_own(worker: &Worker, card: &Card, cn: &Cn) -> Result<(), String> {
    let (passport, credential) = (card.passport.borrow().clone(), card.standing.borrow().credential());
    let (Some(passport), Some(Credential::Replay(replay))) = (passport, credential) else {
        return Err("its login is not known".to_owned());
    };
    let replay = replay.with_id(worker.roster.spare_id().0).map_err(|error| error.to_string())?;
    let id = card.id.0;
    let kill = Kill { target: id, text: format!("KILL CONNECTION {id}").into_bytes(), query: false };
    let answer = ask(worker, card, cn, &passport, replay.into(), &kill)
        .await
        .map_err(|refusal| refusal.to_string())?;
    match Verdict::of(&answer) {
        Verdict::Done | Verdict::Unknown => Ok(()),
        Verdict::Refused | Verdict::NotAsked => Err("the CN refuses".to_owned()),
    }
}

async fn ask_all(worker: &Worker, card: &Card, kill: &Kill) -> Vec<u8> {
    let (passport, credential) = (card.passport.borrow().clone(), card.standing.borrow().credential());
    let (Some(passport), Some(Credential::Replay(replay))) = (passport, credential) else {
        return bug("a session of MatrixOne's without its login");
    };
    let Ok(replay) = replay.with_id(worker.roster.spare_id().0).map(Arc::new) else {
        return bug("a preamble that cannot be written again");
    };
    let mut best: Option<(Verdict, Vec<u8>)> = None;
    for cn in candidates(worker, card, kill) {
        let (verdict, answer) = match ask(worker, card, &cn, &passport, replay.clone(), kill).await {
            Ok(answer) => (Verdict::of(&answer), answer),
            Err(refusal) => (Verdict::NotAsked, refusal.packet(passport.login.capabilities)),
        };
        if best.as_ref().is_none_or(|(other, _)| verdict < *other) {
            best = Some((verdict, answer));
        }
    }
    best.map_or_else(|| bug("no CN to ask"), |(_, answer)| answer)
}

/// The CNs to ask: that of the session if it is here, else all, the killer's own first and those that are down last.
fn candidates(worker: &Worker, card: &Card, kill: &Kill) -> Vec<Arc<Cn>> {
    let Some(view) = worker.view() else { return Vec::new() };
    let here = worker.roster.card(SessionId(kill.target)).and_then(|card| card.slot());
    let mut cns: Vec<_> = view.cns.iter().filter(|cn| cn.flavour == Flavour::Matrixone).collect();
    if let Some(cn) = here.and_then(|slot| cns.iter().find(|cn| cn.slot == slot)) {
        return vec![(*cn).clone()];
    }
    cns.sort_by_key(|cn| (cn.state, Some(cn.slot) != card.slot()));
    cns.into_iter().take(CNS_MAX).cloned().collect()
}

/// Asks one CN, whatever it says to it.
async fn ask(
    worker: &Worker,
    card: &Card,
    cn: &Cn,
    passport: &Passport,
    replay: Arc<Replay>,
    kill: &Kill,
) -> Result<Vec<u8>, Refusal> {
    let limits = worker.login_limits().ok_or(Refusal::ShuttingDown)?;
    let user = passport.identity.cn_user(cn.flavour);
    let login = CnLogin::new(&passport.login, user, Credential::Replay(replay));
    let socket = match enter(worker, cn, card.origin.get(), login).await {
        Ok(Entered { socket, .. }) => socket,
        Err(error) => return error.heard(cn),
    };
    let mut leg = Leg::new(socket);
    let asked = async {
        leg.write(&[&[QUERY][..], &kill.text].concat()).await?;
        leg.read().await
    };
    let answered = worker.reactor.until(Instant::now() + limits.cn_timeout, asked).await;
    leave(&worker.reactor, leg.socket);
    let lost = |cause: String| NotEntered::Lost(cause).heard(cn);
    match answered {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(error)) => lost(error.to_string()),
        None => lost(format!("no answer to a KILL within {} ms", limits.cn_timeout.as_millis())),
    }
}

fn bug(cause: &str) -> Vec<u8> {
    Refusal::ProxyBug { cause: cause.to_owned() }.packet(Default::default())
}
