//! Postgres as far as it matters: row locks, transaction ids, snapshots, a crash, a failover.

use edgekeep_shared::position::Position;
use edgekeep_shared::renewal::SessionTimes;
use edgekeep_shared::revision::Revision;
use edgekeep_shared::revocation::{FeedRow, Reach};
use edgekeep_shared::takeover::{Placement, SlotUse, Takeover, place};

use super::Feed;
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

/// What a transaction does to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A login on the other device.
    Login,
    /// The newest session ends.
    Logout,
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
    /// What an asynchronous standby has: the rows before the last commit.
    pub standby: Option<Rows>,
}

impl Feed {
    /// What a proof signed now carries.
    pub(crate) fn base(&self, row: Revision, epoch: u16) -> Revision {
        let epoch = if self.broken(Sabotage::EqualRevisionsAfterFailover) { 1 } else { epoch };
        Revision::base(row, epoch)
    }

    /// Stores what `shared/` decides.
    fn revoke(&self, rows: &mut Rows, epoch: u16, xid: u64, ended: &[SessionTimes], now_ms: u64) {
        let before = FeedRow { revision: rows.revision, needed_until_ms: rows.needed_until_ms };
        let Some(mut raised) = before.revoke(epoch, Reach::Named, ended, now_ms) else { return };
        let known_until_ms = ended.iter().map(|times| times.proof_until_ms).max().unwrap_or(0);
        if self.broken(Sabotage::EqualRevisionsAfterFailover) {
            raised.revision = self.base(rows.revision, epoch).raised();
        }
        if self.broken(Sabotage::NeededUntilOverwritten) {
            raised.needed_until_ms = known_until_ms;
        }
        if self.broken(Sabotage::LostNotCovered) {
            raised.needed_until_ms = before.needed_until_ms.max(known_until_ms);
        }
        rows.revision = raised.revision;
        rows.needed_until_ms = raised.needed_until_ms;
        rows.feed_xid = xid;
    }

    fn end(&self, rows: &mut Rows, epoch: u16, xid: u64, now_ms: u64, ends: impl Fn(&Session) -> bool) {
        let ended: Vec<_> = rows.sessions.iter().filter(|session| ends(session)).map(Session::times).collect();
        rows.sessions.retain(|session| !ends(session));
        self.revoke(rows, epoch, xid, &ended, now_ms);
    }
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
        Self { epoch: 1, next_xid: 10, durable_xid: 9, rows, open: None, standby: None }
    }

    /// Takes the locks and an id, and does everything but commit.
    pub(super) fn begin(&mut self, feed: &Feed, change: Change, session_id: u8, now_ms: u64) {
        let (xid, epoch, mut rows) = (self.next_xid, self.epoch, self.rows.clone());
        self.next_xid += 1;
        let mut proof = None;
        match change {
            Change::Login => {
                let uses: Vec<_> = rows.sessions.iter().map(|session| slot_use(session, now_ms)).collect();
                if let Placement::Slot { slot, ends } =
                    place(&uses, feed.scenario.sessions_per_user, Takeover::NewestWins)
                {
                    feed.end(&mut rows, epoch, xid, now_ms, |session| {
                        session.slot == slot || ends.contains(&session.slot)
                    });
                    let session = Session::begin(feed, session_id, slot, now_ms);
                    proof = Some((session_id, session.proof_until_ms));
                    rows.sessions.push(session);
                }
            }
            Change::Logout => {
                let newest = rows.sessions.iter().map(|session| session.id).max();
                feed.end(&mut rows, epoch, xid, now_ms, |session| Some(session.id) == newest);
            }
            Change::Demote => {
                rows.admin = false;
                let times: Vec<_> = rows.sessions.iter().map(Session::times).collect();
                feed.revoke(&mut rows, epoch, xid, &times, now_ms);
            }
        }
        self.open = Some(Open { xid, rows, proof });
    }

    /// Commits, if there is something to.
    pub(super) fn commit(&mut self, now_ms: u64, lossy: bool) -> Option<Open> {
        let mut open = self.open.take()?;
        if open.rows.feed_xid == open.xid {
            open.rows.raised_ms = now_ms;
        }
        self.standby = lossy.then(|| core::mem::replace(&mut self.rows, open.rows.clone()));
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
        let rows = self.standby.clone().unwrap_or_else(|| self.rows.clone());
        Self {
            epoch: self.epoch + 1,
            next_xid: self.durable_xid + 1,
            durable_xid: self.durable_xid,
            rows,
            open: None,
            standby: None,
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
