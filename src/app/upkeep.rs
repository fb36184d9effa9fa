//! What looks after backends while they serve: on the control runtime, once for each of the process.
//!
//! Must not know what it does there.

use std::sync::Arc;

use crate::snapshot::Snapshot;
use crate::upstream::{health, outlier};

/// Begins to look after the backends that nobody looks after yet, and ends it for those of `earlier` that
/// are no longer there as they were.
pub(crate) fn tend(snapshot: &Snapshot, earlier: Option<&Snapshot>) {
    for (name, before) in earlier.into_iter().flat_map(|earlier| &earlier.backends) {
        let same = snapshot
            .backends
            .get(name)
            .is_some_and(|now| Arc::ptr_eq(now, before));
        if !same {
            before.retire();
        }
    }
    for (backend, number) in snapshot.backends.values().zip(0_u64..) {
        if backend.begin_tending() {
            // Only to keep checks of many proxies from falling in step.
            let seed = snapshot.hash ^ u64::from(std::process::id()) << 32 ^ number;
            drop(tokio::spawn(health::tend(Arc::downgrade(backend), seed)));
            drop(tokio::spawn(outlier::tend(Arc::downgrade(backend))));
        }
    }
}
