//! A page that only says something: refusals, outages, and what to do next.

use super::html::Html;
use super::{Notice, document};

/// Where a person can go from a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// A path on this site.
    pub href: String,
    /// What it says.
    pub text: &'static str,
}

/// A message.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// The prefix of our doors.
    pub prefix: &'a str,
    /// The page's heading.
    pub title: &'a str,
    /// What happened.
    pub notice: Option<Notice>,
    /// What to do next.
    pub advice: &'a str,
    /// Where to go; the first one stands out.
    pub links: Vec<Link>,
}

impl Message<'_> {
    /// The page.
    #[must_use]
    pub fn page(&self) -> String {
        let mut content = Html::new();
        if let Some(notice) = &self.notice {
            content = content.part(&notice.html());
        }
        content = content.when(!self.advice.is_empty(), |html| html.raw("<p>").text(self.advice).raw("</p>"));
        if !self.links.is_empty() {
            content = content.raw("<p class=\"links\">");
            for (at, link) in self.links.iter().enumerate() {
                let open = if at == 0 { "<a class=\"button\" href=\"" } else { "<a class=\"button quiet\" href=\"" };
                content = content.raw(open).text(&link.href).raw("\">").text(link.text).raw("</a> ");
            }
            content = content.raw("</p>");
        }
        document(self.prefix, self.title, false, &content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_happened_and_where_to_go() {
        let page = Message {
            prefix: "/auth",
            title: "You may not open this",
            notice: Some(Notice::bad("The page needs a role.")),
            advice: "Ask for it.",
            links: vec![Link { href: "/auth/login?return_to=%2Fx\"y".to_owned(), text: "Sign in" }],
        }
        .page();
        assert!(page.contains("<h1>You may not open this</h1>") && page.contains("The page needs a role."));
        assert!(page.contains("href=\"/auth/login?return_to=%2Fx&quot;y\">Sign in</a>"));
    }
}
