//! A simulated system that keeps every rule, and can be told to break one. It shares no code with the product and none
//! with the checker: it is a list of states over time, and every operation takes effect at one instant.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use edgekeep_torture::checker::audit::{Account, Accounts, Entry, StoredAttempt};
use edgekeep_torture::history::{
    Action, Attempt, Calm, History, NewSecret, Operation, Outcome, Reason, Route, Rules, Secret, SessionNo, Us, Why,
};

use crate::bug::{Bug, Random};

const MS: Us = 1_000;
const RULES: Rules = Rules {
    bound_us: 2_000 * MS,
    guess_limit: 5,
    lockout_base_us: 3_000 * MS,
    owner_deadline_us: 3_000 * MS,
    late_us: 10_000 * MS,
    idle_us: 20_000 * MS,
    absolute_us: 40_000 * MS,
};
const USERS: u32 = 2;
const CLIENTS: u32 = 4;
const OPERATIONS: usize = 900;

#[derive(Clone, Debug)]
struct State {
    current: Option<SessionNo>,
    beside: Option<SessionNo>,
    enabled: bool,
    role: bool,
    password: u32,
}

#[derive(Default)]
struct Session {
    born: Us,
    used: Us,
    expires_at_ms: u64,
    ended: Option<Reason>,
    unheard: bool,
}

type Key = (u8, Attempt, Option<NewSecret>);

struct User {
    /// States, each from an instant on.
    states: Vec<(Us, State)>,
    sessions: HashMap<SessionNo, Session>,
    settled: HashMap<Key, Result<Option<SessionNo>, ()>>,
    failures: u32,
    locked_until: Us,
    next_password: u32,
    account: Account,
}

/// When, its number, user, client, and 0 for a beginning or 1 for an effect.
type Event = (Us, u64, u32, u32, u8);

#[derive(Clone, Copy)]
struct Pending {
    action: Action,
    sent: Us,
    lost: bool,
}

#[derive(Clone, Copy, Default)]
struct Client {
    cookie: Option<SessionNo>,
    /// The last one it had, which a thief may hold.
    last: Option<SessionNo>,
    retry: Option<(Action, u8)>,
}

struct World {
    random: Random,
    bug: Option<Bug>,
    users: Vec<User>,
    clients: HashMap<(u32, u32), Client>,
    history: History,
    next_key: u32,
}

/// Runs one seed. The same seed gives the same history.
pub fn simulate(seed: u64, bug: Option<Bug>) -> (History, Accounts) {
    let initial = State { current: None, beside: None, enabled: true, role: false, password: 0 };
    let user = || User {
        states: vec![(0, initial.clone())],
        sessions: HashMap::new(),
        settled: HashMap::new(),
        failures: 0,
        locked_until: 0,
        next_password: 1,
        account: Account::default(),
    };
    let calm = (0..100).map(|n| Calm { from_us: n * 8_000 * MS, until_us: n * 8_000 * MS + 5_000 * MS }).collect();
    let history = History { rules: RULES, calm, isolated: Vec::new(), sessions: Vec::new(), operations: Vec::new() };
    let mut world = World {
        random: Random(seed),
        bug,
        users: (0..USERS).map(|_| user()).collect(),
        clients: HashMap::new(),
        history,
        next_key: 0,
    };
    world.run();
    let accounts: BTreeMap<u32, Account> = (0..USERS).zip(world.users.iter().map(User::finished)).collect();
    (world.history, accounts)
}

impl User {
    fn now(&self) -> State {
        self.states.last().unwrap().1.clone()
    }

    /// The state as it was then.
    fn at(&self, us: Us) -> State {
        let after = self.states.partition_point(|(from, _)| *from <= us);
        self.states[after.max(1) - 1].1.clone()
    }

    fn change(&mut self, at: Us, state: State) {
        self.states.push((at, state));
    }

    fn log(&mut self, action: &str, session: Option<SessionNo>, reason: Option<Reason>, outcome: Option<&str>) {
        let reason = reason.map(|reason| serde_json::to_value(reason).unwrap().as_str().unwrap().to_owned());
        let (session, outcome) = (session.map(|number| format!("s{}", number.0)), outcome.map(str::to_owned));
        self.account.audit.push(Entry { action: action.into(), session, reason, outcome });
    }

    fn finished(&self) -> Account {
        let now = self.now();
        let current = now.current.iter().map(|number| format!("s{}", number.0)).collect();
        Account { current, disabled: !now.enabled, role: now.role, ..self.account.clone() }
    }
}

impl World {
    fn run(&mut self) {
        let mut queue: BinaryHeap<Reverse<Event>> = BinaryHeap::new();
        let mut pending: HashMap<u64, Pending> = HashMap::new();
        let mut order = 0;
        for user in 0..USERS {
            for client in 0..CLIENTS {
                queue.push(Reverse((self.random.below(100) * MS, order, user, client, 0)));
                order += 1;
            }
        }
        while let Some(Reverse((now, number, user, client, what))) = queue.pop() {
            order += 1;
            if what == 0 {
                if self.history.operations.len() >= OPERATIONS {
                    continue;
                }
                let action = self.choose(user, client, now);
                let longest = if self.random.one_in(10) { 400 } else { 20 };
                let takes = 1 + self.random.below(longest) * MS;
                // Outside of calm some get lost: before, after, or so that they come late.
                let stormy = now % (8_000 * MS) > 4_000 * MS;
                let lost = stormy && self.random.one_in(4);
                pending.insert(order, Pending { action, sent: now, lost });
                let never = lost && self.random.one_in(3);
                let late = if lost && self.random.one_in(2) { self.random.below(3_000) * MS } else { 0 };
                if never {
                    pending.remove(&order);
                } else {
                    queue.push(Reverse((now + takes + late, order, user, client, 1)));
                }
                if lost {
                    // After an effect that is not late, or before one that is.
                    let given_up = now + takes + 1 + self.random.below(50) * MS;
                    self.record(
                        user,
                        client,
                        action,
                        now,
                        given_up.max(self.first_stormy_end(now)),
                        Outcome::Unknown { status: 503 },
                    );
                    let think = self.random.below(300) * MS;
                    queue.push(Reverse((given_up.max(self.first_stormy_end(now)) + think, order, user, client, 0)));
                }
                continue;
            }
            let Some(at) = pending.remove(&number) else { continue };
            let outcome = self.effect(user, at.action, at.sent, now);
            if at.lost {
                continue;
            }
            let returned = now + 1 + self.random.below(20) * MS;
            let outcome = if self.bug == Some(Bug::SilentInCalm) && self.random.one_in(100) {
                Outcome::Unknown { status: 503 }
            } else {
                outcome
            };
            self.record(user, client, at.action, at.sent, returned, outcome);
            let think = if self.random.one_in(100) { 25_000 } else { self.random.below(300) };
            queue.push(Reverse((returned + think * MS, order, user, client, 0)));
        }
    }

    /// Lost answers are outside of calm: the client gives up after calm has ended at the earliest.
    fn first_stormy_end(&self, now: Us) -> Us {
        now - now % (8_000 * MS) + 5_000 * MS + 1
    }

    fn record(&mut self, user: u32, client: u32, action: Action, sent: Us, returned: Us, outcome: Outcome) {
        let state = self.clients.entry((user, client)).or_default();
        state.retry = match outcome {
            Outcome::Unknown { .. } if action.attempt().is_some() => {
                let times = state.retry.map_or(0, |(_, times)| times);
                (times < 4).then_some((action, times + 1))
            }
            _ => None,
        };
        match (action, outcome) {
            (_, Outcome::SignedIn { session, .. }) => (state.cookie, state.last) = (Some(session), Some(session)),
            (Action::Logout { .. }, Outcome::Done) if client > 0 => state.cookie = None,
            _ => {}
        }
        let id = u32::try_from(self.history.operations.len()).unwrap();
        let edge = u8::try_from(client).unwrap();
        self.history.operations.push(Operation {
            id,
            user,
            client,
            edge,
            sent_us: sent,
            returned_us: returned,
            action,
            outcome,
        });
    }

    fn choose(&mut self, user: u32, client: u32, _now: Us) -> Action {
        let state = *self.clients.entry((user, client)).or_default();
        if let Some((action, _)) = state.retry
            && !self.random.one_in(4)
        {
            return action;
        }
        self.next_key += 1;
        let known = self.users[user as usize].now().password;
        let secret = if self.random.one_in(3) { Secret::Wrong(self.next_key) } else { Secret::Chosen(known) };
        let attempt = Attempt { key: self.next_key, secret };
        // Client 0 steals.
        let stolen = if client == 0 { self.clients.get(&(user, 1)).and_then(|other| other.last) } else { None };
        let Some(session) = stolen.or(state.cookie) else {
            return Action::Login { attempt, presents: None };
        };
        match self.random.below(40) {
            0 | 1 => Action::Login { attempt, presents: state.cookie },
            2 => Action::Login { attempt, presents: None },
            3 => Action::Logout { session },
            4 => Action::LogoutEverywhere { attempt },
            5 => {
                let number = self.users[user as usize].next_password;
                self.users[user as usize].next_password += 1;
                Action::ChangePassword { attempt, new: NewSecret::Good(number), by: session }
            }
            6 | 7 => {
                let attempt = Attempt { secret: Secret::Chosen(known), ..attempt };
                Action::ChangePassword { attempt, new: NewSecret::TooShort, by: session }
            }
            8 if client == 2 => Action::Disable,
            8 | 9 if client == 3 => Action::Enable,
            9 if client == 2 => Action::Revoke,
            10 if client == 2 => Action::SetRole { role: self.random.one_in(2) },
            11 if client == 3 => Action::Unlock,
            n if n % 4 == 0 => Action::Check { session, route: Route::Strict },
            n if n % 4 == 1 => Action::Check { session, route: Route::Role },
            n if n % 4 == 2 => Action::Check { session, route: Route::StrictRole },
            _ => Action::Check { session, route: Route::Lease },
        }
    }

    fn effect(&mut self, number: u32, action: Action, sent: Us, now: Us) -> Outcome {
        let bug = self.bug;
        match action {
            Action::Check { session, route } => self.check(number, session, route, sent, now),
            Action::Login { attempt, presents } => self.attempt(number, (0, attempt, None), presents, None, now),
            Action::LogoutEverywhere { attempt } => self.attempt(number, (1, attempt, None), None, None, now),
            Action::ChangePassword { attempt, new, by } => {
                self.attempt(number, (2, attempt, Some(new)), None, Some(by), now)
            }
            Action::Logout { session } => {
                let cancelled = bug == Some(Bug::CommitCancelled) && self.random.one_in(2);
                let user = &mut self.users[number as usize];
                let state = user.now();
                if !cancelled && (state.current == Some(session) || state.beside == Some(session)) {
                    user.sessions.get_mut(&session).unwrap().unheard = bug == Some(Bug::LogoutUnheard);
                    user.end(now, Reason::SignedOut);
                }
                Outcome::Done
            }
            Action::Disable | Action::Enable | Action::Revoke | Action::Unlock | Action::SetRole { .. } => {
                let user = &mut self.users[number as usize];
                match action {
                    Action::Disable => user.end(now, Reason::Disabled),
                    Action::Revoke => user.end(now, Reason::Revoked),
                    Action::Unlock => {
                        (user.failures, user.locked_until) = (0, 0);
                        user.account.unlocked_ms.push(now / MS);
                    }
                    _ => {}
                }
                let mut state = user.now();
                match action {
                    Action::Disable => state.enabled = false,
                    Action::Enable => state.enabled = true,
                    Action::SetRole { role } => state.role = role,
                    _ => {}
                }
                if action == Action::Revoke {
                    user.log("sessions_revoked", None, None, None);
                }
                user.change(now, state);
                Outcome::Done
            }
        }
    }

    fn check(&mut self, number: u32, session: SessionNo, route: Route, sent: Us, now: Us) -> Outcome {
        let bug = self.bug;
        let bound = RULES.bound_us;
        let lag = self.random.below(bound - 1);
        // What a lease knows is as old as the bound, a strict route's answer is from within the request.
        let mut seen_at =
            if route.is_strict() { sent + self.random.below(now - sent + 1) } else { now.saturating_sub(lag) };
        match bug {
            Some(Bug::LeaseTooLong) if !route.is_strict() => seen_at = now.saturating_sub(lag + bound),
            Some(Bug::StrictFromOldRead) if route.is_strict() => {
                seen_at = sent.saturating_sub(self.random.below(500) * MS)
            }
            _ => {}
        }
        let wrong = bug == Some(Bug::RefusesValid) && self.random.one_in(200);
        let user = &mut self.users[number as usize];
        let seen = user.at(seen_at);
        let known = user.sessions.get_mut(&session).unwrap();
        // A newer session than the view is no older view's business (G7).
        let unseen = known.born > seen_at;
        let expired = now >= (known.born + RULES.absolute_us).min(known.used + RULES.idle_us);
        let alive = seen.current == Some(session) || seen.beside == Some(session) || unseen || known.unheard;
        if wrong {
            return Outcome::Refused(Why::NoSession(Reason::Revoked));
        }
        if expired && bug != Some(Bug::SlidingExpiry) {
            return Outcome::Refused(Why::NoSession(Reason::Expired));
        }
        if !alive
            || route.is_strict()
                && known.ended.is_some()
                && !unseen
                && seen.current != Some(session)
                && seen.beside != Some(session)
        {
            let reason = known.ended.unwrap_or(Reason::Revoked);
            let said = if bug == Some(Bug::WrongReason) { Reason::PasswordChanged } else { reason };
            return Outcome::Refused(Why::NoSession(said));
        }
        if bug == Some(Bug::SlidingExpiry) {
            known.expires_at_ms += 1;
        }
        known.used = known.used.max(now);
        let role_at = if bug == Some(Bug::RoleTooOld) { user.at(now.saturating_sub(3 * bound)) } else { seen };
        if route.needs_role() && !role_at.role {
            return Outcome::Refused(Why::Forbidden);
        }
        Outcome::Accepted { saw: Some((session, user.sessions[&session].expires_at_ms)) }
    }

    fn attempt(
        &mut self,
        number: u32,
        key: Key,
        presents: Option<SessionNo>,
        by: Option<SessionNo>,
        now: Us,
    ) -> Outcome {
        let bug = self.bug;
        let chance = self.random.one_in(3);
        let next = SessionNo(u32::try_from(self.history.sessions.len()).unwrap());
        let user = &mut self.users[number as usize];
        let (kind, attempt, new) = key;
        if let Some(settled) = user.settled.get(&key)
            && !(bug == Some(Bug::KeyNotUnique) && chance)
        {
            return match *settled {
                Err(()) => Outcome::Refused(Why::Credentials),
                Ok(None) => Outcome::Done,
                Ok(Some(session)) if user.now().current == Some(session) => signed_in(user, session),
                Ok(Some(session)) if bug == Some(Bug::ReplayResurrects) && chance => {
                    user.end(now, Reason::SignedInElsewhere);
                    let mut state = user.now();
                    state.current = Some(session);
                    user.change(now, state);
                    signed_in(user, session)
                }
                Ok(Some(_)) => Outcome::Refused(Why::Gone),
            };
        }
        if now < user.locked_until {
            return Outcome::Refused(Why::Locked);
        }
        let state = user.now();
        let right = match attempt.secret {
            Secret::Chosen(n) => n == state.password && !(bug == Some(Bug::RightIsWrong) && chance),
            Secret::Wrong(_) => bug == Some(Bug::WrongIsRight) && chance,
        };
        if kind == 2 && state.current != by {
            return Outcome::Refused(Why::NoSession(Reason::SignedOut));
        }
        if new == Some(NewSecret::TooShort) {
            if bug == Some(Bug::RefusalCounted) {
                user.fail(now, bug);
            }
            return Outcome::Refused(Why::Invalid);
        }
        let operation = ["login", "logout_everywhere", "password_change"][usize::from(kind)];
        if !right || !state.enabled && bug != Some(Bug::DisabledSignsIn) {
            user.settled.insert(key, Err(()));
            user.fail(now, bug);
            user.log("refused", None, None, Some("invalid_credentials"));
            for _ in 0..if bug == Some(Bug::StoredTwice) { 2 } else { 1 } {
                user.store(now, operation, "invalid_credentials", None);
            }
            return Outcome::Refused(Why::Credentials);
        }
        if kind == 1 {
            user.end(now, Reason::SignedOut);
            user.settled.insert(key, Ok(None));
            user.log(operation, None, None, Some("succeeded"));
            user.store(now, operation, "succeeded", None);
            return Outcome::Done;
        }
        (user.failures, user.locked_until) = (0, 0);
        let keep = bug == Some(Bug::TwoSessions) && chance;
        if !keep {
            let presented = presents.is_some() && state.current == presents;
            let reason = if kind == 2 {
                Reason::PasswordChanged
            } else if presented {
                Reason::SignedOut
            } else {
                Reason::SignedInElsewhere
            };
            user.end(now, reason);
        }
        let lost = bug == Some(Bug::LoginLost) && chance;
        let mut state = user.now();
        if keep {
            state.beside = state.current;
        }
        if !lost {
            state.current = Some(next);
        }
        if let Some(NewSecret::Good(n)) = new {
            state.password = n;
        }
        user.change(now, state);
        let expires_at_ms = (now + RULES.absolute_us) / MS;
        let ended = lost.then_some(Reason::Revoked);
        user.sessions.insert(next, Session { born: now, used: now, expires_at_ms, ended, unheard: false });
        user.settled.insert(key, Ok(Some(next)));
        if !(bug == Some(Bug::AuditLost) && chance || lost) {
            user.log(operation, Some(next), None, Some("succeeded"));
        }
        user.store(now, operation, "succeeded", Some(next));
        self.history.sessions.push(format!("s{}", next.0));
        signed_in(&self.users[number as usize], next)
    }
}

fn signed_in(user: &User, session: SessionNo) -> Outcome {
    Outcome::SignedIn { session, expires_at_ms: user.sessions[&session].expires_at_ms }
}

impl User {
    fn end(&mut self, now: Us, reason: Reason) {
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

    fn fail(&mut self, now: Us, bug: Option<Bug>) {
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

    fn store(&mut self, now: Us, operation: &str, outcome: &str, session: Option<SessionNo>) {
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
