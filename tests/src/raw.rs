//! Bytes as they are: requests that no client would send, and a site that notes what reaches it, byte by byte.
//!
//! Servers in a row must agree about where a request ends. [`Site`] reads what the edge sends it by the letter of RFC 9112 and
//! finds everything that another server could read differently: two lengths, a length beside chunks, folded or
//! malformed header lines, bare line ends.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Sends these bytes on one connection and reads whatever comes until the other side closes it or has been silent for
/// `patience`.
#[must_use]
pub fn exchange(address: SocketAddr, bytes: &[u8], patience: Duration) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(patience)).expect("a timeout");
    // The other side may have closed already: what it said counts.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut part = [0; 16_384];
    while let Ok(count) = stream.read(&mut part)
        && count > 0
    {
        answer.extend_from_slice(&part[..count]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// The statuses of the answers in what [`exchange`] read, in order.
#[must_use]
pub fn statuses(answer: &str) -> Vec<u16> {
    let begins = answer.match_indices("HTTP/1.1 ").map(|(at, _)| &answer[at + 9..]);
    begins.filter_map(|rest| rest.get(..3)?.parse().ok()).collect()
}

/// A request as it reached the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// The first line.
    pub line: String,
    /// Header lines, as they are.
    pub headers: Vec<String>,
    /// The body, without the framing of chunks.
    pub body: Vec<u8>,
    /// The connection ended within the body: to a site that knows its trade this is no request.
    pub cut: bool,
}

impl Arrived {
    /// All values of a header.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        let pairs = self.headers.iter().filter_map(|line| line.split_once(':'));
        pairs.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }
}

/// A site that answers everything with `200 ok` and notes it.
#[derive(Debug)]
pub struct Site {
    /// Where it listens.
    pub address: SocketAddr,
    arrived: Arc<Mutex<Vec<Result<Arrived, String>>>>,
    answer: Arc<Mutex<String>>,
}

impl Site {
    /// Starts one; it goes with the process.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::new(Mutex::new(String::new()));
        let (notes, headers) = (arrived.clone(), answer.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (notes, headers) = (notes.clone(), headers.clone());
                thread::spawn(move || serve(&stream, &notes, &headers));
            }
        });
        Self { address, arrived, answer }
    }

    /// From now on answers have these header lines, each ended with CR LF.
    pub fn answer_with(&self, header_lines: &str) {
        header_lines.clone_into(&mut self.answer.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What has arrived since the last time.
    ///
    /// # Panics
    /// If any of it could be read in two ways.
    #[track_caller]
    pub fn take(&self) -> Vec<Arrived> {
        let all = std::mem::take(&mut *self.arrived.lock().unwrap_or_else(PoisonError::into_inner));
        all.into_iter()
            .map(|one| one.unwrap_or_else(|what| panic!("the edge sent something ambiguous: {what}")))
            .collect()
    }
}

fn serve(stream: &TcpStream, notes: &Mutex<Vec<Result<Arrived, String>>>, headers: &Mutex<String>) {
    let mut buffer = Buffer { stream, bytes: Vec::new() };
    loop {
        let request = match buffer.request() {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(what) => {
                let shown = format!("{what}: {:?}", String::from_utf8_lossy(&buffer.bytes));
                notes.lock().unwrap_or_else(PoisonError::into_inner).push(Err(shown));
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
        };
        let (head, cut) = (request.line.starts_with("HEAD "), request.cut);
        notes.lock().unwrap_or_else(PoisonError::into_inner).push(Ok(request));
        if cut {
            return;
        }
        let headers = headers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{headers}\r\n{}", if head { "" } else { "ok" });
        if (&*stream).write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

struct Buffer<'a> {
    stream: &'a TcpStream,
    bytes: Vec<u8>,
}

impl Buffer<'_> {
    /// Reads more; false at the end.
    fn more(&mut self) -> bool {
        let mut part = [0; 16_384];
        match (&*self.stream).read(&mut part) {
            Ok(count) if count > 0 => {
                self.bytes.extend_from_slice(&part[..count]);
                true
            }
            _ => false,
        }
    }

    /// A line that ends with CR LF, without it. `None` at the end of the connection.
    fn line(&mut self) -> Result<Option<String>, String> {
        loop {
            if let Some(at) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=at).collect();
                let text = line.strip_suffix(b"\r\n").ok_or("a bare line end")?;
                if text.iter().any(|byte| matches!(byte, b'\r' | 0)) {
                    return Err("a bare CR or a NUL in a line".into());
                }
                return Ok(Some(String::from_utf8_lossy(text).into_owned()));
            }
            if !self.more() {
                return if self.bytes.is_empty() { Ok(None) } else { Err("a line that is cut short".into()) };
            }
        }
    }

    fn request(&mut self) -> Result<Option<Arrived>, String> {
        let Some(line) = self.line()? else { return Ok(None) };
        if line.split(' ').count() != 3 || !line.ends_with(" HTTP/1.1") {
            return Err(format!("a first line that is none: {line}"));
        }
        let mut request = Arrived { line, headers: Vec::new(), body: Vec::new(), cut: false };
        loop {
            let header = self.line()?.ok_or("no end of headers")?;
            if header.is_empty() {
                break;
            }
            let name = header.split(':').next().unwrap_or_default();
            let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
            if name.is_empty() || name.len() == header.len() || !name.bytes().all(token) {
                return Err(format!("a header line that is none: {header}"));
            }
            request.headers.push(header);
        }
        let lengths: Vec<String> = request.all("Content-Length").into_iter().map(str::to_owned).collect();
        let codings: Vec<String> = request.all("Transfer-Encoding").into_iter().map(str::to_owned).collect();
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => {}
            ([length], []) if !length.is_empty() && length.bytes().all(|c| c.is_ascii_digit()) => {
                let length = length.parse().map_err(|_| "a length that is none")?;
                request.cut = !self.body(length, &mut request.body);
            }
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => {
                request.cut = !self.chunks(&mut request.body)?
            }
            _ => return Err(format!("a body of two lengths: {lengths:?} {codings:?}")),
        }
        Ok(Some(request))
    }

    /// Moves so many bytes into the body; false if the connection ends before.
    fn body(&mut self, count: usize, body: &mut Vec<u8>) -> bool {
        while self.bytes.len() < count {
            if !self.more() {
                return false;
            }
        }
        body.extend(self.bytes.drain(..count));
        true
    }

    /// Reads chunks to the last one; false if the connection ends before.
    fn chunks(&mut self, body: &mut Vec<u8>) -> Result<bool, String> {
        loop {
            let Some(size) = self.line()? else { return Ok(false) };
            if size.is_empty() || !size.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(format!("a chunk size that is none: {size}"));
            }
            let size = usize::from_str_radix(&size, 16).map_err(|_| "a chunk size that is none")?;
            let mut end = Vec::new();
            if !self.body(size, body) || !self.body(2, &mut end) {
                return Ok(false);
            }
            if end != b"\r\n" {
                return Err("a chunk without an end".into());
            }
            if size == 0 {
                return Ok(true);
            }
        }
    }
}

/// Sends a head and then a body in pieces with pauses, until an answer comes or `until` has passed; gives the answer and
/// when it came.
#[must_use]
pub fn drip(address: SocketAddr, head: &str, piece: &[u8], pause: Duration, until: Instant) -> (String, Instant) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(pause)).expect("a timeout");
    let _ = stream.write_all(head.as_bytes());
    let mut part = [0; 4_096];
    while Instant::now() < until {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => return (String::from_utf8_lossy(&part[..count]).into_owned(), Instant::now()),
            Err(_) => {
                if stream.write_all(piece).is_err() {
                    break;
                }
            }
        }
    }
    (String::new(), Instant::now())
}
