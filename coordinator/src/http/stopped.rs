//! A coordinator that must not answer any more stays up and refuses everything, until somebody ends it.
//!
//! If it ended by itself, whatever supervises it would start it again, and the new process could not know what the old
//! one had seen: a database that went back in time would be served as if nothing had happened.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use edgekeep_shared::problem::{Code, Problem};
use serde_json::json;
use tokio::net::TcpListener;

use super::reply::{Refusal, json_answer, text_answer};

/// How soon whoever is refused may ask again, in seconds: another coordinator may be up.
const RETRY_AFTER_S: u32 = 5;

/// Answers 503 to everything until `shutdown` resolves. `/healthz` stays 200, so that nothing restarts the process;
/// `/readyz` is 503 and says why.
///
/// # Errors
/// When the listener fails.
pub async fn refuse_all(
    listener: TcpListener,
    reason: &str,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let router = Router::new().fallback(refuse).with_state(Arc::from(reason));
    tokio::select! {
        served = axum::serve(listener, router).into_future() => served,
        () = shutdown => Ok(()),
    }
}

async fn refuse(State(reason): State<Arc<str>>, uri: Uri) -> Response {
    let status = json!({ "status": "stopped", "reason": &*reason });
    let mut response = match uri.path() {
        "/healthz" => json_answer(&status),
        "/readyz" => text_answer(StatusCode::SERVICE_UNAVAILABLE, "application/json", status.to_string()),
        _ => {
            let problem = Problem::new(Code::Unavailable, "This coordinator has stopped: ask another one.");
            Refusal::from(problem.retry_after_s(RETRY_AFTER_S)).into_response()
        }
    };
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}
