//! Answers: JSON, and the one place where a failure becomes `application/problem+json`.

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use edgekeep_shared::problem::{Code, Problem};
use serde::Serialize;
use serde_json::json;

use crate::failure::Failure;

const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The code of a problem, on the response, for metrics.
#[derive(Clone, Copy)]
pub(crate) struct Told(pub Code);

/// An error answer.
pub(crate) struct Refusal(Problem);

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        if failure.is_ours() {
            tracing::error!(error = %failure, "refused because of a mistake on this side");
        } else {
            tracing::debug!(error = %failure, "refused");
        }
        Self(failure.problem())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let mut response = with_body(status, PROBLEM, serde_json::to_vec(&problem).unwrap_or_default().into());
        if let Some(seconds) = problem.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(Told(problem.code));
        response
    }
}

fn with_body(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// An answer in JSON.
pub(crate) fn json_answer<T: Serialize>(answer: &T) -> Response {
    match serde_json::to_vec(answer) {
        Ok(body) => with_body(StatusCode::OK, JSON, body.into()),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written");
            panicked()
        }
    }
}

/// An answer of this type and text.
pub(crate) fn text_answer(status: StatusCode, content_type: &'static str, text: String) -> Response {
    with_body(status, HeaderValue::from_static(content_type), text.into())
}

/// A problem that is not one of the protocol's (RFC 9457 section 4.2.1: `about:blank`): it says nothing of a user or
/// a session, so an edge must not take it for an answer.
pub(crate) fn blank(status: StatusCode) -> Response {
    blank_with(status, json!({}))
}

/// The same with more members, such as a `detail`.
pub(crate) fn blank_with(status: StatusCode, more: serde_json::Value) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let mut body = json!({ "type": "about:blank", "title": title, "status": status.as_u16() });
    if let (Some(body), serde_json::Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    with_body(status, PROBLEM, body.to_string().into())
}

/// Something on this side went wrong in a way that nobody foresaw: nobody can say what happened.
pub(crate) fn panicked() -> Response {
    let detail = "Something went wrong here. Send the same request with the same idempotency key again.";
    Refusal(Problem::new(Code::Unavailable, detail).retry_after_s(1)).into_response()
}
