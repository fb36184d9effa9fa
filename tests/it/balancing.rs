//! Which endpoint of a backend serves: weights, priorities, keys, and what a reload leaves as it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::backend::{Backend, echo, scripted};
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::proxy::{Proxy, config};

const ALL: &str = "  - { name: r, rules: [{ backendRefs: [{ name: v1 }] }] }\n";

/// A backend `v1`; each endpoint with its own keys.
fn v1(fields: &str, endpoints: &[(&Backend, &str)]) -> String {
    let endpoints: String = endpoints
        .iter()
        .map(|(backend, keys)| format!("{{ address: \"{}\", {keys} }}, ", backend.address))
        .collect();
    format!("  - {{ name: v1, {fields}, endpoints: [{endpoints}] }}\n")
}

fn counts(proxy: &Proxy, requests: usize) -> BTreeMap<String, usize> {
    let mut client = Client::connect(proxy.addr("web"));
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let who = client.receive(false).unwrap().who();
        *counts.entry(who).or_default() += 1;
    }
    counts
}

#[test]
fn endpoints_get_what_their_weights_say_and_a_new_weight_keeps_connections() {
    let (one, two, none) = (echo("one"), echo("two"), echo("none"));
    let text = |policy: &str, weight: u32| {
        let weight = format!("weight: {weight}");
        let all = [(&one, &*weight), (&two, "weight: 1"), (&none, "weight: 0")];
        let policy = format!("loadBalancing: {{ policy: {policy} }}");
        config(ALL, &[]) + &v1(&policy, &all)
    };
    let proxy = Proxy::start_with(&text("roundRobin", 3), &["--workers", "1"]);
    let cases = [
        ("roundRobin", 3, 0.75),
        ("leastRequest", 3, 0.75),
        ("random", 1, 0.5),
        ("consistentHash", 3, 0.75),
        ("roundRobin", 1, 0.5),
    ];
    for ((policy, weight, share), generation) in cases.into_iter().zip(1..) {
        if generation > 1 {
            proxy.write_config(&text(policy, weight));
            proxy.wait_generation(generation);
        }
        let counts = counts(&proxy, 400);
        let found = counts["one"] as f64 / 400.0;
        assert!((found - share).abs() < 0.1, "{policy} {counts:?}");
        assert_eq!(counts.len(), 2, "a weight of 0 is no share: {counts:?}");
    }
    // One to each, made at the beginning.
    let made = proxy.metric("weir_upstream_connections_total", &[]);
    assert!((made - 2.0).abs() < 0.1, "{made}");
    proxy.stop();
}

#[test]
fn another_priority_takes_over_when_the_first_is_down() {
    let flags = [const { AtomicBool::new(false) }; 2].map(Arc::new);
    let named = |name: &'static str, down: Option<&Arc<AtomicBool>>| {
        let down = down.cloned().unwrap_or_default();
        scripted(move |seen, stream| {
            let sick = seen.head.starts_with("GET /healthz") && down.load(Ordering::SeqCst);
            let status = if sick { 503 } else { 200 };
            let head =
                format!("HTTP/1.1 {status} X\r\nx-backend: {name}\r\ncontent-length: 0\r\n\r\n");
            std::io::Write::write_all(stream, head.as_bytes()).is_ok()
        })
    };
    let (one, two) = (named("one", Some(&flags[0])), named("two", Some(&flags[1])));
    let spare = named("spare", None);
    let fields = "loadBalancing: { policy: roundRobin, panicThreshold: 60 }, healthCheck: { http: { path: /healthz }, interval: 20ms, unhealthyAfter: 1, healthyAfter: 1 }";
    let all = [
        (&one, "priority: 0"),
        (&two, "priority: 0"),
        (&spare, "priority: 5"),
    ];
    let proxy = Proxy::start(&(config(ALL, &[]) + &v1(fields, &all)));
    let stands = |priority: u64| {
        eventually("the priority", || {
            let backends = proxy.json("/api/v1/backends");
            let ready = backends[0]["endpoints"].as_array()?;
            let known = ready.iter().all(|one| one["state"] != "unknown");
            (known && backends[0]["priority"] == priority).then_some(())
        });
    };
    stands(0);
    assert_eq!(
        counts(&proxy, 20),
        [("one".into(), 10), ("two".into(), 10)].into()
    );
    // One of two is less than 60 of 100.
    flags[0].store(true, Ordering::SeqCst);
    stands(5);
    assert_eq!(counts(&proxy, 20), [("spare".into(), 20)].into());
    flags[0].store(false, Ordering::SeqCst);
    stands(0);
    assert_eq!(counts(&proxy, 20).len(), 2);
    let log = proxy.program_log();
    assert!(
        log.contains("\"priority\":5") && log.contains("backend is ready"),
        "{log}"
    );
    assert!((proxy.metric("weir_backend_ready", &["backend=\"v1\""]) - 1.0).abs() < 0.1);
    proxy.stop();
}

#[test]
fn a_key_has_its_endpoint_on_every_worker_and_after_a_retry() {
    let all = [echo("one"), echo("two"), echo("three")];
    let endpoints: Vec<_> = all.iter().map(|backend| (backend, "weight: 1")).collect();
    let routes = "  - name: r\n    rules:\n      - { name: split, matches: [{ path: { value: /split } }], split: { key: { header: x-user } }, backendRefs: [{ name: v1 }] }\n      - { name: own, backendRefs: [{ name: v2 }] }\n";
    let hashed = |name: &str, key: &str| {
        let fields = format!("loadBalancing: {{ policy: consistentHash{key} }}");
        v1(&fields, &endpoints).replacen("v1", name, 1)
    };
    let text =
        config(routes, &[]) + &hashed("v1", "") + &hashed("v2", ", key: { queryParam: user }");
    let proxy = Proxy::start(&text);
    let web = proxy.addr("web");
    let mut seen = BTreeMap::new();
    for number in 0..40 {
        let user = format!("u{number}");
        let by_split = get(web, "a", "/split", &[("x-user", &user)]).who();
        for _ in 0..3 {
            // The same hash of the same key, wherever the key comes from and whoever serves.
            assert_eq!(
                get(web, "a", "/split", &[("x-user", &user)]).who(),
                by_split
            );
            assert_eq!(
                get(web, "a", &format!("/?user={user}"), &[]).who(),
                by_split
            );
        }
        *seen.entry(by_split).or_insert(0) += 1;
    }
    assert!(
        seen.len() == 3 && seen.values().all(|count| *count > 3),
        "{seen:?}"
    );
    proxy.stop();
}

#[test]
fn a_slow_endpoint_gets_few_requests_by_peak_ewma() {
    let named = |name: &'static str, milliseconds: u64| {
        scripted(move |_, stream| {
            std::thread::park_timeout(std::time::Duration::from_millis(milliseconds));
            let head = format!("HTTP/1.1 200 OK\r\nx-backend: {name}\r\ncontent-length: 0\r\n\r\n");
            std::io::Write::write_all(stream, head.as_bytes()).is_ok()
        })
    };
    let (fast, slow) = (named("fast", 0), named("slow", 150));
    let fields = "loadBalancing: { policy: peakEwma }";
    let proxy = Proxy::start(
        &(config(ALL, &[]) + &v1(fields, &[(&fast, "weight: 1"), (&slow, "weight: 1")])),
    );
    let counts = counts(&proxy, 300);
    // It is tried once to find out.
    assert!(counts["slow"] <= 3, "{counts:?}");
    assert!(proxy.json("/api/v1/backends")[0]["policy"] == "peakEwma");
    proxy.stop();
}
