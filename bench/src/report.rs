//! What a comparison found: every sample as JSON, and a table of medians for people.
//!
//! Invariant: a ratio is formed within a round and only then is the median taken, as the absolute figures of a
//! virtual machine drift from minute to minute. Peers are told side by side with those that speak TLS on the same
//! legs, HAProxy among them. A figure that was not taken is shown as a dash.

use std::fmt::Write;

use serde::Serialize;

use crate::figures::Figures;
use crate::legs::Legs;
use crate::machine::Machine;

/// The proxy's CPU was busy for so much longer than the proxy itself: something else ran there.
const DISTURBED: f64 = 1.15;

/// The peer that ratios refer to, with TLS on the same legs.
const REFERENCE: &str = "haproxy";

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
    /// What is spoken where there is TLS; none where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
}

#[derive(Serialize)]
pub struct PeerReport {
    pub name: String,
    pub version: String,
    /// Where it speaks TLS.
    pub tls: Legs,
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

impl PeerReport {
    /// Its name without TLS.
    fn base(&self) -> &str {
        Legs::of_name(&self.name).0
    }

    /// The median over the rounds of this peer's figure by that of `other`.
    fn ratio(&self, other: Option<&Self>, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        let pairs = self.rounds.iter().zip(&other?.rounds);
        median(&pairs.filter_map(|(own, other)| Some(of(own)? / of(other)?)).collect::<Vec<_>>())
    }

    fn gather(&self, of: impl Fn(&Sample) -> Option<f64>) -> Vec<f64> {
        self.rounds.iter().filter_map(of).collect()
    }
}

impl Report {
    /// The tables, one for each number of connections, then logins, then idle sessions; all that for each way to have TLS.
    #[must_use]
    pub fn tables(&self) -> String {
        let mut out = String::new();
        for legs in Legs::ALL {
            self.tables_of(legs, &mut out);
        }
        if let Some(spoken) = &self.settings.tls {
            let _ = writeln!(out, "\n{spoken}: client and null CN take nothing else");
        }
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

    fn tables_of(&self, legs: Legs, out: &mut String) {
        for &connections in &self.settings.connections {
            let pick = move |sample: &Sample| {
                sample.loads.iter().find(|load| load.connections == connections).cloned()
            };
            self.load_table(out, &format!("{connections} connections"), "round trips", legs, pick);
        }
        self.load_table(out, "logins", "logins", legs, |sample| sample.logins.clone());
        let busy = |sample: &Sample| sample.idle.as_ref()?.busy.clone();
        self.load_table(out, "busy connections beside the idle ones", "round trips", legs, busy);
        self.idle_table(legs, out);
    }

    /// Who is called `base` without TLS and has it on `legs`.
    fn find(&self, base: &str, legs: Legs) -> Option<&PeerReport> {
        self.peers.iter().find(|peer| peer.base() == base && peer.tls == legs)
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
        legs: Legs,
        pick: impl Fn(&Sample) -> Option<LoadSample>,
    ) {
        let here = |peer: &&PeerReport| peer.tls == legs;
        let mut shown_here = self.peers.iter().filter(here).flat_map(|peer| &peer.rounds);
        if !shown_here.any(|sample| pick(sample).is_some()) {
            return;
        }
        let _ = writeln!(
            out,
            "\n{title}{}\n{:<20} {:>8} {:>17} {:>9} {:>8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}",
            legs.title(),
            "",
            "CPU us",
            "min..max",
            "x haproxy",
            if legs == Legs::Plain { "" } else { "x plain" },
            "busy us",
            "p50 us",
            "x haproxy",
            "p99 us",
            "x haproxy",
            "p99.9 us",
            unit,
        );
        for peer in self.peers.iter().filter(here) {
            let _ = writeln!(out, "{}", self.load_row(peer, &pick));
        }
    }

    fn load_row(&self, peer: &PeerReport, pick: impl Fn(&Sample) -> Option<LoadSample>) -> String {
        let haproxy = self.find(REFERENCE, peer.tls);
        let plain = self.find(peer.base(), Legs::Plain).filter(|_| peer.tls != Legs::Plain);
        let cpu = |sample: &Sample| pick(sample)?.cpu_us;
        let busy = |sample: &Sample| pick(sample)?.cpu_busy_us;
        let p50 = |sample: &Sample| Some(pick(sample)?.figures.p50_us);
        let p99 = |sample: &Sample| Some(pick(sample)?.figures.p99_us);
        let p999 = |sample: &Sample| Some(pick(sample)?.figures.p999_us);
        let pace = |sample: &Sample| Some(pick(sample)?.figures.per_second);
        let all_cpu = peer.gather(cpu);
        format!(
            "{:<20} {:>8} {:>17} {:>9} {:>8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8}/s",
            peer.name,
            shown(median(&all_cpu), 2),
            range(&all_cpu, 2),
            shown(peer.ratio(haproxy, cpu), 3),
            if peer.tls == Legs::Plain { String::new() } else { shown(peer.ratio(plain, cpu), 3) },
            shown(median(&peer.gather(busy)), 2),
            shown(median(&peer.gather(p50)), 1),
            shown(peer.ratio(haproxy, p50), 3),
            shown(median(&peer.gather(p99)), 1),
            shown(peer.ratio(haproxy, p99), 3),
            shown(median(&peer.gather(p999)), 1),
            shown(median(&peer.gather(pace)), 0),
        )
    }

    fn idle_table(&self, legs: Legs, out: &mut String) {
        let here = |peer: &&PeerReport| peer.tls == legs;
        let mut all = self.peers.iter().filter(here).flat_map(|peer| &peer.rounds);
        let Some(first) = all.find_map(|sample| sample.idle.as_ref()) else { return };
        let more = if legs == Legs::Plain { "" } else { "KiB over plain" };
        let _ = writeln!(
            out,
            "\n{} idle sessions{}\n{:<20} {:>14} {:>9} {:>14} {:>15}",
            first.sessions,
            legs.title(),
            "",
            "RSS KiB each",
            "x haproxy",
            more,
            "MiB before"
        );
        for peer in self.peers.iter().filter(here) {
            let each = |sample: &Sample| Some(sample.idle.as_ref()?.rss_per_session_kib);
            let before = |sample: &Sample| Some(sample.idle.as_ref()?.rss_before_kib / 1024.0);
            let own = median(&peer.gather(each));
            let plain = self.find(peer.base(), Legs::Plain).filter(|_| legs != Legs::Plain);
            let plain = plain.and_then(|plain| median(&plain.gather(each)));
            let over = own.zip(plain).map(|(own, plain)| own - plain);
            let _ = writeln!(
                out,
                "{:<20} {:>14} {:>9} {:>14} {:>15}",
                peer.name,
                shown(own, 2),
                shown(peer.ratio(self.find(REFERENCE, legs), each), 3),
                if legs == Legs::Plain { String::new() } else { shown(over, 2) },
                shown(median(&peer.gather(before)), 1)
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
    use std::time::Instant;

    use super::*;
    use crate::figures::Window;

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

    /// A peer of two rounds, the second of a machine half as fast.
    fn peer(name: &str, cpu_us: f64, rss_kib: f64) -> PeerReport {
        let round = |slow: f64| {
            let figures = Window::new().close(Instant::now(), 0, None);
            let figures = Figures { p50_us: 10.0 * cpu_us * slow, p99_us: 20.0 * cpu_us * slow, ..figures };
            let load =
                LoadSample { connections: 32, cpu_us: Some(cpu_us * slow), cpu_busy_us: None, figures };
            let idle = IdleSample {
                sessions: 7,
                rss_before_kib: 0.0,
                rss_after_kib: 0.0,
                rss_per_session_kib: rss_kib,
                busy: None,
            };
            Sample { loads: vec![load], idle: Some(idle), ..Sample::default() }
        };
        let tls = Legs::of_name(name).1;
        PeerReport {
            name: name.to_owned(),
            version: String::new(),
            tls,
            rounds: vec![round(1.0), round(2.0)],
        }
    }

    fn report(peers: Vec<PeerReport>) -> Report {
        let settings = Settings {
            connections: vec![32],
            rounds: 2,
            seconds: 1.0,
            query_bytes: 40,
            reply_bytes: 200,
            proxy_cpu: 0,
            client_cpu: 1,
            tls: None,
        };
        Report { date: String::new(), machine: Machine::describe(0), settings, peers }
    }

    /// The words of the rows of `name`, table by table.
    fn rows(report: &Report, name: &str) -> Vec<Vec<String>> {
        let tables = report.tables();
        let words = tables.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        words.filter(|words| words.first().is_some_and(|word| word == name)).collect()
    }

    #[test]
    fn a_peer_is_compared_with_haproxy_of_its_legs_and_with_itself_without_tls() {
        let report = report(vec![
            peer("haproxy", 10.0, 3.0),
            peer("corelane", 8.0, 4.0),
            peer("haproxy-tls", 20.0, 30.0),
            peer("corelane-tls", 10.0, 9.0),
            peer("corelane-cn-tls", 12.0, 8.0),
        ]);
        let plain = rows(&report, "corelane");
        assert_eq!(plain[0][3..5], ["0.800", "-"], "no column beside it");
        assert_eq!(plain[1], ["corelane", "4.00", "1.333", "0.0"]);
        let tls = rows(&report, "corelane-tls");
        assert_eq!(tls[0][1..5], ["15.00", "10.00..20.00", "0.500", "1.250"]);
        assert_eq!((&*tls[0][7], &*tls[0][9]), ("0.500", "0.500"), "of p50 and p99");
        assert_eq!(tls[1], ["corelane-tls", "9.00", "0.300", "5.00", "0.0"]);
        let alone = rows(&report, "corelane-cn-tls");
        assert_eq!(alone[0][3..5], ["-", "1.500"], "no haproxy of these legs");
    }

    #[test]
    fn a_saved_report_without_tls_is_as_it_was() {
        let report = report(vec![peer("haproxy", 10.0, 3.0)]);
        let json = serde_json::to_value(&report).unwrap();
        assert!(json["settings"].get("tls").is_none());
        assert_eq!(json["peers"][0]["tls"], "plain");
        assert_eq!(json["peers"][0]["rounds"][1]["loads"][0]["cpu_us"], 20.0);
    }
}
