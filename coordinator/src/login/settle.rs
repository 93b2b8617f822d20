//! Transaction two: under the user's lock, check again what could have changed, then do everything or nothing (G9).

use edgekeep_shared::ids::UserId;
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::Order;
use super::effect::{Applied, Context, Made};
use super::machine::Done;
use super::reserve::{Place, note_lock};
use crate::app::App;
use crate::db::attempts::{self, Outcome, Settled, Subject};
use crate::db::outcomes::{self, LockedAttempt};
use crate::db::users::{self, User};
use crate::db::{run_tx, sessions};
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
        (user, _) => {
            // The audit entry belongs into the user's order.
            let user = user.as_ref().map_or(NOBODY, |user| user.id);
            users::lock(conn, &[user]).await?;
            match outcomes::lock_attempt(conn, &order.subject, &place.attempt_id, user).await? {
                Some(locked) => wrong(conn, order, place, locked).await.map(Some),
                None => Ok(None),
            }
        }
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
    let involved = order.effect.involved(read.id);
    let (epoch, states) = outcomes::lock_users(conn, &involved).await?;
    let rows = sessions::lock_of_users(conn, &involved).await?;
    let Some(locked) = outcomes::lock_attempt(conn, &order.subject, &place.attempt_id, read.id).await? else {
        return Ok(None);
    };
    let user = match &locked.user {
        Some(user) if !user.disabled && user.password_version == read.password_version => user,
        // Disabled, deleted or with another password by now.
        _ => return wrong(conn, order, place, locked).await.map(Some),
    };
    let context = Context { epoch, now_ms: locked.now_ms, rules: &locked.rules, block_list: &app.block_list };
    let applied = order.effect.apply(conn, &context, user, states, rows, checked.new_hash.as_deref()).await?;
    let (settled, made) = match applied {
        Applied::Gone(reason) => {
            attempts::withdraw(conn, &place.attempt_id).await?;
            return Ok(Some(Settling::Withdrawn(Failure::NoSession(reason))));
        }
        Applied::Refused(outcome) => (settled_as(place, outcome, Some(user.id), None), None),
        Applied::Made(made) => (settled_as(place, Outcome::Succeeded, Some(user.id), Some(&made)), Some(made)),
    };
    // A right password gives its own reservation back; only a new session clears those before it.
    let cleared = Subject { state: locked.subject.state.after_success(locked.seq), ..locked.subject };
    let action = match settled.outcome {
        Outcome::Succeeded => order.operation.as_str(),
        Outcome::RefusedSecond | Outcome::PasswordRejected | Outcome::InvalidCredentials => "refused",
    };
    let settling = outcomes::Settling {
        settled: &settled,
        counted: false,
        subject: &order.subject,
        row: settled.session.is_some().then_some(&cleared),
        user: Some(user.id),
        action,
        detail: detail(order, &settled),
    };
    outcomes::settle(conn, settling).await?;
    Ok(Some(Settling::Done(Box::new(Done { settled, made: made.map(|made| *made) }))))
}

/// The password is wrong, nobody has the name, or the user may not sign in: all the same. The user's state row is
/// locked.
async fn wrong(
    conn: &mut PgConnection,
    order: &Order,
    place: &Place,
    locked: LockedAttempt,
) -> Result<Settling, Failure> {
    let settled = settled_as(place, Outcome::InvalidCredentials, None, None);
    let mut subject = locked.subject;
    // An attempt of an earlier run was counted there; it cannot fill the present one.
    if locked.seq >= subject.state.window_from_seq {
        let from_seq = subject.state.window_from_seq;
        let run = outcomes::run_with_failure(conn, &order.subject, from_seq, &place.attempt_id).await?;
        subject.state = run.policy.after_failure(subject.state, run.count, run.now_ms);
    }
    let closed = subject != locked.subject;
    let settling = outcomes::Settling {
        settled: &settled,
        counted: true,
        subject: &order.subject,
        row: closed.then_some(&subject),
        user: place.user.as_ref().map(|user| user.id),
        action: "refused",
        detail: detail(order, &settled),
    };
    outcomes::settle(conn, settling).await?;
    if closed {
        note_lock(conn, order, &subject).await?;
    }
    Ok(Settling::Done(Box::new(Done { settled, made: None })))
}

/// What the audit log says of an attempt beside its action.
fn detail(order: &Order, settled: &Settled) -> Value {
    json!({ "operation": order.operation.as_str(), "outcome": settled.outcome.as_str() })
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
