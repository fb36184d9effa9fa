//! Places for connections to a backend: how many there may be, and who waits for one.
//!
//! Places are shared by all workers, also over reloads. Must not know what a connection is used for.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;

use super::backend::Backend;
use super::connect::ConnectError;
use crate::telemetry::backend::BackendMetrics;

/// Stands for one open connection to a backend.
#[derive(Debug)]
pub(crate) struct Permit {
    metrics: Arc<BackendMetrics>,
    freed: Arc<Notify>,
}

/// Stands for one request that waits for a connection to a backend.
#[derive(Debug)]
pub(super) struct Pending(Arc<BackendMetrics>);

impl Permit {
    /// Takes a place, where there is one. Others wait? Then it is theirs, unless the caller is one of
    /// them.
    pub(super) fn take(backend: &Backend, waited: bool) -> Option<Self> {
        let metrics = backend.metrics();
        if !waited && metrics.pending.load(Ordering::SeqCst) > 0 {
            return None;
        }
        let limit = backend.settings().pool.max_connections;
        let taken = metrics
            .open
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |open| {
                (open < limit).then(|| open + 1)
            });
        let open = taken.ok()?;
        // Whoever frees two places wakes one for both when none waits yet.
        if waited && open + 1 < limit {
            backend.freed().notify_one();
        }
        metrics.connected();
        Some(Self {
            metrics: Arc::clone(metrics),
            freed: Arc::clone(backend.freed()),
        })
    }

    pub(super) fn metrics(&self) -> Arc<BackendMetrics> {
        Arc::clone(&self.metrics)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.metrics.open.fetch_sub(1, Ordering::SeqCst);
        if self.metrics.pending.load(Ordering::SeqCst) > 0 {
            self.freed.notify_one();
        }
    }
}

impl Pending {
    /// Waits among at most as many as the backend allows.
    ///
    /// # Errors
    /// When there are so many already.
    pub(super) fn begin(backend: &Backend) -> Result<Self, ConnectError> {
        let settings = &backend.settings().pool;
        let metrics = backend.metrics();
        let pending = metrics.pending.fetch_add(1, Ordering::SeqCst);
        let this = Self(Arc::clone(metrics));
        if pending >= settings.max_pending {
            let limit = settings.max_connections;
            return Err(ConnectError::Limit { limit });
        }
        Ok(this)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::SeqCst);
    }
}
