//! What must hold of the login protocol in every state, what must be reachable, and the small worlds.

use edgekeep_shared::lockout::GuessPolicy;
use stateright::Property;

use super::{Delivery, Effect, Login, Order, Outcome, POLICY, Stage, World};

const fn order(effect: Effect, right: bool) -> Order {
    Order { effect, right }
}
const LOGIN: Order = order(Effect::Login, true);
const GUESS: Order = order(Effect::Login, false);
const EVERYWHERE: Order = order(Effect::LogoutEverywhere, true);
const CHANGE: Order = order(Effect::ChangePassword, true);

const PLAIN: Login = Login {
    policy: POLICY,
    orders: &[],
    deliveries: 2,
    kills: 1,
    losses: 1,
    horizon: 1,
    by_time: false,
    sabotage: None,
};

/// A right password and two wrong ones, each delivered twice.
#[must_use]
pub const fn small() -> Login {
    Login { orders: &[LOGIN, GUESS, GUESS], horizon: 2, kills: 1, losses: 0, ..PLAIN }
}

/// A right password beside three wrong ones, each delivered once: guesses under way while a success clears the count.
#[must_use]
pub const fn guesses() -> Login {
    Login { orders: &[LOGIN, GUESS, GUESS, GUESS], deliveries: 1, horizon: 2, kills: 1, losses: 0, ..PLAIN }
}

/// One guess in a run: three runs with the waits between them, after which an administrator must unlock.
#[must_use]
pub const fn runs() -> Login {
    Login { policy: GuessPolicy { guess_limit: 1, ..POLICY }, horizon: 4, kills: 0, ..guesses() }
}

/// Two right logins, on two devices, and a wrong one; a coordinator that is killed, a question or an answer that is lost.
#[must_use]
pub const fn devices() -> Login {
    Login { orders: &[LOGIN, LOGIN, GUESS], ..PLAIN }
}

/// A password change beside logins with the old password.
#[must_use]
pub const fn changes() -> Login {
    Login { orders: &[LOGIN, CHANGE, LOGIN], losses: 0, ..PLAIN }
}

/// Signing out everywhere beside a login and guesses.
#[must_use]
pub const fn everywhere() -> Login {
    Login { orders: &[LOGIN, EVERYWHERE, GUESS, GUESS], deliveries: 1, ..PLAIN }
}

/// [`guesses`], counted by when passwords are tried: the letter of G6. Attempts that a success clears while they are
/// under way are then tried beside a full new run. (With time passing, so are attempts that were abandoned past their
/// owner's deadline and are hashed all the same; here no time passes.)
#[must_use]
pub const fn to_the_letter() -> Login {
    Login { by_time: true, horizon: 0, ..guesses() }
}

/// The world of this name.
#[must_use]
pub fn named(name: &str) -> Option<Login> {
    match name {
        "small" => Some(small()),
        "guesses" => Some(guesses()),
        "runs" => Some(runs()),
        "devices" => Some(devices()),
        "changes" => Some(changes()),
        "everywhere" => Some(everywhere()),
        _ => None,
    }
}

pub(super) fn properties(login: &Login) -> Vec<Property<Login>> {
    let mut all = vec![
        Property::always("G1", |_, world: &World| world.account.sessions.len() <= 1),
        Property::always("G4", |_, world| once(world)),
        Property::always("G5", |_, world: &World| world.account.made.iter().all(|(_, _, current)| *current)),
        Property::always("G6", |login: &Login, world: &World| {
            guessed(world) <= world.run.places(&login.policy) as usize
        }),
        Property::always("G9", |_, world| whole(world)),
        Property::sometimes("a login succeeds", |_, world: &World| !world.account.made.is_empty()),
    ];
    let effect = |wanted| login.orders.iter().filter(|order| order.effect == wanted && order.right).count();
    let guesses = login.orders.iter().filter(|order| !order.right).count();
    if guesses as u32 >= login.policy.guess_limit {
        all.push(Property::sometimes("the account is locked", |_, world| any(world, |at| *at == Stage::Locked)));
    }
    if guesses as u32 >= login.policy.consecutive_failure_cap && login.horizon >= 3 {
        all.extend([
            Property::sometimes("a third run begins", |_, world: &World| world.run.before == 2),
            Property::sometimes("an administrator must unlock", |login: &Login, world: &World| {
                world.run.needs_administrator(&login.policy)
            }),
        ]);
    }
    if effect(Effect::Login) > 1 {
        all.push(Property::sometimes("a takeover", |_, world: &World| !world.account.ended.is_empty()));
    }
    if effect(Effect::LogoutEverywhere) > 0 {
        all.push(Property::sometimes("all sessions end at once", |_, world: &World| {
            !world.account.everywhere.is_empty() && !world.account.ended.is_empty()
        }));
    }
    if effect(Effect::ChangePassword) > 0 {
        all.extend([
            Property::sometimes("the password is changed", |_, world: &World| world.account.password_version > 0),
            Property::sometimes("a password change whose session has ended is withdrawn", |_, world| {
                any(world, |at| *at == Stage::Withdrawn)
            }),
            Property::sometimes("the old password was right when it was hashed, and is refused", |_, world: &World| {
                world.deliveries.iter().any(|one| one.order == 2 && one.stage == Stage::Answered(Outcome::Failed))
            }),
        ]);
    }
    if login.by_time {
        all.push(Property::always("G6 by time", |login: &Login, world: &World| {
            world.tried_since.len() <= login.policy.guess_limit as usize
        }));
    }
    if login.deliveries > 1 {
        all.extend([
            Property::sometimes("a replay gets the outcome of another delivery", |_, world: &World| {
                let answered = |delivery: &&Delivery| matches!(delivery.stage, Stage::Answered(Outcome::Session(_)));
                world.deliveries.iter().filter(answered).count() > world.account.made.len()
            }),
            Property::sometimes("an abandoned attempt is taken over", |_, world| {
                both(world, |at| *at == Stage::Gone, |at| matches!(at, Stage::Answered(_)))
            }),
        ]);
    }
    if login.deliveries > 1 && login.losses > 0 {
        all.extend([
            Property::sometimes("a lost question is sent again and does everything", |_, world| {
                both(world, |at| *at == Stage::Dropped, |at| matches!(at, Stage::Answered(Outcome::Session(_))))
            }),
            Property::sometimes("a lost answer is asked for again and does nothing", |_, world| {
                both(
                    world,
                    |at| matches!(at, Stage::Lost(Outcome::Session(_))),
                    |at| matches!(at, Stage::Answered(Outcome::Session(_))),
                )
            }),
        ]);
    }
    all
}

fn any(world: &World, wanted: impl Fn(&Stage) -> bool) -> bool {
    world.deliveries.iter().any(|delivery| wanted(&delivery.stage))
}

/// Two deliveries of one order are so.
fn both(world: &World, one: impl Fn(&Stage) -> bool, other: impl Fn(&Stage) -> bool) -> bool {
    world.deliveries.iter().any(|first| {
        one(&first.stage) && world.deliveries.iter().any(|second| second.order == first.order && other(&second.stage))
    })
}

/// G4.
fn once(world: &World) -> bool {
    let account = &world.account;
    let per_order = |order: u8| {
        let made = account.made.iter().filter(|(of, ..)| *of == order).count();
        let ended = account.everywhere.iter().filter(|of| **of == order).count();
        let counted = account.attempts.iter().filter(|attempt| attempt.order == order && attempt.counted).count();
        let mut outcomes = world.deliveries.iter().filter(|delivery| delivery.order == order).filter_map(|delivery| {
            match delivery.stage {
                Stage::Answered(outcome) | Stage::Lost(outcome) => Some(outcome),
                _ => None,
            }
        });
        let first = outcomes.next();
        made <= 1 && ended <= 1 && counted <= 1 && outcomes.all(|other| Some(other) == first)
    };
    !world.replay_locked && world.deliveries.iter().all(|delivery| per_order(delivery.order))
}

/// G6: passwords tried in this run, but for those that were right.
fn guessed(world: &World) -> usize {
    let was_right = |seq: u64| {
        let right = |outcome: Option<Outcome>| !matches!(outcome, None | Some(Outcome::Failed));
        world.account.attempts.iter().any(|attempt| attempt.seq == seq && right(attempt.outcome))
    };
    world.tried.iter().filter(|(seq, _)| *seq >= world.run.from_seq && !was_right(*seq)).count()
}

/// G9: what was done is settled, written down, and the session before it has ended; and nothing else is there.
fn whole(world: &World) -> bool {
    let account = &world.account;
    let outcomes = || account.attempts.iter().filter_map(|attempt| Some((attempt.order, attempt.outcome?)));
    let sorted = |mut all: Vec<(u8, u8)>| {
        all.sort_unstable();
        all
    };
    let settled = outcomes().filter_map(|(order, outcome)| match outcome {
        Outcome::Session(id) => Some((order, id)),
        Outcome::Failed | Outcome::Everywhere => None,
    });
    let made = account.made.iter().map(|(order, id, _)| (*order, *id));
    let everywhere = outcomes().filter(|(_, outcome)| *outcome == Outcome::Everywhere).count();
    let current = account.made.iter().filter(|(_, id, _)| !account.ended.contains(id)).count();
    sorted(settled.collect()) == sorted(made.collect())
        && everywhere == account.everywhere.len()
        && account.audited == outcomes().count()
        && current == account.sessions.len()
}
