//! The account page: who is signed in, since when, on which devices; sign out; change the password.

use edgekeep_shared::api::SessionItem;

use super::html::Html;
use super::{INVALID, Notice, device, document, form, moment};

/// What the account page shows.
#[derive(Clone, Debug, Default)]
pub struct Account<'a> {
    /// The prefix of our doors.
    pub prefix: &'a str,
    /// Said first.
    pub notice: Option<Notice>,
    /// The user's name.
    pub name: &'a str,
    /// The user's roles.
    pub roles: &'a [String],
    /// When the password was checked, coordinator time.
    pub authenticated_at_ms: u64,
    /// When the session ends at the latest, coordinator time.
    pub expires_at_ms: u64,
    /// The user's sessions, if the coordinator could be asked.
    pub sessions: Option<&'a [SessionItem]>,
    /// How many sessions a user may have.
    pub sessions_per_user: u32,
    /// For the password form.
    pub change: Change<'a>,
}

/// What the password form is filled with.
#[derive(Clone, Debug, Default)]
pub struct Change<'a> {
    /// The sealed idempotency key.
    pub form_key: &'a str,
    /// For password managers.
    pub name: &'a str,
    /// Shortest new password, in characters.
    pub min_chars: u32,
    /// What the notice complains about.
    pub wrong: Wrong,
}

/// What was wrong with a password form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wrong {
    /// None of its fields.
    #[default]
    Nothing,
    /// The current password.
    Current,
    /// The new password, or its repetition.
    New,
}

impl Change<'_> {
    /// `alone`: there is nothing else on the page, so typing begins here.
    fn html(&self, prefix: &str, alone: bool) -> Html {
        let current_is_wrong = self.wrong == Wrong::Current;
        let new_is_wrong = self.wrong == Wrong::New;
        let described: &'static str = if new_is_wrong { "notice new-hint" } else { "new-hint" };
        Html::new()
            .part(&form(prefix, "/password"))
            .hidden("form_key", self.form_key)
            // Not shown: it tells a password manager whose password changes.
            .raw("<input type=\"text\" name=\"username\" autocomplete=\"username\" hidden readonly value=\"")
            .text(self.name)
            .raw("\"><label for=\"current\">Current password</label>")
            .raw("<input id=\"current\" name=\"current_password\" type=\"password\" autocomplete=\"current-password\" ")
            .raw("required maxlength=\"4096\"")
            .when(current_is_wrong, |html| html.raw(INVALID))
            .when(alone, |html| html.raw(" autofocus"))
            .raw("><label for=\"new\">New password</label>")
            .raw("<input id=\"new\" name=\"new_password\" type=\"password\" autocomplete=\"new-password\" required ")
            .raw("maxlength=\"4096\" minlength=\"")
            .text(&self.min_chars.to_string())
            .raw("\" aria-describedby=\"")
            .raw(described)
            .raw("\"")
            .when(new_is_wrong, |html| html.raw(" aria-invalid=\"true\""))
            .raw("><p class=\"hint\" id=\"new-hint\">At least ")
            .text(&self.min_chars.to_string())
            .raw(" characters; a few words in a row are good. All other devices are signed out.</p>")
            .raw("<label for=\"repeat\">New password, once more</label>")
            .raw("<input id=\"repeat\" name=\"repeat_password\" type=\"password\" autocomplete=\"new-password\" required ")
            .raw("maxlength=\"4096\"")
            .when(new_is_wrong, |html| html.raw(INVALID))
            .raw("><button type=\"submit\">Change password</button></form>")
    }

    /// The form on a page of its own: after a failure, and for `GET` of the door.
    #[must_use]
    pub fn page(&self, prefix: &str, notice: Option<&Notice>) -> String {
        let mut content = Html::new();
        if let Some(notice) = notice {
            content = content.part(&notice.html());
        }
        content = content
            .part(&self.html(prefix, true))
            .raw("<p class=\"links after\"><a href=\"")
            .text(prefix)
            .raw("/account\">Back to your account</a></p>");
        document(prefix, "Change your password", false, &content)
    }
}

impl Account<'_> {
    /// The page.
    #[must_use]
    pub fn page(&self) -> String {
        let mut content = Html::new();
        if let Some(notice) = &self.notice {
            content = content.part(&notice.html());
        }
        let this_device = self.sessions.and_then(|sessions| sessions.iter().find(|item| item.this_one));
        content = content.raw("<dl><dt>Signed in as</dt><dd><strong>").text(self.name).raw("</strong></dd>");
        content = content.when(!self.roles.is_empty(), |html| {
            html.raw("<dt>Roles</dt><dd>").text(&self.roles.join(", ")).raw("</dd>")
        });
        content = content.raw("<dt>Since</dt><dd>").part(&moment(self.authenticated_at_ms)).raw("</dd>");
        if let Some(item) = this_device {
            content = content.raw("<dt>Device</dt><dd>").text(&device::name(&item.device)).raw("</dd>");
        }
        content = content
            .raw("<dt>At most until</dt><dd>")
            .part(&moment(self.expires_at_ms))
            .raw("</dd></dl>")
            .part(&form(self.prefix, "/logout"))
            .raw("<button class=\"quiet\" type=\"submit\">Sign out</button></form>")
            .part(&self.sessions_html())
            .raw("<h2>Change password</h2>")
            .part(&self.change.html(self.prefix, false))
            .raw("<p class=\"links after\"><a href=\"/\">Back to the site</a> <a href=\"")
            .text(self.prefix)
            .raw("/logout-everywhere\">Sign out everywhere</a></p>");
        document(self.prefix, "Your account", true, &content)
    }

    fn sessions_html(&self) -> Html {
        let Some(sessions) = self.sessions else {
            return Html::new().raw(
                "<h2>Devices</h2><p class=\"soft\">Your devices cannot be listed right now. Try again later.</p>",
            );
        };
        if self.sessions_per_user <= 1 {
            return Html::new();
        }
        let mut list = Html::new().raw("<h2>Devices</h2><ul class=\"sessions\">");
        for item in sessions {
            list = list
                .raw("<li><div><p><strong>")
                .text(&device::name(&item.device))
                .raw("</strong>")
                .when(item.this_one, |html| html.raw(" (this one)"))
                .raw("</p><p class=\"hint\">since ")
                .part(&moment(item.session.authenticated_at_ms))
                .raw(", last seen ")
                .part(&moment(item.last_seen_at_ms))
                .raw("</p></div>");
            if !item.this_one {
                let label = format!("Sign out {}", device::name(&item.device));
                list = list
                    .raw("<form class=\"inline\" method=\"post\" action=\"")
                    .text(self.prefix)
                    .raw("/sessions/end\">")
                    .hidden("session_id", &item.session.id.to_string())
                    .raw("<button class=\"quiet\" type=\"submit\" aria-label=\"")
                    .text(&label)
                    .raw("\">Sign out</button></form>");
            }
            list = list.raw("</li>");
        }
        list.raw("</ul>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgekeep_shared::api::Session;
    use edgekeep_shared::ids::SessionId;

    fn item(n: u8, this_one: bool) -> SessionItem {
        let session =
            Session { id: SessionId([n; 16]), authenticated_at_ms: 1, expires_at_ms: 2, idle_expires_at_ms: 3 };
        let device = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0".to_owned();
        SessionItem { session, last_seen_at_ms: 4, device, this_one }
    }

    #[test]
    fn other_sessions_can_be_ended_and_this_one_is_signed_out_by_its_own_button() {
        let sessions = [item(1, true), item(2, false)];
        let account = Account {
            prefix: "/auth",
            name: "ann",
            sessions: Some(&sessions),
            sessions_per_user: 3,
            ..Account::default()
        };
        let page = account.page();
        assert_eq!(page.matches("/auth/sessions/end").count(), 1);
        assert!(page.contains(&"02".repeat(16)) && !page.contains(&"01".repeat(16)));
        assert!(page.contains("Firefox on Linux") && page.contains("action=\"/auth/logout\""));
        assert!(page.contains("autocomplete=\"new-password\""));
        let single = Account { sessions_per_user: 1, ..account }.page();
        assert!(!single.contains("/sessions/end"));
    }

    #[test]
    fn an_outage_is_said_and_hides_nothing_else() {
        let page = Account { prefix: "/auth", name: "ann", sessions: None, ..Account::default() }.page();
        assert!(page.contains("cannot be listed") && page.contains("Sign out"));
    }

    #[test]
    fn only_the_field_that_the_notice_is_about_is_marked() {
        let page = |wrong| {
            let notice = Notice::bad("Wrong.");
            Change { wrong, ..Change::default() }.page("/auth", Some(&notice))
        };
        assert_eq!(page(Wrong::Nothing).matches("aria-invalid").count(), 0);
        let current = page(Wrong::Current);
        assert_eq!(current.matches("aria-invalid").count(), 1);
        assert!(
            current.contains("required maxlength=\"4096\" aria-invalid=\"true\" aria-describedby=\"notice\" autofocus")
        );
        assert_eq!(page(Wrong::New).matches("aria-invalid").count(), 2);
    }
}
