//! One request as the rest of the worker sees it: the parts that every decision needs, read once.
//! (A header costs about a microsecond to read from WebAssembly: what every request needs comes over in one piece, and
//! nothing is read twice.)

use std::rc::Rc;

use edgekeep_shared::problem::{Code, Problem};
use web_sys::Request;

use crate::config::Config;
use crate::js::{self, Context};
use crate::negotiate::{Audience, Signs};
use crate::{csrf, forms};

/// The longest `Cookie` header that is looked at, in bytes; browsers send less, unless a site fills their jar.
const MAX_COOKIE_BYTES: usize = 32 * 1024;
/// The longest value of any other header that decides something, in bytes.
const MAX_HEADER_BYTES: usize = 2 * 1024;

/// A request that came in.
pub struct Incoming {
    /// The request itself: its body and its other headers.
    pub request: Request,
    /// Its execution context.
    pub context: Context,
    /// The isolate's configuration.
    pub config: Rc<Config>,
    /// The method, upper-case.
    pub method: String,
    /// Scheme and authority, such as `https://example.com`.
    pub target: String,
    /// The path as it was sent.
    pub path: String,
    /// The query without its question mark; empty without one.
    pub query: String,
    /// The `Cookie` header; empty without one, and where it is too long to be looked at.
    pub cookies: String,
    /// The `Cookie` header was not looked at. A session that stands may be in it, so nobody may say that there is none.
    pub cookies_too_long: bool,
    /// Ties together the logs of edge, coordinator and origin.
    pub request_id: String,
}

/// A URL's parts: scheme and authority, path, query. The path is never empty.
#[must_use]
pub fn split_url(url: &str) -> (&str, &str, &str) {
    let after_scheme = url.find("://").map_or(0, |at| at + 3);
    let authority_end = url[after_scheme..].find(['/', '?', '#']).map_or(url.len(), |at| after_scheme + at);
    let (target, rest) = url.split_at(authority_end);
    let rest = rest.split('#').next().unwrap_or_default();
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    (target, if path.is_empty() { "/" } else { path }, query)
}

/// Scheme and authority as the browser knows them.
fn public_target(target: &str, public_https: bool) -> String {
    match target.strip_prefix("http://") {
        Some(authority) if public_https => format!("https://{authority}"),
        _ => target.to_owned(),
    }
}

impl Incoming {
    /// Reads a request.
    #[must_use]
    pub fn read(request: Request, context: Context, config: Rc<Config>, request_id: String) -> Self {
        let (method, target, path, query, (cookies, cookies_too_long)) = js::with_head(&request, |head| {
            let (method, url, cookies) = split_head(head);
            let (target, path, query) = split_url(url);
            let target = public_target(target, config.public_https);
            (method.to_owned(), target, path.to_owned(), query.to_owned(), cookies_of(cookies))
        });
        Self { method, target, path, query, cookies, cookies_too_long, request_id, request, context, config }
    }

    /// A header that decides something: an over-long one counts as missing.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        self.request.headers().get(name).ok().flatten().filter(|value| value.len() <= MAX_HEADER_BYTES)
    }

    /// Why nothing can be said about the session of this request, if its cookies were not looked at.
    #[must_use]
    pub fn cookie_problem(&self) -> Option<Problem> {
        let detail = || {
            format!(
                "The Cookie header has more than {MAX_COOKIE_BYTES} bytes. Delete some of this site's cookies, then try again."
            )
        };
        self.cookies_too_long.then(|| Problem::new(Code::TooLarge, detail()))
    }

    /// It came over TLS, as far as this worker can see or was told (`PUBLIC_SCHEME`).
    #[must_use]
    pub fn https(&self) -> bool {
        self.target.starts_with("https://")
    }

    /// GET or HEAD.
    #[must_use]
    pub fn reads_only(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD")
    }

    /// The kind of its body.
    #[must_use]
    pub fn body_kind(&self) -> Option<forms::BodyKind> {
        self.header("Content-Type").as_deref().and_then(forms::BodyKind::of)
    }

    /// Who is asking, and whether a person opens the address.
    #[must_use]
    pub fn asker(&self) -> Asker {
        let (accept, mode) = (self.header("Accept"), self.header("Sec-Fetch-Mode"));
        let kind = if self.reads_only() { None } else { self.body_kind() };
        let signs = Signs {
            accept: accept.as_deref(),
            sec_fetch_mode: mode.as_deref(),
            json_body: kind == Some(forms::BodyKind::Json),
            form_body: kind == Some(forms::BodyKind::Form),
        };
        Asker { audience: signs.audience(), navigates: self.reads_only() && signs.navigates() }
    }

    /// It may change state (design 2.4).
    #[must_use]
    pub fn sent_by_our_pages(&self) -> bool {
        let (site, origin) = (self.header("Sec-Fetch-Site"), self.header("Origin"));
        let json = self.body_kind() == Some(forms::BodyKind::Json);
        csrf::Provenance {
            sec_fetch_site: site.as_deref(),
            origin: origin.as_deref(),
            target: &self.target,
            json_with_key: json && self.header("Idempotency-Key").is_some(),
        }
        .same_site_pages_only()
    }

    /// Path and query: where a login leads back to.
    #[must_use]
    pub fn path_and_query(&self) -> String {
        if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) }
    }

    /// Our door that a decoded path names, such as `/login`; `None` where the path is the origin's.
    #[must_use]
    pub fn door<'a>(&self, decoded_path: &'a str) -> Option<&'a str> {
        let rest = decoded_path.strip_prefix(self.config.prefix.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// How answers are shown.
    pub audience: Audience,
    /// A person opens the address, with a method that only reads: a refusal may lead to the login form.
    pub navigates: bool,
}

/// Method, address and cookies, as [`js::with_head`] gives them. Neither method nor address can have a space or a line break
/// in it (RFC 9112 section 3).
fn split_head(head: &str) -> (&str, &str, &str) {
    let (line, cookies) = head.split_once('\n').unwrap_or((head, ""));
    let (method, url) = line.split_once(' ').unwrap_or((line, ""));
    (method, url, cookies)
}

/// The `Cookie` header as it is looked at, and whether it was too long for that.
fn cookies_of(header: &str) -> (String, bool) {
    if header.len() > MAX_COOKIE_BYTES { (String::new(), true) } else { (header.to_owned(), false) }
}

#[cfg(test)]
mod tests {
    use super::{MAX_COOKIE_BYTES, cookies_of, public_target, split_head, split_url};

    #[test]
    fn tls_in_front_is_what_the_browser_knows() {
        assert_eq!(public_target("http://a.example", true), "https://a.example");
        assert_eq!(public_target("http://a.example", false), "http://a.example");
        assert_eq!(public_target("https://a.example", true), "https://a.example");
    }

    #[test]
    fn cookies_that_were_not_looked_at_are_not_no_cookies() {
        assert_eq!(cookies_of(""), (String::new(), false));
        assert_eq!(cookies_of("a=1"), ("a=1".to_owned(), false));
        assert_eq!(cookies_of(&"x".repeat(MAX_COOKIE_BYTES + 1)), (String::new(), true));
    }

    #[test]
    fn heads_fall_apart() {
        assert_eq!(split_head("GET https://a.example/\na=1; b=2"), ("GET", "https://a.example/", "a=1; b=2"));
        assert_eq!(split_head("GET https://a.example/\n"), ("GET", "https://a.example/", ""));
        assert_eq!(split_head(""), ("", "", ""));
    }

    #[test]
    fn urls_fall_apart() {
        assert_eq!(split_url("https://a.example/x/y?z=1?2"), ("https://a.example", "/x/y", "z=1?2"));
        assert_eq!(split_url("http://127.0.0.1:8787/"), ("http://127.0.0.1:8787", "/", ""));
        assert_eq!(split_url("http://a.example"), ("http://a.example", "/", ""));
        assert_eq!(split_url("http://a.example?x"), ("http://a.example", "/", "x"));
        assert_eq!(split_url("http://a.example/p#f?x"), ("http://a.example", "/p", ""));
        assert_eq!(split_url("http://a.example//evil/..%2f"), ("http://a.example", "//evil/..%2f", ""));
    }
}
