//! Following the feed (design 2.2): while the isolate has traffic one poll is kept waiting at a coordinator or a relay,
//! inside `waitUntil`, so that revocations are pushed into it; and when the lease has run out all the same,
//! requests wait together for one question in line.
//!
//! Both ways do the same thing: ask, and let `shared::view` judge the answer. What is decided on the way is in
//! `shared::follow`; this carries it out.

use edgekeep_shared::feed::Answer;
use edgekeep_shared::follow::{self, CatchUp, Chain, REFRESH_MS, Turn};
use edgekeep_shared::ids::Nonce;
use edgekeep_shared::lease::EdgeMs;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::future_to_promise;

use crate::config::Config;
use crate::coordinator::Feeder;
use crate::flight::Flight;
use crate::incoming::Incoming;
use crate::state::{State, next_id};
use crate::{clock, coordinator, js, keys, state};

/// Asks once and applies the answer.
async fn ask(config: &Config, hold_ms: u32, request_id: &str) -> Turn {
    let nonce = Nonce(js::random());
    let now_ms = clock::now_ms();
    let (question, sent, whom) = state::with(|state| {
        state.view.observe_clock(now_ms);
        (state.view.question(nonce, hold_ms), state.view.sent(now_ms), state.feeder(config, now_ms))
    });
    let limit_ms = follow::timeout_ms(question.hold_ms);
    let bytes = coordinator::ask_feed(config, whom, &question.encode(), request_id, limit_ms).await;
    let Some(answer) = bytes.and_then(|bytes| Answer::decode(&bytes).ok()) else {
        state::with(|state| state.feeder_failed(config, whom, clock::now_ms()));
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
        let (turn, elsewhere) = follow::judged(&answer.head, state.view.apply(&question, &answer, sent, received_ms));
        if elsewhere {
            state.feeder_failed(config, whom, received_ms);
        } else if matches!(whom, Feeder::Relay(_)) {
            state.relays.answered();
        }
        if turn == Turn::Complete {
            state.breaker.answered();
            if follow::prune_is_due(state.pruned_ms, received_ms) {
                state.pruned_ms = received_ms;
                state.view.prune();
            }
        }
        turn
    })
}

/// Asks until the view is complete, the pages are too many, or a question fails.
async fn catch_up(config: &Config, hold_ms: u32, request_id: &str) -> bool {
    let mut pages = CatchUp::default();
    loop {
        if let Some(complete) = pages.after(ask(config, hold_ms, request_id).await) {
            return complete;
        }
    }
}

/// Notes that a session was presented, and sees to it that a poll is under way.
pub fn keep_alive(incoming: &Incoming, now_ms: EdgeMs) {
    let subrequests = incoming.config.subrequest_limit;
    let started = state::with(|state| {
        state.last_use_ms = now_ms;
        let State { chain, last_id, .. } = state;
        chain.start(now_ms, subrequests, || next_id(last_id))
    });
    let Some(mut chain) = started else { return };
    let (config, request_id) = (incoming.config.clone(), incoming.request_id.clone());
    let promise = future_to_promise(async move {
        while let Some(hold_ms) = next_turn(&config, &mut chain) {
            let complete = catch_up(&config, hold_ms, &request_id).await;
            let pause_ms = pause_ms(&config, &mut chain, complete);
            if pause_ms > 0 {
                js::sleep(pause_ms).await;
            }
        }
        state::with(|state| state.chain.ended(&chain));
        Ok(JsValue::UNDEFINED)
    });
    incoming.context.wait_until(&promise);
}

/// How long the chain's next question is held; `None`: it is over.
fn next_turn(config: &Config, chain: &mut Chain) -> Option<u32> {
    let (now_ms, random) = (clock::now_ms(), u32::from_be_bytes(js::random()));
    let smallest_ms = config.policy.smallest_staleness_ms();
    state::with(|state| chain.turn(&mut state.chain, &state.view, now_ms, state.last_use_ms, smallest_ms, random))
}

/// How long the chain pauses after a turn.
fn pause_ms(config: &Config, chain: &mut Chain, complete: bool) -> u32 {
    let (now_ms, [random]) = (clock::now_ms(), js::random());
    let smallest_ms = config.policy.smallest_staleness_ms();
    state::with(|state| chain.pause_ms(&mut state.chain, &state.view, complete, now_ms, smallest_ms, random))
}

/// Waits for a refresh of the lease, together with everybody else who needs it; afterwards the gate looks again.
pub async fn refresh(incoming: &Incoming) {
    let (config, request_id) = (incoming.config.clone(), incoming.request_id.clone());
    let refreshed = Flight::join(|state| &mut state.refresh_flight, incoming, 2 * REFRESH_MS, async move {
        // Each coordinator once, after one relay: `ask` goes on to the next when one fails.
        let mut done = false;
        for _ in 0..config.coordinators.len() + usize::from(!config.relays.is_empty()) {
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
