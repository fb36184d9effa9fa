//! A backend that gets copies of requests, compiled.
//!
//! Owns which requests are copied, and how many copies there may be. Must not know how one is sent.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::chance::Chance;
use crate::telemetry::mirror::MirrorMetrics;
use crate::upstream::backend::Backend;

/// See the module.
#[derive(Debug)]
pub(crate) struct Mirror {
    pub(crate) name: Box<str>,
    /// `None`: the reference cannot be resolved, and nothing is copied.
    pub(crate) backend: Option<Arc<Backend>>,
    pub(crate) chance: Chance,
    /// Of a body.
    pub(crate) body_bytes: usize,
    pub(crate) max_in_flight: u32,
    pub(crate) timeout: Duration,
    pub(crate) shadow_host: bool,
    pub(crate) metrics: Arc<MirrorMetrics>,
}

/// Stands for one copy.
#[derive(Debug)]
pub(crate) struct Place(Arc<MirrorMetrics>);

impl Mirror {
    /// The place of another copy, where there is one.
    pub(crate) fn enter(&self) -> Option<Place> {
        let copies = &self.metrics.in_flight;
        let before = copies.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(&self.metrics));
        (before < self.max_in_flight).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, chance, .. } = self;
        if self.backend.is_none() {
            return write!(
                f,
                "mirror to {name}: there is no such backend, so nothing is copied"
            );
        }
        write!(
            f,
            "mirror to {name}: {chance}, bodies up to {} bytes",
            self.body_bytes
        )
    }
}
