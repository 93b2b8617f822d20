//! The order of the steps. Nothing here decides; the transactions do.

use std::time::{Duration, Instant};

use super::Order;
use super::effect::Made;
use super::reserve::{Reserved, reserve};
use super::settle::settle;
use crate::app::App;
use crate::db::attempts::{self, Found, Settled};
use crate::db::{self, run_tx, users};
use crate::failure::Failure;
use crate::metrics::Metrics;

/// The first and the longest pause between two looks at an attempt that another delivery works on.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(160);

/// A settled attempt, whichever delivery settled it.
pub(crate) struct Done {
    pub(crate) settled: Settled,
    /// What this very delivery made. `None`: another one did, or nothing was made.
    pub(crate) made: Option<Made>,
}

/// Patience with attempts in flight, bounded.
struct Patience {
    until: Instant,
    pause: Duration,
}

impl Patience {
    async fn wait(&mut self) -> Result<(), Failure> {
        if Instant::now() + self.pause > self.until {
            return Err(Failure::InFlight);
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

/// What a look without any lock says.
enum Look {
    Settled(Settled),
    InFlight,
    Locked(Option<u64>),
    Free,
}

/// Looks before anything is queued for: a replay costs no permit, and a locked account fills no queue.
async fn look(app: &App, order: &Order) -> Result<Look, Failure> {
    let mut conn = db::acquire(&app.pool).await?;
    let seen = attempts::look(&mut conn, &order.ids, &order.subject).await?;
    match (seen.found, seen.locked_for_ms) {
        (Some(Found::Settled(settled)), _) => return Ok(Look::Settled(settled)),
        (Some(Found::InFlight), _) => return Ok(Look::InFlight),
        (None, Some(retry_after_ms)) => return Ok(Look::Locked(retry_after_ms)),
        (Some(Found::Abandoned { .. }), _) | (None, None) => {}
    }
    order.effect.precondition(&mut conn).await?;
    Ok(Look::Free)
}

/// Runs one delivery until the attempt is settled, by it or by another one, and counts what came of it.
///
/// # Errors
/// Everything that is not an outcome: locked, in flight for too long, overloaded, unavailable.
pub(crate) async fn run(app: &App, order: &Order) -> Result<Done, Failure> {
    let result = deliver(app, order).await;
    let outcome = match &result {
        Ok(done) => done.settled.outcome.as_str(),
        Err(failure) => failure.as_str(),
    };
    Metrics::count(&app.metrics.logins, outcome);
    result
}

async fn deliver(app: &App, order: &Order) -> Result<Done, Failure> {
    let mut patience =
        Patience { until: Instant::now() + Duration::from_millis(app.config.login.in_flight_wait_ms), pause: PAUSE };
    let mut address = order.address.as_deref();
    loop {
        match look(app, order).await? {
            Look::Settled(settled) => return Ok(Done { settled, made: None }),
            Look::InFlight => {
                patience.wait().await?;
                continue;
            }
            Look::Locked(retry_after_ms) => return Err(Failure::Locked { retry_after_ms }),
            Look::Free => {}
        }
        // One delivery is one guess of its address, however often it has to look.
        if let Some(address) = address.take() {
            app.address_limit
                .take(address, Instant::now())
                .map_err(|retry_after_ms| Failure::RateLimited { retry_after_ms })?;
        }
        let permit = app.hasher.permit().await;
        Metrics::count(&app.metrics.hashes, if permit.is_ok() { "granted" } else { "overloaded" });
        let permit = permit?;
        let place = match reserve(app, order).await? {
            Reserved::Place(place) => place,
            Reserved::Settled(settled) => return Ok(Done { settled, made: None }),
            Reserved::Locked(retry_after_ms) => return Err(Failure::Locked { retry_after_ms }),
            Reserved::Busy => {
                // Others have the places and need the permit more.
                drop(permit);
                patience.wait().await?;
                continue;
            }
        };
        let stored = place.user.as_ref().and_then(|user| user.password_hash.clone());
        let new = order.effect.new_password().cloned();
        let checked = app.hasher.check(permit, stored, order.password.clone(), new).await?;
        let Some(done) = settle(app, order, &place, &checked).await? else {
            // Past our deadline another delivery took it over and was faster: its outcome is ours.
            continue;
        };
        if done.made.as_ref().is_some_and(|made| made.raised) {
            app.feed.poke();
        }
        if done.made.is_some() && checked.stale && order.effect.new_password().is_none() {
            rehash(app, order, place.user);
        }
        return Ok(done);
    }
}

/// Replaces a hash of other parameters by one of those in force, with nobody waiting for it. It queues like a login; if
/// there is no room now, the next login of this user does it.
fn rehash(app: &App, order: &Order, user: Option<users::User>) {
    let Some((id, old)) = user.and_then(|user| Some((user.id, user.password_hash?))) else { return };
    let (pool, hasher, password) = (app.pool.clone(), app.hasher.clone(), order.password.clone());
    tokio::spawn(async move {
        let swapped: Result<bool, Failure> = async {
            let new = hasher.hash(hasher.permit().await?, password).await?;
            Ok(run_tx!(&pool, "login.rehash", async |conn| users::swap_hash(conn, id, &old, &new).await).await?)
        }
        .await;
        if let Err(error) = swapped {
            tracing::warn!(%error, "a password hash was not renewed; the next login tries again");
        }
    });
}
