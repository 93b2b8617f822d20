//! A renewal at a coordinator, with a pause between any two of its steps: look, lock and read, commit, sign.

use edgekeep_shared::renewal::Renewal;
use edgekeep_shared::revision::Revision;
use edgekeep_shared::verdict::{Current, Verdict, decide};

use super::database::{Database, Open, Session};
use super::edge::claims;
use super::world::{Proof, World};
use super::{Feed, TICK_MS};
use crate::Sabotage;

/// What a statement read of the user and the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seen {
    revision: Revision,
    admin: bool,
}

impl From<&Current> for Seen {
    fn from(current: &Current) -> Self {
        Self { revision: current.revision, admin: !current.roles.is_empty() }
    }
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
    /// What is renewed.
    pub proof: Proof,
    /// As it was read.
    session: Session,
    seen: Seen,
    /// How far it is.
    pub stage: Stage,
}

impl World {
    /// What the database says of a proof: `shared::verdict`.
    fn current(&self, feed: &Feed, db: &Database, proof: &Proof) -> Option<Current> {
        let claims = claims(proof);
        match decide(&claims, db.found(feed, &claims, self.now_ms())) {
            Verdict::Current(current) => Some(current),
            Verdict::Ended(_) | Verdict::Unknown => None,
        }
    }

    /// The last proof of this session that was signed.
    fn proof_of(&self, session: u8) -> Option<Proof> {
        self.proofs.iter().rfind(|proof| proof.session == session).copied()
    }

    /// One statement, without a lock.
    pub(super) fn look(&mut self, feed: &Feed, id: u8) {
        let (Some(session), Some(proof)) = (self.db.session(id).copied(), self.proof_of(id)) else { return };
        let Some(current) = self.current(feed, &self.db, &proof) else { return };
        let stage = match feed.lives().renew(current.times, self.now_ms()) {
            Renewal::Expired => return,
            Renewal::SignUpTo { renew_after_ms } => Stage::ToSign(renew_after_ms),
            Renewal::Raise(_) => Stage::ToRaise,
        };
        self.renewals.push(Renewing { proof, session, seen: Seen::from(&current), stage });
    }

    /// Locks the user's rows and reads them again.
    pub(super) fn lock_renewal(&mut self, feed: &Feed, at: usize) {
        let renewing = self.renewals[at];
        let mut locked = self.db.clone();
        if feed.broken(Sabotage::UpsertOnRenewal) && locked.session(renewing.session.id).is_none() {
            locked.rows.sessions.push(renewing.session);
        }
        let Some(current) = self.current(feed, &locked, &renewing.proof) else {
            self.renewals.remove(at);
            return;
        };
        let stage = match feed.lives().renew(current.times, self.now_ms()) {
            Renewal::Expired => {
                self.renewals.remove(at);
                return;
            }
            Renewal::SignUpTo { renew_after_ms } => Stage::ToSign(renew_after_ms),
            Renewal::Raise(times) => {
                let (mut rows, xid) = (locked.rows, self.db.next_xid);
                rows.raise_times(renewing.session.id, times);
                self.db.next_xid += 1;
                let proof = Some((renewing.session.id, times.proof_until_ms));
                self.db.open = Some(Open { xid, rows, proof, everywhere: false });
                Stage::Locked(times.proof_until_ms)
            }
        };
        let seen = if feed.broken(Sabotage::ReadBeforeLock) { renewing.seen } else { Seen::from(&current) };
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
            let rows = &self.db.rows;
            let seen = Seen { revision: feed.base(rows.revision, self.db.epoch), admin: rows.admin };
            let proof = World::proof(&session, seen.revision, seen.admin, until_ms);
            self.renewals.push(Renewing { proof, session, seen, stage: Stage::ToSign(until_ms) });
        }
    }

    /// The locks are gone without a commit.
    pub(super) fn drop_locked(&mut self) {
        self.renewals.retain(|renewing| !matches!(renewing.stage, Stage::Locked(_)));
    }

    /// Signs what may be signed; nothing is read any more.
    pub(super) fn sign(&mut self, feed: &Feed, at: usize) {
        let Renewing { session, seen, stage, .. } = self.renewals.remove(at);
        let Stage::ToSign(until_ms) = stage else { return };
        let until_ms = if feed.broken(Sabotage::SignedBeyondProofUntil) { until_ms + TICK_MS } else { until_ms };
        self.signed(&session, seen.revision, seen.admin, until_ms);
    }
}
