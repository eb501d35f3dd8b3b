//! The beginning of a session on a leg that a CN has just made its user's, by a login or by a change of the user: its dialog, and what the
//! CN shall report of it.
//!
//! Invariant: the client is shown the OK that it would have been sent without corelane.

use std::time::Duration;

use super::Worker;
use super::migrate::{TalkError, converse};
use crate::reactor::Socket;
use crate::route::{Cn, Flavour};
use crate::session::dialog::{Dialog, Noted, Watch, Watched};
use crate::session::hold::Hold;
use crate::session::login::Spoken;
use crate::session::state::State;
use crate::session::tracking::{self, Wishes};
use crate::wire::capability::Capabilities;
use crate::wire::status::Status;

/// What a session begins with.
pub(super) struct Opening<'a> {
    pub worker: &'a Worker,
    pub cn: &'a Cn,
    pub socket: &'a Socket,
    pub spoken: Spoken,
    /// What the client and corelane speak.
    pub client: Capabilities,
    /// Each command waits for the reply to the one before.
    pub paced: bool,
    pub limit: Duration,
}

/// The OK of a login or a change of the user.
pub(super) struct LetIn<'a> {
    pub ok: &'a [u8],
    pub status: Status,
    /// The schema that the client has asked for.
    pub schema: Option<&'a [u8]>,
}

impl Opening<'_> {
    /// The dialog, and the OK as the client shall see it. `hold`: why the session could never move; `untracked`: the same where its leg
    /// cannot be tracked.
    ///
    /// # Errors
    /// The CN does not track the session.
    pub async fn dialog(
        &self,
        let_in: LetIn<'_>,
        hold: Option<Hold>,
        untracked: Hold,
    ) -> Result<(Dialog, Vec<u8>), String> {
        let notes = self.cn.flavour == Flavour::Matrixone;
        let cannot_track = !notes && !self.spoken.capabilities.has(Capabilities::SESSION_TRACK);
        let (watch, shown) = match hold.or(cannot_track.then_some(untracked)) {
            None if notes => {
                (Watch::Noted(Box::new(Noted::new(self.spoken.capabilities))), let_in.ok.to_vec())
            }
            Some(hold) => (Watch::Off(hold), let_in.ok.to_vec()),
            None => self.track(&let_in).await?,
        };
        let mut dialog = Dialog::new(self.spoken.capabilities, let_in.status);
        if matches!(watch, Watch::Noted(_)) {
            dialog = dialog.with_matrixone();
        }
        dialog.stop_at_concerns();
        if self.paced {
            dialog.pace();
        }
        dialog.watch(watch);
        Ok((dialog, shown))
    }

    /// Has the CN report what the session changes. Gives who takes note of it, and the OK as the client shall see it.
    async fn track(&self, let_in: &LetIn<'_>) -> Result<(Watch, Vec<u8>), String> {
        let Spoken { capabilities: cn, mariadb } = self.spoken;
        let asked = match converse(self.worker, self.socket, tracking::script(mariadb), cn, self.limit).await
        {
            Err(TalkError::Wrong(refused)) if tracking::wants_password(&refused) => {
                return self.leave_untracked(let_in.ok).await;
            }
            asked => asked.map_err(|cause| cause.to_string())?,
        };
        let beginning = tracking::learn(asked).map_err(|cause| cause.to_string())?;
        let shown = tracking::rewrite(let_in.ok, cn, self.client, &beginning.wishes)
            .map_err(|cause| cause.to_string())?;
        let state = State::new(cn, mariadb, beginning, let_in.schema);
        let watched = Watched::new(state, self.client, cn);
        Ok((Watch::On(Box::new(watched)), shown.unwrap_or_else(|| let_in.ok.to_vec())))
    }

    /// The user's password has expired, so the CN answers nothing before there is another one, which corelane would not know. MariaDB
    /// obeys SET all the same, so what was asked of it is taken back.
    async fn leave_untracked(&self, ok: &[u8]) -> Result<(Watch, Vec<u8>), String> {
        let (cn, client) = (self.spoken.capabilities, self.client);
        match converse(self.worker, self.socket, tracking::untrack(client), cn, self.limit).await {
            Ok(_) | Err(TalkError::Wrong(_)) => {}
            Err(broken) => return Err(broken.to_string()),
        }
        let shown = tracking::rewrite(ok, cn, client, &Wishes::everything());
        let shown = shown.map_err(|cause| cause.to_string())?;
        Ok((Watch::Off(Hold::ChangedUser), shown.unwrap_or_else(|| ok.to_vec())))
    }
}
