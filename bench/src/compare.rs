//! The comparison: every peer in turn, round after round, on the same two CPUs.
//!
//! The proxy has one CPU to itself, client and null CN share the other, and the order of the peers rotates from
//! round to round, so that a drift of the machine hits all alike. Invariant: an error of any peer makes the
//! comparison fail, though the others' figures are still told.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::account::{CpuBusy, Tree};
use crate::figures::Figures;
use crate::legs::Legs;
use crate::load::{self, Load};
use crate::machine::{self, Machine};
use crate::peer::{self, Ground, NullCns, Peer, Place, Running};
use crate::report::{IdleSample, LoadSample, PeerReport, Report, Sample, Settings};
use crate::sys;
use crate::tls;

/// Before each measurement, in no figure.
const WARM_UP: Duration = Duration::from_millis(500);
/// Clients that log in and quit at the same time.
const LOGIN_SLOTS: usize = 16;
/// Busy connections beside the idle sessions.
const BUSY_BESIDE_IDLE: usize = 32;

/// Peers of `--tls`.
const TLS_PEERS: [&str; 9] = [
    "haproxy-tls",
    "nginx-tls",
    "corelane-tls",
    "haproxy-cn-tls",
    "corelane-cn-tls",
    "haproxy-both-tls",
    "corelane-both-tls",
    "direct-through-tls",
    "haproxy-through-tls",
];

#[derive(clap::Args, Clone)]
pub struct Options {
    /// Numbers of busy connections to measure with.
    #[arg(long, value_delimiter = ',', default_value = "1,32,128")]
    connections: Vec<usize>,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of each measurement.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Known peers: direct, epoll, epoll-spin, haproxy, haproxy-busy, nginx, corelane, corelane-spin, and corelane-tracked,
    /// whose sessions may move. With `-tls`, `-cn-tls` or `-both-tls` behind its name haproxy, nginx or corelane speaks TLS with
    /// the client, the CN or both; with `-through-tls` any but corelane passes on what client and CN speak.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "direct,epoll,haproxy,nginx,corelane,corelane-tracked"
    )]
    peers: Vec<String>,
    /// One more peer: NAME=COMMAND with {listen}, {target}, {listen_port}, {target_port}, {cpu} and {dir}. Its name tells
    /// where it speaks TLS, as MySQL does; {certificate} and {key} are files for it.
    #[arg(long = "peer", value_name = "NAME=COMMAND")]
    templates: Vec<String>,
    /// Also the peers that spin instead of sleeping: epoll-spin, haproxy-busy and corelane-spin.
    #[arg(long)]
    spin: bool,
    /// Also the peers with TLS: haproxy-tls, nginx-tls, corelane-tls, haproxy-cn-tls, corelane-cn-tls, haproxy-both-tls,
    /// corelane-both-tls, direct-through-tls, haproxy-through-tls.
    #[arg(long)]
    tls: bool,
    /// The corelane binary.
    #[arg(long, default_value = "target/release/corelane")]
    corelane: PathBuf,
    /// Idle sessions; 0 leaves them out.
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Idle sessions of peers with TLS; 0 leaves them out.
    #[arg(long, default_value_t = 2000)]
    tls_idle: usize,
    /// Rounds with idle sessions, from the first one.
    #[arg(long, default_value_t = 1)]
    idle_rounds: usize,
    /// Leave out logins per second.
    #[arg(long)]
    no_logins: bool,
    /// CPU for the proxy.
    #[arg(long, default_value_t = 0)]
    proxy_cpu: usize,
    /// CPU for client and null CN.
    #[arg(long, default_value_t = 1)]
    client_cpu: usize,
    #[arg(long, default_value_t = 40)]
    query_bytes: usize,
    #[arg(long, default_value_t = 200)]
    reply_bytes: usize,
    /// Write every sample as JSON to this file.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Write them to bench/runs/DATE-MACHINE/compare.json.
    #[arg(long)]
    save: bool,
}

/// Compares and prints; true when no peer made an error.
pub fn run(options: &Options) -> io::Result<bool> {
    let peers = peers(options)?;
    stop_children_on_signal()?;
    let open_files = sys::raise_open_files(200_000)?;
    // Before pinning, after which this process sees one CPU only.
    let machine = Machine::describe(open_files);
    let cns = NullCns::start(&peers, options.client_cpu, options.reply_bytes)?;
    let place = Place::new("identity")?;
    let identity = tls::Files::write(&place.0)?;
    sys::pin(options.client_cpu)?;
    let mut report = Report {
        date: machine::today(),
        machine,
        settings: settings(options, &peers),
        peers: peers
            .iter()
            .map(|peer| PeerReport {
                name: peer.name.clone(),
                version: peer.version(),
                tls: peer.legs,
                rounds: vec![],
            })
            .collect(),
    };
    let ground =
        Ground { proxy: options.proxy_cpu, client: options.client_cpu, open_files, identity: &identity };
    let bench = Bench { options, cns: &cns, ground };
    for round in 0..options.rounds {
        for step in 0..peers.len() {
            let index = (round + step) % peers.len();
            eprint!("\x1b[2K\rround {} of {}: {:<20}", round + 1, options.rounds, peers[index].name);
            report.peers[index].rounds.push(bench.sample(&peers[index], round < options.idle_rounds));
        }
    }
    eprintln!();
    println!("{}", report.tables());
    save(&report, options)?;
    Ok(report.peers.iter().flat_map(|peer| &peer.rounds).all(|sample| sample.errors() == 0))
}

struct Bench<'a> {
    options: &'a Options,
    cns: &'a NullCns,
    ground: Ground<'a>,
}

impl Bench<'_> {
    /// Everything of one peer in one round. A failure ends the sample, not the comparison.
    fn sample(&self, peer: &Peer, with_idle: bool) -> Sample {
        let mut sample = Sample::default();
        if let Err(error) = self.fill(&mut sample, peer, with_idle) {
            eprintln!("\r{}: {error}", peer.name);
            sample.failure = Some(error.to_string());
        }
        sample
    }

    fn fill(&self, sample: &mut Sample, peer: &Peer, with_idle: bool) -> io::Result<()> {
        let target = self.cns.address(peer)?;
        let idle = if peer.legs == Legs::Plain { self.options.idle } else { self.options.tls_idle };
        if with_idle && idle > 0 {
            // A process of its own: what thousands of sessions leave behind must not be in the other figures.
            let running = peer.start(target, self.ground)?;
            sample.idle = self.idle(&running, idle)?;
        }
        let running = peer.start(target, self.ground)?;
        for &connections in &self.options.connections {
            let mut load = Load::new(&self.load_options(&running))?;
            load.open(connections)?;
            sample.loads.push(self.busy(&running, &mut load, connections)?);
        }
        if !self.options.no_logins {
            let mut load = Load::new(&self.load_options(&running))?;
            load.logins(LOGIN_SLOTS, WARM_UP)?;
            let length = self.length();
            sample.logins = Some(self.account(&running, LOGIN_SLOTS, || load.logins(LOGIN_SLOTS, length))?);
        }
        Ok(())
    }

    fn busy(&self, running: &Running, load: &mut Load, connections: usize) -> io::Result<LoadSample> {
        load.drive(connections, WARM_UP)?;
        let mut sample = self.account(running, connections, || load.drive(connections, self.length()))?;
        load.finish(&mut sample.figures)?;
        Ok(sample)
    }

    /// RSS with and without idle sessions, and busy ones beside them; none without a proxy.
    fn idle(&self, running: &Running, sessions: usize) -> io::Result<Option<IdleSample>> {
        let Some(process) = running.process_id() else { return Ok(None) };
        let tree = Tree::new(process);
        let room = (self.ground.sessions() as usize).saturating_sub(2 * BUSY_BESIDE_IDLE);
        let sessions = sessions.min(room);
        let options = self.load_options(running);
        // What the first sessions make a proxy allocate once is no cost of the later ones.
        let mut first = Load::new(&options)?;
        first.open(BUSY_BESIDE_IDLE)?;
        first.drive(BUSY_BESIDE_IDLE, WARM_UP)?;
        let before = tree.rss_bytes()? as f64 / 1024.0;
        let mut load = Load::new(&options)?;
        load.open(sessions)?;
        std::thread::sleep(WARM_UP);
        let after = tree.rss_bytes()? as f64 / 1024.0;
        drop(first);
        load.open(BUSY_BESIDE_IDLE)?;
        Ok(Some(IdleSample {
            sessions,
            rss_before_kib: before,
            rss_after_kib: after,
            rss_per_session_kib: (after - before) / sessions as f64,
            busy: Some(self.busy(running, &mut load, BUSY_BESIDE_IDLE)?),
        }))
    }

    /// Runs `measure` and charges the proxy's CPU time to its round trips.
    fn account(
        &self,
        running: &Running,
        connections: usize,
        measure: impl FnOnce() -> io::Result<Figures>,
    ) -> io::Result<LoadSample> {
        let tree = running.process_id().map(Tree::new);
        let cpu_ns = || tree.as_ref().map(Tree::cpu_ns).transpose();
        let busy = || CpuBusy::read(self.options.proxy_cpu);
        let (cpu_before, busy_before) = (cpu_ns()?, busy());
        let figures = measure()?.not_silent();
        let (cpu_after, busy_after) = (cpu_ns()?, busy());
        let each = |microseconds: f64| microseconds / figures.round_trips.max(1) as f64;
        let busy_share = busy_after.zip(busy_before).map(|(after, before)| after.share_since(&before));
        Ok(LoadSample {
            connections,
            cpu_us: cpu_after.zip(cpu_before).map(|(after, before)| each((after - before) as f64 / 1000.0)),
            cpu_busy_us: busy_share.map(|share| each(share * figures.seconds * 1e6)),
            figures,
        })
    }

    fn load_options(&self, running: &Running) -> load::Options {
        load::Options::towards(running.address, running.tls, self.options.query_bytes)
    }

    fn length(&self) -> Duration {
        Duration::from_secs_f64(self.options.seconds)
    }
}

fn peers(options: &Options) -> io::Result<Vec<Peer>> {
    let wrong = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
    let spinning = ["epoll-spin", "haproxy-busy", "corelane-spin"].map(str::to_owned);
    let more = if options.spin { &spinning[..] } else { &[] };
    let mut peers: Vec<Peer> = vec![];
    let tls = TLS_PEERS.map(str::to_owned);
    let tls = if options.tls { &tls[..] } else { &[] };
    for name in options.peers.iter().chain(more).chain(tls) {
        let peer =
            Peer::known(name, &options.corelane).ok_or_else(|| wrong(format!("no peer is called {name}")))?;
        if !peers.contains(&peer) {
            peers.push(peer);
        }
    }
    for template in &options.templates {
        let (name, command) =
            template.split_once('=').ok_or_else(|| wrong(format!("`{template}` is not NAME=COMMAND")))?;
        peers.push(Peer::template(name, command));
    }
    Ok(peers)
}

fn settings(options: &Options, peers: &[Peer]) -> Settings {
    Settings {
        connections: options.connections.clone(),
        rounds: options.rounds,
        seconds: options.seconds,
        query_bytes: options.query_bytes,
        reply_bytes: options.reply_bytes,
        proxy_cpu: options.proxy_cpu,
        client_cpu: options.client_cpu,
        tls: peers.iter().any(|peer| peer.legs != Legs::Plain).then(tls::spoken),
    }
}

fn save(report: &Report, options: &Options) -> io::Result<()> {
    let kept = options
        .save
        .then(|| PathBuf::from(format!("bench/runs/{}-{}/compare.json", report.date, report.machine.slug())));
    for path in options.out.iter().chain(&kept) {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(path, serde_json::to_string_pretty(report)? + "\n")?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

/// SIGINT and SIGTERM kill the children, then this process.
fn stop_children_on_signal() -> io::Result<()> {
    sys::block_stop()?;
    std::thread::spawn(|| {
        let signal = sys::wait_for_stop();
        peer::stop_all_and_exit(128 + signal);
    });
    Ok(())
}
