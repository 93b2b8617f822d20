//! A user, a key and a view to test with.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a failed expectation is a failed test
#![allow(dead_code)] // each test binary uses its own part

use edgekeep_shared::cookie::Chosen;
use edgekeep_shared::feed::{Answer, Entry, Head};
use edgekeep_shared::ids::{KeyId, Nonce, SessionId, SiteId, UserId};
use edgekeep_shared::keyring::{KeyRing, RingKey, Secret};
use edgekeep_shared::lease::EdgeMs;
use edgekeep_shared::position::Position;
use edgekeep_shared::revision::Revision;
use edgekeep_shared::token::{Claims, UntrustedToken, sign};
use edgekeep_shared::view::{Applied, View};

/// Coordinator time of the first read.
pub const T0_MS: u64 = 1_800_000_000_000;
/// The deployment's bound.
pub const MAX_STALENESS_MS: u32 = 5_000;

pub fn ring(withdrawn: bool) -> KeyRing {
    KeyRing::new(1, vec![RingKey::new(KeyId(1), &Secret([1; 32]), withdrawn)])
}

pub fn claims() -> Claims {
    Claims {
        site: SiteId::of("main"),
        user_id: UserId(42),
        revision: Revision(7),
        session_id: SessionId([0xab; 16]),
        authenticated_at_ms: T0_MS,
        renew_after_ms: T0_MS + 300_000,
        idle_expires_at_ms: T0_MS + 3_600_000,
        expires_at_ms: T0_MS + 86_400_000,
        name: "demo".into(),
        roles: vec!["editor".into()],
    }
}

pub fn signed(claims: &Claims) -> String {
    sign(claims, ring(false).get(KeyId(1)).expect("key")).expect("claims")
}

pub fn proof(claims: &Claims, ring: &KeyRing) -> Chosen {
    let value = signed(claims);
    let token = UntrustedToken::parse(&value).expect("token").verify(ring, claims.site).expect("valid");
    Chosen::Proof { value, token }
}

pub fn head(nonce: Nonce, from: Option<&str>, to: &str) -> Head {
    Head {
        nonce,
        epoch: 1,
        from: from.map(|text| Position::from_pg_snapshot(text).expect("snapshot")),
        to: Position::from_pg_snapshot(to).expect("snapshot"),
        age_ms: 0,
        held_ms: 0,
        read_at_ms: T0_MS,
        keys_version: 1,
        settings_version: 1,
        max_staleness_ms: MAX_STALENESS_MS,
        next_page: None,
    }
}

/// A view that was loaded at edge time `now_ms`, with these entries.
pub fn view(now_ms: EdgeMs, entries: &[Entry]) -> View {
    let mut view = View::default();
    let question = view.question(Nonce([1; 16]), 0);
    let answer = Answer { head: head(question.nonce, None, "20:20:"), entries: entries.to_vec() };
    assert_eq!(view.apply(&question, &answer, view.sent(now_ms), now_ms), Applied::Complete);
    view
}

pub fn entry(revision: u64) -> Entry {
    Entry { user_id: UserId(42), revision: Revision(revision), needed_until_ms: T0_MS + 300_000 }
}
