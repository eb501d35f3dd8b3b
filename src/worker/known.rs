//! Passwords by `caching_sha2_password` that relayed logins have left, checked by the hashes that the CNs' tables have of their users.
//!
//! A CN has taken each of them already, so what is found lets nobody in and keeps nobody out: it tells whose session can be logged in
//! again, and which passwords are known from then on, so that their clients are not asked for them once more. What is right is decided
//! in [`crate::session::login::inspection`]; here other sessions have their turn between two pieces of it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::Worker;
use super::roster::Card;
use crate::session::user::Users;

/// Looks whether the session's user is known by what its login has left.
pub(super) async fn check(worker: &Worker, card: &Card) {
    let Some(users) = worker.users() else { return };
    card.prove(&users);
    if inspect(worker, card, &users).await {
        card.prove(&users);
    }
}

/// The same for all sessions, as other `users` are published. They go on meanwhile.
pub(super) fn check_all(worker: &Rc<Worker>, users: Arc<Users>) {
    let cards = worker.roster.cards(|card| card.inspect(&users).is_some());
    if cards.is_empty() {
        return;
    }
    let host = worker.clone();
    worker.host(async move {
        let (worker, mut found) = (host, false);
        for card in cards {
            if worker.users().is_none_or(|now| !Arc::ptr_eq(&now, &users)) {
                return;
            }
            card.prove(&users);
            found |= inspect(&worker, &card, &users).await;
        }
        if found {
            worker.roster.prove(&users);
        }
    });
}

/// Whether a hash was found to be of its password.
async fn inspect(worker: &Worker, card: &Card, users: &Users) -> bool {
    let Some(mut inspection) = card.inspect(users) else { return false };
    loop {
        match inspection.go_on() {
            Some(found) => return found,
            // By way of the ring, which has other sessions' packets by now.
            None => worker.reactor.sleep_until(Instant::now()).await,
        }
    }
}
