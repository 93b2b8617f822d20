//! Counters and histograms, in the text format that Prometheus reads.
//!
//! Every label has a bounded set of values: route patterns, stable codes, outcomes. No name, no id, no address.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the duration buckets, in seconds.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// An answered request.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestLabels {
    /// The route's path as in the route table, or `other`.
    pub route: &'static str,
    /// HTTP status.
    pub status: u16,
}

/// One label from a closed list.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Outcome {
    /// A stable name.
    pub outcome: &'static str,
}

/// A route, for durations.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Route {
    /// The route's path as in the route table, or `other`.
    pub route: &'static str,
}

type Durations = Family<Route, Histogram, fn() -> Histogram>;

/// All metrics of one coordinator; clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Requests answered, by route and status.
    pub requests: Family<RequestLabels, Counter>,
    /// Time to the answer's head, by route; held polls include the hold.
    pub request_seconds: Durations,
    /// Errors answered, by stable code.
    pub problems: Family<Outcome, Counter>,
    /// Requests with no credential, or one that does not count.
    pub edge_refused: Counter,
    /// Logins by outcome: `succeeded`, `invalid_credentials`, `locked`, …
    pub logins: Family<Outcome, Counter>,
    /// Password hashes by what came of waiting for a permit.
    pub hashes: Family<Outcome, Counter>,
    /// Strict checks and renewals by verdict.
    pub checks: Family<Outcome, Counter>,
    /// Questions that shared one database write.
    pub check_batch: Histogram,
    /// What a relay was told about edges' credentials: `counts`, `refused`, `unknown`.
    pub relay_checks: Family<Outcome, Counter>,
    /// Reads of the feed; in a relay complete answers of its upstream.
    pub feed_reads: Counter,
    /// Heartbeats committed.
    pub feed_heartbeats: Counter,
    /// Times that the feed's connection was lost; in a relay questions that its upstream did not answer well.
    pub feed_reconnects: Counter,
    /// Entries in memory.
    pub feed_entries: Gauge,
    /// Polls held now.
    pub feed_polls: Gauge,
    /// Those of them that relays ask.
    pub feed_relay_polls: Gauge,
    /// Age of the feed's answers in milliseconds, at the scrape.
    pub feed_age_ms: Gauge,
    /// Transactions by how they ended, if not well: `unavailable`, `commit_unknown`, …
    pub database_errors: Family<Outcome, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A fresh set, registered.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("edgekeep");
        let durations: fn() -> Histogram = || Histogram::new(SECONDS);
        let mut metrics = Self {
            registry: Arc::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(durations),
            problems: Family::default(),
            edge_refused: Counter::default(),
            logins: Family::default(),
            hashes: Family::default(),
            checks: Family::default(),
            check_batch: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]),
            relay_checks: Family::default(),
            feed_reads: Counter::default(),
            feed_heartbeats: Counter::default(),
            feed_reconnects: Counter::default(),
            feed_entries: Gauge::default(),
            feed_polls: Gauge::default(),
            feed_relay_polls: Gauge::default(),
            feed_age_ms: Gauge::default(),
            database_errors: Family::default(),
        };
        let m = &metrics;
        registry.register("http_requests", "Requests answered", m.requests.clone());
        registry.register("http_request_seconds", "Time to the answer", m.request_seconds.clone());
        registry.register("problems", "Errors answered, by code", m.problems.clone());
        registry.register("edge_refused", "Requests without a credential that counts", m.edge_refused.clone());
        registry.register("logins", "Logins by outcome", m.logins.clone());
        registry.register("hashes", "Password hashes by outcome of the queue", m.hashes.clone());
        registry.register("checks", "Strict checks and renewals by verdict", m.checks.clone());
        registry.register("check_batch_size", "Questions that shared one database write", m.check_batch.clone());
        registry.register("relay_checks", "Credentials that a relay asked about", m.relay_checks.clone());
        registry.register("feed_reads", "Reads of the revocation feed", m.feed_reads.clone());
        registry.register("feed_heartbeats", "Heartbeats committed", m.feed_heartbeats.clone());
        registry.register("feed_reconnects", "Times the feed's connection was lost", m.feed_reconnects.clone());
        registry.register("feed_entries", "Feed entries in memory", m.feed_entries.clone());
        registry.register("feed_held_polls", "Polls held now", m.feed_polls.clone());
        registry.register("feed_held_relay_polls", "Polls of relays held now", m.feed_relay_polls.clone());
        registry.register("feed_age_milliseconds", "Age of the feed's answers; -1: none", m.feed_age_ms.clone());
        registry.register("database_errors", "Database operations that failed", m.database_errors.clone());
        metrics.registry = Arc::new(registry);
        metrics
    }

    /// Counts something with an outcome from a closed list.
    pub fn count(family: &Family<Outcome, Counter>, outcome: &'static str) {
        family.get_or_create(&Outcome { outcome }).inc();
    }

    /// All of them as text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string fails never.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown() {
        let metrics = Metrics::new();
        metrics.clone().edge_refused.inc();
        Metrics::count(&metrics.checks, "current");
        metrics.request_seconds.get_or_create(&Route { route: "/v1/feed" }).observe(0.002);
        let text = metrics.encode();
        for line in [
            "edgekeep_edge_refused_total 1",
            "edgekeep_checks_total{outcome=\"current\"} 1",
            "edgekeep_http_request_seconds_count{route=\"/v1/feed\"} 1",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
