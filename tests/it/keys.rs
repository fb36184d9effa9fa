//! What makes a split sticky, one key after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::support::backend::{Backend, echo};
use crate::support::client::{Client, get};
use crate::support::proxy::{Proxy, config, with_listener};

fn start(split: &str, weights: [u32; 2], listener: &str) -> (Proxy, [Backend; 2]) {
    let backends = [echo("v1"), echo("v2")];
    let routes = format!(
        "  - {{ name: r, rules: [{{ name: all, split: {{ {split} }}, backendRefs: [{{ name: v1, weight: {} }}, {{ name: v2, weight: {} }}] }}] }}\n",
        weights[0], weights[1]
    );
    let named = [("v1", backends[0].address), ("v2", backends[1].address)];
    let text = with_listener(&config(&routes, &named), listener);
    (Proxy::start(&text), backends)
}

/// Asks for each of 300 keys twice; each stays, and the shares fit the weights.
fn stays(web: SocketAddr, share: f64, request: impl Fn(usize) -> String) -> Vec<String> {
    let mut client = Client::connect(web);
    let mut of = Vec::new();
    for user in 0..300 {
        let text = request(user);
        let (one, two) = (client.ask(&text).who(), client.ask(&text).who());
        assert_eq!(one, two, "{text:?}");
        of.push(one);
    }
    let count = of.iter().filter(|name| *name == "v2").count() as f64;
    let (mean, deviation) = (300.0 * share, (300.0 * share * (1.0 - share)).sqrt());
    assert!(
        (count - mean).abs() <= 4.0 * deviation,
        "{count} of 300 for {share}"
    );
    of
}

#[test]
fn header_query_and_forwarded_address_keep_their_backend() {
    let trusted = "trustedProxies: [127.0.0.0/8]";
    type Request = fn(usize) -> String;
    let header: Request = |n| format!("GET / HTTP/1.1\r\nHost: a\r\nX-User: u{n}\r\n\r\n");
    let query: Request = |n| format!("GET /?b=1&user=u{n}&user=x HTTP/1.1\r\nHost: a\r\n\r\n");
    let address: Request = |n| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.{}.{}\r\n\r\n",
            n / 250,
            n % 250
        )
    };
    let cookie: Request =
        |n| format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: x=y; user=u{n}\r\n\r\n");
    for (key, request) in [
        ("key: { header: x-user }", header),
        ("key: { queryParam: user }", query),
        ("key: { clientAddress: true }", address),
        ("key: { cookie: user }", cookie),
    ] {
        let (proxy, _backends) = start(key, [70, 30], trusted);
        stays(proxy.addr("web"), 0.3, request);
        assert!(proxy.stop().contains("\"choice\":\"key\""));
    }
}

/// One key in two rules chooses different clients, unless they share a salt.
#[test]
fn salts_tell_splits_apart() {
    let backends = [echo("v1"), echo("v2")];
    let rule = |path: &str, salt: &str| {
        format!(
            "      - {{ name: {path}, matches: [{{ path: {{ value: /{path} }} }}], split: {{ key: {{ header: x-user }}{salt} }}, backendRefs: [{{ name: v1, weight: 50 }}, {{ name: v2, weight: 50 }}] }}\n"
        )
    };
    let rules = [
        rule("a", ""),
        rule("b", ""),
        rule("c", ", salt: same"),
        rule("d", ", salt: same"),
    ];
    let named = [("v1", backends[0].address), ("v2", backends[1].address)];
    let proxy = Proxy::start(&config(
        &format!("  - name: r\n    rules:\n{}", rules.concat()),
        &named,
    ));
    let of = |path: &str| {
        stays(proxy.addr("web"), 0.5, |n| {
            format!("GET /{path} HTTP/1.1\r\nHost: a\r\nX-User: u{n}\r\n\r\n")
        })
    };
    assert_ne!(of("a"), of("b"));
    assert_eq!(of("c"), of("d"));
    proxy.stop();
}

/// Without its key a request is drawn; an empty one is none.
#[test]
fn requests_without_a_key_are_drawn() {
    let (proxy, _backends) = start("key: { header: x-user }", [50, 50], "advertisedPort: 80");
    let mut seen = BTreeMap::new();
    for n in 0..40 {
        let fields = [("x-user", "")];
        let response = get(
            proxy.addr("web"),
            "a",
            "/",
            if n % 2 == 0 { &fields } else { &[] },
        );
        assert_eq!(response.header("set-cookie"), None);
        *seen.entry(response.who()).or_insert(0) += 1;
    }
    assert!(seen.values().all(|n| (14..=26).contains(n)), "{seen:?}");
    proxy.stop();
}

#[test]
fn attributes_of_the_issued_cookie() {
    for (cookie, expected) in [
        ("user", &["Path=/", "HttpOnly", "SameSite=Lax"][..]),
        (
            "{ name: user, path: /shop, maxAge: 30m, sameSite: Strict }",
            &["Path=/shop", "Max-Age=1800", "HttpOnly", "SameSite=Strict"],
        ),
    ] {
        let (proxy, _backends) = start(
            &format!("key: {{ cookie: {cookie} }}"),
            [50, 50],
            "advertisedPort: 80",
        );
        let web = proxy.addr("web");
        let mut keys = BTreeSet::new();
        for _ in 0..10 {
            let response = get(web, "a", "/", &[("cookie", "other=1")]);
            let cookie = response.header("set-cookie").unwrap().to_owned();
            let mut parts = cookie.split("; ");
            let pair = parts.next().unwrap();
            assert!(
                pair.starts_with("user=") && pair.len() >= 5 + 32,
                "{cookie}"
            );
            assert_eq!(parts.collect::<Vec<_>>(), expected, "{cookie}");
            keys.insert(pair.to_owned());
        }
        assert_eq!(keys.len(), 10, "each client has a key of its own");
        proxy.stop();
    }
    let (proxy, _backends) = start(
        "key: { cookie: { name: user, issue: false } }",
        [50, 50],
        "advertisedPort: 80",
    );
    assert_eq!(
        get(proxy.addr("web"), "a", "/", &[]).header("set-cookie"),
        None
    );
    proxy.stop();
}

/// An outage moves its keys elsewhere, each to one place; the others stay where they were.
#[test]
fn an_outage_moves_only_its_own_keys() {
    let backends = [echo("v1"), echo("v2"), echo("v3")];
    let named = [
        ("v1", backends[0].address),
        ("v2", backends[1].address),
        ("v3", backends[2].address),
    ];
    let routes = "  - { name: r, rules: [{ split: { key: { header: x-user } }, backendRefs: [{ name: v1 }, { name: v2 }, { name: v3 }] }] }\n";
    let whole = config(routes, &named);
    let v3 = format!(
        "{{ name: v3, endpoints: [{{ address: \"{}\" }}] }}",
        backends[2].address
    );
    let proxy = Proxy::start(&whole);
    let web = proxy.addr("web");
    let all = || {
        let mut client = Client::connect(web);
        let one = |n| {
            client
                .ask(&format!(
                    "GET / HTTP/1.1\r\nHost: a\r\nX-User: u{n}\r\n\r\n"
                ))
                .who()
        };
        (0..300).map(one).collect::<Vec<_>>()
    };
    let before = all();
    proxy.write_config(&whole.replace(&v3, "{ name: v3 }"));
    proxy.wait_generation(2);
    let during = all();
    for (before, during) in before.iter().zip(&during) {
        assert!(
            before == during || before == "v3" && during != "v3",
            "{before} to {during}"
        );
    }
    assert!(during.contains(&"v1".to_owned()) && !during.contains(&"v3".to_owned()));
    assert_eq!(during, all(), "they stay where they went");
    proxy.write_config(&whole);
    proxy.wait_generation(3);
    assert_eq!(all(), before, "and come back");
    proxy.stop();
}

/// A tester's word counts before a key, also for weight 0 and by cookie.
#[test]
fn force_comes_before_the_key() {
    let (proxy, _backends) = start(
        "key: { header: x-user }, force: { header: x-want, cookie: want }",
        [100, 0],
        "advertisedPort: 80",
    );
    let web = proxy.addr("web");
    for (headers, expected) in [
        (&[("x-user", "u1")][..], "v1"),
        (&[("x-user", "u1"), ("x-want", "v2")], "v2"),
        (&[("x-user", "u1"), ("cookie", "want=v2")], "v2"),
        (&[("x-want", "v1"), ("cookie", "want=v2")], "v1"),
        (&[("x-want", "V2")], "v1"),
        (&[("cookie", "wanted=v2")], "v1"),
    ] {
        assert_eq!(get(web, "a", "/", headers).who(), expected, "{headers:?}");
    }
    assert!(proxy.stop().contains("\"choice\":\"force\""));
}
