//! An answer of our own, as plain data: doors make it, tests read it, `respond` turns it into a `Response`.

use edgekeep_shared::problem::Problem;
use serde::Serialize;

/// An answer of our own.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers in order; `Set-Cookie` may come several times.
    pub headers: Vec<(&'static str, String)>,
    /// The body, if there is one.
    pub body: Option<String>,
}

impl Reply {
    /// No body, not to be stored.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        let reply = Self { status, headers: vec![("Cache-Control", "no-store".to_owned())], body: None };
        // A 401 must say this (RFC 9110 section 11.6.1); no browser opens a dialogue for this scheme.
        if status == 401 { reply.header("WWW-Authenticate", "Cookie realm=\"edgekeep\"") } else { reply }
    }

    /// A page.
    #[must_use]
    pub fn page(status: u16, html: String) -> Self {
        Self::empty(status).with_body("text/html; charset=utf-8", html)
    }

    /// JSON.
    #[must_use]
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        Self::empty(status).with_body("application/json", to_json(value))
    }

    /// A problem (RFC 9457), with `Retry-After` if it has one.
    #[must_use]
    pub fn problem(problem: &Problem) -> Self {
        Self::empty(problem.status)
            .with_body("application/problem+json", to_json(problem))
            .retry_after(problem.retry_after_s)
    }

    /// "See other": after a form, and from a page that needs a session to the login form.
    #[must_use]
    pub fn see_other(location: &str) -> Self {
        Self::empty(303).header("Location", location)
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With these cookies set or cleared.
    #[must_use]
    pub fn cookies(mut self, set_cookies: impl IntoIterator<Item = String>) -> Self {
        self.headers.extend(set_cookies.into_iter().map(|cookie| ("Set-Cookie", cookie)));
        self
    }

    /// With `Retry-After`, if there is something to say.
    #[must_use]
    pub fn retry_after(self, seconds: Option<u32>) -> Self {
        match seconds {
            Some(seconds) => self.header("Retry-After", seconds.to_string()),
            None => self,
        }
    }

    /// The same body under another type.
    #[must_use]
    pub fn of_type(mut self, content_type: &'static str) -> Self {
        self.headers.retain(|(name, _)| *name != "Content-Type");
        self.header("Content-Type", content_type)
    }

    /// With a body of this type.
    #[must_use]
    pub fn with_body(mut self, content_type: &'static str, body: String) -> Self {
        self.body = Some(body);
        self.header("Content-Type", content_type)
    }

    /// Kept by caches for so many seconds: for the style sheet and the icon, which are the same for everybody.
    #[must_use]
    pub fn cached_for_s(mut self, seconds: u32) -> Self {
        self.headers.retain(|(name, _)| *name != "Cache-Control");
        self.header("Cache-Control", format!("public, max-age={seconds}"))
    }

    /// The first header of this name.
    #[cfg(test)]
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str())
    }
}

/// Our own types always serialise; an empty object would still be JSON.
fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgekeep_shared::problem::{Code, Reason};

    #[test]
    fn nothing_of_ours_is_stored_by_default() {
        for reply in [Reply::empty(204), Reply::page(200, String::new()), Reply::see_other("/x")] {
            assert_eq!(reply.get("Cache-Control"), Some("no-store"));
        }
        assert_eq!(Reply::empty(200).cached_for_s(60).get("Cache-Control"), Some("public, max-age=60"));
    }

    #[test]
    fn a_problem_as_rfc_9457_has_it() {
        let problem =
            Problem::new(Code::NoSession, "Sign in first.").reason(Reason::SignedInElsewhere).retry_after_s(3);
        let reply = Reply::problem(&problem);
        assert_eq!(reply.status, 401);
        assert_eq!(reply.get("Content-Type"), Some("application/problem+json"));
        assert_eq!(reply.get("WWW-Authenticate"), Some("Cookie realm=\"edgekeep\""));
        assert_eq!(reply.get("Retry-After"), Some("3"));
        assert_eq!(
            reply.body.as_deref(),
            Some(
                r#"{"type":"urn:edgekeep:problem:no_session","title":"You are not signed in","status":401,"detail":"Sign in first.","code":"no_session","retry_after_s":3,"reason":"signed_in_elsewhere"}"#
            )
        );
    }
}
