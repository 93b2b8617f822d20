//! The loop that follows the upstream: question after question, each held for a moment. What is asked, waited for and made
//! of an answer is decided by [`edgekeep_shared::follow`], [`edgekeep_shared::retry`] and [`Follower`].

use std::sync::Arc;
use std::time::Duration;

use edgekeep_shared::follow::{CatchUp, Turn, judged, relay_hold_ms, timeout_ms};
use edgekeep_shared::ids::Nonce;
use edgekeep_shared::retry::{Preferred, back_off_ms};
use edgekeep_shared::source::Follower;
use edgekeep_shared::view::Applied;

use super::upstream::Upstreams;
use crate::feed::{FeedHandle, moment};
use crate::metrics::Metrics;

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Without random bytes a nonce repeats, and no answer is taken twice all the same: only one question is under way.
    let _ = getrandom::fill(&mut bytes);
    bytes
}

/// Follows until this process ends.
pub(super) async fn run(feed: FeedHandle, upstreams: Arc<Upstreams>, metrics: Metrics) {
    let mut following =
        Following { feed, upstreams, metrics, follower: Follower::default(), preferred: Preferred::default() };
    let mut failures = 0_u32;
    loop {
        let mut pages = CatchUp::default();
        let complete = loop {
            if let Some(complete) = pages.after(following.ask().await) {
                break complete;
            }
        };
        if complete {
            failures = 0;
            continue;
        }
        let pause_ms = back_off_ms(failures, random::<1>()[0]);
        failures = failures.saturating_add(1);
        tokio::time::sleep(Duration::from_millis(pause_ms.into())).await;
    }
}

struct Following {
    feed: FeedHandle,
    upstreams: Arc<Upstreams>,
    metrics: Metrics,
    follower: Follower,
    preferred: Preferred,
}

impl Following {
    async fn ask(&mut self) -> Turn {
        let count = self.upstreams.count();
        // The first one first: they stand in the order of preference.
        let index = self.preferred.index(count, || 0);
        let bound_ms = self.feed.settings().map(|settings| settings.max_staleness_ms);
        let question = self.follower.question(Nonce(random()), relay_hold_ms(bound_ms));
        let limit = Duration::from_millis(timeout_ms(question.hold_ms).into());
        let sent = moment::now();
        let answer = match self.upstreams.poll(index, &question, limit).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(upstream = self.upstreams.base(index), %error, "the upstream did not answer");
                self.metrics.feed_reconnects.inc();
                self.preferred.failed(index, count);
                return Turn::Failed;
            }
        };
        let head = answer.head.clone();
        let (applied, update) = self.follower.take(&question, answer, sent);
        if let Some(update) = update {
            self.feed.follow(update, u64::from_be_bytes(random()));
        }
        if let Applied::Dropped(why) = applied {
            tracing::warn!(upstream = self.upstreams.base(index), ?why, "an answer that changes nothing");
            self.metrics.feed_reconnects.inc();
        }
        let (turn, elsewhere) = judged(&head, applied);
        if elsewhere {
            self.preferred.failed(index, count);
        }
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_nonce_comes_twice() {
        assert_ne!(random::<16>(), random::<16>());
    }
}
