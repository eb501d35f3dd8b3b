//! The same numbers by the names that the proxy of MatrixOne 4.1 and its dashboards have for them, `mo_proxy_..`.
//!
//! Only what corelane can answer in the same sense is here, and the README lists what is not, with the reasons. Numbers are
//! those of the whole process, as there. MatrixOne's counters do not end with `_total`, so their type is left untold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Result;

use super::family::Families;
use super::readiness::takes_sessions;
use super::scrape::{Scrape, WorkerNumber};
use crate::metrics::{EndedBy, Refused};
use crate::route::identity::SYS;
use crate::route::label::ACCOUNT;
use crate::route::{self, Group, View};

/// Types of `mo_proxy_connect_counter`. One that moved has logged in at another CN, so it counts as a success there.
const CONNECTS: [WorkerNumber; 6] = [
    ("accepted", |c| c.accepted.get()),
    ("closed", |c| c.refused.get() + EndedBy::ALL.map(|by| c.ends.get(by)).iter().sum::<u64>()),
    ("success", |c| c.logins.get() + c.moves.done.get() + c.moves.reopened.get()),
    ("route-fail", |c| c.refusals.get(Refused::NoCn)),
    ("common-fail", |c| {
        [Refused::Denied, Refused::ByCn, Refused::CnLost].map(|why| c.refusals.get(why)).iter().sum()
    }),
    ("retry", |c| c.retries.get()),
];

const DISCONNECTS: [WorkerNumber; 2] =
    [("server", |c| c.ends.get(EndedBy::Cn)), ("client", |c| c.ends.get(EndedBy::Client))];

const TRANSFERS: [WorkerNumber; 2] =
    [("success", |c| c.moves.done.get()), ("fail", |c| c.moves.failed.get())];

pub fn write(scrape: &Scrape, families: &mut Families<'_>) -> Result {
    let by_type = |numbers: &'static [WorkerNumber]| {
        numbers.iter().map(|(name, number)| (vec![("type", *name)], scrape.sum(number)))
    };
    let help = "Connections of clients, logins at CNs, and how they ended.";
    families.untyped("mo_proxy_connect_counter", help, by_type(&CONNECTS))?;
    let sessions = scrape.sum(|c| c.sessions.get()) + u64::from(scrape.overview.travellers);
    families.gauge("mo_proxy_connections_current", "Connections of clients now.", [(vec![], sessions)])?;
    let help = "Sessions that had been let in and were ended by their client or their CN.";
    families.untyped("mo_proxy_disconnect_counter", help, by_type(&DISCONNECTS))?;
    let help = "Sessions told to move that have moved, or could not.";
    families.untyped("mo_proxy_connection_transfer_counter", help, by_type(&TRANSFERS))?;
    let help = "How long sessions that moved were held up, in seconds.";
    families.pauses("mo_proxy_connection_transfer_duration", help, &scrape.pauses())?;
    let drains = scrape.overview.logbook.drains;
    families.untyped("mo_proxy_drain_counter", "Drains of CNs that have begun.", [(vec![], drains)])?;
    available(&scrape.overview.view, families)?;
    queues(scrape, families)
}

fn queues(scrape: &Scrape, families: &mut Families<'_>) -> Result {
    let (waiting, under_way) =
        (scrape.sum(|c| c.moves.waiting.get()), scrape.sum(|c| c.moves.under_way.get()));
    let help = "Sessions told to move that wait for their turn.";
    families.gauge("mo_proxy_transfer_queue_size", help, [(vec![], waiting)])?;
    let help = "Sessions told to move that have not yet.";
    families.gauge("mo_proxy_connections_need_to_transfer", help, [(vec![], waiting + under_way)])?;
    let help = "Sessions whose turn to move has come, and that do so when they are quiet.";
    families.gauge("mo_proxy_connections_transfer_intent", help, [(vec![], under_way)])
}

/// Accounts that are told, in the order of their names: each is routed anew for a page.
const ACCOUNTS_MAX: usize = 256;

/// For `sys` and each account that a CN's labels name in full: the CNs that take its sessions, if they ask for no further label.
/// Accounts that are only met in logins are not told: anybody may make one up, and each would stay a series for good.
fn available(view: &View, families: &mut Families<'_>) -> Result {
    let named = view.cns.iter().flat_map(|cn| cn.labels.0.get(ACCOUNT).into_iter().flatten());
    let accounts: BTreeSet<&str> =
        named.map(String::as_str).filter(|name| !name.contains('*')).chain([SYS]).collect();
    let told = accounts.into_iter().take(ACCOUNTS_MAX);
    let counts = told.map(|account| {
        let group = Group { tenant: account.to_owned(), labels: BTreeMap::new(), anywhere: false };
        let candidates = route::candidates(view, &group, &[]);
        let count = candidates.map_or(0, |found| found.iter().filter(|cn| takes_sessions(cn)).count());
        (vec![("account", account)], count as u64)
    });
    families.gauge("mo_proxy_available_backend_server_num", "CNs that take the account's sessions.", counts)
}
