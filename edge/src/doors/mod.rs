//! Our own addresses under the prefix. To add one: a file beside this one, a line in [`METHODS`], an arm in [`open`].

mod account;
mod end_session;
pub mod form_key;
mod login;
mod logout;
mod logout_everywhere;
mod password;
mod session;
pub mod shapes;

use edgekeep_shared::problem::{Code, Problem};

use crate::body;
use crate::forms::{BodyKind, Fields};
use crate::incoming::{Asker, Incoming};
use crate::pages;
use crate::refuse::{self, Place};
use crate::reply::Reply;

/// The style sheet and the icon change only with the pages that name them.
const ASSET_LIFE_S: u32 = 86_400;

const READ: &[&str] = &["GET", "HEAD"];
const READ_AND_POST: &[&str] = &["GET", "HEAD", "POST"];
const POST: &[&str] = &["POST"];

/// Every door with the methods that it takes.
pub const METHODS: [(&str, &[&str]); 9] = [
    ("/login", READ_AND_POST),
    ("/logout", POST),
    ("/logout-everywhere", READ_AND_POST),
    ("/password", READ_AND_POST),
    ("/session", READ),
    ("/account", READ),
    ("/sessions/end", POST),
    ("/style.css", READ),
    ("/icon.svg", READ),
];

/// Answers a request to one of our own addresses; `door` is its path behind the prefix.
pub async fn open(incoming: &Incoming, door: &str) -> Reply {
    let asker = incoming.asker();
    let path_and_query = incoming.path_and_query();
    let place = Place { prefix: &incoming.config.prefix, path_and_query: &path_and_query, asker };
    let door = door.strip_suffix('/').unwrap_or(door);
    #[cfg(feature = "fault-injection")]
    if door == "/fault/panic" {
        crate::fault::panic_now();
    }
    let Some((_, methods)) = METHODS.iter().find(|(known, _)| *known == door) else {
        return refuse::not_found(place);
    };
    if !methods.contains(&incoming.method.as_str()) {
        return refuse::method_not_allowed(place, methods);
    }
    let posts = !incoming.reads_only();
    if posts && !incoming.sent_by_our_pages() {
        let detail =
            "A state-changing request must come from this site's own pages, or be JSON with an Idempotency-Key.";
        return refuse::problem(place, &Problem::new(Code::CrossSite, detail));
    }
    match (door, posts) {
        ("/login", false) => login::show(incoming).await,
        ("/login", true) => login::sign_in(incoming, asker).await,
        ("/logout", _) => logout::sign_out(incoming, place).await,
        ("/logout-everywhere", false) => logout_everywhere::show(incoming, place).await,
        ("/logout-everywhere", true) => logout_everywhere::sign_out(incoming, place).await,
        ("/password", false) => password::show(incoming, place).await,
        ("/password", true) => password::change(incoming, place).await,
        ("/session", _) => session::tell(incoming, place).await,
        ("/account", _) => account::show(incoming, place).await,
        ("/sessions/end", _) => end_session::end(incoming, place).await,
        ("/style.css", _) => asset("text/css; charset=utf-8", pages::STYLE),
        ("/icon.svg", _) => asset("image/svg+xml", pages::ICON),
        _ => refuse::not_found(place),
    }
}

fn asset(content_type: &'static str, text: &str) -> Reply {
    Reply::empty(200).with_body(content_type, text.to_owned()).cached_for_s(ASSET_LIFE_S)
}

/// A body that was read: its kind and its fields.
struct Posted {
    kind: BodyKind,
    fields: Fields,
}

/// Reads a body that has to be there.
async fn posted(incoming: &Incoming) -> Result<Posted, Problem> {
    let kind = incoming.body_kind().ok_or_else(unsupported)?;
    let bytes = body::read(&incoming.request, incoming.header("Content-Length").as_deref()).await?;
    Ok(Posted { kind, fields: Fields::read(kind, &bytes)? })
}

/// Reads a body that may be missing altogether.
async fn posted_or_nothing(incoming: &Incoming) -> Result<Fields, Problem> {
    let bytes = body::read(&incoming.request, incoming.header("Content-Length").as_deref()).await?;
    match (incoming.body_kind(), bytes.is_empty()) {
        (_, true) => Ok(Fields::default()),
        (Some(kind), false) => Fields::read(kind, &bytes),
        (None, false) => Err(unsupported()),
    }
}

fn unsupported() -> Problem {
    Problem::new(Code::UnsupportedMediaType, "Send application/json or application/x-www-form-urlencoded.")
}

/// The reply with what was preferred and granted (RFC 7240).
fn preference_applied(reply: Reply, wait_s: Option<u32>) -> Reply {
    match wait_s {
        Some(seconds) => reply.header("Preference-Applied", format!("wait={seconds}")),
        None => reply,
    }
}

/// `Prefer: wait`, in seconds.
fn wait_s(incoming: &Incoming) -> Option<u32> {
    incoming.header("Prefer").as_deref().and_then(crate::negotiate::wait_s)
}

/// The key that a form comes back with when nobody knows what became of it: sent once more, it must be the same
/// operation (G4). Empty for a new key.
fn key_to_keep<'a>(problem: &Problem, fields: &'a Fields) -> &'a str {
    let undecided = matches!(problem.code, Code::Unavailable | Code::LoginInFlight);
    fields.get("form_key").filter(|_| undecided).unwrap_or_default()
}

/// What the coordinator is told about the client.
fn client(incoming: &Incoming) -> edgekeep_shared::api::Client {
    let address = address_of(incoming.config.client_address_header.as_deref(), |name| incoming.header(name));
    let user_agent = incoming.header("User-Agent").unwrap_or_default();
    edgekeep_shared::api::Client { address, user_agent: user_agent.chars().take(256).collect() }
}

/// The address in the trusted header, if one is configured. One that is missing or over-long all the same is passed on
/// as no address, which shares one limit: leaving it out would switch the limit off for whoever comes without it.
fn address_of(trusted: Option<&str>, header: impl FnOnce(&str) -> Option<String>) -> Option<String> {
    trusted.map(|name| header(name).unwrap_or_default())
}

/// Is shown a page rather than JSON.
fn is_browser(asker: Asker) -> bool {
    asker.audience == crate::negotiate::Audience::Browser
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_without_a_trusted_header_there_is_no_limit() {
        assert_eq!(address_of(None, |_| Some("192.0.2.1".to_owned())), None);
        assert_eq!(address_of(Some("X-Real-IP"), |_| Some("192.0.2.1".to_owned())).as_deref(), Some("192.0.2.1"));
        assert_eq!(address_of(Some("X-Real-IP"), |_| None).as_deref(), Some(""));
    }

    #[test]
    fn what_reads_never_posts_and_the_other_way_round() {
        for (door, methods) in METHODS {
            assert!(door.starts_with('/') && !door.ends_with('/'), "{door}");
            assert_eq!(methods.contains(&"GET"), methods.contains(&"HEAD"), "{door}");
            assert!(methods.iter().all(|method| ["GET", "HEAD", "POST"].contains(method)), "{door}");
        }
    }
}
