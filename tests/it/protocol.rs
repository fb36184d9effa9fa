//! HTTP itself: what is kept, upgraded, expected. Bytes from hostile hands are in `raw`.

use std::io::{Read, Write};

use crate::support::backend::{Backend, echo, scripted};
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::proxy::{Proxy, all_to, config, with_listener};

const ALL: &str = "  - { name: r, rules: [{ name: all, backendRefs: [{ name: v1 }] }] }\n";

/// Takes the request and answers only when its connection ends.
fn never() -> Backend {
    scripted(|_, stream| {
        drop(stream.read(&mut [0]));
        false
    })
}

/// What is recorded when the client has gone, long before any deadline.
fn left(proxy: &Proxy) {
    eventually("client_closed", || {
        (proxy.metric("weir_errors_total", &["reason=\"client_closed\""]) > 0.5).then_some(())
    });
    eventually("the end of the attempt", || {
        (proxy.metric("weir_upstream_connections", &["backend=\"v1\""]) < 0.5).then_some(())
    });
}

#[test]
fn a_client_that_leaves_ends_its_request() {
    let backend = never();
    for (half_close, reset) in [("false", false), ("false", true), ("true", true)] {
        let proxy = Proxy::start(&with_listener(
            &all_to(backend.address),
            &format!("halfClose: {half_close}"),
        ));
        let before = backend.requests();
        let mut client = Client::connect(proxy.addr("web"));
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        eventually("the request", || {
            (backend.requests() > before).then_some(())
        });
        if reset {
            client.reset();
        } else {
            drop(client);
        }
        left(&proxy);
        proxy.stop();
    }
}

#[test]
fn a_half_closed_client_gets_its_answer_where_that_is_allowed() {
    let backend = echo("v1");
    let proxy = Proxy::start(&with_listener(&all_to(backend.address), "halfClose: true"));
    let web = proxy.addr("web");
    for request in [
        "GET /half HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /half HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut client = Client::connect(web);
        client.send(request);
        client.finish();
        for _ in 0..request.matches(" HTTP/1.1").count() {
            assert_eq!(client.receive(false).unwrap().status, 200);
        }
        assert!(client.is_closed());
    }
    proxy.stop();
}

#[test]
fn expect_continue_and_trailers() {
    let backend = scripted(|seen, stream| {
        let trailer = seen.head.contains("x-sum: 7");
        let answer = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-end\r\nx-saw: {trailer}\r\n\r\n2\r\nok\r\n0\r\nx-end: 9\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).is_ok()
    });
    let proxy = Proxy::start(&config(ALL, &[("v1", backend.address)]));
    let mut client = Client::connect(proxy.addr("web"));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: x-sum\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.receive(false).unwrap().status, 100);
    client.send("3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n");
    let response = client.receive(false).unwrap();
    assert_eq!((response.status, response.body.as_str()), (200, "ok"));
    assert_eq!(
        (response.header("x-saw"), response.header("x-end")),
        (Some("true"), Some("9"))
    );
    proxy.stop();
}

#[test]
fn upgrades_are_tunnelled_only_when_both_sides_agree() {
    let backend = scripted(|seen, stream| {
        let protocol = if seen.head.contains("/wrong") {
            "other"
        } else {
            "websocket"
        };
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).unwrap();
        let mut bytes = [0; 4];
        while stream.read_exact(&mut bytes).is_ok() {
            bytes.reverse();
            stream.write_all(&bytes).unwrap();
        }
        false
    });
    let proxy = Proxy::start(&config(ALL, &[("v1", backend.address)]));
    let web = proxy.addr("web");
    let ask = |path: &str, fields: &str| {
        let mut client = Client::connect(web);
        client.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        let response = client.receive(false).unwrap();
        (client, response)
    };
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let (mut client, response) = ask("/ws", upgrade);
    assert_eq!(
        (response.status, response.header("upgrade")),
        (101, Some("websocket"))
    );
    client.send("abcd");
    assert_eq!(client.read_exactly(4), b"dcba");
    assert_eq!(ask("/wrong", upgrade).1.status, 502);
    assert_eq!(ask("/unasked", "").1.status, 502);
    drop(client);
    proxy.stop();
}

#[test]
fn an_http2_preface_where_http2_is_off() {
    let backend = echo("v1");
    let proxy = Proxy::start(&with_listener(
        &all_to(backend.address),
        "protocols: [http1]",
    ));
    let mut client = Client::connect(proxy.addr("web"));
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let status = client.receive(false).map_or(0, |response| response.status);
    assert!(matches!(status, 0 | 400 | 505), "{status}");
    assert!(client.is_closed());
    let proxy2 = Proxy::start(&with_listener(&all_to(backend.address), "protocols: [h2c]"));
    let mut client = Client::connect(proxy2.addr("web"));
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(
        client.read_to_close().windows(5).all(|w| w != b"HTTP/"),
        "no HTTP/1 answer"
    );
    assert_eq!(backend.requests(), 0);
    proxy.stop();
    proxy2.stop();
}

/// What strangers send of these is in the tables of `raw`.
#[test]
fn forwarded_fields_of_trusted_proxies_are_believed() {
    let backend = echo("v1");
    let proxy = Proxy::start(&with_listener(
        &all_to(backend.address),
        "trustedProxies: [127.0.0.0/8]",
    ));
    let sent = [
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "outside.example"),
        ("X-Forwarded-Client-Cert", "URI=spiffe://a"),
        ("X-Request-Id", "given"),
    ];
    let response = get(proxy.addr("web"), "a", "/", &sent);
    for (name, value) in [
        ("x-forwarded-for", "203.0.113.9, 127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "outside.example"),
        ("x-forwarded-client-cert", "URI=spiffe://a"),
        ("x-request-id", "given"),
    ] {
        assert_eq!(response.seen(name).as_deref(), Some(value), "{name}");
    }
    let log = proxy.stop();
    assert!(log.contains("\"client_ip\":\"203.0.113.9\""), "{log}");
}
