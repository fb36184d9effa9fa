//! What was answered when somebody was asked where a backend's endpoints are.
//!
//! Must not know who was asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use metrics::{Counter, Gauge};

use super::names;
use super::recorder::{Registry, Series};

/// How a question ended. A closed set; the `result` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiscoveryResult {
    /// There are endpoints.
    Ok,
    /// In good order: there is none.
    Empty,
    /// No answer, or none that can be used.
    Failed,
}

impl DiscoveryResult {
    const ALL: [Self; 3] = [Self::Ok, Self::Empty, Self::Failed];

    /// The word in metrics and the admin API.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Empty => "empty",
            Self::Failed => "failed",
        }
    }
}

/// See the module.
pub(crate) struct DiscoveryMetrics {
    answers: [Counter; DiscoveryResult::ALL.len()],
    last_good: Gauge,
    /// Unix time in seconds; 0: never.
    good_at: AtomicU64,
}

impl DiscoveryMetrics {
    pub(crate) fn new(registry: &Registry, backend: &str) -> Arc<Self> {
        let this = Arc::new(Self {
            answers: DiscoveryResult::ALL.map(|result| {
                let labels = [("backend", backend), ("result", result.as_str())];
                registry.counter(names::DISCOVERY_ANSWERS, &labels)
            }),
            last_good: registry.gauge(names::DISCOVERY_LAST_SUCCESS, &[("backend", backend)]),
            good_at: AtomicU64::new(0),
        });
        registry.keep(&this);
        this
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, result: DiscoveryResult) {
        self.answers[result as usize].increment(1);
        if result == DiscoveryResult::Ok {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let seconds = now.map_or(0, |since| since.as_secs());
            self.good_at.store(seconds, Ordering::Relaxed);
        }
    }
}

impl Series for DiscoveryMetrics {
    fn refresh(&self) {
        for counter in &self.answers {
            counter.increment(0);
        }
        self.last_good
            .set(self.good_at.load(Ordering::Relaxed) as f64);
    }
}

impl std::fmt::Debug for DiscoveryMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DiscoveryMetrics")
    }
}
