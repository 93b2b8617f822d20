//! The worker's own entry points. `entry.js` hands them to the platform; they are exported to it with the feature
//! `entry`, which a worker that only uses [`crate::Gate`] leaves out.

use edgekeep_shared::path;
use edgekeep_shared::policy::{Access, Matched};
use edgekeep_shared::problem::{Code, Problem};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;
use web_sys::Request;

use crate::gate::{self, Gate};
use crate::guard::{Allowed, Guard, Outcome, Step};
use crate::incoming::Incoming;
use crate::js::{Context, JsFailure};
use crate::refuse::{self, Place};
use crate::reply::Reply;
use crate::{doors, gateway, js, respond};

/// Runs when an instance of the module starts. A panic poisons the instance; the next call then finds a fresh one,
/// whose memory is empty: no lease, so it refuses or asks (G8).
#[cfg(feature = "entry")]
#[wasm_bindgen(start, private)]
fn start() {
    std::panic::set_hook(Box::new(|info| {
        // The place only: what a panic says may quote what was being worked on.
        let place = info.location().map(|at| format!("{}:{}", at.file(), at.line()));
        js::log_error(&format!("edgekeep: panic at {}", place.as_deref().unwrap_or("an unknown place")));
    }));
    wasm_bindgen::handler::set_on_abort(wasm_bindgen::handler::schedule_reinit);
}

/// Answers a request: a `Response` where nothing had to be awaited, else a promise of one.
#[cfg_attr(feature = "entry", wasm_bindgen)]
#[must_use]
pub fn handle(request: Request, env: JsValue, context: JsValue) -> JsValue {
    let incoming = match gate::receive(request, &env, context.unchecked_into::<Context>()) {
        Ok(incoming) => incoming,
        Err(unready) => return unready.response(),
    };
    let decoded = match path::check(&incoming.path) {
        Ok(decoded) => decoded.into_owned(),
        Err(error) => {
            let problem = Problem::new(Code::InvalidRequest, format!("The address is not valid: {error}."));
            return refusal(&incoming, |place| refuse::problem(place, &problem));
        }
    };
    if let Some(door) = incoming.door(&decoded).map(str::to_owned) {
        if let Some(problem) = incoming.cookie_problem() {
            return refusal(&incoming, |place| refuse::problem(place, &problem));
        }
        return js::at_once(async move {
            let reply = doors::open(&incoming, &door).await;
            respond::response(&reply, incoming.https(), incoming.method == "HEAD")
        });
    }
    let route = match incoming.config.policy.find(&decoded, &incoming.method) {
        Matched::Route(route) => route.clone(),
        Matched::MethodNotAllowed => {
            let allowed = incoming.config.policy.allowed(&decoded);
            return refusal(&incoming, |place| refuse::method_not_allowed(place, &allowed));
        }
    };
    let gated = route.access != Access::Public;
    if let Some(problem) = incoming.cookie_problem().filter(|_| gated) {
        return refusal(&incoming, |place| refuse::problem(place, &problem));
    }
    let guard = Guard::new(route);
    match guard.look(&incoming.cookies) {
        Step::Done(outcome) => decided(incoming, &env, outcome, gated),
        Step::First(errand) => future_to_promise(async move {
            let outcome = guard.decide(&incoming, errand).await;
            Ok(decided(incoming, &env, outcome, gated))
        })
        .into(),
    }
}

/// Stands in a build whose leases last too long, so that one can see that what ships is none (`xtask/src/torture.rs`).
#[cfg(feature = "sabotage")]
#[wasm_bindgen(js_name = EDGEKEEP_TEST_SABOTAGE)]
pub fn sabotage() {}

/// Answers another worker that asks about a request of its own, as JSON (see [`crate::Checked`]).
/// The text where nothing had to be awaited, else a promise of it.
#[cfg_attr(feature = "entry", wasm_bindgen)]
#[must_use]
pub fn check(request: Request, env: JsValue, context: JsValue) -> JsValue {
    js::at_once(async move { JsValue::from_str(&Gate::check(&request, &env, &context).await.to_json()) })
}

/// The gate has decided: the origin's answer (a promise of it), or a refusal.
fn decided(incoming: Incoming, env: &JsValue, outcome: Outcome, gated: bool) -> JsValue {
    let allowed = match outcome {
        Outcome::Allow(allowed) => allowed,
        Outcome::Deny { denial, set_cookies } => {
            return refusal(&incoming, |place| refuse::denied(place, denial).cookies(set_cookies));
        }
        Outcome::Unknown => return refusal(&incoming, refuse::unknown),
    };
    match gateway::send(&incoming, env, &allowed, gated) {
        Ok(sent) => sent
            .then(move |answer| {
                let answer = answer.and_then(|response| gateway::answer(response, &allowed, gated));
                answer.map_or_else(|failure| no_origin(&incoming, &allowed, &failure), JsValue::from)
            })
            .into(),
        Err(failure) => no_origin(&incoming, &allowed, &failure),
    }
}

fn no_origin(incoming: &Incoming, allowed: &Allowed, failure: &JsFailure) -> JsValue {
    js::log_error(&format!("edgekeep: request {}: the origin failed: {}", incoming.request_id, failure.0));
    refusal(incoming, |place| refuse::origin_unavailable(place).cookies(allowed.set_cookies.iter().cloned()))
}

fn refusal(incoming: &Incoming, reply: impl FnOnce(Place<'_>) -> Reply) -> JsValue {
    let path_and_query = incoming.path_and_query();
    let place = Place { prefix: &incoming.config.prefix, path_and_query: &path_and_query, asker: incoming.asker() };
    respond::response(&reply(place), incoming.https(), incoming.method == "HEAD")
}
