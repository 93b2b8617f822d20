//! Edges and their credentials (design 2.4): one per edge deployment, hashed at rest, revocable.
//!
//! What this module guarantees:
//! - A credential is as [`edgekeep_shared::credential`] says; the database holds its SHA-256 only, and the random part has
//!   256 bits, so no slow hash is needed. What was derived from it for relays opens the feed and nothing else.
//! - Comparison takes the same time wherever the bytes differ.
//! - Revoking a credential withdraws every signing key that its edge held, in the same transaction.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use edgekeep_shared::credential::{
    Kind, MAX_EDGE_ID_CHARS, Presented, edge_credential, feed_proof, hash, is_edge_id, parse,
};
use edgekeep_shared::keyring::Secret;
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::db::{self, DbError, audit};
use crate::failure::Failure;
use crate::keys;

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

    /// The edge whose own credential this is.
    #[must_use]
    pub fn authenticate(&self, credential: &str) -> Option<String> {
        self.find(credential).filter(|(_, kind)| *kind == Kind::Edge).map(|(edge, _)| edge)
    }

    /// The edge whose credential this is, its own one or its feed credential: good for the feed. And which of the two.
    #[must_use]
    pub fn authenticate_follower(&self, credential: &str) -> Option<(String, Kind)> {
        self.find(credential)
    }

    fn find(&self, credential: &str) -> Option<(String, Kind)> {
        let Presented { edge_id, kind, proof } = parse(credential)?;
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        // An id is no secret; one that is not known is compared all the same.
        let stored = known.hashes.get(edge_id).copied();
        let expected = match kind {
            Kind::Edge => stored.unwrap_or_default(),
            Kind::Feed => feed_proof(&stored.unwrap_or_default()),
        };
        let matches: bool = proof.ct_eq(&expected).into();
        (matches && stored.is_some()).then(|| (edge_id.to_owned(), kind))
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
    Ok(edge_credential(edge_id, &secret))
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
    use edgekeep_shared::credential::feed_credential;

    use super::*;

    #[test]
    fn a_credential_counts_for_what_it_is() {
        let own = edge_credential("edge-1", &[0xff; 32]);
        let feed = feed_credential(&own).unwrap();
        let registry = EdgeRegistry::new();
        assert_eq!(registry.authenticate(&own), None);
        assert_eq!(registry.authenticate_follower(&feed), None);
        registry.0.write().unwrap().hashes.insert("edge-1".to_owned(), hash(&[0xff; 32]));
        assert_eq!(registry.authenticate(&own).as_deref(), Some("edge-1"));
        assert_eq!(registry.authenticate_follower(&own), Some(("edge-1".to_owned(), Kind::Edge)));
        assert_eq!(registry.authenticate_follower(&feed), Some(("edge-1".to_owned(), Kind::Feed)));
        assert_eq!(registry.authenticate(&feed), None, "it opens the feed alone");
        for bad in ["", &own[..own.len() - 1], &own.replace("edge-1", "edge-2"), &feed.replacen("ekf_", "ek_", 1)] {
            assert_eq!((registry.authenticate(bad), registry.authenticate_follower(bad)), (None, None), "{bad}");
        }
        // An unknown id whose secret hashes to nothing in particular is still unknown.
        for nobody in
            [edge_credential("other", &[0; 32]), feed_credential(&edge_credential("other", &[0; 32])).unwrap()]
        {
            assert_eq!(registry.authenticate_follower(&nobody), None);
        }
        let of_nothing = format!("ekf_other_{}", edgekeep_shared::codec::to_base64url(&feed_proof(&[0; 32])));
        assert_eq!(registry.authenticate_follower(&of_nothing), None);
    }
}
