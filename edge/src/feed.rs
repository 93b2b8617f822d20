//! Following the feed (design 2.2): while the isolate has traffic one poll is kept waiting at a coordinator,
//! inside `waitUntil`, so that revocations are pushed into it; and when the lease has run out all the same,
//! requests wait together for one question in line.
//!
//! Both ways do the same thing: ask, and let `shared::view` judge the answer. Whether the lease holds is never
//! decided here.

use edgekeep_shared::feed::Answer;
use edgekeep_shared::ids::Nonce;
use edgekeep_shared::lease::{EdgeMs, jittered_ms};
use edgekeep_shared::view::{Applied, Why};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::future_to_promise;

use crate::config::Config;
use crate::flight::Flight;
use crate::incoming::Incoming;
use crate::{clock, coordinator, js, keys, state};

/// The longest hold, whatever the bound.
const MAX_HOLD_MS: u32 = 1_000;
/// The shortest hold, so that a tiny bound does not make a poll chain spin.
const MIN_HOLD_MS: u32 = 20;
/// What a poll may take beyond its hold, at most and at least.
const MAX_SLACK_MS: u32 = 1_500;
const MIN_SLACK_MS: u32 = 250;
/// A chain ends before the platform's 30 seconds after the response are over…
const CHAIN_MS: u32 = 25_000;
/// …before the subrequests of one invocation run out (50 at the least)…
const CHAIN_TURNS: u32 = 28;
/// …or when no session was presented for so long.
const IDLE_MS: u32 = 5_000;
/// A request waits this long for a refresh.
const REFRESH_MS: u32 = 1_000;
/// The most pages that one refresh or turn loads.
const MAX_PAGES: u32 = 64;
/// How often entries that nobody needs any more are dropped.
const PRUNE_EVERY_MS: EdgeMs = 30_000;

/// What one question came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// The view is complete as of the answer.
    Complete,
    /// A page is in.
    More,
    /// Nothing was gained.
    Failed,
}

/// How long a coordinator may keep a question: a quarter of the smallest bound above 0, at most a second.
#[must_use]
pub fn hold_ms(deployment_ms: Option<u32>, smallest_route_ms: Option<u32>) -> u32 {
    // Before the first answer the bound is not known, and there is something to load: no hold.
    let Some(deployment_ms) = deployment_ms else { return 0 };
    let bound_ms = smallest_route_ms.map_or(deployment_ms, |route_ms| route_ms.min(deployment_ms));
    (bound_ms / 4).clamp(MIN_HOLD_MS, MAX_HOLD_MS)
}

/// How long to wait for the answer to a question that is held for so long.
#[must_use]
pub fn timeout_ms(hold_ms: u32) -> u32 {
    hold_ms + hold_ms.clamp(MIN_SLACK_MS, MAX_SLACK_MS).max(if hold_ms == 0 { REFRESH_MS } else { 0 })
}

/// Asks once and applies the answer.
async fn ask(config: &Config, hold_ms: u32, request_id: &str) -> Turn {
    let count = config.coordinators.len();
    let nonce = Nonce(js::random());
    let now_ms = clock::now_ms();
    let (question, sent, index) = state::with(|state| {
        state.view.observe_clock(now_ms);
        (state.view.question(nonce, hold_ms), state.view.sent(now_ms), state.coordinator(count))
    });
    let limit_ms = timeout_ms(question.hold_ms);
    let bytes = coordinator::ask_bytes(config, index, "/v1/feed", &question.encode(), request_id, limit_ms).await;
    let Some(answer) = bytes.and_then(|bytes| Answer::decode(&bytes).ok()) else {
        state::with(|state| state.coordinator_failed(index, count));
        return Turn::Failed;
    };
    // Newer keys first: a lease never holds with keys older than its answer names, so applying first would leave a gap.
    if answer.head.keys_version > state::with(|state| state.keys_version()) {
        keys::fetch(config, request_id).await;
    }
    let received_ms = clock::now_ms();
    #[cfg(feature = "sabotage")]
    let answer = {
        let mut answer = answer;
        answer.head.max_staleness_ms *= 4;
        answer
    };
    state::with(|state| {
        // An answer that is past a quarter of the bound is good, and the next one is asked of somebody else.
        if answer.head.age_ms > answer.head.max_staleness_ms / 4 {
            state.coordinator_failed(index, count);
        }
        match state.view.apply(&question, &answer, sent, received_ms) {
            Applied::Complete => {
                state.breaker.answered();
                if (received_ms - state.pruned_ms).abs() >= PRUNE_EVERY_MS {
                    state.pruned_ms = received_ms;
                    state.view.prune();
                }
                Turn::Complete
            }
            Applied::More => Turn::More,
            Applied::Dropped(why) => {
                // Another question of this isolate moved the view meanwhile, or the coordinator is behind another one.
                if matches!(why, Why::OldEpoch | Why::Gap) {
                    state.coordinator_failed(index, count);
                }
                Turn::Failed
            }
        }
    })
}

/// Asks until the view is complete, the pages are too many, or a question fails.
async fn catch_up(config: &Config, hold_ms: u32, request_id: &str) -> bool {
    for _ in 0..MAX_PAGES {
        match ask(config, hold_ms, request_id).await {
            Turn::Complete => return true,
            Turn::More => {}
            Turn::Failed => return false,
        }
    }
    false
}

/// Notes that a session was presented, and sees to it that a poll is under way.
pub fn keep_alive(incoming: &Incoming, now_ms: EdgeMs) {
    let started = state::with(|state| {
        state.last_use_ms = now_ms;
        let chain = state.chain;
        // A deadline further away than any chain sets was set before the clock went back.
        let running = now_ms < chain.until_ms && chain.until_ms < now_ms + 2 * EdgeMs::from(CHAIN_MS);
        (!running).then(|| {
            let id = state.next_id();
            state.chain = state::Chain { id, until_ms: chain_deadline(now_ms, MAX_HOLD_MS) };
            id
        })
    });
    let Some(id) = started else { return };
    let (config, request_id) = (incoming.config.clone(), incoming.request_id.clone());
    let chain = future_to_promise(async move {
        follow(&config, id, now_ms, &request_id).await;
        state::with(|state| {
            if state.chain.id == id {
                state.chain.until_ms = 0;
            }
        });
        Ok(JsValue::UNDEFINED)
    });
    incoming.context.wait_until(&chain);
}

/// Until when a turn that begins now counts as under way: the poll, keys that may have to be fetched, and a pause.
fn chain_deadline(now_ms: EdgeMs, hold_ms: u32) -> EdgeMs {
    now_ms + EdgeMs::from(timeout_ms(hold_ms)) + EdgeMs::from(coordinator::Effort::INLINE.total_ms)
}

/// One chain: turn after turn, until its time or subrequests are up, the isolate is idle, or another chain took over.
async fn follow(config: &Config, id: u32, started_ms: EdgeMs, request_id: &str) {
    let mut failures = 0;
    for _ in 0..CHAIN_TURNS {
        let now_ms = clock::now_ms();
        let goes_on = state::with(|state| {
            let age_ms = now_ms - started_ms;
            let idle_ms = now_ms - state.last_use_ms;
            state.chain.id == id && (0..EdgeMs::from(CHAIN_MS)).contains(&age_ms) && idle_ms < EdgeMs::from(IDLE_MS)
        });
        if !goes_on {
            return;
        }
        let random = u32::from_be_bytes(js::random());
        let hold_ms = state::with(|state| {
            let bound_ms = state.view.lease().max_staleness_ms().filter(|_| state.view.is_loaded());
            let hold_ms = jittered_ms(hold_ms(bound_ms, config.policy.smallest_staleness_ms()), random);
            state.chain.until_ms = chain_deadline(now_ms, hold_ms);
            hold_ms
        });
        if catch_up(config, hold_ms, request_id).await {
            failures = 0;
        } else {
            js::sleep(coordinator::back_off_ms(failures, js::random::<1>()[0])).await;
            failures += 1;
        }
    }
}

/// Waits for a refresh of the lease, together with everybody else who needs it; afterwards the gate looks again.
pub async fn refresh(incoming: &Incoming) {
    let (config, request_id) = (incoming.config.clone(), incoming.request_id.clone());
    let refreshed = Flight::join(|state| &mut state.refresh_flight, incoming, 2 * REFRESH_MS, async move {
        // Each coordinator once: `ask` goes on to the next when one fails.
        let mut done = false;
        for _ in 0..config.coordinators.len() {
            done = done || catch_up(&config, 0, &request_id).await;
        }
        if !done {
            let (now_ms, random) = (clock::now_ms(), u32::from_be_bytes(js::random()));
            state::with(|state| state.breaker.failed(now_ms, random));
        }
        // Keys that a lease needs and that could not be fetched with its answer.
        let missing = state::with(|state| state.view.lease().keys_needed() > Some(state.keys_version()));
        if missing {
            keys::fetch(&config, &request_id).await;
        }
    });
    // However it ended, the state tells.
    let _ = js::within(&refreshed, REFRESH_MS).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hold_is_a_quarter_of_the_smallest_bound_and_at_most_a_second() {
        assert_eq!(hold_ms(None, None), 0);
        assert_eq!(hold_ms(Some(5_000), None), 1_000);
        assert_eq!(hold_ms(Some(2_000), None), 500);
        assert_eq!(hold_ms(Some(5_000), Some(400)), 100);
        assert_eq!(hold_ms(Some(200), Some(5_000)), 50);
    }

    #[test]
    fn a_poll_that_hangs_is_given_up_well_within_the_bound() {
        for bound_ms in [1_000, 2_000, 5_000, 60_000] {
            let hold_ms = hold_ms(Some(bound_ms), None);
            assert!(timeout_ms(hold_ms) > hold_ms);
            assert!(timeout_ms(hold_ms) <= bound_ms / 2, "{bound_ms}");
        }
        assert_eq!(timeout_ms(0), REFRESH_MS);
    }
}
