//! Endpoints at which requests fail, and who takes their share until they are well again.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::backend::{Backend, scripted};
use crate::support::client::get;
use crate::support::eventually;
use crate::support::proxy::{Proxy, config};

/// Answers 200 with its name, or 500 while the flag is set.
fn failing(name: &'static str) -> (Backend, Arc<AtomicBool>) {
    let flag = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&flag);
    let backend = scripted(move |_, stream| {
        let status = if fails.load(Ordering::SeqCst) {
            500
        } else {
            200
        };
        let head = format!("HTTP/1.1 {status} X\r\nx-backend: {name}\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(head.as_bytes()).is_ok()
    });
    (backend, flag)
}

fn start(detection: &str, endpoints: &[SocketAddr]) -> Proxy {
    let endpoints: String = endpoints
        .iter()
        .map(|address| format!("{{ address: \"{address}\" }}, "))
        .collect();
    let route = "  - { name: r, rules: [{ backendRefs: [{ name: v1 }] }] }\n";
    let backend = format!(
        "  - {{ name: v1, loadBalancing: {{ policy: roundRobin }}, outlierDetection: {{ {detection} }}, endpoints: [{endpoints}] }}\n"
    );
    Proxy::start(&(config(route, &[]) + &backend))
}

fn states(proxy: &Proxy) -> Vec<String> {
    let backends = proxy.json("/api/v1/backends");
    let endpoints = backends[0]["endpoints"].as_array().unwrap();
    let states = endpoints.iter().map(|one| one["state"].as_str().unwrap());
    states.map(str::to_owned).collect()
}

#[test]
fn an_endpoint_that_fails_in_a_row_is_ejected_and_taken_back() {
    let ((one, fails), (two, _)) = (failing("one"), failing("two"));
    let detection = "consecutiveFailures: 3, ejectFor: 500ms";
    let proxy = start(detection, &[one.address, two.address]);
    let web = proxy.addr("web");
    fails.store(true, Ordering::SeqCst);
    let answers: Vec<_> = (0..6).map(|_| get(web, "a", "/", &[]).status).collect();
    assert_eq!(answers.iter().filter(|status| **status == 500).count(), 3);
    assert_eq!(states(&proxy), ["ejected", "ready"]);
    for _ in 0..20 {
        assert_eq!(get(web, "a", "/", &[]).who(), "two");
    }
    let ejections = proxy.metric(
        "weir_endpoint_ejections_total",
        &["reason=\"consecutive_failures\""],
    );
    assert!((ejections - 1.0).abs() < 0.1, "{ejections}");
    assert!((proxy.metric("weir_endpoints", &["state=\"ejected\""]) - 1.0).abs() < 0.1);
    fails.store(false, Ordering::SeqCst);
    eventually("its return", || {
        (states(&proxy) == ["ready", "ready"]).then_some(())
    });
    let both: Vec<_> = (0..4).map(|_| get(web, "a", "/", &[]).who()).collect();
    assert!(both.contains(&"one".to_owned()), "{both:?}");
    let log = proxy.program_log();
    assert!(
        log.contains("endpoint is ejected") && log.contains("gets requests again"),
        "{log}"
    );
    proxy.stop();
}

#[test]
fn connections_that_fail_count_and_the_last_endpoint_stays() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = nobody.local_addr().unwrap();
    drop(nobody);
    let (one, fails) = failing("one");
    fails.store(true, Ordering::SeqCst);
    let proxy = start("consecutiveFailures: 1, ejectFor: 1h", &[gone, one.address]);
    let web = proxy.addr("web");
    let answers: Vec<_> = (0..10).map(|_| get(web, "a", "/", &[]).status).collect();
    assert_eq!(answers.iter().filter(|status| **status == 503).count(), 1);
    assert_eq!(states(&proxy), ["ejected", "ready"]);
    assert_eq!(answers.iter().filter(|status| **status == 500).count(), 9);
    // A reload that changes the backend begins anew.
    let text = std::fs::read_to_string(proxy.file()).unwrap();
    proxy.write_config(&text.replace("consecutiveFailures: 1", "consecutiveFailures: 9"));
    proxy.wait_generation(2);
    assert_eq!(states(&proxy), ["ready", "ready"]);
    proxy.stop();
}

#[test]
fn an_endpoint_that_succeeds_less_often_than_the_others_is_ejected() {
    let all: Vec<_> = (0..5).map(|_| failing("any")).collect();
    let addresses: Vec<_> = all.iter().map(|(backend, _)| backend.address).collect();
    let detection = "consecutiveFailures: 0, ejectFor: 1h, successRate: { interval: 200ms, minRequests: 2, minEndpoints: 5 }";
    let proxy = start(detection, &addresses);
    let web = proxy.addr("web");
    all[2].1.store(true, Ordering::SeqCst);
    let others = ["ready", "ready", "ejected", "ready", "ready"];
    eventually("the ejection", || {
        for _ in 0..10 {
            get(web, "a", "/", &[]);
        }
        (states(&proxy) == others).then_some(())
    });
    assert!(
        proxy.metric(
            "weir_endpoint_ejections_total",
            &["reason=\"success_rate\""]
        ) > 0.5
    );
    proxy.stop();
}
