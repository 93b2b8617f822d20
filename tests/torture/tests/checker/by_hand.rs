//! Small histories by hand: what is just still allowed, and what is not by a microsecond; and unknown outcomes, which
//! excuse and never prove.

use edgekeep_torture::checker;
use edgekeep_torture::checker::audit::{self, Account, Accounts, Entry};
use edgekeep_torture::history::{
    Action, Attempt, Calm, History, Isolated, Lost, NewSecret, Operation, Outcome, Reason, Route, Rules, Secret,
    SessionNo, Us, Why,
};

const BOUND: Us = 1_000;
const A: SessionNo = SessionNo(0);
const B: SessionNo = SessionNo(1);
const ACCEPTED: Outcome = Outcome::Accepted { saw: None };
const UNKNOWN: Outcome = Outcome::Unknown { status: 0 };
const LOGOUT: Action = Action::Logout { session: A };

fn signed_in(session: SessionNo) -> Outcome {
    Outcome::SignedIn { session, expires_at_ms: 1 }
}

fn login(key: u32) -> Action {
    Action::Login { attempt: Attempt { key, secret: Secret::Chosen(0) }, presents: None }
}

fn guess(key: u32) -> Action {
    Action::Login { attempt: Attempt { key, secret: Secret::Wrong(key) }, presents: None }
}

fn check(session: SessionNo, route: Route) -> Action {
    Action::Check { session, route }
}

/// The rules that are broken.
fn broken(operations: &[(Us, Us, Action, Outcome)]) -> Vec<&'static str> {
    broken_with_calm(operations, Vec::new())
}

fn broken_with_calm(operations: &[(Us, Us, Action, Outcome)], calm: Vec<Calm>) -> Vec<&'static str> {
    broken_with(operations, calm, Vec::new(), false)
}

fn broken_with(
    operations: &[(Us, Us, Action, Outcome)],
    calm: Vec<Calm>,
    isolated: Vec<Isolated>,
    last_clears: bool,
) -> Vec<&'static str> {
    let rules = Rules {
        bound_us: BOUND,
        guess_limit: 3,
        lockout_base_us: 10_000,
        owner_deadline_us: 5_000,
        late_us: 20_000,
        idle_us: 50_000,
        absolute_us: 100_000,
    };
    let operations = (0..).zip(operations).map(|(id, (sent_us, returned_us, action, outcome))| Operation {
        id,
        user: 1,
        client: id,
        edge: 0,
        sent_us: *sent_us,
        returned_us: *returned_us,
        action: *action,
        outcome: *outcome,
        cleared: false,
    });
    let sessions = vec!["a".into(), "b".into()];
    let mut history = History { calm, isolated, sessions, operations: operations.collect(), ..History::new(rules) };
    if let (Some(last), true) = (history.operations.last_mut(), last_clears) {
        last.cleared = true;
    }
    checker::check(&history).iter().map(|violation| violation.rule).collect()
}

/// The same, and the last answer clears the cookie of the session that was presented.
fn broken_and_cleared(operations: &[(Us, Us, Action, Outcome)]) -> Vec<&'static str> {
    broken_with(operations, Vec::new(), Vec::new(), true)
}

#[test]
fn a_lease_may_be_as_old_as_the_bound_and_not_a_microsecond_older() {
    let story = |sent| {
        broken(&[
            (0, 10, login(1), signed_in(A)),
            (20, 30, LOGOUT, Outcome::Done),
            (sent, sent + 500, check(A, Route::Lease), ACCEPTED),
        ])
    };
    assert!(story(30 + BOUND).is_empty());
    assert_eq!(story(31 + BOUND), ["G2"]);
}

#[test]
fn a_strict_route_may_accept_what_was_sent_before_the_end_was_acknowledged() {
    let story = |sent| {
        broken(&[
            (0, 10, login(1), signed_in(A)),
            (20, 30, LOGOUT, Outcome::Done),
            (sent, sent + 500, check(A, Route::Strict), ACCEPTED),
        ])
    };
    assert!(story(30).is_empty());
    assert_eq!(story(31), ["G3"]);
}

#[test]
fn a_logout_that_nobody_knows_of_proves_nothing_and_excuses_a_refusal() {
    let refused = Outcome::Refused(Why::NoSession(Reason::SignedOut));
    let login = (0, 10, login(1), signed_in(A));
    let logout = (20, 30, LOGOUT, UNKNOWN);
    assert!(broken(&[login, logout, (9_000, 9_001, check(A, Route::Strict), ACCEPTED)]).is_empty());
    assert!(broken(&[login, logout, (9_000, 9_001, check(A, Route::Strict), refused)]).is_empty());
    assert_eq!(broken(&[login, (9_000, 9_001, check(A, Route::Strict), refused)]), ["G7"]);
    let before = (100, 110, check(A, Route::Lease), ACCEPTED);
    assert_eq!(broken(&[login, before, (9_000, 9_001, check(A, Route::Strict), refused)]), ["G8"]);
    // And what it excuses once is over: a refusal is an ending that was seen.
    let again = (9_100, 9_101, check(A, Route::Strict), ACCEPTED);
    assert_eq!(broken(&[login, logout, (9_000, 9_001, check(A, Route::Strict), refused), again]), ["G5"]);
}

#[test]
fn of_two_logins_at_the_same_time_either_may_be_the_last_and_only_one() {
    let logins = [(0, 100, login(1), signed_in(A)), (0, 100, login(2), signed_in(B))];
    let strict = |session, sent| (sent, sent + 10, check(session, Route::Strict), ACCEPTED);
    let story = |more: &[(Us, Us, Action, Outcome)]| broken(&[&logins, more].concat());
    assert!(story(&[strict(A, 200), strict(A, 300)]).is_empty());
    assert!(story(&[strict(B, 200), strict(B, 300)]).is_empty());
    assert_eq!(story(&[strict(A, 200), strict(B, 300)]), ["G1"]);
    // A lease may be behind.
    let lease = |session, sent| (sent, sent + 10, check(session, Route::Lease), ACCEPTED);
    assert!(story(&[lease(A, 200), strict(B, 300)]).is_empty());
    assert_eq!(story(&[lease(A, 102 + BOUND), strict(B, 1_500)]), ["G1"]);
}

#[test]
fn a_lock_needs_as_many_failures_as_there_are_places() {
    let wrong = |key: u32| {
        let at = Us::from(key) * 100;
        (at, at + 50, guess(key), Outcome::Refused(Why::Credentials))
    };
    let locked = (900, 910, login(9), Outcome::Refused(Why::Locked));
    assert!(broken(&[wrong(1), wrong(2), wrong(3), locked]).is_empty());
    assert_eq!(broken(&[wrong(1), wrong(2), locked, (950, 960, login(10), UNKNOWN)]), ["lock"]);
    // One whose answer was lost may have failed.
    assert!(broken(&[wrong(1), wrong(2), (300, 350, guess(3), UNKNOWN), locked]).is_empty());
    // A success clears what failed before it.
    let success = (400, 450, login(4), signed_in(A));
    assert_eq!(broken(&[wrong(1), wrong(2), wrong(3), success, locked]), ["lock"]);
}

#[test]
fn more_guesses_than_places_need_a_wait_or_a_success_between_them() {
    let wrong = |key: u32, at: Us| (at, at + 50, guess(key), Outcome::Refused(Why::Credentials));
    let three = [wrong(1, 100), wrong(2, 200), wrong(3, 300)];
    assert_eq!(broken(&[&three[..], &[wrong(4, 400)]].concat()), ["G6"]);
    assert!(broken(&[&three[..], &[wrong(4, 10_400)]].concat()).is_empty());
    assert!(broken(&[&three[..], &[(350, 380, login(9), signed_in(A)), wrong(4, 400)]].concat()).is_empty());
    assert!(broken(&[&three[..], &[(350, 380, login(9), UNKNOWN), wrong(4, 400)]].concat()).is_empty());
}

#[test]
fn a_password_change_that_nobody_knows_of_makes_both_passwords_possible() {
    let attempt = |key, n| Attempt { key, secret: Secret::Chosen(n) };
    let change = Action::ChangePassword { attempt: attempt(2, 0), new: NewSecret::Good(1), by: A };
    let login_with = |key, n| Action::Login { attempt: attempt(key, n), presents: None };
    let first = (0, 10, login(1), signed_in(A));
    let wrong = Outcome::Refused(Why::Credentials);
    assert!(broken(&[first, (20, 30, change, UNKNOWN), (40, 50, login_with(3, 1), signed_in(B))]).is_empty());
    assert!(broken(&[first, (20, 30, change, UNKNOWN), (40, 50, login_with(3, 0), wrong)]).is_empty());
    assert_eq!(broken(&[first, (40, 50, login_with(3, 1), signed_in(B))]), ["password"]);
    assert_eq!(broken(&[first, (40, 50, login_with(3, 0), wrong)]), ["password"]);
}

#[test]
fn no_answer_is_excused_only_outside_of_calm() {
    let calm = vec![Calm { from_us: 100, until_us: 200 }];
    let silent = |from, until| [(0, 10, login(1), signed_in(A)), (from, until, check(A, Route::Lease), UNKNOWN)];
    assert!(broken_with_calm(&silent(90, 150), calm.clone()).is_empty());
    assert!(broken_with_calm(&silent(150, 201), calm.clone()).is_empty());
    assert_eq!(broken_with_calm(&silent(100, 200), calm), ["G8"]);
}

#[test]
fn a_cookie_is_cleared_only_with_an_ending() {
    let first = (0, 10, login(1), signed_in(A));
    let unavailable = Outcome::Unknown { status: 503 };
    for action in [check(A, Route::Lease), check(A, Route::Strict), LOGOUT] {
        assert!(broken(&[first, (20, 30, action, unavailable)]).is_empty());
        assert_eq!(broken_and_cleared(&[first, (20, 30, action, unavailable)]), ["G8"], "{action:?}");
    }
    assert_eq!(broken_and_cleared(&[first, (20, 30, check(A, Route::Lease), ACCEPTED)]), ["G8"]);
    assert!(broken_and_cleared(&[first, (20, 30, LOGOUT, Outcome::Done)]).is_empty());
    let refused = Outcome::Refused(Why::NoSession(Reason::SignedOut));
    let (logout, check) = ((20, 30, LOGOUT, Outcome::Done), (40, 50, check(A, Route::Lease), refused));
    assert!(broken_and_cleared(&[first, logout, check]).is_empty());
}

#[test]
fn an_edge_with_a_deposed_primary_falls_closed() {
    let isolated = vec![Isolated { edge: 0, from_us: 100, until_us: 5_000 }];
    let story = |route, sent| {
        let accepted = (sent, sent + 5, check(A, route), ACCEPTED);
        broken_with(&[(0, 10, login(1), signed_in(A)), accepted], Vec::new(), isolated.clone(), false)
    };
    assert!(story(Route::Lease, 99 + BOUND).is_empty() && story(Route::Strict, 99).is_empty());
    assert_eq!(story(Route::Lease, 100 + BOUND), ["G8"]);
    assert_eq!(story(Route::Strict, 100), ["G8"]);
    assert!(story(Route::Strict, 5_000).is_empty());
}

#[test]
fn a_session_is_taken_for_lost_only_where_a_promotion_can_have_lost_it() {
    let rules = Rules {
        bound_us: BOUND,
        guess_limit: 3,
        lockout_base_us: 10_000,
        owner_deadline_us: 5_000,
        late_us: 20_000,
        idle_us: 50_000,
        absolute_us: 100_000,
    };
    let operation = Operation {
        id: 0,
        user: 1,
        client: 1,
        edge: 0,
        sent_us: 30_000,
        returned_us: 30_010,
        action: LOGOUT,
        outcome: Outcome::Done,
        cleared: false,
    };
    let ended = Entry {
        action: "session_ended".into(),
        session: Some("a".into()),
        reason: Some("signed_out".into()),
        outcome: None,
        lost: true,
    };
    let accounts = Accounts::from([(1, Account { audit: vec![ended], ..Account::default() })]);
    let broken = |lost| {
        let history = History { sessions: vec!["a".into()], operations: vec![operation], lost, ..History::new(rules) };
        audit::check(&history, &accounts).iter().map(|violation| violation.rule).collect::<Vec<_>>()
    };
    assert_eq!(broken(None), ["G9"]);
    assert!(broken(Some(Lost { from_us: 0, until_us: 9 })).is_empty());
}
