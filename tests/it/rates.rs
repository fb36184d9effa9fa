//! Bounds of routes and rules on requests over time and in flight, and that of the process.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::backend::{Backend, echo, scripted};
use crate::support::client::{Client, Response, get, request};
use crate::support::eventually;
use crate::support::pki::{Authority, Files, Leaf};
use crate::support::proxy::{Proxy, config, with_listener};
use crate::support::tls;

/// A rule with these limits in front of `v1`.
fn rule(limits: &str) -> String {
    format!(
        "  - {{ name: r, rules: [{{ name: all, limits: {{ {limits} }}, backendRefs: [{{ name: v1 }}] }}] }}\n"
    )
}

fn start(limits: &str, backend: &Backend) -> Proxy {
    Proxy::start(&config(&rule(limits), &[("v1", backend.address)]))
}

fn errors(proxy: &Proxy, reason: &str) -> f64 {
    let label = format!("reason=\"{reason}\"");
    proxy.metric("weir_errors_total", &["rule=\"all\"", &label])
}

#[test]
fn what_is_over_a_rate_gets_429_and_is_told_when_to_come_back() {
    let backend = echo("v1");
    let proxy = start("rates: [{ requests: 2, per: 1h }]", &backend);
    let ask = || get(proxy.addr("web"), "a", "/", &[]);
    let answers: Vec<Response> = (0..4).map(|_| ask()).collect();
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 429, 429]);
    let policy = Some("\"all\";q=2;w=3600");
    let left = |answer: &Response| answer.header("ratelimit").unwrap().to_owned();
    for answer in &answers {
        assert_eq!(answer.header("ratelimit-policy"), policy);
    }
    assert_eq!(left(&answers[0]), "\"all\";r=1;t=1800");
    assert!(left(&answers[1]).starts_with("\"all\";r=0;t="));
    assert!(left(&answers[2]).starts_with("\"all\";r=0;t="));
    let wait: u64 = answers[2].header("retry-after").unwrap().parse().unwrap();
    assert!((1790..=1800).contains(&wait), "{wait}");
    assert!(left(&answers[2]).ends_with(&format!("t={wait}")));
    let said = answers[2].header("proxy-status").unwrap();
    assert!(said.contains("rate_limited"), "{said}");
    assert_eq!(backend.requests(), 2);
    assert!((errors(&proxy, "rate_limited") - 2.0).abs() < 0.1);
    let log = proxy.stop();
    assert!(log.contains("\"reason\":\"rate_limited\""), "{log}");
}

#[test]
fn a_rate_fills_up_again() {
    let backend = echo("v1");
    let proxy = start("rates: [{ requests: 20, burst: 1 }]", &backend);
    let ask = || get(proxy.addr("web"), "a", "/", &[]).status;
    let began = Instant::now();
    let mut passed = 0;
    while passed < 5 {
        passed += u32::from(ask() == 200);
    }
    // The first at once, each other one 50 ms later.
    assert!(began.elapsed() >= Duration::from_millis(200));
    proxy.stop();
}

/// However many connections and workers: one bucket for each key.
#[test]
fn each_key_has_a_bucket_of_its_own_over_all_workers() {
    let backend = echo("v1");
    for (key, field, before) in [
        ("header: x-user", "x-user", ""),
        ("cookie: user", "cookie", "x=1; user="),
    ] {
        let limits = format!("rates: [{{ requests: 3, per: 1h, key: {{ {key} }} }}]");
        let proxy = start(&limits, &backend);
        for user in ["ada", "bob"] {
            let value = format!("{before}{user}");
            let passed = (0..10)
                .filter(|_| get(proxy.addr("web"), "a", "/", &[(field, &value)]).status == 200)
                .count();
            assert_eq!(passed, 3, "{key} {user}");
        }
        let without = (0..5)
            .filter(|_| get(proxy.addr("web"), "a", "/", &[]).status == 200)
            .count();
        assert_eq!(without, 3, "{key}: those without one share a bucket");
        proxy.stop();
    }
    let limits = "rates: [{ requests: 1, per: 1h, key: { queryParam: user } }, { requests: 3, per: 1h, key: { clientAddress: true } }]";
    let proxy = start(limits, &backend);
    let ask = |path: &str| get(proxy.addr("web"), "a", path, &[]).status;
    assert_eq!(ask("/?user=a"), 200);
    assert_eq!(ask("/?user=a"), 429);
    assert_eq!((ask("/?user=b"), ask("/?user=c")), (200, 200));
    assert_eq!(ask("/?user=d"), 429, "the address has made its three");
    proxy.stop();
}

#[test]
fn a_reload_that_leaves_a_rate_alone_does_not_fill_it_up() {
    let backend = echo("v1");
    let rates = "rates: [{ requests: 1, per: 1h }]";
    let proxy = start(rates, &backend);
    let ask = || get(proxy.addr("web"), "a", "/", &[]).status;
    assert_eq!((ask(), ask()), (200, 429));
    let text = std::fs::read_to_string(proxy.file()).unwrap();
    proxy.write_config(&text.replace("backendRefs", "timeouts: { request: 9s }, backendRefs"));
    proxy.wait_generation(2);
    assert_eq!(ask(), 429);
    proxy.write_config(&text.replace("requests: 1,", "requests: 2,"));
    proxy.wait_generation(3);
    assert_eq!(ask(), 200);
    proxy.stop();
}

#[test]
fn rules_share_what_their_route_lets_through() {
    let backend = echo("v1");
    let route = "  - name: r\n    limits: { rates: [{ name: whole, requests: 3, per: 1h, fields: legacy }] }\n    rules:\n      - { name: all, limits: { rates: [{ requests: 2, per: 1h, fields: none }] }, backendRefs: [{ name: v1 }] }\n      - { name: b, matches: [{ path: { value: /b } }], backendRefs: [{ name: v1 }] }\n";
    let proxy = Proxy::start(&config(route, &[("v1", backend.address)]));
    let ask = |path: &str| get(proxy.addr("web"), "a", path, &[]);
    let first = ask("/");
    assert_eq!(first.header("ratelimit-limit"), Some("3, 3;w=3600"));
    assert_eq!(first.header("ratelimit-remaining"), Some("2"));
    assert_eq!(first.header("ratelimit-reset"), Some("1200"));
    assert_eq!(first.header("ratelimit-policy"), None);
    assert_eq!(ask("/b").status, 200);
    assert_eq!(ask("/").status, 200);
    assert_eq!(ask("/b").status, 429);
    proxy.stop();
}

#[test]
fn a_grpc_call_over_a_rate_has_exhausted_a_resource() {
    let backend = echo("v1");
    let proxy = start("rates: [{ requests: 1, per: 1h }]", &backend);
    let call = || {
        let fields = [
            ("content-type", "application/grpc"),
            ("content-length", "0"),
        ];
        request(proxy.addr("web"), "POST", "a", "/s/m", &fields)
    };
    assert_eq!(call().who(), "v1");
    let refused = call();
    assert_eq!(
        (refused.status, refused.header("grpc-status")),
        (200, Some("8"))
    );
    proxy.stop();
}

/// Answers `/slow` only once the gate is open.
fn gated() -> (Backend, Arc<AtomicBool>) {
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let backend = scripted(move |seen, stream| {
        if seen.head.contains("/slow") {
            eventually("the gate", || gate.load(Ordering::SeqCst).then_some(()));
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .is_ok()
    });
    (backend, open)
}

fn slow_ones(proxy: &Proxy, listener: &str, count: usize) -> Vec<Client> {
    let open = |_| {
        let mut client = Client::connect(proxy.addr(listener));
        client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        client
    };
    (0..count).map(open).collect()
}

#[test]
fn what_is_over_a_bound_in_flight_is_refused_at_once() {
    for (status, expected) in [("", 503), (", status: \"429\"", 429)] {
        let (backend, gate) = gated();
        let proxy = start(&format!("requests: 2{status}"), &backend);
        let mut clients = slow_ones(&proxy, "web", 2);
        eventually("both in flight", || (backend.requests() == 2).then_some(()));
        let began = Instant::now();
        let refused = get(proxy.addr("web"), "a", "/", &[]);
        assert_eq!(refused.status, expected);
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(refused.header("retry-after"), Some("1"));
        let said = refused.header("proxy-status").unwrap();
        assert!(said.contains("concurrency_limited"), "{said}");
        // A wider bound counts those that are there.
        let text = std::fs::read_to_string(proxy.file()).unwrap();
        proxy.write_config(&text.replace("requests: 2", "requests: 3"));
        proxy.wait_generation(2);
        let more = slow_ones(&proxy, "web", 1);
        eventually("three in flight", || {
            (backend.requests() == 3).then_some(())
        });
        assert_eq!(get(proxy.addr("web"), "a", "/", &[]).status, expected);
        gate.store(true, Ordering::SeqCst);
        for client in clients.iter_mut() {
            assert_eq!(client.receive(false).unwrap().status, 200);
        }
        drop(more);
        eventually("room", || {
            (get(proxy.addr("web"), "a", "/", &[]).status == 200).then_some(())
        });
        assert!(errors(&proxy, "concurrency_limited") > 1.5);
        proxy.stop();
    }
}

#[test]
fn the_process_has_a_bound_over_all_listeners() {
    let (backend, gate) = gated();
    let text = config(
        "  - { name: r, rules: [{ name: all, backendRefs: [{ name: v1 }] }] }\n",
        &[("v1", backend.address)],
    )
    .replace(
        "routes:",
        "  - { name: other, address: \"127.0.0.2:0\" }\noverload: { requests: 3 }\nroutes:",
    );
    let proxy = Proxy::start(&text);
    let mut clients = slow_ones(&proxy, "web", 2);
    clients.extend(slow_ones(&proxy, "other", 1));
    eventually("all in flight", || (backend.requests() == 3).then_some(()));
    for listener in ["web", "other"] {
        let refused = get(proxy.addr(listener), "a", "/", &[]);
        assert_eq!(refused.status, 503);
        assert_eq!(refused.header("retry-after"), Some("1"));
        let said = refused.header("proxy-status").unwrap();
        assert!(said.contains("overloaded"), "{said}");
    }
    assert_eq!(proxy.ask("/ready").status, 200, "admin is not among them");
    let refused = proxy.metric("weir_errors_total", &["reason=\"overloaded\""]);
    assert!((refused - 2.0).abs() < 0.1, "{refused}");
    gate.store(true, Ordering::SeqCst);
    for client in &mut clients {
        assert_eq!(client.receive(false).unwrap().status, 200);
    }
    eventually("room", || {
        (get(proxy.addr("web"), "a", "/", &[]).status == 200).then_some(())
    });
    proxy.stop();
}

/// Many clients at once over both workers: as many pass as there are tokens, not one more.
#[test]
fn workers_do_not_give_a_token_twice() {
    let backend = echo("v1");
    let limits = "rates: [{ requests: 1, per: 24h, burst: 100 }, { requests: 1, per: 24h, burst: 100, key: { header: x-user } }]";
    let proxy = start(limits, &backend);
    let (web, passed) = (proxy.addr("web"), Mutex::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Client::connect(web);
                for _ in 0..50 {
                    let answer = client.ask("GET / HTTP/1.1\r\nHost: a\r\nx-user: a\r\n\r\n");
                    *passed.lock().unwrap() += u32::from(answer.status == 200);
                }
            });
        }
    });
    assert_eq!(*passed.lock().unwrap(), 100);
    proxy.stop();
}

/// Over the wire: each verified certificate has its bucket, clients without one share theirs, and nothing
/// that a client says about itself counts.
#[test]
fn each_identity_has_a_bucket_of_its_own() {
    let (ca, files, backend) = (Authority::new("test authority"), Files::new(), echo("v1"));
    files.put("ca.crt", &ca.pem);
    files.put_pair("server", &ca.issue(&Leaf::server(&["web.example"])));
    let at = |name: &str| files.at(name).display().to_string();
    let tls = format!(
        "tls: {{ certificates: [{{ certificate: \"{}\", key: \"{}\" }}], clientValidation: {{ mode: optional, ca: \"{}\" }} }}",
        at("server.crt"),
        at("server.key"),
        at("ca.crt"),
    );
    let rates = "rates: [{ requests: 2, per: 1h, key: { identity: true } }]";
    let text = config(&rule(rates), &[("v1", backend.address)]);
    let proxy = Proxy::start(&with_listener(&text, &tls));
    let pair = |name: &str| ca.issue(&Leaf::client(&[name]));
    let (one, two) = (
        pair("spiffe://shop.example/one"),
        pair("spiffe://shop.example/two"),
    );
    // Another certificate of the same client.
    let renewed = pair("spiffe://shop.example/one");
    for (who, expected) in [
        (Some(&one), 200),
        (Some(&renewed), 200),
        (Some(&one), 429),
        (Some(&renewed), 429),
        (Some(&two), 200),
        (None, 200),
        (None, 200),
        (None, 429),
        (Some(&two), 200),
        (Some(&two), 429),
    ] {
        let config = Arc::new(tls::client(&ca.pem, who));
        let mut client = tls::connect(proxy.addr("web"), "web.example", &config).unwrap();
        let forged = "Hash=1;URI=spiffe://shop.example/three";
        let asked = format!(
            "GET / HTTP/1.1\r\nHost: web.example\r\nx-forwarded-client-cert: {forged}\r\n\r\n"
        );
        assert_eq!(client.ask(&asked).status, expected);
    }
    assert!((errors(&proxy, "rate_limited") - 4.0).abs() < 0.1);
    proxy.stop();
}
