//! SQL as the database's owner: for looking behind the scenes, and for holding locks and transactions open.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _, ValueRef as _};
use tokio::runtime::Runtime;

/// One connection.
pub struct Sql {
    runtime: Runtime,
    connection: PgConnection,
}

impl Sql {
    /// Connects.
    #[must_use]
    pub fn connect(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let connection = runtime.block_on(PgConnection::connect(url)).expect("a connection");
        Self { runtime, connection }
    }

    /// Runs statements, in one go.
    pub fn run(&mut self, statements: &str) {
        let query = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
        self.runtime
            .block_on(query.execute(&mut self.connection))
            .unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// The rows of a query, every value as text; NULL is the empty text.
    pub fn rows(&mut self, query: &str) -> Vec<Vec<String>> {
        let sent = sqlx::raw_sql(AssertSqlSafe(query.to_owned()));
        let rows = self.runtime.block_on(sent.fetch_all(&mut self.connection));
        let rows = rows.unwrap_or_else(|error| panic!("{query}: {error}"));
        let text = |row: &sqlx::postgres::PgRow, at: usize| {
            let value = row.try_get_raw(at).expect("a value");
            if value.is_null() { String::new() } else { value.as_str().expect("text").to_owned() }
        };
        rows.iter().map(|row| (0..row.len()).map(|at| text(row, at)).collect()).collect()
    }

    /// The one number that a query gives.
    pub fn number(&mut self, query: &str) -> i64 {
        let rows = self.rows(query);
        let first = rows.first().and_then(|row| row.first()).unwrap_or_else(|| panic!("{query} gave nothing"));
        first.parse().unwrap_or_else(|_| panic!("{query} gave no number: {first}"))
    }

    /// The database's clock, in milliseconds since the Unix epoch.
    pub fn now_ms(&mut self) -> i64 {
        self.number("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint")
    }
}
