//! Who is asking: a person's browser or a program? And what it would like (`Prefer`).

/// The longest `Prefer: wait` that is passed on, in seconds. The coordinator may hold the answer for less.
pub const MAX_WAIT_S: u32 = 30;

/// How an answer is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A readable page.
    Browser,
    /// `application/json` and `application/problem+json`.
    Program,
}

/// The headers that tell a browser from a program.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signs<'a> {
    /// The `Accept` header.
    pub accept: Option<&'a str>,
    /// The `Sec-Fetch-Mode` header.
    pub sec_fetch_mode: Option<&'a str>,
    /// The body is JSON.
    pub json_body: bool,
    /// The body is an HTML form.
    pub form_body: bool,
}

impl Signs<'_> {
    /// A JSON body or an `Accept` that names JSON and no HTML is a program; a navigation, an `Accept` that names HTML,
    /// or a form is a browser; anything else is a program.
    #[must_use]
    pub fn audience(self) -> Audience {
        let accept = self.accept.unwrap_or_default();
        let html = names(accept, &["text/html", "application/xhtml+xml"]);
        let json = names(accept, &["application/json", "application/problem+json"]);
        if self.json_body || (json && !html) {
            Audience::Program
        } else if html || self.form_body || self.navigates() {
            Audience::Browser
        } else {
            Audience::Program
        }
    }

    /// A person opens the address: the answer may be a redirect to the login form. Scripts and subresources, which
    /// would silently follow it, get the error itself.
    #[must_use]
    pub fn navigates(self) -> bool {
        match self.sec_fetch_mode {
            Some(mode) => mode.eq_ignore_ascii_case("navigate"),
            None => names(self.accept.unwrap_or_default(), &["text/html"]),
        }
    }
}

/// One of the media types is in the list with a quality above zero.
fn names(accept: &str, types: &[&str]) -> bool {
    accept.split(',').any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default();
        let refused = parts.any(|part| {
            let quality = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
            quality.is_some_and(|quality| quality.bytes().all(|digit| matches!(digit, b'0' | b'.')))
        });
        !refused && types.iter().any(|wanted| essence.eq_ignore_ascii_case(wanted))
    })
}

/// The seconds of `Prefer: wait=N` (RFC 7240 section 4.3), at most [`MAX_WAIT_S`]. The first one counts; one that is
/// not a number is ignored, as every preference that cannot be understood.
#[must_use]
pub fn wait_s(prefer: &str) -> Option<u32> {
    let wait = prefer.split(',').find_map(|preference| {
        let token = preference.split(';').next().unwrap_or_default();
        let (name, value) = token.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"'))
    })?;
    let digits = !wait.is_empty() && wait.bytes().all(|digit| digit.is_ascii_digit());
    digits.then(|| wait.parse().unwrap_or(MAX_WAIT_S).min(MAX_WAIT_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROME: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";

    fn audience(accept: &str, mode: Option<&str>) -> Audience {
        Signs { accept: Some(accept), sec_fetch_mode: mode, ..Signs::default() }.audience()
    }

    #[test]
    fn browsers_and_programs() {
        assert_eq!(audience(CHROME, Some("navigate")), Audience::Browser);
        assert_eq!(audience(CHROME, None), Audience::Browser);
        assert_eq!(audience("application/json", None), Audience::Program);
        assert_eq!(audience("application/json, text/plain, */*", Some("cors")), Audience::Program);
        assert_eq!(audience("*/*", None), Audience::Program);
        assert_eq!(audience("text/html;q=0, application/json", None), Audience::Program);
        assert_eq!(Signs::default().audience(), Audience::Program);
        assert_eq!(Signs { json_body: true, accept: Some(CHROME), ..Signs::default() }.audience(), Audience::Program);
        assert_eq!(Signs { form_body: true, accept: Some("*/*"), ..Signs::default() }.audience(), Audience::Browser);
        let form_for_json = Signs { form_body: true, accept: Some("application/json"), ..Signs::default() };
        assert_eq!(form_for_json.audience(), Audience::Program);
    }

    #[test]
    fn only_navigations_are_redirected() {
        let navigates = |mode, accept| Signs { sec_fetch_mode: mode, accept, ..Signs::default() }.navigates();
        assert!(navigates(Some("navigate"), Some("*/*")));
        assert!(!navigates(Some("cors"), Some(CHROME)));
        assert!(!navigates(Some("no-cors"), Some("image/avif,*/*")));
        assert!(navigates(None, Some(CHROME)));
        assert!(!navigates(None, Some("*/*")));
        assert!(!navigates(None, None));
    }

    #[test]
    fn prefer_wait() {
        assert_eq!(wait_s("wait=5"), Some(5));
        assert_eq!(wait_s("respond-async, WAIT = 10 ; x=y"), Some(10));
        assert_eq!(wait_s("wait=\"3\""), Some(3));
        assert_eq!(wait_s("wait=99999999999999999999"), Some(MAX_WAIT_S));
        assert_eq!(wait_s("wait=-1"), None);
        assert_eq!(wait_s("wait=1.5"), None);
        assert_eq!(wait_s("waiting=1"), None);
        assert_eq!(wait_s("wait"), None);
        assert_eq!(wait_s(""), None);
    }
}
