//! Changing the password: a new session here, every other one ended.

use edgekeep_shared::api::{LoginAnswer, PasswordRequest};
use edgekeep_shared::problem::{Code, Problem};

use super::shapes::SignedIn;
use super::{client, form_key, is_browser, login, posted, preference_applied, session, wait_s};
use crate::coordinator::{self, Effort};
use crate::forms::{BodyKind, Fields, MAX_PASSWORD_BYTES};
use crate::guard::Allowed;
use crate::incoming::Incoming;
use crate::keys::{self, Keys};
use crate::pages::account::{Change, Wrong};
use crate::pages::{Notice, words};
use crate::refuse::{self, Place};
use crate::reply::Reply;

/// `GET`: the form on a page of its own.
pub async fn show(incoming: &Incoming, place: Place<'_>) -> Reply {
    let allowed = match session::needed(incoming, place).await {
        Ok(allowed) => allowed,
        Err(reply) => return reply,
    };
    match keys::ensure(incoming).await {
        Some(keys) => page(incoming, &keys, &allowed, 200, None, Wrong::Nothing),
        None => refuse::unknown(place),
    }
}

fn page(
    incoming: &Incoming,
    keys: &Keys,
    allowed: &Allowed,
    status: u16,
    notice: Option<&Notice>,
    wrong: Wrong,
) -> Reply {
    let fresh = form_key::fresh(incoming, keys);
    let name = allowed.passage.identity.as_ref().map_or("", |identity| identity.name.as_str());
    let change = Change { form_key: &fresh.key, name, min_chars: keys.password_min_chars, wrong };
    Reply::page(status, change.page(&incoming.config.prefix, notice))
        .cookies(fresh.set_cookie)
        .cookies(allowed.set_cookies.iter().cloned())
}

/// `POST`: changes the password.
pub async fn change(incoming: &Incoming, place: Place<'_>) -> Reply {
    let allowed = match session::needed(incoming, place).await {
        Ok(allowed) => allowed,
        Err(reply) => return reply,
    };
    let (Some(proof), Some(keys)) = (allowed.proof.clone(), keys::ensure(incoming).await) else {
        return refuse::unknown(place);
    };
    let request = match posted(incoming).await {
        Ok(posted) => request(incoming, posted.kind, &posted.fields, &keys, proof),
        Err(problem) => Err((problem, Wrong::Nothing)),
    };
    let refused = |problem: &Problem, wrong: Wrong| {
        if !is_browser(place.asker) {
            return Reply::problem(problem).cookies(allowed.set_cookies.iter().cloned());
        }
        let text = match problem.code {
            Code::InvalidCredentials => "The current password is wrong, so nothing was changed. Try again.".to_owned(),
            _ => words::about(problem),
        };
        page(incoming, &keys, &allowed, problem.status, Some(&Notice::bad(text)), wrong)
            .retry_after(problem.retry_after_s)
    };
    let request = match request {
        Ok(request) => request,
        Err((problem, wrong)) => return refused(&problem, wrong),
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
            refused(&problem, wrong)
        }
    }
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
