//! Edges and their credentials (design 2.4): one per edge deployment, hashed at rest, revocable.
//!
//! What this module guarantees:
//! - A credential is `ek_<edge id>_<32 random bytes as base64url>`; the database holds its SHA-256 only, and the
//!   random part has 256 bits, so no slow hash is needed.
//! - Comparison takes the same time wherever the bytes differ.
//! - Revoking a credential withdraws every signing key that its edge held, in the same transaction.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use edgekeep_shared::codec::{from_base64url, to_base64url};
use edgekeep_shared::keyring::Secret;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::db::{self, DbError, audit};
use crate::failure::Failure;
use crate::keys;

/// The longest edge id, in characters.
const MAX_EDGE_ID_CHARS: usize = 63;

/// A name for an edge deployment: `a-z 0-9 -`, not beginning with `-`.
fn is_edge_id(text: &str) -> bool {
    let good = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=MAX_EDGE_ID_CHARS).contains(&text.len()) && text.bytes().all(good) && !text.starts_with('-')
}

/// The hash that the database holds.
fn hash(secret: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(b"edgekeep edge credential\0").chain_update(secret).finalize().into()
}

/// Edge id and secret of a credential's text.
fn parse(credential: &str) -> Option<(&str, Zeroizing<Vec<u8>>)> {
    let (edge_id, secret) = credential.strip_prefix("ek_")?.split_once('_')?;
    let secret = Zeroizing::new(from_base64url(secret)?);
    (is_edge_id(edge_id) && secret.len() == 32).then_some((edge_id, secret))
}

#[derive(Default)]
struct Known {
    /// As the reader saw the list last: differs whenever the list does.
    list: String,
    hashes: HashMap<String, [u8; 32]>,
}

/// The credentials that count, in memory; the feed's reader keeps them fresh.
#[derive(Clone, Default)]
pub struct EdgeRegistry(Arc<RwLock<Known>>);

impl EdgeRegistry {
    /// Knows nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The edge whose credential this is.
    #[must_use]
    pub fn authenticate(&self, credential: &str) -> Option<String> {
        let (edge_id, secret) = parse(credential)?;
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        // An id is no secret; one that is not known is compared all the same.
        let expected = known.hashes.get(edge_id).copied();
        let matches: bool = hash(&secret).ct_eq(&expected.unwrap_or_default()).into();
        (matches && expected.is_some()).then(|| edge_id.to_owned())
    }

    pub(crate) fn is_at(&self, list: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).list == list
    }

    /// Loads the credentials that count. `list` is what the reader saw before: if it has changed again since, the
    /// reader loads again.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub(crate) async fn load(&self, connection: &mut PgConnection, list: &str) -> Result<(), DbError> {
        let rows = sqlx::query!("SELECT edge_id, secret_hash FROM edge_credential WHERE revoked_at IS NULL")
            .fetch_all(connection)
            .await?;
        let mut hashes = HashMap::with_capacity(rows.len());
        for row in rows {
            hashes.insert(row.edge_id, db::bytes(&row.secret_hash)?);
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Known { list: list.to_owned(), hashes };
        Ok(())
    }
}

/// An edge deployment as the command line shows it.
#[derive(Clone, Debug, Serialize)]
pub struct EdgeInfo {
    /// Its name.
    pub edge_id: String,
    /// Since when it has its credential, in coordinator milliseconds.
    pub created_at_ms: u64,
    /// Since when that does not count any more, in coordinator milliseconds.
    pub revoked_at_ms: Option<u64>,
}

/// Makes a credential for a new edge deployment and returns its text, which is stored nowhere. The name of a revoked
/// one may be used again.
///
/// # Errors
/// [`Failure::Invalid`] for a name that is malformed or taken; else when the database cannot be asked.
pub async fn add(connection: &mut PgConnection, edge_id: &str) -> Result<Zeroizing<String>, Failure> {
    if !is_edge_id(edge_id) {
        return Err(Failure::Invalid(format!(
            "an edge's name has 1 to {MAX_EDGE_ID_CHARS} characters of a-z 0-9 - and does not begin with -"
        )));
    }
    let mut secret = Zeroizing::new([0_u8; 32]);
    getrandom::fill(secret.as_mut_slice()).map_err(|_| Failure::NotReady("no random bytes"))?;
    let hashed = hash(secret.as_slice());
    let added = sqlx::query!(
        "INSERT INTO edge_credential AS e (edge_id, secret_hash) VALUES ($1, $2)
         ON CONFLICT (edge_id) DO UPDATE SET secret_hash = excluded.secret_hash, created_at = clock_timestamp(),
                                             revoked_at = NULL
         WHERE e.revoked_at IS NOT NULL",
        edge_id,
        hashed.as_slice(),
    )
    .execute(&mut *connection)
    .await
    .map_err(DbError::from)?;
    if added.rows_affected() != 1 {
        return Err(Failure::Invalid(format!("there is an edge {edge_id} already: revoke it first, or name another")));
    }
    note(connection, "edge_added", edge_id).await?;
    Ok(Zeroizing::new(format!("ek_{edge_id}_{}", to_base64url(secret.as_slice()))))
}

/// Revokes an edge's credential, and withdraws every signing key that it held.
///
/// # Errors
/// [`Failure::Invalid`] if no such edge has a credential that counts; else when the database cannot be asked.
pub async fn revoke(connection: &mut PgConnection, seal_key: &Secret, edge_id: &str) -> Result<(), Failure> {
    let revoked = sqlx::query!(
        "UPDATE edge_credential SET revoked_at = clock_timestamp() WHERE edge_id = $1 AND revoked_at IS NULL",
        edge_id
    )
    .execute(&mut *connection)
    .await
    .map_err(DbError::from)?;
    if revoked.rows_affected() != 1 {
        return Err(Failure::Invalid(format!("there is no edge {edge_id} with a credential that counts")));
    }
    keys::admin::withdraw_all(connection, seal_key).await?;
    note(connection, "edge_revoked", edge_id).await?;
    Ok(())
}

async fn note(connection: &mut PgConnection, action: &'static str, edge_id: &str) -> Result<(), DbError> {
    let detail = json!({ "edge": edge_id });
    audit::write(connection, audit::Entry { user: None, subject: None, action, session: None, detail }).await
}

/// All edge deployments, by name.
///
/// # Errors
/// When the database cannot be asked.
pub async fn list(connection: &mut PgConnection) -> Result<Vec<EdgeInfo>, DbError> {
    sqlx::query!(
        r#"SELECT edge_id, floor(extract(epoch FROM created_at) * 1000)::bigint AS "created_at_ms!",
                  floor(extract(epoch FROM revoked_at) * 1000)::bigint AS "revoked_at_ms?"
           FROM edge_credential ORDER BY edge_id"#
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        Ok(EdgeInfo {
            edge_id: row.edge_id,
            created_at_ms: db::unsigned(row.created_at_ms)?,
            revoked_at_ms: row.revoked_at_ms.map(db::unsigned).transpose()?,
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_taken_whole_or_not_at_all() {
        let secret = [0xff_u8; 32];
        let text = format!("ek_edge-1_{}", to_base64url(&secret));
        assert!(text.matches('_').count() > 2, "base64url has underscores of its own");
        let registry = EdgeRegistry::new();
        assert_eq!(registry.authenticate(&text), None);
        registry.0.write().unwrap().hashes.insert("edge-1".to_owned(), hash(&secret));
        assert_eq!(registry.authenticate(&text).as_deref(), Some("edge-1"));
        for bad in ["", "ek_", "ek_edge-1_", "ek_edge-1", &text[..text.len() - 1], &text.replace("edge-1", "edge-2")] {
            assert_eq!(registry.authenticate(bad), None, "{bad}");
        }
        // An unknown id whose secret hashes to nothing in particular is still unknown.
        assert_eq!(registry.authenticate(&format!("ek_other_{}", to_base64url(&[0; 32]))), None);
    }

    #[test]
    fn edge_ids_are_plain() {
        assert!(is_edge_id("eu-1") && is_edge_id("a"));
        assert!(!is_edge_id("") && !is_edge_id("-a") && !is_edge_id("A") && !is_edge_id("a_b"));
        assert!(!is_edge_id(&"a".repeat(64)));
    }
}
