//! Addresses whose clients fail again and again, and which of them are shut out for a time: one table for all workers.
//!
//! What counts is a row of failures: a login that a CN lets in ends it, and so do the end of the time and an operator. Two kinds are
//! counted, each with a limit of its own in `[access]`. Nothing is counted, and no lock taken, where there is no limit. Otherwise the
//! one lock is taken twice by each login.
//!
//! Invariant: no more than [`HOSTS_MAX`] addresses are known; whose last failure is longest ago is forgotten first, shut out or not.
//! Decides only: what a failure is, a worker says, and time comes in as an argument.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::access::Blocking;

/// Addresses that are known at the same time.
pub const HOSTS_MAX: usize = 16_384;

/// What a client has failed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has not spoken the protocol, or has left before it had logged in: MySQL's connect errors.
    Handshake,
    /// Its login was denied.
    Login,
}

impl Fault {
    /// Of several.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Handshake => "connection errors",
            Self::Login => "failed logins",
        }
    }
}

#[derive(Debug, Default)]
pub struct Hosts(Mutex<Table>);

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    pub ip: IpAddr,
    pub connect_errors: u32,
    pub failed_logins: u32,
    /// For what it is shut out, and for how much longer.
    pub blocked: Option<(Fault, Duration)>,
}

#[derive(Debug, Default)]
struct Table {
    records: HashMap<IpAddr, Record>,
    /// The addresses in the order of their last failures.
    by_age: BTreeMap<u64, IpAddr>,
    failures: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// The number of its last failure.
    last: u64,
    connect_errors: u32,
    failed_logins: u32,
    blocked: Option<(Fault, Instant)>,
}

impl Hosts {
    /// For what an address is shut out now.
    pub fn blocked(&self, ip: IpAddr, now: Instant) -> Option<Fault> {
        self.with(|table| {
            let (fault, until) = table.records.get(&ip.to_canonical())?.blocked?;
            if until > now {
                return Some(fault);
            }
            table.forget(ip);
            None
        })
    }

    /// Counts a failure; true if the address is shut out by it.
    pub fn failed(&self, ip: IpAddr, fault: Fault, rules: &Blocking, now: Instant) -> bool {
        let limit = match fault {
            Fault::Handshake => rules.connect_errors,
            Fault::Login => rules.failed_logins,
        };
        let Some(limit) = limit else { return false };
        self.with(|table| {
            let record = table.touch(ip, now);
            let count = match fault {
                Fault::Handshake => &mut record.connect_errors,
                Fault::Login => &mut record.failed_logins,
            };
            *count = count.saturating_add(1);
            // Logins that were under way when it was shut out do not make it last longer.
            let is_new = *count >= limit && record.blocked.is_none();
            if is_new {
                record.blocked = Some((fault, now + rules.lasts));
            }
            is_new
        })
    }

    /// A CN has let a client from there in. It stays shut out if it was by others meanwhile.
    pub fn succeeded(&self, ip: IpAddr, now: Instant) {
        self.with(|table| {
            let record = table.records.get(&ip.to_canonical());
            if record.is_some_and(|record| !record.is_blocked(now)) {
                table.forget(ip);
            }
        });
    }

    /// Forgets all; gives how many were shut out.
    pub fn flush(&self, now: Instant) -> usize {
        let table = self.with(std::mem::take);
        table.records.values().filter(|record| record.is_blocked(now)).count()
    }

    /// How many are shut out.
    pub fn count_blocked(&self, now: Instant) -> usize {
        self.with(|table| table.records.values().filter(|record| record.is_blocked(now)).count())
    }

    /// All that are known, those of which the time has passed left out, in their order.
    pub fn list(&self, now: Instant) -> Vec<Host> {
        let mut list: Vec<Host> = self.with(|table| {
            let lives = |record: &&Record| record.blocked.is_none() || record.is_blocked(now);
            let known = table.records.iter().filter(|(_, record)| lives(record));
            known.map(|(ip, record)| record.shown(*ip, now)).collect()
        });
        list.sort_by_key(|host| host.ip);
        list
    }

    /// A worker that has panicked has left whole numbers.
    fn with<T>(&self, act: impl FnOnce(&mut Table) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Record {
    fn is_blocked(&self, now: Instant) -> bool {
        self.blocked.is_some_and(|(_, until)| until > now)
    }

    fn shown(&self, ip: IpAddr, now: Instant) -> Host {
        let blocked = self.blocked.map(|(fault, until)| (fault, until.saturating_duration_since(now)));
        Host { ip, connect_errors: self.connect_errors, failed_logins: self.failed_logins, blocked }
    }
}

impl Table {
    /// The record of an address that has failed now, in the place of the oldest one if there is no room.
    fn touch(&mut self, ip: IpAddr, now: Instant) -> &mut Record {
        let ip = ip.to_canonical();
        let before = self.forget(ip).filter(|record| record.blocked.is_none() || record.is_blocked(now));
        while self.records.len() >= HOSTS_MAX
            && let Some((_, oldest)) = self.by_age.first_key_value()
        {
            self.forget(*oldest);
        }
        self.failures += 1;
        self.by_age.insert(self.failures, ip);
        let record = self.records.entry(ip).or_default();
        *record = Record { last: self.failures, ..before.unwrap_or_default() };
        record
    }

    fn forget(&mut self, ip: IpAddr) -> Option<Record> {
        let record = self.records.remove(&ip.to_canonical())?;
        self.by_age.remove(&record.last);
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Blocking =
        Blocking { connect_errors: Some(3), failed_logins: Some(2), lasts: Duration::from_secs(60) };

    fn ip(nth: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a00_0000 + nth).into()
    }

    fn fail(hosts: &Hosts, fault: Fault, times: usize, now: Instant) -> Vec<bool> {
        (0..times).map(|_| hosts.failed(ip(1), fault, &RULES, now)).collect()
    }

    #[test]
    fn a_row_of_failures_shuts_out_for_a_time() {
        let (hosts, now) = (Hosts::default(), Instant::now());
        assert_eq!(fail(&hosts, Fault::Login, 1, now), [false]);
        assert_eq!(hosts.blocked(ip(1), now), None);
        assert_eq!(fail(&hosts, Fault::Login, 2, now), [true, false], "it is shut out once");
        assert_eq!(hosts.blocked(ip(1), now + Duration::from_secs(59)), Some(Fault::Login));
        assert_eq!(hosts.blocked("::ffff:10.0.0.1".parse().unwrap(), now), Some(Fault::Login));
        assert_eq!((hosts.blocked(ip(2), now), hosts.count_blocked(now)), (None, 1));
        let later = now + RULES.lasts;
        assert_eq!((hosts.count_blocked(later), hosts.list(later).len()), (0, 0));
        assert_eq!(hosts.blocked(ip(1), later), None);
        assert_eq!(fail(&hosts, Fault::Login, 2, later), [false, true], "it begins anew");
    }

    #[test]
    fn who_fails_again_after_the_time_begins_anew_without_having_been_asked_about() {
        let (hosts, now) = (Hosts::default(), Instant::now());
        fail(&hosts, Fault::Login, 2, now);
        assert_eq!(fail(&hosts, Fault::Login, 1, now + RULES.lasts), [false]);
        assert_eq!(hosts.list(now + RULES.lasts)[0].failed_logins, 1);
    }

    #[test]
    fn a_login_that_is_let_in_ends_the_row_and_not_the_block() {
        let (hosts, now) = (Hosts::default(), Instant::now());
        fail(&hosts, Fault::Login, 1, now);
        fail(&hosts, Fault::Handshake, 2, now);
        hosts.succeeded(ip(1), now);
        assert!(hosts.list(now).is_empty());
        assert_eq!(fail(&hosts, Fault::Handshake, 3, now), [false, false, true]);
        hosts.succeeded(ip(1), now);
        assert_eq!(hosts.blocked(ip(1), now), Some(Fault::Handshake), "it was another client");
    }

    #[test]
    fn each_kind_has_its_own_limit_or_none() {
        let (hosts, now) = (Hosts::default(), Instant::now());
        let rules = Blocking { failed_logins: None, ..RULES };
        assert!(!(0..9).any(|_| hosts.failed(ip(1), Fault::Login, &rules, now)));
        assert!(hosts.list(now).is_empty(), "what has no limit is not counted");
        fail(&hosts, Fault::Login, 1, now);
        assert_eq!(fail(&hosts, Fault::Handshake, 2, now), [false, false], "kinds are not added up");
        let host = Host { ip: ip(1), connect_errors: 2, failed_logins: 1, blocked: None };
        assert_eq!(hosts.list(now), [host]);
    }

    #[test]
    fn an_operator_forgets_all() {
        let (hosts, now) = (Hosts::default(), Instant::now());
        fail(&hosts, Fault::Login, 2, now);
        hosts.failed(ip(2), Fault::Login, &RULES, now);
        assert_eq!(hosts.flush(now), 1);
        assert_eq!((hosts.blocked(ip(1), now), hosts.list(now).len()), (None, 0));
    }

    #[test]
    fn the_oldest_is_forgotten_where_there_is_no_room() {
        let (hosts, now) = (Hosts::default(), Instant::now());
        for nth in 0..HOSTS_MAX as u32 {
            hosts.failed(ip(nth), Fault::Handshake, &RULES, now);
        }
        hosts.failed(ip(0), Fault::Handshake, &RULES, now);
        hosts.failed(ip(1 << 20), Fault::Handshake, &RULES, now);
        let known =
            |nth| hosts.list(now).iter().find(|host| host.ip == ip(nth)).map(|host| host.connect_errors);
        assert_eq!((known(0), known(1), known(1 << 20)), (Some(2), None, Some(1)));
        hosts.with(|table| assert_eq!((table.records.len(), table.by_age.len()), (HOSTS_MAX, HOSTS_MAX)));
    }
}
