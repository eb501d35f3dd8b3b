//! The watch over each CN: when to probe it, and what was last learnt of it.
//!
//! A watch is about one CN at one address; when the CN moves, a new watch begins. Its loop has at most one
//! probe in flight. The loops of many CNs start at different places within the interval and keep to a grid,
//! so their probes stay apart. Whether a CN is well is for [`crate::placement`] to judge.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::probe;
use super::road::Road;
use crate::config::settings::Probe;
use crate::config::tls::CnTls;
use crate::ident::{CnSlot, Epoch};
use crate::route::{Cn, View};
use crate::session::face::Face;

/// At least this long from one probe of a CN to the next that was asked for, and the shortest interval.
const PROBES_APART: Duration = Duration::from_millis(100);

/// What a probe found out.
#[derive(Debug)]
pub struct Outcome {
    pub slot: CnSlot,
    /// The epoch of the view by which the CN was dialled.
    pub epoch: Epoch,
    pub face: Result<Face, probe::Error>,
    pub begun: Instant,
    /// Until the CN greeted or failed.
    pub took: Duration,
}

/// What was last learnt of a CN.
#[derive(Debug, Default)]
pub struct Record {
    /// Whether any probe has ended.
    pub seen: bool,
    /// How it greeted last.
    pub face: Option<Face>,
    /// How long the last good probe took.
    pub took: Option<Duration>,
    /// The last failure and when it was.
    pub failure: Option<(String, Instant)>,
}

impl Record {
    pub fn failed(&mut self, cause: String) {
        self.failure = Some((cause, Instant::now()));
    }
}

/// All watches, by slot.
#[derive(Debug)]
pub struct Watches {
    by_slot: BTreeMap<CnSlot, Watch>,
    rules: Rules,
    outcomes: mpsc::Sender<Outcome>,
}

/// By what all CNs are probed.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    pub probe: Probe,
    pub tls: Arc<CnTls>,
}

#[derive(Debug)]
struct Watch {
    cn: Arc<Cn>,
    epoch: Epoch,
    offset: Duration,
    record: Record,
    poke: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Watches {
    /// No watch yet; outcomes will go to `outcomes`.
    pub fn new(rules: Rules, outcomes: mpsc::Sender<Outcome>) -> Self {
        Self { by_slot: BTreeMap::new(), rules, outcomes }
    }

    /// Watches just the CNs of `view`; those that are new or have moved are probed at once.
    pub fn fit(&mut self, view: &View) {
        self.by_slot.retain(|slot, _| view.cn(*slot).is_some());
        for (nth, cn) in view.cns.iter().enumerate() {
            if self.by_slot.get(&cn.slot).is_some_and(|watch| watch.is_about(cn)) {
                continue;
            }
            let offset = share(self.rules.probe.interval, nth, view.cns.len());
            let watch = Watch::begin(cn.clone(), view.epoch, offset, &self.rules, &self.outcomes);
            self.by_slot.insert(cn.slot, watch);
        }
    }

    /// Takes over other intervals and limits; what was learnt stays.
    pub fn set_rules(&mut self, rules: Rules) {
        if self.rules == rules {
            return;
        }
        self.rules = rules;
        for watch in self.by_slot.values_mut() {
            let mut next =
                Watch::begin(watch.cn.clone(), watch.epoch, watch.offset, &self.rules, &self.outcomes);
            next.record = std::mem::take(&mut watch.record);
            *watch = next;
        }
    }

    /// Probes a CN as soon as may be. One that was never probed is about to be.
    pub fn poke(&self, slot: CnSlot) {
        if let Some(watch) = self.by_slot.get(&slot).filter(|watch| watch.record.seen) {
            watch.poke.notify_one();
        }
    }

    /// Writes an outcome into the record; false if it is about a CN that is no longer there.
    pub fn learn(&mut self, outcome: &Outcome) -> bool {
        let Some(watch) = self.by_slot.get_mut(&outcome.slot).filter(|watch| watch.epoch == outcome.epoch)
        else {
            return false;
        };
        let record = &mut watch.record;
        record.seen = true;
        match &outcome.face {
            Ok(face) => {
                record.face = Some(face.clone());
                record.took = Some(outcome.took);
            }
            Err(error) => record.failed(error.to_string()),
        }
        true
    }

    pub fn record(&mut self, slot: CnSlot) -> Option<&mut Record> {
        self.by_slot.get_mut(&slot).map(|watch| &mut watch.record)
    }

    pub fn record_of(&mut self, id: &str) -> Option<&mut Record> {
        let watch = self.by_slot.values_mut().find(|watch| &*watch.cn.id == id);
        watch.map(|watch| &mut watch.record)
    }

    /// Whether every CN has been probed, or at least tried.
    pub fn all_seen(&self) -> bool {
        self.by_slot.values().all(|watch| watch.record.seen)
    }

    /// The last face of every CN that has greeted.
    pub fn faces(&self) -> impl Iterator<Item = &Face> {
        self.by_slot.values().filter_map(|watch| watch.record.face.as_ref())
    }
}

impl Watch {
    fn begin(cn: Arc<Cn>, epoch: Epoch, offset: Duration, rules: &Rules, to: &mpsc::Sender<Outcome>) -> Self {
        let poke = Arc::new(Notify::new());
        let keep = keep_probing(cn.clone(), epoch, rules.clone(), offset, poke.clone(), to.clone());
        let (record, task) = (Record::default(), tokio::spawn(keep));
        Self { cn, epoch, offset, record, poke, task }
    }

    fn is_about(&self, cn: &Cn) -> bool {
        self.cn.id == cn.id
            && self.cn.target == cn.target
            && self.cn.flavour == cn.flavour
            && self.cn.proxy_protocol == cn.proxy_protocol
            && self.cn.tls == cn.tls
            // Whom its certificate should be for.
            && self.cn.address == cn.address
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where the `nth` of `all` begins within the interval.
pub(super) fn share(interval: Duration, nth: usize, all: usize) -> Duration {
    interval.mul_f64(nth as f64 / all.max(1) as f64)
}

async fn keep_probing(
    cn: Arc<Cn>,
    epoch: Epoch,
    Rules { probe: rules, tls }: Rules,
    offset: Duration,
    poke: Arc<Notify>,
    to: mpsc::Sender<Outcome>,
) {
    let Some(road) = Road::to(&cn, &tls) else { return };
    let mut next = Instant::now() + offset;
    loop {
        let begun = Instant::now();
        let (face, took) = probe::probe(&road, cn.flavour, rules.timeout).await;
        if to.send(Outcome { slot: cn.slot, epoch, face, begun, took }).await.is_err() {
            return;
        }
        while next <= Instant::now() {
            next += rules.interval.max(PROBES_APART);
        }
        let poked = async {
            sleep_until(begun + PROBES_APART).await;
            poke.notified().await;
        };
        tokio::select! {
            () = sleep_until(next) => (),
            () = poked => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio::time::{advance, timeout};

    use super::*;
    use crate::config::settings::Settings;
    use crate::ident::CnSlot;
    use crate::route::{CnState, Flavour, Target};

    fn cn(slot: u16, target: Option<Target>) -> Arc<Cn> {
        Arc::new(Cn {
            slot: CnSlot(slot),
            id: format!("cn{slot}").into(),
            address: "x:1".into(),
            target,
            query: None,
            flavour: Flavour::Mysql,
            state: CnState::Working,
            labels: Default::default(),
            weight: 1,
            work: Default::default(),
            data: None,
            proxy_protocol: false,
            tls: None,
            max_sessions: None,
        })
    }

    fn rules(interval: Duration) -> Rules {
        let probe = Probe { interval, timeout: Duration::from_secs(1), fall: 2, rise: 2 };
        Rules { probe, tls: Settings::default().cn_tls }
    }

    #[test]
    fn watches_begin_at_different_places() {
        let second = Duration::from_secs(1);
        let offsets: Vec<_> = (0..4).map(|nth| share(second, nth, 4).as_millis()).collect();
        assert_eq!(offsets, [0, 250, 500, 750]);
    }

    #[tokio::test]
    async fn a_silent_cn_has_one_probe_in_flight_and_a_poke_waits_for_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Some(Target::Tcp(listener.local_addr().unwrap()));
        let (sender, mut outcomes) = mpsc::channel(8);
        let mut watches = Watches::new(rules(Duration::from_secs(60)), sender);
        let view = View { epoch: Epoch(1), cns: vec![cn(0, target)] };
        watches.fit(&view);
        let (first, _) = listener.accept().await.unwrap();
        watches.record(CnSlot(0)).unwrap().seen = true;
        watches.poke(CnSlot(0));
        assert!(timeout(Duration::from_millis(200), listener.accept()).await.is_err());
        drop(first);
        let outcome = outcomes.recv().await.unwrap();
        assert!(matches!(outcome.face, Err(probe::Error::Closed)), "{outcome:?}");
        assert!(watches.learn(&outcome));
        let (mut second, _) = timeout(Duration::from_secs(2), listener.accept()).await.unwrap().unwrap();
        watches.fit(&View { epoch: Epoch(2), cns: Vec::new() });
        assert_eq!(second.read(&mut [0; 8]).await.unwrap(), 0, "a dropped watch hangs up");
        assert!(!watches.learn(&outcome));
    }

    #[tokio::test]
    async fn a_cn_that_stays_keeps_its_record() {
        let (sender, _outcomes) = mpsc::channel(8);
        let mut watches = Watches::new(rules(Duration::from_secs(60)), sender);
        watches.fit(&View { epoch: Epoch(1), cns: vec![cn(0, None), cn(1, None)] });
        watches.record(CnSlot(0)).unwrap().failed("x".into());
        watches.set_rules(rules(Duration::from_secs(1)));
        let moved = Some(Target::Unix("/nowhere".into()));
        watches.fit(&View { epoch: Epoch(2), cns: vec![cn(0, None), cn(1, moved)] });
        assert!(watches.record_of("cn0").unwrap().failure.is_some());
        let late = Outcome {
            slot: CnSlot(1),
            epoch: Epoch(1),
            face: Err(probe::Error::Closed),
            begun: Instant::now(),
            took: Duration::ZERO,
        };
        assert!(!watches.learn(&late));
        assert!(!watches.all_seen());
    }

    #[tokio::test(start_paused = true)]
    async fn probes_keep_to_their_grid() {
        let (sender, mut outcomes) = mpsc::channel(8);
        let mut watches = Watches::new(rules(Duration::from_secs(10)), sender);
        let nowhere = |slot| cn(slot, Some(Target::Unix("/nowhere".into())));
        watches.fit(&View { epoch: Epoch(1), cns: vec![nowhere(0), nowhere(1)] });
        let begun = Instant::now();
        let mut times = Vec::new();
        for _ in 0..6 {
            let outcome = outcomes.recv().await.unwrap();
            times.push((begun.elapsed().as_secs(), outcome.slot.0));
            advance(Duration::from_millis(1)).await;
        }
        assert_eq!(times, [(0, 0), (0, 1), (5, 1), (10, 0), (15, 1), (20, 0)]);
    }
}
