//! More of the conformance suite's vectors: paths, hosts, listeners, ties.

use crate::routing::{rules, three, verify};
use crate::support::backend::echo;
use crate::support::client::get;
use crate::support::proxy::{Proxy, config};

/// `(host, path, headers, backend or status)`.
type ByHost<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str);

fn verify_hosts(proxy: Proxy, listener: &str, vectors: &[ByHost<'_>]) {
    let web = proxy.addr(listener);
    for (host, path, headers, expected) in vectors {
        let got = get(web, host, path, headers).who();
        assert_eq!(got, *expected, "{host} {path} {headers:?}");
    }
    proxy.stop();
}

/// A proxy with these listeners on one address, before `v1`, `v2` and `v3`.
fn listeners(listeners: &[(&str, &str)], routes: &str, vectors: &[ByHost<'_>]) {
    let backends = [echo("v1"), echo("v2"), echo("v3")];
    let named = [
        ("v1", backends[0].address),
        ("v2", backends[1].address),
        ("v3", backends[2].address),
    ];
    let list = listeners.iter().map(|(name, host)| {
        let host = if host.is_empty() {
            String::new()
        } else {
            format!(", hostname: \"{host}\"")
        };
        format!("  - {{ name: {name}, address: \"127.0.0.1:0\"{host} }}\n")
    });
    let text = config(routes, &named).replace(
        "  - { name: web, address: \"127.0.0.1:0\" }\n",
        &list.collect::<String>(),
    );
    verify_hosts(Proxy::start(&text), listeners[0].0, vectors);
}

#[test]
fn httproute_matching() {
    let routes = rules(&[
        (
            "{ path: { value: / } }, { headers: [{ name: version, value: one }] }",
            "v1",
        ),
        (
            "{ path: { value: /v2 } }, { headers: [{ name: version, value: two }] }",
            "v2",
        ),
    ]);
    verify(
        three(&routes),
        &[
            ("GET", "/", &[], "v1"),
            ("GET", "/example", &[], "v1"),
            ("GET", "/", &[("Version", "one")], "v1"),
            ("GET", "/v2", &[], "v2"),
            ("GET", "/v2/", &[], "v2"),
            ("GET", "/v2/example", &[], "v2"),
            ("GET", "/", &[("Version", "two")], "v2"),
            ("GET", "/v2example", &[], "v1"),
            ("GET", "/foo/v2/example", &[], "v1"),
        ],
    );
}

#[test]
fn httproute_exact_path_matching() {
    let routes = rules(&[
        ("{ path: { type: Exact, value: /one } }", "v1"),
        ("{ path: { type: Exact, value: /two } }", "v2"),
    ]);
    verify(
        three(&routes),
        &[
            ("GET", "/one", &[], "v1"),
            ("GET", "/two", &[], "v2"),
            ("GET", "/", &[], "404"),
            ("GET", "/one/example", &[], "404"),
            ("GET", "/two/", &[], "404"),
            ("GET", "/Two", &[], "404"),
        ],
    );
}

/// Anchored at both ends; after Exact, before prefixes; the longest pattern first.
#[test]
fn regular_expressions_rank_between_exact_and_prefix() {
    let routes = rules(&[
        ("{ path: { value: /api/long/prefix/ } }", "v1"),
        (
            "{ path: { type: RegularExpression, value: \"/api/[a-z/]+\" } }",
            "v2",
        ),
        ("{ path: { type: Exact, value: /api/exact } }", "v3"),
        (
            "{ headers: [{ type: RegularExpression, name: build, value: \"[0-9]+\" }] }",
            "v3",
        ),
        (
            "{ queryParams: [{ type: RegularExpression, name: q, value: \"a.c\" }] }",
            "v1",
        ),
    ]);
    verify(
        three(&routes),
        &[
            ("GET", "/api/exact", &[], "v3"),
            ("GET", "/api/long/prefix/x", &[], "v2"),
            ("GET", "/api/long/prefix/9", &[], "v1"),
            ("GET", "/x/api/abc", &[], "404"),
            ("GET", "/", &[("build", "123")], "v3"),
            ("GET", "/", &[("build", "v123")], "404"),
            ("GET", "/?q=abc", &[], "v1"),
            ("GET", "/?q=abcd", &[], "404"),
        ],
    );
}

/// Of two entries with one name in a match, only the first counts; names ignore case, values do not.
#[test]
fn entries_with_one_name() {
    let routes = rules(&[
        (
            "{ headers: [{ name: Color, value: red }, { name: color, value: blue }] }",
            "v1",
        ),
        (
            "{ queryParams: [{ name: a, value: \"1\" }, { name: a, value: \"2\" }] }",
            "v2",
        ),
    ]);
    verify(
        three(&routes),
        &[
            ("GET", "/", &[("COLOR", "red")], "v1"),
            ("GET", "/", &[("color", "blue")], "404"),
            ("GET", "/", &[("color", "Red")], "404"),
            ("GET", "/?a=1", &[], "v2"),
            ("GET", "/?a=2", &[], "404"),
            ("GET", "/?A=1", &[], "404"),
        ],
    );
}

#[test]
fn httproute_matching_across_routes() {
    let routes = "  - name: one\n    hostnames: [example.com, example.net]\n    rules:\n      - matches: [{ path: { value: / } }, { headers: [{ name: version, value: one }] }]\n        backendRefs: [{ name: v1 }]\n\
        \x20 - name: two\n    hostnames: [example.com]\n    rules:\n      - matches: [{ path: { value: /v2 } }, { headers: [{ name: version, value: two }] }]\n        backendRefs: [{ name: v2 }]\n";
    listeners(
        &[("web", "")],
        routes,
        &[
            ("example.com", "/", &[], "v1"),
            ("example.com", "/example", &[], "v1"),
            ("example.net", "/example", &[], "v1"),
            ("example.com", "/", &[("Version", "one")], "v1"),
            ("example.com", "/v2", &[], "v2"),
            ("example.net", "/v2", &[], "v1"),
            ("example.com", "/v2/example", &[], "v2"),
            ("example.com", "/", &[("Version", "two")], "v2"),
            ("example.com", "/v2/", &[], "v2"),
            ("example.com", "/v2example", &[], "v1"),
            ("example.com", "/foo/v2/example", &[], "v1"),
        ],
    );
}

/// Host before path: most characters of a non-wildcard host, then of any host; then file order.
#[test]
fn hosts_before_paths_and_file_order_last() {
    let routes = "  - { name: z, hostnames: [\"*.example.com\"], rules: [{ matches: [{ path: { value: /long/path } }], backendRefs: [{ name: v1 }] }] }\n\
        \x20 - { name: y, hostnames: [a.example.com], rules: [{ backendRefs: [{ name: v2 }] }] }\n\
        \x20 - { name: x, hostnames: [\"*.b.example.com\"], rules: [{ backendRefs: [{ name: v3 }] }] }\n\
        \x20 - { name: w, hostnames: [tie.example], rules: [{ backendRefs: [{ name: v3 }] }] }\n\
        \x20 - { name: a, hostnames: [tie.example], rules: [{ backendRefs: [{ name: v1 }] }] }\n";
    listeners(
        &[("web", "")],
        routes,
        &[
            ("a.example.com", "/long/path", &[], "v2"),
            ("x.b.example.com", "/", &[], "v3"),
            ("x.c.example.com", "/long/path/1", &[], "v1"),
            ("example.com", "/long/path", &[], "404"),
            ("tie.example", "/", &[], "v3"),
        ],
    );
}

#[test]
fn httproute_listener_hostname_matching() {
    let routes = "  - { name: one, listeners: [l1], rules: [{ backendRefs: [{ name: v1 }] }] }\n\
        \x20 - { name: two, listeners: [l2], rules: [{ backendRefs: [{ name: v2 }] }] }\n\
        \x20 - { name: three, listeners: [l3, l4], rules: [{ backendRefs: [{ name: v3 }] }] }\n";
    listeners(
        &[
            ("l1", "bar.com"),
            ("l2", "foo.bar.com"),
            ("l3", "*.bar.com"),
            ("l4", "*.foo.com"),
        ],
        routes,
        &[
            ("bar.com", "/", &[], "v1"),
            ("foo.bar.com", "/", &[], "v2"),
            ("baz.bar.com", "/", &[], "v3"),
            ("boo.bar.com", "/", &[], "v3"),
            ("multiple.prefixes.bar.com", "/", &[], "v3"),
            ("multiple.prefixes.foo.com", "/", &[], "v3"),
            ("foo.com", "/", &[], "404"),
            ("no.matching.host", "/", &[], "404"),
        ],
    );
}

#[test]
fn httproute_hostname_intersection() {
    let routes = "  - { name: specific-specific, hostnames: [non.matching.com, \"*.nonmatchingwildcard.io\", very.specific.com], rules: [{ matches: [{ path: { value: /s1 } }], backendRefs: [{ name: v1 }] }] }\n\
        \x20 - { name: specific-wildcard, hostnames: [non.matching.com, wildcard.io, foo.wildcard.io, bar.wildcard.io, foo.bar.wildcard.io], rules: [{ matches: [{ path: { value: /s2 } }], backendRefs: [{ name: v2 }] }] }\n\
        \x20 - { name: wildcard-specific, hostnames: [\"*.specific.com\"], rules: [{ matches: [{ path: { value: /s3 } }], backendRefs: [{ name: v3 }] }] }\n\
        \x20 - { name: wildcard-wildcard, hostnames: [\"*.anotherwildcard.io\"], rules: [{ matches: [{ path: { value: /s4 } }], backendRefs: [{ name: v1 }] }] }\n";
    listeners(
        &[
            ("l1", "very.specific.com"),
            ("l2", "*.wildcard.io"),
            ("l3", "*.anotherwildcard.io"),
        ],
        routes,
        &[
            ("very.specific.com", "/s1", &[], "v1"),
            ("very.specific.com:1234", "/s1", &[], "v1"),
            ("very.specific.com", "/non-matching-prefix", &[], "404"),
            ("non.matching.com", "/s1", &[], "404"),
            ("foo.nonmatchingwildcard.io", "/s1", &[], "404"),
            ("foo.wildcard.io", "/s1", &[], "404"),
            ("foo.wildcard.io", "/s2", &[], "v2"),
            ("bar.wildcard.io", "/s2", &[], "v2"),
            ("foo.bar.wildcard.io", "/s2", &[], "v2"),
            ("non.matching.com", "/s2", &[], "404"),
            ("wildcard.io", "/s2", &[], "404"),
            ("very.specific.com", "/s2", &[], "404"),
            ("very.specific.com", "/s3", &[], "v3"),
            ("foo.specific.com", "/s3", &[], "404"),
            ("specific.com", "/s3", &[], "404"),
            ("foo.anotherwildcard.io", "/s4", &[], "v1"),
            ("foo.bar.anotherwildcard.io", "/s4", &[], "v1"),
            ("anotherwildcard.io", "/s4", &[], "404"),
            ("foo.anotherwildcard.io", "/s1", &[], "404"),
        ],
    );
}

#[test]
fn gateway_http_listener_isolation() {
    let names = [
        "empty-hostname",
        "wildcard-example-com",
        "wildcard-foo-example-com",
        "abc-foo-example-com",
    ];
    let routes: String = names
        .iter()
        .map(|n| format!("  - {{ name: {n}, listeners: [{n}], rules: [{{ matches: [{{ path: {{ value: /{n} }} }}], backendRefs: [{{ name: v1 }}] }}] }}\n"))
        .collect();
    let hosts = [
        "bar.com",
        "bar.example.com",
        "bar.foo.example.com",
        "abc.foo.example.com",
    ];
    let paths = names.map(|n| format!("/{n}"));
    let mut vectors: Vec<ByHost<'_>> = Vec::new();
    for (h, host) in hosts.iter().enumerate() {
        for (p, path) in paths.iter().enumerate() {
            vectors.push((host, path, &[], if h == p { "v1" } else { "404" }));
        }
    }
    let of = [
        "",
        "*.example.com",
        "*.foo.example.com",
        "abc.foo.example.com",
    ];
    let pairs: Vec<_> = names.into_iter().zip(of).collect();
    listeners(&pairs, &routes, &vectors);
}

#[test]
fn httproute_listener_port_matching() {
    let backends = [echo("v1"), echo("v2")];
    let routes = "  - { name: one, listeners: [web], rules: [{ backendRefs: [{ name: v1 }] }] }\n\
        \x20 - { name: two, listeners: [more], rules: [{ backendRefs: [{ name: v2 }] }] }\n";
    let named = [("v1", backends[0].address), ("v2", backends[1].address)];
    let text = config(routes, &named).replace(
        "routes:",
        "  - { name: more, address: \"127.0.0.2:0\" }\nroutes:",
    );
    let proxy = Proxy::start(&text);
    assert_eq!(get(proxy.addr("web"), "a", "/", &[]).who(), "v1");
    assert_eq!(get(proxy.addr("more"), "a", "/", &[]).who(), "v2");
    proxy.stop();
}
