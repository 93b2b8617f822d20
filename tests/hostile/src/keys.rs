//! Keys, proofs and a warm view to be attacked. Everything is fixed, so that runs can be repeated.

use edgekeep_shared::cookie::{Chosen, cookie_name};
use edgekeep_shared::feed::{Answer, Head};
use edgekeep_shared::gate::{Decision, Finding, Identity, Situation, Verdict, decide};
use edgekeep_shared::ids::{KeyId, Nonce, SessionId, SiteId, UserId};
use edgekeep_shared::keyring::{KeyRing, RingKey, Secret};
use edgekeep_shared::policy::{Access, RoutePolicy};
use edgekeep_shared::position::Position;
use edgekeep_shared::problem::Reason;
use edgekeep_shared::revision::Revision;
use edgekeep_shared::token::{Claims, UntrustedToken, sign};
use edgekeep_shared::view::View;
use hmac::Mac as _;

/// Coordinator time of the view.
pub const NOW_MS: u64 = 1_800_000_000_000;
/// Version of the keys.
const KEYS_VERSION: u64 = 3;
/// The key that the coordinator has just made: it signs already, and the edge has not fetched it.
pub const NEW_KEY: u32 = 4;

/// The site that is attacked.
#[must_use]
pub fn site() -> SiteId {
    SiteId::of("main")
}

/// Keys of this site as the edge has them: two that sign, one that was withdrawn.
#[must_use]
pub fn ring() -> KeyRing {
    KeyRing::new(KEYS_VERSION, vec![key(1, false), key(2, false), key(3, true)])
}

/// All keys of this site: what the coordinator verifies with when an edge asks about a key that it does not have.
#[must_use]
pub fn full_ring() -> KeyRing {
    KeyRing::new(KEYS_VERSION + 1, vec![key(1, false), key(2, false), key(3, true), key(NEW_KEY, false)])
}

/// One key.
#[must_use]
pub fn key(id: u32, withdrawn: bool) -> RingKey {
    RingKey::new(KeyId(id), &Secret([id as u8; 32]), withdrawn)
}

/// What a session of this number says.
#[must_use]
pub fn claims(number: u8) -> Claims {
    Claims {
        site: site(),
        user_id: UserId(0x0123_4567_89ab_0000 | u64::from(number)),
        revision: Revision(1 << 48 | u64::from(number)),
        session_id: SessionId([number.wrapping_mul(37) ^ 0x5a; 16]),
        authenticated_at_ms: NOW_MS - 1_000 - u64::from(number),
        renew_after_ms: NOW_MS + 300_000,
        idle_expires_at_ms: NOW_MS + 3_600_000,
        expires_at_ms: NOW_MS + 86_400_000,
        name: if number.is_multiple_of(2) { "ann".into() } else { format!("zoë-{number}") },
        roles: (0..number % 4).map(|role| format!("role-{role}")).collect(),
    }
}

/// A cookie that was really given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genuine {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// The cookie of the session of this number, signed with this key.
#[must_use]
pub fn genuine_of(number: u8, key: &RingKey) -> Genuine {
    let claims = claims(number);
    let value = sign(&claims, key).expect("claims that fit");
    Genuine { name: cookie_name(claims.session_id), value }
}

/// Cookies that were really given out, of different users, shapes and keys.
#[must_use]
pub fn genuine() -> Vec<Genuine> {
    (0..8).map(|number| genuine_of(number, &key(1 + u32::from(number % 2), false))).collect()
}

/// Many more of them, the first ones the same. Every fourth of the others was signed with [`NEW_KEY`].
#[must_use]
pub fn many_genuine() -> Vec<Genuine> {
    let signer = |number: u8| if number % 4 == 3 { NEW_KEY } else { 1 + u32::from(number % 2) };
    let mut many = genuine();
    many.extend((8..64).map(|number| genuine_of(number, &key(signer(number), false))));
    many
}

/// A token of any payload, signed with this key as the format says: what nobody outside can make.
#[must_use]
pub fn token_of(key: &RingKey, payload: &[u8]) -> String {
    let mut mac = key.hmac();
    mac.update(b"edgekeep session token v1\0");
    mac.update(payload);
    let mut bytes = payload.to_vec();
    bytes.extend_from_slice(&mac.finalize().into_bytes());
    format!("1.{}", edgekeep_shared::codec::to_base64url(&bytes))
}

/// A view that was loaded just now, so that the lease holds: what is accepted here is accepted.
#[must_use]
pub fn warm_view() -> View {
    let mut view = View::default();
    let question = view.question(Nonce([9; 16]), 0);
    let head = Head {
        nonce: question.nonce,
        epoch: 1,
        from: None,
        to: Position::new(20, Vec::new()).expect("a position"),
        age_ms: 0,
        held_ms: 0,
        read_at_ms: NOW_MS,
        keys_version: KEYS_VERSION,
        settings_version: 1,
        max_staleness_ms: 5_000,
        next_page: None,
    };
    let sent = view.sent(0);
    view.apply(&question, &Answer { head, entries: Vec::new() }, sent, 0);
    view
}

/// What the coordinator answers to a question about this value if every session stands: the proof's key, MAC, layout and
/// site decide alone, checked as the coordinator checks them, with all keys.
#[must_use]
fn answer(view: &View, value: &str, full_ring: &KeyRing) -> Verdict {
    let proof = UntrustedToken::parse(value).ok().and_then(|token| token.verify(full_ring, site()).ok());
    let finding = proof.map_or(Finding::Ended(Reason::Invalid), |proof| Finding::Current {
        identity: Identity::from(proof.claims()),
        revision: proof.claims().revision,
    });
    Verdict { epoch: 1, sent: view.sent(1), age_ms: 0, read_at_ms: NOW_MS, max_staleness_ms: 5_000, finding }
}

/// The gate on a route that needs a session: whether a request with this choice passes. If the gate asks the coordinator,
/// it is answered.
#[must_use]
pub fn passes(view: &View, chosen: &Chosen, full_ring: &KeyRing) -> bool {
    let route = RoutePolicy { access: Access::Session, max_staleness_ms: None, max_auth_age_s: None };
    let first =
        Situation { chosen, route: &route, view, keys_version: KEYS_VERSION, now_ms: 1, verdict: None, asked: 0 };
    let decision = match (decide(&first), chosen) {
        (
            Decision::AskCoordinator | Decision::Renew,
            Chosen::UnknownKey { value, .. } | Chosen::Proof { value, .. },
        ) => {
            let verdict = answer(view, value, full_ring);
            decide(&Situation { verdict: Some(&verdict), asked: 1, ..first })
        }
        (decision, _) => decision,
    };
    matches!(decision, Decision::Allow(_))
}
