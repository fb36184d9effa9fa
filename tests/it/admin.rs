//! The admin listener: pages, access, metrics that Prometheus likes.

use crate::support::backend::echo;
use crate::support::client::{get, request};
use crate::support::promtool;
use crate::support::proxy::{Proxy, config};

#[test]
fn metrics_please_promtool() {
    let backend = echo("v1");
    let proxy = Proxy::start(&config(
        "  - { name: r, rules: [{ backendRefs: [{ name: v1 }] }] }\n",
        &[("v1", backend.address)],
    ));
    let web = proxy.addr("web");
    assert_eq!(get(web, "a", "/", &[]).status, 200);
    assert_eq!(get(web, "a b", "/", &[]).status, 400);
    let text = proxy.ask("/metrics").body;
    assert!(text.contains(
        "weir_request_duration_seconds_bucket{route=\"r\",rule=\"0\",backend=\"v1\",le=\"0.0005\"}"
    ));
    promtool(&text);
    proxy.stop();
}

#[test]
fn pages_and_who_may_see_them() {
    let backend = echo("v1");
    let proxy = Proxy::start(&config(
        "  - { name: r, rules: [{ backendRefs: [{ name: v1 }] }] }\n",
        &[("v1", backend.address)],
    ));
    let admin = proxy.admin();
    for (method, host, path, headers, status) in [
        ("GET", "localhost", "/live", &[][..], 200),
        ("GET", "localhost", "/ready?verbose", &[], 200),
        ("GET", "localhost", "/config", &[], 200),
        ("GET", "localhost", "/", &[], 200),
        ("GET", "localhost", "/api/v1/backends", &[], 200),
        ("GET", "localhost", "/nothing", &[], 404),
        ("GET", "localhost", "/api/v1/reload", &[], 405),
        (
            "POST",
            "localhost",
            "/api/v1/status",
            &[("content-length", "0")],
            405,
        ),
        ("DELETE", "localhost", "/config", &[], 405),
        ("GET", "evil.example", "/config", &[], 403),
        (
            "POST",
            "localhost",
            "/api/v1/reload",
            &[("origin", "http://evil.example"), ("content-length", "0")],
            403,
        ),
        (
            "POST",
            "localhost",
            "/api/v1/log-level",
            &[("content-length", "0")],
            400,
        ),
    ] {
        assert_eq!(
            request(admin, method, host, path, headers).status,
            status,
            "{method} {host} {path}"
        );
    }
    assert_eq!(proxy.json("/api/v1/routes")[0]["backends"][0]["name"], "v1");
    assert_eq!(proxy.json("/config")["document"]["drain"]["timeout"], "5s");
    proxy.stop();
}
