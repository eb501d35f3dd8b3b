//! Who may come in: from which networks, and by which names.
//!
//! What is denied wins over what is allowed, and a list of what is allowed denies all else. A name that is denied is denied however it is
//! written, in large letters or small; one that is allowed must be written as it is, as servers tell such names apart.
//!
//! Decides only; it is asked by a worker, with the address that a load balancer has told where one has, in a login and for
//! the user that a COM_CHANGE_USER names.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::route::certificate::{Certificate, Claim};
use crate::route::label::glob_matches;

/// Networks, and perhaps all Unix sockets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Networks {
    pub networks: Vec<IpNet>,
    /// Those on Unix sockets.
    pub unix: bool,
}

impl Networks {
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// Whether this address is in one of them.
    pub fn has(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.networks.iter().any(|network| network.contains(&ip))
    }

    /// Whether a client is; one without an address is on a Unix socket.
    pub fn has_client(&self, ip: Option<IpAddr>) -> bool {
        ip.map_or(self.unix, |ip| self.has(ip))
    }
}

/// Which names; `*` stands for any run of characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub denied: Vec<String>,
    /// None: all that are not denied.
    pub allowed: Option<Vec<String>>,
}

impl Names {
    fn let_in(&self, name: &str) -> bool {
        let is_denied = || {
            let name = name.to_lowercase();
            self.denied.iter().any(|glob| glob_matches(&glob.to_lowercase(), &name))
        };
        let is_allowed = |globs: &Vec<String>| globs.iter().any(|glob| glob_matches(glob, name));
        (self.denied.is_empty() || !is_denied()) && self.allowed.as_ref().is_none_or(is_allowed)
    }
}

/// Which addresses are shut out for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocking {
    /// After so many handshakes in a row that came to nothing.
    pub connect_errors: Option<u32>,
    /// After so many logins in a row that were denied.
    pub failed_logins: Option<u32>,
    /// For how long. Default 300 s.
    pub lasts: Duration,
}

/// `[access]`, and `from` and `certificate` of each `[[user]]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Access {
    pub deny: Networks,
    /// None: from everywhere that is not denied.
    pub allow: Option<Networks>,
    pub users: Names,
    pub tenants: Names,
    /// Where known users have to come from.
    pub homes: BTreeMap<String, Networks>,
    /// Of what their certificates have to have one.
    pub claims: BTreeMap<String, Vec<Claim>>,
    /// None: no address is.
    pub blocking: Option<Blocking>,
}

impl Access {
    /// Whether a client may come in at all.
    pub fn lets_in_from(&self, ip: Option<IpAddr>) -> bool {
        !self.deny.has_client(ip) && self.allow.as_ref().is_none_or(|allow| allow.has_client(ip))
    }

    /// Whether it may come in by these names, from there, with what it has shown.
    pub fn lets_in_as(
        &self,
        user: &str,
        tenant: &str,
        ip: Option<IpAddr>,
        certificate: Option<&Certificate>,
    ) -> bool {
        let is_at_home = self.homes.get(user).is_none_or(|home| home.has_client(ip));
        let meets = |claims: &Vec<Claim>| certificate.is_some_and(|certificate| certificate.meets(claims));
        let has_shown = self.claims.get(user).is_none_or(meets);
        is_at_home && has_shown && self.users.let_in(user) && self.tenants.let_in(tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::certificate::Field;
    use crate::route::certificate::tests::certificate;

    fn networks(list: &[&str]) -> Networks {
        let networks = list.iter().filter(|text| **text != "unix").map(|text| text.parse().unwrap());
        Networks { networks: networks.collect(), unix: list.contains(&"unix") }
    }

    fn ip(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_denied_wins_over_what_is_allowed() {
        let access = Access {
            deny: networks(&["10.0.0.7/32"]),
            allow: Some(networks(&["10.0.0.0/8", "::1/128"])),
            ..Access::default()
        };
        for (client, expected) in [
            ("10.0.0.7", false),
            ("::ffff:10.0.0.7", false),
            ("10.0.0.8", true),
            ("::1", true),
            ("11.0.0.1", false),
            ("a Unix socket", false),
        ] {
            assert_eq!(access.lets_in_from(ip(client)), expected, "{client}");
        }
    }

    #[test]
    fn a_list_of_what_is_denied_leaves_the_rest() {
        let access = Access { deny: networks(&["unix"]), ..Access::default() };
        assert!(access.lets_in_from(ip("10.0.0.1")) && !access.lets_in_from(None));
        let access = Access { allow: Some(networks(&["unix"])), ..Access::default() };
        assert!(!access.lets_in_from(ip("10.0.0.1")) && access.lets_in_from(None));
    }

    #[test]
    fn names_are_denied_however_they_are_written_and_allowed_as_they_are() {
        let access = Access {
            users: Names { denied: names(&["root", "test*"]), allowed: None },
            tenants: Names { denied: Vec::new(), allowed: Some(names(&["acc*", "sys"])) },
            ..Access::default()
        };
        for (user, tenant, expected) in [
            ("app", "acc1", true),
            ("app", "sys", true),
            ("app", "ACC1", false),
            ("app", "other", false),
            ("root", "sys", false),
            ("ROOT", "sys", false),
            ("tester", "sys", false),
            ("roo", "sys", true),
        ] {
            assert_eq!(access.lets_in_as(user, tenant, None, None), expected, "{tenant}:{user}");
        }
    }

    #[test]
    fn a_user_may_need_a_certificate() {
        let claims = BTreeMap::from([("app".to_owned(), vec![Claim::Has(Field::Unit, "gold".to_owned())])]);
        let access = Access { claims, ..Access::default() };
        let (gold, other) =
            (certificate(&[(Field::Unit, "gold")]), certificate(&[(Field::Organization, "gold")]));
        let lets_in = |user: &str, shown| access.lets_in_as(user, "sys", None, shown);
        assert!(lets_in("app", Some(&gold)));
        assert!(!lets_in("app", Some(&other)) && !lets_in("app", None));
        assert!(lets_in("web", Some(&other)) && lets_in("web", None));
    }

    #[test]
    fn a_user_with_a_home_comes_from_there_only() {
        let homes = BTreeMap::from([("app".to_owned(), networks(&["10.0.0.0/8"]))]);
        let access = Access { homes, ..Access::default() };
        assert!(access.lets_in_as("app", "sys", ip("10.1.1.1"), None));
        assert!(
            !access.lets_in_as("app", "sys", ip("11.1.1.1"), None)
                && !access.lets_in_as("app", "sys", None, None)
        );
        assert!(access.lets_in_as("web", "sys", ip("11.1.1.1"), None));
    }
}
