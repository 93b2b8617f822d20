//! What is counted in a run.

use std::collections::BTreeMap;

use edgekeep_shared::feed::Entry;
use edgekeep_shared::revision::Revision;

/// Counts and times of a run.
#[derive(Debug, Default)]
pub struct Stats {
    /// Questions to the feed.
    pub polls: u64,
    /// Their bytes.
    pub poll_bytes: u64,
    /// Bytes of the answers to them.
    pub answer_bytes: u64,
    /// Reads of the feed's rows, on all coordinators.
    pub reads: u64,
    /// Requests with a cookie.
    pub requests: u64,
    /// Requests that passed.
    pub allowed: u64,
    /// Of those, from memory.
    pub local: u64,
    /// Requests that were refused.
    pub denied: u64,
    /// Requests that nobody could decide.
    pub unknown: u64,
    /// Flights of in-line refreshes of a lease, each of which any number of requests may share.
    pub refreshes: u64,
    /// In-line questions about a session.
    pub checks: u64,
    /// Of the requests, those of people (not of thieves who replay cookies).
    pub own: u64,
    /// What people's requests waited for: a refresh of the lease.
    pub own_refreshes: u64,
    /// What people's requests waited for: an answer about the session, on routes that are strict or isolates that are cold.
    pub own_checks: u64,
    /// What people's requests waited for: a renewal.
    pub own_renewals: u64,
    /// Revocations and role changes that became visible.
    pub raises: u64,
    raised_us: BTreeMap<(u64, Revision), u64>,
    /// From a raise to its arrival at an edge, by milliseconds; the last bucket is all beyond.
    pub arrivals: Vec<u64>,
}

/// So many milliseconds are told apart.
const BUCKETS: usize = 20_000;

impl Stats {
    /// Adds another run's counts.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.polls, other.polls),
            (&mut self.poll_bytes, other.poll_bytes),
            (&mut self.answer_bytes, other.answer_bytes),
            (&mut self.reads, other.reads),
            (&mut self.requests, other.requests),
            (&mut self.allowed, other.allowed),
            (&mut self.local, other.local),
            (&mut self.denied, other.denied),
            (&mut self.unknown, other.unknown),
            (&mut self.refreshes, other.refreshes),
            (&mut self.checks, other.checks),
            (&mut self.own, other.own),
            (&mut self.own_refreshes, other.own_refreshes),
            (&mut self.own_checks, other.own_checks),
            (&mut self.own_renewals, other.own_renewals),
            (&mut self.raises, other.raises),
        ] {
            *mine += theirs;
        }
    }

    /// In a line.
    #[must_use]
    pub fn summary(&self) -> String {
        format!(
            "{} requests ({} passed, {} of them from memory; {} refused; {} times 503), {} polls, {} refreshes, {} checks, {} raises",
            self.requests,
            self.allowed,
            self.local,
            self.denied,
            self.unknown,
            self.polls,
            self.refreshes,
            self.checks,
            self.raises,
        )
    }

    pub(crate) fn raised(&mut self, user: u32, revision: Revision, now_us: u64) {
        self.raises += 1;
        self.raised_us.insert((crate::database::user_id(user).0, revision), now_us);
    }

    pub(crate) fn arrived(&mut self, now_us: u64, entries: &[Entry]) {
        for entry in entries {
            let Some(raised_us) = self.raised_us.get(&(entry.user_id.0, entry.revision)) else { continue };
            if self.arrivals.is_empty() {
                self.arrivals = vec![0; BUCKETS];
            }
            let ms = usize::try_from(now_us.saturating_sub(*raised_us).div_ceil(1_000)).unwrap_or(BUCKETS);
            self.arrivals[ms.min(BUCKETS - 1)] += 1;
        }
    }

    /// The arrival time, in milliseconds, that this share of all arrivals does not exceed.
    #[must_use]
    pub fn arrival_ms(&self, share: f64) -> usize {
        let total: u64 = self.arrivals.iter().sum();
        let wanted = (total as f64 * share).ceil() as u64;
        let mut so_far = 0;
        self.arrivals
            .iter()
            .position(|count| {
                so_far += count;
                so_far >= wanted
            })
            .unwrap_or(0)
    }
}
