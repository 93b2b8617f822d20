//! Who may ask this relay. It knows no credentials: it asks an upstream about the one that an edge shows, and remembers the
//! answer for a moment.
//!
//! What this module guarantees:
//! - A credential that was revoked is refused [`COUNTS_FOR`] after the upstream has noticed, at the latest; the time counts
//!   from when the upstream was *asked*.
//! - Nobody is let in because an upstream could not be asked.
//! - Whatever credentials are made up, an edge that has been let in is not kept out by them: it is asked about again
//!   before the answer has run out, in places that nobody else takes ([`ASK_AGAIN_AFTER`], [`Callers::known_checks`]), and is not forgotten for them ([`Remembered::make_room`]).
//! - A question that was begun ends, whether or not anybody still waits for it.
//! - Only digests are kept, at most [`MAX_KNOWN`] and of strangers [`MAX_STRANGERS`]; questions about one credential share
//!   one answer; only so many are asked at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderValue;
use edgekeep_shared::credential::{Kind, parse};
use edgekeep_shared::retry::{Effort, Next, Preferred, Retry};
use sha2::{Digest as _, Sha256};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::timeout;

use super::upstream::{Lost, Upstreams, authorization};
use crate::feed::moment::{self, Moment};
use crate::metrics::Metrics;

/// A yes is believed for so long.
pub const COUNTS_FOR: Duration = Duration::from_secs(5);
/// A yes as old as this is asked for again while it is still believed.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(2_500);
/// A no is believed for so long: the credential may have been made just now.
const REFUSED_FOR: Duration = Duration::from_secs(1);
/// That nobody could be asked is.
const UNKNOWN_FOR: Duration = Duration::from_millis(250);
/// Credentials that are remembered.
const MAX_KNOWN: usize = 2_048;
/// Those of them that have not counted.
const MAX_STRANGERS: usize = 1_024;
/// Questions at a time about credentials that have not counted yet, and as many about others.
const MAX_CHECKS: usize = 32;
/// How long a question waits for its place: made-up credentials are answered in milliseconds and soon make room.
const PLACE_WITHIN: Duration = Duration::from_millis(500);

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
type Answer = OnceCell<(Verdict, Moment)>;

/// What is remembered of one credential.
struct Known {
    answer: Arc<Answer>,
    /// It counted when it was asked about before: it is no stranger.
    has_counted: bool,
    /// It is being asked about again, while its answer is still believed.
    asked_again: bool,
}

impl Known {
    fn is_believed(&self, now: Moment) -> bool {
        self.answer.get().is_none_or(|(verdict, asked)| asked.until(now) < verdict.believed_for())
    }

    /// No upstream has said that it counts, or not any more.
    fn is_stranger(&self) -> bool {
        match self.answer.get() {
            Some((Verdict::Counts, _)) => false,
            Some((Verdict::Refused, _)) => true,
            Some((Verdict::Unknown, _)) | None => !self.has_counted,
        }
    }
}

/// What to do for somebody who shows a credential.
enum Step {
    /// Answer with this; ask again meanwhile, if told to.
    Believe { verdict: Verdict, ask_again: bool },
    /// Wait for this answer: ask, if nobody does.
    Wait { answer: Arc<Answer>, has_counted: bool },
    /// There is no room for one more.
    Full,
}

/// The credentials of late, by their digests.
#[derive(Default)]
struct Remembered(HashMap<[u8; 32], Known>);

impl Remembered {
    fn step(&mut self, digest: [u8; 32], now: Moment) -> Step {
        let mut has_counted = false;
        if let Some(known) = self.0.get_mut(&digest) {
            has_counted = !known.is_stranger();
            if known.is_believed(now) {
                let Some(&(verdict, asked)) = known.answer.get() else {
                    return Step::Wait { answer: Arc::clone(&known.answer), has_counted };
                };
                let due = verdict == Verdict::Counts && asked.until(now) >= ASK_AGAIN_AFTER;
                let ask_again = due && !known.asked_again;
                known.asked_again |= due;
                return Step::Believe { verdict, ask_again };
            }
        } else if !self.make_room(now) {
            return Step::Full;
        }
        let answer = Arc::new(Answer::new());
        self.0.insert(digest, Known { answer: Arc::clone(&answer), has_counted, asked_again: false });
        Step::Wait { answer, has_counted }
    }

    /// Room for one more, who is a stranger. Other strangers make it; edges that have been silent for a while do only where
    /// there are more edges than strangers may ever be. Questions that are being asked stay, so that they are shared.
    fn make_room(&mut self, now: Moment) -> bool {
        let is_asked = |known: &Known| known.answer.get().is_none();
        if self.strangers() >= MAX_STRANGERS {
            self.0.retain(|_, known| is_asked(known) || !known.is_stranger());
        }
        if self.0.len() >= MAX_KNOWN {
            self.0.retain(|_, known| is_asked(known) || known.is_believed(now));
        }
        self.strangers() < MAX_STRANGERS && self.0.len() < MAX_KNOWN
    }

    fn strangers(&self) -> usize {
        self.0.values().filter(|known| known.is_stranger()).count()
    }

    /// What came of asking again. A word of an upstream takes the place of the older one, whatever it is; silence
    /// leaves the older one its time.
    fn asked_again(&mut self, digest: &[u8; 32], verdict: Verdict, asked: Moment) {
        let Some(known) = self.0.get_mut(digest) else { return };
        known.asked_again = false;
        if verdict != Verdict::Unknown {
            known.answer = Arc::new(Answer::new_with(Some((verdict, asked))));
        }
    }
}

/// Who may ask.
pub(super) struct Callers {
    upstreams: Arc<Upstreams>,
    remembered: Mutex<Remembered>,
    /// Places for questions about strangers.
    checks: Semaphore,
    /// Places for questions about credentials that have counted: no stranger can take them.
    known_checks: Semaphore,
    preferred: Mutex<Preferred>,
    metrics: Metrics,
}

impl Callers {
    pub(super) fn new(upstreams: Arc<Upstreams>, metrics: Metrics) -> Self {
        let (remembered, preferred) = (Mutex::default(), Mutex::default());
        let (checks, known_checks) = (Semaphore::new(MAX_CHECKS), Semaphore::new(MAX_CHECKS));
        Self { upstreams, remembered, checks, known_checks, preferred, metrics }
    }

    /// Whose credential this is, and whether it counts.
    pub(super) async fn verdict(self: &Arc<Self>, credential: &str) -> (String, Verdict) {
        let Some(presented) = parse(credential) else { return (String::new(), Verdict::Refused) };
        let edge = presented.edge_id.to_owned();
        if presented.kind != Kind::Feed {
            // It opens more than the feed, and has no business here.
            tracing::warn!(edge, "an edge showed its own credential to a relay: its feed credential is asked for");
            return (edge, Verdict::Refused);
        }
        let Some(authorization) = authorization(credential) else { return (edge, Verdict::Refused) };
        let digest: [u8; 32] = Sha256::digest(credential).into();
        let step = self.remembered().step(digest, moment::now());
        let verdict = match step {
            Step::Believe { verdict, ask_again } => {
                if ask_again {
                    let callers = Arc::clone(self);
                    // Beside the caller: who is let in does not wait, and one that goes away ends nothing.
                    tokio::spawn(async move {
                        let (verdict, asked) = callers.ask(authorization, true).await;
                        callers.remembered().asked_again(&digest, verdict, asked);
                    });
                }
                verdict
            }
            Step::Wait { answer, has_counted } => {
                let callers = Arc::clone(self);
                // To its end though the caller goes away: else what is made up and hung up on would be "being asked"
                // for ever, and take the room of everybody.
                let asked = async move { answer.get_or_init(|| callers.ask(authorization, has_counted)).await.0 };
                tokio::spawn(asked).await.unwrap_or(Verdict::Unknown)
            }
            Step::Full => Verdict::Unknown,
        };
        (edge, verdict)
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks an upstream. The moment: when that began.
    async fn ask(&self, authorization: HeaderValue, has_counted: bool) -> (Verdict, Moment) {
        let places = if has_counted { &self.known_checks } else { &self.checks };
        let place = timeout(PLACE_WITHIN, places.acquire()).await;
        let asked = moment::now();
        let verdict = match place {
            Ok(Ok(_place)) => self.ask_upstreams(authorization).await,
            _ => Verdict::Unknown,
        };
        Metrics::count(&self.metrics.relay_checks, verdict.name());
        (verdict, asked)
    }

    async fn ask_upstreams(&self, authorization: HeaderValue) -> Verdict {
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

    fn preferred(&self) -> MutexGuard<'_, Preferred> {
        self.preferred.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn callers(upstream: String) -> Arc<Callers> {
        let upstreams = Upstreams::new(vec![upstream], "x").unwrap();
        Arc::new(Callers::new(Arc::new(upstreams), Metrics::new()))
    }

    fn later(from: Moment, by: Duration) -> Moment {
        Moment { monotonic: from.monotonic + by, wall: from.wall + by }
    }

    fn digest(number: usize) -> [u8; 32] {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        digest
    }

    impl Remembered {
        /// Somebody shows it, an upstream is asked, and says this.
        fn told(&mut self, number: usize, verdict: Verdict, now: Moment) {
            let Step::Wait { answer, .. } = self.step(digest(number), now) else {
                panic!("{number} is not asked about")
            };
            answer.set((verdict, now)).unwrap();
        }

        fn believes(&mut self, number: usize, now: Moment) -> Option<(Verdict, bool)> {
            match self.step(digest(number), now) {
                Step::Believe { verdict, ask_again } => Some((verdict, ask_again)),
                Step::Wait { .. } | Step::Full => None,
            }
        }
    }

    #[test]
    fn verdicts_are_believed_for_their_time_from_when_they_were_asked_for() {
        let now = moment::now();
        for verdict in [Verdict::Counts, Verdict::Refused, Verdict::Unknown] {
            let mut remembered = Remembered::default();
            remembered.told(1, verdict, now);
            let over = later(now, verdict.believed_for());
            let last = later(now, verdict.believed_for() - Duration::from_nanos(1));
            assert_eq!(remembered.believes(1, last).unwrap().0, verdict);
            assert_eq!(remembered.believes(1, over), None, "{verdict:?}");
            assert!(
                matches!(remembered.step(digest(1), later(over, COUNTS_FOR)), Step::Wait { .. }),
                "it is being asked"
            );
        }
    }

    #[test]
    fn a_yes_is_asked_for_again_before_it_has_run_out_and_once_at_a_time() {
        let (mut remembered, now) = (Remembered::default(), moment::now());
        remembered.told(1, Verdict::Counts, now);
        let due = later(now, ASK_AGAIN_AFTER);
        assert_eq!(
            remembered.believes(1, later(now, ASK_AGAIN_AFTER - Duration::from_nanos(1))),
            Some((Verdict::Counts, false))
        );
        assert_eq!(remembered.believes(1, due), Some((Verdict::Counts, true)));
        assert_eq!(remembered.believes(1, due), Some((Verdict::Counts, false)), "that is under way");

        // Nobody answers: the old word keeps its time, and no more.
        remembered.asked_again(&digest(1), Verdict::Unknown, due);
        assert_eq!(remembered.believes(1, later(due, Duration::from_secs(1))), Some((Verdict::Counts, true)));
        remembered.asked_again(&digest(1), Verdict::Unknown, due);
        assert_eq!(remembered.believes(1, later(now, COUNTS_FOR)), None);

        remembered = Remembered::default();
        remembered.told(1, Verdict::Counts, now);
        let _ = remembered.believes(1, due);
        remembered.asked_again(&digest(1), Verdict::Counts, due);
        assert_eq!(remembered.believes(1, later(now, COUNTS_FOR)), Some((Verdict::Counts, true)), "5 s from then");
        remembered.asked_again(&digest(1), Verdict::Refused, later(now, COUNTS_FOR));
        assert_eq!(remembered.believes(1, later(now, COUNTS_FOR)), Some((Verdict::Refused, false)), "at once");
        let revoked = later(now, COUNTS_FOR + REFUSED_FOR);
        assert!(
            matches!(remembered.step(digest(1), revoked), Step::Wait { has_counted: false, .. }),
            "a stranger again"
        );
    }

    #[test]
    fn what_is_made_up_takes_no_more_room_than_there_is_and_no_edges() {
        let (mut remembered, now) = (Remembered::default(), moment::now());
        let (answered, silent, unanswered) = (MAX_STRANGERS + 1, MAX_STRANGERS + 2, MAX_STRANGERS + 3);
        for edge in [answered, silent, unanswered] {
            remembered.told(edge, Verdict::Counts, now);
        }
        let late = later(now, COUNTS_FOR * 2);
        remembered.told(answered, Verdict::Counts, late);
        remembered.told(unanswered, Verdict::Unknown, late);
        for number in 10_000..10_000 + 10 * MAX_STRANGERS {
            remembered.told(number, Verdict::Refused, late);
            assert!(remembered.strangers() <= MAX_STRANGERS);
        }
        // All at once, with nobody answered yet: questions are shared, and nobody makes room.
        for number in 0..MAX_STRANGERS {
            assert!(matches!(remembered.step(digest(number), late), Step::Wait { has_counted: false, .. }));
        }
        assert!(matches!(remembered.step(digest(MAX_STRANGERS), late), Step::Full));
        assert!(matches!(remembered.step(digest(1), late), Step::Wait { .. }));

        assert_eq!(remembered.believes(answered, late), Some((Verdict::Counts, false)));
        let after = later(late, UNKNOWN_FOR);
        for edge in [silent, unanswered] {
            assert!(
                matches!(remembered.step(digest(edge), after), Step::Wait { has_counted: true, .. }),
                "no stranger"
            );
        }
    }

    #[test]
    fn of_more_edges_than_there_is_room_for_silent_ones_go() {
        let (mut remembered, now) = (Remembered::default(), moment::now());
        for number in 0..MAX_KNOWN {
            remembered.told(number, Verdict::Counts, now);
        }
        assert!(matches!(remembered.step(digest(MAX_KNOWN), now), Step::Full));
        remembered.told(MAX_KNOWN, Verdict::Counts, later(now, COUNTS_FOR));
        assert_eq!(remembered.0.len(), 1);
    }

    /// Somebody who says yes to every question.
    async fn upstream() -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let yes = axum::Router::new().fallback(|| async { "" });
        tokio::spawn(async move { axum::serve(listener, yes).await });
        base
    }

    #[tokio::test]
    async fn an_edge_is_asked_about_while_strangers_have_taken_all_of_their_places() {
        let (callers, word) = (callers(upstream().await), HeaderValue::from_static("x"));
        let taken = callers.checks.acquire_many(MAX_CHECKS as u32).await.unwrap();
        assert_eq!(callers.ask(word.clone(), true).await.0, Verdict::Counts);
        assert_eq!(callers.ask(word.clone(), false).await.0, Verdict::Unknown);
        drop(taken);
        let _taken = callers.known_checks.acquire_many(MAX_CHECKS as u32).await.unwrap();
        assert_eq!(callers.ask(word.clone(), true).await.0, Verdict::Unknown, "these are limited as well");
        assert_eq!(callers.ask(word, false).await.0, Verdict::Counts);
    }

    #[tokio::test]
    async fn a_question_ends_though_whoever_asked_has_hung_up() {
        let own = edgekeep_shared::credential::edge_credential("edge-1", &[7; 32]);
        let feed = edgekeep_shared::credential::feed_credential(&own).unwrap();
        let callers = callers(upstream().await);
        assert!(callers.verdict(&feed).now_or_never().is_none(), "asked, and then dropped");
        let answered = async {
            while callers.remembered().0.values().any(|known| known.answer.get().is_none()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(20), answered).await.unwrap();
        assert_eq!(callers.remembered().0.len(), 1);
    }

    #[tokio::test]
    async fn nobody_is_let_in_while_nobody_can_be_asked() {
        let own = edgekeep_shared::credential::edge_credential("edge-1", &[7; 32]);
        let feed = edgekeep_shared::credential::feed_credential(&own).unwrap();
        let callers = callers("http://127.0.0.1:9".into());
        assert_eq!(callers.verdict(&feed).await, ("edge-1".into(), Verdict::Unknown));
        assert_eq!(callers.verdict(&own).await, ("edge-1".into(), Verdict::Refused));
        assert_eq!(callers.verdict("x").await.1, Verdict::Refused);
    }
}
