//! Hashes as they stand in the database: ours (Argon2id, PHC string), and those of other systems until the first login.
//!
//! Our hashes are of the NFC form of a password, and with a pepper carry `keyid=<its fingerprint>`, so that a hash made
//! without it (or with another) is never checked with the wrong one. Hashes of other systems are checked exactly as those
//! did: bcrypt and scrypt over the bytes as typed, bcrypt with its cut after 72 bytes.

use std::str::FromStr as _;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use edgekeep_shared::keyring::Secret;
use subtle::ConstantTimeEq as _;

use super::Password;
use crate::config::Argon2Config;

/// Bytes of salt and of output.
const SALT_BYTES: usize = 16;
const OUTPUT_BYTES: usize = 32;
/// Bounds of imported hashes: verifying one must not be a way to stop the coordinator.
const MAX_MEMORY_KIB: u32 = 1 << 20;
const MAX_PASSES: u32 = 64;
const MAX_LANES: u32 = 16;
const MAX_BCRYPT_COST: u32 = 16;
const MAX_SCRYPT_LOG_N: u32 = 20;
const MAX_SCRYPT_R: u32 = 32;

/// A hash cannot be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Not one of the formats that we can verify.
    #[error("not an argon2, bcrypt ($2a$, $2b$, $2x$, $2y$) or scrypt hash in PHC form")]
    Format,
    /// Verifying it would cost more than is sensible.
    #[error("its cost is out of bounds (argon2: 1 GiB, 64 passes, 16 lanes; bcrypt: 16; scrypt: ln 20, r 32)")]
    Cost,
}

/// A stored hash, taken apart.
pub(super) enum Stored {
    Argon2(Parsed),
    Bcrypt(String),
    Scrypt(String),
}

/// An argon2 hash, taken apart.
pub(super) struct Parsed {
    algorithm: Algorithm,
    version: Version,
    params: Params,
    key_id: Option<String>,
    salt: Vec<u8>,
    output: Vec<u8>,
}

/// The cost parameters and the pepper in force.
pub(super) struct Live {
    pub(super) params: Params,
    pub(super) pepper: Option<Secret>,
    pub(super) key_id: Option<String>,
}

impl Live {
    /// `None` when the parameters are impossible (the configuration's bounds exclude that).
    pub(super) fn new(config: &Argon2Config, pepper: Option<Secret>) -> Option<Self> {
        let params = Params::new(config.memory_kib, config.passes, config.lanes, Some(OUTPUT_BYTES)).ok()?;
        let key_id = pepper.as_ref().map(|pepper| STANDARD_NO_PAD.encode(&pepper.derive("pepper fingerprint").0[..6]));
        Some(Self { params, pepper, key_id })
    }

    fn argon2(&self) -> Option<Argon2<'_>> {
        match &self.pepper {
            Some(pepper) => {
                Argon2::new_with_secret(&pepper.0, Algorithm::Argon2id, Version::V0x13, self.params.clone()).ok()
            }
            None => Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, self.params.clone())),
        }
    }

    /// A new hash of this password. `None`: the hash function failed, which the bounds of its inputs exclude.
    pub(super) fn hash(&self, password: &Password, salt: [u8; SALT_BYTES], memory: &mut Vec<Block>) -> Option<String> {
        let mut output = [0; OUTPUT_BYTES];
        let blocks = room(memory, self.params.block_count());
        self.argon2()?
            .hash_password_into_with_memory(password.normalized().as_bytes(), &salt, &mut output, blocks)
            .ok()?;
        let key_id = self.key_id.as_ref().map(|id| format!(",keyid={id}")).unwrap_or_default();
        let (m, t, p) = (self.params.m_cost(), self.params.t_cost(), self.params.p_cost());
        let (salt, output) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(output));
        Some(format!("$argon2id$v=19$m={m},t={t},p={p}{key_id}${salt}${output}"))
    }
}

/// Blocks for one hash, from memory that the last one left.
fn room(memory: &mut Vec<Block>, blocks: usize) -> &mut [Block] {
    if memory.len() < blocks {
        memory.resize(blocks, Block::new());
    }
    &mut memory[..blocks]
}

impl Stored {
    pub(super) fn parse(text: &str) -> Result<Self, ImportError> {
        if ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            let parts = bcrypt::HashParts::from_str(text).map_err(|_| ImportError::Format)?;
            return if parts.get_cost() > MAX_BCRYPT_COST {
                Err(ImportError::Cost)
            } else {
                Ok(Self::Bcrypt(text.to_owned()))
            };
        }
        let hash = PasswordHash::new(text).map_err(|_| ImportError::Format)?;
        if hash.salt.is_none() || hash.hash.is_none() {
            return Err(ImportError::Format);
        }
        if hash.algorithm.as_str() == "scrypt" {
            let number = |name: &str| hash.params.get_decimal(name);
            let (Some(log_n), Some(r), Some(p)) = (number("ln"), number("r"), number("p")) else {
                return Err(ImportError::Format);
            };
            let sensible = log_n <= MAX_SCRYPT_LOG_N && r <= MAX_SCRYPT_R && p <= MAX_LANES;
            return if sensible { Ok(Self::Scrypt(text.to_owned())) } else { Err(ImportError::Cost) };
        }
        Parsed::new(&hash).map(Self::Argon2)
    }

    /// Whether this is the password, checked as the system did that made the hash. `live` has the pepper.
    pub(super) fn matches(&self, password: &Password, live: &Live, memory: &mut Vec<Block>) -> bool {
        match self {
            Self::Argon2(parsed) => parsed.matches(password, live, memory).unwrap_or(false),
            Self::Bcrypt(text) => bcrypt::verify(password.typed(), text).unwrap_or(false),
            Self::Scrypt(text) => {
                use scrypt::password_hash::PasswordVerifier as _;
                PasswordHash::new(text)
                    .is_ok_and(|hash| scrypt::Scrypt::new().verify_password(password.typed().as_bytes(), &hash).is_ok())
            }
        }
    }

    /// It was made with other parameters than those in force.
    pub(super) fn is_stale(&self, live: &Live) -> bool {
        match self {
            Self::Argon2(parsed) => parsed.is_stale(live),
            Self::Bcrypt(_) | Self::Scrypt(_) => true,
        }
    }
}

impl Parsed {
    fn new(hash: &PasswordHash) -> Result<Self, ImportError> {
        let algorithm = Algorithm::from_str(hash.algorithm.as_str()).map_err(|_| ImportError::Format)?;
        // A hash without a version is of the first one (0x10).
        let version = Version::try_from(hash.version.unwrap_or(0x10)).map_err(|_| ImportError::Format)?;
        let number = |name: &str| hash.params.get_decimal(name).ok_or(ImportError::Format);
        let (m, t, p) = (number("m")?, number("t")?, number("p")?);
        if m > MAX_MEMORY_KIB || t > MAX_PASSES || p > MAX_LANES {
            return Err(ImportError::Cost);
        }
        let output = hash.hash.as_ref().ok_or(ImportError::Format)?.as_bytes().to_vec();
        let params = Params::new(m, t, p, Some(output.len())).map_err(|_| ImportError::Format)?;
        let salt = hash.salt.as_ref().ok_or(ImportError::Format)?.to_vec();
        let key_id = hash.params.get_str("keyid").map(str::to_owned);
        Ok(Self { algorithm, version, params, key_id, salt, output })
    }

    fn matches(&self, password: &Password, live: &Live, memory: &mut Vec<Block>) -> Option<bool> {
        let argon2 = match (&self.key_id, &live.pepper) {
            (None, _) => Argon2::new(self.algorithm, self.version, self.params.clone()),
            (Some(id), Some(pepper)) if live.key_id.as_ref() == Some(id) => {
                Argon2::new_with_secret(&pepper.0, self.algorithm, self.version, self.params.clone()).ok()?
            }
            (Some(_), _) => {
                tracing::error!("a password hash was made with a pepper that this coordinator does not have");
                return None;
            }
        };
        let mut output = vec![0; self.output.len()];
        let blocks = room(memory, self.params.block_count());
        argon2
            .hash_password_into_with_memory(password.normalized().as_bytes(), &self.salt, &mut output, blocks)
            .ok()?;
        Some(output.ct_eq(&self.output).into())
    }

    fn is_stale(&self, live: &Live) -> bool {
        let cost = |params: &Params| (params.m_cost(), params.t_cost(), params.p_cost());
        self.algorithm != Algorithm::Argon2id
            || self.version != Version::V0x13
            || cost(&self.params) != cost(&live.params)
            || self.output.len() != OUTPUT_BYTES
            || self.key_id != live.key_id
    }
}

/// Whether this hash of another system can be verified here.
///
/// # Errors
/// Says why not.
pub fn importable(text: &str) -> Result<(), ImportError> {
    match Stored::parse(text)? {
        Stored::Argon2(Parsed { key_id: Some(_), .. }) => Err(ImportError::Format),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Argon2Config = Argon2Config { memory_kib: 1024, passes: 1, lanes: 1 };

    fn live(pepper: Option<u8>) -> Live {
        Live::new(&CHEAP, pepper.map(|byte| Secret([byte; 32]))).unwrap()
    }

    fn password(text: &str) -> Password {
        Password::new(text.into()).unwrap()
    }

    #[test]
    fn a_hash_matches_its_password_in_every_spelling() {
        let (live, mut memory) = (live(None), Vec::new());
        let text = live.hash(&password("Zoe\u{301} rides at dawn"), [1; 16], &mut memory).unwrap();
        let stored = Stored::parse(&text).unwrap();
        assert!(stored.matches(&password("Zo\u{e9} rides at dawn"), &live, &mut memory));
        assert!(!stored.matches(&password("Zoe rides at dawn"), &live, &mut memory));
        assert!(!stored.is_stale(&live));
        let costlier = Live::new(&Argon2Config { passes: 2, ..CHEAP }, None).unwrap();
        assert!(stored.is_stale(&costlier));
        assert!(stored.matches(&password("Zo\u{e9} rides at dawn"), &costlier, &mut memory));
    }

    #[test]
    fn a_pepper_is_needed_and_named() {
        let (plain, one, two, mut memory) = (live(None), live(Some(1)), live(Some(2)), Vec::new());
        let secret = password("correct horse battery");
        let text = one.hash(&secret, [1; 16], &mut memory).unwrap();
        let stored = Stored::parse(&text).unwrap();
        assert!(text.contains(",keyid="));
        assert!(stored.matches(&secret, &one, &mut memory));
        assert!(!stored.matches(&secret, &two, &mut memory) && !stored.matches(&secret, &plain, &mut memory));
        // Without a pepper it still verifies once a pepper is set, and is then rehashed with it.
        let unpeppered = Stored::parse(&plain.hash(&secret, [1; 16], &mut memory).unwrap()).unwrap();
        assert!(unpeppered.matches(&secret, &one, &mut memory) && unpeppered.is_stale(&one));
        assert_eq!(importable(&text), Err(ImportError::Format), "a hash with somebody else's pepper is no use");
    }

    #[test]
    fn bcrypt_verifies_as_it_did_with_its_cut() {
        let long = "x".repeat(72);
        let text = bcrypt::hash(&long, 4).unwrap();
        let stored = Stored::parse(&text).unwrap();
        let (live, mut memory) = (live(None), Vec::new());
        assert!(stored.matches(&password(&long), &live, &mut memory));
        assert!(stored.matches(&password(&format!("{long} and more")), &live, &mut memory));
        assert!(!stored.matches(&password(&"x".repeat(71)), &live, &mut memory));
        assert!(stored.is_stale(&live));
        assert_eq!(importable(&text.replacen("$04$", "$31$", 1)), Err(ImportError::Cost));
    }

    #[test]
    fn scrypt_phc_verifies() {
        // passlib's documentation has this pair (its default cost).
        let text = "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E";
        let (live, mut memory) = (live(None), Vec::new());
        let stored = Stored::parse(text).unwrap();
        assert!(stored.matches(&password("password"), &live, &mut memory));
        assert!(!stored.matches(&password("passwort"), &live, &mut memory));
    }

    #[test]
    fn what_cannot_be_verified_is_refused_at_import() {
        for bad in ["", "plain", "$1$abc$def", "$argon2id$v=19$m=1024,t=1,p=1$c2FsdHNhbHQ", "$2b$04$short"] {
            assert_eq!(importable(bad), Err(ImportError::Format), "{bad}");
        }
        let costly = "$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        assert_eq!(importable(costly), Err(ImportError::Cost));
    }
}
