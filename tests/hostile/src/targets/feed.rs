//! The feed: exactly one encoding per question and answer, and no answer but to one's own question.

use edgekeep_shared::feed::{Answer, Entry, Head, PageToken, Question};
use edgekeep_shared::ids::{Nonce, UserId};
use edgekeep_shared::position::Position;
use edgekeep_shared::revision::Revision;
use edgekeep_shared::view::{Applied, View, Why};

/// The nonce of the question that was really asked.
const ASKED: Nonce = Nonce([7; 16]);

fn position(xmax: u64, in_progress: &[u64]) -> Position {
    Position::new(xmax, in_progress.to_vec()).expect("a position")
}

fn page() -> PageToken {
    PageToken { instance: 5, to: position(40, &[12, 39]), read_at_ms: 1_000, after: (13, 42) }
}

pub fn question_seeds() -> Vec<Vec<u8>> {
    let cold = Question { nonce: ASKED, epoch: 0, from: None, page: None, hold_ms: 0 };
    let warm = Question { epoch: 3, from: Some(position(20, &[4, 7])), hold_ms: 1_000, ..cold.clone() };
    let paging = Question { page: Some(page()), ..warm.clone() };
    [cold, warm, paging].iter().map(Question::encode).collect()
}

pub fn question(bytes: &[u8]) -> bool {
    let Ok(question) = Question::decode(bytes) else { return false };
    assert_eq!(question.encode(), bytes, "one encoding per question");
    for position in question.from.iter().chain(question.page.as_ref().map(|page| &page.to)) {
        assert_eq!(Position::new(position.xmax, position.xip.clone()).as_ref(), Some(position), "a position is one");
    }
    true
}

fn head() -> Head {
    Head {
        nonce: ASKED,
        epoch: 1,
        from: None,
        to: position(40, &[12, 39]),
        age_ms: 12,
        held_ms: 900,
        read_at_ms: 1_800_000_000_000,
        keys_version: 2,
        settings_version: 3,
        max_staleness_ms: 5_000,
        next_page: None,
    }
}

pub fn answer_seeds() -> Vec<Vec<u8>> {
    let entry = |user: u64| Entry {
        user_id: UserId(user),
        revision: Revision(1 << 48 | user),
        needed_until_ms: 1_800_000_000_000 + user,
    };
    let answers = [
        Answer { head: head(), entries: Vec::new() },
        Answer { head: head(), entries: (1..4).map(entry).collect() },
        Answer { head: Head { next_page: Some(page()), ..head() }, entries: vec![entry(9)] },
        Answer { head: Head { from: Some(position(20, &[4])), ..head() }, entries: vec![entry(9)] },
        Answer { head: Head { nonce: Nonce([8; 16]), ..head() }, entries: vec![entry(1)] },
    ];
    answers.iter().map(Answer::encode).collect()
}

pub fn answer(bytes: &[u8]) -> bool {
    let Ok(answer) = Answer::decode(bytes) else { return false };
    assert_eq!(answer.encode(), bytes, "one encoding per answer");
    // To an isolate that knows nothing, and asked.
    let mut view = View::default();
    let question = view.question(ASKED, 1_000);
    let sent = view.sent(0);
    let applied = view.apply(&question, &answer, sent, 10);
    let complete = answer.head.nonce == ASKED && answer.head.from.is_none() && answer.head.next_page.is_none();
    // Entries that the table cannot hold make it ask for every request: that is no lease either.
    let full = applied == Applied::Dropped(Why::TooManyEntries);
    assert_eq!(applied == Applied::Complete, complete && !full, "only a whole answer to the question: {applied:?}");
    if applied == Applied::Complete {
        for entry in &answer.entries {
            let known = view.revision_of(entry.user_id);
            assert!(known >= Some(entry.revision), "a revocation that came is known");
        }
    } else {
        let holds = view.is_loaded() && view.lease().holds(11, None, u64::MAX);
        assert!(!holds, "what is not complete gives no lease");
    }
    // The lease counts from sending, whatever the answer says of itself (G2).
    let end = i64::from(answer.head.max_staleness_ms) + i64::from(answer.head.held_ms) + 1;
    assert!(!view.lease().holds(end, None, u64::MAX), "a lease past its bound");
    true
}
