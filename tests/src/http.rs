//! HTTP/1.1 by hand, so that a test decides about every byte: paths that no library would send, headers in any
//! spelling, fields given twice, answers read bit by bit.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a connection may stay silent.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Path and query, sent as they are.
    pub target: String,
    /// Headers, sent as they are. `Host` and `Content-Length` are added.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// A request without a body.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.into(), target: target.into(), headers: Vec::new(), body: Vec::new() }
    }

    /// A `GET` by a program.
    #[must_use]
    pub fn get(target: &str) -> Self {
        Self::new("GET", target).header("Accept", "application/json")
    }

    /// What a browser sends when a person opens an address.
    #[must_use]
    pub fn navigate(target: &str) -> Self {
        Self::new("GET", target)
            .header("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
            .header("Sec-Fetch-Mode", "navigate")
            .header("Sec-Fetch-Site", "none")
            .header("Sec-Fetch-Dest", "document")
    }

    /// A `POST` of JSON by a program.
    #[must_use]
    pub fn json(target: &str, body: &Value) -> Self {
        Self::new("POST", target).header("Accept", "application/json").body("application/json", body.to_string())
    }

    /// A `POST` of a form, as a page of the same origin sends it.
    #[must_use]
    pub fn form(target: &str, fields: &[(&str, &str)]) -> Self {
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", form_encoded(value))).collect();
        Self::new("POST", target)
            .header("Accept", "text/html,application/xhtml+xml")
            .header("Sec-Fetch-Mode", "navigate")
            .header("Sec-Fetch-Site", "same-origin")
            .body("application/x-www-form-urlencoded", body.join("&"))
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With this header instead of those of the same name.
    #[must_use]
    pub fn only_header(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.header(name, value)
    }

    /// Without headers of this name.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    /// With an idempotency key.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.header("Idempotency-Key", key)
    }

    /// With a body of this type.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("Content-Type", content_type)
    }

    fn bytes(&self, host: &SocketAddr) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        let chunked = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("Transfer-Encoding"));
        if chunked {
            // The body is chunks already.
        } else if !self.body.is_empty() || matches!(self.method.as_str(), "POST" | "PUT" | "PATCH") {
            out.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        out
    }
}

fn form_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Headers in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Just before the request was sent.
    pub sent: Instant,
    /// When the answer was there.
    pub received: Instant,
}

impl Response {
    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// All headers of this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON in the answer {}: {}", self.status, self.text()))
    }

    /// The problem's code, if the body is a problem.
    #[must_use]
    pub fn code(&self) -> Option<String> {
        serde_json::from_slice::<Value>(&self.body).ok()?["code"].as_str().map(str::to_owned)
    }

    /// The problem's reason, if the body is a problem that has one.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        serde_json::from_slice::<Value>(&self.body).ok()?["reason"].as_str().map(str::to_owned)
    }

    /// Status and code, for comparing and for messages.
    #[must_use]
    pub fn said(&self) -> (u16, String) {
        (self.status, self.code().unwrap_or_default())
    }

    /// The same answer, if it has this status.
    ///
    /// # Panics
    /// If it has not.
    #[track_caller]
    #[must_use]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?} {}", self.headers, self.text());
        self
    }
}

/// An answer whose head is there and whose body is still coming.
#[derive(Debug)]
pub struct Exchange {
    stream: BufReader<TcpStream>,
    /// The status.
    pub status: u16,
    /// Headers in order.
    pub headers: Vec<(String, String)>,
    sent: Instant,
    left: Left,
}

#[derive(Clone, Copy, Debug)]
enum Left {
    Bytes(usize),
    Chunks,
    UntilClose,
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Sends a request on a fresh connection and waits for the head of the answer.
///
/// # Errors
/// If the connection fails or what comes is not HTTP.
pub fn open(address: SocketAddr, request: &Request) -> io::Result<Exchange> {
    open_within(address, request, TIMEOUT)
}

/// The same; the connection may stay silent for so long.
fn open_within(address: SocketAddr, request: &Request, silence: Duration) -> io::Result<Exchange> {
    let stream = TcpStream::connect_timeout(&address, silence)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(silence))?;
    stream.set_write_timeout(Some(silence))?;
    open_on(BufReader::new(stream), address, request)
}

fn open_on(mut stream: BufReader<TcpStream>, address: SocketAddr, request: &Request) -> io::Result<Exchange> {
    let sent = Instant::now();
    // A server may answer before it has read all of a body that is too large: what it says counts.
    let _ = stream.get_mut().write_all(&request.bytes(&address));
    loop {
        let (status, headers) = read_head(&mut stream)?;
        if status == 100 {
            continue;
        }
        let header = |name: &str| {
            headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
        };
        let left = if request.method == "HEAD" || matches!(status, 101 | 204 | 304) {
            Left::Bytes(0)
        } else if header("Transfer-Encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            Left::Chunks
        } else if let Some(length) = header("Content-Length") {
            Left::Bytes(length.parse().map_err(|_| broken("Content-Length"))?)
        } else {
            Left::UntilClose
        };
        return Ok(Exchange { stream, status, headers, sent, left });
    }
}

fn read_line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn read_head(stream: &mut BufReader<TcpStream>) -> io::Result<(u16, Vec<(String, String)>)> {
    let first = read_line(stream)?;
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| broken(&first))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?;
        if line.is_empty() {
            return Ok((status, headers));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| broken(&line))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

impl Exchange {
    /// The next bytes of the body as they come; empty at its end.
    ///
    /// # Errors
    /// If the connection fails or the body is cut short.
    pub fn read_some(&mut self) -> io::Result<Vec<u8>> {
        match self.left {
            Left::Bytes(0) => Ok(Vec::new()),
            Left::Bytes(left) => {
                let mut bytes = vec![0; left.min(65_536)];
                let count = self.stream.read(&mut bytes)?;
                if count == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                bytes.truncate(count);
                self.left = Left::Bytes(left - count);
                Ok(bytes)
            }
            Left::Chunks => {
                let line = read_line(&mut self.stream)?;
                let size = line.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(size, 16).map_err(|_| broken("chunk size"))?;
                let mut bytes = vec![0; size];
                self.stream.read_exact(&mut bytes)?;
                // The empty line after the chunk, or after the last one.
                read_line(&mut self.stream)?;
                if size == 0 {
                    self.left = Left::Bytes(0);
                }
                Ok(bytes)
            }
            Left::UntilClose => {
                let mut bytes = vec![0; 65_536];
                let count = self.stream.read(&mut bytes)?;
                bytes.truncate(count);
                Ok(bytes)
            }
        }
    }

    /// Reads the rest.
    ///
    /// # Errors
    /// If the connection fails or the body is cut short.
    pub fn finish(self) -> io::Result<Response> {
        self.finish_and_keep().map(|(response, _)| response)
    }

    fn finish_and_keep(mut self) -> io::Result<(Response, BufReader<TcpStream>)> {
        let mut body = Vec::new();
        loop {
            let some = self.read_some()?;
            if some.is_empty() {
                break;
            }
            body.extend_from_slice(&some);
        }
        let Self { stream, status, headers, sent, .. } = self;
        Ok((Response { status, headers, body, sent, received: Instant::now() }, stream))
    }

    /// The connection itself, after a switch of protocols.
    #[must_use]
    pub fn into_stream(self) -> BufReader<TcpStream> {
        self.stream
    }
}

/// Sends a request on a fresh connection and reads the whole answer.
///
/// # Errors
/// If the connection fails, or is cut before the answer's end.
pub fn send(address: SocketAddr, request: &Request) -> io::Result<Response> {
    open(address, request)?.finish()
}

/// A connection that is kept, for many requests in a row.
#[derive(Debug)]
pub struct Kept {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
    silence: Duration,
}

impl Kept {
    /// Connects with the first request.
    #[must_use]
    pub const fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, silence: TIMEOUT }
    }

    /// The same; the connection may stay silent for so long.
    #[must_use]
    pub const fn patient_for(address: SocketAddr, silence: Duration) -> Self {
        Self { address, stream: None, silence }
    }

    /// Sends a request. A connection that was closed meanwhile is made anew.
    ///
    /// # Errors
    /// If the connection fails.
    pub fn send(&mut self, request: &Request) -> io::Result<Response> {
        let exchange = match self.stream.take() {
            Some(stream) => match open_on(stream, self.address, request) {
                Ok(exchange) => exchange,
                Err(error) if timed_out(&error) => return Err(error),
                Err(_) => open_within(self.address, request, self.silence)?,
            },
            None => open_within(self.address, request, self.silence)?,
        };
        let (response, stream) = exchange.finish_and_keep()?;
        let closes = response.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        self.stream = (!closes).then_some(stream);
        Ok(response)
    }
}

/// The other side has said nothing for too long. (A closed connection that was kept is another thing.)
fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
