//! Sessions that are alike to routing: those to which the same CNs are open.

use std::collections::BTreeMap;

use super::identity::{Identity, SYS};
use super::label::Asked;

/// What routing looks at in an [`Identity`], and nothing else. Sessions of one group may change places.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// `sys` for the super tenant, however it writes itself.
    pub tenant: String,
    /// All labels asked for, but the account.
    pub labels: BTreeMap<String, String>,
    /// A user of the super tenant to whom any CN is open: `root` and `dump`.
    pub anywhere: bool,
}

impl Group {
    pub fn of(identity: &Identity) -> Self {
        let sys = identity.is_sys();
        Self {
            tenant: if sys { SYS.to_owned() } else { identity.tenant.clone() },
            labels: identity.labels.clone(),
            anywhere: sys && ["root", "dump"].contains(&identity.user.as_str()),
        }
    }

    pub fn is_sys(&self) -> bool {
        self.tenant == SYS
    }

    pub fn asked(&self) -> Asked<'_> {
        Asked { account: Some(&self.tenant), labels: &self.labels }
    }
}
