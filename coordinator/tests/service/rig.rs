//! One coordinator's service parts on a test's database.

use std::time::{Duration, Instant};

use edgekeep::check::{self, CheckHandle};
use edgekeep::config::FeedConfig;
use edgekeep::edges::EdgeRegistry;
use edgekeep::failure::Failure;
use edgekeep::feed::poll::Asker;
use edgekeep::feed::{self, FeedHandle, Readiness};
use edgekeep::keys::KeyStore;
use edgekeep::metrics::Metrics;
use edgekeep_shared::feed::{Answer, PageToken, Question};
use edgekeep_shared::ids::Nonce;
use edgekeep_shared::keyring::Secret;
use edgekeep_shared::position::Position;

use crate::database::Database;

pub const SEAL_KEY: [u8; 32] = [7; 32];

pub struct Rig {
    pub feed: FeedHandle,
    pub keys: KeyStore,
    pub edges: EdgeRegistry,
    pub checks: CheckHandle,
    pub metrics: Metrics,
}

/// As `[feed]` by default, with small pages.
pub fn feed_config() -> FeedConfig {
    FeedConfig { page_entries: 100, ..FeedConfig::default() }
}

impl Rig {
    /// Starts and waits until it answers.
    pub async fn start(database: &Database) -> Self {
        let rig = Self::start_unready(database, feed_config(), 1_000);
        rig.ready().await;
        rig
    }

    pub fn start_unready(database: &Database, config: FeedConfig, max_polls: usize) -> Self {
        let keys = KeyStore::new(&Secret(SEAL_KEY));
        let (edges, metrics) = (EdgeRegistry::new(), Metrics::new());
        let feed = FeedHandle::start(feed::Options {
            connect: database.options.clone(),
            config,
            max_polls,
            keys: keys.clone(),
            edges: edges.clone(),
            metrics: metrics.clone(),
        });
        let checks = CheckHandle::start(check::Options {
            connect: database.options.clone(),
            pool: database.pool.clone(),
            keys: keys.clone(),
            feed: feed.clone(),
            metrics: metrics.clone(),
        });
        Self { feed, keys, edges, checks, metrics }
    }

    pub async fn ready(&self) {
        until("ready", || matches!(self.feed.readiness(), Readiness::Ready { .. })).await;
    }

    /// Asks, and decodes what comes.
    pub async fn ask(&self, question: &Question) -> Result<Answer, Failure> {
        let reply = self.feed.poll(question, Asker::Edge).await?;
        let answer = Answer::decode(&[reply.head, reply.body.to_vec()].concat()).expect("an answer");
        assert_eq!(answer.head.nonce, question.nonce);
        Ok(answer)
    }

    /// A first load in one page.
    pub async fn load(&self) -> Answer {
        let answer = self.ask(&question(None, 0)).await.expect("loaded");
        assert!(answer.head.next_page.is_none() && answer.head.from.is_none());
        answer
    }

    /// What is new since that answer, held for up to `hold_ms`.
    pub async fn after(&self, answer: &Answer, hold_ms: u32) -> Answer {
        self.ask(&question(Some(answer), hold_ms)).await.expect("an answer")
    }
}

pub fn question(since: Option<&Answer>, hold_ms: u32) -> Question {
    cursor(since.map(|answer| (answer.head.epoch, answer.head.to.clone())), None, hold_ms)
}

pub fn cursor(at: Option<(u16, Position)>, page: Option<PageToken>, hold_ms: u32) -> Question {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).unwrap();
    let (epoch, from) = at.map_or((0, None), |(epoch, from)| (epoch, Some(from)));
    Question { nonce: Nonce(nonce), epoch, from, page, hold_ms }
}

/// The users of an answer, ascending.
pub fn users(answer: &Answer) -> Vec<u64> {
    let mut users: Vec<u64> = answer.entries.iter().map(|entry| entry.user_id.0).collect();
    users.sort_unstable();
    users
}

/// Waits until it is so; a test that waits for longer than 20 s has failed.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
