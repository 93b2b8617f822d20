//! A chain of polls under many changes: as long as the isolate has traffic, there is a poll in flight.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a failed expectation is a failed test

mod support;

use edgekeep_shared::follow::{MIN_SUBREQUESTS, Running};
use edgekeep_shared::lease::EdgeMs;
use support::view;

/// A turn of a chain.
#[derive(Clone, Copy, Debug)]
struct Turn {
    began_ms: EdgeMs,
    /// After it a request begins a fresh chain instead.
    gives_way: bool,
}

/// A chain each turn of which is answered after `answered_ms`.
fn played(answered_ms: EdgeMs, smallest_route_ms: Option<u32>, subrequests: u32) -> Vec<Turn> {
    let (mut running, view) = (Running::default(), view(0, &[]));
    let mut chain = running.start(0, subrequests, || 1).expect("a chain");
    let (mut now_ms, mut turns) = (0, Vec::new());
    while chain.turn(&mut running, &view, now_ms, now_ms, smallest_route_ms, 0).is_some() {
        let began_ms = now_ms;
        now_ms += answered_ms;
        let pause_ms = chain.pause_ms(&mut running, &view, true, now_ms, smallest_route_ms, 0);
        now_ms += EdgeMs::from(pause_ms);
        let gives_way = Running::clone(&running).start(now_ms, subrequests, || 2).is_some();
        turns.push(Turn { began_ms, gives_way });
    }
    turns
}

fn longest_gap_ms(turns: &[Turn]) -> EdgeMs {
    turns.windows(2).map(|two| two[1].began_ms - two[0].began_ms).max().expect("turns")
}

#[test]
fn under_many_changes_half_of_the_turns_follow_them_and_the_rest_are_spread() {
    let turns = played(100, None, MIN_SUBREQUESTS);
    assert_eq!(turns.len(), 28);
    assert_eq!((turns[13].began_ms, longest_gap_ms(&turns)), (1_300, 23_700 / 15));
    assert!(turns[27].began_ms > 23_000, "{turns:?}");
    assert!(
        turns[..13].iter().all(|turn| !turn.gives_way) && turns[13..].iter().all(|turn| turn.gives_way),
        "{turns:?}"
    );
}

#[test]
fn without_changes_and_where_the_platform_allows_more_nothing_is_saved() {
    for (answered_ms, subrequests) in [(950, MIN_SUBREQUESTS), (100, 1_000)] {
        let turns = played(answered_ms, None, subrequests);
        assert_eq!(longest_gap_ms(&turns), answered_ms);
        assert!(turns[turns.len() - 1].began_ms > 24_000, "{turns:?}");
        assert!(turns.iter().all(|turn| !turn.gives_way), "{turns:?}");
    }
}

#[test]
fn a_pause_is_never_longer_than_half_of_the_smallest_bound() {
    let turns = played(10, Some(400), MIN_SUBREQUESTS);
    assert_eq!((turns.len(), longest_gap_ms(&turns)), (28, 10 + 200));
}
