//! Connections before the first request: whenever an endpoint begins to get traffic, as the endpoint itself
//! counts them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::rollout::{Version, config as rollout_config, weighs};
use crate::support::backend::{Backend, echo, neighbours, raw};
use crate::support::client::get;
use crate::support::dns::Dns;
use crate::support::eventually;
use crate::support::proxy::{Proxy, config};

const ALL: &str = "  - { name: r, rules: [{ backendRefs: [{ name: v1 }] }] }\n";
/// Each worker makes one.
const WORKERS: u64 = 2;

/// Waits until the endpoint is ready; it has its connections then, and has seen no request.
fn is_connected_to(proxy: &Proxy, backend: &Backend, connections: u64) {
    let address = backend.address.to_string();
    eventually("readiness of the endpoint", || {
        let backends = proxy.json("/api/v1/backends");
        let all = backends.as_array()?.iter();
        let mut endpoints = all.flat_map(|it| it["endpoints"].as_array().unwrap());
        let one = endpoints.find(|it| it["address"] == address.as_str())?;
        (one["state"] == "ready").then_some(())
    });
    has_accepted(backend, connections);
    assert_eq!(backend.requests(), 0);
}

/// The kernel has a connection a moment before the endpoint accepts it.
fn has_accepted(backend: &Backend, connections: u64) {
    eventually("the connections", || {
        (backend.connections() >= connections).then_some(())
    });
    assert_eq!(backend.connections(), connections);
}

#[test]
fn what_dns_or_a_file_has_found_is_connected_to_first() {
    let [a, b] = neighbours(|_, _, stream| {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(head).is_ok()
    });
    let dns = Dns::start();
    dns.set("shop.test", &[a.address.ip()]);
    let text = format!(
        "{}  - {{ name: v1, pool: {{ preconnect: true }}, dns: {{ name: shop.test, port: {}, minTtl: 20ms, maxTtl: 50ms, resolvers: [\"{}\"] }} }}\n",
        config(ALL, &[]),
        a.address.port(),
        dns.address
    );
    let proxy = Proxy::start(&text);
    is_connected_to(&proxy, &a, WORKERS);
    dns.set("shop.test", &[a.address.ip(), b.address.ip()]);
    is_connected_to(&proxy, &b, WORKERS);
    for _ in 0..8 {
        assert_eq!(get(proxy.addr("web"), "a", "/", &[]).status, 200);
    }
    assert_eq!((a.connections(), b.connections()), (WORKERS, WORKERS));
    proxy.stop();

    let (one, two) = (echo("one"), echo("two"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("endpoints.yaml");
    let list = |all: &[&Backend]| {
        let lines: String = all
            .iter()
            .map(|it| format!("- address: \"{}\"\n", it.address))
            .collect();
        std::fs::write(&file, format!("endpoints:\n{lines}")).unwrap();
    };
    list(&[&one]);
    let text = format!(
        "{}  - {{ name: v1, pool: {{ preconnect: true }}, endpointsFile: \"{}\" }}\n",
        config(ALL, &[]),
        file.display()
    );
    let proxy = Proxy::start(&text);
    is_connected_to(&proxy, &one, WORKERS);
    list(&[&one, &two]);
    is_connected_to(&proxy, &two, WORKERS);
    proxy.stop();
}

/// An endpoint whose checks say what the flag says, and which forgets all connections.
fn restarting(good: &Arc<AtomicBool>, open: &Arc<Mutex<Vec<TcpStream>>>) -> Backend {
    let (good, open) = (Arc::clone(good), Arc::clone(open));
    raw(move |mut stream, requests| {
        open.lock().unwrap().push(stream.try_clone().unwrap());
        let mut head = Vec::new();
        let mut bytes = [0; 1024];
        while let Ok(read @ 1..) = stream.read(&mut bytes) {
            head.extend_from_slice(&bytes[..read]);
            if !head.ends_with(b"\r\n\r\n") {
                continue;
            }
            let is_check = head.starts_with(b"GET /healthz");
            requests.fetch_add(u64::from(!is_check), Ordering::SeqCst);
            let ok = good.load(Ordering::SeqCst) || !is_check;
            let status = if ok { "200 OK" } else { "503 Down" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
            head.clear();
        }
    })
}

/// Checks turn good, at the beginning and again after a restart.
#[test]
fn an_endpoint_that_is_healthy_again_is_connected_to_first() {
    let (good, open) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let backend = restarting(&good, &open);
    let text = format!(
        "{}  - {{ name: v1, pool: {{ preconnect: true }}, endpoints: [{{ address: \"{}\" }}], healthCheck: {{ http: {{ path: /healthz }}, interval: 20ms, timeout: 2s, unhealthyAfter: 1, healthyAfter: 1 }} }}\n",
        config(ALL, &[]),
        backend.address
    );
    let proxy = Proxy::start(&text);
    let state = || {
        let backends = proxy.json("/api/v1/backends");
        backends[0]["endpoints"][0]["state"].clone()
    };
    // Those of checks are none of these.
    let made = || proxy.metric("weir_upstream_connections_total", &["backend=\"v1\""]);
    for times in 1..=3 {
        eventually("trouble", || (state() == "unhealthy").then_some(()));
        let expected = (times - 1) as f64 * WORKERS as f64;
        assert!((made() - expected).abs() < 0.1, "{times}: {}", made());
        good.store(true, Ordering::SeqCst);
        eventually("readiness", || (state() == "ready").then_some(()));
        let expected = times as f64 * WORKERS as f64;
        assert!((made() - expected).abs() < 0.1, "{times}: {}", made());
        assert_eq!(backend.requests(), 0);
        good.store(false, Ordering::SeqCst);
        for stream in open.lock().unwrap().drain(..) {
            // It may have gone by itself.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
    proxy.stop();
}

/// A rollout does not begin to move traffic before its candidate has connections: those of the start are gone
/// when a person begins another run.
#[test]
fn a_candidate_is_connected_to_while_it_warms() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    for strategy in [
        "strategy: canary, minimum: 10m, steps: [{ weight: 50 }, { weight: 100 }]",
        "strategy: blueGreen, minimum: 50ms, holdback: { weight: 50, duration: 10m }",
    ] {
        let text = rollout_config(&v1, &v2, strategy);
        let text = text.replacen(
            "name: v2, endpoints",
            "name: v2, pool: { preconnect: true }, endpoints",
            1,
        );
        let before = (v2.backend.connections(), v2.requests());
        let proxy = Proxy::start(&text);
        weighs(&proxy, 50.0);
        has_accepted(&v2.backend, before.0 + WORKERS);
        assert_eq!(v2.requests(), before.1, "{strategy}");
        let user = |number: u32| number.to_string();
        for number in 0..20 {
            get(proxy.addr("web"), "a", "/", &[("x-user", &user(number))]);
        }
        assert!(v2.requests() > before.1);
        has_accepted(&v2.backend, before.0 + WORKERS);
        proxy.stop();
    }
    // Nobody is there yet.
    let place = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    let text = rollout_config(&v1, &v2, "strategy: canary, steps: [{ weight: 50 }]");
    let text = text.replacen(
        &format!(
            "name: v2, endpoints: [{{ address: \"{}\"",
            v2.backend.address
        ),
        &format!("name: v2, pool: {{ preconnect: true }}, endpoints: [{{ address: \"{address}\""),
        1,
    );
    let proxy = Proxy::start(&text);
    eventually("a try", || {
        let log = proxy.program_log();
        (log.matches("no connection in advance").count() >= 3).then_some(())
    });
    let standing = crate::rollout::standing(&proxy);
    assert_eq!(standing["phase"], "warming", "{standing}");
    proxy.stop();
}
