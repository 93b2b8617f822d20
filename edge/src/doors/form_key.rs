//! Idempotency keys at the doors: a form brings a sealed one in a hidden field, a program a header.

use edgekeep_shared::attempt::valid_idempotency_key;
use edgekeep_shared::codec::{from_base64url, to_base64url};
use edgekeep_shared::form_key::{self, FormKeyError, PRE_SESSION_COOKIE};
use edgekeep_shared::problem::{Code, Problem};

use crate::forms::{BodyKind, Fields};
use crate::incoming::Incoming;
use crate::keys::Keys;
use crate::{clock, js, state};

/// Random bytes of the pre-session cookie.
const PRE_SESSION_BYTES: usize = 16;

/// A key for a form that is shown now, with the cookie that it is bound to.
pub struct Fresh {
    /// The hidden field's value.
    pub key: String,
    /// `Set-Cookie` for the pre-session cookie, where the browser does not have one yet.
    pub set_cookie: Option<String>,
}

/// Makes a key for a form that is shown now.
pub fn fresh(incoming: &Incoming, keys: &Keys) -> Fresh {
    let known = pre_session(&incoming.cookies).map(str::to_owned);
    let made = known.is_none();
    let pre_session = known.unwrap_or_else(|| to_base64url(&js::random::<PRE_SESSION_BYTES>()));
    let key = form_key::seal(&keys.form_secret, now_ms(keys), js::random(), &pre_session);
    let attributes = "Path=/; Secure; HttpOnly; SameSite=Lax";
    Fresh { key, set_cookie: made.then(|| format!("{PRE_SESSION_COOKIE}={pre_session}; {attributes}")) }
}

/// The idempotency key of a request: of its form, or of its header.
///
/// # Errors
/// `invalid_request`, with what to do about it.
pub fn of_request(incoming: &Incoming, kind: BodyKind, fields: &Fields, keys: &Keys) -> Result<String, Problem> {
    if let (BodyKind::Form, Some(key)) = (kind, fields.get("form_key")) {
        let cookie = pre_session(&incoming.cookies).unwrap_or_default();
        return match form_key::open(&keys.form_secret, key, cookie, now_ms(keys)) {
            Ok(()) => Ok(key.to_owned()),
            Err(FormKeyError::TooOld) => Err(invalid("This page was open for more than a day. Please try again.")),
            Err(FormKeyError::Invalid) => Err(invalid(
                "Your browser did not send back this page's cookie. Allow cookies for this site, then try again.",
            )),
        };
    }
    let header = incoming.header("Idempotency-Key");
    let header = header.ok_or_else(|| {
        invalid("The header Idempotency-Key is missing. Send a new one for each login, and the same one to repeat it.")
    })?;
    of_header(&header)
        .map(str::to_owned)
        .ok_or_else(|| invalid("The header Idempotency-Key must be 1 to 255 visible ASCII characters."))
}

/// The key in a header, with or without the quotes of a structured field string (RFC 8941 section 3.3.3).
#[must_use]
pub fn of_header(value: &str) -> Option<&str> {
    let value = value.trim();
    let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let key = match inner {
        // An escape would give one key two spellings.
        Some(inner) if inner.contains(['"', '\\']) => return None,
        Some(inner) => inner,
        None if value.starts_with('"') => return None,
        None => value,
    };
    valid_idempotency_key(key).then_some(key)
}

/// The pre-session cookie of a request, if there is exactly one and it is well-formed.
#[must_use]
pub fn pre_session(cookies: &str) -> Option<&str> {
    let mut found = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
    let mut values = found.by_ref().filter(|(name, _)| *name == PRE_SESSION_COOKIE).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (Some(value), None) if from_base64url(value).is_some_and(|bytes| bytes.len() == PRE_SESSION_BYTES) => {
            Some(value)
        }
        _ => None,
    }
}

/// Coordinator time: by the view, or where there is none yet by the answer that brought the keys.
fn now_ms(keys: &Keys) -> u64 {
    let now_ms = clock::now_ms();
    let known = state::with(|state| state.view.clock().map(|clock| clock.latest_ms(now_ms)));
    known.unwrap_or_else(|| keys.coordinator_ms(now_ms))
}

fn invalid(detail: &str) -> Problem {
    Problem::new(Code::InvalidRequest, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_per_key() {
        assert_eq!(of_header("abc"), Some("abc"));
        assert_eq!(of_header(" \"abc\" "), Some("abc"));
        for bad in ["", "\"\"", "\"abc", "abc\"def\\", "\"a\\\"b\"", "a b", "ä", &"x".repeat(256)] {
            let refused = of_header(bad);
            assert!(refused.is_none() || !bad.starts_with('"'), "{bad}");
        }
        assert_eq!(of_header("\"abc"), None);
        assert_eq!(of_header("\"\""), None);
        assert_eq!(of_header("a b"), None);
        assert_eq!(of_header(&"x".repeat(256)), None);
    }

    #[test]
    fn a_pre_session_cookie_that_comes_twice_is_none() {
        let value = to_base64url(&[1; PRE_SESSION_BYTES]);
        assert_eq!(pre_session(&format!("a=1; {PRE_SESSION_COOKIE}={value}")), Some(value.as_str()));
        assert_eq!(pre_session(&format!("{PRE_SESSION_COOKIE}={value}; {PRE_SESSION_COOKIE}={value}")), None);
        assert_eq!(pre_session(&format!("{PRE_SESSION_COOKIE}=short")), None);
        assert_eq!(pre_session(""), None);
    }
}
