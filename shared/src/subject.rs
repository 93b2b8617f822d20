//! Who an attempt is about, without storing what was typed.
//!
//! The subject is a keyed hash of the canonical user name, the same for known and unknown users:
//! people type passwords into the user-name field, so the text itself is kept nowhere.

use hmac::Mac;
use precis_profiles::UsernameCaseMapped;
use precis_profiles::precis_core::profile::Profile;

use crate::codec::put_length_prefixed;
use crate::keyring::Secret;
use crate::token::MAX_NAME_BYTES;

/// The text cannot be a user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a user name has 1 to {MAX_NAME_BYTES} bytes, no spaces and no control characters (RFC 8265 UsernameCaseMapped)"
)]
pub struct NameError;

/// How often the rules are applied at most (RFC 8264 section 7: once, and up to three times more until nothing changes).
const MAX_PASSES: u8 = 4;

/// The canonical form of a user name: RFC 8265 UsernameCaseMapped (width and case mapped, NFC), applied until it is stable.
/// So a canonical name is its own canonical name: one that was shown can be typed, and is the same user.
///
/// # Errors
/// When the text is empty, too long, has characters that the profile forbids, or does not become stable.
pub fn canonical_name(name: &str) -> Result<String, NameError> {
    let fits = |name: &str| !name.is_empty() && name.len() <= MAX_NAME_BYTES;
    let mut name = name.to_owned();
    for _ in 0..MAX_PASSES {
        if !fits(&name) {
            return Err(NameError);
        }
        let next = UsernameCaseMapped::new().enforce(name.as_str()).map_err(|_| NameError)?.into_owned();
        if next == name {
            return Ok(name);
        }
        name = next;
    }
    Err(NameError)
}

/// The subject of a canonical name, under a key that never rotates.
#[must_use]
pub fn subject(key: &Secret, canonical: &str) -> [u8; 32] {
    let mut message = Vec::with_capacity(64);
    put_length_prefixed(&mut message, b"edgekeep subject v1");
    put_length_prefixed(&mut message, canonical.as_bytes());
    let mut mac = key.hmac();
    mac.update(&message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_name_are_one_subject() {
        for (typed, canonical) in
            [("Ann", "ann"), ("ann@Example.org", "ann@example.org"), ("\u{ff21}nn", "ann"), ("Zoe\u{301}", "zoé")]
        {
            assert_eq!(canonical_name(typed).as_deref(), Ok(canonical));
            assert_eq!(canonical_name(canonical).as_deref(), Ok(canonical));
        }
        // One pass maps this Cherokee capital to a letter that the same rules do not leave as it is.
        let once = canonical_name("Z\u{13aa}e");
        assert!(once.is_err() || once == canonical_name(once.as_deref().unwrap_or_default()), "{once:?}");
        for bad in ["", "two words", "tab\t", "\u{0}", "a\u{200b}b", &"x".repeat(129)] {
            assert_eq!(canonical_name(bad), Err(NameError), "{bad:?}");
        }
        let key = Secret([3; 32]);
        assert_eq!(subject(&key, "ann"), subject(&key, "ann"));
        assert_ne!(subject(&key, "ann"), subject(&key, "bob"));
    }
}
