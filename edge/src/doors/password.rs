//! Changing the password: a new session here, every other one ended.

use edgekeep_shared::api::{LoginAnswer, PasswordRequest};
use edgekeep_shared::gate::Denial;
use edgekeep_shared::policy::RoutePolicy;
use edgekeep_shared::problem::{Code, Problem, Reason};

use super::shapes::SignedIn;
use super::{client, form_key, is_browser, key_to_keep, login, posted, preference_applied, session, wait_s};
use crate::coordinator::{self, Effort};
use crate::forms::{BodyKind, Fields, MAX_PASSWORD_BYTES};
use crate::guard::{self, Outcome};
use crate::incoming::Incoming;
use crate::keys::{self, Keys};
use crate::pages::account::{Change, Wrong};
use crate::pages::{Notice, words};
use crate::refuse::{self, Place};
use crate::reply::Reply;

/// The session that asks.
struct Asking {
    proof: String,
    name: String,
    set_cookies: Vec<String>,
}

/// What is shown when the form comes back.
struct Again<'a> {
    problem: &'a Problem,
    wrong: Wrong,
    /// The key to send it with once more; empty for a new one.
    form_key: &'a str,
}

/// `GET`: the form on a page of its own.
pub async fn show(incoming: &Incoming, place: Place<'_>) -> Reply {
    let asking = match session::needed(incoming, place).await {
        Ok(allowed) => Asking {
            name: allowed.passage.identity.map_or_else(String::new, |identity| identity.name),
            proof: allowed.proof.unwrap_or_default(),
            set_cookies: allowed.set_cookies,
        },
        Err(reply) => return reply,
    };
    match keys::ensure(incoming).await {
        Some(keys) => page(incoming, &keys, asking, 200, None, Wrong::Nothing, ""),
        None => refuse::unknown(place),
    }
}

fn page(
    incoming: &Incoming,
    keys: &Keys,
    asking: Asking,
    status: u16,
    notice: Option<&Notice>,
    wrong: Wrong,
    form_key: &str,
) -> Reply {
    let fresh = form_key::fresh(incoming, keys);
    let form_key = if form_key.is_empty() { fresh.key.as_str() } else { form_key };
    let change = Change { form_key, name: &asking.name, min_chars: keys.password_min_chars, wrong };
    Reply::page(status, change.page(&incoming.config.prefix, notice))
        .cookies(fresh.set_cookie)
        .cookies(asking.set_cookies)
}

/// The session that a change is asked for by. One that has ended may ask as well: a change ends the session that asked
/// for it, and its repeated delivery gets the same outcome (G4). The coordinator tells that from a new change.
async fn asking(incoming: &Incoming, place: Place<'_>) -> Result<Asking, Reply> {
    match session::at_gate(incoming, RoutePolicy::SESSION).await {
        Outcome::Allow(allowed) => match (allowed.proof, allowed.passage.identity) {
            (Some(proof), Some(who)) => Ok(Asking { proof, name: who.name, set_cookies: allowed.set_cookies }),
            _ => Err(refuse::unknown(place)),
        },
        Outcome::Deny { denial, set_cookies } => match guard::counting_proof(&incoming.cookies) {
            Some((proof, name)) => Ok(Asking { proof, name, set_cookies }),
            None => Err(refuse::denied(place, denial).cookies(set_cookies)),
        },
        Outcome::Unknown => Err(refuse::unknown(place)),
    }
}

/// `POST`: changes the password.
pub async fn change(incoming: &Incoming, place: Place<'_>) -> Reply {
    let asking = match asking(incoming, place).await {
        Ok(asking) => asking,
        Err(reply) => return reply,
    };
    let Some(keys) = keys::ensure(incoming).await else { return refuse::unknown(place) };
    let posted = match posted(incoming).await {
        Ok(posted) => posted,
        Err(problem) => {
            let again = Again { problem: &problem, wrong: Wrong::Nothing, form_key: "" };
            return refused(incoming, place, &keys, asking, &again);
        }
    };
    let request = match request(incoming, posted.kind, &posted.fields, &keys, asking.proof.clone()) {
        Ok(request) => request,
        Err((problem, wrong)) => {
            return refused(incoming, place, &keys, asking, &Again { problem: &problem, wrong, form_key: "" });
        }
    };
    let effort = Effort::OPERATION.plus_s(request.wait_s);
    let answer: Result<LoginAnswer, _> =
        coordinator::ask(&incoming.config, "/v1/password", &request, &incoming.request_id, effort).await;
    match answer {
        Ok(answer) => {
            let reply = if is_browser(place.asker) {
                Reply::see_other(&format!("{}/account?changed=password", place.prefix))
            } else {
                Reply::json(200, &SignedIn::from(&answer))
            };
            preference_applied(reply, request.wait_s).cookies(login::session_cookies(incoming, &answer))
        }
        Err(error) => {
            let problem = error.into_problem();
            let wrong = match problem.code {
                Code::InvalidCredentials => Wrong::Current,
                // The form itself was in order, so it is the coordinator's rules for new passwords.
                Code::InvalidRequest => Wrong::New,
                _ => Wrong::Nothing,
            };
            let form_key = key_to_keep(&problem, &posted.fields);
            refused(incoming, place, &keys, asking, &Again { problem: &problem, wrong, form_key })
        }
    }
}

/// A change that did not work: the problem for programs, the form again for people.
fn refused(incoming: &Incoming, place: Place<'_>, keys: &Keys, asking: Asking, again: &Again<'_>) -> Reply {
    let problem = again.problem;
    if problem.code == Code::NoSession {
        let denial = Denial::NoSession(problem.reason.unwrap_or(Reason::Invalid));
        return refuse::denied(place, denial).cookies(asking.set_cookies);
    }
    if !is_browser(place.asker) {
        return Reply::problem(problem).cookies(asking.set_cookies);
    }
    let text = match problem.code {
        Code::InvalidCredentials => "The current password is wrong, so nothing was changed. Try again.".to_owned(),
        _ => words::about(problem),
    };
    let notice = Notice::bad(text);
    page(incoming, keys, asking, problem.status, Some(&notice), again.wrong, again.form_key)
        .retry_after(problem.retry_after_s)
}

fn request(
    incoming: &Incoming,
    kind: BodyKind,
    fields: &Fields,
    keys: &Keys,
    token: String,
) -> Result<PasswordRequest, (Problem, Wrong)> {
    let required = |name, wrong| fields.required(name, MAX_PASSWORD_BYTES).map_err(|problem| (problem, wrong));
    let current_password = required("current_password", Wrong::Current)?.to_owned();
    let new_password = required("new_password", Wrong::New)?.to_owned();
    // Only forms have it: a person cannot see what was typed.
    if fields.get("repeat_password").is_some_and(|repeated| repeated != new_password) {
        let detail = "The new password was not typed the same twice, so nothing was changed. Try again.";
        return Err((Problem::new(Code::InvalidRequest, detail), Wrong::New));
    }
    let idempotency_key =
        form_key::of_request(incoming, kind, fields, keys).map_err(|problem| (problem, Wrong::Nothing))?;
    let (client, wait_s) = (client(incoming), wait_s(incoming));
    Ok(PasswordRequest { token, current_password, new_password, idempotency_key, client, wait_s })
}
