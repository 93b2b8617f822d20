//! What surrounds every request: its id, its caller, its place in the queue, its log line and its counters.
//!
//! What this module guarantees:
//! - No door of an edge is reached without a credential that counts; nothing is read from the body before that.
//! - Every answer is `no-store` and carries the request's id.
//! - Held polls and everything else have limits of their own, so that neither can starve the other.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use edgekeep_shared::credential::Kind;
use edgekeep_shared::ids::to_hex;
use tokio::sync::Semaphore;
use tracing::Instrument as _;

use super::reply::{Refusal, Told, blank};
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

/// The name of the edge that a request comes from, on the request, and what it asks the feed as.
#[derive(Clone)]
pub(crate) struct From {
    pub edge: String,
    pub asker: Asker,
}

/// The credential that a request shows.
pub(crate) fn credential(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, credential) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| credential.trim())
}

/// The edge that sent this.
fn caller(app: &App, caller: Caller, headers: &HeaderMap) -> Option<From> {
    let credential = credential(headers)?;
    match caller {
        Caller::Edge => app.edges.authenticate(credential).map(|edge| From { edge, asker: Asker::Edge }),
        Caller::Follower => app.edges.authenticate_follower(credential).map(|(edge, kind)| {
            // Edges show coordinators their own credential, relays have a feed credential.
            From { edge, asker: if kind == Kind::Feed { Asker::Relay } else { Asker::Edge } }
        }),
        Caller::Anyone => None,
    }
}

/// Notes whose request this is, for its log line and for who answers it.
pub(crate) fn note_caller(request: &mut Request, from: From) {
    tracing::Span::current().record("edge", &from.edge);
    request.extensions_mut().insert(from);
}

pub(crate) fn unauthorized(metrics: &Metrics) -> Response {
    metrics.edge_refused.inc();
    let mut response = blank(StatusCode::UNAUTHORIZED);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"edgekeep\""));
    response
}

/// Lets a request in, or not.
async fn admit(service: &Service, route: Option<&'static Route>, mut request: Request, next: Next) -> Response {
    match route {
        Some(Route { caller: who @ (Caller::Edge | Caller::Follower), door, .. }) => {
            let Some(from) = caller(&service.app, *who, request.headers()) else {
                return unauthorized(&service.app.metrics);
            };
            note_caller(&mut request, from);
            let _place = if *door == Door::Feed {
                None
            } else {
                match service.in_flight.try_acquire() {
                    Ok(place) => Some(place),
                    Err(_) => return Refusal::from(Failure::Overloaded).into_response(),
                }
            };
            next.run(request).await
        }
        _ => next.run(request).await,
    }
}

/// The middleware.
pub(super) async fn guard(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    around(&service.app.metrics, request, |route, request| admit(&service, route, request, next)).await
}

/// What surrounds every request, of a coordinator or a relay; `admit` lets it in, or not.
pub(crate) async fn around<F: Future<Output = Response> + Send>(
    metrics: &Metrics,
    request: Request,
    admit: impl FnOnce(Option<&'static Route>, Request) -> F,
) -> Response {
    let began = Instant::now();
    let route = by_path(request.uri().path());
    let label = route.map_or("other", |route| route.path);
    let id = request_id(request.headers());
    let span =
        tracing::info_span!("request", id, method = %request.method(), route = label, edge = tracing::field::Empty);
    let mut response = admit(route, request).instrument(span.clone()).await;

    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    let status = response.status().as_u16();
    metrics.requests.get_or_create(&RequestLabels { route: label, status }).inc();
    metrics.request_seconds.get_or_create(&RouteLabel { route: label }).observe(began.elapsed().as_secs_f64());
    let code = response.extensions().get::<Told>().map(|told| told.0.as_str());
    if let Some(code) = code {
        Metrics::count(&metrics.problems, code);
    }
    span.in_scope(|| {
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Polls and probes are many and alike.
        if status < 400 && matches!(route, Some(Route { door: Door::Feed, .. } | Route { caller: Caller::Anyone, .. }))
        {
            tracing::trace!(status, ms, "answered");
        } else if status >= 500 {
            tracing::warn!(status, ms, code, "answered");
        } else {
            tracing::info!(status, ms, code, "answered");
        }
    });
    response
}

#[cfg(test)]
mod tests {
    use super::*;

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
