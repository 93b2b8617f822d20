//! `edgekeep health`: what a container without a shell or curl asks itself.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::output;
use crate::config::Config;

/// For the connection, and again for the whole answer.
const LIMIT: Duration = Duration::from_secs(2);
/// The most of an answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// Where a coordinator that listens at `listen` is reached from its own machine.
fn reached_at(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Status and body of an answer in HTTP/1.1, whose body is not chunked.
fn parse(answer: &str) -> Option<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, body))
}

/// `GET /readyz` of the coordinator with this configuration on this machine. Fails unless it is ready.
pub(super) fn health(config: &Config) -> anyhow::Result<()> {
    let address = reached_at(config.listen);
    let mut stream =
        TcpStream::connect_timeout(&address, LIMIT).with_context(|| format!("nothing answers at {address}"))?;
    let deadline = Instant::now() + LIMIT;
    stream.set_write_timeout(Some(LIMIT))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bail!("no answer from {address} within {} s", LIMIT.as_secs());
        }
        stream.set_read_timeout(Some(left))?;
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).with_context(|| format!("no answer from {address}"))?;
        bytes.extend_from_slice(piece.get(..length).unwrap_or_default());
        if length == 0 || bytes.len() >= MAX_ANSWER_BYTES {
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    match parse(&text) {
        Some((200, body)) => output::line(body.trim()),
        Some((status, body)) => bail!("not ready: {status} {}", body.trim()),
        None => bail!("{address} does not speak HTTP/1.1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_loopback_where_the_coordinator_listens_everywhere() {
        for (listen, asked) in
            [("0.0.0.0:8700", "127.0.0.1:8700"), ("[::]:1", "[::1]:1"), ("192.0.2.1:8700", "192.0.2.1:8700")]
        {
            assert_eq!(reached_at(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }

    #[test]
    fn only_a_whole_head_counts() {
        assert_eq!(parse("HTTP/1.1 200 OK\r\nx: y\r\n\r\n{}"), Some((200, "{}")));
        assert_eq!(parse("HTTP/1.1 503 Service Unavailable\r\n\r\n"), Some((503, "")));
        assert_eq!(parse("HTTP/1.1 200 OK\r\n"), None);
        assert_eq!(parse("SSH-2.0\r\n\r\n"), None);
    }
}
