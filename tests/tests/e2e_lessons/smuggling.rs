//! Requests whose end two servers could see in different places (CWE-444), through the real gateway to a site that looks at
//! every byte.
//!
//! Refusing is fine, and so is one clear request. What must not happen: a second request that the gate did not decide on, or
//! anything at the site that could be read in two ways ([`edgekeep_tests::raw::Site`] finds both).

use std::time::Duration;

use edgekeep_tests::http::{self, Request};
use edgekeep_tests::raw;

use crate::site;

/// As fast as loopback is: what comes, comes at once.
const PATIENCE: Duration = Duration::from_millis(400);

/// What is hidden: a page that needs a role, with an identity.
const HIDDEN: &str = "GET /admin HTTP/1.1\r\nHost: site.test\r\nEdgekeep-User: forged\r\nX-Hidden: 1\r\n\r\n";

/// Sends a request that hides another one. Nothing of the hidden one may become a request of its own at the site, and
/// the next visitor gets the answer to what they asked.
fn hide(what: &str, head: &str, body: &str) {
    let (site, edge) = site();
    let request = format!("{head}\r\nHost: site.test\r\n{body}").replace("HIDDEN", HIDDEN);
    let answer = raw::exchange(edge, request.as_bytes(), PATIENCE);
    let statuses: Vec<u16> = raw::statuses(&answer).into_iter().filter(|status| *status != 100).collect();
    let mut arrived = site.take();
    for (n, status) in statuses.iter().enumerate().skip(1) {
        // What follows may be a request of its own, and is then decided about as one.
        assert!(matches!(status, 400 | 401 | 501), "{what}: answer {n} is {status}");
    }
    let next = http::send(edge, &Request::get("/assets/next")).unwrap();
    assert_eq!((next.status, next.text().as_str()), (200, "ok"), "{what}: the next visitor");
    // What was hidden may come late on a busy machine; the next visitor's request is there once, and is theirs.
    arrived.extend(site.take());
    for one in &arrived {
        assert!(!one.line.contains("/admin"), "{what}: the hidden request reached the site ({statuses:?})");
        let hidden = |line: &&String| line.contains("forged") || line.contains("X-Hidden");
        assert_eq!(one.headers.iter().find(hidden), None, "{what}: its headers reached the site");
    }
    let theirs: Vec<&str> =
        arrived.iter().map(|one| one.line.as_str()).filter(|line| line.contains("/assets/next")).collect();
    assert_eq!(theirs, ["GET /assets/next HTTP/1.1"], "{what}: the next visitor's request");
}

#[test]
fn a_length_and_chunks() {
    for (what, headers) in [
        ("CL.TE", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        ("TE.CL", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        ("a length of the whole", "Content-Length: 500\r\nTransfer-Encoding: chunked\r\n"),
        ("in capitals", "Content-Length: 5\r\nTRANSFER-ENCODING: CHUNKED\r\n"),
        ("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("chunked, then not", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        ("not, then chunked", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"),
        ("gzip and chunked", "Transfer-Encoding: gzip, chunked\r\n"),
        ("chunked and gzip", "Transfer-Encoding: chunked, gzip\r\nContent-Length: 5\r\n"),
        ("nearly chunked", "Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n"),
        ("quoted", "Transfer-Encoding: \"chunked\"\r\nContent-Length: 5\r\n"),
        ("with a vertical tab", "Transfer-Encoding: \u{b}chunked\r\nContent-Length: 5\r\n"),
        ("with a space before the colon", "Transfer-Encoding : chunked\r\nContent-Length: 5\r\n"),
        ("with a tab before the colon", "Transfer-Encoding\t: chunked\r\nContent-Length: 5\r\n"),
        ("folded", "Transfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n"),
        ("behind a bare CR", "X-A: b\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        ("behind a bare LF", "X-A: b\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        ("behind a NUL", "X-A: b\0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        ("with an underscore", "Transfer_Encoding: chunked\r\nContent-Length: 5\r\n"),
        ("in Connection", "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
    ] {
        hide(what, "POST / HTTP/1.1", &format!("{headers}\r\n0\r\n\r\nHIDDEN"));
        // The other way round: the site would read chunks where the edge counts.
        hide(what, "POST / HTTP/1.1", &format!("{headers}\r\n{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len()));
    }
}

#[test]
fn two_lengths_and_lengths_that_are_none() {
    let length = HIDDEN.len();
    for lengths in [
        format!("Content-Length: 0\r\nContent-Length: {length}\r\n"),
        format!("Content-Length: {length}\r\nContent-Length: 0\r\n"),
        format!("Content-Length: {length}\r\nContent-Length: {length}\r\n"),
        format!("Content-Length: 0, {length}\r\n"),
        format!("Content-Length: {length}, {length}\r\n"),
        format!("Content-Length: +{length}\r\n"),
        format!("Content-Length: -{length}\r\n"),
        format!("Content-Length: 0x{length:x}\r\n"),
        format!("Content-Length: 0{length}\r\n"),
        format!("Content-Length: {length}.0\r\n"),
        format!("Content-Length: {length} 0\r\n"),
        "Content-Length: 18446744073709551616\r\n".to_owned(),
        "Content-Length: 18446744073709551617\r\n".to_owned(),
        "Content-Length: \r\n".to_owned(),
        format!("Content_Length: {length}\r\n"),
        format!("Content-Length : {length}\r\n"),
        format!("Content-Length:\r\n {length}\r\n"),
    ] {
        hide(&lengths, "POST / HTTP/1.1", &format!("{lengths}\r\nHIDDEN"));
        hide(&format!("GET, {lengths}"), "GET / HTTP/1.1", &format!("{lengths}\r\nHIDDEN"));
    }
}

#[test]
fn chunks_that_are_none() {
    let length = format!("{:x}", HIDDEN.len());
    for body in [
        format!("{length};a=b\r\nHIDDEN\r\n0\r\n\r\n"),
        "5;\n\r\nhello\r\n0\r\n\r\nHIDDEN".to_owned(),
        "5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\nHIDDEN".to_owned(),
        "5\nhello\n0\n\nHIDDEN".to_owned(),
        "5\r\nhello0\r\n\r\nHIDDEN".to_owned(),
        "0x5\r\nhello\r\n0\r\n\r\nHIDDEN".to_owned(),
        "+5\r\nhello\r\n0\r\n\r\nHIDDEN".to_owned(),
        "-1\r\nHIDDEN".to_owned(),
        " 5\r\nhello\r\n0\r\n\r\nHIDDEN".to_owned(),
        "5 \r\nhello\r\n0\r\n\r\nHIDDEN".to_owned(),
        "00000000000000005\r\nhello\r\n0\r\n\r\nHIDDEN".to_owned(),
        "10000000000000005\r\nhello\r\n0\r\n\r\nHIDDEN".to_owned(),
        "ffffffffffffffff\r\nHIDDEN".to_owned(),
        "\r\nHIDDEN".to_owned(),
        "0\r\nHIDDEN".to_owned(),
        "0\r\nX-Hidden: 1\r\nEdgekeep-User: forged\r\nContent-Length: 9\r\n\r\nHIDDEN".to_owned(),
        "0\r\n\rHIDDEN".to_owned(),
    ] {
        hide(&body, "POST / HTTP/1.1", &format!("Transfer-Encoding: chunked\r\n\r\n{body}"));
    }
}

#[test]
fn first_lines_and_header_lines_that_are_none() {
    for (what, head, body) in [
        ("HTTP/0.9", "GET /", "\r\nHIDDEN"),
        ("HTTP/1.0 and chunks", "POST / HTTP/1.0", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nHIDDEN"),
        ("HTTP/1.2", "GET / HTTP/1.2", "\r\nHIDDEN"),
        ("a line end in the target", "GET /a\rb HTTP/1.1", "\r\n"),
        ("a second target", "GET / /admin HTTP/1.1", "\r\n"),
        ("bare line ends", "GET / HTTP/1.1\nX-A: b\n\nHIDDEN", "\r\n"),
        ("a line that begins with a space", "GET / HTTP/1.1", " X-Hidden: 1\r\n\r\n"),
        ("a folded line", "GET / HTTP/1.1", "X-A: b\r\n X-Hidden: 1\r\n\r\n"),
        ("no colon", "GET / HTTP/1.1", "X-Hidden\r\n\r\n"),
        ("no name", "GET / HTTP/1.1", ": forged\r\n\r\n"),
        ("a NUL", "GET / HTTP/1.1", "X-A: \0\r\n\r\nHIDDEN"),
        (
            "an upgrade to HTTP/2",
            "GET / HTTP/1.1",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\nHIDDEN",
        ),
        (
            "an upgrade that nobody answers",
            "GET / HTTP/1.1",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\n\r\nHIDDEN",
        ),
        ("an expectation", "POST / HTTP/1.1", "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhiHIDDEN"),
        ("an expectation of something else", "GET / HTTP/1.1", "Expect: 200-ok\r\n\r\nHIDDEN"),
        ("HEAD with a body", "HEAD / HTTP/1.1", "Content-Length: 2\r\n\r\nhiHIDDEN"),
        ("a body that is refused unread", "POST /admin HTTP/1.1", "Content-Length: 2\r\n\r\nhiHIDDEN"),
        ("a refused body that is the hidden request", "POST /dashboard HTTP/1.1", "Content-Length: 86\r\n\r\nHIDDEN"),
        (
            "a door's body that is too long",
            "POST /auth/login HTTP/1.1",
            "Content-Type: application/json\r\nContent-Length: 20000\r\n\r\nHIDDEN",
        ),
    ] {
        hide(what, head, body);
    }
}
