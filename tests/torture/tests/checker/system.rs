//! A simulated system that keeps every rule, and can be told to break one. It shares no code with the product and none
//! with the checker: it is a list of states over time, and every operation takes effect at one instant.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use edgekeep_torture::checker::audit::Accounts;
use edgekeep_torture::history::{
    Action, Attempt, Calm, History, Lost, NewSecret, Operation, Outcome, Route, Secret, SessionNo, Us, Why,
};

use crate::bug::{Bug, Random};
use crate::user::{MS, RULES, User};

const USERS: u32 = 2;
const CLIENTS: u32 = 4;
const OPERATIONS: usize = 900;
/// What a promotion loses, if there is one: outside of calm.
const LOST: Lost = Lost { from_us: 13_200 * MS, until_us: 14_700 * MS };

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

pub struct World {
    pub random: Random,
    pub bug: Option<Bug>,
    pub users: Vec<User>,
    clients: HashMap<(u32, u32), Client>,
    pub history: History,
    next_key: u32,
    /// As they were replicated, while something is being lost.
    replicated: Vec<User>,
}

/// Runs one seed. The same seed gives the same history.
pub fn simulate(seed: u64, bug: Option<Bug>) -> (History, Accounts) {
    play(seed, bug, None)
}

/// The same with a promotion that loses what was acknowledged.
pub fn simulate_lossy(seed: u64, bug: Option<Bug>) -> (History, Accounts) {
    play(seed, bug, Some(LOST))
}

fn play(seed: u64, bug: Option<Bug>, lost: Option<Lost>) -> (History, Accounts) {
    let calm = (0..100).map(|n| Calm { from_us: n * 8_000 * MS, until_us: n * 8_000 * MS + 5_000 * MS }).collect();
    let history = History { calm, lost, ..History::new(RULES) };
    let mut world = World {
        random: Random(seed),
        bug,
        users: (0..USERS).map(|_| User::new()).collect(),
        clients: HashMap::new(),
        history,
        next_key: 0,
        replicated: Vec::new(),
    };
    world.run();
    let accounts: BTreeMap<u32, _> = (0..USERS).zip(world.users.iter().map(User::finished)).collect();
    (world.history, accounts)
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
            self.lose(now);
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

    fn lose(&mut self, now: Us) {
        let Some(lost) = self.history.lost else { return };
        if now > lost.until_us {
            let replicated = std::mem::take(&mut self.replicated);
            self.users.iter_mut().zip(replicated).for_each(|(user, old)| user.forget_since(old));
        } else if now >= lost.from_us && self.replicated.is_empty() {
            self.replicated.clone_from(&self.users);
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
        // An ending takes the cookie with it, and an outage must not.
        let cleared = action.presents().is_some()
            && match outcome {
                Outcome::SignedIn { .. } | Outcome::Done | Outcome::Refused(Why::NoSession(_)) => true,
                Outcome::Accepted { .. } => self.bug == Some(Bug::CookieDroppedByPage) && self.random.one_in(100),
                Outcome::Unknown { .. } => self.bug == Some(Bug::CookieDroppedByOutage) && self.random.one_in(4),
                Outcome::Refused(_) => false,
            };
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
            cleared,
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
}
