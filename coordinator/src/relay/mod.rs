//! A relay of the revocation feed: stands between many edges and few coordinators (design 4). It has no database, no secrets
//! and no keys; what it tells of revocations, and how old that is, is decided by [`edgekeep_shared::source`].
//!
//! What this module guarantees:
//! - It answers the feed only; every other door of a coordinator is named and refused.
//! - Nobody is answered without a feed credential that an upstream has said counts ([`callers`]).
//! - With an age past half of the bound polls get 503 and readiness fails, as at a coordinator ([`crate::feed`]).
//!
//! | file | what |
//! |---|---|
//! | `config` | `[relay]` |
//! | `upstream` | HTTP to the upstreams |
//! | `follow` | the loop that follows one of them |
//! | `callers` | which edges may ask |

pub mod callers;
pub mod config;

mod follow;
mod upstream;

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;

use crate::config::Config;
use crate::failure::Failure;
use crate::feed::FeedHandle;
use crate::feed::poll::Asker;
use crate::http::guard::{From, around, credential, note_caller, unauthorized};
use crate::http::reply::{Refusal, blank_with};
use crate::http::routes::{Caller, Door, Route};
use crate::http::{self, ServeError, handlers};
use crate::metrics::Metrics;
use callers::{Callers, Verdict};
use upstream::Upstreams;

/// A running relay.
pub struct Relay {
    feed: FeedHandle,
    callers: Arc<Callers>,
    metrics: Metrics,
}

impl Relay {
    /// Begins to follow the upstreams.
    ///
    /// # Errors
    /// Says what is wrong with the configuration.
    pub fn start(config: &Config) -> anyhow::Result<Arc<Self>> {
        let (upstreams, credential) = (config.relay.upstreams()?, config.relay.feed_credential()?);
        let upstreams = Arc::new(Upstreams::new(upstreams, &credential)?);
        let metrics = Metrics::new();
        let feed = FeedHandle::new(config.http.max_polls, &config.feed, metrics.clone());
        tokio::spawn(follow::run(feed.clone(), Arc::clone(&upstreams), metrics.clone()));
        Ok(Arc::new(Self { feed, callers: Arc::new(Callers::new(upstreams, metrics.clone())), metrics }))
    }
}

/// Serves until `shutdown` resolves, then drains: held polls are answered at once.
///
/// # Errors
/// Never by itself; see [`http::serve`].
pub async fn serve(
    relay: Arc<Relay>,
    config: &Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    http::serve_router(router(Arc::clone(&relay)), &config.http, &relay.feed, listener, shutdown).await
}

fn router(relay: Arc<Relay>) -> Router {
    Router::new()
        .route("/v1/feed", post(poll))
        .route("/v1/feed/follower", get(handlers::follower))
        .route("/healthz", get(handlers::health))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(http::wrong_method)
        .fallback(http::not_found)
        .layer(CatchPanicLayer::custom(http::answer_panic))
        .layer(from_fn_with_state(Arc::clone(&relay), guard))
        .with_state(relay)
}

async fn poll(State(relay): State<Arc<Relay>>, request: Request) -> Response {
    handlers::answer_poll(&relay.feed, request).await
}

async fn ready(State(relay): State<Arc<Relay>>) -> Response {
    handlers::answer_readiness(&relay.feed)
}

async fn metrics(State(relay): State<Arc<Relay>>) -> Response {
    handlers::answer_metrics(&relay.metrics, &relay.feed)
}

async fn guard(State(relay): State<Arc<Relay>>, request: Request, next: Next) -> Response {
    around(&relay.metrics, request, |route, request| admit(&relay, route, request, next)).await
}

async fn admit(relay: &Relay, route: Option<&'static Route>, mut request: Request, next: Next) -> Response {
    match route {
        Some(Route { door: Door::Feed | Door::Follower, .. }) => {
            let Some(credential) = credential(request.headers()) else { return unauthorized(&relay.metrics) };
            match relay.callers.verdict(credential).await {
                // Edges and relays show the same here: all are answered alike.
                (edge, Verdict::Counts) => note_caller(&mut request, From { edge, asker: Asker::Edge }),
                (_, Verdict::Refused) => return unauthorized(&relay.metrics),
                (_, Verdict::Unknown) => {
                    let failure = Failure::NotReady("no upstream tells whether this credential counts");
                    return Refusal::from(failure).into_response();
                }
            }
            next.run(request).await
        }
        Some(Route { caller: Caller::Edge | Caller::Follower, .. }) => blank_with(
            StatusCode::NOT_FOUND,
            json!({ "detail": "This is a relay: it answers /v1/feed only. Ask a coordinator." }),
        ),
        Some(Route { caller: Caller::Anyone, .. }) | None => next.run(request).await,
    }
}
