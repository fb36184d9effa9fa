//! The series of a rule: those of each of its backends, and those of answers without one.
//!
//! Owns which series a finished request touches. Must not know how a request is processed.
//!
//! A histogram and the counters of one backend are four kilobytes, and most of many routes see no traffic: what
//! has not counted yet is a name and a weight.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics::Counter;

use super::histogram::Histogram;
use super::names::{self, Metric};
use super::reason::Reason;
use super::recorder::{Gauges, Registry, Series};

pub(crate) use super::recorder::NONE;

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

/// The series of one rule. Made when the snapshot is compiled; each counts from its first request on.
pub(crate) struct RuleMetrics {
    registry: Registry,
    route: Arc<str>,
    rule: Arc<str>,
    /// One a backendRef, and the last one for answers without a backend.
    parts: Box<[Part]>,
}

struct Part {
    backend: Arc<str>,
    /// Bits of the weight that holds, which a rollout changes; NaN where there is no split to show.
    weight: AtomicU64,
    counted: OnceLock<Arc<Counted>>,
}

/// What a rule has counted for one backend. The series of a status code or reason is made when it is first
/// seen.
struct Counted {
    duration: Arc<Histogram>,
    request_bytes: OnceLock<Counter>,
    response_bytes: OnceLock<Counter>,
    shifted: OnceLock<Counter>,
    /// Sorted by key. Few entries, read by every worker, written when a code is new.
    requests: ArcSwap<Vec<(u32, Counter)>>,
    errors: ArcSwap<Vec<(Reason, Counter)>>,
}

/// The series of one rule x backend. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RouteMetrics {
    of: Arc<RuleMetrics>,
    part: usize,
}

impl RuleMetrics {
    /// `backends` are names and weights. What `earlier` has counted for the same backends counts on.
    pub(crate) fn new(
        registry: &Registry,
        route: Arc<str>,
        rule: Arc<str>,
        backends: impl IntoIterator<Item = (Arc<str>, u32)>,
        earlier: Option<&Self>,
    ) -> Arc<Self> {
        let weighted = backends
            .into_iter()
            .map(|(name, weight)| (name, f64::from(weight)));
        let part = |(backend, weight): (Arc<str>, f64)| {
            let known = earlier.and_then(|earlier| earlier.counted(&backend));
            Part {
                backend,
                weight: AtomicU64::new(weight.to_bits()),
                counted: known.map_or_else(OnceLock::new, OnceLock::from),
            }
        };
        let none = (registry.none(), f64::NAN);
        let this = Arc::new(Self {
            parts: weighted.chain([none]).map(part).collect(),
            registry: registry.clone(),
            route,
            rule,
        });
        registry.keep(&this);
        this
    }

    /// For requests that no rule is found for.
    pub(crate) fn unmatched(registry: &Registry) -> RouteMetrics {
        let none = || registry.none();
        Self::new(registry, none(), none(), [], None).without_backend()
    }

    /// Those of the backendRef with this index.
    pub(crate) fn of(self: &Arc<Self>, index: usize) -> RouteMetrics {
        RouteMetrics {
            of: Arc::clone(self),
            part: index.min(self.parts.len() - 1),
        }
    }

    /// Those of answers without a backend.
    pub(crate) fn without_backend(self: &Arc<Self>) -> RouteMetrics {
        self.of(usize::MAX)
    }

    fn counted(&self, backend: &str) -> Option<Arc<Counted>> {
        let mut parts = self.parts.iter();
        let known = parts.find(|part| *part.backend == *backend)?;
        known.counted.get().cloned()
    }
}

impl RouteMetrics {
    fn part(&self) -> &Part {
        &self.of.parts[self.part]
    }

    fn counted(&self) -> &Counted {
        self.part().counted.get_or_init(|| {
            Arc::new(Counted {
                duration: (self.of.registry).histogram(names::REQUEST_DURATION, &self.key()),
                request_bytes: OnceLock::new(),
                response_bytes: OnceLock::new(),
                shifted: OnceLock::new(),
                requests: ArcSwap::default(),
                errors: ArcSwap::default(),
            })
        })
    }

    /// Those of all backends of the rule.
    pub(crate) fn of_rule(&self) -> &RuleMetrics {
        &self.of
    }

    /// The label values: route, rule, backend.
    pub(crate) fn labels(&self) -> (&str, &str, &str) {
        (&self.of.route, &self.of.rule, &self.part().backend)
    }

    fn key(&self) -> [(&'static str, &str); 3] {
        let (route, rule, backend) = self.labels();
        [("route", route), ("rule", rule), ("backend", backend)]
    }

    /// Time from head to end of body; `None` before the first request.
    pub(crate) fn duration(&self) -> Option<&Histogram> {
        let counted = self.part().counted.get()?;
        Some(&counted.duration)
    }

    /// Notes the weight that holds from now on.
    pub(crate) fn set_weight(&self, weight: f64) {
        let bits = weight.to_bits();
        self.part().weight.store(bits, Ordering::Relaxed);
    }

    /// Counts a request that another backend served in place of this one.
    pub(crate) fn shifted(&self) {
        self.count(&self.counted().shifted, names::SHIFTED, 1);
    }

    fn count(&self, series: &OnceLock<Counter>, metric: Metric, by: u64) {
        let make = || self.of.registry.counter(metric, &self.key());
        series.get_or_init(make).increment(by);
    }

    /// Counts a request, once, at its very end.
    pub(crate) fn record(&self, finished: &Finished<'_>) {
        let counted = self.counted();
        counted.duration.record(finished.duration);
        if finished.request_bytes > 0 {
            let bytes = finished.request_bytes;
            self.count(&counted.request_bytes, names::REQUEST_BYTES, bytes);
        }
        if finished.response_bytes > 0 {
            let bytes = finished.response_bytes;
            self.count(&counted.response_bytes, names::RESPONSE_BYTES, bytes);
        }
        self.count_status(counted, finished);
        if let Some(reason) = finished.reason {
            self.count_error(counted, reason);
        }
    }

    fn count_status(&self, counted: &Counted, finished: &Finished<'_>) {
        let key = u32::from(finished.listener.0) << 16
            | u32::from(finished.http2) << 15
            | u32::from(finished.status);
        let known = counted.requests.load();
        if let Ok(at) = known.binary_search_by_key(&key, |(k, _)| *k) {
            known[at].1.increment(1);
            return;
        }
        let mut code = itoa::Buffer::new();
        let (route, rule, backend) = self.labels();
        let counter = self.of.registry.counter(
            names::REQUESTS,
            &[
                ("listener", finished.listener.1),
                ("route", route),
                ("rule", rule),
                ("backend", backend),
                ("code", code.format(finished.status)),
                ("protocol", if finished.http2 { "http2" } else { "http1" }),
            ],
        );
        counter.increment(1);
        counted.requests.rcu(|entries| {
            let mut entries = Vec::clone(entries);
            if let Err(at) = entries.binary_search_by_key(&key, |(k, _)| *k) {
                entries.insert(at, (key, counter.clone()));
            }
            entries
        });
    }

    fn count_error(&self, counted: &Counted, reason: Reason) {
        let known = counted.errors.load();
        if let Some((_, counter)) = known.iter().find(|(r, _)| *r == reason) {
            counter.increment(1);
            return;
        }
        let (route, rule, backend) = self.labels();
        let counter = self.of.registry.counter(
            names::ERRORS,
            &[
                ("route", route),
                ("rule", rule),
                ("backend", backend),
                ("reason", reason.as_str()),
            ],
        );
        counter.increment(1);
        counted.errors.rcu(|entries| {
            let mut entries = Vec::clone(entries);
            if entries.iter().all(|(r, _)| *r != reason) {
                entries.push((reason, counter.clone()));
            }
            entries
        });
    }
}

impl Counted {
    fn touch(&self) {
        let made = [&self.request_bytes, &self.response_bytes, &self.shifted];
        for counter in made.into_iter().filter_map(OnceLock::get) {
            counter.increment(0);
        }
        for (_, counter) in self.requests.load().iter() {
            counter.increment(0);
        }
        for (_, counter) in self.errors.load().iter() {
            counter.increment(0);
        }
    }
}

impl Series for RuleMetrics {
    fn refresh(&self) {
        let counted = self.parts.iter().filter_map(|part| part.counted.get());
        counted.for_each(|counted| counted.touch());
    }

    fn gauges(&self, out: &mut Gauges) {
        for part in &self.parts {
            let weight = f64::from_bits(part.weight.load(Ordering::Relaxed));
            if !weight.is_nan() {
                let labels = [
                    ("route", &*self.route),
                    ("rule", &*self.rule),
                    ("backend", &*part.backend),
                ];
                out.set(names::SPLIT_WEIGHT, &labels, weight);
            }
        }
    }
}

impl std::fmt::Debug for RuleMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RuleMetrics({}/{})", self.route, self.rule)
    }
}

impl std::fmt::Debug for RouteMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteMetrics")
            .field("labels", &self.labels())
            .finish_non_exhaustive()
    }
}
