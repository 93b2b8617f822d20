//! Work that many requests wait for together: one JavaScript promise, kept in a static and handed to the
//! starter's `waitUntil`, so that it survives the starter's client going away. It yields nothing; it changes
//! the state, and whoever waited looks there again. Nothing of Rust (waker, guard, borrow) crosses requests.
//!
//! A cancelled starter leaves its promise behind for ever, so a flight counts until a deadline only.

use core::future::Future;

use edgekeep_shared::lease::EdgeMs;
use js_sys::Promise;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::future_to_promise;

use crate::incoming::Incoming;
use crate::state::State;
use crate::{clock, state};

/// Work under way.
#[derive(Debug)]
pub struct Flight {
    promise: Promise,
    id: u32,
    until_ms: EdgeMs,
}

impl Flight {
    /// Joins the work that is kept at `place`, or starts it. It counts as under way for at most `deadline_ms`.
    pub fn join(
        place: fn(&mut State) -> &mut Option<Self>,
        incoming: &Incoming,
        deadline_ms: u32,
        work: impl Future<Output = ()> + 'static,
    ) -> Promise {
        let now_ms = clock::now_ms();
        let latest_ms = now_ms.saturating_add(EdgeMs::from(deadline_ms));
        let (running, id) = state::with(|state| {
            let id = state.next_id();
            let flight = place(state).as_ref();
            // A deadline further away than any could be was set before the clock went back.
            let flight = flight.filter(|flight| now_ms < flight.until_ms && flight.until_ms <= latest_ms);
            (flight.map(|flight| flight.promise.clone()), id)
        });
        if let Some(promise) = running {
            return promise;
        }
        let promise = future_to_promise(async move {
            work.await;
            state::with(|state| {
                let place = place(state);
                if place.as_ref().is_some_and(|flight| flight.id == id) {
                    *place = None;
                }
            });
            Ok(JsValue::UNDEFINED)
        });
        incoming.context.wait_until(&promise);
        state::with(|state| *place(state) = Some(Self { promise: promise.clone(), id, until_ms: latest_ms }));
        promise
    }
}
