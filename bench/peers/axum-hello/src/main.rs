//! An axum hello world on loopback, with what else the benchmarks need behind an edge.
//!
//! `axum-hello PORT [DELAY_MS]`. `/session` answers after the delay, as a session endpoint some network away does.
//! `/bytes` is 1 MB. Everything else is a hello world that reads its body first.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::DefaultBodyLimit;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

const MEGABYTE: &[u8] = &[b'x'; 1_000_000];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().ok_or("axum-hello PORT [DELAY_MS]")?.parse()?;
    let delay = Duration::from_millis(arguments.next().map_or(Ok(0), |text| text.parse())?);
    let session = move || async move {
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        ([(CONTENT_TYPE, "application/json")], r#"{"name":"demo","userId":"4821906573310842112","roles":["admin"]}"#)
    };
    let app = Router::new()
        .route("/session", get(session))
        .route("/bytes", get(|| async { Body::from(MEGABYTE) }))
        .fallback(|_: Bytes| async { "Hello, world\n" })
        .layer(DefaultBodyLimit::max(16 << 20));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(listener, app).await?;
    Ok(())
}
