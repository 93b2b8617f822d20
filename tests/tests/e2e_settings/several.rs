//! Several sessions per user, where a deployment allows them.

use edgekeep_tests::client::Client;
use edgekeep_tests::http::Request;
use edgekeep_tests::{random_hex, until};
use serde_json::json;

use crate::world_with;

#[test]
fn two_devices_at_once_and_the_third_replaces_the_oldest() {
    let world = world_with(&[("sessions_per_user", "2")]);
    let user = world.user("two");
    let (mut first, mut second) = (world.login(0, &user), world.login(1, &user));
    for edge in world.edges() {
        assert_eq!((first.session(*edge).0, second.session(*edge).0), (200, 200));
    }
    let mut third = world.login(0, &user);
    assert_eq!(world.sessions_of(&user), 2);
    for edge in world.edges() {
        until("the oldest is over", || {
            (first.session(*edge) == (401, Some("signed_in_elsewhere".into()))).then_some(())
        });
        // The entry names the user: the other sessions ask, and go on.
        assert_eq!((second.session(*edge).0, third.session(*edge).0), (200, 200));
    }
}

#[test]
fn the_account_page_lists_sessions_and_ends_others() {
    let world = world_with(&[("sessions_per_user", "3")]);
    let user = world.user("list");
    let (mut here, mut there) = (world.login(0, &user), world.login(1, &user));
    let there_id = there.get(world.edge(0), "/auth/session").json()["session"]["id"].as_str().unwrap().to_owned();
    let page = here.send(world.edge(0), Request::navigate("/auth/account")).expect(200).text();
    assert!(page.contains(&there_id), "{page}");
    let end = |client: &mut Client, id: &str| {
        client.send(world.edge(1), Request::json("/auth/sessions/end", &json!({"session_id": id})).key(&random_hex(8)))
    };
    let receipt = end(&mut here, &there_id).expect(200).json();
    assert_eq!(receipt["signed_out"], true);
    for edge in world.edges() {
        until("it is over", || (there.session(*edge).0 == 401).then_some(()));
        assert_eq!(there.session(*edge).1.as_deref(), Some("signed_out"));
        assert_eq!(here.session(*edge).0, 200);
    }
    assert_eq!(end(&mut here, &there_id).expect(200).json()["effective_at"], receipt["effective_at"], "repeated");
    // Somebody else's session is out of reach.
    let stranger = world.user("stranger");
    let mut stranger = world.login(0, &stranger);
    let here_id = here.get(world.edge(0), "/auth/session").json()["session"]["id"].as_str().unwrap().to_owned();
    let _ = end(&mut stranger, &here_id);
    assert_eq!(here.get(world.edge(1), "/strict").status, 200);
}

#[test]
fn lowering_the_number_ends_the_oldest_excess() {
    let world = world_with(&[("sessions_per_user", "2")]);
    let user = world.user("lower");
    let (mut old, mut new) = (world.login(0, &user), world.login(1, &user));
    world.edgekeep(&["settings", "set", "sessions_per_user=1"], "");
    assert_eq!(world.sessions_of(&user), 1);
    for edge in world.edges() {
        until("the older one is over", || (old.session(*edge).0 == 401).then_some(()));
        assert_eq!(new.session(*edge).0, 200);
    }
}

#[test]
fn a_password_change_ends_all_others_and_a_logout_only_its_own() {
    let world = world_with(&[("sessions_per_user", "4")]);
    let user = world.user("four");
    let mut clients: Vec<Client> = (0..4).map(|n| world.login(n % 2, &user)).collect();
    let _ = clients[0].logout(world.edge(0)).expect(200);
    for client in &mut clients[1..] {
        assert_eq!(client.get(world.edge(1), "/strict").status, 200);
    }
    let body = json!({"current_password": user.password, "new_password": xtask::paths::random_password().unwrap()});
    let request = Request::json("/auth/password", &body).key(&random_hex(8));
    let _ = clients[1].send(world.edge(0), request).expect(200);
    assert_eq!(clients[1].get(world.edge(1), "/strict").status, 200);
    for client in &mut clients[2..] {
        let refused = client.get(world.edge(1), "/strict");
        assert_eq!((refused.status, refused.reason().as_deref()), (401, Some("password_changed")));
    }
}
