//! What edges are told of a user, and when it changes (G2, G5).
//!
//! One row per user: a revision, and until when edges must know it. Whatever makes proofs unbelievable (a session that
//! ends, a role that is taken away) goes through [`FeedRow::revoke`]. It guarantees:
//! - The revision rises above that of every proof there is, also of proofs that were signed before a failover.
//! - The row is needed for as long as one of those proofs could be accepted, and never shorter than before: a second
//!   revocation does not shorten what the first one needs.
//! - Sessions that a failover to an asynchronous standby has lost are covered, though no row tells of them: they can be
//!   of an older epoch only, so the first raise of a user in an epoch covers them. Only then, or it would cost an hour of
//!   keeping each time.

use crate::renewal::{MAX_PROOF_LIFE_MS, SessionTimes, is_expired};
use crate::revision::Revision;

/// A user's row in the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FeedRow {
    /// Proofs of a lower revision must be asked about.
    pub revision: Revision,
    /// Until when edges must know that, coordinator time in milliseconds.
    pub needed_until_ms: u64,
}

/// Whose proofs are not to be believed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Those of the sessions that are named.
    Named,
    /// Those of every session of the user, also of one that nobody knows.
    Every,
}

impl FeedRow {
    /// The row after proofs of these sessions (which may end with it, or live on with other roles) are revoked in feed
    /// epoch `epoch`. `None`: no proof of them can be accepted anywhere, so nobody has to be told.
    #[must_use]
    pub fn revoke(self, epoch: u16, reach: Reach, sessions: &[SessionTimes], now_ms: u64) -> Option<Self> {
        let some_may_be_lost = self.revision.epoch() < epoch;
        let usable = |times: &SessionTimes| times.proof_until_ms > now_ms || !is_expired(times, now_ms);
        if !(sessions.iter().any(usable) || (reach == Reach::Every && some_may_be_lost)) {
            return None;
        }
        let known_until_ms = sessions.iter().map(|times| times.proof_until_ms).max().unwrap_or(0);
        let lost_until_ms = if some_may_be_lost { now_ms.saturating_add(MAX_PROOF_LIFE_MS) } else { 0 };
        Some(Self {
            revision: Revision::base(self.revision, epoch).raised(),
            needed_until_ms: self.needed_until_ms.max(known_until_ms).max(lost_until_ms),
        })
    }
}

/// The times of a session of which only a proof is left: the database that answers now has never heard of it. Any proof
/// of it may live as long as a proof can.
#[must_use]
pub fn times_of_lost(renew_after_ms: u64, expires_at_ms: u64, now_ms: u64) -> SessionTimes {
    let proof_until_ms = renew_after_ms.max(now_ms.saturating_add(MAX_PROOF_LIFE_MS)).min(expires_at_ms);
    SessionTimes { proof_until_ms, idle_expires_at_ms: expires_at_ms, expires_at_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 10_000;
    const ROW: FeedRow = FeedRow { revision: Revision(5), needed_until_ms: 12_000 };

    const fn session(proof_until_ms: u64, expires_at_ms: u64) -> SessionTimes {
        SessionTimes { proof_until_ms, idle_expires_at_ms: expires_at_ms, expires_at_ms }
    }

    #[test]
    fn a_revocation_covers_the_longest_proof_and_shortens_nothing() {
        let raised = |sessions: &[SessionTimes]| ROW.revoke(0, Reach::Named, sessions, NOW_MS).expect("raised");
        assert_eq!(raised(&[session(11_000, 20_000)]), FeedRow { revision: Revision(6), needed_until_ms: 12_000 });
        let two = [session(13_000, 20_000), session(15_000, 20_000)];
        assert_eq!(raised(&two), FeedRow { revision: Revision(6), needed_until_ms: 15_000 });
    }

    #[test]
    fn what_nobody_can_use_needs_no_revocation() {
        assert_eq!(ROW.revoke(0, Reach::Every, &[], NOW_MS), None);
        assert_eq!(ROW.revoke(0, Reach::Named, &[session(NOW_MS, NOW_MS)], NOW_MS), None);
        // Its proof is over, but it would be renewed; its time is up, but a proof reaches further.
        assert!(ROW.revoke(0, Reach::Named, &[session(NOW_MS, NOW_MS + 1)], NOW_MS).is_some());
        assert!(ROW.revoke(0, Reach::Named, &[session(NOW_MS + 1, NOW_MS)], NOW_MS).is_some());
    }

    #[test]
    fn the_first_revocation_in_an_epoch_covers_what_a_failover_lost() {
        let lost_until_ms = NOW_MS + MAX_PROOF_LIFE_MS;
        let first = ROW.revoke(1, Reach::Every, &[], NOW_MS).expect("lost sessions have no rows");
        assert_eq!(
            first,
            FeedRow { revision: Revision(Revision::first_of_epoch(1).0 + 1), needed_until_ms: lost_until_ms }
        );
        assert_eq!(ROW.revoke(1, Reach::Named, &[], NOW_MS), None);
        let named = ROW.revoke(1, Reach::Named, &[session(11_000, 20_000)], NOW_MS);
        assert_eq!(named.expect("raised").needed_until_ms, lost_until_ms);
        // The second one in it covers what it knows.
        let second =
            FeedRow { needed_until_ms: 0, ..first }.revoke(1, Reach::Every, &[session(11_000, 20_000)], NOW_MS);
        assert_eq!(second.expect("raised").needed_until_ms, 11_000);
        assert_eq!(first.revoke(1, Reach::Every, &[], NOW_MS), None);
    }

    #[test]
    fn a_lost_session_is_covered_until_no_proof_of_it_can_live() {
        assert_eq!(times_of_lost(11_000, 20_000, NOW_MS).proof_until_ms, 20_000);
        let far_ms = NOW_MS + 10 * MAX_PROOF_LIFE_MS;
        assert_eq!(times_of_lost(11_000, far_ms, NOW_MS).proof_until_ms, NOW_MS + MAX_PROOF_LIFE_MS);
        assert_eq!(times_of_lost(far_ms - 1, far_ms, NOW_MS).proof_until_ms, far_ms - 1);
        assert_eq!(ROW.revoke(0, Reach::Named, &[times_of_lost(9_000, NOW_MS, NOW_MS)], NOW_MS), None);
    }
}
