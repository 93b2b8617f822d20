//! What a relay makes of its upstream's answers, one by one.

use std::time::Duration;

use edgekeep_shared::feed::{Answer, Entry, Head, PageToken, Question};
use edgekeep_shared::ids::{Nonce, UserId};
use edgekeep_shared::moment::Moment;
use edgekeep_shared::position::Position;
use edgekeep_shared::revision::Revision;
use edgekeep_shared::source::{CannotAnswer, Follower, Held, Look, Source};
use edgekeep_shared::view::{Applied, Why};

fn at(ms: u64) -> Moment {
    Moment { monotonic: Duration::from_millis(ms), wall: Duration::from_millis(1_000_000 + ms) }
}

fn position(text: &str) -> Position {
    Position::from_pg_snapshot(text).unwrap()
}

fn entry(user: u64) -> Entry {
    Entry { user_id: UserId(user), revision: Revision(7), needed_until_ms: 900_000 }
}

fn head(question: &Question, to: &str) -> Head {
    Head {
        nonce: question.nonce,
        epoch: 1,
        from: question.from.clone(),
        to: position(to),
        age_ms: 0,
        held_ms: 0,
        read_at_ms: 500_000,
        keys_version: 3,
        settings_version: 2,
        max_staleness_ms: 4_000,
        next_page: None,
    }
}

#[derive(Default)]
struct Relay {
    follower: Follower,
    source: Option<Source>,
}

impl Relay {
    fn question(&self) -> Question {
        self.follower.question(Nonce([1; 16]), 100)
    }

    fn take(&mut self, question: &Question, head: Head, entries: &[Entry], sent_ms: u64) -> Applied {
        let answer = Answer { head, entries: entries.to_vec() };
        let (applied, update) = self.follower.take(question, answer, at(sent_ms));
        if let Some(mut update) = update {
            let source = self.source.get_or_insert_with(|| update.load(5, 0, at(sent_ms)));
            source.follow(update, 0, 6, at(sent_ms));
        }
        applied
    }

    fn next(&mut self, to: &str, entries: &[Entry], sent_ms: u64) -> Applied {
        let question = self.question();
        let head = head(&question, to);
        self.take(&question, head, entries, sent_ms)
    }

    /// What an edge with this cursor is answered.
    fn asked(&self, epoch: u16, from: Option<&str>, now_ms: u64) -> Result<Option<Answer>, CannotAnswer> {
        let question = Question { nonce: Nonce([2; 16]), epoch, from: from.map(position), page: None, hold_ms: 1_000 };
        let mut held = Held::new(self.source.as_ref(), at(now_ms));
        Ok(match held.look(self.source.as_ref(), &question, at(now_ms), false)? {
            Look::Wait(_) => None,
            Look::Answer(due) => {
                let source = self.source.as_ref().unwrap();
                let (entries, next) = source.page(&due, 100);
                Some(Answer { head: source.head(&question, &due, next, at(now_ms)), entries })
            }
        })
    }

    fn users(&self, from: Option<&str>, now_ms: u64) -> (bool, Vec<u64>) {
        let answer = self.asked(1, from, now_ms).unwrap().expect("an answer");
        (answer.head.from.is_some(), answer.entries.iter().map(|entry| entry.user_id.0).collect())
    }
}

/// After 20:20: users 1 and 2, after 30:30: user 3, after 40:40: user 1 again.
fn relay() -> Relay {
    let mut relay = Relay::default();
    assert_eq!(relay.next("20:20:", &[entry(1), entry(2)], 1_000), Applied::Complete);
    assert_eq!(relay.next("30:30:", &[entry(3)], 1_100), Applied::Complete);
    assert_eq!(relay.next("40:40:", &[Entry { revision: Revision(8), ..entry(1) }], 1_200), Applied::Complete);
    relay
}

#[test]
fn a_cursor_gets_what_came_after_it() {
    let relay = relay();
    assert_eq!(relay.users(None, 1_200), (false, vec![2, 3, 1]));
    assert_eq!(relay.users(Some("20:20:"), 1_200), (true, vec![3, 1]));
    assert_eq!(relay.users(Some("30:30:"), 1_200), (true, vec![1]));
    // Between two positions: what the earlier one does not cover.
    assert_eq!(relay.users(Some("25:25:"), 1_200), (true, vec![3, 1]));
    assert_eq!(relay.asked(1, Some("40:40:"), 1_200), Ok(None), "nothing is new: it is held");
    // Below all that is known here: everything.
    assert_eq!(relay.users(Some("19:19:"), 1_200), (false, vec![2, 3, 1]));
    let answer = relay.asked(1, Some("20:20:"), 1_200).unwrap().expect("an answer");
    assert_eq!((answer.head.from, answer.head.to), (Some(position("20:20:")), position("40:40:")));
    assert_eq!((answer.head.keys_version, answer.head.settings_version, answer.head.read_at_ms), (3, 2, 500_000));
}

#[test]
fn a_cursor_from_ahead_waits_and_is_then_answered() {
    let relay = relay();
    assert_eq!(relay.asked(1, Some("50:50:"), 1_200), Ok(None));
    // The second one has not seen what is covered here: it gets what came after the last position that it covers.
    for (from, news) in [("50:50:", 0), ("35:50:35", 1)] {
        let from = Some(position(from));
        let question = Question { nonce: Nonce([2; 16]), epoch: 1, from: from.clone(), page: None, hold_ms: 100 };
        let source = relay.source.as_ref().unwrap();
        let mut held = Held::new(Some(source), at(1_200));
        let Ok(Look::Wait(wait)) = held.look(Some(source), &question, at(1_200), false) else { panic!("it waits") };
        assert!(wait.catch_up && wait.until == Duration::from_millis(1_500));
        let Ok(Look::Answer(due)) = held.look(Some(source), &question, at(1_500), false) else { panic!("an answer") };
        let (entries, next) = source.page(&due, 9);
        let head = source.head(&question, &due, next, at(1_500));
        assert_eq!((entries.len(), head.from, head.to), (news, from, position("40:40:")));
    }
    assert_eq!(relay.asked(2, Some("50:50:"), 1_200), Err(CannotAnswer::Ahead), "an epoch that is not reached here");
}

#[test]
fn pages_are_published_together_with_the_first_ones_age() {
    let mut relay = relay();
    let first = relay.question();
    let token = PageToken { instance: 1, to: position("60:60:"), read_at_ms: 4, after: (55, 4) };
    let page = Head { next_page: Some(token.clone()), ..head(&first, "60:60:") };
    assert_eq!(relay.take(&first, page.clone(), &[entry(4)], 1_300), Applied::More);
    assert_eq!(relay.users(Some("30:30:"), 1_300), (true, vec![1]), "half an answer is not told");
    assert_eq!(
        relay.take(&first, page, &[entry(4)], 1_300),
        Applied::Dropped(Why::OtherPages),
        "a page that comes twice"
    );
    let second = relay.question();
    assert_eq!((second.page.as_ref(), second.hold_ms), (Some(&token), 0));
    let last = Head { read_at_ms: 500_900, ..head(&second, "60:60:") };
    assert_eq!(relay.take(&second, last, &[entry(5)], 2_300), Applied::Complete);
    assert_eq!(relay.users(Some("40:40:"), 2_400), (true, vec![4, 5]));
    let told = relay.asked(1, Some("40:40:"), 2_400).unwrap().expect("an answer").head;
    assert_eq!((told.age_ms, told.read_at_ms), (1_100, 500_900), "from the first page's question; the last one's time");
}

#[test]
fn pages_of_an_answer_that_is_given_up_are_forgotten() {
    let mut relay = relay();
    let first = relay.question();
    let token = PageToken { instance: 1, to: position("60:60:"), read_at_ms: 4, after: (55, 4) };
    let page = Head { next_page: Some(token), ..head(&first, "60:60:") };
    assert_eq!(relay.take(&first, page, &[entry(4)], 1_300), Applied::More);
    // The upstream has restarted and answers from page one, up to another position.
    let second = relay.question();
    let other = head(&second, "70:70:");
    assert_eq!(relay.take(&second, other, &[entry(6)], 1_400), Applied::Dropped(Why::Gap));
    assert_eq!(relay.next("70:70:", &[entry(6)], 1_500), Applied::Complete);
    assert_eq!(relay.users(Some("40:40:"), 1_500), (true, vec![6]));
}

#[test]
fn pages_of_which_one_starts_from_nothing_do_so_together() {
    let mut relay = relay();
    let first = relay.question();
    let token = PageToken { instance: 1, to: position("60:60:"), read_at_ms: 4, after: (55, 4) };
    let page = Head { next_page: Some(token), ..head(&first, "60:60:") };
    assert_eq!(relay.take(&first, page, &[entry(4)], 1_300), Applied::More);
    let second = relay.question();
    let whole = Head { from: None, ..head(&second, "60:60:") };
    assert_eq!(relay.take(&second, whole, &[entry(5)], 1_300), Applied::Complete);
    assert_eq!(relay.users(Some("30:30:"), 1_300), (false, vec![2, 3, 1, 4, 5]));
}

#[test]
fn pages_are_given_up_when_another_upstream_answers_from_behind_them() {
    let mut relay = relay();
    let first = relay.question();
    let token = PageToken { instance: 1, to: position("10:10:"), read_at_ms: 4, after: (5, 4) };
    let page = Head { epoch: 2, from: None, next_page: Some(token.clone()), ..head(&first, "10:10:") };
    assert_eq!(relay.take(&first, page, &[entry(4)], 1_300), Applied::More);
    // This one has not reached the new epoch.
    let second = relay.question();
    assert_eq!(second.page, Some(token));
    let old = head(&second, "10:10:");
    assert_eq!(relay.take(&second, old, &[], 1_400), Applied::Dropped(Why::Behind));
    assert_eq!((relay.question().page, relay.question().hold_ms), (None, 100));
}

#[test]
fn ages_count_from_sending_and_take_a_percent_of_each_clock() {
    let mut relay = Relay::default();
    let question = relay.question();
    let held = Head { held_ms: 1_000, age_ms: 200, ..head(&question, "20:20:") };
    assert_eq!(relay.take(&question, held, &[], 1_000), Applied::Complete);
    // True at 1000 + 980 − 204.
    let told = relay.asked(1, None, 2_300).unwrap().expect("an answer");
    assert_eq!(told.head.age_ms, 2_300 - 1_776);
    assert!(relay.asked(1, None, 3_776).is_ok());
    assert_eq!(relay.asked(1, None, 3_777), Err(CannotAnswer::TooOld), "past half of the bound");
    // A younger one counts; an older one that goes as far changes nothing.
    assert_eq!(relay.next("30:30:", &[], 2_000), Applied::Complete);
    assert_eq!(relay.asked(1, None, 2_300).unwrap().expect("an answer").head.age_ms, 300);
    let question = relay.question();
    let old = Head { age_ms: 1_000, ..head(&question, "30:30:") };
    assert_eq!(relay.take(&question, old, &[], 2_100), Applied::Complete);
    assert_eq!(relay.asked(1, None, 2_300).unwrap().expect("an answer").head.age_ms, 300);
}

#[test]
fn an_age_from_before_the_clock_is_no_age() {
    let mut relay = Relay::default();
    let question = relay.question();
    let old = Head { age_ms: 1_000, ..head(&question, "20:20:") };
    assert_eq!(relay.take(&question, old, &[], 1_019), Applied::Dropped(Why::TooOld));
    let question = relay.question();
    let old = Head { age_ms: 1_000, ..head(&question, "20:20:") };
    assert_eq!(relay.take(&question, old, &[], 1_020), Applied::Complete);
}

#[test]
fn an_answer_from_behind_changes_nothing() {
    let mut relay = relay();
    assert_eq!(relay.next("35:35:", &[entry(9)], 1_300), Applied::Dropped(Why::Behind));
    assert_eq!(relay.asked(1, Some("40:40:"), 1_300), Ok(None));
    assert_eq!(relay.asked(1, Some("30:30:"), 1_300).unwrap().expect("an answer").head.age_ms, 100);
    let question = relay.question();
    let gap = Head { from: Some(position("45:45:")), ..head(&question, "50:50:") };
    assert_eq!(relay.take(&question, gap, &[], 1_300), Applied::Dropped(Why::Gap));
    let other = Head { nonce: Nonce([9; 16]), ..head(&question, "50:50:") };
    assert_eq!(relay.take(&question, other, &[], 1_300), Applied::Dropped(Why::OtherQuestion));
}

#[test]
fn versions_only_grow() {
    let mut relay = relay();
    let question = relay.question();
    let older = Head { keys_version: 2, settings_version: 1, max_staleness_ms: 60_000, ..head(&question, "50:50:") };
    assert_eq!(relay.take(&question, older, &[], 1_300), Applied::Complete);
    let told = relay.asked(1, Some("40:40:"), 2_500).unwrap();
    assert!(told.is_none(), "nothing has changed for anybody who waits");
    let told = relay.asked(1, None, 1_400).unwrap().expect("an answer").head;
    assert_eq!((told.keys_version, told.settings_version, told.max_staleness_ms), (3, 2, 4_000));
    // A new key set wakes who waits.
    let edge = Question { nonce: Nonce([2; 16]), epoch: 1, from: Some(position("50:50:")), page: None, hold_ms: 900 };
    let mut held = Held::new(relay.source.as_ref(), at(1_400));
    assert!(matches!(held.look(relay.source.as_ref(), &edge, at(1_400), false), Ok(Look::Wait(_))));
    let question = relay.question();
    let newer = Head { keys_version: 4, ..head(&question, "50:50:") };
    let change = relay.source.as_ref().unwrap().change();
    assert_eq!(relay.take(&question, newer, &[], 1_500), Applied::Complete);
    assert_eq!(relay.source.as_ref().unwrap().change(), change + 1);
    assert!(matches!(held.look(relay.source.as_ref(), &edge, at(1_500), false), Ok(Look::Answer(_))));
}

/// The new primary's clock may be behind: the relay has dropped user 4 by the old one's, and a proof that the new one's time
/// does not end yet must still meet that entry, at an edge that knows nothing but what this relay tells.
#[test]
fn in_a_new_epoch_everything_is_asked_for_again() {
    let mut relay = relay();
    let short = Entry { needed_until_ms: 500_500, ..entry(4) };
    assert_eq!(relay.next("50:50:", &[short], 1_300), Applied::Complete);
    let question = relay.question();
    let later = Head { read_at_ms: 501_000, ..head(&question, "60:60:") };
    assert_eq!(relay.take(&question, later, &[], 1_400), Applied::Complete);
    assert_eq!(relay.users(None, 1_400), (false, vec![2, 3, 1]), "by the old primary's clock nobody needs it");
    let question = relay.question();
    let failover = Head { epoch: 2, read_at_ms: 400_000, ..head(&question, "10:10:") };
    assert_eq!(relay.take(&question, failover, &[entry(8)], 1_500), Applied::Dropped(Why::NewEpoch));
    let question = relay.question();
    assert_eq!((question.epoch, question.from.clone()), (1, None));
    let whole = Head { epoch: 2, read_at_ms: 400_000, ..head(&question, "10:10:") };
    let entries = [entry(1), entry(2), entry(3), short, entry(8)];
    assert_eq!(relay.take(&question, whole, &entries, 1_500), Applied::Complete);
    // Whoever has reached the new one gets what came after it; whoever stands in an older epoch starts over.
    assert_eq!(relay.asked(2, Some("10:10:"), 1_500), Ok(None), "nothing is new: it is held");
    for from in [None, Some("60:60:")] {
        let answer = relay.asked(1, from, 1_500).unwrap().expect("an answer");
        assert_eq!((answer.head.epoch, answer.head.from, answer.head.read_at_ms), (2, None, 400_000));
        let mut users: Vec<_> = answer.entries.iter().map(|entry| entry.user_id.0).collect();
        users.sort_unstable();
        assert_eq!(users, [1, 2, 3, 4, 8]);
    }
    // An older epoch's answer, late.
    let question = relay.question();
    let late = Head { from: None, ..head(&question, "70:70:") };
    assert_eq!(relay.take(&question, late, &[], 1_600), Applied::Dropped(Why::OldEpoch));
}

#[test]
fn after_a_whole_answer_older_cursors_start_over() {
    let mut relay = relay();
    let question = relay.question();
    let whole = Head { from: None, ..head(&question, "50:50:") };
    assert_eq!(relay.take(&question, whole, &[entry(1), entry(9)], 1_300), Applied::Complete);
    assert_eq!(relay.users(Some("30:30:"), 1_300), (false, vec![2, 3, 1, 9]));
    assert_eq!(relay.asked(1, Some("50:50:"), 1_300), Ok(None));
}

/// Or whoever stands beside a relay that was just started would be sent everything again and again.
#[test]
fn a_cursor_that_neither_covers_nor_is_covered_waits_before_it_gets_everything() {
    let mut relay = Relay::default();
    assert_eq!(relay.next("40:40:", &[entry(1)], 1_200), Applied::Complete);
    assert_eq!(relay.asked(1, Some("35:50:35"), 1_200), Ok(None));
    assert_eq!(relay.next("60:60:", &[], 1_300), Applied::Complete);
    assert_eq!(relay.users(Some("35:50:35"), 1_300), (false, vec![1]));
}

#[test]
fn answers_without_news_push_no_position_out() {
    let mut relay = relay();
    for nth in 0..5_000 {
        assert_eq!(relay.next("40:40:", &[], 1_300 + nth), Applied::Complete);
    }
    assert_eq!(relay.users(Some("20:20:"), 6_300), (true, vec![3, 1]));
}

#[test]
fn the_oldest_positions_are_given_up_for_room() {
    // 4,096 positions, or 262,144 transactions in progress in all of them.
    for (most, in_progress) in [(4_096, 0), (256, 1_024)] {
        let xips = (1..=in_progress).map(|xid: u32| xid.to_string()).collect::<Vec<_>>().join(",");
        let nth = |nth: u32| format!("{}:{}:{xips}", if in_progress > 0 { 1 } else { 2_000 + nth }, 2_000 + nth);
        let mut relay = Relay::default();
        for position in (1..=most).map(nth) {
            assert_eq!(relay.next(&position, &[], 1_200), Applied::Complete);
        }
        assert_eq!(relay.asked(1, Some(&nth(1)), 1_200), Ok(None), "it is known, and nothing is new");
        for gone in 1..=3 {
            assert_eq!(relay.next(&nth(most + gone), &[], 1_200), Applied::Complete);
            let [oldest, next] = [gone, gone + 1].map(|cursor| relay.asked(1, Some(&nth(cursor)), 1_200).unwrap());
            assert_eq!((oldest.expect("everything").head.from, next), (None, None));
        }
    }
}

#[test]
fn a_cursor_that_is_to_be_replaced_is_answered_at_once_also_if_nothing_is_new() {
    let mut relay = Relay::default();
    assert_eq!(relay.next("40:40:", &[], 1_200), Applied::Complete);
    let answer = relay.asked(1, Some("30:30:"), 1_200).unwrap().expect("not covered by anything that is known");
    assert_eq!((answer.head.from, answer.entries.len()), (None, 0));
    let question = relay.question();
    let failover = Head { epoch: 2, from: None, ..head(&question, "10:10:") };
    assert_eq!(relay.take(&question, failover, &[], 1_300), Applied::Complete);
    let answer = relay.asked(1, Some("40:40:"), 1_300).unwrap().expect("of an older epoch");
    assert_eq!((answer.head.epoch, answer.head.from, answer.entries.len()), (2, None, 0));
}
