//! Endpoints that fail, each with its status and reason.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::backend::{echo, scripted};
use crate::support::client::{Client, get, request};
use crate::support::proxy::{Proxy, config};

#[test]
fn each_failure_has_its_status_and_reason() {
    let refused = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let reset = scripted(|_, _| false);
    let junk = scripted(|_, stream| {
        stream.write_all(b"not http at all\r\n\r\n").unwrap();
        false
    });
    let slow = scripted(|_, _| {
        std::thread::park_timeout(std::time::Duration::from_secs(5));
        false
    });
    let names = ["refused", "reset", "junk", "slow"];
    let rules: String = names
        .iter()
        .map(|n| format!("      - {{ name: {n}, matches: [{{ path: {{ value: /{n} }} }}], timeouts: {{ backendRequest: 400ms }}, backendRefs: [{{ name: {n} }}] }}\n"))
        .collect();
    let text = config(
        &format!(
            "  - name: r\n    rules:\n{rules}      - {{ name: total, matches: [{{ path: {{ value: /total }} }}], timeouts: {{ request: 300ms }}, backendRefs: [{{ name: slow }}] }}\n"
        ),
        &[
            ("refused", refused),
            ("reset", reset.address),
            ("junk", junk.address),
            ("slow", slow.address),
        ],
    );
    let proxy = Proxy::start(&text);
    let web = proxy.addr("web");
    for (path, status, reason) in [
        ("/refused", 503, "connect_failed"),
        ("/reset", 502, "upstream_reset"),
        ("/junk", 502, "upstream_invalid"),
        ("/slow", 504, "attempt_timeout"),
        ("/total", 504, "request_timeout"),
    ] {
        let response = get(web, "a", path, &[]);
        assert_eq!(response.status, status, "{path}");
        assert!(
            response.header("proxy-status").unwrap().contains(reason),
            "{path}: {response:?}"
        );
        assert!(
            proxy.metric("weir_errors_total", &[&format!("reason=\"{reason}\"")]) > 0.5,
            "{reason}"
        );
    }
    let log = proxy.stop();
    assert!(
        log.contains("\"reason\":\"attempt_timeout\"") && log.lines().count() == 5,
        "{log}"
    );
}

#[test]
fn half_a_body_never_looks_whole() {
    let backend = scripted(|_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
            .unwrap();
        false
    });
    let proxy = Proxy::start(&config(
        "  - { name: r, rules: [{ backendRefs: [{ name: v1 }] }] }\n",
        &[("v1", backend.address)],
    ));
    let mut client = Client::connect(proxy.addr("web"));
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.try_receive(false).is_err(), "the cut must show");
    assert!(proxy.stop().contains("\"reason\":\"upstream_reset\""));
}

/// The endpoint closes each connection as soon as it has answered once, without saying so.
#[test]
fn a_stale_connection_is_replaced_once_and_only_where_it_is_safe() {
    static SECOND: AtomicU64 = AtomicU64::new(0);
    let backend = scripted(|seen, stream| {
        // The second request of a connection is read and dropped: the client cannot know how far it got.
        if seen.head.contains("x-first") {
            return stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .is_ok();
        }
        if SECOND.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
            return false;
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .unwrap();
        false
    });
    let proxy = Proxy::start_with(
        &config(
            "  - { name: r, rules: [{ backendRefs: [{ name: v1 }] }] }\n",
            &[("v1", backend.address)],
        ),
        &["--workers", "1"],
    );
    let web = proxy.addr("web");
    for _ in 0..20 {
        assert_eq!(get(web, "a", "/", &[("x-first", "1")]).status, 200);
        assert_eq!(
            get(web, "a", "/", &[]).status,
            200,
            "GET goes again on a fresh connection"
        );
    }
    assert!(proxy.metric("weir_retries_total", &["reason=\"stale_connection\""]) > 19.0);
    assert_eq!(get(web, "a", "/", &[("x-first", "1")]).status, 200);
    let before = backend.requests();
    let post = request(web, "POST", "a", "/", &[("content-length", "0")]);
    assert_eq!(
        (post.status, backend.requests() - before),
        (502, 1),
        "a POST that was sent is not sent again"
    );
    proxy.stop();
}

#[test]
fn several_endpoints_share_by_policy_and_limits_answer_at_once() {
    let (one, two) = (echo("one"), echo("two"));
    let text = config(
        "  - { name: r, rules: [{ backendRefs: [{ name: v1 }] }] }\n",
        &[],
    ) + &format!(
        "  - {{ name: v1, loadBalancing: {{ policy: roundRobin }}, limits: {{ connections: 1, pendingRequests: 0 }}, endpoints: [{{ address: \"{}\" }}, {{ address: \"{}\" }}] }}\n",
        one.address, two.address
    );
    let proxy = Proxy::start_with(
        &text.replace("limits: { connections: 1, pendingRequests: 0 }, ", ""),
        &["--workers", "1"],
    );
    let web = proxy.addr("web");
    let names: Vec<_> = (0..4)
        .map(|_| {
            get(web, "a", "/", &[])
                .header("x-backend")
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(names, ["one", "two", "one", "two"]);
    proxy.stop();
    let proxy = Proxy::start_with(&text, &["--workers", "1"]);
    let web = proxy.addr("web");
    let full = (0..4)
        .filter(|_| get(web, "a", "/", &[]).status == 503)
        .count();
    assert!(full > 0, "one connection is not enough for two endpoints");
    assert!(proxy.metric("weir_errors_total", &["reason=\"limit_exceeded\""]) > 0.5);
    proxy.stop();
}
