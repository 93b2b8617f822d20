//! What an administrator looks at: users, sessions, the audit log. Read without locks.

use edgekeep_shared::ids::{SessionId, UserId};
use edgekeep_shared::time::rfc3339;
use serde::Serialize;
use serde_json::Value;

use super::Admin;
use crate::db::{self, DbError, bytes, now_ms, sessions, unsigned, user_id};
use crate::failure::Failure;

/// A user, for the command line. Times are RFC 3339.
#[derive(Clone, Debug, Serialize)]
pub struct UserView {
    /// Never reused.
    pub user_id: UserId,
    /// As registered.
    pub name: String,
    /// Sorted.
    pub roles: Vec<String>,
    /// May not sign in.
    pub disabled: bool,
    /// There is a password.
    pub has_password: bool,
    /// Of our own making; another system's hash until the first login.
    pub imported_hash: bool,
    /// Since when.
    pub created_at: String,
    /// The last login, if there was one.
    pub last_login_at: Option<String>,
    /// `until an administrator unlocks`, or until when; nothing while there is no lock.
    pub locked: Option<String>,
    /// Current sessions.
    pub sessions: i64,
}

/// A session, for the command line.
#[derive(Clone, Debug, Serialize)]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// Begin.
    pub authenticated_at: String,
    /// Last renewal.
    pub last_seen_at: String,
    /// Without renewal it ends then.
    pub idle_expires_at: String,
    /// It ends then.
    pub expires_at: String,
    /// User agent of the login.
    pub device: String,
}

/// An entry of the audit log.
#[derive(Clone, Debug, Serialize)]
pub struct AuditView {
    /// Its number. Per user in commit order.
    pub audit_id: i64,
    /// When.
    pub at: String,
    /// To whom.
    pub user_id: Option<UserId>,
    /// That user's name, unless deleted.
    pub name: Option<String>,
    /// What.
    pub action: String,
    /// Which session.
    pub session_id: Option<SessionId>,
    /// More.
    pub detail: Value,
}

struct UserRow {
    user_id: i64,
    name: Option<String>,
    roles: Vec<String>,
    disabled: bool,
    has_password: bool,
    imported_hash: bool,
    created_at_ms: i64,
    last_login_at_ms: Option<i64>,
    locked_forever: bool,
    locked_until_ms: Option<i64>,
    sessions: i64,
}

impl TryFrom<UserRow> for UserView {
    type Error = DbError;
    fn try_from(row: UserRow) -> Result<Self, DbError> {
        let until = row.locked_until_ms.map(unsigned).transpose()?.map(|ms| format!("until {}", rfc3339(ms)));
        Ok(Self {
            user_id: user_id(row.user_id)?,
            name: row.name.ok_or(DbError::Corrupt("a user without a name"))?,
            roles: row.roles,
            disabled: row.disabled,
            has_password: row.has_password,
            imported_hash: row.imported_hash,
            created_at: rfc3339(unsigned(row.created_at_ms)?),
            last_login_at: row.last_login_at_ms.map(unsigned).transpose()?.map(rfc3339),
            locked: if row.locked_forever { Some("until an administrator unlocks".into()) } else { until },
            sessions: row.sessions,
        })
    }
}

impl Admin {
    /// One user.
    ///
    /// # Errors
    /// [`Failure::Invalid`] when there is no such user.
    pub async fn show(&self, name: &str) -> Result<UserView, Failure> {
        let subject = self.subject(name)?;
        let row = sqlx::query_as!(
            UserRow,
            r#"SELECT u.user_id, u.name, u.roles, u.disabled_at IS NOT NULL AS "disabled!",
                      u.password_hash IS NOT NULL AS "has_password!",
                      coalesce(u.password_hash NOT LIKE '$argon2id$%', false) AS "imported_hash!",
                      floor(extract(epoch FROM u.created_at) * 1000)::bigint AS "created_at_ms!",
                      floor(extract(epoch FROM u.last_login_at) * 1000)::bigint AS "last_login_at_ms?",
                      coalesce(s.locked_until = 'infinity', false) AS "locked_forever!",
                      CASE WHEN s.locked_until > clock_timestamp() AND s.locked_until < 'infinity'
                           THEN ceil(extract(epoch FROM s.locked_until) * 1000)::bigint END AS "locked_until_ms?",
                      (SELECT count(*) FROM session WHERE session.user_id = u.user_id
                          AND least(idle_expires_at, expires_at) > clock_timestamp()) AS "sessions!"
               FROM users u LEFT JOIN subject_state s USING (subject)
               WHERE u.subject = $1 AND u.deleted_at IS NULL"#,
            subject.as_slice()
        )
        .fetch_optional(&mut *db::acquire(&self.pool).await?)
        .await
        .map_err(DbError::from)?;
        let row = row.ok_or_else(|| Failure::Invalid(format!("there is no user called {name}")))?;
        Ok(row.try_into()?)
    }

    /// Users by name, after `after`, at most `limit`.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn list(&self, after: &str, limit: u32) -> Result<Vec<UserView>, Failure> {
        let rows = sqlx::query_as!(
            UserRow,
            r#"SELECT u.user_id, u.name, u.roles, u.disabled_at IS NOT NULL AS "disabled!",
                      u.password_hash IS NOT NULL AS "has_password!",
                      coalesce(u.password_hash NOT LIKE '$argon2id$%', false) AS "imported_hash!",
                      floor(extract(epoch FROM u.created_at) * 1000)::bigint AS "created_at_ms!",
                      floor(extract(epoch FROM u.last_login_at) * 1000)::bigint AS "last_login_at_ms?",
                      coalesce(s.locked_until = 'infinity', false) AS "locked_forever!",
                      CASE WHEN s.locked_until > clock_timestamp() AND s.locked_until < 'infinity'
                           THEN ceil(extract(epoch FROM s.locked_until) * 1000)::bigint END AS "locked_until_ms?",
                      (SELECT count(*) FROM session WHERE session.user_id = u.user_id
                          AND least(idle_expires_at, expires_at) > clock_timestamp()) AS "sessions!"
               FROM users u LEFT JOIN subject_state s USING (subject)
               WHERE u.deleted_at IS NULL AND u.name > $1 ORDER BY u.name LIMIT $2"#,
            after,
            i64::from(limit)
        )
        .fetch_all(&mut *db::acquire(&self.pool).await?)
        .await
        .map_err(DbError::from)?;
        Ok(rows.into_iter().map(UserView::try_from).collect::<Result<_, _>>()?)
    }

    /// The current sessions of a user, newest first.
    ///
    /// # Errors
    /// [`Failure::Invalid`] when there is no such user.
    pub async fn sessions(&self, name: &str) -> Result<Vec<SessionView>, Failure> {
        let subject = self.subject(name)?;
        let mut conn = db::acquire(&self.pool).await?;
        let user = crate::db::users::by_subject(&mut conn, &subject).await?;
        let user = user.ok_or_else(|| Failure::Invalid(format!("there is no user called {name}")))?;
        let now_ms = now_ms(&mut conn).await?;
        let rows = sessions::of_user(&mut conn, user.id).await?;
        let views = rows.into_iter().filter(|row| !row.expired(now_ms)).map(|row| SessionView {
            id: row.id,
            authenticated_at: rfc3339(row.authenticated_at_ms),
            last_seen_at: rfc3339(row.last_seen_at_ms),
            idle_expires_at: rfc3339(row.idle_expires_at_ms),
            expires_at: rfc3339(row.expires_at_ms),
            device: row.device,
        });
        Ok(views.collect())
    }

    /// The last `limit` entries of the audit log numbered above `above`, of one user or of all, in their order.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn audit(&self, user: Option<&str>, above: i64, limit: u32) -> Result<Vec<AuditView>, Failure> {
        let subject = user.map(|name| self.subject(name)).transpose()?;
        let rows = sqlx::query_as!(
            AuditRow,
            r#"SELECT a.audit_id, floor(extract(epoch FROM a.at) * 1000)::bigint AS "at_ms!", a.user_id AS "user_id?",
                      u.name AS "name?", a.action, a.session_id, a.detail
               FROM audit a LEFT JOIN users u ON u.user_id = a.user_id
               WHERE a.audit_id > $2
                 AND ($1::bytea IS NULL OR a.subject = $1
                      OR a.user_id = (SELECT user_id FROM users WHERE subject = $1 AND deleted_at IS NULL))
               ORDER BY a.audit_id DESC LIMIT $3"#,
            subject.as_ref().map(<[u8; 32]>::as_slice),
            above,
            i64::from(limit)
        )
        .fetch_all(&mut *db::acquire(&self.pool).await?)
        .await
        .map_err(DbError::from)?;
        Ok(rows.into_iter().rev().map(AuditView::try_from).collect::<Result<_, _>>()?)
    }
}

struct AuditRow {
    audit_id: i64,
    at_ms: i64,
    user_id: Option<i64>,
    name: Option<String>,
    action: String,
    session_id: Option<Vec<u8>>,
    detail: Value,
}

impl TryFrom<AuditRow> for AuditView {
    type Error = DbError;
    fn try_from(row: AuditRow) -> Result<Self, DbError> {
        Ok(Self {
            audit_id: row.audit_id,
            at: rfc3339(unsigned(row.at_ms)?),
            user_id: row.user_id.map(user_id).transpose()?,
            name: row.name,
            action: row.action,
            session_id: row.session_id.map(|id| bytes(&id).map(SessionId)).transpose()?,
            detail: row.detail,
        })
    }
}
