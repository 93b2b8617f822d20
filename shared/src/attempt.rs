//! The identity of an attempt: what makes two deliveries *the same* login (G4, design 2.3 step 2).
//!
//! The id is a keyed hash of the operation, the subject, the idempotency key and the passwords
//! exactly as typed, each with its length in front. So a retry is the same
//! key *and* the same credentials, another password is another, counted, attempt, and neither key
//! nor password is stored anywhere.

use hmac::Mac;

use crate::codec::put_length_prefixed;
use crate::keyring::Secret;

/// The longest idempotency key, in characters.
pub const MAX_KEY_CHARS: usize = 255;

/// The operations that evaluate a password. One state machine, three effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A new session.
    Login,
    /// All sessions ended.
    LogoutEverywhere,
    /// A new password and a new session, all others ended.
    PasswordChange,
}

impl Operation {
    /// The name in the database, in logs and in the attempt's id.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::LogoutEverywhere => "logout_everywhere",
            Self::PasswordChange => "password_change",
        }
    }
}

/// 1 to 255 visible ASCII characters (draft-ietf-httpapi-idempotency-key-header, as a bare string).
#[must_use]
pub fn valid_idempotency_key(key: &str) -> bool {
    (1..=MAX_KEY_CHARS).contains(&key.len()) && key.bytes().all(|c| c.is_ascii_graphic())
}

/// The attempt's id. `k` is kept outside the database.
#[must_use]
pub fn attempt_id(
    k: &Secret,
    operation: Operation,
    subject: &[u8; 32],
    idempotency_key: &str,
    passwords: &[&str],
) -> [u8; 32] {
    let mut message = Vec::with_capacity(256);
    put_length_prefixed(&mut message, b"edgekeep attempt v1");
    put_length_prefixed(&mut message, operation.as_str().as_bytes());
    put_length_prefixed(&mut message, subject);
    put_length_prefixed(&mut message, idempotency_key.as_bytes());
    for password in passwords {
        put_length_prefixed(&mut message, password.as_bytes());
    }
    let mut mac = k.hmac();
    mac.update(&message);
    zeroize::Zeroize::zeroize(&mut message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_tells_attempts_apart_and_no_boundary_can_be_shifted() {
        let k = Secret([1; 32]);
        let id = |op, subject, key, passwords: &[&str]| attempt_id(&k, op, &[subject; 32], key, passwords);
        let one = id(Operation::Login, 1, "key", &["password"]);
        assert_eq!(one, id(Operation::Login, 1, "key", &["password"]));
        for other in [
            id(Operation::LogoutEverywhere, 1, "key", &["password"]),
            id(Operation::Login, 2, "key", &["password"]),
            id(Operation::Login, 1, "keyp", &["assword"]),
            id(Operation::Login, 1, "key", &["passwor", "d"]),
            id(Operation::Login, 1, "key", &["password", ""]),
            id(Operation::Login, 1, "key", &["Password"]),
        ] {
            assert_ne!(one, other);
        }
        assert_ne!(one, attempt_id(&Secret([2; 32]), Operation::Login, &[1; 32], "key", &["password"]));
    }

    #[test]
    fn keys_are_visible_ascii() {
        assert!(valid_idempotency_key("2f0a-…".trim_end_matches('…')));
        for bad in ["", "a b", "ü", "a\n", &"x".repeat(256)] {
            assert!(!valid_idempotency_key(bad));
        }
    }
}
