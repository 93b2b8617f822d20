//! Clean-up drops only what nobody needs.

use edgekeep::tasks::{Cleaned, clean_up};
use edgekeep_shared::problem::Reason;

use crate::support::{Cluster, failure, request};

async fn round(cluster: &Cluster) -> Cleaned {
    clean_up(&cluster.app.pool, true).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_that_is_needed() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    failure(cluster.login(request("ann", "not the right password", "key-0")).await);
    let one = cluster.signed_in("ann", "key-1").await;
    cluster.signed_in("ann", "key-2").await;
    failure(cluster.login(request("nobody", "not the right password", "key-3")).await);
    assert_eq!(round(&cluster).await, Cleaned::default());
    assert_eq!(cluster.reason(&one.token).await, Some(Reason::SignedInElsewhere));
}

#[tokio::test(flavor = "multi_thread")]
async fn old_attempts_go_unless_they_still_count() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    failure(cluster.login(request("ann", "not the right password", "key-0")).await);
    cluster.signed_in("ann", "key-1").await;
    failure(cluster.login(request("ann", "not the right password", "key-2")).await);
    cluster.execute("UPDATE attempt SET reserved_at = reserved_at - interval '28 hours'").await;
    cluster
        .execute("UPDATE attempt SET settled_at = NULL, outcome = NULL, owner_deadline = now() + interval '1 hour' WHERE seq = 1")
        .await;
    assert_eq!(round(&cluster).await.attempts, 1, "the login; not the one in flight, not the one that counts");
    assert_eq!(cluster.number("SELECT count(*) FROM attempt WHERE seq IN (1, 3)").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_sessions_end_with_their_reason_and_it_stays_until_the_absolute_expiry() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    let session = cluster.signed_in("ann", "key-1").await;
    cluster.execute("UPDATE session SET idle_expires_at = now() - interval '2 minutes', proof_until = now() - interval '3 minutes'").await;
    assert_eq!(round(&cluster).await.expired_sessions, 1);
    assert_eq!(cluster.reason(&session.token).await, Some(Reason::Expired));
    assert_eq!(
        cluster.number("SELECT revision & ((1::bigint << 48) - 1) FROM user_state").await,
        0,
        "no proof of it is left to revoke"
    );
    assert_eq!(round(&cluster).await, Cleaned::default());
    cluster.execute("UPDATE ended_session SET expires_at = now() - interval '2 hours'").await;
    assert_eq!(round(&cluster).await.ended_sessions, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_nobody_has_are_forgotten() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    for name in ["ann", "nobody"] {
        failure(cluster.login(request(name, "not the right password", "key-0")).await);
    }
    cluster
        .execute(
            "UPDATE subject_state SET updated_at = updated_at - interval '91 days';
             UPDATE attempt SET reserved_at = reserved_at - interval '91 days'",
        )
        .await;
    assert_eq!(round(&cluster).await.subjects, 1);
    assert_eq!(cluster.number("SELECT count(*) FROM subject_state JOIN users USING (subject)").await, 1);
    assert_eq!(cluster.number("SELECT count(*) FROM attempt").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_audit_entries_and_heartbeats_go() {
    let cluster = Cluster::new().await;
    cluster.user("ann", &[]).await;
    cluster
        .execute(
            "UPDATE audit SET at = at - interval '366 days' WHERE action = 'user_added';
             INSERT INTO heartbeat VALUES ('\\x00000000000000000000000000000000', 7, now() - interval '31 days'),
                                          ('\\x00000000000000000000000000000001', 7, now() - interval '29 days')",
        )
        .await;
    let cleaned = round(&cluster).await;
    assert_eq!((cleaned.audit, cleaned.heartbeats), (1, 1));
}
