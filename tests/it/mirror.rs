//! Copies of requests, seen by those who get them and by those who must not notice.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::backend::{Backend, echo, raw, scripted};
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::proxy::{Proxy, config};

type Seen = Arc<Mutex<Vec<String>>>;

/// Answers 200 and keeps head and body of each request, in lower case.
fn keeping() -> (Backend, Seen) {
    let seen = Seen::default();
    let kept = Arc::clone(&seen);
    let backend = scripted(move |request, stream| {
        let body = String::from_utf8_lossy(&request.body);
        let text = format!("{}|{body}", request.head).to_lowercase();
        kept.lock().unwrap().push(text);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .is_ok()
    });
    (backend, seen)
}

/// A rule with these filters in front of `v1`; the other backends are there to be mirrored to.
fn start(filters: &str, backends: &[(&str, SocketAddr)]) -> Proxy {
    let route = format!(
        "  - {{ name: r, rules: [{{ name: all, filters: [{filters}], backendRefs: [{{ name: v1 }}] }}] }}\n"
    );
    Proxy::start(&config(&route, backends))
}

fn mirror(to: &str, fields: &str) -> String {
    format!("{{ type: RequestMirror, requestMirror: {{ backendRef: {{ name: {to} }}{fields} }} }}")
}

fn outcomes(proxy: &Proxy, outcome: &str) -> f64 {
    let label = format!("outcome=\"{outcome}\"");
    proxy.metric("weir_mirrored_total", &["rule=\"all\"", &label])
}

#[track_caller]
fn wait_for(proxy: &Proxy, outcome: &str, count: f64) {
    eventually(outcome, || {
        let found = outcomes(proxy, outcome);
        assert!(found < count + 0.5, "{outcome}: {found}");
        (found > count - 0.5).then_some(())
    });
}

#[test]
fn httproute_request_mirror() {
    let (v1, (v2, seen)) = (echo("v1"), keeping());
    let set = "{ type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: x-header-set, value: set-overwrites-values }], remove: [x-header-remove] } }";
    let filters = format!("{set}, {}", mirror("v2", ""));
    let proxy = start(&filters, &[("v1", v1.address), ("v2", v2.address)]);
    let mut client = Client::connect(proxy.addr("web"));
    let answer = client.ask(
        "POST /mirror?a=b HTTP/1.1\r\nHost: shop.example:81\r\nX-Header-Remove: yes\r\nX-Weir-Shadow: 0\r\nContent-Length: 5\r\n\r\nhello",
    );
    assert_eq!(answer.who(), "v1");
    assert_eq!(answer.seen("x-weir-shadow"), None);
    wait_for(&proxy, "ok", 1.0);
    let copies = seen.lock().unwrap().clone();
    let [copy] = &copies[..] else {
        panic!("{copies:?}")
    };
    for line in [
        "post /mirror?a=b http/1.1",
        "host: shop.example:81",
        "x-weir-shadow: 1",
        "x-header-set: set-overwrites-values",
        "content-length: 5",
    ] {
        assert!(copy.contains(&format!("{line}\r\n")), "{line}: {copy}");
    }
    assert!(copy.ends_with("|hello"), "{copy}");
    assert!(!copy.contains("x-header-remove"), "{copy}");
    // The copy is in no series of the route, and no attempt.
    assert!(proxy.metric("weir_attempts_total", &["backend=\"v2\""]) < 0.1);
    assert!((proxy.metric("weir_requests_total", &["route=\"r\""]) - 1.0).abs() < 0.1);
    crate::support::promtool(&proxy.ask("/metrics").body);
    proxy.stop();
}

#[test]
fn httproute_request_multiple_mirrors() {
    let (v1, (v2, at_v2), (v3, at_v3)) = (echo("v1"), keeping(), keeping());
    let filters = [mirror("v2", ""), mirror("v3", ", shadowHost: true")].join(", ");
    let backends = [("v1", v1.address), ("v2", v2.address), ("v3", v3.address)];
    let proxy = start(&filters, &backends);
    let mut client = Client::connect(proxy.addr("web"));
    for _ in 0..5 {
        let answer = client.ask(
            "PUT / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nx-sum: 7\r\n\r\n",
        );
        assert_eq!(answer.who(), "v1");
    }
    wait_for(&proxy, "ok", 10.0);
    for (seen, host) in [(at_v2, "a.example\r\n"), (at_v3, "a.example-shadow\r\n")] {
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), 5);
        for copy in seen.iter() {
            assert!(copy.contains(&format!("host: {host}")), "{copy}");
            assert!(
                copy.contains("x-sum: 7") && copy.ends_with("|abcde"),
                "{copy}"
            );
        }
    }
    proxy.stop();
}

#[test]
fn httproute_request_percentage_mirror() {
    let v1 = echo("v1");
    for (share, expected) in [
        (", percent: 20", 0.2),
        (", fraction: { numerator: 25, denominator: 50 }", 0.5),
        (", fraction: { numerator: 35 }", 0.35),
        (", percent: 0", 0.0),
    ] {
        let (v2, _) = keeping();
        let filters = mirror("v2", share);
        let proxy = start(&filters, &[("v1", v1.address), ("v2", v2.address)]);
        let mut client = Client::connect(proxy.addr("web"));
        // As the suite does: within three deviations in one of five tries.
        let deviation = (500.0_f64 * expected * (1.0 - expected)).sqrt();
        let mut before = 0.0;
        let fits = (0..5).any(|_| {
            for _ in 0..500 {
                assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").who(), "v1");
            }
            eventually("the last copy", || {
                (proxy.metric("weir_mirrors_in_flight", &[]) < 0.5).then_some(())
            });
            let all = proxy.metric("weir_mirrored_total", &[]);
            let copies = all - before;
            before = all;
            (copies - 500.0 * expected).abs() <= 3.0 * deviation
        });
        assert!(fits, "{share}");
        assert!((outcomes(&proxy, "ok") - v2.requests() as f64).abs() < 0.1);
        proxy.stop();
    }
}

#[test]
fn a_mirror_of_one_version_copies_what_that_version_gets() {
    let (v1, (v2, seen)) = (echo("v1"), keeping());
    let edit = "{ type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: x-of, value: candidate }] } }";
    let route = format!(
        "  - name: r\n    rules:\n      - name: all\n        split: {{ force: {{ header: x-to }} }}\n        backendRefs: [{{ name: v1 }}, {{ name: v3, weight: 0, filters: [{edit}, {}] }}]\n",
        mirror("v2", "")
    );
    let backends = [("v1", v1.address), ("v2", v2.address), ("v3", v1.address)];
    let proxy = Proxy::start(&config(&route, &backends));
    for to in ["v1", "v3", "v1"] {
        assert_eq!(
            get(proxy.addr("web"), "a", "/", &[("x-to", to)]).status,
            200
        );
    }
    wait_for(&proxy, "ok", 1.0);
    let copies = seen.lock().unwrap().clone();
    assert!(
        copies.len() == 1 && copies[0].contains("x-of: candidate"),
        "{copies:?}"
    );
    proxy.stop();
}

#[test]
fn a_body_beyond_the_cap_is_not_copied_and_said_to_be() {
    let (v1, (v2, seen)) = (echo("v1"), keeping());
    let filters = mirror("v2", ", bodyBytes: 1KiB");
    let proxy = start(&filters, &[("v1", v1.address), ("v2", v2.address)]);
    let mut client = Client::connect(proxy.addr("web"));
    let body = "x".repeat(1025);
    let whole = client.ask(&format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n{body}"
    ));
    assert!(whole.body.ends_with(&body));
    let chunked = client.ask(&format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n401\r\n{body}\r\n0\r\n\r\n"
    ));
    assert!(chunked.body.ends_with(&body));
    wait_for(&proxy, "skipped_body_too_large", 2.0);
    // One that breaks off is not copied either.
    let mut leaving = Client::connect(proxy.addr("web"));
    leaving.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello");
    leaving.reset();
    wait_for(&proxy, "skipped_body_broken", 1.0);
    assert_eq!(seen.lock().unwrap().len(), 0);
    assert!(proxy.metric("weir_mirrors_in_flight", &[]) < 0.5);
    proxy.stop();
}

/// Copies pile up to the bound, and no further; requests do not wait for any.
#[test]
fn a_mirror_that_hangs_is_not_noticed() {
    let v1 = echo("v1");
    let hanging = raw(|stream, _| {
        std::thread::park_timeout(Duration::from_secs(60));
        drop(stream);
    });
    let filters = mirror("v2", ", maxInFlight: 4, timeout: 2s");
    let proxy = start(&filters, &[("v1", v1.address), ("v2", hanging.address)]);
    let mut client = Client::connect(proxy.addr("web"));
    let began = Instant::now();
    for _ in 0..200 {
        assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").who(), "v1");
    }
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    wait_for(&proxy, "dropped_max_in_flight", 196.0);
    wait_for(&proxy, "timeout", 4.0);
    proxy.stop();
}

#[test]
fn a_copy_is_sent_once_and_its_failure_is_nobodys() {
    let v1 = echo("v1");
    let closing = scripted(|_, _| false);
    let failing = scripted(|_, stream| {
        let head = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(head).is_ok()
    });
    let filters = [mirror("v2", ""), mirror("v3", ""), mirror("v4", "")].join(", ");
    let text = config(
        &format!(
            "  - {{ name: r, rules: [{{ name: all, retry: {{ attempts: 3, codes: [500] }}, filters: [{filters}], backendRefs: [{{ name: v1 }}] }}] }}\n"
        ),
        &[
            ("v1", v1.address),
            ("v2", closing.address),
            ("v4", v1.address),
        ],
    );
    let text = format!(
        "{text}  - {{ name: v3, outlierDetection: {{ consecutiveFailures: 1 }}, endpoints: [{{ address: \"{}\" }}, {{ address: \"127.0.0.1:1\" }}] }}\n",
        failing.address
    )
    .replace(
        &format!("name: v4, endpoints: [{{ address: \"{}\" }}]", v1.address),
        "name: v4, endpoints: []",
    );
    let proxy = Proxy::start(&text);
    let mut client = Client::connect(proxy.addr("web"));
    for _ in 0..10 {
        assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").who(), "v1");
    }
    let of = |backend: &str, outcome: &str| {
        let labels = [backend, outcome];
        proxy.metric("weir_mirrored_total", &labels)
    };
    eventually("all copies", || {
        let done = outcomes(&proxy, "ok") + proxy.metric("weir_mirrored_total", &[]);
        (done > 29.5).then_some(())
    });
    assert!((of("backend=\"v2\"", "outcome=\"reset\"") - 10.0).abs() < 0.1);
    assert_eq!(closing.requests(), 10, "never again");
    let errors = of("backend=\"v3\"", "outcome=\"server_error\"");
    let refused = of("backend=\"v3\"", "outcome=\"connect_failed\"");
    assert!((errors + refused - 10.0).abs() < 0.1, "{errors} {refused}");
    assert!((of("backend=\"v4\"", "outcome=\"no_endpoint\"") - 10.0).abs() < 0.1);
    assert!(proxy.metric("weir_endpoint_ejections_total", &[]) < 0.1);
    assert!(proxy.metric("weir_errors_total", &[]) < 0.1);
    assert!(proxy.metric("weir_retries_total", &[]) < 0.1);
    proxy.stop();
}

#[test]
fn a_mirror_to_nobody_is_reported_and_the_request_served() {
    let v1 = echo("v1");
    let filters = mirror("gone", "");
    let proxy = start(&filters, &[("v1", v1.address)]);
    assert_eq!(get(proxy.addr("web"), "a", "/", &[]).who(), "v1");
    let log = proxy.program_log();
    assert!(log.contains("W0334") && log.contains("gone"), "{log}");
    let policies = proxy.json("/api/v1/routes")[0]["policies"].to_string();
    assert!(
        policies.contains("mirror to gone: there is no such backend"),
        "{policies}"
    );
    proxy.stop();
}

/// What a client sent over HTTP/2 is copied to a backend of HTTP/1, and the other way round.
#[test]
fn copies_speak_what_their_backend_speaks() {
    use crate::support::http2;
    let (v1, (v2, seen)) = (http2::backend("v1"), keeping());
    let filters = mirror("v2", "");
    let text = format!(
        "  - {{ name: r, rules: [{{ name: all, filters: [{filters}], backendRefs: [{{ name: v1 }}] }}] }}\n"
    );
    let text = config(&text, &[("v2", v2.address)]);
    let proxy = Proxy::start(&format!(
        "{text}  - {{ name: v1, protocol: h2c, endpoints: [{{ address: \"{}\" }}] }}\n",
        v1.address
    ));
    http2::block_on(async {
        let mut sender = http2::connect(proxy.addr("web")).await;
        let request = http::Request::post("http://a.example/x").body(http2::with_trailer("hello"));
        let answer = http2::ask(&mut sender, request.unwrap()).await.unwrap();
        assert!(answer.body.contains("|hello|"), "{}", answer.body);
    });
    wait_for(&proxy, "ok", 1.0);
    let copies = seen.lock().unwrap().clone();
    assert!(
        copies[0].contains("host: a.example") && copies[0].ends_with("|hello"),
        "{copies:?}"
    );
    proxy.stop();
}

/// A request waits for a connection: its copy is not sent, nor is anything connected to, before it is on its
/// way. One that never gets there is copied when that is known.
#[test]
fn a_copy_never_comes_before_its_request() {
    let (go, (v2, seen), other) = (Arc::new(AtomicBool::new(false)), keeping(), echo("other"));
    let gate = Arc::clone(&go);
    let v1 = scripted(move |request, stream| {
        while request.head.starts_with("GET /held") && !gate.load(Ordering::SeqCst) {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .is_ok()
    });
    let copied = mirror("v2", "");
    let rules = format!(
        "  - name: r\n    rules:\n\
         \x20     - {{ name: held, matches: [{{ path: {{ value: /held }} }}], backendRefs: [{{ name: v1 }}] }}\n\
         \x20     - {{ name: other, matches: [{{ path: {{ value: /other }} }}], backendRefs: [{{ name: other }}] }}\n\
         \x20     - {{ name: down, matches: [{{ path: {{ value: /down }} }}], filters: [{copied}], backendRefs: [{{ name: down }}] }}\n\
         \x20     - {{ name: all, filters: [{copied}], backendRefs: [{{ name: v1 }}] }}\n"
    );
    let text = config(
        &rules,
        &[
            ("v2", v2.address),
            ("other", other.address),
            ("down", ([127, 0, 0, 1], 1).into()),
        ],
    );
    let text = format!(
        "{text}  - {{ name: v1, limits: {{ connections: 1 }}, connectTimeout: 20s, endpoints: [{{ address: \"{}\" }}] }}\n",
        v1.address
    );
    let proxy = Proxy::start_with(&text, &["--workers", "1"]);
    let ask = |path: &str| {
        let mut client = Client::connect(proxy.addr("web"));
        assert!(client.try_send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")));
        client
    };
    let mut held = ask("/held");
    eventually("the first request", || (v1.requests() == 1).then_some(()));
    let mut waiting = ask("/copied");
    eventually("one that waits", || {
        (proxy.metric("weir_requests_pending", &["backend=\"v1\""]) > 0.5).then_some(())
    });
    // The worker has done much else since.
    for _ in 0..20 {
        assert_eq!(get(proxy.addr("web"), "a", "/other", &[]).who(), "other");
    }
    let connected = || proxy.metric("weir_upstream_connections_total", &["backend=\"v2\""]);
    assert!(connected() < 0.5 && seen.lock().unwrap().is_empty());
    go.store(true, Ordering::SeqCst);
    for client in [&mut held, &mut waiting] {
        assert_eq!(client.receive(false).unwrap().status, 200);
    }
    wait_for(&proxy, "ok", 1.0);
    assert_eq!(get(proxy.addr("web"), "a", "/down", &[]).status, 503);
    eventually("its copy", || {
        (seen.lock().unwrap().len() == 2).then_some(())
    });
    proxy.stop();
}
