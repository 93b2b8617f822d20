//! Strict checks and renewals: is this session current, and may its proof be made new? (design 2.1, 2.2)
//!
//! What this module guarantees:
//! - A verdict is given only behind a database write begun after the question (G3), so a deposed primary behind a
//!   synchronous standby gives none.
//! - A proof is signed only up to a `proof_until` that was committed before, with revision and roles read in the same
//!   statement, or after the locks of the transaction that raised it.
//! - A renewal changes nothing but times, roles and revision: the session id stays, so parallel renewals are harmless.

mod batch;
mod renew;

use std::sync::Arc;
use std::time::Duration;

use edgekeep_shared::api::{CheckAnswer, CheckRequest, CheckVerdict, Session};
use edgekeep_shared::ids::{SessionId, SiteId, UserId};
use edgekeep_shared::problem::Reason;
use edgekeep_shared::renewal::Renewal;
use edgekeep_shared::token::{Claims, VerifiedToken};
use edgekeep_shared::verdict::{Current, Verdict, decide, expiry_is_open, renewal_is_due};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::db::{self, DbError};
use crate::failure::Failure;
use crate::feed::FeedHandle;
use crate::feed::moment::{elapsed, ms_rounded_up};
use crate::keys::{KeyStore, TokenRefused};
use crate::metrics::Metrics;
use batch::{Ask, Batched};

/// Questions that may wait for the next batch.
const QUEUE: usize = 4_096;
/// How long a question waits for its batch.
const ASK_LIMIT: Duration = Duration::from_secs(8);
/// The least time between two loads of the key set that an unknown key id brings about. A question waits for so long at
/// most, which is far less than an edge waits for its answer.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_millis(250);

/// What checks need.
pub struct Options {
    /// How the batch's own connection is opened.
    pub connect: PgConnectOptions,
    /// For renewals that write.
    pub pool: PgPool,
    /// Verifies and signs.
    pub keys: KeyStore,
    /// Knows the site; is stopped if the database went back in time.
    pub feed: FeedHandle,
    /// Counters.
    pub metrics: Metrics,
}

struct Inner {
    questions: mpsc::Sender<Ask>,
    renewals: mpsc::Sender<renew::Ask>,
    pool: PgPool,
    keys: KeyStore,
    feed: FeedHandle,
    metrics: Metrics,
    last_unknown_key: Mutex<Option<Instant>>,
}

/// Checks of this coordinator; clones share one batch.
#[derive(Clone)]
pub struct CheckHandle(Arc<Inner>);

impl CheckHandle {
    /// Starts the batch's task; it connects when the first question comes.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let (questions, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(batch::run(receiver, options.connect, options.feed.clone(), options.metrics.clone()));
        let (renewals, renewing) = mpsc::channel(QUEUE);
        tokio::spawn(renew::run(renewing, options.pool.clone()));
        Self(Arc::new(Inner {
            questions,
            renewals,
            pool: options.pool,
            keys: options.keys,
            feed: options.feed,
            metrics: options.metrics,
            last_unknown_key: Mutex::new(None),
        }))
    }

    /// Answers a question.
    ///
    /// # Errors
    /// When nobody can say now; never for a session that has ended.
    pub async fn check(&self, request: CheckRequest) -> Result<CheckAnswer, Failure> {
        #[cfg(feature = "sabotage")]
        if crate::sabotage::breaks(crate::sabotage::Rule::OldRead)
            && let Some(old) = crate::sabotage::remembered(&request.token, None)
        {
            return Ok(CheckAnswer { nonce: request.nonce, ..old });
        }
        let site = self.0.feed.settings().ok_or(Failure::NotReady("the settings were not read yet"))?.site;
        let proof = self.verify(&request.token, SiteId::of(&site)).await?;
        let Batched { began, keys_version, max_staleness_ms, lifetimes, found } = self.ask(proof.as_ref()).await?;
        let (epoch, read_at_ms, open) = (found.epoch, found.now_ms, expiry_is_open(&found));
        let verdict = match &proof {
            None => CheckVerdict::Ended { reason: Reason::Invalid },
            Some(proof) => match decide(proof.claims(), found) {
                Verdict::Current(current)
                    if request.renew && renewal_is_due(proof, &current, lifetimes.proof_life_ms, read_at_ms) =>
                {
                    let renewal = lifetimes.renew(current.times, read_at_ms);
                    self.renewed(proof.claims(), current, renewal, read_at_ms).await?
                }
                Verdict::Ended(Reason::Expired) if open => self.behind_the_lock(proof, request.renew).await?,
                verdict => told(proof.claims(), verdict, None),
            },
        };
        Metrics::count(&self.0.metrics.checks, name(&verdict));
        let answer = CheckAnswer {
            nonce: request.nonce,
            epoch,
            age_ms: ms_rounded_up(elapsed(began)),
            read_at_ms,
            keys_version,
            max_staleness_ms,
            verdict,
        };
        #[cfg(feature = "sabotage")]
        let _ = crate::sabotage::remembered(&request.token, Some(&answer));
        Ok(answer)
    }

    /// A session that looks expired: a renewal may be about to commit, so the row's lock decides.
    async fn behind_the_lock(&self, proof: &VerifiedToken, renew: bool) -> Result<CheckVerdict, Failure> {
        let claims = proof.claims();
        match self.raise(claims).await? {
            Err(verdict) => Ok(told(claims, verdict, None)),
            Ok(renewed) => {
                let token = if renew {
                    Some(self.sign(claims, &renewed.current, renewed.now_ms, renewed.renew_after_ms)?)
                } else {
                    None
                };
                Ok(told(claims, Verdict::Current(renewed.current), token))
            }
        }
    }

    /// Verifies the proof's MAC and site. `None`: it is not one of ours. Withdrawn keys verify: that is what renewals are for.
    async fn verify(&self, token: &str, site: SiteId) -> Result<Option<VerifiedToken>, Failure> {
        let refused = match self.0.keys.verify(token, site) {
            Ok(proof) => return Ok(Some(proof)),
            Err(refused) => refused,
        };
        if refused == TokenRefused::Invalid {
            return Ok(None);
        }
        // Another coordinator may just have made the key: only a look that begins after the question came can tell that
        // there is none. All who come before the next look share it.
        let asked = Instant::now();
        let mut looked = self.0.last_unknown_key.lock().await;
        if looked.is_none_or(|began| began < asked) {
            if let Some(last) = *looked {
                sleep_until(last + UNKNOWN_KEY_PAUSE).await;
            }
            let began = Instant::now();
            let mut connection = db::acquire(&self.0.pool).await?;
            self.0.keys.load(&mut connection).await?;
            *looked = Some(began);
        }
        match self.0.keys.verify(token, site) {
            Ok(proof) => Ok(Some(proof)),
            // The key is in no key set: it was dropped when all of its sessions were over, or it never was ours.
            Err(_) => Ok(None),
        }
    }

    /// Puts a question into the next batch. Without a proof nothing is looked up, but the answer still is dated.
    async fn ask(&self, proof: Option<&VerifiedToken>) -> Result<Batched, Failure> {
        let (reply, answer) = oneshot::channel();
        let claims = proof.map(VerifiedToken::claims);
        let ask = Ask {
            session_id: claims.map_or(SessionId([0; 16]), |claims| claims.session_id),
            user_id: claims.map_or(UserId(0), |claims| claims.user_id),
            reply,
        };
        self.0.questions.try_send(ask).map_err(|_| Failure::Overloaded)?;
        answered(answer).await
    }

    /// Has the session's times raised, together with all that ask for it now.
    async fn raise(&self, claims: &Claims) -> Result<renew::Outcome, Failure> {
        let (reply, answer) = oneshot::channel();
        self.0.renewals.try_send(renew::Ask { claims: claims.clone(), reply }).map_err(|_| Failure::Overloaded)?;
        answered(answer).await
    }

    /// A verdict with a new proof, raised and committed first where the row asks for that.
    async fn renewed(
        &self,
        claims: &Claims,
        current: Current,
        renewal: Renewal,
        now_ms: u64,
    ) -> Result<CheckVerdict, Failure> {
        let (current, now_ms, renew_after_ms) = match renewal {
            Renewal::Expired => return Ok(CheckVerdict::Ended { reason: Reason::Expired }),
            Renewal::SignUpTo { renew_after_ms } => (current, now_ms, renew_after_ms),
            Renewal::Raise(_) => match self.raise(claims).await? {
                Ok(renewed) => (renewed.current, renewed.now_ms, renewed.renew_after_ms),
                Err(verdict) => return Ok(told(claims, verdict, None)),
            },
        };
        let token = self.sign(claims, &current, now_ms, renew_after_ms)?;
        Ok(told(claims, Verdict::Current(current), Some(token)))
    }

    /// A proof of this session as it is now.
    fn sign(&self, claims: &Claims, current: &Current, now_ms: u64, renew_after_ms: u64) -> Result<String, Failure> {
        let proof = Claims {
            site: claims.site,
            user_id: claims.user_id,
            revision: current.revision,
            session_id: claims.session_id,
            authenticated_at_ms: current.authenticated_at_ms,
            renew_after_ms,
            idle_expires_at_ms: current.times.idle_expires_at_ms,
            expires_at_ms: current.times.expires_at_ms,
            name: current.name.clone(),
            roles: current.roles.clone(),
        };
        self.0.keys.sign(&proof, now_ms)
    }
}

/// What a batch answers, within the limit.
async fn answered<T>(answer: oneshot::Receiver<Result<T, DbError>>) -> Result<T, Failure> {
    match tokio::time::timeout(ASK_LIMIT, answer).await {
        Ok(Ok(answer)) => Ok(answer?),
        Ok(Err(_)) => Err(Failure::NotReady("the check was dropped")),
        Err(_) => Err(DbError::Unavailable("no check within its deadline".to_owned()).into()),
    }
}

/// A verdict as it stands in the answer.
fn told(claims: &Claims, verdict: Verdict, token: Option<String>) -> CheckVerdict {
    match verdict {
        Verdict::Current(current) => CheckVerdict::Current {
            token,
            revision: current.revision.0,
            roles: current.roles,
            session: Session {
                id: claims.session_id,
                authenticated_at_ms: current.authenticated_at_ms,
                expires_at_ms: current.times.expires_at_ms,
                idle_expires_at_ms: current.times.idle_expires_at_ms,
            },
            name: current.name,
            user_id: claims.user_id,
        },
        Verdict::Ended(reason) => CheckVerdict::Ended { reason },
        Verdict::Unknown => CheckVerdict::Unknown,
    }
}

/// A verdict's name for metrics.
fn name(verdict: &CheckVerdict) -> &'static str {
    match verdict {
        CheckVerdict::Current { token: None, .. } => "current",
        CheckVerdict::Current { token: Some(_), .. } => "renewed",
        CheckVerdict::Ended { reason } => reason.as_str(),
        CheckVerdict::Unknown => "unknown",
    }
}
