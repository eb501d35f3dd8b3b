//! Accepts connections on one listener and starts a session for each.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::FutureExt;
use tracing::warn;

use super::{Worker, tunnel};
use crate::net;
use crate::reactor::Acceptor;

/// How long to wait after the kernel could not give a connection (no files left, no memory).
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the worker stops.
pub(super) async fn accept(worker: Rc<Worker>, listener: OwnedFd) {
    let called = net::called(&listener);
    let acceptor = Acceptor::new(&worker.reactor, listener);
    let accepting = async {
        loop {
            match acceptor.accept().await {
                Ok(fd) if !worker.admits() => tunnel::turn_away(&worker, &fd),
                Ok(fd) => {
                    let host = worker.clone();
                    worker.host(async move { tunnel::serve(&host, fd, called).await });
                }
                Err(cause) => {
                    warn!(worker = worker.id.0, "cannot accept a connection: {cause}");
                    worker.reactor.sleep_until(Instant::now() + PAUSE).await;
                }
            }
        }
    };
    worker.stopping.raised().or(accepting).await;
}
