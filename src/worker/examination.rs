//! The examination of a known user's client: the reads and the writes of it, at a login and at a change of the user.
//!
//! What is asked, and whether the answer is right, is for [`Examiner`](crate::session::login::Examiner) to say.

use std::borrow::Borrow;
use std::time::Instant;

use zeroize::Zeroizing;

use super::Worker;
use super::leg::{Leg, LegError};
use crate::reactor::Socket;
use crate::session::login::{ClientStep, Proof};
use crate::session::refusal::Refusal;
use crate::wire::auth::salt_shown;
use crate::wire::greeting::SALT;

/// Why a client has proven nothing.
pub(super) enum Unproven {
    Refused(Refusal),
    /// It sent no answer; none: not in time.
    Unheard(Option<LegError>),
    /// It took no question.
    Gone,
}

/// Lets a known user prove who it is, until `deadline`. The salt that it is shown last is left in `salt`.
pub(super) async fn examine<S: Borrow<Socket>>(
    worker: &Worker,
    client: &mut Leg<S>,
    deadline: Instant,
    salt: &mut [u8; SALT],
    mut step: ClientStep<'_>,
) -> Result<Proof, Unproven> {
    loop {
        step = match step {
            ClientStep::Verified { proof, say } => {
                if let Some(packet) = say {
                    write(worker, client, deadline, &packet).await?;
                }
                return Ok(proof);
            }
            ClientStep::Refused(refusal) => return Err(Unproven::Refused(refusal)),
            ClientStep::Think(thought) => {
                // By way of the ring, which has other sessions' packets by now.
                worker.reactor.sleep_until(Instant::now()).await;
                thought.go_on()
            }
            ClientStep::Ask { packet, next } => {
                write(worker, client, deadline, &packet).await?;
                *salt = salt_shown(&packet).unwrap_or(*salt);
                let heard = worker.reactor.until(deadline, client.read()).await;
                let answer = heard.ok_or(Unproven::Unheard(None))?;
                next.answer(&Zeroizing::new(answer.map_err(|error| Unproven::Unheard(Some(error)))?))
            }
        };
    }
}

async fn write<S: Borrow<Socket>>(
    worker: &Worker,
    client: &mut Leg<S>,
    deadline: Instant,
    packet: &[u8],
) -> Result<(), Unproven> {
    match worker.reactor.until(deadline, client.write(packet)).await {
        Some(Ok(())) => Ok(()),
        Some(Err(_)) | None => Err(Unproven::Gone),
    }
}
