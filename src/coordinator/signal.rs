//! The process's signals as what they ask the coordinator to do.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Signals that may wait to be heeded; more of the same say nothing new.
const SIGNALS_MAX: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: read the configuration file again.
    Reload,
    /// SIGTERM or SIGINT: stop; a second one: stop now.
    Stop,
}

/// Catches the signals from now on. To be called inside the coordinator's runtime.
pub fn catch() -> io::Result<mpsc::Receiver<Signal>> {
    let (sender, receiver) = mpsc::channel(SIGNALS_MAX);
    let kinds = [
        (SignalKind::hangup(), Signal::Reload),
        (SignalKind::terminate(), Signal::Stop),
        (SignalKind::interrupt(), Signal::Stop),
    ];
    for (kind, meaning) in kinds {
        let mut caught = signal(kind)?;
        let sender = sender.clone();
        tokio::spawn(
            async move { while caught.recv().await.is_some() && sender.send(meaning).await.is_ok() {} },
        );
    }
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn the_process_signals_mean_reload_and_stop() {
        let mut signals = catch().unwrap();
        let me = std::process::id().to_string();
        for (name, meaning) in [("-HUP", Signal::Reload), ("-TERM", Signal::Stop), ("-INT", Signal::Stop)] {
            assert!(Command::new("kill").args([name, &me]).status().unwrap().success());
            assert_eq!(signals.recv().await, Some(meaning), "{name}");
        }
    }
}
