//! What edges and coordinators say to each other in the world.

use edgekeep_shared::api::CheckAnswer;
use edgekeep_shared::ids::{Nonce, SessionId};
use edgekeep_shared::problem::Code;

/// A question.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// The bytes of a question to the feed.
    Feed(Vec<u8>),
    /// For the signing keys.
    Keys,
    /// A strict check or a renewal.
    Check { nonce: Nonce, token: String, renew: bool },
    /// What a person does.
    Operate(Operation),
}

/// What a person does.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// Signs in, with this idempotency key; the sessions end that were presented.
    Login { user: u32, key: u64, presented: Vec<SessionId> },
    /// Signs out.
    Logout { user: u32, session: SessionId },
    /// Signs out everywhere.
    LogoutEverywhere { user: u32 },
    /// Changes the password, with this idempotency key.
    ChangePassword { user: u32, key: u64 },
    /// Tries a wrong password.
    Guess,
}

/// An answer.
#[derive(Clone)]
pub(crate) enum Reply {
    /// The bytes of the feed's answer.
    Feed(Vec<u8>),
    /// The keys.
    Keys,
    /// What the coordinator says of a session.
    Check(CheckAnswer),
    /// The proof of a new session.
    Token(String),
    /// It is done.
    Done,
    /// A problem.
    Problem(Code),
    /// Nothing came back.
    Lost,
}
