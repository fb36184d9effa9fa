//! The end of a snapshot that no longer serves.
//!
//! Owns who takes it apart, and when. Must not know what replaced it.

use std::sync::Arc;
use std::time::Duration;

use crate::aside;
use crate::snapshot::Snapshot;

/// Between two looks whether anybody still uses what is to go.
const PAUSE: Duration = Duration::from_millis(500);

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
    // Those that were leaving are of an earlier snapshot, whose end waits until nobody else has them.
    snapshot.leaving.clear();
    // Requests in flight have the port, which has the routing tables.
    let ports = std::mem::take(&mut snapshot.ports).into_values();
    let mut ports: Vec<_> = ports.collect();
    let mut rules = std::mem::take(&mut snapshot.rules);
    let mut rest = Some(snapshot);
    loop {
        let (free, used): (Vec<_>, _) = ports
            .into_iter()
            .partition(|port| Arc::strong_count(port) == 1);
        ports = used;
        let rest = rest.take();
        if rest.is_some() || !free.is_empty() {
            // Dropped on this thread where there can be no other.
            let left = aside::run(move || {
                drop((free, rest));
                rules.retain(|rule| {
                    aside::give_way();
                    Arc::strong_count(rule) > 1
                });
                rules
            });
            rules = left.await.unwrap_or_default();
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

    const ROUTES: &str = "routes: [{ name: r, rules: [{ backendRefs: [{ name: v1 }] }] }]\n\
         backends: [{ name: v1, endpoints: [{ address: \"127.0.0.1:81\" }] }]\n";

    fn snapshot(port: u16, earlier: Option<&Snapshot>) -> Arc<Snapshot> {
        let text = format!(
            "version: 1\nlisteners: [{{ name: web, address: \"127.0.0.1:{port}\" }}]\n{ROUTES}"
        );
        let document = crate::config::parse("t.yaml", &text).unwrap().document;
        let registry = Registry::new();
        let compiler = Compiler::to_serve(&registry, 1, earlier);
        Arc::new(compiler.compile(document, 0).unwrap())
    }

    /// Whoever uses a snapshot or its table is not the one who takes it apart.
    #[tokio::test]
    async fn a_snapshot_goes_when_nobody_uses_it_any_more() {
        let old = snapshot(80, None);
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

    /// The next snapshot still knows the address that has no listener any more.
    #[tokio::test]
    async fn what_a_listener_had_goes_with_it() {
        let first = snapshot(80, None);
        let second = snapshot(82, Some(&first));
        let (left, port) = second.leaving.first_key_value().unwrap();
        assert_eq!(left.port(), 80);
        let (port, rule) = (Arc::downgrade(port), Arc::downgrade(&first.rules[0]));
        let both = async { tokio::join!(let_go(first), let_go(second)) };
        let gone = tokio::time::timeout(20 * PAUSE, both).await;
        assert!(gone.is_ok(), "each waits for the other");
        assert_eq!((port.strong_count(), rule.strong_count()), (0, 0));
    }
}
