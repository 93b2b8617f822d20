//! `edgekeep serve`.

use std::future::Future;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, registry};

use super::deployment;
use crate::app::App;
use crate::config::{Config, LogConfig, LogFormat};
use crate::feed::doubt::Watch;
use crate::{http, tasks};

pub(super) async fn serve(config: Config, migrate: bool) -> anyhow::Result<()> {
    log(&config.log)?;
    // From here on a signal asks for a graceful end, also while starting.
    let shutdown = shutdown_asked()?;
    if migrate {
        deployment::migrate(&config).await?;
    }
    if config.login.address_per_minute == 0 {
        tracing::info!("the limit per client address is off (login.address_per_minute = 0)");
    }
    let address = config.listen;
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let app = App::start(config).await?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    let tasks = tokio::spawn(tasks::run(app.clone()));
    let mut shutdown = std::pin::pin!(shutdown);
    let served = http::serve(app, listener, &mut shutdown).await;
    tasks.abort();
    if let Err(http::ServeError::Stopped(reason)) = &served {
        tracing::error!(reason, "stopped: refusing everything until this process is ended");
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        http::stopped::refuse_all(listener, reason, shutdown).await?;
    }
    Ok(served?)
}

/// Logs as configured. What the server warns of is watched whatever the log shows: see [`Watch`].
pub(super) fn log(config: &LogConfig) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.filter).context("log.filter")?;
    let shown = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let set = match config.format {
        LogFormat::Text => registry().with(Watch).with(shown.with_ansi(false).with_filter(filter)).try_init(),
        LogFormat::Json => registry().with(Watch).with(shown.json().flatten_event(true).with_filter(filter)).try_init(),
    };
    set.map_err(|error| anyhow::anyhow!("logs: {error}"))
}

/// The same for commands that log nothing: their commits can be in doubt too.
pub(super) fn watch() {
    // Only a second call could fail, and then the first one watches.
    let _ = registry().with(Watch).try_init();
}

/// Resolves at the first SIGTERM or Ctrl-C.
pub(super) fn shutdown_asked() -> anyhow::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    Ok(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = terminated.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
        tracing::info!("asked to stop: draining");
    })
}
