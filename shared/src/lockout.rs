//! Guesses are counted before they are tried (G6), and too many lock the account (NIST SP 800-63B-4 3.2.2).
//!
//! Every attempt takes a *place* under the subject's row lock before its password is evaluated. A
//! run of failures has `guess_limit` places; when all have failed the account is locked for a time
//! that doubles with every run, and at `consecutive_failure_cap` failures until an administrator
//! unlocks it. Places taken by attempts still in flight never lock: they make others wait.
//!
//! The invariant that callers rely on: within one run, settled failures + attempts in flight never
//! exceed `guess_limit`, because a place is only ever given while fewer are taken.

/// The numbers of the policy, the same on every coordinator (they live in the database).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuessPolicy {
    /// Places in one run of failures (*F* of G6), 1 to 100.
    pub guess_limit: u32,
    /// The first wait, in milliseconds; doubles with each run.
    pub base_ms: u64,
    /// The longest wait, in milliseconds.
    pub max_ms: u64,
    /// Consecutive failures after which only an administrator unlocks, at most 100.
    pub consecutive_failure_cap: u32,
}

/// A lock on an account's password. It ends no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// None.
    Open,
    /// Until this coordinator time.
    Until(u64),
    /// Until an administrator unlocks.
    Administrator,
}

/// What the subject's row remembers between attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubjectState {
    /// Attempts from this number on belong to the current run.
    pub window_from_seq: u64,
    /// Runs that ended in a lock since the last success.
    pub runs: u32,
    /// Failures of those runs.
    pub failures_before: u32,
    /// The lock that the last run ended in; one that has passed opens a new run.
    pub lock: Lock,
}

impl Default for SubjectState {
    fn default() -> Self {
        Self { window_from_seq: 1, runs: 0, failures_before: 0, lock: Lock::Open }
    }
}

/// The counted attempts of the current run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Settled as failed, or abandoned (unsettled past their owner's deadline): their password may have been tried.
    pub failures: u32,
    /// Unsettled within their owner's deadline.
    pub in_flight: u32,
}

/// What to do with an attempt that asks for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// Give it the place with the number `next_seq`; store this state.
    Reserve(SubjectState),
    /// Refuse it with `locked`; store this state. `None`: until an administrator unlocks.
    Locked(SubjectState, Option<u64>),
    /// All places are taken by attempts in flight: wait for one of them, then `login_in_flight`.
    Busy,
}

impl GuessPolicy {
    /// The wait after the run with this number (from 1), in milliseconds.
    #[must_use]
    pub fn wait_ms(&self, run: u32) -> u64 {
        let doublings = run.saturating_sub(1).min(32);
        self.base_ms.saturating_mul(1 << doublings).min(self.max_ms)
    }

    /// Places of the current run: the cap may leave fewer than `guess_limit`.
    fn places(&self, state: &SubjectState) -> u32 {
        self.guess_limit.min(self.consecutive_failure_cap.saturating_sub(state.failures_before))
    }

    /// The state after a run in which every place has failed.
    fn close_run(&self, state: SubjectState, failures: u32, now_ms: u64) -> SubjectState {
        let runs = state.runs.saturating_add(1);
        let failures_before = state.failures_before.saturating_add(failures);
        let lock = if failures_before >= self.consecutive_failure_cap {
            Lock::Administrator
        } else {
            Lock::Until(now_ms.saturating_add(self.wait_ms(runs)))
        };
        SubjectState { window_from_seq: state.window_from_seq, runs, failures_before, lock }
    }

    /// Decides about a place. `count` is of the run that `state` names; `next_seq` the number the attempt would get.
    #[must_use]
    pub fn reserve(&self, state: SubjectState, count: Count, next_seq: u64, now_ms: u64) -> Reservation {
        match state.lock {
            Lock::Administrator => Reservation::Locked(state, None),
            Lock::Until(until_ms) if now_ms < until_ms => Reservation::Locked(state, Some(until_ms - now_ms)),
            // The lock was set when no attempt of its run was in flight any more: the new run starts empty.
            Lock::Until(_) => {
                Reservation::Reserve(SubjectState { window_from_seq: next_seq, lock: Lock::Open, ..state })
            }
            Lock::Open if count.failures + count.in_flight < self.places(&state) => Reservation::Reserve(state),
            Lock::Open if count.failures >= self.places(&state) => {
                let closed = self.close_run(state, count.failures, now_ms);
                let wait_ms = match closed.lock {
                    Lock::Until(until_ms) => Some(until_ms - now_ms),
                    Lock::Open | Lock::Administrator => None,
                };
                Reservation::Locked(closed, wait_ms)
            }
            Lock::Open => Reservation::Busy,
        }
    }

    /// The state after an attempt of the current run settled as failed; `count` includes it among the failures.
    #[must_use]
    pub fn after_failure(&self, state: SubjectState, count: Count, now_ms: u64) -> SubjectState {
        if state.lock == Lock::Open && count.failures >= self.places(&state) {
            self.close_run(state, count.failures, now_ms)
        } else {
            state
        }
    }
}

impl SubjectState {
    /// The state after attempt `seq` made a session: what was reserved before it and itself is cleared, what was
    /// reserved after it still counts (CVE-2024-4629: a success must not wipe guesses that are under way).
    #[must_use]
    pub fn after_success(self, seq: u64) -> Self {
        if seq < self.window_from_seq {
            // A run began after this attempt: its failures are later guesses, and stay counted, locked or not. Those of runs
            // that have ended cannot be told apart any more, so they stay as well, until the next success.
            return self;
        }
        Self { window_from_seq: seq + 1, runs: 0, failures_before: 0, lock: Lock::Open }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: GuessPolicy = GuessPolicy { guess_limit: 3, base_ms: 100, max_ms: 1_000, consecutive_failure_cap: 8 };

    fn count(failures: u32, in_flight: u32) -> Count {
        Count { failures, in_flight }
    }

    #[test]
    fn a_run_has_so_many_places_and_no_more() {
        let state = SubjectState::default();
        assert_eq!(POLICY.reserve(state, count(0, 2), 3, 0), Reservation::Reserve(state));
        assert_eq!(POLICY.reserve(state, count(0, 3), 4, 0), Reservation::Busy);
        assert_eq!(POLICY.reserve(state, count(2, 1), 4, 0), Reservation::Busy);
        assert!(matches!(POLICY.reserve(state, count(3, 0), 4, 0), Reservation::Locked(_, Some(100))));
    }

    #[test]
    fn waits_grow_and_the_cap_needs_an_administrator() {
        let mut state = SubjectState::default();
        let mut evaluated = 0_u32;
        let mut now = 0;
        for wait in [Some(100), Some(200), None] {
            let places = if wait.is_some() { 3 } else { 2 };
            for failed in 0..places {
                let Reservation::Reserve(next) = POLICY.reserve(state, count(failed, 0), 1 + u64::from(evaluated), now)
                else {
                    panic!("a place")
                };
                evaluated += 1;
                state = POLICY.after_failure(next, count(failed + 1, 0), now);
            }
            match wait {
                Some(wait) => assert_eq!(state.lock, Lock::Until(now + wait)),
                None => assert_eq!(state.lock, Lock::Administrator),
            }
            assert!(matches!(POLICY.reserve(state, count(places, 0), 99, now), Reservation::Locked(..)));
            now += wait.unwrap_or(0);
        }
        assert_eq!(evaluated, 8);
        assert!(matches!(POLICY.reserve(state, count(0, 0), 99, u64::MAX), Reservation::Locked(_, None)));
    }

    #[test]
    fn a_denial_says_how_long_is_left() {
        let locked = SubjectState { lock: Lock::Until(150), ..SubjectState::default() };
        assert_eq!(POLICY.reserve(locked, count(3, 0), 4, 60), Reservation::Locked(locked, Some(90)));
        assert_eq!(POLICY.reserve(locked, count(3, 0), 4, 149), Reservation::Locked(locked, Some(1)));
        let new_run = SubjectState { window_from_seq: 4, ..SubjectState::default() };
        assert_eq!(POLICY.reserve(locked, count(3, 0), 4, 150), Reservation::Reserve(new_run));
        let full = POLICY.reserve(SubjectState::default(), count(3, 0), 4, 60);
        assert!(
            matches!(full, Reservation::Locked(SubjectState { lock: Lock::Until(160), .. }, Some(100))),
            "{full:?}"
        );
    }

    #[test]
    fn a_success_clears_only_what_was_reserved_before_it() {
        let state = SubjectState { window_from_seq: 4, runs: 2, failures_before: 6, lock: Lock::Open };
        assert_eq!(state.after_success(6), SubjectState { window_from_seq: 7, ..SubjectState::default() });
        assert_eq!(state.after_success(4), SubjectState { window_from_seq: 5, ..SubjectState::default() });
        let locked = SubjectState { lock: Lock::Until(50), ..state };
        // A slow login's attempt was counted as abandoned, and a later run was tried and failed: that run is not forgiven.
        assert_eq!(locked.after_success(3), locked);
        assert_eq!(state.after_success(3), state);
    }

    #[test]
    fn waits_do_not_overflow() {
        assert_eq!(POLICY.wait_ms(0), 100);
        assert_eq!(POLICY.wait_ms(u32::MAX), 1_000);
        assert_eq!(GuessPolicy { base_ms: u64::MAX, max_ms: u64::MAX, ..POLICY }.wait_ms(9), u64::MAX);
    }
}
