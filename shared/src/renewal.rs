//! How far a new proof of a current session may reach (`proof_until`, design 2.1).
//!
//! The session row stores the latest `renew_after` that any proof of it carries. A proof is only
//! ever signed up to a `proof_until` that is already committed, so that the revocation's
//! `needed_until` (which is copied from the row) covers every proof there is.

/// The longest life that a proof can be given by the settings, in milliseconds (an hour).
pub const MAX_PROOF_LIFE_MS: u64 = 3_600_000;

/// The times of a session row, coordinator time in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionTimes {
    /// The latest `renew_after` that any proof of the session may carry.
    pub proof_until_ms: u64,
    /// The session ends then without a renewal that writes.
    pub idle_expires_at_ms: u64,
    /// The session ends then whatever happens.
    pub expires_at_ms: u64,
}

/// The lifetimes in force, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Life of a proof; half of the idle timeout if that is shorter.
    pub proof_life_ms: u64,
    /// Idle timeout of a session.
    pub idle_timeout_ms: u64,
    /// Absolute timeout of a session.
    pub absolute_timeout_ms: u64,
}

/// What to do about a new proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The session has expired.
    Expired,
    /// Sign up to `proof_until` as it stands in the row; nothing is written.
    SignUpTo {
        /// The proof's `renew_after`.
        renew_after_ms: u64,
    },
    /// Raise the row to these times, commit, then sign up to the new `proof_until`.
    Raise(SessionTimes),
}

impl Lifetimes {
    /// The times of a session that begins now.
    #[must_use]
    pub fn of_new_session(&self, now_ms: u64) -> SessionTimes {
        let expires_at_ms = now_ms.saturating_add(self.absolute_timeout_ms);
        self.times(now_ms, expires_at_ms)
    }

    fn times(&self, now_ms: u64, expires_at_ms: u64) -> SessionTimes {
        let idle_expires_at_ms = now_ms.saturating_add(self.idle_timeout_ms).min(expires_at_ms);
        // Edges renew when a proof is over: half of the idle time must be left then, or who is active would be idle.
        let proof_life_ms = self.proof_life_ms.min(self.idle_timeout_ms / 2);
        let proof_until_ms = now_ms.saturating_add(proof_life_ms).min(idle_expires_at_ms);
        SessionTimes { proof_until_ms, idle_expires_at_ms, expires_at_ms }
    }

    /// Decides about a new proof of a session with these times.
    ///
    /// Idle time counts from the last renewal that wrote, and a proof that is still good is not renewed: activity is
    /// therefore noticed to a proof's life, and a session ends early rather than late. A mere read never moves an expiry.
    #[must_use]
    pub fn renew(&self, row: SessionTimes, now_ms: u64) -> Renewal {
        if is_expired(&row, now_ms) {
            return Renewal::Expired;
        }
        let raised = self.times(now_ms, row.expires_at_ms);
        let remaining_ms = row.proof_until_ms.saturating_sub(now_ms);
        let possible_ms = raised.proof_until_ms.saturating_sub(now_ms);
        if remaining_ms > possible_ms / 2 && row.idle_expires_at_ms >= row.proof_until_ms {
            return Renewal::SignUpTo { renew_after_ms: row.proof_until_ms };
        }
        // Never lower what a proof may already carry.
        Renewal::Raise(SessionTimes { proof_until_ms: raised.proof_until_ms.max(row.proof_until_ms), ..raised })
    }
}

/// Idle or absolute expiry has passed.
#[must_use]
pub const fn is_expired(row: &SessionTimes, now_ms: u64) -> bool {
    now_ms >= row.idle_expires_at_ms || now_ms >= row.expires_at_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVES: Lifetimes = Lifetimes { proof_life_ms: 300, idle_timeout_ms: 3_600, absolute_timeout_ms: 10_000 };

    #[test]
    fn a_fresh_proof_costs_no_write() {
        let row = LIVES.of_new_session(0);
        assert_eq!(row, SessionTimes { proof_until_ms: 300, idle_expires_at_ms: 3_600, expires_at_ms: 10_000 });
        assert_eq!(LIVES.renew(row, 149), Renewal::SignUpTo { renew_after_ms: 300 });
        let raised = SessionTimes { proof_until_ms: 450, idle_expires_at_ms: 3_750, expires_at_ms: 10_000 };
        assert_eq!(LIVES.renew(row, 150), Renewal::Raise(raised));
    }

    #[test]
    fn expiry_is_exact_and_the_end_is_never_passed() {
        let row = LIVES.of_new_session(0);
        assert_eq!(LIVES.renew(row, 3_600), Renewal::Expired);
        assert!(matches!(LIVES.renew(row, 3_599), Renewal::Raise(_)));
        let late = SessionTimes { proof_until_ms: 9_700, idle_expires_at_ms: 10_000, expires_at_ms: 10_000 };
        let Renewal::Raise(raised) = LIVES.renew(late, 9_650) else { panic!("raised") };
        assert_eq!(raised.proof_until_ms, 9_950);
        let last = SessionTimes { proof_until_ms: 10_000, ..late };
        assert_eq!(LIVES.renew(last, 9_990), Renewal::SignUpTo { renew_after_ms: 10_000 });
        assert_eq!(LIVES.renew(last, 10_000), Renewal::Expired);
    }

    #[test]
    fn whoever_renews_when_the_proof_is_over_is_not_idle() {
        for idle_timeout_ms in [300, 299, 350, 100] {
            let lives = Lifetimes { idle_timeout_ms, ..LIVES };
            let (mut row, mut now_ms) = (lives.of_new_session(0), 0);
            while now_ms < 5_000 {
                now_ms = row.proof_until_ms + 1;
                let Renewal::Raise(raised) = lives.renew(row, now_ms) else { panic!("{idle_timeout_ms} at {now_ms}") };
                row = raised;
            }
        }
    }

    #[test]
    fn a_shortened_life_never_lowers_what_a_proof_may_carry() {
        let row = SessionTimes { proof_until_ms: 1_000, idle_expires_at_ms: 900, expires_at_ms: 10_000 };
        let Renewal::Raise(raised) = LIVES.renew(row, 100) else { panic!("raised") };
        assert_eq!(raised.proof_until_ms, 1_000);
    }
}
