//! Just enough of WebSockets (RFC 6455) to see that they pass: the handshake, short text frames.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::client::Client;
use crate::http::{self, Request};

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket(BufReader<TcpStream>);

/// Shakes hands. Without success: the answer's status.
///
/// # Errors
/// The status of an answer other than 101.
pub fn open(client: &Client, edge: SocketAddr, target: &str) -> Result<WebSocket, u16> {
    let request = Request::new("GET", target)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let exchange = http::open(edge, &client.with_cookies(request)).expect("an answer");
    if exchange.status == 101 { Ok(WebSocket(exchange.into_stream())) } else { Err(exchange.status) }
}

impl WebSocket {
    /// Sends a text of at most 125 bytes.
    pub fn send(&mut self, text: &str) {
        let mask = [1, 2, 3, 4];
        let length = u8::try_from(text.len()).expect("a short text");
        assert!(length <= 125);
        let mut frame = vec![0x81, 0x80 | length];
        frame.extend_from_slice(&mask);
        frame.extend(text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.0.get_mut().write_all(&frame).expect("sent");
    }

    /// The next text of at most 125 bytes.
    pub fn receive(&mut self) -> String {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).expect("a frame");
        assert_eq!(head[0], 0x81, "a whole text");
        assert!(head[1] <= 125, "short, and not masked");
        let mut text = vec![0; usize::from(head[1])];
        self.0.read_exact(&mut text).expect("the rest of the frame");
        String::from_utf8(text).expect("text")
    }
}
