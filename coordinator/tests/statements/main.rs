//! How many statements a login or a renewal asks the database: each is a round trip, and together they are most of what a
//! login costs beside its hash, and of what a renewal costs. What they are is in `docs/performance/README.md`.
//!
//! In a process of its own with one thread for everything that asks: whether anybody listens to sqlx is remembered for
//! a whole process, and what is heard does not say who asked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

// Not all of it is used here.
#[allow(dead_code)]
#[path = "../postgres/support.rs"]
mod support;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edgekeep_shared::api::{CheckRequest, CheckVerdict, LoginRequest};
use edgekeep_shared::ids::Nonce;
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use support::{Cluster, PASSWORD, failure, request};

/// Every statement that connections of this thread are done with, as sqlx tells it.
#[derive(Clone, Default)]
struct Statements(Arc<Mutex<Vec<String>>>);

#[derive(Default)]
struct Text {
    summary: String,
    whole: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.whole),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

impl<S: Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != "sqlx::query" {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        let text = if text.whole.is_empty() { text.summary } else { text.whole };
        self.0.lock().unwrap().push(text.split_whitespace().collect::<Vec<_>>().join(" "));
    }
}

impl Statements {
    /// Begins to listen on this thread, on which everything of a test with one thread runs.
    fn listen() -> (Self, DefaultGuard) {
        let statements = Self::default();
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(statements.clone()));
        (statements, guard)
    }

    /// What was asked since the last call, without what a coordinator asks by itself.
    fn take(&self) -> Vec<String> {
        let by_itself = ["heartbeat", "key_set", "signing_key", "edge_credential", "set_config"];
        let taken = std::mem::take(&mut *self.0.lock().unwrap());
        taken.into_iter().filter(|text| !by_itself.iter().any(|of| text.contains(of))).collect()
    }
}

fn counted(statements: &[String], what: &str, wanted: usize) {
    assert_eq!(statements.len(), wanted, "{what}:\n{}\n", statements.join("\n"));
}

#[tokio::test]
async fn a_login_or_a_renewal_asks_the_database_so_often_and_not_more() {
    let (statements, _guard) = Statements::listen();
    // One connection, so that it knows every statement.
    let cluster = Cluster::with(|config| config.database.connections = 1).await;
    cluster.user("ann", &[]).await;
    // The first attempt of a name also makes its row.
    cluster.signed_in("ann", "first").await;
    failure(cluster.login(request("nobody", "not the right password", "first")).await);
    cluster.execute("DELETE FROM session").await;
    statements.take();

    cluster.signed_in("ann", "alone").await;
    counted(&statements.take(), "a login that ends nothing", 13);
    let answer = cluster.signed_in("ann", "takes-over").await;
    counted(&statements.take(), "a login that ends a session", 15);
    let presenting = LoginRequest { presented: vec![answer.token], ..request("ann", PASSWORD, "presents") };
    cluster.login(presenting).await.unwrap_or_else(|failure| panic!("{failure}"));
    counted(&statements.take(), "a login that ends the session that it presents", 16);
    cluster.signed_in("ann", "presents").await;
    counted(&statements.take(), "a login that is delivered again", 10);

    failure(cluster.login(request("ann", "not the right password", "wrong")).await);
    let wrong = statements.take();
    counted(&wrong, "a wrong password", 12);
    failure(cluster.login(request("nobody", "not the right password", "wrong")).await);
    assert_eq!(statements.take(), wrong, "a name that nobody has asks the same");

    cluster.execute("UPDATE settings SET proof_life_ms = 1000").await;
    let token = cluster.signed_in("ann", "renews").await.token;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let check = async |renew| {
        let request = CheckRequest { nonce: Nonce([7; 16]), token: token.clone(), renew };
        cluster.app.checks.check(request).await.unwrap_or_else(|failure| panic!("{failure}"))
    };
    // The first one also connects.
    check(false).await;
    statements.take();
    let answer = check(true).await;
    assert!(matches!(answer.verdict, CheckVerdict::Current { token: Some(_), .. }));
    counted(&statements.take(), "a renewal that writes, beside the check of all that came together", 5);

    // Postgres makes five plans of a statement for its parameters and then one for all, unless that one looks dearer.
    for n in 0..6 {
        cluster.signed_in("ann", &format!("again-{n}")).await;
    }
    let planned_anew = "SELECT statement FROM pg_prepared_statements WHERE custom_plans > 5 AND generic_plans = 0";
    let planned_anew: Vec<String> = sqlx::query_scalar(planned_anew).fetch_all(&cluster.app.pool).await.unwrap();
    assert!(planned_anew.is_empty(), "planned anew each time: {planned_anew:#?}");
}
