//! Signing out everywhere: with the password, from any device, with or without a session.

use std::rc::Rc;

use edgekeep_shared::api::{LogoutEverywhereRequest, SignedOutAnswer};
use edgekeep_shared::policy::RoutePolicy;
use edgekeep_shared::problem::{Code, Problem};

use super::shapes::SignedOut;
use super::{client, form_key, is_browser, key_to_keep, posted, preference_applied, session, wait_s};
use crate::coordinator::{self, Effort};
use crate::forms::{MAX_NAME_BYTES, MAX_PASSWORD_BYTES};
use crate::guard::Outcome;
use crate::incoming::Incoming;
use crate::keys::{self, Keys};
use crate::pages::sign_in::SignOutEverywhere;
use crate::pages::{Notice, words};
use crate::refuse::{self, Place};
use crate::reply::Reply;

/// `GET`: the form, with the name of whoever is signed in.
pub async fn show(incoming: &Incoming, place: Place<'_>) -> Reply {
    let (name, set_cookies) = match session::at_gate(incoming, RoutePolicy::SESSION).await {
        Outcome::Allow(allowed) => (allowed.passage.identity.map(|identity| identity.name), allowed.set_cookies),
        Outcome::Deny { set_cookies, .. } => (None, set_cookies),
        Outcome::Unknown => (None, Vec::new()),
    };
    let form = SignOutEverywhere { username: name.as_deref().unwrap_or_default(), ..SignOutEverywhere::default() };
    match keys::ensure(incoming).await {
        Some(keys) => page(incoming, &keys, 200, form).cookies(set_cookies),
        None => refuse::unavailable(place),
    }
}

fn page(incoming: &Incoming, keys: &Keys, status: u16, form: SignOutEverywhere<'_>) -> Reply {
    let fresh = form_key::fresh(incoming, keys);
    let form_key = if form.form_key.is_empty() { fresh.key.as_str() } else { form.form_key };
    let html = SignOutEverywhere { prefix: &incoming.config.prefix, form_key, ..form }.page();
    Reply::page(status, html).cookies(fresh.set_cookie)
}

/// `POST`: ends every session of the user.
pub async fn sign_out(incoming: &Incoming, place: Place<'_>) -> Reply {
    let Some(keys) = keys::ensure(incoming).await else {
        return refused(incoming, None, place, &coordinator::unavailable(), SignOutEverywhere::default());
    };
    let posted = match posted(incoming).await {
        Ok(posted) => posted,
        Err(problem) => return refused(incoming, Some(&keys), place, &problem, SignOutEverywhere::default()),
    };
    let fields = &posted.fields;
    let username = fields.get("username").unwrap_or_default();
    let again = SignOutEverywhere { username, ..SignOutEverywhere::default() };
    let request = fields.required("username", MAX_NAME_BYTES).and_then(|username| {
        Ok(LogoutEverywhereRequest {
            username: username.to_owned(),
            password: fields.required("password", MAX_PASSWORD_BYTES)?.to_owned(),
            idempotency_key: form_key::of_request(incoming, posted.kind, fields, &keys)?,
            client: client(incoming),
            wait_s: wait_s(incoming),
        })
    });
    let request = match request {
        Ok(request) => request,
        Err(problem) => return refused(incoming, Some(&keys), place, &problem, again),
    };
    let effort = Effort::OPERATION.plus_s(request.wait_s);
    let answer: Result<SignedOutAnswer, _> =
        coordinator::ask(&incoming.config, "/v1/logout-everywhere", &request, &incoming.request_id, effort).await;
    match answer {
        Ok(answer) => {
            let reply = if is_browser(place.asker) {
                Reply::see_other(&format!("{}/login?signed_out=everywhere", place.prefix))
            } else {
                Reply::json(200, &SignedOut::from(&answer))
            };
            // The cookie stays: whose sessions ended is known by name only, and an ended one is refused anyway.
            preference_applied(reply, request.wait_s).header("Clear-Site-Data", "\"cache\"")
        }
        Err(error) => {
            let problem = error.into_problem();
            let form_key = key_to_keep(&problem, fields);
            refused(incoming, Some(&keys), place, &problem, SignOutEverywhere { form_key, ..again })
        }
    }
}

fn refused(
    incoming: &Incoming,
    keys: Option<&Rc<Keys>>,
    place: Place<'_>,
    problem: &Problem,
    again: SignOutEverywhere<'_>,
) -> Reply {
    let (true, Some(keys)) = (is_browser(place.asker), keys) else { return refuse::problem(place, problem) };
    let failed = problem.code == Code::InvalidCredentials;
    let notice = Some(Notice::bad(words::about(problem)));
    page(incoming, keys, problem.status, SignOutEverywhere { notice, failed, ..again })
        .retry_after(problem.retry_after_s)
}
