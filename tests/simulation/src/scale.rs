//! One large world without faults: what a deployment of this size costs, and how fast revocations reach it.

use std::fmt;

use edgekeep_op::{Op, Route};

use crate::checker::Violation;
use crate::op::{Setup, Timed};
use crate::report::Stats;
use crate::{Log, World};

/// A large world.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// For everything by chance.
    pub seed: u64,
    /// How many edges.
    pub edges: u32,
    /// How many coordinators.
    pub coordinators: u8,
    /// How many users; all sign in at the beginning.
    pub users: u32,
    /// How long it is watched after that.
    pub seconds: u32,
    /// Requests per second.
    pub requests_per_s: u32,
    /// Logins, sign-outs and other changes per second.
    pub changes_per_s: u32,
}

/// Sessions are begun at this rate before anything is measured.
const LOGINS_PER_MS: u32 = 4;

/// What was seen.
#[derive(Debug)]
pub struct Report {
    load: Load,
    stats: Stats,
    /// From the end of a session to the last request that passed with it, in microseconds, sorted.
    last_accepts_us: Vec<u64>,
    ramp_ms: u64,
    /// A broken guarantee.
    pub found: Option<Violation>,
}

/// The ops of a load, made as they are needed.
struct Ops {
    rng: fastrand::Rng,
    load: Load,
    signed_in: u32,
    at_us: u64,
    /// Requests that still follow a revocation: the stolen cookie, on many edges.
    probes: std::collections::BTreeSet<(u64, u64, u32)>,
    number: u64,
    end_us: u64,
}

impl Iterator for Ops {
    type Item = Timed;

    fn next(&mut self) -> Option<Timed> {
        let Load { users, edges, requests_per_s, changes_per_s, .. } = self.load;
        if self.signed_in < users {
            let user = self.signed_in;
            self.signed_in += 1;
            self.at_us = 500_000 + u64::from(user / LOGINS_PER_MS) * 1_000;
            return Some(Self::timed(self.at_us, Op::Login { user, device: 0, edge: user % edges }));
        }
        if let Some(probe) = self.probes.first().copied().filter(|probe| probe.0 <= self.at_us) {
            self.probes.pop_first();
            let edge = self.rng.u32(0..edges);
            return Some(Self::timed(probe.0, Op::Replay { user: probe.2, back: 0, edge, route: Route::Session }));
        }
        let per_s = u64::from(requests_per_s + changes_per_s).max(1);
        self.at_us += 1 + self.rng.u64(0..2_000_000 / per_s);
        if self.at_us > self.end_us {
            return None;
        }
        let user = self.rng.u32(0..users);
        // People stay with an edge near to them, mostly.
        let edge = if self.rng.u8(0..8) == 0 { self.rng.u32(0..edges) } else { user % edges };
        let device = 0;
        if self.rng.u32(0..requests_per_s + changes_per_s) >= changes_per_s {
            let route = if self.rng.u8(0..50) == 0 { Route::Strict } else { Route::Session };
            return Some(Self::timed(self.at_us, Op::Request { user, device, edge, route }));
        }
        let op = match self.rng.u8(0..10) {
            0..=3 => Op::Logout { user, device, edge },
            4..=6 => Op::LogoutEverywhere { user, edge },
            7..=8 => Op::Login { user, device, edge },
            _ => Op::Role { user, admin: self.rng.bool() },
        };
        if matches!(op, Op::Logout { .. } | Op::LogoutEverywhere { .. }) {
            for probe in 0..40 {
                self.number += 1;
                // Dense around the moment of the revocation, then sparser.
                let after_us = 30_000 + self.rng.u64(0..if probe < 30 { 100_000 } else { 6_000_000 });
                self.probes.insert((self.at_us + after_us, self.number, user));
            }
        }
        Some(Self::timed(self.at_us, op))
    }
}

impl Ops {
    const fn timed(at_us: u64, op: Op) -> Timed {
        Timed { at_ms: at_us / 1_000, op }
    }
}

/// Plays it.
#[must_use]
pub fn play(load: &Load) -> Report {
    let ramp_ms = 500 + u64::from(load.users / LOGINS_PER_MS);
    let end_ms = ramp_ms + u64::from(load.seconds) * 1_000;
    let setup = Setup {
        seed: load.seed,
        edges: load.edges,
        coordinators: load.coordinators,
        relays: 0,
        users: load.users,
        bound_ms: 5_000,
        proof_life_ms: 300_000,
        idle_timeout_ms: 3_600_000,
        absolute_timeout_ms: 86_400_000,
        page_entries: 8_192,
        short_route: false,
        end_ms: end_ms + 8_000,
    };
    let ops = Ops {
        rng: fastrand::Rng::with_seed(load.seed),
        load: *load,
        signed_in: 0,
        at_us: 0,
        probes: std::collections::BTreeSet::new(),
        number: 0,
        end_us: end_ms * 1_000,
    };
    let mut world = World::new(&setup, None, Log::default());
    world.measure_from_ms(ramp_ms);
    let found = world.run(ops);
    let (stats, last_accepts_us) = world.into_report();
    Report { load: *load, stats, last_accepts_us, ramp_ms, found }
}

impl Report {
    fn last_accept_ms(&self, share: f64) -> f64 {
        let at = ((self.last_accepts_us.len() as f64 * share).ceil() as usize).saturating_sub(1);
        self.last_accepts_us.get(at).copied().unwrap_or(0) as f64 / 1_000.0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Load { edges, coordinators, users, seconds, .. } = self.load;
        let per_s = |count: u64| count as f64 / f64::from(seconds.max(1));
        let stats = &self.stats;
        writeln!(
            f,
            "{edges} edges, {coordinators} coordinators, {users} users, {seconds} s after a ramp of {} s",
            self.ramp_ms / 1_000
        )?;
        writeln!(
            f,
            "end of a session to the last request that passed with it ({} sessions, each probed 40 times): p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            self.last_accepts_us.len(),
            self.last_accept_ms(0.5),
            self.last_accept_ms(0.99),
            self.last_accept_ms(1.0),
        )?;
        writeln!(
            f,
            "raise to its arrival at an edge ({} raises, {} arrivals): p50 {} ms, p99 {} ms, max {} ms",
            stats.raises,
            stats.arrivals.iter().sum::<u64>(),
            stats.arrival_ms(0.5),
            stats.arrival_ms(0.99),
            stats.arrival_ms(1.0),
        )?;
        writeln!(
            f,
            "feed on all coordinators: {:.0} polls/s, {:.1} kB/s in, {:.1} kB/s out (bodies), {:.1} reads/s of the database",
            per_s(stats.polls),
            per_s(stats.poll_bytes) / 1e3,
            per_s(stats.answer_bytes) / 1e3,
            per_s(stats.reads),
        )?;
        writeln!(
            f,
            "people's requests: {:.0}/s; of each, in line: {:.5} refreshes, {:.5} checks, {:.5} renewals",
            per_s(stats.own),
            stats.own_refreshes as f64 / stats.own.max(1) as f64,
            stats.own_checks as f64 / stats.own.max(1) as f64,
            stats.own_renewals as f64 / stats.own.max(1) as f64,
        )?;
        write!(
            f,
            "{}; {}",
            stats.summary(),
            self.found.as_ref().map_or("nothing found".to_owned(), |found| format!("{found:?}"))
        )
    }
}
