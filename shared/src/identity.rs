//! Which request headers a client may never bring to the origin (design 2.4).
//!
//! Origins read headers in many spellings: CGI turns `-` into `_` (some servers do so with every character that is
//! not a letter or digit), some frameworks turn `.` and `_` into `-`, and case never counts. Every spelling of ours is
//! therefore stripped.

/// Start of every identity header's name.
pub const PREFIX: &str = "Edgekeep-";
/// The user's name; percent-encoded where it is not visible ASCII.
pub const USER: &str = "Edgekeep-User";
/// The user's id, 16 hexadecimal digits; never reused.
pub const USER_ID: &str = "Edgekeep-User-Id";
/// The user's roles, separated by commas.
pub const ROLES: &str = "Edgekeep-Roles";
/// The session's id.
pub const SESSION: &str = "Edgekeep-Session";
/// A JWT (RFC 7519) that says the same, signed for the origin.
pub const ASSERTION: &str = "Edgekeep-Assertion";
/// Ties together the logs of edge, coordinator and origin.
pub const REQUEST_ID: &str = "Edgekeep-Request-Id";

/// Headers by which a client could make an origin see another method or path than the gate decided on.
const OVERRIDES: [&str; 13] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-method",
    "x-forwarded-method",
    "x-original-url",
    "x-rewrite-url",
    "x-override-url",
    "x-original-uri",
    "x-forwarded-uri",
    "x-forwarded-path",
    "x-http-path-override",
    "x-envoy-original-path",
];

/// The header must not pass from a client to the origin.
#[must_use]
pub fn is_stripped(name: &str) -> bool {
    let folded: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    folded.starts_with("edgekeep-") || folded == "edgekeep" || OVERRIDES.contains(&folded.as_str())
}

/// A user name as a header value: percent-encoded (RFC 3986) where it is not visible ASCII, and `%` itself.
#[must_use]
pub fn header_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            out.push(byte as char);
        } else {
            out.push('%');
            out.push_str(&crate::ids::to_hex(&[byte]).to_ascii_uppercase());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_stripped() {
        for name in [
            "Edgekeep-User",
            "edgekeep-user",
            "EDGEKEEP_USER",
            "edgekeep.roles",
            "Edgekeep_Assertion",
            "edgekeep-anything",
            "Edgekeep!User",
            "edgekeep~roles",
            "Edgekeep+Assertion",
            "edgekeep|user",
            "X*HTTP*Method*Override",
            "X-HTTP-Method-Override",
            "x_original_url",
            "X-Rewrite-Url",
            "X-Original-Method",
            "X-Envoy-Original-Path",
        ] {
            assert!(is_stripped(name), "{name}");
        }
        for name in ["x-edgekeep", "user", "edge-keep-user", "x-forwarded-for", "cookie", "connection"] {
            assert!(!is_stripped(name), "{name}");
        }
    }

    #[test]
    fn names_are_safe_in_a_header() {
        assert_eq!(header_text("ann"), "ann");
        assert_eq!(header_text("zoé%\n"), "zo%C3%A9%25%0A");
    }
}
