//! One user of the simulated system: states over time, sessions, settled attempts, and what the database would hold.

use std::collections::HashMap;

use edgekeep_torture::checker::audit::{Account, Entry, StoredAttempt};
use edgekeep_torture::history::{Attempt, NewSecret, Outcome, Reason, Rules, SessionNo, Us};

use crate::bug::Bug;

pub const MS: Us = 1_000;
pub const RULES: Rules = Rules {
    bound_us: 2_000 * MS,
    guess_limit: 5,
    lockout_base_us: 3_000 * MS,
    owner_deadline_us: 3_000 * MS,
    late_us: 10_000 * MS,
    idle_us: 20_000 * MS,
    absolute_us: 40_000 * MS,
};

#[derive(Clone, Debug)]
pub struct State {
    pub current: Option<SessionNo>,
    pub beside: Option<SessionNo>,
    pub enabled: bool,
    pub role: bool,
    pub password: u32,
}

#[derive(Clone, Default)]
pub struct Session {
    pub born: Us,
    pub used: Us,
    pub expires_at_ms: u64,
    pub ended: Option<Reason>,
    pub unheard: bool,
}

pub type Key = (u8, Attempt, Option<NewSecret>);

#[derive(Clone)]
pub struct User {
    /// States, each from an instant on.
    pub states: Vec<(Us, State)>,
    pub sessions: HashMap<SessionNo, Session>,
    pub settled: HashMap<Key, Result<Option<SessionNo>, ()>>,
    pub failures: u32,
    pub locked_until: Us,
    pub next_password: u32,
    pub account: Account,
}

pub fn signed_in(user: &User, session: SessionNo) -> Outcome {
    Outcome::SignedIn { session, expires_at_ms: user.sessions[&session].expires_at_ms }
}

impl User {
    pub fn new() -> Self {
        let initial = State { current: None, beside: None, enabled: true, role: false, password: 0 };
        Self {
            states: vec![(0, initial)],
            sessions: HashMap::new(),
            settled: HashMap::new(),
            failures: 0,
            locked_until: 0,
            next_password: 1,
            account: Account::default(),
        }
    }

    /// A promotion has lost what happened since `old`. Who has a cookie of a session that was lost has it still.
    pub fn forget_since(&mut self, mut old: Self) {
        for (number, session) in self.sessions.drain() {
            old.sessions.entry(number).or_insert(Session { ended: Some(Reason::Revoked), ..session });
        }
        *self = Self { next_password: self.next_password, ..old };
    }

    pub fn now(&self) -> State {
        self.states.last().unwrap().1.clone()
    }

    /// The state as it was then.
    pub fn at(&self, us: Us) -> State {
        let after = self.states.partition_point(|(from, _)| *from <= us);
        self.states[after.max(1) - 1].1.clone()
    }

    pub fn change(&mut self, at: Us, state: State) {
        self.states.push((at, state));
    }

    pub fn log(&mut self, action: &str, session: Option<SessionNo>, reason: Option<Reason>, outcome: Option<&str>) {
        let reason = reason.map(|reason| reason.as_str().to_owned());
        let (session, outcome) = (session.map(|number| format!("s{}", number.0)), outcome.map(str::to_owned));
        self.account.audit.push(Entry { action: action.into(), session, reason, outcome, lost: false });
    }

    pub fn finished(&self) -> Account {
        let now = self.now();
        let current = now.current.iter().map(|number| format!("s{}", number.0)).collect();
        Account { current, disabled: !now.enabled, role: now.role, ..self.account.clone() }
    }

    pub fn end(&mut self, now: Us, reason: Reason) {
        let mut state = self.now();
        for session in [state.current.take(), state.beside.take()].into_iter().flatten() {
            let known = self.sessions.get_mut(&session).unwrap();
            let expired = now >= (known.born + RULES.absolute_us).min(known.used + RULES.idle_us);
            known.ended = Some(if expired { Reason::Expired } else { reason });
            let said = known.ended;
            self.log("session_ended", Some(session), said, None);
        }
        self.change(now, state);
    }

    pub fn fail(&mut self, now: Us, bug: Option<Bug>) {
        if self.locked_until > 0 {
            (self.failures, self.locked_until) = (0, 0);
        }
        self.failures += if bug == Some(Bug::CountedTwice) { 2 } else { 1 };
        if self.failures >= RULES.guess_limit && bug != Some(Bug::NoLimit) {
            self.locked_until = now + RULES.lockout_base_us;
            // The attempt that fills the run is stored just after this.
            self.account.locked_ms.push(now / MS + 1);
        }
    }

    pub fn store(&mut self, now: Us, operation: &str, outcome: &str, session: Option<SessionNo>) {
        let session = session.map(|number| format!("s{}", number.0));
        self.account.attempts.push(StoredAttempt {
            operation: operation.into(),
            outcome: Some(outcome.into()),
            session,
            reserved_ms: now / MS,
            settled_ms: Some(now / MS),
        });
    }
}
