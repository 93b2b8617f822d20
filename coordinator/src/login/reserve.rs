//! Transaction one: a place is reserved, and its failure counted, before anything is hashed (G6).

use edgekeep_shared::lockout::Reservation;
use serde_json::json;
use sqlx::PgConnection;

use super::Order;
use crate::app::App;
use crate::db::attempts::{self, Found, Settled, Subject};
use crate::db::places::{self, NewAttempt};
use crate::db::{DbError, audit, run_tx, users};
use crate::failure::Failure;

/// A place that this delivery owns until its deadline.
pub(super) struct Place {
    pub(super) attempt_id: [u8; 32],
    /// The user as read in the reserving transaction. `None`: nobody has this name.
    pub(super) user: Option<users::User>,
}

/// What the reservation came to.
pub(super) enum Reserved {
    Place(Place),
    Settled(Settled),
    /// This attempt, or as many others as there are places, are at work.
    Busy,
    /// `None`: until an administrator unlocks.
    Locked(Option<u64>),
}

pub(super) async fn reserve(app: &App, order: &Order) -> Result<Reserved, Failure> {
    let mut owner = [0; 16];
    getrandom::fill(&mut owner).map_err(|_| Failure::NotReady("no random bytes"))?;
    let deadline_ms = app.config.login.owner_deadline_ms;
    let reserved: Result<Reserved, DbError> =
        run_tx!(&app.pool, "login.reserve", async |conn| attempt(conn, order, &owner, deadline_ms).await).await;
    Ok(reserved?)
}

async fn attempt(
    conn: &mut PgConnection,
    order: &Order,
    owner: &[u8; 16],
    deadline_ms: u64,
) -> Result<Reserved, DbError> {
    let mut subject = match attempts::lock_subject(conn, &order.subject).await? {
        Some(subject) => subject,
        None => {
            attempts::ensure_subject(conn, &order.subject).await?;
            // Clean-up removes rows of names that nobody has; between the two statements it could again.
            attempts::lock_subject(conn, &order.subject).await?.ok_or(DbError::Conflict("subject".into()))?
        }
    };
    // Again, now that nobody else can reserve: another delivery may have been faster.
    let standing = places::standing(conn, &order.ids, &order.subject, subject.state.window_from_seq).await?;
    let attempt_id = match standing.found {
        Some(Found::Settled(settled)) => return Ok(Reserved::Settled(settled)),
        Some(Found::InFlight) => return Ok(Reserved::Busy),
        Some(Found::Abandoned { attempt_id }) => {
            if !attempts::take_over(conn, &attempt_id, owner, deadline_ms).await? {
                return Ok(Reserved::Busy);
            }
            attempt_id
        }
        None => {
            let decided = standing.policy.reserve(subject.state, standing.count, subject.next_seq, standing.now_ms);
            match decided {
                Reservation::Busy => return Ok(Reserved::Busy),
                Reservation::Locked(state, retry_after_ms) => {
                    if state != subject.state {
                        subject.state = state;
                        attempts::store_subject(conn, &order.subject, &subject).await?;
                        note_lock(conn, order, &subject).await?;
                    }
                    return Ok(Reserved::Locked(retry_after_ms));
                }
                Reservation::Reserve(state) => {
                    let attempt = NewAttempt {
                        attempt_id: &order.id(),
                        operation: order.operation,
                        subject: &order.subject,
                        seq: subject.next_seq,
                        owner,
                        owner_deadline_ms: deadline_ms,
                    };
                    let next = Subject { next_seq: subject.next_seq + 1, state };
                    places::take(conn, attempt, &next).await?;
                }
            }
            order.id()
        }
    };
    Ok(Reserved::Place(Place { attempt_id, user: standing.user }))
}

/// Records that a run of failures has locked the account.
pub(super) async fn note_lock(conn: &mut PgConnection, order: &Order, subject: &Subject) -> Result<(), DbError> {
    let entry = audit::Entry {
        user: None,
        subject: Some(&order.subject),
        action: "locked",
        session: None,
        detail: json!({ "run": subject.state.runs, "failures": subject.state.failures_before }),
    };
    audit::write(conn, entry).await
}
