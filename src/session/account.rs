//! The accounts in a CN's user table, judged: which of them leave a hash that makes their user known.
//!
//! Of use are accounts of `mysql_native_password` and of `caching_sha2_password` with a whole hash: by the first, what a client has
//! answered gives what answers any salt; by the second, a password that a client has shown is known to be the account's. From any other
//! plugin's secret nothing can be computed that logs a user in again, and an empty password proves nothing of whoever leaves it out: who
//! wants such a user known has to write it into the configuration.
//!
//! Hosts are not looked at, nor whether an account is locked or expired: that is the CN's to judge at each
//! login. A user name with several hosts, or with other passwords on other CNs, has several hashes. All are
//! kept, as a hash only ever serves to recognise a password that a CN has taken already.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::user::{Hashes, Sha2Secret};
use crate::wire::auth::sha2_crypt::Sha2Hash;
use crate::wire::auth::{CACHING_SHA2, NATIVE, NativeHash, parse_native_hash};

/// Hashes of one user name that are kept, over all hosts and CNs; each costs a login two SHA-1 at most, or the rounds of a
/// `caching_sha2_password` that nobody has shown yet.
pub const HASHES_MAX: usize = 16;

/// Bytes of a native hash as tables hold it: `*` and 40 digits.
const HASH_TEXT: usize = 41;

/// A stored hash, by either plugin.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Hash {
    Native(NativeHash),
    Sha2(Sha2Hash),
}

/// Hashes by user name.
type ByName = BTreeMap<String, BTreeSet<Hash>>;

/// What one CN's user table says, as far as it is of use.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    hashes: ByName,
    passed_over: BTreeMap<PassedOver, u32>,
}

/// Why an account makes nobody known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PassedOver {
    OtherPlugin,
    EmptyPassword,
    /// Not a hash: an account that nobody can log in to, such as MariaDB's `invalid`.
    NoHash,
    /// The anonymous user, or a name that is not UTF-8.
    NoName,
    /// The name has [`HASHES_MAX`] others.
    OneTooMany,
    /// It came after the limit of rows.
    Unread,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherPlugin => "of another plugin",
            Self::EmptyPassword => "without a password",
            Self::NoHash => "whose secret is no hash",
            Self::NoName => "without a readable name",
            Self::OneTooMany => "with too many passwords for one name",
            Self::Unread => "or more not read",
        })
    }
}

impl Accounts {
    /// Takes one row: `User`, `plugin` and `authentication_string`.
    pub fn take(&mut self, user: &[u8], plugin: &[u8], secret: &[u8]) {
        let taken = judge(user, plugin, secret).and_then(|(name, hash)| insert(&mut self.hashes, name, hash));
        if let Err(why) = taken {
            *self.passed_over.entry(why).or_default() += 1;
        }
    }

    /// Notes that there are more rows than may be read.
    pub fn cut_short(&mut self) {
        self.passed_over.insert(PassedOver::Unread, 1);
    }
}

/// For the log: "2 users; passed over: 1 of another plugin".
impl fmt::Display for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} user{}", self.hashes.len(), if self.hashes.len() == 1 { "" } else { "s" })?;
        for (nth, (why, accounts)) in self.passed_over.iter().enumerate() {
            write!(f, "{} {accounts} {why}", if nth == 0 { "; accounts passed over:" } else { "," })?;
        }
        Ok(())
    }
}

/// No hash is printed.
impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Accounts({self})")
    }
}

/// The hashes of all CNs together.
pub fn union<'a>(tables: impl IntoIterator<Item = &'a Accounts>) -> BTreeMap<String, Hashes> {
    let mut all = ByName::new();
    for (name, hashes) in tables.into_iter().flat_map(|table| &table.hashes) {
        for hash in hashes {
            // What goes beyond the limit only makes a session stay where it is.
            let _ = insert(&mut all, name, hash.clone());
        }
    }
    all.into_iter().map(|(name, hashes)| (name, by_plugin(hashes))).collect()
}

fn by_plugin(hashes: BTreeSet<Hash>) -> Hashes {
    let (mut native, mut sha2) = (Vec::new(), Vec::new());
    for hash in hashes {
        match hash {
            Hash::Native(hash) => native.push(hash),
            Hash::Sha2(hash) => sha2.push(Arc::new(Sha2Secret::new(hash))),
        }
    }
    Hashes { native: native.into(), sha2: sha2.into() }
}

fn judge<'a>(user: &'a [u8], plugin: &[u8], secret: &[u8]) -> Result<(&'a str, Hash), PassedOver> {
    let name = std::str::from_utf8(user).ok().filter(|name| !name.is_empty()).ok_or(PassedOver::NoName)?;
    // MariaDB leaves the name of its default plugin out where there is no password.
    let is_native = plugin.is_empty() || plugin == NATIVE.as_bytes();
    if !is_native && plugin != CACHING_SHA2.as_bytes() {
        return Err(PassedOver::OtherPlugin);
    }
    if secret.is_empty() {
        return Err(PassedOver::EmptyPassword);
    }
    let hash = if is_native { native(secret) } else { Sha2Hash::read(secret).map(Hash::Sha2) };
    Ok((name, hash.ok_or(PassedOver::NoHash)?))
}

fn native(secret: &[u8]) -> Option<Hash> {
    let text = std::str::from_utf8(secret).ok().filter(|text| text.len() == HASH_TEXT)?;
    parse_native_hash(text).ok().map(Hash::Native)
}

fn insert(hashes: &mut ByName, name: &str, hash: Hash) -> Result<(), PassedOver> {
    let Some(known) = hashes.get_mut(name) else {
        hashes.insert(name.to_owned(), BTreeSet::from([hash]));
        return Ok(());
    };
    if known.len() >= HASHES_MAX && !known.contains(&hash) {
        return Err(PassedOver::OneTooMany);
    }
    known.insert(hash);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: &str = "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7";
    const OTHER: &str = "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19";

    fn table(rows: &[(&str, &str, &str)]) -> Accounts {
        let mut accounts = Accounts::default();
        for (user, plugin, secret) in rows {
            accounts.take(user.as_bytes(), plugin.as_bytes(), secret.as_bytes());
        }
        accounts
    }

    /// The users of a union, each with the number of its hashes.
    fn users(tables: &[Accounts]) -> Vec<(String, usize)> {
        let count = |hashes: Hashes| hashes.native.len() + hashes.sha2.len();
        union(tables).into_iter().map(|(name, hashes)| (name, count(hashes))).collect()
    }

    #[test]
    fn only_a_whole_hash_makes_a_user_known() {
        let sha2 = &*format!("$A$005$\u{1}\u{7f}salt of 20 bytes..{}", "d".repeat(43));
        let cases = [
            ("app", NATIVE, SECRET, "1 user"),
            ("app", NATIVE, "", "0 users; accounts passed over: 1 without a password"),
            ("app", NATIVE, "invalid", "0 users; accounts passed over: 1 whose secret is no hash"),
            ("app", NATIVE, &SECRET[1..], "0 users; accounts passed over: 1 whose secret is no hash"),
            (
                "app",
                NATIVE,
                "*14E65567ABDB5135D0CFD9A70B3032C179A49EE_",
                "0 users; accounts passed over: 1 whose secret is no hash",
            ),
            ("app", CACHING_SHA2, sha2, "1 user"),
            ("app", CACHING_SHA2, "", "0 users; accounts passed over: 1 without a password"),
            ("app", CACHING_SHA2, &sha2[..69], "0 users; accounts passed over: 1 whose secret is no hash"),
            ("app", CACHING_SHA2, SECRET, "0 users; accounts passed over: 1 whose secret is no hash"),
            ("app", NATIVE, sha2, "0 users; accounts passed over: 1 whose secret is no hash"),
            ("app", "sha256_password", sha2, "0 users; accounts passed over: 1 of another plugin"),
            ("app", "ed25519", SECRET, "0 users; accounts passed over: 1 of another plugin"),
            ("root", "", "", "0 users; accounts passed over: 1 without a password"),
            ("", NATIVE, SECRET, "0 users; accounts passed over: 1 without a readable name"),
        ];
        for (user, plugin, secret, said) in cases {
            assert_eq!(table(&[(user, plugin, secret)]).to_string(), said, "{user} {plugin} {secret}");
        }
    }

    #[test]
    fn a_salt_need_not_be_text() {
        let secret = [b"$A$005$", &[0xff; 20][..], &[b'd'; 43]].concat();
        let mut accounts = table(&[("app", NATIVE, SECRET)]);
        accounts.take(b"app", CACHING_SHA2.as_bytes(), &secret);
        let hashes = &union([&accounts])["app"];
        assert_eq!(hashes.native[..], [parse_native_hash(SECRET).unwrap()]);
        assert_eq!(hashes.sha2[0].hash, Sha2Hash::read(&secret).unwrap());
        assert_eq!((hashes.native.len(), hashes.sha2.len()), (1, 1));
    }

    #[test]
    fn a_name_keeps_the_hashes_of_all_hosts_and_cns() {
        let here = table(&[("app", NATIVE, SECRET), ("app", NATIVE, SECRET), ("app", "ed25519", "x")]);
        let there = table(&[("app", NATIVE, OTHER), ("App", NATIVE, OTHER)]);
        assert_eq!(users(std::slice::from_ref(&here)), [("app".into(), 1)]);
        assert_eq!(users(&[here, there]), [("App".into(), 1), ("app".into(), 2)], "names have a case");
        assert!(users(&[]).is_empty());
    }

    #[test]
    fn hashes_of_one_name_are_bounded_and_rows_can_be_cut() {
        let mut accounts = Accounts::default();
        for nth in 0..HASHES_MAX + 3 {
            accounts.take(b"app", NATIVE.as_bytes(), format!("*{nth:040X}").as_bytes());
        }
        accounts.take(b"app", NATIVE.as_bytes(), format!("*{:040X}", 0).as_bytes());
        accounts.cut_short();
        let said = "1 user; accounts passed over: 3 with too many passwords for one name, 1 or more not read";
        assert_eq!(accounts.to_string(), said);
        let more = table(&[("app", NATIVE, SECRET)]);
        assert_eq!(users(&[accounts, more]), [("app".into(), HASHES_MAX)]);
    }

    #[test]
    fn nothing_secret_is_printed() {
        assert_eq!(format!("{:?}", table(&[("app", NATIVE, SECRET)])), "Accounts(1 user)");
    }

    proptest! {
        #[test]
        fn no_row_is_counted_twice(rows: Vec<(Vec<u8>, bool, Vec<u8>)>) {
            let mut accounts = Accounts::default();
            for (user, native, secret) in &rows {
                accounts.take(user, if *native { NATIVE.as_bytes() } else { b"x" }, secret);
            }
            let passed: u32 = accounts.passed_over.values().sum();
            prop_assert!(passed as usize + accounts.hashes.len() <= rows.len());
        }
    }
}
