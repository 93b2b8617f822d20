//! Signing in (design 2.3, step 1): check the form, pass it on with its idempotency key, ask again when the
//! answer is lost, and turn the outcome into a cookie.

use std::rc::Rc;

use edgekeep_shared::api::{LoginAnswer, LoginRequest};
use edgekeep_shared::cookie;
use edgekeep_shared::gate::{Denial, Identity};
use edgekeep_shared::path;
use edgekeep_shared::policy::{Access, Matched, RoutePolicy};
use edgekeep_shared::problem::{Code, Problem, Reason};
use edgekeep_shared::return_to;

use super::shapes::SignedIn;
use super::{client, form_key, is_browser, key_to_keep, posted, preference_applied, wait_s};
use crate::coordinator::{self, Effort};
use crate::forms::{self, MAX_NAME_BYTES, MAX_PASSWORD_BYTES};
use crate::guard::{self, Outcome};
use crate::incoming::{Asker, Incoming};
use crate::keys::{self, Keys};
use crate::pages::sign_in::SignIn;
use crate::pages::{Notice, words};
use crate::reply::Reply;

/// `GET`: the form, with why it is needed.
pub async fn show(incoming: &Incoming) -> Reply {
    let path_and_query = incoming.path_and_query();
    let place =
        super::Place { prefix: &incoming.config.prefix, path_and_query: &path_and_query, asker: incoming.asker() };
    let Some(keys) = keys::ensure(incoming).await else { return super::refuse::unavailable(place) };
    let wanted = forms::query_value(&incoming.query, "return_to").filter(|path| return_to::is_safe(path));
    let outcome = super::session::at_gate(incoming, route_of(incoming, wanted.as_deref())).await;
    let Some((notice, signed_in, set_cookies)) = said_by(outcome, wanted.is_some()) else {
        return super::refuse::unknown(place);
    };
    let notice = match forms::query_value(&incoming.query, "signed_out").as_deref() {
        Some("everywhere") if signed_in.is_none() => {
            Some(Notice::info("You are signed out everywhere. It takes a few seconds to reach every device."))
        }
        Some(_) if signed_in.is_none() => Some(Notice::info(words::why(Reason::SignedOut))),
        _ => notice,
    };
    let name = signed_in.as_ref().map(|identity: &Identity| identity.name.as_str());
    let form = SignIn { notice, return_to: wanted.as_deref(), signed_in_as: name, ..SignIn::default() };
    page(incoming, &keys, 200, form).cookies(set_cookies)
}

/// Why the form is shown, who is signed in, and which cookies to set; `None` where nobody can know: a form is never
/// shown for a session that may be fine (G8).
fn said_by(outcome: Outcome, came_from_a_page: bool) -> Option<(Option<Notice>, Option<Identity>, Vec<String>)> {
    match outcome {
        Outcome::Allow(allowed) => Some((None, allowed.passage.identity, allowed.set_cookies)),
        Outcome::Deny { denial, set_cookies } => Some((why(denial, came_from_a_page), None, set_cookies)),
        Outcome::Unknown => None,
    }
}

/// What the page that the login leads back to asks for: its gate says why the form is shown.
fn route_of(incoming: &Incoming, return_to: Option<&str>) -> RoutePolicy {
    let path = return_to.and_then(|place| place.split(['?', '#']).next());
    let decoded = path.and_then(|path| path::check(path).ok());
    match decoded.map(|path| incoming.config.policy.find(&path, "GET")) {
        Some(Matched::Route(route)) if route.access != Access::Public => route.clone(),
        _ => RoutePolicy::SESSION,
    }
}

/// Why the form is shown, if there is anything to say.
fn why(denial: Denial, came_from_a_page: bool) -> Option<Notice> {
    match denial {
        Denial::NoSession(Reason::None) if !came_from_a_page => None,
        Denial::NoSession(reason) => Some(Notice::info(words::why(reason))),
        Denial::Forbidden => {
            Some(Notice::info("Your account may not open that page. You can sign in as somebody else."))
        }
        Denial::ReauthenticationRequired => {
            Some(Notice::info("That page asks for a more recent sign-in. Please enter your password again."))
        }
    }
}

/// The form, with a key of its own unless it brings one.
fn page(incoming: &Incoming, keys: &Keys, status: u16, form: SignIn<'_>) -> Reply {
    let fresh = form_key::fresh(incoming, keys);
    let form_key = if form.form_key.is_empty() { fresh.key.as_str() } else { form.form_key };
    let html = SignIn { prefix: &incoming.config.prefix, form_key, ..form }.page();
    Reply::page(status, html).cookies(fresh.set_cookie)
}

/// `POST`: signs in.
pub async fn sign_in(incoming: &Incoming, asker: Asker) -> Reply {
    let Some(keys) = keys::ensure(incoming).await else {
        return refused(incoming, None, asker, &coordinator::unavailable(), SignIn::default());
    };
    let posted = match posted(incoming).await {
        Ok(posted) => posted,
        Err(problem) => return refused(incoming, Some(&keys), asker, &problem, SignIn::default()),
    };
    let fields = &posted.fields;
    let back = fields.get("return_to").filter(|path| return_to::is_safe(path));
    let username = fields.get("username").unwrap_or_default();
    let again = SignIn { username, return_to: back, ..SignIn::default() };
    // Browsers send the newest last.
    let mut presented = guard::presented_proofs(&incoming.cookies);
    presented.drain(..presented.len().saturating_sub(cookie::MAX_LOOKED_AT));
    let request = fields.required("username", MAX_NAME_BYTES).and_then(|username| {
        Ok(LoginRequest {
            username: username.to_owned(),
            password: fields.required("password", MAX_PASSWORD_BYTES)?.to_owned(),
            idempotency_key: form_key::of_request(incoming, posted.kind, fields, &keys)?,
            presented,
            client: client(incoming),
            wait_s: wait_s(incoming),
        })
    });
    let request = match request {
        Ok(request) => request,
        Err(problem) => return refused(incoming, Some(&keys), asker, &problem, again),
    };
    let effort = Effort::OPERATION.plus_s(request.wait_s);
    let answer: Result<LoginAnswer, _> =
        coordinator::ask(&incoming.config, "/v1/login", &request, &incoming.request_id, effort).await;
    match answer {
        Ok(answer) => {
            let reply = if is_browser(asker) {
                Reply::see_other(return_to::or_root(back))
            } else {
                Reply::json(200, &SignedIn::from(&answer))
            };
            preference_applied(reply, request.wait_s).cookies(session_cookies(incoming, &answer))
        }
        Err(error) => {
            let problem = error.into_problem();
            let form_key = key_to_keep(&problem, fields);
            refused(incoming, Some(&keys), asker, &problem, SignIn { form_key, ..again })
        }
    }
}

/// The new session's cookie, and the removal of every other one that was presented.
pub fn session_cookies(incoming: &Incoming, answer: &LoginAnswer) -> Vec<String> {
    let max_age_s = answer.session.expires_at_ms.saturating_sub(answer.now_ms) / 1_000;
    let name = cookie::cookie_name(answer.session.id);
    let mut cookies = guard::clear_all(&incoming.cookies, Some(&name));
    // Last, so that it is the newest in the browser's jar whatever it does with the others.
    cookies.push(cookie::set_cookie(&answer.token, answer.session.id, max_age_s));
    cookies
}

/// A login that did not work: the problem for programs, the form again for people, with what is kept of it.
fn refused(incoming: &Incoming, keys: Option<&Rc<Keys>>, asker: Asker, problem: &Problem, again: SignIn<'_>) -> Reply {
    let (true, Some(keys)) = (is_browser(asker), keys) else {
        let path_and_query = incoming.path_and_query();
        let place = super::Place { prefix: &incoming.config.prefix, path_and_query: &path_and_query, asker };
        return super::refuse::problem(place, problem);
    };
    let failed = problem.code == Code::InvalidCredentials;
    let notice = Some(Notice::bad(words::about(problem)));
    page(incoming, keys, problem.status, SignIn { notice, failed, ..again }).retry_after(problem.retry_after_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_form_for_a_session_that_may_be_fine() {
        assert!(said_by(Outcome::Unknown, true).is_none());
        let denied = Outcome::Deny { denial: Denial::NoSession(Reason::Expired), set_cookies: Vec::new() };
        assert!(said_by(denied, false).is_some_and(|(notice, who, _)| notice.is_some() && who.is_none()));
    }
}
