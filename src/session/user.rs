//! The users that corelane can log in by itself, and what it holds of their secrets.
//!
//! Nothing here is printed: `Debug` shows that there is a secret, not which.

use std::collections::HashMap;
use std::fmt;

use crate::wire::auth::{NativeHash, native_hash, native_key};

/// What corelane knows of a user's secret.
#[derive(Clone, PartialEq, Eq)]
pub struct KnownUser {
    /// SHA1(SHA1(password)), what `mysql_native_password` stores; none for an empty password.
    pub native_hash: Option<NativeHash>,
    /// The password itself, where the configuration gave it.
    pub password: Option<String>,
}

impl KnownUser {
    pub fn with_password(password: &str) -> Self {
        let native_hash = (!password.is_empty()).then(|| native_hash(&native_key(password)));
        Self { native_hash, password: Some(password.to_owned()) }
    }

    pub fn with_native_hash(hash: NativeHash) -> Self {
        Self { native_hash: Some(hash), password: None }
    }
}

impl fmt::Debug for KnownUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KnownUser(..)")
    }
}

/// Known users by name, without tenant and labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users(HashMap<String, KnownUser>);

impl Users {
    pub fn get(&self, name: &str) -> Option<&KnownUser> {
        self.0.get(name)
    }
}

impl FromIterator<(String, KnownUser)> for Users {
    fn from_iter<I: IntoIterator<Item = (String, KnownUser)>>(users: I) -> Self {
        Self(users.into_iter().collect())
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
}
