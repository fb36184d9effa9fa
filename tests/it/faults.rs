//! Endpoints that fail in time: storms, blackholes, races. What they may say wrong is in `raw`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::support::backend::{Backend, echo, scripted};
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::proxy::{Proxy, all_to, config};

/// Informational answers without end, and no deadline: they have a bound of their own.
#[test]
fn a_storm_of_informational_answers_has_a_bound() {
    let backend = scripted(|_, stream| {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(10) {
            if stream
                .write_all(b"HTTP/1.1 102 Processing\r\n\r\n")
                .is_err()
            {
                return false;
            }
        }
        false
    });
    let proxy = Proxy::start(&all_to(backend.address));
    let mut client = Client::connect(proxy.addr("web"));
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.receive_final(false).unwrap().unwrap();
    assert_eq!(response.status, 502, "{response:?}");
    let why = response.header("proxy-status").unwrap();
    // Had the storm ended by itself, it would be `upstream_reset`.
    assert!(why.contains("upstream_invalid"), "{why}");
    proxy.stop();
}

/// A listening socket whose queue is full lets no handshake end.
#[test]
fn a_blackhole_gets_503_at_the_connect_timeout() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut fill = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        fill.push(stream);
        assert!(fill.len() < 64, "the queue never fills");
    }
    let text = config(
        "  - { name: r, rules: [{ backendRefs: [{ name: v1 }] }] }\n",
        &[],
    ) + &format!(
        "  - {{ name: v1, connectTimeout: 400ms, endpoints: [{{ address: \"{address}\" }}] }}\n"
    );
    let proxy = Proxy::start(&text);
    let began = Instant::now();
    let response = get(proxy.addr("web"), "a", "/", &[]);
    assert_eq!(response.status, 503, "{response:?}");
    assert!(
        response
            .header("proxy-status")
            .unwrap()
            .contains("connect_timeout"),
        "{response:?}"
    );
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(350) && took < Duration::from_secs(3),
        "{took:?}"
    );
    assert_eq!(response.header("retry-after"), Some("1"));
    proxy.stop();
}

/// Reads a head, answers 403 and leaves the body where it is; then reads until the proxy closes.
fn answers_early() -> Backend {
    crate::support::backend::raw(|mut stream, counter| {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte).unwrap_or(0) == 0 {
                return;
            }
            head.push(byte[0]);
        }
        counter.fetch_add(1, Ordering::SeqCst);
        stream
            .write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")
            .unwrap();
        drop(stream.read_to_end(&mut Vec::new()));
    })
}

/// The answer comes while the upload is going on: it is delivered, and the endpoint's connection is
/// not used for the next request, which would begin inside the body.
#[test]
fn an_early_answer_is_delivered() {
    let backend = answers_early();
    let proxy = Proxy::start_with(&all_to(backend.address), &["--workers", "1"]);
    let web = proxy.addr("web");
    for _ in 0..2 {
        let mut client = Client::connect(web);
        client.send("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\nstart");
        let response = client.receive(false).unwrap();
        assert_eq!((response.status, response.body.as_str()), (403, "no"));
    }
    assert_eq!(get(web, "a", "/next", &[]).status, 403);
    assert_eq!(backend.requests(), 3, "one head for each request");
    proxy.stop();
}

/// Nobody reads the rest of the upload, so it is drained for a short time only, and the connection
/// closed: a client must not hold an upload open, and with it a connection to the endpoint.
#[test]
fn an_early_answer_ends_the_upload() {
    let backend = answers_early();
    let proxy = Proxy::start_with(&all_to(backend.address), &["--workers", "1"]);
    let mut client = Client::connect(proxy.addr("web"));
    client.send("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\nstart");
    assert_eq!(client.receive(false).unwrap().status, 403);
    let began = Instant::now();
    while client.try_send("more") && began.elapsed() < Duration::from_secs(5) {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "still open {:?} after the answer",
        began.elapsed()
    );
    // A client that has stopped sending is not waited for either.
    let mut silent = Client::connect(proxy.addr("web"));
    silent.send("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\nstart");
    assert_eq!(silent.receive(false).unwrap().status, 403);
    let began = Instant::now();
    assert!(silent.is_closed() && began.elapsed() < Duration::from_secs(4));
    proxy.stop();
}

#[test]
fn expectations_are_answered_early_or_late() {
    let backend = crate::support::backend::raw(|mut stream, counter| {
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).unwrap_or(0);
        let head = String::from_utf8_lossy(&bytes[..count]).into_owned();
        counter.fetch_add(1, Ordering::SeqCst);
        assert!(
            count == 0 || head.contains("expect: 100-continue"),
            "{head}"
        );
        drop(stream.write_all(
            b"HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        ));
    });
    let proxy = Proxy::start(&all_to(backend.address));
    let mut client = Client::connect(proxy.addr("web"));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let mut response = client.receive(false).unwrap();
    if response.status == 100 {
        client.try_send("hello");
        response = client.receive(false).unwrap();
    }
    assert_eq!(response.status, 417);
    proxy.stop();
    // An HTTP/1.0 client gets no 1xx (RFC 9110, 15.2).
    let backend = echo("v1");
    let proxy = Proxy::start(&all_to(backend.address));
    let mut client = Client::connect(proxy.addr("web"));
    let old = client.ask(
        "POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    );
    assert_eq!(old.status, 200);
    proxy.stop();
}

/// No chunks for HTTP/1.0, and the connection ends unless it was asked to stay.
#[test]
fn http_1_0_clients() {
    let backend = scripted(|_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
            .is_ok()
    });
    let proxy = Proxy::start(&all_to(backend.address));
    for host in ["Host: a\r\n", ""] {
        let mut client = Client::connect(proxy.addr("web"));
        let response = client.ask(&format!("GET / HTTP/1.0\r\n{host}\r\n"));
        assert_eq!(
            (response.status, response.body.as_str()),
            (200, "ok"),
            "{host:?}"
        );
        assert_eq!(response.header("transfer-encoding"), None);
        assert!(client.is_closed());
    }
    proxy.stop();
}

/// The less busy of two: with one endpoint stuck, everything goes to the other.
#[test]
fn least_request_avoids_the_stuck_endpoint() {
    let stuck = scripted(|_, stream| {
        // Until the proxy ends.
        drop(stream.read(&mut [0]));
        false
    });
    let quick = echo("quick");
    let text = config(
        "  - { name: r, rules: [{ backendRefs: [{ name: v1 }] }] }\n",
        &[],
    ) + &format!(
        "  - {{ name: v1, loadBalancing: {{ policy: leastRequest }}, endpoints: [{{ address: \"{}\" }}, {{ address: \"{}\" }}] }}\n",
        stuck.address, quick.address
    );
    let proxy = Proxy::start(&text);
    let web = proxy.addr("web");
    // The client has an answer a moment before it is counted down.
    let only_the_stuck_are_in_flight = || {
        let in_flight = || proxy.metric("weir_requests_in_flight", &["backend=\"v1\""]);
        eventually("the end of all others", || {
            (in_flight() < stuck.requests() as f64 + 0.5).then_some(())
        });
    };
    // Until one request hangs there, both are equally busy.
    let mut hanging = Vec::new();
    while stuck.requests() == 0 {
        assert!(hanging.len() < 64, "never chosen");
        let mut client = Client::connect(web);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        hanging.push(client);
        eventually("the request at an endpoint", || {
            (stuck.requests() + quick.requests() == hanging.len() as u64).then_some(())
        });
        only_the_stuck_are_in_flight();
    }
    for _ in 0..50 {
        assert_eq!(get(web, "a", "/", &[]).who(), "quick");
        only_the_stuck_are_in_flight();
    }
    assert_eq!(stuck.requests(), 1);
    drop(proxy);
}
