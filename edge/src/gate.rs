//! The gate as a library: another Rust worker asks about a request of its own and does the rest itself.
//!
//! It shares the isolate's memory with nothing else: the view, the keys and the held poll are those of the worker
//! that calls it, and need the same bindings ([`crate::config`]; `ORIGIN` and `ASSERTION_KEY` are not needed).

use std::rc::Rc;

use edgekeep_shared::cookie::COOKIE_PREFIX;
use edgekeep_shared::gate::{Denial, How, Identity};
use edgekeep_shared::path;
use edgekeep_shared::policy::{Access, Matched};
use edgekeep_shared::problem::{Code, Problem};
use serde::Serialize;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::Request;

use crate::config::Config;
use crate::doors::shapes;
use crate::guard::{Guard, Outcome, Step};
use crate::incoming::Incoming;
use crate::js::{self, Context};
use crate::{clock, feed, refuse, state};

/// The gate in front of a worker's own handlers.
#[derive(Clone, Copy, Debug)]
pub struct Gate;

/// What the gate says of a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Checked {
    /// Let it pass.
    Allow {
        /// Who is behind it; `None` on a public route where that is not known without asking.
        identity: Option<Identity>,
        /// How that was checked.
        how: How,
        /// How old the knowledge is at most, in milliseconds.
        view_age_ms: u64,
        /// `Set-Cookie` values that must be appended to the answer (a renewed proof); the answer is then `no-store`.
        set_cookies: Vec<String>,
    },
    /// Refuse it.
    Deny {
        /// The status, code and reason to answer with.
        problem: Box<Problem>,
        /// `Set-Cookie` values that should be appended to the answer.
        set_cookies: Vec<String>,
        /// Where a person who opens the address should be sent (303), if it is for want of a session.
        login: Option<String>,
    },
    /// Nobody can know right now: answer 503 with `Retry-After`, and leave the cookies alone (G8).
    Unknown {
        /// The problem to answer with.
        problem: Box<Problem>,
    },
}

impl Gate {
    /// Decides about a request by the `POLICY` binding. Call it once per request, before anything else; work that it
    /// starts goes on in `context.waitUntil`.
    pub async fn check(request: &Request, env: &JsValue, context: &JsValue) -> Checked {
        let incoming = match receive(Clone::clone(request), env, context.clone().unchecked_into::<Context>()) {
            Ok(incoming) => incoming,
            Err(_) => return unknown("The edge worker is not configured; its log says what is missing."),
        };
        let decoded = match path::check(&incoming.path) {
            Ok(decoded) => decoded.into_owned(),
            Err(error) => {
                return deny(Problem::new(Code::InvalidRequest, format!("The address is not valid: {error}.")));
            }
        };
        let route = match incoming.config.policy.find(&decoded, &incoming.method) {
            Matched::Route(route) => route.clone(),
            Matched::MethodNotAllowed => {
                return deny(Problem::new(Code::MethodNotAllowed, "The route policy does not list this method."));
            }
        };
        if let Some(problem) = incoming.cookie_problem().filter(|_| route.access != Access::Public) {
            return deny(problem);
        }
        let guard = Guard::new(route);
        let outcome = match guard.look(&incoming.cookies) {
            Step::Done(outcome) => outcome,
            Step::First(errand) => guard.decide(&incoming, errand).await,
        };
        match outcome {
            Outcome::Allow(allowed) => Checked::Allow {
                identity: allowed.passage.identity,
                how: allowed.passage.how,
                view_age_ms: allowed.passage.view_age_ms,
                set_cookies: allowed.set_cookies,
            },
            Outcome::Deny { denial, set_cookies } => {
                let path_and_query = incoming.path_and_query();
                let asker = incoming.asker();
                let place = refuse::Place { prefix: &incoming.config.prefix, path_and_query: &path_and_query, asker };
                let login = (denial != Denial::Forbidden).then(|| place.login());
                Checked::Deny { problem: Box::new(refuse::problem_of(denial)), set_cookies, login }
            }
            Outcome::Unknown => unknown("The session cannot be checked right now. Try again in a moment."),
        }
    }
}

fn deny(problem: Problem) -> Checked {
    Checked::Deny { problem: Box::new(problem), set_cookies: Vec::new(), login: None }
}

fn unknown(detail: &str) -> Checked {
    Checked::Unknown { problem: Box::new(Problem::new(Code::Unavailable, detail).retry_after_s(1)) }
}

#[derive(Serialize)]
struct AllowedJson<'a> {
    allowed: bool,
    user: Option<UserJson<'a>>,
    how: &'static str,
    view_age_ms: u64,
    set_cookies: &'a [String],
}

#[derive(Serialize)]
struct UserJson<'a> {
    id: String,
    name: &'a str,
    roles: &'a [String],
    session_id: String,
}

#[derive(Serialize)]
struct RefusedJson<'a> {
    allowed: bool,
    status: u16,
    problem: &'a Problem,
    login: Option<&'a str>,
    set_cookies: &'a [String],
}

impl Checked {
    /// As the entry point `Check` gives it to other workers.
    #[must_use]
    pub fn to_json(&self) -> String {
        let json = match self {
            Self::Allow { identity, how, view_age_ms, set_cookies } => serde_json::to_string(&AllowedJson {
                allowed: true,
                user: identity.as_ref().map(|identity| UserJson {
                    id: identity.user_id.to_string(),
                    name: &identity.name,
                    roles: &identity.roles,
                    session_id: identity.session_id.to_string(),
                }),
                how: shapes::how_name(*how),
                view_age_ms: *view_age_ms,
                set_cookies,
            }),
            Self::Deny { problem, set_cookies, login } => serde_json::to_string(&RefusedJson {
                allowed: false,
                status: problem.status,
                problem,
                login: login.as_deref(),
                set_cookies,
            }),
            Self::Unknown { problem } => serde_json::to_string(&RefusedJson {
                allowed: false,
                status: problem.status,
                problem,
                login: None,
                set_cookies: &[],
            }),
        };
        // These types always serialise; were they ever not to, nobody would be let in.
        json.unwrap_or_else(|_| r#"{"allowed":false,"status":503}"#.to_owned())
    }
}

/// Why a request could not even be looked at.
#[derive(Debug)]
pub struct Unready {
    https: bool,
}

impl Unready {
    /// The answer: 503, and nothing about what is wrong. That is in the log.
    #[must_use]
    pub fn response(&self) -> JsValue {
        let asker = crate::incoming::Asker { audience: crate::negotiate::Audience::Program, navigates: false };
        let place = refuse::Place { prefix: "/auth", path_and_query: "/", asker };
        crate::respond::response(&refuse::misconfigured(place), self.https, false)
    }
}

/// Takes a request in: configuration, the parts that decisions need, and the held poll where a session is presented.
///
/// # Errors
/// When the bindings are not right.
pub fn receive(request: Request, env: &JsValue, context: Context) -> Result<Incoming, Unready> {
    let (config, request_id) = state::with(|state| (state.config.clone(), state.request_id()));
    let config = match config {
        Some(config) => config,
        None => configure(env).map_err(|()| Unready { https: request.url().starts_with("https://") })?,
    };
    let incoming = Incoming::read(request, context, config, request_id);
    if incoming.cookies.contains(COOKIE_PREFIX) {
        feed::keep_alive(&incoming, clock::now_ms());
    }
    Ok(incoming)
}

/// Reads the bindings, once per isolate.
fn configure(env: &JsValue) -> Result<Rc<Config>, ()> {
    let text = |name: &str| js::property(env, name).and_then(|value| value.as_string());
    match Config::read(text, js::property(env, "ORIGIN").is_some()) {
        Ok(config) => {
            if config.client_address_header.is_none() {
                js::log_warning("edgekeep: no CLIENT_ADDRESS_HEADER: attempts are not limited per client address");
            }
            let config = Rc::new(config);
            state::with(|state| state.config = Some(config.clone()));
            Ok(config)
        }
        Err(error) => {
            js::log_error(&format!("edgekeep: {}", error.0));
            Err(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgekeep_shared::ids::{SessionId, UserId};
    use edgekeep_shared::problem::Reason;

    #[test]
    fn other_workers_see_who_it_is_or_why_not() {
        let identity = Identity {
            user_id: UserId(1),
            name: "ann".to_owned(),
            roles: vec!["admin".to_owned()],
            session_id: SessionId([1; 16]),
            authenticated_at_ms: 1,
            idle_expires_at_ms: 2,
            expires_at_ms: 3,
        };
        let allow = Checked::Allow { identity: Some(identity), how: How::Local, view_age_ms: 7, set_cookies: vec![] };
        assert_eq!(
            allow.to_json(),
            r#"{"allowed":true,"user":{"id":"0000000000000001","name":"ann","roles":["admin"],"session_id":"01010101010101010101010101010101"},"how":"local","view_age_ms":7,"set_cookies":[]}"#
        );
        let refused = deny(Problem::new(Code::NoSession, "x").reason(Reason::Revoked)).to_json();
        assert!(refused.starts_with(r#"{"allowed":false,"status":401,"#) && refused.contains(r#""reason":"revoked""#));
        assert!(unknown("x").to_json().contains(r#""status":503"#));
    }
}
