//! The doors: read, call what decides, answer.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use edgekeep_shared::api::KeysRequest;
use edgekeep_shared::feed as wire;
use futures_util::stream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::body;
use super::guard::{From, Service};
use super::reply::{Refusal, json_answer, panicked, text_answer};
use crate::app::App;
use crate::failure::Failure;
use crate::feed::poll::{Asker, Reply};
use crate::feed::{FeedHandle, Readiness};
use crate::metrics::Metrics;
use crate::{account, login, metrics};

/// Answers up to this size are sent in one piece; longer ones share the entries' bytes with other polls.
const ONE_PIECE_BYTES: usize = 16 * 1024;

type Shared = State<Arc<Service>>;

/// Reads a JSON request, lets `work` decide, answers in JSON.
async fn door<Q, A, F>(request: Request, work: F) -> Response
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

pub(super) async fn sign_in(State(service): Shared, request: Request) -> Response {
    door(request, async |question| login::login(&service.app, question).await).await
}

pub(super) async fn sign_out(State(service): Shared, request: Request) -> Response {
    door(request, async |question| account::logout(&service.app, question).await).await
}

pub(super) async fn sign_out_everywhere(State(service): Shared, request: Request) -> Response {
    door(request, async |question| account::logout_everywhere(&service.app, question).await).await
}

pub(super) async fn change_password(State(service): Shared, request: Request) -> Response {
    door(request, async |question| account::change_password(&service.app, question).await).await
}

pub(super) async fn sessions(State(service): Shared, request: Request) -> Response {
    door(request, async |question| account::list_sessions(&service.app, question).await).await
}

pub(super) async fn end_session(State(service): Shared, request: Request) -> Response {
    door(request, async |question| account::end_session(&service.app, question).await).await
}

pub(super) async fn check(State(service): Shared, request: Request) -> Response {
    door(request, async |question| service.app.checks.check(question).await).await
}

pub(super) async fn keys(State(service): Shared, request: Request) -> Response {
    door(request, async |question: KeysRequest| key_set(&service.app, &question)).await
}

fn key_set(app: &App, request: &KeysRequest) -> Result<edgekeep_shared::api::KeysAnswer, Failure> {
    let not_yet = Failure::NotReady("the settings were not read yet");
    let (Some(settings), Some(now_ms)) = (app.feed.settings(), app.feed.now_ms()) else { return Err(not_yet) };
    app.keys.answer(request, &settings, now_ms)
}

pub(super) async fn feed(State(service): Shared, request: Request) -> Response {
    answer_poll(&service.app.feed, request).await
}

pub(crate) async fn answer_poll(feed: &FeedHandle, request: Request) -> Response {
    let asker = request.extensions().get::<From>().map_or(Asker::Edge, |from| from.asker);
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
pub(crate) async fn follower(request: Request) -> Response {
    match request.extensions().get::<From>() {
        Some(From { edge, .. }) => json_answer(&json!({ "edge": edge })),
        None => panicked(),
    }
}

/// This process runs and answers.
pub(crate) async fn health() -> Response {
    json_answer(&json!({ "status": "ok" }))
}

/// Polls are answered here: what a load balancer asks for.
pub(super) async fn ready(State(service): Shared) -> Response {
    answer_readiness(&service.app.feed)
}

pub(crate) fn answer_readiness(feed: &FeedHandle) -> Response {
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
pub(super) async fn show_metrics(State(service): Shared) -> Response {
    answer_metrics(&service.app.metrics, &service.app.feed)
}

pub(crate) fn answer_metrics(metrics: &Metrics, feed: &FeedHandle) -> Response {
    metrics.feed_polls.set(i64::try_from(feed.held()).unwrap_or(i64::MAX));
    let age_ms = match feed.readiness() {
        Readiness::Ready { age_ms } | Readiness::TooOld { age_ms } => i64::try_from(age_ms).unwrap_or(i64::MAX),
        Readiness::NotLoaded | Readiness::Draining => -1,
    };
    metrics.feed_age_ms.set(age_ms);
    text_answer(StatusCode::OK, metrics::CONTENT_TYPE, metrics.encode())
}
