//! A site behind the gate that is away, or that accepts connections and says nothing.

use std::net::TcpListener;

use edgekeep_tests::shape::assert_problem;
use edgekeep_tests::until;

use crate::{accepts, world};

#[test]
fn a_site_that_is_down_or_silent_is_503_and_ends_no_session() {
    let mut world = world("origin", 1);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_url = format!("http://{}", silent.local_addr().unwrap());
    let edge = world.add_edge_of(0);
    let waiting = world.add_edge(|setup| {
        setup.origin_url = silent_url;
        setup.variables.push(("ORIGIN_TIMEOUT_S".into(), "1".into()));
    });
    let (_, client) = world.someone("visitor");
    accepts(&world, edge, &client);

    let unanswered = client.steal().get(world.edge(waiting), "/dashboard");
    assert_problem(&unanswered, 503, "unavailable");
    assert!(unanswered.header("Set-Cookie").is_none());

    world.cluster.site.part.kill();
    let down = until("the site is gone", || {
        let response = client.steal().get(world.edge(edge), "/dashboard");
        (response.status != 200).then_some(response)
    });
    assert_problem(&down, 503, "unavailable");
    assert!(down.header("Retry-After").is_some() && down.header("Set-Cookie").is_none());
    assert_eq!(client.steal().get(world.edge(edge), "/auth/session").status, 200);
}
