//! Every error that a client can see, as one closed list: RFC 9457 problem details with a stable code.

use serde::{Deserialize, Serialize};

/// A stable error code; clients may switch on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request is malformed.
    InvalidRequest,
    /// The body, a field or a header is over its limit.
    TooLarge,
    /// The body's content type is not one that this door takes.
    UnsupportedMediaType,
    /// User name or password is wrong; which of them is not said.
    InvalidCredentials,
    /// A session is needed and there is none: see the reason.
    NoSession,
    /// The session lacks the role that this route asks for.
    Forbidden,
    /// The route asks for a more recent authentication.
    ReauthenticationRequired,
    /// A state-changing request that did not come from this site's own pages.
    CrossSite,
    /// The route does not allow this method.
    MethodNotAllowed,
    /// The same login is being decided right now: ask again.
    LoginInFlight,
    /// `refuse_second` is in force and the user has a session on another device.
    SignedInElsewhere,
    /// The session that this idempotency key made has ended.
    SessionEnded,
    /// Too many failures for this account.
    Locked,
    /// Too many attempts from this client address.
    RateLimited,
    /// More logins are waiting than can be worked on in time.
    Overloaded,
    /// Something that the answer depends on cannot be reached.
    Unavailable,
}

impl Code {
    /// All codes, for documents and exhaustive tests.
    pub const ALL: [Self; 16] = [
        Self::InvalidRequest,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::InvalidCredentials,
        Self::NoSession,
        Self::Forbidden,
        Self::ReauthenticationRequired,
        Self::CrossSite,
        Self::MethodNotAllowed,
        Self::LoginInFlight,
        Self::SignedInElsewhere,
        Self::SessionEnded,
        Self::Locked,
        Self::RateLimited,
        Self::Overloaded,
        Self::Unavailable,
    ];

    /// The HTTP status that goes with the code (RFC 9110).
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::InvalidCredentials | Self::NoSession => 401,
            Self::Forbidden | Self::ReauthenticationRequired | Self::CrossSite => 403,
            Self::MethodNotAllowed => 405,
            Self::LoginInFlight | Self::SignedInElsewhere => 409,
            Self::SessionEnded => 410,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Locked | Self::RateLimited => 429,
            Self::Overloaded | Self::Unavailable => 503,
        }
    }

    /// The code as it stands in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::InvalidCredentials => "invalid_credentials",
            Self::NoSession => "no_session",
            Self::Forbidden => "forbidden",
            Self::ReauthenticationRequired => "reauthentication_required",
            Self::CrossSite => "cross_site",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::LoginInFlight => "login_in_flight",
            Self::SignedInElsewhere => "signed_in_elsewhere",
            Self::SessionEnded => "session_ended",
            Self::Locked => "locked",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
        }
    }

    /// A short human-readable summary, the same for every occurrence (RFC 9457 section 3.1.4).
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::InvalidRequest => "The request is not valid",
            Self::TooLarge => "The request is too large",
            Self::UnsupportedMediaType => "The content type is not supported",
            Self::InvalidCredentials => "User name or password is wrong",
            Self::NoSession => "You are not signed in",
            Self::Forbidden => "You may not open this",
            Self::ReauthenticationRequired => "Sign in again to continue",
            Self::CrossSite => "The request came from another site",
            Self::MethodNotAllowed => "The method is not allowed here",
            Self::LoginInFlight => "This sign-in is still being worked on",
            Self::SignedInElsewhere => "You are signed in on another device",
            Self::SessionEnded => "The session of this sign-in has ended",
            Self::Locked => "Too many failed attempts for this account",
            Self::RateLimited => "Too many attempts from your network",
            Self::Overloaded => "Too many people are signing in right now",
            Self::Unavailable => "Sign-in is unavailable right now",
        }
    }
}

/// Why there is no session, or why it ended. Stable names; clients may switch on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The request carried no session cookie.
    None,
    /// The cookie is not one of ours, or was tampered with.
    Invalid,
    /// Idle or absolute expiry has passed.
    Expired,
    /// The user signed out.
    SignedOut,
    /// The user signed in on another device.
    SignedInElsewhere,
    /// The password was changed.
    PasswordChanged,
    /// The account was disabled or deleted.
    Disabled,
    /// An administrator ended the session.
    Revoked,
}

impl Reason {
    /// The reason as it stands in JSON and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Invalid => "invalid",
            Self::Expired => "expired",
            Self::SignedOut => "signed_out",
            Self::SignedInElsewhere => "signed_in_elsewhere",
            Self::PasswordChanged => "password_changed",
            Self::Disabled => "disabled",
            Self::Revoked => "revoked",
        }
    }

    /// The reason with this name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::None,
            Self::Invalid,
            Self::Expired,
            Self::SignedOut,
            Self::SignedInElsewhere,
            Self::PasswordChanged,
            Self::Disabled,
            Self::Revoked,
        ]
        .into_iter()
        .find(|reason| reason.as_str() == name)
    }
}

/// The body of an error answer, `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:edgekeep:problem:<code>`
    #[serde(rename = "type")]
    pub kind: String,
    /// Short summary, the same for every occurrence.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What happened and what to do next.
    pub detail: String,
    /// The stable code.
    pub code: Code,
    /// When to try again, in seconds; also sent as `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_after_s: Option<u32>,
    /// With `no_session` and `session_ended`: why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<Reason>,
}

impl Problem {
    /// A problem of this code with a detail that says what to do next.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:edgekeep:problem:{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code,
            retry_after_s: None,
            reason: None,
        }
    }

    /// The same, to be tried again after so many seconds.
    #[must_use]
    pub fn retry_after_s(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The same, with why the session is not there.
    #[must_use]
    pub fn reason(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_one_name_in_json_and_in_the_database() {
        for name in [
            "none",
            "invalid",
            "expired",
            "signed_out",
            "signed_in_elsewhere",
            "password_changed",
            "disabled",
            "revoked",
        ] {
            let reason = Reason::from_name(name).expect("a reason");
            assert_eq!((reason.as_str(), serde_json::to_value(reason).ok()), (name, Some(name.into())));
        }
        assert_eq!(Reason::from_name("Revoked"), None);
    }
}
