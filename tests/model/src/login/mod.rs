//! The login protocol (reserve, hash, settle): G4, G6, G9.
//!
//! One account, a few logins (right and wrong passwords, each with its idempotency key), each delivered up to so often, to
//! any coordinator: deliveries share nothing but the database. Every transaction is one step, since it holds the
//! subject's row lock; between any two steps a delivery may stop for ever (a crash, or its answer is lost).
//!
//! Counts as a failure: a key with two sessions, two counted failures or two outcomes, or answered "locked" once it has its
//! outcome (G4); more passwords tried than there are places, among those reserved in one window (G6); a session without
//! its settled attempt, its audit entry or the end of the session before it (G9, G1).
//! Does not: an attempt that was reserved before a success and is hashed after it, which belongs to the window before.

mod account;

use edgekeep_shared::lockout::GuessPolicy;
use stateright::{Model, Property};

use crate::Sabotage;
pub use account::{Account, Attempt, Outcome};

/// Two places in a run; three failures in a row need an administrator.
pub const POLICY: GuessPolicy = GuessPolicy { guess_limit: 2, base_ms: 1, max_ms: 2, consecutive_failure_cap: 3 };
/// For how long a delivery owns its attempt, in ticks.
pub const OWNER_DEADLINE: u64 = 1;

/// How far a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// At a coordinator.
    Arrived,
    /// It has its place.
    Reserved,
    /// The password was tried.
    Hashed,
    /// Only with [`Sabotage::SettledApart`]: the session is there.
    Made(u8),
    /// Answered with an outcome.
    Answered(Outcome),
    /// Answered "locked": no outcome.
    Locked,
    /// Stopped, or answered "in flight".
    Gone,
}

/// One delivery of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delivery {
    /// The login: idempotency key and password.
    pub login: u8,
    /// How far it is.
    pub stage: Stage,
}

/// One state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// Coordinator time, in ticks.
    pub now: u64,
    /// The database.
    pub account: Account,
    /// All deliveries.
    pub deliveries: Vec<Delivery>,
    /// Numbers of the attempts whose password was tried.
    pub tried: Vec<(u64, u8)>,
    /// Attempts from this number on are of the present window.
    pub window_from: u64,
    /// Logins tried since the last success or the start of the window, by time; kept only where asked for.
    pub tried_since: Vec<u8>,
    /// A login with an outcome was answered "locked".
    pub replay_locked: bool,
}

/// What can happen.
#[allow(missing_docs)] // the fields are places in the world's lists, and the variants say what happens
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Time passes.
    Tick,
    /// A login is delivered, perhaps again.
    Deliver { login: u8 },
    /// Transaction one.
    Reserve(usize),
    /// The password is tried.
    Hash(usize),
    /// Transaction two.
    Settle(usize),
    /// It goes no further.
    Stop(usize),
}

/// The model.
pub struct Login {
    /// Whether each login's password is right.
    pub right: &'static [bool],
    /// How often each may be delivered.
    pub deliveries: u8,
    /// The last tick.
    pub horizon: u64,
    /// Also check G6 by when passwords are tried, not by when their places were reserved: see [`to_the_letter`].
    pub by_time: bool,
    /// What is broken.
    pub sabotage: Option<Sabotage>,
}

impl Login {
    pub(crate) fn broken(&self, how: Sabotage) -> bool {
        self.sabotage == Some(how)
    }

    fn step(&self, world: &mut World, op: Op) {
        match op {
            Op::Tick => world.now += 1,
            Op::Deliver { login } => world.deliveries.push(Delivery { login, stage: Stage::Arrived }),
            Op::Reserve(at) => {
                let login = world.deliveries[at].login;
                let stage = if self.broken(Sabotage::CheckBeforeCount) && world.account.find(login).is_none() {
                    Stage::Reserved
                } else {
                    self.reserve(world, login)
                };
                world.deliveries[at].stage = stage;
            }
            Op::Hash(at) => {
                let delivery = &mut world.deliveries[at];
                delivery.stage = Stage::Hashed;
                let seq = world.account.find(delivery.login).map_or(world.account.next_seq, |attempt| attempt.seq);
                world.tried.push((seq, delivery.login));
                if self.by_time && !world.tried_since.contains(&world.deliveries[at].login) {
                    world.tried_since.push(world.deliveries[at].login);
                    world.tried_since.sort_unstable();
                }
                world.tried.sort_unstable();
                world.tried.dedup();
            }
            Op::Settle(at) => {
                let made = world.account.made.len();
                world.deliveries[at].stage = self.settle(world, world.deliveries[at]);
                if world.account.made.len() > made {
                    world.tried_since.clear();
                }
            }
            Op::Stop(at) => world.deliveries[at].stage = Stage::Gone,
        }
        // Deliveries are alike: their order says nothing.
        world.deliveries.sort_unstable();
    }
}

impl Model for Login {
    type State = World;
    type Action = Op;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            now: 10,
            account: Account::default(),
            deliveries: vec![],
            tried: vec![],
            window_from: 1,
            tried_since: vec![],
            replay_locked: false,
        }]
    }

    fn actions(&self, world: &World, ops: &mut Vec<Op>) {
        if world.now < 10 + self.horizon {
            ops.push(Op::Tick);
        }
        for login in 0..self.right.len() as u8 {
            let so_far = world.deliveries.iter().filter(|delivery| delivery.login == login).count();
            if so_far < usize::from(self.deliveries) {
                ops.push(Op::Deliver { login });
            }
        }
        for (at, delivery) in world.deliveries.iter().enumerate() {
            match delivery.stage {
                Stage::Arrived => ops.push(Op::Reserve(at)),
                Stage::Reserved => ops.extend([Op::Hash(at), Op::Stop(at)]),
                Stage::Hashed | Stage::Made(_) => ops.extend([Op::Settle(at), Op::Stop(at)]),
                Stage::Answered(_) | Stage::Locked | Stage::Gone => {}
            }
        }
    }

    fn next_state(&self, world: &World, op: Op) -> Option<World> {
        let mut next = world.clone();
        self.step(&mut next, op);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = vec![
            Property::always("G1", |_, world: &World| world.account.sessions.len() <= 1),
            Property::always("G4", |_, world| once(world)),
            Property::always("G6", |_, world: &World| {
                world.tried.iter().filter(|(seq, _)| *seq >= world.window_from).count() <= POLICY.guess_limit as usize
            }),
            Property::always("G9", |_, world| whole(world)),
            Property::sometimes("a login succeeds", |_, world: &World| !world.account.made.is_empty()),
            Property::sometimes("the account is locked", |_, world: &World| {
                any(world, |stage| *stage == Stage::Locked)
            }),
        ];
        if self.right.iter().filter(|right| **right).count() > 1 {
            all.push(Property::sometimes("a takeover", |_, world: &World| !world.account.ended.is_empty()));
        }
        if self.by_time {
            all.push(Property::always("G6 by time", |_, world: &World| {
                world.tried_since.len() <= POLICY.guess_limit as usize
            }));
        }
        if self.deliveries > 1 {
            all.extend([
                Property::sometimes("a replay gets the outcome of another delivery", |_, world: &World| {
                    let answered =
                        |delivery: &&Delivery| matches!(delivery.stage, Stage::Answered(Outcome::Session(_)));
                    world.deliveries.iter().filter(answered).count() > world.account.made.len()
                }),
                Property::sometimes("an abandoned attempt is taken over", |_, world: &World| {
                    world.deliveries.iter().any(|stopped| {
                        stopped.stage == Stage::Gone
                            && world
                                .deliveries
                                .iter()
                                .any(|other| other.login == stopped.login && matches!(other.stage, Stage::Answered(_)))
                    })
                }),
            ]);
        }
        all
    }
}

fn any(world: &World, wanted: impl Fn(&Stage) -> bool) -> bool {
    world.deliveries.iter().any(|delivery| wanted(&delivery.stage))
}

/// G4.
fn once(world: &World) -> bool {
    let account = &world.account;
    let per_login = |login: u8| {
        let made = account.made.iter().filter(|(of, _)| *of == login).count();
        let counted = account.attempts.iter().filter(|attempt| attempt.login == login && attempt.counted).count();
        let mut outcomes =
            world.deliveries.iter().filter(|delivery| delivery.login == login).filter_map(|delivery| {
                if let Stage::Answered(outcome) = delivery.stage { Some(outcome) } else { None }
            });
        let first = outcomes.next();
        made <= 1 && counted <= 1 && outcomes.all(|other| Some(other) == first)
    };
    !world.replay_locked && world.deliveries.iter().all(|delivery| per_login(delivery.login))
}

/// G9: what was made is settled, written down, and the one before it has ended; and nothing else is there.
fn whole(world: &World) -> bool {
    let account = &world.account;
    let settled = account.attempts.iter().filter_map(|attempt| match attempt.outcome {
        Some(Outcome::Session(id)) => Some((attempt.login, id)),
        _ => None,
    });
    let mut settled: Vec<_> = settled.collect();
    let mut made = account.made.clone();
    settled.sort_unstable();
    made.sort_unstable();
    let current = made.iter().filter(|(_, id)| !account.ended.contains(id)).count();
    settled == made && account.audited == made.len() && current == account.sessions.len()
}

/// A right password and two wrong ones, each delivered twice.
#[must_use]
pub const fn small() -> Login {
    Login { right: &[true, false, false], deliveries: 2, horizon: 2, by_time: false, sabotage: None }
}

/// A right password beside three wrong ones, each delivered once: guesses under way while a success clears the count.
#[must_use]
pub const fn guesses() -> Login {
    Login { right: &[true, false, false, false], deliveries: 1, horizon: 2, by_time: false, sabotage: None }
}

/// Two right logins, on two devices, and a wrong one.
#[must_use]
pub const fn devices() -> Login {
    Login { right: &[true, true, false], deliveries: 2, horizon: 1, by_time: false, sabotage: None }
}

/// [`guesses`], counted by when passwords are tried: the letter of G6. Attempts that a success clears while they are
/// under way are then tried beside a full new run. (With time passing, so are attempts that were abandoned past their
/// owner's deadline and are hashed all the same; here no time passes.)
#[must_use]
pub const fn to_the_letter() -> Login {
    Login { by_time: true, horizon: 0, ..guesses() }
}
