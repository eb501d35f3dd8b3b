//! The HTTP door: metrics and health, for monitoring systems and load balancers.
//!
//! It runs beside the coordinator on its runtime and knows only what the [`Desk`] says. It reads requests without a body,
//! answers each with a page made for it, keeps nothing, and changes nothing. There is none unless `[http]` is written.
//!
//! A scraper, slow or many, hurts nobody but other scrapers: connections are bounded, and so are the bytes and the time
//! of a request's head and the time to the next one; requests are answered one at a time and some way apart, those for health
//! apart from those for metrics.
//! Nothing that is counted here is counted for it: a page is read off the counters that everybody keeps anyway.

mod answer;
mod family;
mod matrixone;
mod own;
mod pace;
mod readiness;
mod scrape;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, warn};

use crate::config::settings::Http;
use crate::coordinator::desk::Desk;
use pace::Pace;

/// Bytes of a request's head, and of what is read ahead; hyper takes no less than 8 KiB.
const HEAD_MAX: usize = 16 * 1024;

/// Header fields of a request.
const FIELDS_MAX: usize = 64;

/// How long a client may take to send the head of its first request.
const HEAD_LIMIT: Duration = Duration::from_secs(5);

/// How long a connection is kept after a request came, for its answer to be taken and the next request to come. Longer than a
/// scraper's usual interval.
const KEEP_LIMIT: Duration = Duration::from_secs(75);

/// Connections that are being turned away at the same time; one more is closed without a word.
const TURNED_AWAY_MAX: usize = 32;

/// How long a client that is turned away may take to hear it.
const TURN_AWAY_LIMIT: Duration = Duration::from_millis(500);

/// From one connection to the next, at least.
const ACCEPTS_APART: Duration = Duration::from_millis(1);

/// Pause after a failed accept, so that a process without descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TURN_AWAY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 21\r\nconnection: close\r\n\r\ntoo many connections\n";

/// What the connections share.
struct Door {
    desk: Desk,
    settings: Http,
    /// Of the long pages, and of all others.
    pace: Pace,
    short_pace: Pace,
}

/// Serves HTTP clients on `listener` for as long as it is polled. The connections end with it.
pub async fn serve(listener: std::net::TcpListener, settings: Http, desk: Desk) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let door = Arc::new(Door { desk, settings, pace: Pace::default(), short_pace: Pace::default() });
    let (mut served, mut turned_away) = (JoinSet::new(), JoinSet::new());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = served.join_next() => {
                if let Err(error) = ended {
                    warn!("an HTTP connection ended badly: {error}");
                }
                continue;
            }
            Some(_) = turned_away.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) if served.len() < door.room() => {
                served.spawn(attend(stream, peer, door.clone()));
            }
            Ok((stream, _)) if turned_away.len() < TURNED_AWAY_MAX => {
                turned_away.spawn(timeout(TURN_AWAY_LIMIT, turn_away(stream)));
            }
            Ok(_) => {}
            Err(error) => {
                warn!("the HTTP door cannot accept: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
        sleep(ACCEPTS_APART).await;
    }
}

impl Door {
    fn room(&self) -> usize {
        usize::try_from(self.settings.max_connections).unwrap_or(usize::MAX)
    }
}

/// Says that there is no room, and waits for the client to close: its request is unread, and a socket that is closed over
/// unread bytes is reset, which may overtake the answer.
async fn turn_away(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(TURN_AWAY).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(())
}

/// One connection from accept to close.
async fn attend(stream: TcpStream, peer: SocketAddr, door: Arc<Door>) {
    match converse(stream, &door).await {
        Ok(()) => debug!("HTTP connection from {peer} closed"),
        Err(error) => debug!("HTTP connection from {peer}: {error}"),
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(stream: S, door: &Door) -> hyper::Result<()> {
    let until = Mutex::new(Instant::now() + HEAD_LIMIT);
    let at = || *until.lock().unwrap_or_else(PoisonError::into_inner);
    let service = service_fn(|request: Request<Incoming>| {
        *until.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + KEEP_LIMIT;
        let (head, _unread) = request.into_parts();
        async move { Ok::<_, Infallible>(answer::answer(&head, door).await) }
    });
    let mut http = http1::Builder::new();
    // Hyper's own limit of time does not tell a head that comes slowly from a connection that waits for its next request.
    http.max_buf_size(HEAD_MAX).max_header_size(HEAD_MAX).max_headers(FIELDS_MAX).header_read_timeout(None);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    loop {
        tokio::select! {
            ended = &mut connection => return ended,
            () = sleep_until(at()) => {}
        }
        if at() <= Instant::now() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, DuplexStream};
    use tokio::task::JoinHandle;
    use tokio::time::advance;

    use super::*;
    use crate::config::Settings;
    use crate::coordinator::{Coordinator, CoordinatorParts};
    use crate::metrics::Tally;

    /// A connection, and how long it was served; the coordinator is gone.
    fn connect() -> (DuplexStream, JoinHandle<Duration>) {
        let parts = CoordinatorParts {
            settings: Settings::default(),
            config_path: None,
            mailboxes: Vec::new(),
            counters: Vec::new(),
            cpus: Vec::new(),
            tally: Tally::new(0),
            hosts: Arc::default(),
        };
        let (_, desk) = Coordinator::new(parts);
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = Http { listen, max_connections: 1, matrixone_names: false };
        let door = Door { desk, settings, pace: Pace::default(), short_pace: Pace::default() };
        let (client, server) = tokio::io::duplex(4096);
        let served = tokio::spawn(async move {
            let began = Instant::now();
            converse(server, &door).await.expect("no error");
            began.elapsed()
        });
        (client, served)
    }

    async fn ask(client: &mut DuplexStream, path: &str) -> String {
        client.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let read = client.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..read]).into_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_has_so_long_for_its_first_head() {
        let (mut client, served) = connect();
        client.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
        assert_eq!(served.await.unwrap(), HEAD_LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_kept_from_one_request_to_the_next() {
        let (mut client, served) = connect();
        assert!(ask(&mut client, "/healthz").await.starts_with("HTTP/1.1 200 "));
        advance(KEEP_LIMIT - Duration::from_secs(1)).await;
        assert!(ask(&mut client, "/healthz").await.ends_with("\r\n\r\nok\n"));
        advance(Duration::from_secs(2)).await;
        assert!(!served.is_finished());
        let took = served.await.unwrap();
        let expected = 2 * KEEP_LIMIT - Duration::from_secs(1);
        assert!(took.abs_diff(expected) < Duration::from_millis(20), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_coordinator_it_is_not_ready() {
        for path in ["/readyz", "/metrics"] {
            let (mut client, _served) = connect();
            let answer = ask(&mut client, path).await;
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(answer.ends_with("the coordinator has ended\n"), "{answer}");
        }
    }

    #[test]
    fn the_words_for_those_without_room_are_as_long_as_they_say() {
        let text = std::str::from_utf8(TURN_AWAY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{text}");
    }
}
