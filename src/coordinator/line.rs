//! An open connection to a CN, on which corelane asks it as an account of its own.
//!
//! What it reads is bounded by its own codec: packets, columns and rows each have a limit, and nothing that a CN says ends more than
//! this connection. The password is proven as a known user's is: by a plugin that has it sent only where nobody can read along, or
//! where the key that the CN shows is believed, as that could be asked for by anybody who answers at that address.

use std::ops::ControlFlow;

use super::road::{self, Road, Talk};
use crate::config::settings::Account;
use crate::session::login::{
    ClientLogin, CnAuth, CnLogin, CnLoginError, CnStep, Credential, Proof, WantsTls,
};
use crate::session::script::{Answer, Answers, Row, Script, ScriptError, Table};
use crate::wire;
use crate::wire::capability::Capabilities;
use crate::wire::greeting::Hello;
use crate::wire::reply::{ErrPacket, OK};

/// Bytes of the longest packet that a CN may send.
const PACKET_MAX: usize = 16 << 10;

/// COM_QUIT as a whole packet.
const QUIT: &[u8] = &[1, 0, 0, 0, 1];

/// Why a CN could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("it says: {message} ({code})")]
    Refused { code: u16, message: String },
    #[error(transparent)]
    Road(#[from] road::Error),
    #[error("it sent what cannot be read: {0}")]
    Wire(#[from] wire::Error),
    #[error(transparent)]
    Login(#[from] CnLoginError),
    #[error("it asks for more than a password")]
    Asks,
    #[error("{0}")]
    Answer(ScriptError),
}

impl Error {
    /// Whether a connection that was open for long may just have been ended by the CN.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Road(road::Error::Broken(_) | road::Error::Closed))
    }
}

pub struct Line {
    pub road: Road,
    talk: Talk,
    capabilities: Capabilities,
}

impl Line {
    /// Connects and logs in. `believes_key`: a CN without TLS may be sent the password encrypted by the key that it shows.
    pub async fn open(road: &Road, account: &Account, believes_key: bool) -> Result<Self, Error> {
        let mut talk = road.open(b"", PACKET_MAX).await?;
        let greeting = talk.packet().await?;
        let offered = match Hello::read(&greeting)? {
            Hello::Greeting(greeting) => greeting.capabilities,
            Hello::Unwilling(err) => return Err(refused(&err)),
        };
        let mut own = ClientLogin::own();
        own.capabilities = WANTED & offered;
        let (terms, proof) = (road.wished(), Credential::Proof(Proof::of(&account.password)));
        let wish = match terms {
            None => WantsTls::No,
            Some(terms) if terms.is_optional => WantsTls::IfOffered,
            Some(_) => WantsTls::Yes,
        };
        let login = CnLogin::new(&own, account.user.as_bytes(), proof);
        let login = login.believing_key(believes_key).secured(wish, road.is_local());
        let (response, auth) = login.greeting(&greeting)?;
        if let Some(terms) = terms.filter(|_| auth.has_tls()) {
            talk = talk.secure(road, terms, &response).await?;
        }
        talk.say(&response).await?;
        let capabilities = auth.capabilities;
        let_in(&mut talk, auth).await?;
        Ok(Self { road: road.clone(), talk, capabilities })
    }

    /// Asks one question; the rows of its answer, of which there are at most [`ROWS_MAX`](crate::session::script::ROWS_MAX).
    pub async fn ask(&mut self, question: &str) -> Result<Table, Error> {
        let mut answers = self.put(question).await?;
        while !answers.packet(&self.talk.packet().await?).map_err(Error::Answer)? {}
        table(answers)
    }

    /// Asks one question and takes leave. `take` gets each row as it comes, until it has had enough.
    pub async fn ask_each(
        mut self,
        question: &str,
        mut take: impl FnMut(&Row) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut answers = self.put(question).await?;
        while !answers.packet(&self.talk.packet().await?).map_err(Error::Answer)? {
            if answers.take_rows().iter().any(|row| take(row).is_break()) {
                self.close().await;
                return Ok(());
            }
        }
        self.close().await;
        table(answers).map(drop)
    }

    /// Takes leave. Whoever does not listen is hung up on.
    pub async fn close(mut self) {
        // Nobody minds whether it is heard.
        let _ = self.talk.send(QUIT).await;
    }

    async fn put(&mut self, question: &str) -> Result<Answers, Error> {
        let mut script = Script::default();
        script.question("the answer", question.as_bytes());
        let mut bytes = Vec::new();
        script.write(&mut bytes, self.capabilities);
        self.talk.send(&bytes).await?;
        Ok(script.answers(self.capabilities))
    }
}

/// Carries a login to its end. One that cannot go on is ended in order, as the CN would count it against this host.
async fn let_in(talk: &mut Talk, mut auth: CnAuth) -> Result<(), Error> {
    loop {
        let answer = talk.packet().await?;
        let step = auth.from_cn(&answer).map_err(Error::Login);
        match step {
            Ok(CnStep::Seated { .. }) => return Ok(()),
            Ok(CnStep::Refused { err, .. }) => return Err(refused(&ErrPacket::read(&err)?)),
            Ok(CnStep::ToCn(packet)) => talk.say(&packet).await?,
            Ok(CnStep::Wait) => (),
            Ok(CnStep::ToClient { .. }) => return Err(Error::Asks),
            Err(error) => {
                // Whatever the outcome, it is the error that is told.
                if talk.say(b"").await.is_ok()
                    && talk.packet().await.is_ok_and(|said| said.first() == Some(&OK))
                {
                    let _ = talk.send(QUIT).await;
                }
                return Err(error);
            }
        }
    }
}

fn table(answers: Answers) -> Result<Table, Error> {
    match answers.finish() {
        Ok(results) => match results.answers.into_iter().next() {
            Some(Answer::Rows(table)) => Ok(table),
            _ => Err(Error::Answer(ScriptError::Mismatch)),
        },
        Err(ScriptError::Refused { code, message, .. }) => Err(Error::Refused { code, message }),
        Err(error) => Err(Error::Answer(error)),
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

fn refused(err: &ErrPacket<'_>) -> Error {
    Error::Refused { code: err.code, message: String::from_utf8_lossy(err.message).into_owned() }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::ident::SessionId;
    use crate::route::Target;
    use crate::session::face::Face;
    use crate::wire::frame::write_packet;
    use crate::wire::greeting::SALT;

    /// What comes of asking a CN that greets and then sends each of `says`, after a packet of the client's.
    async fn asked(says: &[&[u8]]) -> Result<Table, Error> {
        opened(says, async |mut line| line.ask("SHOW BACKEND SERVERS").await).await
    }

    async fn asked_each(says: &[&[u8]], take: impl FnMut(&Row) -> ControlFlow<()>) -> Result<(), Error> {
        opened(says, async |line| line.ask_each("SHOW BACKEND SERVERS", take).await).await
    }

    async fn opened<T>(says: &[&[u8]], talk: impl AsyncFnOnce(Line) -> Result<T, Error>) -> Result<T, Error> {
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
        let question = async { talk(Line::open(&Road::plain(target), &account, false).await?).await };
        let (_, answer) = tokio::join!(cn, question);
        answer
    }

    const IN: &[u8] = b"\x07\0\0\x02\0\0\0\x10\x08\0\0";

    #[tokio::test]
    async fn the_password_goes_only_where_it_is_safe() {
        let switch = b"\x2c\0\0\x02\xfecaching_sha2_password\0abcdefghijklmnopqrst\0";
        let error = asked(&[switch, b"\x02\0\0\x04\x01\x04", b"\x03\0\0\x06\xff\x15\x04"]).await.unwrap_err();
        assert!(matches!(error, Error::Login(CnLoginError::NoKey)), "{error}");
        let clear = b"\x16\0\0\x02\xfemysql_clear_password\0";
        let error = asked(&[clear, b"\x03\0\0\x04\xff\x15\x04"]).await.unwrap_err();
        assert!(matches!(error, Error::Login(CnLoginError::Unprotected)), "{error}");
    }

    #[tokio::test]
    async fn a_lie_about_columns_ends_the_connection_and_nothing_else() {
        let many = asked(&[IN, b"\x09\0\0\x01\xfe\0\0\0\0\0\x01\0\0"]).await.unwrap_err();
        assert!(many.to_string().contains("1 to 4096"), "{many}");
        let long = asked(&[IN, b"\xff\xff\xff\x01"]).await.unwrap_err();
        assert!(matches!(long, Error::Road(road::Error::Wire(_))), "{long}");
    }

    #[tokio::test]
    async fn a_header_goes_first_and_the_words_about_it_are_told() {
        let said = b"\x25\0\0\x01\xff\x6a\x04#HY000Proxy header is not accepted";
        for (answer, expected) in [(&said[..], "Proxy header is not accepted (1130)"), (IN, "")] {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
            let mut road = Road::plain(Target::Tcp(listener.local_addr().expect("its address")));
            road.header = true;
            let cn = async move {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut header = [0; 16];
                stream.read_exact(&mut header).await.expect("a header");
                let mut bytes = Vec::new();
                write_packet(&mut bytes, &mut 0, &Face::default().greeting(&[b'a'; SALT], SessionId(7)));
                stream.write_all(&[&bytes, answer].concat()).await.expect("it is sent");
                let _ = stream.read(&mut [0; 512]).await.expect("a login");
                header
            };
            let account = Account { user: "dump".into(), password: "secret".into() };
            let (header, opened) = tokio::join!(cn, Line::open(&road, &account, false));
            assert_eq!(&header, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", "for nobody but corelane");
            let error = opened.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.ends_with(expected) && error.is_empty() == expected.is_empty(), "{error}");
        }
    }

    #[tokio::test]
    async fn rows_are_given_as_they_come_and_as_many_as_are_wanted() {
        let column = b"\x17\0\0\x02\x03def\0\0\0\x01a\0\x0c\x2d\0\x04\0\0\0\xfd\0\0\0\0\0";
        let (rows, eof) = (b"\x02\0\0\x04\x01x".repeat(3000), b"\x05\0\0\x03\xfe\0\0\x02\0");
        let answer = [&b"\x01\0\0\x01\x01"[..], column, eof, &rows, eof].concat();
        for enough in [3000, 7] {
            let mut count = 0;
            let take = |row: &Row| {
                assert_eq!(row[0].as_deref(), Some(&b"x"[..]));
                count += 1;
                if count == enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            asked_each(&[IN, &answer], take).await.expect("an answer");
            assert_eq!(count, enough);
        }
        let error = asked(&[IN, &answer]).await.unwrap_err();
        assert!(error.to_string().contains("more than 1024 rows"), "{error}");
    }
}
