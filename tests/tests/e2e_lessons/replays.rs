//! A key that makes a repeated login the same login is no way in for somebody else, nor for later.

use edgekeep_tests::client::{Client, login_request, wrong};
use edgekeep_tests::http::{Request, Response};
use edgekeep_tests::random_hex;
use edgekeep_tests::shape::assert_problem;
use serde_json::json;

use crate::world;

fn gives_no_cookie(response: &Response) -> bool {
    response.all("Set-Cookie").all(|cookie| cookie.contains("Max-Age=0"))
}

/// Whoever learns a key (a log, a proxy) gets nothing for it: not with another name, password or operation.
#[test]
fn a_replay_by_another_principal() {
    let (victim, other, key) = (world().user("victim"), world().user("other"), random_hex(16));
    let first = Client::new().login_with_key(world().edge(0), &victim, &key).expect(200).json();
    // Another user's login under the same key is a login of its own.
    let own = Client::new().login_with_key(world().edge(1), &other, &key).expect(200).json();
    assert_ne!(own["session"]["id"], first["session"]["id"]);
    assert_eq!(own["user"]["name"], other.name.as_str());
    // The victim's name with a guess: counted like any guess.
    for n in 0..5 {
        let replay = Client::new().login_with_key(world().edge(n % 2), &wrong(&victim), &key);
        assert_problem(&replay, 401, "invalid_credentials");
        assert!(gives_no_cookie(&replay));
    }
    assert_problem(&Client::new().login_with_key(world().edge(0), &wrong(&victim), &key), 429, "locked");
    // The boundary between key, name and password cannot be shifted.
    for (name, password, key) in [
        (format!("{}x", other.name), other.password.clone(), key.clone()),
        (other.name.clone(), other.password.clone() + &key, String::from("k")),
        (other.name.clone(), String::from("x"), other.password.clone() + &key),
    ] {
        let body = json!({"username": name, "password": password});
        let replay = Client::new().send(world().edge(0), Request::json("/auth/login", &body).key(&key));
        assert_problem(&replay, 401, "invalid_credentials");
    }
    // A login's key at another door is another operation.
    let body = json!({"username": other.name, "password": other.password});
    let everywhere =
        Client::new().send(world().edge(1), Request::json("/auth/logout-everywhere", &body).key(&key)).expect(200);
    assert!(gives_no_cookie(&everywhere));
    assert_eq!(world().sessions_of(&other), 0);
}

/// A recorded login, sent again after what it made was taken away.
#[test]
fn a_replay_after_revocation() {
    for what in ["revoke", "disable", "delete", "passwd", "everywhere", "logout"] {
        let (user, key) = (world().user(what), random_hex(16));
        let mut client = Client::new();
        let _ = client.login_with_key(world().edge(0), &user, &key).expect(200);
        match what {
            "revoke" => drop(world().edgekeep(&["session", "revoke", &user.name], "")),
            "passwd" => {
                drop(world().edgekeep(&["user", "passwd", &user.name], "nine unrelated words are more than enough\n"))
            }
            "everywhere" => {
                let body = json!({"username": user.name, "password": user.password});
                let _ = Client::new()
                    .send(world().edge(1), Request::json("/auth/logout-everywhere", &body).key(&random_hex(8)))
                    .expect(200);
            }
            "logout" => drop(client.steal().logout(world().edge(1)).expect(200)),
            other => drop(world().edgekeep(&["user", other, &user.name], "")),
        }
        for n in 0..4 {
            let mut replayer = client.steal();
            let replay = replayer.send(world().edge(n % 2), login_request(&user, &key));
            assert!(matches!(replay.status, 401 | 410), "{what}: {} {}", replay.status, replay.text());
            assert!(gives_no_cookie(&replay), "{what}: {:?}", replay.headers);
            assert_eq!(replayer.get(world().edge(n % 2), "/strict").status, 401, "{what}");
        }
        assert_eq!(world().sessions_of(&user), 0, "{what}");
    }
}

/// A form that was shown in one browser is no use in another: nobody can be signed in to an account that they do not know of.
#[test]
fn a_form_key_of_another_browser() {
    let user = world().user("form");
    let key_of = |browser: &mut Client| {
        let page = browser.send(world().edge(0), Request::navigate("/auth/login")).expect(200).text();
        let at = page.find("name=\"form_key\" value=\"").unwrap();
        page[at..].split('"').nth(3).unwrap().to_owned()
    };
    let (mut attacker, mut victim) = (Client::new(), Client::new());
    let (planted, own) = (key_of(&mut attacker), key_of(&mut victim));
    let send = |browser: &mut Client, key: &str| {
        let fields = [("form_key", key), ("username", user.name.as_str()), ("password", user.password.as_str())];
        browser.send(world().edge(1), Request::form("/auth/login", &fields))
    };
    assert_eq!(send(&mut victim, &planted).status, 400, "planted in another browser");
    assert_eq!(send(&mut Client::new(), &own).status, 400, "without the cookie");
    for changed in [own.to_uppercase(), format!("{own}="), own[1..].to_owned(), format!("{own}A")] {
        assert_eq!(send(&mut victim, &changed).status, 400);
    }
    assert_eq!(world().sessions_of(&user), 0);
    assert_eq!(send(&mut victim, &own).status, 303);
}
