//! Idempotency keys in forms: stamped with their time, authenticated, bound to a pre-session cookie.
//!
//! So a form that was kept too long is refused rather than treated as a new login, and a form
//! cannot be planted in another browser (login CSRF).

use hmac::Mac;
use subtle::ConstantTimeEq;

use crate::codec::{Reader, from_base64url, put_length_prefixed, put_u48, to_base64url};
use crate::keyring::Secret;

/// The pre-session cookie's name. It does not begin with the session cookies' prefix.
pub const PRE_SESSION_COOKIE: &str = "__Host-ek-form";
/// How long a form may be sent after it was shown: the attempts of that time are all still known.
pub const MAX_AGE_MS: u64 = 24 * 3_600_000;
/// How far in the future a stamp may lie (the edges' clocks differ, and only roughly agree with the coordinator's).
const MAX_AHEAD_MS: u64 = 2 * 3_600_000;

/// Why a form's key does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormKeyError {
    /// Not made by us for this browser.
    #[error("the form does not belong to this browser")]
    Invalid,
    /// Older than [`MAX_AGE_MS`].
    #[error("the form is too old")]
    TooOld,
}

fn mac_of(secret: &Secret, stamped: &[u8], pre_session: &str) -> [u8; 32] {
    let mut message = Vec::with_capacity(96);
    put_length_prefixed(&mut message, b"edgekeep form key v1");
    put_length_prefixed(&mut message, stamped);
    put_length_prefixed(&mut message, pre_session.as_bytes());
    let mut mac = secret.hmac();
    mac.update(&message);
    mac.finalize().into_bytes().into()
}

/// Makes a key for a form that is shown now.
#[must_use]
pub fn seal(secret: &Secret, now_ms: u64, random: [u8; 16], pre_session: &str) -> String {
    let mut bytes = Vec::with_capacity(6 + 16 + 32);
    put_u48(&mut bytes, now_ms.min((1 << 48) - 1));
    bytes.extend_from_slice(&random);
    let mac = mac_of(secret, &bytes, pre_session);
    bytes.extend_from_slice(&mac);
    to_base64url(&bytes)
}

/// Checks a form's key.
///
/// # Errors
/// See [`FormKeyError`].
pub fn open(secret: &Secret, key: &str, pre_session: &str, now_ms: u64) -> Result<(), FormKeyError> {
    let bytes = from_base64url(key).filter(|bytes| bytes.len() == 6 + 16 + 32).ok_or(FormKeyError::Invalid)?;
    let (stamped, mac) = bytes.split_at(6 + 16);
    if pre_session.is_empty() || !bool::from(mac_of(secret, stamped, pre_session).ct_eq(mac)) {
        return Err(FormKeyError::Invalid);
    }
    let made_at_ms = Reader::new(stamped).u48().map_err(|_| FormKeyError::Invalid)?;
    if made_at_ms > now_ms.saturating_add(MAX_AHEAD_MS) {
        Err(FormKeyError::Invalid)
    } else if now_ms.saturating_sub(made_at_ms) > MAX_AGE_MS {
        Err(FormKeyError::TooOld)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_counts_for_one_browser_and_one_day() {
        let secret = Secret([9; 32]);
        let key = seal(&secret, 1_000_000, [1; 16], "browser");
        assert_eq!(open(&secret, &key, "browser", 1_000_000 + MAX_AGE_MS), Ok(()));
        assert_eq!(open(&secret, &key, "browser", 1_000_001 + MAX_AGE_MS), Err(FormKeyError::TooOld));
        assert_eq!(open(&secret, &key, "other", 1_000_000), Err(FormKeyError::Invalid));
        assert_eq!(open(&Secret([8; 32]), &key, "browser", 1_000_000), Err(FormKeyError::Invalid));
        assert_eq!(open(&secret, &key[1..], "browser", 1_000_000), Err(FormKeyError::Invalid));
        // Clocks of edges may be ahead, by so much and no more.
        let ahead = seal(&secret, 1_000_000 + MAX_AHEAD_MS, [1; 16], "browser");
        assert_eq!(open(&secret, &ahead, "browser", 1_000_000), Ok(()));
        assert_eq!(open(&secret, &ahead, "browser", 999_999), Err(FormKeyError::Invalid));
        assert_eq!(open(&secret, &seal(&secret, 0, [1; 16], ""), "", 0), Err(FormKeyError::Invalid));
    }
}
