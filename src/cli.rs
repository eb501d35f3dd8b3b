//! The command line: what may be typed, and the exit code that comes of it.
//!
//! Exit codes are 0 for success, 2 for bad usage or a bad configuration, 1 for the rest. What is asked
//! for goes to standard output, what is wrong to standard error. No password is ever printed.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Settings};
use crate::ctl::{self, Door, Form};

/// Where `ctl` and `top` find the admin password that is not on the command line.
const PASSWORD_VARIABLE: &str = "CORELANE_PASSWORD";

const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("CORELANE_COMMIT"),
    ")\n",
    env!("CORELANE_RUSTC"),
    "\nneeds Linux 6.1 or newer, with io_uring"
);

const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;
const BAD_CONFIGURATION: u8 = 2;

/// A thread-per-core, io_uring proxy for clusters that speak the MySQL protocol.
#[derive(Parser)]
#[command(name = "corelane", version, long_version = VERSION)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the proxy
    Serve {
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a configuration file, without touching network or kernel
    Check {
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Print every setting with its default and what it means, as a configuration file
    Config,
    /// Send one statement to the admin door of a running proxy
    Ctl {
        #[command(flatten)]
        door: DoorArgs,
        /// Print an array of JSON objects instead of a table
        #[arg(long)]
        json: bool,
        /// For instance "SHOW CNS", "SHOW SESSIONS", "SHOW HOLDS" or "DRAIN CN 'cn1' DEADLINE 60"
        statement: String,
    },
    /// Watch the CNs and workers of a running proxy; without a terminal, look once
    Top {
        #[command(flatten)]
        door: DoorArgs,
    },
}

/// Which admin door, and who is asking.
#[derive(Args)]
struct DoorArgs {
    /// Take address, user and password from this configuration file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["admin", "user", "password"])]
    config: Option<PathBuf>,
    /// The address of the admin door
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:6032", value_parser = ctl::split_address)]
    admin: (String, u16),
    /// The admin user
    #[arg(long, default_value = "admin")]
    user: String,
    /// Its password; without it the variable CORELANE_PASSWORD, and without that "admin"
    #[arg(long)]
    password: Option<String>,
}

/// Reads the command line and does what it says.
pub fn run() -> ExitCode {
    let code = match Cli::parse().command {
        Command::Serve { config } => serve(&config),
        Command::Check { config } => check(&config),
        Command::Config => print(&config::manual::manual()),
        Command::Ctl { door, json, statement } => ask(door, json, &statement),
        Command::Top { door } => top(door),
    };
    ExitCode::from(code)
}

fn serve(path: &Path) -> u8 {
    let settings = match load(path) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    start_log(&settings);
    for note in settings.notes() {
        tracing::warn!("{note}");
    }
    match crate::boot::serve(settings, path) {
        Ok(()) => SUCCESS,
        Err(error) => fail(&error),
    }
}

fn check(path: &Path) -> u8 {
    match load(path) {
        Ok(settings) => {
            let notes: String = settings.notes().iter().map(|note| format!("note: {note}\n")).collect();
            print(&format!("{}: ok\n{notes}", path.display()))
        }
        Err(code) => code,
    }
}

fn ask(args: DoorArgs, json: bool, statement: &str) -> u8 {
    let door = match door(args) {
        Ok(door) => door,
        Err(code) => return code,
    };
    let form = match (json, io::stdout().is_terminal()) {
        (true, _) => Form::Json,
        (false, true) => Form::Terminal,
        (false, false) => Form::Table,
    };
    match ctl::ask(&door, statement) {
        Ok(answers) => print(&form.render(&answers)),
        Err(error) => fail(&error),
    }
}

fn top(args: DoorArgs) -> u8 {
    let door = match door(args) {
        Ok(door) => door,
        Err(code) => return code,
    };
    if !io::stdout().is_terminal() {
        return match ctl::look(&door) {
            Ok(answers) => print(&Form::Table.render(&answers)),
            Err(error) => fail(&error),
        };
    }
    ctl::top(&door).map_or_else(|error| fail(&error), |()| SUCCESS)
}

fn door(args: DoorArgs) -> Result<Door, u8> {
    if let Some(path) = args.config {
        return load(&path).map(|settings| Door::of(&settings.admin));
    }
    let password = args.password.or_else(|| std::env::var(PASSWORD_VARIABLE).ok());
    let (host, port) = args.admin;
    Ok(Door { host, port, user: args.user, password: password.unwrap_or_else(|| "admin".to_owned()) })
}

fn load(path: &Path) -> Result<Settings, u8> {
    config::load(path).map_err(|mistakes| {
        let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        complain(&mistakes.render(colour));
        BAD_CONFIGURATION
    })
}

/// Log lines go to standard error; the level was checked when the settings were read.
fn start_log(settings: &Settings) {
    let filter = tracing_subscriber::EnvFilter::new(&settings.log.level);
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    log.with_ansi(io::stderr().is_terminal()).init();
}

fn print(text: &str) -> u8 {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => SUCCESS,
        // Whoever reads has seen enough, as in `corelane config | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::error::Error) -> u8 {
    complain(&format!("corelane: {error}"));
    FAILURE
}

/// Standard error may be closed; there is nobody to tell that to.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
