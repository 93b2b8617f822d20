//! The worker's own entry points. `entry.js` hands them to the platform; they are exported to it with the feature
//! `entry`, which a worker that only uses [`crate::Gate`] leaves out.

use edgekeep_shared::path;
use edgekeep_shared::policy::{Access, Matched};
use edgekeep_shared::problem::{Code, Problem};
use js_sys::Promise;
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
        Step::Done(Outcome::Allow(allowed)) => {
            // On its way before any promise of ours is made.
            let sent = gateway::send(&incoming, &env, &allowed, gated);
            future_to_promise(async move { Ok(passed(&incoming, &allowed, gated, sent).await) }).into()
        }
        Step::Done(outcome) => refused(&incoming, outcome),
        Step::First(errand) => future_to_promise(async move {
            Ok(match guard.decide(&incoming, errand).await {
                Outcome::Allow(allowed) => {
                    let sent = gateway::send(&incoming, &env, &allowed, gated);
                    passed(&incoming, &allowed, gated, sent).await
                }
                outcome => refused(&incoming, outcome),
            })
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

/// What the client gets of a request that was sent to the origin.
async fn passed(incoming: &Incoming, allowed: &Allowed, gated: bool, sent: Result<Promise, JsFailure>) -> JsValue {
    match gateway::answered(sent, allowed, gated).await {
        Ok(response) => response.into(),
        Err(failure) => {
            js::log_error(&format!("edgekeep: request {}: the origin failed: {}", incoming.request_id, failure.0));
            let cookies = allowed.set_cookies.iter().cloned();
            refusal(incoming, |place| refuse::origin_unavailable(place).cookies(cookies))
        }
    }
}

fn refused(incoming: &Incoming, outcome: Outcome) -> JsValue {
    refusal(incoming, |place| match outcome {
        Outcome::Deny { denial, set_cookies } => refuse::denied(place, denial).cookies(set_cookies),
        Outcome::Allow(_) | Outcome::Unknown => refuse::unknown(place),
    })
}

fn refusal(incoming: &Incoming, reply: impl FnOnce(Place<'_>) -> Reply) -> JsValue {
    let path_and_query = incoming.path_and_query();
    let place = Place { prefix: &incoming.config.prefix, path_and_query: &path_and_query, asker: incoming.asker() };
    respond::response(&reply(place), incoming.https(), incoming.method == "HEAD")
}
