//! Bodies that are too large, never end, or come one byte at a time.

use std::time::{Duration, Instant};

use edgekeep_tests::client::Client;
use edgekeep_tests::http::Request;
use edgekeep_tests::raw;

use crate::world;

/// How long a door waits for a body, and something for the machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn head(door: &str, framing: &str) -> String {
    format!(
        "POST {door} HTTP/1.1\r\nHost: {}\r\nSec-Fetch-Site: same-origin\r\nIdempotency-Key: k\r\nContent-Type: application/json\r\n{framing}\r\n\r\n",
        world().edge(0)
    )
}

/// A body that drips keeps nobody else waiting, and is given up.
#[test]
fn slow_bodies_are_given_up_and_hold_nobody_up() {
    let user = world().user("slow");
    std::thread::scope(|scope| {
        let slow: Vec<_> = ["Content-Length: 10000", "Transfer-Encoding: chunked"]
            .into_iter()
            .flat_map(|framing| ["/auth/login", "/auth/logout-everywhere", "/auth/logout"].map(|door| (door, framing)))
            .flat_map(|slow| [slow; 4])
            .map(|(door, framing)| {
                scope.spawn(move || {
                    let piece: &[u8] = if framing.starts_with('C') { b" " } else { b"1\r\n \r\n" };
                    let until = Instant::now() + PATIENCE;
                    raw::drip(world().edge(0), &head(door, framing), piece, Duration::from_millis(250), until).0
                })
            })
            .collect();
        // Meanwhile everything else goes on, on the same isolate.
        let mut client = Client::new();
        assert_eq!(client.login(world().edge(0), &user).status, 200);
        for _ in 0..20 {
            assert_eq!(client.get(world().edge(0), "/dashboard").status, 200);
        }
        for answer in slow {
            let answer = answer.join().unwrap();
            assert_eq!(raw::statuses(&answer), [400], "{answer}");
        }
    });
}

/// A length that promises gigabytes is refused by what it says; a stream without one as soon as it is past the limit.
#[test]
fn oversized_bodies_are_refused_before_they_are_read() {
    for door in ["/auth/login", "/auth/logout-everywhere", "/auth/logout", "/auth/sessions/end"] {
        let promised = raw::exchange(
            world().edge(1),
            head(door, "Content-Length: 99999999999").as_bytes(),
            Duration::from_secs(2),
        );
        assert!(matches!(raw::statuses(&promised).as_slice(), [400 | 401 | 413]), "{door}: {promised}");
        let chunk = format!("{:x}\r\n{}\r\n", 4_096, "x".repeat(4_096));
        let endless = raw::exchange(
            world().edge(1),
            (head(door, "Transfer-Encoding: chunked") + &chunk.repeat(64)).as_bytes(),
            Duration::from_secs(2),
        );
        assert!(matches!(raw::statuses(&endless).as_slice(), [400 | 401 | 413]), "{door}: {endless}");
    }
    // Many fields, deep nesting, long names: refused or read, never a crash that empties the isolate's memory.
    let deep = format!("{}{}", "[".repeat(8_000), "]".repeat(8_000));
    let (_, mut client) = world().someone("deep");
    for body in [
        format!("{{\"username\":{deep}}}"),
        format!("{{\"a\":{}1{}}}", "{\"a\":".repeat(2_500), "}".repeat(2_500)),
        format!("{{{}\"z\":1}}", "\"a\":1,".repeat(2_000)),
        "&".repeat(16_000),
        "a&".repeat(8_000),
    ] {
        let content_type = if body.starts_with('{') { "application/json" } else { "application/x-www-form-urlencoded" };
        let request = Request::new("POST", "/auth/login")
            .header("Accept", "application/json")
            .header("Sec-Fetch-Site", "same-origin")
            .key("k")
            .body(content_type, body);
        assert_eq!(client.send(world().edge(1), request).status, 400);
    }
    assert_eq!(client.get(world().edge(1), "/dashboard").status, 200);
    assert_eq!(
        client.get(world().edge(1), "/auth/session").expect(200).json()["check"]["how"],
        "local",
        "the isolate still knows what it knew"
    );
}
