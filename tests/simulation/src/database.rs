//! Postgres as far as it matters: row locks, transaction ids, snapshots, commits that come in another order than begins,
//! rollbacks, a crash that hands ids out again, a failover. What a transaction does to a user's rows is described here as
//! `coordinator/src/db/sessions.rs` does it, around the decisions of `shared/`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use edgekeep_shared::ids::{SessionId, UserId};
use edgekeep_shared::position::Position;
use edgekeep_shared::problem::Reason;
use edgekeep_shared::renewal::{Lifetimes, Renewal, SessionTimes, is_expired};
use edgekeep_shared::revision::Revision;
use edgekeep_shared::revocation::{FeedRow, Reach};
use edgekeep_shared::source::Row;
use edgekeep_shared::takeover::{Placement, SlotUse, Takeover, place};
use edgekeep_shared::token::Claims;
use edgekeep_shared::verdict::{Found, FoundSession, FoundUser, Verdict, decide};

use crate::Sabotage;

/// A session's row.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// When the password was checked.
    pub since_ms: u64,
    /// Its times.
    pub times: SessionTimes,
}

/// A user's rows. Made small: there are many.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Of the state row.
    pub revision: Revision,
    /// Of the state row.
    pub needed_until_ms: u64,
    /// Transaction of the last raise; 0: never.
    pub feed_xid: u64,
    /// The current sessions: the primary key is (user, slot) and there is one slot.
    pub sessions: Vec<Session>,
    /// The user's only role.
    pub admin: bool,
    /// By an administrator.
    pub disabled: bool,
}

/// What a transaction does.
#[derive(Clone, Debug)]
pub enum Change {
    /// Settles a login that has this idempotency key.
    Login { key: u64, presented: Vec<SessionId> },
    /// Settles a password change that has this idempotency key: all sessions end, and there is a new one.
    Password { key: u64 },
    /// Ends this session.
    Logout { session: SessionId },
    /// Ends all sessions.
    LogoutEverywhere,
    /// Disables the user (all sessions end) or enables it.
    Disable(bool),
    /// Gives or takes the role.
    Role(bool),
    /// Raises the times of the session that this proof proves.
    Renew(Box<Claims>),
}

/// What a transaction came to.
#[derive(Clone, Debug)]
pub enum Done {
    /// It has changed rows; nothing is to be signed.
    Changed,
    /// A proof of this session may be signed up to here.
    Sign { session: Session, revision: Revision, admin: bool, until_ms: u64 },
    /// The session is not current.
    Ended(Reason),
    /// The login is refused.
    Refused,
    /// Nobody can say.
    Unknown,
}

/// A transaction that holds its user's locks.
#[derive(Clone, Debug)]
pub struct Open {
    /// Whose rows.
    pub user: u32,
    /// The rows that it commits.
    pub rows: Rows,
    /// Sessions that end with it, and why.
    pub ended: Vec<(SessionId, Reason)>,
    /// The login's key, and the session that it made.
    pub attempt: Option<(u64, SessionId)>,
    /// What it says to who asked.
    pub done: Done,
}

/// A primary, or one that was.
#[derive(Clone, Debug)]
pub struct Database {
    /// The feed epoch.
    pub epoch: u16,
    next_xid: u64,
    durable_xid: u64,
    /// Committed rows, by user.
    pub rows: Vec<Rows>,
    by_xid: BTreeSet<(u64, u32)>,
    /// Transactions in progress.
    pub open: BTreeMap<u64, Open>,
    /// Who holds a user's locks, and who waits for them.
    locks: BTreeMap<u32, VecDeque<u64>>,
    reasons: BTreeMap<SessionId, Reason>,
    attempts: BTreeMap<u64, SessionId>,
    next_session: u64,
}

/// The id of a user.
#[must_use]
pub const fn user_id(user: u32) -> UserId {
    UserId(user as u64 + 1)
}

/// A number that looks random and is never given out twice.
const fn scattered(number: u64) -> u64 {
    let mut x = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 32;
    x = x.wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^ (x >> 32)
}

/// What a transaction carries with it.
struct Moment {
    xid: u64,
    now_ms: u64,
}

impl Database {
    /// Without sessions.
    #[must_use]
    pub fn new(users: u32) -> Self {
        Self {
            epoch: 1,
            next_xid: 1_000,
            durable_xid: 999,
            rows: vec![Rows::default(); users as usize],
            by_xid: BTreeSet::new(),
            open: BTreeMap::new(),
            locks: BTreeMap::new(),
            reasons: BTreeMap::new(),
            attempts: BTreeMap::new(),
            next_session: 1,
        }
    }

    fn new_xid(&mut self) -> u64 {
        self.next_xid += 1;
        self.next_xid - 1
    }

    /// A write that commits by itself: a heartbeat.
    pub fn write(&mut self) -> u64 {
        let xid = self.new_xid();
        self.durable_xid = self.durable_xid.max(xid);
        xid
    }

    /// Takes a place in the user's lock queue; true if the locks are free.
    pub fn queue(&mut self, user: u32, ticket: u64) -> bool {
        let queue = self.locks.entry(user).or_default();
        queue.push_back(ticket);
        queue.len() == 1
    }

    /// The transaction with this ticket is over: who is next?
    pub fn release(&mut self, user: u32, ticket: u64) -> Option<u64> {
        let queue = self.locks.get_mut(&user)?;
        queue.retain(|waiting| *waiting != ticket);
        let next = queue.front().copied();
        if next.is_none() {
            self.locks.remove(&user);
        }
        next
    }

    /// The locks are held: reads everything after them and does everything but commit. Gives the transaction's id.
    pub fn begin(
        &mut self,
        user: u32,
        change: &Change,
        lives: &Lifetimes,
        now_ms: u64,
        sabotage: Option<Sabotage>,
    ) -> u64 {
        let xid = self.new_xid();
        let rows = self.rows[user as usize].clone();
        let mut open = Open { user, rows, ended: vec![], attempt: None, done: Done::Changed };
        let moment = Moment { xid, now_ms };
        let end = |open: &mut Open, ids: &[SessionId], reason: Reason| {
            self.end(open, ids, reason, Reach::Named, &moment);
        };
        match change {
            Change::Login { key, .. } | Change::Password { key } => {
                if let Some(made) = self.attempts.get(key) {
                    // A replay of a success signs like a renewal; of a session that is over it says so.
                    open.done = match open.rows.sessions.iter().find(|session| session.id == *made) {
                        Some(session) if !is_expired(&session.times, now_ms) => self.signed(&open.rows, *session),
                        _ => Done::Refused,
                    };
                } else if open.rows.disabled {
                    open.done = Done::Refused;
                } else {
                    if let Change::Login { presented, .. } = change {
                        end(&mut open, presented, Reason::SignedOut);
                    } else {
                        let all: Vec<SessionId> = open.rows.sessions.iter().map(|session| session.id).collect();
                        self.end(&mut open, &all, Reason::PasswordChanged, Reach::Every, &moment);
                    }
                    let uses: Vec<SlotUse> = open
                        .rows
                        .sessions
                        .iter()
                        .map(|session| SlotUse {
                            slot: 0,
                            authenticated_at_ms: session.since_ms,
                            expired: is_expired(&session.times, now_ms),
                        })
                        .collect();
                    if let Placement::Slot { .. } = place(&uses, 1, Takeover::NewestWins) {
                        let all: Vec<SessionId> = open.rows.sessions.iter().map(|session| session.id).collect();
                        end(&mut open, &all, Reason::SignedInElsewhere);
                        let id = self.next_session();
                        let session = Session { id, since_ms: now_ms, times: lives.of_new_session(now_ms) };
                        open.rows.sessions.push(session);
                        open.attempt = Some((*key, id));
                        open.done = self.signed(&open.rows, session);
                    }
                }
            }
            Change::Logout { session } => end(&mut open, &[*session], Reason::SignedOut),
            Change::LogoutEverywhere | Change::Disable(true) => {
                let all: Vec<SessionId> = open.rows.sessions.iter().map(|session| session.id).collect();
                let reason = if matches!(change, Change::Disable(_)) { Reason::Disabled } else { Reason::SignedOut };
                self.end(&mut open, &all, reason, Reach::Every, &moment);
                open.rows.disabled |= matches!(change, Change::Disable(_));
            }
            Change::Disable(false) => open.rows.disabled = false,
            Change::Role(admin) => {
                if open.rows.admin != *admin {
                    open.rows.admin = *admin;
                    let times: Vec<SessionTimes> = open.rows.sessions.iter().map(|session| session.times).collect();
                    self.revoke(&mut open.rows, Reach::Every, &times, &moment);
                }
            }
            Change::Renew(claims) => self.renew(&mut open, claims, lives, now_ms, sabotage),
        }
        self.open.insert(xid, open);
        xid
    }

    fn next_session(&mut self) -> SessionId {
        let number = self.next_session;
        self.next_session += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&scattered(number).to_be_bytes());
        id[8..].copy_from_slice(&number.to_be_bytes());
        SessionId(id)
    }

    fn signed(&self, rows: &Rows, session: Session) -> Done {
        let revision = Revision::base(rows.revision, self.epoch);
        Done::Sign { session, revision, admin: rows.admin, until_ms: session.times.proof_until_ms }
    }

    fn renew(&self, open: &mut Open, claims: &Claims, lives: &Lifetimes, now_ms: u64, sabotage: Option<Sabotage>) {
        let found = self.found(open.user, &open.rows, claims, now_ms);
        open.done = match decide(claims, found) {
            Verdict::Unknown => Done::Unknown,
            Verdict::Ended(_) if sabotage == Some(Sabotage::UpsertOnRenewal) && !open.rows.disabled => {
                let times = lives.of_new_session(now_ms);
                let session = Session { id: claims.session_id, since_ms: claims.authenticated_at_ms, times };
                open.rows.sessions = vec![session];
                self.signed(&open.rows, session)
            }
            Verdict::Ended(reason) => Done::Ended(reason),
            Verdict::Current(current) => match lives.renew(current.times, now_ms) {
                Renewal::Expired => Done::Ended(Reason::Expired),
                Renewal::SignUpTo { .. } => {
                    let session = open.rows.sessions.iter().find(|session| session.id == claims.session_id);
                    session.map_or(Done::Unknown, |session| self.signed(&open.rows, *session))
                }
                Renewal::Raise(times) => {
                    let session = open.rows.sessions.iter_mut().find(|session| session.id == claims.session_id);
                    match session {
                        None => Done::Unknown,
                        Some(session) => {
                            session.times = times;
                            let session = *session;
                            self.signed(&open.rows, session)
                        }
                    }
                }
            },
        };
    }

    fn end(&self, open: &mut Open, ids: &[SessionId], reason: Reason, reach: Reach, moment: &Moment) {
        let (ending, staying): (Vec<_>, Vec<_>) =
            open.rows.sessions.iter().copied().partition(|session| ids.contains(&session.id));
        open.rows.sessions = staying;
        for session in &ending {
            let expired = is_expired(&session.times, moment.now_ms);
            open.ended.push((session.id, if expired { Reason::Expired } else { reason }));
        }
        let times: Vec<SessionTimes> = ending.iter().map(|session| session.times).collect();
        self.revoke(&mut open.rows, reach, &times, moment);
    }

    fn revoke(&self, rows: &mut Rows, reach: Reach, sessions: &[SessionTimes], moment: &Moment) {
        let before = FeedRow { revision: rows.revision, needed_until_ms: rows.needed_until_ms };
        let Some(raised) = before.revoke(self.epoch, reach, sessions, moment.now_ms) else { return };
        rows.revision = raised.revision;
        rows.needed_until_ms = raised.needed_until_ms;
        rows.feed_xid = moment.xid;
    }

    /// Commits; `None` if the transaction is gone.
    pub fn commit(&mut self, xid: u64) -> Option<Open> {
        let open = self.open.remove(&xid)?;
        self.durable_xid = self.durable_xid.max(xid);
        let place = &mut self.rows[open.user as usize];
        if place.feed_xid != open.rows.feed_xid {
            self.by_xid.remove(&(place.feed_xid, open.user));
            self.by_xid.insert((open.rows.feed_xid, open.user));
        }
        *place = open.rows.clone();
        self.reasons.extend(open.ended.iter().copied());
        self.attempts.extend(open.attempt);
        Some(open)
    }

    /// `pg_current_snapshot()` and the rows of the feed past a cursor, as one statement sees them.
    #[must_use]
    pub fn read(&self, cursor: Option<&Position>, now_ms: u64) -> (Position, Vec<Row>) {
        let position = Position { xmax: self.next_xid, xip: self.open.keys().copied().collect() };
        let row = |(xid, user): &(u64, u32)| {
            let rows = &self.rows[*user as usize];
            let row = Row {
                user_id: user_id(*user),
                revision: rows.revision,
                needed_until_ms: rows.needed_until_ms,
                feed_xid: *xid,
            };
            (rows.needed_until_ms > now_ms).then_some(row)
        };
        let rows = match cursor {
            None => self.by_xid.iter().filter_map(row).collect(),
            Some(at) => {
                let late = at.xip.iter().flat_map(|xid| self.by_xid.range((*xid, 0)..=(*xid, u32::MAX)));
                late.chain(self.by_xid.range((at.xmax, 0)..)).filter_map(row).collect()
            }
        };
        (position, rows)
    }

    /// What a statement finds about a proof.
    #[must_use]
    pub fn found(&self, user: u32, rows: &Rows, claims: &Claims, now_ms: u64) -> Found {
        let session = rows.sessions.iter().find(|session| session.id == claims.session_id);
        Found {
            epoch: self.epoch,
            now_ms,
            user: Some(FoundUser {
                revision: rows.revision,
                name: Some(name(user)),
                roles: roles(rows.admin),
                disabled: rows.disabled,
            }),
            session: session.map(|session| FoundSession {
                user_id: user_id(user),
                authenticated_at_ms: session.since_ms,
                times: session.times,
            }),
            ended: self.reasons.get(&claims.session_id).copied(),
        }
    }

    /// Crash and restart in place: open transactions are gone, and so is the memory of the ids that they had.
    pub fn crash(&mut self) {
        self.open.clear();
        self.locks.clear();
        self.next_xid = self.durable_xid + 1;
    }

    /// A synchronous standby becomes primary: it has everything that was acknowledged, on another timeline.
    #[must_use]
    pub fn promoted(&self) -> Self {
        let mut promoted = self.clone();
        promoted.crash();
        promoted.epoch += 1;
        promoted
    }
}

/// A user's name.
#[must_use]
pub fn name(user: u32) -> String {
    format!("user{user}")
}

/// The roles in a proof.
#[must_use]
pub fn roles(admin: bool) -> Vec<String> {
    if admin { vec!["admin".to_owned()] } else { vec![] }
}
