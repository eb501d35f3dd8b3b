//! Who a session says it is: tenant, user, role and labels, out of its login name and connection attributes.
//!
//! The login name is `account?labels`. The account part is `user`, `tenant:user` or `tenant:user:role`; the
//! separator is `:`, where there is none `#`, and where there is neither `%3A`. Labels are `k=v,k2=v2`; as an
//! extension to MatrixOne `k:v` is taken too. Without a tenant the session belongs to `sys`.
//!
//! MySQL user names may contain these characters themselves. A backslash before `:`, `#`, `?` or `%` takes away
//! its meaning (`svc\#app`); any other backslash is a part of the name (`DOMAIN\user`). `sys:svc#app` works too,
//! as a name split at `:` is not split again at `#`.
//!
//! Connection attributes give labels as well. Drivers send attributes of their own and programs add theirs
//! (`program_name`, `foo:bar`), and as label sets match only when equal, one that is no label would leave the
//! session without a CN. Therefore an attribute counts as a label only if its key is [`ACCOUNT`] or the label
//! key of some CN in the view, is not reserved, and its value is not empty. The login name wins over attributes.
//!
//! The account label, from wherever, names the tenant of a login name that names none; else it is ignored.
//!
//! A client's certificate may give labels too (see [`super::certificate`]). They win over attributes, and a login name that asks
//! for something else is refused.
//!
//! Nothing else here is proof of anything: the password is checked elsewhere.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::route::label::{ACCOUNT, Asked};
use crate::route::{Flavour, View};

/// The tenant of a login name that names none.
pub const SYS: &str = "sys";

/// Attributes of one login that are looked at as labels; drivers send about ten, reserved ones not counted.
const ATTRIBUTES_MAX: usize = 64;

/// Attribute keys that never are labels, apart from those that begin with `_`; MatrixOne's list.
const RESERVED: [&str; 3] = ["os_user", "os_sudouser", "program_name"];

/// Who a session says it is, and which labels it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub tenant: String,
    /// Without tenant, role and labels. Bytes that are not UTF-8 are replaced here, but not in [`Self::cn_user`].
    pub user: String,
    pub role: Option<String>,
    /// All labels asked for, but [`ACCOUNT`].
    pub labels: BTreeMap<String, String>,
    login_name: Box<[u8]>,
    bare_name: Box<[u8]>,
}

/// Why a login name cannot be read. To be told to the client with MatrixOne's code 20101, SQLSTATE HY000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("invalid label format: should be like 'a=b'")]
    LabelFormat,
    #[error("invalid tenant name ''")]
    EmptyTenant,
    #[error("invalid user name ''")]
    EmptyUser,
    #[error("invalid role name ''")]
    EmptyRole,
    #[error("the client's certificate says something else than its login name")]
    Uncertified,
}

impl Identity {
    /// Reads what a handshake response carries, or a COM_CHANGE_USER for a CN of MatrixOne's.
    ///
    /// An empty login name is MySQL's anonymous user, and for the CN to judge.
    pub fn read<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        login_name: &[u8],
        attributes: impl IntoIterator<Item = (K, V)>,
        view: &View,
    ) -> Result<Self, IdentityError> {
        Self::read_certified(login_name, attributes, &BTreeMap::new(), view)
    }

    /// The same of a client whose certificate gives labels.
    pub fn read_certified<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        login_name: &[u8],
        attributes: impl IntoIterator<Item = (K, V)>,
        certified: &BTreeMap<String, String>,
        view: &View,
    ) -> Result<Self, IdentityError> {
        let (account, label_text) = match find(login_name, b"?") {
            Some(at) => (&login_name[..at], &login_name[at + 1..]),
            None => (login_name, &[][..]),
        };
        let Account { tenant, user, role } = Account::split(account)?;
        let (mut labels, mut named) = (labels_of_attributes(attributes, view), labels_of_name(label_text)?);
        let tenant = tenant.map(text);
        let asked =
            |key: &str| if key == ACCOUNT && tenant.is_some() { tenant.as_ref() } else { named.get(key) };
        if certified.iter().any(|(key, value)| asked(key).is_some_and(|asked| asked != value)) {
            return Err(IdentityError::Uncertified);
        }
        labels.append(&mut named);
        labels.extend(certified.clone());
        let label_tenant = labels.remove(ACCOUNT);
        let bare_name = unescape(user).into_boxed_slice();
        Ok(Self {
            tenant: tenant.or(label_tenant).unwrap_or_else(|| SYS.to_string()),
            user: String::from_utf8_lossy(&bare_name).into_owned(),
            role: role.map(text),
            labels,
            login_name: login_name.into(),
            bare_name,
        })
    }

    /// A user of a CN's own, by the name that CNs of MySQL's know; it asks for no labels.
    pub fn of_user(tenant: &str, name: &[u8]) -> Self {
        Self {
            tenant: tenant.to_owned(),
            user: String::from_utf8_lossy(name).into_owned(),
            role: None,
            labels: BTreeMap::new(),
            login_name: name.into(),
            bare_name: name.into(),
        }
    }

    /// Whether the session belongs to the super tenant, in whatever case it writes it.
    pub fn is_sys(&self) -> bool {
        self.tenant.eq_ignore_ascii_case(SYS)
    }

    /// The super tenant asks for `account=sys` however it writes itself, all others for what they wrote.
    pub fn asked(&self) -> Asked<'_> {
        let account = if self.is_sys() { SYS } else { &self.tenant };
        Asked { account: Some(account), labels: &self.labels }
    }

    /// The user name to log in to a CN with: a MatrixOne CN reads the whole login name itself, a MySQL one
    /// knows the bare user only.
    pub fn cn_user(&self, flavour: Flavour) -> &[u8] {
        match flavour {
            Flavour::Mysql => &self.bare_name,
            Flavour::Matrixone => &self.login_name,
        }
    }

    /// The login name as the client sent it.
    pub fn login_name(&self) -> &[u8] {
        &self.login_name
    }
}

/// The part of a login name before its labels, still escaped.
struct Account<'a> {
    tenant: Option<&'a [u8]>,
    user: &'a [u8],
    role: Option<&'a [u8]>,
}

impl<'a> Account<'a> {
    fn split(account: &'a [u8]) -> Result<Self, IdentityError> {
        let separators = [&b":"[..], b"#", b"%3A"];
        let Some(separator) = separators.into_iter().find(|separator| find(account, separator).is_some())
        else {
            return Ok(Self { tenant: None, user: account, role: None });
        };
        let (tenant, rest) = cut(account, separator);
        let (user, role) = cut(rest.unwrap_or_default(), separator);
        if tenant.is_empty() {
            return Err(IdentityError::EmptyTenant);
        }
        if user.is_empty() {
            return Err(IdentityError::EmptyUser);
        }
        if role.is_some_and(<[u8]>::is_empty) {
            return Err(IdentityError::EmptyRole);
        }
        Ok(Self { tenant: Some(tenant), user, role })
    }
}

/// `k=v,k2=v2`, or `k:v` where an item has no `=`. The last of several equal keys wins.
fn labels_of_name(labels: &[u8]) -> Result<BTreeMap<String, String>, IdentityError> {
    let labels = String::from_utf8_lossy(labels);
    let labels = labels.trim();
    if labels.is_empty() {
        return Ok(BTreeMap::new());
    }
    labels.split(',').map(|item| label_of_item(item).ok_or(IdentityError::LabelFormat)).collect()
}

fn label_of_item(item: &str) -> Option<(String, String)> {
    let separator = if item.contains('=') { '=' } else { ':' };
    let (key, value) = item.split_once(separator)?;
    let (key, value) = (key.trim(), value.trim());
    let well_formed = !key.is_empty() && !value.is_empty() && !value.contains(separator);
    well_formed.then(|| (key.to_string(), value.to_string()))
}

fn labels_of_attributes<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    attributes: impl IntoIterator<Item = (K, V)>,
    view: &View,
) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut looked_at = 0;
    // Stops early rather than `take`s, so that reserved attributes do not use up the bound.
    let _ = attributes.into_iter().try_for_each(|(key, value)| {
        let Some((key, value)) = label_like(key.as_ref(), value.as_ref()) else {
            return ControlFlow::Continue(());
        };
        if key == ACCOUNT || view.cns.iter().any(|cn| cn.labels.has_key(key)) {
            labels.insert(key.to_string(), value.to_string());
        }
        looked_at += 1;
        if looked_at < ATTRIBUTES_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    labels
}

/// The attribute as text, if it could be a label at all.
fn label_like<'a>(key: &'a [u8], value: &'a [u8]) -> Option<(&'a str, &'a str)> {
    let (key, value) = (str::from_utf8(key).ok()?, str::from_utf8(value).ok()?);
    let reserved = key.starts_with('_') || RESERVED.contains(&key);
    (!reserved && !key.is_empty() && !value.is_empty()).then_some((key, value))
}

/// What is before the first separator, and what is after it.
fn cut<'a>(name: &'a [u8], separator: &[u8]) -> (&'a [u8], Option<&'a [u8]>) {
    match find(name, separator) {
        Some(at) => (&name[..at], Some(&name[at + separator.len()..])),
        None => (name, None),
    }
}

/// Where the first separator is that no backslash stands before.
fn find(name: &[u8], separator: &[u8]) -> Option<usize> {
    (0..name.len()).find(|&at| name[at..].starts_with(separator) && (at == 0 || name[at - 1] != b'\\'))
}

fn text(escaped: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(escaped)).into_owned()
}

fn unescape(escaped: &[u8]) -> Vec<u8> {
    let escapes =
        |at: usize| escaped[at] == b'\\' && escaped.get(at + 1).is_some_and(|next| b":#?%".contains(next));
    (0..escaped.len()).filter(|&at| !escapes(at)).map(|at| escaped[at]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::view::tests::{cn, view};
    use proptest::prelude::*;

    const NONE: [(&str, &str); 0] = [];

    fn named(login_name: &str) -> Result<Identity, IdentityError> {
        Identity::read(login_name.as_bytes(), NONE, &View::default())
    }

    #[track_caller]
    fn check(login_name: &str, tenant: &str, user: &str, role: Option<&str>, asked: &str) {
        let identity = named(login_name).unwrap();
        assert_eq!(identity.tenant, tenant);
        assert_eq!(identity.user, user);
        assert_eq!(identity.role.as_deref(), role);
        assert_eq!(identity.asked().to_string(), asked);
        assert_eq!(identity.cn_user(Flavour::Mysql), user.as_bytes());
        assert_eq!(identity.cn_user(Flavour::Matrixone), login_name.as_bytes());
    }

    #[test]
    fn a_user_of_a_cns_own_has_a_name_and_nothing_else() {
        let user = Identity::of_user("acme", b"svc:app?x=y");
        assert_eq!((&*user.tenant, &*user.user), ("acme", "svc:app?x=y"));
        assert_eq!(user.cn_user(Flavour::Mysql), b"svc:app?x=y");
        assert!(user.role.is_none() && user.labels.is_empty());
    }

    #[test]
    fn login_names_are_split_as_matrixone_does() {
        check("root", "sys", "root", None, "account=sys");
        check("acc1:dora", "acc1", "dora", None, "account=acc1");
        check("acc1:dora:dba", "acc1", "dora", Some("dba"), "account=acc1");
        check("acc1#dora#dba", "acc1", "dora", Some("dba"), "account=acc1");
        check("acc1%3Adora%3Adba", "acc1", "dora", Some("dba"), "account=acc1");
        check("acc1:do#ra", "acc1", "do#ra", None, "account=acc1");
        check("acc1:dora?tier=gold,zone=a", "acc1", "dora", None, "account=acc1,tier=gold,zone=a");
        check("dora? tier = gold ", "sys", "dora", None, "account=sys,tier=gold");
        check("dora?", "sys", "dora", None, "account=sys");
        check("dora?k=1,k=2", "sys", "dora", None, "account=sys,k=2");
        check("", "sys", "", None, "account=sys");
    }

    #[test]
    fn labels_may_be_written_with_a_colon() {
        check("acc1:dora?tier:gold,zone=a", "acc1", "dora", None, "account=acc1,tier=gold,zone=a");
        check("dora?tier:gold", "sys", "dora", None, "account=sys,tier=gold");
        check("dora?at=db:1", "sys", "dora", None, "account=sys,at=db:1");
    }

    #[test]
    fn a_backslash_keeps_a_separator_in_the_name() {
        let user_is = |login_name, user: &str| assert_eq!(named(login_name).unwrap().user, user);
        user_is(r"svc\#app", "svc#app");
        user_is(r"a\:b", "a:b");
        user_is(r"acc1:a\:b:dba", "a:b");
        user_is(r"a\%3Ab", "a%3Ab");
        user_is(r"what\?k=v", "what?k=v");
        user_is(r"DOMAIN\dora", r"DOMAIN\dora");
    }

    #[test]
    fn mistakes_get_matrixones_words() {
        let says = |login_name, text: &str| assert_eq!(named(login_name).unwrap_err().to_string(), text);
        for name in ["u?a", "u?a=", "u?=b", "u?a=b=c", "u?a:b:c", "u?a=b,", "u?,", "u?a=b,,c=d"] {
            says(name, "invalid label format: should be like 'a=b'");
        }
        says(":dora", "invalid tenant name ''");
        says("#", "invalid tenant name ''");
        says("acc1:", "invalid user name ''");
        says("acc1::dba", "invalid user name ''");
        says("acc1%3Adora%3A", "invalid role name ''");
    }

    #[test]
    fn attributes_are_labels_if_some_cn_has_their_key() {
        let view = view([cn(0, "cn1", &[("account", "acc1"), ("tier", "gold")])]);
        let read = |name: &str, attributes: &[(&str, &str)]| {
            let identity = Identity::read(name.as_bytes(), attributes.iter().copied(), &view).unwrap();
            identity.asked().to_string()
        };
        assert_eq!(read("dora", &[("tier", "gold"), ("foo", "bar")]), "account=sys,tier=gold");
        assert_eq!(read("dora?tier=lead", &[("tier", "gold")]), "account=sys,tier=lead");
        assert_eq!(read("dora", &[("tier", "")]), "account=sys");
        assert_eq!(read("dora", &[("program_name", "mysql"), ("_os", "Linux")]), "account=sys");
    }

    #[test]
    fn reserved_attributes_are_no_labels_even_if_a_cn_has_their_key() {
        let view = view([cn(0, "cn1", &[("program_name", "mysql"), ("_os", "Linux")])]);
        let attributes = [("program_name", "mysql"), ("_os", "Linux"), ("os_user", "root")];
        assert!(Identity::read(b"dora", attributes, &view).unwrap().labels.is_empty());
    }

    #[test]
    fn the_account_label_names_the_tenant_of_a_name_without_one() {
        let tenant = |name: &str, attributes: &[(&str, &str)]| {
            Identity::read(name.as_bytes(), attributes.iter().copied(), &View::default()).unwrap().tenant
        };
        assert_eq!(tenant("dora", &[("account", "acc1")]), "acc1");
        assert_eq!(tenant("dora?account=acc2", &[("account", "acc1")]), "acc2");
        assert_eq!(tenant("acc3:dora?account=acc2", &[("account", "acc1")]), "acc3");
        assert_eq!(tenant("dora", &[("account", "")]), "sys");
    }

    #[test]
    fn a_certificate_wins_and_is_not_contradicted() {
        let view = view([cn(0, "cn1", &[("account", "acc1"), ("tier", "gold")])]);
        let certified = [("account", "acc1"), ("tier", "gold")];
        let certified = BTreeMap::from(certified.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let read = |name: &str, attributes: &[(&str, &str)]| {
            let attributes = attributes.iter().copied();
            let identity = Identity::read_certified(name.as_bytes(), attributes, &certified, &view);
            identity.map(|identity| identity.asked().to_string())
        };
        for name in ["dora", "acc1:dora", "dora?tier=gold", "acc1:dora?tier=gold", "acc1:dora?account=acc2"] {
            assert_eq!(read(name, &[]).as_deref(), Ok("account=acc1,tier=gold"), "{name}");
        }
        let lies = [("tier", "lead"), ("account", "acc2")];
        assert_eq!(read("dora", &lies).as_deref(), Ok("account=acc1,tier=gold"));
        assert_eq!(read("dora?zone=a", &[]).as_deref(), Ok("account=acc1,tier=gold,zone=a"));
        for name in ["acc2:dora", "sys:dora", "dora?tier=lead", "dora?account=acc2", "ACC1:dora"] {
            assert_eq!(read(name, &[]), Err(IdentityError::Uncertified), "{name}");
        }
    }

    #[test]
    fn a_flood_of_attributes_is_cut_off() {
        let flood = (0..100_000).map(|n| (format!("k{n}"), "v".to_string()));
        let late = flood.chain([("account".to_string(), "acc1".to_string())]);
        assert_eq!(Identity::read(b"dora", late, &View::default()).unwrap().tenant, "sys");
    }

    #[test]
    fn a_name_that_is_not_utf8_reaches_the_cn_unchanged() {
        let identity = Identity::read(b"acc1:m\xfcller?tier=gold", NONE, &View::default()).unwrap();
        assert_eq!(identity.cn_user(Flavour::Mysql), b"m\xfcller");
        assert_eq!(identity.user, "m\u{fffd}ller");
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_tenant_or_an_error(name in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(identity) = Identity::read(&name, NONE, &View::default()) {
                prop_assert!(!identity.tenant.is_empty());
                prop_assert!(!identity.labels.contains_key(ACCOUNT));
            }
        }

        #[test]
        fn plain_parts_come_back_as_they_went_in(
            tenant in "[a-z]{1,8}", user in "[a-z]{1,8}", role in prop::option::of("[a-z]{1,8}"),
            separator in prop::sample::select(vec![":", "#", "%3A"]),
            labels in prop::collection::btree_map("[b-z]{1,4}", "[a-z0-9]{1,4}", 0..4),
        ) {
            let mut name = format!("{tenant}{separator}{user}");
            if let Some(role) = &role {
                name += &format!("{separator}{role}");
            }
            name += &format!("?{}", Asked { account: None, labels: &labels });
            let identity = named(&name).unwrap();
            prop_assert_eq!((identity.tenant, identity.user, identity.role), (tenant, user, role));
            prop_assert_eq!(identity.labels, labels);
        }
    }
}
