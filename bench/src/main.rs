//! Load tools for corelane: what stands behind the proxy, what presses on it, and the comparison with its peers.
//!
//! Each subcommand is one file. Not part of the proxy; nothing here is installed with it.

mod account;
mod compare;
mod figures;
mod flame;
mod forward;
mod legs;
mod load;
mod machine;
mod null_cn;
mod peer;
mod protocol;
mod report;
mod session;
mod sys;
mod tls;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "corelane-bench", version, about = "Load tools for corelane")]
struct Cli {
    #[command(subcommand)]
    tool: Tool,
}

#[derive(Subcommand)]
enum Tool {
    /// A CN that answers at once.
    NullCn(null_cn::Options),
    /// A closed-loop load generator.
    Load(load::Options),
    /// A bare TCP forwarder on epoll.
    Forward(forward::Options),
    /// Measures proxies side by side.
    Compare(compare::Options),
    /// Draws a flame graph from `perf script` output.
    Flame(flame::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().tool {
        Tool::NullCn(options) => null_cn::run(&options).map(|()| true),
        Tool::Load(options) => load::run(&options),
        Tool::Forward(options) => forward::run(&options).map(|()| true),
        Tool::Compare(options) => compare::run(&options),
        Tool::Flame(options) => flame::run(&options).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("corelane-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
