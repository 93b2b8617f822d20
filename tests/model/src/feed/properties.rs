//! What must hold in every state, and what must be reachable.
//!
//! - **G1** Postgres never has more current sessions of the user than are allowed: one, and in one world two.
//! - **G2** No edge accepts a session, or a role, later than the bound after its end became visible: from memory, or by
//!   what a coordinator said.
//! - **G3** A strict route is never decided from memory; what a coordinator said of a session that had ended before it
//!   was asked lets nobody in.
//! - **G5** A session that has ended is never current again.
//! - **G8** No edge says "no session" of a session that is current, and a view that is not loaded accepts nothing.

use edgekeep_op::Route;
use edgekeep_shared::gate::{Decision, Denial, How, Passage};
use edgekeep_shared::verdict::Verdict;
use edgekeep_shared::view::Why;
use stateright::Property;

use super::Feed;
use super::check::{Check, Said};
use super::edge::{Edge, decision};
use super::renew::Stage;
use super::world::{Budget, Proof, World};

/// The guarantees.
#[must_use]
pub fn always() -> Vec<Property<Feed>> {
    vec![
        Property::always("G1", |feed: &Feed, world: &World| {
            world.db.rows.sessions.len() <= feed.scenario.sessions_per_user as usize
        }),
        Property::always("G2", bounded),
        Property::always("G3", strict),
        Property::always("G5", |_, world: &World| {
            let told = |id: u8| {
                let over = |check: &Check| matches!(check.said, Said::Verdict(_, _, Verdict::Ended(_)));
                world.checks.iter().any(|check| check.proof.session == id && over(check))
            };
            world.db.rows.sessions.iter().all(|session| !world.gone_ms.contains_key(&session.id) && !told(session.id))
        }),
        Property::always("G8", closed),
    ]
}

/// What a scenario may name as `reached`.
#[must_use]
pub fn sometimes() -> Vec<Property<Feed>> {
    vec![
        Property::sometimes("a session is accepted while every coordinator is down", |feed, world: &World| {
            world.feeders.iter().all(super::feeder::Feeder::is_down) && any_local(feed, world, |_, _| true)
        }),
        Property::sometimes("a role change lands without a login", |feed, world: &World| {
            world.spent(Budget::Login) == 0 && any_local(feed, world, |proof, _| !proof.admin && proof.user == 1)
        }),
        Property::sometimes("a takeover lands everywhere", |feed, world: &World| {
            world.gone_ms.contains_key(&1)
                && world.edges.iter().all(|edge| {
                    world.proofs.iter().any(|proof| proof.session == 2 && local(feed, world, edge, proof).is_some())
                })
        }),
        Property::sometimes("a renewal pauses between reading and committing while the session ends", |_, world| {
            paused(world, |stage| *stage == Stage::ToRaise)
        }),
        Property::sometimes("a renewal pauses between committing and signing while the session ends", |_, world| {
            paused(world, |stage| matches!(stage, Stage::ToSign(_)))
        }),
        Property::sometimes("a login is refused beside a session", |_, world: &World| {
            world.spent(Budget::Login) > 0 && world.db.open.is_none() && world.db.session(1).is_some()
        }),
        Property::sometimes("a question of the feed is lost", |_, world: &World| {
            world.spent(Budget::Lose) > 0 && world.edges.iter().all(|edge| edge.air.is_empty())
        }),
        Property::sometimes("an edge follows into a new epoch", |feed, world: &World| {
            any_local(feed, world, |_, edge| edge.memory.view().epoch() == 2)
        }),
        Property::sometimes("an answer goes on with another page", |_, world: &World| {
            world.edges.iter().any(|edge| edge.memory.view().is_paging())
        }),
        Property::sometimes(
            "an answer to a relay ends behind it: another coordinator is further",
            |_, world: &World| world.relay.as_ref().is_some_and(|relay| relay.would_drop(Why::Behind)),
        ),
        Property::sometimes("an answer to a relay starts past what it knows: it has restarted", |_, world: &World| {
            world.relay.as_ref().is_some_and(|relay| relay.would_drop(Why::Gap))
        }),
        Property::sometimes("Allow, from memory, when a relay has restarted and heard again", |feed, world: &World| {
            world.spent(Budget::RelayRestart) > 0
                && any_local(feed, world, |_, _| true)
                && world.relay.as_ref().is_some_and(|relay| !relay.is_down())
        }),
        Property::sometimes("Allow, from memory", |feed, world| any_local(feed, world, |_, _| true)),
        Property::sometimes("Allow, by the coordinator", |feed, world| {
            checked(
                feed,
                world,
                |_, decided| matches!(decided, Decision::Allow(passage) if passage.how == How::Coordinator),
            )
        }),
        Property::sometimes("Renew", |feed, world| some(feed, world, Route::Session, |d| *d == Decision::Renew)),
        Property::sometimes("Refresh", |feed, world| some(feed, world, Route::Session, |d| *d == Decision::Refresh)),
        Property::sometimes("AskCoordinator", |feed, world| {
            some(feed, world, Route::Strict, |d| *d == Decision::AskCoordinator)
        }),
        Property::sometimes("Deny, no session", |feed, world| {
            checked(feed, world, |_, d| matches!(d, Decision::Deny(Denial::NoSession(_))))
        }),
        Property::sometimes("Deny, forbidden", |feed, world| {
            some(feed, world, Route::Admin, |d| *d == Decision::Deny(Denial::Forbidden))
        }),
        Property::sometimes("Deny, the password was checked too long ago", |feed, world| {
            some(feed, world, Route::Recent, |d| *d == Decision::Deny(Denial::ReauthenticationRequired))
        }),
        Property::sometimes("Unknown, since the question or its answer was lost", |feed, world| {
            checked(feed, world, |check, d| check.said == Said::Lost && *d == Decision::Unknown)
        }),
        Property::sometimes("Unknown, since the clock was stepped", |feed, world| {
            checked(feed, world, |check, d| check.said != Said::Lost && *d == Decision::Unknown)
        }),
    ]
}

/// A renewal is at this stage, and its session has ended.
fn paused(world: &World, at: impl Fn(&Stage) -> bool) -> bool {
    world.db.open.is_none()
        && world
            .renewals
            .iter()
            .any(|renewing| at(&renewing.stage) && world.gone_ms.contains_key(&renewing.proof.session))
}

fn local(feed: &Feed, world: &World, edge: &Edge, proof: &Proof) -> Option<Passage> {
    match decision(feed, world, edge, proof, Route::Session) {
        Decision::Allow(passage) => Some(passage),
        _ => None,
    }
}

fn any_local(feed: &Feed, world: &World, wanted: impl Fn(&Proof, &Edge) -> bool) -> bool {
    world
        .edges
        .iter()
        .any(|edge| world.proofs.iter().any(|proof| wanted(proof, edge) && local(feed, world, edge, proof).is_some()))
}

fn some(feed: &Feed, world: &World, route: Route, wanted: impl Fn(&Decision) -> bool) -> bool {
    world.edges.iter().any(|edge| world.proofs.iter().any(|proof| wanted(&decision(feed, world, edge, proof, route))))
}

fn checked(feed: &Feed, world: &World, wanted: impl Fn(&Check, &Decision) -> bool) -> bool {
    world.checks.iter().any(|check| check.decision(feed, world).is_some_and(|decided| wanted(check, &decided)))
}

/// Nothing that this passage rests on has ended longer ago than the bound.
fn fresh(feed: &Feed, world: &World, proof: &Proof, passage: &Passage) -> bool {
    let gone_ms = world.gone_ms.get(&proof.session);
    let session = gone_ms.is_none_or(|gone_ms| !world.past_bound(feed, *gone_ms));
    let admin = passage.identity.as_ref().is_some_and(|identity| !identity.roles.is_empty());
    let role = world.demoted_ms.is_none_or(|demoted_ms| !world.past_bound(feed, demoted_ms));
    session && (role || !admin)
}

fn bounded(feed: &Feed, world: &World) -> bool {
    let memory = world.edges.iter().all(|edge| {
        world
            .proofs
            .iter()
            .all(|proof| local(feed, world, edge, proof).is_none_or(|passage| fresh(feed, world, proof, &passage)))
    });
    memory
        && !checked(
            feed,
            world,
            |check, decided| matches!(decided, Decision::Allow(passage) if !fresh(feed, world, &check.proof, passage)),
        )
}

fn strict(feed: &Feed, world: &World) -> bool {
    let by_memory = some(feed, world, Route::Strict, |decided| matches!(decided, Decision::Allow(_)));
    !by_memory
        && !checked(feed, world, |check, decided| {
            check.route == Route::Strict && check.gone_when_asked && matches!(decided, Decision::Allow(_))
        })
}

fn closed(feed: &Feed, world: &World) -> bool {
    let refused = |decided: &Decision| matches!(decided, Decision::Deny(Denial::NoSession(_)));
    let memory = world.edges.iter().all(|edge| {
        let loaded = edge.memory.view().is_loaded();
        world.proofs.iter().all(|proof| {
            let decided = decision(feed, world, edge, proof, Route::Session);
            (loaded || !matches!(decided, Decision::Allow(_)))
                && (world.db.session(proof.session).is_none() || !refused(&decided))
        })
    });
    // A verdict is of its time: only what was never gone must not be refused.
    let gone = |check: &Check| world.gone_ms.contains_key(&check.proof.session) || !world.lost.is_empty();
    memory && !checked(feed, world, |check, decided| !gone(check) && refused(decided))
}
