//! What an administrator does, from the command line.
//!
//! What this module guarantees:
//! - Every change is one transaction under the user's lock, with its audit entry, and raises the user's revision where
//!   it ends sessions or changes what proofs say (design 2.2). It takes effect like any revocation.
//! - A user id is random and never given out again: a deleted user stays as a tombstone without a name.

pub mod settings;
pub mod view;

use edgekeep_shared::ids::UserId;
use edgekeep_shared::lockout::{Lock, SubjectState};
use edgekeep_shared::problem::Reason;
use edgekeep_shared::revocation::Reach;
use edgekeep_shared::subject::{canonical_name, subject};
use edgekeep_shared::token::{MAX_ROLES, is_role};
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};

use crate::config::Config;
use crate::db::attempts;
use crate::db::audit::{self, Entry};
use crate::db::sessions::{self, Ending, Endings, SessionRow};
use crate::db::settings as policy;
use crate::db::users::{self, User, UserState};
use crate::db::{self, DbError, now_ms, run_tx, signed};
use crate::epoch;
use crate::failure::Failure;
use crate::password::rules::BlockList;
use crate::password::{Hasher, Password, importable};
use crate::secrets::Secrets;

/// What an administrator's commands need.
pub struct Admin {
    /// Connections.
    pub pool: PgPool,
    /// The subject key and the pepper, of these.
    pub secrets: Secrets,
    /// Hashes new passwords.
    pub hasher: Hasher,
    /// Refuses common ones.
    pub block_list: BlockList,
}

/// How a new user signs in.
pub enum NewPassword {
    /// With this password.
    Typed(Password),
    /// With the password that another system made this hash of.
    Imported(String),
    /// Not yet.
    None,
}

/// A user in the middle of an administrator's transaction: locked.
struct Locked {
    user: User,
    state: UserState,
    rows: Vec<SessionRow>,
    epoch: u16,
    now_ms: u64,
}

impl Admin {
    /// Connects as configured.
    ///
    /// # Errors
    /// Says what is wrong with the configuration or the database.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let secrets = Secrets::load(&config.secrets)?;
        Ok(Self {
            pool: db::pool(config).await?,
            hasher: Hasher::new(&config.argon2, &config.hashing, secrets.pepper.clone())?,
            block_list: BlockList::load(config.passwords.block_list_file.as_deref())?,
            secrets,
        })
    }

    /// The subject of a name.
    pub(crate) fn subject(&self, name: &str) -> Result<[u8; 32], Failure> {
        let canonical = canonical_name(name).map_err(|error| Failure::Invalid(error.to_string()))?;
        Ok(subject(&self.secrets.subject_key, &canonical))
    }

    async fn hash(&self, name: &str, password: Password) -> Result<String, Failure> {
        let settings = {
            let mut conn = db::acquire(&self.pool).await?;
            policy::load(&mut conn).await?
        };
        let minimum = settings.password_min_chars;
        let checked = self.block_list.check(&password, minimum, name, &settings.site);
        checked.map_err(|error| Failure::Invalid(error.to_string()))?;
        self.hasher.hash(self.hasher.permit().await?, password).await
    }

    /// Makes a user.
    ///
    /// # Errors
    /// [`Failure::Invalid`] when the name is taken or malformed, or the password or a role is refused.
    pub async fn add(&self, name: &str, password: NewPassword, roles: &[String]) -> Result<UserId, Failure> {
        let subject = self.subject(name)?;
        let roles = checked_roles(roles)?;
        let (hash, imported) = match password {
            NewPassword::Typed(password) => (Some(self.hash(name, password).await?), false),
            NewPassword::Imported(hash) => {
                importable(&hash)
                    .map_err(|error| Failure::Invalid(format!("this hash cannot be imported: {error}")))?;
                (Some(hash), true)
            }
            NewPassword::None => (None, false),
        };
        run_tx!(&self.pool, "admin.add", async |conn| {
            let id = random_user_id()?;
            let rows = sqlx::query!(
                "INSERT INTO users (user_id, name, subject, password_hash, roles) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (subject) WHERE deleted_at IS NULL DO NOTHING",
                signed(id.0),
                name,
                subject.as_slice(),
                hash,
                &roles
            )
            .execute(&mut *conn)
            .await
            .map_err(DbError::from)?
            .rows_affected();
            if rows == 0 {
                return Err(Failure::Invalid(format!("there is a user called {name} already")));
            }
            // In the present epoch: nothing of an older one can have been lost of a user who is new.
            sqlx::query!(
                "INSERT INTO user_state (user_id, revision)
                 VALUES ($1, coalesce((SELECT epoch FROM cluster), 0)::bigint << 48)",
                signed(id.0)
            )
            .execute(&mut *conn)
            .await
            .map_err(DbError::from)?;
            note(conn, id, "user_added", json!({ "roles": roles, "imported": imported })).await?;
            Ok(id)
        })
        .await
    }

    /// Sets a password, ends every session and lifts every lock.
    ///
    /// # Errors
    /// [`Failure::Invalid`] when there is no such user or the password is refused.
    pub async fn set_password(&self, name: &str, password: Password) -> Result<(), Failure> {
        let hash = self.hash(name, password).await?;
        self.change(name, "admin.passwd", async |conn, mut locked: Locked| {
            if !users::store_password(conn, locked.user.id, locked.user.password_version, &hash).await? {
                return Err(DbError::Corrupt("a password that changed under its user's lock").into());
            }
            locked.end_all(conn, Reason::PasswordChanged).await?;
            unlock(conn, &locked.user.subject).await?;
            note(conn, locked.user.id, "password_set", json!({})).await
        })
        .await
    }

    /// Gives a user these roles and no others. Sessions live on; their proofs must be renewed.
    ///
    /// # Errors
    /// [`Failure::Invalid`] when there is no such user or a role is malformed.
    pub async fn set_roles(&self, name: &str, roles: &[String]) -> Result<(), Failure> {
        let roles = checked_roles(roles)?;
        self.change(name, "admin.roles", async |conn, mut locked: Locked| {
            if locked.user.roles == roles {
                return Ok(());
            }
            let id = locked.user.id;
            sqlx::query!("UPDATE users SET roles = $2 WHERE user_id = $1", signed(id.0), &roles)
                .execute(&mut *conn)
                .await
                .map_err(DbError::from)?;
            let times: Vec<_> = locked.rows.iter().map(SessionRow::times).collect();
            sessions::revoke(conn, locked.epoch, locked.now_ms, &mut locked.state, Reach::Every, &times).await?;
            note(conn, id, "roles_changed", json!({ "from": locked.user.roles, "to": roles })).await
        })
        .await
    }

    /// Disables a user and ends every session. Repeated, it changes nothing.
    ///
    /// # Errors
    /// [`Failure::Invalid`] when there is no such user.
    pub async fn disable(&self, name: &str) -> Result<(), Failure> {
        self.change(name, "admin.disable", async |conn, mut locked: Locked| {
            let id = locked.user.id;
            sqlx::query!(
                "UPDATE users SET disabled_at = coalesce(disabled_at, clock_timestamp()) WHERE user_id = $1",
                signed(id.0)
            )
            .execute(&mut *conn)
            .await
            .map_err(DbError::from)?;
            locked.end_all(conn, Reason::Disabled).await?;
            if locked.user.disabled { Ok(()) } else { note(conn, id, "user_disabled", json!({})).await }
        })
        .await
    }

    /// Lets a disabled user sign in again. Repeated, it changes nothing.
    ///
    /// # Errors
    /// [`Failure::Invalid`] when there is no such user.
    pub async fn enable(&self, name: &str) -> Result<(), Failure> {
        self.change(name, "admin.enable", async |conn, locked: Locked| {
            let id = locked.user.id;
            sqlx::query!("UPDATE users SET disabled_at = NULL WHERE user_id = $1", signed(id.0))
                .execute(&mut *conn)
                .await
                .map_err(DbError::from)?;
            if locked.user.disabled { note(conn, id, "user_enabled", json!({})).await } else { Ok(()) }
        })
        .await
    }

    /// Forgets a user's failed attempts and lifts the lock, if there is one.
    ///
    /// # Errors
    /// [`Failure::Invalid`] when there is no such user.
    pub async fn unlock(&self, name: &str) -> Result<(), Failure> {
        self.change(name, "admin.unlock", async |conn, locked: Locked| {
            unlock(conn, &locked.user.subject).await?;
            note(conn, locked.user.id, "unlocked", json!({})).await
        })
        .await
    }

    /// Deletes a user: name, password and roles go, every session ends, the id stays so that it is never used again.
    ///
    /// # Errors
    /// [`Failure::Invalid`] when there is no such user.
    pub async fn delete(&self, name: &str) -> Result<(), Failure> {
        self.change(name, "admin.delete", async |conn, mut locked: Locked| {
            let id = locked.user.id;
            locked.end_all(conn, Reason::Disabled).await?;
            sqlx::query!(
                "UPDATE users SET name = NULL, subject = NULL, password_hash = NULL, roles = '{}',
                                  password_version = password_version + 1, deleted_at = clock_timestamp()
                 WHERE user_id = $1 AND deleted_at IS NULL",
                signed(id.0)
            )
            .execute(&mut *conn)
            .await
            .map_err(DbError::from)?;
            note(conn, id, "user_deleted", json!({})).await
        })
        .await
    }

    /// Ends every session of a user. Returns how many there were.
    ///
    /// # Errors
    /// [`Failure::Invalid`] when there is no such user.
    pub async fn revoke_sessions(&self, name: &str) -> Result<usize, Failure> {
        self.change(name, "admin.revoke", async |conn, mut locked: Locked| {
            let ended = locked.rows.iter().filter(|row| !row.expired(locked.now_ms)).count();
            locked.end_all(conn, Reason::Revoked).await?;
            note(conn, locked.user.id, "sessions_revoked", json!({ "sessions": ended })).await?;
            Ok(ended)
        })
        .await
    }

    /// One transaction on one user: epoch, state row, session rows, clock; then `work`.
    async fn change<T>(
        &self,
        name: &str,
        transaction: &'static str,
        work: impl AsyncFn(&mut PgConnection, Locked) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let subject = self.subject(name)?;
        run_tx!(&self.pool, transaction, async |conn| {
            let epoch = epoch::checked(conn).await?;
            let nobody = || Failure::Invalid(format!("there is no user called {name}"));
            let read = users::by_subject(conn, &subject).await?.ok_or_else(nobody)?;
            let state = users::lock(conn, &[read.id]).await?.into_iter().next();
            let state = state.ok_or(DbError::Corrupt("a user without a state row"))?;
            // Again, now that it is locked.
            let user = users::by_id(conn, read.id).await?.ok_or_else(nobody)?;
            let rows = sessions::lock_of_users(conn, &[user.id]).await?;
            let now_ms = now_ms(conn).await?;
            work(conn, Locked { user, state, rows, epoch, now_ms }).await
        })
        .await
    }
}

impl Locked {
    async fn end_all(&mut self, conn: &mut PgConnection, reason: Reason) -> Result<(), Failure> {
        let sessions: Vec<Ending<'_>> = self.rows.iter().map(|session| Ending { session, reason }).collect();
        let endings = Endings { sessions: &sessions, rowless: &[], reach: Reach::Every, by: "administrator" };
        sessions::end(conn, self.epoch, self.now_ms, &mut self.state, &endings).await?;
        Ok(())
    }
}

/// Opens a new, empty run for this subject.
async fn unlock(conn: &mut PgConnection, subject: &[u8]) -> Result<(), Failure> {
    let subject: [u8; 32] = db::bytes(subject)?;
    if let Some(mut row) = attempts::lock_subject(conn, &subject).await? {
        row.state = SubjectState { window_from_seq: row.next_seq, runs: 0, failures_before: 0, lock: Lock::Open };
        attempts::store_subject(conn, &subject, &row).await?;
    }
    Ok(())
}

async fn note(conn: &mut PgConnection, user: UserId, action: &'static str, detail: Value) -> Result<(), Failure> {
    Ok(audit::write(conn, Entry { user: Some(user), subject: None, action, session: None, detail }).await?)
}

/// Roles as they are stored: each once, sorted.
fn checked_roles(roles: &[String]) -> Result<Vec<String>, Failure> {
    if let Some(bad) = roles.iter().find(|role| !is_role(role)) {
        return Err(Failure::Invalid(format!("{bad:?} is not a role: 1 to 32 characters of a-z 0-9 - _ . :")));
    }
    let mut roles = roles.to_vec();
    roles.sort_unstable();
    roles.dedup();
    if roles.len() > MAX_ROLES {
        return Err(Failure::Invalid(format!("a user has at most {MAX_ROLES} roles")));
    }
    Ok(roles)
}

/// 63 random bits: not guessable as a count, and never given out twice.
fn random_user_id() -> Result<UserId, Failure> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|_| Failure::NotReady("no random bytes"))?;
    Ok(UserId((u64::from_be_bytes(bytes) >> 1).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_sorted_and_checked() {
        let roles = |roles: &[&str]| checked_roles(&roles.iter().map(|role| (*role).to_owned()).collect::<Vec<_>>());
        assert_eq!(roles(&["b", "a", "b"]).unwrap(), ["a", "b"]);
        assert!(roles(&["Admin"]).is_err() && roles(&[""]).is_err() && roles(&["a b"]).is_err());
        let many: Vec<String> = (0..=MAX_ROLES).map(|n| format!("r{n}")).collect();
        assert!(checked_roles(&many).is_err());
    }
}
