//! A keep-alive connection that does as little as it can: the load generator shares the machine with what it measures.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// Longer than any answer may take that is measured here.
const PATIENCE: Duration = Duration::from_secs(30);
const BUFFER_BYTES: usize = 256 * 1024;
/// Room for a head, where there are many connections.
const SMALL_BUFFER_BYTES: usize = 4 * 1024;
const MAX_HEADERS: usize = 64;

/// One connection, used for one request after the other.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// What an answer says about itself.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// How long the body was.
    pub body_bytes: u64,
    /// `Set-Cookie`, each up to its first semicolon.
    pub cookies: Vec<String>,
}

/// How a body ends.
enum Ends {
    After(u64),
    Chunked,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn open(address: SocketAddr) -> Result<Self> {
        Self::open_with(address, BUFFER_BYTES)
    }

    /// The same with little memory: one of many.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn open_small(address: SocketAddr) -> Result<Self> {
        Self::open_with(address, SMALL_BUFFER_BYTES)
    }

    fn open_with(address: SocketAddr, buffer_bytes: usize) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: vec![0; buffer_bytes], start: 0, end: 0 })
    }

    /// Sends a whole request and reads the whole answer; its body goes into `body`, if that is given.
    ///
    /// # Errors
    /// If the connection ends, or the answer is not HTTP/1.1 with a length.
    pub fn exchange(&mut self, request: &[u8], body: Option<&mut Vec<u8>>) -> Result<Answer> {
        self.send(request)?;
        self.receive(body)
    }

    /// Sends a whole request.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn send(&mut self, request: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(request)?)
    }

    /// Reads a whole answer.
    ///
    /// # Errors
    /// As [`Connection::exchange`].
    pub fn receive(&mut self, mut body: Option<&mut Vec<u8>>) -> Result<Answer> {
        let (mut answer, ends) = loop {
            if let Some(head) = self.head()? {
                break head;
            }
            self.fill()?;
        };
        match ends {
            Ends::After(bytes) => self.take(bytes, &mut body)?,
            Ends::Chunked => loop {
                let bytes = self.chunk_head()?;
                self.take(bytes, &mut body)?;
                answer.body_bytes += bytes;
                self.take(2, &mut None)?;
                if bytes == 0 {
                    return Ok(answer);
                }
            },
        }
        if let Ends::After(bytes) = ends {
            answer.body_bytes = bytes;
        }
        Ok(answer)
    }

    fn head(&mut self) -> Result<Option<(Answer, Ends)>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut headers);
        let status = parsed.parse(&self.buffer[self.start..self.end]).context("not an HTTP answer")?;
        let httparse::Status::Complete(length) = status else { return Ok(None) };
        let mut answer = Answer { status: parsed.code.unwrap_or_default(), ..Answer::default() };
        let mut ends = Ends::After(0);
        for header in parsed.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                ends = Ends::After(core::str::from_utf8(header.value)?.trim().parse()?);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                ends = Ends::Chunked;
            } else if header.name.eq_ignore_ascii_case("set-cookie") {
                let text = core::str::from_utf8(header.value)?;
                answer.cookies.push(text.split(';').next().unwrap_or_default().to_owned());
            }
        }
        self.start += length;
        Ok(Some((answer, ends)))
    }

    fn chunk_head(&mut self) -> Result<u64> {
        loop {
            let have = &self.buffer[self.start..self.end];
            if let Some(line) = have.windows(2).position(|pair| pair == b"\r\n") {
                let text = core::str::from_utf8(&have[..line])?;
                let bytes = u64::from_str_radix(text.split(';').next().unwrap_or_default().trim(), 16)?;
                self.start += line + 2;
                return Ok(bytes);
            }
            self.fill()?;
        }
    }

    fn take(&mut self, bytes: u64, body: &mut Option<&mut Vec<u8>>) -> Result<()> {
        let mut left = bytes;
        loop {
            let have = (self.end - self.start).min(usize::try_from(left)?);
            if let Some(body) = body {
                body.extend_from_slice(&self.buffer[self.start..self.start + have]);
            }
            self.start += have;
            left -= have as u64;
            if left == 0 {
                return Ok(());
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let read = self.stream.read(&mut self.buffer[self.end..])?;
        if read == 0 {
            bail!("the connection ended in the middle of an answer");
        }
        self.end += read;
        Ok(())
    }
}

/// A request's bytes, with the headers that a browser's script would send; `more` are whole header lines.
#[must_use]
pub fn request(method: &str, target: &str, more: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: edgekeep-bench\r\nAccept: */*\r\n\
         Accept-Language: en\r\n"
    );
    for (name, value) in more {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || !matches!(method, "GET" | "HEAD") {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers these bytes a few at a time.
    fn answered(text: &'static [u8], at_once: usize) -> (Result<Answer>, Vec<u8>) {
        let Ok(listener) = TcpListener::bind("127.0.0.1:0") else { panic!("no port") };
        let Ok(address) = listener.local_addr() else { panic!("no address") };
        let server = std::thread::spawn(move || {
            if let Ok((mut stream, _)) = listener.accept() {
                for part in text.chunks(at_once) {
                    let _ = stream.write_all(part);
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let mut body = Vec::new();
        let answer =
            Connection::open(address).and_then(|mut open| open.exchange(b"GET / HTTP/1.1\r\n\r\n", Some(&mut body)));
        let _ = server.join();
        (answer, body)
    }

    #[test]
    fn bodies_with_a_length_and_in_chunks_are_read_however_they_arrive() {
        for at_once in [1, 7, 1000] {
            let (answer, body) = answered(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", at_once);
            assert_eq!(answer.map(|answer| (answer.status, answer.body_bytes)).ok(), Some((200, 5)));
            assert_eq!(body, b"hello");
            let chunked = b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a=b; Path=/\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";
            let (answer, body) = answered(chunked, at_once);
            let told = answer.map(|answer| (answer.status, answer.body_bytes, answer.cookies)).ok();
            assert_eq!(told, Some((401, 13, vec!["a=b".to_owned()])));
            assert_eq!(body, b"abc0123456789");
        }
    }

    #[test]
    fn an_answer_that_is_cut_off_is_an_error() {
        assert!(answered(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", 100).0.is_err());
        assert!(answered(b"what is this", 100).0.is_err());
    }
}
