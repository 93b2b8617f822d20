//! G2 in small: whatever happens to questions and answers, an edge never accepts a session later than `max_staleness`
//! after its revocation became visible.
//!
//! A toy database commits revocations out of order of their transaction ids; a toy coordinator answers from its latest
//! read; the network delays, loses, repeats and reorders; the edge's clock runs up to 1 % fast or slow and may be set
//! back; the edge is reset now and then. The code under test is the real view, lease, gate and token code.
//!
//! What counts as a failure: the gate says "allow, from memory" at a true time later than commit + max_staleness.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a failed expectation is a failed test

use edgekeep_shared::cookie::Chosen;
use edgekeep_shared::feed::{Answer, Entry, Head, PageToken, Question};
use edgekeep_shared::gate::{Decision, How, Situation, decide};
use edgekeep_shared::ids::{KeyId, Nonce, SessionId, SiteId, UserId};
use edgekeep_shared::keyring::{KeyRing, RingKey, Secret};
use edgekeep_shared::lease::Sent;
use edgekeep_shared::policy::RoutePolicy;
use edgekeep_shared::position::Position;
use edgekeep_shared::revision::Revision;
use edgekeep_shared::token::{Claims, UntrustedToken, sign};
use edgekeep_shared::view::{Applied, View};
use proptest::prelude::*;

const MAX_STALENESS_MS: u32 = 5_000;
const USERS: u64 = 4;
const T0_MS: u64 = 1_800_000_000_000;

#[derive(Clone, Debug)]
enum Op {
    /// True time passes.
    Wait(u16),
    /// A transaction that will revoke this user takes its id.
    Begin(u8),
    /// One of the open transactions commits.
    Commit(usize),
    /// The coordinator reads.
    Read,
    /// The edge asks; the coordinator will answer from its latest read, in pages of two entries.
    Ask,
    /// One of the questions on the way reaches the coordinator.
    Answer(usize),
    /// One of the answers on the way arrives; it stays on the way, and may arrive again.
    Deliver(usize),
    /// An answer or a question is lost.
    Lose(usize),
    /// The isolate is thrown away.
    Reset,
    /// The edge's clock is set back (and the edge looks at it at once).
    StepBack(u16),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0_u16..2_500).prop_map(Op::Wait),
        3 => (0_u8..USERS as u8).prop_map(Op::Begin),
        3 => (0_usize..64).prop_map(Op::Commit),
        6 => Just(Op::Read),
        6 => Just(Op::Ask),
        6 => (0_usize..64).prop_map(Op::Answer),
        8 => (0_usize..64).prop_map(Op::Deliver),
        1 => (0_usize..64).prop_map(Op::Lose),
        1 => Just(Op::Reset),
        1 => (1_u16..9_000).prop_map(Op::StepBack),
    ]
}

struct Row {
    xid: u64,
    user: u64,
    revision: u64,
}

struct World {
    now_ms: u64,
    /// Edge clock: rate in thousandths and an offset.
    rate: i64,
    offset_ms: i64,
    next_xid: u64,
    open: Vec<(u64, u64)>,
    committed: Vec<(Row, u64)>,
    /// The coordinator's latest read: when it began, its position, its rows.
    read: Option<(u64, Position, Vec<Entry>)>,
    view: View,
    asked: Vec<(Question, Sent)>,
    answered: Vec<(Question, Sent, Answer)>,
    nonce: u8,
}

impl World {
    fn edge_now_ms(&self) -> i64 {
        ((self.now_ms - T0_MS) as i64) * self.rate / 1_000 + self.offset_ms
    }

    fn visible(&self) -> (Position, Vec<Entry>) {
        let xip: Vec<u64> = self.open.iter().map(|(xid, _)| *xid).collect();
        let position = Position::new(self.next_xid, xip).expect("ascending");
        let entries = self.committed.iter().map(|(row, _)| Entry {
            user_id: UserId(row.user),
            revision: Revision(row.revision),
            needed_until_ms: T0_MS + 3_600_000,
        });
        (position, entries.collect())
    }

    fn answer(&self, question: &Question) -> Option<Answer> {
        let (read_at_ms, to, _) = self.read.as_ref()?;
        let to = question.page.as_ref().map_or_else(|| to.clone(), |page| page.to.clone());
        let read_at_ms = question.page.as_ref().map_or(*read_at_ms, |page| page.read_at_ms);
        let after = question.page.as_ref().map(|page| page.after);
        // The rows as the coordinator remembers them now, past the cursor and past the page.
        let mut rows: Vec<(u64, Entry)> = self
            .committed
            .iter()
            .zip(self.visible().1)
            .filter(|((row, _), _)| self.read.as_ref().is_some_and(|(_, at, _)| at.sees(row.xid)))
            .filter(|((row, _), _)| question.from.as_ref().is_none_or(|from| !from.sees(row.xid)))
            .map(|((row, _), entry)| (row.xid, entry))
            .filter(|(xid, entry)| after.is_none_or(|after| (*xid, entry.user_id.0) > after))
            .collect();
        rows.sort_by_key(|(xid, entry)| (*xid, entry.user_id.0));
        let more = rows.len() > 2;
        rows.truncate(2);
        let last = rows.last().map(|(xid, entry)| (*xid, entry.user_id.0)).filter(|_| more);
        let next_page = last.map(|after| PageToken { instance: 1, to: to.clone(), read_at_ms, after });
        let head = Head {
            nonce: question.nonce,
            epoch: 1,
            from: question.from.clone(),
            to,
            age_ms: (self.now_ms - read_at_ms) as u32,
            held_ms: 0,
            read_at_ms,
            keys_version: 1,
            settings_version: 1,
            max_staleness_ms: MAX_STALENESS_MS,
            next_page,
        };
        Some(Answer { head, entries: rows.into_iter().map(|(_, entry)| entry).collect() })
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Wait(ms) => self.now_ms += u64::from(*ms),
            Op::Begin(user) => {
                self.open.push((self.next_xid, u64::from(*user) + 1));
                self.next_xid += 1;
            }
            Op::Commit(which) if !self.open.is_empty() => {
                let (xid, user) = self.open.remove(which % self.open.len());
                self.committed.push((Row { xid, user, revision: 1 }, self.now_ms));
            }
            Op::Read => {
                let (position, entries) = self.visible();
                self.read = Some((self.now_ms, position, entries));
            }
            Op::Ask => {
                self.nonce = self.nonce.wrapping_add(1);
                self.asked.push((self.view.question(Nonce([self.nonce; 16]), 0), self.view.sent(self.edge_now_ms())));
            }
            Op::Answer(which) if !self.asked.is_empty() => {
                let (question, sent) = self.asked.remove(which % self.asked.len());
                if let Some(answer) = self.answer(&question) {
                    self.answered.push((question, sent, answer));
                }
            }
            Op::Deliver(which) if !self.answered.is_empty() => {
                let now_ms = self.edge_now_ms();
                let (question, sent, answer) = &self.answered[which % self.answered.len()];
                self.view.apply(question, answer, *sent, now_ms);
            }
            Op::Lose(which) if !self.answered.is_empty() => {
                self.answered.remove(which % self.answered.len());
            }
            Op::Reset => self.view.reset(),
            Op::StepBack(ms) => {
                // A step that nobody can see (no look at the clock since) is the stated assumption of G2.
                self.view.observe_clock(self.edge_now_ms());
                self.offset_ms -= i64::from(*ms);
                self.view.observe_clock(self.edge_now_ms());
            }
            Op::Commit(_) | Op::Answer(_) | Op::Deliver(_) | Op::Lose(_) => {}
        }
    }

    /// Is a request of this user allowed from memory right now?
    fn accepts(&self, user: u64, ring: &KeyRing) -> bool {
        let claims = Claims {
            site: SiteId::of("main"),
            user_id: UserId(user),
            revision: Revision(0),
            session_id: SessionId([user as u8; 16]),
            authenticated_at_ms: T0_MS,
            renew_after_ms: T0_MS + 3_000_000,
            idle_expires_at_ms: T0_MS + 3_600_000,
            expires_at_ms: T0_MS + 3_600_000,
            name: "user".into(),
            roles: vec![],
        };
        let value = sign(&claims, ring.get(KeyId(1)).expect("key")).expect("claims");
        let token = UntrustedToken::parse(&value).expect("token").verify(ring, claims.site).expect("valid");
        let decision = decide(&Situation {
            chosen: &Chosen::Proof { value, token },
            route: &RoutePolicy::SESSION,
            view: &self.view,
            keys_version: 1,
            now_ms: self.edge_now_ms(),
            verdict: None,
            asked: 0,
        });
        matches!(decision, Decision::Allow(passage) if passage.how == How::Local)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]
    #[test]
    fn no_acceptance_past_the_bound(rate in 991_i64..=1_009, ops in prop::collection::vec(op(), 1..80)) {
        let ring = KeyRing::new(1, vec![RingKey::new(KeyId(1), &Secret([1; 32]), false)]);
        let mut world = World {
            now_ms: T0_MS, rate, offset_ms: 50_000, next_xid: 10, open: vec![], committed: vec![], read: None,
            view: View::default(), asked: vec![], answered: vec![], nonce: 0,
        };
        for op in &ops {
            world.step(op);
            for user in 1..=USERS {
                let revoked_ms = world.committed.iter().filter(|(row, _)| row.user == user).map(|(_, at)| *at).min();
                if revoked_ms.is_some_and(|at| world.now_ms > at + u64::from(MAX_STALENESS_MS)) {
                    prop_assert!(!world.accepts(user, &ring), "user {user} after {op:?}");
                }
            }
        }
    }
}

#[test]
fn the_world_can_accept_and_revoke() {
    let ring = KeyRing::new(1, vec![RingKey::new(KeyId(1), &Secret([1; 32]), false)]);
    let mut world = World {
        now_ms: T0_MS,
        rate: 1_000,
        offset_ms: 0,
        next_xid: 10,
        open: vec![],
        committed: vec![],
        read: None,
        view: View::default(),
        asked: vec![],
        answered: vec![],
        nonce: 0,
    };
    for op in [Op::Begin(0), Op::Begin(1), Op::Commit(0), Op::Read, Op::Ask, Op::Answer(0)] {
        world.step(&op);
    }
    world.step(&Op::Deliver(0));
    assert!(!world.accepts(1, &ring) && world.accepts(2, &ring) && world.accepts(3, &ring));
    // The second transaction had a smaller id than the cursor's xmax: it is not skipped.
    world.answered.clear();
    for op in [Op::Commit(0), Op::Read, Op::Ask, Op::Answer(0), Op::Deliver(0)] {
        world.step(&op);
    }
    assert!(!world.accepts(2, &ring) && world.accepts(3, &ring));
    world.step(&Op::Wait(4_999));
    assert!(!world.accepts(3, &ring), "the lease has run out");
}

#[test]
fn a_late_page_on_a_reset_view_extends_nothing() {
    let mut view = View::default();
    let to = Position::from_pg_snapshot("20:20:").expect("snapshot");
    let next = PageToken { instance: 1, to: to.clone(), read_at_ms: 0, after: (5, 1) };
    let head = |nonce, next_page| Head {
        nonce,
        epoch: 1,
        from: None,
        to: to.clone(),
        age_ms: 0,
        held_ms: 0,
        read_at_ms: T0_MS,
        keys_version: 1,
        settings_version: 1,
        max_staleness_ms: MAX_STALENESS_MS,
        next_page,
    };
    let first = view.question(Nonce([1; 16]), 0);
    let answer = Answer { head: head(first.nonce, Some(next.clone())), entries: vec![] };
    assert_eq!(view.apply(&first, &answer, view.sent(0), 10), Applied::More);
    let second = view.question(Nonce([2; 16]), 0);
    assert_eq!(second.page, Some(next));
    view.reset();
    let last = Answer { head: head(second.nonce, None), entries: vec![] };
    assert!(matches!(view.apply(&second, &last, view.sent(20), 30), Applied::Dropped(_)));
    assert!(!view.is_loaded() && view.lease().until_ms(None).is_none());
}
