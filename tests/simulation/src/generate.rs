//! Plans from seeds.

use crate::op::{Op, Plan, Route, Setup, Timed};

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
        let op = if dice < faults {
            fault(&mut rng, edge, coordinator, &setup)
        } else if dice < faults + changes {
            match rng.u8(0..20) {
                0..=8 => Op::Login { user, device, edge },
                9..=12 => Op::Logout { user, device, edge },
                13..=14 => Op::LogoutEverywhere { user, edge },
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
    Plan { story: String::new(), sabotage: None, setup, ops }
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
        21..=22 => Op::Restart { coordinator },
        23..=24 => Op::Pause { coordinator, ms },
        25..=28 => Op::HoldCommit { ms: ms / 2 },
        29 => Op::Abort,
        30 => Op::CrashDatabase,
        _ => Op::Failover { stays: coordinator, ms: ms * 3 },
    }
}
