//! Headers that decide something: preferences, idempotency keys, where a request came from.

use edgekeep_edge::decoders::{Audience, MAX_WAIT_S, Provenance, Signs, idempotency_key_of_header, wait_s};
use edgekeep_shared::attempt::valid_idempotency_key;

use super::texts;

pub fn prefer_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "wait=5",
        "respond-async, WAIT = 10 ; x=y",
        "wait=\"3\"",
        "wait=99999999999999999999",
        "wait=-1",
        "waiting=1",
        "",
    ])
}

pub fn prefer(bytes: &[u8]) -> bool {
    let Ok(header) = core::str::from_utf8(bytes) else { return false };
    let wait = wait_s(header);
    assert!(wait.is_none_or(|seconds| seconds <= MAX_WAIT_S), "nobody waits for ever");
    assert!(wait.is_none() || header.to_ascii_lowercase().contains("wait"), "a wish that nobody had");
    assert_eq!(wait_s(&format!("respond-async, {header}")), wait, "others do not matter");
    assert_eq!(wait_s(&header.to_ascii_uppercase()), wait, "names have no case");
    assert_eq!(wait_s(&format!("wait=7, {header}")), Some(7), "the first one counts");
    assert_eq!(wait_s(&format!("{header}, wait=7")).is_none(), wait.is_none() && names_wait(header), "or the only one");
    wait.is_some()
}

/// A `wait` of some value stands there, also one that makes no sense.
fn names_wait(header: &str) -> bool {
    header.split(',').any(|preference| {
        let token = preference.split(';').next().unwrap_or_default();
        token.split_once('=').is_some_and(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
    })
}

pub fn accept_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "application/json",
        "application/problem+json;q=0.5, text/plain",
        "text/html;q=0, application/json",
        "text/html;q=0.000",
        "*/*",
        "",
    ])
}

pub fn accept(bytes: &[u8]) -> bool {
    let Ok(header) = core::str::from_utf8(bytes) else { return false };
    let signs = Signs { accept: Some(header), ..Signs::default() };
    let audience = signs.audience();
    let upper = header.to_ascii_uppercase();
    assert_eq!(Signs { accept: Some(&upper), ..Signs::default() }.audience(), audience, "types have no case");
    assert_eq!(Signs { json_body: true, ..signs }.audience(), Audience::Program, "who sends JSON reads JSON");
    assert!(!Signs { sec_fetch_mode: Some("cors"), ..signs }.navigates(), "a script never navigates");
    assert!(Signs { sec_fetch_mode: Some("navigate"), ..signs }.navigates());
    let names_html = header.to_ascii_lowercase().contains("html");
    assert!(audience == Audience::Program || names_html, "a page for nobody who asked for one");
    assert!(!signs.navigates() || names_html, "a redirect for nobody who navigates");
    audience == Audience::Browser
}

pub fn key_seeds() -> Vec<Vec<u8>> {
    texts(&["abc", "\"abc\"", " \"abc\" ", "\"abc", "\"a\\\"b\"", "a\"b", "2f0a7c2e-0000-4000-8000-000000000000", ""])
}

pub fn key(bytes: &[u8]) -> bool {
    let Ok(header) = core::str::from_utf8(bytes) else { return false };
    let Some(key) = idempotency_key_of_header(header) else { return false };
    assert!(valid_idempotency_key(key) && header.contains(key));
    // The quoted spelling is the same key, or none: never another one.
    let quoted = idempotency_key_of_header(&format!("\"{key}\"")).map(str::to_owned);
    assert!(quoted.is_none_or(|quoted| quoted == key), "two keys in one");
    let bare = idempotency_key_of_header(key);
    assert!(bare.is_none_or(|bare| bare == key), "a key that is another one without its quotes");
    true
}

/// Where the requests go that are judged by their `Origin`.
const SITES: [&str; 3] = ["https://site.test", "http://site.test", "http://127.0.0.1:8787"];

pub fn origin_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "https://site.test",
        "http://SITE.test",
        "http://127.0.0.1:8787",
        "null",
        "https://site.test.evil",
        "https://site.test:443",
    ])
}

pub fn origin(bytes: &[u8]) -> bool {
    let Ok(origin) = core::str::from_utf8(bytes) else { return false };
    let mut passed = false;
    for site in SITES {
        let from = Provenance { origin: Some(origin), target: site, json_with_key: true, ..Provenance::default() };
        if !from.same_site_pages_only() {
            continue;
        }
        passed = true;
        let (theirs, ours) = (url::Url::parse(origin).expect("an origin"), url::Url::parse(site).expect("a site"));
        assert_eq!((theirs.host_str(), theirs.port()), (ours.host_str(), ours.port()), "another site");
        assert!(theirs.scheme() == ours.scheme() || theirs.scheme() == "https", "plain HTTP posts to HTTPS");
        assert_eq!((theirs.path(), theirs.username(), theirs.password()), ("/", "", None), "more than an origin");
        let elsewhere = Provenance { sec_fetch_site: Some("cross-site"), ..from };
        assert!(!elsewhere.same_site_pages_only(), "the browser's own word comes first");
    }
    passed
}
