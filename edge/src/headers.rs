//! The headers that every page and answer of ours carries, and why.

/// The policy of our pages: nothing but our own style sheet, icon and forms; no script at all, so that none can be injected.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
     frame-ancestors 'none'; base-uri 'none'";

/// What our pages do not need, they may not use.
const PERMISSIONS_POLICY: &str = "accelerometer=(), browsing-topics=(), camera=(), display-capture=(), geolocation=(), \
     gyroscope=(), microphone=(), payment=(), usb=()";

/// A year, as browsers' preload lists ask for at least; subdomains are the site owner's business.
const STRICT_TRANSPORT_SECURITY: &str = "max-age=31536000";

/// Security headers of our own answers (never of the origin's), by name and value.
#[must_use]
pub fn security(https: bool) -> Vec<(&'static str, &'static str)> {
    let mut headers = vec![
        ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
        ("X-Content-Type-Options", "nosniff"),
        // For browsers older than `frame-ancestors`.
        ("X-Frame-Options", "DENY"),
        // A `Referer` to ourselves helps when a form is refused; other sites learn nothing of our addresses.
        ("Referrer-Policy", "same-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Cross-Origin-Embedder-Policy", "require-corp"),
        ("Permissions-Policy", PERMISSIONS_POLICY),
    ];
    if https {
        headers.push(("Strict-Transport-Security", STRICT_TRANSPORT_SECURITY));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hsts_only_where_there_is_tls() {
        assert!(security(true).iter().any(|(name, _)| *name == "Strict-Transport-Security"));
        assert!(!security(false).iter().any(|(name, _)| *name == "Strict-Transport-Security"));
    }

    #[test]
    fn the_policy_allows_no_script_and_no_frame() {
        assert!(CONTENT_SECURITY_POLICY.starts_with("default-src 'none'"));
        assert!(!CONTENT_SECURITY_POLICY.contains("script-src"));
        assert!(!CONTENT_SECURITY_POLICY.contains("unsafe"));
        assert!(!CONTENT_SECURITY_POLICY.contains("  "));
    }
}
