//! One CN approached for a login: dialled, heard, sent the login, and its first answer taken.
//!
//! Up to there the client has heard nothing of this CN, so a CN that fails can be [`Passed`] over for another.
//! And whoever has begun a login ends it: a server counts a handshake that breaks off against the host that
//! it came from, and shuts that host out after some (`max_connect_errors`), with it every other session.
//! [`abandon`] ends a login that nobody wants any more.
//!
//! A CN that is sent a header of the PROXY protocol and takes none from here says so in an ERR that is numbered as an answer to the
//! first packet, though that was never a packet, and closes, perhaps before it was sent the login.

use std::time::{Duration, Instant};

use super::leg::{Leg, LegError};
use super::proxy_header;
use crate::config::settings::{Keepalive, Login};
use crate::config::tls::{CnTerms, CnTls};
use crate::mailbox::message::CnFailure;
use crate::net::Origin;
use crate::net::compression::Compression;
use crate::net::dial::{dial, is_about_the_cn};
use crate::net::tls::Tls;
use crate::reactor::{Reactor, Socket};
use crate::route::{Cn, Flavour, Target};
use crate::session::login::{CnAuth, CnLogin, CnLoginError, WantsTls};
use crate::session::refusal::Refusal;
use crate::wire::compressed::codec::Packing;
use crate::wire::login::SSL_REQUEST;
use crate::wire::reply::{self, ErrPacket};

/// How long the end of an abandoned login is waited for.
const ABANDON_LIMIT: Duration = Duration::from_secs(2);
/// COM_QUIT as a whole packet.
const QUIT: &[u8] = &[1, 0, 0, 0, 1];

/// A CN that has answered a login.
pub(super) struct Approached {
    pub leg: Leg,
    pub auth: CnAuth,
    /// The payload of its first answer.
    pub answer: Vec<u8>,
}

/// A CN that failed before the client heard anything of it.
pub(super) struct Passed {
    pub refusal: Refusal,
    /// What the coordinator should know; none when it is no fault of the CN's.
    pub failure: Option<CnFailure>,
}

/// The number of an ERR about a header, where a login would be answered by a later one.
const ABOUT_HEADER: u8 = 1;

/// What lies below the login on a leg to a CN, where the CN and its address allow it.
#[derive(Clone, Copy)]
pub(super) struct Below<'a> {
    pub tcp: Keepalive,
    pub tls: &'a CnTls,
    pub compression: Option<Packing>,
}

/// Approaches `cn` for the client at `origin`, within these limits.
pub(super) async fn approach(
    reactor: &Reactor,
    limits: &Login,
    below: Below<'_>,
    cn: &Cn,
    origin: Origin,
    login: CnLogin<'_>,
) -> Result<Approached, Passed> {
    let (waited, replays) = (limits.connect_timeout, login.preamble().is_some());
    let local = matches!(cn.target, Some(Target::Unix(_)));
    let reached = cn.flavour == Flavour::Mysql && !local;
    let tls = if reached { below.tls.of(cn.tls) } else { None };
    let login = login
        .secured(tls.map_or(WantsTls::No, |tls| wish(&tls)), local)
        .compressed(below.compression.filter(|_| reached));
    let header = proxy_header::for_cn(cn, origin);
    let heard = hear(reactor, cn, &below.tcp, header.as_deref().or(login.preamble()));
    let (mut leg, greeting) = match reactor.until(Instant::now() + waited, heard).await {
        Some(Ok(heard)) => heard,
        Some(Err(passed)) => return Err(passed),
        None => return Err(unreachable(cn, timed_out("greeting", waited), Some(CnFailure::TimedOut))),
    };
    let (response, auth) = login.greeting(&greeting).map_err(|cause| {
        let unwilling = matches!(cause, CnLoginError::Unwilling { .. } | CnLoginError::NoPreamble);
        let failure = unwilling.then_some(CnFailure::Unwilling);
        Passed { refusal: Refusal::CnLogin { cn: cn.id.to_string(), cause }, failure }
    })?;
    if let Some(tls) = tls.filter(|_| auth.has_tls()) {
        let secured = secure(&mut leg, cn, &tls, &response);
        let failed = match reactor.until(Instant::now() + waited, secured).await {
            Some(Ok(())) => None,
            Some(Err(error)) => Some((perhaps_by_header(cn, error), CnFailure::Refused)),
            None => Some((timed_out("end of the TLS handshake", waited), CnFailure::TimedOut)),
        };
        if let Some((cause, failure)) = failed {
            return Err(unreachable(cn, cause, Some(failure)));
        }
    }
    let answered = async {
        let written = leg.write(&response).await;
        if header.is_none() {
            written?;
        }
        // Versions of MatrixOne differ in how they number it.
        if replays || header.is_some() { leg.read_first().await } else { leg.read().await }
    };
    let waited = limits.cn_timeout;
    match reactor.until(Instant::now() + waited, answered).await {
        Some(Ok(answer)) if header.is_some() && leg.last_number() == ABOUT_HEADER => {
            Err(no_header(cn, &answer))
        }
        Some(Ok(answer)) => Ok(Approached { leg, auth, answer }),
        Some(Err(error)) => {
            Err(unreachable(cn, perhaps_by_header(cn, error.to_string()), Some(CnFailure::Lost)))
        }
        None => Err(unreachable(cn, timed_out("answer to the login", waited), Some(CnFailure::TimedOut))),
    }
}

/// What is wanted of a CN.
fn wish(tls: &CnTerms<'_>) -> WantsTls {
    if tls.is_optional { WantsTls::IfOffered } else { WantsTls::Yes }
}

/// Begins TLS, which the front of the login packet asks for.
async fn secure(leg: &mut Leg, cn: &Cn, tls: &CnTerms<'_>, response: &[u8]) -> Result<(), String> {
    let layer = Tls::client(tls.context, cn.host()).map_err(|error| error.to_string())?;
    leg.write(&response[..SSL_REQUEST]).await.map_err(|error| error.to_string())?;
    leg.socket.put_on(layer);
    leg.socket.secured().await.map_err(|error| format!("TLS: {error}"))
}

/// Begins compression on a leg that the CN has let in, if it was agreed on.
pub(super) fn compress(leg: &Leg, auth: &CnAuth) {
    if let Some(packing) = auth.compression {
        leg.socket.put_on(Compression::client(packing));
    }
}

/// Says goodbye on a connection that has been let in and that its session has left, or never took.
pub(super) fn leave(reactor: &Reactor, socket: Socket) {
    let clock = reactor.clone();
    reactor.spawn(async move {
        // Whatever the outcome, nobody waits for it.
        let _ = clock.until(Instant::now() + ABANDON_LIMIT, socket.send(QUIT)).await;
    });
}

/// Ends a login in order and closes: answers what the CN asks with nothing, and waits until it has said no.
/// The session does not wait for it.
pub(super) fn abandon(reactor: &Reactor, mut leg: Leg) {
    let clock = reactor.clone();
    reactor.spawn(async move {
        let ended = async {
            leg.write(&[]).await?;
            // An account without a password lets even that in.
            if leg.read().await?.first() == Some(&reply::OK) {
                leg.socket.send(QUIT).await.map_err(LegError::Broken)?;
            }
            Ok::<(), LegError>(())
        };
        // Whatever the outcome, nobody waits for it.
        let _ = clock.until(Instant::now() + ABANDON_LIMIT, ended).await;
    });
}

/// The CN has answered the header, and not the login.
fn no_header(cn: &Cn, answer: &[u8]) -> Passed {
    let said = match ErrPacket::read(answer) {
        Ok(err) => format!("{} ({})", String::from_utf8_lossy(err.message), err.code),
        Err(cause) => cause.to_string(),
    };
    let cause = CnLoginError::NoHeader { said };
    Passed { refusal: Refusal::CnLogin { cn: cn.id.to_string(), cause }, failure: Some(CnFailure::Unwilling) }
}

/// How a CN ends that does not say what it has against a header.
fn perhaps_by_header(cn: &Cn, cause: String) -> String {
    if cn.proxy_protocol { cause + " (does it take a PROXY protocol header from corelane?)" } else { cause }
}

/// Dials, says first what is to be said first, and hears the greeting.
async fn hear(
    reactor: &Reactor,
    cn: &Cn,
    tcp: &Keepalive,
    opening: Option<&[u8]>,
) -> Result<(Leg, Vec<u8>), Passed> {
    let unknown = || unreachable(cn, "its address is not known".to_owned(), None);
    let target = cn.target.as_ref().ok_or_else(unknown)?;
    let socket = dial(reactor, target, tcp).await.map_err(|error| {
        let failure = is_about_the_cn(&error).then_some(CnFailure::Refused);
        unreachable(cn, error.to_string(), failure)
    })?;
    let mut leg = Leg::new(socket);
    let heard = async {
        if let Some(opening) = opening {
            leg.socket.send(opening.to_vec()).await.map_err(LegError::Broken)?;
        }
        leg.read_first().await
    };
    let heard = heard.await;
    let greeting = heard.map_err(|error| unreachable(cn, error.to_string(), Some(CnFailure::Refused)))?;
    Ok((leg, greeting))
}

fn unreachable(cn: &Cn, cause: String, failure: Option<CnFailure>) -> Passed {
    let (id, address) = (cn.id.to_string(), cn.address.to_string());
    Passed { refusal: Refusal::CnUnreachable { cn: id, address, cause }, failure }
}

/// "no greeting within 3000 ms"
pub(super) fn timed_out(what: &str, waited: Duration) -> String {
    format!("no {what} within {} ms", waited.as_millis())
}
