//! The account's rows, and the two transactions (`coordinator/src/login/{reserve,settle}.rs`, in small).

use std::hash::{Hash, Hasher};

use edgekeep_shared::lockout::{Count, Lock, Reservation, SubjectState};
use edgekeep_shared::takeover::{Placement, SlotUse, Takeover, place};

use super::{Delivery, Effect, Login, OWNER_DEADLINE, Stage, World};
use crate::Sabotage;

/// What an order comes to, the same for every delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The password was wrong.
    Failed,
    /// It made this session.
    Session(u8),
    /// All sessions have ended.
    Everywhere,
}

/// An attempt's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// Its id: operation, key and password.
    pub order: u8,
    /// Its number.
    pub seq: u64,
    /// Until when its owner owns it.
    pub deadline: u64,
    /// Its failure counts.
    pub counted: bool,
    /// `None`: unsettled.
    pub outcome: Option<Outcome>,
}

/// The account in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Of the subject's row.
    pub state: SubjectState,
    /// Of the subject's row.
    pub next_seq: u64,
    /// The attempts.
    pub attempts: Vec<Attempt>,
    /// Current sessions: id, slot, since.
    pub sessions: Vec<(u8, u32, u64)>,
    /// Sessions that have ended.
    pub ended: Vec<u8>,
    /// Every session ever made: its order, its id, and whether the password was still the user's.
    pub made: Vec<(u8, u8, bool)>,
    /// Orders that have ended all sessions.
    pub everywhere: Vec<u8>,
    /// How often the password was changed.
    pub password_version: u8,
    /// Audit entries, one for each attempt that was settled.
    pub audited: usize,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            state: SubjectState::default(),
            next_seq: 1,
            attempts: vec![],
            sessions: vec![],
            ended: vec![],
            made: vec![],
            everywhere: vec![],
            password_version: 0,
            audited: 0,
        }
    }
}

impl Hash for Account {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let SubjectState { window_from_seq, runs, failures_before, lock } = self.state;
        let lock = match lock {
            Lock::Open => 0,
            Lock::Until(at) => at,
            Lock::Administrator => u64::MAX,
        };
        (window_from_seq, runs, failures_before, lock, self.next_seq, &self.attempts).hash(hasher);
        (&self.sessions, &self.ended, &self.made, self.audited).hash(hasher);
        (&self.everywhere, self.password_version).hash(hasher);
    }
}

impl Account {
    /// The order's attempt: a settled one first.
    #[must_use]
    pub fn find(&self, order: u8) -> Option<&Attempt> {
        let mut own = self.attempts.iter().filter(|attempt| attempt.order == order);
        let first = own.next()?;
        if first.outcome.is_some() { Some(first) } else { own.find(|other| other.outcome.is_some()).or(Some(first)) }
    }

    fn count(&self, now: u64) -> Count {
        let taken = self.attempts.iter().filter(|a| a.counted && a.seq >= self.state.window_from_seq);
        let failed = |attempt: &&Attempt| attempt.outcome.is_some() || attempt.deadline <= now;
        let (taken, failures) = (taken.clone().count() as u32, taken.filter(failed).count() as u32);
        Count { failures, in_flight: taken - failures }
    }

    fn insert(&mut self, order: u8, now: u64) {
        let (seq, deadline) = (self.next_seq, now + OWNER_DEADLINE);
        self.attempts.push(Attempt { order, seq, deadline, counted: true, outcome: None });
        self.next_seq += 1;
    }

    fn end(&mut self, ends: impl Fn(&(u8, u32, u64)) -> bool) {
        self.ended.extend(self.sessions.iter().filter(|held| ends(held)).map(|held| held.0));
        self.sessions.retain(|held| !ends(held));
    }

    /// The new session, and the end of the one before it.
    fn make_session(&mut self, order: u8, now: u64, current: bool) -> u8 {
        let id = self.made.len() as u8 + 1;
        let uses: Vec<_> = self
            .sessions
            .iter()
            .map(|(_, slot, since)| SlotUse { slot: *slot, authenticated_at_ms: *since, expired: false })
            .collect();
        if let Placement::Slot { slot, ends } = place(&uses, 1, Takeover::NewestWins) {
            self.end(|held| ends.contains(&held.1));
            self.sessions.push((id, slot, now));
        }
        self.made.push((order, id, current));
        id
    }
}

impl Login {
    /// Transaction one.
    pub(super) fn reserve(&self, world: &mut World, order: u8) -> Stage {
        let now = world.now;
        let account = &mut world.account;
        let reserved = Stage::Reserved(account.password_version);
        let found = account.find(order).copied();
        if self.broken(Sabotage::LockBeforeLookup) && matches!(account.state.lock, Lock::Until(until) if now < until) {
            world.replay_locked |= found.is_some_and(|attempt| attempt.outcome.is_some());
            return Stage::Locked;
        }
        if let Some(attempt) = found.filter(|_| !self.broken(Sabotage::RetryIsNewAttempt)) {
            return match attempt.outcome {
                Some(outcome) => Stage::Answered(outcome),
                None if now < attempt.deadline && !self.broken(Sabotage::TakenOverTooEarly) => Stage::Gone,
                None => {
                    for own in account.attempts.iter_mut().filter(|own| own.seq == attempt.seq) {
                        own.deadline = now + OWNER_DEADLINE;
                    }
                    reserved
                }
            };
        }
        let asked_at = if self.broken(Sabotage::RunBeforeItsWait) { now + self.policy.base_ms } else { now };
        world.run.seen(account, now, &self.policy);
        match self.policy.reserve(account.state, account.count(now), account.next_seq, asked_at) {
            Reservation::Busy => Stage::Gone,
            Reservation::Locked(state, _) => {
                account.state = state;
                Stage::Locked
            }
            Reservation::Reserve(state) => {
                if world.run.placed(account.next_seq, now, &self.policy) {
                    world.tried_since.clear();
                }
                account.state = state;
                if self.broken(Sabotage::RunsForgotten) {
                    (account.state.runs, account.state.failures_before) = (0, 0);
                }
                account.insert(order, now);
                reserved
            }
        }
    }

    /// Transaction two.
    pub(super) fn settle(&self, world: &mut World, delivery: Delivery) -> Stage {
        let (now, order) = (world.now, delivery.order);
        let account = &mut world.account;
        if self.broken(Sabotage::CheckBeforeCount) && account.find(order).is_none() {
            account.insert(order, now);
        }
        let unguarded = self.broken(Sabotage::SettleUnguarded) || self.broken(Sabotage::TakenOverTooEarly);
        let own = |attempt: &Attempt| attempt.order == order && (unguarded || attempt.outcome.is_none());
        let Some(at) = account.attempts.iter().position(own) else {
            // Another delivery has settled it: its outcome is this one's.
            return account.find(order).and_then(|attempt| attempt.outcome).map_or(Stage::Gone, Stage::Answered);
        };
        let seq = account.attempts[at].seq;
        let (read, made) = match delivery.stage {
            Stage::Hashed(read) => (read, None),
            Stage::Made(id) => (account.password_version, Some(id)),
            _ => return delivery.stage,
        };
        // Right when it was hashed; and checked again under the lock, since the password may have been changed.
        let current = read == account.password_version;
        if !self.orders[usize::from(order)].is_right(read) || !(current || self.broken(Sabotage::PasswordNotRechecked))
        {
            account.attempts[at].outcome = Some(Outcome::Failed);
            account.audited += 1;
            if seq >= world.run.from_seq {
                world.run.seen(account, now, &self.policy);
            }
            if seq >= account.state.window_from_seq {
                account.state = self.policy.after_failure(account.state, account.count(now), now);
            }
            return Stage::Answered(Outcome::Failed);
        }
        let outcome = match self.orders[usize::from(order)].effect {
            Effect::Login => Outcome::Session(made.unwrap_or_else(|| account.make_session(order, now, current))),
            Effect::LogoutEverywhere => {
                account.end(|_| true);
                account.everywhere.push(order);
                Outcome::Everywhere
            }
            Effect::ChangePassword => {
                // The session that asks must still be there; else nothing was asked, and the reservation is withdrawn.
                if !account.sessions.iter().any(|held| Some(held.0) == world.presented) {
                    account.attempts.remove(at);
                    world.tried.retain(|(of, _)| *of != seq);
                    return Stage::Withdrawn;
                }
                account.end(|_| true);
                account.password_version += 1;
                Outcome::Session(account.make_session(order, now, current))
            }
        };
        if let (true, Stage::Hashed(_), Outcome::Session(id)) =
            (self.broken(Sabotage::SettledApart), delivery.stage, outcome)
        {
            return Stage::Made(id);
        }
        let attempt = &mut account.attempts[at];
        (attempt.outcome, attempt.counted) = (Some(outcome), false);
        account.audited += 1;
        let is_session = matches!(outcome, Outcome::Session(_));
        if is_session || self.broken(Sabotage::EverySuccessClears) {
            account.state = account.state.after_success(seq);
        }
        if is_session {
            world.run.succeeded(seq);
        }
        if self.broken(Sabotage::SuccessClearsOthers) {
            account.state.window_from_seq = account.next_seq;
        }
        Stage::Answered(outcome)
    }
}
