//! The gate: one function decides about every request (G2, G3, G5, G8).
//!
//! Guarantee: [`decide`] answers [`Decision::Allow`] for a route that needs a session only if
//!
//! - the lease holds, no entry of the view is newer than the proof, and the proof is neither due for
//!   renewal nor older than what the view has forgotten; or
//! - the coordinator said "current" when asked during this request, and that answer has not aged
//!   past the route's bound nor been overtaken by a newer entry or epoch.
//!
//! Where it cannot know it says so: [`Decision::Unknown`] is 503 and the cookie stays.
//!
//! The shell carries a decision out and, after every await, calls the gate again with a fresh clock
//! and view. `asked` counts how often it has asked for this request, so that it ends.

use crate::cookie::{Chosen, cookie_name};
use crate::ids::{SessionId, UserId};
use crate::lease::{EdgeMs, Sent, at_least, true_at};
use crate::policy::{Access, RoutePolicy};
use crate::problem::Reason;
use crate::revision::Revision;
use crate::token::{Claims, VerifiedToken};
use crate::view::View;

/// How often one request may ask (refresh, renewal, question) before the gate gives up.
pub const MAX_ASKS: u8 = 3;

/// Who is behind a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user_id: UserId,
    /// The user's name as registered.
    pub name: String,
    /// The user's roles.
    pub roles: Vec<String>,
    /// The session.
    pub session_id: SessionId,
    /// When the password was checked; coordinator time in milliseconds, like the next two.
    pub authenticated_at_ms: u64,
    /// Idle expiry, unless renewed before.
    pub idle_expires_at_ms: u64,
    /// Absolute expiry.
    pub expires_at_ms: u64,
}

impl From<&Claims> for Identity {
    fn from(claims: &Claims) -> Self {
        Self {
            user_id: claims.user_id,
            name: claims.name.clone(),
            roles: claims.roles.clone(),
            session_id: claims.session_id,
            authenticated_at_ms: claims.authenticated_at_ms,
            idle_expires_at_ms: claims.idle_expires_at_ms,
            expires_at_ms: claims.expires_at_ms,
        }
    }
}

/// What the coordinator said about the session during this request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The feed epoch of the read.
    pub epoch: u16,
    /// When the edge sent the question: [`View::sent`].
    pub sent: Sent,
    /// How old the read was when the answer left, in milliseconds.
    pub age_ms: u32,
    /// Coordinator time of the read.
    pub read_at_ms: u64,
    /// The deployment's bound, in milliseconds.
    pub max_staleness_ms: u32,
    /// What it found.
    pub finding: Finding,
}

/// What the database says of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is current, with roles and times as they are now.
    Current {
        /// Who it is.
        identity: Identity,
        /// The revision that a proof signed now carries.
        revision: Revision,
    },
    /// It has ended.
    Ended(Reason),
    /// The proof is newer than the database.
    Unknown,
}

/// Everything that the decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The cookie that counts.
    pub chosen: &'a Chosen,
    /// What the route asks for.
    pub route: &'a RoutePolicy,
    /// What the edge remembers.
    pub view: &'a View,
    /// Version of the keys that the cookie was checked with.
    pub keys_version: u64,
    /// Edge time, read after the last await.
    pub now_ms: EdgeMs,
    /// What the coordinator said during this request, if it was asked.
    pub verdict: Option<&'a Verdict>,
    /// How often this request has asked already.
    pub asked: u8,
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Let it pass.
    Allow(Passage),
    /// The proof is due: ask the coordinator for a new one, in line.
    Renew,
    /// The lease has run out, or the keys are older than the view: ask the feed (and for keys), in line.
    Refresh,
    /// Ask the coordinator about this session.
    AskCoordinator,
    /// Refuse it.
    Deny(Denial),
    /// Nobody can know right now: 503, and the cookie stays.
    Unknown,
}

/// A request that passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Who is behind it; `None` on a public route where that is not known without asking.
    pub identity: Option<Identity>,
    /// How that was checked.
    pub how: How,
    /// How old the knowledge is at most, in milliseconds.
    pub view_age_ms: u64,
}

/// How a session was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// From the edge's memory.
    Local,
    /// By the coordinator, during this request.
    Coordinator,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// There is no session: `no_session` with this reason.
    NoSession(Reason),
    /// The session lacks the role: `forbidden`.
    Forbidden,
    /// The password was checked too long ago: `reauthentication_required`.
    ReauthenticationRequired,
}

/// Decides about a request.
#[must_use]
pub fn decide(situation: &Situation<'_>) -> Decision {
    if situation.route.access == Access::Public {
        return Decision::Allow(public_passage(situation));
    }
    let decision = match (situation.chosen, situation.verdict) {
        (Chosen::Nothing, _) => Decision::Deny(Denial::NoSession(Reason::None)),
        (Chosen::Invalid, _) => Decision::Deny(Denial::NoSession(Reason::Invalid)),
        (Chosen::UnknownKey { .. } | Chosen::Proof { .. }, Some(verdict)) => by_verdict(situation, verdict),
        (Chosen::UnknownKey { .. }, None) => Decision::AskCoordinator,
        (Chosen::Proof { token, .. }, None) => by_memory(situation, token),
    };
    match decision {
        Decision::Renew | Decision::Refresh | Decision::AskCoordinator if situation.asked >= MAX_ASKS => {
            Decision::Unknown
        }
        decided => decided,
    }
}

/// A public route never asks and never renews: it says who is there only if memory can tell.
fn public_passage(situation: &Situation<'_>) -> Passage {
    if let Chosen::Proof { token, .. } = situation.chosen
        && let Decision::Allow(passage) = by_memory(situation, token)
    {
        return passage;
    }
    Passage { identity: None, how: How::Local, view_age_ms: 0 }
}

/// Decides from the proof and the view alone.
fn by_memory(situation: &Situation<'_>, token: &VerifiedToken) -> Decision {
    let Situation { route, view, keys_version, now_ms, .. } = *situation;
    let claims = token.claims();
    // A cold isolate knows no time and no entries: an empty view never means "nothing revoked".
    let Some(clock) = view.clock().filter(|_| view.is_loaded()) else { return Decision::AskCoordinator };
    // Only within the lease: a clock that was stepped forward must not end a session that may be fine (G8).
    let leased = view.lease().holds(now_ms, route.max_staleness_ms.filter(|ms| *ms > 0), keys_version);
    if leased && clock.earliest_ms(now_ms) >= claims.expires_at_ms {
        return Decision::Deny(Denial::NoSession(Reason::Expired));
    }
    let due = clock.latest_ms(now_ms) >= claims.renew_after_ms || claims.renew_after_ms <= view.pruned_to_ms();
    if token.key_withdrawn() || due {
        return Decision::Renew;
    }
    if route.is_strict() {
        return Decision::AskCoordinator;
    }
    if !leased {
        return Decision::Refresh;
    }
    if view.revision_of(claims.user_id).is_some_and(|revision| claims.revision < revision) {
        return Decision::Renew;
    }
    let passage = Passage {
        identity: Some(Identity::from(claims)),
        how: How::Local,
        view_age_ms: view.lease().age_ms(now_ms).unwrap_or(0),
    };
    admit(route, passage, &claims.roles, claims.authenticated_at_ms, clock.latest_ms(now_ms))
}

/// Decides by what the coordinator said: it counts like a view asked for at the same time, and ages like one.
fn by_verdict(situation: &Situation<'_>, verdict: &Verdict) -> Decision {
    let Situation { route, view, now_ms, .. } = *situation;
    if !view.lease().can_measure_since(verdict.sent, now_ms) {
        return Decision::Unknown; // The clock was stepped back: nobody can tell how old the answer is.
    }
    if verdict.epoch < view.epoch() {
        return Decision::AskCoordinator;
    }
    let (identity, revision) = match &verdict.finding {
        Finding::Unknown => return Decision::Unknown,
        Finding::Ended(reason) => return Decision::Deny(Denial::NoSession(*reason)),
        Finding::Current { identity, revision } => (identity, *revision),
    };
    // Nobody could check the name without the key; with the session's id it can be.
    if let Chosen::UnknownKey { name, .. } = situation.chosen
        && *name != cookie_name(identity.session_id)
    {
        return Decision::Deny(Denial::NoSession(Reason::Invalid));
    }
    // A newer entry arrived while the answer was under way: what it says is no longer the last word.
    if view.revision_of(identity.user_id).is_some_and(|known| revision < known) {
        return Decision::AskCoordinator;
    }
    let true_at_ms = true_at(verdict.sent.at_ms, 0, verdict.age_ms);
    // On a strict route it is enough that the session was current during the request.
    let bound_ms = route.max_staleness_ms.filter(|ms| *ms > 0).unwrap_or(u32::MAX).min(verdict.max_staleness_ms);
    if now_ms >= true_at_ms + at_least(bound_ms) {
        return Decision::AskCoordinator;
    }
    let passage = Passage {
        identity: Some(identity.clone()),
        how: How::Coordinator,
        view_age_ms: now_ms.saturating_sub(true_at_ms).max(0) as u64,
    };
    admit(route, passage, &identity.roles, identity.authenticated_at_ms, verdict.read_at_ms)
}

/// The session stands: does it have what the route asks for?
fn admit(
    route: &RoutePolicy,
    passage: Passage,
    roles: &[String],
    authenticated_at_ms: u64,
    coordinator_now_ms: u64,
) -> Decision {
    if let Access::Roles(wanted) = &route.access
        && !wanted.iter().any(|role| roles.contains(role))
    {
        return Decision::Deny(Denial::Forbidden);
    }
    if let Some(max_auth_age_s) = route.max_auth_age_s
        && coordinator_now_ms.saturating_sub(authenticated_at_ms) > u64::from(max_auth_age_s) * 1_000
    {
        return Decision::Deny(Denial::ReauthenticationRequired);
    }
    Decision::Allow(passage)
}
