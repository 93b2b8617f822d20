//! Idle and absolute expiry, on the database's clock.

use edgekeep_tests::shape::{assert_no_session, time_ms};
use edgekeep_tests::until;

use crate::world_with;

#[test]
fn a_session_that_is_not_used_expires() {
    let world = world_with(&[("proof_life_ms", "1000"), ("idle_timeout_ms", "2000")]);
    let mut sql = world.sql();
    let (user, client) = world.someone("idle");
    let used =
        "SELECT count(*) FROM session JOIN users USING (user_id) WHERE idle_expires_at > clock_timestamp() AND name";
    until("the time is up", || (sql.number(&format!("{used} = '{}'", user.name)) == 0).then_some(()));
    for edge in world.edges() {
        for path in ["/dashboard", "/strict", "/auth/session"] {
            assert_no_session(&client.steal().get(*edge, path), "expired");
        }
    }
}

#[test]
fn a_session_that_is_used_lives_on_until_its_absolute_end() {
    let world = world_with(&[("proof_life_ms", "1000"), ("idle_timeout_ms", "2000"), ("absolute_timeout_ms", "5000")]);
    let mut sql = world.sql();
    let (_, mut client) = world.someone("absolute");
    let session = client.get(world.edge(0), "/auth/session").expect(200).json();
    let (began_ms, ends_ms) =
        (time_ms(&session["session"]["authenticated_at"]), time_ms(&session["session"]["expires_at"]));
    assert_eq!(ends_ms - began_ms, 5_000);
    let mut lived_until_ms = began_ms;
    until("the absolute end", || {
        let now_ms = sql.now_ms();
        let mut next = client.steal();
        let response = next.get(world.edge(0), "/dashboard");
        if response.status == 200 {
            assert!(now_ms < ends_ms, "accepted {} ms after the absolute end", now_ms - ends_ms);
            lived_until_ms = now_ms;
            // In its last second a cookie may be taken away; a copy is still a copy.
            client = if next.jar.session_names().is_empty() { client.steal() } else { next };
            return None;
        }
        assert_no_session(&response, "expired");
        Some(())
    });
    assert!(lived_until_ms > began_ms + 2_000, "renewals carried it past its first idle timeout");
    assert_no_session(&client.get(world.edge(1), "/strict"), "expired");
}
