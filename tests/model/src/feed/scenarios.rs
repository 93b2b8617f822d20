//! The small worlds that are explored whole. Each is about one thing; together they hold every event.

use edgekeep_shared::takeover::Takeover;

use super::world::Budget::{
    Abort, Ask, Check, Crash, Demote, Failover, Hold, Login, Logout, LogoutEverywhere, Lose, Read, RelayAsk,
    RelayRestart, Renew, Reset, Restart, Step,
};
use super::{Paged, Scenario};

const PLAIN: Scenario = Scenario {
    horizon: 2,
    bound_ms: 9_900,
    proof_ticks: 2,
    sessions_per_user: 1,
    edges: &[1_000],
    coordinators: 1,
    coordinator_rate: 1_000,
    relay_rate: 0,
    takeover: Takeover::NewestWins,
    budget: &[],
    lossy: false,
    paged: None,
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
        coordinator_rate: 990,
        budget: &[(Logout, 1), (Read, 1), (Restart, 1), (Ask, 2), (Lose, 1)],
        reached: &[
            "a session is accepted while every coordinator is down",
            "Allow, from memory",
            "Refresh",
            "AskCoordinator",
            "a question of the feed is lost",
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
            "a renewal pauses between reading and committing while the session ends",
            "a renewal pauses between committing and signing while the session ends",
            "Deny, the password was checked too long ago",
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
        budget: &[(Login, 2), (Failover, 1), (Read, 2), (Ask, 1), (Hold, 1)],
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
        budget: &[(Login, 1), (Read, 1), (Ask, 1), (Check, 1), (Lose, 1)],
        reached: &[
            "Allow, by the coordinator",
            "Deny, no session",
            "Unknown, since the question or its answer was lost",
        ],
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
        budget: &[(Login, 1), (Read, 1), (Ask, 2), (Hold, 1)],
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
        paged: Some(Paged::LongAgo),
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
        edges: &[990],
        coordinators: 2,
        coordinator_rate: 1_010,
        budget: &[(Logout, 1), (Read, 1), (Ask, 2), (Hold, 1)],
        reached: &["Allow, from memory"],
        ..PLAIN
    }
}

/// A transaction commits while the entries of later ones are loaded in pages.
#[must_use]
pub const fn late_commit() -> Scenario {
    Scenario {
        horizon: 1,
        budget: &[(Read, 2), (Ask, 3)],
        paged: Some(Paged::WhileOpen),
        reached: &["an answer goes on with another page"],
        ..PLAIN
    }
}

/// What a lossy failover lost is signed out everywhere, though nobody knows of it any more.
#[must_use]
pub const fn lost_everywhere() -> Scenario {
    Scenario {
        horizon: 1,
        budget: &[(Login, 1), (Logout, 1), (LogoutEverywhere, 1), (Failover, 1), (Read, 1), (Ask, 1)],
        lossy: true,
        reached: &["an edge follows into a new epoch"],
        ..PLAIN
    }
}

/// A second login is refused while there is a session.
#[must_use]
pub const fn refuse_second() -> Scenario {
    Scenario {
        horizon: 1,
        takeover: Takeover::RefuseSecond,
        budget: &[(Login, 2), (Logout, 1), (Read, 1), (Ask, 1)],
        reached: &["a login is refused beside a session", "Allow, from memory"],
        ..PLAIN
    }
}

/// Clocks of edges that are stepped back, and forward past every expiry.
#[must_use]
pub const fn steps() -> Scenario {
    Scenario {
        budget: &[(Logout, 1), (Read, 1), (Ask, 1), (Check, 1), (Step, 1)],
        reached: &["Allow, from memory", "Unknown, since the clock was stepped"],
        ..PLAIN
    }
}

/// A relay between the edge and a coordinator, every clock as slow as it may be.
#[must_use]
pub const fn relay() -> Scenario {
    Scenario {
        horizon: 2,
        bound_ms: 19_900,
        proof_ticks: 10,
        edges: &[990],
        coordinator_rate: 990,
        relay_rate: 990,
        budget: &[(Logout, 1), (Read, 1), (Ask, 1), (RelayAsk, 1)],
        reached: &["Allow, from memory"],
        ..PLAIN
    }
}

/// A relay hears twice before an edge asks it.
#[must_use]
pub const fn relayed() -> Scenario {
    Scenario {
        horizon: 1,
        budget: &[(Logout, 1), (Read, 1), (Ask, 1), (RelayAsk, 2)],
        relay_rate: 1_000,
        reached: &["Allow, from memory"],
        ..PLAIN
    }
}

/// A relay that restarts, between edges and two coordinators, of which one is behind the other.
#[must_use]
pub const fn relay_restarts() -> Scenario {
    Scenario {
        horizon: 1,
        coordinators: 2,
        budget: &[(Logout, 1), (Read, 1), (Ask, 2), (RelayAsk, 2), (RelayRestart, 1)],
        relay_rate: 1_000,
        reached: &[
            "Allow, from memory",
            "Allow, from memory, when a relay has restarted and heard again",
            "an answer to a relay ends behind it: another coordinator is further",
            "an answer to a relay starts past what it knows: it has restarted",
        ],
        ..PLAIN
    }
}

/// Every world, by its name.
#[must_use]
pub const fn all() -> [(&'static str, Scenario); 21] {
    [
        ("lease", lease()),
        ("held", held()),
        ("order", order()),
        ("renewals", renewals()),
        ("aborted_renewal", aborted_renewal()),
        ("upsert_after_logout", upsert(false)),
        ("upsert_after_login", upsert(true)),
        ("failover", failover(false)),
        ("lossy_failover", failover(true)),
        ("lost", lost()),
        ("lost_everywhere", lost_everywhere()),
        ("two_sessions", two_sessions()),
        ("checks", checks()),
        ("takeover", takeover()),
        ("pages", pages()),
        ("late_commit", late_commit()),
        ("refuse_second", refuse_second()),
        ("steps", steps()),
        ("relay", relay()),
        ("relayed", relayed()),
        ("relay_restarts", relay_restarts()),
    ]
}

/// The world of this name.
#[must_use]
pub fn named(name: &str) -> Option<Scenario> {
    all().into_iter().find(|(known, _)| *known == name).map(|(_, scenario)| scenario)
}
