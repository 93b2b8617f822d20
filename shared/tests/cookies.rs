//! Which of several cookies counts, and what the origin gets to see.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a failed expectation is a failed test

mod support;

use edgekeep_shared::cookie::{
    COOKIE_PREFIX, Chosen, MAX_LOOKED_AT, all_presented, choose, clear_cookie, cookie_name, looks_like_ours, presented,
    set_cookie, strip,
};
use edgekeep_shared::ids::{KeyId, SessionId, SiteId};
use edgekeep_shared::keyring::{KeyRing, RingKey, Secret};
use edgekeep_shared::token::Claims;
use support::{claims, ring, signed};

fn site() -> SiteId {
    SiteId::of("main")
}

fn session(byte: u8, authenticated_at_ms: u64) -> Claims {
    Claims { session_id: SessionId([byte; 16]), authenticated_at_ms, ..claims() }
}

fn cookie(claims: &Claims) -> String {
    format!("{}={}", cookie_name(claims.session_id), signed(claims))
}

fn chosen_session(header: &str) -> Option<SessionId> {
    match choose(header, &ring(false), site()).chosen {
        Chosen::Proof { token, .. } => Some(token.claims().session_id),
        _ => None,
    }
}

#[test]
fn the_latest_authentication_wins_and_the_others_are_cleared() {
    let (old, new) = (session(1, 100), session(2, 200));
    for header in [format!("{}; {}", cookie(&old), cookie(&new)), format!("{}; {}", cookie(&new), cookie(&old))] {
        let choice = choose(&header, &ring(false), site());
        assert_eq!(chosen_session(&header), Some(new.session_id));
        assert_eq!(choice.clear, [cookie_name(old.session_id)]);
    }
}

#[test]
fn two_cookies_of_one_name_are_invalid_never_first_wins() {
    let one = session(1, 100);
    let forged = format!("{}=1.AAAA", cookie_name(one.session_id));
    for header in [format!("{}; {forged}", cookie(&one)), format!("{forged}; {}", cookie(&one))] {
        let choice = choose(&header, &ring(false), site());
        assert_eq!(choice.chosen, Chosen::Invalid);
        assert_eq!(choice.clear, [cookie_name(one.session_id)]);
    }
}

#[test]
fn a_valid_token_under_another_name_is_refused() {
    let one = session(1, 100);
    let header = format!("{COOKIE_PREFIX}00000000={}", signed(&one));
    assert_eq!(choose(&header, &ring(false), site()).chosen, Chosen::Invalid);
    let header = format!("{COOKIE_PREFIX}={}", signed(&one));
    assert_eq!(choose(&header, &ring(false), site()).chosen, Chosen::Invalid);
}

#[test]
fn only_the_last_few_are_looked_at() {
    let junk: Vec<String> = (0..20).map(|n| format!("{COOKIE_PREFIX}{n:08x}=x")).collect();
    let one = session(1, 100);
    assert_eq!(chosen_session(&format!("{}; {}", junk.join("; "), cookie(&one))), Some(one.session_id));
    assert_eq!(chosen_session(&format!("{}; {}", cookie(&one), junk.join("; "))), None);
    assert_eq!(presented(&junk.join("; ")).len(), MAX_LOOKED_AT);
    assert_eq!(all_presented(&junk.join("; ")).len(), junk.len());
}

#[test]
fn an_unknown_key_is_not_invalid_and_is_never_cleared() {
    let one = session(1, 100);
    let other_keys = KeyRing::new(1, vec![RingKey::new(KeyId(9), &Secret([1; 32]), false)]);
    let choice = choose(&cookie(&one), &other_keys, site());
    assert!(matches!(choice.chosen, Chosen::UnknownKey { .. }) && choice.clear.is_empty());
    assert_eq!(choose("a=b", &other_keys, site()).chosen, Chosen::Nothing);
    assert_eq!(choose("", &other_keys, site()).chosen, Chosen::Nothing);
}

#[test]
fn look_alikes_are_not_ours_and_do_not_reach_the_origin() {
    let one = session(1, 100);
    let value = cookie(&one);
    for look_alike in [
        value.replacen("__Host-", "__host-", 1),
        value.replacen("__Host-", "_[Host-", 1),
        value.replacen("__Host-", "__Secure-", 1),
        format!("={value}"),
        format!("x{value}"),
    ] {
        assert_eq!(chosen_session(&look_alike), None, "{look_alike}");
    }
    assert_eq!(strip(&format!("a=1; {value}; b=2; ={value}; __host-edgekeep-1=x; c")), Some("a=1; b=2; c".into()));
    assert_eq!(strip(&value), None);
    let joined = format!("a=1, {value}; b=2");
    assert_eq!(strip(&joined), Some("b=2".into()), "two Cookie headers joined by a comma");
    assert_eq!(strip("a=1;b=2 ; "), Some("a=1; b=2".into()));
}

#[test]
fn attributes() {
    let id = SessionId([0x1f; 16]);
    let set = set_cookie("1.abc", id, 60);
    assert_eq!(set, "__Host-edgekeep-1f1f1f1f=1.abc; Path=/; Max-Age=60; Secure; HttpOnly; SameSite=Lax");
    assert!(clear_cookie(&cookie_name(id)).contains("=; Path=/; Max-Age=0; Secure"));
}

#[test]
fn what_something_on_the_way_could_take_for_ours_is_told_apart_from_the_sites_own() {
    for name in [
        "__Host-edgekeep-00000001",
        "__host-EDGEKEEP-1",
        "__Host-edgekeep-",
        " =__Host-edgekeep-1 ",
        "\t__Host-edgekeep-x",
    ] {
        assert!(looks_like_ours(name), "{name:?}");
    }
    for name in ["", "__Host-edgekeep", "__Host-site", "x__Host-edgekeep-1", "session", "_Host-edgekeep-00000001"] {
        assert!(!looks_like_ours(name), "{name:?}");
    }
}
