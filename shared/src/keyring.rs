//! The signing keys that an edge or coordinator holds, with the keyed HMAC state ready to use.
//!
//! An unknown key id is never "not signed in": it means *this holder cannot know yet* (G8).

use core::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::ids::KeyId;

/// HMAC-SHA-256 (RFC 2104, FIPS 198-1).
pub type HmacSha256 = Hmac<Sha256>;

/// 256 secret bits. `Debug` never shows them; they are wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// The HMAC state keyed with this secret.
    #[must_use]
    pub fn hmac(&self) -> HmacSha256 {
        keyed(&self.0)
    }

    /// A secret for another purpose, derived with domain separation (HKDF-Expand, RFC 5869, one block).
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Self {
        let mut mac = self.hmac();
        mac.update(b"edgekeep derive\0");
        mac.update(purpose.as_bytes());
        mac.update(&[1]);
        Self(mac.finalize().into_bytes().into())
    }

    /// The secret from 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        crate::ids::from_hex(text).map(Self)
    }
}

/// The HMAC state for a key of any length.
#[must_use]
pub fn keyed(key: &[u8]) -> HmacSha256 {
    // HMAC takes keys of every length (RFC 2104 section 2), so this cannot fail; an all-zero key would still fail closed.
    HmacSha256::new_from_slice(key).unwrap_or_else(|_| <HmacSha256 as KeyInit>::new(&Default::default()))
}

/// One key of the ring.
#[derive(Clone)]
pub struct RingKey {
    /// Named in tokens.
    pub id: KeyId,
    /// Its tokens must be renewed at the coordinator before they count.
    pub withdrawn: bool,
    keyed: HmacSha256,
}

impl fmt::Debug for RingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingKey").field("id", &self.id).field("withdrawn", &self.withdrawn).finish_non_exhaustive()
    }
}

impl RingKey {
    /// A key ready to use.
    #[must_use]
    pub fn new(id: KeyId, secret: &Secret, withdrawn: bool) -> Self {
        Self { id, withdrawn, keyed: secret.hmac() }
    }

    /// The keyed state, to be fed with the message.
    #[must_use]
    pub fn hmac(&self) -> HmacSha256 {
        self.keyed.clone()
    }
}

/// All keys whose tokens may still be presented, with the version of that set.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    version: u64,
    keys: Vec<RingKey>,
}

impl KeyRing {
    /// The set of this version. Of two keys with one id the first counts.
    #[must_use]
    pub const fn new(version: u64, keys: Vec<RingKey>) -> Self {
        Self { version, keys }
    }

    /// The set's version: grows with every change; 0 is "no set yet".
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The key with this id. A ring holds a handful, so a scan beats a map.
    #[must_use]
    pub fn get(&self, id: KeyId) -> Option<&RingKey> {
        self.keys.iter().find(|key| key.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_print_and_derive_by_purpose() {
        let secret = Secret([7; 32]);
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_ne!(secret.derive("a").0, secret.derive("b").0);
        assert_ne!(secret.derive("a").0, secret.0);
    }
}
