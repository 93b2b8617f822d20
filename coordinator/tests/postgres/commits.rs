//! What becomes of an operation whose commit is never acknowledged.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use edgekeep::db::DbError;
use edgekeep::failure::Failure;
use edgekeep::login;
use edgekeep_shared::problem::{Code, Reason};
use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;
use tokio::io::copy;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Cluster, PASSWORD, failure, request, server};

/// Makes `COMMIT` of what touches the table wait, as it would for a standby that does not answer.
const SLOW_COMMIT: &str = "
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(30); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON session DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION slow();";
const BREAK_IT: &str = "
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND query = 'COMMIT' AND state = 'active' AND pid <> pg_backend_pid()";

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_without_acknowledgement_is_unknown_and_its_retry_happens_once() {
    let cluster = Cluster::with(|config| config.login.owner_deadline_ms = 2_000).await;
    cluster.user("ann", &[]).await;
    let first = cluster.signed_in("ann", "first").await;
    cluster.execute(SLOW_COMMIT).await;
    let interrupted = {
        let app = cluster.app.clone();
        tokio::spawn(async move { login::login(&app, request("ann", PASSWORD, "second")).await })
    };
    while cluster.number(BREAK_IT).await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let unknown = failure(interrupted.await.unwrap());
    assert!(matches!(unknown, Failure::Database(DbError::CommitUnknown(_))), "{unknown}");
    assert_eq!((unknown.problem().status, unknown.problem().code), (503, Code::Unavailable));
    assert_eq!(cluster.reason(&first.token).await, None, "all or nothing: this time it was nothing");
    cluster.execute("DROP TRIGGER slow ON session").await;
    // The same key: it waits for the deadline of the delivery that is gone, then takes over.
    let second = cluster.signed_in("ann", "second").await;
    assert_eq!(cluster.reason(&first.token).await, Some(Reason::SignedInElsewhere));
    assert_eq!(cluster.reason(&second.token).await, None);
    assert_eq!(cluster.number("SELECT count(*) FROM attempt").await, 2);
    assert_eq!(cluster.number("SELECT count(*) FROM ended_session").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_gone_is_not_a_wrong_password() {
    let cluster = Cluster::with(|config| config.database.acquire_timeout_ms = 500).await;
    cluster.user("ann", &[]).await;
    let session = cluster.signed_in("ann", "first").await;
    let name = cluster.database.name.clone();
    let mut server = cluster.database.server().await;
    for statement in [
        format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"),
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut server).await.unwrap();
    }
    let gone = failure(cluster.login(request("ann", PASSWORD, "second")).await);
    assert_eq!((gone.problem().status, gone.problem().code), (503, Code::Unavailable), "{gone}");
    let gone = failure(cluster.logout(&[&session.token]).await);
    assert_eq!(gone.problem().status, 503, "never `signed out` for a logout that nobody recorded");
    let statement = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true");
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut server).await.unwrap();
    cluster.signed_in("ann", "second").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_have_died_unnoticed_cost_nobody_an_answer() {
    let cluster = Cluster::new().await;
    let names = ["ann", "bob", "cid", "dan"];
    for name in names {
        cluster.user(name, &[]).await;
    }
    for round in 0..4 {
        let key = format!("round-{round}");
        // Together, so that the pool has as many connections.
        let all = names.map(|name| cluster.signed_in(name, &key));
        futures_util::future::join_all(all).await;
        let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name = 'edgekeep' AND state = 'idle'
                     AND pid <> pg_backend_pid()";
        assert!(cluster.number(ended).await > 1);
    }
}

/// Forwards connections to a server; those that are open when `stalled` is set get no byte through from then on, and stay open.
async fn forwarder(to: String, stalled: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let (stalled, to) = (Arc::clone(&stalled), to.clone());
            tokio::spawn(async move {
                let dies = !stalled.load(Ordering::Relaxed);
                let server = TcpStream::connect(to).await.unwrap();
                let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                    (client.into_split(), server.into_split());
                let both = async {
                    tokio::join!(copy(&mut from_client, &mut to_server), copy(&mut from_server, &mut to_client))
                };
                let stall = async {
                    while !(dies && stalled.load(Ordering::Relaxed)) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                tokio::select! {
                    _ = both => {}
                    () = stall => tokio::time::sleep(Duration::from_secs(60)).await,
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_dead_without_a_sign_are_given_up() {
    let stalled = Arc::new(AtomicBool::new(false));
    let server = server();
    let to = format!("{}:{}", server.get_host(), server.get_port());
    let address = forwarder(to, Arc::clone(&stalled)).await;
    let cluster = Cluster::with(|config| {
        let server: PgConnectOptions = config.database_url.0.parse().unwrap();
        config.database_url.0 = server.host("127.0.0.1").port(address.port()).to_url_lossy().to_string();
        config.database.acquire_timeout_ms = 1_500;
    })
    .await;
    let names = ["ann", "bob", "cid"];
    for name in names {
        cluster.user(name, &[]).await;
    }
    // Together, so that the pool has as many connections.
    futures_util::future::join_all(names.map(|name| cluster.signed_in(name, "first"))).await;
    stalled.store(true, Ordering::Relaxed);
    // Each try gives up a few of them, in bounded time.
    let begun = Instant::now();
    for tries in 0.. {
        let login = cluster.login(request("ann", PASSWORD, &format!("later-{tries}")));
        let answered = tokio::time::timeout(Duration::from_secs(10), login).await;
        if answered.expect("an answer in bounded time").is_ok() {
            println!("{tries} logins failed, for {:?}", begun.elapsed());
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "after {tries} tries");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_does_not_stop_its_login() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    let mut blocker = cluster.database.connect().await;
    sqlx::raw_sql("BEGIN; SELECT FROM user_state FOR UPDATE").execute(&mut blocker).await.unwrap();
    let delivery = {
        let app = cluster.app.clone();
        tokio::spawn(async move { login::login(&app, request("ann", PASSWORD, "key")).await })
    };
    while cluster.number("SELECT count(*) FROM attempt").await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    delivery.abort();
    sqlx::raw_sql("ROLLBACK").execute(&mut blocker).await.unwrap();
    while cluster.number("SELECT count(*) FROM session").await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cluster.signed_in("ann", "key").await;
    assert_eq!(cluster.app.hasher.evaluations(), 1);
}

/// A future that is dropped while `BEGIN` is under way gave its connection back with the transaction open: whatever came
/// next on it belonged to that transaction, and its locks stayed. Found by the torture.
#[tokio::test(flavor = "multi_thread")]
async fn work_that_is_given_up_leaves_no_transaction_in_the_pool() {
    use std::future::poll_fn;
    use std::task::Poll;

    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    let mut watcher = cluster.database.connect().await;
    for polls in 1..=40 {
        let mut work = Box::pin(cluster.admin.unlock("ann"));
        for _ in 0..polls {
            if poll_fn(|context| Poll::Ready(work.as_mut().poll(context).is_ready())).await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        drop(work);
        // What was sent arrives first.
        tokio::time::sleep(Duration::from_millis(50)).await;
        // Long before the server would end it by itself.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        let open = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
        while sqlx::query_scalar::<_, i64>(open).fetch_one(&mut watcher).await.unwrap() > 0 {
            assert!(tokio::time::Instant::now() < deadline, "given up after {polls} polls, and still in a transaction");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
