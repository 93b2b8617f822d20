//! A writing transaction that is held open, here and in another database of the same server, delays no revocation and
//! makes nothing be sent again (design 2.2, Position).

use std::time::{Duration, Instant};

use edgekeep_shared::ids::UserId;
use edgekeep_tests::feed::Follower;
use edgekeep_tests::print_figure;
use edgekeep_tests::sql::Sql;

use crate::{probe, world};

/// How long they are held; in seconds. A minute, unless somebody is in a hurry.
fn held() -> Duration {
    let seconds = std::env::var("EDGEKEEP_TEST_OPEN_TRANSACTION_S").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(60))
}

#[test]
fn an_open_writing_transaction_delays_no_revocation_and_resends_nothing() {
    let mut world = world("open", 2);
    let edges = [world.add_edge_of(0), world.add_edge_of(1)];
    let mut sql = world.sql();
    sql.run("CREATE TABLE scratch (n integer)");
    sql.run("CREATE DATABASE other");
    let mut other = Sql::connect(&world.cluster.database_url().replace("/edgekeep", "/other"));
    other.run("CREATE TABLE scratch (n integer)");
    let mut here = world.sql();
    for holder in [&mut here, &mut other] {
        holder.run("BEGIN; INSERT INTO scratch VALUES (1)");
    }
    let began = Instant::now();
    let credential = world.cluster.edge_credential().to_owned();
    let mut followers: Vec<Follower> =
        (0..2).map(|index| Follower::new(world.coordinator(index), &credential)).collect();
    for follower in &mut followers {
        let _ = follower.ask(0);
    }
    let user = world.user("open");
    let rows = sql.rows(&format!("SELECT user_id FROM users WHERE name = '{}'", user.name));
    let user_id = UserId(rows[0][0].parse().unwrap());
    let mut rounds = 0;
    while began.elapsed() < held() {
        let client = world.login(0, &user);
        let probe = probe(&world, &edges, &client);
        let receipt = client.steal().logout(world.edge(1)).expect(200).received;
        probe.wait_for(401, receipt);
        probe.finish().assert_revoked("transactions held open", receipt, world.bound());
        for follower in &mut followers {
            // It comes once…
            let answer = edgekeep_tests::until("the entry", || {
                let answer = follower.ask(500);
                (!answer.entries.is_empty()).then_some(answer)
            });
            assert_eq!(answer.entries.len(), 1, "{:?}", answer.entries);
            assert_eq!(answer.entries[0].user_id, user_id);
            // …and not again.
            for hold_ms in [0, 50, 0] {
                let again = follower.ask(hold_ms);
                assert!(again.entries.is_empty(), "sent again: {:?}", again.entries);
            }
        }
        rounds += 1;
    }
    let open = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND backend_xid IS NOT NULL";
    assert_eq!(sql.number(open), 2, "they are still open");
    print_figure(&format!("{rounds} revocations while writing transactions were open for {:?}", began.elapsed()));
    for holder in [&mut here, &mut other] {
        holder.run("COMMIT");
    }
    for follower in &mut followers {
        let after = follower.ask(100);
        assert!(after.entries.is_empty(), "sent again after their commit: {:?}", after.entries);
    }
}
