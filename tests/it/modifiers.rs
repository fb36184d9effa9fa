//! Header modifiers, filters of a backendRef, references that cannot be used, timeouts.

use std::collections::BTreeMap;
use std::io::Write;

use crate::routing::three;
use crate::support::backend::scripted;
use crate::support::client::{get, request};
use crate::support::eventually;
use crate::support::proxy::{Proxy, config};

/// `(path, fields sent, fields that the backend sees)`.
type Modified<'a> = (
    &'a str,
    &'a [(&'a str, &'a str)],
    &'a [(&'a str, Option<&'a str>)],
);
const MODIFIED: &[Modified<'_>] = &[
    (
        "/set",
        &[("Some-Other-Header", "v")],
        &[
            ("x-header-set", Some("set-overwrites")),
            ("some-other-header", Some("v")),
        ],
    ),
    (
        "/set",
        &[("X-Header-Set", "other"), ("X-Header-Set", "twice")],
        &[("x-header-set", Some("set-overwrites"))],
    ),
    ("/add", &[], &[("x-header-add", Some("add-appends"))]),
    (
        "/add",
        &[("X-Header-Add", "other")],
        &[("x-header-add", Some("other,add-appends"))],
    ),
    (
        "/remove",
        &[("X-Header-Remove", "v")],
        &[("x-header-remove", None)],
    ),
    ("/remove", &[], &[("x-header-remove", None)]),
    (
        "/multiple",
        &[
            ("X-Set-2", "old"),
            ("X-Add-2", "sent"),
            ("X-Remove-2", "v"),
            ("Other", "v"),
        ],
        &[
            ("x-set-1", Some("s1")),
            ("x-set-2", Some("s2")),
            ("x-add-1", Some("a1")),
            ("x-add-2", Some("sent,a2")),
            ("x-remove-1", None),
            ("x-remove-2", None),
            ("other", Some("v")),
        ],
    ),
    (
        "/case-insensitivity",
        &[
            ("x-header-SET", "old"),
            ("x-header-ADD", "sent"),
            ("x-header-REMOVE", "v"),
        ],
        &[
            ("x-header-set", Some("s")),
            ("x-header-add", Some("sent,a")),
            ("x-header-remove", None),
        ],
    ),
];

#[test]
fn httproute_request_header_modifier() {
    let modifier = |path: &str, fields: &str| {
        format!(
            "      - matches: [{{ path: {{ value: {path} }} }}]\n        filters: [{{ type: RequestHeaderModifier, requestHeaderModifier: {{ {fields} }} }}]\n        backendRefs: [{{ name: v1 }}]\n"
        )
    };
    let rules = [
        modifier(
            "/set",
            "set: [{ name: X-Header-Set, value: set-overwrites }]",
        ),
        modifier("/add", "add: [{ name: X-Header-Add, value: add-appends }]"),
        modifier("/remove", "remove: [X-Header-Remove]"),
        modifier(
            "/multiple",
            "set: [{ name: X-Set-1, value: s1 }, { name: X-Set-2, value: s2 }], add: [{ name: X-Add-1, value: a1 }, { name: X-Add-2, value: a2 }], remove: [X-Remove-1, X-Remove-2]",
        ),
        modifier(
            "/case-insensitivity",
            "set: [{ name: X-Header-Set, value: s }], add: [{ name: X-Header-Add, value: a }], remove: [X-Header-Remove]",
        ),
    ];
    let three = three(&format!("  - name: r\n    rules:\n{}", rules.concat()));
    let web = three.proxy.addr("web");
    for (path, sent, expected) in MODIFIED {
        let response = get(web, "a", path, sent);
        for (name, value) in *expected {
            assert_eq!(
                response.seen(name).as_deref(),
                *value,
                "{path} {sent:?} {name}"
            );
        }
    }
    three.proxy.stop();
}

#[test]
fn httproute_response_header_modifier() {
    let backend = scripted(|_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nX-Header-Set: old\r\nX-Header-Add: sent\r\nX-Header-Remove: v\r\nSet-Cookie: a=1\r\nOther: v\r\ncontent-length: 0\r\n\r\n")
            .is_ok()
    });
    let rules = "  - name: r\n    rules:\n      - filters:\n\
        \x20         - { type: ResponseHeaderModifier, responseHeaderModifier: { set: [{ name: x-header-set, value: set }], add: [{ name: x-header-ADD, value: added }, { name: set-cookie, value: b=2 }], remove: [x-header-remove] } }\n\
        \x20         - { type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: x-request, value: \"1\" }] } }\n\
        \x20       backendRefs: [{ name: v1, filters: [{ type: ResponseHeaderModifier, responseHeaderModifier: { add: [{ name: x-header-add, value: last }] } }] }]\n";
    let proxy = Proxy::start(&config(rules, &[("v1", backend.address)]));
    let response = get(proxy.addr("web"), "a", "/", &[]);
    for (name, values) in [
        ("x-header-set", &["set"][..]),
        ("x-header-add", &["sent", "added", "last"]),
        ("x-header-remove", &[]),
        ("other", &["v"]),
        // Two field lines: a cookie must never be joined with a comma.
        ("set-cookie", &["a=1", "b=2"]),
    ] {
        assert_eq!(response.headers(name), values, "{name}");
    }
    proxy.stop();
}

#[test]
fn httproute_request_header_modifier_backend_weights() {
    let of = |name: &str, weight: u32| {
        format!(
            "{{ name: {name}, weight: {weight}, filters: [{{ type: RequestHeaderModifier, requestHeaderModifier: {{ set: [{{ name: Backend, value: {name} }}] }} }}] }}"
        )
    };
    let three = three(&format!(
        "  - {{ name: r, rules: [{{ backendRefs: [{}, {}] }}] }}\n",
        of("v1", 50),
        of("v2", 50)
    ));
    let web = three.proxy.addr("web");
    let mut seen = BTreeMap::new();
    for _ in 0..100 {
        let response = get(web, "a", "/", &[("Backend", "client")]);
        let name = response.who();
        assert_eq!(response.seen("backend"), Some(name.clone()));
        *seen.entry(name).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    three.proxy.stop();
}

/// HTTPRouteBackendRequestHeaderModifier, -BackendURLRewrite, -BackendRequestRedirect: after the
/// rule's own filters, for that backend only.
#[test]
fn httproute_backend_filters() {
    let rules = "  - name: r\n    rules:\n\
        \x20     - matches: [{ path: { value: /h } }]\n\
        \x20       filters: [{ type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: x-order, value: rule }] } }]\n\
        \x20       backendRefs: [{ name: v1, filters: [{ type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: x-set, value: new }], add: [{ name: x-order, value: backend }], remove: [x-gone] } }] }]\n\
        \x20     - matches: [{ path: { value: /rewrite } }]\n\
        \x20       backendRefs: [{ name: v1, filters: [{ type: URLRewrite, urlRewrite: { hostname: b.example.org, path: { type: ReplacePrefixMatch, replacePrefixMatch: /b } } }] }]\n\
        \x20     - matches: [{ path: { value: /redirect } }]\n\
        \x20       backendRefs: [{ name: v1, filters: [{ type: RequestRedirect, requestRedirect: { hostname: c.example.org, port: 80, statusCode: 301 } }] }]\n";
    let three = three(rules);
    let web = three.proxy.addr("web");
    let headers = get(
        web,
        "a",
        "/h",
        &[("x-set", "old"), ("x-order", "client"), ("x-gone", "1")],
    );
    assert_eq!(headers.seen("x-order").as_deref(), Some("rule,backend"));
    assert_eq!(headers.seen("x-set").as_deref(), Some("new"));
    assert_eq!(headers.seen("x-gone"), None);
    let rewritten = get(web, "a", "/rewrite/x?q=1", &[]);
    assert_eq!(rewritten.seen_target(), "/b/x?q=1");
    assert_eq!(rewritten.seen("host").as_deref(), Some("b.example.org"));
    let redirect = get(web, "a", "/redirect/x", &[]);
    assert_eq!(
        (redirect.status, redirect.header("location")),
        (301, Some("http://c.example.org/redirect/x"))
    );
    three.proxy.stop();
}

/// HTTPRouteInvalidBackendRefUnknownKind, -InvalidCrossNamespaceBackendRef, -PartiallyInvalid...,
/// -NoBackendRefs, a Service without endpoints, and what gRPC is told.
#[test]
fn httproute_references_that_cannot_be_used() {
    let rule = |path: &str, refs: &str| {
        format!("      - {{ matches: [{{ path: {{ value: {path} }} }}], backendRefs: [{refs}] }}\n")
    };
    let rules = [
        rule("/unknown-kind", "{ name: v1, kind: NonExistent }"),
        rule("/cross-namespace", "{ name: v1, namespace: other }"),
        rule(
            "/fine",
            "{ name: v1, kind: Service, group: \"\", port: 8080 }",
        ),
        rule("/none", ""),
        rule("/empty", "{ name: gone }"),
        rule("/zero", "{ name: v1, weight: 0 }, { name: v2, weight: 0 }"),
    ];
    let backend = crate::support::backend::echo("v1");
    let text = config(
        &format!("  - name: r\n    rules:\n{}", rules.concat()),
        &[("v1", backend.address), ("v2", backend.address)],
    ) + "  - { name: gone }\n";
    let proxy = Proxy::start(&text);
    let web = proxy.addr("web");
    for (path, status, reason, grpc) in [
        ("/unknown-kind", 500, "invalid_backend", "14"),
        ("/cross-namespace", 500, "invalid_backend", "14"),
        ("/none", 500, "no_backend", "14"),
        ("/empty", 503, "no_endpoint", "14"),
        ("/zero", 500, "no_positive_weight", "14"),
    ] {
        let response = get(web, "a", path, &[]);
        assert_eq!(response.status, status, "{path}");
        let why = response.header("proxy-status").unwrap();
        assert!(why.contains(reason), "{path}: {why}");
        let fields = [
            ("content-type", "application/grpc"),
            ("content-length", "0"),
        ];
        let response = request(web, "POST", "a", path, &fields);
        assert_eq!(
            (response.status, response.header("grpc-status")),
            (200, Some(grpc)),
            "{path}: {response:?}"
        );
    }
    assert_eq!(get(web, "a", "/fine", &[]).status, 200);
    proxy.stop();
}

/// Exactly its share, in a hundred draws, and nothing is shifted to the valid one.
#[test]
fn httproute_partially_invalid() {
    let three = three(
        "  - { name: r, rules: [{ backendRefs: [{ name: v1, weight: 50 }, { name: v2, kind: Nothing, weight: 50 }] }] }\n",
    );
    let web = three.proxy.addr("web");
    let failed = (0..100)
        .filter(|_| get(web, "a", "/", &[]).status == 500)
        .count();
    // Two workers, each within 2 of its half.
    assert!((46..=54).contains(&failed), "{failed}");
    three.proxy.stop();
}

/// The suite's way: 500 requests, ten at a time, each share within five points.
#[test]
fn httproute_weight_ten_at_a_time() {
    let three = three(
        "  - { name: r, rules: [{ backendRefs: [{ name: v1, weight: 70 }, { name: v2, weight: 30 }, { name: v3, weight: 0 }] }] }\n",
    );
    let web = three.proxy.addr("web");
    let threads: Vec<_> = (0..10)
        .map(|thread| {
            std::thread::spawn(move || {
                (0..50)
                    .map(|n| get(web, "a", "/", &[("x-entropy", &format!("{thread}-{n}"))]).who())
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let mut seen = BTreeMap::new();
    for name in threads.into_iter().flat_map(|t| t.join().unwrap()) {
        *seen.entry(name).or_insert(0) += 1;
    }
    assert!((325..=375).contains(&seen["v1"]), "{seen:?}");
    assert!(
        (125..=175).contains(&seen["v2"]) && seen.len() == 2,
        "{seen:?}"
    );
    three.proxy.stop();
}

/// HTTPRouteTimeoutRequest and HTTPRouteTimeoutBackendRequest.
#[test]
fn httproute_timeout_request_and_backend_request() {
    let backend = scripted(|seen, stream| {
        if seen.head.contains("delay=1s") {
            std::thread::park_timeout(std::time::Duration::from_secs(1));
        }
        // The proxy may have given up.
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .is_ok()
    });
    let rule = |path: &str, timeouts: &str| {
        format!(
            "      - {{ matches: [{{ path: {{ value: {path} }} }}], timeouts: {{ {timeouts} }}, backendRefs: [{{ name: v1 }}] }}\n"
        )
    };
    let rules = [
        rule("/request-timeout", "request: 500ms"),
        rule("/disable-request-timeout", "request: 0s"),
        rule("/backend-timeout", "backendRequest: 500ms"),
        rule("/disable-backend-timeout", "backendRequest: 0s"),
        rule("/both", "request: 5s, backendRequest: 500ms"),
    ];
    let routes = format!("  - name: r\n    rules:\n{}", rules.concat());
    let proxy = Proxy::start(&config(&routes, &[("v1", backend.address)]));
    let web = proxy.addr("web");
    for (path, status, reason) in [
        ("/request-timeout", 200, ""),
        ("/request-timeout?delay=1s", 504, "request_timeout"),
        ("/disable-request-timeout?delay=1s", 200, ""),
        ("/backend-timeout", 200, ""),
        ("/backend-timeout?delay=1s", 504, "attempt_timeout"),
        ("/disable-backend-timeout?delay=1s", 200, ""),
        ("/both?delay=1s", 504, "attempt_timeout"),
    ] {
        let response = get(web, "a", path, &[]);
        let why = response.header("proxy-status").unwrap_or_default();
        assert!(
            response.status == status && why.contains(reason),
            "{path}: {response:?}"
        );
    }
    proxy.stop();
}

/// After the head only a cut is left; event streams have no end of their own and are not cut.
#[test]
fn a_timeout_after_the_head_cuts_the_body() {
    let backend = scripted(|seen, stream| {
        let kind = if seen.head.contains("/events") {
            "text/event-stream"
        } else {
            "text/plain"
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n"
        );
        let began = stream.write_all(head.as_bytes()).is_ok();
        std::thread::park_timeout(std::time::Duration::from_millis(900));
        began && stream.write_all(b"1\r\ny\r\n0\r\n\r\n").is_ok()
    });
    let routes =
        "  - { name: r, rules: [{ timeouts: { request: 400ms }, backendRefs: [{ name: v1 }] }] }\n";
    let proxy = Proxy::start(&config(routes, &[("v1", backend.address)]));
    let web = proxy.addr("web");
    let mut client = crate::support::client::Client::connect(web);
    client.send("GET /body HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.try_receive(false).is_err(), "the cut must show");
    assert_eq!(get(web, "a", "/events", &[]).body, "xy");
    eventually("the reason", || {
        (proxy.metric("weir_errors_total", &["reason=\"timeout_after_headers\""]) > 0.5)
            .then_some(())
    });
    proxy.stop();
}
