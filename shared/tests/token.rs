//! Tokens: round trips, every changed bit, and vectors made by another implementation.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a failed expectation is a failed test

use edgekeep_shared::codec::{from_base64url, to_base64url};
use edgekeep_shared::ids::{KeyId, SessionId, SiteId, UserId, from_hex};
use edgekeep_shared::keyring::{KeyRing, RingKey, Secret};
use edgekeep_shared::revision::Revision;
use edgekeep_shared::token::{
    Claims, ClaimsError, MAX_NAME_BYTES, MAX_ROLE_CHARS, MAX_ROLES, UntrustedToken, VerifiedToken, VerifyError, sign,
};
use proptest::prelude::*;
use serde_json::Value;

fn site() -> SiteId {
    SiteId::of("main")
}

fn key() -> RingKey {
    RingKey::new(KeyId(7), &Secret([5; 32]), false)
}

fn ring() -> KeyRing {
    KeyRing::new(1, vec![key()])
}

fn verify(text: &str) -> Option<VerifiedToken> {
    UntrustedToken::parse(text).ok()?.verify(&ring(), site()).ok()
}

prop_compose! {
    fn claims()(
        user in 1..=i64::MAX as u64, revision: u64, session: [u8; 16], times in prop::array::uniform4(0_u64..1 << 48),
        name in "[^\u{0}]{1,20}", roles in prop::collection::vec("[a-z0-9_.:-]{1,32}", 0..=16),
    ) -> Claims {
        Claims {
            site: site(), user_id: UserId(user), revision: Revision(revision), session_id: SessionId(session),
            authenticated_at_ms: times[0], renew_after_ms: times[1], idle_expires_at_ms: times[2], expires_at_ms: times[3],
            name, roles,
        }
    }
}

proptest! {
    #[test]
    fn decode_is_the_inverse_of_encode(claims in claims()) {
        let text = sign(&claims, &key()).unwrap();
        let token = verify(&text).expect("valid");
        prop_assert_eq!(token.claims(), &claims);
        prop_assert_eq!(sign(token.claims(), &key()).unwrap(), text);
    }

    #[test]
    fn any_changed_bit_is_refused(claims in claims(), flip in any::<prop::sample::Index>()) {
        let text = sign(&claims, &key()).unwrap();
        let mut bytes = from_base64url(&text[2..]).unwrap();
        let bit = flip.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(verify(&format!("1.{}", to_base64url(&bytes))), None);
    }

    #[test]
    fn any_changed_character_is_refused(claims in claims(), at in any::<prop::sample::Index>(), other in any::<char>()) {
        let text = sign(&claims, &key()).unwrap();
        let at = at.index(text.len());
        let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
        prop_assume!(changed != text);
        prop_assert_eq!(verify(&changed), None);
    }

    #[test]
    fn no_text_panics(text in ".{0,300}", tail in "[A-Za-z0-9_-]{0,400}") {
        prop_assert_eq!(verify(&text), None);
        prop_assert_eq!(verify(&format!("1.{tail}")), None);
    }
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/token.json")).unwrap()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap()
}

#[test]
fn valid_vectors() {
    let vectors = vectors();
    let key = RingKey::new(KeyId(7), &Secret::from_hex(text(&vectors, "key")).unwrap(), false);
    let ring = KeyRing::new(1, vec![key.clone()]);
    for vector in vectors["valid"].as_array().unwrap() {
        let says = &vector["claims"];
        let number = |field: &str| says[field].as_u64().unwrap();
        let claims = Claims {
            site: SiteId::of(text(says, "site")),
            user_id: text(says, "user_id").parse().unwrap(),
            revision: Revision(number("revision")),
            session_id: SessionId(from_hex(text(says, "session_id")).unwrap()),
            authenticated_at_ms: number("authenticated_at_ms"),
            renew_after_ms: number("renew_after_ms"),
            idle_expires_at_ms: number("idle_expires_at_ms"),
            expires_at_ms: number("expires_at_ms"),
            name: text(says, "name").to_owned(),
            roles: says["roles"].as_array().unwrap().iter().map(|role| role.as_str().unwrap().to_owned()).collect(),
        };
        let token = UntrustedToken::parse(text(vector, "token")).unwrap().verify(&ring, site()).unwrap();
        assert_eq!(token.claims(), &claims, "{}", vector["comment"]);
        assert_eq!(sign(&claims, &key).unwrap(), text(vector, "token"), "{}", vector["comment"]);
    }
}

#[test]
fn invalid_vectors() {
    let vectors = vectors();
    let key = RingKey::new(KeyId(7), &Secret::from_hex(text(&vectors, "key")).unwrap(), false);
    let ring = KeyRing::new(1, vec![key]);
    for vector in vectors["invalid"].as_array().unwrap() {
        let verified = UntrustedToken::parse(text(vector, "token")).map(|token| token.verify(&ring, site()));
        assert!(!matches!(verified, Ok(Ok(_))), "{}", vector["comment"]);
        assert!(!matches!(verified, Ok(Err(VerifyError::UnknownKey(_)))), "{}", vector["comment"]);
    }
}

#[test]
fn an_unknown_key_is_not_an_invalid_token() {
    let text = sign(&claims_of_demo(), &key()).unwrap();
    let other = KeyRing::new(1, vec![RingKey::new(KeyId(8), &Secret([5; 32]), false)]);
    let verified = UntrustedToken::parse(&text).unwrap().verify(&other, site());
    assert_eq!(verified, Err(VerifyError::UnknownKey(KeyId(7))));
}

#[test]
fn what_is_shorter_than_any_token_names_no_key() {
    let text = |bytes: usize| format!("1.{}", to_base64url(&[&[1][..], &vec![0; bytes - 1]].concat()));
    // Version, key, site, user, revision, session, four times, an empty name, no roles, the MAC.
    let shortest = 1 + 4 + 8 + 8 + 8 + 16 + 4 * 6 + 1 + 1 + 32;
    assert!(UntrustedToken::parse(&text(shortest - 1)).is_err());
    assert!(UntrustedToken::parse(&text(shortest)).is_ok());
}

#[test]
fn a_cookie_stays_small() {
    let text = sign(&claims_of_demo(), &key()).unwrap();
    assert_eq!(text.len(), 153, "the size that docs/protocol.md states");
}

fn claims_of_demo() -> Claims {
    Claims {
        site: site(),
        user_id: UserId(1),
        revision: Revision(0),
        session_id: SessionId([1; 16]),
        authenticated_at_ms: 1,
        renew_after_ms: 2,
        idle_expires_at_ms: 3,
        expires_at_ms: 4,
        name: "demo".into(),
        roles: vec!["admin".into()],
    }
}

#[test]
fn claims_that_do_not_fit_are_not_signed() {
    let claims = Claims {
        site: site(),
        user_id: UserId(1),
        revision: Revision(1),
        session_id: SessionId([1; 16]),
        authenticated_at_ms: 1,
        renew_after_ms: 2,
        idle_expires_at_ms: 3,
        expires_at_ms: 4,
        name: "a".repeat(MAX_NAME_BYTES),
        roles: vec!["r".repeat(MAX_ROLE_CHARS); MAX_ROLES],
    };
    let refused = |change: &dyn Fn(&mut Claims)| {
        let mut changed = claims.clone();
        change(&mut changed);
        sign(&changed, &key()).expect_err("it does not fit")
    };
    assert!(sign(&claims, &key()).is_ok());
    assert_eq!(refused(&|claims| claims.name.clear()), ClaimsError::Name);
    assert_eq!(refused(&|claims| claims.name.push('a')), ClaimsError::Name);
    assert_eq!(refused(&|claims| claims.roles.push("r".to_owned())), ClaimsError::Roles);
    assert_eq!(refused(&|claims| claims.roles[3].push('r')), ClaimsError::Roles);
    assert_eq!(refused(&|claims| claims.roles[3] = "R".to_owned()), ClaimsError::Roles);
    assert_eq!(refused(&|claims| claims.renew_after_ms = 1 << 48), ClaimsError::Time);
}
