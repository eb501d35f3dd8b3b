//! The login at the admin door: greeting, `mysql_native_password`, verdict.
//!
//! The door knows its users' passwords from the configuration and never asks a CN. A client that starts with
//! another plugin is switched. There is no TLS here: the door is meant for the machine itself.

use std::time::Duration;

use tokio::time::timeout;

use super::line::{Error, Line};
use super::session::{Client, Refusal, STATUS, VERSION, put_ok, put_refusal};
use crate::config::settings::AdminUser;
use crate::session::face;
use crate::wire::auth::{AuthSwitchRequest, NATIVE, native_hash, native_key, recover_native_key};
use crate::wire::capability::Capabilities;
use crate::wire::greeting::{Greeting, SALT};
use crate::wire::login::{Answer, HandshakeResponse};

/// From accept to the end of the login.
const LOGIN_LIMIT: Duration = Duration::from_secs(10);

/// utf8mb4_general_ci
const CHARSET: u8 = 45;

const SPOKEN: [Capabilities; 11] = [
    Capabilities::LONG_PASSWORD,
    Capabilities::LONG_FLAG,
    Capabilities::CONNECT_WITH_DB,
    Capabilities::PROTOCOL_41,
    Capabilities::TRANSACTIONS,
    Capabilities::SECURE_CONNECTION,
    Capabilities::MULTI_RESULTS,
    Capabilities::PLUGIN_AUTH,
    Capabilities::PLUGIN_AUTH_LENENC_DATA,
    Capabilities::CONNECT_ATTRS,
    Capabilities::DEPRECATE_EOF,
];

/// Logs a client in. `None`: it was refused, and has been told.
pub async fn login(
    line: &mut Line,
    id: u32,
    host: &str,
    users: &[AdminUser],
) -> Result<Option<Client>, Error> {
    match timeout(LOGIN_LIMIT, converse(line, id, host, users)).await {
        Ok(ended) => ended,
        Err(_) => Ok(None),
    }
}

/// Tells a client that was just accepted that there is no room for it.
pub async fn turn_away(line: &mut Line) -> Result<(), Error> {
    let client = unknown(0, "");
    let message = "Too many admin connections".to_owned();
    put_refusal(line, &client, &Refusal { code: 1040, sqlstate: b"08004", message });
    line.send().await
}

async fn converse(
    line: &mut Line,
    id: u32,
    host: &str,
    users: &[AdminUser],
) -> Result<Option<Client>, Error> {
    let salt = salt()?;
    greet(line, id, &salt);
    line.send().await?;
    let packet = line.receive().await?;
    let mut client = unknown(id, host);
    let response = match Answer::read(&packet)? {
        Answer::Login(response) => response,
        Answer::Tls(_) => return refuse(line, &client, no_tls()).await,
    };
    client.capabilities = spoken() & response.capabilities;
    client.user = String::from_utf8_lossy(response.user).into_owned();
    client.database = response.database.map(|name| String::from_utf8_lossy(name).into_owned());
    let scramble = match native(&response) {
        Some(scramble) => scramble.to_vec(),
        None => switch(line, &salt).await?,
    };
    if !is_right(&client.user, &scramble, &salt, users) {
        let denied = denied(&client, !scramble.is_empty());
        return refuse(line, &client, denied).await;
    }
    put_ok(line, &client);
    line.send().await?;
    Ok(Some(client))
}

fn greet(line: &mut Line, id: u32, salt: &[u8; SALT]) {
    let greeting = Greeting {
        version: VERSION.as_bytes(),
        connection_id: id,
        salt: *salt,
        capabilities: spoken(),
        charset: CHARSET,
        status: STATUS,
        plugin: NATIVE.as_bytes(),
    };
    line.put(|out| greeting.write(out));
}

/// The scramble that the client sent along, if it is one of our plugin.
fn native<'a>(response: &HandshakeResponse<'a>) -> Option<&'a [u8]> {
    match response.plugin {
        Some(plugin) if plugin != NATIVE.as_bytes() => None,
        _ => Some(response.auth),
    }
}

async fn switch(line: &mut Line, salt: &[u8; SALT]) -> Result<Vec<u8>, Error> {
    let data = [salt.as_slice(), b"\0"].concat();
    line.put(|out| AuthSwitchRequest { plugin: NATIVE.as_bytes(), data: &data }.write(out));
    line.send().await?;
    line.receive().await
}

fn is_right(user: &str, scramble: &[u8], salt: &[u8; SALT], users: &[AdminUser]) -> bool {
    let Some(known) = users.iter().find(|known| known.name == user) else { return false };
    if known.password.is_empty() || scramble.is_empty() {
        return known.password.is_empty() && scramble.is_empty();
    }
    recover_native_key(scramble, salt, &native_hash(&native_key(&known.password))).is_some()
}

async fn refuse(line: &mut Line, client: &Client, refusal: Refusal) -> Result<Option<Client>, Error> {
    put_refusal(line, client, &refusal);
    line.send().await?;
    Ok(None)
}

fn denied(client: &Client, password: bool) -> Refusal {
    let used = if password { "YES" } else { "NO" };
    let message =
        format!("Access denied for user '{}'@'{}' (using password: {used})", client.user, client.host);
    Refusal { code: 1045, sqlstate: b"28000", message }
}

fn no_tls() -> Refusal {
    let message = "The admin door does not speak TLS".to_owned();
    Refusal { code: 1043, sqlstate: b"08S01", message }
}

fn unknown(id: u32, host: &str) -> Client {
    let (user, host) = (String::new(), host.to_owned());
    Client { id, user, host, database: None, capabilities: spoken() }
}

fn spoken() -> Capabilities {
    SPOKEN.into_iter().fold(Capabilities::default(), |all, one| all | one)
}

fn salt() -> Result<[u8; SALT], Error> {
    let mut salt = [0; SALT];
    getrandom::fill(&mut salt).map_err(std::io::Error::from)?;
    Ok(face::salt(salt))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::auth::native_scramble;

    #[test]
    fn only_the_right_password_lets_in() {
        let user = |name: &str, password: &str| AdminUser { name: name.into(), password: password.into() };
        let users = [user("admin", "secret"), user("open", "")];
        let salt = salt().unwrap();
        let right = native_scramble(&native_key("secret"), &salt);
        let wrong = native_scramble(&native_key("Secret"), &salt);
        assert!(is_right("admin", &right, &salt, &users));
        assert!(!is_right("admin", &wrong, &salt, &users));
        assert!(!is_right("admin", b"", &salt, &users));
        assert!(!is_right("admin", &right, &[b'x'; SALT], &users));
        assert!(!is_right("nobody", &right, &salt, &users));
        assert!(is_right("open", b"", &salt, &users));
        let empty = native_scramble(&native_key(""), &salt);
        assert!(!is_right("open", &right, &salt, &users));
        assert!(!is_right("admin", &empty, &salt, &users));
    }

    #[test]
    fn salts_are_printable_and_differ() {
        let (a, b) = (salt().unwrap(), salt().unwrap());
        assert!(a.iter().all(u8::is_ascii_graphic));
        assert_ne!(a, b);
    }
}
