//! Building pages as text in which nothing from outside can become markup: markup comes from string
//! literals only, everything else is escaped on its way in.

/// A page, or a part of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Html(String);

impl Html {
    /// An empty part.
    #[must_use]
    pub const fn new() -> Self {
        Self(String::new())
    }

    /// Appends markup. Only literals of this crate are `'static`.
    #[must_use]
    pub fn raw(mut self, markup: &'static str) -> Self {
        self.0.push_str(markup);
        self
    }

    /// Appends text, escaped for element content and for quoted attribute values alike.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // Control characters mean nothing in a page; in a user agent or a name they may be there to confuse.
                c if c.is_control() => self.0.push('\u{fffd}'),
                c => self.0.push(c),
            }
        }
        self
    }

    /// Appends another part.
    #[must_use]
    pub fn part(mut self, part: &Self) -> Self {
        self.0.push_str(&part.0);
        self
    }

    /// Appends what `build` makes of it, if the condition holds.
    #[must_use]
    pub fn when(self, condition: bool, build: impl FnOnce(Self) -> Self) -> Self {
        if condition { build(self) } else { self }
    }

    /// Appends a hidden field of a form.
    #[must_use]
    pub fn hidden(self, name: &'static str, value: &str) -> Self {
        self.raw("<input type=\"hidden\" name=\"").raw(name).raw("\" value=\"").text(value).raw("\">")
    }

    /// The text.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let hostile = "\"><script>alert('x')</script>&\0\u{1b}";
        let html = Html::new().raw("<p title=\"").text(hostile).raw("\">").text(hostile).raw("</p>").into_string();
        assert!(!html.contains("<script") && !html.contains("'x'") && !html.contains('\0'));
        assert_eq!(html.matches('"').count(), 2);
    }
}
