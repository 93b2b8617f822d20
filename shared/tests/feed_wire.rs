//! The feed's wire format: round trips, strictness, and an idle answer's size.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a failed expectation is a failed test

use edgekeep_shared::feed::{Answer, Entry, Head, MAX_ENTRIES, MAX_QUESTION_BYTES, PageToken, Question};
use edgekeep_shared::ids::{Nonce, UserId};
use edgekeep_shared::position::{MAX_IN_PROGRESS, Position};
use edgekeep_shared::revision::Revision;
use proptest::prelude::*;

fn position() -> impl Strategy<Value = Position> {
    (1_u64..1 << 40, prop::collection::btree_set(0_u64..1 << 40, 0..5)).prop_map(|(xmax, xip)| {
        Position::new(xmax, xip.into_iter().filter(|xid| *xid < xmax).collect()).expect("ascending and below")
    })
}

fn page() -> impl Strategy<Value = PageToken> {
    (any::<u64>(), position(), any::<u64>(), any::<(u64, u64)>())
        .prop_map(|(instance, to, read_at_ms, after)| PageToken { instance, to, read_at_ms, after })
}

prop_compose! {
    fn question()(
        nonce: [u8; 16], epoch: u16, from in prop::option::of(position()), page in prop::option::of(page()), hold_ms: u32,
    ) -> Question {
        Question { nonce: Nonce(nonce), epoch, from, page, hold_ms }
    }
}

prop_compose! {
    fn answer()(
        nonce: [u8; 16], epoch: u16, from in prop::option::of(position()), to in position(),
        ms: [u32; 3], read_at_ms in 0_u64..1 << 48, versions: [u64; 2], next_page in prop::option::of(page()),
        entries in prop::collection::vec((any::<u64>(), any::<u64>(), 0_u64..1 << 48), 0..20),
    ) -> Answer {
        let head = Head {
            nonce: Nonce(nonce), epoch, from, to, age_ms: ms[0], held_ms: ms[1], max_staleness_ms: ms[2], read_at_ms,
            keys_version: versions[0], settings_version: versions[1], next_page,
        };
        let entry = |(user, revision, needed_until_ms)| Entry { user_id: UserId(user), revision: Revision(revision), needed_until_ms };
        Answer { head, entries: entries.into_iter().map(entry).collect() }
    }
}

proptest! {
    #[test]
    fn questions_come_back_whole(question in question(), cut in any::<prop::sample::Index>()) {
        let bytes = question.encode();
        prop_assert_eq!(Question::decode(&bytes), Ok(question));
        prop_assert!(Question::decode(&bytes[..cut.index(bytes.len())]).is_err());
        prop_assert!(Question::decode(&[bytes, vec![0]].concat()).is_err());
    }

    #[test]
    fn answers_come_back_whole(answer in answer(), cut in any::<prop::sample::Index>()) {
        let bytes = answer.encode();
        prop_assert_eq!(Answer::decode(&bytes), Ok(answer));
        prop_assert!(Answer::decode(&bytes[..cut.index(bytes.len())]).is_err());
        prop_assert!(Answer::decode(&[bytes, vec![0]].concat()).is_err());
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Question::decode(&bytes);
        let _ = Answer::decode(&bytes);
    }

    #[test]
    fn merging_is_commutative_associative_and_idempotent(entries: [(u64, u64); 3]) {
        let [a, b, c] = entries.map(|(revision, needed_until_ms)| Entry {
            user_id: UserId(1), revision: Revision(revision), needed_until_ms,
        });
        prop_assert_eq!(a.merge(b), b.merge(a));
        prop_assert_eq!(a.merge(b).merge(c), a.merge(b.merge(c)));
        prop_assert_eq!(a.merge(a), a);
        prop_assert!(a.merge(b).revision >= a.revision && a.merge(b).needed_until_ms >= a.needed_until_ms);
    }
}

/// The head of an answer from a position with nothing in progress.
fn head(read_at_ms: u64) -> Head {
    let at = Position::from_pg_snapshot("900000:900000:").unwrap();
    Head {
        nonce: Nonce([1; 16]),
        epoch: 1,
        from: Some(at.clone()),
        to: at,
        age_ms: 20,
        held_ms: 1_000,
        read_at_ms,
        keys_version: 1,
        settings_version: 1,
        max_staleness_ms: 5_000,
        next_page: None,
    }
}

#[test]
fn an_idle_answer_is_small() {
    let bytes = Answer { head: head(1_795_564_800_000), entries: vec![] }.encode().len();
    assert!(bytes <= 100, "{bytes}");
}

#[test]
fn times_past_48_bits_are_the_last_ones_and_never_wrap() {
    let entry = Entry { user_id: UserId(1), revision: Revision(1), needed_until_ms: (1 << 48) + 5 };
    let answer = Answer::decode(&Answer { head: head(u64::MAX), entries: vec![entry] }.encode()).unwrap();
    // An entry whose time wrapped around would be forgotten at once.
    assert_eq!((answer.head.read_at_ms, answer.entries[0].needed_until_ms), ((1 << 48) - 1, (1 << 48) - 1));
}

#[test]
fn lists_are_as_long_as_they_may_be_and_no_longer() {
    let question = |xids: u64| Question {
        nonce: Nonce([1; 16]),
        epoch: 1,
        from: Some(Position { xmax: xids, xip: (0..xids).collect() }),
        page: None,
        hold_ms: 0,
    };
    let longest = question(MAX_IN_PROGRESS as u64);
    assert_eq!(Question::decode(&longest.encode()), Ok(longest.clone()));
    // A coordinator takes no longer ones: this must pass, with the rest of an answer to be asked for.
    let to = longest.from.clone().unwrap();
    let page = Some(PageToken { instance: 1, to, read_at_ms: 1, after: (1, 1) });
    assert!(Question { page, ..longest }.encode().len() <= MAX_QUESTION_BYTES);
    assert!(Question::decode(&question(MAX_IN_PROGRESS as u64 + 1).encode()).is_err());

    let answer = |count: usize| {
        let entry = Entry { user_id: UserId(1), revision: Revision(1), needed_until_ms: 1 };
        Answer::decode(&Answer { head: head(1), entries: vec![entry; count] }.encode())
    };
    assert_eq!(answer(MAX_ENTRIES).map(|answer| answer.entries.len()), Ok(MAX_ENTRIES));
    assert!(answer(MAX_ENTRIES + 1).is_err());
}
