//! What looks after backends while they serve: on the control runtime, once for each of the process.
//!
//! Must not know what it does there.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::preconnect;
use crate::listener::manager::Command;
use crate::snapshot::Snapshot;
use crate::upstream::{discovery, health, outlier};

/// Longest wait for the first answers to where endpoints are, before a configuration is put to work.
const FIRST_ANSWER: Duration = Duration::from_secs(3);

/// Begins to look after the backends that nobody looks after yet, and ends it for those of `earlier` that
/// are no longer there as they were.
pub(crate) fn tend(
    snapshot: &Snapshot,
    earlier: Option<&Snapshot>,
    workers: &Arc<[mpsc::Sender<Command>]>,
) {
    for (name, before) in earlier.into_iter().flat_map(|earlier| &earlier.backends) {
        let now = snapshot.backends.get(name);
        if !now.is_some_and(|now| Arc::ptr_eq(now, before)) {
            before.retire(now.map(|now| &**now));
        }
    }
    for (backend, seed) in snapshot.backends.values().zip(seeds(snapshot)) {
        if backend.begin_tending() {
            drop(tokio::spawn(health::tend(Arc::downgrade(backend), seed)));
            drop(tokio::spawn(outlier::tend(Arc::downgrade(backend))));
            let tended = preconnect::tend(Arc::downgrade(backend), Arc::clone(workers));
            drop(tokio::spawn(tended));
        }
    }
}

/// Begins to ask where endpoints are, for the backends for which nobody asks yet, and waits for the first
/// answers, but not for long: a backend without endpoints answers 503 by itself.
pub(crate) async fn discover(snapshot: &Snapshot) {
    let mut asked = Vec::new();
    for (backend, seed) in snapshot.backends.values().zip(seeds(snapshot)) {
        if let Some(discovery) = backend.discovery().filter(|it| it.begin()) {
            drop(tokio::spawn(discovery::tend(Arc::downgrade(backend), seed)));
            asked.push((backend.name(), Arc::clone(discovery)));
        }
    }
    let deadline = tokio::time::Instant::now() + FIRST_ANSWER;
    for (backend, discovery) in asked {
        let waited = tokio::time::timeout_at(deadline, discovery.answered()).await;
        if waited.is_err() {
            tracing::warn!(backend, "nobody has said yet where its endpoints are");
        }
    }
}

/// Only to keep the checks of many proxies from falling in step.
fn seeds(snapshot: &Snapshot) -> impl Iterator<Item = u64> {
    let own = snapshot.hash ^ u64::from(std::process::id()) << 32;
    (0_u64..).map(move |number| own ^ number)
}
