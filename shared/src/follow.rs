//! Following the feed (design 2.2), as decisions: how long a question is held and waited for, when a chain of polls goes
//! on, what is made of an answer, and when asking for pages stops. Pure: the shell asks, sleeps and keeps the time.
//!
//! Guarantees: a poll that hangs is given up within half of the bound; a chain ends by itself (its time, its turns, an idle
//! isolate, another chain), and one that was cancelled is replaced after its deadline. A chain that many changes have
//! brought short of turns spreads the rest over its time, and gives way to the next request, which can begin a fresh one:
//! so there is a poll in flight as long as an isolate has traffic. Whether the lease holds is never decided here:
//! [`crate::view`] judges the answer.

use crate::feed::Head;
use crate::lease::{EdgeMs, jittered_ms};
use crate::retry::{Effort, back_off_ms};
use crate::view::{Applied, View, Why};

/// The longest hold, whatever the bound.
const MAX_HOLD_MS: u32 = 1_000;
/// The shortest hold, so that a tiny bound does not make a poll chain spin.
const MIN_HOLD_MS: u32 = 20;
/// The longest pause of a chain, and so the furthest that its deadline is set ahead for.
const MAX_PAUSE_MS: u32 = 2 * MAX_HOLD_MS;
/// What a poll may take beyond its hold, at most and at least.
const MAX_SLACK_MS: u32 = 1_500;
const MIN_SLACK_MS: u32 = 250;
/// A chain ends before the platform's 30 seconds after the response are over…
const CHAIN_MS: u32 = 25_000;
/// …before the subrequests of its invocation run out: so many are left to everything else that a request may ask…
const OTHER_SUBREQUESTS: u32 = 22;
/// …or when no session was presented for so long.
const IDLE_MS: u32 = 5_000;
/// What the platform allows one invocation at the least.
pub const MIN_SUBREQUESTS: u32 = 50;
/// A request waits this long for a refresh.
pub const REFRESH_MS: u32 = 1_000;
/// The most pages that one refresh or turn loads.
const MAX_PAGES: u32 = 64;
/// How often entries that nobody needs any more are dropped.
const PRUNE_EVERY_MS: EdgeMs = 30_000;

/// How long a coordinator may keep a question: a quarter of the smallest bound above 0, at most a second.
#[must_use]
pub fn hold_ms(deployment_ms: Option<u32>, smallest_route_ms: Option<u32>) -> u32 {
    // Before the first answer the bound is not known, and there is something to load: no hold.
    let Some(deployment_ms) = deployment_ms else { return 0 };
    let bound_ms = smallest_route_ms.map_or(deployment_ms, |route_ms| route_ms.min(deployment_ms));
    (bound_ms / 4).clamp(MIN_HOLD_MS, MAX_HOLD_MS)
}

/// How long an upstream may keep a relay's question: a quarter of an edge's hold, because a relay's answers are as old as
/// its last one.
#[must_use]
pub fn relay_hold_ms(deployment_ms: Option<u32>) -> u32 {
    hold_ms(deployment_ms, None) / 4
}

/// How long to wait for the answer to a question that is held for so long.
#[must_use]
pub fn timeout_ms(hold_ms: u32) -> u32 {
    hold_ms + hold_ms.clamp(MIN_SLACK_MS, MAX_SLACK_MS).max(if hold_ms == 0 { REFRESH_MS } else { 0 })
}

/// What one question came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The view is complete as of the answer.
    Complete,
    /// A page is in.
    More,
    /// Nothing was gained.
    Failed,
}

/// What an answer came to, and whether the next question goes to another coordinator.
#[must_use]
pub fn judged(head: &Head, applied: Applied) -> (Turn, bool) {
    // An answer that is past a quarter of the bound is good, and the next one is asked of somebody else.
    let old = head.age_ms > head.max_staleness_ms / 4;
    match applied {
        Applied::Complete => (Turn::Complete, old),
        Applied::More => (Turn::More, old),
        // Another question of this isolate (the chain's, a refresh) has got a page in meanwhile: go on from there.
        Applied::Dropped(Why::OtherPages) => (Turn::More, old),
        // A relay asks for everything.
        Applied::Dropped(Why::NewEpoch) => (Turn::More, old),
        // Another question of this isolate moved the view meanwhile, or the coordinator is behind another one.
        Applied::Dropped(why) => (Turn::Failed, old || matches!(why, Why::OldEpoch | Why::Gap | Why::Behind)),
    }
}

/// Asking until the view is complete, the pages are too many, or a question fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CatchUp {
    pages: u32,
}

impl CatchUp {
    /// After a question: `None` to ask the next one, or whether the view is complete.
    pub fn after(&mut self, turn: Turn) -> Option<bool> {
        self.pages += 1;
        match turn {
            Turn::Complete => Some(true),
            Turn::Failed => Some(false),
            Turn::More => (self.pages >= MAX_PAGES).then_some(false),
        }
    }
}

/// Entries that nobody needs any more are due to be dropped. A clock that went back makes them due as well.
#[must_use]
pub const fn prune_is_due(pruned_ms: EdgeMs, now_ms: EdgeMs) -> bool {
    (now_ms - pruned_ms).abs() >= PRUNE_EVERY_MS
}

/// The isolate's one chain of held polls, guarded by a deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// The chain that may go on; an older one ends when it notices.
    id: u32,
    /// Past this a new chain is started, whatever became of the old one.
    until_ms: EdgeMs,
    /// It has to save turns: whoever can begin a fresh one does.
    short_of_turns: bool,
}

impl Running {
    /// Sees to it that a chain is under way: `None` if one is, else the one to start now. `id` is one that was not used yet;
    /// `subrequests`: what the invocation may ask, [`MIN_SUBREQUESTS`] or more.
    pub fn start(&mut self, now_ms: EdgeMs, subrequests: u32, id: impl FnOnce() -> u32) -> Option<Chain> {
        // A deadline further away than any chain sets was set before the clock went back.
        let running = now_ms < self.until_ms && self.until_ms <= deadline(now_ms, MAX_PAUSE_MS);
        if running && !self.short_of_turns {
            return None;
        }
        let id = id();
        *self = Self { id, until_ms: deadline(now_ms, MAX_HOLD_MS), short_of_turns: false };
        let turns = subrequests.max(MIN_SUBREQUESTS) - OTHER_SUBREQUESTS;
        Some(Chain { id, started_ms: now_ms, turns, turns_left: turns, turn_ms: now_ms, failures: 0 })
    }

    /// That chain is over.
    pub const fn ended(&mut self, chain: &Chain) {
        if self.id == chain.id {
            self.until_ms = 0;
        }
    }
}

/// Until when a turn that begins now counts as under way: the poll, keys that may have to be fetched, and a pause.
fn deadline(now_ms: EdgeMs, hold_ms: u32) -> EdgeMs {
    now_ms + EdgeMs::from(timeout_ms(hold_ms)) + EdgeMs::from(Effort::INLINE.total_ms)
}

/// One chain: turn after turn, until its time or subrequests are up, the isolate is idle, or another chain took over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    id: u32,
    started_ms: EdgeMs,
    turns: u32,
    turns_left: u32,
    /// When the last turn began.
    turn_ms: EdgeMs,
    failures: u32,
}

impl Chain {
    /// How long the next turn's question may be held; `None` ends the chain. `last_use_ms`: when a session was last
    /// presented; `smallest_route_ms`: the smallest bound above 0 of any route.
    pub fn turn(
        &mut self,
        running: &mut Running,
        view: &View,
        now_ms: EdgeMs,
        last_use_ms: EdgeMs,
        smallest_route_ms: Option<u32>,
        random: u32,
    ) -> Option<u32> {
        let (age_ms, idle_ms) = (now_ms - self.started_ms, now_ms - last_use_ms);
        let goes_on = running.id == self.id
            && self.turns_left > 0
            && (0..EdgeMs::from(CHAIN_MS)).contains(&age_ms)
            && idle_ms < EdgeMs::from(IDLE_MS);
        if !goes_on {
            return None;
        }
        (self.turns_left, self.turn_ms) = (self.turns_left - 1, now_ms);
        let bound_ms = view.lease().max_staleness_ms().filter(|_| view.is_loaded());
        let hold_ms = jittered_ms(hold_ms(bound_ms, smallest_route_ms), random);
        running.until_ms = deadline(now_ms, hold_ms);
        Some(hold_ms)
    }

    /// After a turn: for how long to pause before the next one. Failures in a row make it longer; and once half of the
    /// turns are used up, the rest are spread over the chain's time, with pauses of half of the bound at the most.
    pub fn pause_ms(
        &mut self,
        running: &mut Running,
        view: &View,
        complete: bool,
        now_ms: EdgeMs,
        smallest_route_ms: Option<u32>,
        random: u8,
    ) -> u32 {
        self.failures = if complete { 0 } else { self.failures + 1 };
        let back_off_ms = if complete { 0 } else { back_off_ms(self.failures - 1, random) };
        let bound_ms = view.lease().max_staleness_ms();
        let spread_ms = self.spread_ms(now_ms).min(2 * hold_ms(bound_ms, smallest_route_ms));
        let pause_ms = back_off_ms.max(spread_ms);
        if running.id == self.id {
            running.short_of_turns |= spread_ms > 0;
            running.until_ms = running.until_ms.max(deadline(now_ms, pause_ms));
        }
        pause_ms
    }

    /// How long the next turn waits for its share of the time that is left; nothing while half of the turns are.
    fn spread_ms(&self, now_ms: EdgeMs) -> u32 {
        if self.turns_left == 0 || self.turns_left > self.turns / 2 {
            return 0;
        }
        let left_ms = self.started_ms + EdgeMs::from(CHAIN_MS) - self.turn_ms;
        let next_ms = self.turn_ms + left_ms / EdgeMs::from(self.turns_left + 1);
        u32::try_from((next_ms - now_ms).clamp(0, EdgeMs::from(CHAIN_MS))).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Nonce;
    use crate::position::Position;

    #[test]
    fn the_hold_is_a_quarter_of_the_smallest_bound_and_at_most_a_second() {
        assert_eq!(hold_ms(None, None), 0);
        assert_eq!(hold_ms(Some(5_000), None), 1_000);
        assert_eq!(hold_ms(Some(2_000), None), 500);
        assert_eq!(hold_ms(Some(5_000), Some(400)), 100);
        assert_eq!(hold_ms(Some(200), Some(5_000)), 50);
        assert_eq!([None, Some(2_000), Some(5_000)].map(relay_hold_ms), [0, 125, 250], "a relay's: a quarter of that");
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

    #[test]
    fn one_chain_at_a_time_and_a_lost_one_is_replaced() {
        let view = View::default();
        let mut running = Running::default();
        let mut first = running.start(10_000, 50, || 1).expect("a chain");
        assert_eq!(running.start(10_001, 50, || 2), None);
        assert_eq!(first.turn(&mut running, &view, 10_000, 10_000, None, 0), Some(0));
        // It never came back: after its deadline another takes over, and the first ends when it notices.
        let late_ms = 10_000 + EdgeMs::from(timeout_ms(0) + Effort::INLINE.total_ms);
        assert_eq!(running.start(late_ms - 1, 50, || 2), None);
        let second = running.start(late_ms, 50, || 2).expect("another");
        assert_eq!(first.turn(&mut running, &view, late_ms, late_ms, None, 0), None);
        running.ended(&first);
        assert_eq!(running.start(late_ms + 1, 50, || 3), None);
        running.ended(&second);
        assert!(running.start(late_ms + 1, 50, || 3).is_some());
        // The clock went back, by more than the longest deadline exceeds this one: it is not waited for.
        for (back_ms, starts) in [(1_500, false), (1_501, true), (20_000, true), (60_000, true), (1_000_000, true)] {
            let mut running = Running::default();
            assert!(running.start(100_000, 50, || 1).is_some());
            assert_eq!(running.start(100_000 - back_ms, 50, || 2).is_some(), starts, "{back_ms}");
        }
    }

    #[test]
    fn a_chain_ends_with_its_time_its_turns_or_its_use() {
        let view = View::default();
        let start_at = |now_ms| {
            let mut running = Running::default();
            let chain = running.start(now_ms, 50, || 1).expect("a chain");
            (running, chain)
        };
        let (mut running, mut chain) = start_at(1_000_000);
        assert!(chain.turn(&mut running, &view, 1_024_999, 1_024_999, None, 0).is_some());
        assert!(chain.turn(&mut running, &view, 1_025_000, 1_025_000, None, 0).is_none());
        let (mut running, mut chain) = start_at(0);
        assert!(chain.turn(&mut running, &view, 4_999, 0, None, 0).is_some());
        assert!(chain.turn(&mut running, &view, 5_000, 0, None, 0).is_none());
        assert!(chain.turn(&mut running, &view, -1, 0, None, 0).is_none(), "the clock went back");
        let (mut running, mut chain) = start_at(0);
        assert_eq!((0..100).filter(|_| chain.turn(&mut running, &view, 1, 1, None, 0).is_some()).count(), 28);
    }

    #[test]
    fn pauses_grow_with_failures_in_a_row() {
        let (mut running, view) = (Running::default(), View::default());
        let mut chain = running.start(0, 50, || 1).expect("a chain");
        let mut pause = |complete| chain.pause_ms(&mut running, &view, complete, 0, None, 0);
        assert_eq!([pause(false), pause(false), pause(true), pause(false)], [100, 200, 0, 100]);
    }

    #[test]
    fn what_nobody_needs_is_dropped_now_and_then_and_after_a_clock_that_went_back() {
        assert!(!prune_is_due(100_000, 100_000) && !prune_is_due(100_000, 129_999) && !prune_is_due(100_000, 70_001));
        assert!(prune_is_due(100_000, 130_000) && prune_is_due(100_000, 70_000));
    }

    #[test]
    fn pages_end() {
        let mut pages = CatchUp::default();
        assert_eq!((1..MAX_PAGES).find_map(|_| pages.after(Turn::More)), None);
        assert_eq!(pages.after(Turn::More), Some(false));
        assert_eq!(CatchUp::default().after(Turn::Complete), Some(true));
        assert_eq!(CatchUp::default().after(Turn::Failed), Some(false));
    }

    #[test]
    fn an_old_answer_counts_and_sends_the_next_question_elsewhere() {
        let head = |age_ms| Head {
            nonce: Nonce([0; 16]),
            epoch: 1,
            from: None,
            to: Position { xmax: 1, xip: vec![] },
            age_ms,
            held_ms: 0,
            read_at_ms: 1,
            keys_version: 1,
            settings_version: 1,
            max_staleness_ms: 4_000,
            next_page: None,
        };
        assert_eq!(judged(&head(1_000), Applied::Complete), (Turn::Complete, false));
        assert_eq!(judged(&head(1_001), Applied::Complete), (Turn::Complete, true));
        assert_eq!(judged(&head(0), Applied::Dropped(Why::Gap)), (Turn::Failed, true));
        assert_eq!(judged(&head(0), Applied::Dropped(Why::OtherPages)), (Turn::More, false));
        assert_eq!(judged(&head(0), Applied::More), (Turn::More, false));
    }
}
