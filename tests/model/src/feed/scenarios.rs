//! The small worlds that are explored whole. Each is about one thing; together they hold every event.

use super::Scenario;
use super::world::Budget::{
    Abort, Ask, Check, Crash, Demote, Failover, Hold, Login, Logout, Read, Renew, Reset, Restart,
};

const PLAIN: Scenario = Scenario {
    horizon: 2,
    bound_ms: 9_900,
    proof_ticks: 2,
    sessions_per_user: 1,
    edges: &[1_000],
    coordinators: 1,
    budget: &[],
    lossy: false,
    paged: false,
    beats_apart: false,
    reached: &[],
};

/// Delay, loss, repetition and age of answers, on a clock that runs slow; coordinators that restart; a view that is reset.
#[must_use]
pub const fn lease() -> Scenario {
    Scenario {
        horizon: 3,
        bound_ms: 19_900,
        proof_ticks: 10,
        edges: &[990],
        budget: &[(Logout, 1), (Read, 1), (Restart, 1), (Ask, 2)],
        reached: &[
            "a session is accepted while every coordinator is down",
            "Allow, from memory",
            "Refresh",
            "AskCoordinator",
        ],
        ..PLAIN
    }
}

/// Transactions that commit late, are rolled back or lost in a crash that hands their ids out again.
#[must_use]
pub const fn order() -> Scenario {
    Scenario {
        horizon: 1,
        budget: &[(Logout, 2), (Abort, 1), (Crash, 1), (Read, 2), (Ask, 2)],
        beats_apart: true,
        reached: &["Allow, from memory"],
        ..PLAIN
    }
}

/// Renewals that pause anywhere, beside logins, sign-outs and role changes; entries that are pruned. The clock runs fast.
#[must_use]
pub const fn renewals() -> Scenario {
    Scenario {
        horizon: 3,
        edges: &[1_010],
        budget: &[(Logout, 1), (Demote, 1), (Renew, 1), (Read, 1), (Ask, 1)],
        reached: &[
            "a role change lands without a login",
            "a renewal pauses between read and sign while the session ends",
            "Renew",
            "Deny, forbidden",
        ],
        ..PLAIN
    }
}

/// A standby is promoted while one coordinator stays with the old primary; the standby may have lost the last transaction.
#[must_use]
pub const fn failover(lossy: bool) -> Scenario {
    Scenario {
        horizon: 1,
        coordinators: 2,
        budget: &[(Login, 2), (Failover, 1), (Read, 2), (Ask, 1)],
        lossy,
        reached: &["an edge follows into a new epoch"],
        ..PLAIN
    }
}

/// What a lossy failover lost is revoked with the next login, for as long as its proof lives; entries are pruned.
#[must_use]
pub const fn lost() -> Scenario {
    Scenario {
        budget: &[(Login, 2), (Failover, 1), (Read, 1), (Ask, 1)],
        lossy: true,
        reached: &["an edge follows into a new epoch"],
        ..PLAIN
    }
}

/// Two sessions at once, which end one after the other, the newer one first; entries are pruned.
#[must_use]
pub const fn two_sessions() -> Scenario {
    Scenario {
        horizon: 3,
        sessions_per_user: 2,
        budget: &[(Login, 1), (Logout, 2), (Read, 1), (Ask, 1)],
        reached: &["Allow, from memory", "Renew"],
        ..PLAIN
    }
}

/// Strict routes, renewals in line: what a coordinator said about a session, under way for any time.
#[must_use]
pub const fn checks() -> Scenario {
    Scenario {
        edges: &[990, 1_010],
        budget: &[(Login, 1), (Read, 1), (Ask, 1), (Check, 1)],
        reached: &["Allow, by the coordinator", "Deny, no session", "Unknown"],
        ..PLAIN
    }
}

/// Two edges whose clocks run apart, two coordinators, the devices taking over from each other.
#[must_use]
pub const fn takeover() -> Scenario {
    Scenario {
        edges: &[990, 1_010],
        horizon: 1,
        coordinators: 2,
        budget: &[(Login, 1), (Read, 1), (Ask, 2)],
        reached: &["a takeover lands everywhere"],
        ..PLAIN
    }
}

/// Answers in pages, from two coordinators, to a view that may be reset between them.
#[must_use]
pub const fn pages() -> Scenario {
    Scenario {
        horizon: 1,
        coordinators: 2,
        budget: &[(Login, 1), (Read, 1), (Ask, 2), (Reset, 1)],
        paged: true,
        reached: &["an answer goes on with another page"],
        ..PLAIN
    }
}

/// Like [`renewals`], with a renewal that is rolled back.
#[must_use]
pub const fn aborted_renewal() -> Scenario {
    Scenario {
        horizon: 2,
        budget: &[(Logout, 1), (Abort, 1), (Renew, 1), (Read, 1), (Ask, 1)],
        reached: &["Allow, from memory"],
        ..PLAIN
    }
}

/// A session that ends while its renewal waits for the lock, by a sign-out or by a login.
#[must_use]
pub const fn upsert(login: bool) -> Scenario {
    Scenario {
        budget: if login { &[(Login, 1), (Renew, 1)] } else { &[(Logout, 1), (Renew, 1)] },
        reached: &[],
        ..PLAIN
    }
}

/// A question that a coordinator keeps waiting.
#[must_use]
pub const fn held() -> Scenario {
    Scenario {
        horizon: 3,
        bound_ms: 19_900,
        proof_ticks: 10,
        edges: &[1_010],
        coordinators: 2,
        budget: &[(Logout, 1), (Read, 1), (Ask, 1), (Hold, 1)],
        reached: &["Allow, from memory"],
        ..PLAIN
    }
}
