//! Failures that were made on purpose, of one rule or backendRef.
//!
//! Must not know why.

use std::sync::Arc;

use metrics::Counter;

use super::names;
use super::recorder::{Registry, Series};

/// What was done to a request. A closed set; the `fault` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Injected {
    Delay,
    Abort,
    Reset,
}

const INJECTED: [&str; 3] = ["delay", "abort", "reset"];

/// See the module.
pub(crate) struct FaultMetrics([Counter; INJECTED.len()]);

impl FaultMetrics {
    /// `labels` are route, rule and backend.
    pub(crate) fn new(registry: &Registry, labels: [&str; 3]) -> Arc<Self> {
        let [route, rule, backend] = labels;
        let this = Arc::new(Self(INJECTED.map(|fault| {
            let labels = [
                ("route", route),
                ("rule", rule),
                ("backend", backend),
                ("fault", fault),
            ];
            registry.counter(names::FAULTS, &labels)
        })));
        registry.keep(&this);
        this
    }

    /// Counts one.
    pub(crate) fn injected(&self, what: Injected) {
        self.0[what as usize].increment(1);
    }
}

impl Series for FaultMetrics {
    fn refresh(&self) {
        for counter in &self.0 {
            counter.increment(0);
        }
    }
}

impl std::fmt::Debug for FaultMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FaultMetrics")
    }
}
