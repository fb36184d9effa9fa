//! HTTP itself: framing, keep-alive, upgrades, and bytes from hostile hands.

use std::io::{Read, Write};

use crate::support::backend::{echo, scripted};
use crate::support::client::{Client, get};
use crate::support::proxy::{Proxy, config};

const ALL: &str = "  - { name: r, rules: [{ name: all, backendRefs: [{ name: v1 }] }] }\n";

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = echo("v1");
    let proxy = Proxy::start(&config(ALL, &[("v1", backend.address)]));
    let mut client = Client::connect(proxy.addr("web"));
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nHEAD /2 HTTP/1.1\r\nHost: a\r\n\r\nPOST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\n\r\n");
    for (path, head_only) in [("/1", false), ("/2", true), ("/3", false), ("/4", false)] {
        let response = client.receive(head_only).unwrap();
        assert_eq!(response.status, 200);
        if !head_only {
            assert!(
                response.body.split(' ').nth(1) == Some(path),
                "{}",
                response.body
            );
        }
        if path == "/3" {
            assert!(response.body.ends_with("|abcde"), "{}", response.body);
        }
    }
    proxy.stop();
}

#[test]
fn a_half_closed_client_gets_its_answer() {
    let backend = echo("v1");
    let proxy = Proxy::start(&config(ALL, &[("v1", backend.address)]));
    let mut client = Client::connect(proxy.addr("web"));
    client.send("GET /half HTTP/1.1\r\nHost: a\r\n\r\n");
    client.finish();
    assert_eq!(client.receive(false).unwrap().status, 200);
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
fn ambiguous_requests_are_refused_and_the_connection_closed() {
    let backend = echo("v1");
    let proxy = Proxy::start(&config(ALL, &[("v1", backend.address)]));
    let web = proxy.addr("web");
    for (head, statuses) in [
        ("GET / HTTP/1.1\r\n\r\n", &[400][..]),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", &[400]),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", &[400]),
        ("GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        ("GET /..%2f../../x HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            &[400],
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
            &[400],
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            &[400, 501],
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
            &[400, 501],
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", &[400]),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", &[501]),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", &[501]),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: magic\r\n\r\n", &[417]),
        ("junk\r\n\r\n", &[400]),
    ] {
        let mut client = Client::connect(web);
        client.send(head);
        let status = client.receive(false).unwrap().status;
        assert!(statuses.contains(&status), "{status} for {head:?}");
        assert!(client.is_closed(), "open after {head:?}");
    }
    assert_eq!(backend.requests(), 0, "none of it may reach a backend");
    proxy.stop();
}

#[test]
fn hop_by_hop_and_forged_fields_do_not_pass() {
    let backend = echo("v1");
    let proxy = Proxy::start(&config(ALL, &[("v1", backend.address)]));
    let seen = get(
        proxy.addr("web"),
        "a",
        "/",
        &[
            ("Connection", "x-secret, x-forwarded-for"),
            ("X-Secret", "1"),
            ("Keep-Alive", "timeout=5"),
            ("X-Forwarded-For", "6.6.6.6"),
            ("X-Forwarded-Client-Cert", "URI=spiffe://evil"),
            ("X_Forwarded_For", "6.6.6.6"),
            ("X-Weir-Shadow", "1"),
        ],
    )
    .body;
    for gone in [
        "x-secret",
        "keep-alive",
        "6.6.6.6",
        "spiffe",
        "x-weir",
        "connection:",
    ] {
        assert!(!seen.contains(gone), "{gone} in {seen}");
    }
    assert!(
        seen.contains("x-forwarded-for: 127.0.0.1\r\n") && seen.contains("via: 1.1 weir\r\n"),
        "{seen}"
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
fn limits_of_a_listener() {
    let backend = echo("v1");
    let text = config(ALL, &[("v1", backend.address)]).replace(
        "address: \"127.0.0.1:0\" }",
        "address: \"127.0.0.1:0\", limits: { headerBytes: 8KiB, headerCount: 20, targetBytes: 1KiB, bodyBytes: 1KiB }, timeouts: { header: 300ms, idle: 600ms, body: 300ms } }",
    );
    let proxy = Proxy::start(&text);
    let web = proxy.addr("web");
    let status = |request: String| {
        let mut client = Client::connect(web);
        client.send(&request);
        client.receive(false).map(|response| response.status)
    };
    assert_eq!(
        status(format!(
            "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n",
            "x".repeat(2000)
        )),
        Some(414)
    );
    assert_eq!(
        status(format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "x: y\r\n".repeat(30)
        )),
        Some(431)
    );
    assert_eq!(
        status(format!(
            "GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n",
            "y".repeat(9000)
        )),
        Some(431)
    );
    assert_eq!(
        status("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n".to_owned()),
        Some(413)
    );
    let chunk = format!("400\r\n{}\r\n", "z".repeat(1024));
    assert_eq!(
        status(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n"
        )),
        Some(413)
    );
    assert_eq!(
        status("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab".to_owned()),
        Some(408)
    );
    assert_eq!(
        status("GET / HTTP/1.1\r\nHost:".to_owned()),
        None,
        "half a head is cut at its deadline"
    );
    let mut idle = Client::connect(web);
    idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(idle.receive(false).unwrap().status, 200);
    assert!(
        idle.is_closed(),
        "an idle connection is closed at its deadline"
    );
    proxy.stop();
}
