//! All that `/metrics` tells, read at one moment, and written as text.
//!
//! The format is Prometheus's text format 0.0.4. Counters of workers are read while workers go on, so two numbers of one page
//! may be a moment apart.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text};
use prometheus_client::registry::Registry;

use super::family::Families;
use super::{matrixone, own};
use crate::coordinator::desk::{Overview, WorkerFacts};
use crate::metrics::{Counters, PauseSummary};

/// One number of a worker, and its name or the value of a label that tells it from others.
pub type WorkerNumber = (&'static str, fn(&Counters) -> u64);

#[derive(Debug)]
pub struct Scrape {
    pub overview: Overview,
    pub workers: Vec<WorkerFacts>,
    pub hosts_blocked: usize,
    pub uptime: Duration,
    /// Whether MatrixOne's names follow ours.
    pub matrixone_names: bool,
}

impl Scrape {
    pub fn render(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry)?;
        Ok(text)
    }

    /// A number of all workers together.
    pub fn sum(&self, number: impl Fn(&Counters) -> u64) -> u64 {
        self.workers.iter().map(|facts| number(&facts.counters)).sum()
    }

    /// The pauses of all workers together.
    pub fn pauses(&self) -> PauseSummary {
        PauseSummary::of(self.workers.iter().map(|facts| &facts.counters.moves.pauses))
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        own::write(self, &mut families)?;
        if self.matrixone_names {
            matrixone::write(self, &mut families)?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::coordinator::desk::{CnRow, Stage};
    use crate::coordinator::logbook::Logbook;
    use crate::ident::{CnSlot, WorkerId};
    use crate::mailbox::message::CnFailure;
    use crate::metrics::{EndedBy, Refused};
    use crate::route::view::tests::{cn, view};
    use crate::route::{Cn, CnState, View};

    /// `cn1` works and belongs to `acc1`; the other, of a name that must be escaped, is down.
    pub fn overview() -> Overview {
        let mut view = view([cn(0, "cn1", &[("account", "acc1")]), cn(1, "a\"b\\c", &[])]);
        Arc::make_mut(&mut view.cns[1]).state = CnState::Down;
        let mut logbook = Logbook::default();
        logbook.turn_over(&View::default(), &view);
        logbook.probed(CnSlot(0), true);
        logbook.failed(CnSlot(1), CnFailure::Refused);
        let row = |cn: &Arc<Cn>| CnRow {
            cn: cn.clone(),
            sessions: 3,
            version: None,
            last_error: None,
            probe: (cn.slot == CnSlot(0)).then_some(Duration::from_micros(1500)),
            source: "file",
        };
        let cns = view.cns.iter().map(row).collect();
        Overview { stage: Stage::Serving, view: Arc::new(view), cns, travellers: 1, logbook }
    }

    fn scrape(matrixone_names: bool) -> Scrape {
        let worker = |nth| WorkerFacts { worker: WorkerId(nth), cpu: 4, counters: Arc::default() };
        let workers = vec![worker(0), worker(1)];
        for facts in &workers {
            let counters = &facts.counters;
            counters.sessions.add(2);
            counters.accepted.add(9);
            counters.logins.add(6);
            counters.refuse(Refused::NoCn);
            counters.refuse(Refused::Full);
            counters.refuse(Refused::ByCn);
            counters.ends.add(EndedBy::Client);
            counters.ends.add(EndedBy::Client);
            counters.ends.add(EndedBy::Cn);
            counters.bytes_in.add(1 << 60);
            counters.moves.ordered.add(3);
            counters.moves.done.add(1);
            counters.moves.waiting.add(2);
            counters.moves.pauses.add(1000);
        }
        let uptime = Duration::from_millis(2500);
        Scrape { overview: overview(), workers, hosts_blocked: 0, uptime, matrixone_names }
    }

    fn lines(text: &str) -> Vec<&str> {
        text.lines().filter(|line| !line.starts_with('#')).collect()
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|other| other == line), "no line {line} in\n{text}");
    }

    #[test]
    fn workers_are_told_one_by_one_and_cns_by_name() {
        let text = scrape(false).render().unwrap();
        has(&text, "# TYPE corelane_sessions gauge");
        has(&text, "corelane_sessions{worker=\"1\"} 2");
        has(&text, "# TYPE corelane_logins_total counter");
        has(&text, "corelane_logins_total{worker=\"0\"} 6");
        has(&text, "corelane_received_bytes_total{worker=\"0\",from=\"client\"} 1152921504606846976");
        has(&text, "corelane_sessions_refused_total{worker=\"0\",why=\"no_cn\"} 1");
        has(&text, "corelane_sessions_ended_total{worker=\"1\",by=\"client\"} 2");
        has(&text, "corelane_sessions_in_transit 1");
        has(&text, "corelane_cn_sessions{cn=\"cn1\",flavour=\"mysql\"} 3");
        has(&text, "corelane_cn_state{cn=\"cn1\",flavour=\"mysql\",state=\"working\"} 1");
        has(&text, "corelane_cn_state{cn=\"cn1\",flavour=\"mysql\",state=\"down\"} 0");
        has(&text, r#"corelane_cn_state{cn="a\"b\\c",flavour="mysql",state="down"} 1"#);
        has(&text, "corelane_cn_probe_seconds{cn=\"cn1\",flavour=\"mysql\"} 0.0015");
        has(&text, r#"corelane_cn_failures_total{cn="a\"b\\c",flavour="mysql",kind="refused"} 1"#);
        has(&text, "corelane_view_epoch 1");
        has(&text, "corelane_uptime_seconds 2.5");
        assert!(!text.contains("mo_proxy"));
        let probes = lines(&text).into_iter().filter(|line| line.starts_with("corelane_cn_probe_seconds"));
        assert_eq!(probes.count(), 1, "a CN that was never probed well has no such number");
    }

    #[test]
    fn pauses_are_a_histogram_in_seconds() {
        let text = scrape(false).render().unwrap();
        has(&text, "# TYPE corelane_move_pause_seconds histogram");
        has(&text, "corelane_move_pause_seconds_bucket{le=\"0.00064\"} 0");
        has(&text, "corelane_move_pause_seconds_bucket{le=\"0.00128\"} 2");
        has(&text, "corelane_move_pause_seconds_bucket{le=\"5.24288\"} 2");
        has(&text, "corelane_move_pause_seconds_bucket{le=\"+Inf\"} 2");
        has(&text, "corelane_move_pause_seconds_sum 0.002");
        has(&text, "corelane_move_pause_seconds_count 2");
    }

    #[test]
    fn every_family_has_help_and_type_and_a_name_of_its_own() {
        let text = scrape(true).render().unwrap();
        let of = |what: &str| {
            let lines = text.lines().filter_map(|line| line.strip_prefix(what));
            lines.map(|rest| rest.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let (helps, types) = (of("# HELP "), of("# TYPE "));
        assert_eq!(helps, types);
        let unique: std::collections::BTreeSet<_> = types.iter().collect();
        assert_eq!(unique.len(), types.len());
        let samples: Vec<_> =
            lines(&text).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
        let different: std::collections::BTreeSet<_> = samples.iter().collect();
        assert_eq!(different.len(), samples.len(), "no sample twice");
    }

    #[test]
    fn matrixones_names_tell_the_same_numbers_without_workers() {
        let text = scrape(true).render().unwrap();
        has(&text, "mo_proxy_connect_counter{type=\"accepted\"} 18");
        has(&text, "mo_proxy_connect_counter{type=\"closed\"} 12");
        has(&text, "mo_proxy_connect_counter{type=\"success\"} 14");
        has(&text, "mo_proxy_connect_counter{type=\"route-fail\"} 2");
        has(&text, "mo_proxy_connect_counter{type=\"common-fail\"} 2");
        has(&text, "# TYPE mo_proxy_connections_current gauge");
        has(&text, "mo_proxy_connections_current 5");
        has(&text, "mo_proxy_disconnect_counter{type=\"client\"} 4");
        has(&text, "mo_proxy_disconnect_counter{type=\"server\"} 2");
        has(&text, "mo_proxy_connection_transfer_counter{type=\"success\"} 2");
        has(&text, "mo_proxy_connection_transfer_duration_bucket{le=\"1e-05\"} 0");
        has(&text, "mo_proxy_connection_transfer_duration_count 2");
        has(&text, "mo_proxy_available_backend_server_num{account=\"acc1\"} 1");
        has(&text, "mo_proxy_available_backend_server_num{account=\"sys\"} 0");
        has(&text, "mo_proxy_transfer_queue_size 4");
        has(&text, "mo_proxy_connections_need_to_transfer 4");
        has(&text, "mo_proxy_connections_transfer_intent 0");
    }
}
