//! Changing the policy that all coordinators share.
//!
//! A change is one transaction that no placing of a session overlaps: under a lowered `sessions_per_user` no login can
//! still make one session too many. The oldest excess then ends in batches; the clean-up task does the same, should
//! this process not live to finish.

use edgekeep_shared::problem::Reason;
use edgekeep_shared::revocation::Reach;
use edgekeep_shared::takeover::{SlotUse, excess};
use serde::Serialize;
use serde_json::json;
use sqlx::{PgConnection, PgPool};

use super::Admin;
use crate::db::audit::{self, Entry};
use crate::db::sessions::{self, Ending, Endings};
use crate::db::settings::{hold_exclusively, load};
use crate::db::{self, DbError, now_ms, run_tx, user_id, users};
use crate::epoch;
use crate::failure::Failure;
use crate::login::slot_use;

/// Added to how long a lowered bound leaves receipts under the old one: answers that are being sent right now.
const LOWERING_MARGIN_MS: i64 = 10_000;
/// Users whose excess is looked up at once.
const BATCH: i64 = 200;

/// The settings as they stand in the database. The names are those of the command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AllSettings {
    /// Grows with every change.
    pub version: i64,
    /// The audience of tokens. Changing it makes every cookie invalid.
    pub site: String,
    /// The bound of G2, in milliseconds.
    pub max_staleness_ms: i32,
    /// Sessions that a user may have.
    pub sessions_per_user: i32,
    /// `newest_wins` or `refuse_second`.
    pub takeover: String,
    /// Life of a proof, in milliseconds.
    pub proof_life_ms: i32,
    /// Idle timeout, in milliseconds.
    pub idle_timeout_ms: i64,
    /// Absolute timeout, in milliseconds.
    pub absolute_timeout_ms: i64,
    /// Guesses in a run.
    pub guess_limit: i32,
    /// First wait, in milliseconds.
    pub lockout_base_ms: i64,
    /// Longest wait, in milliseconds.
    pub lockout_max_ms: i64,
    /// Failures in a row until an administrator must unlock.
    pub consecutive_failure_cap: i32,
    /// Default of `Prefer: wait` for logins, in milliseconds.
    pub login_wait_ms: i32,
    /// The shortest new password, in characters.
    pub password_min_chars: i32,
    /// How long attempts are kept, in milliseconds.
    pub attempt_retention_ms: i64,
    /// How long audit entries are kept, in milliseconds.
    pub audit_retention_ms: i64,
}

/// `key` and `value` of `key=value`.
fn parsed<T: std::str::FromStr>(key: &str, value: &str) -> Result<T, Failure> {
    value.parse().map_err(|_| Failure::Invalid(format!("{key}={value}: a whole number is needed")))
}

impl AllSettings {
    fn set(&mut self, key: &str, value: &str) -> Result<(), Failure> {
        match key {
            "site" => value.clone_into(&mut self.site),
            "takeover" => value.clone_into(&mut self.takeover),
            "max_staleness_ms" => self.max_staleness_ms = parsed(key, value)?,
            "sessions_per_user" => self.sessions_per_user = parsed(key, value)?,
            "proof_life_ms" => self.proof_life_ms = parsed(key, value)?,
            "idle_timeout_ms" => self.idle_timeout_ms = parsed(key, value)?,
            "absolute_timeout_ms" => self.absolute_timeout_ms = parsed(key, value)?,
            "guess_limit" => self.guess_limit = parsed(key, value)?,
            "lockout_base_ms" => self.lockout_base_ms = parsed(key, value)?,
            "lockout_max_ms" => self.lockout_max_ms = parsed(key, value)?,
            "consecutive_failure_cap" => self.consecutive_failure_cap = parsed(key, value)?,
            "login_wait_ms" => self.login_wait_ms = parsed(key, value)?,
            "password_min_chars" => self.password_min_chars = parsed(key, value)?,
            "attempt_retention_ms" => self.attempt_retention_ms = parsed(key, value)?,
            "audit_retention_ms" => self.audit_retention_ms = parsed(key, value)?,
            _ => {
                return Err(Failure::Invalid(format!(
                    "there is no setting called {key} (`edgekeep settings show` lists them)"
                )));
            }
        }
        Ok(())
    }
}

async fn read(conn: &mut PgConnection) -> Result<AllSettings, DbError> {
    Ok(sqlx::query_as!(
        AllSettings,
        "SELECT version, site, max_staleness_ms, sessions_per_user, takeover, proof_life_ms, idle_timeout_ms,
                absolute_timeout_ms, guess_limit, lockout_base_ms, lockout_max_ms, consecutive_failure_cap,
                login_wait_ms, password_min_chars, attempt_retention_ms, audit_retention_ms
         FROM settings FOR UPDATE"
    )
    .fetch_one(conn)
    .await?)
}

async fn store(conn: &mut PgConnection, s: &AllSettings) -> Result<(), Failure> {
    let stored = sqlx::query!(
        "UPDATE settings SET
             version = version + 1, site = $1, sessions_per_user = $3, takeover = $4, proof_life_ms = $5,
             idle_timeout_ms = $6, absolute_timeout_ms = $7, guess_limit = $8, lockout_base_ms = $9,
             lockout_max_ms = $10, consecutive_failure_cap = $11, login_wait_ms = $12, password_min_chars = $13,
             attempt_retention_ms = $14, audit_retention_ms = $15,
             -- A lowered bound binds receipts only when every lease given under the old one has run out.
             previous_staleness_ms = CASE WHEN $2 < max_staleness_ms
                 THEN greatest(max_staleness_ms,
                               CASE WHEN previous_staleness_until > clock_timestamp() THEN previous_staleness_ms ELSE 0 END)
                 ELSE previous_staleness_ms END,
             previous_staleness_until = CASE WHEN $2 < max_staleness_ms
                 THEN greatest(previous_staleness_until,
                               clock_timestamp() + (max_staleness_ms + $16::bigint) * interval '1 millisecond')
                 ELSE previous_staleness_until END,
             max_staleness_ms = $2",
        s.site,
        s.max_staleness_ms,
        s.sessions_per_user,
        s.takeover,
        s.proof_life_ms,
        s.idle_timeout_ms,
        s.absolute_timeout_ms,
        s.guess_limit,
        s.lockout_base_ms,
        s.lockout_max_ms,
        s.consecutive_failure_cap,
        s.login_wait_ms,
        s.password_min_chars,
        s.attempt_retention_ms,
        s.audit_retention_ms,
        LOWERING_MARGIN_MS
    )
    .execute(conn)
    .await;
    match stored {
        Ok(_) => Ok(()),
        Err(sqlx::Error::Database(error)) if error.is_check_violation() => {
            let constraint = error.constraint().unwrap_or_default().to_owned();
            Err(Failure::Invalid(format!("out of bounds: {constraint}")))
        }
        Err(error) => Err(DbError::from(error).into()),
    }
}

impl Admin {
    /// The settings as they are.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn settings(&self) -> Result<AllSettings, Failure> {
        run_tx!(&self.pool, "admin.settings.show", async |conn| Ok(read(conn).await?)).await
    }

    /// Changes settings, all of them or none.
    ///
    /// # Errors
    /// [`Failure::Invalid`] names the key that does not exist or whose value is out of bounds.
    pub async fn set_settings(&self, changes: &[(String, String)]) -> Result<AllSettings, Failure> {
        let result = run_tx!(&self.pool, "admin.settings.set", async |conn| {
            hold_exclusively(conn).await?;
            let before = read(conn).await?;
            let mut after = before.clone();
            for (key, value) in changes {
                after.set(key, value)?;
            }
            if after.idle_timeout_ms > after.absolute_timeout_ms {
                return Err(Failure::Invalid("idle_timeout_ms must not be longer than absolute_timeout_ms".into()));
            }
            if after != before {
                store(conn, &after).await?;
                let changed: serde_json::Map<_, _> = changes.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
                let (action, detail) = ("settings_changed", json!(changed));
                audit::write(conn, Entry { user: None, subject: None, action, session: None, detail }).await?;
            }
            Ok(read(conn).await?)
        })
        .await;
        let after = match result {
            Err(Failure::Invalid(text)) => return Err(Failure::Invalid(self.with_bounds(text).await)),
            other => other?,
        };
        end_excess(&self.pool).await?;
        Ok(after)
    }

    /// A refusal by a check of the schema, with what that check is.
    async fn with_bounds(&self, text: String) -> String {
        let Some(constraint) = text.strip_prefix("out of bounds: ") else { return text };
        let Ok(mut connection) = db::acquire(&self.pool).await else { return text };
        let definition = sqlx::query_scalar!(
            r#"SELECT pg_get_constraintdef(oid) AS "definition!" FROM pg_constraint
               WHERE conname = $1 AND conrelid = 'settings'::regclass"#,
            constraint
        )
        .fetch_optional(&mut *connection)
        .await;
        match definition {
            Ok(Some(definition)) => format!("out of bounds: the rule is {definition}"),
            Ok(None) | Err(_) => text,
        }
    }
}

/// Ends the oldest sessions of users who have more than they may. Returns how many ended.
///
/// # Errors
/// When the database cannot do it; what has ended so far has ended.
pub async fn end_excess(pool: &PgPool) -> Result<u64, Failure> {
    let mut total = 0;
    loop {
        let users: Vec<i64> = sqlx::query_scalar!(
            "SELECT user_id FROM session WHERE least(idle_expires_at, expires_at) > clock_timestamp()
             GROUP BY user_id HAVING count(*) > (SELECT sessions_per_user FROM settings) LIMIT $1",
            BATCH
        )
        .fetch_all(&mut *db::acquire(pool).await?)
        .await
        .map_err(DbError::from)?;
        if users.is_empty() {
            return Ok(total);
        }
        for id in users {
            let id = user_id(id)?;
            let ended: Result<u64, DbError> = run_tx!(pool, "admin.excess", async |conn| {
                let epoch = epoch::checked(conn).await?;
                let Some(mut state) = users::lock(conn, &[id]).await?.into_iter().next() else { return Ok(0) };
                let rows = sessions::lock_of_users(conn, &[id]).await?;
                let now_ms = now_ms(conn).await?;
                let uses: Vec<SlotUse> = rows.iter().map(|row| slot_use(row, now_ms)).collect();
                let slots = excess(&uses, load(conn).await?.sessions_per_user);
                let reason = Reason::Revoked;
                let endings: Vec<Ending<'_>> = rows
                    .iter()
                    .filter(|row| slots.contains(&row.slot) && !row.expired(now_ms))
                    .map(|session| Ending { session, reason })
                    .collect();
                let reach = Reach::Named;
                let all = Endings { sessions: &endings, rowless: &[], reach, by: "administrator" };
                sessions::end(conn, epoch, now_ms, &mut state, &all).await?;
                Ok(endings.len() as u64)
            })
            .await;
            total += ended?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_and_text_are_refused_by_name() {
        let mut settings = AllSettings {
            version: 1,
            site: "main".into(),
            max_staleness_ms: 5000,
            sessions_per_user: 1,
            takeover: "newest_wins".into(),
            proof_life_ms: 1,
            idle_timeout_ms: 1,
            absolute_timeout_ms: 1,
            guess_limit: 5,
            lockout_base_ms: 1,
            lockout_max_ms: 1,
            consecutive_failure_cap: 100,
            login_wait_ms: 0,
            password_min_chars: 15,
            attempt_retention_ms: 1,
            audit_retention_ms: 1,
        };
        settings.set("max_staleness_ms", "1000").unwrap();
        assert_eq!(settings.max_staleness_ms, 1000);
        assert!(settings.set("max_stale", "1").unwrap_err().to_string().contains("max_stale"));
        assert!(settings.set("guess_limit", "many").unwrap_err().to_string().contains("guess_limit=many"));
        assert!(settings.set("version", "9").is_err());
    }
}
