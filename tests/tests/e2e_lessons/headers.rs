//! Identity headers and cookies that are not what they seem, on their way to the site.

use edgekeep_tests::client::Client;
use edgekeep_tests::http::{self, Request};
use edgekeep_tests::raw::{self, Arrived};
use edgekeep_tests::shape::assert_no_session;

use crate::{site, world};

/// As fast as loopback is: what comes, comes at once.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(400);

/// Whatever an origin could take for one of our identity headers, case and separators folded.
fn identities(arrived: &Arrived) -> Vec<String> {
    let folded = |line: &&String| {
        line.split(':')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
            .replace(|c: char| !c.is_ascii_alphanumeric(), "-")
    };
    let ours = arrived.headers.iter().filter(|line| folded(line).starts_with("edgekeep"));
    ours.cloned().collect()
}

/// Traefik: headers named in `Connection` were dropped on the way, the proxy's own identity headers among them.
#[test]
fn cve_2024_45410_headers_listed_in_connection() {
    let (user, client) = world().someone("listed");
    let (site, edge) = site();
    let cookie = client.jar.header().unwrap();
    for lines in [
        "Connection: close, Edgekeep-User, Edgekeep-Roles, Edgekeep-Assertion, Cookie, Host\r\n",
        "Connection: close\r\nConnection: edgekeep-user,EDGEKEEP-ASSERTION\r\n",
        "connection: close,edgekeep-user\r\nKeep-Alive: Edgekeep-User\r\nProxy-Connection: Edgekeep-User\r\n",
        "Connection: close, TE, Trailer\r\nTE: trailers\r\nTrailer: Edgekeep-User\r\n",
    ] {
        let request = format!("GET /dashboard HTTP/1.1\r\nHost: site.test\r\n{lines}Cookie: {cookie}; kept=1\r\n\r\n");
        assert_eq!(raw::statuses(&raw::exchange(edge, request.as_bytes(), PATIENCE)), [200], "{lines}");
        let arrived = site.take();
        assert_eq!(arrived.len(), 1, "{lines}");
        assert_eq!(arrived[0].all("Edgekeep-User"), [user.name.as_str()], "{lines}");
        assert_eq!(arrived[0].all("Edgekeep-Assertion").len(), 1, "{lines}");
        assert_eq!(arrived[0].all("Cookie"), ["kept=1"], "{lines}");
        let passed_on = arrived[0].all("Connection").join(",").to_ascii_lowercase();
        assert!(!passed_on.contains("edgekeep") && !passed_on.contains("cookie"), "{passed_on}");
    }
}

/// Next.js, and every proxy before it: a header that only the inside may set came from outside.
#[test]
fn cve_2025_29927_identity_headers_in_every_spelling() {
    let (site, edge) = site();
    let names = ["User", "User-Id", "Roles", "Session", "Assertion", "Request-Id", "Anything"];
    let mut lines = String::new();
    for name in names {
        for prefix in [
            "Edgekeep-",
            "edgekeep_",
            "EDGEKEEP.",
            "eDgEkEeP~",
            "Edgekeep!",
            "Edgekeep*",
            "edgekeep+",
            "Edgekeep|",
            "Edgekeep^",
            "Edgekeep`",
            "Edgekeep'",
        ] {
            lines.push_str(&format!(
                "{prefix}{name}: forged\r\n{}{}: forged\r\n",
                prefix.to_lowercase(),
                name.replace('-', "_")
            ));
        }
    }
    for target in ["/", "/assets/x"] {
        // Twice each, folded into one another by comma, and behind line ends that only some servers know.
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: site.test\r\n{lines}{lines}X-A: b\nEdgekeep-User: forged\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(raw::statuses(&raw::exchange(edge, request.as_bytes(), PATIENCE)), [200]);
        let arrived = site.take();
        assert_eq!(arrived.len(), 1);
        let identities = identities(&arrived[0]);
        assert!(
            identities.len() == 1 && identities[0].to_lowercase().starts_with("edgekeep-request-id:"),
            "{identities:?}"
        );
        assert!(!arrived[0].headers.iter().any(|line| line.contains("forged")), "{:?}", arrived[0].headers);
    }
    // In a trailer.
    let request = "POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\nTrailer: Edgekeep-User\r\nConnection: close\r\n\r\n\
                   2\r\nhi\r\n0\r\nEdgekeep-User: forged\r\n\r\n";
    let _ = raw::exchange(edge, request.as_bytes(), PATIENCE);
    for arrived in site.take() {
        assert!(!arrived.headers.iter().any(|line| line.contains("forged")), "{:?}", arrived.headers);
    }
}

/// PHP and Werkzeug: names that some software reads as `__Host-…` though any neighbour may set them.
#[test]
fn cve_2022_31629_and_cve_2023_23934_look_alike_cookie_names() {
    let (_, client) = world().someone("alike");
    let header = client.jar.header().unwrap();
    let (name, value) = header.split_once('=').unwrap();
    let tail = &name["__Host-".len()..];
    for alike in [
        format!("_[Host-{tail}"),
        format!("..Host-{tail}"),
        format!("_.Host-{tail}"),
        format!(" _Host-{tail}"),
        format!("={name}"),
        format!("=={name}"),
        format!("__host-{tail}"),
        format!("__HOST-{tail}"),
        format!("__Secure-{tail}"),
        format!("__Host-{}", tail.to_uppercase()),
        format!("%5F_Host-{tail}"),
        format!("x={name}"),
        format!("\"{name}"),
        format!("{name} "),
        format!("{name}\u{a0}"),
        format!("\u{feff}{name}"),
    ] {
        // Alone it is no session; beside the real one it displaces nothing, wherever it stands.
        let alone = Client::new()
            .send(world().edge(0), Request::get("/dashboard").header("Cookie", &format!("{alike}={value}")));
        assert_eq!((alone.status, alone.code().as_deref()), (401, Some("no_session")), "{alike:?}");
        for cookies in [
            format!("{alike}=forged; {header}"),
            format!("{header}; {alike}=forged"),
            format!("{header}; {alike}={value}"),
        ] {
            let response =
                http::send(world().edge(1), &Request::get("/auth/session").header("Cookie", &cookies)).unwrap();
            assert_eq!(response.status, 200, "{cookies:?}: {}", response.text());
        }
    }
    // What looks like ours does not reach the site, so that nothing there can take it for ours.
    let echo = |cookies: &str| {
        let response = Client::new().send(world().edge(0), Request::get("/echo").header("Cookie", cookies)).expect(200);
        response.json()["headers"].to_string()
    };
    for alike in [format!("={name}"), name.to_uppercase(), format!("a, {name}")] {
        assert!(!echo(&format!("{header}; {alike}=forged; b=2")).contains("forged"), "{alike}");
    }
    // A flood of them pushes nothing out: only names of exactly our prefix are looked at.
    let flood: String = (0..200).map(|n| format!("__host-edgekeep-{n:08x}=x; _[Host-edgekeep-{n:08x}=x; ")).collect();
    assert_eq!(
        Client::new()
            .send(world().edge(0), Request::get("/dashboard").header("Cookie", &format!("{header}; {flood}a=1")))
            .status,
        200
    );
}

/// A name that a client sends comes back when it is cleared: it must not become another header or another attribute.
#[test]
fn what_is_cleared_cannot_be_turned_into_something_else() {
    for name in [
        "__Host-edgekeep-\u{20ac}",
        "__Host-edgekeep-\"",
        "__Host-edgekeep-,x",
        "__Host-edgekeep-Domain",
        "__Host-edgekeep-\u{1}",
    ] {
        let response =
            Client::new().try_send(world().edge(0), Request::get("/dashboard").header("Cookie", &format!("{name}=1")));
        let response = response.unwrap();
        assert_no_session(&response, "invalid");
        for cleared in response.all("Set-Cookie") {
            assert!(cleared.ends_with("=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax"), "{cleared}");
            assert_eq!(cleared.matches(';').count(), 5, "{cleared}");
        }
    }
}
