//! What looks after backends while they serve: on the control runtime, once for each of the process.
//!
//! Must not know what it does there.

use std::sync::Arc;

use crate::snapshot::Snapshot;
use crate::upstream::{health, outlier};

/// Begins to look after the backends that nobody looks after yet. It ends by itself with the backend.
pub(crate) fn tend(snapshot: &Snapshot) {
    for (backend, number) in snapshot.backends.values().zip(0_u64..) {
        if backend.begin_tending() {
            // Only to keep checks of many proxies from falling in step.
            let seed = snapshot.hash ^ u64::from(std::process::id()) << 32 ^ number;
            drop(tokio::spawn(health::tend(Arc::downgrade(backend), seed)));
            drop(tokio::spawn(outlier::tend(Arc::downgrade(backend))));
        }
    }
}
