//! What surrounds every request: its id, its caller, its place in the queue, its log line and its counters.
//!
//! What this module guarantees:
//! - No door of an edge is reached without a credential that counts; nothing is read from the body before that.
//! - Every answer is `no-store` and carries the request's id.
//! - Held polls and everything else have limits of their own, so that neither can starve the other.
//! - A panic in one request answers 503 there and touches no other.
//!
//! There is no router: [`by_path`] is one, and what a router adds for each request (boxes, clones, layers) was a tenth
//! of what a poll costs.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use edgekeep_shared::credential::Kind;
use edgekeep_shared::ids::to_hex;
use edgekeep_shared::problem::{Code, Problem};
use futures_util::FutureExt as _;
use tokio::sync::Semaphore;
use tracing::{Instrument as _, Level};

use super::handlers;
use super::reply::{Refusal, Told, blank, panicked};
use super::routes::{Caller, Door, Route, by_path};
use crate::app::App;
use crate::failure::Failure;
use crate::feed::poll::Asker;
use crate::metrics::{Metrics, RequestLabels, Route as RouteLabel};

/// The header that names a request on both sides.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("edgekeep-request-id");
/// The longest request id, in characters.
const MAX_REQUEST_ID_CHARS: usize = 64;

/// What the service around the app needs.
pub(super) struct Service {
    pub app: Arc<App>,
    /// Requests at a time, held polls not counted.
    in_flight: Semaphore,
}

impl Service {
    pub(super) fn new(app: Arc<App>) -> Self {
        let in_flight = Semaphore::new(app.config.http.max_in_flight);
        Self { app, in_flight }
    }
}

/// The request's own id if it is a plain one, else a fresh one.
fn request_id(headers: &HeaderMap) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b':');
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    match given {
        Some(id) if (1..=MAX_REQUEST_ID_CHARS).contains(&id.len()) && id.bytes().all(plain) => id.to_owned(),
        _ => {
            let mut random = [0; 12];
            // Without random bytes the id is merely not unique.
            let _ = getrandom::fill(&mut random);
            to_hex(&random)
        }
    }
}

/// The credential that a request shows.
pub(crate) fn credential(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, credential) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| credential.trim())
}

/// The edge that sent this, and what it asks the feed as.
fn caller(app: &App, caller: Caller, headers: &HeaderMap) -> Option<(String, Asker)> {
    let credential = credential(headers)?;
    match caller {
        Caller::Edge => app.edges.authenticate(credential).map(|edge| (edge, Asker::Edge)),
        // Edges show coordinators their own credential, relays have a feed credential.
        Caller::Follower => app.edges.authenticate_follower(credential).map(|(edge, kind)| match kind {
            Kind::Edge => (edge, Asker::Edge),
            Kind::Feed => (edge, Asker::Relay),
        }),
        Caller::Anyone => None,
    }
}

/// Notes whose request this is, for its log line.
pub(crate) fn note_caller(noted: &mut Option<String>, edge: &str) {
    tracing::Span::current().record("edge", edge);
    *noted = Some(edge.to_owned());
}

pub(crate) fn unauthorized(metrics: &Metrics) -> Response {
    metrics.edge_refused.inc();
    let mut response = blank(StatusCode::UNAUTHORIZED);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"edgekeep\""));
    response
}

/// The refusal of a request that does not come with its route's method.
pub(crate) fn wrong_method(route: &Route, method: &Method) -> Option<Response> {
    // Where there is something to get there is also its head.
    let allowed = if route.method == "GET" { "GET,HEAD" } else { route.method };
    if allowed.split(',').any(|allowed| allowed == method) {
        return None;
    }
    let problem = Problem::new(Code::MethodNotAllowed, "This path takes another method: see Allow.");
    let mut response = Refusal::from(problem).into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    Some(response)
}

/// What answers requests: a coordinator, or a relay.
pub(crate) trait Serve: Send + Sync + 'static {
    /// Its counters.
    fn metrics(&self) -> &Metrics;

    /// Lets a request in, or not, and answers it; `edge` is to be noted as soon as it is known ([`note_caller`]).
    fn answer(
        &self,
        route: &'static Route,
        request: Request,
        edge: &mut Option<String>,
    ) -> impl Future<Output = Response> + Send;
}

impl Serve for Service {
    fn metrics(&self) -> &Metrics {
        &self.app.metrics
    }

    async fn answer(&self, route: &'static Route, request: Request, edge: &mut Option<String>) -> Response {
        let mut asker = Asker::Edge;
        if route.caller != Caller::Anyone {
            let Some(known) = caller(&self.app, route.caller, request.headers()) else {
                return unauthorized(&self.app.metrics);
            };
            note_caller(edge, &known.0);
            asker = known.1;
        }
        if let Some(refused) = wrong_method(route, request.method()) {
            return refused;
        }
        match route.door {
            Door::Feed => return handlers::poll(&self.app.feed, asker, request).await,
            Door::Health => return handlers::health(),
            Door::Ready => return handlers::ready(&self.app.feed),
            Door::Metrics => return handlers::metrics(&self.app.metrics, &self.app.feed),
            _ => {}
        }
        let Ok(_place) = self.in_flight.try_acquire() else {
            return Refusal::from(Failure::Overloaded).into_response();
        };
        // Boxed, because a connection keeps room for the largest of all futures, and most of them hold a poll.
        Box::pin(handlers::door(&self.app, route.door, edge.as_deref(), request)).await
    }
}

macro_rules! request_span {
    ($level:expr, $id:expr, $method:expr, $route:expr) => {
        tracing::span!($level, "request", id = $id, method = %$method, route = $route, edge = tracing::field::Empty)
    };
}

/// What surrounds every request.
pub(super) async fn around(serve: &impl Serve, request: Request) -> Response {
    let began = Instant::now();
    let route = by_path(request.uri().path());
    let label = route.map_or("other", |route| route.path);
    let (id, method) = (request_id(request.headers()), request.method().clone());
    // Polls and probes are many and alike: of those that end well nothing is logged.
    let quiet = route.is_some_and(|route| route.door == Door::Feed || route.caller == Caller::Anyone);
    let mut span = if quiet {
        request_span!(Level::DEBUG, id, method, label)
    } else {
        request_span!(Level::INFO, id, method, label)
    };
    let mut edge = None;
    let answer = async {
        match route {
            Some(route) => serve.answer(route, request, &mut edge).await,
            None => blank(StatusCode::NOT_FOUND),
        }
    };
    let answer = AssertUnwindSafe(answer).catch_unwind().instrument(span.clone()).await;
    let loud = |edge: &Option<String>| {
        let span = request_span!(Level::INFO, id, method, label);
        if let Some(edge) = edge {
            span.record("edge", edge);
        }
        span
    };
    let mut response = match answer {
        Ok(response) => response,
        Err(panic) => loud(&edge).in_scope(|| answer_panic(&*panic)),
    };
    if method == Method::HEAD {
        response = without_body(response);
    }

    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    let metrics = serve.metrics();
    let status = response.status().as_u16();
    metrics.requests.get_or_create(&RequestLabels { route: label, status }).inc();
    metrics.request_seconds.get_or_create(&RouteLabel { route: label }).observe(began.elapsed().as_secs_f64());
    let code = response.extensions().get::<Told>().map(|told| told.0.as_str());
    if let Some(code) = code {
        Metrics::count(&metrics.problems, code);
    }
    if quiet && status >= 400 {
        // The other may not be shown.
        span = loud(&edge);
    }
    span.in_scope(|| {
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if quiet && status < 400 {
            tracing::trace!(status, ms, "answered");
        } else if status >= 500 {
            tracing::warn!(status, ms, code, "answered");
        } else {
            tracing::info!(status, ms, code, "answered");
        }
    });
    response
}

/// The head of an answer alone, with the length that the body has.
fn without_body(mut response: Response) -> Response {
    let length = std::mem::take(response.body_mut()).size_hint().exact();
    if let Some(length) = length {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

fn answer_panic(panic: &(dyn Any + Send)) -> Response {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    tracing::error!(panic = text, "a request panicked");
    panicked()
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::Layer as _;
    use tracing_subscriber::filter::LevelFilter;
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;

    use super::*;

    /// Answers `/healthz` well, and everything else not at all.
    struct Broken(Metrics);

    impl Serve for Broken {
        fn metrics(&self) -> &Metrics {
            &self.0
        }

        async fn answer(&self, route: &'static Route, _: Request, edge: &mut Option<String>) -> Response {
            note_caller(edge, "edge-1");
            match route.door {
                Door::Health => handlers::health(),
                Door::Feed => Refusal::from(Failure::Overloaded).into_response(),
                // `/v1/keys`, of which everything is logged, and `/metrics`, of which nothing is that ends well.
                _ => panic!("a mistake"),
            }
        }
    }

    /// What came of a request, and what was logged of it at the level `info`.
    async fn served(path: &str) -> (Response, String) {
        #[derive(Clone, Default)]
        struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);
        impl std::io::Write for Lines {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (lines, request) = (Lines::default(), Request::builder().uri(path).header(REQUEST_ID, "id-1"));
        let writer = lines.clone();
        // In layers as they are set up for a service: a span may exist and not be shown.
        let shown = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let shown = shown.with_filter(LevelFilter::INFO);
        let _logs = tracing_subscriber::registry().with(crate::feed::doubt::Watch).with(shown).set_default();
        let response = around(&Broken(Metrics::new()), request.body(axum::body::Body::empty()).unwrap()).await;
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        (response, text)
    }

    #[tokio::test]
    async fn polls_and_probes_are_logged_when_they_fail_and_everything_else_always() {
        let (response, log) = served("/healthz").await;
        assert_eq!((response.status(), log.as_str()), (StatusCode::OK, ""));
        let (response, log) = served("/v1/feed").await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        for told in ["WARN", "id-1", "/v1/feed", "edge-1", "answered", "503", "overloaded"] {
            assert!(log.contains(told), "{told} in {log}");
        }
        let (response, log) = served("/nowhere").await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert!(log.contains("INFO") && log.contains("other") && log.contains("id-1"), "{log}");
    }

    #[tokio::test]
    async fn a_panic_is_answered_like_anything_else_and_logged() {
        for path in ["/v1/keys", "/metrics"] {
            let (response, log) = served(path).await;
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()[REQUEST_ID], "id-1");
            assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
            let line = log.lines().find(|line| line.contains("a mistake"));
            assert!(line.is_some_and(|line| line.contains("id-1") && line.contains("edge-1")), "{log}");
        }
    }

    #[test]
    fn only_plain_request_ids_are_taken_over() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_static("8f3a-1.b:c_D"));
        assert_eq!(request_id(&headers), "8f3a-1.b:c_D");
        for bad in ["", "a b", "a\"b", &"x".repeat(65)] {
            headers.insert(REQUEST_ID, HeaderValue::from_str(bad).unwrap());
            let id = request_id(&headers);
            assert!(id != bad && id.len() == 24, "{bad} became {id}");
        }
    }
}
