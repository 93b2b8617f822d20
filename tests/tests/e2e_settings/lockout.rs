//! Waits that grow, and the cap (NIST SP 800-63B-4).

use edgekeep_tests::client::{Client, wrong};
use edgekeep_tests::shape::assert_problem;
use edgekeep_tests::until;

use crate::world_with;

#[test]
fn each_run_of_failures_waits_longer_and_the_cap_needs_an_administrator() {
    let world = world_with(&[
        ("guess_limit", "2"),
        ("lockout_base_ms", "2000"),
        ("lockout_max_ms", "60000"),
        ("consecutive_failure_cap", "5"),
    ]);
    let user = world.user("waits");
    let login = |user: &_| Client::new().login(world.edge(0), user);
    let mut longest_s = Vec::new();
    for _ in 0..2 {
        for _ in 0..2 {
            assert_problem(&login(&wrong(&user)), 401, "invalid_credentials");
        }
        let locked = login(&user);
        assert_problem(&locked, 429, "locked");
        longest_s.push(locked.header("Retry-After").unwrap().parse::<u64>().unwrap());
        until("the lock is over", || {
            let locked_until = format!(
                "SELECT count(*) FROM subject_state JOIN users USING (subject) \
                 WHERE name = '{}' AND locked_until > clock_timestamp()",
                user.name
            );
            (world.sql().number(&locked_until) == 0).then_some(())
        });
    }
    assert!(longest_s[0] <= 2 && (1..=4).contains(&longest_s[1]), "{longest_s:?}");
    // One more failure is the fifth in a row: no waiting helps.
    assert_problem(&login(&wrong(&user)), 401, "invalid_credentials");
    let disabled = login(&user);
    assert_problem(&disabled, 429, "locked");
    assert_eq!(disabled.header("Retry-After"), None);
    world.edgekeep(&["user", "unlock", &user.name], "");
    assert_eq!(login(&user).status, 200);
}

#[test]
fn a_right_password_after_the_wait_works() {
    let world = world_with(&[("guess_limit", "2"), ("lockout_base_ms", "500")]);
    let user = world.user("patient");
    for _ in 0..2 {
        assert_eq!(Client::new().login(world.edge(0), &wrong(&user)).status, 401);
    }
    until("the lock is over", || (Client::new().login(world.edge(1), &user).status == 200).then_some(()));
}
