//! Redirects and rewrites: the Gateway API's tables.

use crate::support::backend::echo;
use crate::support::client::get;
use crate::support::proxy::{Proxy, config, with_listener};

fn redirect(path: &str, fields: &str) -> String {
    format!(
        "      - matches: [{{ path: {{ value: {path} }} }}]\n        filters: [{{ type: RequestRedirect, requestRedirect: {{ {fields} }} }}]\n"
    )
}

fn rewrite(kind: &str, path: &str, fields: &str) -> String {
    format!(
        "      - matches: [{{ path: {{ type: {kind}, value: {path} }} }}]\n        filters: [{{ type: URLRewrite, urlRewrite: {{ {fields} }} }}]\n        backendRefs: [{{ name: v1 }}]\n"
    )
}

fn route(rules: &[String]) -> String {
    format!("  - name: r\n    rules:\n{}", rules.concat())
}

/// `(path, status, location)` on a listener whose clients see the port.
fn redirects(port: u16, rules: &[String], vectors: &[(&str, u16, &str)]) {
    let text = config(&route(rules), &[]);
    let proxy = Proxy::start(&with_listener(&text, &format!("advertisedPort: {port}")));
    let web = proxy.addr("web");
    for (path, status, location) in vectors {
        let response = get(web, "example.org", path, &[]);
        assert_eq!(
            (response.status, response.header("location")),
            (*status, Some(*location)),
            "port {port}: {path}"
        );
    }
    proxy.stop();
}

/// The rows of a listener on 443 whose redirect has no scheme are in `tls::redirect`.
#[test]
fn httproute_redirect_port_and_scheme() {
    type Row<'a> = (&'a str, &'a str, &'a str);
    let tables: [(u16, &[Row<'_>]); 3] = [
        (
            80,
            &[
                ("nil-nil", "statusCode: 302", "http://example.org/nil-nil"),
                ("nil-80", "port: 80", "http://example.org/nil-80"),
                ("nil-8080", "port: 8080", "http://example.org:8080/nil-8080"),
                (
                    "https-nil",
                    "scheme: https",
                    "https://example.org/https-nil",
                ),
                (
                    "https-443",
                    "scheme: https, port: 443",
                    "https://example.org/https-443",
                ),
                (
                    "https-8443",
                    "scheme: https, port: 8443",
                    "https://example.org:8443/https-8443",
                ),
            ],
        ),
        (
            8080,
            &[
                (
                    "nil-nil",
                    "statusCode: 302",
                    "http://example.org:8080/nil-nil",
                ),
                ("nil-80", "port: 80", "http://example.org/nil-80"),
                (
                    "https-nil",
                    "scheme: https",
                    "https://example.org/https-nil",
                ),
            ],
        ),
        (
            443,
            &[
                ("http-nil", "scheme: http", "http://example.org/http-nil"),
                (
                    "http-80",
                    "scheme: http, port: 80",
                    "http://example.org/http-80",
                ),
                (
                    "http-8080",
                    "scheme: http, port: 8080",
                    "http://example.org:8080/http-8080",
                ),
            ],
        ),
    ];
    for (port, rows) in tables {
        let rules: Vec<_> = rows
            .iter()
            .map(|(name, fields, _)| redirect(&format!("/{name}"), fields))
            .collect();
        let paths: Vec<_> = rows.iter().map(|(name, ..)| format!("/{name}")).collect();
        let vectors: Vec<_> = rows
            .iter()
            .zip(&paths)
            .map(|((_, _, location), path)| (path.as_str(), 302, *location))
            .collect();
        redirects(port, &rules, &vectors);
    }
}

#[test]
fn httproute_redirect_host_and_status() {
    redirects(
        80,
        &[
            redirect("/hostname-redirect", "hostname: other.example"),
            redirect("/status-code-301", "statusCode: 301"),
            redirect(
                "/host-and-status",
                "hostname: other.example, statusCode: 301",
            ),
            redirect("/303", "statusCode: 303"),
            redirect("/307", "statusCode: 307"),
            redirect("/308", "statusCode: 308"),
        ],
        &[
            (
                "/hostname-redirect",
                302,
                "http://other.example/hostname-redirect",
            ),
            (
                "/status-code-301",
                301,
                "http://example.org/status-code-301",
            ),
            (
                "/host-and-status?a=b",
                301,
                "http://other.example/host-and-status?a=b",
            ),
            ("/303", 303, "http://example.org/303"),
            ("/307", 307, "http://example.org/307"),
            ("/308", 308, "http://example.org/308"),
        ],
    );
}

#[test]
fn httproute_redirect_path() {
    let prefix = "path: { type: ReplacePrefixMatch, replacePrefixMatch: /replacement-prefix }";
    let full = "path: { type: ReplaceFullPath, replaceFullPath: /replacement-full }";
    redirects(
        80,
        &[
            redirect("/original-prefix", prefix),
            redirect("/full", full),
            redirect(
                "/path-and-host",
                &format!("hostname: example.com, {prefix}"),
            ),
            redirect("/path-and-status", &format!("statusCode: 301, {prefix}")),
            redirect(
                "/full-path-and-host",
                &format!("hostname: example.com, {full}"),
            ),
            redirect("/full-path-and-status", &format!("statusCode: 301, {full}")),
        ],
        &[
            (
                "/original-prefix/lemon",
                302,
                "http://example.org/replacement-prefix/lemon",
            ),
            (
                "/full/path/original",
                302,
                "http://example.org/replacement-full",
            ),
            (
                "/full/path?query=kept",
                302,
                "http://example.org/replacement-full?query=kept",
            ),
            (
                "/path-and-host/lemon",
                302,
                "http://example.com/replacement-prefix/lemon",
            ),
            (
                "/path-and-status/lemon",
                301,
                "http://example.org/replacement-prefix/lemon",
            ),
            (
                "/full-path-and-host/lemon",
                302,
                "http://example.com/replacement-full",
            ),
            (
                "/full-path-and-status/lemon",
                301,
                "http://example.org/replacement-full",
            ),
        ],
    );
}

#[test]
fn httproute_redirect_port_and_httproute_redirect_scheme() {
    redirects(
        80,
        &[
            redirect("/port", "port: 8083"),
            redirect("/port-and-host", "port: 8083, hostname: example.com"),
            redirect("/port-and-status", "port: 8083, statusCode: 301"),
            redirect(
                "/port-host-status",
                "port: 8083, statusCode: 302, hostname: example.com",
            ),
            redirect("/scheme", "scheme: https"),
            redirect("/scheme-and-host", "scheme: https, hostname: example.com"),
            redirect("/scheme-and-status", "scheme: https, statusCode: 301"),
        ],
        &[
            ("/port", 302, "http://example.org:8083/port"),
            (
                "/port-and-host",
                302,
                "http://example.com:8083/port-and-host",
            ),
            (
                "/port-and-status",
                301,
                "http://example.org:8083/port-and-status",
            ),
            (
                "/port-host-status",
                302,
                "http://example.com:8083/port-host-status",
            ),
            ("/scheme", 302, "https://example.org/scheme"),
            (
                "/scheme-and-host",
                302,
                "https://example.com/scheme-and-host",
            ),
            (
                "/scheme-and-status",
                301,
                "https://example.org/scheme-and-status",
            ),
        ],
    );
}

/// The Gateway API's table of prefixes: `(path, prefix, replacement, result)`.
#[test]
fn the_table_of_replaced_prefixes() {
    let backend = echo("v1");
    for (path, prefix, replacement, result) in [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
    ] {
        let fields =
            format!("path: {{ type: ReplacePrefixMatch, replacePrefixMatch: \"{replacement}\" }}");
        let rules = [
            rewrite("PathPrefix", prefix, &fields),
            redirect("/elsewhere", "statusCode: 302"),
        ];
        let proxy = Proxy::start(&config(&route(&rules), &[("v1", backend.address)]));
        let response = get(proxy.addr("web"), "a", &format!("{path}?q=1"), &[]);
        assert_eq!(
            response.seen_target(),
            format!("{result}?q=1"),
            "{path} {prefix} {replacement:?}"
        );
        proxy.stop();
    }
}

#[test]
fn httproute_rewrite_path_and_httproute_rewrite_host() {
    let backend = echo("v1");
    let headers = "{ type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: X-Header-Set, value: set-overwrites }], add: [{ name: X-Header-Add, value: header-val }], remove: [X-Header-Remove] } }";
    let with_headers = |path: &str, change: &str| {
        format!(
            "      - matches: [{{ path: {{ value: {path} }} }}]\n        filters: [{{ type: URLRewrite, urlRewrite: {{ {change} }} }}, {headers}]\n        backendRefs: [{{ name: v1 }}]\n"
        )
    };
    let prefix =
        |to: &str| format!("path: {{ type: ReplacePrefixMatch, replacePrefixMatch: {to} }}");
    let full = |to: &str| format!("path: {{ type: ReplaceFullPath, replaceFullPath: {to} }}");
    let rules = [
        rewrite("PathPrefix", "/prefix/one", &prefix("/one")),
        rewrite("PathPrefix", "/strip-prefix", &prefix("/")),
        rewrite("PathPrefix", "/full/one", &full("/one")),
        with_headers("/full/rewrite-and-modify", &full("/test")),
        with_headers("/prefix/rewrite-and-modify", &prefix("/prefix")),
        rewrite("PathPrefix", "/host/one", "hostname: one.example.org"),
        with_headers("/host/modify", "hostname: test.example.org"),
    ];
    let proxy = Proxy::start(&config(&route(&rules), &[("v1", backend.address)]));
    let web = proxy.addr("web");
    for (path, target, host, modified) in [
        ("/prefix/one/two", "/one/two", "rewrite.example", false),
        ("/strip-prefix/three", "/three", "rewrite.example", false),
        ("/strip-prefix", "/", "rewrite.example", false),
        ("/full/one/two", "/one", "rewrite.example", false),
        ("/full/one/two?q=1", "/one?q=1", "rewrite.example", false),
        ("/full/rewrite-and-modify", "/test", "rewrite.example", true),
        (
            "/prefix/rewrite-and-modify/x",
            "/prefix/x",
            "rewrite.example",
            true,
        ),
        ("/host/one", "/host/one", "one.example.org", false),
        ("/host/modify", "/host/modify", "test.example.org", true),
    ] {
        let sent = [
            ("X-Header-Remove", "x"),
            ("X-Header-Add", "sent"),
            ("X-Header-Set", "x"),
        ];
        let response = get(web, "rewrite.example", path, &sent);
        assert_eq!(response.seen_target(), target, "{path}");
        assert_eq!(response.seen("host").as_deref(), Some(host), "{path}");
        assert_eq!(
            response.seen("x-forwarded-host").as_deref(),
            Some("rewrite.example"),
            "{path}"
        );
        if modified {
            assert_eq!(
                response.seen("x-header-add").as_deref(),
                Some("sent,header-val")
            );
            assert_eq!(
                response.seen("x-header-set").as_deref(),
                Some("set-overwrites")
            );
            assert_eq!(response.seen("x-header-remove"), None, "{path}");
        }
    }
    proxy.stop();
}
