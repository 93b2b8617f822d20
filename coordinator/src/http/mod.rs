//! The service: the listener and its limits.
//!
//! What this module guarantees:
//! - Only what stands in [`routes::ROUTES`] is served; everything else is 404 or 405, as problem+json.
//! - Headers and bodies are bounded in size and in time; connections and requests are bounded in number.
//! - On shutdown nothing new is accepted, held polls are answered at once, and what is being decided (logins above
//!   all) may end within `http.drain_ms`. A panic in one request answers 503 there and touches no other.

pub mod body;
pub mod guard;
pub mod routes;
pub mod stopped;

pub(crate) mod handlers;
pub(crate) mod reply;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::app::App;
use crate::config::HttpConfig;
use crate::feed::FeedHandle;
use guard::{Serve, Service, around};

/// How long a request's headers may take to arrive; also how long a connection may stay idle.
const HEADERS_LIMIT: Duration = Duration::from_secs(30);
/// The most bytes of a request's line and headers.
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// The most header fields of a request.
const MAX_HEADERS: usize = 64;
/// Connections beyond polls and requests: probes, scrapes, idle ones.
const SPARE_CONNECTIONS: usize = 1_024;
/// The pause after a failed `accept`, which is what too many open files bring about.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the service ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// What the database says cannot be trusted any more; the text says what to do.
    #[error("{0}")]
    Stopped(String),
}

/// Serves until `shutdown` resolves, then drains. Held polls are released at once; requests in flight have
/// `http.drain_ms`.
///
/// # Errors
/// When this coordinator must stop: see [`crate::feed::FeedHandle::stopped`].
pub async fn serve(app: Arc<App>, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
    let service = Arc::new(Service::new(Arc::clone(&app)));
    serve_all(service, &app.config.http, &app.feed, listener, shutdown).await
}

/// The same for whatever holds the polls of `feed`.
pub(crate) async fn serve_all(
    serve: Arc<impl Serve>,
    http: &HttpConfig,
    feed: &FeedHandle,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let drain = Duration::from_millis(http.drain_ms);
    let room = http.max_polls.saturating_add(http.max_in_flight).saturating_add(SPARE_CONNECTIONS);
    let connections = Arc::new(Semaphore::new(room.min(Semaphore::MAX_PERMITS)));
    let builder = Arc::new(connection_builder());
    let graceful = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    let mut stopped = std::pin::pin!(feed.stopped());
    let mut result = Ok(());
    loop {
        let accept = async {
            let place = Arc::clone(&connections).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut shutdown => break,
            reason = &mut stopped => {
                result = Err(ServeError::Stopped(reason));
                break;
            }
            accepted = accept => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Answers are small and waited for.
        let _ = stream.set_nodelay(true);
        let serve = Arc::clone(&serve);
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let serve = Arc::clone(&serve);
            async move { Ok::<_, Infallible>(around(&*serve, request.map(Body::new)).await) }
        });
        let builder = Arc::clone(&builder);
        let watcher = graceful.watcher();
        tokio::spawn(async move {
            let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(error, "a connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    tracing::info!(drain_ms = http.drain_ms, "no new connections; requests in flight may end");
    feed.drain();
    tokio::select! {
        () = graceful.shutdown() => tracing::info!("all requests have ended"),
        () = sleep(drain) => tracing::warn!("some requests did not end in time"),
    }
    result
}

fn connection_builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_LIMIT)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .max_header_list_size(MAX_HEADER_BYTES as u32)
        .max_concurrent_streams(10_000);
    builder
}
