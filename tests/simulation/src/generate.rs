//! Plans from seeds.

use edgekeep_op::{Op, Route};

use crate::op::{Plan, Setup, Timed};
use crate::relay::{AS_EDGE, RELAY};

/// A small world in which much goes wrong.
#[must_use]
pub fn small(seed: u64) -> Plan {
    let mut rng = fastrand::Rng::with_seed(seed);
    let pick = |rng: &mut fastrand::Rng, from: &[u32]| rng.choice(from).copied().unwrap_or(0);
    let edges = rng.u32(1..=4);
    let coordinators = rng.u8(1..=3);
    let users = rng.u32(1..=5);
    let setup = Setup {
        seed,
        edges,
        coordinators,
        relays: 0,
        users,
        bound_ms: pick(&mut rng, &[1_000, 2_000, 5_000]),
        proof_life_ms: u64::from(pick(&mut rng, &[3_000, 6_000, 20_000])),
        idle_timeout_ms: u64::from(pick(&mut rng, &[9_000, 30_000, 60_000])),
        absolute_timeout_ms: u64::from(pick(&mut rng, &[25_000, 120_000])),
        page_entries: pick(&mut rng, &[1, 2, 8]) as usize,
        short_route: rng.bool(),
        end_ms: 45_000,
    };
    // Some worlds are calm, some stormy.
    let (faults, changes) = (pick(&mut rng, &[0, 1, 4, 10]), pick(&mut rng, &[2, 5, 12]));
    let mut ops = vec![];
    let mut at_ms = 300;
    while at_ms < setup.end_ms - 2_000 {
        at_ms += u64::from(rng.u32(0..=60));
        let user = rng.u32(0..users);
        let (device, edge, coordinator) = (rng.u8(0..2), rng.u32(0..edges), rng.u8(0..coordinators));
        let route = *rng
            .choice(&[Route::Session, Route::Session, Route::Short, Route::Admin, Route::Strict])
            .unwrap_or(&Route::Session);
        let dice = rng.u32(0..100);
        if dice < faults && rng.u8(0..6) == 0 {
            ops.extend(episode(&mut rng, at_ms, user, edge, &setup));
            continue;
        }
        let op = if dice < faults {
            fault(&mut rng, edge, coordinator, &setup)
        } else if dice < faults + changes {
            match rng.u8(0..20) {
                0..=8 => Op::Login { user, device, edge },
                9..=11 => Op::Logout { user, device, edge },
                12 => Op::Guess { user, edge },
                13 => Op::LogoutEverywhere { user, edge },
                14 => Op::ChangePassword { user, device, edge },
                15 => Op::Disable { user, disabled: true },
                16..=17 => Op::Disable { user, disabled: false },
                _ => Op::Role { user, admin: rng.bool() },
            }
        } else if rng.u8(0..3) == 0 {
            Op::Replay { user, back: rng.u8(0..4), edge, route }
        } else {
            Op::Request { user, device, edge, route }
        };
        ops.push(Timed { at_ms, op });
    }
    ops.sort_by_key(|timed| timed.at_ms);
    let mut plan = Plan { story: String::new(), sabotage: None, setup, ops };
    put_relay_between(&mut plan);
    plan
}

/// Every third world has a relay, which takes half of the faults of links and coordinators. It has dice of its own, so that
/// the other worlds are as they were before there were relays.
fn put_relay_between(plan: &mut Plan) {
    let mut rng = fastrand::Rng::with_seed(plan.setup.seed ^ 0x0072_656c_6179);
    if rng.u8(0..3) != 0 {
        return;
    }
    plan.setup.relays = 1;
    for timed in &mut plan.ops {
        let upstream = rng.bool();
        if rng.bool() {
            continue;
        }
        match &mut timed.op {
            Op::DropRequest { edge, coordinator }
            | Op::DropResponse { edge, coordinator }
            | Op::DelayRequest { edge, coordinator, .. }
            | Op::DelayResponse { edge, coordinator, .. }
            | Op::Duplicate { edge, coordinator, .. }
            | Op::Cut { edge, coordinator, .. } => {
                if upstream {
                    *edge = AS_EDGE;
                } else {
                    *coordinator = RELAY;
                }
            }
            Op::Restart { coordinator } | Op::Pause { coordinator, .. } => *coordinator = RELAY,
            _ => {}
        }
    }
}

/// Faults that only matter together, and that chance alone would seldom bring together.
fn episode(rng: &mut fastrand::Rng, at_ms: u64, user: u32, edge: u32, setup: &Setup) -> Vec<Timed> {
    let device = rng.u8(0..2);
    let mut ops = vec![];
    let mut after_ms = 0;
    let mut then = |ms: u64, op: Op| {
        after_ms += ms;
        ops.push(Timed { at_ms: at_ms + after_ms, op });
    };
    match rng.u8(0..3) {
        // Ids that were given out, seen, and forgotten in a crash, after which they are given out again.
        0 => {
            for _ in 0..rng.u8(1..5) {
                then(1, Op::Abort);
                then(0, Op::Role { user, admin: rng.bool() });
                then(rng.u64(3..6), Op::Role { user, admin: rng.bool() });
            }
            for _ in 0..rng.u8(2..6) {
                then(1, Op::Abort);
                then(0, Op::Disable { user, disabled: false });
                then(2, Op::Abort);
            }
            then(rng.u64(2..60), Op::CrashDatabase);
            for user in 0..setup.users {
                then(rng.u64(0..8), Op::Disable { user, disabled: true });
                then(rng.u64(0..3), Op::Disable { user, disabled: false });
            }
        }
        // A view that is loaded in pages, and reset while a page is on its way.
        1 => {
            for user in 0..setup.users {
                then(rng.u64(0..8), Op::LogoutEverywhere { user, edge });
            }
            then(rng.u64(60..200), Op::ResetView { edge });
            for _ in 0..2 {
                then(rng.u64(0..12), Op::Request { user, device, edge, route: Route::Session });
                for coordinator in 0..setup.coordinators {
                    then(0, Op::DelayResponse { edge, coordinator, ms: rng.u32(100..900) });
                }
                then(rng.u64(1..300), Op::ResetView { edge });
            }
        }
        // A commit that comes late while the others' entries are loaded in pages.
        _ => {
            then(0, Op::HoldCommit { ms: rng.u32(20..600) });
            then(1, Op::LogoutEverywhere { user, edge });
            then(45, Op::ResetView { edge });
            for other in (0..setup.users).filter(|other| *other != user) {
                then(rng.u64(0..8), Op::Role { user: other, admin: rng.bool() });
            }
            then(rng.u64(0..40), Op::Request { user, device, edge, route: Route::Session });
            for coordinator in 0..setup.coordinators {
                then(0, Op::DelayResponse { edge, coordinator, ms: rng.u32(10..600) });
            }
        }
    }
    ops
}

fn fault(rng: &mut fastrand::Rng, edge: u32, coordinator: u8, setup: &Setup) -> Op {
    let ms = if rng.bool() { rng.u32(1..300) } else { rng.u32(1..setup.bound_ms * 2) };
    match rng.u8(0..32) {
        0..=2 => Op::DropRequest { edge, coordinator },
        3..=5 => Op::DropResponse { edge, coordinator },
        6..=7 => Op::DelayRequest { edge, coordinator, ms },
        8..=11 => Op::DelayResponse { edge, coordinator, ms },
        12 => Op::Duplicate { edge, coordinator, ms },
        13..=15 => Op::Cut { edge, coordinator, ms },
        16..=17 => Op::Evict { edge },
        18..=19 => Op::ResetView { edge },
        20 => Op::StepBack { edge, ms },
        21 => Op::StepForward { edge, ms },
        22 => Op::Restart { coordinator },
        23..=24 => Op::Pause { coordinator, ms },
        25..=28 => Op::HoldCommit { ms: ms / 2 },
        29 => Op::Abort,
        30 => Op::CrashDatabase,
        _ => Op::Failover { stays: coordinator, ms: ms * 3 },
    }
}
