//! Where a login may lead back to: a path of this site, and never another site (CVE-2025-27143 and its many friends).

/// The longest `return_to`, in characters.
pub const MAX_CHARS: usize = 2_048;

/// The text is a same-origin relative reference that every browser reads as such.
///
/// Visible ASCII only, one leading slash that is not followed by another or by a backslash, no backslash anywhere
/// (browsers read it as a slash), no control characters (browsers drop tabs and newlines before parsing).
#[must_use]
pub fn is_safe(return_to: &str) -> bool {
    let bytes = return_to.as_bytes();
    return_to.len() <= MAX_CHARS
        && bytes.first() == Some(&b'/')
        && bytes.get(1) != Some(&b'/')
        && bytes.iter().all(|c| c.is_ascii_graphic() && *c != b'\\')
        && !climbs_to_another_site(return_to)
}

/// Dot segments that, once removed, could leave `//host` in front (`/..//evil`, `/.//evil`, `/%2e//evil`).
fn climbs_to_another_site(return_to: &str) -> bool {
    let path = return_to.split(['?', '#']).next().unwrap_or_default();
    let is_dots = |segment: &str| {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".."
    };
    path.split('/').any(is_dots)
}

/// The reference if it is safe, else the site's root.
#[must_use]
pub fn or_root(return_to: Option<&str>) -> &str {
    return_to.filter(|reference| is_safe(reference)).unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_this_site() {
        for good in ["/", "/a/b?c=d&e=//x#f", "/a%2fb", "/@user", "/?next=https://x.test/"] {
            assert!(is_safe(good), "{good}");
        }
        for bad in [
            "",
            "//evil.test",
            "/\\evil.test",
            "\\/evil.test",
            "https://evil.test",
            "evil.test",
            "/\t/evil.test",
            "/a\nb",
            "/ü",
            " /",
            "/a b",
            "javascript:alert(1)",
            "/..//evil.test",
            "/.//evil.test",
            "/%2e%2E//evil.test",
            "/a\\b",
        ] {
            assert!(!is_safe(bad), "{bad:?}");
        }
        assert!(!is_safe(&format!("/{}", "x".repeat(MAX_CHARS))));
        assert_eq!(or_root(Some("//evil")), "/");
    }
}
