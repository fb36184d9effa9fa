//! The handles of one rule and one of its backends.
//!
//! Owns which series a finished request touches. Must not know how a request is processed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics::{Counter, Gauge};

use super::histogram::Histogram;
use super::names::{self, Metric};
use super::reason::Reason;
use super::recorder::{Registry, Series};

/// The label value where a request has no backend, rule or route.
pub(crate) const NONE: &str = "none";

/// What a finished request looked like from the client's side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finished<'a> {
    /// Number of the listener in the snapshot, and its name for the label.
    pub(crate) listener: (u16, &'a str),
    /// Whether the client spoke HTTP/2.
    pub(crate) http2: bool,
    /// Status code sent, or 499 when the client left before there was one.
    pub(crate) status: u16,
    /// Why, when the proxy answered by itself or cut the body.
    pub(crate) reason: Option<Reason>,
    /// Head of the request to end of the response's body.
    pub(crate) duration: Duration,
    /// Bytes of the bodies.
    pub(crate) request_bytes: u64,
    /// See `request_bytes`.
    pub(crate) response_bytes: u64,
}

/// Handles for one rule x backend. Resolved when the snapshot is compiled, except that the series of
/// a status code or reason is made when it is first seen.
pub(crate) struct RouteMetrics {
    registry: Registry,
    route: Box<str>,
    rule: Box<str>,
    backend: Box<str>,
    duration: Arc<Histogram>,
    request_bytes: OnceLock<Counter>,
    response_bytes: OnceLock<Counter>,
    shifted: OnceLock<Counter>,
    weight: Option<Gauge>,
    /// Bits of the weight that holds; a rollout changes it.
    weight_value: AtomicU64,
    /// Sorted by key. Few entries, read by every worker, written when a code is new.
    requests: ArcSwap<Vec<(u32, Counter)>>,
    errors: ArcSwap<Vec<(Reason, Counter)>>,
}

impl RouteMetrics {
    /// Resolves the handles. `weight` is absent where there is no split to show.
    pub(crate) fn new(
        registry: &Registry,
        route: &str,
        rule: &str,
        backend: &str,
        weight: Option<u32>,
    ) -> Arc<Self> {
        let labels = [("route", route), ("rule", rule), ("backend", backend)];
        let metrics = Arc::new(Self {
            duration: registry.histogram(names::REQUEST_DURATION, &labels),
            request_bytes: OnceLock::new(),
            response_bytes: OnceLock::new(),
            shifted: OnceLock::new(),
            weight: weight.map(|_| registry.gauge(names::SPLIT_WEIGHT, &labels)),
            weight_value: AtomicU64::new(f64::from(weight.unwrap_or(0)).to_bits()),
            requests: ArcSwap::default(),
            errors: ArcSwap::default(),
            registry: registry.clone(),
            route: route.into(),
            rule: rule.into(),
            backend: backend.into(),
        });
        registry.keep(&metrics);
        metrics
    }

    /// The label values: route, rule, backend.
    pub(crate) fn labels(&self) -> (&str, &str, &str) {
        (&self.route, &self.rule, &self.backend)
    }

    /// Time from head to end of body.
    pub(crate) fn duration(&self) -> &Histogram {
        &self.duration
    }

    /// Notes the weight that holds from now on.
    pub(crate) fn set_weight(&self, weight: f64) {
        self.weight_value.store(weight.to_bits(), Ordering::Relaxed);
    }

    /// Counts a request that another backend served in place of this one.
    pub(crate) fn shifted(&self) {
        self.count(&self.shifted, names::SHIFTED, 1);
    }

    /// A series costs a kilobyte, and most of many routes see no traffic: it is made when it is first needed.
    fn count(&self, series: &OnceLock<Counter>, metric: Metric, by: u64) {
        let make = || self.registry.counter(metric, &self.key());
        series.get_or_init(make).increment(by);
    }

    fn key(&self) -> [(&'static str, &str); 3] {
        [
            ("route", &*self.route),
            ("rule", &*self.rule),
            ("backend", &*self.backend),
        ]
    }

    /// Counts a request, once, at its very end.
    pub(crate) fn record(&self, finished: &Finished<'_>) {
        self.duration.record(finished.duration);
        if finished.request_bytes > 0 {
            let bytes = finished.request_bytes;
            self.count(&self.request_bytes, names::REQUEST_BYTES, bytes);
        }
        if finished.response_bytes > 0 {
            let bytes = finished.response_bytes;
            self.count(&self.response_bytes, names::RESPONSE_BYTES, bytes);
        }
        self.count_status(finished);
        if let Some(reason) = finished.reason {
            self.count_error(reason);
        }
    }

    fn count_status(&self, finished: &Finished<'_>) {
        let key = u32::from(finished.listener.0) << 16
            | u32::from(finished.http2) << 15
            | u32::from(finished.status);
        let known = self.requests.load();
        if let Ok(at) = known.binary_search_by_key(&key, |(k, _)| *k) {
            known[at].1.increment(1);
            return;
        }
        let mut code = itoa::Buffer::new();
        let counter = self.registry.counter(
            names::REQUESTS,
            &[
                ("listener", finished.listener.1),
                ("route", &self.route),
                ("rule", &self.rule),
                ("backend", &self.backend),
                ("code", code.format(finished.status)),
                ("protocol", if finished.http2 { "http2" } else { "http1" }),
            ],
        );
        counter.increment(1);
        self.requests.rcu(|entries| {
            let mut entries = Vec::clone(entries);
            if let Err(at) = entries.binary_search_by_key(&key, |(k, _)| *k) {
                entries.insert(at, (key, counter.clone()));
            }
            entries
        });
    }

    fn count_error(&self, reason: Reason) {
        let known = self.errors.load();
        if let Some((_, counter)) = known.iter().find(|(r, _)| *r == reason) {
            counter.increment(1);
            return;
        }
        let counter = self.registry.counter(
            names::ERRORS,
            &[
                ("route", &self.route),
                ("rule", &self.rule),
                ("backend", &self.backend),
                ("reason", reason.as_str()),
            ],
        );
        counter.increment(1);
        self.errors.rcu(|entries| {
            let mut entries = Vec::clone(entries);
            if entries.iter().all(|(r, _)| *r != reason) {
                entries.push((reason, counter.clone()));
            }
            entries
        });
    }
}

impl Series for RouteMetrics {
    fn refresh(&self) {
        let made = [&self.request_bytes, &self.response_bytes, &self.shifted];
        for counter in made.into_iter().filter_map(OnceLock::get) {
            counter.increment(0);
        }
        if let Some(weight) = &self.weight {
            weight.set(f64::from_bits(self.weight_value.load(Ordering::Relaxed)));
        }
        for (_, counter) in self.requests.load().iter() {
            counter.increment(0);
        }
        for (_, counter) in self.errors.load().iter() {
            counter.increment(0);
        }
    }
}

impl std::fmt::Debug for RouteMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteMetrics")
            .field("labels", &self.labels())
            .finish_non_exhaustive()
    }
}
