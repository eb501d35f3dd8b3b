//! Reading the configuration again: all of it or nothing, and each change said.
//!
//! A wrong file changes nothing: every mistake is said and the settings in force stay. Of a right one, what a
//! running process can take up is taken up at once; the rest is said to need a restart.

use std::sync::Arc;
use std::time::Instant;

use tracing::{error, info, warn};

use super::Coordinator;
use super::post::Post;
use super::watch::Rules;
use crate::config;
use crate::config::change::{Effect, between, in_force};
use crate::config::settings::{Settings, UserSecret, UserSetting};
use crate::mailbox::message::Picture;
use crate::route::TlsMode;
use crate::session::user::{KnownUser, Users};
use crate::wire::auth::rsa::ServerKey;

impl Coordinator {
    pub(super) fn reload(&mut self) {
        let Some(path) = &self.config_path else {
            return warn!("there is no configuration file to read again");
        };
        match config::load(path) {
            Ok(settings) => {
                self.logbook.reloads += 1;
                self.take_up(settings);
            }
            Err(mistakes) => {
                error!("{} is wrong, nothing is changed:\n{mistakes}", path.display());
                self.logbook.reloads_refused += 1;
            }
        }
    }

    fn take_up(&mut self, settings: Settings) {
        let changes = between(&self.settings, &settings);
        if changes.is_empty() {
            info!("the configuration was read again: nothing has changed");
        }
        for change in &changes {
            match change.effect {
                Effect::Live => info!("{}", change.sentence),
                Effect::Restart => warn!("{}; this needs a restart", change.sentence),
            }
        }
        self.settings = in_force(&self.settings, settings);
        self.placement.set_probe(&self.settings.probe);
        self.watches.set_rules(probing(&self.settings));
        self.tables.set_auth(&self.settings.auth, &self.settings.cn_tls, &self.picture.view);
        self.take_discovery();
        let before = &self.picture;
        self.picture = Picture {
            view: before.view.clone(),
            users: before.users.clone(),
            face: before.face.clone(),
            key: key(&self.settings, modes(&self.settings), before.key.clone()),
            ..Picture::new(&self.settings)
        };
        if self.settings.access.as_ref().is_none_or(|access| access.blocking.is_none()) {
            self.hosts.flush(Instant::now());
        }
        self.helm.balance.set_rules(&self.settings.balance, &self.settings.drain);
        self.helm.table_changed = true;
        self.unpublished = true;
        self.take_cns();
        self.compose_users();
    }
}

impl Coordinator {
    /// Whom the CNs have told of stays, unless nobody is to be asked any more: then the table is the file's, as it
    /// would be after a restart.
    fn take_discovery(&mut self) {
        let rules = &self.settings.discovery;
        self.scout.set_rules(rules, &self.picture.view);
        if rules.account.is_none() {
            self.placement.forget_found();
        }
        self.ids.set_addresses(&rules.hakeeper, self.posts.iter().map(Post::worker));
        let decision = self.placement.set_query_port(rules.query_port);
        self.follow(decision);
    }
}

/// By which clients without TLS can send their passwords: that of the settings, else the one `made` before, else one that is made now,
/// which takes the coordinator some tenths of a second. None where nobody has to send a password: passwords are known, or pass between
/// client and CN without anybody listening for them on behalf of the CNs' tables.
/// `modes` are those of the CNs.
pub(super) fn key(
    settings: &Settings,
    modes: impl IntoIterator<Item = Option<TlsMode>>,
    made: Option<Arc<ServerKey>>,
) -> Option<Arc<ServerKey>> {
    let has_cn_tls = modes.into_iter().chain([None]).any(|mode| settings.cn_tls.of(mode).is_some());
    let hashed = settings.users.iter().any(|user| !matches!(user.secret, UserSecret::Password(_)));
    let listens = settings.auth.query.is_some() && settings.auth.trusts_cn_keys;
    if settings.auth.key.is_some() || !(hashed || has_cn_tls || listens) {
        return settings.auth.key.clone();
    }
    made.or_else(|| match ServerKey::generate() {
        Ok(key) => Some(Arc::new(key)),
        Err(error) => {
            warn!("no RSA key: {error}; clients without TLS cannot send passwords");
            None
        }
    })
}

/// By what CNs are probed.
pub(super) fn probing(settings: &Settings) -> Rules {
    Rules { probe: settings.probe.clone(), tls: settings.cn_tls.clone() }
}

/// The TLS modes of the settings' CNs.
pub(super) fn modes(settings: &Settings) -> impl Iterator<Item = Option<TlsMode>> {
    settings.cns.iter().map(|cn| cn.tls)
}

/// The users that corelane can log in by itself, from their settings.
pub(super) fn users(settings: &[UserSetting]) -> Users {
    settings.iter().map(|user| (user.name.clone(), known(&user.secret).by(user.plugin))).collect()
}

fn known(secret: &UserSecret) -> KnownUser {
    match secret {
        UserSecret::Password(password) => KnownUser::with_password(password.clone()),
        UserSecret::NativeHash(hash) => KnownUser::with_native_hash(*hash),
        UserSecret::Sha2Hash(hash) => KnownUser::with_sha2_hash(hash.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::auth::parse_native_hash;

    #[test]
    fn secrets_become_what_a_login_needs() {
        let user = |name: &str, secret| UserSetting {
            name: name.into(),
            secret,
            plugin: None,
            from: None,
            certificate: None,
        };
        let hash = parse_native_hash("*14E65567ABDB5135D0CFD9A70B3032C179A49EE7").unwrap();
        let users = users(&[
            user("clear", UserSecret::Password("secret".into())),
            user("hashed", UserSecret::NativeHash(hash)),
            user("open", UserSecret::Password("".into())),
        ]);
        assert_eq!(users.get("clear").unwrap().native_hash, Some(hash));
        assert_eq!(users.get("clear").unwrap().password.as_deref(), Some("secret"));
        assert_eq!(users.get("hashed").unwrap().native_hash, Some(hash));
        assert_eq!(users.get("hashed").unwrap().password, None);
        assert_eq!(users.get("open").unwrap().native_hash, None);
        assert!(users.get("nobody").is_none());
    }
}
