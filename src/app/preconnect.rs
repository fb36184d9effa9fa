//! Connections to endpoints before they get their first request.
//!
//! Owns when workers are told to make them, and what follows from their success. Must not know how they
//! are made.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::listener::manager::Command;
use crate::snapshot::Snapshot;
use crate::upstream::backend::Backend;
use crate::upstream::connect::ConnectError;
use crate::upstream::endpoint::{Endpoint, State};

/// Between two tries at an endpoint that cannot be reached.
const AGAIN: Duration = Duration::from_secs(1);

/// Longest that a start waits.
const AT_START: Duration = Duration::from_secs(1);

type Mailboxes = Arc<[mpsc::Sender<Command>]>;

/// Connects to endpoints that have become ready, until the backend is gone.
pub(super) async fn tend(backend: Weak<Backend>, workers: Mailboxes) {
    loop {
        let held = backend.upgrade().filter(|backend| !backend.is_retired());
        let Some(held) = held.filter(|backend| backend.settings().pool.preconnect) else {
            return;
        };
        let mut changed = held.changed();
        let mut connecting = JoinSet::new();
        for endpoint in held.cold() {
            connecting.spawn(connect(Arc::clone(&held), endpoint, Arc::clone(&workers)));
        }
        let results = connecting.join_all().await;
        if results.contains(&true) {
            held.refresh();
        }
        drop(held);
        let news = changed.changed();
        let goes_on = if results.contains(&false) {
            let news = tokio::time::timeout(AGAIN, news).await;
            news.is_ok_and(|news| news.is_ok()) || backend.strong_count() > 0
        } else {
            news.await.is_ok()
        };
        if !goes_on {
            return;
        }
    }
}

/// Waits, but not for long, until the endpoints of a start have been checked and connected to.
pub(super) async fn made(snapshot: &Snapshot) {
    let deadline = tokio::time::Instant::now() + AT_START;
    let backends = snapshot.backends.values();
    for backend in backends.filter(|it| it.settings().pool.preconnect) {
        let mut changed = backend.changed();
        while backend.endpoints().count(State::Unknown) > 0 {
            if tokio::time::timeout_at(deadline, changed.changed())
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

/// Tells every worker to connect; whether all have.
async fn connect(backend: Arc<Backend>, endpoint: Arc<Endpoint>, workers: Mailboxes) -> bool {
    let (done, mut results) = mpsc::channel(workers.len().max(1));
    for worker in workers.iter() {
        let command = Command::Connect {
            backend: Arc::clone(&backend),
            endpoint: Arc::clone(&endpoint),
            done: done.clone(),
        };
        // A worker that is gone ends the process.
        drop(worker.send(command).await);
    }
    drop(done);
    let (name, address) = (backend.name(), endpoint.address());
    while let Some(result) = results.recv().await {
        match result {
            // With as many connections as there may be, it must do without.
            Ok(()) | Err(ConnectError::Limit { .. }) => {}
            Err(error) => {
                tracing::info!(backend = name, endpoint = %address, "no connection in advance: {error}");
                return false;
            }
        }
    }
    endpoint.set_cold(false);
    tracing::info!(backend = name, endpoint = %address, "connected in advance");
    true
}
