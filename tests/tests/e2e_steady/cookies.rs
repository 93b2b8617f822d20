//! What stands in the cookie, and what becomes of cookies that are not what they seem (design 2.1).

use edgekeep_tests::client::Client;
use edgekeep_tests::http::Request;
use edgekeep_tests::shape::assert_no_session;

use crate::world;

/// Name and value of the one session cookie.
fn cookie_of(client: &Client) -> (String, String) {
    let header = client.jar.header().unwrap();
    let mut pairs = header.split("; ").filter_map(|pair| pair.split_once('='));
    let (name, value) = pairs.find(|(name, _)| name.starts_with("__Host-edgekeep-")).unwrap();
    (name.to_owned(), value.to_owned())
}

fn dashboard(edge: usize, cookies: &str) -> edgekeep_tests::http::Response {
    Client::new().send(world().edge(edge), Request::get("/dashboard").header("Cookie", cookies))
}

#[test]
fn the_cookie_is_bound_to_the_host_and_out_of_reach_of_scripts() {
    let world = world();
    let user = world.user("jar");
    let response = Client::new().login(world.edge(0), &user).expect(200);
    let set: Vec<&str> = response.all("Set-Cookie").collect();
    assert_eq!(set.len(), 1, "{set:?}");
    let parts: Vec<&str> = set[0].split("; ").collect();
    let session_id = response.json()["session"]["id"].as_str().unwrap().to_owned();
    assert!(parts[0].starts_with(&format!("__Host-edgekeep-{}=", &session_id[..8])), "{}", parts[0]);
    for attribute in ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"] {
        assert!(parts.contains(&attribute), "{attribute} of {set:?}");
    }
    assert!(parts.iter().all(|part| !part.starts_with("Domain")), "{set:?}");
    let max_age = parts.iter().find_map(|part| part.strip_prefix("Max-Age=")).unwrap().parse::<u64>().unwrap();
    assert!((86_300..=86_400).contains(&max_age), "until the absolute expiry: {max_age}");
    assert_eq!(response.header("Cache-Control"), Some("no-store"));
}

#[test]
fn a_cookie_with_any_changed_character_is_invalid_and_cleared() {
    let world = world();
    let (_, client) = world.someone("tamper");
    let (name, value) = cookie_of(&client);
    for at in (0..value.len()).step_by(7) {
        let mut changed = value.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        let response = dashboard(at % 3, &format!("{name}={changed}"));
        // A changed key id may name a key that this edge does not have: then nobody can tell from here.
        if response.status == 503 {
            continue;
        }
        assert_no_session(&response, "invalid");
    }
    assert_no_session(&dashboard(0, &format!("{name}={value}A")), "invalid");
    let response = dashboard(1, &format!("{name}=x"));
    assert_no_session(&response, "invalid");
    let cleared = response.header("Set-Cookie").unwrap();
    assert!(cleared.starts_with(&format!("{name}=;")) && cleared.contains("Max-Age=0"), "{cleared}");
    assert_eq!(dashboard(0, &format!("{name}={value}")).status, 200, "and the real one still counts");
}

#[test]
fn a_cookie_that_comes_twice_or_under_a_wrong_name_does_not_count() {
    let world = world();
    let (_, client) = world.someone("twice");
    let (name, value) = cookie_of(&client);
    assert_no_session(&dashboard(0, &format!("{name}={value}; {name}={value}")), "invalid");
    assert_no_session(&dashboard(0, &format!("{name}=x; {name}={value}")), "invalid");
    assert_no_session(&dashboard(1, &format!("__Host-edgekeep-00000000={value}")), "invalid");
    // A name that is nearly ours is nobody's.
    for name in [name.to_lowercase(), name.to_uppercase(), name.replace("__Host-", ""), format!("={name}")] {
        assert_no_session(&dashboard(2, &format!("{name}={value}")), "none");
    }
}

#[test]
fn of_two_sessions_the_later_login_counts_and_the_other_cookie_is_cleared() {
    let world = world();
    let (_, early) = world.someone("early");
    let late_user = world.user("late");
    let late = world.login(1, &late_user);
    let ((early_name, early_value), (late_name, late_value)) = (cookie_of(&early), cookie_of(&late));
    for order in [
        format!("{early_name}={early_value}; {late_name}={late_value}"),
        format!("{late_name}={late_value}; {early_name}={early_value}"),
    ] {
        let request = Request::get("/auth/session").header("Cookie", &order);
        let response = Client::new().send(world.edge(2), request).expect(200);
        assert_eq!(response.json()["user"]["name"], late_user.name.as_str());
        let set: Vec<&str> = response.all("Set-Cookie").collect();
        assert_eq!(set.len(), 1, "{set:?}");
        assert!(set[0].starts_with(&format!("{early_name}=;")) && set[0].contains("Max-Age=0"), "{set:?}");
    }
    // No fallback: when the later one is over, the earlier one does not step in.
    let _ = late.steal().logout(world.edge(0)).expect(200);
    let both = format!("{early_name}={early_value}; {late_name}={late_value}");
    let request = Request::get("/strict").header("Cookie", &both);
    assert_no_session(&Client::new().send(world.edge(0), request), "signed_out");
}

#[test]
fn only_the_last_eight_cookies_are_looked_at() {
    let world = world();
    let (_, client) = world.someone("flood");
    let (name, value) = cookie_of(&client);
    let junk = |count: usize| -> String { (0..count).map(|n| format!("__Host-edgekeep-{n:08x}=x; ")).collect() };
    // Junk before it, however much, does not push the newest cookie out.
    assert_eq!(dashboard(0, &format!("{}{name}={value}", junk(60))).status, 200);
    let many_after = junk(8);
    assert_no_session(&dashboard(0, &format!("{name}={value}; {}", many_after.trim_end_matches("; "))), "invalid");
}
