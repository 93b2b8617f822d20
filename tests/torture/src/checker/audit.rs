//! What clients saw against what the database says in the end: G9, and everything else once more, in its own order.
//!
//! The audit log is written in the transaction of what it records, under the user's lock, so per user it is in the order
//! of commits. Read as the order in which things happened it must
//!
//! - make sense by itself: one current session at a time, each made and ended once, the last one still there;
//! - hold all that was acknowledged, once, and nothing that nobody asked for;
//! - agree with time: there must be an instant for every entry such that the instants rise and each lies where the
//!   history allows ([`super::lives`]). This is linearizability with the order given, so it is checked in one pass.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::Violation;
use super::lives::Lives;
use super::user::{Fate, Kind, User};
use crate::history::{Action, NEVER, Operation, Outcome, Reason, SessionNo, Us, Why};

/// One entry of the audit log that names the user, as far as it is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What happened.
    pub action: String,
    /// The session's id.
    pub session: Option<String>,
    /// Why it ended.
    pub reason: Option<String>,
    /// How an attempt ended.
    pub outcome: Option<String>,
    /// The session that ended is one that the database had never heard of.
    #[serde(default)]
    pub lost: bool,
}

/// A row of `attempt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAttempt {
    /// The operation.
    pub operation: String,
    /// Its outcome, if it is settled.
    pub outcome: Option<String>,
    /// The session that it made.
    pub session: Option<String>,
    /// When its place was reserved, on the database's clock.
    pub reserved_ms: u64,
    /// When it was settled.
    pub settled_ms: Option<u64>,
}

/// The final state of one user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// In order.
    pub audit: Vec<Entry>,
    /// Ids of current sessions.
    pub current: Vec<String>,
    /// When a run of failures locked it, on the database's clock.
    pub locked_ms: Vec<u64>,
    /// When the lock was lifted by an administrator, on the database's clock.
    pub unlocked_ms: Vec<u64>,
    /// All attempts for the user's name, in the order of their places.
    pub attempts: Vec<StoredAttempt>,
    /// The user may not sign in.
    pub disabled: bool,
    /// The user has the role.
    pub role: bool,
}

/// The final state of everybody.
pub type Accounts = BTreeMap<u32, Account>;

/// Violations of all users.
#[must_use]
pub fn check(history: &crate::history::History, accounts: &Accounts) -> Vec<Violation> {
    let users = super::users(history);
    let mut found = Vec::new();
    for (number, user) in &users {
        match accounts.get(number) {
            Some(account) => found.extend(check_user(user, account)),
            None => found.push(Violation::new("audit", format!("the database has no user {number}"), &[])),
        }
    }
    found
}

/// Where an entry can lie in time, and the operation that says so.
#[derive(Clone, Copy)]
struct Place<'a> {
    from: (Us, Option<&'a Operation>),
    by: (Us, Option<&'a Operation>),
}

const ANYWHERE: Place<'static> = Place { from: (0, None), by: (NEVER, None) };

/// What the log says of one session.
#[derive(Default)]
struct Logged<'a> {
    made: bool,
    ended: Option<&'a str>,
}

fn check_user(user: &User<'_>, account: &Account) -> Vec<Violation> {
    let lives = Lives::new(user);
    let mut found = Vec::new();
    let mut wrong = |rule: &'static str, text: String, ops: &[&Operation]| found.push(Violation::new(rule, text, ops));
    let numbers: HashMap<&str, SessionNo> = lives
        .of
        .keys()
        .filter_map(|number| Some((user.history.sessions.get(number.0 as usize)?.as_str(), *number)))
        .collect();
    let name = user.operations.first().map_or(0, |op| op.user);

    let mut logged: HashMap<&str, Logged<'_>> = HashMap::new();
    let mut current: Option<&str> = None;
    let mut places: Vec<Place<'_>> = Vec::new();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for entry in &account.audit {
        let id = entry.session.as_deref().unwrap_or_default();
        let life = numbers.get(id).and_then(|number| lives.of.get(number));
        let mut place = ANYWHERE;
        match (entry.action.as_str(), entry.outcome.as_deref()) {
            ("login" | "password_change", Some("succeeded")) => {
                if let Some(before) = current {
                    wrong("G1", format!("user {name}: {id} was made while {before} was current"), &[]);
                }
                let session = logged.entry(id).or_default();
                if std::mem::replace(&mut session.made, true) || session.ended.is_some() {
                    wrong("G5", format!("user {name}: session {id} was made twice"), &[]);
                }
                current = Some(id);
                if let Some(life) = life {
                    let born = Some(life.born.by);
                    place =
                        Place { from: (life.born_from_us, born), by: (life.alive_by.at_us, Some(life.alive_by.by)) };
                }
            }
            ("session_ended", _) if entry.lost => {
                // Only a promotion loses sessions, and not those that are there.
                let made = logged.get(id).is_some_and(|session| session.made);
                if user.history.lost.is_none() || made {
                    wrong("G9", format!("user {name}: session {id} was taken for lost, and was not"), &[]);
                }
            }
            ("session_ended", _) => {
                if current.take() != Some(id) {
                    wrong("G5", format!("user {name}: session {id} ended, and was not current"), &[]);
                }
                logged.entry(id).or_default().ended = entry.reason.as_deref();
                if let Some(life) = life {
                    place.from = (life.alive_from.at_us, Some(life.alive_from.by));
                    if let Some(ended) = life.ended_by {
                        place.by = (ended.at_us, Some(ended.by));
                    }
                }
            }
            _ => {}
        }
        let key = match entry.outcome.as_deref() {
            Some("invalid_credentials") => "invalid_credentials",
            _ => entry.action.as_str(),
        };
        *counts.entry(key).or_default() += 1;
        places.push(place);
    }
    found.extend(in_time(name, &places));
    found.extend(end_state(user, &lives, account, current, &logged));
    found.extend(too_many_places(user, account));
    found.extend(locked_too_soon(user, account));
    found.extend(numbers_of(user, account, &counts, &logged, &numbers));
    found
}

/// Rising instants exist: the latest beginning so far is never past the earliest end from here on.
fn in_time(name: u32, places: &[Place<'_>]) -> Option<Violation> {
    let mut by: (Us, Option<&Operation>) = (NEVER, None);
    let mut bys = vec![by; places.len()];
    for (at, place) in places.iter().enumerate().rev() {
        if place.by.0 < by.0 {
            by = place.by;
        }
        bys[at] = by;
    }
    let mut from: (Us, Option<&Operation>) = (0, None);
    for (place, by) in places.iter().zip(bys) {
        if place.from.0 > from.0 {
            from = place.from;
        }
        if from.0 > by.0 {
            let shown: Vec<&Operation> = [from.1, by.1].into_iter().flatten().collect();
            let late_ms = (from.0 - by.0) as f64 / 1_000.0;
            let text = format!("user {name}: the database's order contradicts what clients saw, by {late_ms:.1} ms");
            return Some(Violation::new("audit", text, &shown));
        }
    }
    None
}

/// G6, in the order of places: of F + 1 attempts in a row that failed, with no success between them, the last one had to
/// wait for the end of a lock.
fn too_many_places(user: &User<'_>, account: &Account) -> Option<Violation> {
    let name = user.operations.first().map_or(0, |op| op.user);
    let limit = user.history.rules.guess_limit as usize;
    let mut failed: Vec<u64> = Vec::new();
    let mut unlocked_ms = account.unlocked_ms.clone();
    unlocked_ms.sort_unstable();
    for row in &account.attempts {
        match (row.outcome.as_deref(), &row.session) {
            (Some("succeeded"), Some(_)) => failed.clear(),
            (Some("invalid_credentials"), _) => {
                failed.push(row.reserved_ms);
                let Some(first) = failed.len().checked_sub(limit + 1).map(|at| failed[at]) else { continue };
                let unlocked = unlocked_ms.get(unlocked_ms.partition_point(|at| *at < first));
                let unlocked = unlocked.is_some_and(|at| *at <= row.reserved_ms);
                // Milliseconds are cut off.
                if !unlocked && (row.reserved_ms - first + 1) * 1_000 < user.history.rules.lockout_base_us {
                    let text = format!("user {name}: more than {limit} places were given out in one run");
                    return Some(Violation::new("G6", text, &[]));
                }
            }
            _ => {}
        }
    }
    None
}

/// The other half: fewer than F places taken since the last success lock nobody.
fn locked_too_soon(user: &User<'_>, account: &Account) -> Option<Violation> {
    let limit = user.history.rules.guess_limit as usize;
    let name = user.operations.first().map_or(0, |op| op.user);
    let mut rows: Vec<&StoredAttempt> = account.attempts.iter().collect();
    rows.sort_by_key(|row| row.reserved_ms);
    account.locked_ms.iter().find_map(|at| {
        let before = &rows[..rows.partition_point(|row| row.reserved_ms <= *at)];
        let is_reset =
            |row: &StoredAttempt| row.session.is_some() && row.settled_ms.is_some_and(|settled| settled < *at);
        let taken = before.iter().rev().take_while(|row| !is_reset(row)).take(limit).count();
        (taken < limit).then(|| {
            let text = format!("user {name} was locked when {taken} of {limit} places were taken");
            Violation::new("lock", text, &[])
        })
    })
}

fn end_state(
    user: &User<'_>,
    lives: &Lives<'_>,
    account: &Account,
    current: Option<&str>,
    logged: &HashMap<&str, Logged<'_>>,
) -> Vec<Violation> {
    let mut found = Vec::new();
    let name = user.operations.first().map_or(0, |op| op.user);
    if account.current.iter().map(String::as_str).ne(current) {
        let text = format!("user {name}: current are {:?}, the log says {current:?}", account.current);
        found.push(Violation::new("G9", text, &[]));
    }
    let mut asked: HashMap<SessionNo, Us> = HashMap::new();
    for op in &user.operations {
        if let Action::Logout { session } = op.action {
            let first = asked.entry(session).or_insert(NEVER);
            *first = op.sent_us.min(*first);
        }
    }
    for (number, life) in &lives.of {
        let Some(id) = user.history.sessions.get(number.0 as usize) else { continue };
        let entry = logged.get(id.as_str());
        if !entry.is_some_and(|entry| entry.made) {
            found.push(Violation::new("G9", format!("session {id} is not in the log"), &[life.born.by]));
            continue;
        }
        let ended = entry.and_then(|entry| entry.ended);
        if let (Some(seen), None) = (life.ended_by, ended)
            && seen.by.outcome != Outcome::Refused(Why::NoSession(Reason::Expired))
        {
            let text = format!("session {id} was ended, as an answer said, and is current in the database");
            found.push(Violation::new("G9", text, &[life.born.by, seen.by]));
        }
        // An edge that has signed a session out remembers that, also if it had ended before for another reason.
        let asked_us = asked.get(number).copied().unwrap_or(NEVER);
        let said = life.checks.iter().find(|op| match op.outcome {
            Outcome::Refused(Why::NoSession(Reason::SignedOut)) if op.returned_us >= asked_us => false,
            // Whoever ends a session whose time is up notes that it had expired; one whose time was up later is noted
            // by whatever ended it.
            Outcome::Refused(Why::NoSession(reason)) => {
                ended.is_some_and(|ended| reason != Reason::Expired && Reason::from_name(ended) != Some(reason))
            }
            _ => false,
        });
        if let Some(op) = said {
            let text = format!("the reason is {ended:?} in the database");
            found.push(Violation::new("G8", text, &[life.born.by, op]));
        }
    }
    let last = user.operations.iter().map(|op| op.returned_us).max().unwrap_or(0);
    if user.enabled.certain(account.disabled, last, last) {
        let text = format!("user {name} is disabled: {}, which is not what was acknowledged", account.disabled);
        found.push(Violation::new("G9", text, &[]));
    }
    if user.role.certain(!account.role, last, last) {
        let text = format!("user {name} has the role: {}, which is not what was acknowledged", account.role);
        found.push(Violation::new("G9", text, &[]));
    }
    found
}

/// Everything that was acknowledged is there once; nothing is there that nobody asked for.
fn numbers_of(
    user: &User<'_>,
    account: &Account,
    counts: &HashMap<&str, usize>,
    logged: &HashMap<&str, Logged<'_>>,
    numbers: &HashMap<&str, SessionNo>,
) -> Vec<Violation> {
    let name = user.operations.first().map_or(0, |op| op.user);
    let count = |action: &str| counts.get(action).copied().unwrap_or(0);
    let fates = |kinds: &[Kind], is: fn(Fate) -> bool| {
        user.attempts.iter().filter(|tried| kinds.contains(&tried.kind) && is(tried.fate)).count()
    };
    let open = |fate: Fate| fate == Fate::Open;
    let succeeded = |fate: Fate| matches!(fate, Fate::Succeeded { .. });
    let failed = |fate: Fate| matches!(fate, Fate::Failed { .. });
    let sessions = [Kind::Login, Kind::ChangePassword];
    let all = [Kind::Login, Kind::ChangePassword, Kind::LogoutEverywhere];
    let revocations = user.operations.iter().filter(|op| op.action == Action::Revoke);
    let revoked = revocations.clone().filter(|op| op.outcome == Outcome::Done).count();
    let stored = |outcome: &str| account.attempts.iter().filter(|row| row.outcome.as_deref() == Some(outcome)).count();
    let made = logged.values().filter(|session| session.made).count();
    let mut found = Vec::new();
    let mut within = |rule: &'static str, what: &str, number: usize, least: usize, most: usize| {
        if !(least..=most).contains(&number) {
            let text = format!("user {name}: {number} {what}, and clients saw from {least} to {most}");
            found.push(Violation::new(rule, text, &[]));
        }
    };
    let (least, more) = (fates(&sessions, succeeded), fates(&sessions, open));
    within("G4", "sessions were made", made, least, least + more);
    let unheard = logged.iter().filter(|(id, session)| session.made && !numbers.contains_key(*id)).count();
    within("G4", "sessions were made that no answer named", unheard, 0, (least + more).saturating_sub(numbers.len()));
    let (least, more) = (fates(&[Kind::LogoutEverywhere], succeeded), fates(&[Kind::LogoutEverywhere], open));
    within("G4", "sign-outs everywhere", count("logout_everywhere"), least, least + more);
    let (least, more) = (fates(&all, failed), fates(&all, open));
    within("G4", "failures were recorded", count("invalid_credentials"), least, least + more);
    within(
        "G4",
        "failures are stored",
        stored("invalid_credentials"),
        count("invalid_credentials"),
        count("invalid_credentials"),
    );
    within(
        "G4",
        "successes are stored",
        stored("succeeded"),
        made + count("logout_everywhere"),
        made + count("logout_everywhere"),
    );
    within("G9", "revocations", count("sessions_revoked"), revoked, revocations.count());
    found
}
