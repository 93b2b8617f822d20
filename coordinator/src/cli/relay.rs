//! `edgekeep relay`.

use anyhow::Context as _;
use tokio::net::TcpListener;

use super::commands::RelayOptions;
use super::serve::{log, shutdown_asked};
use crate::config::Config;
use crate::relay::{self, Relay};

pub(super) async fn relay(mut config: Config, options: RelayOptions) -> anyhow::Result<()> {
    if !options.upstream.is_empty() {
        config.relay.upstream_urls = options.upstream.join(",");
    }
    if let Some(path) = options.credential_file {
        (config.relay.credential, config.relay.credential_file) = (None, Some(path));
    }
    let address = options.listen.unwrap_or(config.listen);
    log(&config.log)?;
    let shutdown = shutdown_asked()?;
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let relay = Relay::start(&config)?;
    tracing::info!(address = %listener.local_addr()?, upstreams = config.relay.upstream_urls, "relaying");
    Ok(relay::serve(relay, &config, listener, shutdown).await?)
}
