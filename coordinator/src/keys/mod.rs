//! Signing keys: sealed in the database, opened in memory, rotated with nobody logged out (design 2.4).
//!
//! What this module guarantees:
//! - A key is in the key set, whose version the feed names, before anything is signed with it.
//! - Keys are changed only under the lock on the `key_set` row, with a new version, an audit entry, and one commit.
//! - A withdrawn key signs nothing; its proofs verify as withdrawn, so that they are renewed, not refused.
//! - Nothing is signed from a key set that the database has not confirmed within [`UNCONFIRMED_LIMIT`].
//! - Secrets leave this module only as [`KeyStore::answer`], for the authenticated, never-cached path.

pub mod admin;
pub mod rotation;
pub mod schedule;

mod seal;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use edgekeep_shared::api::{Key, KeysAnswer, KeysRequest};
use edgekeep_shared::ids::{KeyId, SiteId, to_hex};
use edgekeep_shared::keyring::{KeyRing, RingKey, Secret};
use edgekeep_shared::token::{Claims, UntrustedToken, VerifiedToken, VerifyError, sign};
use sqlx::PgConnection;

use crate::db::{self, DbError};
use crate::failure::Failure;
use crate::feed::EdgeSettings;
use crate::feed::moment::{self, Moment};
use schedule::KeyTimes;

/// How long a key set counts after the database last confirmed its version.
pub const UNCONFIRMED_LIMIT: Duration = Duration::from_secs(60);

/// Why a token does not count here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    /// Not a token of ours, or not for this site.
    #[error("not a valid token")]
    Invalid,
    /// Signed with a key that this coordinator does not hold: load the keys anew, then it is invalid.
    #[error("signed with the unknown key {0:?}")]
    UnknownKey(KeyId),
}

struct OneKey {
    times: KeyTimes,
    secret: Secret,
}

/// A key set as loaded.
struct Loaded {
    ring: Arc<KeyRing>,
    keys: Vec<OneKey>,
    confirmed: Option<Moment>,
}

struct Inner {
    seal_key: Secret,
    form_secret: Secret,
    loaded: RwLock<Loaded>,
}

/// The key set of this coordinator; clones share it.
#[derive(Clone)]
pub struct KeyStore(Arc<Inner>);

impl KeyStore {
    /// An empty store that opens keys with this seal key.
    #[must_use]
    pub fn new(seal_key: &Secret) -> Self {
        let empty = Loaded { ring: Arc::new(KeyRing::default()), keys: Vec::new(), confirmed: None };
        Self(Arc::new(Inner {
            // Independent of the signing keys, so that rotating them invalidates no form.
            form_secret: seal_key.derive("form keys"),
            seal_key: seal_key.clone(),
            loaded: RwLock::new(empty),
        }))
    }

    fn with<T>(&self, look: impl FnOnce(&Loaded) -> T) -> T {
        look(&self.0.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn seal_key(&self) -> &Secret {
        &self.0.seal_key
    }

    /// The set's version; 0 before it was loaded.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.with(|loaded| loaded.ring.version())
    }

    pub(crate) fn is_at(&self, version: u64) -> bool {
        self.version() == version
    }

    /// The database said at this moment that this is the version of its key set.
    pub(crate) fn confirm(&self, version: u64, at: Moment) {
        let mut loaded = self.0.loaded.write().unwrap_or_else(PoisonError::into_inner);
        if loaded.ring.version() == version {
            loaded.confirmed = Some(at);
        }
    }

    /// All keys that verify, ready to use.
    #[must_use]
    pub fn ring(&self) -> Arc<KeyRing> {
        self.with(|loaded| Arc::clone(&loaded.ring))
    }

    /// Loads the key set and returns its version.
    ///
    /// # Errors
    /// When the database cannot be asked, or a key cannot be opened with this deployment's seal key.
    pub async fn load(&self, connection: &mut PgConnection) -> Result<u64, DbError> {
        let began = moment::now();
        // One statement, so that the keys are those of this version.
        let rows = sqlx::query!(
            r#"SELECT s.version, k.key_id AS "key_id?", k.sealed AS "sealed?",
                      floor(extract(epoch FROM k.signs_from) * 1000)::bigint AS "signs_from_ms?",
                      k.retired_at IS NOT NULL AS "retired!", k.withdrawn_at IS NOT NULL AS "withdrawn!"
               FROM key_set s LEFT JOIN signing_key k ON s.only_row
               ORDER BY k.signs_from DESC, k.key_id"#
        )
        .fetch_all(connection)
        .await?;
        let version = rows.first().map_or(Ok(0), |row| db::unsigned(row.version))?;
        let mut keys = Vec::with_capacity(rows.len());
        for row in rows {
            let (Some(id), Some(sealed), Some(signs_from_ms)) = (row.key_id, row.sealed, row.signs_from_ms) else {
                continue;
            };
            let id = KeyId(u32::try_from(id).map_err(|_| DbError::Corrupt("a key id out of range"))?);
            let secret = seal::open(self.seal_key(), id, &sealed)
                .map_err(|_| DbError::Corrupt("a signing key cannot be opened with secrets.seal_key"))?;
            let signs_from_ms = db::unsigned(signs_from_ms)?;
            let times = KeyTimes { id, signs_from_ms, retired: row.retired, withdrawn: row.withdrawn };
            keys.push(OneKey { times, secret });
        }
        let ring = KeyRing::new(
            version,
            keys.iter().map(|key| RingKey::new(key.times.id, &key.secret, key.times.withdrawn)).collect(),
        );
        let mut loaded = self.0.loaded.write().unwrap_or_else(PoisonError::into_inner);
        // A slow load that began before what is known now never puts an older set in the place of a newer one.
        let overtaken = loaded.confirmed.is_some_and(|confirmed| began.monotonic_until(confirmed) > Duration::ZERO);
        if overtaken && version < loaded.ring.version() {
            return Ok(loaded.ring.version());
        }
        *loaded = Loaded { ring: Arc::new(ring), keys, confirmed: Some(began) };
        Ok(version)
    }

    /// Verifies a token's MAC, site and layout. It says nothing about the session.
    ///
    /// # Errors
    /// When it does not count here.
    pub fn verify(&self, token: &str, site: SiteId) -> Result<VerifiedToken, TokenRefused> {
        let untrusted = UntrustedToken::parse(token).map_err(|_| TokenRefused::Invalid)?;
        untrusted.verify(&self.ring(), site).map_err(|error| match error {
            VerifyError::UnknownKey(id) => TokenRefused::UnknownKey(id),
            VerifyError::Invalid => TokenRefused::Invalid,
        })
    }

    /// Signs a proof with the key that signs at `now_ms` (coordinator time of the statement that decided it).
    ///
    /// # Errors
    /// [`Failure::NotReady`] when no key may sign, or the database has not confirmed the key set for too long.
    pub fn sign(&self, claims: &Claims, now_ms: u64) -> Result<String, Failure> {
        self.with(|loaded| {
            if loaded.confirmed.is_none_or(|at| moment::elapsed(at) > UNCONFIRMED_LIMIT) {
                return Err(Failure::NotReady("the key set was not confirmed for too long"));
            }
            let times: Vec<KeyTimes> = loaded.keys.iter().map(|key| key.times).collect();
            let signer = schedule::signer(&times, now_ms).ok_or(Failure::NotReady("no key may sign"))?;
            let key = loaded.ring.get(signer.id).ok_or(Failure::NotReady("no key may sign"))?;
            sign(claims, key).map_err(|error| {
                tracing::error!(%error, "a proof cannot be signed");
                Failure::Database(DbError::Corrupt("a user's name or roles do not fit a token"))
            })
        })
    }

    /// The key set for an edge.
    ///
    /// # Errors
    /// [`Failure::NotReady`] before it was loaded.
    pub fn answer(&self, request: &KeysRequest, settings: &EdgeSettings, now_ms: u64) -> Result<KeysAnswer, Failure> {
        self.with(|loaded| {
            if loaded.ring.version() == 0 {
                return Err(Failure::NotReady("the key set was not loaded yet"));
            }
            let keys = loaded
                .keys
                .iter()
                .map(|key| Key { id: key.times.id, secret: to_hex(&key.secret.0), withdrawn: key.times.withdrawn })
                .collect();
            Ok(KeysAnswer {
                nonce: request.nonce,
                version: loaded.ring.version(),
                keys,
                site: settings.site.clone(),
                form_secret: to_hex(&self.0.form_secret.0),
                sessions_per_user: settings.sessions_per_user,
                password_min_chars: settings.password_min_chars,
                now_ms,
            })
        })
    }
}
