//! Requests refused by one rule of one listener.
//!
//! Must not know why.

use std::sync::Arc;

use metrics::Counter;

use super::names;
use super::recorder::{Registry, Series};

/// See the module.
pub(crate) struct RefusedMetrics(Counter);

impl RefusedMetrics {
    /// `rule` is `none` for what no rule allows.
    pub(crate) fn new(registry: &Registry, listener: &str, rule: &str, dry_run: bool) -> Arc<Self> {
        let mode = if dry_run { "dry_run" } else { "enforced" };
        let labels = [("listener", listener), ("rule", rule), ("mode", mode)];
        let this = Arc::new(Self(
            registry.counter(names::AUTHORIZATION_REFUSED, &labels),
        ));
        registry.keep(&this);
        this
    }

    /// Counts a request.
    pub(crate) fn refused(&self) {
        self.0.increment(1);
    }
}

impl Series for RefusedMetrics {
    fn refresh(&self) {
        self.0.increment(0);
    }
}

impl std::fmt::Debug for RefusedMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RefusedMetrics")
    }
}
