//! The table "HTTP/1 messages" of the hardening rules: raw bytes, and what becomes of them.

use std::io::Write;
use std::sync::{Arc, Mutex};

use crate::support::backend::{Backend, echo, scripted};
use crate::support::client::{Client, get};
use crate::support::proxy::{Proxy, all_to, with_listener};

fn start(backend: &Backend) -> Proxy {
    Proxy::start(&all_to(backend.address))
}

/// Sends bytes; the status of the answer (0: closed without one) and whether the connection ended.
fn outcome(web: std::net::SocketAddr, bytes: &str) -> (u16, bool) {
    let mut client = Client::connect(web);
    client.send(bytes);
    let status = client.receive(false).map_or(0, |response| response.status);
    (status, client.is_closed())
}

/// Each is refused, the connection closed, and the backend sees no whole request.
fn all_refused(vectors: &[(String, &[u16])]) {
    let backend = echo("v1");
    let proxy = start(&backend);
    let web = proxy.addr("web");
    let mut wrong = Vec::new();
    for (bytes, statuses) in vectors {
        let (status, closed) = outcome(web, bytes);
        if !statuses.contains(&status) || !closed {
            let start: String = bytes.chars().take(200).collect();
            wrong.push(format!("{status}, closed {closed}: {start:?}"));
        }
        let reached = backend.requests();
        if reached > 0 {
            backend
                .requests
                .store(0, std::sync::atomic::Ordering::SeqCst);
            let start: String = bytes.chars().take(200).collect();
            wrong.push(format!("reached the backend: {start:?}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    proxy.stop();
}

const BAD: &[u16] = &[400];
const BAD_OR_NOT_IMPLEMENTED: &[u16] = &[400, 501];

#[test]
fn lengths_that_two_parsers_read_differently() {
    let length = |values: &[&str]| {
        let fields: String = values
            .iter()
            .map(|v| format!("Content-Length:{v}\r\n"))
            .collect();
        (
            format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\nhello"),
            BAD,
        )
    };
    all_refused(&[
        length(&[" 5", " 6"]),
        length(&[" 6", " 5"]),
        length(&[" +5"]),
        length(&[" -5"]),
        length(&[" 0x5"]),
        length(&[" 5,5"]),
        length(&[" 5, 6"]),
        length(&[""]),
        length(&[" "]),
        length(&[" 5 5"]),
        length(&[" 5a"]),
        length(&[" a5"]),
        length(&[" 5;"]),
        length(&[" 99999999999999999999"]),
        length(&[" 18446744073709551617"]),
        length(&[" 5.0"]),
        length(&["\x0b5"]),
    ]);
}

#[test]
fn transfer_encodings_other_than_exactly_chunked() {
    let coding = |fields: &str| {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n5\r\nhello\r\n0\r\n\r\n");
        (text, BAD_OR_NOT_IMPLEMENTED)
    };
    let te = |value: &str| coding(&format!("Transfer-Encoding:{value}\r\n"));
    all_refused(&[
        te(" xchunked"),
        te(" chunked, identity"),
        te(" identity, chunked"),
        te(" identity"),
        te(" gzip, chunked"),
        te(" chunked, chunked"),
        te(" ,chunked"),
        te(" chunked,"),
        te(" \"chunked\""),
        te(" chunked;q=1"),
        te("\x0bchunked"),
        te(" \x0bchunked"),
        te(" "),
        coding("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        coding("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        coding("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"),
        coding("Transfer-Encoding : chunked\r\n"),
        (
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            BAD_OR_NOT_IMPLEMENTED,
        ),
    ]);
}

/// hyper drops the length before anybody can refuse: chunked counts, one length goes out, and the
/// connection ends (RFC 9112, 6.1).
#[test]
fn both_lengths_never_go_out_and_end_the_connection() {
    let backend = echo("v1");
    let proxy = start(&backend);
    for fields in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Content-Length: 30\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let mut client = Client::connect(proxy.addr("web"));
        client.send(&format!(
            "POST /1 HTTP/1.1\r\nHost: a\r\n{fields}\r\n5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        ));
        let response = client.receive(false).unwrap();
        if response.status == 200 {
            assert!(response.body.ends_with("|hello"), "{}", response.body);
            assert_eq!(response.seen("content-length"), None);
            assert_eq!(
                response.seen("transfer-encoding").as_deref(),
                Some("chunked")
            );
        } else {
            assert_eq!(response.status, 400, "{fields:?}");
        }
        assert!(client.receive(false).is_none(), "open after {fields:?}");
    }
    proxy.stop();
}

#[test]
fn equal_lengths_may_be_folded() {
    let backend = echo("v1");
    let proxy = start(&backend);
    let mut client = Client::connect(proxy.addr("web"));
    let response = client
        .ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello");
    if response.status == 200 {
        assert_eq!(response.seen("content-length").as_deref(), Some("5"));
        assert!(response.body.ends_with("|hello"), "{}", response.body);
    } else {
        assert_eq!(response.status, 400);
    }
    proxy.stop();
}

#[test]
fn malformed_chunks_never_make_a_whole_request() {
    let chunks = |body: &str| {
        let text =
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        (text, BAD)
    };
    // More than a head may have.
    let long = "x".repeat(90_000);
    all_refused(&[
        chunks("+5\r\nhello\r\n0\r\n\r\n"),
        chunks("-5\r\nhello\r\n0\r\n\r\n"),
        chunks("0x5\r\nhello\r\n0\r\n\r\n"),
        chunks(" 5\r\nhello\r\n0\r\n\r\n"),
        chunks("5 5\r\nhello\r\n0\r\n\r\n"),
        chunks("FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"),
        chunks("\r\nhello\r\n0\r\n\r\n"),
        chunks("g\r\nhello\r\n0\r\n\r\n"),
        chunks("5\nhello\r\n0\r\n\r\n"),
        chunks("5\rhello\r\n0\r\n\r\n"),
        chunks("5\r\nhelloX\r\n0\r\n\r\n"),
        chunks("5\r\nhello0\r\n\r\n"),
        chunks("5\r\nhello\n0\r\n\r\n"),
        chunks("5;a\nb\r\nhello\r\n0\r\n\r\n"),
        chunks(&format!("5;{long}\r\nhello\r\n0\r\n\r\n")),
        chunks("5\r\nhello\r\n0\r\nbad trailer\r\n\r\n"),
        (
            chunks(&format!("5\r\nhello\r\n0\r\nx: {long}\r\n\r\n")).0,
            &[400, 431],
        ),
    ]);
}

#[test]
fn chunk_extensions_are_not_passed_on() {
    let backend = echo("v1");
    let proxy = start(&backend);
    let mut client = Client::connect(proxy.addr("web"));
    let response = client.ask("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n0;last\r\n\r\n");
    assert_eq!(response.status, 200);
    assert!(response.body.ends_with("|hello"), "{}", response.body);
    proxy.stop();
}

#[test]
fn heads_that_are_not_http() {
    let field = |field: &str| (format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"), BAD);
    let line = |line: &str| (format!("{line}\r\nHost: a\r\n\r\n"), BAD);
    all_refused(&[
        field("X: a\rb"),
        field("X\r: a"),
        field("X: a\0b"),
        field("X\0: a"),
        field("X: a\r\n folded"),
        field("X: a\r\n\tfolded"),
        field("X : a"),
        field("X\t: a"),
        field(": a"),
        field("X a"),
        field("X(y): a"),
        field("X\"y: a"),
        field(" X: a"),
        line("G(T / HTTP/1.1"),
        line("GE\tT / HTTP/1.1"),
        line("GET  / HTTP/1.1"),
        line("GET /  HTTP/1.1"),
        line(" GET / HTTP/1.1"),
        line("GET /a b HTTP/1.1"),
        line("GET\t/\tHTTP/1.1"),
        line("GET /"),
        line("GET / HTTP/1.2"),
        line("GET / HTTP/9.9"),
        line("GET / http/1.1"),
        line("GET / HTTP/1.1 "),
        line("GET / HTTP/2.0"),
        line(&format!("{} / HTTP/1.1", "M".repeat(33))),
    ]);
}

#[test]
fn hosts_and_targets_without_one_meaning() {
    let host = |fields: &str| (format!("GET / HTTP/1.1\r\n{fields}\r\n"), BAD);
    let target = |target: &str| (format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), BAD);
    all_refused(&[
        host(""),
        host("Host: a\r\nHost: a\r\n"),
        host("Host: a\r\nHost: b\r\n"),
        host("Host: a b\r\n"),
        host("Host: user@a\r\n"),
        host("Host: a/b\r\n"),
        host("Host: a,b\r\n"),
        host("Host: a:65536\r\n"),
        host("Host: a:+80\r\n"),
        host("Host: a:80:80\r\n"),
        host("Host: a:b\r\n"),
        host("Host: [::1\r\n"),
        host("Host: [zz]\r\n"),
        host("Host: http://a\r\n"),
        host("Host: a#b\r\n"),
        target("*"),
        target("a"),
        target("a:80"),
        target("http:///x"),
        target("http://user@a/"),
        target("ftp://a/"),
        target("/%"),
        target("/%2"),
        target("/%zz"),
        target("/%00"),
        target("/%0d%0a"),
        target("/%5c"),
        target("/a\\b"),
        target("/.."),
        target("/../x"),
        target("/%2e%2e/x"),
        target("/a/..%2f../x"),
        target("/a%2f..%2fb"),
        target("/a\x7fb"),
    ]);
    let refused = |line: &str| (format!("{line}\r\nHost: a:80\r\n\r\n"), &[501, 405][..]);
    all_refused(&[
        refused("CONNECT a:80 HTTP/1.1"),
        refused("CONNECT / HTTP/1.1"),
        refused("TRACE / HTTP/1.1"),
    ]);
}

/// One decision each, and matching, log and backend see the same: `(target and host, what the backend
/// sees of both)`.
#[test]
fn targets_and_hosts_in_canonical_form() {
    let backend = echo("v1");
    let proxy = start(&backend);
    for (target, host, seen_target, seen_host) in [
        ("/a/./b/../c", "a", "/a/c", "a"),
        ("/%61%2fb", "a", "/a%2Fb", "a"),
        ("//x", "a", "//x", "a"),
        ("/a;v=1", "a", "/a;v=1", "a"),
        ("/?a=%2e%2e/..", "a", "/?a=%2e%2e/..", "a"),
        ("http://b.example/x", "a", "/x", "b.example"),
        ("http://B.Example:8080", "a", "/", "b.example:8080"),
        ("/", "EXAMPLE.com.", "/", "example.com"),
        ("/", "[::1]:80", "/", "[::1]:80"),
    ] {
        let response = get(proxy.addr("web"), host, target, &[]);
        assert_eq!(response.status, 200, "{target} {host}");
        assert_eq!(response.seen_target(), seen_target, "{target}");
        assert_eq!(
            response.seen("host").as_deref(),
            Some(seen_host),
            "{target} {host}"
        );
    }
    // The asterisk is no path, so no prefix matches it; it is never turned into one.
    let mut client = Client::connect(proxy.addr("web"));
    assert_eq!(
        client.ask("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").status,
        404
    );
    proxy.stop();
}

/// hyper takes a bare line feed as the end of a line, and skips empty lines before the request; what
/// goes out is canonical.
#[test]
fn lenient_line_ends_go_out_canonical() {
    let backend = echo("v1");
    let proxy = start(&backend);
    for bytes in [
        "GET / HTTP/1.1\nHost: a\nX: y\n\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n",
    ] {
        let response = Client::connect(proxy.addr("web")).ask(bytes);
        assert_eq!(response.status, 200, "{bytes:?}");
        assert_eq!(response.seen("x").as_deref(), Some("y"));
        let bare = response.body.matches('\n').count() - response.body.matches("\r\n").count();
        assert_eq!(bare, 0, "{}", response.body);
    }
    proxy.stop();
}

#[test]
fn an_http2_preface_where_http2_is_off() {
    let backend = echo("v1");
    let proxy = Proxy::start(&with_listener(
        &all_to(backend.address),
        "protocols: [http1]",
    ));
    let (status, closed) = outcome(proxy.addr("web"), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(
        matches!(status, 0 | 400 | 505) && closed,
        "{status} {closed}"
    );
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

/// The next request never begins inside a body, whatever the method.
#[test]
fn bodies_on_any_method_and_what_follows_them() {
    let backend = echo("v1");
    let proxy = start(&backend);
    let mut client = Client::connect(proxy.addr("web"));
    for method in ["GET", "DELETE", "OPTIONS", "POST", "PROPFIND"] {
        let inner = "GET /inner HTTP/1.1\r\nHost: a\r\n\r\n";
        let sized = format!(
            "{method} /sized HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{inner}",
            inner.len()
        );
        let chunked = format!(
            "{method} /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n",
            inner.len()
        );
        client.send(&(sized + &chunked + "GET /next HTTP/1.1\r\nHost: a\r\n\r\n"));
        for path in ["/sized", "/chunked", "/next"] {
            let response = client.receive(false).unwrap();
            assert_eq!(
                (response.status, response.seen_target()),
                (200, path),
                "{method}"
            );
            if path != "/next" {
                assert!(
                    response.body.ends_with(&format!("|{inner}")),
                    "{method} {}",
                    response.body
                );
            }
        }
    }
    proxy.stop();
}

#[test]
fn a_body_shorter_than_promised_is_not_a_request() {
    let backend = echo("v1");
    let proxy = start(&backend);
    for head in [
        "Content-Length: 10\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    ] {
        let mut client = Client::connect(proxy.addr("web"));
        client.send(&format!("POST / HTTP/1.1\r\nHost: a\r\n{head}"));
        client.finish();
        let status = client.receive(false).map_or(0, |response| response.status);
        assert!(matches!(status, 0 | 400), "{status} for {head:?}");
    }
    assert_eq!(backend.requests(), 0);
    assert_eq!(get(proxy.addr("web"), "a", "/", &[]).status, 200);
    proxy.stop();
}

#[test]
fn hop_by_hop_fields_stop_here_in_both_directions() {
    let seen = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&seen);
    let backend = scripted(move |request, stream| {
        sink.lock().unwrap().clone_from(&request.head);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nConnection: x-private, content-length\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nX-Public: 1\r\nContent-Length: 2\r\n\r\nok")
            .is_ok()
    });
    let proxy = start(&backend);
    let response = get(
        proxy.addr("web"),
        "a",
        "/",
        &[
            ("Connection", "x-one, X-Two"),
            (
                "Connection",
                "authorization, cookie, host, te, x-forwarded-for, x-request-id, via",
            ),
            ("X-One", "1"),
            ("X-Two", "2"),
            ("Authorization", "Bearer t"),
            ("Cookie", "a=b"),
            ("TE", "gzip, trailers"),
            ("Proxy-Connection", "keep-alive"),
            ("Keep-Alive", "300"),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
        ],
    );
    for gone in ["x-private", "keep-alive", "proxy-connection", "upgrade"] {
        assert_eq!(response.header(gone), None, "{gone}");
    }
    assert_eq!(
        (response.header("x-public"), response.body.as_str()),
        (Some("1"), "ok")
    );
    let head = seen.lock().unwrap().to_lowercase();
    for gone in [
        "x-one",
        "x-two",
        "connection:",
        "keep-alive",
        "upgrade",
        "http2-settings",
        "gzip",
    ] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }
    for kept in [
        "authorization: bearer t\r\n",
        "cookie: a=b\r\n",
        "host: a\r\n",
        "te: trailers\r\n",
        "x-forwarded-for: 127.0.0.1\r\n",
        "x-request-id: ",
        "via: 1.1 weir\r\n",
    ] {
        assert!(head.contains(kept), "{kept} not in {head}");
    }
    proxy.stop();
}

#[test]
fn forged_fields_count_only_from_trusted_proxies() {
    let backend = echo("v1");
    let sent = [
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "outside.example"),
        ("X-Forwarded-Port", "443"),
        ("X-Real-IP", "203.0.113.9"),
        ("X-Forwarded-Client-Cert", "URI=spiffe://a"),
        ("Forwarded", "for=203.0.113.9"),
        ("X-Request-Id", "given"),
        ("X_Forwarded_For", "203.0.113.9"),
        ("X-Forwarded_Proto", "https"),
        ("X-Weir-Backend", "v2"),
        ("X_Weir_Backend", "v2"),
    ];
    let untrusted = start(&backend);
    let response = get(untrusted.addr("web"), "a", "/", &sent);
    for gone in [
        "203.0.113.9",
        "https",
        "outside.example",
        "spiffe",
        "given",
        "X-Weir",
        "x-weir",
        "x_",
    ] {
        assert!(!response.body.contains(gone), "{gone} in {}", response.body);
    }
    assert_eq!(
        response.seen("x-forwarded-for").as_deref(),
        Some("127.0.0.1")
    );
    assert_eq!(response.seen("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(response.seen("x-forwarded-host").as_deref(), Some("a"));
    assert_eq!(response.seen("x-request-id").map(|id| id.len()), Some(32));
    untrusted.stop();
    let trusting = Proxy::start(&with_listener(
        &all_to(backend.address),
        "trustedProxies: [127.0.0.0/8]",
    ));
    let response = get(trusting.addr("web"), "a", "/", &sent);
    for (name, value) in [
        ("x-forwarded-for", "203.0.113.9, 127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "outside.example"),
        ("x-request-id", "given"),
        ("x-forwarded-client-cert", "URI=spiffe://a"),
    ] {
        assert_eq!(response.seen(name).as_deref(), Some(value), "{name}");
    }
    let log = trusting.stop();
    assert!(log.contains("\"client_ip\":\"203.0.113.9\""), "{log}");
}

#[test]
fn loops_and_last_hops() {
    let backend = echo("v1");
    let proxy = start(&backend);
    let web = proxy.addr("web");
    let via = ["1.1 weir"; 11].join(", ");
    let response = get(web, "a", "/", &[("Via", &via)]);
    assert_eq!(response.status, 508);
    let mut client = Client::connect(web);
    let last = client.ask("OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n");
    assert_eq!((last.status, backend.requests()), (200, 0));
    let more = client.ask("OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\n\r\n");
    assert_eq!(more.seen("max-forwards").as_deref(), Some("2"));
    proxy.stop();
}
