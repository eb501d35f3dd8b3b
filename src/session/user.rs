//! The users that corelane can log in by itself, and what it holds of their secrets.
//!
//! Those of the configuration prove themselves to corelane. Of all others the CNs' own tables may give hashes
//! (see [`super::account`]): such a user logs in by relay, and the hash tells afterwards what it logged in with.
//! The configuration wins.
//!
//! Of a user with a hash of `caching_sha2_password` the password is kept once a client has shown it, as the configuration's own
//! passwords are: in one place, wiped with the last that holds it. So its next clients take the fast path, and corelane can log it in
//! to CNs that want more than that. A server would keep a hash that is of no use there. It is kept with the hash that it was checked by
//! and no longer: where the file or the table has another one, it is forgotten.
//!
//! Nothing here is printed: `Debug` shows that there is a secret, not which.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::secret::Secret;
use crate::wire::auth::sha2_crypt::Sha2Hash;
use crate::wire::auth::{NativeHash, Plugin, native_hash, native_key};

/// What corelane knows of a user's secret.
#[derive(Clone, PartialEq, Eq)]
pub struct KnownUser {
    /// SHA1(SHA1(password)), what `mysql_native_password` stores; none for an empty password.
    pub native_hash: Option<NativeHash>,
    /// The password itself, where the configuration gave it.
    pub password: Option<Secret>,
    /// What `caching_sha2_password` stores, where that is all that the configuration has. Then there is neither of those above.
    pub sha2: Option<Arc<Sha2Secret>>,
    /// By which its clients have to log in; none: as they like.
    pub plugin: Option<Plugin>,
}

/// A hash of `caching_sha2_password`, and the password once it has been shown.
#[derive(Debug)]
pub struct Sha2Secret {
    pub hash: Sha2Hash,
    shown: OnceLock<Secret>,
}

/// Of what is known of it otherwise.
impl PartialEq for Sha2Secret {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Sha2Secret {}

impl Sha2Secret {
    /// Of whose password nothing else is known.
    pub fn new(hash: Sha2Hash) -> Self {
        Self { hash, shown: OnceLock::new() }
    }

    /// The password, if a client has shown it.
    pub fn shown(&self) -> Option<&Secret> {
        self.shown.get()
    }

    /// Keeps the password, of which the hash is.
    pub fn keep(&self, password: Secret) {
        // It is there already if two clients have shown it at the same time.
        let _ = self.shown.set(password);
    }
}

impl KnownUser {
    pub fn with_password(password: impl Into<Secret>) -> Self {
        let password = password.into();
        let native_hash = (!password.is_empty()).then(|| native_hash(&native_key(&password)));
        Self { native_hash, password: Some(password), sha2: None, plugin: None }
    }

    pub fn with_native_hash(hash: NativeHash) -> Self {
        Self { native_hash: Some(hash), password: None, sha2: None, plugin: None }
    }

    pub fn with_sha2_hash(hash: Sha2Hash) -> Self {
        let sha2 = Some(Arc::new(Sha2Secret::new(hash)));
        Self { native_hash: None, password: None, sha2, plugin: None }
    }

    /// Its password, as far as it is known by now.
    pub fn password(&self) -> Option<&Secret> {
        self.password.as_ref().or_else(|| self.sha2.as_ref()?.shown())
    }

    /// Whether it is known to have the empty one.
    pub fn is_open(&self) -> bool {
        self.native_hash.is_none() && self.sha2.is_none()
    }

    /// The same, whose clients have to log in by one plugin.
    pub fn by(self, plugin: Option<Plugin>) -> Self {
        Self { plugin, ..self }
    }
}

impl fmt::Debug for KnownUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KnownUser(..)")
    }
}

/// What the CNs' tables hold of a user who is not in the configuration: mostly one hash, several where it has several hosts or CNs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Hashes {
    pub native: Box<[NativeHash]>,
    pub sha2: Arc<[Arc<Sha2Secret>]>,
}

impl Hashes {
    /// The same, with the passwords that were shown of the same hashes `before`.
    fn remembering(&mut self, before: &Self) {
        if self.sha2 == before.sha2 {
            self.sha2 = before.sha2.clone();
            return;
        }
        let old = |secret: &Arc<Sha2Secret>| before.sha2.iter().find(|old| *old == secret).cloned();
        self.sha2 = self.sha2.iter().map(|secret| old(secret).unwrap_or_else(|| secret.clone())).collect();
    }
}

impl fmt::Debug for Hashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hashes({} native, {} of sha2)", self.native.len(), self.sha2.len())
    }
}

/// Known users by name, without tenant and labels.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Users {
    configured: HashMap<String, KnownUser>,
    /// Of users that are not configured.
    hashes: BTreeMap<String, Hashes>,
}

impl Users {
    /// A user of the configuration.
    pub fn get(&self, name: &str) -> Option<&KnownUser> {
        self.configured.get(name)
    }

    /// The same, with the passwords that users of the same names and hashes have shown `before`.
    pub fn remembering(mut self, before: &Self) -> Self {
        for (name, user) in &mut self.configured {
            let old = before.configured.get(name).and_then(|old| old.sha2.as_ref());
            if let Some(old) = old.filter(|old| user.sha2.as_ref() == Some(old)) {
                user.sha2 = Some(old.clone());
            }
        }
        for (name, hashes) in &mut self.hashes {
            if let Some(old) = before.hashes.get(name) {
                hashes.remembering(old);
            }
        }
        self
    }

    /// Those of a user who is not in the configuration, where a table has any.
    pub fn hashes(&self, name: &str) -> Option<&Hashes> {
        self.hashes.get(name)
    }

    /// The same users of the configuration, with hashes from the CNs' tables.
    pub fn with_hashes(mut self, hashes: BTreeMap<String, Hashes>) -> Self {
        self.hashes = hashes;
        self.hashes.retain(|name, _| !self.configured.contains_key(name));
        self
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({} configured, {} from tables)", self.configured.len(), self.hashes.len())
    }
}

impl FromIterator<(String, KnownUser)> for Users {
    fn from_iter<I: IntoIterator<Item = (String, KnownUser)>>(users: I) -> Self {
        Self { configured: users.into_iter().collect(), hashes: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::auth::sha2_crypt::tests::secret;

    #[test]
    fn an_empty_password_has_no_hash() {
        assert_eq!(KnownUser::with_password("").native_hash, None);
        let known = KnownUser::with_password("secret");
        assert_eq!(known.native_hash.map(|hash| hash[0]), Some(0x14));
        assert!(!format!("{known:?}").contains("secret"));
    }

    #[test]
    fn a_password_that_was_shown_is_kept_as_long_as_its_hash() {
        let hashed = || KnownUser::with_sha2_hash(secret());
        let users = |known| Users::from_iter([("app".to_owned(), known)]);
        let before = users(hashed());
        let known = before.get("app").unwrap();
        assert_eq!((known.password(), known.is_open()), (None, false));
        known.sha2.as_ref().unwrap().keep("secret".into());
        assert_eq!(known.password().map(|password| &**password), Some("secret"));
        let shown = |users: &Users| users.get("app").unwrap().password().is_some();
        assert!(shown(&users(hashed()).remembering(&before)));
        let other = KnownUser::with_sha2_hash(sha2_crypt_other());
        assert!(!shown(&users(other).remembering(&before)), "it has another password now");
        assert!(!shown(&users(KnownUser::with_native_hash([1; 20])).remembering(&before)));
    }

    fn sha2_crypt_other() -> Sha2Hash {
        let text = format!("$A$005${}{}", "s".repeat(20), "d".repeat(43));
        Sha2Hash::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_configuration_wins_over_the_tables() {
        let users = Users::from_iter([("app".to_owned(), KnownUser::with_password("secret"))]);
        let one = Hashes { native: Box::new([[1; 20]]), ..Hashes::default() };
        let users =
            users.with_hashes(BTreeMap::from([("app".into(), one.clone()), ("web".into(), one.clone())]));
        assert!(users.get("app").is_some() && users.hashes("app").is_none());
        assert!(users.get("web").is_none() && users.hashes("web") == Some(&one));
        assert!(users.hashes("nobody").is_none());
        assert_eq!(
            format!("{users:?} {one:?}"),
            "Users(1 configured, 1 from tables) Hashes(1 native, 0 of sha2)"
        );
    }

    #[test]
    fn what_was_shown_of_a_table_is_kept_as_long_as_the_table_has_the_hash() {
        let of = |hashes: &[Sha2Hash]| {
            let sha2 = hashes.iter().cloned().map(|hash| Arc::new(Sha2Secret::new(hash))).collect();
            let hashes = Hashes { sha2, ..Hashes::default() };
            Users::default().with_hashes(BTreeMap::from([("app".to_owned(), hashes)]))
        };
        let shown = |users: &Users| {
            users
                .hashes("app")
                .unwrap()
                .sha2
                .iter()
                .map(|secret| secret.shown().is_some())
                .collect::<Vec<_>>()
        };
        let before = of(&[secret()]);
        before.hashes("app").unwrap().sha2[0].keep("secret".into());
        let after = of(&[secret()]).remembering(&before);
        assert_eq!(shown(&after), [true]);
        let two = of(&[sha2_crypt_other(), secret()]).remembering(&after);
        assert_eq!(shown(&two), [false, true], "the other one is of another password");
        let other = of(&[sha2_crypt_other()]).remembering(&two);
        assert_eq!(shown(&other), [false]);
        assert_eq!(shown(&of(&[secret()]).remembering(&other)), [false], "forgotten is forgotten");
    }
}
