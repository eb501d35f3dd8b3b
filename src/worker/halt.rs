//! Statements that are stopped on CNs of MySQL's: by a KILL that names a session by the id that its client was told, and because a
//! session has ended with a statement under way, so that nothing commits behind its client's back.
//!
//! A CN knows a session by its own id of the connection, which changes with every move. The CN judges who may kill, as it does directly:
//! it is told on the killer's own connection where the session is on the same CN, else on a new one, logged in as the killer. A killer
//! whom corelane cannot log in again may still kill what belongs to the same user, as MySQL allows: the session's own user says it, or
//! the account of `[auth] query_user`.

use std::sync::Arc;

use tracing::debug;

use super::Worker;
use super::approach::leave;
use super::enter::{Entered, enter};
use super::forward::Ending;
use super::kill;
use super::letter;
use super::login::Passport;
use super::migrate::{TalkError, converse};
use super::roster::Card;
use crate::config::settings::Account;
use crate::ident::SessionId;
use crate::net::{Origin, Peer};
use crate::reactor::Socket;
use crate::route::{Cn, Flavour};
use crate::session::kill::{Kill, Way, way};
use crate::session::login::{ClientLogin, CnLogin, Credential, Proof};
use crate::session::script::{Script, ScriptError};
use crate::wire::capability::Capabilities;
use crate::wire::reply::ErrPacket;
use crate::wire::status::Status;

/// Statements that one worker stops at the same time; any more of ended sessions are left to their CNs.
const ORPHANS_MAX: u32 = 64;

/// Corelane itself, as no client of a network.
const OWN: Origin = Origin { client: Peer::Unix, called: None };

/// ER_NO_SUCH_THREAD, ER_KILL_DENIED_ERROR, ER_UNKNOWN_ERROR.
const NO_SUCH_THREAD: u16 = 1094;
const DENIED: u16 = 1095;
const UNKNOWN_ERROR: u16 = 1105;

/// Where a session is, and who.
#[derive(Clone)]
pub(super) struct Whereabouts {
    cn: Arc<Cn>,
    /// The CN's id of its connection.
    connection: u32,
    user: Box<str>,
    tenant: Box<str>,
    by: Option<By>,
}

/// As whom a KILL is said.
#[derive(Clone)]
enum By {
    User(Arc<Passport>, Proof, Origin),
    Account(Arc<Account>),
}

impl Whereabouts {
    /// None while it is logging in.
    pub fn of(card: &Card) -> Option<Self> {
        let bearer = card.bearer.borrow();
        Some(Self {
            cn: card.cn.borrow().clone()?,
            connection: card.cn_connection.get(),
            user: bearer.user.clone(),
            tenant: bearer.tenant.clone(),
            by: user(card),
        })
    }
}

/// The user of a session, where corelane can log it in again.
fn user(card: &Card) -> Option<By> {
    match (card.passport.borrow().clone(), card.credential()) {
        (Some(passport), Some(Credential::Proof(proof))) => {
            Some(By::User(passport, proof, card.origin.get()))
        }
        _ => None,
    }
}

/// A session that kills.
pub(super) struct Killer<'a> {
    pub worker: &'a Worker,
    pub card: &'a Card,
    pub cn: &'a Cn,
    pub cn_socket: &'a Socket,
    /// What its CN leg speaks.
    pub spoken: Capabilities,
}

/// What came of a KILL.
enum Outcome {
    Done,
    /// Code and message.
    Refused(u16, String),
    /// Its CN could not be asked.
    NotAsked(String),
}

impl Killer<'_> {
    /// Carries a KILL out; the payload of what the client is answered.
    ///
    /// # Errors
    /// Nobody knows what is still under way on the killer's own connection, so it has to end.
    pub async fn kill(&self, kill: &Kill, status: Status) -> Result<Vec<u8>, Ending> {
        let session = SessionId(kill.target);
        let outcome = match letter::seek(self.worker, session).await {
            Some(found) => self.kill_found(kill, &found).await?,
            None => Outcome::Refused(NO_SUCH_THREAD, format!("Unknown thread id: {session}")),
        };
        Ok(match outcome {
            Outcome::Done => {
                if !kill.query && session != self.card.id {
                    letter::end(self.worker, session, &format!("by session {}", self.card.id));
                }
                kill::done(status)
            }
            Outcome::Refused(code, message) => self.err(code, &message),
            Outcome::NotAsked(cause) => {
                self.err(UNKNOWN_ERROR, &format!("session {session} cannot be killed: {cause}"))
            }
        })
    }

    async fn kill_found(&self, kill: &Kill, found: &Whereabouts) -> Result<Outcome, Ending> {
        let text = kill.at_cn(found.connection);
        let own = user(self.card);
        let bearer = self.card.bearer.borrow().clone();
        let same_user = (&bearer.user, &bearer.tenant) == (&found.user, &found.tenant);
        let account = || self.worker.monitor().map(By::Account);
        let by = found.by.clone().or_else(account);
        Ok(match way(self.cn.slot == found.cn.slot, own.is_some(), same_user, by.is_some()) {
            Way::OwnLeg => self.say_here(&text).await?,
            Way::AsKiller => say(self.worker, &found.cn, own.as_ref(), &text).await,
            Way::ForOwner => say(self.worker, &found.cn, by.as_ref(), &text).await,
            // Its connection is closed, and the CN will find out.
            Way::EndOnly if !kill.query => Outcome::Done,
            Way::EndOnly => Outcome::NotAsked(format!(
                "CN {} can be told by nobody (users that corelane knows, [auth] query_user)",
                found.cn.id
            )),
            Way::NotOwner => Outcome::Refused(DENIED, format!("You are not owner of thread {}", kill.target)),
        })
    }

    /// Says it on the killer's own connection.
    async fn say_here(&self, text: &str) -> Result<Outcome, Ending> {
        let Some(limits) = self.worker.login_limits() else { return Err(Ending::ShutDown) };
        let said = converse(self.worker, self.cn_socket, script(text), self.spoken, limits.cn_timeout).await;
        match said.map(drop) {
            Err(TalkError::Broken(_)) => Err(Ending::CnBroken(libc::ECONNABORTED)),
            said => Ok(heard(said)),
        }
    }

    fn err(&self, code: u16, message: &str) -> Vec<u8> {
        let mut payload = Vec::with_capacity(64);
        let err = ErrPacket { code, sqlstate: Some(*b"HY000"), message: message.as_bytes() };
        err.write(&mut payload, self.spoken);
        payload
    }
}

/// Stops what a session has left under way on its CN. Nobody waits for it.
pub(super) fn stop_orphan(worker: &std::rc::Rc<Worker>, card: &std::rc::Rc<Card>, cn: Arc<Cn>) {
    if is_crowded(worker) {
        return worker.counters.statements_left.add(1);
    }
    worker.orphans.set(worker.orphans.get() + 1);
    let (host, card) = (worker.clone(), card.clone());
    worker.reactor.spawn(async move {
        let outcome = match cn.flavour {
            Flavour::Mysql => {
                let by = user(&card).or_else(|| host.monitor().map(By::Account));
                say(&host, &cn, by.as_ref(), &format!("KILL {}", card.cn_connection.get())).await
            }
            Flavour::Matrixone => {
                kill::kill_own(&host, &card, &cn).await.map_or_else(Outcome::NotAsked, |()| Outcome::Done)
            }
        };
        host.orphans.set(host.orphans.get() - 1);
        match outcome {
            // It had come to its end by itself.
            Outcome::Done | Outcome::Refused(NO_SUCH_THREAD, _) => host.counters.statements_stopped.add(1),
            Outcome::Refused(_, cause) | Outcome::NotAsked(cause) => {
                host.counters.statements_left.add(1);
                debug!(session = card.id.0, cn = &*cn.id, "its statement is left to the CN: {cause}");
            }
        }
    });
}

/// Whether as many statements are being stopped as may be at the same time.
pub(super) fn is_crowded(worker: &Worker) -> bool {
    worker.orphans.get() >= ORPHANS_MAX
}

/// Has its CN stop what a session has under way, if `still` says so when the CN can be told; the session goes on.
///
/// # Errors
/// Why the CN cannot be told, in words.
pub(super) async fn stop_statement(
    worker: &Worker,
    card: &Card,
    still: impl Fn() -> bool,
) -> Result<(), String> {
    let Some(cn) = card.cn.borrow().clone().filter(|cn| cn.flavour == Flavour::Mysql) else {
        return Err("only CNs of flavour mysql are told".to_owned());
    };
    worker.orphans.set(worker.orphans.get() + 1);
    let by = user(card).or_else(|| worker.monitor().map(By::Account));
    let text = format!("KILL QUERY {}", card.cn_connection.get());
    let outcome = say_if(worker, &cn, by.as_ref(), &text, still).await;
    worker.orphans.set(worker.orphans.get() - 1);
    match outcome {
        Outcome::Done => Ok(()),
        Outcome::Refused(_, cause) | Outcome::NotAsked(cause) => Err(cause),
    }
}

/// Says a KILL at a CN on a connection of its own.
async fn say(worker: &Worker, cn: &Arc<Cn>, by: Option<&By>, text: &str) -> Outcome {
    say_if(worker, cn, by, text, || true).await
}

/// The same, unless it is no longer meant once there is a connection to say it on.
async fn say_if(
    worker: &Worker,
    cn: &Arc<Cn>,
    by: Option<&By>,
    text: &str,
    still: impl Fn() -> bool,
) -> Outcome {
    let entered = match by {
        None => return Outcome::NotAsked("there is nobody to say so".to_owned()),
        Some(By::User(passport, proof, origin)) => {
            let user = passport.identity.cn_user(cn.flavour);
            let login = CnLogin::new(&passport.login, user, Credential::Proof(proof.clone()));
            enter(worker, cn, *origin, login).await
        }
        Some(By::Account(account)) => {
            let login = ClientLogin::own();
            let proof = Credential::Proof(Proof::of(&account.password));
            enter(worker, cn, OWN, CnLogin::new(&login, account.user.as_bytes(), proof)).await
        }
    };
    let (Entered { socket, auth, .. }, limits) = match (entered, worker.login_limits()) {
        (Ok(entered), Some(limits)) => (entered, limits),
        (Err(cause), _) => return Outcome::NotAsked(cause.to_string()),
        (_, None) => return Outcome::NotAsked("the worker has no picture yet".to_owned()),
    };
    if !still() {
        leave(&worker.reactor, socket);
        return Outcome::Done;
    }
    let said = converse(worker, &socket, script(text), auth.capabilities, limits.cn_timeout).await;
    leave(&worker.reactor, socket);
    heard(said.map(drop))
}

fn script(text: &str) -> Script {
    let mut script = Script::default();
    script.statement("KILL", text.as_bytes());
    script
}

fn heard(said: Result<(), TalkError>) -> Outcome {
    match said {
        Ok(()) => Outcome::Done,
        Err(TalkError::Wrong(ScriptError::Refused { code, message, .. })) => Outcome::Refused(code, message),
        Err(error) => Outcome::NotAsked(error.to_string()),
    }
}
