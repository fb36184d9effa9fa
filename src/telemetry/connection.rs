//! The handles of one listener, and the guard that counts an open connection down.
//!
//! Must not know how a connection is served.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam_utils::CachePadded;
use metrics::Counter;

use super::http2::{Http2Limit, Http2Metrics};
use super::names;
use super::recorder::{Gauges, Registry, Series};

/// Handles and live numbers of one listening address.
pub(crate) struct ListenerMetrics {
    listener: Box<str>,
    accepted: Counter,
    accept_errors: Counter,
    full: Counter,
    protocol_errors: Counter,
    http2: Http2Metrics,
    open: CachePadded<AtomicU32>,
}

impl ListenerMetrics {
    /// Resolves the handles. `listener` is the name of the first listener at the address.
    pub(crate) fn new(registry: &Registry, listener: &str) -> Arc<Self> {
        let labels = [("listener", listener)];
        let metrics = Arc::new(Self {
            listener: listener.into(),
            accepted: registry.counter(names::CONNECTIONS_TOTAL, &labels),
            accept_errors: registry.counter(names::ACCEPT_ERRORS, &labels),
            full: registry.counter(names::ACCEPT_PAUSES, &labels),
            protocol_errors: registry.counter(names::PROTOCOL_ERRORS, &labels),
            http2: Http2Metrics::new(registry, names::HTTP2_LIMIT_EXCEEDED, labels[0]),
            open: CachePadded::new(AtomicU32::new(0)),
        });
        registry.keep(&metrics);
        metrics
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts a failure to accept.
    pub(crate) fn accept_failed(&self) {
        self.accept_errors.increment(1);
    }

    /// Counts that nothing is accepted for a while, as there are as many connections as there may be.
    pub(crate) fn full(&self) {
        self.full.increment(1);
    }

    /// Counts a connection that did not speak HTTP.
    pub(crate) fn protocol_error(&self) {
        self.protocol_errors.increment(1);
    }

    /// Counts a connection that was ended because its client sent too much of something.
    pub(crate) fn http2_limit(&self, limit: Http2Limit) {
        self.http2.exceeded(limit);
    }

    /// Counts a connection; the guard counts it down.
    pub(crate) fn accepted(self: &Arc<Self>) -> OpenConnection {
        self.accepted.increment(1);
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenConnection(Arc::clone(self))
    }
}

impl Series for ListenerMetrics {
    fn refresh(&self) {
        self.accepted.increment(0);
        self.accept_errors.increment(0);
        self.full.increment(0);
        self.protocol_errors.increment(0);
        self.http2.refresh();
    }

    fn gauges(&self, out: &mut Gauges) {
        let labels = [("listener", &*self.listener)];
        out.set(names::CONNECTIONS, &labels, f64::from(self.open()));
    }
}

impl std::fmt::Debug for ListenerMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ListenerMetrics")
    }
}

/// Stands for one open connection of a client.
#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<ListenerMetrics>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
