//! The coordinator's CN table: which CNs there are, where, and in which slots.
//!
//! A CN keeps its slot for as long as the configuration knows its id. The slot of a removed CN goes to another
//! one only after every slot has been used once, the longest retired first, and never while seats are taken on
//! it: sessions live on at a CN after it has left the table, and workers route by their old view for a moment.
//!
//! Each entry remembers since which epoch it is at its address, so that what was observed of an earlier one is
//! not held against it.
//!
//! Host names are not resolved here; see [`Table::unresolved`]. Health is not judged here; see
//! [`crate::placement::health`].

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::settings::CnSetting;
use crate::ident::{CNS_MAX, CnSlot, Epoch};
use crate::route::label::Labels;
use crate::route::{Cn, CnState, Flavour, Target, TlsMode, View, WorkState};

/// The CNs that there are: those of the configuration in its order, then those from elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Table {
    epoch: Epoch,
    /// Where the query service of a MatrixOne CN is, on its own host, unless its setting says otherwise.
    query_port: u16,
    entries: Vec<Entry>,
    /// Slots below this one have been given out at least once.
    used: u16,
    /// Slots of removed CNs, the longest retired first.
    retired: VecDeque<CnSlot>,
}

#[derive(Clone, Debug)]
struct Entry {
    slot: CnSlot,
    setting: CnSetting,
    target: Option<Target>,
    /// The epoch in which it came to its present target.
    since: Epoch,
}

/// What a new configuration changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Each change as a sentence, fit for the log.
    pub say: Vec<String>,
    /// CNs that are new, or no longer what they were: at another address, or of another flavour.
    pub fresh: Vec<CnSlot>,
    pub removed: Vec<CnSlot>,
    /// Whether the table differs from what it was, other than by its order.
    pub any: bool,
}

impl Changes {
    fn changed(&mut self, sentence: String) {
        self.say.push(sentence);
        self.any = true;
    }
}

impl Table {
    /// An empty table.
    pub fn new(query_port: u16) -> Self {
        Self { query_port, ..Self::default() }
    }

    /// Takes over another port of query services; true if it is another one.
    pub fn set_query_port(&mut self, port: u16) -> bool {
        let changed = self.query_port != port;
        self.query_port = port;
        if changed {
            self.bump();
        }
        changed
    }

    /// Takes over a new list of CNs. The epoch grows by one if anything changed but the order.
    ///
    /// `seats` gives the seats taken on a slot, over all workers.
    pub fn reload(&mut self, cns: &[CnSetting], seats: impl Fn(CnSlot) -> u32) -> Changes {
        let mut changes = Changes::default();
        let mut before = self.retire_all_but(cns, &mut changes);
        let since = self.epoch.next();
        for setting in cns {
            if self.by_id(&setting.id).is_some() {
                changes.say.push(format!("{} is listed twice; the second one is left out", setting.id));
            } else if let Some(at) = before.iter().position(|entry| entry.setting.id == setting.id) {
                let entry = before.swap_remove(at).update(setting, since, &mut changes);
                self.entries.push(entry);
            } else if let Some(slot) = self.free_slot(&seats) {
                changes.changed(format!("{} added at {}", setting.id, setting.address));
                changes.fresh.push(slot);
                self.entries.push(Entry::new(slot, setting, since));
            } else {
                changes.say.push(format!("{} left out: there is room for {CNS_MAX} CNs", setting.id));
            }
        }
        if changes.any {
            self.bump();
        }
        changes
    }

    /// Empties the table: retires the slots of CNs that are no longer listed, and gives the other entries.
    fn retire_all_but(&mut self, cns: &[CnSetting], changes: &mut Changes) -> Vec<Entry> {
        let listed = |entry: &Entry| cns.iter().any(|setting| setting.id == entry.setting.id);
        let (stay, go) = std::mem::take(&mut self.entries).into_iter().partition::<Vec<_>, _>(listed);
        for entry in go {
            changes.changed(format!("{} removed", entry.setting.id));
            changes.removed.push(entry.slot);
            self.retired.push_back(entry.slot);
        }
        stay
    }

    /// Takes over what a host name resolves to now; gives the slot if the CN is at another address than before.
    ///
    /// The present address stays for as long as it is among the answers, as name servers like to change their
    /// order. No answer at all changes nothing.
    pub fn resolved(&mut self, id: &str, answers: &[SocketAddr]) -> Option<CnSlot> {
        let since = self.epoch.next();
        let entry = self.entries.iter_mut().find(|entry| entry.setting.id == id)?;
        let stays = match &entry.target {
            Some(Target::Tcp(present)) => answers.contains(present),
            Some(Target::Unix(_)) => true,
            None => false,
        };
        if stays || literal(&entry.setting.address).is_some() {
            return None;
        }
        entry.target = Some(Target::Tcp(*answers.first()?));
        entry.since = since;
        let slot = entry.slot;
        self.bump();
        Some(slot)
    }

    /// Ids and addresses of the CNs whose `host:port` only a name server understands; to be asked again from
    /// time to time, also when it has answered before.
    pub fn unresolved(&self) -> impl Iterator<Item = (&str, &str)> {
        let named = self.entries.iter().filter(|entry| literal(&entry.setting.address).is_none());
        named.map(|entry| (entry.setting.id.as_str(), entry.setting.address.as_str()))
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// To be called for a change that the table does not see, such as a CN's state.
    pub fn bump(&mut self) {
        self.epoch = self.epoch.next();
    }

    pub fn id(&self, slot: CnSlot) -> Option<&str> {
        self.by_slot(slot).map(|entry| entry.setting.id.as_str())
    }

    /// Whether what was observed of a slot in the epoch `as_of` is about the CN that is there now.
    pub fn still_applies(&self, slot: CnSlot, as_of: Epoch) -> bool {
        self.by_slot(slot).is_some_and(|entry| entry.target.is_some() && as_of >= entry.since)
    }

    pub fn view(&self, state: impl Fn(CnSlot) -> (CnState, WorkState)) -> View {
        let cns = self.entries.iter().map(|entry| Arc::new(entry.cn(state(entry.slot), self.query_port)));
        View { epoch: self.epoch, cns: cns.collect() }
    }

    /// The settings in force, in the order of the table.
    pub fn settings(&self) -> impl Iterator<Item = &CnSetting> {
        self.entries.iter().map(|entry| &entry.setting)
    }

    /// Slot, setting and present target of each CN, in the order of the table.
    pub fn places(&self) -> impl Iterator<Item = (CnSlot, &CnSetting, Option<&Target>)> {
        self.entries.iter().map(|entry| (entry.slot, &entry.setting, entry.target.as_ref()))
    }

    pub fn slot(&self, id: &str) -> Option<CnSlot> {
        self.by_id(id).map(|entry| entry.slot)
    }

    fn by_id(&self, id: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.setting.id == id)
    }

    fn by_slot(&self, slot: CnSlot) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.slot == slot)
    }

    /// How many more CNs there is room for.
    pub fn room(&self, seats: impl Fn(CnSlot) -> u32) -> usize {
        let unused = CNS_MAX - usize::from(self.used);
        unused + self.retired.iter().filter(|&&slot| seats(slot) == 0).count()
    }

    /// A slot that nobody has used yet, else the longest retired one on which nobody sits any more.
    fn free_slot(&mut self, seats: impl Fn(CnSlot) -> u32) -> Option<CnSlot> {
        if usize::from(self.used) < CNS_MAX {
            self.used += 1;
            return Some(CnSlot(self.used - 1));
        }
        let at = self.retired.iter().position(|&slot| seats(slot) == 0)?;
        self.retired.remove(at)
    }
}

impl Entry {
    fn new(slot: CnSlot, setting: &CnSetting, since: Epoch) -> Self {
        Self { slot, setting: setting.clone(), target: literal(&setting.address), since }
    }

    /// This entry with a new setting of the same id.
    fn update(self, setting: &CnSetting, since: Epoch, changes: &mut Changes) -> Self {
        for difference in differences(&self.setting, setting) {
            changes.changed(difference);
        }
        let moved = self.setting.address != setting.address;
        if moved || self.setting.flavour != setting.flavour {
            changes.fresh.push(self.slot);
        }
        if moved { Self::new(self.slot, setting, since) } else { Self { setting: setting.clone(), ..self } }
    }

    /// Where its query service is, as far as that is known.
    fn query(&self, usual_port: u16) -> Option<Target> {
        if self.setting.flavour != Flavour::Matrixone {
            return None;
        }
        let written = self.setting.query_address.as_deref();
        if let Some(elsewhere) = written.and_then(literal) {
            return Some(elsewhere);
        }
        // A host name in it is that of the CN itself; the rules of the configuration see to it.
        let port = written.map_or(Some(usual_port), |address| address.rsplit_once(':')?.1.parse().ok())?;
        match &self.target {
            Some(Target::Tcp(address)) => {
                let mut address = *address;
                address.set_port(port);
                Some(Target::Tcp(address))
            }
            Some(Target::Unix(_)) | None => None,
        }
    }

    fn cn(&self, (state, work): (CnState, WorkState), query_port: u16) -> Cn {
        Cn {
            slot: self.slot,
            id: self.setting.id.as_str().into(),
            address: self.setting.address.as_str().into(),
            target: self.target.clone(),
            query: self.query(query_port),
            flavour: self.setting.flavour,
            state,
            labels: self.setting.labels.clone(),
            weight: self.setting.weight.max(1),
            work,
            data: self.setting.data.as_deref().map(Into::into),
            proxy_protocol: self.setting.proxy_protocol,
            tls: self.setting.tls,
            max_sessions: self.setting.max_sessions,
        }
    }
}

/// The target of an address that needs no name server: `unix:/path`, `1.2.3.4:3306`, `[::1]:3306`.
fn literal(address: &str) -> Option<Target> {
    match address.strip_prefix("unix:") {
        Some(path) => Some(Target::Unix(path.into())),
        None => address.parse().ok().map(Target::Tcp),
    }
}

fn differences(old: &CnSetting, new: &CnSetting) -> Vec<String> {
    let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
    let labels = |labels: &Labels| if labels.is_empty() { "none".into() } else { labels.to_string() };
    let tls = |cn: &CnSetting| cn.tls.map_or("that of [cn_tls]", TlsMode::name).to_owned();
    let most = |cn: &CnSetting| cn.max_sessions.map_or("none".into(), |most| most.to_string());
    let pairs = [
        ("address", old.address.clone(), new.address.clone()),
        ("flavour", format!("{:?}", old.flavour).to_lowercase(), format!("{:?}", new.flavour).to_lowercase()),
        ("labels", labels(&old.labels), labels(&new.labels)),
        ("weight", old.weight.to_string(), new.weight.to_string()),
        ("data", or_none(&old.data), or_none(&new.data)),
        ("query_address", or_none(&old.query_address), or_none(&new.query_address)),
        ("max_sessions", most(old), most(new)),
        ("proxy_protocol", old.proxy_protocol.to_string(), new.proxy_protocol.to_string()),
        ("tls", tls(old), tls(new)),
    ];
    let changed = pairs.into_iter().filter(|(_, old, new)| old != new);
    changed.map(|(what, was, is)| format!("{} {what} changed from {was} to {is}", new.id)).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    pub(crate) fn setting(id: &str, address: &str) -> CnSetting {
        CnSetting {
            id: id.into(),
            address: address.into(),
            flavour: Flavour::Mysql,
            labels: Labels::default(),
            weight: 1,
            data: None,
            query_address: None,
            proxy_protocol: false,
            tls: None,
            max_sessions: None,
        }
    }

    const A: &str = "10.0.0.1:3306";
    const B: &str = "10.0.0.2:3306";

    fn nobody(_: CnSlot) -> u32 {
        0
    }

    fn slots(table: &Table) -> String {
        let view = table.view(|_| (CnState::Working, WorkState::Working));
        view.cns.iter().map(|cn| format!("{}@{}", cn.id, cn.slot.0)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_reload_says_what_changed() {
        let mut table = Table::default();
        let first = table.reload(&[setting("cn1", A), setting("cn2", B)], nobody);
        assert_eq!(first.say, ["cn1 added at 10.0.0.1:3306", "cn2 added at 10.0.0.2:3306"]);
        let labels = Labels(BTreeMap::from([("account".into(), vec!["a".into(), "b*".into()])]));
        let second = table.reload(
            &[CnSetting { labels, weight: 3, ..setting("cn1", A) }, setting("cn3", "unix:/run/cn3.sock")],
            nobody,
        );
        assert_eq!(
            second.say,
            [
                "cn2 removed",
                "cn1 labels changed from none to account=a|b*",
                "cn1 weight changed from 1 to 3",
                "cn3 added at unix:/run/cn3.sock"
            ]
        );
        assert_eq!((second.fresh, second.removed), (vec![CnSlot(2)], vec![CnSlot(1)]));
        assert_eq!(table.epoch(), Epoch(2));
    }

    #[test]
    fn the_epoch_stays_when_nothing_but_the_order_changes() {
        let mut table = Table::default();
        table.reload(&[setting("cn1", A), setting("cn2", B)], nobody);
        assert_eq!(table.reload(&[setting("cn2", B), setting("cn1", A)], nobody), Changes::default());
        assert_eq!(table.epoch(), Epoch(1));
        assert_eq!(slots(&table), "cn2@1 cn1@0");
    }

    #[test]
    fn every_difference_of_two_settings_is_said() {
        let old = setting("cn1", A);
        let flavour = CnSetting { flavour: Flavour::Matrixone, ..old.clone() };
        assert_eq!(differences(&old, &flavour), ["cn1 flavour changed from mysql to matrixone"]);
        let data = CnSetting { data: Some("d1".into()), ..old.clone() };
        assert_eq!(differences(&old, &data), ["cn1 data changed from none to d1"]);
        let query = CnSetting { query_address: Some("10.0.0.1:1".into()), ..old.clone() };
        assert_eq!(differences(&old, &query), ["cn1 query_address changed from none to 10.0.0.1:1"]);
        let full = CnSetting { max_sessions: Some(9), ..old.clone() };
        assert_eq!(differences(&old, &full), ["cn1 max_sessions changed from none to 9"]);
        let tls = CnSetting { tls: Some(TlsMode::VerifyCa), ..old.clone() };
        assert_eq!(differences(&old, &tls), ["cn1 tls changed from that of [cn_tls] to verify_ca"]);
        let header = CnSetting { proxy_protocol: true, ..old.clone() };
        assert_eq!(differences(&old, &header), ["cn1 proxy_protocol changed from false to true"]);
        assert_eq!(differences(&old, &setting("cn1", B)), [format!("cn1 address changed from {A} to {B}")]);
    }

    #[test]
    fn what_was_seen_at_an_earlier_address_no_longer_applies() {
        let mut table = Table::default();
        table.reload(&[setting("cn1", A)], nobody);
        let then = table.epoch();
        assert!(table.still_applies(CnSlot(0), then));
        assert_eq!(table.reload(&[setting("cn1", B)], nobody).fresh, [CnSlot(0)]);
        assert!(!table.still_applies(CnSlot(0), then));
        assert!(table.still_applies(CnSlot(0), table.epoch()));
        assert!(!table.still_applies(CnSlot(1), table.epoch()), "there is no such CN");
    }

    #[test]
    fn a_host_name_has_no_target_until_it_is_resolved() {
        let mut table = Table::default();
        table.reload(&[setting("cn1", "db:3306"), setting("cn2", B)], nobody);
        let target =
            |table: &Table| table.view(|_| (CnState::Working, WorkState::Working)).cns[0].target.clone();
        let (a, b): (SocketAddr, SocketAddr) = (A.parse().unwrap(), B.parse().unwrap());
        assert_eq!(target(&table), None);
        assert_eq!(table.unresolved().collect::<Vec<_>>(), [("cn1", "db:3306")]);
        assert_eq!(table.resolved("cn1", &[]), None);
        assert_eq!(table.resolved("cn1", &[a, b]), Some(CnSlot(0)));
        assert_eq!(table.resolved("cn1", &[b, a]), None, "another order is no move");
        assert_eq!(target(&table), Some(Target::Tcp(a)));
        assert_eq!(table.resolved("cn1", &[]), None, "a name server that fails moves nobody");
        assert_eq!(table.epoch(), Epoch(2));
        assert_eq!(table.resolved("cn1", &[b]), Some(CnSlot(0)));
        assert_eq!((target(&table), table.epoch()), (Some(Target::Tcp(b)), Epoch(3)));
        assert_eq!(table.resolved("cn2", &[a]), None, "a literal address is not resolved");
        assert_eq!(table.resolved("cn9", &[a]), None);
    }

    #[test]
    fn a_query_service_is_on_the_host_of_its_cn_unless_it_is_said_to_be_elsewhere() {
        let cn = |id: &str, address: &str, query: Option<&str>| CnSetting {
            flavour: Flavour::Matrixone,
            query_address: query.map(str::to_owned),
            ..setting(id, address)
        };
        let mut table = Table::new(19998);
        let cns = [
            setting("mysql", A),
            cn("plain", "[fd00::1]:6001", None),
            cn("elsewhere", "db:6001", Some("10.0.0.9:7")),
            cn("named", "db:6001", Some("DB:8")),
            cn("local", "unix:/run/cn.sock", None),
        ];
        table.reload(&cns, nobody);
        let query = |table: &Table, at: usize| {
            let view = table.view(|_| (CnState::Working, WorkState::Working));
            view.cns[at].query.clone().map(|target| match target {
                Target::Tcp(address) => address.to_string(),
                Target::Unix(path) => path.display().to_string(),
            })
        };
        let told = |table: &Table| (0..5).map(|at| query(table, at).unwrap_or_default()).collect::<Vec<_>>();
        assert_eq!(told(&table), ["", "[fd00::1]:19998", "10.0.0.9:7", "", ""]);
        table.resolved("named", &[B.parse().unwrap()]);
        assert_eq!(query(&table, 3).unwrap(), "10.0.0.2:8");
        let epoch = table.epoch();
        assert!(!table.set_query_port(19998) && table.epoch() == epoch);
        assert!(table.set_query_port(5) && table.epoch() > epoch);
        assert_eq!(query(&table, 1).unwrap(), "[fd00::1]:5");
    }

    #[test]
    fn a_taken_slot_is_not_given_away() {
        let many: Vec<_> = (0..CNS_MAX).map(|n| setting(&format!("cn{n}"), A)).collect();
        let mut table = Table::default();
        table.reload(&many, nobody);
        let mut less_two = many[2..].to_vec();
        table.reload(&less_two, nobody);
        less_two.push(setting("new", B));
        let taken = |slot: CnSlot| u32::from(slot.0 < 2);
        assert_eq!((table.room(taken), table.room(nobody)), (0, 2));
        let epoch = table.epoch();
        assert_eq!(table.reload(&less_two, taken).say, ["new left out: there is room for 1024 CNs"]);
        assert_eq!(table.epoch(), epoch);
        let first_is_taken = |slot: CnSlot| u32::from(slot.0 < 1);
        assert_eq!(table.reload(&less_two, first_is_taken).fresh, [CnSlot(1)]);
    }

    #[test]
    fn a_duplicate_id_is_left_out() {
        let mut table = Table::default();
        let say = table.reload(&[setting("cn1", A), setting("cn1", B)], nobody).say;
        assert_eq!(say[1], "cn1 is listed twice; the second one is left out");
        assert_eq!(slots(&table), "cn1@0");
    }

    proptest! {
        /// Over any history of reloads no two CNs share a slot, and a CN that stays keeps its own.
        #[test]
        fn slots_are_stable_and_apart(
            history in prop::collection::vec(prop::collection::btree_set(0_u8..12, 0..8), 1..20)
        ) {
            let mut table = Table { used: CNS_MAX as u16 - 10, ..Table::default() };
            let mut before = BTreeMap::new();
            for ids in history {
                let cns: Vec<_> = ids.iter().map(|id| setting(&format!("cn{id}"), A)).collect();
                table.reload(&cns, nobody);
                let view = table.view(|_| (CnState::Working, WorkState::Working));
                prop_assert_eq!(view.cns.len(), cns.len(), "ten slots are enough for eight CNs");
                let now: BTreeMap<_, _> = view.cns.iter().map(|cn| (cn.id.clone(), cn.slot)).collect();
                for (id, slot) in &now {
                    prop_assert_eq!(before.get(id).unwrap_or(slot), slot);
                    prop_assert!(slot.index() < CNS_MAX);
                }
                let distinct: std::collections::BTreeSet<_> = now.values().collect();
                prop_assert_eq!(distinct.len(), now.len());
                before = now;
            }
        }
    }
}
