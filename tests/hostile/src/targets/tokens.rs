//! Tokens and sealed form keys: nobody without the key, and one encoding per value.

use edgekeep_shared::codec::{from_base64url, to_base64url};
use edgekeep_shared::credential::{self, Kind};
use edgekeep_shared::form_key;
use edgekeep_shared::keyring::Secret;
use edgekeep_shared::token::{UntrustedToken, VerifyError, sign};

use crate::keys::{NOW_MS, genuine, key, ring, site, token_of};

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = genuine().into_iter().map(|given| given.value.into_bytes()).collect();
    seeds.extend(["", "1.", "2.AAAA", "1.AAAA"].map(|text| text.as_bytes().to_vec()));
    seeds
}

/// As it comes in a cookie.
pub fn token(bytes: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(bytes) else { return false };
    let Ok(parsed) = UntrustedToken::parse(text) else { return false };
    let inside = from_base64url(&text[2..]).expect("it was decoded once already");
    assert_eq!(format!("1.{}", to_base64url(&inside)), text, "one spelling per token");
    match parsed.verify(&ring(), site()) {
        Ok(token) => {
            assert!(genuine().iter().any(|given| given.value == text), "never given out: {text}");
            let ring = ring();
            let key = ring.get(token.key_id()).expect("its key");
            assert_eq!(sign(token.claims(), key).as_deref(), Ok(text), "signed again it is the same");
            true
        }
        Err(VerifyError::UnknownKey(id)) => {
            assert!(ring().get(id).is_none());
            false
        }
        Err(VerifyError::Invalid) => false,
    }
}

pub fn payload_seeds() -> Vec<Vec<u8>> {
    let payload = |value: &str| from_base64url(&value[2..]).map(|bytes| bytes[..bytes.len() - 32].to_vec());
    genuine().iter().filter_map(|given| payload(&given.value)).collect()
}

/// Behind a right MAC, which nobody outside can make: the layout is strict all the same.
pub fn payload(bytes: &[u8]) -> bool {
    let Some(id) = bytes.get(1..5).and_then(|id| id.try_into().ok()).map(u32::from_be_bytes) else { return false };
    if !(1..=3).contains(&id) {
        return false;
    }
    let key = key(id, false);
    let text = token_of(&key, bytes);
    let Ok(token) = UntrustedToken::parse(&text) else { return false };
    let Ok(token) = token.verify(&ring(), site()) else { return false };
    assert_eq!(sign(token.claims(), &key).as_deref(), Ok(text.as_str()), "two payloads that say the same");
    true
}

const FORM_SECRET: Secret = Secret([0x0f; 32]);

/// A sealed key and the pre-session cookie that it is bound to.
fn sealed() -> [(String, &'static str); 3] {
    [
        (form_key::seal(&FORM_SECRET, NOW_MS, [1; 16], "browser-one"), "browser-one"),
        (form_key::seal(&FORM_SECRET, NOW_MS - 1_000, [2; 16], "browser-two"), "browser-two"),
        (form_key::seal(&FORM_SECRET, NOW_MS - form_key::MAX_AGE_MS - 1, [3; 16], "browser-old"), "browser-old"),
    ]
}

pub fn form_key_seeds() -> Vec<Vec<u8>> {
    sealed().iter().map(|(key, browser)| format!("{key} {browser}").into_bytes()).collect()
}

/// `<key> <pre-session>`, as the hidden field and the cookie bring them.
pub fn form_key(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let (key, pre_session) = text.split_once(' ').unwrap_or((&text, ""));
    match form_key::open(&FORM_SECRET, key, pre_session, NOW_MS) {
        Ok(()) => {
            let made = sealed().iter().take(2).any(|(made, browser)| made == key && *browser == pre_session);
            assert!(made, "never sealed for this browser: {text}");
            true
        }
        Err(_) => false,
    }
}

const EDGE_SECRETS: [(&str, [u8; 32]); 2] = [("eu-1", [0x11; 32]), ("a", [0xfb; 32])];

pub fn credential_seeds() -> Vec<Vec<u8>> {
    let own = EDGE_SECRETS.map(|(edge_id, secret)| credential::edge_credential(edge_id, &secret));
    let feed = own.iter().filter_map(|own| credential::feed_credential(own));
    own.iter().map(|own| own.as_bytes().to_vec()).chain(feed.map(|feed| feed.as_bytes().to_vec())).collect()
}

/// What an edge or a relay shows. Whoever was not given a credential has none, however it is spelt; and a feed credential
/// leads to nothing but itself.
pub fn credential(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some(presented) = credential::parse(&text) else { return false };
    let feed = credential::feed_credential(&text).expect("what can be read has a feed credential");
    let again = credential::parse(&feed).expect("a credential");
    assert_eq!((again.edge_id, again.kind), (presented.edge_id, Kind::Feed));
    if presented.kind == Kind::Feed {
        assert_eq!(*feed, text, "one spelling");
    }
    for (edge_id, secret) in EDGE_SECRETS.iter().filter(|(edge_id, _)| *edge_id == presented.edge_id) {
        let hash = credential::hash(secret);
        let (own, feed) = (*presented.proof == hash, *presented.proof == credential::feed_proof(&hash));
        let given = credential::edge_credential(edge_id, secret);
        match presented.kind {
            Kind::Edge => assert_eq!(own, *given == text, "taken for {edge_id}'s own"),
            Kind::Feed => {
                let derived = credential::feed_credential(&given).expect("a credential");
                assert_eq!(feed, *derived == text, "taken for {edge_id}'s feed credential");
            }
        }
    }
    true
}
