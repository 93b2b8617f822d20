//! Strict checks and renewals at a coordinator: the shell of `coordinator/src/check`; what the database says is decided by
//! `shared::verdict`, how far a proof reaches by `shared::renewal`.

use edgekeep_shared::api::{CheckAnswer, CheckVerdict, Session as ToldSession};
use edgekeep_shared::ids::{Nonce, SessionId};
use edgekeep_shared::moment::{Moment, ms_rounded_up};
use edgekeep_shared::problem::{Code, Reason};
use edgekeep_shared::renewal::Renewal;
use edgekeep_shared::revision::Revision;
use edgekeep_shared::token::{self, Claims, UntrustedToken, VerifiedToken};
use edgekeep_shared::verdict::{Current, Found, Verdict, decide, expiry_is_open, renewal_is_due};

use crate::Sabotage;
use crate::coordinator::Later;
use crate::database::{Change, Done, Session, name, roles, user_id};
use crate::message::Reply;
use crate::world::World;

/// A question that waits for the database.
#[derive(Debug)]
pub(crate) struct Checking {
    edge: u32,
    call: u64,
    nonce: Nonce,
    proof: VerifiedToken,
    renew: bool,
    began: Moment,
}

/// A renewal that has to write first.
#[derive(Clone, Debug)]
pub(crate) struct Renewing {
    nonce: Nonce,
    claims: Claims,
    began: Moment,
    epoch: u16,
    read_at_ms: u64,
}

const fn user_of(claims: &Claims) -> u32 {
    (claims.user_id.0 - 1) as u32
}

impl World {
    /// Whose session this is, as the present primary has it.
    pub(crate) fn user_of(&self, session: SessionId) -> Option<u32> {
        self.checker.user_of(session)
    }

    pub(crate) fn check(&mut self, coordinator: u8, edge: u32, call: u64, nonce: Nonce, token: &str, renew: bool) {
        let proof = UntrustedToken::parse(token).ok().and_then(|proof| proof.verify(&self.ring, self.site).ok());
        let Some(proof) = proof else { return };
        let (check, began, in_us) = (self.number(), self.moment(coordinator), self.hop_us());
        let checking = Checking { edge, call, nonce, proof, renew, began };
        self.coordinator(coordinator).checks.insert(check, checking);
        self.later(coordinator, in_us, Later::CheckAt { check });
    }

    /// One statement that reads, and commits a heartbeat.
    pub(crate) fn check_at(&mut self, coordinator: u8, check: u64) {
        let last = self.coordinator(coordinator).check_database;
        let database = self.server(coordinator, last);
        self.coordinator(coordinator).check_database = database;
        let Some(checking) = self.coordinators[usize::from(coordinator)].checks.get(&check) else { return };
        if database != self.primary() {
            // No heartbeat can be committed here: no verdict.
            let (edge, call) = (checking.edge, checking.call);
            self.coordinator(coordinator).checks.remove(&check);
            return self.later(coordinator, 3_000_000, Later::Fail { edge, call });
        }
        let claims = checking.proof.claims();
        let user = user_of(claims);
        let now_ms = self.database_ms();
        let database = &self.databases[database];
        let found = Box::new(database.found(user, &database.rows[user as usize], claims, now_ms));
        let primary = self.primary();
        self.databases[primary].write();
        let (crashes, in_us) = (self.crashes, self.hop_us());
        self.later(coordinator, in_us, Later::CheckDone { check, crashes, found });
    }

    pub(crate) fn check_done(&mut self, coordinator: u8, check: u64, crashes: u32, found: Found) {
        let Some(checking) = self.coordinator(coordinator).checks.remove(&check) else { return };
        let Checking { edge, call, nonce, proof, renew, began } = checking;
        if crashes != self.crashes {
            return self.reply(coordinator, edge, call, Reply::Problem(Code::Unavailable));
        }
        let (epoch, read_at_ms, open) = (found.epoch, found.now_ms, expiry_is_open(&found));
        let claims = proof.claims().clone();
        let renewing = Renewing { nonce, claims, began, epoch, read_at_ms };
        let verdict = match decide(&renewing.claims, found) {
            Verdict::Current(current)
                if renew && renewal_is_due(&proof, &current, self.setup.proof_life_ms, read_at_ms) =>
            {
                match self.lives().renew(current.times, read_at_ms) {
                    Renewal::Expired => CheckVerdict::Ended { reason: Reason::Expired },
                    Renewal::SignUpTo { renew_after_ms } => {
                        let token = self.sign_current(&renewing.claims, &current, renew_after_ms);
                        told(&renewing.claims, current, token)
                    }
                    Renewal::Raise(_) => {
                        let user = user_of(&renewing.claims);
                        let change = Change::Renew(Box::new(renewing.claims.clone()));
                        return self.job_of(coordinator, edge, call, user, change, Some(Box::new(renewing)));
                    }
                }
            }
            Verdict::Ended(Reason::Expired) if open && !self.broken(Sabotage::ExpiredWithoutLock) => {
                let user = user_of(&renewing.claims);
                let change = Change::Renew(Box::new(renewing.claims.clone()));
                return self.job_of(coordinator, edge, call, user, change, Some(Box::new(renewing)));
            }
            Verdict::Current(current) => told(&renewing.claims, current, None),
            Verdict::Ended(reason) => CheckVerdict::Ended { reason },
            Verdict::Unknown => CheckVerdict::Unknown,
        };
        let reply = self.answer(coordinator, &renewing, verdict);
        self.reply(coordinator, edge, call, reply);
    }

    /// The renewal's transaction is over.
    pub(crate) fn renewed(&mut self, coordinator: u8, renewing: Renewing, done: Done) -> Reply {
        let verdict = match done {
            Done::Sign { session, revision, admin, until_ms } => {
                let current = Current {
                    revision,
                    name: renewing.claims.name.clone(),
                    roles: roles(admin),
                    authenticated_at_ms: session.since_ms,
                    times: session.times,
                };
                let token = self.sign_current(&renewing.claims, &current, until_ms);
                told(&renewing.claims, current, token)
            }
            Done::Ended(reason) => CheckVerdict::Ended { reason },
            Done::Unknown => CheckVerdict::Unknown,
            Done::Changed | Done::Refused => return Reply::Problem(Code::Unavailable),
        };
        self.answer(coordinator, &renewing, verdict)
    }

    fn answer(&self, coordinator: u8, renewing: &Renewing, verdict: CheckVerdict) -> Reply {
        let age_ms = ms_rounded_up(renewing.began.until(self.moment(coordinator)));
        Reply::Check(CheckAnswer {
            nonce: renewing.nonce,
            epoch: renewing.epoch,
            age_ms: if self.broken(Sabotage::AgeNotStated) { 0 } else { age_ms },
            read_at_ms: renewing.read_at_ms,
            keys_version: 1,
            max_staleness_ms: self.setup.bound_ms,
            verdict,
        })
    }

    fn sign_current(&self, claims: &Claims, current: &Current, until_ms: u64) -> Option<String> {
        self.signed(Claims {
            revision: current.revision,
            authenticated_at_ms: current.authenticated_at_ms,
            renew_after_ms: until_ms,
            idle_expires_at_ms: current.times.idle_expires_at_ms,
            expires_at_ms: current.times.expires_at_ms,
            roles: current.roles.clone(),
            ..claims.clone()
        })
    }

    pub(crate) fn sign(
        &self,
        user: u32,
        session: &Session,
        revision: Revision,
        admin: bool,
        until_ms: u64,
    ) -> Option<String> {
        self.signed(Claims {
            site: self.site,
            user_id: user_id(user),
            revision,
            session_id: session.id,
            authenticated_at_ms: session.since_ms,
            renew_after_ms: until_ms,
            idle_expires_at_ms: session.times.idle_expires_at_ms,
            expires_at_ms: session.times.expires_at_ms,
            name: name(user),
            roles: roles(admin),
        })
    }

    fn signed(&self, mut claims: Claims) -> Option<String> {
        if self.broken(Sabotage::SignedBeyondProofUntil) {
            claims.renew_after_ms += self.setup.proof_life_ms;
        }
        self.ring.get(edgekeep_shared::ids::KeyId(1)).and_then(|key| token::sign(&claims, key).ok())
    }
}

fn told(claims: &Claims, current: Current, token: Option<String>) -> CheckVerdict {
    CheckVerdict::Current {
        token,
        revision: current.revision.0,
        roles: current.roles,
        session: ToldSession {
            id: claims.session_id,
            authenticated_at_ms: current.authenticated_at_ms,
            expires_at_ms: current.times.expires_at_ms,
            idle_expires_at_ms: current.times.idle_expires_at_ms,
        },
        name: current.name,
        user_id: claims.user_id,
    }
}
