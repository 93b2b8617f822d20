//! The account page.

use edgekeep_shared::api::{SessionsAnswer, SessionsRequest};

use super::{form_key, session};
use crate::coordinator::{self, Effort};
use crate::forms;
use crate::incoming::Incoming;
use crate::keys;
use crate::pages::Notice;
use crate::pages::account::{Account, Change, Wrong};
use crate::refuse::{self, Place};
use crate::reply::Reply;

/// `GET`: who, since when, which devices; sign out; change the password.
pub async fn show(incoming: &Incoming, place: Place<'_>) -> Reply {
    let allowed = match session::needed(incoming, place).await {
        Ok(allowed) => allowed,
        Err(reply) => return reply,
    };
    let (Some(identity), Some(proof), Some(keys)) =
        (&allowed.passage.identity, &allowed.proof, keys::ensure(incoming).await)
    else {
        return refuse::unknown(place);
    };
    let request = SessionsRequest { token: proof.clone() };
    // The page is useful without the list, so an outage costs the list only.
    let sessions: Option<SessionsAnswer> =
        coordinator::ask(&incoming.config, "/v1/sessions", &request, &incoming.request_id, Effort::INLINE).await.ok();
    let fresh = form_key::fresh(incoming, &keys);
    let notice = match forms::query_value(&incoming.query, "changed").as_deref() {
        Some("password") => Some(Notice::info("Your password was changed, and all other devices are signed out.")),
        Some("sessions") => Some(Notice::info("That device is signed out.")),
        _ => None,
    };
    let page = Account {
        prefix: place.prefix,
        notice,
        name: &identity.name,
        roles: &identity.roles,
        authenticated_at_ms: identity.authenticated_at_ms,
        expires_at_ms: identity.expires_at_ms,
        sessions: sessions.as_ref().map(|answer| answer.sessions.as_slice()),
        sessions_per_user: sessions.as_ref().map_or(keys.sessions_per_user, |answer| answer.sessions_per_user),
        change: Change {
            form_key: &fresh.key,
            name: &identity.name,
            min_chars: keys.password_min_chars,
            wrong: Wrong::Nothing,
        },
    }
    .page();
    Reply::page(200, page).cookies(fresh.set_cookie).cookies(allowed.set_cookies.iter().cloned())
}
