//! The rates of one route or rule.
//!
//! Must not know how they are kept. What is refused is counted with the other errors, by its reason.

use std::sync::Arc;

use metrics::Counter;

use super::names;
use super::recorder::{Registry, Series};

/// See the module.
pub(crate) struct RateMetrics(Counter);

impl RateMetrics {
    /// `rule` is `none` for what all rules of the route share.
    pub(crate) fn new(registry: &Registry, route: &str, rule: &str) -> Arc<Self> {
        let labels = [("route", route), ("rule", rule)];
        let this = Arc::new(Self(registry.counter(names::RATE_KEYS_FORGOTTEN, &labels)));
        registry.keep(&this);
        this
    }

    /// Counts a bucket that was not full and made room for another.
    pub(crate) fn forgotten(&self) {
        self.0.increment(1);
    }
}

impl Series for RateMetrics {
    fn refresh(&self) {
        self.0.increment(0);
    }
}

impl std::fmt::Debug for RateMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RateMetrics")
    }
}
