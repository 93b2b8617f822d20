//! Paths, the policy that they are matched with, and where a login leads back to.

use edgekeep_shared::path;
use edgekeep_shared::policy::{Access, Matched, Policy};
use edgekeep_shared::return_to;
use serde_json::Value;
use url::Url;

use super::texts;

pub fn path_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "/",
        "/a/b.c",
        "/%61dmin",
        "/caf%C3%A9/",
        "/a%25",
        "/a%2fb",
        "/%252e",
        "/a/../b",
        "/a;b",
        "/assets/%25%32%65",
        "/%5c",
        "/~a+b,c@d:e",
    ])
}

/// Undoes escapes as the most careless server would: whatever can be undone.
fn decoded_once(bytes: &[u8]) -> Vec<u8> {
    let digit = |at: usize| bytes.get(at).and_then(|c| char::from(*c).to_digit(16)).map(|digit| digit as u8);
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            (byte, _, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// However often a server decodes what was accepted, it is the same path: no new segment, no dots, nothing to cut off.
pub fn path(bytes: &[u8]) -> bool {
    let Ok(raw) = core::str::from_utf8(bytes) else { return false };
    let Ok(decoded) = path::check(raw) else { return false };
    if raw.contains(['?', '#']) {
        return false; // Not a path: the URL was split before.
    }
    assert_eq!(decoded.as_bytes(), decoded_once(bytes), "decoded as everybody decodes");
    let mut again = bytes.to_vec();
    for _ in 0..4 {
        assert_eq!(count(&again, b'/'), count(bytes, b'/'), "a slash appears: {raw}");
        assert!(
            !again.iter().any(|c| matches!(c, b'\\' | b';' | 0..=0x1f | 0x7f)),
            "something to trip over appears: {raw}"
        );
        let dots = |segment: &[u8]| matches!(segment, b"." | b"..");
        assert!(!again.split(|c| *c == b'/').any(dots), "dots appear: {raw}");
        again = decoded_once(&again);
    }
    assert!(!again.windows(2).any(|pair| pair == b"//"), "an empty segment: {raw}");
    // The worker forwards by URL: parsing it anew must not make another path of it.
    let url = Url::parse(&format!("http://site.test{raw}")).expect("a path that was accepted is one");
    assert_eq!(decoded_once(url.path().as_bytes()), decoded.as_bytes(), "another path on its way to the origin");
    assert_eq!((url.host_str(), url.query(), url.fragment()), (Some("site.test"), None, None));
    true
}

fn count(bytes: &[u8], wanted: u8) -> usize {
    bytes.iter().filter(|byte| **byte == wanted).count()
}

pub fn return_to_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "/",
        "/a/b?c=d&e=//x#f",
        "//evil.test",
        "/\\evil.test",
        "/..//evil.test",
        "/%2e%2E//evil.test",
        "/@evil.test",
        "/:80",
        "/a/..//b",
    ])
}

/// Joined to an address of this site, as browsers do, it stays on this site and is what it looks like.
pub fn return_to(bytes: &[u8]) -> bool {
    let Ok(reference) = core::str::from_utf8(bytes) else { return false };
    if !return_to::is_safe(reference) {
        assert_eq!(return_to::or_root(Some(reference)), "/");
        return false;
    }
    for base in ["https://site.test/auth/login?return_to=x", "http://127.0.0.1:8787/auth/login/", "https://site.test"] {
        let base = Url::parse(base).expect("a base");
        let joined = base.join(reference).expect("a reference that was accepted is one");
        assert_eq!(joined.origin(), base.origin(), "another site: {reference}");
        assert_eq!((joined.username(), joined.password()), ("", None));
        assert!(!joined.path().starts_with("//"), "a relative reference to it would lead away: {reference}");
        // Joined to its own result, as a second redirect would.
        assert_eq!(joined.join(joined.path()).map(|url| url.origin()), Ok(base.origin()));
    }
    true
}

pub fn policy_seeds() -> Vec<Vec<u8>> {
    let policy = r#"{"routes":[{"path":"/**","access":"public"},{"path":"/a/*","access":"session","max_staleness_ms":0},
        {"path":"/a/b","access":{"roles":["x"]},"methods":["GET","POST"]},{"path":"/a/b","access":"session","methods":["PUT"]},
        {"path":"/a","access":"session"},{"path":"/*/b/**","access":{"roles":["y"]}},{"path":"/c/**","access":"public"}]}"#;
    [
        "GET /a/b",
        "HEAD /a/b/",
        "DELETE /a/b",
        "POST /z",
        "GET /d/b/d/e",
        "GET /c/b/d/e",
        "GET /c",
        "TRACE /a",
        "PUT /%61/b",
        "OPTIONS /",
    ]
    .iter()
    .map(|line| format!("{line}\n{policy}").into_bytes())
    .collect()
}

/// A policy against a matcher that is written as its documentation is: slowly, route by route.
pub fn policy(bytes: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(bytes) else { return false };
    let Some((request, json)) = text.split_once('\n') else { return false };
    let Some((method, raw)) = request.split_once(' ') else { return false };
    let (Ok(decoded), Ok(policy)) = (path::check(raw), serde_json::from_str::<Policy>(json)) else { return false };
    let found = match policy.find(&decoded, method) {
        Matched::MethodNotAllowed => None,
        Matched::Route(route) => Some(route.access.clone()),
    };
    let file: Value = serde_json::from_str(json).expect("a policy is JSON");
    assert_eq!(found, reference(&file, &decoded, method), "{method} {decoded}");
    // Spellings that are one path and one method.
    let other = if decoded.ends_with('/') { decoded.trim_end_matches('/').to_owned() } else { format!("{decoded}/") };
    assert_eq!(policy.find(&other, method), policy.find(&decoded, method), "a trailing slash never counts");
    assert_eq!(policy.find(&decoded, "HEAD"), policy.find(&decoded, "GET"), "HEAD counts as GET");
    let allowed = policy.allowed(&decoded);
    assert_eq!(allowed.contains(&method), found.is_some() && method.len() > 2, "what is listed as allowed is");
    true
}

fn parts(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty()).collect()
}

/// How specific a pattern is for this path, from the left: end, literal, `*`, `**`; `None` if it does not match.
fn specific(pattern: &[&str], path: &[&str]) -> Option<Vec<u8>> {
    match (pattern, path) {
        ([], []) => Some(vec![0]),
        (["**"], _) => Some(vec![3]),
        ([first, pattern @ ..], [part, path @ ..]) if *first == "*" || first == part => {
            let mut rest = specific(pattern, path)?;
            rest.insert(0, if *first == "*" { 2 } else { 1 });
            Some(rest)
        }
        _ => None,
    }
}

fn reference(file: &Value, decoded: &str, method: &str) -> Option<Access> {
    let method = if method == "HEAD" { "GET" } else { method };
    let usual = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    let mut matching: Vec<(Vec<u8>, &Value)> = Vec::new();
    for route in file["routes"].as_array().expect("a list") {
        let pattern = path::check(route["path"].as_str().expect("a path")).expect("a path").into_owned();
        if let Some(specific) = specific(&parts(&pattern), &parts(decoded)) {
            matching.push((specific, route));
        }
    }
    let Some(best) = matching.iter().map(|(specific, _)| specific.clone()).min() else {
        return usual.contains(&method).then_some(Access::Session);
    };
    let takes = |route: &Value| match &route["methods"] {
        Value::Array(methods) if !methods.is_empty() => methods.iter().any(|listed| listed == method),
        _ => usual.contains(&method),
    };
    let (_, route) = matching.iter().find(|(specific, route)| *specific == best && takes(route))?;
    serde_json::from_value(route["access"].clone()).ok()
}
