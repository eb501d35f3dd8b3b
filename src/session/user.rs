//! The users that corelane can log in by itself, and what it holds of their secrets.
//!
//! Those of the configuration prove themselves to corelane. Of all others the CNs' own tables may give hashes
//! (see [`super::account`]): such a user logs in by relay, and the hash tells afterwards what it logged in with.
//! The configuration wins.
//!
//! Nothing here is printed: `Debug` shows that there is a secret, not which.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::secret::Secret;
use crate::wire::auth::{NativeHash, Plugin, native_hash, native_key};

/// What corelane knows of a user's secret.
#[derive(Clone, PartialEq, Eq)]
pub struct KnownUser {
    /// SHA1(SHA1(password)), what `mysql_native_password` stores; none for an empty password.
    pub native_hash: Option<NativeHash>,
    /// The password itself, where the configuration gave it.
    pub password: Option<Secret>,
    /// By which its clients have to log in; none: as they like.
    pub plugin: Option<Plugin>,
}

impl KnownUser {
    pub fn with_password(password: impl Into<Secret>) -> Self {
        let password = password.into();
        let native_hash = (!password.is_empty()).then(|| native_hash(&native_key(&password)));
        Self { native_hash, password: Some(password), plugin: None }
    }

    pub fn with_native_hash(hash: NativeHash) -> Self {
        Self { native_hash: Some(hash), password: None, plugin: None }
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

/// Known users by name, without tenant and labels.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Users {
    configured: HashMap<String, KnownUser>,
    /// Of users that are not configured.
    hashes: BTreeMap<String, Box<[NativeHash]>>,
}

impl Users {
    /// A user of the configuration.
    pub fn get(&self, name: &str) -> Option<&KnownUser> {
        self.configured.get(name)
    }

    /// The hashes that the CNs' tables hold of a user who is not in the configuration; mostly one or none.
    pub fn hashes(&self, name: &str) -> &[NativeHash] {
        self.hashes.get(name).map_or(&[], |hashes| hashes)
    }

    /// The same users of the configuration, with hashes from the CNs' tables.
    pub fn with_hashes(mut self, hashes: BTreeMap<String, Box<[NativeHash]>>) -> Self {
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

    #[test]
    fn an_empty_password_has_no_hash() {
        assert_eq!(KnownUser::with_password("").native_hash, None);
        let known = KnownUser::with_password("secret");
        assert_eq!(known.native_hash.map(|hash| hash[0]), Some(0x14));
        assert!(!format!("{known:?}").contains("secret"));
    }

    #[test]
    fn the_configuration_wins_over_the_tables() {
        let users = Users::from_iter([("app".to_owned(), KnownUser::with_password("secret"))]);
        let one: Box<[NativeHash]> = Box::new([[1; 20]]);
        let users = users.with_hashes(BTreeMap::from([("app".into(), one.clone()), ("web".into(), one)]));
        assert!(users.get("app").is_some() && users.hashes("app").is_empty());
        assert!(users.get("web").is_none() && users.hashes("web") == [[1; 20]]);
        assert!(users.hashes("nobody").is_empty());
        assert_eq!(format!("{users:?}"), "Users(1 configured, 1 from tables)");
    }
}
