//! A relay: a coordinator's polls (`coordinator.rs`), fed by a coordinator's answers instead of by a database. The shell of
//! `coordinator/src/relay/follow.rs`, with the awaits cut open; what is asked and made of an answer is
//! `shared::{source, follow, retry}`.
//!
//! Relays are numbered among coordinators from [`RELAY`] on, and among edges, as who asks, from [`AS_EDGE`] on: so the ops
//! about links, pauses and restarts are about relays too.

use edgekeep_shared::feed::{Answer, Question};
use edgekeep_shared::follow::{CatchUp, Turn, judged, relay_hold_ms, timeout_ms};
use edgekeep_shared::moment::Moment;
use edgekeep_shared::retry::{Preferred, back_off_ms};
use edgekeep_shared::source::{Follower, Published, Source};

use crate::Sabotage;
use crate::coordinator::Later;
use crate::message::{Ask, Reply};
use crate::world::{Event, World};

/// The number of the first relay where coordinators are numbered.
pub const RELAY: u8 = 100;
/// The number of the first relay where edges are numbered.
pub const AS_EDGE: u32 = 1_000_000;

/// What a relay's loop remembers.
#[derive(Debug, Default)]
pub(crate) struct Following {
    follower: Follower,
    preferred: Preferred,
    pages: CatchUp,
    failures: u32,
    /// The question that is under way.
    asked: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    call: u64,
    question: Question,
    sent: Moment,
    index: usize,
}

impl World {
    fn following(&mut self, relay: u8) -> &mut Following {
        &mut self.relays[usize::from(relay - RELAY)]
    }

    /// Forgets everything, and begins again.
    pub(crate) fn restart_relay(&mut self, relay: u8) {
        *self.following(relay) = Following::default();
        self.later(relay, 200_000, Later::Follow);
    }

    /// The next question.
    pub(crate) fn follow(&mut self, relay: u8) {
        let (nonce, call, sent) = (self.nonce(), self.number(), self.moment(relay));
        let bound_ms = self.coordinator(relay).source.as_ref().map(|source| source.settings().max_staleness_ms);
        let count = usize::from(self.setup.coordinators);
        let following = self.following(relay);
        let index = following.preferred.index(count, || 0);
        let question = following.follower.question(nonce, relay_hold_ms(bound_ms));
        let (bytes, limit_ms) = (question.encode(), timeout_ms(question.hold_ms));
        following.asked = Some(Asked { call, question, sent, index });
        let edge = AS_EDGE + u32::from(relay - RELAY);
        self.send(edge, index as u8, call, Ask::Feed(bytes));
        self.at(u64::from(limit_ms) * 1_000, Event::Timeout { edge, call });
    }

    /// An answer has come, or none in time.
    pub(crate) fn relay_answered(&mut self, relay: u8, call: u64, reply: &Reply) {
        let asked = &mut self.following(relay).asked;
        let Some(asked) = asked.take_if(|asked| asked.call == call) else { return };
        let answer = match reply {
            Reply::Feed(bytes) => Answer::decode(bytes).ok(),
            _ => None,
        };
        let (turn, elsewhere) = match answer {
            Some(answer) => self.relay_took(relay, &asked, answer),
            None => (Turn::Failed, true),
        };
        let (count, random) = (usize::from(self.setup.coordinators), self.rng.u8(..));
        let following = self.following(relay);
        if elsewhere {
            following.preferred.failed(asked.index, count);
        }
        let in_ms = match following.pages.after(turn) {
            None => 0,
            Some(complete) => {
                following.pages = CatchUp::default();
                let failures = if complete { 0 } else { following.failures + 1 };
                let before = core::mem::replace(&mut following.failures, failures);
                if complete { 0 } else { back_off_ms(before, random) }
            }
        };
        self.later(relay, u64::from(in_ms) * 1_000, Later::Follow);
    }

    fn relay_took(&mut self, relay: u8, asked: &Asked, mut answer: Answer) -> (Turn, bool) {
        let now = self.moment(relay);
        let mut sent = asked.sent;
        if self.broken(Sabotage::RelayAgeNotAdded) {
            (sent, answer.head.age_ms, answer.head.held_ms) = (now, 0, 0);
        }
        if self.broken(Sabotage::RelayPublishesHalf) {
            answer.head.next_page = None;
        }
        let head = answer.head.clone();
        let (applied, update) = self.following(relay).follower.take(&asked.question, answer, sent);
        self.log.note(self.now_us, &("relayed", relay, format!("{applied:?}"), head.age_ms));
        if let Some(mut update) = update {
            let fresh = self.rng.u64(..);
            let place = self.coordinator(relay);
            let (told, pollers) = (place.told, place.held_polls());
            let mut source = place.source.take().unwrap_or_else(|| update.load(fresh, told, now));
            let published = source.follow(update, pollers, fresh, now);
            self.relay_published(relay, source, published);
        }
        judged(&head, applied)
    }

    fn relay_published(&mut self, relay: u8, source: Source, published: Published) {
        for poll in self.coordinator(relay).published(source, published) {
            self.look(relay, poll);
        }
    }
}
