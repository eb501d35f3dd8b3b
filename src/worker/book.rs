//! How many sessions each tenant, each user and each client's address has over all workers, and how many it may have.
//!
//! Tenants and users are looked at twice in a login: before anything is done for it, and again when a CN has let it in, because only who
//! is let in counts. An address counts from the connection on, as it costs something before it has logged in. All are counted, limited
//! or not, as a limit may come while they are here: then who is in stays in, and nobody else gets in before there is room. One lock for
//! all workers and each kind of name, taken by logins and by the ends of sessions alone. The limits are each worker's own, out of the
//! picture that it goes by.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::mailbox::hosts::Hosts;
use crate::mailbox::message::Picture;

/// The books of one process, as one worker has them.
#[derive(Clone, Debug, Default)]
pub struct Books {
    pub tenants: Book,
    /// By [`user`].
    pub users: Book,
    /// By [`client`].
    pub clients: Book,
    /// The addresses that fail, of which the coordinator tells.
    pub hosts: Arc<Hosts>,
}

impl Books {
    /// Takes over the limits.
    pub fn limit(&self, picture: &Picture) {
        self.tenants.limit.set(picture.max_sessions_per_tenant);
        self.users.limit.set(picture.limits.sessions_per_user);
        self.clients.limit.set(picture.limits.sessions_per_client);
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

/// Names of one kind, how many sessions each has, and how many it may have.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// This worker's; none where there may be any number.
    limit: Cell<Option<u32>>,
    counts: Arc<Counts>,
}

/// How many sessions each name has. Those of a name share it.
#[derive(Debug, Default)]
struct Counts(Mutex<HashMap<Arc<str>, u32>>);

/// There are as many sessions of the name as there may be: so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full(pub u32);

/// A session of a name, counted for as long as this lives.
#[derive(Debug)]
pub struct Entered {
    counts: Arc<Counts>,
    name: Arc<str>,
}

/// Where a session is counted.
#[derive(Debug, Default)]
pub struct Places {
    pub tenant: Option<Entered>,
    pub user: Option<Entered>,
    pub client: Option<Entered>,
}

impl Book {
    /// Whether a name may have a further session. It is only made where there is a limit.
    ///
    /// # Errors
    /// [`Full`].
    pub fn has_room<N: AsRef<str>>(&self, name: impl FnOnce() -> N) -> Result<(), Full> {
        let Some(limit) = self.limit.get() else { return Ok(()) };
        let count = self.counts.with(|counts| counts.get(name().as_ref()).copied());
        if count.unwrap_or(0) >= limit { Err(Full(limit)) } else { Ok(()) }
    }

    /// Counts one more.
    ///
    /// # Errors
    /// [`Full`].
    pub fn enter(&self, name: &str) -> Result<Entered, Full> {
        let limit = self.limit.get();
        self.counts.with(|counts| {
            let (name, count) = counts.get_key_value(name).map_or_else(|| (name.into(), 0), known);
            match limit.filter(|limit| count >= *limit) {
                Some(limit) => return Err(Full(limit)),
                None => counts.insert(name.clone(), count + 1),
            };
            Ok(Entered { counts: self.counts.clone(), name })
        })
    }
}

fn known((name, count): (&Arc<str>, &u32)) -> (Arc<str>, u32) {
    (name.clone(), *count)
}

impl Counts {
    /// A worker that has panicked has left whole numbers.
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<Arc<str>, u32>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.counts.with(|counts| {
            if let Some(count) = counts.get_mut(&self.name) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&self.name);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(limit: Option<u32>) -> Book {
        Book { limit: Cell::new(limit), counts: Arc::default() }
    }

    #[test]
    fn a_name_has_as_many_as_it_may() {
        let book = book(Some(2));
        let places = [book.enter("a").unwrap(), book.enter("a").unwrap()];
        assert_eq!((book.has_room(|| "a"), book.enter("a").err()), (Err(Full(2)), Some(Full(2))));
        assert!(book.has_room(|| "b").is_ok() && book.enter("b").is_ok());
        assert!(Arc::ptr_eq(&places[0].name, &places[1].name), "the name is held once");
        drop(places);
        assert!(book.has_room(|| "a").is_ok());
        assert!(book.counts.with(|counts| counts.is_empty()), "nobody is kept for ever");
    }

    #[test]
    fn a_limit_counts_who_came_before_it_and_turns_nobody_out() {
        let book = book(None);
        let mut places: Vec<_> = (0..3).map(|_| book.enter("a").unwrap()).collect();
        assert!(book.has_room(|| -> &str { panic!("no name is made") }).is_ok());
        book.limit.set(Some(2));
        for _ in 0..2 {
            assert_eq!((book.has_room(|| "a"), book.enter("a").err()), (Err(Full(2)), Some(Full(2))));
            places.pop();
        }
        places.push(book.enter("a").expect("there is room"));
        assert_eq!(book.enter("a").err(), Some(Full(2)));
        book.limit.set(Some(3));
        places.push(book.enter("a").expect("there may be more"));
        book.limit.set(None);
        places.push(book.enter("a").expect("there is no limit"));
        assert_eq!(book.counts.with(|counts| counts["a"]), 4);
    }

    #[test]
    fn workers_count_together() {
        let (one, other) = (book(Some(1)), Book::default());
        let other = Book { counts: one.counts.clone(), ..other };
        let _place = other.enter("a").unwrap();
        assert_eq!(one.enter("a").err(), Some(Full(1)));
    }

    #[test]
    fn names_are_not_confused() {
        assert_ne!(user("a", "b"), user("b", "a"));
        assert_eq!(client("::ffff:10.0.0.1".parse().unwrap()), "10.0.0.1");
    }
}
