//! Any login name and connection attributes against any labels of CNs: an identity or an error, and what it says is found again where
//! its parts are written down anew; a glob matches as it is defined; and routing gives a CN that may serve the session.
//!
//! Input: one byte each for the length of the login name and of the labels, then both, then the attributes as a client sends them. The
//! labels are a CN each line, `key=glob|glob,key=glob`.

use std::collections::BTreeMap;
use std::sync::Arc;

use corelane::ident::{CnSlot, Epoch};
use corelane::route::label::{ACCOUNT, Asked, Labels, glob_matches};
use corelane::route::{Cn, CnState, Flavour, Group, Identity, Target, View, WorkState, candidates, route};
use corelane::wire::login::Attributes;

const CNS_MAX: usize = 8;
/// Attributes that are looked at as labels.
const ATTRIBUTES_MAX: usize = 64;

pub fn check(data: &[u8]) {
    let [name_length, labels_length, rest @ ..] = data else { return };
    let (name, rest) = rest.split_at(usize::from(*name_length).min(rest.len()));
    let (labels, attributes) = rest.split_at(usize::from(*labels_length).min(rest.len()));
    let view = view(&String::from_utf8_lossy(labels));
    let attributes: Vec<(&[u8], &[u8])> = Attributes(attributes).iter().map_while(Result::ok).collect();
    let Ok(identity) = Identity::read(name, attributes.iter().copied(), &view) else { return };
    check_identity(&identity, name, &attributes, &view);
    check_route(&identity, &view);
}

fn view(text: &str) -> View {
    let cns = text.lines().take(CNS_MAX).enumerate().map(|(slot, line)| Arc::new(cn(slot as u16, line)));
    View { epoch: Epoch(1), cns: cns.collect() }
}

fn cn(slot: u16, line: &str) -> Cn {
    let pairs = line.split(',').filter_map(|pair| pair.split_once('='));
    let globs = |globs: &str| globs.split('|').map(str::to_owned).collect();
    let labels = Labels(pairs.map(|(key, value)| (key.to_owned(), globs(value))).collect());
    check_printed(&labels);
    Cn {
        slot: CnSlot(slot),
        id: format!("cn{slot}").into(),
        address: "127.0.0.1:3306".into(),
        target: Some(Target::Tcp(([127, 0, 0, 1], 3306).into())),
        query: None,
        flavour: Flavour::Mysql,
        state: CnState::Working,
        labels,
        weight: 1,
        work: WorkState::Working,
        data: None,
        proxy_protocol: false,
        tls: None,
        max_sessions: None,
    }
}

/// Labels print as they are written here.
fn check_printed(labels: &Labels) {
    let printed = labels.to_string();
    let read: BTreeMap<String, Vec<String>> = printed
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, globs)| (key.to_owned(), globs.split('|').map(str::to_owned).collect()))
        .collect();
    assert_eq!(read, labels.0, "{printed}");
}

fn check_identity(identity: &Identity, name: &[u8], attributes: &[(&[u8], &[u8])], view: &View) {
    assert!(!identity.tenant.is_empty(), "{identity:?}");
    assert!(identity.role.as_ref().is_none_or(|role| !role.is_empty()), "{identity:?}");
    assert!(!identity.labels.contains_key(ACCOUNT), "{identity:?}");
    assert!(identity.labels.iter().all(|(key, value)| !key.is_empty() && !value.is_empty()), "{identity:?}");
    assert!(identity.user.len() <= 3 * name.len(), "{identity:?}");
    assert_eq!(identity.login_name(), name);
    assert_eq!(identity.cn_user(Flavour::Matrixone), name);
    let mut without = Identity::read::<&[u8], &[u8]>(name, [], view).expect("attributes make no mistakes");
    assert!(identity.labels.len() <= without.labels.len() + attributes.len().min(ATTRIBUTES_MAX));
    without.labels.retain(|key, value| identity.labels.get(key) != Some(value));
    assert!(without.labels.is_empty(), "the login name wins over attributes: {without:?}");
    check_again(identity, view);
}

/// The same parts, written anew with what was learnt from attributes.
fn check_again(identity: &Identity, view: &View) {
    let user = identity.cn_user(Flavour::Mysql);
    // A name that ends with a backslash cannot be written before a separator.
    let cannot = |part: &[u8]| part.ends_with(b"\\");
    let role = identity.role.as_deref().map(str::as_bytes);
    if user.is_empty() || [identity.tenant.as_bytes(), user].into_iter().chain(role).any(cannot) {
        return;
    }
    let mut name = [&escaped(identity.tenant.as_bytes())[..], b":", &escaped(user)].concat();
    if let Some(role) = role {
        name = [&name[..], b":", &escaped(role)].concat();
    }
    let labels = Asked { account: None, labels: &identity.labels };
    let clean = |text: &String| text.trim() == text && !text.contains([',', '=']);
    let writable = identity.labels.iter().all(|(key, value)| clean(key) && clean(value));
    if writable && !identity.labels.is_empty() {
        name = [&name[..], format!("?{labels}").as_bytes()].concat();
    }
    let again = Identity::read::<&[u8], &[u8]>(&name, [], view);
    let again = again.unwrap_or_else(|error| panic!("{error}: {name:?}"));
    assert_eq!((&again.tenant, &again.user, &again.role), (&identity.tenant, &identity.user, &identity.role));
    assert_eq!(again.cn_user(Flavour::Mysql), user);
    if writable {
        assert_eq!(Group::of(&again), Group::of(identity));
    }
}

fn escaped(part: &[u8]) -> Vec<u8> {
    let mut written = Vec::new();
    for &byte in part {
        if b":#?%".contains(&byte) {
            written.push(b'\\');
        }
        written.push(byte);
    }
    written
}

fn check_route(identity: &Identity, view: &View) {
    let group = Group::of(identity);
    for cn in &view.cns {
        for (key, globs) in &cn.labels.0 {
            for (_, value) in identity.asked().pairs().filter(|(asked, _)| asked == key) {
                for glob in globs {
                    assert_eq!(glob_matches(glob, value), by_definition(glob.as_bytes(), value.as_bytes()));
                }
            }
        }
    }
    let Ok(found) = candidates(view, &group, &[]) else {
        return assert!(view.cns.iter().all(|cn| !cn.labels.is_empty() && !cn.labels.accept(group.asked())));
    };
    let is_labelled = view.cns.iter().any(|cn| cn.labels.accept(group.asked()));
    for cn in found.iter() {
        let accepts = cn.labels.accept(group.asked());
        assert!(accepts || !is_labelled, "{group:?} came to {cn:?}");
        assert!(accepts || group.is_sys() || cn.labels.is_empty(), "{group:?} came to {cn:?}");
    }
    let one = route(view, &group, |_| 0, &[], 0).expect("there is a candidate");
    assert!(found.iter().any(|cn| cn.slot == one.slot));
}

/// The definition of a glob: every way in which its stars can stand for something.
fn by_definition(glob: &[u8], value: &[u8]) -> bool {
    let mut reached = vec![false; value.len() + 1];
    reached[0] = true;
    for &byte in glob {
        let mut next = vec![false; value.len() + 1];
        for at in (0..=value.len()).filter(|at| reached[*at]) {
            if byte == b'*' {
                next[at..].fill(true);
            } else if value.get(at) == Some(&byte) {
                next[at + 1] = true;
            }
        }
        reached = next;
    }
    reached[value.len()]
}
