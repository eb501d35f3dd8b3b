//! Any bytes as the two packets of a login: an error or a packet, never a panic; and what was read and
//! written again reads the same.

use corelane::wire::greeting::{Greeting, Hello};
use corelane::wire::login::{Answer, HandshakeResponse};

pub fn check(data: &[u8]) {
    let _ = Hello::read(data);
    if let Ok(Answer::Login(login)) = Answer::read(data) {
        check_login(&login);
    }
    if let Ok(greeting) = Greeting::read(data) {
        let mut written = Vec::new();
        greeting.write(&mut written);
        assert_eq!(Greeting::read(&written).as_ref(), Ok(&greeting));
    }
}

fn check_login(login: &HandshakeResponse) {
    if let Some(attributes) = login.attributes {
        let _ = attributes.iter().count();
        let _ = attributes.get(b"program_name");
    }
    let mut written = Vec::new();
    if login.write(&mut written).is_ok() {
        assert_eq!(HandshakeResponse::read(&written).as_ref(), Ok(login));
    }
}
