//! Transaction two: under the user's lock, check again what could have changed, then do everything or nothing (G9).

use edgekeep_shared::ids::UserId;
use serde_json::json;
use sqlx::PgConnection;

use super::Order;
use super::effect::{Applied, Context, Made};
use super::machine::Done;
use super::reserve::{Place, note_lock};
use crate::app::App;
use crate::db::attempts::{self, Outcome, Settled, Subject};
use crate::db::users::{self, User};
use crate::db::{DbError, audit, now_ms, run_tx, sessions, settings};
use crate::epoch;
use crate::failure::Failure;
use crate::password::Checked;

/// No user has this id: what is locked for a name that nobody has, so that both cost the same statements.
const NOBODY: UserId = UserId(0);

/// Settles the attempt. `None`: another delivery has settled it already.
pub(super) async fn settle(
    app: &App,
    order: &Order,
    place: &Place,
    checked: &Checked,
) -> Result<Option<Done>, Failure> {
    run_tx!(&app.pool, "login.settle", async |conn| match (&place.user, checked.matches) {
        (Some(user), true) => right(app, conn, order, place, user, checked).await,
        _ => wrong(conn, order, place, None).await,
    })
    .await?
    .map_or(Ok(None), Settling::into_done)
}

/// What the transaction committed.
enum Settling {
    Done(Box<Done>),
    /// The reservation is withdrawn and this is the answer.
    Withdrawn(Failure),
}

impl Settling {
    fn into_done(self) -> Result<Option<Done>, Failure> {
        match self {
            Self::Done(done) => Ok(Some(*done)),
            Self::Withdrawn(failure) => Err(failure),
        }
    }
}

/// The password is right as far as it was read: check again under the lock, then act.
async fn right(
    app: &App,
    conn: &mut PgConnection,
    order: &Order,
    place: &Place,
    read: &User,
    checked: &Checked,
) -> Result<Option<Settling>, Failure> {
    let epoch = epoch::checked(conn).await?;
    settings::hold(conn).await?;
    let settings = settings::load(conn).await?;
    let involved = order.effect.involved(read.id);
    let states = users::lock(conn, &involved).await?;
    let user = match users::by_id(conn, read.id).await? {
        Some(user) if !user.disabled && user.password_version == read.password_version => user,
        // Disabled, deleted or with another password by now. Its state row is locked already.
        _ => return wrong(conn, order, place, Some(read.id)).await,
    };
    let rows = sessions::lock_of_users(conn, &involved).await?;
    let Some((mut subject, seq)) = lock_attempt(conn, order, place).await? else { return Ok(None) };
    let context = Context { epoch, now_ms: now_ms(conn).await?, settings: &settings, block_list: &app.block_list };
    let applied = order.effect.apply(conn, &context, &user, states, rows, checked.new_hash.as_deref()).await?;
    let (settled, made) = match applied {
        Applied::Gone(reason) => {
            attempts::withdraw(conn, &place.attempt_id).await?;
            return Ok(Some(Settling::Withdrawn(Failure::NoSession(reason))));
        }
        Applied::Refused(outcome) => (settled_as(place, outcome, Some(user.id), None), None),
        Applied::Made(made) => (settled_as(place, Outcome::Succeeded, Some(user.id), Some(&made)), Some(made)),
    };
    // A right password gives its own reservation back; only a new session clears those before it.
    attempts::settle(conn, &settled, false).await?;
    if settled.session.is_some() {
        subject.state = subject.state.after_success(seq);
        attempts::store_subject(conn, &order.subject, &subject).await?;
    }
    let action = match settled.outcome {
        Outcome::Succeeded => order.operation.as_str(),
        Outcome::RefusedSecond | Outcome::PasswordRejected | Outcome::InvalidCredentials => "refused",
    };
    let entry = audit::Entry {
        user: Some(user.id),
        subject: Some(&order.subject),
        action,
        session: settled.session,
        detail: json!({ "operation": order.operation.as_str(), "outcome": settled.outcome.as_str() }),
    };
    audit::write(conn, entry).await?;
    Ok(Some(Settling::Done(Box::new(Done { settled, made: made.map(|made| *made) }))))
}

/// The password is wrong, nobody has the name, or the user may not sign in: all the same. `locked`: the user whose
/// state row is locked already.
async fn wrong(
    conn: &mut PgConnection,
    order: &Order,
    place: &Place,
    locked: Option<UserId>,
) -> Result<Option<Settling>, Failure> {
    let user = place.user.as_ref().map(|user| user.id);
    if locked.is_none() {
        // The audit entry belongs into the user's order.
        users::lock(conn, &[user.unwrap_or(NOBODY)]).await?;
    }
    let Some((mut subject, seq)) = lock_attempt(conn, order, place).await? else { return Ok(None) };
    let settled = settled_as(place, Outcome::InvalidCredentials, None, None);
    attempts::settle(conn, &settled, true).await?;
    let entry = audit::Entry {
        user,
        subject: Some(&order.subject),
        action: "refused",
        session: None,
        detail: json!({ "operation": order.operation.as_str(), "outcome": settled.outcome.as_str() }),
    };
    audit::write(conn, entry).await?;
    // An attempt of an earlier run was counted there; it cannot fill the present one.
    if seq >= subject.state.window_from_seq {
        let policy = settings::load(conn).await?.guesses;
        let count = attempts::count(conn, &order.subject, subject.state.window_from_seq).await?;
        let state = policy.after_failure(subject.state, count, now_ms(conn).await?);
        if state != subject.state {
            subject.state = state;
            attempts::store_subject(conn, &order.subject, &subject).await?;
            note_lock(conn, order, &subject).await?;
        }
    }
    Ok(Some(Settling::Done(Box::new(Done { settled, made: None }))))
}

/// Locks subject and attempt, in this order. `None`: the attempt is settled already.
async fn lock_attempt(
    conn: &mut PgConnection,
    order: &Order,
    place: &Place,
) -> Result<Option<(Subject, u64)>, DbError> {
    let subject = attempts::lock_subject(conn, &order.subject).await?;
    let subject = subject.ok_or(DbError::Corrupt("an attempt whose subject has no row"))?;
    Ok(attempts::lock_unsettled(conn, &place.attempt_id).await?.map(|seq| (subject, seq)))
}

fn settled_as(place: &Place, outcome: Outcome, user: Option<UserId>, made: Option<&Made>) -> Settled {
    Settled {
        attempt_id: place.attempt_id,
        outcome,
        user,
        session: made.and_then(|made| made.session.as_ref()).map(|session| session.id),
        ended_other: made.is_some_and(|made| made.ended_other),
        effective_at_ms: None,
    }
}
