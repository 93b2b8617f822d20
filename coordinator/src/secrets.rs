//! The deployment's secrets: kept outside of the database, so that neither a dump of it nor a SQL injection is enough
//! to sign a proof, to test guesses of an attempt's password, or to link user names.
//!
//! None of them is ever printed: [`Secret`]'s `Debug` is redacted and it is wiped when dropped.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edgekeep_shared::keyring::Secret;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::config::ConfigError;

/// The `[secrets]` section: each secret is base64 of 32 bytes, or `<name>_file` names a file that holds that.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecretsConfig {
    /// Seals signing keys in the database; other keys for edges are derived from it.
    pub seal_key: Option<String>,
    /// The same, in a file.
    pub seal_key_file: Option<PathBuf>,
    /// Keys the hash of user names. It can never change: accounts could no longer be found.
    pub subject_key: Option<String>,
    /// The same, in a file.
    pub subject_key_file: Option<PathBuf>,
    /// Keys attempt ids.
    pub attempt_key: Option<String>,
    /// The same, in a file.
    pub attempt_key_file: Option<PathBuf>,
    /// Another attempt key that is looked up too. To change the key: first name the new one here everywhere, then swap
    /// the two everywhere, and drop the old one when every attempt made under it is past retention.
    pub attempt_key_previous: Option<String>,
    /// The same, in a file.
    pub attempt_key_previous_file: Option<PathBuf>,
    /// Mixed into every password hash (argon2's secret input). Without it no password can be verified any more.
    pub pepper: Option<String>,
    /// The same, in a file.
    pub pepper_file: Option<PathBuf>,
}

impl std::fmt::Debug for SecretsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretsConfig(..)")
    }
}

/// The secrets, read and decoded.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Seals signing keys in the database; other keys for edges are derived from it.
    pub seal_key: Secret,
    /// Keys the hash of user names; never rotates.
    pub subject_key: Secret,
    /// Keys attempt ids.
    pub attempt_key: Secret,
    /// Looked up too, everywhere, while the attempt key changes.
    pub attempt_key_previous: Option<Secret>,
    /// Argon2's secret input.
    pub pepper: Option<Secret>,
}

/// Reads the secret `name` from its text or its file.
fn read(name: &'static str, text: Option<&str>, file: Option<&PathBuf>) -> Result<Option<Secret>, ConfigError> {
    let text = match (text, file) {
        (Some(_), Some(_)) => {
            return Err(ConfigError::new(format!("secrets.{name} and secrets.{name}_file are both set: keep one")));
        }
        (Some(text), None) => Zeroizing::new(text.to_owned()),
        (None, Some(path)) => Zeroizing::new(std::fs::read_to_string(path).map_err(|error| {
            ConfigError::new(format!("secrets.{name}_file: cannot read {}: {error}", path.display()))
        })?),
        (None, None) => return Ok(None),
    };
    decode(&text).map(Some).ok_or_else(|| {
        ConfigError::new(format!(
            "secrets.{name} must be base64 of exactly 32 bytes (`edgekeep config init` writes fresh ones)"
        ))
    })
}

/// Exactly 32 bytes from their base64 text.
fn decode(text: &str) -> Option<Secret> {
    let bytes = Zeroizing::new(STANDARD.decode(text.trim()).ok()?);
    Some(Secret(<[u8; 32]>::try_from(bytes.as_slice()).ok()?))
}

/// 32 fresh random bytes as base64.
///
/// # Errors
/// When the operating system gives no random bytes.
pub fn fresh() -> Result<Zeroizing<String>, ConfigError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice())
        .map_err(|error| ConfigError::new(format!("the operating system gives no random bytes: {error}")))?;
    Ok(Zeroizing::new(STANDARD.encode(bytes.as_slice())))
}

impl Secrets {
    /// Reads every secret that the configuration names.
    ///
    /// # Errors
    /// Says which secret is missing, unreadable or malformed; never what it is.
    pub fn load(config: &SecretsConfig) -> Result<Self, ConfigError> {
        let needed = |name: &'static str, secret: Option<Secret>| {
            secret.ok_or_else(|| ConfigError::new(format!("secrets.{name} (or secrets.{name}_file) is missing")))
        };
        let c = config;
        Ok(Self {
            seal_key: needed("seal_key", read("seal_key", c.seal_key.as_deref(), c.seal_key_file.as_ref())?)?,
            subject_key: needed(
                "subject_key",
                read("subject_key", c.subject_key.as_deref(), c.subject_key_file.as_ref())?,
            )?,
            attempt_key: needed(
                "attempt_key",
                read("attempt_key", c.attempt_key.as_deref(), c.attempt_key_file.as_ref())?,
            )?,
            attempt_key_previous: read(
                "attempt_key_previous",
                c.attempt_key_previous.as_deref(),
                c.attempt_key_previous_file.as_ref(),
            )?,
            pepper: read("pepper", c.pepper.as_deref(), c.pepper_file.as_ref())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_32_bytes_and_do_not_print() {
        let text = fresh().unwrap();
        let secret = decode(&text).unwrap();
        assert!(decode(&format!("{}\n", *text)).is_some(), "a file ends with a line break");
        assert!(decode(&STANDARD.encode([0; 31])).is_none());
        assert!(!format!("{secret:?}").contains(text.as_str()));
        let config = SecretsConfig { seal_key: Some(text.to_string()), ..Default::default() };
        assert!(!format!("{config:?}").contains(text.as_str()));
        assert!(Secrets::load(&config).unwrap_err().to_string().contains("subject_key"));
    }

    #[test]
    fn a_secret_from_two_places_is_refused() {
        let config =
            SecretsConfig { seal_key: Some("x".into()), seal_key_file: Some("y".into()), ..Default::default() };
        assert!(Secrets::load(&config).unwrap_err().to_string().contains("both set"));
    }
}
