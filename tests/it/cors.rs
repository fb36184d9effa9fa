//! Cross-origin requests, with the vectors of the Gateway API's suite and our own.

use crate::support::backend::{echo, scripted};
use crate::support::client::{Response, request};
use crate::support::proxy::{Proxy, config};

const RULES: &str = r#"
  - name: r
    rules:
      - matches: [{ path: { value: /cors-1 } }]
        filters: [{ type: CORS, cors: { allowOrigins: ["https://www.foo.com", "https://*.bar.com"], allowMethods: [GET, OPTIONS], allowHeaders: [x-header-1, x-header-2], exposeHeaders: [x-header-3, x-header-4], allowCredentials: true, maxAge: 3600 } }]
        backendRefs: [{ name: v1 }]
      - matches: [{ path: { value: /cors-2 } }]
        filters: [{ type: CORS, cors: { allowOrigins: ["https://www.foo.com"], allowMethods: ["*"] } }]
        backendRefs: [{ name: v1 }]
      - matches: [{ path: { value: /cors-wildcard-origin } }]
        filters: [{ type: CORS, cors: { allowOrigins: ["*"], allowMethods: [PUT] } }]
        backendRefs: [{ name: v1 }]
      - matches: [{ path: { value: /cors-wildcard-methods-headers } }]
        filters: [{ type: CORS, cors: { allowOrigins: ["*"], allowMethods: ["*"], allowHeaders: ["*"], exposeHeaders: ["*"], allowCredentials: true } }]
        backendRefs: [{ name: v1 }]
      - matches: [{ path: { value: /cors-wildcard-methods-headers-unauth } }]
        filters: [{ type: CORS, cors: { allowOrigins: ["*"], allowMethods: ["*"], allowHeaders: ["*"] } }]
        backendRefs: [{ name: v1 }]
      - matches: [{ path: { value: /get-only }, method: GET }]
        filters: [{ type: CORS, cors: { allowOrigins: ["https://www.foo.com"], allowMethods: [GET] } }]
        backendRefs: [{ name: v1 }]
      - matches: [{ path: { value: /gone } }]
        filters: [{ type: CORS, cors: { allowOrigins: ["https://www.foo.com"] } }]
        backendRefs: [{ name: empty }]
"#;

fn start(backend: &crate::support::backend::Backend) -> Proxy {
    let text = config(RULES, &[("v1", backend.address)]) + "  - { name: empty }\n";
    Proxy::start(&text)
}

/// Values without spaces, sorted: the suite ignores both.
fn names(response: &Response, field: &str) -> Vec<String> {
    let value = response.header(field).unwrap_or_default();
    let mut names: Vec<_> = value
        .split(',')
        .map(|name| name.trim().to_owned())
        .collect();
    names.sort_unstable();
    names
}

/// A preflight request from `origin` for `method` and two header fields.
fn preflight(proxy: &Proxy, path: &str, origin: &str, method: &str) -> Response {
    let fields = [
        ("origin", origin),
        ("access-control-request-method", method),
        ("access-control-request-headers", "x-header-1, x-header-2"),
    ];
    let answer = request(proxy.addr("web"), "OPTIONS", "a", path, &fields);
    assert_eq!(answer.status, 200, "{path} {origin}");
    answer
}

fn origin_of(response: &Response) -> Option<&str> {
    response.header("access-control-allow-origin")
}

#[test]
fn httproute_cors_preflight() {
    let backend = echo("v1");
    let proxy = start(&backend);
    for origin in [
        "https://www.foo.com",
        "https://www.bar.com",
        "https://xpto.www.bar.com",
    ] {
        let answer = preflight(&proxy, "/cors-1", origin, "GET");
        assert_eq!(origin_of(&answer), Some(origin));
        for (field, expected) in [
            ("access-control-allow-methods", "GET OPTIONS"),
            ("access-control-allow-headers", "x-header-1 x-header-2"),
            ("access-control-expose-headers", "x-header-3 x-header-4"),
            ("access-control-max-age", "3600"),
            ("access-control-allow-credentials", "true"),
        ] {
            assert_eq!(names(&answer, field).join(" "), expected, "{origin}");
        }
        assert!(answer.headers("vary").contains(&"origin"), "{answer:?}");
    }
    for origin in [
        "https://foobar.com",
        "https://www.foo.com:8443",
        "http://www.foo.com",
    ] {
        let answer = preflight(&proxy, "/cors-1", origin, "GET");
        assert_eq!(origin_of(&answer), None, "{origin}");
    }
    let answer = preflight(&proxy, "/cors-2", "https://www.foo.com", "POST");
    assert_eq!(names(&answer, "access-control-allow-methods"), ["*"]);
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    assert_eq!(answer.header("access-control-max-age"), Some("5"));
    let ported = "https://foobar.com:12345";
    let answer = preflight(&proxy, "/cors-wildcard-origin", ported, "PUT");
    assert_eq!(names(&answer, "access-control-allow-methods"), ["PUT"]);
    assert_eq!(origin_of(&answer), Some(ported));
    assert_eq!(backend.requests(), 0, "all of this ends at the proxy");
    proxy.stop();
}

/// With credentials a star never stands for itself; without, it will do.
#[test]
fn httproute_cors_stars() {
    let backend = echo("v1");
    let proxy = start(&backend);
    let other = "https://other.foo.com";
    let answer = preflight(&proxy, "/cors-wildcard-methods-headers", other, "PUT");
    assert_eq!(origin_of(&answer), Some(other));
    assert_eq!(names(&answer, "access-control-allow-methods"), ["PUT"]);
    assert_eq!(
        names(&answer, "access-control-allow-headers"),
        ["x-header-1", "x-header-2"]
    );
    assert_eq!(answer.header("access-control-expose-headers"), None);
    let path = "/cors-wildcard-methods-headers-unauth";
    let answer = preflight(&proxy, path, other, "PUT");
    assert_eq!(names(&answer, "access-control-allow-methods"), ["*"]);
    assert_eq!(names(&answer, "access-control-allow-headers"), ["*"]);
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    proxy.stop();
}

/// Simple requests reach the backend, allowed or not.
#[test]
fn httproute_cors_simple() {
    let backend = echo("v1");
    let proxy = start(&backend);
    for (path, origin, allowed, credentials) in [
        ("/cors-1", "https://www.foo.com", true, true),
        ("/cors-1", "https://www.bar.com", true, true),
        ("/cors-1", "https://foobar.com", false, false),
        (
            "/cors-wildcard-origin",
            "https://foobar.com:12345",
            true,
            false,
        ),
        ("/cors-wildcard-origin", "https://foobar.com", true, false),
        (
            "/cors-wildcard-methods-headers",
            "https://other.foo.com",
            true,
            true,
        ),
        (
            "/cors-wildcard-methods-headers-unauth",
            "https://other.foo.com",
            true,
            false,
        ),
    ] {
        let fields = [("origin", origin), ("authorization", "Bearer test")];
        let answer = request(proxy.addr("web"), "GET", "a", path, &fields);
        assert_eq!(answer.who(), "v1", "{path} {origin}");
        assert_eq!(origin_of(&answer), allowed.then_some(origin), "{path}");
        assert_eq!(
            answer.header("access-control-allow-credentials"),
            credentials.then_some("true"),
            "{path} {origin}"
        );
        assert_eq!(answer.headers("vary"), ["origin"]);
    }
    // OPTIONS that is no preflight is the backend's.
    let fields = [("origin", "https://www.foo.com")];
    let plain = request(proxy.addr("web"), "OPTIONS", "a", "/cors-1", &fields);
    assert_eq!(plain.who(), "v1");
    proxy.stop();
}

#[test]
fn what_a_rule_for_one_method_allows_is_found_by_its_preflight() {
    let backend = echo("v1");
    let proxy = start(&backend);
    let ask = |method: &str| {
        let fields = [
            ("origin", "https://www.foo.com"),
            ("access-control-request-method", method),
        ];
        request(proxy.addr("web"), "OPTIONS", "a", "/get-only", &fields)
    };
    let answer = ask("GET");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-methods"), Some("GET"));
    assert_eq!(ask("PUT").status, 404);
    proxy.stop();
}

/// A script must be able to read why it got nothing; and what backends say about it does not count.
#[test]
fn errors_of_ours_and_answers_of_backends_say_the_same() {
    use std::io::Write;
    let backend = scripted(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\naccess-control-allow-credentials: true\r\nvary: accept\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(head.as_bytes()).is_ok()
    });
    let proxy = start(&backend);
    let ask = |path: &str, origin: &str| {
        request(proxy.addr("web"), "GET", "a", path, &[("origin", origin)])
    };
    let down = ask("/gone", "https://www.foo.com");
    assert_eq!(down.status, 503);
    assert_eq!(
        down.header("access-control-allow-origin"),
        Some("https://www.foo.com")
    );
    let foreign = ask("/cors-2", "https://evil.example");
    assert_eq!(foreign.status, 200);
    assert_eq!(foreign.header("access-control-allow-origin"), None);
    assert_eq!(foreign.header("access-control-allow-credentials"), None);
    assert_eq!(foreign.headers("vary"), ["accept", "origin"]);
    proxy.stop();
}

/// Preflights are the browser's, carry no key, and end at the proxy: none is refused for a bound of the rule
/// or counts for it. What is refused can be read by the script.
#[test]
fn preflights_come_before_bounds_and_refusals_can_be_read() {
    let backend = echo("v1");
    let rules = r#"
  - name: r
    rules:
      - limits: { requests: 1, rates: [{ requests: 1, per: 1h, key: { header: x-header-1 } }] }
        filters: [{ type: CORS, cors: { allowOrigins: ["https://www.foo.com"], allowMethods: [PUT], allowHeaders: [x-header-1], exposeHeaders: [retry-after] } }]
        backendRefs: [{ name: v1 }]
"#;
    let proxy = Proxy::start(&config(rules, &[("v1", backend.address)]));
    let origin = "https://www.foo.com";
    let ask = || {
        let fields = [("origin", origin), ("x-header-1", "a")];
        request(proxy.addr("web"), "PUT", "a", "/", &fields)
    };
    for (status, requests) in [(200, 1), (429, 1), (429, 1)] {
        for _ in 0..3 {
            let answer = preflight(&proxy, "/", origin, "PUT");
            assert_eq!(origin_of(&answer), Some(origin));
            assert_eq!(answer.header("ratelimit"), None);
        }
        let answer = ask();
        assert_eq!((answer.status, backend.requests()), (status, requests));
        assert_eq!(origin_of(&answer), Some(origin), "{status}");
        assert_eq!(answer.header("retry-after").is_some(), status == 429);
    }
    proxy.stop();
}
