//! "Who am I": the session as this edge sees it; and the gate as our own doors use it.

use edgekeep_shared::policy::RoutePolicy;

use super::shapes::Current;
use crate::guard::{Allowed, Guard, Outcome, Step};
use crate::incoming::Incoming;
use crate::refuse::{self, Place};
use crate::reply::Reply;

/// Takes the request through the gate as a route of this policy would.
pub async fn at_gate(incoming: &Incoming, route: RoutePolicy) -> Outcome {
    let guard = Guard::new(route);
    match guard.look(&incoming.cookies) {
        Step::Done(outcome) => outcome,
        Step::First(errand) => guard.decide(incoming, errand).await,
    }
}

/// Takes the request through the gate as one that needs a session; a refusal is answered here.
pub async fn needed(incoming: &Incoming, place: Place<'_>) -> Result<Box<Allowed>, Reply> {
    match at_gate(incoming, RoutePolicy::SESSION).await {
        Outcome::Allow(allowed) => Ok(allowed),
        Outcome::Deny { denial, set_cookies } => Err(refuse::denied(place, denial).cookies(set_cookies)),
        Outcome::Unknown => Err(refuse::unknown(place)),
    }
}

/// `GET`: JSON for everybody, also in a browser's address bar.
pub async fn tell(incoming: &Incoming, place: Place<'_>) -> Reply {
    let asker = crate::incoming::Asker { audience: crate::negotiate::Audience::Program, navigates: false };
    let allowed = match needed(incoming, Place { asker, ..place }).await {
        Ok(allowed) => allowed,
        Err(reply) => return reply,
    };
    let Some(identity) = &allowed.passage.identity else { return refuse::unknown(Place { asker, ..place }) };
    let passage = &allowed.passage;
    let current = Current::new(identity, passage.how, passage.view_age_ms, allowed.max_staleness_ms);
    Reply::json(200, &current).cookies(allowed.set_cookies.iter().cloned())
}
