//! Users as the database holds them, and the row that orders everything about one user.

use edgekeep_shared::ids::UserId;
use edgekeep_shared::revision::Revision;
use edgekeep_shared::revocation::FeedRow;
use sqlx::PgConnection;

use super::{DbError, signed, unsigned, user_id};

/// A user who is not deleted.
#[derive(Clone, Debug)]
pub struct User {
    /// Never reused.
    pub id: UserId,
    /// As registered.
    pub name: String,
    /// The keyed hash of the canonical name.
    pub subject: Vec<u8>,
    /// PHC string, or another system's hash until the first login. `None`: no password was set.
    pub password_hash: Option<String>,
    /// Grows with every change of the password (not with a rehash of the same one).
    pub password_version: i64,
    /// Sorted, no duplicates.
    pub roles: Vec<String>,
    /// May not sign in.
    pub disabled: bool,
}

struct Row {
    user_id: i64,
    name: Option<String>,
    subject: Option<Vec<u8>>,
    password_hash: Option<String>,
    password_version: i64,
    roles: Vec<String>,
    disabled: bool,
}

impl TryFrom<Row> for User {
    type Error = DbError;
    fn try_from(row: Row) -> Result<Self, DbError> {
        Ok(Self {
            id: user_id(row.user_id)?,
            name: row.name.ok_or(DbError::Corrupt("a user without a name"))?,
            subject: row.subject.ok_or(DbError::Corrupt("a user without a subject"))?,
            password_hash: row.password_hash,
            password_version: row.password_version,
            roles: row.roles,
            disabled: row.disabled,
        })
    }
}

/// A user's columns, of a statement that may have found nobody.
pub(super) struct Joined {
    pub(super) user_id: Option<i64>,
    pub(super) name: Option<String>,
    pub(super) subject: Option<Vec<u8>>,
    pub(super) password_hash: Option<String>,
    pub(super) password_version: Option<i64>,
    pub(super) roles: Option<Vec<String>>,
    pub(super) disabled: Option<bool>,
}

impl Joined {
    pub(super) fn user(self) -> Result<Option<User>, DbError> {
        let Some(user_id) = self.user_id else { return Ok(None) };
        let missing = || DbError::Corrupt("a user without a column");
        let row = Row {
            user_id,
            name: self.name,
            subject: self.subject,
            password_hash: self.password_hash,
            password_version: self.password_version.ok_or_else(missing)?,
            roles: self.roles.ok_or_else(missing)?,
            disabled: self.disabled.ok_or_else(missing)?,
        };
        row.try_into().map(Some)
    }
}

/// The user with this subject. `None`: there is none.
///
/// # Errors
/// When the database cannot say.
pub async fn by_subject(conn: &mut PgConnection, subject: &[u8; 32]) -> Result<Option<User>, DbError> {
    sqlx::query_as!(
        Row,
        r#"SELECT user_id, name, subject, password_hash, password_version, roles,
                  disabled_at IS NOT NULL AS "disabled!"
           FROM users WHERE subject = $1 AND deleted_at IS NULL"#,
        subject.as_slice()
    )
    .fetch_optional(conn)
    .await?
    .map(User::try_from)
    .transpose()
}

/// The user with this id, unless deleted. `None`: there is none.
///
/// # Errors
/// When the database cannot say.
pub async fn by_id(conn: &mut PgConnection, id: UserId) -> Result<Option<User>, DbError> {
    sqlx::query_as!(
        Row,
        r#"SELECT user_id, name, subject, password_hash, password_version, roles,
                  disabled_at IS NOT NULL AS "disabled!"
           FROM users WHERE user_id = $1 AND deleted_at IS NULL"#,
        signed(id.0)
    )
    .fetch_optional(conn)
    .await?
    .map(User::try_from)
    .transpose()
}

/// A user's state row, locked: the order of concurrent operations on one user is the order of these locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserState {
    /// Whose.
    pub user_id: UserId,
    /// What edges are told; see [`Revision::base`] before signing.
    pub feed: FeedRow,
}

/// Locks the state rows of these users, in id order. Users that do not exist have none.
///
/// # Errors
/// When the database cannot do it.
pub async fn lock(conn: &mut PgConnection, users: &[UserId]) -> Result<Vec<UserState>, DbError> {
    let ids: Vec<i64> = users.iter().map(|id| signed(id.0)).collect();
    sqlx::query!(
        r#"SELECT user_id, revision, ceil(extract(epoch FROM greatest(needed_until, 'epoch')) * 1000)::bigint AS "needed_until_ms!"
           FROM user_state WHERE user_id = ANY(ARRAY(SELECT unnest($1::bigint[]))) ORDER BY user_id FOR UPDATE"#,
        &ids
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(|row| {
        let needed_until_ms = unsigned(row.needed_until_ms)?;
        let feed = FeedRow { revision: Revision(unsigned(row.revision)?), needed_until_ms };
        Ok(UserState { user_id: user_id(row.user_id)?, feed })
    })
    .collect()
}

/// Stores a raised revision: entries of the feed come from here.
///
/// # Errors
/// When the stored row is not lower (then it was not locked first), or the database cannot do it.
pub async fn store_raised(conn: &mut PgConnection, user: UserId, raised: FeedRow) -> Result<(), DbError> {
    let rows = sqlx::query!(
        "UPDATE user_state
         SET revision = $2, needed_until = needed.until, feed_xid = pg_current_xact_id()::text::bigint
         FROM (SELECT timestamptz 'epoch' + $3::bigint * interval '1 millisecond' AS until) AS needed
         WHERE user_id = $1 AND revision < $2 AND needed_until <= needed.until",
        signed(user.0),
        signed(raised.revision.0),
        signed(raised.needed_until_ms)
    )
    .execute(conn)
    .await?
    .rows_affected();
    super::affected(rows, 1, "a revision that was not raised")
}

/// Stores a new password if the version is still the one that was read. Says whether it was.
///
/// # Errors
/// When the database cannot do it.
pub async fn store_password(
    conn: &mut PgConnection,
    user: UserId,
    read_version: i64,
    hash: &str,
) -> Result<bool, DbError> {
    let rows = sqlx::query!(
        "UPDATE users SET password_hash = $3, password_version = password_version + 1
         WHERE user_id = $1 AND password_version = $2 AND deleted_at IS NULL",
        signed(user.0),
        read_version,
        hash
    )
    .execute(conn)
    .await?
    .rows_affected();
    Ok(rows == 1)
}

/// Replaces a hash by another one of the same password, if it is still there (compare-and-swap).
///
/// # Errors
/// When the database cannot do it.
pub async fn swap_hash(conn: &mut PgConnection, user: UserId, old: &str, new: &str) -> Result<bool, DbError> {
    let rows = sqlx::query!(
        "UPDATE users SET password_hash = $3 WHERE user_id = $1 AND password_hash = $2 AND deleted_at IS NULL",
        signed(user.0),
        old,
        new
    )
    .execute(conn)
    .await?
    .rows_affected();
    Ok(rows == 1)
}

/// Whether any user's hash was made with another pepper than the one of this fingerprint (`None`: than none at all).
///
/// # Errors
/// When the database cannot say.
pub async fn any_with_other_pepper(conn: &mut PgConnection, fingerprint: Option<&str>) -> Result<bool, DbError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM users WHERE password_hash LIKE '$argon2id$%,keyid=%'
               AND ($1::text IS NULL OR position(',keyid=' || $1 || '$' IN password_hash) = 0)) AS "any!""#,
        fingerprint
    )
    .fetch_one(conn)
    .await?)
}
