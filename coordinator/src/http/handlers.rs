//! The doors: read, call what decides, answer.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use edgekeep_shared::api::KeysRequest;
use edgekeep_shared::feed as wire;
use futures_util::stream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::body;
use super::reply::{Refusal, json_answer, panicked, text_answer};
use super::routes::Door;
use crate::app::App;
use crate::failure::Failure;
use crate::feed::poll::{Asker, Reply};
use crate::feed::{FeedHandle, Readiness};
use crate::metrics::Metrics;
use crate::{account, login, metrics};

/// Answers up to this size are sent in one piece; longer ones share the entries' bytes with other polls.
const ONE_PIECE_BYTES: usize = 16 * 1024;

/// Reads a JSON request, lets `work` decide, answers in JSON.
async fn json_door<Q, A, F>(request: Request, work: F) -> Response
where
    Q: DeserializeOwned,
    A: Serialize,
    F: AsyncFnOnce(Q) -> Result<A, Failure>,
{
    let question = match body::json(request).await {
        Ok(question) => question,
        Err(problem) => return Refusal::from(problem).into_response(),
    };
    match work(question).await {
        Ok(answer) => json_answer(&answer),
        Err(failure) => Refusal::from(failure).into_response(),
    }
}

/// The doors of edges, but the feed. `edge`: whose credential came with this.
pub(super) async fn door(app: &Arc<App>, door: Door, edge: Option<&str>, request: Request) -> Response {
    match door {
        Door::Login => json_door(request, async |question| login::login(app, question).await).await,
        Door::Logout => json_door(request, async |question| account::logout(app, question).await).await,
        Door::LogoutEverywhere => {
            json_door(request, async |question| account::logout_everywhere(app, question).await).await
        }
        Door::Password => json_door(request, async |question| account::change_password(app, question).await).await,
        Door::Check => json_door(request, async |question| app.checks.check(question).await).await,
        Door::Sessions => json_door(request, async |question| account::list_sessions(app, question).await).await,
        Door::EndSession => json_door(request, async |question| account::end_session(app, question).await).await,
        Door::Keys => json_door(request, async |question: KeysRequest| key_set(app, &question)).await,
        Door::Follower => follower(edge),
        Door::Feed | Door::Health | Door::Ready | Door::Metrics => panicked(),
    }
}

fn key_set(app: &App, request: &KeysRequest) -> Result<edgekeep_shared::api::KeysAnswer, Failure> {
    let not_yet = Failure::NotReady("the settings were not read yet");
    let (Some(settings), Some(now_ms)) = (app.feed.settings(), app.feed.now_ms()) else { return Err(not_yet) };
    app.keys.answer(request, &settings, now_ms)
}

/// A poll of the feed.
pub(crate) async fn poll(feed: &FeedHandle, asker: Asker, request: Request) -> Response {
    let question = match body::question(request).await {
        Ok(question) => question,
        Err(problem) => return Refusal::from(problem).into_response(),
    };
    match feed.poll(&question, asker).await {
        Ok(reply) => feed_answer(reply),
        Err(failure) => Refusal::from(failure).into_response(),
    }
}

fn feed_answer(reply: Reply) -> Response {
    let length = reply.head.len() + reply.body.len();
    let body = if length <= ONE_PIECE_BYTES {
        let mut bytes = reply.head;
        bytes.extend_from_slice(&reply.body);
        Body::from(bytes)
    } else {
        let pieces = [Bytes::from(reply.head), reply.body];
        Body::from_stream(stream::iter(pieces.map(Ok::<_, std::convert::Infallible>)))
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(wire::CONTENT_TYPE));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}

/// Whose credential came with this.
pub(crate) fn follower(edge: Option<&str>) -> Response {
    match edge {
        Some(edge) => json_answer(&json!({ "edge": edge })),
        None => panicked(),
    }
}

/// This process runs and answers.
pub(crate) fn health() -> Response {
    json_answer(&json!({ "status": "ok" }))
}

/// Polls are answered here: what a load balancer asks for.
pub(crate) fn ready(feed: &FeedHandle) -> Response {
    let readiness = feed.readiness();
    let (status, word, age_ms) = match readiness {
        Readiness::Ready { age_ms } => (StatusCode::OK, "ready", Some(age_ms)),
        Readiness::TooOld { age_ms } => (StatusCode::SERVICE_UNAVAILABLE, "too_old", Some(age_ms)),
        Readiness::NotLoaded => (StatusCode::SERVICE_UNAVAILABLE, "not_loaded", None),
        Readiness::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining", None),
    };
    let body = json!({ "status": word, "age_ms": age_ms, "epoch": feed.epoch() });
    let mut response = text_answer(status, "application/json", body.to_string());
    if status != StatusCode::OK {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Counters for Prometheus.
pub(crate) fn metrics(metrics: &Metrics, feed: &FeedHandle) -> Response {
    metrics.feed_polls.set(i64::try_from(feed.held()).unwrap_or(i64::MAX));
    metrics.feed_relay_polls.set(i64::try_from(feed.held_by_relays()).unwrap_or(i64::MAX));
    let age_ms = match feed.readiness() {
        Readiness::Ready { age_ms } | Readiness::TooOld { age_ms } => i64::try_from(age_ms).unwrap_or(i64::MAX),
        Readiness::NotLoaded | Readiness::Draining => -1,
    };
    metrics.feed_age_ms.set(age_ms);
    text_answer(StatusCode::OK, metrics::CONTENT_TYPE, metrics.encode())
}
