//! What a comparison found: every sample as JSON, and a table of medians for people.
//!
//! Invariant: a ratio to HAProxy is formed within a round and only then is the median taken, as the absolute
//! figures of a virtual machine drift from minute to minute. A figure that was not taken is shown as a dash.

use std::fmt::Write;

use serde::Serialize;

use crate::figures::Figures;
use crate::machine::Machine;

/// The proxy's CPU was busy for so much longer than the proxy itself: something else ran there.
const DISTURBED: f64 = 1.15;

/// The peer that ratios refer to.
pub const REFERENCE: &str = "haproxy";

#[derive(Serialize)]
pub struct Report {
    pub date: String,
    pub machine: Machine,
    pub settings: Settings,
    pub peers: Vec<PeerReport>,
}

#[derive(Serialize)]
pub struct Settings {
    pub connections: Vec<usize>,
    pub rounds: usize,
    pub seconds: f64,
    pub query_bytes: usize,
    pub reply_bytes: usize,
    pub proxy_cpu: usize,
    pub client_cpu: usize,
}

#[derive(Serialize)]
pub struct PeerReport {
    pub name: String,
    pub version: String,
    pub rounds: Vec<Sample>,
}

/// What one peer showed in one round.
#[derive(Clone, Default, Serialize)]
pub struct Sample {
    pub loads: Vec<LoadSample>,
    pub logins: Option<LoadSample>,
    pub idle: Option<IdleSample>,
    /// Why there is less than was asked for.
    pub failure: Option<String>,
}

/// Round trips (or whole logins) of so many connections at once.
#[derive(Clone, Serialize)]
pub struct LoadSample {
    pub connections: usize,
    /// CPU time of the proxy per round trip, in microseconds; none without a proxy.
    pub cpu_us: Option<f64>,
    /// Time that the proxy's CPU was not idle, per round trip, whoever used it: a check on `cpu_us`.
    pub cpu_busy_us: Option<f64>,
    pub figures: Figures,
}

/// What so many silent sessions cost.
#[derive(Clone, Serialize)]
pub struct IdleSample {
    pub sessions: usize,
    pub rss_before_kib: f64,
    pub rss_after_kib: f64,
    pub rss_per_session_kib: f64,
    /// Busy connections beside the silent ones.
    pub busy: Option<LoadSample>,
}

impl Sample {
    #[must_use]
    pub fn errors(&self) -> u64 {
        let idle = self.idle.iter().filter_map(|idle| idle.busy.as_ref());
        let all = self.loads.iter().chain(&self.logins).chain(idle);
        all.map(|load| load.figures.errors).sum::<u64>() + u64::from(self.failure.is_some())
    }
}

impl Report {
    /// The tables, one for each number of connections, then logins, then idle sessions.
    #[must_use]
    pub fn tables(&self) -> String {
        let mut out = String::new();
        for &connections in &self.settings.connections {
            let pick = move |sample: &Sample| {
                sample.loads.iter().find(|load| load.connections == connections).cloned()
            };
            self.load_table(&mut out, &format!("{connections} connections"), "round trips", pick);
        }
        self.load_table(&mut out, "logins", "logins", |sample| sample.logins.clone());
        let busy = |sample: &Sample| sample.idle.as_ref()?.busy.clone();
        self.load_table(&mut out, "busy connections beside the idle ones", "round trips", busy);
        self.idle_table(&mut out);
        let disturbed = self.disturbed();
        if disturbed > 0 {
            let _ = writeln!(
                out,
                "\nnot a quiet machine: in {disturbed} measurements other processes used the proxy's CPU; latency and \
                 throughput there say little, CPU time somewhat more"
            );
        }
        for peer in &self.peers {
            for sample in &peer.rounds {
                let faults = sample.loads.iter().chain(&sample.logins);
                let faults = faults.filter_map(|load| load.figures.first_error.as_ref());
                for fault in faults.chain(&sample.failure) {
                    let _ = writeln!(out, "{}: {fault}", peer.name);
                }
            }
        }
        out
    }

    /// Measurements in which something else took the proxy's CPU. One connection alone does not fill a CPU, so it
    /// cannot tell.
    fn disturbed(&self) -> usize {
        let loads = self.peers.iter().flat_map(|peer| &peer.rounds).flat_map(|sample| &sample.loads);
        let other = |load: &&LoadSample| {
            let pair = load.cpu_busy_us.zip(load.cpu_us).filter(|_| load.connections > 1);
            pair.is_some_and(|(busy, own)| busy > own * DISTURBED)
        };
        loads.filter(other).count()
    }

    fn load_table(
        &self,
        out: &mut String,
        title: &str,
        unit: &str,
        pick: impl Fn(&Sample) -> Option<LoadSample>,
    ) {
        let reference = self.peers.iter().find(|peer| peer.name == REFERENCE);
        if !self.peers.iter().any(|peer| peer.rounds.iter().any(|sample| pick(sample).is_some())) {
            return;
        }
        let _ = writeln!(
            out,
            "\n{title}\n{:<16} {:>8} {:>17} {:>9} {:>8} {:>9} {:>9} {:>9} {:>9} {:>10}",
            "",
            "CPU us",
            "min..max",
            "x haproxy",
            "busy us",
            "p50 us",
            "x haproxy",
            "p99 us",
            "p99.9 us",
            unit,
        );
        for peer in &self.peers {
            let loads: Vec<Option<LoadSample>> = peer.rounds.iter().map(&pick).collect();
            let gather = |of: &dyn Fn(&LoadSample) -> Option<f64>| -> Vec<f64> {
                loads.iter().flatten().filter_map(of).collect()
            };
            let ratio = |of: &dyn Fn(&LoadSample) -> Option<f64>| -> Vec<f64> {
                let others = reference.map(|peer| peer.rounds.as_slice()).unwrap_or_default().iter();
                let pairs = loads.iter().zip(others.map(&pick));
                pairs.filter_map(|(own, other)| Some(of(own.as_ref()?)? / of(&other?)?)).collect()
            };
            let cpu = gather(&|load| load.cpu_us);
            let _ = writeln!(
                out,
                "{:<16} {:>8} {:>17} {:>9} {:>8} {:>9} {:>9} {:>9} {:>9} {:>8}/s",
                peer.name,
                shown(median(&cpu), 2),
                range(&cpu, 2),
                shown(median(&ratio(&|load| load.cpu_us)), 3),
                shown(median(&gather(&|load| load.cpu_busy_us)), 2),
                shown(median(&gather(&|load| Some(load.figures.p50_us))), 1),
                shown(median(&ratio(&|load| Some(load.figures.p50_us))), 3),
                shown(median(&gather(&|load| Some(load.figures.p99_us))), 1),
                shown(median(&gather(&|load| Some(load.figures.p999_us))), 1),
                shown(median(&gather(&|load| Some(load.figures.per_second))), 0),
            );
        }
    }

    fn idle_table(&self, out: &mut String) {
        let mut titled = false;
        for peer in &self.peers {
            let idle: Vec<&IdleSample> =
                peer.rounds.iter().filter_map(|sample| sample.idle.as_ref()).collect();
            let Some(first) = idle.first() else { continue };
            if !titled {
                let _ = writeln!(
                    out,
                    "\n{} idle sessions\n{:<16} {:>14} {:>15}",
                    first.sessions, "", "RSS KiB each", "MiB before"
                );
                titled = true;
            }
            let each: Vec<f64> = idle.iter().map(|sample| sample.rss_per_session_kib).collect();
            let before: Vec<f64> = idle.iter().map(|sample| sample.rss_before_kib / 1024.0).collect();
            let _ = writeln!(
                out,
                "{:<16} {:>14} {:>15}",
                peer.name,
                shown(median(&each), 2),
                shown(median(&before), 1)
            );
        }
    }
}

/// The middle value, or the mean of the middle two.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    Some(if sorted.len() % 2 == 1 { upper } else { f64::midpoint(sorted[sorted.len() / 2 - 1], upper) })
}

fn range(values: &[f64], digits: usize) -> String {
    let low = values.iter().copied().min_by(f64::total_cmp);
    let high = values.iter().copied().max_by(f64::total_cmp);
    low.zip(high).map_or_else(|| "-".to_owned(), |(low, high)| format!("{low:.digits$}..{high:.digits$}"))
}

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn what_was_not_taken_is_a_dash() {
        assert_eq!((shown(None, 1), range(&[], 1)), ("-".to_owned(), "-".to_owned()));
        assert_eq!(range(&[2.0, 1.0], 1), "1.0..2.0");
    }
}
