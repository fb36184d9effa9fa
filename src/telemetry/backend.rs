//! The handles of one backend: attempts, connections, time to first byte.
//!
//! Must not know how an attempt is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use metrics::Counter;

use super::histogram::Histogram;
use super::http2::{Http2Limit, Http2Metrics};
use super::names;
use super::recorder::{Gauges, Registry, Series};

/// How an attempt ended. A closed set; the `outcome` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptOutcome {
    /// A response came, with a status below 500.
    Ok,
    /// A response came, with a status from 500.
    ServerError,
    /// No connection.
    ConnectFailed,
    /// No answer in time, connecting included.
    Timeout,
    /// The connection or stream broke before the response's head.
    Reset,
}

const OUTCOMES: [&str; 5] = ["ok", "server_error", "connect_failed", "timeout", "reset"];

/// Why an attempt is repeated. A closed set; the `reason` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryReason {
    /// A kept connection was closed as it was used.
    StaleConnection,
    /// No connection.
    ConnectFailed,
    /// The connection or stream broke.
    Reset,
    /// The endpoint did not take the stream.
    RefusedStream,
    /// No answer in time.
    Timeout,
    /// An answer that the rule does not pass on.
    Code,
    /// The same for gRPC.
    GrpcCode,
}

const RETRY_REASONS: [&str; 7] = [
    "stale_connection",
    "connect_failed",
    "reset",
    "refused_stream",
    "timeout",
    "code",
    "grpc_code",
];

/// What stands against repeating an attempt. A closed set; the `reason` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryRefusal {
    /// It has been repeated as often as it may be.
    Attempts,
    /// It may have been processed, and its method may not be processed twice.
    Method,
    /// More of the body was sent than is kept.
    Body,
    /// The backend has used up its budget.
    Budget,
    /// There is no time left.
    Deadline,
}

const RETRY_REFUSALS: [&str; 5] = ["attempts", "method", "body", "budget", "deadline"];

/// What became of a request after another backend was asked. A closed set; the `outcome` label.
const SHIELD_OUTCOMES: [&str; 2] = ["ok", "failed"];

/// Whether requests may go to an endpoint. A closed set; the `state` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndpointState {
    /// They may.
    Ready,
    /// It is checked, and no check has ended yet; or it is to have a connection first.
    Unknown,
    /// Its checks fail.
    Unhealthy,
    /// Requests have failed there too often.
    Ejected,
}

impl EndpointState {
    /// Every state, in the order of its number.
    pub(crate) const ALL: [Self; 4] = [Self::Ready, Self::Unknown, Self::Unhealthy, Self::Ejected];

    /// The word in metrics, logs and the admin API.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Unknown => "unknown",
            Self::Unhealthy => "unhealthy",
            Self::Ejected => "ejected",
        }
    }
}

/// What was too much at an endpoint. A closed set; the `reason` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EjectionReason {
    /// So many failures in a row.
    ConsecutiveFailures,
    /// A rate of success far below that of the others.
    SuccessRate,
}

impl EjectionReason {
    const ALL: [Self; 2] = [Self::ConsecutiveFailures, Self::SuccessRate];

    /// The word in metrics and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::SuccessRate => "success_rate",
        }
    }
}

/// How an active check ended. A closed set; the `result` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckResult {
    /// The endpoint can serve.
    Ok,
    /// It has answered that it cannot, or not at all well.
    Failed,
    /// No connection.
    ConnectFailed,
    /// No answer in time.
    Timeout,
}

const CHECK_RESULTS: [&str; 4] = ["ok", "failed", "connect_failed", "timeout"];

/// Handles and live numbers of one backend.
pub(crate) struct BackendMetrics {
    backend: Box<str>,
    attempts: [Counter; OUTCOMES.len()],
    retries: [Counter; RETRY_REASONS.len()],
    retries_refused: [Counter; RETRY_REFUSALS.len()],
    shielded: [Counter; SHIELD_OUTCOMES.len()],
    checks: [Counter; CHECK_RESULTS.len()],
    ejections: [Counter; EjectionReason::ALL.len()],
    http2: Http2Metrics,
    first_byte: Arc<Histogram>,
    connections_total: Counter,
    endpoints: [AtomicU64; EndpointState::ALL.len()],
    ready: AtomicBool,
    /// Connections open now.
    pub(crate) open: CachePadded<AtomicU32>,
    /// Requests that wait for a connection now.
    pub(crate) pending: CachePadded<AtomicU32>,
    /// Requests that this backend is serving now.
    pub(crate) serving: CachePadded<AtomicU32>,
}

impl BackendMetrics {
    /// Resolves the handles.
    pub(crate) fn new(registry: &Registry, backend: &str) -> Arc<Self> {
        let labels = [("backend", backend)];
        let metrics = Arc::new(Self {
            backend: backend.into(),
            attempts: OUTCOMES.map(|outcome| {
                registry.counter(
                    names::ATTEMPTS,
                    &[("backend", backend), ("outcome", outcome)],
                )
            }),
            retries: RETRY_REASONS.map(|reason| {
                registry.counter(names::RETRIES, &[("backend", backend), ("reason", reason)])
            }),
            retries_refused: RETRY_REFUSALS.map(|reason| {
                let labels = [("backend", backend), ("reason", reason)];
                registry.counter(names::RETRIES_REFUSED, &labels)
            }),
            shielded: SHIELD_OUTCOMES.map(|outcome| {
                let labels = [("backend", backend), ("outcome", outcome)];
                registry.counter(names::SHIELDED, &labels)
            }),
            checks: CHECK_RESULTS.map(|result| {
                let labels = [("backend", backend), ("result", result)];
                registry.counter(names::HEALTH_CHECKS, &labels)
            }),
            ejections: EjectionReason::ALL.map(|reason| {
                let labels = [("backend", backend), ("reason", reason.as_str())];
                registry.counter(names::EJECTIONS, &labels)
            }),
            http2: Http2Metrics::new(registry, names::UPSTREAM_HTTP2_LIMIT_EXCEEDED, labels[0]),
            first_byte: registry.histogram(names::UPSTREAM_FIRST_BYTE, &labels),
            connections_total: registry.counter(names::UPSTREAM_CONNECTIONS_TOTAL, &labels),
            endpoints: Default::default(),
            ready: AtomicBool::new(false),
            open: CachePadded::new(AtomicU32::new(0)),
            pending: CachePadded::new(AtomicU32::new(0)),
            serving: CachePadded::new(AtomicU32::new(0)),
        });
        registry.keep(&metrics);
        metrics
    }

    /// Counts an attempt, and the time to the response's head where one came.
    pub(crate) fn attempt(&self, outcome: AttemptOutcome, first_byte: Option<Duration>) {
        self.attempts[outcome as usize].increment(1);
        if let Some(elapsed) = first_byte {
            self.first_byte.record(elapsed);
        }
    }

    /// Counts an attempt that is repeated.
    pub(crate) fn retried(&self, reason: RetryReason) {
        self.retries[reason as usize].increment(1);
    }

    /// Counts an attempt that was to be repeated and is not.
    pub(crate) fn retry_refused(&self, why: RetryRefusal) {
        self.retries_refused[why as usize].increment(1);
    }

    /// Counts a request that this backend has failed and another one has answered, or not.
    pub(crate) fn shielded(&self, answered: bool) {
        self.shielded[usize::from(!answered)].increment(1);
    }

    /// Notes how many endpoints are in a state.
    pub(crate) fn set_endpoints(&self, state: EndpointState, count: usize) {
        self.endpoints[state as usize].store(count as u64, Ordering::Relaxed);
    }

    /// Notes whether the backend has a usable endpoint.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Counts an ejection.
    pub(crate) fn ejected(&self, reason: EjectionReason) {
        self.ejections[reason as usize].increment(1);
    }

    /// Counts an active check.
    pub(crate) fn checked(&self, result: CheckResult) {
        self.checks[result as usize].increment(1);
    }

    /// Counts a connection that was ended because its endpoint sent too much of something.
    pub(crate) fn http2_limit(&self, limit: Http2Limit) {
        self.http2.exceeded(limit);
    }

    /// Counts a connection that was made.
    pub(crate) fn connected(&self) {
        self.connections_total.increment(1);
    }
}

impl Series for BackendMetrics {
    fn refresh(&self) {
        let all = self.attempts.iter().chain(&self.retries);
        for counter in all
            .chain(&self.retries_refused)
            .chain(&self.shielded)
            .chain(&self.checks)
            .chain(&self.ejections)
        {
            counter.increment(0);
        }
        self.http2.refresh();
        self.connections_total.increment(0);
    }

    fn gauges(&self, out: &mut Gauges) {
        let whose = ("backend", &*self.backend);
        for (metric, number) in [
            (names::UPSTREAM_CONNECTIONS, &self.open),
            (names::REQUESTS_PENDING, &self.pending),
            (names::REQUESTS_IN_FLIGHT, &self.serving),
        ] {
            out.set(metric, &[whose], f64::from(number.load(Ordering::Relaxed)));
        }
        let ready = self.ready.load(Ordering::Relaxed);
        out.set(names::BACKEND_READY, &[whose], f64::from(u8::from(ready)));
        for (state, count) in EndpointState::ALL.iter().zip(&self.endpoints) {
            let labels = [whose, ("state", state.as_str())];
            out.set(
                names::ENDPOINTS,
                &labels,
                count.load(Ordering::Relaxed) as f64,
            );
        }
    }
}

impl std::fmt::Debug for BackendMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BackendMetrics")
    }
}
