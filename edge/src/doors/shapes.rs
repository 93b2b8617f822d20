//! The JSON that clients may rely on (design 3): a field may be added, never changed. Times are RFC 3339, UTC.

use edgekeep_shared::api::{LoginAnswer, SignedOutAnswer};
use edgekeep_shared::gate::{How, Identity};
use edgekeep_shared::time::rfc3339;
use serde::Serialize;

/// Who is signed in.
#[derive(Debug, Serialize)]
pub struct User<'a> {
    name: &'a str,
    roles: &'a [String],
}

/// Their session.
#[derive(Debug, Serialize)]
pub struct Session {
    id: String,
    authenticated_at: String,
    expires_at: String,
    idle_expires_at: String,
}

/// Answer to a login or password change.
#[derive(Debug, Serialize)]
pub struct SignedIn<'a> {
    user: User<'a>,
    session: Session,
    previous_session: Option<PreviousSession>,
}

#[derive(Debug, Serialize)]
struct PreviousSession {
    ends_everywhere_at: String,
}

impl<'a> From<&'a LoginAnswer> for SignedIn<'a> {
    fn from(answer: &'a LoginAnswer) -> Self {
        Self {
            user: User { name: &answer.name, roles: &answer.roles },
            session: Session {
                id: answer.session.id.to_string(),
                authenticated_at: rfc3339(answer.session.authenticated_at_ms),
                expires_at: rfc3339(answer.session.expires_at_ms),
                idle_expires_at: rfc3339(answer.session.idle_expires_at_ms),
            },
            previous_session: answer
                .previous_ends_everywhere_at_ms
                .map(|at_ms| PreviousSession { ends_everywhere_at: rfc3339(at_ms) }),
        }
    }
}

/// Answer to "who am I".
#[derive(Debug, Serialize)]
pub struct Current<'a> {
    user: User<'a>,
    session: Session,
    check: Check,
}

#[derive(Debug, Serialize)]
struct Check {
    how: &'static str,
    view_age_ms: u64,
    max_staleness_ms: u32,
}

impl<'a> Current<'a> {
    /// The identity, how it was checked, how old that knowledge is and how old it may be.
    #[must_use]
    pub fn new(identity: &'a Identity, how: How, view_age_ms: u64, max_staleness_ms: u32) -> Self {
        Self {
            user: User { name: &identity.name, roles: &identity.roles },
            session: Session {
                id: identity.session_id.to_string(),
                authenticated_at: rfc3339(identity.authenticated_at_ms),
                expires_at: rfc3339(identity.expires_at_ms),
                idle_expires_at: rfc3339(identity.idle_expires_at_ms),
            },
            check: Check { how: how_name(how), view_age_ms, max_staleness_ms },
        }
    }
}

/// How a session was checked, as it stands in JSON.
#[must_use]
pub const fn how_name(how: How) -> &'static str {
    match how {
        How::Local => "local",
        How::Coordinator => "coordinator",
    }
}

/// Answer to signing out, here or everywhere.
#[derive(Debug, Serialize)]
pub struct SignedOut {
    signed_out: bool,
    effective_at: String,
    effective_everywhere: bool,
}

impl From<&SignedOutAnswer> for SignedOut {
    fn from(answer: &SignedOutAnswer) -> Self {
        Self {
            signed_out: true,
            effective_at: rfc3339(answer.effective_at_ms),
            effective_everywhere: answer.effective_everywhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgekeep_shared::ids::{SessionId, UserId};

    fn json(value: &impl Serialize) -> String {
        serde_json::to_string(value).expect("JSON")
    }

    #[test]
    fn a_login_looks_as_documented() {
        let answer = LoginAnswer {
            token: "secret".to_owned(),
            user_id: UserId(1),
            name: "ann".to_owned(),
            roles: vec!["admin".to_owned()],
            session: edgekeep_shared::api::Session {
                id: SessionId([1; 16]),
                authenticated_at_ms: 0,
                expires_at_ms: 86_400_000,
                idle_expires_at_ms: 3_600_000,
            },
            previous_ends_everywhere_at_ms: Some(5_000),
            now_ms: 0,
        };
        assert_eq!(
            json(&SignedIn::from(&answer)),
            r#"{"user":{"name":"ann","roles":["admin"]},"session":{"id":"01010101010101010101010101010101","authenticated_at":"1970-01-01T00:00:00.000Z","expires_at":"1970-01-02T00:00:00.000Z","idle_expires_at":"1970-01-01T01:00:00.000Z"},"previous_session":{"ends_everywhere_at":"1970-01-01T00:00:05.000Z"}}"#
        );
        let alone = LoginAnswer { previous_ends_everywhere_at_ms: None, ..answer };
        assert!(json(&SignedIn::from(&alone)).ends_with(r#""previous_session":null}"#));
    }

    #[test]
    fn a_session_looks_as_documented() {
        let identity = Identity {
            user_id: UserId(1),
            name: "ann".to_owned(),
            roles: vec![],
            session_id: SessionId([2; 16]),
            authenticated_at_ms: 0,
            idle_expires_at_ms: 0,
            expires_at_ms: 0,
        };
        let text = json(&Current::new(&identity, How::Local, 12, 5_000));
        assert!(text.starts_with(r#"{"user":{"name":"ann","roles":[]},"session":{"id":"0202"#));
        assert!(text.ends_with(r#""check":{"how":"local","view_age_ms":12,"max_staleness_ms":5000}}"#));
    }

    #[test]
    fn signing_out_looks_as_documented() {
        let answer = SignedOutAnswer { effective_at_ms: 5_000, effective_everywhere: false, now_ms: 0 };
        assert_eq!(
            json(&SignedOut::from(&answer)),
            r#"{"signed_out":true,"effective_at":"1970-01-01T00:00:05.000Z","effective_everywhere":false}"#
        );
    }
}
