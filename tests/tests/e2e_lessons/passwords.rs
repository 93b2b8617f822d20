//! Passwords that some systems cut, and names that some systems read as others.

use edgekeep_tests::client::Client;
use edgekeep_tests::http::Request;
use edgekeep_tests::shape::assert_problem;
use edgekeep_tests::{random_hex, until};
use serde_json::json;

use crate::world;

fn login(name: &str, password: &str, key: &str) -> edgekeep_tests::http::Response {
    let body = json!({"username": name, "password": password});
    Client::new().send(world().edge(0), Request::json("/auth/login", &body).key(key))
}

/// Okta (October 2024): bcrypt looks at 72 bytes. A long user name in front left nothing of the password to be looked at.
#[test]
fn every_byte_of_a_long_password_and_name_counts() {
    let name = format!("{}-{}", "n".repeat(80), random_hex(8));
    let password = format!("{}A", "correct horse ".repeat(15));
    world().edgekeep(&["user", "add", &name], &format!("{password}\n"));
    let key = random_hex(8);
    let first = login(&name, &password, &key).expect(200).json();
    // Another last character, under the key of the login that worked: not the same attempt, and not the password.
    let other = format!("{}B", &password[..password.len() - 1]);
    assert_problem(&login(&name, &other, &key), 401, "invalid_credentials");
    assert_problem(&login(&name, &password[..72], &key), 401, "invalid_credentials");
    assert_problem(&login(&name, &format!("{password}\0"), &key), 401, "invalid_credentials");
    assert_problem(&login(&format!("{name}x"), &password, &key), 401, "invalid_credentials");
    assert_eq!(login(&name, &password, &key).expect(200).json()["session"]["id"], first["session"]["id"]);
}

/// The cut on imported hashes is the other system's; it ends with the first login, whose whole password counts from then on.
#[test]
fn the_bcrypt_72_byte_cut_on_imported_hashes() {
    let name = format!("imported-{}", random_hex(4));
    let long = format!("{} and then some more", "x".repeat(72));
    let hash = bcrypt::hash(&long, 4).unwrap();
    world().edgekeep(&["user", "import", "-"], &format!("{}\n", json!({"name": name, "hash": hash})));
    assert_problem(&login(&name, &"x".repeat(71), "a"), 401, "invalid_credentials");
    // The other system took whatever began so. The first login is with the real one: it is hashed whole.
    assert_eq!(login(&name, &long, "b").status, 200);
    let stored = || world().sql().rows(&format!("SELECT password_hash FROM users WHERE name = '{name}'"))[0][0].clone();
    until("it is hashed anew", || stored().starts_with("$argon2id$").then_some(()));
    assert_problem(&login(&name, &"x".repeat(72), "c"), 401, "invalid_credentials");
    assert_problem(&login(&name, &format!("{}another end", "x".repeat(72)), "d"), 401, "invalid_credentials");
    assert_eq!(login(&name, &long, "e").status, 200);
}

/// Spotify (2013): two spellings of a name were one account to one function and two to another.
#[test]
fn two_spellings_of_a_name_are_one_user_everywhere() {
    let tail = random_hex(4);
    let name = format!("bigbird{tail}");
    world().edgekeep(&["user", "add", &name], "seven unrelated words that nobody tries first\n");
    for spelling in [format!("BIGBIRD{tail}"), format!("\u{ff42}igbird{tail}"), format!("ＢＩＧＢＩＲＤ{tail}")]
    {
        let said = login(&spelling, "seven unrelated words that nobody tries first", &random_hex(8)).expect(200).json();
        assert_eq!(said["user"]["name"], name.as_str());
        let again = world().cluster.edgekeep(&["user", "add", &spelling], "another password altogether\n");
        assert!(again.is_err(), "{spelling} can be registered beside {name}");
    }
    // Letters that only look so are other names, or none.
    for other in [
        format!("ᴮᴵᴳᴮᴵᴿᴰ{tail}"),
        format!("b\u{131}gb\u{131}rd{tail}"),
        format!("bigbird{tail}\u{200b}"),
        format!("bіgbird{tail}"),
    ] {
        let refused = login(&other, "seven unrelated words that nobody tries first", &random_hex(8));
        assert!(matches!(refused.status, 400 | 401), "{other}: {}", refused.status);
    }
}
