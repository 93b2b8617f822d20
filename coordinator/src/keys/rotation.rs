//! The task that keeps the key set as its schedule wants it.

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::sleep;

use super::{KeyStore, admin};
use crate::config::KeysConfig;
use crate::db::{DbError, run_tx};
use crate::feed::FeedHandle;

/// The longest pause between two looks at the schedule.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The pause after a look that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Starts the task: it looks at once, so that a new deployment has its first key, and then again and again. Several
/// coordinators may do so; the lock on the `key_set` row lets one at a time.
pub fn start(pool: PgPool, keys: KeyStore, config: KeysConfig, feed: FeedHandle) {
    tokio::spawn(async move {
        loop {
            let pause = match once(&pool, &keys, &config).await {
                Ok(changed) => {
                    if changed {
                        tracing::info!("the key set has changed");
                        feed.poke();
                    }
                    LONGEST_PAUSE.min(Duration::from_secs(config.rotate_every_s) / 8)
                }
                Err(error) => {
                    tracing::warn!(%error, "the key set could not be looked at");
                    RETRY_PAUSE
                }
            };
            sleep(pause).await;
        }
    });
}

async fn once(pool: &PgPool, keys: &KeyStore, config: &KeysConfig) -> Result<bool, DbError> {
    run_tx!(pool, "rotate_keys", async |conn| admin::rotate(conn, keys.seal_key(), config, false).await).await
}
