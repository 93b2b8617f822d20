//! The login protocol (design 2.3): look up, wait for a permit, reserve, hash, settle, answer.
//!
//! What this module guarantees:
//! - **G4.** However often and however concurrently one attempt is delivered, its effect happens at most once, at most
//!   one failure is counted, and every delivery gets the same outcome.
//! - **G6.** A place is reserved, in a committed transaction, before a password is evaluated.
//! - **G9.** Sessions, counters, revisions, audit and outcome change in one transaction.
//! - Logout-everywhere and password change are the same machine with another [`Effect`].
//!
//! | file | step |
//! |---|---|
//! | `machine.rs` | the order of the steps, waiting, retries |
//! | `reserve.rs` | transaction one |
//! | `settle.rs`, `effect.rs` | transaction two, and what it does on success |
//! | `answer.rs` | what every delivery is told: replays, receipts, `Prefer: wait` |

pub mod address_limit;

mod answer;
mod effect;
mod machine;
mod reserve;
mod settle;

use std::sync::Arc;

use edgekeep_shared::api::{LoginAnswer, LoginRequest};
use edgekeep_shared::attempt::{Operation, attempt_id, valid_idempotency_key};
use edgekeep_shared::ids::SiteId;
use edgekeep_shared::subject::{canonical_name, subject};
use edgekeep_shared::token::VerifiedToken;
use sqlx::PgConnection;

use crate::app::App;
use crate::db::{self, settings};
use crate::failure::Failure;
use crate::keys::TokenRefused;
use crate::metrics::Metrics;
use crate::password::Password;
use crate::sabotage;
use crate::secrets::Secrets;

pub(crate) use answer::{receipt_of_sessions, signed_in, signed_out, wait};
pub(crate) use effect::{Effect, Presented, current, rowless, slot_use};
pub(crate) use machine::run;

/// Characters of a user agent that are kept.
const DEVICE_CHARS: usize = 256;
/// Cookies of one request that are looked at.
const MAX_PRESENTED: usize = 8;

/// One delivery of an attempt.
pub(crate) struct Order {
    pub(crate) operation: Operation,
    pub(crate) subject: [u8; 32],
    /// Under the present attempt key, then under the one before, if that is still looked up.
    pub(crate) ids: Vec<[u8; 32]>,
    pub(crate) password: Password,
    pub(crate) address: Option<String>,
    pub(crate) effect: Effect,
}

impl Order {
    /// The order for this subject, key and password.
    pub(crate) fn new(
        secrets: &Secrets,
        subject: [u8; 32],
        idempotency_key: &str,
        password: Password,
        address: Option<String>,
        effect: Effect,
    ) -> Result<Self, Failure> {
        if !valid_idempotency_key(idempotency_key) {
            return Err(Failure::Invalid("The idempotency key must be 1 to 255 visible ASCII characters.".into()));
        }
        let another;
        let idempotency_key = if sabotage::breaks(sabotage::Rule::KeyNotUnique) {
            another = format!("{:?}", std::time::Instant::now());
            another.as_str()
        } else {
            idempotency_key
        };
        let operation = effect.operation();
        let mut passwords = vec![password.typed()];
        passwords.extend(effect.new_password().map(Password::typed));
        let ids = std::iter::once(&secrets.attempt_key)
            .chain(&secrets.attempt_key_previous)
            .map(|k| attempt_id(k, operation, &subject, idempotency_key, &passwords))
            .collect();
        Ok(Self { operation, subject, ids, password, address, effect })
    }

    /// The id under which it is reserved.
    pub(crate) fn id(&self) -> [u8; 32] {
        self.ids.first().copied().unwrap_or_default()
    }
}

/// The subject of a name as typed.
pub(crate) fn subject_of(secrets: &Secrets, name: &str) -> Result<[u8; 32], Failure> {
    let canonical =
        canonical_name(name).map_err(|error| Failure::Invalid(format!("The user name is not valid: {error}.")))?;
    Ok(subject(&secrets.subject_key, &canonical))
}

/// A password as typed.
pub(crate) fn password_of(typed: String, which: &str) -> Result<Password, Failure> {
    Password::new(typed).map_err(|error| Failure::Invalid(format!("The {which} is not valid: {error}.")))
}

/// A user agent cut to what is kept.
pub(crate) fn device_of(user_agent: &str) -> String {
    user_agent.chars().filter(|c| !c.is_control()).take(DEVICE_CHARS).collect()
}

/// Verifies a token that an edge passed on. `None`: it is not one of ours. A key that is not known yet is looked up.
pub(crate) async fn verified(
    app: &App,
    conn: &mut PgConnection,
    token: &str,
) -> Result<Option<VerifiedToken>, Failure> {
    let site = settings::load(&mut *conn).await?.site_id();
    verified_at(app, conn, token, site).await
}

async fn verified_at(
    app: &App,
    conn: &mut PgConnection,
    token: &str,
    site: SiteId,
) -> Result<Option<VerifiedToken>, Failure> {
    match app.keys.verify(token, site) {
        Ok(token) => return Ok(Some(token)),
        Err(TokenRefused::Invalid) => return Ok(None),
        Err(TokenRefused::UnknownKey(_)) => {}
    }
    app.keys.load(conn).await?;
    Ok(app.keys.verify(token, site).ok())
}

/// The sessions that the request's cookies prove, each once.
pub(crate) async fn presented(app: &App, tokens: &[String]) -> Result<Vec<Presented>, Failure> {
    if tokens.len() > MAX_PRESENTED {
        return Err(Failure::Invalid(format!("At most {MAX_PRESENTED} cookies can be presented.")));
    }
    let mut presented: Vec<Presented> = Vec::new();
    if tokens.is_empty() {
        return Ok(presented);
    }
    let mut conn = db::acquire(&app.pool).await?;
    let site = settings::load(&mut conn).await?.site_id();
    for token in tokens {
        if let Some(token) = verified_at(app, &mut conn, token, site).await? {
            let one = Presented::of(token.claims());
            match presented.iter_mut().find(|known| known.session == one.session && known.user == one.user) {
                Some(known) => known.renew_after_ms = known.renew_after_ms.max(one.renew_after_ms),
                None => presented.push(one),
            }
        }
    }
    Ok(presented)
}

/// Runs an operation to its end even if the client goes away (a half-done attempt would make its retry wait for the
/// owner's deadline), and counts how it ended.
pub(crate) async fn to_the_end<T: Send + 'static>(
    app: Arc<App>,
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    let result = tokio::spawn(work).await.unwrap_or(Err(Failure::NotReady("an operation did not finish")));
    if let Err(failure) = &result {
        if failure.is_ours() {
            tracing::error!(error = %failure, "an operation failed");
        }
        if let Failure::Database(error) = failure {
            Metrics::count(&app.metrics.database_errors, error.as_str());
        }
    }
    result
}

/// A login.
///
/// # Errors
/// [`Failure`] says why there is no session; its `problem()` is the answer.
pub async fn login(app: &Arc<App>, request: LoginRequest) -> Result<LoginAnswer, Failure> {
    let app = Arc::clone(app);
    to_the_end(Arc::clone(&app), async move {
        let subject = subject_of(&app.secrets, &request.username)?;
        let password = password_of(request.password, "password")?;
        let effect = Effect::Login {
            presented: presented(&app, &request.presented).await?,
            device: device_of(&request.client.user_agent),
        };
        let order =
            Order::new(&app.secrets, subject, &request.idempotency_key, password, request.client.address, effect)?;
        let done = run(&app, &order).await?;
        signed_in(&app, &order, done, request.wait_s).await
    })
    .await
}
