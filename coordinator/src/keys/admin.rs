//! Changing the key set: by schedule, on demand, and because an edge must not hold it any more.
//!
//! Every function runs inside of the caller's transaction and takes the lock on the `key_set` row first, so that of
//! several coordinators and administrators one changes it at a time.

use edgekeep_shared::ids::KeyId;
use edgekeep_shared::keyring::Secret;
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;

use super::schedule::{KeyTimes, Rotation, announce_ms, plan, signer};
use super::seal;
use crate::config::KeysConfig;
use crate::db::{self, DbError, audit};
use crate::failure::Failure;

/// A key as the command line shows it.
#[derive(Clone, Debug, Serialize)]
pub struct KeyInfo {
    /// Named in tokens.
    pub id: KeyId,
    /// `announced`, `signing`, `retired` or `withdrawn`.
    pub state: &'static str,
    /// When it was made, in coordinator milliseconds.
    pub created_at_ms: u64,
    /// When it begins to sign, in coordinator milliseconds.
    pub signs_from_ms: u64,
}

/// The key set under its lock.
struct Locked {
    keys: Vec<KeyTimes>,
    now_ms: u64,
    max_staleness_ms: u64,
}

async fn lock(connection: &mut PgConnection) -> Result<Locked, DbError> {
    let set = sqlx::query!("SELECT version FROM key_set FOR UPDATE").fetch_all(&mut *connection).await?;
    if set.len() != 1 {
        return Err(DbError::Corrupt("the key_set row is not there"));
    }
    // A statement of its own: its snapshot is from after the lock.
    let rows = sqlx::query!(
        r#"SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS "now_ms!", s.max_staleness_ms,
                  k.key_id AS "key_id?", floor(extract(epoch FROM k.signs_from) * 1000)::bigint AS "signs_from_ms?",
                  k.retired_at IS NOT NULL AS "retired!", k.withdrawn_at IS NOT NULL AS "withdrawn!"
           FROM settings s LEFT JOIN signing_key k ON true"#
    )
    .fetch_all(&mut *connection)
    .await?;
    let first = rows.first().ok_or(DbError::Corrupt("the settings row is not there"))?;
    let (now_ms, max_staleness_ms) = (db::unsigned(first.now_ms)?, db::unsigned(i64::from(first.max_staleness_ms))?);
    let mut keys = Vec::with_capacity(rows.len());
    for row in &rows {
        if let (Some(id), Some(signs_from_ms)) = (row.key_id, row.signs_from_ms) {
            keys.push(KeyTimes {
                id: key_id(id)?,
                signs_from_ms: db::unsigned(signs_from_ms)?,
                retired: row.retired,
                withdrawn: row.withdrawn,
            });
        }
    }
    Ok(Locked { keys, now_ms, max_staleness_ms })
}

fn key_id(id: i32) -> Result<KeyId, DbError> {
    u32::try_from(id).map(KeyId).map_err(|_| DbError::Corrupt("a key id out of range"))
}

fn column(id: KeyId) -> Result<i32, DbError> {
    i32::try_from(id.0).map_err(|_| DbError::Corrupt("a key id out of range"))
}

fn random<const N: usize>() -> Result<[u8; N], DbError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| DbError::Unavailable("no random bytes".to_owned()))?;
    Ok(bytes)
}

/// Makes a key that signs from `signs_from_ms` on. Ids are random: one that a restored backup forgot is not given
/// out again.
async fn make(connection: &mut PgConnection, seal_key: &Secret, signs_from_ms: u64) -> Result<KeyId, DbError> {
    let id = KeyId((u32::from_be_bytes(random()?) >> 1).max(1));
    let sealed = seal::seal(seal_key, id, &Secret(random()?), random()?)
        .map_err(|_| DbError::Corrupt("a signing key cannot be sealed"))?;
    sqlx::query!(
        "INSERT INTO signing_key (key_id, sealed, signs_from)
         VALUES ($1, $2, timestamptz 'epoch' + $3 * interval '1 millisecond')",
        column(id)?,
        sealed,
        db::signed(signs_from_ms) as _,
    )
    .execute(&mut *connection)
    .await?;
    note(connection, "key_made", json!({ "key": id, "signs_from_ms": signs_from_ms })).await?;
    Ok(id)
}

async fn note(connection: &mut PgConnection, action: &'static str, detail: serde_json::Value) -> Result<(), DbError> {
    audit::write(connection, audit::Entry { user: None, subject: None, action, session: None, detail }).await
}

async fn next_version(connection: &mut PgConnection) -> Result<(), DbError> {
    let raised = sqlx::query!("UPDATE key_set SET version = version + 1").execute(connection).await?;
    db::affected(raised.rows_affected(), 1, "the key_set row is not there")
}

/// Does what the schedule asks for now, and drops keys that nobody can need. Returns whether the set changed.
/// `at_once`: announce the next key now, whenever the schedule would.
///
/// # Errors
/// When the database cannot be asked.
pub async fn rotate(
    connection: &mut PgConnection,
    seal_key: &Secret,
    config: &KeysConfig,
    at_once: bool,
) -> Result<bool, DbError> {
    let set = lock(connection).await?;
    let rotation = Rotation {
        every_ms: config.rotate_every_s.saturating_mul(1000),
        announce_ms: announce_ms(config.announce_s.saturating_mul(1000), set.max_staleness_ms),
    };
    let plan = plan(&set.keys, set.now_ms, rotation, at_once);
    if let Some(signs_from_ms) = plan.make_from_ms {
        make(connection, seal_key, signs_from_ms).await?;
    }
    for id in &plan.retire {
        let retired = sqlx::query!(
            "UPDATE signing_key SET retired_at = clock_timestamp() WHERE key_id = $1 AND retired_at IS NULL",
            column(*id)?
        )
        .execute(&mut *connection)
        .await?;
        db::affected(retired.rows_affected(), 1, "a signing key retired twice")?;
        note(connection, "key_retired", json!({ "key": id })).await?;
    }
    let dropped = drop_unneeded(connection).await?;
    let changed = plan.make_from_ms.is_some() || !plan.retire.is_empty() || dropped > 0;
    if changed {
        next_version(connection).await?;
    }
    Ok(changed)
}

/// Deletes retired keys of which every token is past its session's absolute expiry: no session that was begun while
/// the key signed is left (an hour is added for coordinators that noticed late), and what ended since is forgotten too.
async fn drop_unneeded(connection: &mut PgConnection) -> Result<u64, DbError> {
    let dropped = sqlx::query!(
        r#"DELETE FROM signing_key k USING settings s
           WHERE k.retired_at < clock_timestamp() - interval '1 hour' - s.absolute_timeout_ms * interval '1 millisecond'
             AND NOT EXISTS (SELECT FROM session WHERE authenticated_at < k.retired_at + interval '1 hour'
                                                   AND expires_at > clock_timestamp())
           RETURNING k.key_id"#
    )
    .fetch_all(&mut *connection)
    .await?;
    for row in &dropped {
        note(connection, "key_dropped", json!({ "key": row.key_id })).await?;
    }
    Ok(dropped.len() as u64)
}

/// Withdraws a key: it signs nothing any more, and its proofs must renew before they count. If no other key may
/// sign, one is made that signs at once.
///
/// # Errors
/// [`Failure::Invalid`] if there is no such key; else when the database cannot be asked.
pub async fn withdraw(connection: &mut PgConnection, seal_key: &Secret, id: KeyId) -> Result<(), Failure> {
    let mut set = lock(connection).await?;
    let Some(key) = set.keys.iter_mut().find(|key| key.id == id) else {
        return Err(Failure::Invalid(format!("there is no key {}", id.0)));
    };
    if key.withdrawn {
        return Ok(());
    }
    key.withdrawn = true;
    withdraw_these(connection, seal_key, &set, &[id]).await?;
    Ok(())
}

/// Withdraws every key that there is (an edge that held them must not be able to sign any more) and makes a new one
/// that signs at once.
///
/// # Errors
/// When the database cannot be asked.
pub async fn withdraw_all(connection: &mut PgConnection, seal_key: &Secret) -> Result<(), DbError> {
    let mut set = lock(connection).await?;
    let ids: Vec<KeyId> = set.keys.iter().filter(|key| !key.withdrawn).map(|key| key.id).collect();
    for key in &mut set.keys {
        key.withdrawn = true;
    }
    withdraw_these(connection, seal_key, &set, &ids).await
}

/// `set` says already what will be so.
async fn withdraw_these(
    connection: &mut PgConnection,
    seal_key: &Secret,
    set: &Locked,
    ids: &[KeyId],
) -> Result<(), DbError> {
    for id in ids {
        let withdrawn = sqlx::query!(
            "UPDATE signing_key SET withdrawn_at = clock_timestamp(), retired_at = coalesce(retired_at, clock_timestamp())
             WHERE key_id = $1 AND withdrawn_at IS NULL",
            column(*id)?
        )
        .execute(&mut *connection)
        .await?;
        db::affected(withdrawn.rows_affected(), 1, "a signing key was withdrawn twice")?;
        note(connection, "key_withdrawn", json!({ "key": id })).await?;
    }
    if signer(&set.keys, set.now_ms).is_none() {
        make(connection, seal_key, set.now_ms).await?;
    }
    next_version(connection).await
}

/// All keys, newest first.
///
/// # Errors
/// When the database cannot be asked.
pub async fn list(connection: &mut PgConnection) -> Result<Vec<KeyInfo>, DbError> {
    let rows = sqlx::query!(
        r#"SELECT key_id, floor(extract(epoch FROM created_at) * 1000)::bigint AS "created_at_ms!",
                  floor(extract(epoch FROM signs_from) * 1000)::bigint AS "signs_from_ms!",
                  floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS "now_ms!",
                  retired_at IS NOT NULL AS "retired!", withdrawn_at IS NOT NULL AS "withdrawn!"
           FROM signing_key ORDER BY signs_from DESC, key_id DESC"#
    )
    .fetch_all(connection)
    .await?;
    let mut keys = Vec::with_capacity(rows.len());
    for row in &rows {
        let signs_from_ms = db::unsigned(row.signs_from_ms)?;
        keys.push((
            KeyTimes { id: key_id(row.key_id)?, signs_from_ms, retired: row.retired, withdrawn: row.withdrawn },
            db::unsigned(row.created_at_ms)?,
        ));
    }
    let now_ms = rows.first().map_or(Ok(0), |row| db::unsigned(row.now_ms))?;
    let times: Vec<KeyTimes> = keys.iter().map(|(times, _)| *times).collect();
    let signing = signer(&times, now_ms).map(|key| key.id);
    Ok(keys
        .into_iter()
        .map(|(times, created_at_ms)| KeyInfo {
            id: times.id,
            state: match times {
                KeyTimes { withdrawn: true, .. } => "withdrawn",
                KeyTimes { retired: true, .. } => "retired",
                _ if signing == Some(times.id) => "signing",
                _ if times.signs_from_ms > now_ms => "announced",
                _ => "retired",
            },
            created_at_ms,
            signs_from_ms: times.signs_from_ms,
        })
        .collect())
}
