//! Requests at an edge: `shared::inquiry` says what to do, this does it, and tells the checker what came of it.

use edgekeep_op::Route;
use edgekeep_shared::api::CheckAnswer;
use edgekeep_shared::follow::REFRESH_MS;
use edgekeep_shared::gate::{Denial, How};
use edgekeep_shared::ids::Nonce;
use edgekeep_shared::inquiry::{Errand, Inquiry, Kind, Outcome, Step};
use edgekeep_shared::lease::Sent;
use edgekeep_shared::policy::{Access, RoutePolicy};
use edgekeep_shared::problem::Reason;
use edgekeep_shared::retry::{Effort, Retry};

use crate::Sabotage;
use crate::checker::Seen;
use crate::edge::{Task, Then};
use crate::message::Ask;
use crate::world::{Event, World};

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Request {
    inquiry: Inquiry,
    cookies: String,
    device: Option<u8>,
    seen: Seen,
    /// Keys that are fetched beside the question.
    keys: Option<u64>,
    /// What is waited for; a later wait has another number.
    wait: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Refresh,
    Ask,
    Keys,
}

fn policy(route: Route, bound_ms: u32) -> RoutePolicy {
    match route {
        Route::Session => RoutePolicy::SESSION,
        Route::Short => RoutePolicy { max_staleness_ms: Some(bound_ms / 2), ..RoutePolicy::SESSION },
        Route::Strict => RoutePolicy { max_staleness_ms: Some(0), ..RoutePolicy::SESSION },
        Route::Recent => RoutePolicy { max_auth_age_s: Some(bound_ms / 1_000), ..RoutePolicy::SESSION },
        Route::Admin => RoutePolicy { access: Access::Roles(vec!["admin".into()]), ..RoutePolicy::SESSION },
    }
}

impl World {
    /// A request reaches an edge.
    pub(crate) fn request(&mut self, edge: u32, user: u32, device: Option<u8>, cookies: String, route: Route) {
        if cookies.is_empty() {
            return;
        }
        let session = self.session_in(&cookies);
        let seen = Seen { session, user, route, started_us: self.now_us, now_us: self.now_us };
        let inquiry = Inquiry::new(policy(route, self.setup.bound_ms));
        self.stats.requests += 1;
        self.stats.own += u64::from(device.is_some());
        let now_ms = self.edge_ms(edge);
        let mut memory = self.edges[edge as usize].memory(&self.ring, self.site);
        let step = inquiry.look(&mut memory, &cookies, now_ms);
        let request = Request { inquiry, cookies, device, seen, keys: None, wait: 0, stage: Stage::Ask };
        match step {
            Step::Done(outcome) => self.decided(edge, &request, outcome),
            Step::First(errand) => {
                let number = self.number();
                self.edges[edge as usize].requests.insert(number, request);
                self.errand(edge, number, errand);
            }
        }
        self.keep_alive(edge);
    }

    /// Starts what has to be done first.
    fn errand(&mut self, edge: u32, number: u64, errand: Errand) {
        let keys = errand.fetch_keys.then(|| self.join_keys(edge, number));
        let wait = self.number();
        let Some(request) = self.edges[edge as usize].requests.get_mut(&number) else { return };
        request.inquiry.begin();
        (request.keys, request.wait) = (keys, wait);
        request.stage = match errand.kind {
            Kind::Keys => Stage::Keys,
            Kind::Refresh => Stage::Refresh,
            Kind::Ask { .. } => Stage::Ask,
        };
        if request.device.is_some() {
            match errand.kind {
                Kind::Refresh => self.stats.own_refreshes += 1,
                Kind::Ask { renew: false, .. } => self.stats.own_checks += 1,
                Kind::Ask { renew: true, .. } => self.stats.own_renewals += 1,
                Kind::Keys => {}
            }
        }
        match errand.kind {
            Kind::Keys => self.then_keys(edge, number),
            Kind::Refresh => {
                self.sleep(edge, REFRESH_MS, Then::WaitOver { request: number, wait });
                self.join_refresh(edge, number);
            }
            Kind::Ask { proof, renew } => {
                let (nonce, now_ms) = (self.nonce(), self.edge_ms(edge));
                let view = &mut self.edges[edge as usize].view;
                view.observe_clock(now_ms);
                let sent = view.sent(now_ms);
                self.stats.checks += 1;
                let retry = Retry::new(Effort::INLINE, usize::from(self.setup.coordinators), now_ms);
                let ask = Ask::Check { nonce, token: proof.clone(), renew };
                self.attempt(edge, Task::Check { retry, index: 0, ask, request: number, nonce, sent, proof });
            }
        }
    }

    /// The main question of the errand is over: keys may still be under way.
    fn then_keys(&mut self, edge: u32, number: u64) {
        let wait = self.number();
        let isolate = &mut self.edges[edge as usize];
        let Some(request) = isolate.requests.get_mut(&number) else { return };
        let under_way = request.keys.is_some_and(|flight| isolate.waiting.contains_key(&flight));
        if under_way {
            (request.stage, request.wait) = (Stage::Keys, wait);
            self.sleep(edge, Effort::INLINE.total_ms, Then::WaitOver { request: number, wait });
        } else {
            self.look_again(edge, number);
        }
    }

    pub(crate) fn wait_over(&mut self, edge: u32, number: u64, wait: u64) {
        let stage = self.edges[edge as usize].requests.get(&number).filter(|request| request.wait == wait);
        match stage.map(|request| request.stage) {
            Some(Stage::Refresh) => self.refreshed(edge, number),
            Some(Stage::Keys) => self.look_again(edge, number),
            Some(Stage::Ask) | None => {}
        }
    }

    pub(crate) fn flight_landed(&mut self, edge: u32, number: u64, flight: u64) {
        let Some(request) = self.edges[edge as usize].requests.get(&number) else { return };
        match request.stage {
            Stage::Refresh if request.keys != Some(flight) => self.refreshed(edge, number),
            Stage::Keys if request.keys == Some(flight) => self.look_again(edge, number),
            _ => {}
        }
    }

    fn refreshed(&mut self, edge: u32, number: u64) {
        let now_ms = self.edge_ms(edge);
        let isolate = &mut self.edges[edge as usize];
        let Some(mut request) = isolate.requests.remove(&number) else { return };
        request.inquiry.refreshed(&isolate.memory(&self.ring, self.site), now_ms);
        isolate.requests.insert(number, request);
        self.then_keys(edge, number);
    }

    pub(crate) fn checked(
        &mut self,
        edge: u32,
        number: u64,
        proof: String,
        nonce: Nonce,
        sent: Sent,
        answer: Option<CheckAnswer>,
    ) {
        let (now_ms, random) = (self.edge_ms(edge), self.rng.u32(..));
        let blind = self.broken(Sabotage::RenewalNotRechecked)
            && answer
                .as_ref()
                .is_some_and(|answer| matches!(answer.verdict, edgekeep_shared::api::CheckVerdict::Current { .. }));
        let isolate = &mut self.edges[edge as usize];
        let Some(mut request) = isolate.requests.remove(&number) else { return };
        if blind {
            let seen = Seen { now_us: self.now_us, ..request.seen };
            self.checker.accepted(&seen, false);
            return;
        }
        request
            .inquiry
            .answered(&mut isolate.memory(&self.ring, self.site), proof, nonce, sent, answer, || (now_ms, random));
        isolate.requests.insert(number, request);
        self.then_keys(edge, number);
    }

    fn look_again(&mut self, edge: u32, number: u64) {
        let now_ms = self.edge_ms(edge);
        let isolate = &mut self.edges[edge as usize];
        let Some(request) = isolate.requests.remove(&number) else { return };
        let mut memory = isolate.memory(&self.ring, self.site);
        match request.inquiry.look(&mut memory, &request.cookies, now_ms) {
            Step::Done(outcome) => self.decided(edge, &request, outcome),
            Step::First(errand) => {
                self.edges[edge as usize].requests.insert(number, request);
                self.errand(edge, number, errand);
            }
        }
    }

    /// The gate's word.
    fn decided(&mut self, edge: u32, request: &Request, outcome: Outcome) {
        let seen = Seen { now_us: self.now_us, ..request.seen };
        let outcome = match outcome {
            Outcome::Unknown if self.broken(Sabotage::OutageSignsOut) => {
                Outcome::Deny { denial: Denial::NoSession(Reason::SignedOut), set_cookies: vec![] }
            }
            outcome => outcome,
        };
        let told = match outcome {
            Outcome::Allow(allowed) => {
                let admin = allowed.passage.identity.as_ref().is_some_and(|identity| !identity.roles.is_empty());
                self.stats.allowed += 1;
                self.stats.local += u64::from(allowed.passage.how == How::Local);
                self.log.note(self.now_us, &("pass", edge, seen.user, request.device, admin));
                self.checker.accepted(&seen, admin);
                allowed.set_cookies
            }
            Outcome::Deny { denial, set_cookies } => {
                self.stats.denied += 1;
                self.log.note(self.now_us, &("deny", edge, seen.user, format!("{denial:?}")));
                match denial {
                    Denial::NoSession(reason) => self.checker.signed_out(&seen, reason.as_str()),
                    Denial::Forbidden => self.checker.forbidden(&seen),
                    Denial::ReauthenticationRequired => {}
                }
                set_cookies
            }
            Outcome::Unknown => {
                self.stats.unknown += 1;
                self.log.note(self.now_us, &("unknown", edge, seen.user));
                let calm = self.calm_since(seen.started_us);
                self.checker.unknown(&seen, calm);
                vec![]
            }
        };
        if let Some(device) = request.device.filter(|_| !told.is_empty()) {
            let in_us = self.rng.u64(200..2_000);
            self.at(in_us, Event::Client { user: seen.user, device, told });
        }
    }
}
