//! A renewal at a coordinator, with a pause between any two of its steps: look, lock and read, commit, sign.

use edgekeep_shared::renewal::Renewal;
use edgekeep_shared::revision::Revision;

use super::database::{Open, Session};
use super::world::World;
use super::{Feed, TICK_MS};
use crate::Sabotage;

/// What a statement read of the user and the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seen {
    revision: Revision,
    admin: bool,
}

/// How far a renewal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// It must write; it holds no lock.
    ToRaise,
    /// It holds the locks and will commit this `proof_until`.
    Locked(u64),
    /// A proof may be signed up to here.
    ToSign(u64),
}

/// A renewal under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Renewing {
    /// As it was read.
    session: Session,
    seen: Seen,
    /// How far it is.
    pub stage: Stage,
}

impl World {
    fn seen(&self, feed: &Feed) -> Seen {
        Seen { revision: feed.base(self.db.rows.revision, self.db.epoch), admin: self.db.rows.admin }
    }

    /// One statement, without a lock.
    pub(super) fn look(&mut self, feed: &Feed, id: u8) {
        let Some(session) = self.db.session(id).copied() else { return };
        let seen = self.seen(feed);
        let stage = match feed.lives().renew(session.times(), self.now_ms()) {
            Renewal::Expired => return,
            Renewal::SignUpTo { renew_after_ms } => Stage::ToSign(renew_after_ms),
            Renewal::Raise(_) => Stage::ToRaise,
        };
        self.renewals.push(Renewing { session, seen, stage });
    }

    /// Locks the user's rows and reads them again.
    pub(super) fn lock_renewal(&mut self, feed: &Feed, at: usize) {
        let renewing = self.renewals[at];
        let mut rows = self.db.rows.clone();
        let here = rows.sessions.iter_mut().find(|session| session.id == renewing.session.id);
        let now_ms = self.now_ms();
        let session = match here {
            Some(session) => session,
            None if feed.broken(Sabotage::UpsertOnRenewal) => {
                rows.sessions.push(renewing.session);
                let Some(session) = rows.sessions.last_mut() else { return };
                session
            }
            None => {
                self.renewals.remove(at);
                return;
            }
        };
        let stage = match feed.lives().renew(session.times(), now_ms) {
            Renewal::Expired => {
                self.renewals.remove(at);
                return;
            }
            Renewal::SignUpTo { renew_after_ms } => Stage::ToSign(renew_after_ms),
            Renewal::Raise(times) => {
                *session = session.with(times);
                Stage::Locked(times.proof_until_ms)
            }
        };
        if let Stage::Locked(until_ms) = stage {
            let xid = self.db.next_xid;
            self.db.next_xid += 1;
            let id = renewing.session.id;
            self.db.open = Some(Open { xid, rows, proof: Some((id, until_ms)) });
        }
        let seen = if feed.broken(Sabotage::ReadBeforeLock) { renewing.seen } else { self.seen(feed) };
        let stage = match stage {
            Stage::Locked(until_ms) if feed.broken(Sabotage::SignedBeforeCommit) => Stage::ToSign(until_ms),
            stage => stage,
        };
        self.renewals[at] = Renewing { seen, stage, ..renewing };
    }

    /// The transaction of this session's renewal, or its login, has committed: a proof may be signed.
    pub(super) fn may_sign(&mut self, feed: &Feed, id: u8, until_ms: u64) {
        if let Some(renewing) = self.renewals.iter_mut().find(|renewing| renewing.stage == Stage::Locked(until_ms)) {
            renewing.stage = Stage::ToSign(until_ms);
        } else if !feed.broken(Sabotage::SignedBeforeCommit) || self.proofs.iter().all(|proof| proof.session != id) {
            let Some(session) = self.db.session(id).copied() else { return };
            self.renewals.push(Renewing { session, seen: self.seen(feed), stage: Stage::ToSign(until_ms) });
        }
    }

    /// The locks are gone without a commit.
    pub(super) fn drop_locked(&mut self) {
        self.renewals.retain(|renewing| !matches!(renewing.stage, Stage::Locked(_)));
    }

    /// Signs what may be signed; nothing is read any more.
    pub(super) fn sign(&mut self, feed: &Feed, at: usize) {
        let Renewing { session, seen, stage } = self.renewals.remove(at);
        let Stage::ToSign(until_ms) = stage else { return };
        let until_ms = if feed.broken(Sabotage::SignedBeyondProofUntil) { until_ms + TICK_MS } else { until_ms };
        self.signed(&session, seen.revision, seen.admin, until_ms);
    }
}
