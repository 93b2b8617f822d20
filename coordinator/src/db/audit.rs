//! The audit log: written in the transaction of what it records, under the user's lock, so that per user it is in
//! commit order. It holds no password, no key, no token and no name that was merely typed.

use edgekeep_shared::ids::{SessionId, UserId};
use serde_json::Value;
use sqlx::PgConnection;

use super::{DbError, signed};

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// To whom, if it is a user.
    pub user: Option<UserId>,
    /// The keyed hash of the name that was typed.
    pub subject: Option<&'a [u8]>,
    /// What, in `snake_case`.
    pub action: &'static str,
    /// Which session.
    pub session: Option<SessionId>,
    /// More, as an object.
    pub detail: Value,
}

/// Records it.
///
/// # Errors
/// When the database cannot do it.
pub async fn write(conn: &mut PgConnection, entry: Entry<'_>) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO audit (user_id, subject, action, session_id, detail) VALUES ($1, $2, $3, $4, $5)",
        entry.user.map(|id| signed(id.0)),
        entry.subject,
        entry.action,
        entry.session.as_ref().map(|id| id.0.as_slice()),
        entry.detail
    )
    .execute(conn)
    .await?;
    Ok(())
}
