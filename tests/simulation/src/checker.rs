//! Watches the run from outside, with the world's own time and the order of commits: what nobody in the world can know.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use edgekeep_shared::ids::SessionId;

use crate::Sabotage;
use crate::clock::database_ms;
use crate::database::{Open, Rows};
use edgekeep_op::Route;

/// A broken guarantee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// "G1" to "G8", or "calm" for a refusal while nothing was disturbed.
    pub guarantee: &'static str,
    /// What was seen.
    pub what: String,
    /// When, in milliseconds since the start.
    pub at_ms: u64,
}

impl Violation {
    /// It is what this sabotage breaks; in a whole world any violation counts.
    #[must_use]
    pub fn shows(&self, sabotage: Option<Sabotage>) -> bool {
        sabotage.is_none_or(|sabotage| sabotage.breaks().contains(&self.guarantee))
    }
}

/// What is known of a session.
#[derive(Clone, Copy, Debug)]
struct Life {
    user: u32,
    /// Its end became visible.
    ended_us: Option<u64>,
    /// It expires then, coordinator time; renewals that write move it.
    until_ms: u64,
    last_accept_us: u64,
    presented_after: bool,
    /// Somebody was told that it is over.
    told: bool,
}

impl Life {
    /// When it stopped, or will stop, being current.
    fn end_us(&self) -> u64 {
        let expires_us = (self.until_ms - database_ms(0)).saturating_mul(1_000);
        self.ended_us.map_or(expires_us, |ended_us| ended_us.min(expires_us))
    }
}

/// The history of a user's role: whether it is held, and since when.
#[derive(Clone, Copy, Debug, Default)]
struct Role {
    admin: bool,
    since_us: u64,
}

/// What is known of the run.
#[derive(Debug)]
pub struct Checker {
    bound_us: u64,
    sessions: BTreeMap<SessionId, Life>,
    roles: Vec<Role>,
    keys: BTreeMap<u64, SessionId>,
    found: Option<Violation>,
    /// From the end of a session to the last time that a request passed with it, in microseconds.
    pub last_accepts_us: Vec<u64>,
}

/// A request as the checker sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The newest session of which it presented a proof.
    pub session: Option<SessionId>,
    /// Whose.
    pub user: u32,
    /// What it asked for.
    pub route: Route,
    /// When it came.
    pub started_us: u64,
    /// When it was decided.
    pub now_us: u64,
}

impl Checker {
    /// Nothing has happened.
    #[must_use]
    pub fn new(users: u32, bound_ms: u32) -> Self {
        Self {
            bound_us: u64::from(bound_ms) * 1_000,
            sessions: BTreeMap::new(),
            roles: vec![Role::default(); users as usize],
            keys: BTreeMap::new(),
            found: None,
            last_accepts_us: vec![],
        }
    }

    /// The first violation.
    #[must_use]
    pub const fn found(&self) -> Option<&Violation> {
        self.found.as_ref()
    }

    fn broken(&mut self, guarantee: &'static str, now_us: u64, what: String) {
        if self.found.is_none() {
            self.found = Some(Violation { guarantee, what, at_ms: now_us / 1_000 });
        }
    }

    /// A transaction has become visible.
    pub fn committed(&mut self, open: &Open, before: &Rows, now_us: u64) {
        if open.rows.sessions.len() > 1 {
            self.broken("G1", now_us, format!("user {} has two sessions", open.user));
        }
        if let Some((key, session)) = open.attempt
            && self.keys.insert(key, session).is_some_and(|other| other != session)
        {
            self.broken("G4", now_us, format!("user {} has two sessions of one login", open.user));
        }
        for session in &open.rows.sessions {
            let until_ms = session.times.idle_expires_at_ms.min(session.times.expires_at_ms);
            let mut again = false;
            match self.sessions.entry(session.id) {
                Entry::Vacant(entry) => {
                    entry.insert(Life {
                        user: open.user,
                        ended_us: None,
                        until_ms,
                        last_accept_us: 0,
                        presented_after: false,
                        told: false,
                    });
                }
                Entry::Occupied(mut entry) => {
                    let life = entry.get_mut();
                    // A renewal that looked at the clock in time may commit after the idle expiry, if nobody was told.
                    again = life.ended_us.is_some() || (life.told && life.until_ms != until_ms);
                    life.until_ms = until_ms;
                }
            }
            if again {
                self.broken("G5", now_us, format!("an ended session of user {} is back", open.user));
            }
        }
        for session in &before.sessions {
            if open.rows.sessions.iter().all(|still| still.id != session.id)
                && let Some(life) = self.sessions.get_mut(&session.id)
            {
                life.ended_us.get_or_insert(now_us);
            }
        }
        if open.rows.admin != before.admin {
            self.roles[open.user as usize] = Role { admin: open.rows.admin, since_us: now_us };
        }
    }

    /// A failover may not bring back, nor lose, what was acknowledged.
    pub fn failed_over(&mut self, rows: &[Rows], now_us: u64) {
        let here: std::collections::BTreeSet<SessionId> =
            rows.iter().flat_map(|rows| rows.sessions.iter().map(|session| session.id)).collect();
        let wrong = self.sessions.iter().find(|(id, life)| life.ended_us.is_none() != here.contains(*id));
        if let Some(user) = wrong.map(|(_, life)| life.user) {
            self.broken("G5", now_us, format!("the failover changed the sessions of user {user}"));
        }
    }

    /// A request passed. `admin`: the origin was told of the role.
    pub fn accepted(&mut self, seen: &Seen, admin: bool) {
        let Seen { user, route, started_us, now_us, .. } = *seen;
        let Some((session, life)) = seen.session.and_then(|id| Some((id, self.sessions.get_mut(&id)?))) else {
            self.broken("G5", now_us, format!("user {user} passes with a session that never was"));
            return;
        };
        let end_us = life.end_us();
        life.last_accept_us = now_us;
        life.presented_after |= end_us < started_us;
        let bound_us = if route == Route::Short { self.bound_us / 2 } else { self.bound_us };
        let late_ms = now_us.saturating_sub(end_us) / 1_000;
        if route == Route::Strict && end_us < started_us {
            let what = format!("user {user} passes a strict route {late_ms} ms after the end of session {session}");
            self.broken("G3", now_us, what);
        }
        if now_us > end_us.saturating_add(bound_us) {
            self.broken("G2", now_us, format!("user {user} passes {late_ms} ms after the end of session {session}"));
        }
        let role = self.roles[user as usize];
        if admin && !role.admin && now_us > role.since_us + bound_us {
            let late_ms = (now_us - role.since_us) / 1_000;
            self.broken("G2", now_us, format!("user {user} passes as admin {late_ms} ms after losing the role"));
        }
    }

    /// A request was told that there is no session.
    pub fn signed_out(&mut self, seen: &Seen, reason: &str) {
        let Seen { user, started_us, now_us, .. } = *seen;
        let Some(life) = seen.session.and_then(|id| self.sessions.get_mut(&id)) else { return };
        life.presented_after |= life.end_us() < started_us;
        life.told = true;
        if life.end_us() > now_us {
            self.broken("G8", now_us, format!("user {user} is told '{reason}' of a session that is current (or G7)"));
        }
    }

    /// A request was told that it lacks the role.
    pub fn forbidden(&mut self, seen: &Seen) {
        let role = self.roles[seen.user as usize];
        if role.admin && seen.now_us > role.since_us + self.bound_us {
            self.broken(
                "G2",
                seen.now_us,
                format!("user {} is told 'forbidden' long after getting the role", seen.user),
            );
        }
    }

    /// A request was told that nobody can know.
    pub fn unknown(&mut self, seen: &Seen, calm: bool) {
        if let Some(life) = seen.session.and_then(|id| self.sessions.get_mut(&id)) {
            life.presented_after |= life.end_us() < seen.started_us;
        }
        if calm {
            self.broken("calm", seen.now_us, format!("user {} gets 503 while nothing is disturbed", seen.user));
        }
    }

    /// Whose session this is.
    #[must_use]
    pub fn user_of(&self, session: SessionId) -> Option<u32> {
        self.sessions.get(&session).map(|life| life.user)
    }

    /// Sums up the accepts after the end, of sessions that were presented after it.
    pub fn sum_up(&mut self) {
        self.last_accepts_us = self
            .sessions
            .values()
            .filter(|life| life.presented_after)
            .filter_map(|life| life.ended_us.map(|ended_us| life.last_accept_us.saturating_sub(ended_us)))
            .collect();
        self.last_accepts_us.sort_unstable();
    }
}
