//! Named transactions: [`run_tx!`](crate::db::run_tx); and connections for what needs none.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, PgConnection, PgPool, Postgres};
use tokio::time::timeout;

use super::DbError;
use crate::feed::doubt::watched;

/// How often a transaction is tried before its conflict is passed on.
const TRIES: u32 = 6;
/// The longest time for the statements of one transaction, without its `COMMIT`.
const WORK_LIMIT: Duration = Duration::from_secs(15);
/// How long the acknowledgement of a `COMMIT` is waited for; past it the outcome is unknown.
const COMMIT_LIMIT: Duration = Duration::from_secs(20);

/// An error that a transaction may end with.
pub trait TxError: From<DbError> {
    /// Another transaction was in the way and nothing has happened: the same work may run again.
    fn is_conflict(&self) -> bool;
}

impl TxError for DbError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }
}

/// One try of a transaction.
pub(crate) struct Try {
    name: &'static str,
    connection: Option<PoolConnection<Postgres>>,
}

impl Try {
    pub(crate) async fn begin(pool: &PgPool, name: &'static str) -> Result<Self, DbError> {
        Ok(Self { name, connection: Some(answering(pool, First::Begin).await?) })
    }

    pub(crate) fn connection(&mut self) -> Result<&mut PgConnection, DbError> {
        self.connection.as_deref_mut().ok_or(DbError::Corrupt("a transaction that is over"))
    }

    /// Runs the work within its limit.
    pub(crate) async fn limited<T, E: TxError>(
        name: &'static str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        match timeout(WORK_LIMIT, work).await {
            Ok(result) => result,
            Err(_) => Err(DbError::Unavailable(format!("{name} took longer than {} s", WORK_LIMIT.as_secs())).into()),
        }
    }

    /// Commits, or rolls back if the work has failed. `None`: try again.
    pub(crate) async fn end<T, E: TxError>(mut self, result: Result<T, E>, tries: &mut u32) -> Option<Result<T, E>> {
        let name = self.name;
        match result {
            Ok(value) => Some(self.commit().await.map(|()| value).map_err(E::from)),
            Err(error) => {
                self.roll_back().await;
                *tries += 1;
                if !error.is_conflict() || *tries >= TRIES {
                    return Some(Err(error));
                }
                tracing::debug!(transaction = name, tries, "another transaction was in the way; trying again");
                // Grows so that the one that won can finish: 2, 4, 8, 16, 32 ms.
                tokio::time::sleep(Duration::from_millis(1 << *tries)).await;
                None
            }
        }
    }

    async fn commit(&mut self) -> Result<(), DbError> {
        // Until the acknowledgement is there the connection is taken for lost, also if this future is dropped.
        let Some(mut connection) = self.connection.take() else {
            return Err(DbError::Corrupt("a transaction that is over"));
        };
        let mut guard = CloseUnlessTold { connection: Some(&mut connection) };
        let committed = timeout(COMMIT_LIMIT, guard.execute_commit()).await;
        let unknown = match committed {
            Ok(Ok(())) => {
                guard.connection = None;
                return Ok(());
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no acknowledgement within {} s", COMMIT_LIMIT.as_secs()),
        };
        tracing::warn!(transaction = self.name, error = unknown, "the outcome of a commit is unknown");
        if crate::sabotage::breaks(crate::sabotage::Rule::DoubtIsDone) {
            return Ok(());
        }
        Err(DbError::CommitUnknown(unknown))
    }

    async fn roll_back(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            let rolled_back = async { sqlx::query!("ROLLBACK").execute(&mut *connection).await };
            // The work may have been cut off within a statement. A server that loses the connection rolls back itself.
            if !matches!(timeout(Duration::from_millis(500), rolled_back).await, Ok(Ok(_))) {
                connection.close_on_drop();
            }
        }
    }
}

impl Drop for Try {
    /// The future was dropped in the middle of the work: the server rolls back when the connection closes.
    fn drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close_on_drop();
        }
    }
}

/// Closes the connection on drop unless the acknowledgement came.
struct CloseUnlessTold<'a> {
    connection: Option<&'a mut PoolConnection<Postgres>>,
}

impl CloseUnlessTold<'_> {
    async fn execute_commit(&mut self) -> Result<(), DbError> {
        match &mut self.connection {
            Some(connection) => {
                // Acknowledged with a warning: a wait for the standby that somebody has cancelled.
                watched(sqlx::query!("COMMIT").execute(&mut ***connection)).await.map(|_| ())
            }
            None => Ok(()),
        }
    }
}

impl Drop for CloseUnlessTold<'_> {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close_on_drop();
        }
    }
}

/// What shows that a connection of the pool is alive, and that a new one need not be opened.
#[derive(Clone, Copy)]
enum First {
    Ping,
    Begin,
}

impl First {
    async fn ask(self, connection: &mut PgConnection) -> Result<(), DbError> {
        match self {
            Self::Ping => connection.ping().await?,
            Self::Begin => {
                sqlx::query!("BEGIN").execute(connection).await?;
            }
        }
        Ok(())
    }
}

/// A connection that has just answered. Those of the pool may have died while nobody used them, all of them: nothing has
/// begun on one that fails here, so the next one is tried. One may also be dead without a sign (a server without power, a
/// network that drops what it forwarded): it gets a third of the time that all of this has.
async fn answering(pool: &PgPool, first: First) -> Result<PoolConnection<Postgres>, DbError> {
    let limit = pool.options().get_acquire_timeout();
    let late = || DbError::Unavailable(format!("no connection that answers within {} ms", limit.as_millis()));
    timeout(limit, living(pool, first, limit / 3)).await.unwrap_or_else(|_| Err(late()))
}

async fn living(pool: &PgPool, first: First, each: Duration) -> Result<PoolConnection<Postgres>, DbError> {
    let mut left = pool.options().get_max_connections();
    loop {
        let mut connection = pool.acquire().await?;
        // If this future is dropped here, the server may be in a transaction that nobody knows of.
        let mut guard = CloseUnlessTold { connection: Some(&mut connection) };
        let asked = match &mut guard.connection {
            Some(connection) => timeout(each, first.ask(connection)).await,
            None => Ok(Ok(())),
        };
        match asked {
            Ok(Ok(())) => {
                guard.connection = None;
                drop(guard);
                return Ok(connection);
            }
            Ok(Err(DbError::Unavailable(_))) | Err(_) if left > 0 => left -= 1,
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(DbError::Unavailable("no connection answers".to_owned())),
        }
    }
}

/// A connection for statements outside of a transaction.
///
/// # Errors
/// When there is none in time.
pub async fn acquire(pool: &PgPool) -> Result<PoolConnection<Postgres>, DbError> {
    answering(pool, First::Ping).await
}

/// Runs work in one transaction called `name` (in logs and traces) and commits it:
/// `run_tx!(&pool, "name", async |conn| { … })`, where `conn` is a `&mut PgConnection` and the work's value a
/// `Result<T, E>` with `E:` [`TxError`].
///
/// The work is retried on serialization failures and deadlocks, so it may run several times and must have no effect
/// outside of its connection. If it fails, the transaction is rolled back. An error in `COMMIT` is
/// [`DbError::CommitUnknown`]: the caller must then assume neither that it happened nor that it did not.
///
/// A macro, because the future of a function over an async closure that borrows is not provably `Send` (Rust issue
/// 110338); what it does is in [`Try`].
macro_rules! run_tx {
    ($pool:expr, $name:expr, async |$conn:ident| $work:expr) => {
        async {
            let mut tries = 0;
            loop {
                let mut one = match $crate::db::Try::begin($pool, $name).await {
                    Ok(one) => one,
                    Err(error) => break Err(error.into()),
                };
                let work = async {
                    let $conn: &mut ::sqlx::PgConnection = one.connection()?;
                    $work
                };
                let result = $crate::db::Try::limited($name, work).await;
                if let Some(result) = one.end(result, &mut tries).await {
                    break result;
                }
            }
        }
    };
}
pub(crate) use run_tx;
