//! A client of the HTTP door that sends bytes as they are, and reads what comes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::place::free_port;
use super::prometheus::Scraped;

const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Where a proxy's HTTP door is.
#[derive(Clone, Copy)]
pub struct HttpDoor(pub u16);

/// What came back. Names of fields are in lower case.
#[derive(Debug)]
pub struct HttpAnswer {
    pub status: u16,
    pub fields: BTreeMap<String, String>,
    pub body: String,
}

impl HttpDoor {
    /// A place for a door that no proxy has yet.
    pub fn new() -> Self {
        Self(free_port())
    }

    /// The section of the configuration, with further keys.
    pub fn toml(self, keys: &str) -> String {
        format!("[http]\nlisten = \"127.0.0.1:{}\"\n{keys}\n", self.0)
    }

    /// Whether anybody may connect.
    pub fn is_open(self) -> bool {
        TcpStream::connect(("127.0.0.1", self.0)).is_ok()
    }

    pub fn get(self, path: &str) -> HttpAnswer {
        self.ask("GET", path)
    }

    /// One request on a connection of its own.
    pub fn ask(self, method: &str, path: &str) -> HttpAnswer {
        let mut http = RawHttp::dial(self);
        http.send(format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes());
        http.answer(method == "HEAD").expect("an answer")
    }

    /// The metrics as they are now; fails the test where the format is broken.
    pub fn scrape(self) -> Scraped {
        let answer = self.get("/metrics");
        assert_eq!((answer.status, &*answer.fields["content-type"]), (200, METRICS), "{}", answer.body);
        Scraped::read(&answer.body).unwrap_or_else(|wrong| panic!("{wrong}\n{}", answer.body))
    }
}

const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One connection.
pub struct RawHttp(BufReader<TcpStream>);

impl RawHttp {
    pub fn dial(door: HttpDoor) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", door.0)).expect("connect to the HTTP door");
        stream.set_read_timeout(Some(ANSWER_LIMIT)).expect("set a limit");
        stream.set_write_timeout(Some(ANSWER_LIMIT)).expect("set a limit");
        Self(BufReader::new(stream))
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("send a request");
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// Asks for a page and keeps the connection.
    pub fn get(&mut self, path: &str) -> Option<HttpAnswer> {
        self.try_send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).ok()?;
        self.answer(false)
    }

    /// The next answer; none if the connection ends before one begins.
    pub fn answer(&mut self, without_body: bool) -> Option<HttpAnswer> {
        let status = self.line()?;
        let status = status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest[..3].parse().ok());
        let mut fields = BTreeMap::new();
        loop {
            let line = self.line().expect("the fields end with an empty line");
            let Some((name, value)) = line.split_once(": ") else { break };
            fields.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = fields.get("content-length").map_or(0, |length| length.parse().expect("a length"));
        let mut body = vec![0; if without_body { 0 } else { length }];
        self.0.read_exact(&mut body).expect("the body is whole");
        let body = String::from_utf8(body).expect("UTF-8");
        Some(HttpAnswer { status: status.expect("a status line"), fields, body })
    }

    /// Whether it has been closed by the door; waits for it.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 64]), Ok(0)) || self.0.get_ref().take_error().is_err()
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).ok().filter(|read| *read > 0)?;
        Some(line.trim_end_matches("\r\n").to_owned())
    }
}
