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

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::failure::Failure;
use crate::feed::FeedHandle;
use crate::feed::poll::Asker;
use crate::http::guard::{Serve, credential, note_caller, unauthorized, wrong_method};
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
    let feed = relay.feed.clone();
    http::serve_all(relay, &config.http, &feed, listener, shutdown).await
}

impl Serve for Relay {
    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    async fn answer(&self, route: &'static Route, request: Request, edge: &mut Option<String>) -> Response {
        match (route.door, route.caller) {
            (Door::Feed | Door::Follower, _) => {
                let Some(credential) = credential(request.headers()) else { return unauthorized(&self.metrics) };
                match self.callers.verdict(credential).await {
                    (known, Verdict::Counts) => note_caller(edge, &known),
                    (_, Verdict::Refused) => return unauthorized(&self.metrics),
                    (_, Verdict::Unknown) => {
                        let failure = Failure::NotReady("no upstream tells whether this credential counts");
                        return Refusal::from(failure).into_response();
                    }
                }
            }
            (_, Caller::Edge | Caller::Follower) => {
                return blank_with(
                    StatusCode::NOT_FOUND,
                    json!({ "detail": "This is a relay: it answers /v1/feed only. Ask a coordinator." }),
                );
            }
            (_, Caller::Anyone) => {}
        }
        if let Some(refused) = wrong_method(route, request.method()) {
            return refused;
        }
        match route.door {
            // Edges and relays show the same here: all are answered alike.
            Door::Feed => handlers::poll(&self.feed, Asker::Edge, request).await,
            Door::Follower => handlers::follower(edge.as_deref()),
            Door::Ready => handlers::ready(&self.feed),
            Door::Metrics => handlers::metrics(&self.metrics, &self.feed),
            _ => handlers::health(),
        }
    }
}
