//! The proxies that are compared: how each is configured, started on its CPU, found ready and stopped.
//!
//! Invariant: a peer that was started is stopped again, by drop, by SIGINT and SIGTERM (`stop_all_and_exit`), and by the
//! kernel when the comparison is killed. All peers get one thread and TCP without time-outs that matter. Peers
//! pin nothing themselves but corelane, whose configuration names its CPUs. Those that know no MySQL speak TLS from the first byte, as
//! they cannot begin it within a login. It measures nothing.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::legs::Legs;
use crate::sys;
use crate::tls::{self, Begin, Files};

/// Descriptors that a proxy needs beside two for each session.
const SPARE_FILES: u64 = 500;
/// From start to the first greeting.
const READY_WITHIN: Duration = Duration::from_secs(15);
/// Where distributions keep nginx's stream module, when it is not compiled in.
const NGINX_MODULES: [&str; 3] =
    ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules"];

/// Process groups that run now, by leader, and their directories.
static RUNNING: Mutex<Vec<(u32, PathBuf)>> = Mutex::new(vec![]);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No proxy at all.
    Direct,
    Epoll {
        spin: bool,
    },
    Haproxy {
        busy_polling: bool,
    },
    Nginx,
    Corelane {
        binary: PathBuf,
        spin_us: u32,
        /// The CN reports what sessions change, so that they may move.
        tracked: bool,
    },
    /// A shell command with `{listen}`, `{target}`, `{cpu}`, `{dir}`, `{certificate}`, `{key}`, and `{listen_port}`, `{target_port}`.
    Template(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub name: String,
    pub kind: Kind,
    pub legs: Legs,
}

/// Where the processes of a comparison run, and within which limit.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    pub proxy: usize,
    /// For the client, and for what a proxy does off its data path.
    pub client: usize,
    /// The limit of open files, from which the proxies' limits of sessions follow.
    pub open_files: u64,
    /// Of a proxy that speaks TLS.
    pub identity: &'a Files,
}

impl Ground<'_> {
    /// Sessions that a proxy can hold: two descriptors each, and some to spare.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.open_files.saturating_sub(SPARE_FILES) / 2
    }
}

impl Peer {
    /// A peer known by `name`, which may end in where TLS is spoken; `None` when there is none.
    #[must_use]
    pub fn known(name: &str, corelane: &Path) -> Option<Self> {
        let corelane = |spin_us, tracked| Kind::Corelane { binary: corelane.to_owned(), spin_us, tracked };
        let (base, legs) = Legs::of_name(name);
        let kind = match base {
            "direct" => Kind::Direct,
            "epoll" => Kind::Epoll { spin: false },
            "epoll-spin" => Kind::Epoll { spin: true },
            "haproxy" => Kind::Haproxy { busy_polling: false },
            "haproxy-busy" => Kind::Haproxy { busy_polling: true },
            "nginx" => Kind::Nginx,
            "corelane" => corelane(0, false),
            "corelane-spin" => corelane(50, false),
            "corelane-tracked" => corelane(0, true),
            _ => return None,
        };
        let can = match kind {
            Kind::Direct | Kind::Epoll { .. } => matches!(legs, Legs::Plain | Legs::Through),
            Kind::Corelane { .. } => legs != Legs::Through,
            _ => true,
        };
        can.then(|| Self { name: name.to_owned(), kind, legs })
    }

    /// A peer by a command, with TLS where its name says so.
    #[must_use]
    pub fn template(name: &str, command: &str) -> Self {
        let legs = Legs::of_name(name).1;
        Self { name: name.to_owned(), kind: Kind::Template(command.to_owned()), legs }
    }

    /// How it speaks TLS with its client and its CN.
    fn begin(&self) -> Begin {
        match self.kind {
            Kind::Haproxy { .. } | Kind::Nginx if self.legs != Legs::Through => Begin::FirstByte,
            _ => Begin::Login,
        }
    }

    /// How its client speaks TLS, if at all.
    #[must_use]
    pub fn client_tls(&self) -> Option<Begin> {
        self.legs.client().then(|| self.begin())
    }

    /// How its CN speaks TLS, if at all.
    #[must_use]
    pub fn cn_tls(&self) -> Option<Begin> {
        self.legs.cn().then(|| self.begin())
    }

    /// What the binary says of itself, in one line.
    #[must_use]
    pub fn version(&self) -> String {
        let (program, flag) = match &self.kind {
            Kind::Direct => return "no proxy".to_owned(),
            Kind::Epoll { .. } => return format!("corelane-bench {}", env!("CARGO_PKG_VERSION")),
            Kind::Haproxy { .. } => (Path::new("haproxy"), "-v"),
            Kind::Nginx => (Path::new("nginx"), "-v"),
            Kind::Corelane { binary, .. } => (binary.as_path(), "--version"),
            Kind::Template(command) => return command.clone(),
        };
        let Ok(output) = Command::new(program).arg(flag).output() else { return "not found".to_owned() };
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said).lines().next().unwrap_or("unknown").to_owned()
    }

    /// Starts it before `target` and waits until a greeting comes through.
    pub fn start(&self, target: SocketAddr, ground: Ground<'_>) -> io::Result<Running> {
        let tls = self.client_tls();
        if self.kind == Kind::Direct {
            return Ok(Running { process: None, address: target, tls });
        }
        let address = free_address()?;
        let dir = Place::new(&self.name)?;
        let mut command = self.command(address, target, ground, &dir.0)?;
        let mut cpus = vec![ground.proxy];
        if matches!(self.kind, Kind::Corelane { .. }) {
            cpus.push(ground.client);
        }
        let process = Process::start(&mut command, cpus, dir)?;
        process.wait_ready(&self.name, address, tls)?;
        Ok(Running { process: Some(process), address, tls })
    }

    fn command(
        &self,
        listen: SocketAddr,
        target: SocketAddr,
        ground: Ground<'_>,
        dir: &Path,
    ) -> io::Result<Command> {
        let configured = |program: &Path, arguments: &[&str], text: String| -> io::Result<Command> {
            let file = dir.join("config");
            fs::write(&file, text)?;
            let mut command = Command::new(program);
            command.args(arguments).arg(file);
            Ok(command)
        };
        match &self.kind {
            Kind::Direct | Kind::Epoll { .. } => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["forward", "--listen", &listen.to_string(), "--target", &target.to_string()]);
                if self.kind == (Kind::Epoll { spin: true }) {
                    command.arg("--spin");
                }
                Ok(command)
            }
            Kind::Haproxy { busy_polling } => configured(
                Path::new("haproxy"),
                &["-db", "-f"],
                haproxy(listen, target, ground, self.legs, *busy_polling),
            ),
            Kind::Nginx => {
                let place = dir.to_string_lossy();
                let arguments = ["-e", "stderr", "-p", &place, "-c"];
                configured(Path::new("nginx"), &arguments, nginx(listen, target, ground, self.legs))
            }
            Kind::Corelane { binary, spin_us, tracked } => {
                let mut text = corelane(listen, target, ground, self.legs, *spin_us)?;
                if *tracked {
                    text += "data = \"d1\"\n[[user]]\nname = \"bench\"\npassword = \"\"\n";
                }
                configured(binary, &["serve", "--config"], text)
            }
            Kind::Template(template) => {
                let mut command = Command::new("sh");
                command.arg("-c").arg(fill(template, listen, target, ground, dir));
                Ok(command)
            }
        }
    }
}

/// The null CNs of a comparison: one without TLS, and one for each way to speak it that is needed.
pub struct NullCns(Vec<Running>);

impl NullCns {
    /// Those that `peers` need, on `cpu`.
    pub fn start(peers: &[Peer], cpu: usize, reply_bytes: usize) -> io::Result<Self> {
        let needed = [None, Some(Begin::Login), Some(Begin::FirstByte)].into_iter();
        let needed = needed.filter(|tls| peers.iter().any(|peer| peer.cn_tls() == *tls));
        Ok(Self(needed.map(|tls| start_null_cn(cpu, reply_bytes, tls)).collect::<io::Result<_>>()?))
    }

    /// Where the CN for `peer` listens.
    pub fn address(&self, peer: &Peer) -> io::Result<SocketAddr> {
        let mut all = self.0.iter();
        let cn = all.find(|cn| cn.tls == peer.cn_tls());
        cn.map(|cn| cn.address).ok_or_else(|| io::Error::other("no null CN was started for it"))
    }
}

fn start_null_cn(cpu: usize, reply_bytes: usize, tls: Option<Begin>) -> io::Result<Running> {
    let address = free_address()?;
    let dir = Place::new(&format!("null-cn-{}", address.port()))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["null-cn", "--listen", &address.to_string(), "--reply-bytes", &reply_bytes.to_string()]);
    if let Some(name) = tls.and_then(|tls| tls.to_possible_value()) {
        command.args(["--tls", name.get_name()]);
    }
    let process = Process::start(&mut command, vec![cpu], dir)?;
    process.wait_ready("null-cn", address, tls)?;
    Ok(Running { process: Some(process), address, tls })
}

/// Kills whatever was started here and ends this process with `code`.
pub fn stop_all_and_exit(code: i32) -> ! {
    // Held to the end, so that nothing starts meanwhile.
    let running = running();
    for (leader, dir) in running.iter() {
        sys::signal_group(*leader, libc::SIGKILL);
        let _ = fs::remove_dir_all(dir);
    }
    std::process::exit(code)
}

fn running() -> MutexGuard<'static, Vec<(u32, PathBuf)>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A peer that takes connections; dropped, it stops.
pub struct Running {
    process: Option<Process>,
    pub address: SocketAddr,
    /// How it wants to be spoken to.
    pub tls: Option<Begin>,
}

impl Running {
    /// The process to account for; none when the peer is no proxy.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }
}

struct Process {
    child: Child,
    dir: Place,
}

/// A directory for a configuration and what the process says; gone when dropped.
pub struct Place(pub PathBuf);

impl Place {
    pub fn new(name: &str) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("corelane-bench-{}-{name}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Process {
    fn start(command: &mut Command, cpus: Vec<usize>, dir: Place) -> io::Result<Self> {
        let output = File::create(dir.0.join("output"))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        sys::tie(command, cpus);
        let program = command.get_program().to_string_lossy().into_owned();
        let mut running = running();
        let child = command
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("cannot start {program}: {error}")))?;
        running.push((child.id(), dir.0.clone()));
        Ok(Self { child, dir })
    }

    fn wait_ready(&self, name: &str, address: SocketAddr, tls: Option<Begin>) -> io::Result<()> {
        let first = tls.filter(|tls| *tls == Begin::FirstByte).map(tls::Client::new).transpose()?;
        let begin = Instant::now();
        while begin.elapsed() < READY_WITHIN {
            if greets(address, first.as_ref()) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let said = fs::read_to_string(self.dir.0.join("output")).unwrap_or_default();
        let tail: Vec<&str> = said.lines().rev().take(8).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n  ");
        Err(io::Error::other(format!("{name} gave no greeting on {address}; it said:\n  {tail}")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let leader = self.child.id();
        sys::signal_group(leader, libc::SIGKILL);
        let _ = self.child.wait();
        running().retain(|(other, _)| *other != leader);
    }
}

/// Whether a MySQL greeting of protocol 10 comes from `address` at once, through TLS if there is to be some.
fn greets(address: SocketAddr, first: Option<&tls::Client>) -> bool {
    let patience = Duration::from_secs(1);
    let ask = || -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        let mut channel = first.map(tls::Client::channel).transpose().map_err(io::Error::other)?;
        let (mut head, mut buffer) = (vec![], [0; 4096]);
        while head.len() < 5 {
            if let Some(channel) = &mut channel {
                channel.send(&stream)?;
            }
            let received = match stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => &buffer[..count],
            };
            match &mut channel {
                Some(channel) => channel.open(received, &mut head)?,
                None => head.write_all(received)?,
            }
        }
        Ok(head)
    };
    ask().is_ok_and(|head| head[4] == 10)
}

/// A loopback address whose port was free a moment ago.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn haproxy(
    listen: SocketAddr,
    target: SocketAddr,
    ground: Ground<'_>,
    legs: Legs,
    busy_polling: bool,
) -> String {
    let busy = if busy_polling { "  busy-polling\n" } else { "" };
    let bind = if legs.ends_client() {
        format!(" ssl crt {}", ground.identity.both.display())
    } else {
        String::new()
    };
    let server = if legs.ends_cn() { " ssl verify none" } else { "" };
    format!(
        "global\n  maxconn {}\n  nbthread 1\n{busy}\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         listen sql\n  bind {listen}{bind}\n  server cn {target}{server}\n",
        ground.sessions(),
    )
}

fn nginx(listen: SocketAddr, target: SocketAddr, ground: Ground<'_>, legs: Legs) -> String {
    let module = NGINX_MODULES.iter().map(|dir| format!("{dir}/ngx_stream_module.so"));
    let load = module
        .filter(|path| Path::new(path).exists())
        .map(|path| format!("load_module {path};\n"))
        .next()
        .unwrap_or_default();
    let (mut ssl, mut more) = ("", String::new());
    if legs.ends_client() {
        ssl = " ssl";
        let Files { certificate, key, .. } = ground.identity;
        more += &format!(
            " ssl_protocols TLSv1.3; ssl_certificate {}; ssl_certificate_key {};",
            certificate.display(),
            key.display()
        );
    }
    if legs.ends_cn() {
        more += " proxy_ssl on; proxy_ssl_protocols TLSv1.3;";
    }
    // One process without a master: a master that is killed would leave its worker behind.
    format!(
        "{load}daemon off;\nmaster_process off;\nworker_processes 1;\npid nginx.pid;\nerror_log stderr crit;\n\
         events {{ worker_connections {}; }}\n\
         stream {{ server {{ listen {listen}{ssl} backlog=4096; proxy_pass {target}; proxy_timeout 1h;{more} }} }}\n",
        ground.open_files.min(50_000),
    )
}

fn corelane(
    listen: SocketAddr,
    target: SocketAddr,
    ground: Ground<'_>,
    legs: Legs,
    spin_us: u32,
) -> io::Result<String> {
    let admin = free_address()?;
    let Ground { proxy, client, identity, .. } = ground;
    let mut text = format!(
        "[listen]\nsql = [\"{listen}\"]\nmax_sessions = {}\n\
         [workers]\ncpus = [{proxy}]\ncoordinator_cpu = {client}\nspin_us = {spin_us}\n\
         [admin]\nlisten = \"{admin}\"\n",
        ground.sessions(),
    );
    if legs.ends_client() {
        let (certificate, key) = (identity.certificate.display(), identity.key.display());
        text += &format!("[tls]\ncertificate_file = \"{certificate}\"\nkey_file = \"{key}\"\n");
    }
    if legs.ends_cn() {
        text += "[cn_tls]\nmode = \"required\"\n";
    }
    Ok(text + &format!("[[cn]]\nid = \"null\"\naddress = \"{target}\"\nflavour = \"mysql\"\n"))
}

fn fill(template: &str, listen: SocketAddr, target: SocketAddr, ground: Ground<'_>, dir: &Path) -> String {
    let filled = template
        .replace("{listen}", &listen.to_string())
        .replace("{target}", &target.to_string())
        .replace("{listen_port}", &listen.port().to_string())
        .replace("{target_port}", &target.port().to_string())
        .replace("{cpu}", &ground.proxy.to_string())
        .replace("{certificate}", &ground.identity.certificate.to_string_lossy())
        .replace("{key}", &ground.identity.key.to_string_lossy())
        .replace("{dir}", &dir.to_string_lossy());
    format!("exec {filled}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    fn files() -> Files {
        Files { certificate: "/c".into(), key: "/k".into(), both: "/b".into() }
    }

    fn ground(identity: &Files) -> Ground<'_> {
        Ground { proxy: 3, client: 1, open_files: 1000, identity }
    }

    #[test]
    fn a_template_is_filled() {
        let filled = fill(
            "p -l {listen} -t {target_port} -c {cpu} {dir} {certificate} {key}",
            address(1),
            address(2),
            ground(&files()),
            Path::new("/d"),
        );
        assert_eq!(filled, "exec p -l 127.0.0.1:1 -t 2 -c 3 /d /c /k");
    }

    #[test]
    fn only_known_names_are_peers() {
        let known = |name| Peer::known(name, Path::new("corelane"));
        assert!(known("haproxy-busy").is_some());
        assert!(known("haprox").is_none());
        assert!(known("nginx-both-tls").is_some());
        assert!(known("corelane-through-tls").is_none(), "it takes TLS off");
        assert!(known("epoll-tls").is_none(), "it knows no TLS");
    }

    #[test]
    fn tls_begins_where_the_peer_can_begin_it() {
        let begins = |name| {
            let peer = Peer::known(name, Path::new("corelane")).unwrap();
            (peer.client_tls(), peer.cn_tls())
        };
        let (login, first) = (Some(Begin::Login), Some(Begin::FirstByte));
        assert_eq!(begins("haproxy"), (None, None));
        assert_eq!(begins("haproxy-tls"), (first, None));
        assert_eq!(begins("nginx-both-tls"), (first, first));
        assert_eq!(begins("haproxy-through-tls"), (login, login));
        assert_eq!(begins("corelane-tls"), (login, None));
        assert_eq!(begins("corelane-spin-cn-tls"), (None, login));
        let other = Peer::template("proxysql-tls", "p");
        assert_eq!((other.client_tls(), other.cn_tls()), (login, None));
    }

    #[test]
    fn each_leg_is_configured_by_itself() {
        let files = files();
        let (listen, target) = (address(1), address(2));
        for legs in Legs::ALL {
            let text = haproxy(listen, target, ground(&files), legs, false);
            assert_eq!(text.contains("bind 127.0.0.1:1 ssl crt /b\n"), legs.ends_client(), "{text}");
            assert_eq!(text.contains("server cn 127.0.0.1:2 ssl verify none\n"), legs.ends_cn(), "{text}");
            let text = nginx(listen, target, ground(&files), legs);
            assert_eq!(text.contains("listen 127.0.0.1:1 ssl "), legs.ends_client(), "{text}");
            assert_eq!(text.contains("proxy_ssl on;"), legs.ends_cn(), "{text}");
            let text = corelane(listen, target, ground(&files), legs, 0).unwrap();
            assert_eq!(text.contains("certificate_file = \"/c\""), legs.ends_client(), "{text}");
            assert_eq!(text.contains("[cn_tls]"), legs.ends_cn(), "{text}");
        }
    }
}
