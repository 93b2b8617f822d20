//! The schema's migrations, and whether they have been run.

use std::collections::HashSet;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection as _, PgConnection, PgPool};

use super::{DbError, acquire};

/// All migrations, in order. They are part of the program.
pub static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The schema is not the one that this version of the program works with.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Migrations are missing.
    #[error("the database's schema lacks {0} migration(s): run `edgekeep migrate` first")]
    Missing(usize),
    /// The database cannot be asked.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// Runs the migrations that are missing. Several at a time wait for each other.
///
/// # Errors
/// When one fails, or one that was run is not what it was.
pub async fn migrate(conn: &mut PgConnection) -> Result<(), MigrateError> {
    // A migration may wait long for its locks: better than to fail half-way through a list.
    sqlx::query!("SELECT set_config('lock_timeout', '0', false)").fetch_one(&mut *conn).await?;
    MIGRATIONS.run(conn).await
}

/// Checks that every migration of this program has been run. Later ones are fine: they only expand what is there.
///
/// # Errors
/// [`SchemaError::Missing`] when one is missing.
pub async fn check(pool: &PgPool) -> Result<(), SchemaError> {
    let mut conn = acquire(pool).await?;
    let run: HashSet<i64> = applied(&mut conn).await?.into_iter().collect();
    let missing = MIGRATIONS.iter().filter(|migration| !run.contains(&migration.version)).count();
    if missing > 0 { Err(SchemaError::Missing(missing)) } else { Ok(()) }
}

/// The versions that have been run; none in an empty database.
async fn applied(conn: &mut PgConnection) -> Result<Vec<i64>, DbError> {
    let known = sqlx::query_scalar!(r#"SELECT to_regclass('_sqlx_migrations') IS NOT NULL AS "known!""#)
        .fetch_one(&mut *conn)
        .await?;
    if !known {
        return Ok(Vec::new());
    }
    // This table is sqlx's own and not there when queries are checked, so this one statement is not.
    Ok(sqlx::query_scalar::<_, i64>("SELECT version FROM _sqlx_migrations WHERE success").fetch_all(conn).await?)
}

/// Opens one connection for migrations.
///
/// # Errors
/// When there is no connection.
pub async fn connect(options: &sqlx::postgres::PgConnectOptions) -> Result<PgConnection, DbError> {
    Ok(PgConnection::connect_with(options).await?)
}
