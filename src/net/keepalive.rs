//! How the kernel finds out that a peer is gone without a word: what `[listen]` and `[cn_tcp]` say of it.
//!
//! Only what is said is set, so that nothing costs a system call where all is left to the kernel.

use std::io;
use std::os::fd::AsFd;

use socket2::{SockRef, TcpKeepalive};

use crate::config::settings::Keepalive;

/// Sets a TCP socket's options, on which keepalive itself is on already.
///
/// # Errors
/// Those of `setsockopt`; none of a TCP socket and of values that the configuration lets pass.
pub fn set(socket: &impl AsFd, keepalive: &Keepalive) -> io::Result<()> {
    let socket = SockRef::from(socket);
    let Keepalive { idle, interval, probes, user_timeout } = *keepalive;
    if idle.is_some() || interval.is_some() || probes.is_some() {
        let mut times = TcpKeepalive::new();
        times = idle.map_or(times.clone(), |idle| times.with_time(idle));
        times = interval.map_or(times.clone(), |interval| times.with_interval(interval));
        times = probes.map_or(times.clone(), |probes| times.with_retries(probes));
        socket.set_tcp_keepalive(&times)?;
    }
    if user_timeout.is_some() {
        socket.set_tcp_user_timeout(user_timeout)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;

    fn told(socket: &impl AsFd) -> (u64, u64, u32, u128) {
        let socket = SockRef::from(socket);
        (
            socket.tcp_keepalive_time().unwrap().as_secs(),
            socket.tcp_keepalive_interval().unwrap().as_secs(),
            socket.tcp_keepalive_retries().unwrap(),
            socket.tcp_user_timeout().unwrap().map_or(0, |timeout| timeout.as_millis()),
        )
    }

    #[test]
    fn what_is_said_is_set_and_the_rest_stays_as_it_was() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let before = told(&socket);
        set(&socket, &Keepalive::default()).unwrap();
        assert_eq!(told(&socket), before, "nothing was said");
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        set(&socket, &Keepalive { idle: seconds(61), ..Keepalive::default() }).unwrap();
        assert_eq!(told(&socket), (61, before.1, before.2, before.3));
        let all =
            Keepalive { idle: seconds(62), interval: seconds(11), probes: Some(7), user_timeout: seconds(9) };
        set(&socket, &all).unwrap();
        assert_eq!(told(&socket), (62, 11, 7, 9000));
        let most = Keepalive { idle: seconds(32_767), interval: seconds(32_767), probes: Some(127), ..all };
        set(&socket, &most).expect("the schema's limits are the kernel's");
    }
}
