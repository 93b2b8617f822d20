//! Ways around the policy, and ways out of the site.

use std::time::Duration;

use edgekeep_tests::client::Client;
use edgekeep_tests::http::Request;
use edgekeep_tests::raw;

use crate::{site, world};

/// As fast as loopback is: what comes, comes at once.
const PATIENCE: Duration = Duration::from_millis(250);

/// Undoes escapes as often as there are any, backslashes and dots as well: what the most careless site would make of it.
fn most_carelessly_read(target: &str) -> String {
    let mut path = target.split(['?', '#']).next().unwrap_or_default().as_bytes().to_vec();
    for _ in 0..4 {
        let mut decoded = Vec::new();
        let mut at = 0;
        while at < path.len() {
            let hex =
                path.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(core::str::from_utf8(hex).ok()?, 16).ok());
            match (path[at], hex) {
                (b'%', Some(byte)) => {
                    decoded.push(byte);
                    at += 3;
                }
                (byte, _) => {
                    decoded.push(byte);
                    at += 1;
                }
            }
        }
        path = decoded;
    }
    let text = String::from_utf8_lossy(&path).to_ascii_lowercase().replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        match segment.split(';').next().unwrap_or_default().trim_matches(['.', ' ', '\0']) {
            "" if segment.starts_with("..") => drop(segments.pop()),
            "" => {}
            plain => segments.push(plain),
        }
    }
    format!("/{}", segments.join("/"))
}

/// Nobody without a session reaches anything but public paths, however the request is written.
fn assert_only_public(requests: &[String]) {
    let (site, edge) = site();
    for request in requests {
        let answer = raw::exchange(edge, request.as_bytes(), PATIENCE);
        for arrived in site.take() {
            let target = arrived.line.split(' ').nth(1).unwrap();
            let read = most_carelessly_read(target);
            assert!(
                read == "/" || read.starts_with("/assets"),
                "{request:?} reached {target}, which can be read as {read}"
            );
            assert!(arrived.all("Edgekeep-User").is_empty(), "{request:?}");
        }
        assert!(!raw::statuses(&answer).is_empty(), "{request:?}: no answer");
    }
}

/// Authelia, and many others: the proxy's rule was matched with another path than the one that the site served.
#[test]
fn cve_2021_32637_path_encoding() {
    let mut targets: Vec<String> = Vec::new();
    let dots = [
        "..",
        "%2e%2e",
        ".%2e",
        "%2E.",
        "%252e%252e",
        "%25%32%65%25%32%65",
        "%252%65%252%65",
        "..;",
        "..;x=y",
        "..%00",
        "..%20",
        "%c0%ae%c0%ae",
        "%uff0e%uff0e",
        "．．",
    ];
    let slashes = ["/", "%2f", "%5c", "\\", "%252f", "%25%32%66", "//", "/./", "/;/", "%00/"];
    for dots in dots {
        for slash in slashes {
            targets.push(format!("/assets/{dots}{slash}dashboard"));
            targets.push(format!("/assets{slash}{dots}{slash}dashboard"));
        }
    }
    targets.extend(
        [
            "/./dashboard",
            "//dashboard",
            "/;/dashboard",
            "/%2fdashboard",
            "/assets/..%2f..%2fadmin",
            "/\tdashboard",
            "/%09/dashboard",
            "/assets/%0d%0a/../admin",
        ]
        .map(str::to_owned),
    );
    let requests: Vec<String> = targets
        .iter()
        .map(|target| format!("GET {target} HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n"))
        .collect();
    assert_only_public(&requests);
}

/// What the request's first line and `Host` make of a path together: what is decided on is what the site gets.
#[test]
fn the_target_and_the_host_cannot_be_played_against_each_other() {
    let mut requests = Vec::new();
    for target in [
        "/",
        "/assets/x",
        "/dashboard",
        "\\dashboard",
        "dashboard",
        "@site.test/dashboard",
        ":80/dashboard",
        "?/dashboard",
        "#/dashboard",
        "http://site.test/dashboard",
        "http://site.test\\dashboard",
        "http:\\\\site.test/dashboard",
        "//site.test/dashboard",
        "*",
        "/assets/x#/../../dashboard",
        "/assets/x?/../../dashboard",
        "/assets/x?\\..\\..\\dashboard",
    ] {
        for host in [
            "site.test",
            "site.test/dashboard?",
            "site.test/dashboard#",
            "site.test\\dashboard?",
            "site.test\\dashboard#",
            "site.test/assets/..\\dashboard?",
            "site.test/assets/x?",
            "a:b@site.test",
            "site.test?",
            "[::1",
            "%2fdashboard",
            "site.test/dash\tboard?",
            "site.test:99999",
        ] {
            requests.push(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        }
        requests.push(format!(
            "GET {target} HTTP/1.1\r\nHost: site.test\r\nHost: site.test/dashboard?\r\nConnection: close\r\n\r\n"
        ));
        requests.push(format!("CONNECT {target} HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n"));
    }
    assert_only_public(&requests);
}

/// oauth2-proxy: a rule for public paths was matched with the whole address, so a query made any path public.
#[test]
fn cve_2025_54576_query_strings() {
    let mut nobody = Client::new();
    for target in [
        "/dashboard?/assets/style.css",
        "/dashboard?x=/assets/style.css",
        "/dashboard?x=%2Fassets%2F",
        "/dashboard?%23/assets/x",
        "/dashboard??/assets/",
        "/dashboard#/assets/",
        "/dashboard?return_to=/",
        "/admin?.css",
        "/admin?_method=GET&path=/",
        "/dashboard/?/",
    ] {
        assert_eq!(nobody.get(world().edge(0), target).status, 401, "{target}");
    }
    // An escaped question mark belongs to the path, and does not end it.
    for target in ["/dashboard%3F/assets/style.css", "/admin%3f", "/admin%23x"] {
        assert_eq!(nobody.get(world().edge(0), target).status, 401, "{target}");
    }
}

/// better-auth: a place to return to passed the check and led elsewhere.
#[test]
fn cve_2025_27143_return_to() {
    let user = world().user("return");
    let mut browser = Client::new();
    let evil = [
        "//evil.test",
        "///evil.test",
        "////evil.test",
        "/\\evil.test",
        "\\\\evil.test",
        "\\/evil.test",
        "/\t/evil.test",
        "/\n/evil.test",
        "\t//evil.test",
        " //evil.test",
        "/%09/evil.test\u{0}",
        "/..//evil.test",
        "/.//evil.test",
        "/a/..//evil.test",
        "/%2e%2e//evil.test",
        "/%2E//evil.test",
        "https:evil.test",
        "https:/evil.test",
        "https://evil.test",
        "HTTPS://evil.test",
        "javascript:alert(1)",
        "data:text/html,x",
        "//evil.test@site.test",
        "//site.test@evil.test",
        "/\u{2028}/evil.test",
        "\u{ff0f}\u{ff0f}evil.test",
        "/\u{5c}evil.test",
        "evil.test",
        ".evil.test",
        "@evil.test",
        ":evil.test",
        "?//evil.test",
        "#//evil.test",
    ];
    for return_to in evil {
        let page = browser.send(world().edge(0), Request::navigate("/auth/login")).expect(200).text();
        let at = page.find("name=\"form_key\" value=\"").unwrap();
        let form_key = page[at..].split('"').nth(3).unwrap().to_owned();
        let fields = [
            ("form_key", form_key.as_str()),
            ("username", &user.name),
            ("password", &user.password),
            ("return_to", return_to),
        ];
        let response = browser.send(world().edge(1), Request::form("/auth/login", &fields)).expect(303);
        assert_eq!(response.header("Location"), Some("/"), "{return_to:?}");
        let shown = browser
            .send(world().edge(0), Request::navigate(&format!("/auth/login?return_to={}", escaped(return_to))))
            .expect(200)
            .text();
        assert!(!shown.contains("evil.test") && !shown.contains("alert(1)"), "{return_to:?}");
    }
    // Where a protected page sends people to sign in, the way back is checked like any other.
    for target in ["/dashboard?next=//evil.test", "/not/listed?x=https://evil.test"] {
        let response = Client::new().send(world().edge(0), Request::navigate(target)).expect(303);
        let location = response.header("Location").unwrap();
        assert!(location.starts_with("/auth/login?return_to=/"), "{location}");
    }
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
