//! The login form, and the form that signs out everywhere from any device.

use super::html::Html;
use super::{INVALID, Notice, document, form};
use crate::forms;

/// What the login form is filled with.
#[derive(Clone, Debug, Default)]
pub struct SignIn<'a> {
    /// The prefix of our doors.
    pub prefix: &'a str,
    /// Said first.
    pub notice: Option<Notice>,
    /// The sealed idempotency key.
    pub form_key: &'a str,
    /// Where to go afterwards: a safe path on this site.
    pub return_to: Option<&'a str>,
    /// The user name as typed before.
    pub username: &'a str,
    /// The last attempt failed: said by the notice, and marked on the fields.
    pub failed: bool,
    /// Who is signed in already.
    pub signed_in_as: Option<&'a str>,
}

fn name_field(username: &str, failed: bool) -> Html {
    Html::new()
        .raw("<label for=\"username\">User name</label>")
        .raw(
            "<input id=\"username\" name=\"username\" type=\"text\" autocomplete=\"username\" autocapitalize=\"none\" ",
        )
        .raw("autocorrect=\"off\" spellcheck=\"false\" required maxlength=\"256\" value=\"")
        .text(username)
        .raw("\"")
        // After a failure the password is what has to be typed again.
        .when(username.is_empty(), |html| html.raw(" autofocus"))
        .when(failed, |html| html.raw(INVALID))
        .raw(">")
}

fn password_field(focus: bool, failed: bool) -> Html {
    Html::new()
        .raw("<label for=\"password\">Password</label>")
        .raw("<input id=\"password\" name=\"password\" type=\"password\" autocomplete=\"current-password\" ")
        .raw("required maxlength=\"4096\"")
        .when(focus, |html| html.raw(" autofocus"))
        .when(failed, |html| html.raw(INVALID))
        .raw(">")
}

impl SignIn<'_> {
    /// The page.
    #[must_use]
    pub fn page(&self) -> String {
        let mut content = Html::new();
        if let Some(notice) = &self.notice {
            content = content.part(&notice.html());
        }
        if let Some(name) = self.signed_in_as {
            content = content
                .raw("<p class=\"soft\">You are signed in as <strong>")
                .text(name)
                .raw("</strong>. <a href=\"")
                .text(self.return_to.unwrap_or("/"))
                .raw("\">Continue</a> or sign in again.</p>");
        }
        content = content
            .part(&form(self.prefix, "/login"))
            .hidden("form_key", self.form_key)
            .when(self.return_to.is_some(), |html| html.hidden("return_to", self.return_to.unwrap_or("/")))
            .part(&name_field(self.username, self.failed))
            .part(&password_field(!self.username.is_empty(), self.failed))
            .raw("<button type=\"submit\">Sign in</button></form><p class=\"links after\"><a href=\"")
            .text(self.prefix)
            .raw("/logout-everywhere\">Lost a device? Sign out everywhere</a></p>");
        document(self.prefix, "Sign in", false, &content)
    }
}

/// What the form that signs out everywhere is filled with.
#[derive(Clone, Debug, Default)]
pub struct SignOutEverywhere<'a> {
    /// The prefix of our doors.
    pub prefix: &'a str,
    /// Said first.
    pub notice: Option<Notice>,
    /// The sealed idempotency key.
    pub form_key: &'a str,
    /// The user name as typed before, or of the session.
    pub username: &'a str,
    /// The last attempt failed.
    pub failed: bool,
}

impl SignOutEverywhere<'_> {
    /// The page.
    #[must_use]
    pub fn page(&self) -> String {
        let mut content = Html::new();
        if let Some(notice) = &self.notice {
            content = content.part(&notice.html());
        }
        content = content
            .raw("<p class=\"soft\">This ends every session of your account, on all devices, this one included.</p>")
            .part(&form(self.prefix, "/logout-everywhere"))
            .hidden("form_key", self.form_key)
            .part(&name_field(self.username, self.failed))
            .part(&password_field(!self.username.is_empty(), self.failed))
            .raw("<button type=\"submit\">Sign out everywhere</button></form><p class=\"links after\"><a href=\"")
            .text(self.prefix)
            .raw("/login\">Back to sign-in</a></p>");
        document(self.prefix, "Sign out everywhere", false, &content)
    }
}

/// The address of the login form that leads back to a path.
#[must_use]
pub fn address(prefix: &str, return_to: Option<&str>) -> String {
    match return_to {
        Some(path) if path != "/" => format!("{prefix}/login?return_to={}", forms::encode(path)),
        _ => format!("{prefix}/login"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_works_without_scripts_and_for_password_managers() {
        let page =
            SignIn { prefix: "/auth", form_key: "key\"", return_to: Some("/a?b=1&c"), ..SignIn::default() }.page();
        for expected in [
            "<form method=\"post\" action=\"/auth/login\">",
            "name=\"form_key\" value=\"key&quot;\"",
            "name=\"return_to\" value=\"/a?b=1&amp;c\"",
            "<label for=\"username\">",
            "<label for=\"password\">",
            "autocomplete=\"username\"",
            "autocomplete=\"current-password\"",
            "type=\"submit\"",
        ] {
            assert!(page.contains(expected), "{expected}");
        }
        assert_eq!(page.matches(" autofocus").count(), 1);
        assert!(!page.contains("aria-invalid"));
    }

    #[test]
    fn after_a_failure_the_name_is_kept_and_the_password_is_not() {
        let notice = Some(Notice::bad("User name or password is wrong."));
        let page = SignIn { prefix: "/auth", notice, username: "a<b", failed: true, ..SignIn::default() }.page();
        assert!(page.contains("value=\"a&lt;b\"") && page.contains("role=\"alert\""));
        assert_eq!(page.matches("aria-invalid=\"true\"").count(), 2);
        assert!(page.contains("required maxlength=\"4096\" autofocus"));
    }

    #[test]
    fn addresses() {
        assert_eq!(address("/auth", None), "/auth/login");
        assert_eq!(address("/auth", Some("/")), "/auth/login");
        assert_eq!(address("/auth", Some("/a?b=1")), "/auth/login?return_to=/a%3Fb%3D1");
    }
}
