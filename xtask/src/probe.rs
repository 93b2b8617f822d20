//! Is it up? Free ports and the smallest HTTP client that can tell.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::command;

/// A loopback port: the one that was asked for, or a free one for 0.
///
/// Free ones lie below those that the system gives to outgoing connections, so that none of these takes the port
/// before the part that it is meant for.
///
/// # Errors
/// If the asked-for port is taken.
pub fn port(asked: u16) -> Result<u16> {
    if asked != 0 {
        TcpListener::bind(("127.0.0.1", asked)).with_context(|| format!("port {asked} of 127.0.0.1 is taken"))?;
        return Ok(asked);
    }
    for _ in 0..200 {
        let mut random = [0; 2];
        getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        let port = 15_000 + u16::from_le_bytes(random) % 17_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no free port on 127.0.0.1")
}

/// The status of `GET path` at a loopback port, if it answers within `limit`.
#[must_use]
pub fn status(port: u16, path: &str, limit: Duration) -> Option<u16> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    stream.set_write_timeout(Some(limit)).ok()?;
    let question = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: */*\r\nconnection: close\r\n\r\n");
    stream.write_all(question.as_bytes()).ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    let text = core::str::from_utf8(&head).ok()?;
    text.strip_prefix("HTTP/1.1 ").or_else(|| text.strip_prefix("HTTP/1.0 "))?.parse().ok()
}

/// The same over TLS, with whatever certificate: asked through Node.js, because nothing else here speaks TLS.
#[must_use]
pub fn status_over_tls(node: &Path, port: u16, path: &str, limit: Duration) -> Option<u16> {
    const SCRIPT: &str = "const [url, ms] = process.argv.slice(1); \
        require('node:https').get(url, { rejectUnauthorized: false, timeout: Number(ms) }, (answer) => { \
        console.log(answer.statusCode); process.exit(0); }).on('timeout', () => process.exit(1)).on('error', () => process.exit(1));";
    let mut command = Command::new(node);
    command.args(["-e", SCRIPT, &format!("https://127.0.0.1:{port}{path}"), &limit.as_millis().to_string()]);
    command::output(&mut command, "").ok()?.trim().parse().ok()
}
