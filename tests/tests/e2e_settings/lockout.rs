//! Waits that grow, and the cap (NIST SP 800-63B-4).

use edgekeep_tests::client::{Client, login_request, wrong};
use edgekeep_tests::shape::assert_problem;
use edgekeep_tests::{random_hex, until};
use xtask::state::User;

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

#[test]
fn one_client_address_that_tries_many_accounts_is_slowed_down() {
    let mut world = world_with(&[]);
    let url = world.cluster.coordinators[0].url.clone();
    let edge = world.add_edge(|setup| {
        setup.coordinator_urls = vec![url];
        setup.variables.push(("CLIENT_ADDRESS_HEADER".into(), "CF-Connecting-IP".into()));
    });
    let user = world.user("address");
    let guess = |address: &str| {
        let nobody = User { name: format!("nobody-{}", random_hex(6)), ..wrong(&user) };
        let request = login_request(&nobody, &random_hex(8)).header("CF-Connecting-IP", address);
        Client::new().send(world.edge(edge), request)
    };
    let slowed = until("the address is slowed down", || {
        let response = guess("2001:db8:1:2::1");
        (response.status == 429).then_some(response)
    });
    assert_problem(&slowed, 429, "rate_limited");
    // The whole network of an IPv6 client is one; other addresses are others.
    assert_problem(&guess("2001:db8:1:2:ffff::9"), 429, "rate_limited");
    assert_problem(&guess("2001:db8:1:3::1"), 401, "invalid_credentials");
    assert_problem(&guess("192.0.2.1"), 401, "invalid_credentials");
    // The header counts only where the deployment trusts it.
    let request = login_request(&user, &random_hex(8)).header("CF-Connecting-IP", "2001:db8:1:2::1");
    assert_eq!(Client::new().send(world.edge(0), request).status, 200);
    world.cluster.edges[edge].kill();
    world.forget_edge(edge);
}
