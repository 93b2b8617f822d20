//! One operation: sent, answered, written down.

use std::net::SocketAddr;
use std::time::Duration;

use edgekeep_tests::client::Jar;
use edgekeep_tests::http::{Kept, Request, Response};
use edgekeep_tests::shape::time_ms;
use serde_json::{Value, json};

use super::recorder::Recorder;
use crate::history::{Action, NewSecret, Outcome, Reason, Route, SessionNo, Why};

/// How long a client waits for a page. Longer than an edge asks.
const PAGE: Duration = Duration::from_secs(4);
/// How long a client waits for an operation. Longer than an edge tries.
const OPERATION: Duration = Duration::from_secs(12);

/// The edges as one client reaches them.
pub struct Edges {
    pages: Vec<Kept>,
    operations: Vec<Kept>,
}

/// Texts of a request, which the history knows only by number.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// The user's name.
    pub name: String,
    /// The idempotency key.
    pub key: String,
    /// The password.
    pub password: String,
    /// The new one.
    pub new_password: String,
}

impl Edges {
    /// Connects when needed.
    #[must_use]
    pub fn new(addresses: &[SocketAddr]) -> Self {
        Self {
            pages: addresses.iter().map(|address| Kept::patient_for(*address, PAGE)).collect(),
            operations: addresses.iter().map(|address| Kept::patient_for(*address, OPERATION)).collect(),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.pages.len()
    }

    /// Does it, and writes it down. What is set is kept in the jar.
    pub fn ask(
        &mut self,
        recorder: &Recorder,
        who: (u32, u32),
        edge: usize,
        action: Action,
        texts: &Texts,
        jar: &mut Jar,
    ) -> Outcome {
        let wants_identity = texts.key.is_empty();
        let mut request = request(&action, texts, wants_identity);
        if let Some(cookies) = jar.header() {
            request = request.header("Cookie", &cookies);
        }
        let connection = match action {
            Action::Check { .. } => &mut self.pages[edge],
            _ => &mut self.operations[edge],
        };
        let presented = action.presents().and_then(|session| recorder.cookie_of(session));
        let presented = presented.filter(|name| jar.session_names().contains(&name.as_str()));
        let sent_us = recorder.now_us();
        let answer = connection.send(&request);
        let returned_us = recorder.now_us();
        let outcome = match &answer {
            Ok(answer) => outcome(recorder, &action, answer),
            Err(_) => Outcome::Unknown { status: 0 },
        };
        if let Ok(answer) = &answer {
            jar.take(answer);
        }
        let cleared = presented.is_some_and(|name| !jar.session_names().contains(&name.as_str()));
        let edge = u8::try_from(edge).unwrap_or(254);
        recorder.record(who, edge, (sent_us, returned_us), action, outcome, cleared);
        outcome
    }
}

/// A page that says who it is, or one of the site's.
fn request(action: &Action, texts: &Texts, wants_identity: bool) -> Request {
    let Texts { name, key, password, new_password } = texts;
    match action {
        Action::Check { route: Route::Lease, .. } if wants_identity => Request::get("/auth/session"),
        Action::Check { route: Route::Lease, .. } => Request::get("/dashboard"),
        Action::Check { route: Route::Strict, .. } => Request::get("/strict"),
        Action::Check { route: Route::Role, .. } => Request::get("/admin"),
        Action::Check { route: Route::StrictRole, .. } => Request::get("/echo"),
        Action::Login { .. } => Request::json("/auth/login", &json!({"username": name, "password": password})).key(key),
        Action::LogoutEverywhere { .. } => {
            Request::json("/auth/logout-everywhere", &json!({"username": name, "password": password})).key(key)
        }
        Action::ChangePassword { .. } => {
            let body = json!({"current_password": password, "new_password": new_password});
            Request::json("/auth/password", &body).key(key)
        }
        _ => Request::json("/auth/logout", &json!({})).key(key),
    }
}

/// The session's number and its expiry, as an answer names them.
fn session_of(recorder: &Recorder, body: &Value) -> Option<(SessionNo, u64)> {
    let session = &body["session"];
    let expires_at_ms = u64::try_from(time_ms(&session["expires_at"])).ok()?;
    Some((recorder.session(session["id"].as_str()?), expires_at_ms))
}

/// What an answer says. What it does not say clearly, nobody knows.
fn outcome(recorder: &Recorder, action: &Action, answer: &Response) -> Outcome {
    let unknown = Outcome::Unknown { status: answer.status };
    let code = answer.code().unwrap_or_default();
    let why = match (answer.status, code.as_str()) {
        (200, _) => {
            return match action {
                Action::Check { .. } if answer.header("Content-Type").is_some_and(|it| it.contains("json")) => {
                    let body = answer.json();
                    let saw = body.get("check").and_then(|_| session_of(recorder, &body));
                    Outcome::Accepted { saw }
                }
                Action::Check { .. } => Outcome::Accepted { saw: None },
                Action::Login { .. } | Action::ChangePassword { .. } => session_of(recorder, &answer.json())
                    .map_or(unknown, |(session, expires_at_ms)| Outcome::SignedIn { session, expires_at_ms }),
                _ => Outcome::Done,
            };
        }
        (401, "invalid_credentials") => Why::Credentials,
        (401, "no_session") => match answer.reason().and_then(|reason| Reason::from_name(&reason)) {
            Some(reason) => Why::NoSession(reason),
            None => return unknown,
        },
        (403, "forbidden") => Why::Forbidden,
        (410, "session_ended") => Why::Gone,
        (429, "locked") => Why::Locked,
        (400, "invalid_request") if matches!(action, Action::ChangePassword { new: NewSecret::TooShort, .. }) => {
            Why::Invalid
        }
        _ => return unknown,
    };
    Outcome::Refused(why)
}
