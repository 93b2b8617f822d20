//! What an edge shows to a coordinator, and what it shows to a relay (design 2.4).
//!
//! Guarantees:
//! - An edge's credential is `ek_<edge id>_<32 random bytes as base64url>`; a coordinator stores its hash only.
//! - What a relay sees, the *feed credential* `ekf_<edge id>_<…>`, is derived from that hash and is good for the feed alone:
//!   it opens no door at which sessions are decided or keys are given, and the credential cannot be found from it.

use hmac::Mac as _;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::codec::{from_base64url, to_base64url};
use crate::keyring::keyed;

/// The longest edge id, in characters.
pub const MAX_EDGE_ID_CHARS: usize = 63;

/// A credential as it was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An edge's own.
    Edge,
    /// Good for the feed alone.
    Feed,
}

/// A credential that was read.
pub struct Presented<'a> {
    /// Whose it says it is; no secret.
    pub edge_id: &'a str,
    /// What it is good for.
    pub kind: Kind,
    /// The hash of an edge's own, or what a feed credential holds: to be compared in constant time.
    pub proof: Zeroizing<[u8; 32]>,
}

impl core::fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Presented({}, {:?}, ..)", self.edge_id, self.kind)
    }
}

/// A name for an edge deployment: `a-z 0-9 -`, not beginning with `-`.
#[must_use]
pub fn is_edge_id(text: &str) -> bool {
    let good = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=MAX_EDGE_ID_CHARS).contains(&text.len()) && text.bytes().all(good) && !text.starts_with('-')
}

/// The hash of an edge's secret, as it is stored.
#[must_use]
pub fn hash(secret: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(b"edgekeep edge credential\0").chain_update(secret).finalize().into()
}

/// What the feed credential of the edge with this stored hash holds.
#[must_use]
pub fn feed_proof(hash: &[u8; 32]) -> [u8; 32] {
    let mut mac = keyed(hash);
    mac.update(b"edgekeep feed credential\0");
    mac.finalize().into_bytes().into()
}

/// The text of an edge's own credential.
#[must_use]
pub fn edge_credential(edge_id: &str, secret: &[u8; 32]) -> Zeroizing<String> {
    Zeroizing::new(format!("ek_{edge_id}_{}", to_base64url(secret)))
}

/// Reads a credential of either kind.
#[must_use]
pub fn parse(text: &str) -> Option<Presented<'_>> {
    let (kind, rest) = match text.strip_prefix("ek_") {
        Some(rest) => (Kind::Edge, rest),
        None => (Kind::Feed, text.strip_prefix("ekf_")?),
    };
    let (edge_id, secret) = rest.split_once('_')?;
    let secret = Zeroizing::new(from_base64url(secret)?);
    let secret: Zeroizing<[u8; 32]> = Zeroizing::new(secret.as_slice().try_into().ok()?);
    let proof = match kind {
        Kind::Edge => Zeroizing::new(hash(secret.as_slice())),
        Kind::Feed => secret,
    };
    is_edge_id(edge_id).then_some(Presented { edge_id, kind, proof })
}

/// The feed credential that belongs to this one, of either kind.
#[must_use]
pub fn feed_credential(text: &str) -> Option<Zeroizing<String>> {
    let presented = parse(text)?;
    let proof = match presented.kind {
        Kind::Edge => Zeroizing::new(feed_proof(&presented.proof)),
        Kind::Feed => presented.proof,
    };
    Some(Zeroizing::new(format!("ekf_{}_{}", presented.edge_id, to_base64url(proof.as_slice()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_taken_whole_or_not_at_all() {
        let text = edge_credential("edge-1", &[0xff; 32]);
        assert!(text.matches('_').count() > 2, "base64url has underscores of its own");
        let presented = parse(&text).expect("a credential");
        assert_eq!((presented.edge_id, presented.kind), ("edge-1", Kind::Edge));
        assert_eq!(*presented.proof, hash(&[0xff; 32]));
        assert!(!format!("{presented:?}").contains("255"));
        for bad in ["", "ek_", "ek_edge-1_", "ek_edge-1", &text[..text.len() - 1], &text.replace("ek_", "ekg_"), "ekf_"]
        {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_feed_credential_is_another_text_that_leads_nowhere_else() {
        let text = edge_credential("edge-1", &[0xff; 32]);
        let feed = feed_credential(&text).expect("a credential");
        let presented = parse(&feed).expect("a credential");
        assert_eq!((presented.edge_id, presented.kind), ("edge-1", Kind::Feed));
        assert_eq!(*presented.proof, feed_proof(&hash(&[0xff; 32])));
        assert_eq!(feed_credential(&feed).as_deref(), Some(&*feed), "of itself it is the same");
        // Shown as an edge's own it is the credential of nobody.
        let own = feed.replacen("ekf_", "ek_", 1);
        assert_ne!(*parse(&own).expect("a credential").proof, hash(&[0xff; 32]));
    }

    /// Computed with another implementation of SHA-256 and HMAC: edges and coordinators of other versions compute the same.
    #[test]
    fn what_is_stored_and_what_a_relay_is_shown_are_fixed() {
        let text = edge_credential("edge-1", &[0xff; 32]);
        assert_eq!(*text, "ek_edge-1___________________________________________8");
        assert_eq!(to_base64url(&hash(&[0xff; 32])), "fokxy-qvCB_rrStGteNhwNzpAdvP8pEVZi2ycUoODa0");
        let feed = feed_credential(&text).expect("a credential");
        assert_eq!(*feed, "ekf_edge-1_Rb0BmPHnvEUB0d7PpodDIiwduPpPk7BpDNLCpv_2kt4");
    }

    #[test]
    fn edge_ids_are_plain() {
        assert!(is_edge_id("eu-1") && is_edge_id("a"));
        assert!(!is_edge_id("") && !is_edge_id("-a") && !is_edge_id("A") && !is_edge_id("a_b"));
        assert!(!is_edge_id(&"a".repeat(64)));
    }
}
