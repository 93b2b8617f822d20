//! What the database says of a session, as a decision: pure.
//!
//! What this module guarantees:
//! - A proof that is newer than its user's row, within one epoch, is [`Verdict::Unknown`]: this database has forgotten
//!   something (or is behind), so nobody can say (G8).
//! - Across epochs only the session id counts: a failover that lost a login has lost its session.
//! - A session id that is found nowhere has ended, though nobody knows why: with the proof's absolute expiry passed it
//!   is `expired` (the reason was forgotten then), else `revoked` (its row was lost in a failover or a restore).

use crate::problem::Reason;
use crate::renewal::{SessionTimes, is_expired};
use crate::revision::Revision;
use crate::token::{Claims, VerifiedToken};

use crate::ids::UserId;

/// The user of the proof, as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundUser {
    /// As stored.
    pub revision: Revision,
    /// `None` once deleted.
    pub name: Option<String>,
    /// As they are now.
    pub roles: Vec<String>,
    /// Disabled or deleted.
    pub disabled: bool,
}

/// The session with the proof's id, as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundSession {
    /// Whose.
    pub user_id: UserId,
    /// When the password was checked, in coordinator milliseconds.
    pub authenticated_at_ms: u64,
    /// Its times.
    pub times: SessionTimes,
}

/// What one statement found for one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The feed epoch, checked in the same statement.
    pub epoch: u16,
    /// Coordinator time of the statement.
    pub now_ms: u64,
    /// The proof's user; `None`: there is none.
    pub user: Option<FoundUser>,
    /// The proof's session; `None`: there is none any more.
    pub session: Option<FoundSession>,
    /// Why the session ended, if that is still known.
    pub ended: Option<Reason>,
}

/// A session that is current.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Current {
    /// What a proof signed now carries.
    pub revision: Revision,
    /// As registered.
    pub name: String,
    /// As they are now.
    pub roles: Vec<String>,
    /// When the password was checked, in coordinator milliseconds.
    pub authenticated_at_ms: u64,
    /// The session's times.
    pub times: SessionTimes,
}

/// What the database says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The session is current.
    Current(Current),
    /// It has ended.
    Ended(Reason),
    /// Nobody can say.
    Unknown,
}

/// Decides about a proof whose MAC was verified.
#[must_use]
pub fn decide(claims: &Claims, found: Found) -> Verdict {
    let row = found.user.as_ref().map_or(Revision(0), |user| user.revision);
    let base = Revision::base(row, found.epoch);
    let of = claims.revision.epoch();
    if of > found.epoch || (of == found.epoch && claims.revision > base) {
        return Verdict::Unknown;
    }
    let disabled = found.user.as_ref().is_some_and(|user| user.disabled);
    match (found.session, found.user) {
        (Some(session), _) if session.user_id != claims.user_id => Verdict::Ended(Reason::Invalid),
        (Some(_), _) if disabled => Verdict::Ended(Reason::Disabled),
        (Some(session), _) if is_expired(&session.times, found.now_ms) => Verdict::Ended(Reason::Expired),
        (Some(session), Some(FoundUser { name: Some(name), roles, .. })) => Verdict::Current(Current {
            revision: base,
            name,
            roles,
            authenticated_at_ms: session.authenticated_at_ms,
            times: session.times,
        }),
        _ => Verdict::Ended(match found.ended {
            Some(reason) => reason,
            None if disabled => Reason::Disabled,
            None if claims.expires_at_ms <= found.now_ms => Reason::Expired,
            None => Reason::Revoked,
        }),
    }
}

/// The session has been idle for too long by what was read, but that is not the last word: a renewal that looked at the
/// clock in time, under the row's lock, may still commit. Whoever is told "expired" must be told it for ever (G5), so
/// only a look behind that lock decides. (An absolute expiry never moves.)
#[must_use]
pub fn expiry_is_open(found: &Found) -> bool {
    found.session.is_some_and(|session| {
        found.now_ms >= session.times.idle_expires_at_ms && found.now_ms < session.times.expires_at_ms
    })
}

/// A new proof is due: the old one is past half of its life, or would not be the same if it were made now.
#[must_use]
pub fn renewal_is_due(proof: &VerifiedToken, current: &Current, proof_life_ms: u64, now_ms: u64) -> bool {
    let claims = proof.claims();
    let left_ms = claims.renew_after_ms.saturating_sub(now_ms);
    proof.key_withdrawn()
        || claims.revision < current.revision
        || claims.roles != current.roles
        || claims.name != current.name
        || left_ms <= proof_life_ms / 2
}

#[cfg(test)]
mod tests {
    use crate::ids::{KeyId, SessionId, SiteId};
    use crate::keyring::{KeyRing, RingKey, Secret};
    use crate::token::{UntrustedToken, sign};

    use super::*;

    const NOW: u64 = 5_000;

    fn claims(revision: Revision) -> Claims {
        Claims {
            site: SiteId(1),
            user_id: UserId(7),
            revision,
            session_id: SessionId([1; 16]),
            authenticated_at_ms: 1_000,
            renew_after_ms: 6_000,
            idle_expires_at_ms: 9_000,
            expires_at_ms: 10_000,
            name: "ann".into(),
            roles: vec![],
        }
    }

    fn found(revision: Revision) -> Found {
        let times = SessionTimes { proof_until_ms: 6_000, idle_expires_at_ms: 9_000, expires_at_ms: 10_000 };
        Found {
            epoch: 2,
            now_ms: NOW,
            user: Some(FoundUser { revision, name: Some("ann".into()), roles: vec!["admin".into()], disabled: false }),
            session: Some(FoundSession { user_id: UserId(7), authenticated_at_ms: 1_000, times }),
            ended: None,
        }
    }

    fn at(epoch: u16, counter: u64) -> Revision {
        Revision(Revision::first_of_epoch(epoch).0 + counter)
    }

    #[test]
    fn a_session_that_is_there_is_current_whatever_the_proof_carries() {
        for revision in [at(1, 900), at(2, 0), at(2, 3)] {
            let Verdict::Current(current) = decide(&claims(revision), found(at(2, 3))) else { panic!("{revision:?}") };
            assert_eq!((current.revision, current.roles), (at(2, 3), vec!["admin".to_owned()]));
        }
        // A row of an older epoch: a proof signed now carries the first revision of this one.
        let Verdict::Current(current) = decide(&claims(at(1, 3)), found(at(1, 3))) else { panic!("current") };
        assert_eq!(current.revision, at(2, 0));
    }

    #[test]
    fn a_proof_newer_than_its_row_within_the_epoch_is_unknown() {
        assert_eq!(decide(&claims(at(2, 4)), found(at(2, 3))), Verdict::Unknown);
        assert_eq!(decide(&claims(at(3, 0)), found(at(2, 3))), Verdict::Unknown);
        // Of an older epoch it may be newer than the row: a failover lost something, and the session id decides.
        assert!(matches!(decide(&claims(at(1, 9)), found(at(1, 3))), Verdict::Current(_)));
        let nobody = Found { user: None, session: None, ..found(at(2, 3)) };
        assert_eq!(decide(&claims(at(2, 1)), nobody), Verdict::Unknown);
    }

    #[test]
    fn an_idle_expiry_is_open_until_it_is_looked_at_behind_the_lock() {
        for (now_ms, open) in [(8_999, false), (9_000, true), (9_999, true), (10_000, false)] {
            assert_eq!(expiry_is_open(&Found { now_ms, ..found(at(2, 3)) }), open, "{now_ms}");
        }
        assert!(!expiry_is_open(&Found { now_ms: 9_500, session: None, ..found(at(2, 3)) }));
    }

    #[test]
    fn every_end_has_its_reason() {
        let gone = |ended, disabled| {
            let mut found = Found { session: None, ended, ..found(at(2, 3)) };
            if let Some(user) = &mut found.user {
                user.disabled = disabled;
            }
            decide(&claims(at(2, 1)), found)
        };
        assert_eq!(gone(Some(Reason::SignedInElsewhere), false), Verdict::Ended(Reason::SignedInElsewhere));
        assert_eq!(gone(None, true), Verdict::Ended(Reason::Disabled));
        assert_eq!(gone(None, false), Verdict::Ended(Reason::Revoked));
        let late = Found { session: None, now_ms: 10_000, ..found(at(2, 3)) };
        assert_eq!(decide(&claims(at(2, 1)), late), Verdict::Ended(Reason::Expired));
        for now_ms in [9_000, 10_000] {
            let expired = Found { now_ms, ..found(at(2, 3)) };
            assert_eq!(decide(&claims(at(2, 1)), expired), Verdict::Ended(Reason::Expired));
        }
        let mut disabled = found(at(2, 3));
        if let Some(user) = &mut disabled.user {
            user.disabled = true;
        }
        assert_eq!(decide(&claims(at(2, 1)), disabled), Verdict::Ended(Reason::Disabled));
        let mut other = found(at(2, 3));
        if let Some(session) = &mut other.session {
            session.user_id = UserId(8);
        }
        assert_eq!(decide(&claims(at(2, 1)), other), Verdict::Ended(Reason::Invalid));
    }

    #[test]
    fn a_new_proof_is_due_at_half_of_the_old_ones_life_or_when_it_would_say_something_else() {
        let proof = |withdrawn, claims: &Claims| {
            let key = |withdrawn| RingKey::new(KeyId(1), &Secret([1; 32]), withdrawn);
            let value = sign(claims, &key(false)).expect("claims");
            let ring = KeyRing::new(1, vec![key(withdrawn)]);
            UntrustedToken::parse(&value).expect("a token").verify(&ring, claims.site).expect("ours")
        };
        let Verdict::Current(current) = decide(&claims(at(2, 3)), found(at(2, 3))) else { panic!("current") };
        let same = Claims { roles: current.roles.clone(), ..claims(current.revision) };
        let due = |claims: &Claims, now_ms| renewal_is_due(&proof(false, claims), &current, 1_000, now_ms);
        // It ends at 6,000.
        assert!(!due(&same, 5_000) && !due(&same, 5_499) && due(&same, 5_500) && due(&same, 7_000));
        assert!(renewal_is_due(&proof(true, &same), &current, 1_000, 5_000), "its key is withdrawn");
        for other in [
            Claims { revision: at(2, 2), ..same.clone() },
            Claims { roles: vec![], ..same.clone() },
            Claims { name: "bob".into(), ..same.clone() },
        ] {
            assert!(due(&other, 5_000), "{other:?}");
        }
        assert!(!due(&Claims { revision: at(2, 4), ..same }, 5_000), "a newer revision is no reason");
    }
}
