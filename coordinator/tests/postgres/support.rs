//! A database and a coordinator per test.

use std::sync::Arc;
use std::time::Duration;

use edgekeep::admin::{Admin, NewPassword};
use edgekeep::app::App;
use edgekeep::config::{Config, DatabaseUrl};
use edgekeep::db::schema;
use edgekeep::failure::Failure;
use edgekeep::password::Password;
use edgekeep::password::rules::BlockList;
use edgekeep::secrets::{self, Secrets};
use edgekeep::{account, login};
use edgekeep_shared::api::{Client, LoginAnswer, LoginRequest, LogoutRequest, SessionsRequest, SignedOutAnswer};
use edgekeep_shared::problem::Reason;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};

/// The password of every user of these tests.
pub const PASSWORD: &str = "a perfectly good password";
/// Held while a database is made from the template: two copies at once refuse each other.
const COPY_LOCK: i64 = 0x6564_6765_7465_7374;

/// The server that tests make databases on.
pub fn server() -> PgConnectOptions {
    let url = std::env::var("EDGEKEEP_TEST_DATABASE_URL").or_else(|_| std::env::var("DATABASE_URL"));
    url.expect("EDGEKEEP_TEST_DATABASE_URL or DATABASE_URL names a Postgres server").parse().unwrap()
}

async fn execute(conn: &mut PgConnection, statement: String) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(conn).await.unwrap();
}

/// A migrated database that is dropped with this value.
pub struct Database {
    pub name: String,
    pub url: String,
}

impl Database {
    pub async fn new() -> Self {
        let mut random = [0; 8];
        getrandom::fill(&mut random).unwrap();
        let name = format!("edgekeep_test_{}", edgekeep_shared::ids::to_hex(&random));
        let options = server();
        let mut conn = PgConnection::connect_with(&options).await.unwrap();
        sqlx::query("SELECT pg_advisory_lock($1)").bind(COPY_LOCK).execute(&mut conn).await.unwrap();
        let template = template(&options, &mut conn).await;
        execute(&mut conn, format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        conn.close().await.unwrap();
        let url = url(&options, &name);
        Self { name, url }
    }

    /// A connection to the server, apart from this database.
    pub async fn server(&self) -> PgConnection {
        PgConnection::connect_with(&server()).await.unwrap()
    }

    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect_with(&server().database(&self.name)).await.unwrap()
    }
}

fn url(options: &PgConnectOptions, database: &str) -> String {
    use sqlx::ConnectOptions as _;
    let mut url = options.to_url_lossy();
    url.set_path(database);
    url.to_string()
}

/// The migrated template, made anew when a migration has changed.
async fn template(options: &PgConnectOptions, conn: &mut PgConnection) -> String {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    for migration in schema::MIGRATIONS.iter() {
        migration.checksum.hash(&mut hasher);
    }
    let name = format!("edgekeep_template_{:016x}", hasher.finish());
    let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(&name)
        .fetch_one(&mut *conn)
        .await
        .unwrap();
    if !there {
        let making = format!("{name}_making");
        execute(conn, format!("DROP DATABASE IF EXISTS {making} WITH (FORCE)")).await;
        execute(conn, format!("CREATE DATABASE {making} TEMPLATE template0")).await;
        let mut fresh = PgConnection::connect_with(&options.clone().database(&making)).await.unwrap();
        schema::migrate(&mut fresh).await.unwrap();
        fresh.close().await.unwrap();
        // Only a finished one ever has the name.
        execute(conn, format!("ALTER DATABASE {making} RENAME TO {name}")).await;
    }
    name
}

impl Drop for Database {
    fn drop(&mut self) {
        let name = self.name.clone();
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut conn = PgConnection::connect_with(&server()).await.unwrap();
                execute(&mut conn, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
            });
        });
        let _ = dropped.join();
    }
}

/// A configuration with cheap hashes and the same secrets for all coordinators of a test.
pub fn config(database: &Database) -> Config {
    let mut config = Config { database_url: DatabaseUrl(database.url.clone()), ..Config::default() };
    config.secrets.seal_key = Some(secrets::fresh().unwrap().to_string());
    config.secrets.subject_key = Some(secrets::fresh().unwrap().to_string());
    config.secrets.attempt_key = Some(secrets::fresh().unwrap().to_string());
    config.argon2.memory_kib = 1024;
    config.argon2.passes = 1;
    config.database.connections = 10;
    config
}

/// One coordinator and its database.
pub struct Cluster {
    pub app: Arc<App>,
    pub admin: Admin,
    pub config: Config,
    // Dropped last: the connections go before the database does.
    pub database: Database,
}

impl Cluster {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let database = Database::new().await;
        let mut config = config(&database);
        change(&mut config);
        let app = start(config.clone()).await;
        let admin = admin(&app);
        Self { app, admin, config, database }
    }

    /// Adds a user with the usual password.
    pub async fn user(&self, name: &str, roles: &[&str]) {
        let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
        self.admin.add(name, NewPassword::Typed(password(PASSWORD)), &roles).await.unwrap();
    }

    pub async fn set(&self, changes: &[(&str, &str)]) {
        let changes: Vec<_> = changes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.admin.set_settings(&changes).await.unwrap();
    }

    /// One number from the database.
    pub async fn number(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.app.pool).await.unwrap()
    }

    pub async fn execute(&self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(&self.app.pool).await.unwrap();
    }

    /// The reason why a proof's session is not current.
    pub async fn reason(&self, token: &str) -> Option<Reason> {
        match account::list_sessions(&self.app, SessionsRequest { token: token.to_owned() }).await {
            Ok(_) => None,
            Err(Failure::NoSession(reason)) => Some(reason),
            Err(other) => panic!("{other}"),
        }
    }

    pub async fn login(&self, request: LoginRequest) -> Result<LoginAnswer, Failure> {
        login::login(&self.app, request).await
    }

    /// A login that succeeds.
    pub async fn signed_in(&self, name: &str, key: &str) -> LoginAnswer {
        self.login(request(name, PASSWORD, key)).await.unwrap_or_else(|failure| panic!("{failure}"))
    }

    pub async fn logout(&self, tokens: &[&str]) -> Result<SignedOutAnswer, Failure> {
        let tokens = tokens.iter().map(|token| (*token).to_owned()).collect();
        account::logout(&self.app, LogoutRequest { tokens, wait_s: None }).await
    }
}

/// Starts a coordinator and waits until it can sign.
pub async fn start(config: Config) -> Arc<App> {
    let app = App::start(config).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while app.keys.version() < 2 || app.feed.settings().is_none() {
        assert!(tokio::time::Instant::now() < deadline, "the coordinator is not ready");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    app
}

pub fn admin(app: &App) -> Admin {
    Admin {
        pool: app.pool.clone(),
        secrets: Secrets::load(&app.config.secrets).unwrap(),
        hasher: app.hasher.clone(),
        block_list: BlockList::load(None).unwrap(),
    }
}

pub fn password(text: &str) -> Password {
    Password::new(text.to_owned()).unwrap()
}

pub fn request(name: &str, password: &str, key: &str) -> LoginRequest {
    LoginRequest {
        username: name.to_owned(),
        password: password.to_owned(),
        idempotency_key: key.to_owned(),
        presented: Vec::new(),
        client: Client { address: None, user_agent: "a test".to_owned() },
        wait_s: None,
    }
}

/// The error of a result whose success cannot be printed.
pub fn failure<T>(result: Result<T, Failure>) -> Failure {
    match result {
        Ok(_) => panic!("this should have failed"),
        Err(failure) => failure,
    }
}
