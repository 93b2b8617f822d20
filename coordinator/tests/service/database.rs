//! A database for each test, and what tests do to it directly.

use std::str::FromStr as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgConnection, PgPool, Row as _};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A migrated database that is dropped with this.
pub struct Database {
    pub name: String,
    pub server: PgConnectOptions,
    pub options: PgConnectOptions,
    pub pool: PgPool,
}

/// The server that tests make databases on.
pub fn server_url() -> String {
    std::env::var("DATABASE_URL").expect("DATABASE_URL names a Postgres server to make databases on")
}

impl Database {
    pub async fn fresh() -> Self {
        Self::on(PgConnectOptions::from_str(&server_url()).unwrap()).await
    }

    pub async fn on(server: PgConnectOptions) -> Self {
        let name = format!("ek_service_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut admin = PgConnection::connect_with(&server).await.unwrap();
        execute(&mut admin, &format!("CREATE DATABASE {name}")).await;
        admin.close().await.unwrap();
        let options = server.clone().database(&name);
        let pool = PgPoolOptions::new().max_connections(8).connect_with(options.clone()).await.unwrap();
        sqlx::migrate!("./migrations").run(&pool).await.unwrap();
        Self { name, server, options, pool }
    }

    pub async fn connection(&self) -> PgConnection {
        PgConnection::connect_with(&self.options).await.unwrap()
    }

    pub async fn sql(&self, text: &str) -> u64 {
        let mut connection = self.pool.acquire().await.unwrap();
        execute(&mut connection, text).await
    }

    /// A single number.
    pub async fn number(&self, text: &str) -> i64 {
        let row = sqlx::query(sqlx::AssertSqlSafe(text.to_owned())).fetch_one(&self.pool).await.unwrap();
        row.get(0)
    }

    /// Users 1 to `count`.
    pub async fn users(&self, count: u64) {
        self.add_users(1, count).await;
    }

    pub async fn add_users(&self, first: u64, last: u64) {
        self.sql(&format!(
            "INSERT INTO users (user_id, name, subject, roles)
             SELECT i, 'user' || i, sha256(int8send(i)), ARRAY['member'] FROM generate_series({first}, {last}::bigint) i"
        ))
        .await;
        self.sql(&format!("INSERT INTO user_state (user_id) SELECT generate_series({first}, {last}::bigint)")).await;
    }

    /// Rows of this table that were read one after the other, by whichever connection.
    pub async fn scanned(&self, table: &str) -> i64 {
        // Connections tell what they have done once a second.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let asked = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = $1";
        sqlx::query_scalar(asked).bind(table).fetch_one(&self.pool).await.unwrap()
    }

    /// Raises a user's revision as the coordinator does, for a minute.
    pub async fn raise(&self, user: u64) {
        let mut connection = self.pool.acquire().await.unwrap();
        raise(&mut connection, user).await;
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        let drop_it = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                // A server that is gone needs no tidying.
                if let Ok(mut admin) = PgConnection::connect_with(&server).await {
                    execute(&mut admin, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
                }
            });
        };
        let _ = std::thread::spawn(drop_it).join();
    }
}

pub async fn execute(connection: &mut PgConnection, text: &str) -> u64 {
    sqlx::raw_sql(sqlx::AssertSqlSafe(text.to_owned())).execute(connection).await.unwrap().rows_affected()
}

/// Raises within the connection's present transaction.
pub async fn raise(connection: &mut PgConnection, user: u64) {
    let raised = execute(
        connection,
        &format!(
            "UPDATE user_state SET
                 revision = greatest(revision, (SELECT epoch::bigint << 48 FROM cluster)) + 1,
                 needed_until = greatest(needed_until, clock_timestamp() + interval '1 minute'),
                 feed_xid = pg_current_xact_id()::text::bigint
             WHERE user_id = {user}"
        ),
    )
    .await;
    assert_eq!(raised, 1, "user {user}");
}
