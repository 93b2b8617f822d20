//! Who may ask this relay. It knows no credentials: it asks an upstream about the one that an edge shows, and remembers the
//! answer for a moment.
//!
//! What this module guarantees:
//! - A credential that was revoked is refused [`COUNTS_FOR`] after the upstream has noticed, at the latest; the time counts
//!   from when the upstream was *asked*.
//! - Nobody is let in because an upstream could not be asked.
//! - Only digests are kept, at most [`MAX_KNOWN`]; questions about one credential share one answer; only so many are
//!   asked at a time, whatever is made up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edgekeep_shared::credential::{Kind, parse};
use edgekeep_shared::retry::{Effort, Next, Preferred, Retry};
use sha2::{Digest as _, Sha256};
use tokio::sync::{OnceCell, Semaphore};

use super::upstream::{Lost, Upstreams, authorization};
use crate::feed::moment::{self, Moment};
use crate::metrics::Metrics;

/// A yes is believed for so long.
pub const COUNTS_FOR: Duration = Duration::from_secs(5);
/// A no is: the credential may have been made just now.
const REFUSED_FOR: Duration = Duration::from_secs(1);
/// That nobody could be asked is.
const UNKNOWN_FOR: Duration = Duration::from_millis(250);
/// Credentials that are remembered.
const MAX_KNOWN: usize = 1_024;
/// Questions about credentials at a time.
const MAX_CHECKS: usize = 32;

/// What is known of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts.
    Counts,
    /// It does not.
    Refused,
    /// Nobody could be asked.
    Unknown,
}

impl Verdict {
    const fn believed_for(self) -> Duration {
        match self {
            Self::Counts => COUNTS_FOR,
            Self::Refused => REFUSED_FOR,
            Self::Unknown => UNKNOWN_FOR,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Counts => "counts",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// A verdict and when it was asked for; empty while it is.
type Known = OnceCell<(Verdict, Moment)>;

fn is_believed(known: &Known, now: Moment) -> bool {
    known.get().is_none_or(|(verdict, asked)| asked.until(now) < verdict.believed_for())
}

/// The credentials of late.
pub(super) struct Callers {
    upstreams: Arc<Upstreams>,
    known: Mutex<HashMap<[u8; 32], Arc<Known>>>,
    checks: Semaphore,
    preferred: Mutex<Preferred>,
    metrics: Metrics,
}

impl Callers {
    pub(super) fn new(upstreams: Arc<Upstreams>, metrics: Metrics) -> Self {
        let (known, preferred) = (Mutex::default(), Mutex::default());
        Self { upstreams, known, checks: Semaphore::new(MAX_CHECKS), preferred, metrics }
    }

    /// Whose credential this is, and whether it counts.
    pub(super) async fn verdict(&self, credential: &str) -> (String, Verdict) {
        let Some(presented) = parse(credential) else { return (String::new(), Verdict::Refused) };
        let edge = presented.edge_id.to_owned();
        if presented.kind != Kind::Feed {
            // It opens more than the feed, and has no business here.
            tracing::warn!(edge, "an edge showed its own credential to a relay: its feed credential is asked for");
            return (edge, Verdict::Refused);
        }
        let Some(known) = self.entry(Sha256::digest(credential).into(), moment::now()) else {
            return (edge, Verdict::Unknown);
        };
        let (verdict, _) = known
            .get_or_init(async || {
                let asked = moment::now();
                let verdict = self.ask(credential).await;
                Metrics::count(&self.metrics.relay_checks, verdict.name());
                (verdict, asked)
            })
            .await;
        (edge, *verdict)
    }

    /// What is known under this digest, or room for it; `None`: there is none.
    fn entry(&self, digest: [u8; 32], now: Moment) -> Option<Arc<Known>> {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&digest).filter(|known| is_believed(known, now)) {
            return Some(Arc::clone(known));
        }
        if all.len() >= MAX_KNOWN && !all.contains_key(&digest) {
            all.retain(|_, known| is_believed(known, now));
            if all.len() >= MAX_KNOWN {
                return None;
            }
        }
        let known = Arc::new(Known::new());
        all.insert(digest, Arc::clone(&known));
        Some(known)
    }

    async fn ask(&self, credential: &str) -> Verdict {
        let Some(authorization) = authorization(credential) else { return Verdict::Refused };
        let Ok(_place) = self.checks.try_acquire() else { return Verdict::Unknown };
        let (count, began) = (self.upstreams.count(), moment::now());
        let passed_ms = || i64::try_from(moment::elapsed(began).as_millis()).unwrap_or(i64::MAX);
        let mut retry = Retry::new(Effort::INLINE, count, 0);
        while let Some(limit_ms) = retry.attempt_ms(passed_ms()) {
            let index = self.preferred().index(count, || 0);
            let limit = Duration::from_millis(limit_ms.into());
            match self.upstreams.counts(index, authorization.clone(), limit).await {
                Ok(true) => return Verdict::Counts,
                Ok(false) => return Verdict::Refused,
                Err(Lost::Status(status)) => {
                    tracing::debug!(%status, "an upstream does not tell whose credential this is")
                }
                Err(error) => tracing::debug!(%error, "an upstream could not be asked whose credential this is"),
            }
            self.preferred().failed(index, count);
            // Each upstream once: who asked may ask again.
            if let Next::Stop | Next::Again { pause: Some(_), .. } = retry.failed(None) {
                break;
            }
        }
        Verdict::Unknown
    }

    fn preferred(&self) -> std::sync::MutexGuard<'_, Preferred> {
        self.preferred.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callers() -> Callers {
        let upstreams = Upstreams::new(vec!["http://127.0.0.1:9".into()], "x").unwrap();
        Callers::new(Arc::new(upstreams), Metrics::new())
    }

    fn later(from: Moment, by: Duration) -> Moment {
        Moment { monotonic: from.monotonic + by, wall: from.wall + by }
    }

    #[tokio::test]
    async fn verdicts_are_believed_for_their_time_from_when_they_were_asked_for() {
        let (callers, now) = (callers(), moment::now());
        for (number, verdict) in [(1, Verdict::Counts), (2, Verdict::Refused), (3, Verdict::Unknown)] {
            let known = callers.entry([number; 32], now).unwrap();
            assert!(Arc::ptr_eq(&known, &callers.entry([number; 32], later(now, Duration::from_secs(9))).unwrap()));
            known.set((verdict, now)).unwrap();
            let last = later(now, verdict.believed_for() - Duration::from_nanos(1));
            assert!(Arc::ptr_eq(&known, &callers.entry([number; 32], last).unwrap()));
            let over = later(now, verdict.believed_for());
            assert!(!Arc::ptr_eq(&known, &callers.entry([number; 32], over).unwrap()), "{verdict:?}");
        }
    }

    #[tokio::test]
    async fn what_is_made_up_takes_no_more_room_than_there_is() {
        let (callers, now) = (callers(), moment::now());
        let digest = |number: usize| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&number.to_be_bytes());
            digest
        };
        for number in 0..MAX_KNOWN {
            callers.entry(digest(number), now).unwrap().set((Verdict::Refused, now)).unwrap();
        }
        assert!(callers.entry(digest(MAX_KNOWN), now).is_none());
        assert!(callers.entry(digest(5), later(now, COUNTS_FOR)).is_some(), "who is known can be asked about again");
        assert!(callers.entry(digest(MAX_KNOWN), later(now, COUNTS_FOR)).is_some());
        assert!(callers.known.lock().unwrap().len() <= 3);
    }

    #[tokio::test]
    async fn nobody_is_let_in_while_nobody_can_be_asked() {
        let own = edgekeep_shared::credential::edge_credential("edge-1", &[7; 32]);
        let feed = edgekeep_shared::credential::feed_credential(&own).unwrap();
        let callers = callers();
        assert_eq!(callers.verdict(&feed).await, ("edge-1".into(), Verdict::Unknown));
        assert_eq!(callers.verdict(&own).await, ("edge-1".into(), Verdict::Refused));
        assert_eq!(callers.verdict("x").await.1, Verdict::Refused);
    }
}
