//! Rollouts by the real binary, over real sockets: what a bad candidate costs, and who has the last word.

mod control;
mod fleet;
mod guard;
mod hooks;
mod plan;
mod rolling;
mod state;
mod strategies;
mod streams;

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::backend::{Backend, scripted};
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::proxy::Proxy;

/// A version of a service with a dial for its failures.
pub(crate) struct Version {
    pub(crate) backend: Backend,
    /// Of a hundred requests.
    failing: Arc<AtomicU32>,
}

impl Version {
    pub(crate) fn new(name: &'static str) -> Self {
        let failing = Arc::new(AtomicU32::new(0));
        let (dial, count) = (Arc::clone(&failing), AtomicU32::new(0));
        let backend = scripted(move |_, stream| {
            let number = count.fetch_add(1, Ordering::SeqCst);
            // Spread evenly over any hundred in a row.
            let fails = number.wrapping_mul(37) % 100 < dial.load(Ordering::SeqCst);
            let status = if fails { "500 Broken" } else { "200 OK" };
            let answer =
                format!("HTTP/1.1 {status}\r\nx-backend: {name}\r\ncontent-length: 2\r\n\r\nok");
            stream.write_all(answer.as_bytes()).is_ok()
        });
        Self { backend, failing }
    }

    pub(crate) fn fail(&self, percent: u32) {
        self.failing.store(percent, Ordering::SeqCst);
    }

    pub(crate) fn requests(&self) -> u64 {
        self.backend.requests()
    }
}

/// One rule with a key in the field `x-user`, and its rollout with these fields.
pub(crate) fn config(stable: &Version, candidate: &Version, rollout: &str) -> String {
    with_key(
        "split: { key: { header: x-user } }",
        stable,
        candidate,
        rollout,
    )
}

pub(crate) fn with_key(rule: &str, stable: &Version, candidate: &Version, rollout: &str) -> String {
    format!(
        "version: 1\naccessLog: {{ format: json }}\ndrain: {{ delay: 0s, timeout: 5s }}\n\
         listeners: [{{ name: web, address: \"127.0.0.1:0\" }}]\n\
         routes: [{{ name: shop, rules: [{{ name: pay, {rule}, backendRefs: [{{ name: v1, weight: 100 }}, {{ name: v2, weight: 0 }}] }}] }}]\n\
         backends:\n  - {{ name: v1, endpoints: [{{ address: \"{}\" }}] }}\n  - {{ name: v2, endpoints: [{{ address: \"{}\" }}] }}\n\
         rollouts: [{{ name: pay, rule: shop/pay, stable: v1, candidate: v2, {rollout} }}]\n",
        stable.backend.address, candidate.backend.address
    )
}

pub(crate) fn standing(proxy: &Proxy) -> Value {
    proxy.json("/api/v1/rollouts/pay")
}

pub(crate) fn phase(proxy: &Proxy) -> String {
    standing(proxy)["phase"].as_str().unwrap().to_owned()
}

/// Waits until the rollout is in a phase.
pub(crate) fn reach(proxy: &Proxy, phase: &str) -> Value {
    eventually(phase, || {
        let now = standing(proxy);
        (now["phase"] == phase).then_some(now)
    })
}

/// Waits until the candidate has this weight, in percent.
pub(crate) fn weighs(proxy: &Proxy, percent: f64) -> Value {
    eventually("the weight", || {
        let now = standing(proxy);
        ((now["weight"].as_f64()? - percent).abs() < 1e-6).then_some(now)
    })
}

/// Decisions so far, oldest first.
pub(crate) fn decisions(proxy: &Proxy) -> Vec<String> {
    let records = proxy.json("/api/v1/rollouts/pay/history");
    let all = records.as_array().unwrap().iter();
    all.map(|it| it["decision"].as_str().unwrap().to_owned())
        .collect()
}

/// Who serves a key, `x-backend` or the status.
pub(crate) fn who(client: &mut Client, key: &str) -> (u16, String) {
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nx-user: {key}\r\n\r\n");
    let response = client.ask(&request);
    (response.status, response.who())
}

/// Who serves each of many keys.
pub(crate) fn owners(address: SocketAddr, keys: u32) -> HashMap<u32, String> {
    let mut client = Client::connect(address);
    (0..keys)
        .map(|key| (key, who(&mut client, &format!("u{key}")).1))
        .collect()
}

/// Traffic from many keys, a few hundred requests a second, until it is stopped.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    /// Answers by backend.
    by: Arc<Mutex<HashMap<String, u64>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (sent, failed): (Arc<AtomicU64>, Arc<AtomicU64>) = Default::default();
        let by: Arc<Mutex<HashMap<String, u64>>> = Arc::default();
        let threads = (0..4)
            .map(|_| {
                let (stop, sent, failed) =
                    (Arc::clone(&stop), Arc::clone(&sent), Arc::clone(&failed));
                let by = Arc::clone(&by);
                std::thread::spawn(move || {
                    let mut client = Client::connect(address);
                    while !stop.load(Ordering::SeqCst) {
                        let number = sent.fetch_add(1, Ordering::SeqCst);
                        let (status, name) = who(&mut client, &format!("t{number}"));
                        failed.fetch_add(u64::from(status >= 500), Ordering::SeqCst);
                        *by.lock().unwrap().entry(name).or_default() += 1;
                        std::thread::park_timeout(Duration::from_millis(8));
                    }
                })
            })
            .collect();
        Self {
            stop,
            sent,
            failed,
            by,
            threads,
        }
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }

    /// Waits for so many more requests.
    pub(crate) fn more(&self, requests: u64) {
        let until = self.sent() + requests;
        eventually("more traffic", || (self.sent() >= until).then_some(()));
    }

    pub(crate) fn of(&self, name: &str) -> u64 {
        self.by.lock().unwrap().get(name).copied().unwrap_or(0)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let ended = thread.join().is_ok();
            assert!(ended || std::thread::panicking(), "a client panicked");
        }
    }
}

/// Time that must not be reached.
pub(crate) fn within(what: &str, limit: Duration, began: Instant) {
    assert!(began.elapsed() < limit, "{what}: {:?}", began.elapsed());
}
