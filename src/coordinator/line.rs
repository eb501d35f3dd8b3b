//! An open connection to a CN, on which corelane asks it as an account of its own.
//!
//! What it reads is bounded by its own codec: packets, columns and rows each have a limit, and nothing that a CN says ends more than
//! this connection. The password is proven by `mysql_native_password` and in no other way: a plugin that has a key or the password sent
//! could be asked for by anybody who answers at that address.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::probe::{self, Stream, connect};
use crate::config::settings::Account;
use crate::route::Target;
use crate::session::script::{Answer, Script, ScriptError, Table};
use crate::wire;
use crate::wire::auth::{AuthSwitchRequest, NATIVE, SWITCH, native_key, native_scramble};
use crate::wire::capability::Capabilities;
use crate::wire::frame::{PacketReader, write_packet};
use crate::wire::greeting::{Hello, SALT};
use crate::wire::login::HandshakeResponse;
use crate::wire::reply::{ERR, ErrPacket, OK};

/// Bytes of the longest packet that a CN may send.
const PACKET_MAX: usize = 16 << 10;

/// COM_QUIT as a whole packet.
const QUIT: &[u8] = &[1, 0, 0, 0, 1];

const UTF8MB4_GENERAL_CI: u8 = 45;

/// Why a CN could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("it says: {message} ({code})")]
    Refused { code: u16, message: String },
    #[error("{0}")]
    Unreachable(probe::Error),
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    #[error("it closed the connection")]
    Closed,
    #[error("it sent what cannot be read: {0}")]
    Wire(#[from] wire::Error),
    #[error("its plugin {0} is not mysql_native_password")]
    Plugin(String),
    #[error("{0}")]
    Answer(ScriptError),
}

impl Error {
    /// Whether a connection that was open for long may just have been ended by the CN.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::Closed)
    }
}

pub struct Line {
    pub target: Target,
    stream: Box<dyn Stream>,
    reader: PacketReader,
    capabilities: Capabilities,
}

impl Line {
    /// Connects and logs in.
    pub async fn open(target: &Target, account: &Account) -> Result<Self, Error> {
        let stream = connect(target).await.map_err(Error::Unreachable)?;
        let (reader, capabilities) = (PacketReader::new(PACKET_MAX), Capabilities::default());
        let mut line = Self { target: target.clone(), stream, reader, capabilities };
        line.log_in(account).await?;
        Ok(line)
    }

    /// Asks one question; the rows of its answer.
    pub async fn ask(&mut self, question: &str) -> Result<Table, Error> {
        let mut script = Script::default();
        script.question("the answer", question.as_bytes());
        let mut bytes = Vec::new();
        script.write(&mut bytes, self.capabilities);
        self.stream.write_all(&bytes).await.map_err(Error::Broken)?;
        let mut answers = script.answers(self.capabilities);
        while !answers.packet(&self.packet().await?).map_err(Error::Answer)? {}
        match answers.finish() {
            Ok(results) => match results.answers.into_iter().next() {
                Some(Answer::Rows(table)) => Ok(table),
                _ => Err(Error::Answer(ScriptError::Mismatch)),
            },
            Err(ScriptError::Refused { code, message, .. }) => Err(Error::Refused { code, message }),
            Err(error) => Err(Error::Answer(error)),
        }
    }

    /// Takes leave. Whoever does not listen is hung up on.
    pub async fn close(mut self) {
        // Nobody minds whether it is heard.
        let _ = self.stream.write_all(QUIT).await;
    }

    async fn log_in(&mut self, account: &Account) -> Result<(), Error> {
        let greeting = self.packet().await?;
        let greeting = match Hello::read(&greeting)? {
            Hello::Greeting(greeting) => greeting,
            Hello::Unwilling(err) => return Err(refused(&err)),
        };
        self.capabilities = WANTED & greeting.capabilities;
        let response = HandshakeResponse {
            capabilities: self.capabilities,
            max_packet: PACKET_MAX as u32,
            charset: UTF8MB4_GENERAL_CI,
            user: account.user.as_bytes(),
            auth: &answer(&account.password, &greeting.salt),
            database: None,
            plugin: Some(NATIVE.as_bytes()),
            attributes: None,
            zstd_level: None,
        };
        let mut payload = Vec::new();
        response.write(&mut payload)?;
        let mut verdict = self.say(&payload).await?;
        if verdict.first() == Some(&SWITCH) {
            let request = AuthSwitchRequest::read(&verdict)?;
            if request.plugin != NATIVE.as_bytes() {
                return Err(Error::Plugin(String::from_utf8_lossy(request.plugin).into_owned()));
            }
            let answer = answer(&account.password, &request.salt()?);
            verdict = self.say(&answer).await?;
        }
        match verdict.first() {
            Some(&OK) => Ok(()),
            Some(&ERR) => Err(refused(&ErrPacket::read(&verdict)?)),
            _ => Err(Error::Plugin("that asks for more".to_owned())),
        }
    }

    /// Sends the next packet of the login, and reads what is said to it.
    async fn say(&mut self, payload: &[u8]) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        write_packet(&mut bytes, &mut self.reader.next_sequence(), payload);
        self.stream.write_all(&bytes).await.map_err(Error::Broken)?;
        self.packet().await
    }

    async fn packet(&mut self) -> Result<Vec<u8>, Error> {
        self.reader.expect_any();
        loop {
            if let Some(packet) = self.reader.take()? {
                return Ok(packet);
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes).await.map_err(Error::Broken)? {
                0 => return Err(Error::Closed),
                n => self.reader.push(&bytes[..n]),
            }
        }
    }
}

/// What is asked of a CN, as far as it has it.
const WANTED: Capabilities = Capabilities(
    Capabilities::LONG_PASSWORD.0
        | Capabilities::PROTOCOL_41.0
        | Capabilities::TRANSACTIONS.0
        | Capabilities::SECURE_CONNECTION.0
        | Capabilities::PLUGIN_AUTH.0
        | Capabilities::DEPRECATE_EOF.0,
);

fn answer(password: &str, salt: &[u8; SALT]) -> Vec<u8> {
    match password {
        "" => Vec::new(),
        password => native_scramble(&native_key(password), salt).to_vec(),
    }
}

fn refused(err: &ErrPacket<'_>) -> Error {
    Error::Refused { code: err.code, message: String::from_utf8_lossy(err.message).into_owned() }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::ident::SessionId;
    use crate::session::face::Face;

    /// What comes of asking a CN that greets and then sends each of `says`, after a packet of the client's.
    async fn asked(says: &[&[u8]]) -> Result<Table, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let target = Target::Tcp(listener.local_addr().expect("its address"));
        let cn = async move {
            let (mut stream, _) = listener.accept().await?;
            let mut bytes = Vec::new();
            write_packet(&mut bytes, &mut 0, &Face::default().greeting(&[b'a'; SALT], SessionId(7)));
            for said in says {
                stream.write_all(&bytes).await?;
                let _ = stream.read(&mut [0; 512]).await?;
                bytes = said.to_vec();
            }
            stream.write_all(&bytes).await?;
            // Until the other side has had enough.
            stream.read_to_end(&mut Vec::new()).await
        };
        let account = Account { user: "dump".into(), password: "secret".into() };
        let question = async { Line::open(&target, &account).await?.ask("SHOW BACKEND SERVERS").await };
        let (_, answer) = tokio::join!(cn, question);
        answer
    }

    const IN: &[u8] = b"\x07\0\0\x02\0\0\0\x10\x08\0\0";

    #[tokio::test]
    async fn the_password_is_proven_in_one_way_only() {
        let switch = b"\x2c\0\0\x02\xfecaching_sha2_password\0abcdefghijklmnopqrst\0";
        let error = asked(&[switch]).await.unwrap_err();
        assert_eq!(error.to_string(), "its plugin caching_sha2_password is not mysql_native_password");
        let key = asked(&[b"\x02\0\0\x02\x01\x04"]).await.unwrap_err();
        assert!(matches!(key, Error::Plugin(_)), "{key}");
    }

    #[tokio::test]
    async fn a_lie_about_columns_ends_the_connection_and_nothing_else() {
        let many = asked(&[IN, b"\x09\0\0\x01\xfe\0\0\0\0\0\x01\0\0"]).await.unwrap_err();
        assert!(many.to_string().contains("1 to 4096"), "{many}");
        let long = asked(&[IN, b"\xff\xff\xff\x01"]).await.unwrap_err();
        assert!(matches!(long, Error::Wire(_)), "{long}");
    }
}
