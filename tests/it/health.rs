//! Endpoints that are asked whether they can serve, and what becomes of their share.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::{BodyExt, Full};

use crate::support::backend::{Backend, scripted};
use crate::support::client::get;
use crate::support::eventually;
use crate::support::http2;
use crate::support::proxy::{Proxy, config};

/// Answers checks with the status in the dial and anything else with its name.
fn dialled(name: &'static str) -> (Backend, Arc<AtomicU64>) {
    let dial = Arc::new(AtomicU64::new(200));
    let status = Arc::clone(&dial);
    let backend = scripted(move |seen, stream| {
        let answer = if seen.head.starts_with("GET /healthz?deep ") {
            let status = status.load(Ordering::SeqCst);
            let body = if status == 299 { "sick" } else { "fine" };
            let status = if status == 299 { 200 } else { status };
            format!("HTTP/1.1 {status} X\r\ncontent-length: 4\r\n\r\n{body}")
        } else {
            format!("HTTP/1.1 200 OK\r\nx-backend: {name}\r\ncontent-length: 0\r\n\r\n")
        };
        stream.write_all(answer.as_bytes()).is_ok()
    });
    (backend, dial)
}

const HTTP: &str = "http: { path: \"/healthz?deep\", host: h.test, expectedBody: fine }";

fn checked(name: &str, probe: &str, endpoints: &[SocketAddr]) -> String {
    let endpoints: String = endpoints
        .iter()
        .map(|address| format!("{{ address: \"{address}\" }}, "))
        .collect();
    format!(
        "  - {{ name: {name}, healthCheck: {{ {probe}, interval: 20ms, timeout: 2s }}, endpoints: [{endpoints}] }}\n"
    )
}

fn start(rules: &str, backends: &str) -> Proxy {
    Proxy::start(&(config(rules, &[]) + backends))
}

/// Waits until the endpoints of the first backend are in these states.
fn wait_states(proxy: &Proxy, states: &[&str]) {
    let wanted: Vec<_> = states
        .iter()
        .map(|state| serde_json::json!(state))
        .collect();
    eventually("the states", || {
        let backends = proxy.json("/api/v1/backends");
        let endpoints = backends[0]["endpoints"].as_array()?;
        let found: Vec<_> = endpoints.iter().map(|one| one["state"].clone()).collect();
        (found == wanted).then_some(())
    });
}

const ALL: &str = "  - { name: r, rules: [{ backendRefs: [{ name: v1 }] }] }\n";

#[test]
fn an_unhealthy_endpoint_gets_nothing_until_it_is_well_again() {
    let ((one, dial), (two, _)) = (dialled("one"), dialled("two"));
    let proxy = start(ALL, &checked("v1", HTTP, &[one.address, two.address]));
    let web = proxy.addr("web");
    wait_states(&proxy, &["ready", "ready"]);
    for (status, trouble) in [
        (503, "the answer has status 503"),
        (299, "does not contain"),
    ] {
        dial.store(status, Ordering::SeqCst);
        wait_states(&proxy, &["unhealthy", "ready"]);
        for _ in 0..30 {
            assert_eq!(get(web, "a", "/", &[]).who(), "two");
        }
        let backends = proxy.json("/api/v1/backends");
        let said = backends[0]["endpoints"][0]["trouble"].as_str().unwrap();
        assert!(said.contains(trouble), "{said}");
        let unhealthy = proxy.metric("weir_endpoints", &["state=\"unhealthy\""]);
        assert!((unhealthy - 1.0).abs() < 0.1);
        dial.store(200, Ordering::SeqCst);
        wait_states(&proxy, &["ready", "ready"]);
        eventually("its share", || {
            (get(web, "a", "/", &[]).who() == "one").then_some(())
        });
    }
    assert!(proxy.metric("weir_health_checks_total", &["result=\"failed\""]) >= 6.0);
    let log = proxy.program_log();
    assert!(
        log.contains("endpoint is unhealthy") && log.contains("endpoint is ready"),
        "{log}"
    );
    proxy.stop();
}

#[test]
fn a_version_without_a_healthy_endpoint_loses_its_share_or_answers_503() {
    let ((one, dial), (two, _)) = (dialled("one"), dialled("two"));
    let rules = "  - name: r\n    rules:\n      - { name: shift, backendRefs: [{ name: v1, weight: 1 }, { name: v2, weight: 1 }] }\n      - { name: error, matches: [{ path: { value: /error } }], split: { onUnavailable: error }, backendRefs: [{ name: v1, weight: 1 }, { name: v2, weight: 1 }] }\n";
    let backends = checked("v1", HTTP, &[one.address]) + &checked("v2", HTTP, &[two.address]);
    let proxy = start(rules, &backends);
    let web = proxy.addr("web");
    wait_states(&proxy, &["ready"]);
    dial.store(500, Ordering::SeqCst);
    wait_states(&proxy, &["unhealthy"]);
    let of = |path: &str| {
        (0..20)
            .map(|_| get(web, "a", path, &[]).who())
            .collect::<Vec<_>>()
    };
    assert!(of("/").iter().all(|who| who == "two"));
    let errors = of("/error");
    let refused = errors.iter().filter(|who| *who == "503").count();
    assert!((8..=12).contains(&refused), "{errors:?}");
    proxy.stop();
}

#[test]
fn a_reload_keeps_what_is_known_and_new_endpoints_wait_for_their_first_check() {
    let ((one, dial), (two, late)) = (dialled("one"), dialled("two"));
    late.store(503, Ordering::SeqCst);
    let proxy = start(ALL, &checked("v1", HTTP, &[one.address]));
    let web = proxy.addr("web");
    wait_states(&proxy, &["ready"]);
    let backends = checked("v1", HTTP, &[one.address, two.address]);
    proxy.write_config(&(config(ALL, &[]) + &backends));
    proxy.wait_generation(2);
    for _ in 0..20 {
        assert_eq!(get(web, "a", "/", &[]).who(), "one");
    }
    wait_states(&proxy, &["ready", "unhealthy"]);
    late.store(200, Ordering::SeqCst);
    wait_states(&proxy, &["ready", "ready"]);
    dial.store(503, Ordering::SeqCst);
    wait_states(&proxy, &["unhealthy", "ready"]);
    // Without checks nobody would ever find it well again.
    proxy.write_config(&config(ALL, &[("v1", one.address)]));
    proxy.wait_generation(3);
    wait_states(&proxy, &["ready"]);
    assert_eq!(get(web, "a", "/", &[]).who(), "one");
    proxy.stop();
}

#[test]
fn a_connection_is_enough_for_a_tcp_check() {
    let (one, _) = dialled("one");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = nobody.local_addr().unwrap();
    drop(nobody);
    let proxy = start(ALL, &checked("v1", "tcp: {}", &[one.address, gone]));
    wait_states(&proxy, &["ready", "unhealthy"]);
    assert!(proxy.metric("weir_health_checks_total", &["result=\"connect_failed\""]) > 2.0);
    proxy.stop();
}

#[test]
fn grpc_services_are_asked_by_their_own_protocol() {
    let dial = Arc::new(AtomicU64::new(1));
    let status = Arc::clone(&dial);
    let backend = http2::serve(move |request| {
        let status = Arc::clone(&status);
        async move {
            let path = request.uri().path().to_owned();
            let asked = request.into_body().collect().await?.to_bytes();
            let known = path == "/grpc.health.v1.Health/Check"
                && asked == Bytes::from_static(b"\0\0\0\0\x06\x0a\x04shop");
            let serving = u8::try_from(status.load(Ordering::SeqCst)).unwrap();
            let trailers = HeaderMap::from_iter([(
                HeaderName::from_static("grpc-status"),
                HeaderValue::from_static(if known { "0" } else { "12" }),
            )]);
            let message = Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, serving]);
            let body = Full::new(message)
                .with_trailers(std::future::ready(Some(Ok(trailers))))
                .boxed();
            Ok(Response::new(body))
        }
    });
    let of = |service: &str| {
        let probe = format!("grpc: {{ service: {service} }}");
        checked("v1", &probe, &[backend.address])
            .replace("healthCheck", "protocol: h2c, healthCheck")
    };
    let proxy = start(ALL, &of("shop"));
    wait_states(&proxy, &["ready"]);
    dial.store(2, Ordering::SeqCst);
    wait_states(&proxy, &["unhealthy"]);
    dial.store(1, Ordering::SeqCst);
    wait_states(&proxy, &["ready"]);
    proxy.write_config(&(config(ALL, &[]) + &of("other")));
    proxy.wait_generation(2);
    wait_states(&proxy, &["unhealthy"]);
    proxy.stop();
}
