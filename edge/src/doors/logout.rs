//! Signing out: names the sessions of all presented cookies and touches nothing else. Expired proofs are fine,
//! repeating it is fine; when its outcome is unknown the cookie stays (503).

use edgekeep_shared::api::{LogoutRequest, SignedOutAnswer};
use edgekeep_shared::cookie;
use edgekeep_shared::problem::{Code, Problem, Reason};
use edgekeep_shared::return_to;
use edgekeep_shared::token::UntrustedToken;

use super::shapes::SignedOut;
use super::{is_browser, posted_or_nothing, preference_applied, wait_s};
use crate::coordinator::{self, CallError, Effort};
use crate::guard;
use crate::incoming::Incoming;
use crate::refuse::{self, Place};
use crate::reply::Reply;
use crate::{clock, state};

/// `POST`: signs out.
pub async fn sign_out(incoming: &Incoming, place: Place<'_>) -> Reply {
    let fields = match posted_or_nothing(incoming).await {
        Ok(fields) => fields,
        Err(problem) => return refuse::problem(place, &problem),
    };
    let tokens = guard::presented_proofs(&incoming.cookies);
    if tokens.len() > cookie::MAX_LOOKED_AT {
        let detail = format!(
            "More than {} sessions are presented at once. Delete this site's cookies and sign out everywhere.",
            cookie::MAX_LOOKED_AT
        );
        return refuse::problem(place, &Problem::new(Code::TooLarge, detail));
    }
    let wait_s = wait_s(incoming);
    let answer = if tokens.is_empty() {
        Ok(nothing_to_end())
    } else {
        let request = LogoutRequest { tokens: tokens.clone(), wait_s };
        let effort = Effort::OPERATION.plus_s(wait_s);
        coordinator::ask::<SignedOutAnswer>(&incoming.config, "/v1/logout", &request, &incoming.request_id, effort)
            .await
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(CallError::Refused(problem)) => return refuse::problem(place, &problem),
        Err(CallError::Unknown) => {
            let detail = "You may still be signed in: the sign-in service did not answer. Sign out again in a moment.";
            return refuse::problem(place, &Problem::new(Code::Unavailable, detail).retry_after_s(2));
        }
    };
    remember(&tokens);
    let reply = if is_browser(place.asker) {
        let back = fields.get("return_to").filter(|path| return_to::is_safe(path));
        let login = format!("{}/login?signed_out", place.prefix);
        Reply::see_other(back.unwrap_or(&login))
    } else {
        Reply::json(200, &SignedOut::from(&answer))
    };
    preference_applied(reply, wait_s)
        // Pages that were shown with the session must not come back from the cache.
        .header("Clear-Site-Data", "\"cache\"")
        .cookies(guard::clear_all(&incoming.cookies, None))
}

/// Without a session the answer is the same, and holds already.
fn nothing_to_end() -> SignedOutAnswer {
    let now_ms = clock::now_ms();
    let known = state::with(|state| state.view.clock().map(|clock| clock.earliest_ms(now_ms)));
    let now_ms = known.unwrap_or_else(|| u64::try_from(now_ms).unwrap_or(0));
    SignedOutAnswer { effective_at_ms: now_ms, effective_everywhere: true, now_ms }
}

/// This isolate need not wait for the feed.
fn remember(tokens: &[String]) {
    state::with(|state| {
        let Some(keys) = state.keys.clone() else { return };
        for token in tokens {
            let verified = UntrustedToken::parse(token).ok().and_then(|token| token.verify(&keys.ring, keys.site).ok());
            if let Some(verified) = verified {
                state.ended.remember(verified.claims().session_id, Reason::SignedOut);
            }
        }
    });
}
