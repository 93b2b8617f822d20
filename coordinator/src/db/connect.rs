//! Connections with the session settings that the protocol's guarantees rest on.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgConnection, PgPool};

use super::DbError;
use crate::config::Config;

/// The server cannot be used as it is set up.
#[derive(Debug, thiserror::Error)]
pub enum RefusedServer {
    /// A commit would be acknowledged before it is durable: a revocation could be lost after its receipt.
    #[error(
        "the database has synchronous_commit = off for this user: an acknowledged revocation could be lost. Set it to \
         on (ALTER ROLE … SET synchronous_commit = on)"
    )]
    SynchronousCommitOff,
    /// `database_url` is not an address of a Postgres database.
    #[error("database_url: {0}")]
    Address(String),
    /// The database cannot be asked.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// How every connection of this process is opened.
///
/// No statement timeout: it would cover `COMMIT`, and a commit whose wait for a standby is cancelled looks like
/// success. Statements are bounded from this side (`run_tx!`), row locks by `lock_timeout`, and a stopped
/// coordinator's transactions by `idle_in_transaction_session_timeout`.
///
/// # Errors
/// When the address is malformed.
pub fn connect_options(config: &Config) -> Result<PgConnectOptions, RefusedServer> {
    let options = PgConnectOptions::from_str(&config.database_url.0)
        .map_err(|error| RefusedServer::Address(error.to_string()))?
        .application_name("edgekeep");
    Ok(options.options([
        ("statement_timeout", "0".to_owned()),
        ("lock_timeout", config.database.lock_timeout_ms.to_string()),
        ("idle_in_transaction_session_timeout", config.database.idle_in_transaction_ms.to_string()),
    ]))
}

/// Pins what must not change under a connection, and refuses a server that acknowledges before it is durable.
/// Run it on every new connection.
///
/// # Errors
/// [`RefusedServer::SynchronousCommitOff`], or when the database cannot be asked.
pub async fn check_server(conn: &mut PgConnection) -> Result<(), RefusedServer> {
    // Set for the session, so that a reload of the server's configuration cannot weaken a connection in use.
    let set = sqlx::query!(
        r#"SELECT set_config('synchronous_commit', current_setting('synchronous_commit'), false) AS "level!",
                  set_config('default_transaction_isolation', 'read committed', false),
                  current_setting('synchronous_standby_names') <> '' AS "has_standby!""#
    )
    .fetch_one(&mut *conn)
    .await
    .map_err(DbError::from)?;
    if set.level == "off" {
        return Err(RefusedServer::SynchronousCommitOff);
    }
    if set.level == "local" && set.has_standby {
        tracing::warn!(
            "synchronous_commit = local does not wait for the synchronous standby: a failover can lose revocations, and \
             a deposed primary goes on answering"
        );
    }
    // Postgres 17 and later; it would cover COMMIT too.
    sqlx::query!(
        "SELECT set_config('transaction_timeout', '0', false) FROM pg_settings WHERE name = 'transaction_timeout'"
    )
    .fetch_optional(conn)
    .await
    .map_err(DbError::from)?;
    Ok(())
}

/// Opens the pool, after one connection has shown that the server can be used.
///
/// # Errors
/// [`RefusedServer`] says what is wrong with the server or its address.
pub async fn pool(config: &Config) -> Result<PgPool, RefusedServer> {
    let options = connect_options(config)?;
    let acquire = Duration::from_millis(config.database.acquire_timeout_ms);
    let first = tokio::time::timeout(acquire, PgConnection::connect_with(&options)).await;
    let mut first = first
        .map_err(|_| DbError::Unavailable(format!("no connection within {} ms", acquire.as_millis())))?
        .map_err(DbError::from)?;
    check_server(&mut first).await?;
    // It was only asked; nothing depends on how it ends.
    let _ = first.close().await;
    Ok(PgPoolOptions::new()
        .max_connections(config.database.connections)
        .min_connections(2.min(config.database.connections))
        .acquire_timeout(acquire)
        // Whoever takes one does: `BEGIN` tells as well as a ping (see `super::tx`).
        .test_before_acquire(false)
        .after_connect(|conn, _| {
            Box::pin(async move {
                check_server(conn).await.map_err(|refused| sqlx::Error::Configuration(Box::new(refused)))
            })
        })
        .connect_lazy_with(options))
}
