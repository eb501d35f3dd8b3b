//! How many sessions each tenant, each user and each client's address has over all workers, where that is limited.
//!
//! Tenants and users are looked at twice in a login: before anything is done for it, and again when a CN has let it in, because only who
//! is let in counts. An address counts from the connection on, as it costs something before it has logged in. Without a limit nothing
//! is counted. One lock for all workers and each kind of name, taken by logins and by the ends of sessions alone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::settings::Settings;
use crate::mailbox::hosts::Hosts;

/// The books of one process.
#[derive(Clone, Debug, Default)]
pub struct Books {
    pub tenants: Arc<Book>,
    /// By [`user`].
    pub users: Arc<Book>,
    /// By [`client`].
    pub clients: Arc<Book>,
    /// The addresses that fail, of which the coordinator tells.
    pub hosts: Arc<Hosts>,
}

impl Books {
    pub fn new(settings: &Settings) -> Self {
        let book = |limit| Arc::new(Book::new(limit));
        Self {
            tenants: book(settings.listen.max_sessions_per_tenant),
            users: book(settings.limits.sessions_per_user),
            clients: book(settings.limits.sessions_per_client),
            hosts: Arc::default(),
        }
    }
}

/// A user as it is counted: users of several tenants are not the same.
pub fn user(tenant: &str, user: &str) -> String {
    format!("{tenant}\0{user}")
}

/// An address as it is counted.
pub fn client(ip: IpAddr) -> String {
    ip.to_canonical().to_string()
}

/// Names of one kind, and how many sessions each has.
#[derive(Debug, Default)]
pub struct Book {
    limit: Option<u32>,
    sessions: Mutex<HashMap<Box<str>, u32>>,
}

/// There are as many sessions of the name as there may be: so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full(pub u32);

/// A session of a name, counted for as long as this lives.
#[derive(Debug)]
pub struct Entered {
    book: Arc<Book>,
    name: Box<str>,
}

/// Where a session is counted.
#[derive(Debug, Default)]
pub struct Places {
    pub tenant: Option<Entered>,
    pub user: Option<Entered>,
    pub client: Option<Entered>,
}

impl Book {
    pub fn new(limit: Option<u32>) -> Self {
        Self { limit, sessions: Mutex::default() }
    }

    /// Whether a name may have a further session. It is only made where there is a limit.
    ///
    /// # Errors
    /// [`Full`].
    pub fn has_room<N: AsRef<str>>(&self, name: impl FnOnce() -> N) -> Result<(), Full> {
        let Some(limit) = self.limit else { return Ok(()) };
        let count = self.with(|sessions| sessions.get(name().as_ref()).copied());
        if count.unwrap_or(0) >= limit { Err(Full(limit)) } else { Ok(()) }
    }

    /// Counts one more; none where nothing is counted.
    ///
    /// # Errors
    /// [`Full`].
    pub fn enter<N: AsRef<str>>(self: &Arc<Self>, name: impl FnOnce() -> N) -> Result<Option<Entered>, Full> {
        let Some(limit) = self.limit else { return Ok(None) };
        let name: Box<str> = name().as_ref().into();
        self.with(|sessions| {
            let count = sessions.entry(name.clone()).or_default();
            if *count >= limit {
                return Err(Full(limit));
            }
            *count += 1;
            Ok(Some(Entered { book: self.clone(), name }))
        })
    }

    /// A worker that has panicked has left whole numbers.
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<Box<str>, u32>) -> T) -> T {
        act(&mut self.sessions.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.book.with(|sessions| {
            if let Some(count) = sessions.get_mut(&self.name) {
                *count -= 1;
                if *count == 0 {
                    sessions.remove(&self.name);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_as_many_as_it_may() {
        let book = Arc::new(Book::new(Some(2)));
        let places = [book.enter(|| "a").unwrap(), book.enter(|| "a").unwrap()];
        assert_eq!((book.has_room(|| "a"), book.enter(|| "a").err()), (Err(Full(2)), Some(Full(2))));
        assert!(book.has_room(|| "b").is_ok() && book.enter(|| "b").is_ok());
        drop(places);
        assert!(book.has_room(|| "a").is_ok());
        assert!(book.with(|sessions| sessions.is_empty()), "nobody is kept for ever");
    }

    #[test]
    fn without_a_limit_nobody_is_counted() {
        let book = Arc::new(Book::default());
        let nobody = || -> &str { panic!("no name is made") };
        assert!(matches!(book.enter(nobody), Ok(None)) && book.has_room(nobody).is_ok());
    }

    #[test]
    fn names_are_not_confused() {
        assert_ne!(user("a", "b"), user("b", "a"));
        assert_eq!(client("::ffff:10.0.0.1".parse().unwrap()), "10.0.0.1");
    }
}
