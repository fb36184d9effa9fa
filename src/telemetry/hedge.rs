//! Second attempts beside first ones, of one rule and backendRef.
//!
//! Must not know when one is made.

use std::sync::Arc;

use metrics::Counter;

use super::names;
use super::recorder::{Registry, Series};

/// What became of a second attempt. A closed set; the `outcome` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hedged {
    /// Its answer was passed on.
    Won,
    /// The first attempt's was.
    Lost,
    /// Both failed.
    Failed,
    /// It was not made: the budget is used up.
    Budget,
    /// It was not made: there is no other endpoint, or no room at the backend.
    NoEndpoint,
    /// It was not made: the body is, or may become, longer than what is kept of it.
    Body,
}

const OUTCOMES: [&str; 6] = [
    "won",
    "lost",
    "failed",
    "refused_budget",
    "refused_no_endpoint",
    "refused_body",
];

/// See the module.
pub(crate) struct HedgeMetrics([Counter; OUTCOMES.len()]);

impl HedgeMetrics {
    pub(crate) fn new(registry: &Registry, route: &str, rule: &str, backend: &str) -> Arc<Self> {
        let this = Arc::new(Self(OUTCOMES.map(|outcome| {
            let labels = [
                ("route", route),
                ("rule", rule),
                ("backend", backend),
                ("outcome", outcome),
            ];
            registry.counter(names::HEDGES, &labels)
        })));
        registry.keep(&this);
        this
    }

    /// Counts one.
    pub(crate) fn hedged(&self, outcome: Hedged) {
        self.0[outcome as usize].increment(1);
    }
}

impl Series for HedgeMetrics {
    fn refresh(&self) {
        for counter in &self.0 {
            counter.increment(0);
        }
    }
}

impl std::fmt::Debug for HedgeMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HedgeMetrics")
    }
}
