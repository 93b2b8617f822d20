//! The pages: plain HTML that works without JavaScript, with a keyboard, a screen reader and a phone,
//! in light and dark. Pure functions from data to text; the style sheet and the icon are files beside this one.

pub mod account;
pub mod device;
pub mod html;
pub mod message;
pub mod sign_in;
pub mod words;

use html::Html;

/// The style sheet, served under the prefix and named with [`STYLE_VERSION`] so that it can be cached.
pub const STYLE: &str = include_str!("style.css");
/// The icon.
pub const ICON: &str = include_str!("icon.svg");
/// Changes whenever the style sheet does, so that a cached one is never used with newer pages.
pub const STYLE_VERSION: u32 = checksum(STYLE.as_bytes());

/// FNV-1a: tells two versions of our own file apart, nothing more.
const fn checksum(bytes: &[u8]) -> u32 {
    let (mut hash, mut at) = (0x811c_9dc5_u32, 0);
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash
}

/// Something that a page has to say first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// It is about something that did not work.
    pub bad: bool,
    /// One or more sentences.
    pub text: String,
}

impl Notice {
    /// About something that did not work.
    #[must_use]
    pub fn bad(text: impl Into<String>) -> Self {
        Self { bad: true, text: text.into() }
    }

    /// Good to know.
    #[must_use]
    pub fn info(text: impl Into<String>) -> Self {
        Self { bad: false, text: text.into() }
    }

    fn html(&self) -> Html {
        // `alert` is read out at once when the page opens; `status` politely. Fields that it is about name its id.
        let open = if self.bad {
            "<div class=\"notice bad\" id=\"notice\" role=\"alert\"><p>"
        } else {
            "<div class=\"notice\" id=\"notice\" role=\"status\"><p>"
        };
        Html::new().raw(open).text(&self.text).raw("</p></div>")
    }
}

/// A whole page around its content.
#[must_use]
pub fn document(prefix: &str, title: &str, wide: bool, content: &Html) -> String {
    Html::new()
        .raw("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">")
        .raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")
        .raw("<meta name=\"color-scheme\" content=\"light dark\"><meta name=\"robots\" content=\"noindex\"><title>")
        .text(title)
        .raw("</title><link rel=\"stylesheet\" href=\"")
        .text(&format!("{prefix}/style.css?v={STYLE_VERSION:08x}"))
        .raw("\"><link rel=\"icon\" type=\"image/svg+xml\" href=\"")
        .text(prefix)
        .raw("/icon.svg\"></head><body>")
        .raw(if wide { "<main class=\"wide\">" } else { "<main>" })
        .raw("<img class=\"mark\" alt=\"\" width=\"36\" height=\"36\" src=\"")
        .text(prefix)
        .raw("/icon.svg\"><h1>")
        .text(title)
        .raw("</h1>")
        .part(content)
        .raw("</main></body></html>\n")
        .into_string()
}

/// Attributes of a field that the notice complains about.
const INVALID: &str = " aria-invalid=\"true\" aria-describedby=\"notice\"";

/// The opening of a form that posts to a door.
fn form(prefix: &str, door: &'static str) -> Html {
    Html::new().raw("<form method=\"post\" action=\"").text(prefix).raw(door).raw("\">")
}

/// A coordinator time for people: `2026-11-24 20:44 UTC`, exact in the machine-readable attribute.
fn moment(at_ms: u64) -> Html {
    let exact = edgekeep_shared::time::rfc3339(at_ms);
    let (day, clock) = (exact.get(..10).unwrap_or_default(), exact.get(11..16).unwrap_or_default());
    Html::new().raw("<time datetime=\"").text(&exact).raw("\">").text(&format!("{day} {clock} UTC")).raw("</time>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_page_needs_what_the_policy_forbids() {
        let page = document("/auth", "Title <x>", false, &Notice::bad("a & b").html());
        assert!(page.contains("<title>Title &lt;x&gt;</title>") && page.contains("a &amp; b"));
        for forbidden in ["<script", "style=\"", "<style", "javascript:", "http://", "https://"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert!(page.contains("role=\"alert\"") && page.contains("lang=\"en\"") && page.contains("viewport"));
    }

    #[test]
    fn the_style_sheet_loads_nothing() {
        for forbidden in ["url(", "@import", "expression"] {
            assert!(!STYLE.contains(forbidden), "{forbidden}");
        }
        assert!(STYLE.contains("prefers-color-scheme: dark") && STYLE.contains(":focus-visible"));
    }

    #[test]
    fn times_for_people() {
        assert_eq!(
            moment(1_709_164_800_123).into_string(),
            "<time datetime=\"2024-02-29T00:00:00.123Z\">2024-02-29 00:00 UTC</time>"
        );
    }
}
