//! axum with `tower-sessions` and `axum-login` on Postgres: `tower-sessions-peer PORT CONNECTIONS`, with the database's
//! address in `DATABASE_URL`.
//!
//! `POST /login` signs the one user in, `/me` needs a session, `/select` is a bare `SELECT` by primary key through
//! the same pool.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum_login::tower_sessions::{Expiry, SessionManagerLayer};
use axum_login::{AuthManagerLayerBuilder, AuthSession, AuthUser, AuthnBackend, UserId};
use tower_sessions_sqlx_store::PostgresStore;
use tower_sessions_sqlx_store::sqlx::postgres::PgPoolOptions;
use tower_sessions_sqlx_store::sqlx::{self, PgPool};

#[derive(Clone, Debug)]
struct User {
    id: i64,
    name: String,
    password_hash: String,
}

impl AuthUser for User {
    type Id = i64;

    fn id(&self) -> i64 {
        self.id
    }

    fn session_auth_hash(&self) -> &[u8] {
        self.password_hash.as_bytes()
    }
}

#[derive(Clone)]
struct Users(PgPool);

impl AuthnBackend for Users {
    type User = User;
    type Credentials = i64;
    type Error = sqlx::Error;

    /// What a login costs is not measured here: the id is believed.
    async fn authenticate(&self, id: i64) -> Result<Option<User>, sqlx::Error> {
        self.get_user(&id).await
    }

    async fn get_user(&self, id: &UserId<Self>) -> Result<Option<User>, sqlx::Error> {
        let row: Option<(i64, String, String)> =
            sqlx::query_as("SELECT id, name, password_hash FROM peer_user WHERE id = $1")
                .bind(id)
                .fetch_optional(&self.0)
                .await?;
        Ok(row.map(|(id, name, password_hash)| User { id, name, password_hash }))
    }
}

async fn login(mut session: AuthSession<Users>) -> StatusCode {
    match session.authenticate(1).await {
        Ok(Some(user)) if session.login(&user).await.is_ok() => StatusCode::OK,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

async fn me(session: AuthSession<Users>) -> Response {
    match session.user {
        Some(user) => format!("Hello, {}\n", user.name).into_response(),
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}

async fn select(State(pool): State<PgPool>) -> Result<String, StatusCode> {
    let name: String = sqlx::query_scalar("SELECT name FROM peer_user WHERE id = $1")
        .bind(1_i64)
        .fetch_one(&pool)
        .await
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(format!("Hello, {name}\n"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().ok_or("tower-sessions-peer PORT CONNECTIONS")?.parse()?;
    let connections: u32 = arguments.next().ok_or("tower-sessions-peer PORT CONNECTIONS")?.parse()?;
    let pool = PgPoolOptions::new().max_connections(connections).connect(&std::env::var("DATABASE_URL")?).await?;
    for statement in [
        "CREATE TABLE IF NOT EXISTS peer_user (id bigint PRIMARY KEY, name text NOT NULL, password_hash text NOT NULL)",
        "INSERT INTO peer_user VALUES (1, 'demo', 'a hash that nobody checks') ON CONFLICT DO NOTHING",
    ] {
        sqlx::query(statement).execute(&pool).await?;
    }
    let store = PostgresStore::new(pool.clone());
    store.migrate().await?;
    let sessions = SessionManagerLayer::new(store).with_expiry(Expiry::OnInactivity(time()));
    let auth = AuthManagerLayerBuilder::new(Users(pool.clone()), sessions).build();
    let app = Router::new()
        .route("/login", post(login))
        .route("/me", get(me))
        .layer(auth)
        .route("/select", get(select))
        .with_state(pool);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(listener, app).await?;
    Ok(())
}

/// A day.
fn time() -> axum_login::tower_sessions::cookie::time::Duration {
    axum_login::tower_sessions::cookie::time::Duration::days(1)
}
