//! How many sessions each tenant has over all workers, where that is limited.
//!
//! Looked at twice in a login: before anything is done for it, and again when a CN has let it in, because only who is let in counts.
//! Without a limit nothing is counted. One lock for all workers, taken by logins and by the ends of sessions alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The tenants of one process.
#[derive(Debug, Default)]
pub struct Tenants {
    limit: Option<u32>,
    sessions: Mutex<HashMap<Box<str>, u32>>,
}

/// The tenant has as many sessions as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A session of a tenant, counted for as long as this lives.
#[derive(Debug)]
pub struct TenantSeat {
    tenants: Arc<Tenants>,
    tenant: Box<str>,
}

impl Tenants {
    pub fn new(limit: Option<u32>) -> Self {
        Self { limit, sessions: Mutex::default() }
    }

    /// Whether a tenant may have no further session.
    pub fn is_full(&self, tenant: &str) -> bool {
        let Some(limit) = self.limit else { return false };
        self.with(|sessions| sessions.get(tenant).is_some_and(|count| *count >= limit))
    }

    /// Counts one more; none where nothing is counted.
    ///
    /// # Errors
    /// [`Full`].
    pub fn take(self: &Arc<Self>, tenant: &str) -> Result<Option<TenantSeat>, Full> {
        let Some(limit) = self.limit else { return Ok(None) };
        self.with(|sessions| {
            let count = sessions.entry(tenant.into()).or_default();
            if *count >= limit {
                return Err(Full);
            }
            *count += 1;
            Ok(Some(TenantSeat { tenants: self.clone(), tenant: tenant.into() }))
        })
    }

    /// A worker that has panicked has left whole numbers.
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<Box<str>, u32>) -> T) -> T {
        act(&mut self.sessions.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for TenantSeat {
    fn drop(&mut self) {
        self.tenants.with(|sessions| {
            if let Some(count) = sessions.get_mut(&self.tenant) {
                *count -= 1;
                if *count == 0 {
                    sessions.remove(&self.tenant);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_as_many_as_it_may() {
        let tenants = Arc::new(Tenants::new(Some(2)));
        let seats = [tenants.take("a").unwrap(), tenants.take("a").unwrap()];
        assert!(tenants.is_full("a") && tenants.take("a").is_err());
        assert!(!tenants.is_full("b") && tenants.take("b").is_ok());
        drop(seats);
        assert!(!tenants.is_full("a"));
        assert!(tenants.with(|sessions| sessions.is_empty()), "nobody is kept for ever");
    }

    #[test]
    fn without_a_limit_nobody_is_counted() {
        let tenants = Arc::new(Tenants::default());
        assert!(matches!(tenants.take("a"), Ok(None)) && !tenants.is_full("a"));
    }
}
