//! Identifiers. Each is a type of its own, so that one can never be passed for another.

use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A user: 63 random bits, never reused, not guessable as a count. Zero is not a user.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(pub u64);

/// A session: 128 random bits, never reused. Shown as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 16]);

/// A signing key, named in every token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyId(pub u32);

/// 128 random bits that tie an answer to its question.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce(pub [u8; 16]);

/// The audience of a token: the first 64 bits of SHA-256 over the site's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SiteId(pub u64);

impl SiteId {
    /// The id of the site called `name` (any text; compared byte for byte).
    #[must_use]
    pub fn of(name: &str) -> Self {
        use sha2::Digest as _;
        let digest = sha2::Sha256::new().chain_update(b"edgekeep site\0").chain_update(name.as_bytes()).finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        Self(u64::from_be_bytes(first))
    }
}

/// Writes bytes as lower-case hexadecimal digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

/// Reads exactly `N` bytes from lower-case hexadecimal digits: one spelling per value.
#[must_use]
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

macro_rules! hex_text {
    ($name:ident, $len:literal, $to:expr, $from:expr) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let to: fn(&$name) -> [u8; $len] = $to;
                f.write_str(&to_hex(&to(self)))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
        impl core::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let from: fn([u8; $len]) -> Option<$name> = $from;
                from_hex::<$len>(text).and_then(from).ok_or(InvalidId)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

hex_text!(UserId, 8, |id| id.0.to_be_bytes(), |bytes| match u64::from_be_bytes(bytes) {
    id if id > 0 && id <= i64::MAX as u64 => Some(UserId(id)),
    _ => None,
});
hex_text!(SessionId, 16, |id| id.0, |bytes| Some(SessionId(bytes)));
hex_text!(Nonce, 16, |nonce| nonce.0, |bytes| Some(Nonce(bytes)));

/// The text is not the one spelling of an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid identifier")]
pub struct InvalidId;
