//! Weights, keys and forced choices, seen from outside.

use std::collections::BTreeMap;

use crate::support::backend::echo;
use crate::support::client::{Client, get};
use crate::support::proxy::{Proxy, config};

fn rule(split: &str, weights: [u32; 2]) -> String {
    format!(
        "  - {{ name: r, rules: [{{ name: all, split: {{ {split} }}, backendRefs: [{{ name: v1, weight: {} }}, {{ name: v2, weight: {} }}] }}] }}\n",
        weights[0], weights[1]
    )
}

#[test]
fn an_unkeyed_stream_is_never_two_off() {
    let (v1, v2) = (echo("v1"), echo("v2"));
    let text = config(
        &rule("", [95, 5]),
        &[("v1", v1.address), ("v2", v2.address)],
    );
    let proxy = Proxy::start_with(&text, &["--workers", "1"]);
    let mut client = Client::connect(proxy.addr("web"));
    let mut candidate = 0;
    for sent in 1..=2000 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        if client.receive(false).unwrap().header("x-backend") == Some("v2") {
            candidate += 1;
        }
        let off = f64::from(candidate) - f64::from(sent) * 0.05;
        assert!(off.abs() < 2.0, "{off} after {sent}");
    }
    assert!(proxy.metric("weir_requests_total", &["backend=\"v2\""]) > 98.0);
    proxy.stop();
}

#[test]
fn a_cookie_is_issued_and_keeps_its_backend() {
    let (v1, v2) = (echo("v1"), echo("v2"));
    let text = config(
        &rule("key: { cookie: { name: user, maxAge: 1h } }", [50, 50]),
        &[("v1", v1.address), ("v2", v2.address)],
    );
    let proxy = Proxy::start(&text);
    let web = proxy.addr("web");
    let mut seen = BTreeMap::new();
    for _ in 0..20 {
        let first = get(web, "a", "/", &[]);
        let cookie = first.header("set-cookie").unwrap();
        assert!(
            cookie.starts_with("user=")
                && cookie.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"),
            "{cookie}"
        );
        let pair = cookie.split(';').next().unwrap();
        for _ in 0..3 {
            let again = get(web, "a", "/", &[("cookie", pair)]);
            assert_eq!(again.header("x-backend"), first.header("x-backend"));
            assert_eq!(again.header("set-cookie"), None);
        }
        *seen
            .entry(first.header("x-backend").unwrap().to_owned())
            .or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    proxy.stop();
}

#[test]
fn keys_stay_over_restarts_and_move_only_to_a_growing_weight() {
    let (v1, v2) = (echo("v1"), echo("v2"));
    let assignments = |weights| {
        let text = config(
            &rule("key: { header: x-user }", weights),
            &[("v1", v1.address), ("v2", v2.address)],
        );
        let proxy = Proxy::start(&text);
        let mut client = Client::connect(proxy.addr("web"));
        let of = (0..500).map(|user| {
            client.send(&format!(
                "GET / HTTP/1.1\r\nHost: a\r\nx-user: user-{user}\r\n\r\n"
            ));
            client
                .receive(false)
                .unwrap()
                .header("x-backend")
                .unwrap()
                .to_owned()
        });
        let of: Vec<_> = of.collect();
        proxy.stop();
        of
    };
    let (small, again, large) = (
        assignments([95, 5]),
        assignments([95, 5]),
        assignments([75, 25]),
    );
    assert_eq!(small, again);
    let share = large.iter().filter(|b| *b == "v2").count();
    assert!(
        (86..=164).contains(&share),
        "4 standard deviations around 125: {share}"
    );
    for (before, after) in small.iter().zip(&large) {
        assert!(
            before == after || (before == "v1" && after == "v2"),
            "{before} to {after}"
        );
    }
}

#[test]
fn testers_force_a_backend_and_an_outage_is_shifted_or_answered() {
    let (v1, v2) = (echo("v1"), echo("v2"));
    let rules = "  - name: r\n    rules:\n\
        \x20     - { name: force, matches: [{ path: { value: /force } }], split: { force: { header: x-weir-backend, cookie: tester } }, backendRefs: [{ name: v1, weight: 100 }, { name: v2, weight: 0 }] }\n\
        \x20     - { name: shift, matches: [{ path: { value: /shift } }], backendRefs: [{ name: v1, weight: 50 }, { name: gone, weight: 50 }] }\n\
        \x20     - { name: up, matches: [{ path: { value: /up } }], backendRefs: [{ name: v1, weight: 10 }, { name: gone, weight: 90 }] }\n\
        \x20     - { name: error, matches: [{ path: { value: /error } }], split: { onUnavailable: error }, backendRefs: [{ name: gone }] }\n";
    let text = config(rules, &[("v1", v1.address), ("v2", v2.address)]) + "  - { name: gone }\n";
    let proxy = Proxy::start(&text);
    let web = proxy.addr("web");
    let of = |path: &str, headers: &[(&str, &str)]| {
        let response = get(web, "a", path, headers);
        response
            .header("x-backend")
            .map_or_else(|| response.status.to_string(), str::to_owned)
    };
    assert_eq!(of("/force", &[]), "v1");
    assert_eq!(of("/force", &[("x-weir-backend", "v2")]), "v2");
    assert_eq!(of("/force", &[("cookie", "a=b; tester=v2")]), "v2");
    assert_eq!(of("/force", &[("x-weir-backend", "nobody")]), "v1");
    for _ in 0..10 {
        assert_eq!(of("/shift", &[]), "v1");
        assert_eq!(of("/error", &[]), "503");
    }
    assert!(
        (0..20).any(|_| of("/up", &[]) == "503"),
        "never onto a lighter one"
    );
    assert!(proxy.metric("weir_shifted_total", &["backend=\"gone\""]) >= 4.0);
    assert!(proxy.metric("weir_errors_total", &["reason=\"no_endpoint\""]) >= 10.0);
    proxy.stop();
}
