//! Passwords: hashing in bounded numbers, verification of our own and of imported hashes, rules for new ones.
//!
//! What this module guarantees:
//! - No more hashes run at a time than there are permits, and a permit belongs to the hashing task: a client that goes
//!   away cannot make the coordinator start more work than it has cores for.
//! - A name that nobody has costs the same work as a wrong password: the dummy hash is made with the live parameters.
//! - Hashing happens outside of any transaction.

pub mod rules;

mod hasher;
mod stored;

pub use hasher::{Checked, Hasher, Permit};
pub use stored::{ImportError, importable};

use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

/// The longest password, in bytes as typed. Far above any that a person or a password manager makes.
pub const MAX_PASSWORD_BYTES: usize = 1024;

/// A password as typed. It does not print, and is wiped when dropped.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

/// The text cannot be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a password has 1 to {MAX_PASSWORD_BYTES} bytes")]
pub struct PasswordLength;

impl Password {
    /// A password as typed.
    ///
    /// # Errors
    /// When it is empty or too long.
    pub fn new(typed: String) -> Result<Self, PasswordLength> {
        let typed = Zeroizing::new(typed);
        if typed.is_empty() || typed.len() > MAX_PASSWORD_BYTES { Err(PasswordLength) } else { Ok(Self(typed)) }
    }

    /// Byte for byte as typed: what the attempt's id is made of, and what other systems hashed.
    #[must_use]
    pub fn typed(&self) -> &str {
        &self.0
    }

    /// Unicode NFC, so that one password typed on two keyboards is one password (NIST SP 800-63B-4 3.1.1.2).
    #[must_use]
    pub fn normalized(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.nfc().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_do_not_print_and_normalize() {
        let password = Password::new("Zoe\u{301} and so on".into()).unwrap();
        assert_eq!(format!("{password:?}"), "Password(..)");
        assert_eq!(password.normalized().as_str(), "Zo\u{e9} and so on");
        assert_eq!(Password::new(String::new()).unwrap_err(), PasswordLength);
        assert!(Password::new("x".repeat(MAX_PASSWORD_BYTES)).is_ok());
        assert!(Password::new("x".repeat(MAX_PASSWORD_BYTES + 1)).is_err());
    }
}
