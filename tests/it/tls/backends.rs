//! TLS and mTLS to the backends: who is believed, what is shown, and what a failure is called.

use std::net::SocketAddr;
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::version::{TLS12, TLS13};

use super::{Pki, logged};
use crate::support::backend::{echo, raw};
use crate::support::client::{Client, Response, get, request};
use crate::support::dns::Dns;
use crate::support::eventually;
use crate::support::pki::{Authority, DAY, Leaf};
use crate::support::proxy::{Proxy, all_to};
use crate::support::tls::{Backend, Shaken, backend, server, server_with};

const US: &str = "spiffe://shop.example/ns/edge/sa/weir";

/// A proxy whose only backend is at an address and has further fields.
fn proxy(address: SocketAddr, fields: &str) -> Proxy {
    let endpoint = format!("endpoints: [{{ address: \"{address}\" }}]");
    let config = all_to(address).replace(&endpoint, &format!("{endpoint}, {fields}"));
    // Each worker has connections of its own.
    Proxy::start_with(&config, &["--workers", "1"])
}

fn ask(proxy: &Proxy) -> Response {
    get(proxy.addr("web"), "said.by.the.client", "/", &[])
}

/// The one handshake that there was.
fn only(backend: &Backend) -> Shaken {
    let all = backend.handshakes();
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].clone()
}

/// `tls` of a backend that believes the authority, with further fields.
fn tls(pki: &Pki, fields: &str) -> String {
    format!("tls: {{ ca: \"{}\"{fields} }}", pki.path("ca.crt"))
}

/// Nothing was sent, in the clear above all, and everybody is told why.
fn fails(proxy: &Proxy, log: &str) {
    let response = ask(proxy);
    assert_eq!(response.status, 503, "{response:?}");
    let status = response.header("proxy-status").unwrap();
    assert!(status.contains("tls_failed"), "{status}");
    let count = proxy.metric("weir_errors_total", &["reason=\"tls_failed\""]);
    assert!((count - 1.0).abs() < 0.1, "{count}");
    logged(proxy, log);
}

#[test]
fn an_endpoint_is_asked_for_and_verified_by_the_configured_name() {
    let pki = Pki::new();
    let endpoint = pki.ca.issue(&Leaf::server(&["api.example"]));
    let backend = backend("b", server(&endpoint, None, &["http/1.1"]));
    let proxy = proxy(backend.address, &tls(&pki, ", serverName: api.example"));
    for _ in 0..3 {
        let response = ask(&proxy);
        assert_eq!((response.status, response.who()), (200, "b".to_owned()));
        // What the client wants is passed on, and has no say in whom we believe.
        assert_eq!(response.seen("host").as_deref(), Some("said.by.the.client"));
    }
    let wanted = Shaken {
        name: Some("api.example".to_owned()),
        alpn: Some("http/1.1".to_owned()),
        resumed: false,
        certificate: false,
    };
    assert_eq!(only(&backend), wanted);
    proxy.stop();
}

/// Of any size, in both framings.
#[test]
fn bodies_go_to_endpoints_over_tls() {
    let pki = Pki::new();
    let endpoint = pki.ca.issue(&Leaf::server(&["127.0.0.1"]));
    let backend = backend("b", server(&endpoint, None, &["http/1.1"]));
    let proxy = proxy(backend.address, &tls(&pki, ""));
    let mut client = Client::connect(proxy.addr("web"));
    for size in [0, 5, 20_000, 3_000_000] {
        let body: String = ('a'..='z').cycle().take(size).collect();
        let whole = format!("Content-Length: {size}\r\n\r\n{body}");
        let chunk = if size == 0 {
            String::new()
        } else {
            format!("{size:x}\r\n{body}\r\n")
        };
        let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n");
        for rest in [whole, chunked] {
            let response = client.ask(&format!("PUT / HTTP/1.1\r\nHost: a\r\n{rest}"));
            assert_eq!(response.status, 200, "{size}");
            let seen = &response.body;
            assert!(seen.ends_with(&format!("\r\n|{body}|None")), "{size}");
        }
    }
    proxy.stop();
}

#[test]
fn without_a_name_it_is_the_host_of_the_endpoints_address() {
    let pki = Pki::new();
    let by_address = pki.ca.issue(&Leaf::server(&["127.0.0.1"]));
    let numbered = backend("b", server(&by_address, None, &[]));
    let proxy_to_number = proxy(numbered.address, &tls(&pki, ""));
    assert_eq!(ask(&proxy_to_number).status, 200);
    // Addresses are verified, but not asked for (RFC 6066, 3).
    assert_eq!(only(&numbered).name, None);
    proxy_to_number.stop();

    let by_name = pki.ca.issue(&Leaf::server(&["localhost"]));
    let named = backend("b", server(&by_name, None, &[]));
    let config = all_to(named.address).replace(
        &format!("address: \"{}\" }}]", named.address),
        &format!(
            "address: \"localhost:{}\" }}], {}",
            named.address.port(),
            tls(&pki, "")
        ),
    );
    let proxy_to_name = Proxy::start(&config);
    assert_eq!(ask(&proxy_to_name).status, 200);
    assert_eq!(only(&named).name.as_deref(), Some("localhost"));
    proxy_to_name.stop();
}

/// Also where a service is asked for: the one that offers it. And hands are shaken before the first request.
#[test]
fn what_dns_is_asked_for_is_what_the_endpoint_must_be() {
    let pki = Pki::new();
    let endpoint = pki.ca.issue(&Leaf::server(&["shop.test"]));
    let backend = backend("b", server(&endpoint, None, &["http/1.1"]));
    let (dns, port) = (Dns::start(), backend.address.port());
    dns.set("shop.test", &[backend.address.ip()]);
    dns.set_services("_http._tcp.shop.test", &[(0, 0, port, "shop.test")]);
    for asked in [
        format!("name: shop.test, port: {port}"),
        "name: _http._tcp.shop.test, records: srv".to_owned(),
    ] {
        let shaken = backend.handshakes().len();
        let endpoints = format!("endpoints: [{{ address: \"{}\" }}]", backend.address);
        let by_name = format!(
            "dns: {{ {asked}, resolvers: [\"{}\"] }}, pool: {{ preconnect: true }}, {}",
            dns.address,
            tls(&pki, "")
        );
        let config = all_to(backend.address).replace(&endpoints, &by_name);
        let proxy = Proxy::start_with(&config, &["--workers", "1"]);
        eventually("a handshake", || {
            (backend.handshakes().len() > shaken).then_some(())
        });
        assert_eq!(ask(&proxy).status, 200);
        let all = backend.handshakes();
        assert_eq!(all.len(), shaken + 1, "{all:?}");
        assert_eq!(all[shaken].name.as_deref(), Some("shop.test"));
        proxy.stop();
    }
}

#[test]
fn an_endpoint_that_is_not_the_right_one_gets_nothing() {
    let pki = Pki::new();
    let now = SystemTime::now();
    let api = || Leaf::server(&["api.example"]);
    let revoked = pki.ca.issue(&api());
    pki.files.put("crl.pem", &pki.ca.revoke(&[&revoked]));
    let lists = format!(", crls: [\"{}\"]", pki.path("crl.pem"));
    for (pair, fields, log) in [
        // The name that the client asks for counts for nothing.
        (
            pki.ca.issue(&Leaf::server(&["said.by.the.client"])),
            "",
            "not valid for name",
        ),
        (
            pki.ca.issue(
                &Leaf::server(&["x.example"])
                    .subject(&[(rcgen::DnType::CommonName, "api.example")]),
            ),
            "",
            "not valid for name",
        ),
        (Authority::new("another").issue(&api()), "", "UnknownIssuer"),
        (
            pki.ca.issue(&api().valid(now - 2 * DAY, now - DAY)),
            "",
            "expired",
        ),
        (
            pki.ca.issue(&api().valid(now + DAY, now + 2 * DAY)),
            "",
            "not valid yet",
        ),
        (
            pki.ca.issue(&Leaf::client(&["api.example"])),
            "",
            "server authentication",
        ),
        (revoked, &lists, "Revoked"),
    ] {
        let backend = backend("b", server(&pair, None, &[]));
        let fields = tls(&pki, &format!(", serverName: api.example{fields}"));
        let proxy = proxy(backend.address, &fields);
        fails(&proxy, log);
        assert!(backend.handshakes().is_empty(), "{log}");
        proxy.stop();
    }
    // Not of an authority of the system either.
    let backend = backend("b", server(&pki.ca.issue(&api()), None, &[]));
    let proxy = proxy(backend.address, "tls: { serverName: api.example }");
    fails(&proxy, "UnknownIssuer");
    proxy.stop();
}

#[test]
fn identities_take_the_place_of_the_name() {
    let pki = Pki::new();
    let workload = "spiffe://shop.example/ns/blue/sa/checkout";
    for (names, wanted, good) in [
        (
            &[workload][..],
            "spiffe://shop.example/ns/*/sa/checkout",
            true,
        ),
        (&["a.api.example"], "*.api.example", true),
        (&[workload], "spiffe://shop.example/ns/*/sa/cart", false),
        // The name that is asked for is then not enough.
        (&["api.example"], workload, false),
    ] {
        let endpoint = pki.ca.issue(&Leaf::server(names));
        let backend = backend("b", server(&endpoint, None, &[]));
        let fields = format!(", serverName: api.example, subjectAltNames: [\"{wanted}\"]");
        let proxy = proxy(backend.address, &tls(&pki, &fields));
        if good {
            assert_eq!(ask(&proxy).status, 200, "{wanted}");
            assert_eq!(only(&backend).name.as_deref(), Some("api.example"));
        } else {
            fails(&proxy, "ApplicationVerificationFailure");
        }
        proxy.stop();
    }
    // Everything else must be right all the same.
    let now = SystemTime::now();
    let ended = Leaf::server(&[workload]).valid(now - 2 * DAY, now - DAY);
    for (pair, log) in [
        (pki.ca.issue(&ended), "expired"),
        (
            Authority::new("another").issue(&Leaf::server(&[workload])),
            "UnknownIssuer",
        ),
        (
            pki.ca.issue(&Leaf::client(&[workload])),
            "server authentication",
        ),
    ] {
        let backend = backend("b", server(&pair, None, &[]));
        let fields = format!(", subjectAltNames: [\"{workload}\"]");
        let proxy = proxy(backend.address, &tls(&pki, &fields));
        fails(&proxy, log);
        proxy.stop();
    }
}

#[test]
fn our_certificate_is_shown_where_one_is_asked_for() {
    let pki = Pki::new();
    let endpoint = pki.ca.issue(&Leaf::server(&["api.example"]));
    pki.issue("us", &Leaf::client(&[US]));
    let ours = format!(
        ", serverName: api.example, clientCertificate: {}",
        pki.pair("us")
    );
    for version in [&TLS12, &TLS13] {
        for alpn in ["http/1.1", "h2"] {
            let config = || server_with(&endpoint, Some(&pki.ca.pem), &[alpn], &[version]);
            let protocol = if alpn == "h2" { "protocol: h2c, " } else { "" };
            let known = backend("b", config());
            let fields = protocol.to_owned() + &tls(&pki, &ours);
            let with = proxy(known.address, &fields);
            assert_eq!(ask(&with).status, 200, "{version:?} {alpn}");
            assert!(only(&known).certificate);
            with.stop();

            // In TLS 1.3 the endpoint refuses after our handshake is over.
            let unknown = backend("b", config());
            let fields = protocol.to_owned() + &tls(&pki, ", serverName: api.example");
            let without = proxy(unknown.address, &fields);
            for _ in 0..3 {
                let response = ask(&without);
                let status = response.header("proxy-status").unwrap_or_default();
                assert!(
                    status.contains("tls_failed"),
                    "{version:?} {alpn}: {response:?}"
                );
            }
            assert!(unknown.handshakes().is_empty());
            without.stop();
        }
    }
    // Who asks for none gets none.
    let unasked = backend("b", server(&endpoint, None, &[]));
    let with = proxy(unasked.address, &tls(&pki, &ours));
    assert_eq!(ask(&with).status, 200);
    assert!(!only(&unasked).certificate);
    with.stop();
}

#[test]
fn the_version_of_http_is_agreed_on_by_alpn() {
    let pki = Pki::new();
    let endpoint = pki.ca.issue(&Leaf::server(&["api.example"]));
    let both = &["h2", "http/1.1"][..];
    for (protocol, alpn, seen) in [
        ("http1", both, Ok("HTTP/1.1")),
        ("h2c", both, Ok("HTTP/2.0")),
        ("h2", &["h2"], Ok("HTTP/2.0")),
        ("auto", both, Ok("HTTP/2.0")),
        ("auto", &["http/1.1"], Ok("HTTP/1.1")),
        ("auto", &[], Ok("HTTP/1.1")),
        ("http1", &[], Ok("HTTP/1.1")),
        // Not by prior knowledge (RFC 9113, 3.2), and nothing in common.
        ("h2c", &[], Err("did not choose h2")),
        ("h2c", &["http/1.1"], Err("NoApplicationProtocol")),
        ("http1", &["h2"], Err("NoApplicationProtocol")),
    ] {
        let backend = backend("b", server(&endpoint, None, alpn));
        let fields = format!(
            "protocol: {protocol}, {}",
            tls(&pki, ", serverName: api.example")
        );
        let proxy = proxy(backend.address, &fields);
        match seen {
            Ok(version) => {
                for _ in 0..2 {
                    let response = request(proxy.addr("web"), "GET", "a", "/", &[]);
                    assert_eq!(response.status, 200, "{protocol} {alpn:?}");
                    let line = response.body.lines().next().unwrap().to_owned();
                    assert!(line.ends_with(version), "{protocol} {alpn:?}: {line}");
                }
                assert_eq!(backend.handshakes().len(), 1, "{protocol} {alpn:?}");
            }
            Err(why) => fails(&proxy, why),
        }
        proxy.stop();
    }
}

#[test]
fn sessions_are_taken_up_again_by_new_connections() {
    let pki = Pki::new();
    let endpoint = pki.ca.issue(&Leaf::server(&["api.example"]));
    let with = |version, tickets: bool| -> ServerConfig {
        let mut config = server_with(&endpoint, None, &[], &[version]);
        if tickets {
            config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        }
        config
    };
    for (version, tickets) in [(&TLS12, false), (&TLS12, true), (&TLS13, true)] {
        let backend = backend("b", with(version, tickets));
        // No connection is kept.
        let fields = format!(
            "pool: {{ maxAge: 1ms }}, {}",
            tls(&pki, ", serverName: api.example")
        );
        let proxy = proxy(backend.address, &fields);
        eventually("a session that is taken up", || {
            assert_eq!(ask(&proxy).status, 200);
            let all = backend.handshakes();
            assert!(!all[0].resumed);
            all.last()?.resumed.then_some(())
        });
        proxy.stop();
    }
}

#[test]
fn there_is_no_way_back_to_plain_text() {
    let pki = Pki::new();
    // One that speaks plain HTTP would answer a request; it must get none.
    let plain = echo("plain");
    let proxy_to_plain = proxy(plain.address, &tls(&pki, ", serverName: api.example"));
    fails(&proxy_to_plain, "no TLS with");
    assert_eq!(plain.requests(), 0);
    proxy_to_plain.stop();
    // One that answers before it is asked (CVE-2026-1642).
    let eager = raw(|mut stream, _| {
        use std::io::{Read, Write};
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfake"));
        drop(stream.read(&mut [0; 4096]));
    });
    let proxy_to_eager = proxy(eager.address, &tls(&pki, ", serverName: api.example"));
    fails(&proxy_to_eager, "no TLS with");
    proxy_to_eager.stop();
    // One that says nothing is cut at the deadline for connecting.
    let silent = raw(|mut stream, _| {
        use std::io::Read;
        drop(stream.read_to_end(&mut Vec::new()));
    });
    let fields = format!(
        "connectTimeout: 200ms, {}",
        tls(&pki, ", serverName: api.example")
    );
    let proxy_to_silent = proxy(silent.address, &fields);
    let response = ask(&proxy_to_silent);
    assert_eq!(response.status, 503);
    assert!(
        response
            .header("proxy-status")
            .unwrap()
            .contains("connect_timeout")
    );
    proxy_to_silent.stop();
}
