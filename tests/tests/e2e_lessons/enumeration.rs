//! Nobody learns which names exist or what state they are in: not by status, not by text, not by time.

use std::collections::BTreeMap;
use std::time::Duration;

use edgekeep_tests::client::wrong;
use edgekeep_tests::http::{Kept, Request, Response};
use edgekeep_tests::{print_figure, random_hex};
use serde_json::json;
use xtask::state::User;

use crate::world;

/// How many standard deviations the chance that an answer of one kind took longer than one of another may lie from one
/// half. Pure chance goes past it once in some hundred thousand comparisons.
const DEVIATIONS: f64 = 4.7;
/// The fewest answers of a kind that are compared: with these a chance of 0.2 or 0.8 is found. A hash that is left out is
/// at 0 or 1.
const ENOUGH: usize = 40;
/// Names of each kind: each takes one guess that locks.
const NAMES: usize = ENOUGH;
/// Names of each kind where nobody gets locked.
const OFF_NAMES: usize = 15;
/// Guesses at each name: one fewer than lock.
const GUESSES: usize = 4;
/// Guesses at each name that is locked: they say no more than that.
const LOCKED_GUESSES: usize = 2;

fn guess(connection: &mut Kept, name: &str, password: &str) -> Response {
    let body = json!({"username": name, "password": password});
    connection.send(&Request::json("/auth/login", &body).key(&random_hex(8))).unwrap()
}

/// Everything that an answer says, but the moment and what is drawn at random.
fn said(response: &Response) -> String {
    let told = |name: &str| !["date", "retry-after"].contains(&name.to_ascii_lowercase().as_str());
    let headers: Vec<String> = response
        .headers
        .iter()
        .filter(|(name, _)| told(name))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    let mut body = response.json();
    body["retry_after_s"] = json!(null);
    format!("{} {headers:?} {body}", response.status)
}

/// The chance that a time of `a` is longer than one of `b` (Mann-Whitney U over the number of pairs): one half if nobody
/// can tell them apart.
fn longer(a: &[Duration], b: &[Duration]) -> f64 {
    let mut wins = 0.0;
    for (one, other) in a.iter().flat_map(|one| b.iter().map(move |other| (one, other))) {
        wins += match one.cmp(other) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        };
    }
    wins / (a.len() * b.len()) as f64
}

/// How far from one half that chance may lie: [`DEVIATIONS`] times the standard deviation of U among equals.
fn tolerance(a: usize, b: usize) -> f64 {
    DEVIATIONS * ((a + b + 1) as f64 / (12 * a * b) as f64).sqrt()
}

/// Whether times tell the two kinds apart.
fn tells(a: &[Duration], b: &[Duration]) -> bool {
    assert!(a.len().min(b.len()) >= ENOUGH, "too few to compare: {} and {}", a.len(), b.len());
    (longer(a, b) - 0.5).abs() >= tolerance(a.len(), b.len())
}

/// The least that would have to be added to each time of `a` for [`tells`] to tell it from `b`, in steps of a millisecond.
fn found_from(a: &[Duration], b: &[Duration]) -> Duration {
    let shifted = |by: Duration| a.iter().map(|time| *time + by).collect::<Vec<_>>();
    let mut by = Duration::ZERO;
    while longer(&shifted(by), b) - 0.5 < tolerance(a.len(), b.len()) {
        by += Duration::from_millis(1);
    }
    by
}

#[test]
fn the_rank_test_tells_times_apart() {
    let ms = |times: &[u64]| -> Vec<Duration> { times.iter().copied().map(Duration::from_millis).collect() };
    assert_eq!(longer(&ms(&[4, 5, 6]), &ms(&[1, 2, 3])), 1.0);
    assert_eq!(longer(&ms(&[1, 2, 3]), &ms(&[1, 2, 3])), 0.5);
    assert_eq!(longer(&ms(&[1]), &ms(&[2, 3])), 0.0);
}

/// What a hash takes in a development build, in milliseconds.
const HASH_MS: f64 = 42.0;

/// Times of answers with one hash each, on a machine that does other things as well: most a little late, some by several
/// hashes.
fn times_of_a_busy_machine(random: &mut fastrand::Rng, count: usize, more_ms: f64) -> Vec<Duration> {
    let mut time = || {
        let late_ms = -8.0 * (1.0 - random.f64()).ln();
        let busy_ms = if random.usize(..20) == 0 { random.f64() * 200.0 } else { 0.0 };
        Duration::from_secs_f64((5.0 + HASH_MS + late_ms + busy_ms + more_ms) / 1_000.0)
    };
    (0..count).map(|_| time()).collect()
}

/// A leak that is planted is found, also half of it and with the fewest answers; where there is none, none is found.
#[test]
fn a_planted_leak_is_found() {
    for seed in 0..50 {
        let mut random = fastrand::Rng::with_seed(seed);
        for count in [ENOUGH, NAMES * LOCKED_GUESSES, NAMES * GUESSES] {
            let known = times_of_a_busy_machine(&mut random, count, 0.0);
            let alike = times_of_a_busy_machine(&mut random, count, 0.0);
            assert!(!tells(&known, &alike), "seed {seed}, {count}: {}", longer(&known, &alike));
            for leak_ms in [-HASH_MS, -HASH_MS / 2.0, HASH_MS / 2.0, HASH_MS] {
                let leaky = times_of_a_busy_machine(&mut random, count, leak_ms);
                assert!(
                    tells(&known, &leaky) && tells(&leaky, &known),
                    "seed {seed}, {count}, {leak_ms} ms: {}",
                    longer(&known, &leaky)
                );
            }
            assert!(found_from(&known, &alike).as_secs_f64() * 1_000.0 < HASH_MS / 2.0, "seed {seed}, {count}");
        }
    }
}

/// Asks for names of several kinds in turns, always one of each, so that whatever else the machine does falls on all alike.
fn compared(what: &str, kinds: &[(&str, Vec<User>)], rounds: usize, right: bool) {
    let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    let mut texts: BTreeMap<String, &str> = BTreeMap::new();
    let mut connection = Kept::new(world().edge(0));
    for round in 0..rounds {
        for name in 0..kinds[0].1.len() {
            // Another kind goes first each time.
            for turn in 0..kinds.len() {
                let (kind, users) = &kinds[(turn + round + name) % kinds.len()];
                let user = &users[name];
                let password = if right { user.password.clone() } else { wrong(user).password };
                let response = guess(&mut connection, &user.name, &password);
                times.entry(kind).or_default().push(response.received - response.sent);
                texts.entry(said(&response)).or_insert(kind);
            }
        }
    }
    assert_eq!(texts.len(), 1, "{what}: what is said tells them apart: {texts:#?}");
    let all: Vec<(&str, Vec<Duration>)> = times.into_iter().collect();
    for (n, (kind, times)) in all.iter().enumerate() {
        for (other, other_times) in &all[n + 1..] {
            let chance = longer(times, other_times);
            print_figure(&format!(
                "{what}: {kind} takes longer than {other} in {:.0} % of {}² pairs; {:?} more would have been found",
                chance * 100.0,
                times.len(),
                found_from(times, other_times)
            ));
            assert!(!tells(times, other_times), "{what}: time tells {kind} from {other}: {chance}");
        }
    }
}

fn nobody() -> User {
    User { name: format!("nobody-{}", random_hex(4)), password: "a password that nobody has".into(), roles: Vec::new() }
}

/// Many: of a user who does not exist no hash was made; of a disabled one the answer was another; a lock was only for those
/// who exist.
#[test]
fn enumeration_by_status_text_and_time() {
    let world = world();
    let known: Vec<User> = (0..NAMES).map(|_| world.user("known")).collect();
    let disabled: Vec<User> = (0..NAMES).map(|_| world.user("off")).collect();
    for user in &disabled {
        world.edgekeep(&["user", "disable", &user.name], "");
    }
    let unknown: Vec<User> = (0..NAMES).map(|_| nobody()).collect();
    // Disabled users whose right password is tried: they learn no more than anybody (their places are other ones).
    compared(
        "wrong password",
        &[("known", known.clone()), ("unknown", unknown.clone()), ("disabled", disabled.clone())],
        GUESSES,
        false,
    );
    // One more each, and all are locked, whether there is such a user or not.
    compared(
        "the guess that locks",
        &[("known", known.clone()), ("unknown", unknown.clone()), ("disabled", disabled.clone())],
        1,
        false,
    );
    compared(
        "locked, wrong password",
        &[("known", known.clone()), ("unknown", unknown.clone()), ("disabled", disabled.clone())],
        LOCKED_GUESSES,
        false,
    );
    compared(
        "locked, right password",
        &[("known", known), ("unknown", unknown), ("disabled", disabled)],
        LOCKED_GUESSES,
        true,
    );
    let off: Vec<User> = (0..OFF_NAMES).map(|_| world.user("off")).collect();
    for user in &off {
        world.edgekeep(&["user", "disable", &user.name], "");
    }
    compared(
        "right password of a disabled user",
        &[("disabled", off), ("unknown", (0..OFF_NAMES).map(|_| nobody()).collect())],
        GUESSES,
        true,
    );
}
