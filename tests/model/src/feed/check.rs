//! A request that has to ask about its session: `shared::inquiry` on the edge, `shared::verdict` at the coordinator. In
//! between the question, or the answer, is under way for any time, or lost.

use edgekeep_op::Route;
use edgekeep_shared::api::{CheckAnswer, CheckVerdict, Session as ToldSession};
use edgekeep_shared::gate::{Decision, Denial, How, Passage};
use edgekeep_shared::ids::{Nonce, SessionId};
use edgekeep_shared::inquiry::{Ended, Inquiry, Memory, Outcome, Step};
use edgekeep_shared::lease::Sent;
use edgekeep_shared::problem::Reason;
use edgekeep_shared::retry::{Breaker, Bucket};
use edgekeep_shared::verdict::{self, Current, Verdict};

use super::Feed;
use super::edge::{self, Edge, claims, cookie, policy};
use super::world::{Proof, World};
use crate::Sabotage;

/// What became of the question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Said {
    /// It has not been answered.
    Nothing,
    /// It never will be: it, or its answer, was lost.
    Lost,
    /// The coordinator has read this, in this epoch and at this time.
    Verdict(u16, u64, Verdict),
}

/// A request that asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Check {
    /// The edge.
    pub edge: usize,
    /// What it presents.
    pub proof: Proof,
    /// What it asks for.
    pub route: Route,
    sent: Sent,
    /// The session had ended when the edge asked.
    pub gone_when_asked: bool,
    /// What the coordinator said.
    pub said: Said,
}

/// The one question of a request.
const NONCE: Nonce = Nonce([9; 16]);

impl Check {
    pub(super) fn new(world: &World, edge: usize, proof: Proof, route: Route) -> Self {
        let asker = &world.edges[edge];
        let sent = asker.memory.view().sent(asker.now_ms(world));
        let gone_when_asked = world.gone_ms.contains_key(&proof.session);
        Self { edge, proof, route, sent, gone_when_asked, said: Said::Nothing }
    }

    /// The coordinator reads the primary, behind a heartbeat.
    pub(super) fn speak(&mut self, feed: &Feed, world: &World) {
        let (claims, now_ms) = (claims(&self.proof), world.now_ms());
        let found = world.db.found(feed, &claims, now_ms);
        self.said = Said::Verdict(found.epoch, now_ms, verdict::decide(&claims, found));
    }

    /// What the edge would do if the answer arrived now; `None`: nothing is decided, or it asks again.
    pub(super) fn decision(&self, feed: &Feed, world: &World) -> Option<Decision> {
        let answer = match &self.said {
            Said::Nothing => return None,
            Said::Lost => None,
            Said::Verdict(epoch, read_at_ms, verdict) => Some(CheckAnswer {
                nonce: NONCE,
                epoch: *epoch,
                age_ms: 0,
                read_at_ms: *read_at_ms,
                keys_version: 1,
                max_staleness_ms: feed.scenario.bound_ms,
                verdict: told(&self.proof, verdict),
            }),
        };
        if feed.broken(Sabotage::RenewalNotRechecked)
            && let Said::Verdict(_, _, Verdict::Current(current)) = &self.said
        {
            let claims = claims(&Proof { admin: !current.roles.is_empty(), ..self.proof });
            return Some(Decision::Allow(Passage {
                identity: Some((&claims).into()),
                how: How::Coordinator,
                view_age_ms: 0,
            }));
        }
        let asker: &Edge = &world.edges[self.edge];
        let (cookie, now_ms) = (cookie(&self.proof), asker.now_ms(world));
        let (mut view, mut ended) = (asker.memory.view().clone(), Ended::default());
        let (mut breaker, mut unknown_keys) = (Breaker::default(), Bucket::default());
        let mut memory = Memory {
            view: &mut view,
            keys: Some((&edge::RING, edge::SITE)),
            ended: &mut ended,
            breaker: &mut breaker,
            unknown_keys: &mut unknown_keys,
        };
        let mut inquiry = Inquiry::new(policy(feed, self.route));
        inquiry.begin();
        inquiry.answered(&mut memory, cookie.value.clone(), NONCE, self.sent, answer, || (now_ms, 0));
        match inquiry.look(&mut memory, &cookie.header, now_ms) {
            Step::First(_) => None,
            Step::Done(Outcome::Allow(allowed)) => Some(Decision::Allow(allowed.passage)),
            Step::Done(Outcome::Deny { denial, .. }) => Some(Decision::Deny(denial)),
            Step::Done(Outcome::Unknown) if feed.broken(Sabotage::OutageSignsOut) => {
                Some(Decision::Deny(Denial::NoSession(Reason::SignedOut)))
            }
            Step::Done(Outcome::Unknown) => Some(Decision::Unknown),
        }
    }
}

/// On the wire.
fn told(proof: &Proof, verdict: &Verdict) -> CheckVerdict {
    match verdict {
        Verdict::Current(Current { revision, name, roles, authenticated_at_ms, times }) => CheckVerdict::Current {
            token: None,
            revision: revision.0,
            roles: roles.clone(),
            session: ToldSession {
                id: SessionId([proof.session; 16]),
                authenticated_at_ms: *authenticated_at_ms,
                expires_at_ms: times.expires_at_ms,
                idle_expires_at_ms: times.idle_expires_at_ms,
            },
            name: name.clone(),
            user_id: edgekeep_shared::ids::UserId(proof.user),
        },
        Verdict::Ended(reason) => CheckVerdict::Ended { reason: *reason },
        Verdict::Unknown => CheckVerdict::Unknown,
    }
}
