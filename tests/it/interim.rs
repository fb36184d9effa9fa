//! Informational answers of endpoints (RFC 9110, 15.2): who gets them, when, and how many.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};

use crate::support::backend::{Backend, raw, scripted};
use crate::support::client::Client;
use crate::support::proxy::{Proxy, all_to, config};
use crate::support::{http2, serve_each};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// An endpoint that says all of this, and then waits for its cue before it answers.
fn hints(interims: &'static str) -> (Backend, mpsc::Sender<()>) {
    let (cue, cues) = mpsc::channel();
    let cues = Mutex::new(cues);
    let backend = scripted(move |_, stream| {
        stream.write_all(interims.as_bytes()).unwrap();
        let cues = cues.lock().unwrap();
        cues.recv_timeout(Duration::from_secs(10)).unwrap();
        stream.write_all(OK).is_ok()
    });
    (backend, cue)
}

#[test]
fn hints_come_before_the_answer_is_there() {
    let (backend, cue) = hints(
        "HTTP/1.1 100 Continue\r\n\r\n\
         HTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b.js>\r\n\
         Connection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 5\r\n\r\n",
    );
    let proxy = Proxy::start(&all_to(backend.address));
    let mut client = Client::connect(proxy.addr("web"));
    for _ in 0..2 {
        client.send(GET);
        let processing = client.receive(false).unwrap();
        assert_eq!((processing.status, processing.headers.len()), (102, 0));
        let hints = client.receive(false).unwrap();
        assert_eq!(hints.status, 103);
        assert_eq!(hints.headers("link"), ["</a.css>; rel=preload", "</b.js>"]);
        assert_eq!(hints.headers.len(), 2, "{hints:?}");
        cue.send(()).unwrap();
        let answer = client.receive(false).unwrap();
        assert_eq!((answer.status, &*answer.body), (200, "ok"));
    }
    assert_eq!(backend.connections(), 1);
    proxy.stop();
}

/// What a rule takes away from answers, hints do not have either.
#[test]
fn hints_pass_the_filters_of_answers() {
    let (backend, cue) = hints("HTTP/1.1 103 Early Hints\r\nlink: a\r\nx-secret: 1\r\n\r\n");
    let rule = "  - name: r\n    rules:\n      - backendRefs: [{ name: v1 }]\n        filters: \
                [{ type: ResponseHeaderModifier, responseHeaderModifier: { remove: [x-secret] } }]\n";
    let proxy = Proxy::start(&config(rule, &[("v1", backend.address)]));
    let mut client = Client::connect(proxy.addr("web"));
    client.send(GET);
    let hints = client.receive(false).unwrap();
    assert_eq!(hints.headers, [("link".to_owned(), "a".to_owned())]);
    cue.send(()).unwrap();
    assert_eq!(client.receive(false).unwrap().status, 200);
    proxy.stop();
}

/// Hints also come while the body is still on its way.
#[test]
fn hints_cross_an_upload() {
    let backend = raw(|mut stream, requests| {
        let mut head = Vec::new();
        while !head.ends_with(b"hel") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream
            .write_all(b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n")
            .unwrap();
        stream.read_exact(&mut [0; 2]).unwrap();
        requests.fetch_add(1, Ordering::SeqCst);
        stream.write_all(OK).unwrap();
    });
    let proxy = Proxy::start(&all_to(backend.address));
    let mut client = Client::connect(proxy.addr("web"));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
    assert_eq!(client.receive(false).unwrap().status, 103);
    client.send("lo");
    assert_eq!(client.receive(false).unwrap().status, 200);
    proxy.stop();
}

/// HTTP/1.0 has none (RFC 9110, 15.2).
#[test]
fn an_old_client_gets_no_hints() {
    let backend = scripted(|_, stream| {
        let hints = b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n";
        stream.write_all(&[hints, OK].concat()).is_ok()
    });
    let proxy = Proxy::start(&all_to(backend.address));
    let mut client = Client::connect(proxy.addr("web"));
    let kept = "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(client.ask(GET).status, 103);
    assert_eq!(client.receive(false).unwrap().status, 200);
    // Nor does the next request get those of an old one.
    assert_eq!(client.ask(kept).status, 200);
    client.send(GET);
    let answer = client.receive_final(false).unwrap().unwrap();
    assert_eq!(answer.body, "ok");
    proxy.stop();
}

/// More than a hundred are not told; an endpoint that has no end of them gives no answer.
#[test]
fn hints_without_end_are_cut() {
    let backend = scripted(|seen, stream| {
        let count = if seen.head.contains("/many") {
            101
        } else {
            20_000
        };
        let hints = b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n".repeat(count);
        stream.write_all(&[&hints, OK].concat()).is_ok()
    });
    let proxy = Proxy::start(&all_to(backend.address));
    let mut client = Client::connect(proxy.addr("web"));
    for (path, status) in [("/many", 200), ("/endless", 502), ("/many", 200)] {
        client.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        for _ in 0..100 {
            assert_eq!(client.receive(false).unwrap().status, 103);
        }
        let last = client.receive(false).unwrap();
        assert_eq!(last.status, status, "{path}");
    }
    proxy.stop();
}

/// A client that does not read costs a bound of memory, and gets its answer.
#[test]
fn hints_that_nobody_takes_are_not_kept() {
    let backend = scripted(|_, stream| {
        let hint = format!(
            "HTTP/1.1 103 Early Hints\r\nlink: {}\r\n\r\n",
            "x".repeat(5000)
        );
        for _ in 0..100 {
            stream.write_all(hint.as_bytes()).unwrap();
        }
        stream.write_all(OK).is_ok()
    });
    let proxy = Proxy::start(&all_to(backend.address));
    let mut client = Client::connect(proxy.addr("web"));
    const REQUESTS: usize = 30;
    client.send(&GET.repeat(REQUESTS));
    for _ in 0..REQUESTS {
        assert_eq!(client.receive_final(false).unwrap().unwrap().body, "ok");
    }
    proxy.stop();
}

/// An endpoint of HTTP/2 that says `interims` times that there is more to come.
fn endpoint_of_http2(interims: usize) -> std::net::SocketAddr {
    serve_each(move |stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            for _ in 0..interims {
                let hints = Response::builder()
                    .status(StatusCode::EARLY_HINTS)
                    .header("link", "a");
                respond.send_informational(hints.body(()).unwrap()).unwrap();
            }
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            body.send_data(Bytes::from_static(b"ok"), true).unwrap();
        }
    })
}

#[test]
fn hints_of_http2() {
    for (interims, status) in [(0, 200), (1, 200), (100, 200), (101, 200)] {
        let h2c =
            all_to(endpoint_of_http2(interims)).replace("endpoints:", "protocol: h2c, endpoints:");
        let proxy = Proxy::start(&h2c);
        let mut client = Client::connect(proxy.addr("web"));
        client.send(GET);
        for _ in 0..interims.min(100) {
            let hints = client.receive(false).unwrap();
            assert_eq!((hints.status, hints.header("link")), (103, Some("a")));
        }
        let answer = client.receive(false).unwrap();
        assert_eq!(answer.status, status, "{interims}: {answer:?}");
        proxy.stop();
    }
}

/// Informational answers that a client of HTTP/2 gets before the final one.
async fn asked_over_http2(web: std::net::SocketAddr, times: usize) -> Vec<(usize, u16)> {
    let stream = tokio::net::TcpStream::connect(web).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let mut seen = Vec::new();
    for _ in 0..times {
        let request = http::Request::get(format!("http://{web}/"))
            .body(())
            .unwrap();
        sender = sender.ready().await.unwrap();
        let (mut answer, _) = sender.send_request(request, true).unwrap();
        let mut hints = 0;
        while let Some(hint) = poll_fn(|cx| answer.poll_informational(cx)).await {
            let hint = hint.unwrap();
            assert_eq!(
                (hint.status(), &hint.headers()["link"]),
                (StatusCode::EARLY_HINTS, &"a".parse().unwrap())
            );
            assert_eq!(hint.headers().len(), 1);
            hints += 1;
        }
        seen.push((hints, answer.await.unwrap().status().as_u16()));
    }
    seen
}

#[test]
fn hints_for_a_client_of_http2() {
    let backend = scripted(|_, stream| {
        let hints = b"HTTP/1.1 103 Early Hints\r\nlink: a\r\nconnection: close\r\n\r\n".repeat(3);
        stream.write_all(&[&hints, OK].concat()).is_ok()
    });
    let proxy = Proxy::start(&all_to(backend.address));
    let seen = http2::block_on(asked_over_http2(proxy.addr("web"), 2));
    assert_eq!(seen, [(3, 200), (3, 200)]);
    proxy.stop();
    let h2c = all_to(endpoint_of_http2(2)).replace("endpoints:", "protocol: h2c, endpoints:");
    let proxy = Proxy::start(&h2c);
    let seen = http2::block_on(asked_over_http2(proxy.addr("web"), 2));
    assert_eq!(seen, [(2, 200), (2, 200)]);
    proxy.stop();
}

/// A client of HTTP/2 that waits for 100 gets the endpoint's (RFC 9110, 10.1.1); one that does not, does not.
#[test]
fn who_waits_for_continue_gets_it() {
    let backend = raw(|mut stream, _| {
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(OK).unwrap();
    });
    let proxy = Proxy::start(&all_to(backend.address));
    let web = proxy.addr("web");
    http2::block_on(async {
        let stream = tokio::net::TcpStream::connect(web).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        for waits in [true, false] {
            let mut request = http::Request::post(format!("http://{web}/"));
            request = request.header("content-length", "5");
            if waits {
                request = request.header("expect", "100-continue");
            }
            sender = sender.ready().await.unwrap();
            let request = request.body(()).unwrap();
            let (mut answer, mut body) = sender.send_request(request, false).unwrap();
            if waits {
                let interim = poll_fn(|cx| answer.poll_informational(cx)).await;
                assert_eq!(interim.unwrap().unwrap().status(), StatusCode::CONTINUE);
            }
            body.send_data(Bytes::from_static(b"hello"), true).unwrap();
            assert!(poll_fn(|cx| answer.poll_informational(cx)).await.is_none());
            assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
        }
    });
    proxy.stop();
}
