//! Carrying out what the gate decides: `shared::gate` is the decision, `shared::inquiry` what has to be asked first, this
//! is the asking.
//!
//! After every await the gate runs again, with a fresh clock, view and keys, so that nothing that arrived
//! meanwhile is overlooked.

use edgekeep_shared::api::CheckRequest;
use edgekeep_shared::cookie::{self, Chosen};
use edgekeep_shared::ids::Nonce;
pub use edgekeep_shared::inquiry::{Allowed, Errand, Outcome, Step};
use edgekeep_shared::inquiry::{Inquiry, Kind};
use edgekeep_shared::policy::RoutePolicy;
use edgekeep_shared::token::{UntrustedToken, VerifyError};

use crate::coordinator::{self, Effort};
use crate::incoming::Incoming;
use crate::{clock, feed, js, keys, state};

/// A request on its way through the gate.
#[derive(Debug)]
pub struct Guard(Inquiry);

impl Guard {
    /// A request that asks for what `route` asks for.
    #[must_use]
    pub const fn new(route: RoutePolicy) -> Self {
        Self(Inquiry::new(route))
    }

    /// Looks once, without awaiting anything: the whole hot path.
    #[must_use]
    pub fn look(&self, cookies: &str) -> Step {
        let now_ms = clock::now_ms();
        state::with(|state| self.0.look(&mut state.memory(), cookies, now_ms))
    }

    /// Looks, does what has to be done first, and looks again, until the gate has decided.
    pub async fn decide(mut self, incoming: &Incoming, first: Errand) -> Outcome {
        let mut errand = first;
        loop {
            self.run(incoming, errand).await;
            let now_ms = clock::now_ms();
            match state::with(|state| self.0.look(&mut state.memory(), &incoming.cookies, now_ms)) {
                Step::Done(outcome) => return outcome,
                Step::First(next) => errand = next,
            }
        }
    }

    async fn run(&mut self, incoming: &Incoming, errand: Errand) {
        self.0.begin();
        // Started before the question, so that both are under way together.
        let fetched = errand.fetch_keys.then(|| keys::fetch_shared(incoming));
        match errand.kind {
            Kind::Keys => {}
            Kind::Refresh => {
                feed::refresh(incoming).await;
                let now_ms = clock::now_ms();
                state::with(|state| self.0.refreshed(&state.memory(), now_ms));
            }
            Kind::Ask { proof, renew } => self.ask(incoming, proof, renew).await,
        }
        if let Some(fetched) = fetched {
            let _ = js::within(&fetched, Effort::INLINE.total_ms).await;
        }
    }

    async fn ask(&mut self, incoming: &Incoming, proof: String, renew: bool) {
        let request = CheckRequest { nonce: Nonce(js::random()), token: proof, renew };
        let now_ms = clock::now_ms();
        let sent = state::with(|state| {
            state.view.observe_clock(now_ms);
            state.view.sent(now_ms)
        });
        let answer =
            coordinator::ask(&incoming.config, "/v1/check", &request, &incoming.request_id, Effort::INLINE).await.ok();
        let now = || (clock::now_ms(), u32::from_be_bytes(js::random()));
        state::with(|state| {
            self.0.answered(&mut state.memory(), request.token, request.nonce, sent, answer, now);
        });
    }
}

/// The presented values that are proofs of ours or may be, oldest first: an unknown key is the coordinator's to judge. All
/// cookies are looked at: with one overlooked, "its session has ended" would not be true.
#[must_use]
pub fn presented_proofs(cookies: &str) -> Vec<String> {
    let keys = state::with(|state| state.keys.clone());
    let may_be_ours = |value: &str| {
        let Ok(token) = UntrustedToken::parse(value) else { return false };
        match &keys {
            Some(keys) => !matches!(token.verify(&keys.ring, keys.site), Err(VerifyError::Invalid)),
            None => true,
        }
    };
    let values = cookie::all_presented(cookies).into_iter().map(|cookie| cookie.value);
    values.filter(|value| may_be_ours(value)).map(str::to_owned).collect()
}

/// The proof that counts, if it is valid, and the name in it. Whether its session stands is not asked.
#[must_use]
pub fn counting_proof(cookies: &str) -> Option<(String, String)> {
    let keys = state::with(|state| state.keys.clone())?;
    match cookie::choose(cookies, &keys.ring, keys.site).chosen {
        Chosen::Proof { value, token } => Some((value, token.claims().name.clone())),
        Chosen::UnknownKey { .. } | Chosen::Nothing | Chosen::Invalid => None,
    }
}

/// `Set-Cookie` values that clear every cookie of ours that a request presents, but this one.
#[must_use]
pub fn clear_all(cookies: &str, but: Option<&str>) -> Vec<String> {
    let mut names: Vec<&str> = Vec::new();
    for presented in cookie::all_presented(cookies) {
        if Some(presented.name) != but && !names.contains(&presented.name) {
            names.push(presented.name);
        }
    }
    names.into_iter().map(cookie::clear_cookie).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgekeep_shared::cookie::COOKIE_PREFIX;

    #[test]
    fn every_presented_cookie_is_cleared_once_but_the_new_one_stays() {
        let header = "a=1; __Host-edgekeep-00000001=x; __Host-edgekeep-00000002=y; __Host-edgekeep-00000001=z";
        assert_eq!(clear_all(header, None).len(), 2);
        let kept = clear_all(header, Some("__Host-edgekeep-00000002"));
        assert_eq!(kept.len(), 1);
        assert!(kept[0].starts_with("__Host-edgekeep-00000001=;"));
    }

    #[test]
    fn no_number_of_other_cookies_hides_a_session_from_signing_out() {
        // Without keys whatever has the form of a proof may be one.
        let proof = format!("1.AQ{}", "A".repeat(160));
        let junk: String = (0..20).map(|n| format!("; {COOKIE_PREFIX}{n:08x}=x")).collect();
        assert_eq!(presented_proofs(&format!("{COOKIE_PREFIX}00000000={proof}{junk}")), [proof]);
    }
}
