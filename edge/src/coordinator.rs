//! Asking the coordinators: every question has a deadline, a lost answer is asked for again (with the
//! same idempotency key, so that nothing happens twice, G4), and another coordinator is tried when one
//! does not answer. Whoever asks learns one of three things: the answer, a refusal, or that nobody knows.

use edgekeep_shared::identity;
use edgekeep_shared::problem::{Code, Problem};
pub use edgekeep_shared::retry::Effort;
use edgekeep_shared::retry::{Next, Retry, back_off_ms};
use js_sys::{ArrayBuffer, Uint8Array};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::JsFuture;
use web_sys::{Headers, RequestInit, RequestRedirect, Response};

use crate::config::{Authorization, Config};
use crate::{clock, js, state};

/// Why there is no answer.
#[derive(Clone, Debug)]
pub enum CallError {
    /// A coordinator has decided so.
    Refused(Box<Problem>),
    /// Nobody answered in time, or what came back makes no sense: the outcome is unknown.
    Unknown,
}

impl CallError {
    /// The error as a client sees it.
    #[must_use]
    pub fn into_problem(self) -> Problem {
        match self {
            Self::Refused(problem) => *problem,
            Self::Unknown => unavailable(),
        }
    }
}

/// Nobody can be asked right now (G8).
#[must_use]
pub fn unavailable() -> Problem {
    Problem::new(Code::Unavailable, "The sign-in service cannot be reached. Try again in a moment.").retry_after_s(2)
}

/// What one attempt came to.
enum Attempt {
    Answer(Response),
    Problem(Problem),
    Lost,
}

/// Asks a question in JSON and reads the answer.
///
/// # Errors
/// See [`CallError`].
pub async fn ask<T: DeserializeOwned>(
    config: &Config,
    path: &str,
    question: &impl Serialize,
    request_id: &str,
    effort: Effort,
) -> Result<T, CallError> {
    let body = serde_json::to_string(question).map_err(|_| CallError::Unknown)?;
    let response = call(config, path, &Body::Json(&body), request_id, effort).await?;
    let text = response.text().map_err(|_| CallError::Unknown)?;
    // The body comes with the answer; its own deadline is the attempt's abort signal.
    let text = JsFuture::from(text).await.map_err(|_| CallError::Unknown)?;
    let text = text.as_string().ok_or(CallError::Unknown)?;
    serde_json::from_str(&text).map_err(|_| CallError::Unknown)
}

/// Whom a question about the feed goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feeder {
    /// This relay.
    Relay(usize),
    /// This coordinator.
    Coordinator(usize),
}

/// Asks a question about the feed in bytes, once; the bytes of the answer, or nothing.
pub async fn ask_feed(
    config: &Config,
    whom: Feeder,
    question: &[u8],
    request_id: &str,
    timeout_ms: u32,
) -> Option<Vec<u8>> {
    let (base, authorization) = match whom {
        Feeder::Relay(index) => (config.relays.get(index)?, config.relay_authorization.as_ref()?),
        Feeder::Coordinator(index) => (config.coordinators.get(index)?, &config.authorization),
    };
    match attempt(authorization, base, "/v1/feed", &Body::Bytes(question), request_id, timeout_ms).await {
        Attempt::Answer(response) => {
            let buffer = JsFuture::from(response.array_buffer().ok()?).await.ok()?;
            Some(Uint8Array::new(buffer.unchecked_ref::<ArrayBuffer>()).to_vec())
        }
        Attempt::Problem(_) | Attempt::Lost => None,
    }
}

enum Body<'a> {
    Json(&'a str),
    Bytes(&'a [u8]),
}

/// Tries the coordinators in turn, beginning with the one that answered last.
async fn call(
    config: &Config,
    path: &str,
    body: &Body<'_>,
    request_id: &str,
    effort: Effort,
) -> Result<Response, CallError> {
    let count = config.coordinators.len();
    let mut retry = Retry::new(effort, count, clock::now_ms());
    let mut last = CallError::Unknown;
    while let Some(timeout_ms) = retry.attempt_ms(clock::now_ms()) {
        let index = state::with(|state| state.coordinator(count));
        let Some(base) = config.coordinators.get(index) else { break };
        let refused = match attempt(&config.authorization, base, path, body, request_id, timeout_ms).await {
            Attempt::Answer(response) => return Ok(response),
            Attempt::Problem(problem) => Some(Box::new(problem)),
            Attempt::Lost => None,
        };
        let next = retry.failed(refused.as_ref().map(|problem| problem.code));
        last = refused.map_or(CallError::Unknown, CallError::Refused);
        let Next::Again { elsewhere, pause } = next else { break };
        if elsewhere {
            state::with(|state| state.coordinator_failed(index, count));
        }
        if let Some(round) = pause {
            js::sleep(back_off_ms(round, js::random::<1>()[0])).await;
        }
    }
    Err(last)
}

async fn attempt(
    authorization: &Authorization,
    base: &str,
    path: &str,
    body: &Body<'_>,
    request_id: &str,
    timeout_ms: u32,
) -> Attempt {
    let Some(init) = request_init(authorization, body, request_id) else { return Attempt::Lost };
    let Ok(response) = js::send_to(&format!("{base}{path}"), &init, timeout_ms).await else { return Attempt::Lost };
    if response.status() == 200 {
        return Attempt::Answer(response);
    }
    // Only a problem of our own list is the coordinator's word; anything else (a proxy's error page) is a lost answer.
    let Ok(text) = response.text() else { return Attempt::Lost };
    let text = JsFuture::from(text).await.ok().and_then(|text| text.as_string()).unwrap_or_default();
    match serde_json::from_str::<Problem>(&text) {
        Ok(problem) if problem.status == response.status() => Attempt::Problem(problem),
        _ => Attempt::Lost,
    }
}

fn request_init(authorization: &Authorization, body: &Body<'_>, request_id: &str) -> Option<RequestInit> {
    let headers = Headers::new().ok()?;
    headers.set("Authorization", &authorization.0).ok()?;
    headers.set(identity::REQUEST_ID, request_id).ok()?;
    let init = RequestInit::new();
    init.set_method("POST");
    init.set_redirect(RequestRedirect::Manual);
    match body {
        Body::Json(text) => {
            headers.set("Content-Type", "application/json").ok()?;
            init.set_body_opt_str(Some(text));
        }
        Body::Bytes(bytes) => {
            headers.set("Content-Type", edgekeep_shared::feed::CONTENT_TYPE).ok()?;
            init.set_body_opt_u8_array(Some(&Uint8Array::from(*bytes)));
        }
    }
    init.set_headers_headers(&headers);
    Some(init)
}
