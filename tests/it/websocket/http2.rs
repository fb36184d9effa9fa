//! WebSocket over HTTP/2 (RFC 8441): handshakes that are agreed to, refused, or not understood.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::paths::{BOTH, Side, ask, ask_http2, endpoint, proxy, secure};
use crate::h2::wire::{
    CANCEL, END_HEADERS, HEADERS, RST_STREAM, SETTINGS, Wire, block, data, frame, headers,
};
use crate::support::backend::{echo, raw};
use crate::support::client::get;
use crate::support::http2::{block_on, connect, empty};
use crate::support::pki::{Authority, Files, Leaf};
use crate::support::proxy::{Proxy, all_to, with_listener};
use crate::support::{DEADLINE, eventually, tls};

/// What both sides say of protocols and extensions passes, whatever HTTP they speak.
#[test]
fn handshakes_carry_protocols_and_extensions() {
    for upstream in BOTH {
        let endpoint = endpoint(upstream, true);
        let proxy = proxy(upstream, &endpoint);
        for downstream in BOTH {
            let fields = [
                ("sec-websocket-protocol", "soap, chat"),
                (
                    "sec-websocket-extensions",
                    "permessage-deflate; client_max_window_bits",
                ),
                ("origin", "http://a.example"),
            ];
            let answer = block_on(ask(downstream, proxy.addr("web"), "/x?y=1", &fields));
            let way = format!("{downstream:?} to {upstream:?}");
            assert!(answer.tunnel.is_some(), "{way}: {}", answer.status);
            for (name, value) in [
                ("sec-websocket-protocol", "chat"),
                ("x-saw-sec-websocket-extensions", fields[1].1),
                ("x-saw-sec-websocket-version", "13"),
                ("x-saw-origin", "http://a.example"),
            ] {
                assert_eq!(answer.headers[name], value, "{way}: {name}");
            }
        }
        // The endpoint counts behind its answer.
        eventually("both handshakes", || {
            (endpoint.agreed.load(Ordering::SeqCst) == 2).then_some(())
        });
        let log = proxy.stop();
        let of = |text: &str| log.lines().filter(|line| line.contains(text)).count();
        assert_eq!(
            (
                of("\"status\":101"),
                of("\"status\":200"),
                of("\"method\":\"CONNECT\"")
            ),
            (1, 1, 1),
            "{log}"
        );
    }
}

/// A refusal is an ordinary answer; a success that is no agreement must not look like one.
#[test]
fn refusals_are_answers() {
    let refusing = endpoint(Side::Http2, true);
    let proxy = proxy(Side::Http2, &refusing);
    for downstream in BOTH {
        let answer = block_on(ask(downstream, proxy.addr("web"), "/refused", &[]));
        assert_eq!((answer.status, answer.tunnel.is_some()), (403, false));
    }
    proxy.stop();

    // It answers 200 to what it takes for a GET.
    let plain = echo("v1");
    let proxy = Proxy::start(&all_to(plain.address).replace(
        "rules: [",
        "rules: [{ name: own, matches: [{ path: { value: /own } }], filters: [{ type: DirectResponse, directResponse: { status: 200 } }] }, ",
    ));
    block_on(async {
        let mut sender = connect(proxy.addr("web")).await;
        for path in ["/", "/own"] {
            let answer = ask_http2(&mut sender, path, &[]).await;
            assert_eq!(answer.status, 502, "{path}");
            let why = answer.headers["proxy-status"].to_str().unwrap();
            assert!(why.contains("upgrade_failed"), "{why}");
        }
        // The connection is as good as before.
        let request = http::Request::get("http://a.example/").body(empty());
        let answer = crate::support::http2::ask(&mut sender, request.unwrap()).await;
        assert_eq!(answer.unwrap().status, 200);
    });
    proxy.stop();
}

/// The key is ours there, so the answer to it is ours to check (RFC 6455, 4.1).
#[test]
fn a_wrong_answer_to_the_key_is_none() {
    let wrong = raw(|mut stream, _| {
        use std::io::{Read, Write};
        let mut bytes = [0; 4096];
        if stream.read(&mut bytes).unwrap_or(0) > 0 {
            stream
                .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
                .unwrap();
        }
    });
    let proxy = Proxy::start(&all_to(wrong.address));
    let answer = block_on(ask(Side::Http2, proxy.addr("web"), "/", &[]));
    assert_eq!(answer.status, 502);
    proxy.stop();
}

/// An endpoint of HTTP/2 without extended CONNECT has no tunnel, and nobody waits for one.
#[test]
fn an_endpoint_without_extended_connect_is_told_of() {
    let old = endpoint(Side::Http2, false);
    let proxy = proxy(Side::Http2, &old);
    for downstream in BOTH {
        let answer = block_on(ask(downstream, proxy.addr("web"), "/", &[]));
        assert_eq!(answer.status, 502);
        let why = answer.headers["proxy-status"].to_str().unwrap();
        assert!(why.contains("upgrade_failed"), "{why}");
    }
    // One that never says what it takes is waited for as long as the request may take.
    let silent = raw(|mut stream, _| drop(std::io::copy(&mut stream, &mut std::io::sink())));
    let text = all_to(silent.address)
        .replace("endpoints", "protocol: h2c, endpoints")
        .replace("name: all,", "name: all, timeouts: { request: 300ms },");
    let slow = Proxy::start(&text);
    let answer = block_on(ask(Side::Http2, slow.addr("web"), "/", &[]));
    assert_eq!(answer.status, 504);
    proxy.stop();
    slow.stop();
}

fn connect_fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let fixed = [(":method", "CONNECT"), (":authority", "a.example")];
    let rest = [(":scheme", "http"), (":path", "/")];
    let pseudo = |(name, _): &&(&str, &str)| name.starts_with(':');
    let own: Vec<_> = fields.iter().filter(pseudo).copied().collect();
    let later: Vec<_> = fields.iter().filter(|it| !pseudo(it)).copied().collect();
    let with_path = own.iter().any(|(name, _)| *name == ":protocol");
    let rest = if with_path { &rest[..] } else { &[] };
    block(&[&fixed[..], &own, rest, &later].concat())
}

/// As frames: what is announced, what is refused, and how a tunnel begins and ends.
#[test]
fn frames_of_a_tunnel() {
    let endpoint = endpoint(Side::Http1, true);
    let proxy = proxy(Side::Http1, &endpoint);
    let mut wire = Wire::connect(proxy.addr("web"));
    let settings = wire.until(|frame| frame.kind == SETTINGS).unwrap();
    let allows = settings
        .payload
        .chunks(6)
        .any(|pair| pair == [0, 8, 0, 0, 0, 1]);
    assert!(
        allows,
        "SETTINGS_ENABLE_CONNECT_PROTOCOL: {:?}",
        settings.payload
    );
    for (stream, fields) in [
        (1, &[(":protocol", "connect-udp")][..]),
        (3, &[]),
        (5, &[(":protocol", "h2c")]),
    ] {
        wire.send(&headers(stream, END_HEADERS, &connect_fields(fields)));
        let answer = wire.until(|frame| frame.stream == stream).unwrap();
        assert_eq!((answer.kind, answer.status()), (HEADERS, 501), "{fields:?}");
    }
    let asked = connect_fields(&[(":protocol", "websocket"), ("sec-websocket-version", "13")]);
    wire.send(&headers(7, END_HEADERS, &asked));
    let agreed = wire
        .until(|frame| frame.stream == 7 && frame.kind == HEADERS)
        .unwrap();
    assert_eq!((agreed.status(), agreed.flags & 1), (200, 0));
    // Masked "hi" and a close; the end of the stream follows the endpoint's end.
    wire.send(&data(
        7,
        0,
        &[0x81, 0x82, 0, 0, 0, 0, b'h', b'i', 0x88, 0x80, 0, 0, 0, 0],
    ));
    let mut bytes = Vec::<u8>::new();
    while !wire
        .until(|frame| frame.stream == 7)
        .map(|frame| {
            assert_ne!(frame.kind, RST_STREAM, "{frame:?}");
            bytes.extend(&frame.payload);
            frame.flags & 1 != 0
        })
        .unwrap()
    {}
    assert_eq!(bytes, [0x81, 2, b'h', b'i', 0x88, 0]);
    wire.send(&data(7, 1, b""));
    eventually("the record", || {
        (proxy.metric("weir_response_bytes_total", &["backend=\"v1\""]) > 5.5).then_some(())
    });
    drop(wire);
    proxy.stop();
}

/// Requests and tunnels share a connection; a tunnel outlives what the other streams do.
#[test]
fn tunnels_and_requests_share_a_connection() {
    let endpoint = endpoint(Side::Http2, true);
    let proxy = proxy(Side::Http2, &endpoint);
    block_on(async {
        let mut sender = connect(proxy.addr("web")).await;
        let mut tunnels = Vec::new();
        for _ in 0..10 {
            tunnels.push(ask_http2(&mut sender, "/", &[]).await.tunnel.unwrap());
        }
        for tunnel in &mut tunnels {
            tunnel
                .write_all(&[0x82, 0x81, 0, 0, 0, 0, 7])
                .await
                .unwrap();
        }
        for tunnel in &mut tunnels {
            let mut bytes = [0; 3];
            tunnel.read_exact(&mut bytes).await.unwrap();
            assert_eq!(bytes, [0x82, 1, 7]);
        }
        drop(tunnels);
    });
    let in_flight = || proxy.metric("weir_requests_in_flight", &["backend=\"v1\""]);
    eventually("the end of all tunnels", || {
        (in_flight() < 0.5).then_some(())
    });
    let log = proxy.stop();
    assert_eq!(log.matches("\"method\":\"CONNECT\"").count(), 10, "{log}");
}

/// A drain lets tunnels go on until its time is up.
#[test]
fn a_drain_cuts_tunnels_over_http2_at_its_timeout() {
    let endpoint = endpoint(Side::Http1, true);
    let proxy = Proxy::start(&all_to(endpoint.address).replace("timeout: 5s", "timeout: 1s"));
    let began = block_on(async {
        let mut tunnel = ask(Side::Http2, proxy.addr("web"), "/", &[])
            .await
            .tunnel
            .unwrap();
        tunnel
            .write_all(&[0x82, 0x81, 0, 0, 0, 0, 7])
            .await
            .unwrap();
        let mut bytes = [0; 3];
        tunnel.read_exact(&mut bytes).await.unwrap();
        proxy.signal("TERM");
        let began = Instant::now();
        let end = tunnel.read(&mut bytes).await;
        assert!(!matches!(end, Ok(1..)), "{end:?}");
        began
    });
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(800) && took < Duration::from_secs(5),
        "{took:?}"
    );
    proxy.wait();
}

/// A client that does not read what comes for it is cut off, and only its tunnel.
#[test]
fn a_tunnel_that_is_not_read_is_cut() {
    let endpoint = endpoint(Side::Http1, true);
    let text = with_listener(&all_to(endpoint.address), "timeouts: { write: 1s }");
    let proxy = Proxy::start(&text);
    let mut wire = Wire::connect(proxy.addr("web"));
    // What the proxy takes of a stream is larger than the default once that is acknowledged.
    wire.send(&frame(SETTINGS, 1, 0, &[]));
    let asked = connect_fields(&[(":protocol", "websocket"), ("sec-websocket-version", "13")]);
    wire.send(&headers(1, END_HEADERS, &asked));
    wire.until(|frame| frame.stream == 1 && frame.kind == HEADERS)
        .unwrap();
    // Back comes more than the window of 65,535 bytes, which is never opened, and some buffers take.
    let mut message = vec![0x82, 0xff, 0, 0, 0, 0, 0, 3, 0x0d, 0x40, 0, 0, 0, 0];
    message.resize(message.len() + 200_000, 0);
    for part in message.chunks(16_000) {
        wire.send(&data(1, 0, part));
    }
    let began = Instant::now();
    eventually("the cut", || {
        let cut = proxy.metric("weir_errors_total", &["reason=\"timeout_after_headers\""]);
        (cut > 0.5).then_some(())
    });
    assert!(began.elapsed() < DEADLINE / 2);
    let cut = wire.until(|frame| frame.stream == 1 && frame.kind == RST_STREAM);
    assert_eq!(cut.unwrap().error(), CANCEL);
    // The connection lives.
    wire.send(&headers(
        3,
        5,
        &block(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/"),
        ]),
    ));
    let answer = wire
        .until(|frame| frame.stream == 3 && frame.kind == HEADERS)
        .unwrap();
    assert_ne!(
        answer.status(),
        200,
        "the endpoint closes what is no handshake"
    );
    drop(wire);
    proxy.stop();
}

/// Where the endpoint chooses the version, a tunnel takes HTTP/1.1, or a connection of HTTP/2 that is
/// there and known to allow it.
#[test]
fn endpoints_over_tls() {
    let (files, ca) = (Files::new(), Authority::new("test authority"));
    files.put("ca.crt", &ca.pem);
    let pair = ca.issue(&Leaf::server(&["127.0.0.1"]));
    let ca = files.at("ca.crt").display().to_string();
    for (protocol, alpn, warm, over) in [
        ("http1", &["h2", "http/1.1"][..], false, "http1"),
        ("h2c", &["h2", "http/1.1"], false, "http2"),
        ("auto", &["h2", "http/1.1"], false, "http1"),
        ("auto", &["h2", "http/1.1"], true, "http2"),
        ("auto", &["http/1.1"], false, "http1"),
    ] {
        let endpoint = secure(tls::server(&pair, None, alpn));
        let fields = format!("protocol: {protocol}, tls: {{ ca: \"{ca}\" }}, endpoints");
        let text = all_to(endpoint.address).replace("endpoints", &fields);
        let proxy = Proxy::start_with(&text, &["--workers", "1"]);
        let web = proxy.addr("web");
        if warm {
            assert_eq!(get(web, "a.example", "/", &[]).status, 400);
        }
        for downstream in BOTH {
            let way = format!("{downstream:?}, {protocol} with {alpn:?}, warm: {warm}");
            block_on(async {
                let answer = ask(downstream, web, "/", &[]).await;
                let mut tunnel = answer.tunnel.unwrap_or_else(|| panic!("{way}"));
                assert_eq!(answer.headers["x-over"], over, "{way}");
                let ping = [0x82, 0x81, 0, 0, 0, 0, 7];
                tunnel.write_all(&ping).await.unwrap();
                let mut bytes = [0; 3];
                tunnel.read_exact(&mut bytes).await.unwrap();
                assert_eq!(bytes, [0x82, 1, 7], "{way}");
            });
        }
        proxy.stop();
    }
}
