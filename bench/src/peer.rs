//! The proxies that are compared: how each is configured, started on its CPU, found ready and stopped.
//!
//! Invariant: a peer that was started is stopped again, by drop, by SIGINT and SIGTERM (`stop_all_and_exit`), and by the
//! kernel when the comparison is killed. All peers get one thread and TCP without time-outs that matter. Peers
//! pin nothing themselves but corelane, whose configuration names its CPUs. It measures nothing.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::sys;

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
    Epoll,
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
    /// A shell command with `{listen}`, `{target}`, `{cpu}`, `{dir}`, and `{listen_port}`, `{target_port}`.
    Template(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub name: String,
    pub kind: Kind,
}

/// Where the processes of a comparison run, and within which limit.
#[derive(Clone, Copy, Debug)]
pub struct Ground {
    pub proxy: usize,
    /// For the client, and for what a proxy does off its data path.
    pub client: usize,
    /// The limit of open files, from which the proxies' limits of sessions follow.
    pub open_files: u64,
}

impl Ground {
    /// Sessions that a proxy can hold: two descriptors each, and some to spare.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.open_files.saturating_sub(SPARE_FILES) / 2
    }
}

impl Peer {
    /// A peer known by `name`; `None` when there is none.
    #[must_use]
    pub fn known(name: &str, corelane: &Path) -> Option<Self> {
        let corelane = |spin_us, tracked| Kind::Corelane { binary: corelane.to_owned(), spin_us, tracked };
        let kind = match name {
            "direct" => Kind::Direct,
            "epoll" => Kind::Epoll,
            "haproxy" => Kind::Haproxy { busy_polling: false },
            "haproxy-busy" => Kind::Haproxy { busy_polling: true },
            "nginx" => Kind::Nginx,
            "corelane" => corelane(0, false),
            "corelane-spin" => corelane(50, false),
            "corelane-tracked" => corelane(0, true),
            _ => return None,
        };
        Some(Self { name: name.to_owned(), kind })
    }

    /// What the binary says of itself, in one line.
    #[must_use]
    pub fn version(&self) -> String {
        let (program, flag) = match &self.kind {
            Kind::Direct => return "no proxy".to_owned(),
            Kind::Epoll => return format!("corelane-bench {}", env!("CARGO_PKG_VERSION")),
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
    pub fn start(&self, target: SocketAddr, ground: Ground) -> io::Result<Running> {
        if self.kind == Kind::Direct {
            return Ok(Running { process: None, address: target });
        }
        let address = free_address()?;
        let dir = Place::new(&self.name)?;
        let mut command = self.command(address, target, ground, &dir.0)?;
        let mut cpus = vec![ground.proxy];
        if matches!(self.kind, Kind::Corelane { .. }) {
            cpus.push(ground.client);
        }
        let process = Process::start(&mut command, cpus, dir)?;
        process.wait_ready(&self.name, address)?;
        Ok(Running { process: Some(process), address })
    }

    fn command(
        &self,
        listen: SocketAddr,
        target: SocketAddr,
        ground: Ground,
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
            Kind::Direct | Kind::Epoll => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["forward", "--listen", &listen.to_string(), "--target", &target.to_string()]);
                Ok(command)
            }
            Kind::Haproxy { busy_polling } => configured(
                Path::new("haproxy"),
                &["-db", "-f"],
                haproxy(listen, target, ground, *busy_polling),
            ),
            Kind::Nginx => {
                let place = dir.to_string_lossy();
                let arguments = ["-e", "stderr", "-p", &place, "-c"];
                configured(Path::new("nginx"), &arguments, nginx(listen, target, ground))
            }
            Kind::Corelane { binary, spin_us, tracked } => {
                let mut text = corelane(listen, target, ground, *spin_us)?;
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

/// A null CN of ours on `cpu`.
pub fn start_null_cn(cpu: usize, reply_bytes: usize) -> io::Result<Running> {
    let address = free_address()?;
    let dir = Place::new("null-cn")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["null-cn", "--listen", &address.to_string(), "--reply-bytes", &reply_bytes.to_string()]);
    let process = Process::start(&mut command, vec![cpu], dir)?;
    process.wait_ready("null-cn", address)?;
    Ok(Running { process: Some(process), address })
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
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> io::Result<Self> {
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

    fn wait_ready(&self, name: &str, address: SocketAddr) -> io::Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < READY_WITHIN {
            if greets(address) {
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

/// Whether a MySQL greeting of protocol 10 comes from `address` at once.
fn greets(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { return false };
    let mut head = [0; 5];
    stream.set_read_timeout(Some(Duration::from_secs(1))).is_ok()
        && stream.read_exact(&mut head).is_ok()
        && head[4] == 10
}

/// A loopback address whose port was free a moment ago.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn haproxy(listen: SocketAddr, target: SocketAddr, ground: Ground, busy_polling: bool) -> String {
    let busy = if busy_polling { "  busy-polling\n" } else { "" };
    format!(
        "global\n  maxconn {}\n  nbthread 1\n{busy}\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         listen sql\n  bind {listen}\n  server cn {target}\n",
        ground.sessions(),
    )
}

fn nginx(listen: SocketAddr, target: SocketAddr, ground: Ground) -> String {
    let module = NGINX_MODULES.iter().map(|dir| format!("{dir}/ngx_stream_module.so"));
    let load = module
        .filter(|path| Path::new(path).exists())
        .map(|path| format!("load_module {path};\n"))
        .next()
        .unwrap_or_default();
    // One process without a master: a master that is killed would leave its worker behind.
    format!(
        "{load}daemon off;\nmaster_process off;\nworker_processes 1;\npid nginx.pid;\nerror_log stderr crit;\n\
         events {{ worker_connections {}; }}\n\
         stream {{ server {{ listen {listen} backlog=4096; proxy_pass {target}; proxy_timeout 1h; }} }}\n",
        ground.open_files.min(50_000),
    )
}

fn corelane(listen: SocketAddr, target: SocketAddr, ground: Ground, spin_us: u32) -> io::Result<String> {
    let admin = free_address()?;
    let Ground { proxy, client, .. } = ground;
    Ok(format!(
        "[listen]\nsql = [\"{listen}\"]\nmax_sessions = {}\n\
         [workers]\ncpus = [{proxy}]\ncoordinator_cpu = {client}\nspin_us = {spin_us}\n\
         [admin]\nlisten = \"{admin}\"\n\
         [[cn]]\nid = \"null\"\naddress = \"{target}\"\nflavour = \"mysql\"\n",
        ground.sessions(),
    ))
}

fn fill(template: &str, listen: SocketAddr, target: SocketAddr, ground: Ground, dir: &Path) -> String {
    let filled = template
        .replace("{listen}", &listen.to_string())
        .replace("{target}", &target.to_string())
        .replace("{listen_port}", &listen.port().to_string())
        .replace("{target_port}", &target.port().to_string())
        .replace("{cpu}", &ground.proxy.to_string())
        .replace("{dir}", &dir.to_string_lossy());
    format!("exec {filled}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled() {
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let ground = Ground { proxy: 3, client: 1, open_files: 1000 };
        let filled = fill(
            "p -l {listen} -t {target_port} -c {cpu} {dir}",
            address(1),
            address(2),
            ground,
            Path::new("/d"),
        );
        assert_eq!(filled, "exec p -l 127.0.0.1:1 -t 2 -c 3 /d");
    }

    #[test]
    fn only_known_names_are_peers() {
        assert!(Peer::known("haproxy-busy", Path::new("corelane")).is_some());
        assert!(Peer::known("haprox", Path::new("corelane")).is_none());
    }
}
