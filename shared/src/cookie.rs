//! Session cookies in requests and answers (design 2.1; RFC 6265bis).
//!
//! Every session has a cookie name of its own, so a late `Set-Cookie` of one session never
//! overwrites the cookie of a newer one. Which of several counts is decided here, once.

use crate::ids::{SessionId, SiteId};
use crate::keyring::KeyRing;
use crate::token::{UntrustedToken, VerifiedToken, VerifyError};

/// Start of every session cookie's name. `__Host-` binds it to this host, HTTPS and the path `/`.
pub const COOKIE_PREFIX: &str = "__Host-edgekeep-";
/// Hexadecimal digits of the session id in the name.
pub const NAME_ID_CHARS: usize = 8;
/// How many of a request's cookies of ours are looked at: the last ones, since browsers send the newest last.
pub const MAX_LOOKED_AT: usize = 8;

/// The cookie name of a session.
#[must_use]
pub fn cookie_name(session_id: SessionId) -> String {
    let id = session_id.to_string();
    format!("{COOKIE_PREFIX}{}", &id[..NAME_ID_CHARS])
}

/// A `Set-Cookie` value for a proof; `max_age_s` is the time until the session's absolute expiry.
#[must_use]
pub fn set_cookie(token: &str, session_id: SessionId, max_age_s: u64) -> String {
    format!("{}={token}; Path=/; Max-Age={max_age_s}; Secure; HttpOnly; SameSite=Lax", cookie_name(session_id))
}

/// A `Set-Cookie` value that removes the cookie with this name.
#[must_use]
pub fn clear_cookie(name: &str) -> String {
    format!("{name}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax")
}

/// The name is one of ours, or one that something on the way could take for ours: it never reaches the origin.
///
/// Only the exact prefix is ever *accepted*; look-alikes (`__host-…`, stray spaces) are only stripped.
#[must_use]
pub fn looks_like_ours(name: &str) -> bool {
    let name = name.trim_matches(|c: char| c.is_ascii_whitespace() || c == '=').as_bytes();
    name.len() >= COOKIE_PREFIX.len() && name[..COOKIE_PREFIX.len()].eq_ignore_ascii_case(COOKIE_PREFIX.as_bytes())
}

/// The pairs of a `Cookie` header.
fn pairs(header: &str) -> impl Iterator<Item = &str> {
    header.split(';').map(|pair| pair.trim_matches([' ', '\t'])).filter(|pair| !pair.is_empty())
}

/// One cookie of ours as it was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presented<'a> {
    /// The cookie's name, with our exact prefix.
    pub name: &'a str,
    /// The cookie's value, unchecked.
    pub value: &'a str,
}

/// The cookies of ours in a `Cookie` header.
fn ours(header: &str) -> impl Iterator<Item = Presented<'_>> {
    pairs(header)
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| name.starts_with(COOKIE_PREFIX))
        .map(|(name, value)| Presented { name, value })
}

/// The last [`MAX_LOOKED_AT`] cookies of ours, in the header's order.
#[must_use]
pub fn presented(header: &str) -> Vec<Presented<'_>> {
    let mut last = all_presented(header);
    last.drain(..last.len().saturating_sub(MAX_LOOKED_AT));
    last
}

/// All cookies of ours, however many: for signing out, which must not overlook one and say that it is done.
#[must_use]
pub fn all_presented(header: &str) -> Vec<Presented<'_>> {
    ours(header).collect()
}

/// The pair holds one of our cookies, wherever in it. A proxy or the platform may have joined two `Cookie` headers with a
/// comma; then ours stands in what looks like another one's value, and must not reach the origin all the same.
fn holds_ours(pair: &str) -> bool {
    pair.as_bytes().windows(COOKIE_PREFIX.len()).any(|part| part.eq_ignore_ascii_case(COOKIE_PREFIX.as_bytes()))
}

/// The header without our cookies and their look-alikes: what the origin may see. `None` if nothing is left.
#[must_use]
pub fn strip(header: &str) -> Option<String> {
    let mut kept = String::with_capacity(header.len());
    for pair in pairs(header) {
        // A nameless cookie (`=__Host-…`, CVE-2022-31629) may be read as a named one further on.
        if holds_ours(pair) {
            continue;
        }
        if !kept.is_empty() {
            kept.push_str("; ");
        }
        kept.push_str(pair);
    }
    (!kept.is_empty()).then_some(kept)
}

/// Which cookie counts for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// The request carries no cookie of ours.
    Nothing,
    /// It carries some, and none is valid.
    Invalid,
    /// It carries one whose key this holder does not have: only the coordinator can tell.
    UnknownKey {
        /// The cookie's name.
        name: String,
        /// The cookie's value, unchecked.
        value: String,
    },
    /// A valid proof. Whether its session stands is the gate's question.
    Proof {
        /// The cookie's value.
        value: String,
        /// What it says.
        token: VerifiedToken,
    },
}

/// The outcome of looking at a request's cookies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The one that counts.
    pub chosen: Chosen,
    /// Names of the others that are valid or surely invalid: they are cleared on the way out.
    pub clear: Vec<String>,
}

/// Chooses among the cookies of a request: the latest `authenticated_at` wins, with no fallback when it is denied.
///
/// Two cookies of the same name are both invalid. A valid token under a name that does not match its session id is
/// invalid. A cookie with an unknown key counts only where no valid one is there, and is never cleared.
#[must_use]
pub fn choose(header: &str, ring: &KeyRing, site: SiteId) -> Choice {
    let cookies = presented(header);
    let mut choice = Choice { chosen: Chosen::Nothing, clear: Vec::new() };
    let mut best: Option<(Presented<'_>, VerifiedToken)> = None;
    let mut unknown: Option<Presented<'_>> = None;
    for cookie in &cookies {
        let twice = cookies.iter().filter(|other| other.name == cookie.name).count() > 1;
        let verified = if twice { Err(VerifyError::Invalid) } else { verify_named(*cookie, ring, site) };
        match verified {
            Ok(token) => {
                let newest = best.as_ref().is_none_or(|(_, other)| is_newer(&token, other));
                let loser = if newest { best.replace((*cookie, token)).map(|(old, _)| old) } else { Some(*cookie) };
                choice.clear.extend(loser.map(|loser| loser.name.to_owned()));
            }
            Err(VerifyError::UnknownKey(_)) => unknown = Some(*cookie),
            Err(VerifyError::Invalid) => {
                if !choice.clear.iter().any(|name| name == cookie.name) {
                    choice.clear.push(cookie.name.to_owned());
                }
            }
        }
    }
    choice.chosen = match (best, unknown) {
        (Some((cookie, token)), _) => Chosen::Proof { value: cookie.value.to_owned(), token },
        (None, Some(cookie)) => Chosen::UnknownKey { name: cookie.name.to_owned(), value: cookie.value.to_owned() },
        (None, None) if cookies.is_empty() => Chosen::Nothing,
        (None, None) => Chosen::Invalid,
    };
    choice
}

/// Verifies a cookie's value and that its name belongs to it.
fn verify_named(cookie: Presented<'_>, ring: &KeyRing, site: SiteId) -> Result<VerifiedToken, VerifyError> {
    let token = UntrustedToken::parse(cookie.value).map_err(|_| VerifyError::Invalid)?.verify(ring, site)?;
    let id = token.claims().session_id.0;
    let named = cookie.name.strip_prefix(COOKIE_PREFIX).and_then(crate::ids::from_hex::<{ NAME_ID_CHARS / 2 }>);
    if named.is_some_and(|name| name == id[..NAME_ID_CHARS / 2]) { Ok(token) } else { Err(VerifyError::Invalid) }
}

/// Later authentication first; of two proofs of equal age the later one in the header.
fn is_newer(token: &VerifiedToken, than: &VerifiedToken) -> bool {
    token.claims().authenticated_at_ms >= than.claims().authenticated_at_ms
}
