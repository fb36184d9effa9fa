//! The one pointer to the snapshot that serves.
//!
//! Must not know how a snapshot comes to be.

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use super::Snapshot;

/// Where the serving snapshot is published and read.
#[derive(Debug, Clone)]
pub(crate) struct Current(Arc<ArcSwap<Snapshot>>);

/// A reader of one thread; looking is one atomic load while nothing has changed.
pub(crate) type Reader = Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>;

impl Current {
    pub(crate) fn new(first: Arc<Snapshot>) -> Self {
        Self(Arc::new(ArcSwap::new(first)))
    }

    pub(crate) fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    pub(crate) fn reader(&self) -> Reader {
        Cache::new(Arc::clone(&self.0))
    }

    /// Every request that begins after this returns sees `next`.
    pub(crate) fn publish(&self, next: Arc<Snapshot>) {
        self.0.store(next);
    }
}
