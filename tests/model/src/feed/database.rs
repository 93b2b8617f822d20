//! Postgres as far as it matters: row locks, transaction ids, snapshots, a crash, a failover.

use edgekeep_shared::ids::UserId;
use edgekeep_shared::position::Position;
use edgekeep_shared::renewal::SessionTimes;
use edgekeep_shared::revision::Revision;
use edgekeep_shared::revocation::{FeedRow, Reach};
use edgekeep_shared::source::Row;
use edgekeep_shared::takeover::{Placement, SlotUse, place};
use edgekeep_shared::token::Claims;
use edgekeep_shared::verdict::{Found, FoundSession, FoundUser};

use super::world::NOISE_NEEDED_UNTIL_MS;
use super::{Feed, Paged, TICK_MS};
use crate::Sabotage;

/// A session's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    /// Never reused.
    pub id: u8,
    /// Its slot.
    pub slot: u32,
    /// When it began.
    pub since_ms: u64,
    /// `proof_until`.
    pub proof_until_ms: u64,
    /// Idle expiry.
    pub idle_ms: u64,
    /// Absolute expiry.
    pub expires_ms: u64,
}

impl Session {
    fn begin(feed: &Feed, id: u8, slot: u32, now_ms: u64) -> Self {
        Self { id, slot, since_ms: now_ms, proof_until_ms: 0, idle_ms: 0, expires_ms: 0 }
            .with(feed.lives().of_new_session(now_ms))
    }

    pub(super) const fn with(self, times: SessionTimes) -> Self {
        Self {
            proof_until_ms: times.proof_until_ms,
            idle_ms: times.idle_expires_at_ms,
            expires_ms: times.expires_at_ms,
            ..self
        }
    }

    pub(super) const fn times(&self) -> SessionTimes {
        SessionTimes {
            proof_until_ms: self.proof_until_ms,
            idle_expires_at_ms: self.idle_ms,
            expires_at_ms: self.expires_ms,
        }
    }
}

/// The user's rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rows {
    /// Of the state row.
    pub revision: Revision,
    /// Of the state row.
    pub needed_until_ms: u64,
    /// Transaction of the last raise; 0: never.
    pub feed_xid: u64,
    /// When the last raise committed (only a sabotaged feed looks at it).
    pub raised_ms: u64,
    /// The current sessions.
    pub sessions: Vec<Session>,
    /// The user's only role.
    pub admin: bool,
}

impl Rows {
    /// A renewal raises the times of its session.
    pub(super) fn raise_times(&mut self, id: u8, times: SessionTimes) {
        for session in self.sessions.iter_mut().filter(|session| session.id == id) {
            *session = session.with(times);
        }
    }
}

/// What a transaction does to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A login on the other device.
    Login,
    /// The newest session ends.
    Logout,
    /// All sessions end, also one that nobody knows of.
    LogoutEverywhere,
    /// The user loses the role.
    Demote,
}

/// A transaction that holds the user's locks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Open {
    /// Its id.
    pub xid: u64,
    /// The rows that it commits.
    pub rows: Rows,
    /// The session of which a proof is signed after the commit, and until when it may reach.
    pub proof: Option<(u8, u64)>,
    /// No session of before is left, known or not.
    pub everywhere: bool,
}

/// A primary.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Database {
    /// The feed epoch.
    pub epoch: u16,
    /// The next transaction id.
    pub next_xid: u64,
    /// The highest committed one.
    pub durable_xid: u64,
    /// Committed.
    pub rows: Rows,
    /// Not committed yet.
    pub open: Option<Open>,
    /// What an asynchronous standby has: the rows before the last commit, and the highest id that it knows.
    pub standby: Option<(Rows, u64)>,
    /// Committed rows of other users.
    pub others: Vec<Row>,
}

impl Feed {
    /// What a proof signed now carries.
    pub(crate) fn base(&self, row: Revision, epoch: u16) -> Revision {
        let epoch = if self.broken(Sabotage::EqualRevisionsAfterFailover) { 1 } else { epoch };
        Revision::base(row, epoch)
    }

    /// Stores what `shared/` decides.
    fn revoke(&self, rows: &mut Rows, reach: Reach, ended: &[SessionTimes], by: &By) {
        let before = FeedRow { revision: rows.revision, needed_until_ms: rows.needed_until_ms };
        let reach = if self.broken(Sabotage::LostNotReached) { Reach::Named } else { reach };
        let Some(mut raised) = before.revoke(by.epoch, reach, ended, by.now_ms) else { return };
        let known_until_ms = ended.iter().map(|times| times.proof_until_ms).max().unwrap_or(0);
        if self.broken(Sabotage::EqualRevisionsAfterFailover) {
            raised.revision = self.base(rows.revision, by.epoch).raised();
        }
        if self.broken(Sabotage::NeededUntilOverwritten) {
            raised.needed_until_ms = known_until_ms;
        }
        if self.broken(Sabotage::LostNotCovered) {
            raised.needed_until_ms = before.needed_until_ms.max(known_until_ms);
        }
        rows.revision = raised.revision;
        rows.needed_until_ms = raised.needed_until_ms;
        rows.feed_xid = by.xid;
    }

    fn end(&self, rows: &mut Rows, reach: Reach, by: &By, ends: impl Fn(&Session) -> bool) {
        let ended: Vec<_> = rows.sessions.iter().filter(|session| ends(session)).map(Session::times).collect();
        rows.sessions.retain(|session| !ends(session));
        self.revoke(rows, reach, &ended, by);
    }
}

/// The transaction that changes rows.
struct By {
    xid: u64,
    epoch: u16,
    now_ms: u64,
}

impl Database {
    /// One session, number 1, begun at `now_ms`.
    pub(super) fn new(feed: &Feed, now_ms: u64) -> Self {
        let rows = Rows {
            revision: Revision::first_of_epoch(1),
            needed_until_ms: 0,
            feed_xid: 0,
            raised_ms: 0,
            sessions: vec![Session::begin(feed, 1, 0, now_ms)],
            admin: true,
        };
        let mut db = Self { epoch: 1, next_xid: 10, durable_xid: 9, rows, open: None, standby: None, others: vec![] };
        let revision = Revision::first_of_epoch(1).raised();
        let other =
            |user, feed_xid| Row { user_id: UserId(user), revision, needed_until_ms: NOISE_NEEDED_UNTIL_MS, feed_xid };
        match feed.scenario.paged {
            None => {}
            Some(Paged::LongAgo) => db.others = vec![other(2, 5)],
            Some(Paged::WhileOpen) => {
                db.begin(feed, Change::Logout, 0, now_ms);
                db.others = vec![other(2, 11), other(3, 12)];
                (db.next_xid, db.durable_xid) = (13, 12);
            }
        }
        db
    }

    /// What lies past this position and may still be needed, in any order.
    pub(super) fn rows_past(&self, feed: &Feed, position: Option<&Position>, now_ms: u64) -> Vec<Row> {
        let rows = &self.rows;
        let kept_ms = rows.raised_ms + TICK_MS;
        let by_age = feed.broken(Sabotage::EntryKeptByAge);
        let own = Row {
            user_id: UserId(1),
            revision: rows.revision,
            needed_until_ms: if by_age { kept_ms } else { rows.needed_until_ms },
            feed_xid: rows.feed_xid,
        };
        let unseen = |row: &Row| position.is_none_or(|position| !position.sees(row.feed_xid));
        let all = self.others.iter().copied().chain((rows.feed_xid > 0).then_some(own));
        all.filter(|row| row.needed_until_ms > now_ms && unseen(row)).collect()
    }

    /// What one statement finds about a proof.
    pub(super) fn found(&self, feed: &Feed, claims: &Claims, now_ms: u64) -> Found {
        let session = self.rows.sessions.iter().find(|session| claims.session_id.0 == [session.id; 16]);
        Found {
            epoch: if feed.broken(Sabotage::EqualRevisionsAfterFailover) { 1 } else { self.epoch },
            now_ms,
            user: Some(FoundUser {
                revision: self.rows.revision,
                name: Some(claims.name.clone()),
                roles: super::edge::roles(self.rows.admin),
                disabled: false,
            }),
            session: session.map(|session| FoundSession {
                user_id: UserId(1),
                authenticated_at_ms: session.since_ms,
                times: session.times(),
            }),
            ended: None,
        }
    }

    /// Takes the locks and an id, and does everything but commit.
    pub(super) fn begin(&mut self, feed: &Feed, change: Change, session_id: u8, now_ms: u64) {
        let mut rows = self.rows.clone();
        let by = By { xid: self.next_xid, epoch: self.epoch, now_ms };
        self.next_xid += 1;
        let mut proof = None;
        match change {
            Change::Login => {
                let uses: Vec<_> = rows.sessions.iter().map(|session| slot_use(session, now_ms)).collect();
                if let Placement::Slot { slot, ends } =
                    place(&uses, feed.scenario.sessions_per_user, feed.scenario.takeover)
                {
                    feed.end(&mut rows, Reach::Named, &by, |session| {
                        session.slot == slot || ends.contains(&session.slot)
                    });
                    let session = Session::begin(feed, session_id, slot, now_ms);
                    proof = Some((session_id, session.proof_until_ms));
                    rows.sessions.push(session);
                }
            }
            Change::Logout => {
                let newest = rows.sessions.iter().map(|session| session.id).max();
                feed.end(&mut rows, Reach::Named, &by, |session| Some(session.id) == newest);
            }
            Change::LogoutEverywhere => feed.end(&mut rows, Reach::Every, &by, |_| true),
            Change::Demote => {
                rows.admin = false;
                let times: Vec<_> = rows.sessions.iter().map(Session::times).collect();
                feed.revoke(&mut rows, Reach::Every, &times, &by);
            }
        }
        self.open = Some(Open { xid: by.xid, rows, proof, everywhere: change == Change::LogoutEverywhere });
    }

    /// Commits, if there is something to.
    pub(super) fn commit(&mut self, now_ms: u64, lossy: bool) -> Option<Open> {
        let mut open = self.open.take()?;
        if open.rows.feed_xid == open.xid {
            open.rows.raised_ms = now_ms;
        }
        self.standby = lossy.then(|| (self.rows.clone(), self.durable_xid));
        self.rows = open.rows.clone();
        self.durable_xid = self.durable_xid.max(open.xid);
        Some(open)
    }

    /// Crash and restart in place: what was open is gone, and so is the memory of the ids that it had.
    pub(super) fn crash(&mut self) {
        self.open = None;
        self.next_xid = self.durable_xid + 1;
    }

    /// A standby becomes primary: another timeline, so another epoch. Ids go on from what it knows.
    pub(super) fn promoted(&self) -> Self {
        let (rows, durable_xid) = self.standby.clone().unwrap_or_else(|| (self.rows.clone(), self.durable_xid));
        Self {
            epoch: self.epoch + 1,
            next_xid: durable_xid + 1,
            durable_xid,
            rows,
            open: None,
            standby: None,
            others: self.others.clone(),
        }
    }

    /// A write of the reader's own.
    pub(super) fn heartbeat(&mut self) -> u64 {
        let xid = self.next_xid;
        self.next_xid += 1;
        self.durable_xid = xid;
        xid
    }

    /// `pg_current_snapshot()`.
    pub(super) fn snapshot(&self) -> Option<Position> {
        Position::new(self.next_xid, self.open.iter().map(|open| open.xid).collect())
    }

    /// A session that is current now.
    pub(super) fn session(&self, id: u8) -> Option<&Session> {
        self.rows.sessions.iter().find(|session| session.id == id)
    }
}

fn slot_use(session: &Session, now_ms: u64) -> SlotUse {
    let expired = edgekeep_shared::renewal::is_expired(&session.times(), now_ms);
    SlotUse { slot: session.slot, authenticated_at_ms: session.since_ms, expired }
}
