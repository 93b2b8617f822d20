//! The order of locks (ARCHITECTURE.md), also of those that one statement takes.

use std::time::Duration;

use edgekeep::failure::Failure;
use edgekeep::login;
use sqlx::PgConnection;

use crate::support::{Cluster, PASSWORD, failure, request};

/// What a settling login locks, in order: what it is, and how somebody else takes it or is refused.
const ORDER: [(&str, &str); 5] = [
    // The lock that holds the settings, which a login takes shared.
    ("settings", "SELECT 1 / pg_try_advisory_xact_lock(x'656467656b656570'::bigint)::integer"),
    ("user_state", "SELECT FROM user_state FOR UPDATE NOWAIT"),
    ("session", "SELECT FROM session FOR UPDATE NOWAIT"),
    ("subject_state", "SELECT FROM subject_state FOR UPDATE NOWAIT"),
    ("attempt", "SELECT FROM attempt WHERE settled_at IS NULL FOR UPDATE NOWAIT"),
];

/// Somebody who holds a lock until told to let go.
struct Blocker {
    conn: PgConnection,
    pid: i32,
}

impl Blocker {
    async fn hold(cluster: &Cluster, lock: &'static str) -> Self {
        let mut conn = cluster.database.connect().await;
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut conn).await.unwrap();
        sqlx::raw_sql("BEGIN").execute(&mut conn).await.unwrap();
        sqlx::raw_sql(lock).execute(&mut conn).await.unwrap();
        Self { conn, pid }
    }

    /// Until somebody waits for it.
    async fn waited_for(&self, cluster: &Cluster) {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND $1 = ANY(pg_blocking_pids(pid))";
        let mut watcher = cluster.database.connect().await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while sqlx::query_scalar::<_, i64>(waiting).bind(self.pid).fetch_one(&mut watcher).await.unwrap() == 0 {
            assert!(tokio::time::Instant::now() < deadline, "nobody waits");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn do_and_let_go(mut self, change: &'static str) {
        sqlx::raw_sql(change).execute(&mut self.conn).await.unwrap();
        sqlx::raw_sql("COMMIT").execute(&mut self.conn).await.unwrap();
    }

    async fn let_go(mut self) {
        sqlx::raw_sql("ROLLBACK").execute(&mut self.conn).await.unwrap();
    }
}

/// Nobody has this lock.
async fn is_free(cluster: &Cluster, lock: &'static str) -> bool {
    let mut conn = cluster.database.connect().await;
    sqlx::raw_sql("BEGIN").execute(&mut conn).await.unwrap();
    let free = sqlx::raw_sql(lock).execute(&mut conn).await.is_ok();
    // Acknowledged, so that it is free again when this returns.
    sqlx::raw_sql("ROLLBACK").execute(&mut conn).await.unwrap();
    free
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_takes_its_locks_one_by_one_in_order() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    cluster.signed_in("ann", "first").await;

    let mut blocker = Blocker::hold(&cluster, ORDER[0].1).await;
    let second = {
        let app = cluster.app.clone();
        tokio::spawn(async move { login::login(&app, request("ann", PASSWORD, "second")).await })
    };
    for (at, (name, _)) in ORDER.iter().enumerate() {
        blocker.waited_for(&cluster).await;
        for (before, lock) in &ORDER[..at] {
            assert!(!is_free(&cluster, lock).await, "{before} comes before {name}");
        }
        for (after, lock) in &ORDER[at + 1..] {
            assert!(is_free(&cluster, lock).await, "{after} comes after {name}");
        }
        if let Some((_, next)) = ORDER.get(at + 1) {
            let next = Blocker::hold(&cluster, next).await;
            std::mem::replace(&mut blocker, next).let_go().await;
        }
    }
    blocker.let_go().await;
    second.await.unwrap().unwrap_or_else(|failure| panic!("{failure}"));
}

/// What was read before the hash is looked at again behind the lock: until then anything may have happened to the user.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_password_is_wrong_if_it_or_its_user_is_gone_by_the_time_it_is_settled() {
    for change in [
        "UPDATE users SET password_version = password_version + 1",
        "UPDATE users SET disabled_at = clock_timestamp()",
        "UPDATE users SET deleted_at = clock_timestamp(), name = NULL, subject = NULL, password_hash = NULL",
    ] {
        let cluster = Cluster::new().await;
        cluster.user("ann", &[]).await;
        let blocker = Blocker::hold(&cluster, "SELECT FROM user_state FOR UPDATE").await;
        let signing_in = {
            let app = cluster.app.clone();
            tokio::spawn(async move { login::login(&app, request("ann", PASSWORD, "key")).await })
        };
        blocker.waited_for(&cluster).await;
        blocker.do_and_let_go(change).await;
        let failure = failure(signing_in.await.unwrap());
        assert!(matches!(failure, Failure::InvalidCredentials), "{change}: {failure}");
        assert_eq!(cluster.number("SELECT count(*) FROM session").await, 0, "{change}");
    }
}
