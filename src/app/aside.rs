//! Work that nobody waits for: on a thread of its own, which gives way to the workers.
//!
//! Must not know what the work is. A thread for each piece of work, and not one of a pool: what it has
//! allocated and freed is given back when it ends.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::snapshot::Snapshot;

/// Against the workers' 0: on a core that both want, a tenth of it.
const NICE: i32 = 10;

/// Between two looks whether anybody still uses what is to go.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs `work` at the workers' priority: nobody is served yet.
///
/// # Errors
/// When there can be no thread, or it has panicked.
pub(crate) async fn at_start<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    let work = move || drop(done.send(work()));
    drop(
        std::thread::Builder::new()
            .name("weir-load".to_owned())
            .spawn(work)?,
    );
    result.await.map_err(io::Error::other)
}

/// Runs `work` below the workers' priority.
///
/// # Errors
/// See [`at_start`].
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    at_start(move || {
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "work aside has the priority of the workers");
        }
        work()
    })
    .await
}

/// Lets go of a snapshot that no longer serves, when the last worker has: taking 10,000 routes apart is no work
/// for a thread that has requests to serve.
pub(crate) async fn let_go(mut old: Arc<Snapshot>) {
    let mut snapshot = loop {
        tokio::time::sleep(PAUSE).await;
        match Arc::try_unwrap(old) {
            Ok(snapshot) => break snapshot,
            Err(still) => old = still,
        }
    };
    // Requests in flight have the port, which has the routing tables.
    let ports = std::mem::take(&mut snapshot.ports).into_values();
    let mut ports: Vec<_> = ports
        .chain(std::mem::take(&mut snapshot.leaving).into_values())
        .collect();
    let mut rest = Some(snapshot);
    loop {
        let (free, used) = ports
            .into_iter()
            .partition(|port| Arc::strong_count(port) == 1);
        ports = used;
        let going: (Option<Snapshot>, Vec<_>) = (rest.take(), free);
        if going.0.is_some() || !going.1.is_empty() {
            // Dropped on this thread where there can be no other.
            drop(run(move || drop(going)).await);
        }
        if ports.is_empty() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::compile::Compiler;
    use crate::telemetry::recorder::Registry;

    fn snapshot() -> Arc<Snapshot> {
        let text = "version: 1\nlisteners: [{ name: web, address: \"127.0.0.1:80\" }]\n\
             routes: [{ name: r, rules: [{ backendRefs: [{ name: v1 }] }] }]\n\
             backends: [{ name: v1, endpoints: [{ address: \"127.0.0.1:81\" }] }]\n";
        let document = crate::config::parse("t.yaml", text).unwrap().document;
        let registry = Registry::new();
        Arc::new(
            Compiler::to_look_at(&registry, 1)
                .compile(document, 0)
                .unwrap(),
        )
    }

    /// Whoever uses a snapshot or its table is not the one who takes it apart.
    #[tokio::test]
    async fn a_snapshot_goes_when_nobody_uses_it_any_more() {
        let old = snapshot();
        let port = Arc::clone(old.ports.values().next().unwrap());
        let (worker, rule) = (Arc::clone(&old), Arc::downgrade(&old.rules[0]));
        let (whole, table) = (Arc::downgrade(&old), Arc::downgrade(&port));
        let mut going = tokio::spawn(let_go(old));
        let too_early = tokio::time::timeout(2 * PAUSE, &mut going).await;
        assert!(too_early.is_err() && whole.upgrade().is_some());
        drop(worker);
        let too_early = tokio::time::timeout(2 * PAUSE, &mut going).await;
        assert!(too_early.is_err() && whole.upgrade().is_none());
        assert!(table.upgrade().is_some());
        drop(port);
        going.await.unwrap();
        assert_eq!((table.strong_count(), rule.strong_count()), (0, 0));
    }

    #[tokio::test]
    async fn work_aside_is_done_and_a_panic_is_told() {
        assert_eq!(run(|| 1 + 1).await.unwrap(), 2);
        assert!(
            run(|| std::hint::black_box(Vec::<u8>::new())[0])
                .await
                .is_err()
        );
        let nice = run(|| rustix::process::getpriority_process(None)).await;
        assert_eq!(nice.unwrap(), Ok(NICE));
    }
}
