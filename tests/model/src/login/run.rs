//! The runs of failures by the model's own record, from what the transactions saw and when. G6 is judged by this, not by the
//! state that `shared::lockout` keeps: of that only the policy's numbers are taken.
//!
//! A run begins at a success, after its attempt, or with the first attempt that gets a place once the wait of the lock
//! before it is over. A lock begins when a transaction sees that all places of the run have failed.

use edgekeep_shared::lockout::GuessPolicy;

use super::Account;

/// The present run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    /// Attempts from this number on belong to it.
    pub from_seq: u64,
    /// Runs that ended in a lock since the last success.
    pub before: u32,
    /// Failures of those.
    pub failures_before: u32,
    /// When it ended in a lock.
    pub locked_at: Option<u64>,
}

impl Default for Run {
    fn default() -> Self {
        Self { from_seq: 1, before: 0, failures_before: 0, locked_at: None }
    }
}

impl Run {
    /// How many passwords may be tried in it.
    #[must_use]
    pub fn places(&self, policy: &GuessPolicy) -> u32 {
        policy.guess_limit.min(policy.consecutive_failure_cap.saturating_sub(self.failures_before))
    }

    /// Its last place has failed, and only an administrator unlocks.
    #[must_use]
    pub fn needs_administrator(&self, policy: &GuessPolicy) -> bool {
        self.locked_at.is_some() && self.failures_before + self.places(policy) >= policy.consecutive_failure_cap
    }

    /// A transaction has the account's row.
    pub(super) fn seen(&mut self, account: &Account, now: u64, policy: &GuessPolicy) {
        let failed = account.attempts.iter().filter(|attempt| {
            let over = attempt.outcome.is_some() || attempt.deadline <= now;
            attempt.seq >= self.from_seq && attempt.counted && over
        });
        if self.locked_at.is_none() && failed.count() >= self.places(policy) as usize {
            self.locked_at = Some(now);
        }
    }

    /// An attempt gets a place: the first of a new run if the wait is over. True if so.
    pub(super) fn placed(&mut self, seq: u64, now: u64, policy: &GuessPolicy) -> bool {
        // The first wait, doubled for each run before this one, up to the longest.
        let wait = (0..self.before).fold(policy.base_ms, |wait, _| 2 * wait).min(policy.max_ms);
        let begins = self.locked_at.is_some_and(|at| now >= at + wait) && !self.needs_administrator(policy);
        if begins {
            let failures_before = self.failures_before + self.places(policy);
            *self = Self { from_seq: seq, before: self.before + 1, failures_before, locked_at: None };
        }
        begins
    }

    /// The attempt made a session.
    pub(super) fn succeeded(&mut self, seq: u64) {
        if seq >= self.from_seq {
            *self = Self { from_seq: seq + 1, ..Self::default() };
        }
    }
}
