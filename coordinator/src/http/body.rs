//! Request bodies: bounded in size and time, of the one content type that the door takes, strictly read.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::header;
use edgekeep_shared::feed::{self, Question};
use edgekeep_shared::problem::{Code, Problem};
use serde::de::DeserializeOwned;

/// The most bytes of a JSON body: eight proofs, two passwords and a name, escaped, with room to spare.
pub const MAX_JSON_BYTES: usize = 64 * 1024;
/// How long a body may take to arrive.
const BODY_LIMIT: Duration = Duration::from_secs(10);

async fn read(request: Request, content_type: &str, max_bytes: usize) -> Result<Bytes, Problem> {
    let (parts, body) = request.into_parts();
    let given = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = given.split(';').next().unwrap_or("").trim();
    if !essence.eq_ignore_ascii_case(content_type) {
        return Err(Problem::new(Code::UnsupportedMediaType, format!("This takes {content_type}.")));
    }
    let too_large = || Problem::new(Code::TooLarge, format!("The body may have at most {max_bytes} bytes."));
    let declared = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if declared.and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > max_bytes as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_LIMIT, collect(body, max_bytes)).await {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(too_large()),
        Err(_) => Err(Problem::new(Code::InvalidRequest, "The body did not arrive in time.")),
    }
}

/// `None`: more than `max_bytes`, or broken off.
async fn collect(body: Body, max_bytes: usize) -> Option<Bytes> {
    to_bytes(body, max_bytes).await.ok()
}

/// A JSON body. Unknown fields, fields given twice and anything after the value are refused.
pub(super) async fn json<T: DeserializeOwned>(request: Request) -> Result<T, Problem> {
    let bytes = read(request, "application/json", MAX_JSON_BYTES).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        // Where, and what kind of mistake; never the text, which may hold a password.
        let kind = match error.classify() {
            serde_json::error::Category::Data => "does not have the fields of this request",
            _ => "is not JSON",
        };
        let (line, column) = (error.line(), error.column());
        Problem::new(Code::InvalidRequest, format!("The body {kind} (line {line}, column {column})."))
    })
}

/// A question to the feed.
pub(super) async fn question(request: Request) -> Result<Question, Problem> {
    let bytes = read(request, feed::CONTENT_TYPE, feed::MAX_QUESTION_BYTES).await?;
    Question::decode(&bytes).map_err(|_| Problem::new(Code::InvalidRequest, "The body is not a question to the feed."))
}
