//! Names: of headers that a client may not bring, and of users.

use edgekeep_edge::decoders::must_go;
use edgekeep_shared::identity::{ASSERTION, REQUEST_ID, ROLES, SESSION, USER, USER_ID, header_text};
use edgekeep_shared::subject::canonical_name;
use edgekeep_shared::token::MAX_NAME_BYTES;

use super::texts;

/// How origins make variables of header names: what they may take for the same name.
const FOLDS: [fn(u8) -> u8; 4] = [
    // As it is; names have no case (RFC 9110 section 5.1).
    |c| c,
    // CGI (RFC 3875), WSGI.
    |c| if c == b'-' { b'_' } else { c },
    // PHP's variables.
    |c| if matches!(c, b'-' | b'.' | b' ' | b'[') { b'_' } else { c },
    // Apache before 2.4: whatever is no letter or digit.
    |c| if c.is_ascii_alphanumeric() { c } else { b'_' },
];

pub fn header_seeds() -> Vec<Vec<u8>> {
    let mut seeds =
        texts(&["edgekeep_user", "EDGEKEEP.ROLES", "Edgekeep", "x-edgekeep", "X_HTTP-Method.Override", "connection"]);
    seeds.extend([USER, USER_ID, ROLES, SESSION, ASSERTION, REQUEST_ID].map(|name| name.as_bytes().to_vec()));
    seeds
}

pub fn header(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let shown = header_text(&text);
    assert!(shown.bytes().all(|c| c.is_ascii_graphic()), "a user's name is safe in a header");
    let read: Vec<u8> =
        url::form_urlencoded::parse(format!("a={}", shown.replace('+', "%2B").replace('&', "%26")).as_bytes())
            .flat_map(|(_, value)| value.into_owned().into_bytes())
            .collect();
    assert_eq!(read, text.as_bytes(), "and can be read back");
    let folded =
        |name: &str, fold: fn(u8) -> u8| -> Vec<u8> { name.bytes().map(|c| fold(c).to_ascii_lowercase()).collect() };
    for ours in
        [USER, USER_ID, ROLES, SESSION, ASSERTION, REQUEST_ID, "X-HTTP-Method-Override", "X-Original-URL", "Connection"]
    {
        let taken_for_it = |fold: &&fn(u8) -> u8| folded(&text, **fold) == folded(ours, **fold);
        // `Connection` means something to the next hop only under its own name.
        let folds = if ours == "Connection" { &FOLDS[..1] } else { &FOLDS[..] };
        assert!(folds.iter().find(taken_for_it).is_none() || must_go(&text), "could be taken for {ours}: {text}");
    }
    must_go(&text)
}

pub fn user_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "Ann",
        "ann@Example.org",
        "\u{ff21}nn",
        "Zoe\u{301}",
        "two words",
        "ΣΊΣΥΦΟΣ",
        "ſtraße",
        "İstanbul",
        "\u{212a}elvin",
        "ᴮᴵᴳ",
    ])
}

/// Two spellings of one name are one user, whoever canonicalises how often.
pub fn user(bytes: &[u8]) -> bool {
    let Ok(typed) = core::str::from_utf8(bytes) else { return false };
    let Ok(name) = canonical_name(typed) else { return false };
    assert_eq!(
        canonical_name(&name).as_ref(),
        Ok(&name),
        "the canonical name of {typed:?} is not its own canonical name"
    );
    assert!(!name.is_empty() && name.len() <= MAX_NAME_BYTES);
    assert!(!name.chars().any(|c| c.is_whitespace() || c.is_control()), "{name:?}");
    let ascii = typed.is_ascii().then(|| typed.to_ascii_lowercase());
    assert!(ascii.is_none_or(|ascii| ascii == name), "in ASCII only case is mapped");
    true
}
