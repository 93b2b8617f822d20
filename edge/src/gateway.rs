//! From the gate to the origin and back: bodies are never touched, headers are.
//!
//! On the way in every spelling of our identity headers is stripped and ours are set; our cookies are
//! removed. On the way out the origin cannot set a cookie of ours, and what was made for somebody who is signed in
//! is stored by nobody, unless it is public and the origin says otherwise.

use std::rc::Rc;

use edgekeep_shared::cookie;
use edgekeep_shared::gate::Identity;
use edgekeep_shared::identity;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Request, Response};

use crate::assertion::{self, Assertion};
use crate::config::{Origin, OriginAddress};
use crate::guard::Allowed;
use crate::incoming::Incoming;
use crate::js::{self, Bindings, Changes, Facts, JsFailure, Lines, Onward, Sent};
use crate::state;

/// How far back the assertion's `nbf` lies, so that an origin whose clock is a little behind accepts it.
const NOT_BEFORE_SLACK_S: u64 = 5;
/// Headers that some caches obey before `Cache-Control` (RFC 9213, its forerunners, nginx), a line each.
const FOR_SHARED_CACHES: &str = "CDN-Cache-Control\nCloudflare-CDN-Cache-Control\nSurrogate-Control\nX-Accel-Expires";

/// Sends an allowed request to the origin. `gated` says that a session was needed.
///
/// # Errors
/// When it cannot be sent.
pub fn send(incoming: &Incoming, env: &JsValue, allowed: &Allowed, gated: bool) -> Result<Sent, JsFailure> {
    let Some(origin) = &incoming.config.origin else { return Err(JsFailure("no origin is configured".to_owned())) };
    let request = request_for(incoming, origin, allowed, gated)?;
    match origin.address {
        OriginAddress::Binding => {
            let binding = env.unchecked_ref::<Bindings>().origin();
            binding.ok_or_else(|| JsFailure("the binding ORIGIN is gone".to_owned()))?.send(&request, origin.timeout_ms)
        }
        OriginAddress::Url(_) => js::send(&request, origin.timeout_ms),
    }
}

/// The request as the origin sees it.
fn request_for(incoming: &Incoming, origin: &Origin, allowed: &Allowed, gated: bool) -> Result<Request, JsFailure> {
    let mut onward = Onward { no_store: gated, ..Onward::default() };
    for name in js::names_of(&incoming.request).split('\n').filter(|name| must_go(name)) {
        onward.without.line(name);
    }
    match cookies_for_origin(&incoming.cookies) {
        Cookies::AsTheyAre => {}
        Cookies::Only(kept) => onward.having.pair("Cookie", &kept),
        Cookies::None => onward.without.line("Cookie"),
    }
    if let OriginAddress::Url(base) = &origin.address {
        // Exactly the path that was decided on.
        onward.url = Some(format!("{base}{}", incoming.path_and_query()));
        // The origin sees its own name as the host; which site was asked for stands here.
        let (scheme, authority) = incoming.target.split_once("://").unwrap_or(("https", &incoming.target));
        onward.having.pair("X-Forwarded-Host", authority);
        onward.having.pair("X-Forwarded-Proto", scheme);
    }
    onward.having.pair(identity::REQUEST_ID, &incoming.request_id);
    if let Some(who) = &allowed.passage.identity {
        introduce(&mut onward.having, who, &assertion_for(origin, allowed, who)?);
    }
    onward.request(&incoming.request)
}

/// The header does not reach the origin: what could be taken for our identity headers, what makes an origin see
/// another method or path, and `Connection`, by which a client could have the next hop drop headers of ours.
#[must_use]
pub fn must_go(name: &str) -> bool {
    // A cheap look first: hardly any header begins like this.
    matches!(name.as_bytes().first(), Some(b'e' | b'E' | b'x' | b'X' | b'c' | b'C'))
        && (identity::is_stripped(name) || name.eq_ignore_ascii_case("connection"))
}

/// What the origin gets of the `Cookie` header.
#[derive(Debug, PartialEq, Eq)]
enum Cookies {
    AsTheyAre,
    Only(String),
    None,
}

fn cookies_for_origin(cookies: &str) -> Cookies {
    if cookies.is_empty() {
        // An over-long `Cookie` header was not looked at, so it is not passed on either.
        return Cookies::None;
    }
    if !cookies.to_ascii_lowercase().contains("__host-e") {
        return Cookies::AsTheyAre;
    }
    let kept = cookie::strip(cookies).map(|kept| without_form_cookie(&kept)).filter(|kept| !kept.is_empty());
    kept.map_or(Cookies::None, Cookies::Only)
}

/// The pre-session cookie is ours as well.
fn without_form_cookie(cookies: &str) -> String {
    let ours = |pair: &&str| pair.split('=').next() != Some(edgekeep_shared::form_key::PRE_SESSION_COOKIE);
    cookies.split("; ").filter(ours).collect::<Vec<_>>().join("; ")
}

fn introduce(headers: &mut Lines, who: &Identity, assertion: &str) {
    headers.pair(identity::USER, &identity::header_text(&who.name));
    headers.pair(identity::USER_ID, &who.user_id.to_string());
    headers.pair(identity::ROLES, &who.roles.join(","));
    headers.pair(identity::SESSION, &who.session_id.to_string());
    headers.pair(identity::ASSERTION, assertion);
}

/// The assertion for this identity: one that was made from the same proof lately, or a new one.
fn assertion_for(origin: &Origin, allowed: &Allowed, who: &Identity) -> Result<Rc<str>, JsFailure> {
    // An identity is only known with an answer of the coordinator, which tells its time.
    let now_s = allowed.coordinator_now_ms.unwrap_or(0) / 1_000;
    let reusable = allowed.proof.as_deref().filter(|_| allowed.unchanged);
    if let Some(recent) = reusable.and_then(|proof| state::with(|state| state.assertions.get(proof, now_s))) {
        return Ok(recent);
    }
    // A cold isolate whose question was answered and whose fetch of keys was not: it cannot name the audience.
    let Some(keys) = state::with(|state| state.keys.clone()) else {
        return Err(JsFailure("the site's name is not known yet".to_owned()));
    };
    let token: Rc<str> = assertion::sign(
        &Assertion {
            iss: "edgekeep",
            aud: &keys.site_name,
            sub: &who.user_id.to_string(),
            name: &who.name,
            roles: &who.roles,
            sid: &who.session_id.to_string(),
            auth_time: who.authenticated_at_ms / 1_000,
            iat: now_s,
            nbf: now_s.saturating_sub(NOT_BEFORE_SLACK_S),
            exp: now_s + assertion::LIFE_S,
        },
        &origin.assertion_key,
    )
    .into();
    if let Some(proof) = reusable {
        state::with(|state| state.assertions.put(proof.to_owned(), now_s, token.clone()));
    }
    Ok(token)
}

/// The origin's word about caches gives way to `no-store` (design 2.1, 2.4): always where a cookie of ours is set or a
/// session was needed; on a public route for somebody who is known, unless the origin says something itself. A plain
/// `no-store` may stand, if nothing that shared caches obey before it contradicts it (`others`).
fn gives_way(theirs: Option<&str>, others: bool, sets_cookies: bool, gated: bool, known: bool) -> bool {
    match theirs {
        Some(theirs) if theirs.trim().eq_ignore_ascii_case("no-store") => others && (sets_cookies || gated),
        Some(_) => sets_cookies || gated,
        None => sets_cookies || gated || known,
    }
}

/// The origin's answer as the client sees it: the same object, unless something has to be changed.
///
/// # Errors
/// When the platform refuses the changes.
pub fn answer(response: Response, allowed: &Allowed, gated: bool) -> Result<Response, JsFailure> {
    let facts = Facts::of(&response, FOR_SHARED_CACHES);
    // A switched protocol has no body and takes no changes.
    if facts.status == 101 {
        return Ok(response);
    }
    let theirs = if facts.sets_cookies { js::set_cookies(&response.headers()) } else { Vec::new() };
    let strip_theirs = theirs.iter().any(|cookie| sets_ours(cookie));
    let (set_cookies, known) = (&allowed.set_cookies, allowed.passage.identity.is_some());
    let gives_way = gives_way(facts.cache_control.as_deref(), facts.has_others, !set_cookies.is_empty(), gated, known);
    if set_cookies.is_empty() && !strip_theirs && !gives_way {
        return Ok(response);
    }
    let mut changes = Changes::default();
    if strip_theirs {
        changes.without.line("Set-Cookie");
        for cookie in theirs.iter().filter(|cookie| !sets_ours(cookie)) {
            changes.more.pair("Set-Cookie", cookie);
        }
    }
    if gives_way || !set_cookies.is_empty() {
        changes.having.pair("Cache-Control", "no-store");
        if facts.has_others {
            FOR_SHARED_CACHES.lines().for_each(|name| changes.without.line(name));
        }
    }
    for cookie in set_cookies {
        changes.more.pair("Set-Cookie", cookie);
    }
    changes.of(&response)
}

/// The `Set-Cookie` value is about a cookie of ours, or one that could be taken for it.
#[must_use]
pub fn sets_ours(set_cookie: &str) -> bool {
    let pair = set_cookie.split(';').next().unwrap_or_default();
    let name = pair.split_once('=').map_or(pair, |(name, _)| name);
    cookie::looks_like_ours(name)
        || cookie::looks_like_ours(pair)
        || name.trim().eq_ignore_ascii_case(edgekeep_shared::form_key::PRE_SESSION_COOKIE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_for_somebody_is_stored_by_nobody() {
        let (public, no_store) = (Some("public, max-age=600"), Some("No-Store"));
        for others in [false, true] {
            assert!(gives_way(public, others, false, true, true), "a session was needed");
            assert!(gives_way(public, others, true, false, false), "a cookie of ours is set");
            assert!(gives_way(None, others, false, true, true));
            assert!(gives_way(None, others, false, false, true), "public, for somebody who is known");
            assert!(!gives_way(public, others, false, false, true), "public, and the origin says so");
            assert!(!gives_way(None, others, false, false, false), "public, for anybody");
        }
        assert!(!gives_way(no_store, false, true, true, true), "it says so already");
        assert!(gives_way(no_store, true, false, true, true), "and says the contrary to shared caches");
        assert!(gives_way(no_store, true, true, false, true));
    }

    #[test]
    fn what_a_client_may_not_bring_goes() {
        for name in ["edgekeep-user", "Edgekeep_Roles", "EDGEKEEP.SESSION", "connection", "x-http-method-override"] {
            assert!(must_go(name), "{name}");
        }
        for name in ["cookie", "content-type", "x-forwarded-for", "upgrade", "accept", "x-edgekeep"] {
            assert!(!must_go(name), "{name}");
        }
    }

    #[test]
    fn every_stripped_name_passes_the_cheap_look() {
        for first in (0..=u8::MAX).map(char::from).filter(|first| first.is_ascii_graphic()) {
            for rest in ["dgekeep-user", "-http-method-override", "_original_url", "onnection"] {
                let name = format!("{first}{rest}");
                assert!(!identity::is_stripped(&name) || must_go(&name), "{name}");
            }
        }
    }

    #[test]
    fn our_cookies_do_not_reach_the_origin() {
        assert_eq!(without_form_cookie("a=1; __Host-ek-form=x; b=2"), "a=1; b=2");
        assert_eq!(without_form_cookie("__Host-ek-form=x"), "");
        assert_eq!(cookies_for_origin(""), Cookies::None);
        assert_eq!(cookies_for_origin("a=1; b=2"), Cookies::AsTheyAre);
        assert_eq!(cookies_for_origin("a=1; __host-EDGEKEEP-1=x"), Cookies::Only("a=1".to_owned()));
        assert_eq!(cookies_for_origin("__Host-edgekeep-1=x; __Host-ek-form=y"), Cookies::None);
    }

    #[test]
    fn the_origin_cannot_set_them() {
        for ours in [
            "__Host-edgekeep-00000001=x; Path=/",
            "__HOST-EDGEKEEP-1=x",
            "=__Host-edgekeep-1=x",
            " __Host-edgekeep-1 =x",
            "__Host-edgekeep-1",
            "__Host-ek-form=planted",
        ] {
            assert!(sets_ours(ours), "{ours}");
        }
        for other in ["a=__Host-edgekeep-1", "__Host-other=1", "edgekeep=1"] {
            assert!(!sets_ours(other), "{other}");
        }
    }
}
