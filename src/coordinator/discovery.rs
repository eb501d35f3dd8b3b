//! Asks the CNs themselves which CNs there are: `SHOW BACKEND SERVERS`, again and again, on one open connection.
//!
//! Any CN of flavour `matrixone` in the table may be asked, found ones too, and one is enough. One that has answered is
//! asked again, as a new connection takes a MatrixOne CN 200 ms to greet; after a failure the most promising one is that
//! has not been asked yet. When all have failed, the pause doubles up to [`BACK_OFF_MAX`]. An old connection that breaks is no failure yet: the CN may
//! just have ended an idle one.
//!
//! What an answer means is for [`crate::placement`] to judge. A failure changes nothing in the table; it is said
//! once, and again only when its cause changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::line::{self, Line};
use super::road::Road;
use crate::config::settings::{Account, Discovery};
use crate::placement::found::{self, Answer};
use crate::route::{Flavour, Target, View};

/// For one question with its answer, and with the login where it takes one.
pub const QUESTION_LIMIT: Duration = Duration::from_secs(2);

/// What the pause between two rounds in which every CN has failed doubles up to.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// For taking leave of a CN; whoever does not listen is hung up on.
const FAREWELL_LIMIT: Duration = Duration::from_millis(500);

const QUESTION: &str = "SHOW BACKEND SERVERS";

/// The columns of an answer: UUID, Address, Work State, Labels.
const COLUMNS: usize = 4;

/// What came of one question.
#[derive(Debug)]
pub struct Sighting {
    /// The task that it comes from.
    task: u64,
    /// The CN that was asked.
    asked: Arc<str>,
    answer: Result<Answer, Error>,
}

/// Why a CN has not told which CNs there are.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no answer within {QUESTION_LIMIT:?}")]
    TimedOut,
    #[error(transparent)]
    Line(#[from] line::Error),
    #[error("its answer has {found} columns, not {COLUMNS}")]
    Form { found: usize },
    #[error("its answer has no row, which cannot be right")]
    Nobody,
}

/// A CN that may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seed {
    id: Arc<str>,
    target: Target,
}

type Seeds = Arc<[Seed]>;

/// The task that asks, and what is known of those whom it asks.
#[derive(Debug)]
pub struct Scout {
    rules: Discovery,
    seeds: watch::Sender<Seeds>,
    to: mpsc::Sender<Sighting>,
    /// None while there is no account to ask by.
    task: Option<Task>,
    /// Tasks begun so far.
    tasks: u64,
    /// Whether any answer has come.
    answered: bool,
    /// Why each of those whom the task asked last has not answered.
    failures: BTreeMap<Arc<str>, String>,
}

/// A task that ends with its owner.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Scout {
    /// Nobody is asked yet; what comes of it will go to `to`.
    pub fn new(rules: Discovery, to: mpsc::Sender<Sighting>) -> Self {
        let seeds = watch::Sender::new(Seeds::from([]));
        Self { rules, seeds, to, task: None, tasks: 0, answered: false, failures: BTreeMap::new() }
    }

    /// Has just the CNs of `view` asked that can be.
    pub fn fit(&mut self, view: &View) {
        let seeds = seeds(view);
        self.failures.retain(|id, _| seeds.iter().any(|seed| seed.id == *id));
        self.seeds.send_if_modified(|known| {
            let changed = *known != seeds;
            *known = seeds;
            changed
        });
        if let (Some(account), None) = (&self.rules.account, &self.task) {
            self.tasks += 1;
            let asker = Asker {
                account: account.clone(),
                interval: self.rules.interval,
                task: self.tasks,
                to: self.to.clone(),
                line: None,
            };
            self.task = Some(Task(tokio::spawn(asker.keep_asking(self.seeds.subscribe()))));
        }
    }

    /// Takes over another account or interval.
    pub fn set_rules(&mut self, rules: &Discovery, view: &View) {
        if self.rules != *rules {
            self.rules = rules.clone();
            self.task = None;
            self.failures.clear();
            self.fit(view);
        }
    }

    /// Takes note of what came of a question and says what is new; gives the answer, if there is one.
    pub fn learn(&mut self, sighting: Sighting) -> Option<Answer> {
        if self.task.is_none() || sighting.task != self.tasks {
            return None;
        }
        match sighting.answer {
            Ok(answer) => {
                let recovered = self.failures.remove(&sighting.asked).is_some();
                if recovered || !self.answered {
                    info!("{} tells which CNs there are: {}", sighting.asked, answer.found().count());
                }
                self.answered = true;
                Some(answer)
            }
            Err(error) => {
                let cause = error.to_string();
                if self.failures.get(&sighting.asked) != Some(&cause) {
                    warn!("{} does not tell which CNs there are: {cause}", sighting.asked);
                    self.failures.insert(sighting.asked, cause);
                }
                None
            }
        }
    }

    /// Whether somebody has answered, or everybody was asked at least once.
    pub fn has_tried(&self) -> bool {
        self.task.is_none() || self.answered || self.failures.len() >= self.seeds.borrow().len()
    }
}

/// Those that can be asked, the most promising first.
fn seeds(view: &View) -> Seeds {
    let mut cns: Vec<_> = view.cns.iter().filter(|cn| cn.flavour == Flavour::Matrixone).collect();
    cns.sort_by_key(|cn| (cn.state, cn.work));
    let seed = |target: &Target, id: &Arc<str>| Seed { id: id.clone(), target: target.clone() };
    cns.into_iter().filter_map(|cn| cn.target.as_ref().map(|target| seed(target, &cn.id))).collect()
}

/// Nobody listens any more.
struct Gone;

/// What the task knows.
struct Asker {
    account: Account,
    interval: Duration,
    task: u64,
    to: mpsc::Sender<Sighting>,
    /// To the one that answered last.
    line: Option<Line>,
}

impl Asker {
    async fn keep_asking(mut self, mut seeds: watch::Receiver<Seeds>) {
        let mut pause = self.interval;
        loop {
            if seeds.borrow_and_update().is_empty() {
                self.line = None;
                match seeds.changed().await {
                    Ok(()) => continue,
                    Err(_) => return,
                }
            }
            let Ok(answered) = self.round(&mut seeds).await else { return };
            if answered {
                pause = self.interval;
            }
            sleep(pause).await;
            if !answered {
                pause = (pause * 2).min(BACK_OFF_MAX.max(self.interval));
            }
        }
    }

    /// Asks one after the other until one answers, beginning with the one that answered last; false if none did.
    async fn round(&mut self, seeds: &mut watch::Receiver<Seeds>) -> Result<bool, Gone> {
        let mut asked = Vec::new();
        loop {
            let now = seeds.borrow_and_update().clone();
            let Some(seed) = self.next(&now, &asked) else { return Ok(false) };
            let answer = self.ask(&seed.target).await;
            let answered = answer.is_ok();
            let sighting = Sighting { task: self.task, asked: seed.id.clone(), answer };
            self.to.send(sighting).await.map_err(|_| Gone)?;
            if answered {
                return Ok(true);
            }
            asked.push(seed.target.clone());
        }
    }

    fn next<'s>(&self, seeds: &'s [Seed], asked: &[Target]) -> Option<&'s Seed> {
        let is_last = |seed: &&Seed| self.line.as_ref().is_some_and(|line| line.road.target == seed.target);
        let fresh = || seeds.iter().filter(|seed| !asked.contains(&seed.target));
        fresh().find(is_last).or_else(|| fresh().next())
    }

    /// Asks on the open line if it leads there, else on a new one, which stays open if an answer comes.
    async fn ask(&mut self, target: &Target) -> Result<Answer, Error> {
        if let Some(mut line) = self.line.take().filter(|line| line.road.target == *target) {
            match timeout(QUESTION_LIMIT, ask(&mut line)).await.unwrap_or(Err(Error::TimedOut)) {
                Ok(answer) => {
                    self.line = Some(line);
                    return Ok(answer);
                }
                Err(Error::Line(error)) if error.is_end() => {}
                Err(error) => return Err(error),
            }
        }
        let anew = async {
            let mut line = Line::open(&Road::plain(target.clone()), &self.account, false).await?;
            let answer = ask(&mut line).await?;
            Ok::<_, Error>((line, answer))
        };
        let (line, answer) = timeout(QUESTION_LIMIT, anew).await.unwrap_or(Err(Error::TimedOut))?;
        if let Some(left) = self.line.replace(line) {
            let _ = timeout(FAREWELL_LIMIT, left.close()).await;
        }
        Ok(answer)
    }
}

async fn ask(line: &mut Line) -> Result<Answer, Error> {
    let table = line.ask(QUESTION).await?;
    if table.columns.len() != COLUMNS {
        return Err(Error::Form { found: table.columns.len() });
    }
    let mut answer = Answer::default();
    for row in &table.rows {
        let cell = |at: usize| row.get(at).and_then(|value| value.as_deref()).unwrap_or_default();
        answer.take(found::Row { id: cell(0), address: cell(1), work: cell(2), labels: cell(3) });
    }
    if table.rows.is_empty() { Err(Error::Nobody) } else { Ok(answer) }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;
    use crate::placement::found::tests::answer;
    use crate::route::view::tests::{cn, view};
    use crate::route::{Cn, CnState, WorkState};

    fn rules(interval: Duration) -> Discovery {
        let account = Account { user: "dump".into(), password: "secret".into() };
        Discovery { account: Some(account), interval, query_port: 19998, hakeeper: Vec::new() }
    }

    fn nowhere(slot: u16, id: &str, change: impl FnOnce(&mut Cn)) -> Arc<Cn> {
        let mut cn = cn(slot, id, &[]);
        let changed = Arc::get_mut(&mut cn).unwrap();
        changed.flavour = Flavour::Matrixone;
        changed.target = Some(Target::Unix(format!("/nowhere/{id}").into()));
        change(changed);
        cn
    }

    fn two() -> View {
        view([nowhere(0, "a", |_| {}), nowhere(1, "b", |_| {})])
    }

    fn sighting(task: u64, asked: &str, answer: Result<Answer, Error>) -> Sighting {
        Sighting { task, asked: asked.into(), answer }
    }

    #[test]
    fn seeds_are_the_cns_that_can_be_asked_the_most_promising_first() {
        let view = view([
            nowhere(0, "down", |cn| cn.state = CnState::Down),
            nowhere(1, "drains", |cn| cn.work = WorkState::Draining),
            nowhere(2, "well", |_| {}),
            nowhere(3, "unresolved", |cn| cn.target = None),
            nowhere(4, "other", |cn| cn.flavour = Flavour::Mysql),
        ]);
        let seeds = seeds(&view);
        let ids: Vec<&str> = seeds.iter().map(|seed| &*seed.id).collect();
        assert_eq!(ids, ["well", "drains", "down"]);
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_fail_the_pause_doubles_up_to_its_limit() {
        let (to, mut sightings) = mpsc::channel(1);
        let mut scout = Scout::new(rules(Duration::from_millis(500)), to);
        scout.fit(&two());
        let (begun, mut times) = (Instant::now(), Vec::new());
        for nth in 0..16 {
            let sighting = sightings.recv().await.unwrap();
            assert_eq!(&*sighting.asked, ["a", "b"][nth % 2], "one after the other");
            if nth % 2 == 0 {
                times.push(begun.elapsed().as_millis() / 100);
            }
            assert!(scout.learn(sighting).is_none());
        }
        assert_eq!(times, [0, 5, 15, 35, 75, 125, 175, 225], "in tenths of a second");
    }

    #[tokio::test]
    async fn everybody_is_asked_once_before_the_first_picture() {
        let (to, mut sightings) = mpsc::channel(1);
        let mut scout = Scout::new(rules(Duration::from_secs(60)), to);
        assert!(scout.has_tried(), "nobody asks yet");
        scout.fit(&two());
        assert!(!scout.has_tried());
        scout.learn(sightings.recv().await.unwrap());
        assert!(!scout.has_tried());
        scout.learn(sightings.recv().await.unwrap());
        assert!(scout.has_tried());
        scout.set_rules(&rules(Duration::from_secs(61)), &two());
        assert!(!scout.has_tried(), "the next task asks anew");
        let late = sighting(1, "a", Ok(answer(&[("a", "10.0.0.1:1", "Working", "")])));
        assert!(scout.learn(late).is_none(), "told to the task before");
        let told = sighting(2, "a", Ok(answer(&[("a", "10.0.0.1:1", "Working", "")])));
        assert!(scout.learn(told).is_some() && scout.has_tried());
        scout.set_rules(&Discovery { account: None, ..rules(Duration::from_secs(61)) }, &two());
        let late = sighting(2, "a", Ok(answer(&[("a", "10.0.0.1:1", "Working", "")])));
        assert!(scout.learn(late).is_none() && scout.has_tried(), "nobody is to be asked");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_cn_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::Tcp(listener.local_addr().unwrap());
        let (to, mut sightings) = mpsc::channel(1);
        let mut scout = Scout::new(rules(Duration::from_secs(1)), to);
        scout.fit(&view([nowhere(0, "mute", |cn| cn.target = Some(target))]));
        let sighting = sightings.recv().await.unwrap();
        assert!(matches!(sighting.answer, Err(Error::TimedOut)), "{sighting:?}");
    }
}
