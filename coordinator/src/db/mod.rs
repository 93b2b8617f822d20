//! Postgres: connections, named transactions, and errors that keep "not there" apart from "could not look".
//!
//! What this module guarantees:
//! - "Not there" is `Ok(None)` or an outcome of the caller's; [`DbError`] always means that the database could not
//!   be asked, or could not answer.
//! - A transaction is retried only on serialization failures and deadlocks, and only before its `COMMIT`. An error
//!   *in* `COMMIT` is [`DbError::CommitUnknown`]: never success, never retried here.
//! - What a login and a renewal ask is planned once for each connection. A list is looked up with
//!   `= ANY(ARRAY(SELECT unnest($1)))`: of a bare `= ANY($1)` Postgres sees how long each list is, finds that a plan for
//!   any list looks dearer, and plans anew every time, which costs more than the look-up.
//! - No statement timeout covers `COMMIT` (a cancelled wait for a standby would look like success), and
//!   `synchronous_commit = off` is refused on every connection. Statements are bounded from this side instead.

pub mod attempts;
pub mod audit;
pub mod outcomes;
pub mod places;
pub mod schema;
pub mod sessions;
pub mod settings;
pub mod users;

mod connect;
mod tx;

use edgekeep_shared::ids::UserId;
use sqlx::PgConnection;

pub use connect::{RefusedServer, check_server, connect_options, pool};
pub(crate) use tx::{Try, run_tx};
pub use tx::{TxError, acquire};

/// The database could not be asked, or could not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DbError {
    /// There is no connection, or it broke before anything was committed. Nothing has happened.
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
    /// `COMMIT` was sent and its acknowledgement never came: it may have happened or not.
    #[error("the outcome of a commit is unknown: {0}")]
    CommitUnknown(String),
    /// Another transaction was in the way (serialization failure, deadlock). Nothing has happened.
    #[error("another transaction was in the way: {0}")]
    Conflict(String),
    /// The server refused a statement: a mistake on this side, or a schema of another version. Nothing has happened.
    #[error("the database refused a statement: {0}")]
    Refused(String),
    /// A row does not make sense to this version of the program. Nothing has happened.
    #[error("unexpected data in the database: {0}")]
    Corrupt(&'static str),
}

impl DbError {
    /// A name for metrics and logs.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::CommitUnknown(_) => "commit_unknown",
            Self::Conflict(_) => "conflict",
            Self::Refused(_) => "refused",
            Self::Corrupt(_) => "corrupt",
        }
    }
}

/// SQLSTATEs after which the same transaction may simply be tried again: `serialization_failure`, `deadlock_detected`.
const RETRYABLE: [&str; 2] = ["40001", "40P01"];

impl From<sqlx::Error> for DbError {
    /// Sorts an error of a statement (never of `COMMIT`: that is [`run_tx!`]'s).
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(server) => match server.code().as_deref() {
                Some(code) if RETRYABLE.contains(&code) => Self::Conflict(error.to_string()),
                // Connection exceptions, insufficient resources, operator intervention (shutdown, recovery); a server
                // that has become read-only (it is a standby now), a transaction that idled for too long, a lock that
                // was not to be had in time.
                Some(code)
                    if code.starts_with("08")
                        || code.starts_with("53")
                        || code.starts_with("57")
                        || ["25006", "25P03", "55P03"].contains(&code) =>
                {
                    Self::Unavailable(error.to_string())
                }
                _ => Self::Refused(error.to_string()),
            },
            sqlx::Error::RowNotFound => Self::Corrupt("a row that must be there is not"),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
                Self::Refused(error.to_string())
            }
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

/// The database's clock now, in milliseconds since the epoch: coordinator time.
///
/// # Errors
/// When the database cannot say.
pub async fn now_ms(conn: &mut PgConnection) -> Result<u64, DbError> {
    let now = sqlx::query_scalar!(r#"SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS "now!""#)
        .fetch_one(conn)
        .await?;
    unsigned(now)
}

/// A count or time that a `bigint` column holds.
pub(crate) fn unsigned(value: i64) -> Result<u64, DbError> {
    u64::try_from(value).map_err(|_| DbError::Corrupt("a negative number"))
}

/// A count or time for a `bigint` column; what does not fit is the column's greatest value.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A user id as its column holds it.
pub(crate) fn user_id(value: i64) -> Result<UserId, DbError> {
    unsigned(value).map(UserId)
}

/// Bytes of a fixed length.
pub(crate) fn bytes<const N: usize>(value: &[u8]) -> Result<[u8; N], DbError> {
    value.try_into().map_err(|_| DbError::Corrupt("a value of the wrong length"))
}

/// A guarded statement that must have changed exactly this many rows did so.
pub(crate) fn affected(rows: u64, wanted: usize, what: &'static str) -> Result<(), DbError> {
    if rows == wanted as u64 { Ok(()) } else { Err(DbError::Corrupt(what)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_connection_are_not_errors_of_the_statement() {
        assert!(matches!(DbError::from(sqlx::Error::PoolTimedOut), DbError::Unavailable(_)));
        assert!(matches!(DbError::from(sqlx::Error::RowNotFound), DbError::Corrupt(_)));
        assert!(matches!(affected(2, 1, "x"), Err(DbError::Corrupt("x"))));
    }
}
