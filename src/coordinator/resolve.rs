//! Host names to addresses: asks the system's resolver, again and again, and reports what it said.
//!
//! It judges nothing: which of several addresses a CN is dialled at is for [`crate::placement`] to say.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Between two look-ups of the same name.
pub const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);

/// How long the system's resolver may take for one name.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);

/// Look-ups at the same time; each one takes a thread.
const LOOKUPS_MAX: usize = 8;

/// What the resolver said of one CN's address.
#[derive(Debug)]
pub struct Lookup {
    pub id: String,
    pub address: String,
    pub answers: Result<Vec<SocketAddr>, Error>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the resolver said: {0}")]
    Failed(io::Error),
    #[error("the resolver took longer than {LOOKUP_LIMIT:?}")]
    TimedOut,
    #[error("the name has no address")]
    Nowhere,
}

/// Looks up `names`, pairs of a CN's id and its `host:port`, every [`RESOLVE_INTERVAL`] until nobody listens.
pub async fn keep_resolving(names: Vec<(String, String)>, lookups: mpsc::Sender<Lookup>) {
    let mut rounds = interval(RESOLVE_INTERVAL);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !lookups.is_closed() {
        rounds.tick().await;
        round(&names, &lookups).await;
    }
}

async fn round(names: &[(String, String)], lookups: &mpsc::Sender<Lookup>) {
    let places = Arc::new(Semaphore::new(LOOKUPS_MAX));
    let mut tasks = JoinSet::new();
    for (id, address) in names.iter().cloned() {
        let (places, lookups) = (places.clone(), lookups.clone());
        tasks.spawn(async move {
            let _place = places.acquire().await;
            let answers = look_up(&address).await;
            // Nobody listens any more when the list of CNs has just been replaced.
            let _ = lookups.send(Lookup { id, address, answers }).await;
        });
    }
    while tasks.join_next().await.is_some() {}
}

async fn look_up(address: &str) -> Result<Vec<SocketAddr>, Error> {
    let found = timeout(LOOKUP_LIMIT, tokio::net::lookup_host(address)).await;
    let answers: Vec<_> = found.map_err(|_| Error::TimedOut)?.map_err(Error::Failed)?.collect();
    if answers.is_empty() { Err(Error::Nowhere) } else { Ok(answers) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_name_gets_an_answer() {
        let names = [("cn1", "localhost:3306"), ("cn2", "no such host:1")];
        let names = names.map(|(id, address)| (id.to_owned(), address.to_owned())).to_vec();
        let (sender, mut receiver) = mpsc::channel(1);
        let task = tokio::spawn(keep_resolving(names, sender));
        let mut found = Vec::from([receiver.recv().await.unwrap(), receiver.recv().await.unwrap()]);
        found.sort_by(|a, b| a.id.cmp(&b.id));
        assert!(found[0].answers.as_ref().unwrap().iter().all(|a| a.ip().is_loopback() && a.port() == 3306));
        assert!(found[1].answers.is_err());
        task.abort();
    }
}
