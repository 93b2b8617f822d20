//! Did a state-changing request come from this site's own pages (design 2.4)?
//!
//! `Sec-Fetch-Site` decides where there is one: only `same-origin` passes. Else `Origin` decides.
//! With neither, only JSON with an `Idempotency-Key` passes: no page of another site can send that
//! without asking first (CORS), and nobody here ever says yes.

/// What a request says of where it came from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Provenance<'a> {
    /// The `Sec-Fetch-Site` header.
    pub sec_fetch_site: Option<&'a str>,
    /// The `Origin` header.
    pub origin: Option<&'a str>,
    /// Scheme and authority that the request was sent to, such as `https://example.com`.
    pub target: &'a str,
    /// It is JSON and has an `Idempotency-Key` header.
    pub json_with_key: bool,
}

impl Provenance<'_> {
    /// The request may change state.
    #[must_use]
    pub fn same_site_pages_only(self) -> bool {
        match (self.sec_fetch_site, self.origin) {
            (Some(site), _) => site.eq_ignore_ascii_case("same-origin"),
            (None, Some(origin)) => same_origin(origin, self.target),
            (None, None) => self.json_with_key,
        }
    }
}

/// The origins agree. Where TLS ends in front of the worker, the worker sees plain HTTP while the browser says `https`;
/// the reverse (a plain-HTTP page posting to an HTTPS site) is refused.
fn same_origin(origin: &str, target: &str) -> bool {
    let (origin, target) = (origin.to_ascii_lowercase(), target.to_ascii_lowercase());
    origin == target
        || matches!((origin.strip_prefix("https://"), target.strip_prefix("http://")), (Some(a), Some(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_browser_s_own_word_comes_first() {
        for (site, passes) in [("same-origin", true), ("same-site", false), ("cross-site", false), ("none", false)] {
            let from = Provenance {
                sec_fetch_site: Some(site),
                origin: Some("https://a.example"),
                target: "https://a.example",
                json_with_key: true,
            };
            assert_eq!(from.same_site_pages_only(), passes, "{site}");
        }
    }

    #[test]
    fn then_the_origin() {
        let passes = |origin, target| {
            Provenance { origin: Some(origin), target, json_with_key: true, ..Provenance::default() }
                .same_site_pages_only()
        };
        assert!(passes("https://a.example", "https://a.example"));
        assert!(passes("https://A.example", "https://a.example"));
        assert!(passes("http://127.0.0.1:8787", "http://127.0.0.1:8787"));
        assert!(passes("https://a.example", "http://a.example"), "TLS ends in front of the worker");
        assert!(!passes("http://a.example", "https://a.example"));
        assert!(!passes("https://b.example", "https://a.example"));
        assert!(!passes("https://a.example:8443", "https://a.example"));
        assert!(!passes("https://a.example.evil", "https://a.example"));
        assert!(!passes("null", "https://a.example"));
        assert!(!passes("", "https://a.example"));
    }

    #[test]
    fn with_neither_only_json_with_a_key() {
        let without = Provenance { target: "https://a.example", ..Provenance::default() };
        assert!(!without.same_site_pages_only());
        assert!(Provenance { json_with_key: true, ..without }.same_site_pages_only());
    }
}
