//! The figures S1 to S12 with their goals: what is measured, and what is not, is said of each.

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// Told beside the others; no goal of its own.
    Told,
}

impl Goal {
    /// The goal is met by this value; `None` where there is none.
    #[must_use]
    pub fn met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtLeast(least) => Some(value >= least),
            Self::AtMost(most) => Some(value <= most),
            Self::Told => None,
        }
    }

    /// For people.
    #[must_use]
    pub fn shown(self) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {least}"),
            Self::AtMost(most) => format!("≤ {most}"),
            Self::Told => String::new(),
        }
    }
}

/// One figure.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Its name, unique.
    pub id: &'static str,
    /// What it is.
    pub what: &'static str,
    /// In what; empty for a ratio.
    pub unit: &'static str,
    /// What it should be.
    pub goal: Goal,
    /// Which benchmark measures it.
    pub bench: &'static str,
}

const fn figure(id: &'static str, bench: &'static str, what: &'static str, unit: &'static str, goal: Goal) -> Figure {
    Figure { id, what, unit, goal, bench }
}

use Goal::{AtLeast, AtMost, Told};

/// All of them, in the order of the report.
pub const ALL: &[Figure] = &[
    figure("S1", "edge", "request answered by a worker behind the gate ÷ JavaScript hello world", "", AtLeast(0.90)),
    figure("S1-door", "edge", "`GET /auth/session` (JSON of the session) ÷ JavaScript hello world", "", Told),
    figure("S2-jose", "edge", "request answered by a worker behind the gate ÷ `jose` worker", "", AtLeast(1.6)),
    figure("S2-ceiling", "edge", "JavaScript hello world ÷ `jose` worker: the most that S2-jose can be", "", Told),
    figure("S2-iron", "edge", "the same ÷ `iron-session` worker", "", Told),
    figure("S2-central", "edge", "the same ÷ central-session worker on loopback", "", AtLeast(2.5)),
    figure("S2-latency", "edge", "median latency, central-session worker at 20 ms ÷ ours", "", AtLeast(10.0)),
    figure(
        "S3",
        "edge",
        "gateway pass-through with full check ÷ JavaScript pass-through without any",
        "",
        AtLeast(0.90),
    ),
    figure("S3-1mb", "edge", "the same with 1 MB answers", "", AtLeast(0.95)),
    figure("S3-1mb-up", "edge", "the same with 1 MB uploads", "", AtLeast(0.95)),
    figure(
        "S4",
        "core",
        "in wasm: cookie parse + verify + look-up among 1,000,000 ÷ bare HMAC of the same bytes",
        "",
        AtMost(1.5),
    ),
    figure("S4-gate", "core", "in wasm: the same with the whole gate decision ÷ bare HMAC", "", Told),
    figure("S5-bytes", "core", "memory per revocation at 1,000,000", "bytes", AtMost(16.0)),
    figure("S5-sync", "core", "cold sync of 1,000,000 in wasm: decode and merge", "s of CPU", AtMost(1.0)),
    figure(
        "S5-network",
        "feed",
        "cold sync of 1,000,000 from a coordinator to an edge, over loopback",
        "s",
        AtMost(1.0),
    ),
    figure("S5-peak", "core", "wasm memory's peak while syncing ÷ the view", "", AtMost(1.5)),
    figure("S6-size", "edge", "the edge's wasm, gzip", "kB", AtMost(100.0)),
    figure("S6-start", "edge", "isolate start-up CPU ÷ a Rust hello world's", "", AtMost(2.0)),
    figure("S6-start-js", "edge", "isolate start-up CPU ÷ a JavaScript hello world's", "", Told),
    figure("S7", "login", "logins per second ÷ raw argon2 per second on the same cores", "", AtLeast(0.95)),
    figure("S7-latency", "login", "median login latency at 1 client ÷ one hash", "", AtMost(1.15)),
    figure("S8", "login", "offered 10 × the capacity of logins: goodput ÷ peak", "", AtLeast(0.9)),
    figure("S8-edge", "login", "edge checks meanwhile ÷ unloaded", "", AtLeast(0.8)),
    figure("S8-strict", "login", "strict checks meanwhile ÷ unloaded", "", AtLeast(0.8)),
    figure("S8-renew", "login", "renewals (that write) meanwhile ÷ unloaded", "", AtLeast(0.8)),
    figure("S8-memory", "login", "the coordinator's peak memory in the overload", "MB", Told),
    figure("S9-tower", "sessions", "strict checks per second ÷ tower-sessions + axum-login look-ups", "", AtLeast(1.5)),
    figure(
        "S9-tower-renew",
        "sessions",
        "renewals per second ÷ tower-sessions + axum-login look-ups",
        "",
        AtLeast(1.5),
    ),
    figure(
        "S9-better",
        "sessions",
        "strict checks per second ÷ Better Auth get-session without cache",
        "",
        AtLeast(10.0),
    ),
    figure(
        "S9-better-cache",
        "sessions",
        "strict checks per second ÷ Better Auth get-session with its cookie cache",
        "",
        Told,
    ),
    figure(
        "S9-tower-64",
        "sessions",
        "strict checks per second ÷ tower-sessions look-ups, 64 at a time instead of 8",
        "",
        AtLeast(1.5),
    ),
    figure("S9-tower-renew-64", "sessions", "renewals per second ÷ the same, 64 at a time", "", AtLeast(1.5)),
    figure("S9-better-64", "sessions", "strict checks per second ÷ Better Auth, 64 at a time", "", AtLeast(10.0)),
    figure(
        "S9-tower-renew-writes",
        "sessions",
        "renewals that write per second ÷ tower-sessions look-ups",
        "",
        AtLeast(1.5),
    ),
    figure("S9-tower-renew-writes-64", "sessions", "the same, 64 at a time", "", AtLeast(1.5)),
    figure("S9-select", "sessions", "strict checks per second ÷ bare SELECT by primary key over HTTP", "", Told),
    figure("S9-pgbench", "sessions", "strict checks per second ÷ pgbench's SELECT by primary key", "", Told),
    figure("S10", "feed", "feed polls per second ÷ an axum hello world", "", AtLeast(0.7)),
    figure("S10-bytes", "feed", "bytes of an idle poll's body", "bytes", AtMost(100.0)),
    figure("S10-flat", "feed", "cost of an idle poll at 1,000,000 retained entries ÷ at 1,000", "", AtMost(1.1)),
    figure("S11-p50", "propagation", "revoke to last accept, 3 edges at half load: p50", "ms", AtMost(5.0)),
    figure("S11-p99", "propagation", "revoke to last accept: p99", "ms", AtMost(50.0)),
    figure("S11-max", "propagation", "revoke to last accept: max", "ms", Told),
    figure(
        "S11-beyond",
        "propagation",
        "revocations after which a request was accepted beyond the bound",
        "",
        AtMost(0.0),
    ),
    figure(
        "S11-relay-p50",
        "propagation",
        "the same with a relay in between and 1,000 other polls held at the coordinator: p50",
        "ms",
        AtMost(5.0),
    ),
    figure("S11-relay-p99", "propagation", "the same: p99", "ms", AtMost(50.0)),
    figure("S11-relay-max", "propagation", "the same: max", "ms", Told),
    figure(
        "S11-relay-beyond",
        "propagation",
        "the same: revocations after which a request was accepted beyond the bound",
        "",
        AtMost(0.0),
    ),
    figure(
        "S12",
        "users",
        "coordinator CPU (with Postgres) per active user per hour at 1,000, 100,000 and 1,000,000 users: largest ÷ smallest",
        "",
        AtMost(1.1),
    ),
    figure("S12-coordinator", "users", "the coordinator's own share of it: largest ÷ smallest", "", Told),
    figure("S12-postgres", "users", "Postgres's share of it: largest ÷ smallest", "", Told),
    figure("S12-cost", "users", "CPU per active user per hour at 1,000,000 users", "ms", Told),
    figure("S12-standing", "users", "CPU per hour of a deployment that only polls, at 1,000,000 users", "s", Told),
];

/// The figure of this name.
#[must_use]
pub fn named(id: &str) -> Option<&'static Figure> {
    ALL.iter().find(|figure| figure.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_goals_are_met_on_the_right_side() {
        for (at, figure) in ALL.iter().enumerate() {
            assert!(ALL[at + 1..].iter().all(|other| other.id != figure.id), "{}", figure.id);
        }
        assert_eq!(AtLeast(0.9).met(0.9), Some(true));
        assert_eq!(AtLeast(0.9).met(0.89), Some(false));
        assert_eq!(AtMost(0.0).met(1.0), Some(false));
        assert_eq!(Told.met(1.0), None);
    }
}
