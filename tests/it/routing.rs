//! The vectors of the Gateway API's conformance suite, over the wire, under its names.

use crate::support::backend::{Backend, echo};
use crate::support::client::{get, request};
use crate::support::proxy::{Proxy, config};

pub(crate) struct Three {
    pub(crate) proxy: Proxy,
    _backends: [Backend; 3],
}

/// A proxy before `v1`, `v2` and `v3`. A rule is `(matches, rest)`.
pub(crate) fn three(routes: &str) -> Three {
    let backends = [echo("v1"), echo("v2"), echo("v3")];
    let named = [
        ("v1", backends[0].address),
        ("v2", backends[1].address),
        ("v3", backends[2].address),
    ];
    Three {
        proxy: Proxy::start(&config(routes, &named)),
        _backends: backends,
    }
}

pub(crate) fn rules(rules: &[(&str, &str)]) -> String {
    let rules = rules.iter().map(|(matches, to)| {
        format!("      - matches: [{matches}]\n        backendRefs: [{{ name: {to} }}]\n")
    });
    format!("  - name: r\n    rules:\n{}", rules.collect::<String>())
}

/// `(method, path, headers, expected backend or status)`.
pub(crate) type Vector<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str);

pub(crate) fn verify(three: Three, vectors: &[Vector<'_>]) {
    let web = three.proxy.addr("web");
    for (method, path, headers, expected) in vectors {
        let response = request(web, method, "example.com", path, headers);
        let got = response
            .header("x-backend")
            .map_or_else(|| response.status.to_string(), str::to_owned);
        assert_eq!(got, *expected, "{method} {path} {headers:?}");
    }
    three.proxy.stop();
}

#[test]
fn httproute_path_match_order() {
    let routes = rules(&[
        ("{ path: { type: Exact, value: /match } }", "v1"),
        ("{ path: { type: Exact, value: /match/exact } }", "v2"),
        ("{ path: { type: Exact, value: /match/exact/one } }", "v3"),
        ("{ path: { value: /match/ } }", "v3"),
        ("{ path: { value: /match/prefix/ } }", "v1"),
        ("{ path: { value: /match/prefix/one } }", "v2"),
    ]);
    verify(
        three(&routes),
        &[
            ("GET", "/match/exact/one", &[], "v3"),
            ("GET", "/match/exact", &[], "v2"),
            ("GET", "/match", &[], "v1"),
            ("GET", "/match/prefix/one/any", &[], "v2"),
            ("GET", "/match/prefix/any", &[], "v1"),
            ("GET", "/match/any", &[], "v3"),
            ("GET", "/matchexample", &[], "404"),
        ],
    );
}

#[test]
fn httproute_header_matching() {
    let routes = rules(&[
        ("{ headers: [{ name: version, value: one }] }", "v1"),
        ("{ headers: [{ name: version, value: two }] }", "v2"),
        (
            "{ headers: [{ name: version, value: two }, { name: color, value: orange }] }",
            "v1",
        ),
        (
            "{ headers: [{ name: color, value: blue }] }, { headers: [{ name: color, value: green }] }",
            "v1",
        ),
        (
            "{ headers: [{ name: color, value: red }] }, { headers: [{ name: color, value: yellow }] }",
            "v2",
        ),
    ]);
    verify(
        three(&routes),
        &[
            ("GET", "/", &[("Version", "one")], "v1"),
            ("GET", "/", &[("Version", "two"), ("Color", "orange")], "v1"),
            ("GET", "/", &[("Version", "two"), ("Color", "blue")], "v2"),
            ("GET", "/", &[("Color", "orange")], "404"),
            ("GET", "/", &[("Color", "purple")], "404"),
            ("GET", "/", &[("Other", "one")], "404"),
        ],
    );
}

#[test]
fn httproute_method_matching() {
    let routes = rules(&[
        ("{ method: POST }", "v1"),
        ("{ method: GET }", "v2"),
        ("{ path: { value: /path1 }, method: GET }", "v1"),
        (
            "{ headers: [{ name: version, value: one }], method: PUT }",
            "v2",
        ),
        (
            "{ path: { value: /path2 }, headers: [{ name: version, value: two }], method: POST }",
            "v3",
        ),
        (
            "{ path: { value: /path3 }, method: PATCH }, { path: { value: /path4 }, headers: [{ name: version, value: three }], method: DELETE }",
            "v1",
        ),
        ("{ path: { value: /path5 } }", "v1"),
        ("{ method: PATCH }", "v2"),
        ("{ headers: [{ name: version, value: four }] }", "v3"),
    ]);
    verify(
        three(&routes),
        &[
            ("POST", "/", &[], "v1"),
            ("GET", "/", &[], "v2"),
            ("HEAD", "/", &[], "404"),
            ("GET", "/path1", &[], "v1"),
            ("PUT", "/", &[("version", "one")], "v2"),
            ("POST", "/path2", &[("version", "two")], "v3"),
            ("PATCH", "/path3", &[], "v1"),
            ("DELETE", "/path4", &[("version", "three")], "v1"),
            ("PUT", "/", &[], "404"),
            ("DELETE", "/path4", &[], "404"),
            ("PATCH", "/path5", &[], "v1"),
            ("PATCH", "/", &[("version", "four")], "v2"),
        ],
    );
}

#[test]
fn httproute_query_param_matching() {
    let routes = rules(&[
        ("{ queryParams: [{ name: animal, value: whale }] }", "v1"),
        ("{ queryParams: [{ name: animal, value: dolphin }] }", "v2"),
        (
            "{ queryParams: [{ name: animal, value: dolphin }, { name: color, value: blue }] }, { queryParams: [{ name: ANIMAL, value: Whale }] }",
            "v3",
        ),
        (
            "{ path: { value: /path1 }, queryParams: [{ name: animal, value: whale }] }",
            "v1",
        ),
        (
            "{ headers: [{ name: version, value: one }], queryParams: [{ name: animal, value: whale }] }",
            "v2",
        ),
        (
            "{ path: { value: /path2 }, headers: [{ name: version, value: two }], queryParams: [{ name: animal, value: whale }] }",
            "v3",
        ),
        (
            "{ path: { value: /path3 }, queryParams: [{ name: animal, value: shark }] }, { path: { value: /path4 }, headers: [{ name: version, value: three }], queryParams: [{ name: animal, value: kraken }] }",
            "v1",
        ),
        ("{ path: { value: /path5 } }", "v1"),
        ("{ queryParams: [{ name: animal, value: hydra }] }", "v2"),
        ("{ headers: [{ name: version, value: four }] }", "v3"),
    ]);
    verify(
        three(&routes),
        &[
            ("GET", "/?animal=whale", &[], "v1"),
            ("GET", "/?animal=dolphin", &[], "v2"),
            ("GET", "/?animal=dolphin&color=blue", &[], "v3"),
            ("GET", "/?ANIMAL=Whale", &[], "v3"),
            ("GET", "/?animal=whale&otherparam=irrelevant", &[], "v1"),
            ("GET", "/?animal=dolphin&color=yellow", &[], "v2"),
            ("GET", "/?color=blue", &[], "404"),
            ("GET", "/?animal=dog", &[], "404"),
            ("GET", "/?animal=whaledolphin", &[], "404"),
            ("GET", "/", &[], "404"),
            ("GET", "/path1?animal=whale", &[], "v1"),
            ("GET", "/?animal=whale", &[("version", "one")], "v2"),
            ("GET", "/path2?animal=whale", &[("version", "two")], "v3"),
            ("GET", "/path3?animal=shark", &[], "v1"),
            ("GET", "/path4?animal=kraken", &[("version", "three")], "v1"),
            ("GET", "/?animal=shark", &[], "404"),
            ("GET", "/path4?animal=kraken", &[], "404"),
            ("GET", "/path5?animal=hydra", &[], "v1"),
            ("GET", "/?animal=hydra", &[("version", "four")], "v3"),
            // Of a repeated parameter the first value counts.
            ("GET", "/?animal=whale&animal=dolphin", &[], "v1"),
        ],
    );
}

#[test]
fn httproute_hostname_intersection_and_listener_isolation() {
    let backend = echo("v1");
    let text = format!(
        "version: 1\naccessLog: {{ format: \"off\" }}\ndrain: {{ delay: 0s }}\nlisteners:\n\
         \x20 - {{ name: exact, address: \"127.0.0.1:0\", hostname: very.specific.com }}\n\
         \x20 - {{ name: wild, address: \"127.0.0.1:0\", hostname: \"*.wildcard.io\" }}\n\
         \x20 - {{ name: any, address: \"127.0.0.1:0\" }}\n\
         routes:\n\
         \x20 - {{ name: a, listeners: [exact, wild], hostnames: [very.specific.com, \"*.wildcard.io\", non.matching.com], rules: [{{ matches: [{{ path: {{ value: /s1 }} }}], backendRefs: [{{ name: v1 }}] }}] }}\n\
         \x20 - {{ name: b, listeners: [any], rules: [{{ matches: [{{ path: {{ value: /any }} }}], backendRefs: [{{ name: v1 }}] }}] }}\n\
         backends: [{{ name: v1, endpoints: [{{ address: \"{}\" }}] }}]\n",
        backend.address
    );
    let proxy = Proxy::start(&text);
    let web = proxy.addr("exact");
    for (host, path, status) in [
        ("very.specific.com", "/s1", 200),
        ("Very.Specific.com:1234", "/s1", 200),
        ("foo.wildcard.io", "/s1", 200),
        ("a.b.wildcard.io", "/s1", 200),
        ("wildcard.io", "/s1", 404),
        ("non.matching.com", "/s1", 404),
        // A request sees only the routes of its own listener.
        ("very.specific.com", "/any", 404),
        ("other.com", "/any", 200),
    ] {
        assert_eq!(get(web, host, path, &[]).status, status, "{host} {path}");
    }
    proxy.stop();
}

#[test]
fn httproute_weight_and_backends_that_are_not_there() {
    let routes = "  - name: r\n    rules:\n\
        \x20     - { name: w, matches: [{ path: { value: /w } }], backendRefs: [{ name: v1, weight: 70 }, { name: v2, weight: 30 }, { name: v3, weight: 0 }] }\n\
        \x20     - { name: kind, matches: [{ path: { value: /kind } }], backendRefs: [{ name: v1, kind: Nonexistent }] }\n\
        \x20     - { name: half, matches: [{ path: { value: /half } }], backendRefs: [{ name: v1, weight: 50 }, { name: v2, weight: 50, namespace: other }] }\n\
        \x20     - { name: none, matches: [{ path: { value: /none } }] }\n\
        \x20     - { name: zero, matches: [{ path: { value: /zero } }], backendRefs: [{ name: v1, weight: 0 }] }\n";
    let three = three(routes);
    let web = three.proxy.addr("web");
    let mut seen = [0, 0, 0];
    for _ in 0..500 {
        match get(web, "x", "/w", &[]).header("x-backend").unwrap() {
            "v1" => seen[0] += 1,
            "v2" => seen[1] += 1,
            _ => seen[2] += 1,
        }
    }
    assert!((325..=375).contains(&seen[0]) && seen[2] == 0, "{seen:?}");
    assert_eq!(get(web, "x", "/kind", &[]).status, 500);
    assert_eq!(get(web, "x", "/none", &[]).status, 500);
    assert_eq!(get(web, "x", "/zero", &[]).status, 500);
    let failed = (0..40)
        .filter(|_| get(web, "x", "/half", &[]).status == 500)
        .count();
    assert!(
        (16..=24).contains(&failed),
        "the share of the invalid one fails, and only that: {failed}"
    );
    assert!(
        three
            .proxy
            .metric("weir_errors_total", &["reason=\"invalid_backend\""])
            >= 17.0
    );
    three.proxy.stop();
}

#[test]
fn httproute_header_modifiers_redirects_and_rewrites() {
    let routes = "  - name: r\n    rules:\n\
        \x20     - matches: [{ path: { value: /set } }]\n\
        \x20       filters: [{ type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: X-Set, value: new }], add: [{ name: X-Add, value: two }], remove: [x-gone] } }, { type: ResponseHeaderModifier, responseHeaderModifier: { set: [{ name: x-answer, value: \"42\" }], add: [{ name: set-cookie, value: a=1 }] } }]\n\
        \x20       backendRefs: [{ name: v1, filters: [{ type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: backend, value: v1 }] } }] }]\n\
        \x20     - matches: [{ path: { value: /old } }]\n\
        \x20       filters: [{ type: RequestRedirect, requestRedirect: { path: { type: ReplacePrefixMatch, replacePrefixMatch: /new }, statusCode: 301, port: 8443, scheme: https } }]\n\
        \x20     - matches: [{ path: { value: /strip } }]\n\
        \x20       filters: [{ type: URLRewrite, urlRewrite: { hostname: one.example.org, path: { type: ReplacePrefixMatch, replacePrefixMatch: / } } }]\n\
        \x20       backendRefs: [{ name: v1 }]\n\
        \x20     - matches: [{ path: { value: /hello } }]\n\
        \x20       filters: [{ type: DirectResponse, directResponse: { status: 418, body: short, headers: [{ name: x-d, value: d }] } }]\n";
    let three = three(routes);
    let web = three.proxy.addr("web");
    let set = get(
        web,
        "x",
        "/set",
        &[("x-set", "old"), ("x-add", "one"), ("X-Gone", "1")],
    );
    for line in [
        "x-set: new\r\n",
        "x-add: one\r\n",
        "x-add: two\r\n",
        "backend: v1\r\n",
    ] {
        assert!(set.body.contains(line), "{line} in {}", set.body);
    }
    assert!(
        !set.body.contains("x-gone") && !set.body.contains("x-set: old"),
        "{}",
        set.body
    );
    assert_eq!(
        (set.header("x-answer"), set.header("set-cookie")),
        (Some("42"), Some("a=1"))
    );
    let redirect = get(web, "shop.example", "/old/lemon?q=1", &[]);
    assert_eq!(
        (redirect.status, redirect.header("location")),
        (301, Some("https://shop.example:8443/new/lemon?q=1"))
    );
    let rewritten = get(web, "x", "/strip/three?q", &[]).body;
    assert!(
        rewritten.starts_with("GET /three?q HTTP/1.1\r\n")
            && rewritten.contains("host: one.example.org\r\n"),
        "{rewritten}"
    );
    assert!(
        get(web, "x", "/strip", &[])
            .body
            .starts_with("GET / HTTP/1.1")
    );
    assert_eq!(
        get(web, "x", "/strip/a%2fb", &[]).status,
        400,
        "an encoded slash behind a stripped prefix"
    );
    let direct = get(web, "x", "/hello", &[]);
    assert_eq!(
        (direct.status, direct.body.as_str(), direct.header("x-d")),
        (418, "short", Some("d"))
    );
    three.proxy.stop();
}

#[test]
fn grpc_without_a_route_is_unimplemented() {
    let three = three(&rules(&[("{ path: { value: /only } }", "v1")]));
    let web = three.proxy.addr("web");
    let response = request(
        web,
        "POST",
        "x",
        "/svc/Method",
        &[
            ("content-type", "application/grpc"),
            ("content-length", "0"),
        ],
    );
    assert_eq!(
        (response.status, response.header("grpc-status")),
        (200, Some("12"))
    );
    let plain = get(web, "x", "/nothing", &[]);
    assert_eq!(plain.status, 404);
    assert!(plain.header("proxy-status").unwrap().contains("no_route"));
    three.proxy.stop();
}
