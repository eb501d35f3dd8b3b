//! What operators change while the house runs: CNs and their drains, and single sessions.
//!
//! A change of a CN holds until the configuration is read again. What it does to the sessions follows from the new
//! table, as after any other change.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::info;

use super::Coordinator;
use super::desk::{Alteration, DrainTerms, Operation};
use super::errand::Outcome;
use super::reload;
use crate::config::settings::CnSetting;
use crate::ident::SessionId;
use crate::mailbox::message::{MoveOrder, Order, Whom};
use crate::placement::duty::Terms;
use crate::placement::{ChangeError, Decision};
use crate::route::TlsMode;

/// How long a session that an operator moves is waited for while it is held, at most: less than the operator
/// waits for the answer.
const MOVE_PATIENCE: Duration = Duration::from_secs(8);

impl Coordinator {
    pub(super) fn operate(&mut self, operation: Operation, answer: oneshot::Sender<Outcome>) {
        info!("an operator asks: {operation}");
        let outcome = match operation {
            Operation::Kill { session } => return self.kill(session, answer),
            Operation::MoveSession { session, to } => match self.move_session(session, &to, answer) {
                Ok(()) => return,
                Err((error, answer)) => return drop(answer.send(Err(error))),
            },
            Operation::Add(cn)
                if cn.tls.is_some_and(TlsMode::verifies) && !self.settings.cn_tls.vouches() =>
            {
                Err("nobody vouches for CNs: [cn_tls] has no `ca_file`".to_owned())
            }
            Operation::FlushHosts => Ok(match self.hosts.flush(Instant::now()) {
                1 => "1 address is let in again".to_owned(),
                count => format!("{count} addresses are let in again"),
            }),
            other => self.change_table(other).map_err(|error| error.to_string()),
        };
        // Whoever asked may have gone away meanwhile.
        let _ = answer.send(outcome);
    }

    fn change_table(&mut self, operation: Operation) -> Result<String, ChangeError> {
        let (tally, now) = (self.tally.clone(), self.epoch.elapsed());
        let seats = move |slot| tally.seats(slot);
        let decision = match operation {
            Operation::Drain { cn, terms } => self.placement.drain(&cn, self.terms(terms, false), now)?,
            Operation::Remove { cn, terms } => self.placement.drain(&cn, self.terms(terms, true), now)?,
            Operation::Resume { cn } => self.placement.resume(&cn)?,
            Operation::Alter { cn, changes } => self.placement.alter(&cn, |cn| alter(cn, changes), seats)?,
            Operation::Add(setting) => self.placement.add(*setting, seats)?,
            Operation::Kill { .. } | Operation::MoveSession { .. } | Operation::FlushHosts => {
                Decision::default()
            }
        };
        let said = decision.say.join("; ");
        self.follow(decision);
        let modes = self.picture.view.cns.iter().map(|cn| cn.tls);
        self.picture.key = reload::key(&self.settings, modes, self.picture.key.clone());
        Ok(if said.is_empty() { "nothing changes".to_owned() } else { said })
    }

    pub(super) fn terms(&self, asked: DrainTerms, then_remove: bool) -> Terms {
        let rules = &self.settings.drain;
        let deadline = match asked.deadline_s {
            None => rules.deadline,
            Some(seconds) => (seconds > 0).then(|| Duration::from_secs(seconds.into())),
        };
        Terms { deadline, at_deadline: asked.at_deadline.unwrap_or(rules.at_deadline), then_remove }
    }

    fn kill(&mut self, session: SessionId, answer: oneshot::Sender<Outcome>) {
        self.send_errand(session, answer, |ticket| Order::Kill { ticket, session });
    }

    /// Gives the way to answer back where nothing was ordered.
    fn move_session(
        &mut self,
        session: SessionId,
        to: &str,
        answer: oneshot::Sender<Outcome>,
    ) -> Result<(), (String, oneshot::Sender<Outcome>)> {
        let slot = match self.placement.slot(to) {
            Ok(slot) => slot,
            Err(error) => return Err((error.to_string(), answer)),
        };
        let patience = self.settings.migration.patience.min(MOVE_PATIENCE);
        self.send_errand(session, answer, |ticket| {
            let whom = Whom::Session { ticket, session };
            Order::Move(MoveOrder { whom, to: slot, patience, dwelling_too: true })
        });
        Ok(())
    }

    fn send_errand(
        &mut self,
        session: SessionId,
        answer: oneshot::Sender<Outcome>,
        order: impl Fn(u64) -> Order,
    ) {
        let running = self.posts.iter().filter(|post| !post.has_ended());
        let ticket = self.errands.begin(session, running.map(|post| post.worker()), Instant::now(), answer);
        for post in self.posts.iter_mut().filter(|post| !post.has_ended()) {
            if !post.order(order(ticket)) {
                let worker = post.worker();
                let why =
                    format!("too many orders wait for worker {worker}: if it is there, nothing is done");
                self.errands.answered(ticket, Err(why));
            }
        }
    }
}

fn alter(cn: &mut CnSetting, changes: Vec<Alteration>) {
    for change in changes {
        match change {
            Alteration::Weight(weight) => cn.weight = weight,
            Alteration::Labels(labels) => cn.labels = labels,
            Alteration::Data(data) => cn.data = data,
            Alteration::MaxSessions(most) => cn.max_sessions = most,
        }
    }
}
