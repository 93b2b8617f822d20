//! What users do with their sessions: sign out, sign out everywhere, change the password, see and end sessions.
//!
//! What this module guarantees:
//! - Logout names sessions by their proofs, also expired ones, and touches nothing else. Repeated, it answers the same.
//! - An outcome that nobody knows is a failure: the cookie stays, and the request can be sent again.
//! - "Your session has ended" is only said behind a database write that was begun after the question ([`confirmed`]).
//! - Logout-everywhere and password change are attempts like a login (G4, G6): see [`crate::login`].

use std::sync::Arc;

use edgekeep_shared::api::{
    CheckRequest, CheckVerdict, EndSessionRequest, LoginAnswer, LogoutEverywhereRequest, LogoutRequest,
    PasswordRequest, Session, SessionItem, SessionsAnswer, SessionsRequest, SignedOutAnswer,
};
use edgekeep_shared::ids::{Nonce, SessionId, UserId};
use edgekeep_shared::problem::Reason;
use edgekeep_shared::revocation::Reach;
use edgekeep_shared::token::Claims;
use sqlx::PgConnection;

use crate::app::App;
use crate::db::sessions::{self, Ending, Endings, SessionRow};
use crate::db::users;
use crate::db::{self, now_ms, run_tx, settings};
use crate::epoch;
use crate::failure::Failure;
use crate::login::{
    Effect, Order, Presented, current, device_of, password_of, presented, receipt_of_sessions, rowless, run, signed_in,
    signed_out, subject_of, to_the_end, verified, wait,
};

/// Ends the sessions that these cookies prove, and nothing else.
///
/// # Errors
/// When nobody can say whether it happened; then it can be asked for again.
pub async fn logout(app: &Arc<App>, request: LogoutRequest) -> Result<SignedOutAnswer, Failure> {
    let app = Arc::clone(app);
    to_the_end(Arc::clone(&app), async move {
        let named = presented(&app, &request.tokens).await?;
        let raised = run_tx!(&app.pool, "account.logout", async |conn| sign_out(conn, &named).await).await?;
        if raised {
            app.feed.poke();
        }
        let ids: Vec<SessionId> = named.iter().map(|one| one.session).collect();
        let receipt = receipt_of_sessions(&app, &ids).await?;
        Ok(wait(&app, receipt, wait_ms(request.wait_s)).await?.into())
    })
    .await
}

fn wait_ms(wait_s: Option<u32>) -> u64 {
    u64::from(wait_s.unwrap_or(0)) * 1000
}

/// Ends these sessions as signed out. Says whether the feed has something new.
async fn sign_out(conn: &mut PgConnection, named: &[Presented]) -> Result<bool, Failure> {
    let mut owners: Vec<UserId> = named.iter().map(|one| one.user).collect();
    owners.sort_unstable();
    owners.dedup();
    if owners.is_empty() {
        return Ok(false);
    }
    let epoch = epoch::checked(conn).await?;
    let mut states = users::lock(conn, &owners).await?;
    let rows = sessions::lock_of_users(conn, &owners).await?;
    let now_ms = now_ms(conn).await?;
    let mut raised = false;
    for state in &mut states {
        let sessions: Vec<Ending<'_>> = rows
            .iter()
            .filter(|row| named.iter().any(|one| one.user == row.user_id && one.session == row.id))
            .filter(|row| row.user_id == state.user_id)
            .map(|session| Ending { session, reason: Reason::SignedOut })
            .collect();
        let rowless = rowless(named, state.user_id, rows.iter(), now_ms);
        let endings = Endings { sessions: &sessions, rowless: &rowless, reach: Reach::Named, by: "user" };
        raised |= sessions::end(conn, epoch, now_ms, state, &endings).await?;
    }
    Ok(raised)
}

/// Ends every session of a user who knows the password.
///
/// # Errors
/// As a login's.
pub async fn logout_everywhere(app: &Arc<App>, request: LogoutEverywhereRequest) -> Result<SignedOutAnswer, Failure> {
    let app = Arc::clone(app);
    to_the_end(Arc::clone(&app), async move {
        let subject = subject_of(&app.secrets, &request.username)?;
        let password = password_of(request.password, "password")?;
        let key = &request.idempotency_key;
        let order = Order::new(&app.secrets, subject, key, password, request.client.address, Effect::LogoutEverywhere)?;
        let done = run(&app, &order).await?;
        signed_out(&app, done, request.wait_s).await
    })
    .await
}

/// Gives the session's user a new password and a new session; all others end.
///
/// # Errors
/// As a login's; [`Failure::NoSession`] when the session that asks is not current, [`Failure::Invalid`] when the new
/// password does not keep the rules (then nothing was counted).
pub async fn change_password(app: &Arc<App>, request: PasswordRequest) -> Result<LoginAnswer, Failure> {
    let token = request.token.clone();
    confirmed(app, token, change(app, request).await).await
}

async fn change(app: &Arc<App>, request: PasswordRequest) -> Result<LoginAnswer, Failure> {
    let app = Arc::clone(app);
    to_the_end(Arc::clone(&app), async move {
        let password = password_of(request.current_password, "current password")?;
        let new_password = password_of(request.new_password, "new password")?;
        let mut conn = db::acquire(&app.pool).await?;
        let claims = claims_of(&app, &mut conn, &request.token).await?;
        let settings = settings::load(&mut conn).await?;
        let checked = app.block_list.check(&new_password, settings.password_min_chars, &claims.name, &settings.site);
        let refused = checked.err().map(|error| error.to_string());
        if new_password.normalized() == password.normalized() {
            return Err(Failure::Invalid("The new password is the current one. Choose another one.".into()));
        }
        // Deleted users have no subject; then the session has ended and says why.
        let Some(user) = users::by_id(&mut conn, claims.user_id).await? else {
            current(&mut conn, claims.user_id, claims.session_id).await?;
            return Err(Failure::Unknown);
        };
        drop(conn);
        let subject: [u8; 32] = crate::db::bytes(&user.subject)?;
        let effect = Effect::PasswordChange {
            user: claims.user_id,
            session: claims.session_id,
            new_password,
            device: device_of(&request.client.user_agent),
            refused,
        };
        let key = &request.idempotency_key;
        let order = Order::new(&app.secrets, subject, key, password, request.client.address, effect)?;
        let done = run(&app, &order).await?;
        signed_in(&app, &order, done, request.wait_s).await
    })
    .await
}

/// An answer as it may be told. A denial (and "never heard of it") comes from a plain read, and a primary that was deposed
/// can still be read: so it is told only if a check, which commits a heartbeat, says so too (design 2.2).
async fn confirmed<T>(app: &App, token: String, answer: Result<T, Failure>) -> Result<T, Failure> {
    if !matches!(answer, Err(Failure::NoSession(_) | Failure::Unknown)) {
        return answer;
    }
    let check = CheckRequest { nonce: Nonce([0; 16]), token, renew: false };
    Err(match app.checks.check(check).await?.verdict {
        CheckVerdict::Ended { reason } => Failure::NoSession(reason),
        CheckVerdict::Current { .. } | CheckVerdict::Unknown => Failure::Unknown,
    })
}

/// What the token says, if it is one of ours.
async fn claims_of(app: &App, conn: &mut PgConnection, token: &str) -> Result<Claims, Failure> {
    let verified = verified(app, conn, token).await?.ok_or(Failure::NoSession(Reason::Invalid))?;
    Ok(verified.claims().clone())
}

fn shown(row: &SessionRow) -> Session {
    Session {
        id: row.id,
        authenticated_at_ms: row.authenticated_at_ms,
        expires_at_ms: row.expires_at_ms,
        idle_expires_at_ms: row.idle_expires_at_ms,
    }
}

/// The current sessions of the user who asks, newest first.
///
/// # Errors
/// [`Failure::NoSession`] when the session that asks is not current.
pub async fn list_sessions(app: &Arc<App>, request: SessionsRequest) -> Result<SessionsAnswer, Failure> {
    let token = request.token.clone();
    confirmed(app, token, list(app, request).await).await
}

async fn list(app: &Arc<App>, request: SessionsRequest) -> Result<SessionsAnswer, Failure> {
    let mut conn = db::acquire(&app.pool).await?;
    let claims = claims_of(app, &mut conn, &request.token).await?;
    current(&mut conn, claims.user_id, claims.session_id).await?;
    let now_ms = now_ms(&mut conn).await?;
    let rows = sessions::of_user(&mut conn, claims.user_id).await?;
    let sessions = rows
        .into_iter()
        .filter(|row| !row.expired(now_ms))
        .map(|row| SessionItem {
            session: shown(&row),
            last_seen_at_ms: row.last_seen_at_ms,
            this_one: row.id == claims.session_id,
            device: row.device,
        })
        .collect();
    let sessions_per_user = settings::load(&mut conn).await?.sessions_per_user;
    Ok(SessionsAnswer { sessions, sessions_per_user, now_ms })
}

/// Ends a session of the user who asks. Repeated, it answers the same.
///
/// # Errors
/// [`Failure::NoSession`] when the session that asks is not current, [`Failure::Invalid`] when the other one never was
/// this user's.
pub async fn end_session(app: &Arc<App>, request: EndSessionRequest) -> Result<SignedOutAnswer, Failure> {
    let token = request.token.clone();
    confirmed(app, token, end(app, request).await).await
}

async fn end(app: &Arc<App>, request: EndSessionRequest) -> Result<SignedOutAnswer, Failure> {
    let app = Arc::clone(app);
    to_the_end(Arc::clone(&app), async move {
        let claims = {
            let mut conn = db::acquire(&app.pool).await?;
            claims_of(&app, &mut conn, &request.token).await?
        };
        let raised = run_tx!(&app.pool, "account.end_session", async |conn| {
            end_one(conn, &claims, request.session_id).await
        })
        .await?;
        if raised {
            app.feed.poke();
        }
        Ok(receipt_of_sessions(&app, &[request.session_id]).await?.into())
    })
    .await
}

async fn end_one(conn: &mut PgConnection, claims: &Claims, id: SessionId) -> Result<bool, Failure> {
    let epoch = epoch::checked(conn).await?;
    let Some(mut state) = users::lock(conn, &[claims.user_id]).await?.into_iter().next() else {
        return Err(Failure::Unknown);
    };
    let rows = sessions::lock_of_users(conn, &[claims.user_id]).await?;
    let now_ms = now_ms(conn).await?;
    if !rows.iter().any(|row| row.id == claims.session_id && !row.expired(now_ms)) {
        current(conn, claims.user_id, claims.session_id).await?;
        return Err(Failure::Unknown);
    }
    let Some(session) = rows.iter().find(|row| row.id == id) else {
        return match sessions::ended_of(conn, id, claims.user_id).await? {
            true => Ok(false),
            false => Err(Failure::Invalid("There is no such session of yours.".into())),
        };
    };
    let ending = [Ending { session, reason: Reason::SignedOut }];
    let endings = Endings { sessions: &ending, rowless: &[], reach: Reach::Named, by: "user" };
    Ok(sessions::end(conn, epoch, now_ms, &mut state, &endings).await?)
}
