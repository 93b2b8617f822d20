//! Signing keys change with nobody signed out; a revoked edge is out.

use edgekeep_tests::client::Client;
use edgekeep_tests::until;
use serde_json::Value;

use crate::world_with;

fn signing_key(world: &edgekeep_tests::world::World) -> String {
    let rows = world.sql().rows(
        "SELECT key_id FROM signing_key WHERE signs_from <= clock_timestamp() AND retired_at IS NULL \
         ORDER BY signs_from DESC LIMIT 1",
    );
    rows[0][0].clone()
}

fn all_pass(clients: &[Client], edges: &[std::net::SocketAddr]) {
    for client in clients {
        for edge in edges {
            let response = client.steal().get(*edge, "/dashboard");
            assert_eq!(response.status, 200, "{}", response.text());
        }
    }
}

#[test]
fn keys_are_rotated_and_withdrawn_with_nobody_signed_out() {
    let world = world_with(&[]);
    let mut clients = vec![world.someone("before").1];
    let old = signing_key(&world);
    world.edgekeep(&["key", "rotate"], "");
    clients.push(world.someone("during").1);
    all_pass(&clients, world.edges());
    // Withdrawn: its proofs must renew, and they can.
    world.edgekeep(&["key", "withdraw", &old], "");
    for edge in world.edges() {
        until("the edge renews what the withdrawn key had signed", || {
            let response = clients[0].steal().get(*edge, "/dashboard");
            assert_eq!(response.status, 200, "{}", response.text());
            response.header("Set-Cookie").map(|_| ())
        });
    }
    clients.push(world.someone("after").1);
    all_pass(&clients, world.edges());
    let listed: Value = serde_json::from_str(&world.edgekeep(&["key", "list", "--json"], "")).unwrap();
    assert!(listed.to_string().contains("withdrawn"), "{listed}");
    assert!(!listed.to_string().contains("secret"), "{listed}");
}

#[test]
fn a_revoked_edge_is_out_within_the_bound_and_the_others_go_on() {
    let mut world = world_with(&[]);
    let added = world.edgekeep(&["edge", "add", "stolen-edge", "--json"], "");
    let credential = serde_json::from_str::<Value>(&added).unwrap()["credential"].as_str().unwrap().to_owned();
    let stolen = world.add_edge(|setup| setup.credential = credential);
    let (_, client) = world.someone("edges");
    assert_eq!(client.steal().get(world.edge(stolen), "/dashboard").status, 200);
    world.edgekeep(&["edge", "revoke", "stolen-edge"], "");
    let receipt = std::time::Instant::now();
    until("the revoked edge knows nothing any more", || {
        let response = client.steal().get(world.edge(stolen), "/dashboard");
        if response.status == 200 {
            assert!(response.sent <= receipt + world.bound(), "accepted past the bound");
            return None;
        }
        assert_eq!(response.status, 503, "{}", response.text());
        assert!(response.header("Set-Cookie").is_none(), "the cookie stays");
        Some(())
    });
    for edge in &world.edges()[..2] {
        assert_eq!(client.steal().get(*edge, "/dashboard").status, 200);
    }
    world.cluster.edges[stolen].kill();
    world.forget_edge(stolen);
}
