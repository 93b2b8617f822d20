//! The view: what an answer may and may not change.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a failed expectation is a failed test

mod support;

use edgekeep_shared::feed::{Answer, Entry, PageToken};
use edgekeep_shared::ids::{Nonce, UserId};
use edgekeep_shared::position::Position;
use edgekeep_shared::revision::Revision;
use edgekeep_shared::view::{Applied, View, Why};
use proptest::prelude::*;
use support::{T0_MS, entry, head, view};

fn answer(view: &View, from: Option<&str>, to: &str, entries: &[Entry]) -> (edgekeep_shared::feed::Question, Answer) {
    let question = view.question(Nonce([9; 16]), 1_000);
    let answer = Answer { head: head(question.nonce, from, to), entries: entries.to_vec() };
    (question, answer)
}

fn position(text: &str) -> Option<Position> {
    Position::from_pg_snapshot(text).ok()
}

#[test]
fn an_answer_that_starts_past_the_view_is_dropped() {
    let mut view = view(0, &[]);
    let (question, gap) = answer(&view, Some("30:30:"), "40:40:", &[entry(9)]);
    assert_eq!(view.apply(&question, &gap, view.sent(100), 200), Applied::Dropped(Why::Gap));
    assert_eq!(view.question(Nonce([0; 16]), 0).from, position("20:20:"));
    assert_eq!(view.lease().until_ms(None), Some(4_900));
}

#[test]
fn the_position_never_moves_backwards() {
    let mut view = view(0, &[]);
    let (question, forward) = answer(&view, Some("20:20:"), "40:40:", &[]);
    assert_eq!(view.apply(&question, &forward, view.sent(10), 20), Applied::Complete);
    let (question, behind) = answer(&view, Some("20:20:"), "30:30:", &[entry(9)]);
    assert_eq!(view.apply(&question, &behind, view.sent(30), 40), Applied::Complete);
    assert_eq!(view.question(Nonce([0; 16]), 0).from, position("40:40:"));
    assert_eq!(view.revision_of(UserId(42)), Some(Revision(9)));
}

#[test]
fn an_answer_to_another_question_or_of_an_old_epoch_is_dropped() {
    let mut view = view(0, &[]);
    let (question, mut other) = answer(&view, Some("20:20:"), "40:40:", &[]);
    other.head.nonce = Nonce([8; 16]);
    assert_eq!(view.apply(&question, &other, view.sent(1), 2), Applied::Dropped(Why::OtherQuestion));
    let (question, mut old) = answer(&view, None, "40:40:", &[]);
    old.head.epoch = 0;
    assert_eq!(view.apply(&question, &old, view.sent(1), 2), Applied::Dropped(Why::OldEpoch));
}

#[test]
fn a_new_epoch_continues_from_the_very_cursor_or_starts_over() {
    let fresh = view(0, &[entry(3)]);
    let mut continued = fresh.clone();
    let (question, mut next) = answer(&continued, Some("20:20:"), "5:5:", &[]);
    next.head.epoch = 2;
    assert_eq!(continued.apply(&question, &next, continued.sent(1), 2), Applied::Complete);
    assert_eq!((continued.epoch(), continued.question(Nonce([0; 16]), 0).from), (2, position("5:5:")));
    assert_eq!(continued.revision_of(UserId(42)), Some(Revision(3)), "nothing is un-revoked");
    let mut other = fresh;
    let (question, mut gap) = answer(&other, Some("19:19:"), "5:5:", &[]);
    gap.head.epoch = 2;
    assert_eq!(other.apply(&question, &gap, other.sent(1), 2), Applied::Dropped(Why::Gap));
    let (question, mut whole) = answer(&other, None, "5:5:", &[]);
    whole.head.epoch = 2;
    assert_eq!(other.apply(&question, &whole, other.sent(1), 2), Applied::Complete);
}

#[test]
fn what_is_pruned_stays_pruned() {
    let mut view = view(0, &[entry(3)]);
    assert_eq!(view.pruned_to_ms(), T0_MS);
    let (question, mut late) = answer(&view, Some("20:20:"), "20:20:", &[]);
    late.head.read_at_ms = T0_MS - 50_000;
    assert_eq!(view.apply(&question, &late, view.sent(1), 2), Applied::Complete);
    assert_eq!(view.pruned_to_ms(), T0_MS);
    view.reset();
    assert_eq!(view.pruned_to_ms(), T0_MS);
}

#[test]
fn a_view_that_was_reset_still_drops_answers_of_an_old_epoch() {
    let mut view = view(0, &[entry(3)]);
    assert!(!view.is_empty());
    view.reset();
    assert_eq!((view.epoch(), view.is_loaded(), view.is_empty()), (1, false, true));
    let (question, mut old) = answer(&view, None, "40:40:", &[]);
    old.head.epoch = 0;
    assert_eq!(view.apply(&question, &old, view.sent(1), 2), Applied::Dropped(Why::OldEpoch));
}

#[test]
fn a_reset_forgets_no_step_of_the_clock() {
    let mut view = view(10_000, &[]);
    let (question, whole) = answer(&view, None, "40:40:", &[]);
    let sent = view.sent(10_000);
    // More time has passed since the question than the clock says: its answer's age cannot be told.
    view.observe_clock(5_000);
    view.reset();
    assert_eq!(view.apply(&question, &whole, sent, 10_100), Applied::Dropped(Why::ClockStepped));
    assert!(view.lease().until_ms(None).is_none());
}

#[test]
fn an_entry_goes_when_the_database_says_that_nobody_needs_it() {
    let mut view = view(0, &[entry(3)]);
    for (read_at_ms, kept) in [(T0_MS + 299_000, true), (T0_MS + 310_000, false)] {
        let (question, mut later) = answer(&view, Some("20:20:"), "20:20:", &[]);
        later.head.read_at_ms = read_at_ms;
        assert_eq!(view.apply(&question, &later, view.sent(1), 2), Applied::Complete);
        view.prune();
        assert_eq!((view.revision_of(UserId(42)).is_some(), view.len()), (kept, usize::from(kept)));
    }
}

#[test]
fn pages_of_two_answers_make_no_whole() {
    let begin = |view: &mut View, now_ms| {
        let (question, mut first) = answer(view, Some("20:20:"), "40:40:", &[]);
        let to = first.head.to.clone();
        first.head.next_page = Some(PageToken { instance: 1, to, read_at_ms: 5, after: (30, 42) });
        assert_eq!(view.apply(&question, &first, view.sent(now_ms), now_ms + 1), Applied::More);
        assert!(view.is_paging() && view.question(Nonce([0; 16]), 1_000).hold_ms == 0);
    };
    let mut view = view(0, &[]);
    begin(&mut view, 1);
    // A restarted coordinator answers from its own position: what was in its earlier pages is not here.
    let (question, other) = answer(&view, Some("20:20:"), "50:50:", &[]);
    assert_eq!(view.apply(&question, &other, view.sent(3), 4), Applied::Dropped(Why::Gap));
    assert!(!view.is_paging());
    begin(&mut view, 5);
    let (question, rest) = answer(&view, Some("20:20:"), "40:40:", &[entry(9)]);
    assert_eq!(view.apply(&question, &rest, view.sent(7), 8), Applied::Complete);
    assert!(!view.is_paging());
    assert_eq!(view.question(Nonce([0; 16]), 0).from, position("40:40:"));
}

#[test]
fn a_view_that_does_not_fit_is_no_view() {
    let mut view = view(0, &[]);
    let far = Entry { needed_until_ms: T0_MS + 400 * 86_400_000, ..entry(9) };
    let near = entry(1);
    let (question, too_far) = answer(&view, Some("20:20:"), "40:40:", &[near, far]);
    assert_eq!(view.apply(&question, &too_far, view.sent(1), 2), Applied::Dropped(Why::TooManyEntries));
    assert!(!view.is_loaded() && view.lease().until_ms(None).is_none());
}

proptest! {
    #[test]
    fn order_and_repetition_of_answers_do_not_matter(
        batches in prop::collection::vec(prop::collection::vec((1_u64..6, 1_u64..50, 0_u64..300_000), 0..4), 1..6),
        order in prop::collection::vec(0_usize..6, 1..20),
    ) {
        let apply = |view: &mut View, batch: &[(u64, u64, u64)]| {
            let entries: Vec<_> = batch.iter().map(|(user, revision, after)| Entry {
                user_id: UserId(*user), revision: Revision(*revision), needed_until_ms: T0_MS + after,
            }).collect();
            let (question, answer) = answer(view, Some("20:20:"), "20:20:", &entries);
            let applied = view.apply(&question, &answer, view.sent(1), 2);
            assert_eq!(applied, Applied::Complete);
        };
        let (mut once, mut shuffled) = (view(0, &[]), view(0, &[]));
        for batch in &batches {
            apply(&mut once, batch);
        }
        for at in order {
            let before: Vec<_> = (1..6).map(|user| shuffled.revision_of(UserId(user))).collect();
            apply(&mut shuffled, &batches[at % batches.len()]);
            for user in 1..6 {
                prop_assert!(shuffled.revision_of(UserId(user)) >= before[user as usize - 1], "un-revoked");
            }
        }
        for batch in batches.iter().rev() {
            apply(&mut shuffled, batch);
        }
        for user in 1..6 {
            prop_assert_eq!(once.revision_of(UserId(user)), shuffled.revision_of(UserId(user)));
        }
    }
}
