//! What edge and coordinator say to each other, apart from the feed (see `feed`, which is binary).
//!
//! JSON over HTTP, every request a `POST` with `Authorization: Bearer <edge credential>` and an
//! `Edgekeep-Request-Id` that both sides log. Errors are [`crate::problem::Problem`]s. Times are
//! milliseconds since the Unix epoch on the database's clock ("coordinator time").
//!
//! | path | request | answer |
//! |---|---|---|
//! | `/v1/login` | [`LoginRequest`] | [`LoginAnswer`] |
//! | `/v1/logout` | [`LogoutRequest`] | [`SignedOutAnswer`] |
//! | `/v1/logout-everywhere` | [`LogoutEverywhereRequest`] | [`SignedOutAnswer`] |
//! | `/v1/password` | [`PasswordRequest`] | [`LoginAnswer`] |
//! | `/v1/check` | [`CheckRequest`] | [`CheckAnswer`] |
//! | `/v1/sessions` | [`SessionsRequest`] | [`SessionsAnswer`] |
//! | `/v1/sessions/end` | [`EndSessionRequest`] | [`SignedOutAnswer`] |
//! | `/v1/keys` | [`KeysRequest`] | [`KeysAnswer`] |
//! | `/v1/feed` | `feed::Question`, `application/octet-stream` | `feed::Answer` |

use serde::{Deserialize, Serialize};

use crate::ids::{KeyId, Nonce, SessionId, UserId};
use crate::problem::Reason;

/// What a request knows about the client behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// The address from the one trusted header, if one is configured: the unit of `rate_limited`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The user agent, for "which device" on the account page; at most 256 characters are kept.
    #[serde(default)]
    pub user_agent: String,
}

/// A login. Delivered any number of times, it happens at most once (G4).
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// As typed.
    pub username: String,
    /// As typed.
    pub password: String,
    /// 1 to 255 visible ASCII characters.
    pub idempotency_key: String,
    /// The valid cookies that the request presented, newest last, at most 8: this login ends their sessions.
    #[serde(default)]
    pub presented: Vec<String>,
    /// The client behind the request.
    #[serde(default)]
    pub client: Client,
    /// `Prefer: wait`, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_s: Option<u32>,
}

/// A session as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The session's id.
    pub id: SessionId,
    /// When the password was checked.
    pub authenticated_at_ms: u64,
    /// Absolute expiry.
    pub expires_at_ms: u64,
    /// Idle expiry, unless the session is renewed before.
    pub idle_expires_at_ms: u64,
}

/// A login or password change that succeeded.
#[derive(Clone, Serialize, Deserialize)]
pub struct LoginAnswer {
    /// The cookie's value: a proof of the session.
    pub token: String,
    /// Who signed in.
    pub user_id: UserId,
    /// The user's name as registered.
    pub name: String,
    /// The user's roles.
    pub roles: Vec<String>,
    /// The new session.
    pub session: Session,
    /// If the login ended other sessions: from when on they are refused everywhere.
    pub previous_ends_everywhere_at_ms: Option<u64>,
    /// Coordinator time of this answer; for the cookie's `Max-Age` and the edge's clock offset.
    pub now_ms: u64,
}

/// Sign out the sessions of these cookies, and nothing else. Expired ones are fine.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogoutRequest {
    /// The cookies that the request presented (MAC already checked by the edge, and checked again here), at most 8.
    pub tokens: Vec<String>,
    /// `Prefer: wait`, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_s: Option<u32>,
}

/// What signing out did. Repeating the request repeats the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedOutAnswer {
    /// From this moment on it holds on every edge.
    pub effective_at_ms: u64,
    /// That moment has passed.
    pub effective_everywhere: bool,
    /// Coordinator time of this answer.
    pub now_ms: u64,
}

/// End every session of a user who knows the password.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogoutEverywhereRequest {
    /// As typed.
    pub username: String,
    /// As typed.
    pub password: String,
    /// 1 to 255 visible ASCII characters.
    pub idempotency_key: String,
    /// The client behind the request.
    #[serde(default)]
    pub client: Client,
    /// `Prefer: wait`, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_s: Option<u32>,
}

/// Change the password of the session's user: a new session, all others ended.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasswordRequest {
    /// The proof of the session that asks.
    pub token: String,
    /// As typed.
    pub current_password: String,
    /// As typed.
    pub new_password: String,
    /// 1 to 255 visible ASCII characters.
    pub idempotency_key: String,
    /// The client behind the request.
    #[serde(default)]
    pub client: Client,
    /// `Prefer: wait`, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_s: Option<u32>,
}

/// Is this session current? Strict checks, renewals and questions about a revised user are one operation.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckRequest {
    /// Echoed in the answer.
    pub nonce: Nonce,
    /// The proof in question.
    pub token: String,
    /// Give a new proof if the old one is past half of its life, or revised. Without it none is made.
    pub renew: bool,
}

/// The answer to a [`CheckRequest`], given only behind a database write begun after the question (design 2.2).
#[derive(Clone, Serialize, Deserialize)]
pub struct CheckAnswer {
    /// As asked.
    pub nonce: Nonce,
    /// The feed epoch under which this was read.
    pub epoch: u16,
    /// How long before this answer the read began, in milliseconds.
    pub age_ms: u64,
    /// Coordinator time of the read.
    pub read_at_ms: u64,
    /// Version of the key set at the read.
    pub keys_version: u64,
    /// The deployment's bound: the answer ages like a view that was asked for at the same time.
    pub max_staleness_ms: u32,
    /// What was found.
    pub verdict: CheckVerdict,
}

/// What the database says of a session.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum CheckVerdict {
    /// The session is current.
    Current {
        /// A new proof, if one was asked for and is due; it carries the current roles and revision.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        /// The user's revision as a proof signed now would carry it.
        revision: u64,
        /// Roles as they are now: they bind this request even without a new proof.
        roles: Vec<String>,
        /// The session's times as they are now.
        session: Session,
        /// The name as registered.
        name: String,
        /// The user.
        user_id: UserId,
    },
    /// The session has ended.
    Ended {
        /// Why.
        reason: Reason,
    },
    /// The proof is newer than the database: nobody can know. 503, and the cookie stays.
    Unknown,
}

/// The sessions of the user who presents this proof.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionsRequest {
    /// The proof of the session that asks; it must be current.
    pub token: String,
}

/// One session of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionItem {
    /// Its id and times.
    #[serde(flatten)]
    pub session: Session,
    /// When it was last renewed.
    pub last_seen_at_ms: u64,
    /// User agent of the login.
    pub device: String,
    /// It is the session that asked.
    pub this_one: bool,
}

/// Answer to a [`SessionsRequest`].
#[derive(Clone, Serialize, Deserialize)]
pub struct SessionsAnswer {
    /// Newest first, at most `sessions_per_user`.
    pub sessions: Vec<SessionItem>,
    /// How many sessions a user may have.
    pub sessions_per_user: u32,
    /// Coordinator time of this answer.
    pub now_ms: u64,
}

/// End another session of the same user.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndSessionRequest {
    /// The proof of the session that asks; it must be current.
    pub token: String,
    /// The session to end.
    pub session_id: SessionId,
}

/// Ask for the signing keys and the settings that edges need.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysRequest {
    /// Echoed in the answer, so that no cache can pass off an old one.
    pub nonce: Nonce,
}

/// One key of the set.
#[derive(Clone, Serialize, Deserialize)]
pub struct Key {
    /// Named in tokens.
    pub id: KeyId,
    /// 64 hexadecimal digits.
    pub secret: String,
    /// Proofs signed with it must be renewed at the coordinator before they count.
    pub withdrawn: bool,
}

/// The key set, delivered on this path only.
#[derive(Clone, Serialize, Deserialize)]
pub struct KeysAnswer {
    /// As asked.
    pub nonce: Nonce,
    /// Version of the set; grows with every change.
    pub version: u64,
    /// All keys whose tokens can still be presented.
    pub keys: Vec<Key>,
    /// The site (audience) that tokens are made for.
    pub site: String,
    /// Seals the forms' idempotency keys; 64 hexadecimal digits, the same on all edges.
    pub form_secret: String,
    /// Takeover policy and other things that pages mention.
    pub sessions_per_user: u32,
    /// Shortest new password, in characters.
    pub password_min_chars: u32,
    /// Coordinator time of this answer.
    pub now_ms: u64,
}
