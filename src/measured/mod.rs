//! What benches measure of the modules that are not public: the proxy's own functions, called as it calls
//! them.
//!
//! Owns the stage for them: a compiled configuration and one worker, on the caller's thread. Must not have
//! logic that the proxy uses, nor know how anything is timed.

mod exchange;
mod exposition;
mod head;
mod record;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

pub use self::exchange::{Exchanges, Way};
pub use self::exposition::Exposition;
pub use self::head::Head;
pub use self::record::Recording;
use crate::app::workers::small_rng;
use crate::cli::offline;
use crate::config::{self, Document, problem};
use crate::http::serve::Control;
use crate::proxy::context::{Connection, Worker};
use crate::proxy_protocol::Addresses;
use crate::rollout::Share;
use crate::rollout::evidence::{EpochId, SeenKeys};
use crate::rollout::latency::Thresholds;
use crate::snapshot::compile::Compiler;
use crate::snapshot::current::Current;
use crate::snapshot::port::{Listener, Port};
use crate::snapshot::trial::Terms;
use crate::telemetry::recorder::Registry;
use crate::upstream::pool::Pressure;

/// Compiles a checked document as a reload does, without the machine that it is for; the number of its rules.
///
/// # Errors
/// When it does not run on this machine.
pub fn compile(document: Document) -> anyhow::Result<usize> {
    Ok(offline::compile(document)?.rules.len())
}

/// One worker of the data path, with what a configuration comes to.
#[derive(Debug)]
struct Stage {
    worker: Rc<Worker>,
    port: Arc<Port>,
}

impl Stage {
    /// A running rollout, where the configuration has one, has all its counting on.
    fn new(written: &str) -> anyhow::Result<Self> {
        let loaded = config::parse("bench", written)
            .map_err(|problems| anyhow::anyhow!(problem::render(&problems, false)))?;
        let registry = Registry::new();
        let compiler = Compiler::to_serve(&registry, 1, None);
        let snapshot = compiler.compile(loaded.document, loaded.hash)?;
        let port = snapshot.ports.values().next().context("no listener")?;
        let port = Arc::clone(port);
        for rollout in &snapshot.rollouts {
            rollout.trial.divide(Terms {
                epoch: EpochId(1),
                share: Share::from_fraction(0.1),
                salt: "release".into(),
                thresholds: Some(Thresholds {
                    slow: Duration::from_secs(1),
                    very_slow: Duration::from_secs(2),
                }),
                judged: true,
                seen: Some(Arc::new(SeenKeys::new(10_000))),
            });
        }
        let current = Current::new(Arc::new(snapshot));
        let load = [Default::default()].into();
        let worker = Worker::new(0, current.reader(), load, Pressure::new(()), small_rng());
        Ok(Self { worker, port })
    }

    fn listener(&self) -> anyhow::Result<&Arc<Listener>> {
        self.port.listeners.first().context("no listener")
    }

    /// Of a client that nobody has connected.
    fn connection(&self) -> Rc<Connection> {
        let ends = Addresses {
            source: SocketAddr::from(([127, 0, 0, 1], 40_000)),
            destination: self.port.door.address,
        };
        let control = Control::new(Rc::clone(&self.worker.clock));
        let (worker, door) = (Rc::clone(&self.worker), Arc::clone(&self.port.door));
        Connection::new(worker, control, ends, door, None)
    }
}

/// A 90/10 split between these backends; `filters` and `more` are lines of the rule and of the file.
fn written(backends: [SocketAddr; 2], log: &str, filters: &str, more: &str) -> String {
    format!(
        "version: 1\naccessLog: {{ {log} }}\n\
         listeners: [{{ name: web, address: \"127.0.0.1:0\" }}]\n\
         routes: [{{ name: shop, rules: [{{ name: all, {filters} backendRefs: [\
         {{ name: v1, weight: 90 }}, {{ name: v2, weight: 10 }}] }}] }}]\n\
         backends: [{{ name: v1, endpoints: [{{ address: \"{}\" }}] }}, \
         {{ name: v2, endpoints: [{{ address: \"{}\" }}] }}]\n{more}\n",
        backends[0], backends[1],
    )
}

const LOG_OFF: &str = "format: \"off\"";
/// Where nothing is kept, so that the disk is not measured.
const LOG_JSON: &str = "format: json, path: /dev/null";
const ROLLOUT: &str = "rollouts: [{ name: release, rule: shop/all, stable: v1, candidate: v2, \
     steps: [{ weight: 10, pause: manual }, { weight: 100 }] }]";
/// Backends that are never asked.
const NOBODY: [SocketAddr; 2] = {
    let v4 = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    [SocketAddr::new(v4, 1), SocketAddr::new(v4, 2)]
};
