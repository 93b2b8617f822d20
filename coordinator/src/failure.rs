//! Every way in which an operation can end without what it was asked for: one closed enum, and one
//! exhaustive mapping to the answer that a client sees.

use edgekeep_shared::problem::{Code, Problem, Reason};

use crate::db::{DbError, TxError};

/// Why an operation did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The request is malformed; the text says how and is safe to show.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// User name or password is wrong, or the account is disabled: nobody is told which.
    #[error("invalid credentials")]
    InvalidCredentials,
    /// The request's session is not current.
    #[error("no session: {}", .0.as_str())]
    NoSession(Reason),
    /// The same operation, or others of this account, are being decided right now. Not an outcome.
    #[error("in flight")]
    InFlight,
    /// `refuse_second` is in force and no slot is free.
    #[error("signed in elsewhere")]
    SignedInElsewhere,
    /// The session that this attempt made has ended since.
    #[error("session ended: {}", .0.as_str())]
    SessionEnded(Reason),
    /// Too many failures of this account. Not an outcome. `None`: until an administrator unlocks it.
    #[error("locked")]
    Locked {
        /// When the lock ends, in milliseconds from now.
        retry_after_ms: Option<u64>,
    },
    /// Too many guesses from this client address. Not an outcome.
    #[error("rate limited")]
    RateLimited {
        /// When the next one is allowed, in milliseconds from now.
        retry_after_ms: u64,
    },
    /// The hashing queue is full, or its deadline has passed. Nothing was counted.
    #[error("overloaded")]
    Overloaded,
    /// The database could not be asked or could not answer, or nobody knows whether it committed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// Another part that the answer needs is not ready (no signing key yet, for example).
    #[error("not ready: {0}")]
    NotReady(&'static str),
    /// A proof from ahead of what this coordinator can see: nobody can say whether it is current.
    #[error("cannot know")]
    Unknown,
}

impl TxError for Failure {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_conflict())
    }
}

/// Milliseconds as whole seconds for `Retry-After`, rounded up, at least 1.
fn seconds(ms: u64) -> u32 {
    u32::try_from(ms.div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}

impl Failure {
    /// The answer that the client gets. The one place where failures become problems.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::Invalid(detail) => Problem::new(Code::InvalidRequest, detail.as_str()),
            Self::InvalidCredentials => {
                Problem::new(Code::InvalidCredentials, "User name or password is wrong. Check both and try again.")
            }
            Self::NoSession(reason) => {
                Problem::new(Code::NoSession, "This needs a current session. Sign in and try again.").reason(*reason)
            }
            Self::InFlight => Problem::new(
                Code::LoginInFlight,
                "A sign-in for this account is being decided right now. Send the same request with the same \
                 idempotency key again.",
            )
            .retry_after_s(1),
            Self::SignedInElsewhere => Problem::new(
                Code::SignedInElsewhere,
                "You have a session on another device. Sign out there, or sign out everywhere, then sign in again.",
            ),
            Self::SessionEnded(reason) => Problem::new(
                Code::SessionEnded,
                "This sign-in succeeded, and its session has ended since. Sign in again with a new idempotency key.",
            )
            .reason(*reason),
            Self::Locked { retry_after_ms: Some(ms) } => {
                Problem::new(Code::Locked, "Too many failed attempts. Wait, then try again.")
                    .retry_after_s(seconds(*ms))
            }
            Self::Locked { retry_after_ms: None } => Problem::new(
                Code::Locked,
                "Too many failed attempts in a row. The password of this account is disabled until an administrator \
                 resets it.",
            ),
            Self::RateLimited { retry_after_ms } => {
                Problem::new(Code::RateLimited, "Too many attempts from your network. Wait, then try again.")
                    .retry_after_s(seconds(*retry_after_ms))
            }
            Self::Overloaded => Problem::new(
                Code::Overloaded,
                "More sign-ins are waiting than can be worked on in time. Nothing was counted; try again.",
            )
            .retry_after_s(2),
            Self::Database(DbError::CommitUnknown(_)) => Problem::new(
                Code::Unavailable,
                "Nobody can say yet whether this happened. Send the same request with the same idempotency key again: \
                 it happens once.",
            )
            .retry_after_s(1),
            Self::Database(
                DbError::Unavailable(_) | DbError::Conflict(_) | DbError::Refused(_) | DbError::Corrupt(_),
            )
            | Self::NotReady(_)
            | Self::Unknown => Problem::new(
                Code::Unavailable,
                "This cannot be decided right now. Send the same request with the same idempotency key again.",
            )
            .retry_after_s(1),
        }
    }

    /// A stable name for metrics and logs: the code that the client sees.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        self.problem().code.as_str()
    }

    /// Nothing that a client does brings this about: it belongs into the log as an error.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        matches!(self, Self::Database(DbError::Refused(_) | DbError::Corrupt(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_of_part_of_a_second_is_a_whole_second() {
        let problem = Failure::Locked { retry_after_ms: Some(1) }.problem();
        assert_eq!((problem.status, problem.retry_after_s), (429, Some(1)));
        assert_eq!(Failure::Locked { retry_after_ms: Some(60_001) }.problem().retry_after_s, Some(61));
        assert_eq!(Failure::Locked { retry_after_ms: None }.problem().retry_after_s, None);
    }

    #[test]
    fn an_unknown_commit_is_never_an_outcome() {
        let problem = Failure::Database(DbError::CommitUnknown("gone".into())).problem();
        assert_eq!((problem.status, problem.code), (503, Code::Unavailable));
        assert!(!problem.detail.contains("gone"), "internals stay inside");
    }
}
