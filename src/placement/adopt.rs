//! What discovery has found is taken over into the table.
//!
//! An answer is compared with what was told before, not with the table: only what is new in it is done. So what an
//! operator changes holds until discovery tells something else than it did, or the configuration is read again.
//!
//! A row is about the CN of its id that the configuration or an operator lists, else about the listed one at its
//! address, else about a CN of discovery's own, whose id is that of the row. A listed CN keeps what its setting says;
//! the work state applies to it, and the labels where its setting has none. A CN of discovery's own is added, follows
//! its row, and is drained and removed when it was missing in [`ABSENT_ANSWERS`] answers in a row. A work state other
//! than working is a drain without a deadline, which ends when the work state is working again unless an operator
//! wants it, too.
//!
//! Invariant: an answer that is empty, or that does not say who is there, removes nobody. No listed CN is ever
//! removed here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::duty::{Duty, Terms};
use super::found::{Answer, Found};
use super::{Decision, Placement, Source};
use crate::config::settings::CnSetting;
use crate::ident::{CNS_MAX, CnSlot};
use crate::route::{Flavour, Target};

/// Answers in a row in which a CN must be missing before it counts as gone.
pub const ABSENT_ANSWERS: u32 = 2;

/// Sentences about what is wrong with one answer that are said at most.
const COMPLAINTS_MAX: usize = 16;

/// What was told before.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// By the id that the CN has in the table.
    records: BTreeMap<String, Record>,
    /// What was wrong with the last answer.
    complaints: BTreeSet<String>,
}

/// What was told of a CN last.
#[derive(Clone, Debug)]
struct Record {
    found: Found,
    /// Answers in a row that did not have it.
    absent: u32,
    /// Its labels are those told, as its setting has none of its own.
    gives_labels: bool,
}

/// What an answer says of the CNs of the table.
struct Reading<'a> {
    /// By the id that the CN has, or will have, in the table.
    by_cn: BTreeMap<String, &'a Found>,
    complaints: BTreeSet<String>,
}

impl Placement {
    /// Takes over what a CN has told of all CNs. Those that are missing are drained by `terms`.
    ///
    /// `seats` gives the seats taken on a slot, over all workers.
    pub fn found(
        &mut self,
        answer: &Answer,
        seats: impl Fn(CnSlot) -> u32,
        terms: Terms,
        now: Duration,
    ) -> Decision {
        let mut reading = self.match_up(answer);
        let news = self.news(&reading);
        let mut decision = self.take_news(&news, seats, now, &mut reading.complaints);
        if !answer.is_empty() {
            decision.add(self.miss(answer, &reading, terms, now));
        }
        decision.say.extend(self.memory.complain(reading.complaints));
        decision
    }

    /// Forgets all that was told. What follows from that is done by the next [`Self::reload`]: whom nobody else lists
    /// is let go, and drains that only the cluster wanted end.
    pub fn forget_found(&mut self) {
        self.memory = Memory::default();
    }

    /// Finds for each row the CN that it is about.
    fn match_up<'a>(&self, answer: &'a Answer) -> Reading<'a> {
        let mut homes = self.homes();
        let mut reading = Reading { by_cn: BTreeMap::new(), complaints: answer.complaints().clone() };
        // Of several rows about one CN, that of its own id counts, then the one that counted before.
        let known: BTreeSet<&str> = self.memory.records.values().map(|record| &*record.found.id).collect();
        let mut rows: Vec<&Found> = answer.found().collect();
        rows.sort_by_key(|row| (!homes.ids.contains(&*row.id), !known.contains(&*row.id)));
        for row in rows {
            let cn = homes.of(row).and_then(|cn| match reading.by_cn.get(&cn) {
                Some(other) => Err(format!("{} is passed over: {} is {cn} already", row.id, other.id)),
                None => Ok(cn),
            });
            match cn {
                Ok(cn) => _ = reading.by_cn.insert(cn, row),
                Err(sentence) => _ = reading.complaints.insert(sentence),
            }
        }
        reading
    }

    fn homes(&self) -> Homes<'_> {
        let mut homes = Homes { taken_out: self.taken_out(), ..Homes::default() };
        for (slot, setting, target) in self.table.places() {
            let is_leaving = self.duties.get(&slot).is_some_and(Duty::is_unlisted);
            if self.source(slot) == Some(Source::Discovery) || is_leaving {
                continue;
            }
            homes.ids.insert(setting.id.as_str());
            homes.written.insert(setting.address.as_str(), setting.id.as_str());
            if let Some(Target::Tcp(target)) = target {
                homes.resolved.insert(target.to_string(), setting.id.as_str());
            }
        }
        homes
    }

    /// By the id of their rows, those that are told of but not in the table, as an operator has taken them out. They
    /// stay out as long as nothing else is told of them.
    fn taken_out(&self) -> BTreeMap<&str, (&str, &Found)> {
        let present: BTreeSet<&str> = self.table.settings().map(|cn| cn.id.as_str()).collect();
        let out = self.memory.records.iter().filter(|(cn, _)| !present.contains(cn.as_str()));
        out.map(|(cn, record)| (record.found.id.as_str(), (cn.as_str(), &record.found))).collect()
    }

    /// What was not told so before.
    fn news<'a>(&self, reading: &Reading<'a>) -> Vec<(String, &'a Found)> {
        let told = |cn: &str| self.memory.records.get(cn).map(|record| &record.found);
        let news = reading.by_cn.iter().filter(|(cn, row)| told(cn) != Some(**row));
        news.map(|(cn, row)| (cn.clone(), *row)).collect()
    }

    fn take_news(
        &mut self,
        news: &[(String, &Found)],
        seats: impl Fn(CnSlot) -> u32,
        now: Duration,
        complaints: &mut BTreeSet<String>,
    ) -> Decision {
        if news.is_empty() {
            return Decision::default();
        }
        let mut settings: Vec<CnSetting> = self.table.settings().cloned().collect();
        let (mut added, room) = (0, self.table.room(&seats));
        let mut gives_labels = Vec::with_capacity(news.len());
        for (cn, row) in news {
            if let Some(setting) = settings.iter_mut().find(|setting| setting.id == *cn) {
                gives_labels.push(self.heed_row(setting, row));
                continue;
            }
            // What was told before it was taken out does not count any more.
            self.memory.records.remove(cn);
            gives_labels.push(true);
            added += 1;
            settings.extend((added <= room).then(|| setting_of(row)));
        }
        if added > room {
            let left_out = added - room;
            complaints.insert(format!("{left_out} CNs are left out: there is room for {CNS_MAX}"));
        }
        let mut decision = self.take(&settings, seats);
        for ((cn, row), gives_labels) in news.iter().zip(gives_labels) {
            decision.add(self.note(cn, row, gives_labels, now));
        }
        decision
    }

    /// Writes what is new in a row into the setting of the CN that it is about; true if its labels are those of the
    /// row.
    fn heed_row(&self, setting: &mut CnSetting, row: &Found) -> bool {
        let before = self.memory.records.get(&setting.id);
        let other_labels = before.is_none_or(|before| before.found.labels != row.labels);
        let is_own = self.is_own(&setting.id);
        match (is_own, before) {
            (true, None) => *setting = setting_of(row),
            (true, Some(_)) => setting.address.clone_from(&row.address),
            (false, _) => {}
        }
        let has_none = is_own || setting.labels.is_empty();
        let gives_labels = before.map_or(has_none, |before| before.gives_labels);
        if gives_labels && other_labels {
            setting.labels = row.labels.clone();
        }
        gives_labels
    }

    /// Remembers a row that was taken over into the table, and does what its work state says.
    fn note(&mut self, cn: &str, row: &Found, gives_labels: bool, now: Duration) -> Decision {
        // Without room it is as if nothing had been told.
        let Some(slot) = self.table.slot(cn) else { return Decision::default() };
        let mut decision = Decision::default();
        if self.is_own(cn) {
            self.sources.insert(slot, Source::Discovery);
            // What an operator removes is removed.
            if self.duties.get(&slot).is_some_and(Duty::is_unlisted) {
                decision.add(self.keep(cn, Duty::find));
            }
        }
        let before = self.memory.records.get(cn);
        let is_new = before.is_none_or(|before| before.found.drains() != row.drains());
        self.memory.records.insert(cn.to_owned(), Record { found: row.clone(), absent: 0, gives_labels });
        if is_new {
            decision.add(self.heed_work(cn, row.drains(), now));
        }
        decision
    }

    /// Whether a CN is discovery's own: nobody else lists it.
    fn is_own(&self, id: &str) -> bool {
        let Some(slot) = self.table.slot(id) else { return true };
        let is_leaving = self.duties.get(&slot).is_some_and(Duty::is_unlisted);
        is_leaving || self.source(slot).is_none_or(|source| source == Source::Discovery)
    }

    /// Begins or ends the drain of a CN as its cluster wants it.
    pub(super) fn heed_work(&mut self, id: &str, drains: bool, now: Duration) -> Decision {
        let Some(slot) = self.table.slot(id) else { return Decision::default() };
        let ends = self.duties.get_mut(&slot).map(|duty| duty.report(drains));
        let sentence = match ends {
            None if drains => {
                self.table.bump();
                self.duties.insert(slot, Duty::begin_reported(self.table.epoch(), now));
                format!("{id} drains, as its cluster says")
            }
            Some(true) => {
                self.duties.remove(&slot);
                self.table.bump();
                format!("{id} takes sessions again, as its cluster says")
            }
            None | Some(false) => return Decision::default(),
        };
        Decision { changed: true, say: vec![sentence], ..Decision::default() }
    }

    /// Counts who is missing, and lets those go that are gone.
    fn miss(&mut self, answer: &Answer, reading: &Reading<'_>, terms: Terms, now: Duration) -> Decision {
        for (cn, record) in &mut self.memory.records {
            let is_here = reading.by_cn.contains_key(cn) || answer.may_have(&record.found.id);
            record.absent = if is_here { 0 } else { record.absent.saturating_add(1) };
        }
        let gone = self.memory.records.iter().filter(|(_, record)| record.absent >= ABSENT_ANSWERS);
        let gone: Vec<String> = gone.map(|(cn, _)| cn.clone()).filter(|cn| self.is_own(cn)).collect();
        let mut decision = Decision::default();
        for cn in gone {
            self.memory.records.remove(&cn);
            decision.add(self.unlist(&cn, terms, now));
        }
        decision
    }

    /// Whether discovery has told of a CN.
    pub(super) fn is_told_of(&self, id: &str) -> bool {
        self.memory.records.contains_key(id)
    }

    /// The CNs of a configuration, with the labels of discovery where they have none, and those that discovery has
    /// found beside them, as it told of them last.
    pub(super) fn with_found(&mut self, cns: &[CnSetting]) -> Vec<CnSetting> {
        let present: BTreeMap<String, String> =
            self.table.settings().map(|cn| (cn.id.clone(), cn.address.clone())).collect();
        let listed: BTreeMap<&str, &CnSetting> = cns.iter().map(|cn| (cn.id.as_str(), cn)).collect();
        let own: BTreeSet<String> = present.keys().filter(|id| self.is_own(id)).cloned().collect();
        self.memory.records.retain(|id, record| match listed.get(id.as_str()) {
            Some(setting) => {
                record.gives_labels = setting.labels.is_empty();
                // At another address it may be another CN.
                present.get(id) == Some(&setting.address)
            }
            // What an operator has taken out comes back with the next answer.
            None => own.contains(id),
        });
        let records = &self.memory.records;
        let with_labels = cns.iter().map(|setting| match records.get(&setting.id) {
            Some(record) if record.gives_labels => {
                CnSetting { labels: record.found.labels.clone(), ..setting.clone() }
            }
            _ => setting.clone(),
        });
        let found = records.iter().filter(|(id, _)| !listed.contains_key(id.as_str()));
        with_labels.chain(found.map(|(_, record)| setting_of(&record.found))).collect()
    }
}

impl Memory {
    /// Keeps what is wrong now, and gives what is new of it.
    fn complain(&mut self, now: BTreeSet<String>) -> Vec<String> {
        let mut fresh: Vec<String> =
            now.difference(&self.complaints).map(|sentence| format!("discovery: {sentence}")).collect();
        if fresh.len() > COMPLAINTS_MAX {
            let more = fresh.len() - COMPLAINTS_MAX;
            fresh.truncate(COMPLAINTS_MAX);
            fresh.push(format!("discovery: and {more} more are passed over"));
        }
        self.complaints = now;
        fresh
    }
}

/// To which CN a row may belong.
#[derive(Default)]
struct Homes<'t> {
    /// Those whom the configuration or an operator lists.
    ids: BTreeSet<&'t str>,
    /// Where they are, as it is written.
    written: BTreeMap<&'t str, &'t str>,
    /// Where they are, as that resolves.
    resolved: BTreeMap<String, &'t str>,
    /// By the id of its row, the id of a CN that is not in the table, and what was told of it.
    taken_out: BTreeMap<&'t str, (&'t str, &'t Found)>,
    /// Addresses of those that nobody lists.
    others: BTreeSet<String>,
}

impl Homes<'_> {
    /// The id of the CN that a row is about, or why it is about none.
    fn of(&mut self, row: &Found) -> Result<String, String> {
        if self.ids.contains(&*row.id) {
            return Ok(row.id.clone());
        }
        let there = self.written.get(&*row.address).or_else(|| self.resolved.get(&row.address));
        if let Some(cn) = there {
            return Ok((*cn).to_owned());
        }
        if !self.others.insert(row.address.clone()) {
            return Err(format!("{} is passed over: {} is another CN's, too", row.id, row.address));
        }
        match self.taken_out.get(&*row.id) {
            Some((cn, told)) if *told == row => Ok((*cn).to_owned()),
            _ => Ok(row.id.clone()),
        }
    }
}

/// A CN as discovery adds it.
fn setting_of(row: &Found) -> CnSetting {
    CnSetting {
        id: row.id.clone(),
        address: row.address.clone(),
        flavour: Flavour::Matrixone,
        labels: row.labels.clone(),
        weight: 1,
        data: None,
        query_address: None,
        proxy_protocol: false,
        tls: None,
        max_sessions: None,
    }
}

#[cfg(test)]
mod tests;
