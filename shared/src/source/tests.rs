//! What a source makes of its reads, one by one.

use super::*;
use crate::ids::{Nonce, UserId};
use crate::revision::Revision;

#[test]
fn a_cursor_of_an_older_epoch_is_good_while_transaction_ids_are_the_same() {
    assert_eq!(scope(None, 3, 1), Scope::All);
    assert_eq!(scope(Some(3), 3, 1), Scope::AfterCursor);
    assert_eq!(scope(Some(2), 3, 1), Scope::AfterCursorOfEpoch(2));
    assert_eq!(scope(Some(2), 3, 2), Scope::AfterCursorOfEpoch(2));
    assert_eq!(scope(Some(2), 3, 3), Scope::All);
    assert_eq!(scope(Some(4), 3, 1), Scope::Ahead);
}

#[test]
fn few_pollers_wait_for_nothing_and_many_for_little() {
    assert_eq!(coalescing_gap(0, 5_000), Duration::ZERO);
    assert_eq!(coalescing_gap(FEW_POLLERS, 5_000), Duration::ZERO);
    assert_eq!(coalescing_gap(1_000, 5_000), Duration::from_millis(20));
    assert_eq!(coalescing_gap(1_000_000, 5_000), Duration::from_millis(200));
    assert_eq!(coalescing_gap(1_000_000, 200), Duration::from_millis(12));
}

fn at_us(us: u64) -> Moment {
    Moment { monotonic: Duration::from_micros(us), wall: Duration::from_micros(us) }
}

fn at(ms: u64) -> Moment {
    at_us(ms * 1_000)
}

fn behind(moment: Moment) -> Behind {
    Behind { read_began: moment, beat_began: moment, durable_xid: 99 }
}

fn row(user: u64, feed_xid: u64) -> Row {
    Row { user_id: UserId(user), revision: Revision(feed_xid), needed_until_ms: 9_000, feed_xid }
}

fn read(rows: &[Row]) -> Read {
    let settings = EdgeSettings::of_feed(1, 4_000);
    let position = Position { xmax: 50, xip: vec![] };
    let rows = rows.to_vec();
    Read { epoch: 3, cursors_from_epoch: 1, position, read_at_ms: 1_000, settings, keys_version: 1, rows }
}

/// What was read at 10.2 ms.
fn source(rows: &[Row]) -> Source {
    let (mut first, began) = (read(rows), at_us(10_200));
    let mut source = Source::load(7, &mut first, behind(began), 0, began);
    assert!(source.publish(first, behind(began), 0, 8, began).changed);
    source
}

fn question(page: Option<PageToken>) -> Question {
    Question { nonce: Nonce([1; 16]), epoch: 0, from: None, page, hold_ms: 0 }
}

/// The place where the page after the first one starts, or that it starts over.
fn second_page(source: &Source, token: &PageToken, now: Moment) -> Option<Place> {
    let question = question(Some(token.clone()));
    let Ok(Look::Answer(due)) = Held::new(Some(source), now).look(Some(source), &question, now, false) else {
        panic!("an answer")
    };
    due.page.map(|page| page.after)
}

fn first_page(source: &Source, now: Moment) -> PageToken {
    let question = question(None);
    let Ok(Look::Answer(due)) = Held::new(Some(source), now).look(Some(source), &question, now, false) else {
        panic!("an answer")
    };
    let (_, next) = source.page(&due, 1);
    source.head(&question, &due, next, now).next_page.expect("more than one entry")
}

#[test]
fn a_position_never_passes_what_is_known_durable() {
    for (durable_xid, xmax) in [(39, 40), (48, 49), (49, 50), (60, 50)] {
        let behind = Behind { durable_xid, ..behind(at(0)) };
        let mut first = read(&[]);
        let mut source = Source::load(7, &mut first, behind, 0, at(0));
        assert_eq!(source.position().xmax, xmax);
        assert!(!source.publish(first, behind, 0, 8, at(0)).moved_on);
        assert_eq!(source.position().xmax, xmax);
    }
}

#[test]
fn questions_look_again_for_all_that_an_answer_says_and_for_nothing_else() {
    let told = |next: &mut dyn FnMut(&mut Read)| {
        let mut source = source(&[row(1, 20)]);
        let (before, mut read) = (source.change(), read(&[row(1, 20)]));
        next(&mut read);
        let published = source.publish(read, behind(at(20)), 0, 8, at(20));
        assert_eq!(source.change() - before, u64::from(published.changed));
        (published.changed, published.moved_on)
    };
    assert_eq!(told(&mut |read| read.read_at_ms += 10), (false, false));
    assert_eq!(told(&mut |read| read.position.xmax += 1), (false, true));
    assert_eq!(told(&mut |read| read.keys_version += 1), (true, false));
    assert_eq!(told(&mut |read| read.settings.max_staleness_ms += 1), (true, false));
    assert_eq!(told(&mut |read| read.cursors_from_epoch += 1), (true, false));
    assert_eq!(told(&mut |read| read.rows.push(row(2, 21))), (true, false));
    assert_eq!(told(&mut |read| read.rows = vec![row(1, 22)]), (true, false));
}

#[test]
fn a_chain_of_pages_starts_over_when_an_entry_moved_back_behind_it() {
    let mut source = source(&[row(1, 20), row(2, 30), row(3, 40)]);
    let token = first_page(&source, at(11));
    assert_eq!(second_page(&source, &token, at(11)), Some((20, 1)));
    source.publish(read(&[row(3, 41)]), behind(at_us(10_400)), 0, 8, at(11));
    assert_eq!(second_page(&source, &token, at(11)), Some((20, 1)), "forward is no harm");
    // Within the same millisecond as the chain's read.
    let late = Row { revision: Revision(99), ..row(3, 15) };
    source.publish(read(&[late]), behind(at_us(10_900)), 0, 8, at(11));
    assert_eq!(second_page(&source, &token, at(11)), None);
    source.publish(read(&[]), behind(at(30)), 0, 8, at(30));
    assert_eq!(second_page(&source, &token, at(30)), None);
    let token = first_page(&source, at(31));
    assert_eq!(second_page(&source, &token, at(31)), Some((15, 3)));
    // One of another load, from later than the last read, or of what was not read yet, is none of this source's.
    let ahead = Position { xmax: 51, xip: vec![] };
    for other in [
        PageToken { instance: 6, ..token.clone() },
        PageToken { read_at_ms: token.read_at_ms + 1, ..token.clone() },
        PageToken { to: ahead, ..token },
    ] {
        assert_eq!(second_page(&source, &other, at(31)), None, "{other:?}");
    }
}

#[test]
fn rows_that_were_read_are_durable() {
    assert_eq!(durable_after(30, &[row(1, 20), row(2, 41), row(3, 40)]), 41);
    assert_eq!(durable_after(30, &[row(1, 20)]), 30);
}

#[test]
fn a_chain_of_pages_starts_over_when_the_clocks_disagree() {
    for (stepped_ms, starts_over) in [(0, false), (20, false), (21, true), (500, true)] {
        let mut source = source(&[row(1, 20), row(2, 30)]);
        let token = first_page(&source, at(11));
        let now = Moment { monotonic: Duration::from_millis(30), wall: Duration::from_millis(30 + stepped_ms) };
        source.publish(read(&[]), behind(now), 0, 8, now);
        assert_eq!(second_page(&source, &token, now).is_none(), starts_over, "{stepped_ms}");
    }
}

#[test]
fn an_answer_is_as_old_as_its_read_or_its_heartbeat_and_at_half_of_the_bound_it_is_the_last() {
    let mut source = source(&[]);
    let behind = Behind { read_began: at(300), beat_began: at(100), durable_xid: 99 };
    source.publish(Read { read_at_ms: 5_000, ..read(&[]) }, behind, 0, 8, at(310));
    assert_eq!(source.age(at(350)), Duration::from_millis(250));
    assert_eq!((source.coordinator_ms(at(300)), source.coordinator_ms(at(350)), source.epoch()), (5_000, 5_050, 3));
    assert!(!source.too_old(at(2_100)) && source.too_old(at_us(2_100_001)));
}
