//! Renewals behind their users' locks, as many as one transaction writes: pure.
//!
//! What this module guarantees:
//! - A proof is signed only up to times that the row has, or is given in this transaction: whoever carries the decisions
//!   out writes [`Raises::writes`] and commits before it signs anything.
//! - Of several who renew the same session together, the first has it raised and the others sign up to that: it is written
//!   once, and nobody's proof reaches further than the row.

use std::collections::BTreeMap;

use crate::ids::{SessionId, UserId};
use crate::problem::Reason;
use crate::renewal::{Lifetimes, Renewal, SessionTimes};
use crate::token::Claims;
use crate::verdict::{Current, Found, Verdict, decide};

/// A session after a renewal: what may be signed once everything is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// As it is read and will be written.
    pub current: Current,
    /// Coordinator time, read behind the locks.
    pub now_ms: u64,
    /// A new proof may reach until here.
    pub renew_after_ms: u64,
}

/// A row that must be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// Whose session.
    pub user_id: UserId,
    /// Which one.
    pub session_id: SessionId,
    /// Its new times.
    pub times: SessionTimes,
    /// When it was seen, coordinator time.
    pub now_ms: u64,
}

/// What one transaction has decided until now.
#[derive(Clone, Debug, Default)]
pub struct Raises {
    written: BTreeMap<SessionId, Write>,
}

impl Raises {
    /// Decides about a proof, by what was read behind the lock of its user.
    ///
    /// # Errors
    /// The verdict, where the session is not current.
    pub fn decide(&mut self, claims: &Claims, mut found: Found, lifetimes: &Lifetimes) -> Result<Renewed, Verdict> {
        let now_ms = found.now_ms;
        // Before anything is decided: who was raised a moment ago has not been idle.
        if let (Some(written), Some(session)) = (self.written.get(&claims.session_id), &mut found.session) {
            session.times = written.times;
        }
        let mut current = match decide(claims, found) {
            Verdict::Current(current) => current,
            verdict => return Err(verdict),
        };
        let renew_after_ms = match lifetimes.renew(current.times, now_ms) {
            Renewal::Expired => return Err(Verdict::Ended(Reason::Expired)),
            Renewal::SignUpTo { renew_after_ms } => renew_after_ms,
            Renewal::Raise(times) => {
                let (user_id, session_id) = (claims.user_id, claims.session_id);
                self.written.insert(session_id, Write { user_id, session_id, times, now_ms });
                current.times = times;
                times.proof_until_ms
            }
        };
        Ok(Renewed { current, now_ms, renew_after_ms })
    }

    /// What must be committed before anything is signed.
    pub fn writes(&self) -> impl ExactSizeIterator<Item = &Write> {
        self.written.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SiteId;
    use crate::revision::Revision;
    use crate::verdict::{FoundSession, FoundUser};

    const LIVES: Lifetimes = Lifetimes { proof_life_ms: 300, idle_timeout_ms: 3_600, absolute_timeout_ms: 10_000 };

    fn claims(session: u8) -> Claims {
        Claims {
            site: SiteId(1),
            user_id: UserId(7),
            revision: Revision(1),
            session_id: SessionId([session; 16]),
            authenticated_at_ms: 0,
            renew_after_ms: 300,
            idle_expires_at_ms: 3_600,
            expires_at_ms: 10_000,
            name: "ann".into(),
            roles: vec![],
        }
    }

    fn found(now_ms: u64) -> Found {
        Found {
            epoch: 0,
            now_ms,
            user: Some(FoundUser {
                revision: Revision(1),
                name: Some("ann".into()),
                roles: vec!["admin".into()],
                disabled: false,
            }),
            session: Some(FoundSession { user_id: UserId(7), authenticated_at_ms: 0, times: LIVES.of_new_session(0) }),
            ended: None,
        }
    }

    #[test]
    fn of_twenty_who_renew_the_same_session_one_has_it_written() {
        let mut raises = Raises::default();
        for turn in 0..20 {
            let renewed = raises.decide(&claims(1), found(400 + turn), &LIVES).unwrap();
            assert_eq!((renewed.renew_after_ms, renewed.current.times.proof_until_ms), (700, 700));
            assert_eq!(renewed.current.roles, ["admin"]);
        }
        let another = raises.decide(&claims(2), found(500), &LIVES).unwrap();
        assert_eq!(another.renew_after_ms, 800);
        let written: Vec<_> =
            raises.writes().map(|write| (write.session_id.0[0], write.times.proof_until_ms)).collect();
        assert_eq!(written, [(1, 700), (2, 800)], "no proof reaches further than what is written");
    }

    #[test]
    fn nobody_is_idle_who_was_raised_a_millisecond_ago() {
        let mut raises = Raises::default();
        for now_ms in [3_599, 3_600] {
            let renewed = raises.decide(&claims(1), found(now_ms), &LIVES);
            assert_eq!(renewed.map(|renewed| renewed.renew_after_ms), Ok(3_899), "at {now_ms}");
        }
    }

    #[test]
    fn whoever_is_over_or_fresh_has_nothing_written() {
        let mut raises = Raises::default();
        assert_eq!(raises.decide(&claims(1), found(100), &LIVES).map(|renewed| renewed.renew_after_ms), Ok(300));
        assert_eq!(raises.decide(&claims(1), found(3_600), &LIVES), Err(Verdict::Ended(Reason::Expired)));
        let gone = Found { session: None, ended: Some(Reason::SignedOut), ..found(400) };
        assert_eq!(raises.decide(&claims(1), gone, &LIVES), Err(Verdict::Ended(Reason::SignedOut)));
        assert_eq!(raises.writes().len(), 0);
        // Also when another proof of the same session has just been renewed.
        raises.decide(&claims(1), found(400), &LIVES).unwrap();
        let gone = Found { session: None, ended: Some(Reason::SignedOut), ..found(400) };
        assert_eq!(raises.decide(&claims(1), gone, &LIVES), Err(Verdict::Ended(Reason::SignedOut)));
    }
}
