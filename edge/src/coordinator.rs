//! Asking the coordinators: every question has a deadline, a lost answer is asked for again (with the
//! same idempotency key, so that nothing happens twice, G4), and another coordinator is tried when one
//! does not answer. Whoever asks learns one of three things: the answer, a refusal, or that nobody knows.

use edgekeep_shared::identity;
use edgekeep_shared::problem::{Code, Problem};
use js_sys::{ArrayBuffer, Uint8Array};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::JsFuture;
use web_sys::{Headers, RequestInit, RequestRedirect, Response};

use crate::config::Config;
use crate::{clock, js, state};

/// How long and how often to try.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// One attempt is given up after so long.
    pub attempt_ms: u32,
    /// All of them together.
    pub total_ms: u32,
}

impl Effort {
    /// For what a request waits for in line: checks, keys.
    pub const INLINE: Self = Self { attempt_ms: 1_000, total_ms: 1_500 };
    /// For operations that hash a password or that a person waits for: the coordinator's queue has a deadline of its own.
    pub const OPERATION: Self = Self { attempt_ms: 8_000, total_ms: 10_000 };

    /// With room for an answer that is held back on purpose (`Prefer: wait`).
    #[must_use]
    pub const fn plus_s(self, wait_s: Option<u32>) -> Self {
        let wait_ms = match wait_s {
            Some(seconds) => seconds.saturating_mul(1_000),
            None => 0,
        };
        Self { attempt_ms: self.attempt_ms.saturating_add(wait_ms), total_ms: self.total_ms.saturating_add(wait_ms) }
    }
}

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

/// Asks a question in bytes, once, of one coordinator; the bytes of the answer, or nothing.
pub async fn ask_bytes(
    config: &Config,
    coordinator: usize,
    path: &str,
    question: &[u8],
    request_id: &str,
    timeout_ms: u32,
) -> Option<Vec<u8>> {
    let base = config.coordinators.get(coordinator)?;
    match attempt(config, base, path, &Body::Bytes(question), request_id, timeout_ms).await {
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
    let started_ms = clock::now_ms();
    let count = config.coordinators.len();
    let mut last = CallError::Unknown;
    for turn in 0_u32.. {
        let index = state::with(|state| state.coordinator(count));
        let left_ms = effort.total_ms.saturating_sub(clock::since_ms(started_ms));
        // Less than this is no attempt; and a clock that ran backwards must not keep us here.
        if left_ms < 50 || turn >= 64 {
            break;
        }
        let Some(base) = config.coordinators.get(index) else { break };
        let timeout_ms = effort.attempt_ms.min(left_ms);
        match attempt(config, base, path, body, request_id, timeout_ms).await {
            Attempt::Answer(response) => return Ok(response),
            Attempt::Problem(problem) => match problem.code {
                // It is being worked on: wait for its outcome.
                Code::LoginInFlight => last = CallError::Refused(Box::new(problem)),
                // This one cannot tell, or has no room: another one may.
                Code::Unavailable => {
                    state::with(|state| state.coordinator_failed(index, count));
                    last = CallError::Refused(Box::new(problem));
                }
                Code::Overloaded if (turn as usize) + 1 < count => {
                    state::with(|state| state.coordinator_failed(index, count));
                    last = CallError::Refused(Box::new(problem));
                }
                _ => return Err(CallError::Refused(Box::new(problem))),
            },
            Attempt::Lost => {
                state::with(|state| state.coordinator_failed(index, count));
                last = CallError::Unknown;
            }
        }
        // A pause only after every coordinator has been tried.
        if (turn as usize + 1).is_multiple_of(count) {
            js::sleep(back_off_ms(turn / count as u32, js::random::<1>()[0])).await;
        }
    }
    Err(last)
}

/// 100 ms, doubled up to 1.6 s, of which up to a half is taken away at random.
#[must_use]
pub fn back_off_ms(round: u32, random: u8) -> u32 {
    let full = 100 << round.min(4);
    full - full * u32::from(random) / 512
}

async fn attempt(
    config: &Config,
    base: &str,
    path: &str,
    body: &Body<'_>,
    request_id: &str,
    timeout_ms: u32,
) -> Attempt {
    let Some(init) = request_init(config, body, request_id) else { return Attempt::Lost };
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

fn request_init(config: &Config, body: &Body<'_>, request_id: &str) -> Option<RequestInit> {
    let headers = Headers::new().ok()?;
    headers.set("Authorization", &config.authorization.0).ok()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_grows_and_jitter_only_shortens() {
        assert_eq!(back_off_ms(0, 0), 100);
        assert_eq!(back_off_ms(3, 0), 800);
        assert_eq!(back_off_ms(99, 0), 1_600);
        for random in 0..=u8::MAX {
            assert!((800..=1_600).contains(&back_off_ms(9, random)));
        }
    }

    #[test]
    fn waiting_on_purpose_gets_its_own_time() {
        let effort = Effort::OPERATION.plus_s(Some(10));
        assert_eq!((effort.attempt_ms, effort.total_ms), (18_000, 20_000));
        assert_eq!(Effort::OPERATION.plus_s(None).total_ms, 10_000);
    }
}
