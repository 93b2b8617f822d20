//! The session token: a short-lived, self-contained proof of a session (design 2.1).
//!
//! Guarantee: whatever leaves this module as a [`VerifiedToken`] was made by a holder of the named
//! key for this site, byte for byte; nothing is parsed before the MAC is checked except what is
//! needed to pick the key. There is one encoding per token: any changed character is refused.
//!
//! ```text
//! value   = "1." base64url( payload ‖ mac )            no padding (RFC 4648 section 5)
//! mac     = HMAC-SHA-256( key, "edgekeep session token v1\0" ‖ payload )     32 bytes
//! payload = version u8 = 1 ‖ key id u32 ‖ site u64 ‖ user id u64 ‖ revision u64 ‖ session id [16]
//!         ‖ authenticated at u48 ‖ renew after u48 ‖ idle expires at u48 ‖ expires at u48      (ms, coordinator time)
//!         ‖ name (u8 length, UTF-8) ‖ number of roles u8 ‖ each role (u8 length, ASCII)        integers big-endian
//! ```
//! With a name of 5 bytes and the role `admin` a value has 153 characters; the limits below keep it under 1 KiB.

use hmac::Mac;
use subtle::{Choice, ConstantTimeEq};

use crate::codec::{BASE64URL, Malformed, Reader, put_u48, to_base64url};
use crate::ids::{KeyId, SessionId, SiteId, UserId};
use crate::keyring::{HmacSha256, KeyRing, RingKey};
use crate::revision::Revision;
use base64::Engine as _;

/// Separates these MACs from any other use of the same key.
const DOMAIN: &[u8] = b"edgekeep session token v1\0";
/// Text in front of the encoded bytes: the version, readable without decoding.
const PREFIX: &str = "1.";
const VERSION: u8 = 1;
const MAC_BYTES: usize = 32;
/// Everything before the name.
const FIXED_BYTES: usize = 1 + 4 + 8 + 8 + 8 + 16 + 4 * 6;
/// The shortest payload: empty name, no roles.
const MIN_BYTES: usize = FIXED_BYTES + 2 + MAC_BYTES;
/// The longest value that is looked at, in characters.
pub const MAX_TOKEN_CHARS: usize = 1_024;
/// The longest user name in a token, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// The most roles in a token.
pub const MAX_ROLES: usize = 16;
/// The longest role, in ASCII characters.
pub const MAX_ROLE_CHARS: usize = 32;

/// What a token says. Times are coordinator time in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The site (audience) that the token is for.
    pub site: SiteId,
    /// Whose session it is.
    pub user_id: UserId,
    /// The user's revision when the proof was signed: an entry of the feed with a higher one says "ask first".
    pub revision: Revision,
    /// Which session it proves.
    pub session_id: SessionId,
    /// When the password was checked.
    pub authenticated_at_ms: u64,
    /// Until when it proves anything on its own.
    pub renew_after_ms: u64,
    /// When the session ends without activity, as known at signing; enforced by the coordinator at renewal.
    pub idle_expires_at_ms: u64,
    /// When the session ends whatever happens.
    pub expires_at_ms: u64,
    /// The user's name as registered.
    pub name: String,
    /// The user's roles when the proof was signed.
    pub roles: Vec<String>,
}

/// The claims do not fit a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsError {
    /// Empty or over [`MAX_NAME_BYTES`].
    #[error("the name must have 1 to {MAX_NAME_BYTES} bytes")]
    Name,
    /// Too many, or one that is not [`is_role`].
    #[error("at most {MAX_ROLES} roles, each of 1 to {MAX_ROLE_CHARS} characters a-z 0-9 - _ . :")]
    Roles,
    /// A time past the year 10889.
    #[error("a time is out of range")]
    Time,
}

/// The text is not a token of a version that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a session token")]
pub struct TokenError;

/// Why a token does not count, here and now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The key is not in this ring: fetch keys, and until then nobody can know.
    #[error("unknown key {0:?}")]
    UnknownKey(KeyId),
    /// Not made with this key, or for another site, or not in the one valid layout.
    #[error("not a valid token")]
    Invalid,
}

/// A role name: 1 to 32 of `a-z 0-9 - _ . :`. So it is safe in a header, a list and a file.
#[must_use]
pub fn is_role(role: &str) -> bool {
    (1..=MAX_ROLE_CHARS).contains(&role.len())
        && role.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b':'))
}

/// Signs a proof.
///
/// # Errors
/// When a claim does not fit its field.
pub fn sign(claims: &Claims, key: &RingKey) -> Result<String, ClaimsError> {
    if claims.name.is_empty() || claims.name.len() > MAX_NAME_BYTES {
        return Err(ClaimsError::Name);
    }
    if claims.roles.len() > MAX_ROLES || !claims.roles.iter().all(|role| is_role(role)) {
        return Err(ClaimsError::Roles);
    }
    let times = [claims.authenticated_at_ms, claims.renew_after_ms, claims.idle_expires_at_ms, claims.expires_at_ms];
    if times.iter().any(|time| *time >= 1 << 48) {
        return Err(ClaimsError::Time);
    }
    let mut bytes = Vec::with_capacity(MIN_BYTES + claims.name.len() + claims.roles.len() * 8);
    bytes.push(VERSION);
    bytes.extend_from_slice(&key.id.0.to_be_bytes());
    bytes.extend_from_slice(&claims.site.0.to_be_bytes());
    bytes.extend_from_slice(&claims.user_id.0.to_be_bytes());
    bytes.extend_from_slice(&claims.revision.0.to_be_bytes());
    bytes.extend_from_slice(&claims.session_id.0);
    for time in times {
        put_u48(&mut bytes, time);
    }
    put_short(&mut bytes, &claims.name);
    bytes.push(claims.roles.len() as u8);
    for role in &claims.roles {
        put_short(&mut bytes, role);
    }
    let mac = mac_of(key.hmac(), &bytes);
    bytes.extend_from_slice(&mac);
    Ok(format!("{PREFIX}{}", to_base64url(&bytes)))
}

fn put_short(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(text.len() as u8);
    bytes.extend_from_slice(text.as_bytes());
}

fn mac_of(mut hmac: HmacSha256, payload: &[u8]) -> [u8; MAC_BYTES] {
    hmac.update(DOMAIN);
    hmac.update(payload);
    hmac.finalize().into_bytes().into()
}

/// In a time that does not depend on where they differ. By words: byte by byte it would take a fifth of the MAC's own time.
fn is_same_mac(a: &[u8; MAC_BYTES], b: &[u8; MAC_BYTES]) -> bool {
    const { assert!(MAC_BYTES.is_multiple_of(8), "no byte may be left out") };
    let (a, b) = (a.as_chunks().0, b.as_chunks().0);
    let same = |(a, b): (&[u8; 8], &[u8; 8])| u64::from_ne_bytes(*a).ct_eq(&u64::from_ne_bytes(*b));
    a.iter().zip(b).map(same).fold(Choice::from(1), |all, same| all & same).into()
}

/// A token that nobody has checked: only its key id can be read.
#[derive(Clone, Debug)]
pub struct UntrustedToken {
    /// payload ‖ mac
    bytes: Vec<u8>,
}

impl UntrustedToken {
    /// Decodes the text, and nothing more.
    ///
    /// # Errors
    /// When it is too long or short, of an unknown version, or not the one base64url spelling.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let encoded = text.strip_prefix(PREFIX).filter(|_| text.len() <= MAX_TOKEN_CHARS).ok_or(TokenError)?;
        let bytes = BASE64URL.decode(encoded).map_err(|_| TokenError)?;
        if bytes.len() < MIN_BYTES || bytes[0] != VERSION {
            return Err(TokenError);
        }
        Ok(Self { bytes })
    }

    /// The key that it claims to be signed with.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        KeyId(u32::from_be_bytes([self.bytes[1], self.bytes[2], self.bytes[3], self.bytes[4]]))
    }

    /// Checks the MAC in constant time, then reads the claims.
    ///
    /// # Errors
    /// See [`VerifyError`].
    pub fn verify(&self, ring: &KeyRing, site: SiteId) -> Result<VerifiedToken, VerifyError> {
        let key = ring.get(self.key_id()).ok_or_else(|| VerifyError::UnknownKey(self.key_id()))?;
        let (payload, mac) = self.bytes.split_last_chunk().ok_or(VerifyError::Invalid)?;
        if !is_same_mac(&mac_of(key.hmac(), payload), mac) {
            return Err(VerifyError::Invalid);
        }
        let claims = read_claims(payload).map_err(|_| VerifyError::Invalid)?;
        if claims.site != site {
            return Err(VerifyError::Invalid);
        }
        Ok(VerifiedToken { claims, key_id: key.id, key_withdrawn: key.withdrawn })
    }
}

/// Reads a payload whose MAC has been checked; strict all the same, so that there is one encoding per token.
fn read_claims(payload: &[u8]) -> Result<Claims, Malformed> {
    let mut reader = Reader::new(payload);
    reader.take(1 + 4)?;
    let claims = Claims {
        site: SiteId(reader.u64()?),
        user_id: UserId(reader.u64()?),
        revision: Revision(reader.u64()?),
        session_id: SessionId(reader.array()?),
        authenticated_at_ms: reader.u48()?,
        renew_after_ms: reader.u48()?,
        idle_expires_at_ms: reader.u48()?,
        expires_at_ms: reader.u48()?,
        name: reader.short_text()?.to_owned(),
        roles: {
            let count = usize::from(reader.u8()?);
            let mut roles = Vec::with_capacity(count.min(MAX_ROLES));
            for _ in 0..count {
                roles.push(reader.short_text()?.to_owned());
            }
            roles
        },
    };
    let well_formed = claims.user_id.0 != 0
        && (1..=MAX_NAME_BYTES).contains(&claims.name.len())
        && claims.roles.len() <= MAX_ROLES
        && claims.roles.iter().all(|role| is_role(role));
    reader.end()?;
    if well_formed { Ok(claims) } else { Err(reader.malformed()) }
}

/// A token whose MAC, site and layout were checked. Whether its session still stands is the gate's question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    claims: Claims,
    key_id: KeyId,
    key_withdrawn: bool,
}

impl VerifiedToken {
    /// What it says.
    #[must_use]
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The key that signed it.
    #[must_use]
    pub const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Its key was withdrawn: it proves nothing until the coordinator has renewed it.
    #[must_use]
    pub const fn key_withdrawn(&self) -> bool {
        self.key_withdrawn
    }
}
