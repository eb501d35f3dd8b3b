//! A session that wants to be another user: who answers for that, and what corelane then says to the CN.
//!
//! A client may answer COM_CHANGE_USER by the salt that it was shown last, and there are libraries (libmariadb) that heed no other one
//! then. That salt is corelane's where it has greeted the client of a known user, and another CN's once a session has moved; its own CN
//! knows nothing of it. So of a user that corelane knows it judges the answer itself, as at a login, and makes the CN's leg that user's by
//! what it has then. Of any other user the CN judges what the client sends.
//!
//! A hash out of the CNs' tables serves here as it does at a login, to recognise a password of which the CN says whether it is the
//! right one. An answer that fits no hash goes to the CN as it is.

use super::cn::RELAY_PLUGIN;
use super::{Channel, ClientLogin, Proof, Witness};
use crate::session::user::{KnownUser, Users};
use crate::wire;
use crate::wire::auth::{AuthSwitchRequest, NATIVE, Plugin, SWITCH};
use crate::wire::capability::Capabilities;
use crate::wire::change_user::ChangeUser;
use crate::wire::greeting::SALT;

/// Who answers for a change of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<'u> {
    /// Corelane, once it has examined the client.
    Examined(&'u KnownUser),
    /// Corelane, with what the client has proven already.
    Proven(Proof),
    /// The client.
    Relayed,
}

impl<'u> Change<'u> {
    /// `salt` is what the client was shown last.
    pub fn of(change: &ChangeUser<'_>, users: &'u Users, salt: &[u8; SALT]) -> Self {
        let Ok(name) = std::str::from_utf8(change.user) else { return Self::Relayed };
        if let Some(known) = users.get(name) {
            return Self::Examined(known);
        }
        let witness = match Plugin::named(change.plugin.unwrap_or(NATIVE.as_bytes())) {
            Some(Plugin::Native) => Witness::native(*salt, change.auth),
            Some(Plugin::CachingSha2) => Witness::sha2(*salt, change.auth),
            _ => None,
        };
        let proof = witness.zip(users.hashes(name)).and_then(|(witness, hashes)| witness.proof(hashes));
        proof.map_or(Self::Relayed, Self::Proven)
    }

    /// Whether corelane can answer what a CN has said to [`request`], else the client has to. `channel` is to the CN, `private` tells
    /// whether nobody can read along what the client says.
    ///
    /// A CN that does not remember the password wants all of it by `caching_sha2_password`. Where corelane may not send it, the client, who
    /// may believe the CN's key, does so itself; not where its answer is meant for nobody but corelane.
    pub fn can_answer(&self, said: &[u8], channel: Channel, private: bool) -> bool {
        let has_password = match self {
            Self::Examined(known) => known.password.is_some() || known.sha2.is_some(),
            Self::Proven(proof) => proof.password.is_some(),
            Self::Relayed => return false,
        };
        if !said.starts_with(&[SWITCH]) {
            return true;
        }
        let Ok(request) = AuthSwitchRequest::read(said) else { return true };
        match Plugin::named(request.plugin) {
            Some(Plugin::Native) => true,
            Some(Plugin::CachingSha2) => has_password && (channel.private || channel.believes_key || private),
            Some(Plugin::Ed25519) => has_password,
            Some(Plugin::Clear) => has_password && channel.private,
            None => false,
        }
    }

    /// Whether corelane may have to do with a change to the user of that name.
    pub fn may_concern(name: &[u8], users: &Users) -> bool {
        std::str::from_utf8(name).is_ok_and(|name| users.get(name).is_some() || users.hashes(name).is_some())
    }
}

/// The COM_CHANGE_USER by which a CN with these capabilities makes its leg the user's of `login`. `charset` is the whole number of its
/// collation. It names a plugin that no server has, so the CN asks by the account's own and shows a salt.
///
/// # Errors
/// It cannot be written.
pub fn request(login: &ClientLogin, charset: u16, capabilities: Capabilities) -> wire::Result<Vec<u8>> {
    let change = ChangeUser {
        user: &login.user,
        // Something, because a server may take nothing for an empty password.
        auth: b"x",
        database: login.database.as_deref(),
        charset,
        plugin: Some(RELAY_PLUGIN.as_bytes()),
        attributes: login.attributes(),
    };
    let mut payload = Vec::with_capacity(128);
    change.write(&mut payload, capabilities)?;
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::user::{Hashes, Sha2Secret};
    use crate::wire::auth::{
        CACHING_SHA2, CLEAR, ED25519, NativeHash, caching_sha2_scramble, native_hash, native_key,
        native_scramble, sha2_crypt,
    };
    use crate::wire::change_user::NEEDED;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    const SHOWN: &[u8; SALT] = b"abcdefghijklmnopqrst";

    fn users() -> Users {
        let known = Users::from_iter([("app".to_owned(), KnownUser::with_password("secret"))]);
        let hash = |password| native_hash(&native_key(password));
        let native: Box<[NativeHash]> = Box::new([hash("other"), hash("secret")]);
        let sha2: Arc<[_]> = Arc::new([Arc::new(Sha2Secret::new(sha2_crypt::tests::secret()))]);
        let web = Hashes { native, ..Hashes::default() };
        let new = Hashes { sha2, ..Hashes::default() };
        known.with_hashes(BTreeMap::from([("web".into(), web), ("new".into(), new)]))
    }

    fn change<'a>(user: &'a [u8], plugin: Option<&'a str>, auth: &'a [u8]) -> ChangeUser<'a> {
        let plugin = plugin.map(str::as_bytes);
        ChangeUser { user, auth, database: None, charset: 45, plugin, attributes: None }
    }

    #[test]
    fn a_user_of_the_configuration_is_examined() {
        let users = users();
        for (plugin, auth) in [(None, &b"anything"[..]), (Some("dialog"), b"")] {
            let way = Change::of(&change(b"app", plugin, auth), &users, SHOWN);
            assert!(matches!(way, Change::Examined(_)), "{way:?}");
        }
    }

    #[test]
    fn a_hash_recognises_the_answer_to_the_salt_that_was_shown() {
        let users = users();
        let key = native_key("secret");
        let right = native_scramble(&key, SHOWN);
        let proof = Proof { native_key: Some(key.into()), password: None };
        for plugin in [None, Some(NATIVE)] {
            let way = Change::of(&change(b"web", plugin, &right), &users, SHOWN);
            assert_eq!(way, Change::Proven(proof.clone()));
        }
        let elsewhere = native_scramble(&key, b"ABCDEFGHIJKLMNOPQRST");
        let wrong = native_scramble(&native_key("wrong"), SHOWN);
        for (user, plugin, auth) in [
            ("web", NATIVE, &elsewhere[..]),
            ("web", NATIVE, &wrong),
            ("web", NATIVE, b""),
            ("web", CACHING_SHA2, &right),
            ("WEB", NATIVE, &right),
        ] {
            let way = Change::of(&change(user.as_bytes(), Some(plugin), auth), &users, SHOWN);
            assert_eq!(way, Change::Relayed, "{user} {plugin}");
        }
        assert_eq!(Change::of(&change(b"\xff", None, &right), &users, SHOWN), Change::Relayed);
    }

    #[test]
    fn an_answer_by_caching_sha2_is_recognised_once_its_password_was_shown() {
        let users = users();
        let right = caching_sha2_scramble("secret", SHOWN);
        let change = change(b"new", Some(CACHING_SHA2), &right);
        assert_eq!(Change::of(&change, &users, SHOWN), Change::Relayed);
        users.hashes("new").unwrap().sha2[0].keep("secret".into());
        assert_eq!(Change::of(&change, &users, SHOWN), Change::Proven(Proof::of(&"secret".into())));
        assert_eq!(Change::of(&change, &users, b"ABCDEFGHIJKLMNOPQRST"), Change::Relayed);
    }

    #[test]
    fn what_corelane_cannot_answer_the_client_does() {
        const OPEN: Channel = Channel { private: false, believes_key: false };
        const BELIEVING: Channel = Channel { private: false, believes_key: true };
        const PRIVATE: Channel = Channel { private: true, believes_key: false };
        let (password, hash) = (KnownUser::with_password("secret"), KnownUser::with_native_hash([1; 20]));
        let sha2 = KnownUser::with_sha2_hash(sha2_crypt::tests::secret());
        let proof = Proof { native_key: Some(native_key("secret").into()), password: None };
        let ways = [
            Change::Examined(&password),
            Change::Examined(&sha2),
            Change::Examined(&hash),
            Change::Proven(proof),
            Change::Proven(Proof::of(&"secret".into())),
            Change::Relayed,
        ];
        let said = |plugin: &str| [b"\xfe", plugin.as_bytes(), b"\0", SHOWN, b"\0"].concat();
        for (said, channel, private, can) in [
            (said(NATIVE), OPEN, false, [true, true, true, true, true, false]),
            (said(CACHING_SHA2), OPEN, false, [false; 6]),
            (said(CACHING_SHA2), OPEN, true, [true, true, false, false, true, false]),
            (said(CACHING_SHA2), BELIEVING, false, [true, true, false, false, true, false]),
            (said(CACHING_SHA2), PRIVATE, false, [true, true, false, false, true, false]),
            (said(ED25519), OPEN, false, [true, true, false, false, true, false]),
            (said(CLEAR), PRIVATE, false, [true, true, false, false, true, false]),
            (said(CLEAR), OPEN, true, [false; 6]),
            (said("dialog"), PRIVATE, true, [false; 6]),
            (b"\x00\0\0\x02\0\0\0".to_vec(), OPEN, false, [true, true, true, true, true, false]),
            (b"\xff\x15\x04#28000no".to_vec(), OPEN, false, [true, true, true, true, true, false]),
        ] {
            let found = ways.each_ref().map(|way| way.can_answer(&said, channel, private));
            assert_eq!(found, can, "{} {channel:?} {private}", said.escape_ascii());
        }
    }

    #[test]
    fn only_names_that_are_known_concern_corelane() {
        let users = users();
        let concerned = |name: &[u8]| Change::may_concern(name, &users);
        assert!(concerned(b"app") && concerned(b"web"));
        assert!(!concerned(b"root") && !concerned(b"") && !concerned(b"\xff"));
    }

    #[test]
    fn the_cn_is_told_all_but_the_answer() {
        let all = NEEDED | Capabilities::CONNECT_ATTRS;
        let client = b"\x11web\0\x14aaaaaaaaaaaaaaaaaaaadb\0\x00\x09mysql_native_password\0\x06\x02_x\x02ab";
        let login = ClientLogin::changed(&ChangeUser::read(client, all).unwrap(), all);
        let told = request(&login, 0x900, all).unwrap();
        assert_eq!(told, b"\x11web\0\x01xdb\0\x00\x09corelane_relay\0\x06\x02_x\x02ab");
        let told = request(&login.without_answer(), 0x900, NEEDED).unwrap();
        assert_eq!(told, b"\x11web\0\x01xdb\0\x00\x09corelane_relay\0", "this CN knows no attributes");
    }
}
