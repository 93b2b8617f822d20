//! Ending another session of the same user, from the account page.

use edgekeep_shared::api::{EndSessionRequest, SignedOutAnswer};
use edgekeep_shared::ids::SessionId;
use edgekeep_shared::problem::{Code, Problem};

use super::shapes::SignedOut;
use super::{is_browser, posted, session};
use crate::coordinator::{self, Effort};
use crate::incoming::Incoming;
use crate::refuse::{self, Place};
use crate::reply::Reply;

/// `POST`: ends the session that the field `session_id` names. Repeating it is fine.
pub async fn end(incoming: &Incoming, place: Place<'_>) -> Reply {
    let allowed = match session::needed(incoming, place).await {
        Ok(allowed) => allowed,
        Err(reply) => return reply,
    };
    let Some(token) = allowed.proof.clone() else { return refuse::unknown(place) };
    let session_id = match posted(incoming).await {
        Ok(posted) => posted.fields.required("session_id", 64).and_then(|id| {
            id.parse::<SessionId>()
                .map_err(|_| Problem::new(Code::InvalidRequest, "The field session_id names no session."))
        }),
        Err(problem) => Err(problem),
    };
    let session_id = match session_id {
        Ok(session_id) => session_id,
        Err(problem) => return refuse::problem(place, &problem),
    };
    let request = EndSessionRequest { token, session_id };
    let answer: Result<SignedOutAnswer, _> =
        coordinator::ask(&incoming.config, "/v1/sessions/end", &request, &incoming.request_id, Effort::OPERATION).await;
    let reply = match answer {
        Ok(_) if is_browser(place.asker) => Reply::see_other(&format!("{}/account?changed=sessions", place.prefix)),
        Ok(answer) => Reply::json(200, &SignedOut::from(&answer)),
        Err(error) => refuse::problem(place, &error.into_problem()),
    };
    reply.cookies(allowed.set_cookies.iter().cloned())
}
