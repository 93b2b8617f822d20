//! What every delivery is told: the token, the receipt, and the same again on a replay.
//!
//! A receipt's `effective_at` is the time of a statement begun after the commit was acknowledged, plus the bound of
//! staleness; it is stored by the first receipt, so that replays say the same.

use std::time::Duration;

use edgekeep_shared::api::{LoginAnswer, Session, SignedOutAnswer};
use edgekeep_shared::ids::{SessionId, SiteId};
use edgekeep_shared::problem::Reason;
use edgekeep_shared::renewal::Renewal;
use edgekeep_shared::revision::Revision;
use edgekeep_shared::token::Claims;

use super::Order;
use super::effect::Made;
use super::machine::Done;
use crate::app::App;
use crate::db::attempts::{Outcome, Settled};
use crate::db::sessions::{self, SessionRow};
use crate::db::users::{self, User};
use crate::db::{self, DbError, now_ms, run_tx, settings, unsigned};
use crate::epoch;
use crate::failure::Failure;

/// From when an ending holds everywhere, as one statement said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) effective_at_ms: u64,
    /// The same clock, in the same statement.
    pub(crate) now_ms: u64,
}

/// The receipt of a settled attempt; the first one is stored.
async fn receipt_of_attempt(app: &App, settled: &Settled) -> Result<Receipt, Failure> {
    let mut conn = db::acquire(&app.pool).await?;
    if let Some(effective_at_ms) = settled.effective_at_ms {
        return Ok(Receipt { effective_at_ms, now_ms: now_ms(&mut conn).await? });
    }
    let row = sqlx::query!(
        r#"UPDATE attempt
           SET effective_at = coalesce(effective_at, clock_timestamp() + interval '1 millisecond' * (
               SELECT greatest(max_staleness_ms, CASE WHEN previous_staleness_until > clock_timestamp()
                                                      THEN previous_staleness_ms ELSE 0 END) FROM settings))
           WHERE attempt_id = $1 AND settled_at IS NOT NULL
           RETURNING ceil(extract(epoch FROM effective_at) * 1000)::bigint AS "effective_at_ms!",
                     floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS "now_ms!""#,
        settled.attempt_id.as_slice()
    )
    .fetch_optional(&mut *conn)
    .await
    .map_err(DbError::from)?;
    let row = row.ok_or(DbError::Corrupt("a settled attempt that is not there"))?;
    Ok(Receipt { effective_at_ms: unsigned(row.effective_at_ms)?, now_ms: unsigned(row.now_ms)? })
}

/// The receipt for sessions that have ended, the latest of theirs; the first one of each is stored. For none at all it
/// is now: there is nothing that could still be accepted.
///
/// # Errors
/// When the database cannot say.
pub(crate) async fn receipt_of_sessions(app: &App, ids: &[SessionId]) -> Result<Receipt, Failure> {
    let ids: Vec<Vec<u8>> = ids.iter().map(|id| id.0.to_vec()).collect();
    let mut conn = db::acquire(&app.pool).await?;
    sqlx::query!(
        "UPDATE ended_session
         SET effective_at = clock_timestamp() + interval '1 millisecond' * (
             SELECT greatest(max_staleness_ms, CASE WHEN previous_staleness_until > clock_timestamp()
                                                    THEN previous_staleness_ms ELSE 0 END) FROM settings)
         WHERE session_id = ANY($1) AND effective_at IS NULL",
        &ids
    )
    .execute(&mut *conn)
    .await
    .map_err(DbError::from)?;
    let row = sqlx::query!(
        r#"SELECT ceil(extract(epoch FROM max(effective_at)) * 1000)::bigint AS effective_at_ms,
                  floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS "now_ms!"
           FROM ended_session WHERE session_id = ANY($1)"#,
        &ids
    )
    .fetch_one(&mut *conn)
    .await
    .map_err(DbError::from)?;
    let now_ms = unsigned(row.now_ms)?;
    let effective_at_ms = row.effective_at_ms.map(unsigned).transpose()?.unwrap_or(now_ms);
    Ok(Receipt { effective_at_ms, now_ms })
}

/// Holds an answer until its receipt's moment has passed on the database's clock, for at most `wait_ms`.
///
/// # Errors
/// When the database cannot say what time it is.
pub(crate) async fn wait(app: &App, receipt: Receipt, wait_ms: u64) -> Result<Receipt, Failure> {
    let mut left_ms = wait_ms.min(u64::from(app.config.login.longest_wait_s) * 1000);
    let mut receipt = receipt;
    while receipt.now_ms < receipt.effective_at_ms && left_ms > 0 {
        let pause_ms = (receipt.effective_at_ms - receipt.now_ms).min(left_ms);
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        left_ms -= pause_ms;
        let mut conn = db::acquire(&app.pool).await?;
        receipt.now_ms = now_ms(&mut conn).await?;
    }
    Ok(receipt)
}

/// The failure that an outcome is, for every delivery.
fn refused(outcome: Outcome) -> Result<(), Failure> {
    match outcome {
        Outcome::Succeeded => Ok(()),
        Outcome::InvalidCredentials => Err(Failure::InvalidCredentials),
        Outcome::RefusedSecond => Err(Failure::SignedInElsewhere),
        Outcome::PasswordRejected => {
            Err(Failure::Invalid("The new password does not keep this site's rules. Choose another one.".into()))
        }
    }
}

/// The answer of an operation that makes a session.
///
/// # Errors
/// The failure that its outcome is; `session_ended` when the session is over by now.
pub(crate) async fn signed_in(
    app: &App,
    order: &Order,
    done: Done,
    wait_s: Option<u32>,
) -> Result<LoginAnswer, Failure> {
    refused(done.settled.outcome)?;
    // The first statement after the commit was acknowledged.
    let receipt = if done.settled.ended_other { Some(receipt_of_attempt(app, &done.settled).await?) } else { None };
    let mut proof = match done.made {
        Some(made) => Proof::of_new(made)?,
        None => replayed(app, &done.settled).await?,
    };
    let receipt = match receipt {
        Some(receipt) => {
            let wait_ms = wait_s.map_or(u64::from(proof.login_wait_ms), |seconds| u64::from(seconds) * 1000);
            let held = wait(app, receipt, wait_ms).await?;
            proof.now_ms = held.now_ms;
            Some(held)
        }
        None => None,
    };
    tracing::debug!(operation = order.operation.as_str(), "answered with a session");
    proof.into_answer(app, receipt.map(|receipt| receipt.effective_at_ms))
}

/// The answer of a logout-everywhere.
///
/// # Errors
/// The failure that its outcome is.
pub(crate) async fn signed_out(app: &App, done: Done, wait_s: Option<u32>) -> Result<SignedOutAnswer, Failure> {
    refused(done.settled.outcome)?;
    let receipt = receipt_of_attempt(app, &done.settled).await?;
    Ok(wait(app, receipt, u64::from(wait_s.unwrap_or(0)) * 1000).await?.into())
}

impl From<Receipt> for SignedOutAnswer {
    fn from(receipt: Receipt) -> Self {
        Self {
            effective_at_ms: receipt.effective_at_ms,
            effective_everywhere: receipt.now_ms >= receipt.effective_at_ms,
            now_ms: receipt.now_ms,
        }
    }
}

/// What a token is made of, read in the transaction that made or read the session. Signed only after its commit.
struct Proof {
    site: SiteId,
    session: SessionRow,
    user: User,
    revision: Revision,
    renew_after_ms: u64,
    now_ms: u64,
    /// How long the answer is held if the request does not say.
    login_wait_ms: u32,
}

impl Proof {
    fn of_new(made: Made) -> Result<Self, Failure> {
        let session = made.session.ok_or(DbError::Corrupt("an operation that made no session"))?;
        Ok(Self {
            site: SiteId::of(&made.rules.site),
            renew_after_ms: session.proof_until_ms,
            now_ms: session.authenticated_at_ms,
            session,
            user: made.user,
            revision: made.revision,
            login_wait_ms: made.rules.login_wait_ms,
        })
    }

    fn into_answer(self, app: &App, previous_ends_everywhere_at_ms: Option<u64>) -> Result<LoginAnswer, Failure> {
        let claims = Claims {
            site: self.site,
            user_id: self.user.id,
            revision: self.revision,
            session_id: self.session.id,
            authenticated_at_ms: self.session.authenticated_at_ms,
            renew_after_ms: self.renew_after_ms,
            idle_expires_at_ms: self.session.idle_expires_at_ms,
            expires_at_ms: self.session.expires_at_ms,
            name: self.user.name,
            roles: self.user.roles,
        };
        Ok(LoginAnswer {
            token: app.keys.sign(&claims, self.now_ms)?,
            user_id: claims.user_id,
            session: Session {
                id: claims.session_id,
                authenticated_at_ms: claims.authenticated_at_ms,
                expires_at_ms: claims.expires_at_ms,
                idle_expires_at_ms: claims.idle_expires_at_ms,
            },
            name: claims.name,
            roles: claims.roles,
            previous_ends_everywhere_at_ms,
            now_ms: self.now_ms,
        })
    }
}

/// The session that a settled attempt made, with a proof signed like a renewal: roles and revision as they are now.
async fn replayed(app: &App, settled: &Settled) -> Result<Proof, Failure> {
    let (Some(user_id), Some(session_id)) = (settled.user, settled.session) else {
        return Err(DbError::Corrupt("a success without a session").into());
    };
    run_tx!(&app.pool, "login.replay", async |conn| {
        let epoch = epoch::checked(conn).await?;
        let state = users::lock(conn, &[user_id]).await?.into_iter().next();
        let rows = sessions::lock_of_users(conn, &[user_id]).await?;
        let (user, now_ms) = (users::by_id(conn, user_id).await?, now_ms(conn).await?);
        let session = rows.into_iter().find(|row| row.id == session_id);
        let (Some(state), Some(user), Some(mut session)) = (state, user, session) else {
            // What was forgotten after its absolute expiry has expired.
            let reason = sessions::ended_reason(conn, session_id).await?.unwrap_or(Reason::Expired);
            return Err(Failure::SessionEnded(reason));
        };
        let settings = settings::load(conn).await?;
        let renew_after_ms = match settings.lifetimes.renew(session.times(), now_ms) {
            Renewal::Expired => return Err(Failure::SessionEnded(Reason::Expired)),
            Renewal::SignUpTo { renew_after_ms } => renew_after_ms,
            Renewal::Raise(times) => {
                sessions::store_times(conn, session.id, &times, now_ms).await?;
                session.idle_expires_at_ms = times.idle_expires_at_ms;
                times.proof_until_ms
            }
        };
        Ok(Proof {
            site: settings.site_id(),
            session,
            user,
            revision: Revision::base(state.feed.revision, epoch),
            renew_after_ms,
            now_ms,
            login_wait_ms: settings.login_wait_ms,
        })
    })
    .await
}
