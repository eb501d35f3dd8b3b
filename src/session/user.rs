//! The users that corelane can log in by itself.

use std::collections::HashMap;
use std::fmt;

/// What corelane knows of a user's secret.
#[derive(Clone, PartialEq, Eq)]
pub struct KnownUser {
    /// SHA1(SHA1(password)), what `mysql_native_password` stores; none for an empty password.
    pub native_hash: Option<[u8; 20]>,
    /// The password itself, where the configuration gave it.
    pub password: Option<String>,
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
