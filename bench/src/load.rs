//! A closed-loop load generator: each session asks again when its replies are complete.
//!
//! One thread, one epoll set. Latency goes from the send to the complete reply, in nanoseconds, and the warm-up is
//! in no figure. Invariant: any error is counted and makes the run fail, as a proxy that drops work looks fast.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::figures::{Figures, Window};
use crate::protocol;
use crate::session::{Account, Fault, Progress, Session};
use crate::sys::{self, Epoll};
use crate::tls::{self, Begin};

/// Logins under way at a time while sessions are opened.
const OPENING: usize = 128;
const READ_BYTES: usize = 256 << 10;
const EVENTS: usize = 512;
/// Nothing at all came for so long: whoever is asked hangs.
const SILENCE: Duration = Duration::from_secs(10);

#[derive(clap::Args, Clone)]
pub struct Options {
    /// Whom to ask.
    #[arg(long)]
    pub target: SocketAddr,
    /// Busy sessions.
    #[arg(long, default_value_t = 32)]
    pub connections: usize,
    /// Sessions that log in first and then say nothing.
    #[arg(long, default_value_t = 0)]
    pub idle: usize,
    /// Length of the measurement.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Before the measurement, in no figure.
    #[arg(long, default_value_t = 1.0)]
    pub warm_up: f64,
    /// Length of a query's frame.
    #[arg(long, default_value_t = 40)]
    pub query_bytes: usize,
    /// The query itself, for instance `big 64`.
    #[arg(long)]
    pub query: Option<String>,
    /// Queries sent in one go by each session.
    #[arg(long, default_value_t = 1)]
    pub pipeline: u32,
    /// Measure whole sessions instead: connect, log in, quit.
    #[arg(long)]
    pub logins: bool,
    #[arg(long, default_value = "bench")]
    pub user: String,
    #[arg(long, default_value = "")]
    pub password: String,
    /// Speak TLS, and from where on: of a MySQL server from the login on.
    #[arg(long)]
    pub tls: Option<Begin>,
    /// Run on this CPU only.
    #[arg(long)]
    pub cpu: Option<usize>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

impl Options {
    /// Queries of `query_bytes` to `target`, with or without TLS, and the defaults for the rest.
    #[must_use]
    pub fn towards(target: SocketAddr, tls: Option<Begin>, query_bytes: usize) -> Self {
        Self {
            target,
            connections: 0,
            idle: 0,
            seconds: 0.0,
            warm_up: 0.0,
            query_bytes,
            query: None,
            pipeline: 1,
            logins: false,
            user: "bench".to_owned(),
            password: String::new(),
            tls,
            cpu: None,
            json: false,
        }
    }
}

/// Does what the command line says; true when there was no error.
pub fn run(options: &Options) -> io::Result<bool> {
    if let Some(cpu) = options.cpu {
        sys::pin(cpu)?;
    }
    let mut load = Load::new(options)?;
    let warm_up = Duration::from_secs_f64(options.warm_up);
    let measured = Duration::from_secs_f64(options.seconds);
    load.open(options.idle)?;
    let mut figures;
    if options.logins {
        load.logins(options.connections, warm_up)?;
        figures = load.logins(options.connections, measured)?;
    } else {
        load.open(options.connections)?;
        load.drive(options.connections, warm_up)?;
        figures = load.drive(options.connections, measured)?;
        load.finish(&mut figures)?;
    }
    let figures = figures.not_silent();
    figures.print(options.json);
    Ok(figures.errors == 0)
}

/// Sessions to one target. Those opened last are the busy ones.
pub struct Load {
    epoll: Epoll,
    events: sys::Events,
    buffer: Vec<u8>,
    /// A slot whose session failed stays empty, so a token means one session for ever.
    sessions: Vec<Option<Session>>,
    target: SocketAddr,
    account: Account,
    commands: Vec<u8>,
    pipeline: u32,
    errors: u64,
    first_error: Option<String>,
}

impl Load {
    pub fn new(options: &Options) -> io::Result<Self> {
        sys::raise_open_files((options.connections + options.idle + 1000) as u64)?;
        let text = options.query.clone().unwrap_or_else(|| {
            let mut text = "SELECT answer FROM t WHERE id = 1".to_owned();
            text.truncate(options.query_bytes.saturating_sub(5));
            while text.len() + 5 < options.query_bytes {
                text.push('0');
            }
            text
        });
        let account = Account {
            user: options.user.clone(),
            password: options.password.clone(),
            tls: options.tls.map(tls::Client::new).transpose()?,
        };
        Ok(Self {
            epoll: Epoll::new()?,
            events: sys::events(EVENTS),
            buffer: vec![0; READ_BYTES],
            sessions: vec![],
            target: options.target,
            account,
            commands: protocol::command(protocol::COM_QUERY, text.as_bytes())
                .repeat(options.pipeline as usize),
            pipeline: options.pipeline,
            errors: 0,
            first_error: None,
        })
    }

    /// Opens `count` more sessions and waits until they are seated. An error here ends the run.
    pub fn open(&mut self, count: usize) -> io::Result<()> {
        let end = self.sessions.len() + count;
        let mut under_way = 0;
        while self.sessions.len() < end || under_way > 0 {
            while self.sessions.len() < end && under_way < OPENING {
                self.begin(None).map_err(io::Error::other)?;
                under_way += 1;
            }
            let ready = self.wait(SILENCE)?;
            if ready == 0 {
                return Err(io::Error::other(format!("no login went on for {} s", SILENCE.as_secs())));
            }
            for index in 0..ready {
                let token = self.events[index].u64 as usize;
                if self.receive(token).map_err(io::Error::other)?.0 == Progress::Seated {
                    under_way -= 1;
                }
            }
        }
        Ok(())
    }

    /// Lets the last `busy` sessions ask for `length`. They keep asking from one call to the next.
    pub fn drive(&mut self, busy: usize, length: Duration) -> io::Result<Figures> {
        let mut window = Window::new();
        let end = window.begin + length;
        let first_busy = self.sessions.len() - busy;
        for token in first_busy..self.sessions.len() {
            self.ask(token, window.begin);
        }
        let mut now = Instant::now();
        let mut last_news = now;
        while now < end && now.duration_since(last_news) < SILENCE {
            let ready = self.wait((end - now).min(SILENCE))?;
            now = Instant::now();
            for index in 0..ready {
                let token = self.events[index].u64 as usize;
                let since = self.sessions[token].as_ref().map(|session| session.since);
                match self.receive(token) {
                    Ok((progress, bytes)) => {
                        window.bytes += bytes as u64;
                        if let (Progress::Replies(done, owed), Some(since)) = (progress, since) {
                            now = Instant::now();
                            window.record(now.duration_since(since), done);
                            if owed == 0 {
                                self.ask(token, now);
                            }
                        }
                    }
                    Err(fault) => self.fail(token, &fault),
                }
                last_news = now;
            }
        }
        Ok(window.close(now, self.errors, self.first_error.clone()))
    }

    /// Waits for the replies that are still owed, asking nothing more; one that does not come is an error.
    pub fn finish(&mut self, figures: &mut Figures) -> io::Result<()> {
        let owed =
            |sessions: &[Option<Session>]| sessions.iter().flatten().filter(|s| s.is_waiting()).count();
        while owed(&self.sessions) > 0 {
            let ready = self.wait(SILENCE)?;
            if ready == 0 {
                let count = owed(&self.sessions);
                self.note(&Fault::Protocol(format!(
                    "{count} sessions got no reply for {} s",
                    SILENCE.as_secs()
                )));
                break;
            }
            for index in 0..ready {
                let token = self.events[index].u64 as usize;
                if let Err(fault) = self.receive(token) {
                    self.fail(token, &fault);
                }
            }
        }
        figures.errors = figures.errors.max(self.errors);
        if figures.first_error.is_none() {
            figures.first_error.clone_from(&self.first_error);
        }
        Ok(())
    }

    /// Lets `slots` clients connect, log in and quit over and over for `length`.
    pub fn logins(&mut self, slots: usize, length: Duration) -> io::Result<Figures> {
        let mut window = Window::new();
        let end = window.begin + length;
        let mut free: Vec<usize> = vec![];
        let base = self.sessions.len();
        for _ in 0..slots {
            if let Err(fault) = self.begin(None) {
                self.note(&fault);
            }
        }
        let mut now = Instant::now();
        while now < end {
            let ready = self.wait((end - now).min(SILENCE))?;
            now = Instant::now();
            for index in 0..ready {
                let token = self.events[index].u64 as usize;
                match self.login_step(token, &mut window) {
                    Ok(true) => free.push(token),
                    Ok(false) => {}
                    Err(fault) => {
                        self.fail(token, &fault);
                        free.push(token);
                    }
                }
            }
            for token in free.drain(..) {
                if let Err(fault) = self.begin(Some(token)) {
                    self.note(&fault);
                }
            }
        }
        self.sessions.truncate(base);
        Ok(window.close(now, self.errors, self.first_error.clone()))
    }

    /// Takes a login further; true when the session has ended and its slot is free.
    fn login_step(&mut self, token: usize, window: &mut Window) -> Result<bool, Fault> {
        let (progress, bytes) = self.receive(token)?;
        window.bytes += bytes as u64;
        let Some(session) = &mut self.sessions[token] else { return Ok(false) };
        match progress {
            Progress::Seated => {
                window.record(session.since.elapsed(), 1);
                session.quit()?;
                Ok(false)
            }
            Progress::Ended => {
                self.sessions[token] = None;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Starts a session, in `slot` or a new one.
    fn begin(&mut self, slot: Option<usize>) -> Result<(), Fault> {
        let token = slot.unwrap_or(self.sessions.len());
        let session = Session::connect(self.target, token, &self.account, Instant::now())?;
        let interest = if session.is_connecting() { sys::WRITE } else { sys::READ };
        self.epoll.add(&session.socket, token, interest)?;
        if token == self.sessions.len() {
            self.sessions.push(Some(session));
        } else {
            self.sessions[token] = Some(session);
        }
        Ok(())
    }

    fn ask(&mut self, token: usize, now: Instant) {
        let Some(session) = &mut self.sessions[token] else { return };
        if session.is_waiting() || !session.is_seated() {
            return;
        }
        if let Err(fault) = session.ask(&self.commands, self.pipeline, now) {
            self.fail(token, &fault);
        }
    }

    fn receive(&mut self, token: usize) -> Result<(Progress, usize), Fault> {
        match &mut self.sessions[token] {
            Some(session) if session.is_connecting() => {
                session.connected(&self.account)?;
                self.epoll.change(&session.socket, token, sys::READ)?;
                Ok((Progress::Nothing, 0))
            }
            Some(session) => session.receive(&mut self.buffer, &self.account),
            None => Ok((Progress::Nothing, 0)),
        }
    }

    fn wait(&mut self, at_most: Duration) -> io::Result<usize> {
        let milliseconds = i32::try_from(at_most.as_millis()).unwrap_or(i32::MAX);
        self.epoll.wait(&mut self.events, milliseconds.max(1))
    }

    fn fail(&mut self, token: usize, fault: &Fault) {
        self.note(fault);
        self.sessions[token] = None;
    }

    fn note(&mut self, fault: &Fault) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| fault.to_string());
    }
}
