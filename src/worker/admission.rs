//! Whether a client may come in: by `[access]`, and by how many there are of its kind.
//!
//! Asked three times in a login: when it is known where the client is, when it has said who it is, and when a CN has let it in, from
//! when on it counts as a session of its user. Asked again of a session that wants to be another user's, before a CN hears of it, and when
//! that is so. Where nothing is limited it is
//! a look at what is not there. What is right is decided in
//! [`crate::config::access`] and in [`super::book`].

use std::collections::BTreeMap;
use std::time::Instant;

use tracing::warn;

use super::Worker;
use super::book::{self, Full};
use super::failure::Failure;
use super::proxy_header;
use super::roster::Card;
use crate::config::access::Access;
use crate::mailbox::hosts::Fault;
use crate::mailbox::message::Picture;
use crate::net::tls::Tls;
use crate::reactor::Socket;
use crate::route::certificate::Certificate;
use crate::route::{Cn, Flavour, Identity};
use crate::session::refusal::Refusal;
use crate::wire::command::ChangedUser;

/// From where it is. It counts among those from its address from now on.
pub(super) fn host(worker: &Worker, access: Option<&Access>, card: &Card) -> Result<(), Failure> {
    let client = card.client();
    if access.is_some_and(|access| !access.lets_in_from(client.ip())) {
        return Err(Failure::NotLetIn(Refusal::HostDenied { host: client.host() }));
    }
    let Some(ip) = client.ip() else { return Ok(()) };
    if access.is_some_and(|access| access.blocking.is_some())
        && let Some(fault) = worker.books.hosts.blocked(ip, Instant::now())
    {
        return Err(Failure::NotLetIn(Refusal::HostBlocked { host: client.host(), faults: fault.name() }));
    }
    let entered = worker.books.clients.enter(&book::client(ip));
    let entered = entered
        .map_err(|Full(limit)| Failure::Limited(Refusal::TooManyOfClient { host: client.host(), limit }))?;
    card.places.borrow_mut().client = Some(entered);
    Ok(())
}

/// Takes note of how a login has ended, where addresses that fail are shut out. A load balancer's own connections do not count: a
/// block would shut out all who come through it.
pub(super) fn ended(worker: &Worker, picture: &Picture, card: &Card, fault: Result<(), Option<Fault>>) {
    let (Some(rules), client) = (picture.access.as_ref().and_then(|access| access.blocking), card.client())
    else {
        return;
    };
    let Some(ip) = client.ip().filter(|_| !proxy_header::is_due(picture.proxy_protocol.as_deref(), client))
    else {
        return;
    };
    match fault {
        Ok(()) => worker.books.hosts.succeeded(ip, Instant::now()),
        Err(Some(fault)) => {
            if worker.books.hosts.failed(ip, fault, &rules, Instant::now()) {
                warn!("{} is blocked for {:?}: too many {}", client.host(), rules.lasts, fault.name());
            }
        }
        Err(None) => {}
    }
}

/// What a client has to show for itself.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    pub certificate: Option<&'a Certificate>,
    /// It sends one, right or wrong.
    pub password: bool,
}

/// What a client has shown by TLS.
pub(super) fn certificate(client: &Socket) -> Option<Certificate> {
    client.layer(|tls: &Tls| tls.certificate().map(Certificate::read)).flatten()
}

/// By its names, of which no CN has heard yet.
pub(super) fn names(
    worker: &Worker,
    access: Option<&Access>,
    card: &Card,
    identity: &Identity,
    Shown { certificate, password }: Shown<'_>,
) -> Result<(), Failure> {
    let client = card.client();
    let lets_in =
        |access: &Access| access.lets_in_as(&identity.user, &identity.tenant, client.ip(), certificate);
    if !access.is_none_or(lets_in) {
        let (user, host) = (identity.user.clone(), client.host());
        return Err(Failure::NotLetIn(Refusal::AccessDenied { user, host, password }));
    }
    worker.books.tenants.has_room(|| &identity.tenant).map_err(too_many)?;
    let user = || book::user(&identity.tenant, &identity.user);
    worker.books.users.has_room(user).map_err(|full| too_many_of(&identity.user, full))
}

/// Who a session wants to be from now on.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub user: String,
    pub tenant: String,
}

/// As another user, whom a session names by COM_CHANGE_USER: a CN of MySQL's takes the name as it is, one of MatrixOne's reads tenant
/// and labels in it. Whether the password is right is not asked here.
///
/// # Errors
/// ERR 1045, and that there are too many of that user or tenant.
pub(super) fn change(
    worker: &Worker,
    picture: &Picture,
    card: &Card,
    client: &Socket,
    cn: &Cn,
    ChangedUser { name, password }: ChangedUser<'_>,
) -> Result<Newcomer, Refusal> {
    let certificate = certificate(client);
    let user = String::from_utf8_lossy(name).into_owned();
    let denied = || Refusal::AccessDenied { user: user.clone(), host: card.client().host(), password };
    let (user, tenant) = match cn.flavour {
        Flavour::Mysql => (user.clone(), card.bearer.borrow().tenant.to_string()),
        Flavour::Matrixone => {
            let rules = picture.tls.as_ref().map_or(&[][..], |tls| &tls.labels);
            let certified = certificate.as_ref().map_or(Ok(BTreeMap::new()), |shown| shown.labels(rules));
            let certified = certified.map_err(|_| denied())?;
            let identity = Identity::read_certified(name, [("", ""); 0], &certified, &picture.view);
            identity.map(|identity| (identity.user, identity.tenant)).map_err(|_| denied())?
        }
    };
    let lets_in =
        |access: &Access| access.lets_in_as(&user, &tenant, card.client().ip(), certificate.as_ref());
    if !picture.access.as_deref().is_none_or(lets_in) {
        return Err(denied());
    }
    let newcomer = Newcomer { user, tenant };
    let (other_tenant, other_user) = newcomer.differs(card);
    let books = &worker.books;
    if other_tenant {
        books.tenants.has_room(|| &newcomer.tenant).map_err(|_| Refusal::TooManySessions)?;
    }
    if other_user {
        books.users.has_room(|| newcomer.counted()).map_err(|full| newcomer.one_too_many(full))?;
    }
    Ok(newcomer)
}

/// The session is the newcomer's, and counts as that, no more as the one before.
///
/// # Errors
/// There are too many of that user or tenant, as others were faster.
pub(super) fn renamed(worker: &Worker, card: &Card, newcomer: &Newcomer) -> Result<(), Refusal> {
    let (other_tenant, other_user) = newcomer.differs(card);
    let mut bearer = card.bearer.borrow_mut();
    (bearer.user, bearer.tenant) = (newcomer.user.as_str().into(), newcomer.tenant.as_str().into());
    let (books, mut places) = (&worker.books, card.places.borrow_mut());
    if other_tenant {
        let entered = books.tenants.enter(&newcomer.tenant);
        places.tenant = Some(entered.map_err(|_| Refusal::TooManySessions)?);
    }
    if other_user {
        let entered = books.users.enter(&newcomer.counted());
        places.user = Some(entered.map_err(|full| newcomer.one_too_many(full))?);
    }
    Ok(())
}

impl Newcomer {
    /// Whether the session is of another tenant, and of another user.
    fn differs(&self, card: &Card) -> (bool, bool) {
        let bearer = card.bearer.borrow();
        let other_tenant = *bearer.tenant != *self.tenant;
        (other_tenant, other_tenant || *bearer.user != *self.user)
    }

    fn counted(&self) -> String {
        book::user(&self.tenant, &self.user)
    }

    fn one_too_many(&self, Full(limit): Full) -> Refusal {
        Refusal::TooManyOfUser { user: self.user.clone(), limit }
    }
}

/// Counts it among those of its tenant and of its user, now that a CN has let it in.
pub(super) fn seated(worker: &Worker, card: &Card) -> Result<(), Failure> {
    let bearer = card.bearer.borrow();
    let tenant = worker.books.tenants.enter(&bearer.tenant).map_err(too_many)?;
    let user = worker.books.users.enter(&book::user(&bearer.tenant, &bearer.user));
    let user = user.map_err(|full| too_many_of(&bearer.user, full))?;
    let mut places = card.places.borrow_mut();
    (places.tenant, places.user) = (Some(tenant), Some(user));
    Ok(())
}

fn too_many(_: Full) -> Failure {
    Failure::Limited(Refusal::TooManySessions)
}

fn too_many_of(user: &str, Full(limit): Full) -> Failure {
    Failure::Limited(Refusal::TooManyOfUser { user: user.to_owned(), limit })
}
