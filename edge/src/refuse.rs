//! What a refused request gets: a problem for programs, a page or the login form for people. Pure: the same
//! denial always gives the same answer.

use edgekeep_shared::gate::Denial;
use edgekeep_shared::problem::{Code, Problem, Reason};
use edgekeep_shared::return_to;
use serde::Serialize;

use crate::incoming::Asker;
use crate::negotiate::Audience;
use crate::pages::message::{Link, Message};
use crate::pages::{Notice, sign_in, words};
use crate::reply::Reply;

/// Where the request was going, for links.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The prefix of our doors.
    pub prefix: &'a str,
    /// Path and query as they were sent.
    pub path_and_query: &'a str,
    /// Who is asking.
    pub asker: Asker,
}

impl Place<'_> {
    /// Where a login leads back to, if the request was one that can be repeated.
    fn back(&self) -> Option<&str> {
        Some(self.path_and_query).filter(|path| self.asker.navigates && return_to::is_safe(path))
    }

    /// The login form's address.
    #[must_use]
    pub fn login(&self) -> String {
        sign_in::address(self.prefix, self.back())
    }

    fn page(&self, problem: &Problem, notice: Notice, advice: &str, links: Vec<Link>) -> Reply {
        let message = Message { prefix: self.prefix, title: &problem.title, notice: Some(notice), advice, links };
        Reply::page(problem.status, message.page()).retry_after(problem.retry_after_s)
    }
}

/// The gate's refusal.
#[must_use]
pub fn denied(place: Place<'_>, denial: Denial) -> Reply {
    let problem = problem_of(denial);
    if place.asker.audience == Audience::Program {
        return Reply::problem(&problem);
    }
    match denial {
        // The login form finds out and says why.
        Denial::NoSession(_) | Denial::ReauthenticationRequired if place.asker.navigates => {
            Reply::see_other(&place.login())
        }
        Denial::NoSession(reason) => {
            let links = vec![Link { href: place.login(), text: "Sign in" }];
            place.page(&problem, Notice::info(words::why(reason)), "What you sent was not passed on.", links)
        }
        Denial::ReauthenticationRequired => {
            let links = vec![Link { href: place.login(), text: "Sign in again" }];
            place.page(&problem, Notice::info(&problem.detail), "What you sent was not passed on.", links)
        }
        Denial::Forbidden => {
            let links = vec![
                Link { href: "/".to_owned(), text: "Back to the site" },
                Link { href: place.login(), text: "Sign in as somebody else" },
            ];
            let advice = "If you should be able to, ask whoever runs this site for the role that it needs.";
            place.page(&problem, Notice::bad(&problem.detail), advice, links)
        }
    }
}

/// Nobody can know right now (G8): 503, and the cookie stays.
#[must_use]
pub fn unknown(place: Place<'_>) -> Reply {
    let problem = Problem::new(
        Code::Unavailable,
        "Your session cannot be checked right now. You are not signed out; try again in a moment.",
    )
    .retry_after_s(1);
    if place.asker.audience == Audience::Program {
        return Reply::problem(&problem);
    }
    let links = match place.back() {
        Some(path) => vec![Link { href: path.to_owned(), text: "Try again" }],
        None => Vec::new(),
    };
    let message = Message {
        prefix: place.prefix,
        title: "One moment, please",
        notice: Some(Notice::info(&problem.detail)),
        advice: "To be safe, pages that need a session are not shown until it can be checked again.",
        links,
    };
    Reply::page(problem.status, message.page()).retry_after(problem.retry_after_s)
}

/// A door that needs the coordinator, and it cannot be reached.
#[must_use]
pub fn unavailable(place: Place<'_>) -> Reply {
    let problem = crate::coordinator::unavailable();
    if place.asker.audience == Audience::Program {
        return Reply::problem(&problem);
    }
    let again = place.back().map(|path| Link { href: path.to_owned(), text: "Try again" });
    place.page(&problem, Notice::info(words::about(&problem)), "", again.into_iter().collect())
}

/// A problem that is nobody's session: wrong path, wrong method, and the like.
#[must_use]
pub fn problem(place: Place<'_>, problem: &Problem) -> Reply {
    match place.asker.audience {
        Audience::Program => Reply::problem(problem),
        Audience::Browser => {
            let links = vec![Link { href: "/".to_owned(), text: "Back to the site" }];
            place.page(problem, Notice::bad(words::about(problem)), "", links)
        }
    }
}

/// A method that is not listed, with the ones that are.
#[must_use]
pub fn method_not_allowed(place: Place<'_>, allowed: &[&str]) -> Reply {
    let detail = format!("This address takes {}.", allowed.join(", "));
    problem(place, &Problem::new(Code::MethodNotAllowed, detail)).header("Allow", allowed.join(", "))
}

/// An error outside the closed list of codes, as plain HTTP knows it (RFC 9457 section 4.2.1).
#[derive(Serialize)]
struct Plain<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

/// There is no such door.
#[must_use]
pub fn not_found(place: Place<'_>) -> Reply {
    let (title, detail) = ("Not found", "There is nothing at this address.");
    if place.asker.audience == Audience::Program {
        return Reply::json(404, &Plain { r#type: "about:blank", title, status: 404, detail })
            .of_type("application/problem+json");
    }
    let links = vec![Link { href: "/".to_owned(), text: "Back to the site" }];
    let message = Message { prefix: place.prefix, title, notice: None, advice: detail, links };
    Reply::page(404, message.page())
}

/// The origin cannot be reached, or does not answer in time.
#[must_use]
pub fn origin_unavailable(place: Place<'_>) -> Reply {
    closed(
        place,
        "The site cannot be reached",
        "Sign-in works, but the site behind it does not answer. Try again in a moment.",
        5,
    )
}

/// The bindings are not right; the log says which.
#[must_use]
pub fn misconfigured(place: Place<'_>) -> Reply {
    closed(place, "This site is not set up yet", "The edge worker is not configured; its log says what is missing.", 60)
}

/// 503 for a reason that is not the session's.
fn closed(place: Place<'_>, title: &str, detail: &str, retry_after_s: u32) -> Reply {
    if place.asker.audience == Audience::Program {
        return Reply::problem(&Problem::new(Code::Unavailable, detail).retry_after_s(retry_after_s));
    }
    let links = vec![Link { href: "/".to_owned(), text: "Back to the site" }];
    let message = Message { prefix: place.prefix, title, notice: None, advice: detail, links };
    Reply::page(503, message.page()).retry_after(Some(retry_after_s))
}

/// The denial as a program sees it.
#[must_use]
pub fn problem_of(denial: Denial) -> Problem {
    match denial {
        Denial::NoSession(reason) => {
            let detail = match reason {
                Reason::None => "This needs a session. Sign in first.",
                other => words::why(other),
            };
            Problem::new(Code::NoSession, detail).reason(reason)
        }
        Denial::Forbidden => Problem::new(Code::Forbidden, "Your account does not have the role that this page needs."),
        Denial::ReauthenticationRequired => Problem::new(
            Code::ReauthenticationRequired,
            "This page asks for a more recent sign-in. Sign in again to open it.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(audience: Audience, navigates: bool) -> Place<'static> {
        Place { prefix: "/auth", path_and_query: "/a?b=1", asker: Asker { audience, navigates } }
    }

    #[test]
    fn a_navigation_without_a_session_leads_to_the_form_and_back() {
        let reply = denied(place(Audience::Browser, true), Denial::NoSession(Reason::SignedInElsewhere));
        assert_eq!((reply.status, reply.get("Location")), (303, Some("/auth/login?return_to=/a%3Fb%3D1")));
        let hostile = Place { path_and_query: "//evil.example/", ..place(Audience::Browser, true) };
        assert_eq!(denied(hostile, Denial::NoSession(Reason::None)).get("Location"), Some("/auth/login"));
    }

    #[test]
    fn a_program_gets_the_reason() {
        let reply = denied(place(Audience::Program, false), Denial::NoSession(Reason::SignedInElsewhere));
        assert_eq!((reply.status, reply.get("Location")), (401, None));
        assert!(reply.body.is_some_and(|body| body.contains("\"reason\":\"signed_in_elsewhere\"")));
    }

    #[test]
    fn a_form_without_a_session_is_not_repeated_behind_the_persons_back() {
        let reply = denied(place(Audience::Browser, false), Denial::NoSession(Reason::Expired));
        assert_eq!(reply.status, 401);
        assert!(reply.body.is_some_and(|body| body.contains("expired") && body.contains("href=\"/auth/login\"")));
    }

    #[test]
    fn not_knowing_is_503_and_never_a_login_form() {
        for (audience, navigates) in [(Audience::Browser, true), (Audience::Browser, false), (Audience::Program, false)]
        {
            let reply = unknown(place(audience, navigates));
            assert_eq!((reply.status, reply.get("Retry-After"), reply.get("Set-Cookie")), (503, Some("1"), None));
            assert!(!reply.body.unwrap_or_default().contains("password"));
        }
    }

    #[test]
    fn a_role_that_is_missing_is_403_for_everybody() {
        assert_eq!(denied(place(Audience::Browser, true), Denial::Forbidden).status, 403);
        assert_eq!(denied(place(Audience::Program, false), Denial::Forbidden).status, 403);
        let again = denied(place(Audience::Program, false), Denial::ReauthenticationRequired);
        assert_eq!(again.status, 403);
        assert_eq!(denied(place(Audience::Browser, true), Denial::ReauthenticationRequired).status, 303);
    }

    #[test]
    fn errors_outside_the_list_are_problems_all_the_same() {
        let reply = not_found(place(Audience::Program, false));
        assert_eq!((reply.status, reply.get("Content-Type")), (404, Some("application/problem+json")));
        assert!(reply.body.is_some_and(|body| body.contains("\"type\":\"about:blank\"")));
        let reply = origin_unavailable(place(Audience::Program, false));
        assert_eq!((reply.status, reply.get("Retry-After")), (503, Some("5")));
        assert!(reply.body.is_some_and(|body| body.contains("\"code\":\"unavailable\"")));
        assert_eq!(
            method_not_allowed(place(Audience::Program, false), &["GET", "HEAD"]).get("Allow"),
            Some("GET, HEAD")
        );
    }
}
