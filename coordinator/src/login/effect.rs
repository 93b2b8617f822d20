//! What an attempt does when its password is right: the one place where the three operations differ.

use edgekeep_shared::attempt::Operation;
use edgekeep_shared::ids::{SessionId, UserId};
use edgekeep_shared::problem::Reason;
use edgekeep_shared::revision::Revision;
use edgekeep_shared::revocation::{Reach, times_of_lost};
use edgekeep_shared::takeover::{Placement, SlotUse, place};
use edgekeep_shared::token::Claims;
use sqlx::PgConnection;

use crate::db::attempts::Outcome;
use crate::db::sessions::{self, Ending, Endings, Rowless, SessionRow};
use crate::db::settings::SessionRules;
use crate::db::users::{self, User, UserState};
use crate::db::{DbError, now_ms};
use crate::failure::Failure;
use crate::password::Password;
use crate::password::rules::BlockList;

/// A session that the request proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Presented {
    pub(crate) user: UserId,
    pub(crate) session: SessionId,
    /// The latest of the proofs that were presented.
    pub(crate) renew_after_ms: u64,
    pub(crate) expires_at_ms: u64,
}

impl Presented {
    pub(crate) fn of(claims: &Claims) -> Self {
        Self {
            user: claims.user_id,
            session: claims.session_id,
            renew_after_ms: claims.renew_after_ms,
            expires_at_ms: claims.expires_at_ms,
        }
    }
}

/// What a right password brings about.
pub(crate) enum Effect {
    /// A new session; those that the request presents end.
    Login { presented: Vec<Presented>, device: String },
    /// All sessions end.
    LogoutEverywhere,
    /// A new password and a new session; all others end. `refused`: the rules that are in force now do not allow it,
    /// which counts only for a delivery that has no outcome yet (G4).
    PasswordChange { user: UserId, session: SessionId, new_password: Password, device: String, refused: Option<String> },
}

/// What the settling transaction knows.
pub(super) struct Context<'a> {
    pub(super) epoch: u16,
    /// Coordinator time, read after every lock was taken.
    pub(super) now_ms: u64,
    pub(super) rules: &'a SessionRules,
    pub(super) block_list: &'a BlockList,
}

/// What a success made, for the answer of the delivery that made it.
pub(crate) struct Made {
    /// The new session.
    pub(crate) session: Option<SessionRow>,
    pub(crate) user: User,
    /// What a proof of it carries.
    pub(crate) revision: Revision,
    /// At least one other session ended.
    pub(crate) ended_other: bool,
    /// The feed has something new.
    pub(crate) raised: bool,
    /// What it was made by.
    pub(crate) rules: SessionRules,
}

/// What a right password came to.
pub(super) enum Applied {
    Made(Box<Made>),
    /// It is an outcome, and no effect.
    Refused(Outcome),
    /// The session that asked is not current any more: no outcome, and the same for every delivery for ever.
    Gone(Reason),
}

impl Effect {
    pub(crate) const fn operation(&self) -> Operation {
        match self {
            Self::Login { .. } => Operation::Login,
            Self::LogoutEverywhere => Operation::LogoutEverywhere,
            Self::PasswordChange { .. } => Operation::PasswordChange,
        }
    }

    pub(crate) const fn new_password(&self) -> Option<&Password> {
        match self {
            Self::PasswordChange { new_password, .. } => Some(new_password),
            Self::Login { .. } | Self::LogoutEverywhere => None,
        }
    }

    /// What must hold before anything is reserved (and is checked again when it is settled).
    pub(super) async fn precondition(&self, conn: &mut PgConnection) -> Result<(), Failure> {
        let Self::PasswordChange { user, session, refused, .. } = self else { return Ok(()) };
        current(conn, *user, *session).await?;
        refused.clone().map_or(Ok(()), |why| Err(Failure::Invalid(why)))
    }

    /// The users whose rows must be locked, in id order.
    pub(super) fn involved(&self, user: UserId) -> Vec<UserId> {
        let mut involved = vec![user];
        if let Self::Login { presented, .. } = self {
            involved.extend(presented.iter().map(|one| one.user));
        }
        involved.sort_unstable();
        involved.dedup();
        involved
    }

    /// Brings it about. All of `states` and `rows` are locked.
    pub(super) async fn apply(
        &self,
        conn: &mut PgConnection,
        context: &Context<'_>,
        user: &User,
        mut states: Vec<UserState>,
        rows: Vec<SessionRow>,
        new_hash: Option<&str>,
    ) -> Result<Applied, Failure> {
        match self {
            Self::Login { presented, device } => {
                let is_presented =
                    |row: &SessionRow| presented.iter().any(|one| one.session == row.id && one.user == row.user_id);
                let (ending, staying): (Vec<_>, Vec<_>) = rows
                    .iter()
                    .filter(|row| row.user_id == user.id || is_presented(row))
                    .partition::<Vec<&SessionRow>, _>(|row| is_presented(row));
                let mut endings: Vec<Ending<'_>> = ending.iter().map(|row| ends(row, Reason::SignedOut)).collect();
                let uses: Vec<SlotUse> = staying.iter().map(|row| slot_use(row, context.now_ms)).collect();
                let limit = context.rules.sessions_per_user;
                let slot = match place(&uses, limit, context.rules.takeover) {
                    Placement::Refused => return Ok(Applied::Refused(Outcome::RefusedSecond)),
                    Placement::Slot { slot, ends: slots } => {
                        let taken = staying.iter().filter(|row| slots.contains(&row.slot));
                        endings.extend(taken.map(|row| ends(row, Reason::SignedInElsewhere)));
                        let expired = staying.iter().filter(|row| row.expired(context.now_ms));
                        endings.extend(expired.map(|row| ends(row, Reason::Expired)));
                        slot
                    }
                };
                let ended = end_all(conn, context, &mut states, &endings, presented).await?;
                let session = new_session(user.id, slot, device, context)?;
                sessions::insert(conn, &session, true).await?;
                made(context, user, &states, Some(session), &ended)
            }
            Self::LogoutEverywhere => {
                let ended = end_every(conn, context, user.id, &mut states, &rows, Reason::SignedOut).await?;
                made(context, user, &states, None, &ended)
            }
            Self::PasswordChange { session, new_password, device, user: asking, .. } => {
                let asks = |row: &SessionRow| row.user_id == user.id && row.id == *session;
                if !rows.iter().any(|row| asks(row) && !row.expired(context.now_ms)) {
                    return match current(conn, *asking, *session).await {
                        Err(Failure::NoSession(reason)) => Ok(Applied::Gone(reason)),
                        Err(failure) => Err(failure),
                        Ok(_) => Err(DbError::Corrupt("a current session without a locked row").into()),
                    };
                }
                let minimum = context.rules.password_min_chars;
                let site = context.rules.site.as_str();
                let (true, Some(hash)) =
                    (context.block_list.check(new_password, minimum, &user.name, site).is_ok(), new_hash)
                else {
                    return Ok(Applied::Refused(Outcome::PasswordRejected));
                };
                if !users::store_password(conn, user.id, user.password_version, hash).await? {
                    return Err(DbError::Corrupt("a password that changed under its user's lock").into());
                }
                let ended = end_every(conn, context, user.id, &mut states, &rows, Reason::PasswordChanged).await?;
                let session = new_session(user.id, 0, device, context)?;
                sessions::insert(conn, &session, false).await?;
                made(context, user, &states, Some(session), &ended)
            }
        }
    }
}

/// The session, if it is current; why not, if it is not; and [`Failure::Unknown`] for one that this database has never
/// heard of: it may have been made on a primary that is ahead.
pub(crate) async fn current(conn: &mut PgConnection, user: UserId, id: SessionId) -> Result<SessionRow, Failure> {
    let row = sessions::of_user(conn, user).await?.into_iter().find(|row| row.id == id);
    match row {
        Some(row) if !row.expired(now_ms(conn).await?) => Ok(row),
        Some(_) => Err(Failure::NoSession(Reason::Expired)),
        None => match sessions::ended_reason(conn, id).await? {
            Some(reason) => Err(Failure::NoSession(reason)),
            None => Err(Failure::Unknown),
        },
    }
}

const fn ends(session: &SessionRow, reason: Reason) -> Ending<'_> {
    Ending { session, reason }
}

pub(crate) fn slot_use(row: &SessionRow, now_ms: u64) -> SlotUse {
    SlotUse { slot: row.slot, authenticated_at_ms: row.authenticated_at_ms, expired: row.expired(now_ms) }
}

/// What ending sessions came to.
#[derive(Clone, Copy, Default)]
struct Ended {
    any_live: bool,
    raised: bool,
}

/// Ends these sessions, and those that the request presents, user by user.
async fn end_all(
    conn: &mut PgConnection,
    context: &Context<'_>,
    states: &mut [UserState],
    endings: &[Ending<'_>],
    presented: &[Presented],
) -> Result<Ended, DbError> {
    let mut ended = Ended::default();
    for state in states {
        let of_user: Vec<Ending<'_>> =
            endings.iter().filter(|ending| ending.session.user_id == state.user_id).copied().collect();
        ended.any_live |= of_user.iter().any(|ending| !ending.session.expired(context.now_ms));
        let rowless = rowless(presented, state.user_id, endings.iter().map(|ending| ending.session), context.now_ms);
        let endings = Endings { sessions: &of_user, rowless: &rowless, reach: Reach::Named, by: "user" };
        ended.raised |= sessions::end(conn, context.epoch, context.now_ms, state, &endings).await?;
    }
    Ok(ended)
}

/// Ends every session of this user.
async fn end_every(
    conn: &mut PgConnection,
    context: &Context<'_>,
    user: UserId,
    states: &mut [UserState],
    rows: &[SessionRow],
    reason: Reason,
) -> Result<Ended, DbError> {
    let endings: Vec<Ending<'_>> = rows.iter().filter(|row| row.user_id == user).map(|row| ends(row, reason)).collect();
    let state = states.iter_mut().find(|state| state.user_id == user);
    let state = state.ok_or(DbError::Corrupt("a user without a state row"))?;
    let any_live = endings.iter().any(|ending| !ending.session.expired(context.now_ms));
    let endings = Endings { sessions: &endings, rowless: &[], reach: Reach::Every, by: "user" };
    let raised = sessions::end(conn, context.epoch, context.now_ms, state, &endings).await?;
    Ok(Ended { any_live, raised })
}

/// Which of the presented sessions of this user are not among these rows.
pub(crate) fn rowless<'a>(
    presented: &[Presented],
    user: UserId,
    rows: impl Iterator<Item = &'a SessionRow> + Clone,
    now_ms: u64,
) -> Vec<Rowless> {
    presented
        .iter()
        .filter(|one| one.user == user && !rows.clone().any(|row| row.id == one.session))
        .map(|one| Rowless { id: one.session, times: times_of_lost(one.renew_after_ms, one.expires_at_ms, now_ms) })
        .collect()
}

/// A session that begins now.
fn new_session(user: UserId, slot: u32, device: &str, context: &Context<'_>) -> Result<SessionRow, Failure> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|_| Failure::NotReady("no random bytes"))?;
    let times = context.rules.lifetimes.of_new_session(context.now_ms);
    Ok(SessionRow {
        user_id: user,
        slot,
        id: SessionId(id),
        authenticated_at_ms: context.now_ms,
        last_seen_at_ms: context.now_ms,
        idle_expires_at_ms: times.idle_expires_at_ms,
        expires_at_ms: times.expires_at_ms,
        proof_until_ms: times.proof_until_ms,
        device: device.to_owned(),
    })
}

fn made(
    context: &Context<'_>,
    user: &User,
    states: &[UserState],
    session: Option<SessionRow>,
    ended: &Ended,
) -> Result<Applied, Failure> {
    let state = states.iter().find(|state| state.user_id == user.id);
    let state = state.ok_or(DbError::Corrupt("a user without a state row"))?;
    Ok(Applied::Made(Box::new(Made {
        session,
        user: user.clone(),
        revision: Revision::base(state.feed.revision, context.epoch),
        ended_other: ended.any_live,
        raised: ended.raised,
        rules: context.rules.clone(),
    })))
}
