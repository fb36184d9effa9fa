//! Copies of requests, of one mirror.
//!
//! Must not know how they are made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use metrics::{Counter, Gauge};

use super::histogram::Histogram;
use super::names;
use super::recorder::{Registry, Series};

/// What became of a copy. A closed set; the `outcome` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mirrored {
    /// A response came, with a status below 500.
    Ok,
    /// A response came, with a status from 500.
    ServerError,
    /// No connection.
    ConnectFailed,
    /// Its time was up.
    Timeout,
    /// The connection broke, or what came was not HTTP.
    Reset,
    /// The backend has no usable endpoint.
    NoEndpoint,
    /// There were as many copies on their way as there may be.
    Dropped,
    /// The backend has its limit of requests or connections.
    LimitExceeded,
    /// The body is larger than is kept for copies.
    BodyTooLarge,
    /// The body did not come to its end.
    BodyBroken,
    /// The request asks for a tunnel.
    Upgrade,
    /// The filters of the rule cannot be applied to the request.
    Invalid,
}

const OUTCOMES: [&str; 12] = [
    "ok",
    "server_error",
    "connect_failed",
    "timeout",
    "reset",
    "no_endpoint",
    "dropped_max_in_flight",
    "dropped_limit_exceeded",
    "skipped_body_too_large",
    "skipped_body_broken",
    "skipped_upgrade",
    "skipped_invalid",
];

/// See the module.
pub(crate) struct MirrorMetrics {
    outcomes: [Counter; OUTCOMES.len()],
    first_byte: Arc<Histogram>,
    gauge: Gauge,
    /// Copies on their way.
    pub(crate) in_flight: CachePadded<AtomicU32>,
}

impl MirrorMetrics {
    /// `backend` gets the copies.
    pub(crate) fn new(registry: &Registry, route: &str, rule: &str, backend: &str) -> Arc<Self> {
        let labels = [("route", route), ("rule", rule), ("backend", backend)];
        let [of_route, of_rule, of_backend] = labels;
        let this = Arc::new(Self {
            outcomes: OUTCOMES.map(|outcome| {
                let labels = [of_route, of_rule, of_backend, ("outcome", outcome)];
                registry.counter(names::MIRRORED, &labels)
            }),
            first_byte: registry.histogram(names::MIRROR_FIRST_BYTE, &labels),
            gauge: registry.gauge(names::MIRRORS_IN_FLIGHT, &labels),
            in_flight: CachePadded::default(),
        });
        registry.keep(&this);
        this
    }

    /// Counts a copy, and the time to the head of its answer where one came.
    pub(crate) fn mirrored(&self, outcome: Mirrored, first_byte: Option<Duration>) {
        self.outcomes[outcome as usize].increment(1);
        if let Some(elapsed) = first_byte {
            self.first_byte.record(elapsed);
        }
    }
}

impl Series for MirrorMetrics {
    fn refresh(&self) {
        for counter in &self.outcomes {
            counter.increment(0);
        }
        let copies = self.in_flight.load(Ordering::Relaxed);
        self.gauge.set(f64::from(copies));
    }
}

impl std::fmt::Debug for MirrorMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MirrorMetrics")
    }
}
