//! What every part of a running coordinator shares.

use std::sync::Arc;

use sqlx::PgPool;

use crate::check::{self, CheckHandle};
use crate::config::Config;
use crate::db;
use crate::edges::EdgeRegistry;
use crate::feed::{self, FeedHandle};
use crate::keys::{self, KeyStore};
use crate::login::address_limit::AddressLimit;
use crate::metrics::Metrics;
use crate::password::Hasher;
use crate::password::rules::BlockList;
use crate::secrets::Secrets;

/// The shared state of one coordinator; always behind an `Arc`.
pub struct App {
    /// Connections for everything except the feed's reader, which has one of its own.
    pub pool: PgPool,
    /// As read at start.
    pub config: Config,
    /// The deployment's secrets.
    pub secrets: Secrets,
    /// Password hashing behind its permit queue.
    pub hasher: Hasher,
    /// Passwords that nobody may choose.
    pub block_list: BlockList,
    /// Signing keys, in memory, refreshed by the feed's reader.
    pub keys: KeyStore,
    /// The feed's reader and the polls that wait on it.
    pub feed: FeedHandle,
    /// Strict checks and renewals, batched behind a database write.
    pub checks: CheckHandle,
    /// Which edges may talk to this coordinator.
    pub edges: EdgeRegistry,
    /// Guesses per client address.
    pub address_limit: AddressLimit,
    /// Counters and histograms.
    pub metrics: Metrics,
}

impl App {
    /// Connects, checks what must hold before anybody is answered, and starts the parts that run by themselves: the
    /// feed's reader, the batch of checks, key rotation. (Clean-up is [`crate::tasks::run`].)
    ///
    /// # Errors
    /// Says what is wrong with the configuration, the database or its schema.
    pub async fn start(config: Config) -> anyhow::Result<Arc<Self>> {
        let secrets = Secrets::load(&config.secrets)?;
        let pool = db::pool(&config).await?;
        db::schema::check(&pool).await?;
        let hasher = Hasher::new(&config.argon2, &config.hashing, secrets.pepper.clone())?;
        check_pepper(&pool, &hasher).await?;
        let block_list = BlockList::load(config.passwords.block_list_file.as_deref())?;
        let (keys, edges, metrics) = (KeyStore::new(&secrets.seal_key), EdgeRegistry::new(), Metrics::new());
        let connect = db::connect_options(&config)?;
        let feed = FeedHandle::start(feed::Options {
            connect: connect.clone(),
            config: config.feed.clone(),
            max_polls: config.http.max_polls,
            keys: keys.clone(),
            edges: edges.clone(),
            metrics: metrics.clone(),
        });
        let checks = CheckHandle::start(check::Options {
            connect,
            pool: pool.clone(),
            keys: keys.clone(),
            feed: feed.clone(),
            metrics: metrics.clone(),
        });
        keys::rotation::start(pool.clone(), keys.clone(), config.keys.clone(), feed.clone());
        let address_limit = AddressLimit::new(&config.login);
        Ok(Arc::new(Self {
            pool,
            config,
            secrets,
            hasher,
            block_list,
            keys,
            feed,
            checks,
            edges,
            address_limit,
            metrics,
        }))
    }
}

/// Refuses to start with the wrong pepper: everybody's right password would be a wrong one, and lock them out.
async fn check_pepper(pool: &PgPool, hasher: &Hasher) -> anyhow::Result<()> {
    let mut conn = db::acquire(pool).await?;
    if db::users::any_with_other_pepper(&mut conn, hasher.pepper_fingerprint()).await? {
        anyhow::bail!(
            "there are password hashes that were made with another pepper than secrets.pepper: configure that one again"
        );
    }
    Ok(())
}
