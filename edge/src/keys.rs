//! The signing keys and the settings that come with them: fetched on their own authenticated path when
//! the isolate is cold, when the feed names a newer version, and now and then for an unknown key.

use std::rc::Rc;

use edgekeep_shared::api::{KeysAnswer, KeysRequest};
use edgekeep_shared::ids::{Nonce, SiteId};
use edgekeep_shared::keyring::{KeyRing, RingKey, Secret};
use edgekeep_shared::lease::EdgeMs;

use crate::config::Config;
use crate::coordinator::{self, Effort};
use crate::flight::Flight;
use crate::incoming::Incoming;
use crate::{clock, js, state};

/// A request waits this long for keys.
const WAIT_MS: u32 = 2_000;

/// What edges get from `/v1/keys`, ready to use.
#[derive(Debug)]
pub struct Keys {
    /// The signing keys.
    pub ring: KeyRing,
    /// The site's name: the assertion's audience.
    pub site_name: String,
    /// The tokens' audience.
    pub site: SiteId,
    /// Seals the idempotency keys of forms.
    pub form_secret: Secret,
    /// How many sessions a user may have.
    pub sessions_per_user: u32,
    /// Shortest new password, in characters.
    pub password_min_chars: u32,
    /// Coordinator time of the answer.
    answered_at_ms: u64,
    /// When it came in, edge time.
    received_ms: EdgeMs,
}

impl Keys {
    /// The key set of an answer; `None` if it is not what was asked for, or for another site than configured.
    #[must_use]
    pub fn from_answer(
        answer: KeysAnswer,
        nonce: Nonce,
        expected_site: Option<&str>,
        received_ms: EdgeMs,
    ) -> Option<Self> {
        if answer.nonce != nonce || expected_site.is_some_and(|site| site != answer.site) {
            return None;
        }
        let mut keys = Vec::with_capacity(answer.keys.len());
        for key in &answer.keys {
            keys.push(RingKey::new(key.id, &Secret::from_hex(&key.secret)?, key.withdrawn));
        }
        Some(Self {
            ring: KeyRing::new(answer.version, keys),
            site: SiteId::of(&answer.site),
            site_name: answer.site,
            form_secret: Secret::from_hex(&answer.form_secret)?,
            sessions_per_user: answer.sessions_per_user,
            password_min_chars: answer.password_min_chars,
            answered_at_ms: answer.now_ms,
            received_ms,
        })
    }

    /// Roughly coordinator time, for an isolate that has no view yet: by the answer's clock, not by this edge's own.
    #[must_use]
    pub fn coordinator_ms(&self, now_ms: EdgeMs) -> u64 {
        self.answered_at_ms.saturating_add_signed(now_ms.saturating_sub(self.received_ms).max(0))
    }
}

/// Fetches the keys and keeps them, unless newer ones came in between.
pub async fn fetch(config: &Config, request_id: &str) {
    let nonce = Nonce(js::random());
    let answer: Result<KeysAnswer, _> =
        coordinator::ask(config, "/v1/keys", &KeysRequest { nonce }, request_id, Effort::INLINE).await;
    let Ok(answer) = answer else { return };
    match Keys::from_answer(answer, nonce, config.site.as_deref(), clock::now_ms()) {
        Some(keys) => state::with(|state| {
            if state.keys_version() <= keys.ring.version() {
                state.keys = Some(Rc::new(keys));
            }
        }),
        None => js::log_error("edgekeep: the coordinator's keys are not for this edge; compare binding SITE"),
    }
}

/// Starts fetching the keys, or joins those who wait for them already.
pub fn fetch_shared(incoming: &Incoming) -> js_sys::Promise {
    let (config, request_id) = (incoming.config.clone(), incoming.request_id.clone());
    Flight::join(|state| &mut state.keys_flight, incoming, WAIT_MS + 500, async move {
        fetch(&config, &request_id).await;
    })
}

/// The keys, fetched if the isolate has none; `None` when nobody answers in time.
pub async fn ensure(incoming: &Incoming) -> Option<Rc<Keys>> {
    if let Some(keys) = state::with(|state| state.keys.clone()) {
        return Some(keys);
    }
    let fetched = fetch_shared(incoming);
    // However it ended, the state tells.
    let _ = js::within(&fetched, WAIT_MS).await;
    state::with(|state| state.keys.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgekeep_shared::api::Key;
    use edgekeep_shared::ids::KeyId;

    fn answer(nonce: u8) -> KeysAnswer {
        KeysAnswer {
            nonce: Nonce([nonce; 16]),
            version: 3,
            keys: vec![Key { id: KeyId(1), secret: "ab".repeat(32), withdrawn: false }],
            site: "main".to_owned(),
            form_secret: "cd".repeat(32),
            sessions_per_user: 1,
            password_min_chars: 15,
            now_ms: 1,
        }
    }

    #[test]
    fn time_is_told_by_the_answer_and_not_by_a_clock_that_is_days_off() {
        let received_ms = 5 * 86_400_000;
        let keys = Keys::from_answer(answer(1), Nonce([1; 16]), None, received_ms).expect("keys");
        assert_eq!(keys.coordinator_ms(received_ms + 1_000), 1_001);
        assert_eq!(keys.coordinator_ms(received_ms - 1_000), 1, "the clock went back");
    }

    #[test]
    fn an_answer_counts_only_for_its_question_and_site() {
        let nonce = Nonce([1; 16]);
        assert!(Keys::from_answer(answer(1), nonce, None, 0).is_some_and(|keys| keys.ring.get(KeyId(1)).is_some()));
        assert!(Keys::from_answer(answer(1), nonce, Some("main"), 0).is_some());
        assert!(Keys::from_answer(answer(1), nonce, Some("other"), 0).is_none());
        assert!(Keys::from_answer(answer(2), nonce, None, 0).is_none());
        let mut malformed = answer(1);
        malformed.keys[0].secret.truncate(10);
        assert!(Keys::from_answer(malformed, nonce, None, 0).is_none());
    }
}
