//! The admin door: corelane itself as an SQL server, for operators and scripts.
//!
//! It speaks the MySQL protocol on an address of its own, with users of its own, so that any MySQL client can
//! ask. It runs beside the coordinator on its runtime and knows only what the [`Desk`] says. Connections are
//! counted and bounded, packets and waits too; a client can slow nobody but itself.

mod courtesy;
pub mod grammar;
mod lexer;
mod line;
mod login;
pub mod pattern;
mod session;
pub mod show;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::coordinator::desk::Desk;
use line::{Error, Line};

/// Pause after a failed accept, so that a process without descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a client that is turned away may take to hear it.
const TURN_AWAY_LIMIT: Duration = Duration::from_millis(100);

/// Serves admin clients on `listener` for as long as it is polled. The sessions end with it.
pub async fn serve(listener: std::net::TcpListener, desk: Desk) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let (mut sessions, mut last_id) = (JoinSet::new(), 0_u32);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = sessions.join_next() => {
                if let Err(error) = ended {
                    warn!("an admin session ended badly: {error}");
                }
                continue;
            }
        };
        match accepted {
            Ok((stream, _)) if sessions.len() >= room(&desk) => {
                let _ = timeout(TURN_AWAY_LIMIT, login::turn_away(&mut Line::new(stream))).await;
            }
            Ok((stream, peer)) => {
                last_id = last_id.wrapping_add(1);
                sessions.spawn(attend(stream, peer, last_id, desk.clone()));
            }
            Err(error) => {
                warn!("the admin door cannot accept: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn room(desk: &Desk) -> usize {
    usize::try_from(desk.admin().max_connections).unwrap_or(usize::MAX)
}

/// One admin connection from accept to close.
async fn attend(stream: TcpStream, peer: SocketAddr, id: u32, desk: Desk) {
    match converse(stream, peer, id, &desk).await {
        Ok(()) | Err(Error::Closed) => debug!("admin connection from {peer} closed"),
        Err(error) => debug!("admin connection from {peer}: {error}"),
    }
}

async fn converse(stream: TcpStream, peer: SocketAddr, id: u32, desk: &Desk) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let mut line = Line::new(stream);
    match login::login(&mut line, id, &peer.ip().to_string(), &desk.admin().users).await? {
        Some(client) => session::serve(&mut line, client, desk).await,
        None => Ok(()),
    }
}
