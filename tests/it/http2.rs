//! HTTP/2 from clients and to endpoints, in every combination with HTTP/1.1.

use std::io::Read;
use std::sync::mpsc;

use http::{Request, Version};

use crate::support::DEADLINE;
use crate::support::backend::{echo, raw, scripted};
use crate::support::client::{Client, get};
use crate::support::http2::{self, ask, block_on, connect, empty, with_trailer};
use crate::support::proxy::{Proxy, all_to, with_listener};

fn h2c(backend: std::net::SocketAddr) -> String {
    all_to(backend).replace(
        "{ name: v1, endpoints",
        "{ name: v1, protocol: h2c, endpoints",
    )
}

fn to(path: &str) -> http::request::Builder {
    Request::builder()
        .version(Version::HTTP_2)
        .uri(format!("http://a.example{path}"))
}

#[test]
fn one_port_speaks_both_versions() {
    let backend = echo("v1");
    let proxy = Proxy::start(&all_to(backend.address));
    let web = proxy.addr("web");
    block_on(async {
        let mut sender = connect(web).await;
        for _ in 0..3 {
            let answer = ask(&mut sender, to("/x?q=1").body(empty()).unwrap())
                .await
                .unwrap();
            assert_eq!(answer.status, 200);
            assert!(
                answer.body.starts_with("GET /x?q=1 HTTP/1.1\r\n"),
                "{}",
                answer.body
            );
            assert!(
                answer.body.contains("host: a.example\r\n")
                    && answer.body.contains("via: 2.0 weir\r\n"),
                "{}",
                answer.body
            );
            assert_eq!(answer.headers.get("connection"), None);
        }
        let none = ask(
            &mut sender,
            to("/x")
                .header("content-length", "0")
                .body(empty())
                .unwrap(),
        )
        .await;
        assert_eq!(none.unwrap().status, 200);
    });
    assert_eq!(get(web, "a", "/", &[]).status, 200);
    let counted = proxy.metric("weir_requests_total", &["protocol=\"http2\""]);
    assert!((counted - 4.0).abs() < 0.5, "{counted}");
    proxy.stop();
}

#[test]
fn httproute_backend_protocol_h2c() {
    let backend = http2::backend("v1");
    let proxy = Proxy::start_with(&h2c(backend.address), &["--workers", "1"]);
    let web = proxy.addr("web");
    let response = get(web, "a.example", "/one?q=1", &[]);
    assert_eq!((response.status, response.who().as_str()), (200, "v1"));
    assert!(
        response
            .body
            .starts_with("GET http://a.example/one?q=1 HTTP/2.0\r\n"),
        "{}",
        response.body
    );
    let mut client = Client::connect(web);
    let posted = client.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert!(posted.body.contains("|hello|"), "{}", posted.body);
    block_on(async {
        let mut sender = connect(web).await;
        let all = (0..50).map(|n| {
            let mut sender = sender.clone();
            tokio::spawn(async move {
                ask(&mut sender, to(&format!("/{n}")).body(empty()).unwrap()).await
            })
        });
        for task in all.collect::<Vec<_>>() {
            assert_eq!(task.await.unwrap().unwrap().status, 200);
        }
        let last = ask(&mut sender, to("/last").body(empty()).unwrap()).await;
        assert_eq!(last.unwrap().status, 200);
    });
    let made = backend
        .connections
        .load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(made, 1, "one connection carries all streams");
    proxy.stop();
}

/// From HTTP/2 to HTTP/2 and to HTTP/1.1, and back.
#[test]
fn trailers_pass_in_both_directions() {
    let old = scripted(|seen, stream| {
        use std::io::Write;
        let saw = seen.head.contains("x-sum: 7");
        let answer = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-end\r\n\r\n5\r\n{saw:5}\r\n0\r\nx-end: 9\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).is_ok()
    });
    let new = http2::backend("v1");
    for (config, word) in [
        (all_to(old.address), "true"),
        (h2c(new.address), "Some(Some(\"7\"))"),
    ] {
        let proxy = Proxy::start(&config);
        block_on(async {
            let mut sender = connect(proxy.addr("web")).await;
            let request = to("/")
                .method("POST")
                .header("te", "trailers")
                .header("trailer", "x-sum");
            let answer = ask(&mut sender, request.body(with_trailer("abc")).unwrap())
                .await
                .unwrap();
            assert!(answer.body.contains(word), "{}", answer.body);
            assert_eq!(answer.trailers.unwrap()["x-end"], "9", "{word}");
        });
        let mut client = Client::connect(proxy.addr("web"));
        let answer = client.ask("POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n");
        assert!(answer.body.contains(word), "{}", answer.body);
        assert_eq!(answer.header("x-end"), Some("9"), "{word}");
        proxy.stop();
    }
}

/// What one version allows must not become something else in the other.
#[test]
fn heads_are_checked_on_the_way_down() {
    let backend = echo("v1");
    let proxy = Proxy::start(&with_listener(
        &all_to(backend.address),
        "limits: { headerCount: 30, targetBytes: 1KiB, bodyBytes: 1KiB }",
    ));
    block_on(async {
        let mut sender = connect(proxy.addr("web")).await;
        let many = (0..40).fold(to("/"), |request, n| request.header(format!("x-{n}"), "y"));
        let cases = [
            (to("/").header("host", "other.example"), 400),
            (to("/").header("host", "A.example"), 200),
            (to("/").header("content-length", "5"), 400),
            (to("/%00"), 400),
            (to("/..%2f../x"), 400),
            (to("/").method("TRACE"), 501),
            (to("/").header("expect", "magic"), 417),
            (to("/").header("content-length", "5000"), 413),
            (to(&format!("/{}", "x".repeat(2000))), 414),
            (many, 431),
            (
                to("/")
                    .header("x-forwarded-for", "6.6.6.6")
                    .header("x-weir-x", "1"),
                200,
            ),
        ];
        for (request, status) in cases {
            let shown = format!("{request:?}");
            match ask(&mut sender, request.body(empty()).unwrap()).await {
                Ok(answer) => {
                    assert_eq!(answer.status, status, "{shown}");
                    assert!(
                        !answer.body.contains("6.6.6.6") && !answer.body.contains("x-weir"),
                        "{}",
                        answer.body
                    );
                }
                // A stream reset refuses too.
                Err(error) => assert_ne!(status, 200, "{shown}: {error}"),
            }
        }
        let cookies = to("/").header("cookie", "a=1").header("cookie", "b=2");
        let answer = ask(&mut sender, cookies.body(empty()).unwrap())
            .await
            .unwrap();
        assert!(
            answer.body.contains("cookie: a=1; b=2\r\n"),
            "{}",
            answer.body
        );
    });
    proxy.stop();
}

/// Our own answers to gRPC are trailers-only, whatever the version.
#[test]
fn grpc_errors_are_trailers_only() {
    let proxy = Proxy::start(&all_to("127.0.0.1:1".parse().unwrap()).replace(
        "name: all,",
        "name: all, matches: [{ path: { value: /known } }],",
    ));
    block_on(async {
        let mut sender = connect(proxy.addr("web")).await;
        for (path, status) in [("/unknown/M", "12"), ("/known/M", "14")] {
            let request = to(path)
                .method("POST")
                .header("content-type", "application/grpc+proto")
                .header("te", "trailers");
            let answer = ask(&mut sender, request.body(empty()).unwrap())
                .await
                .unwrap();
            assert_eq!(
                (answer.status.as_u16(), answer.body.as_str()),
                (200, ""),
                "{path}"
            );
            assert_eq!(answer.headers["grpc-status"], status, "{path}");
            assert_eq!(answer.headers["content-type"], "application/grpc");
        }
    });
    proxy.stop();
}

/// A cut body is a reset stream; the connection lives on.
#[test]
fn a_cut_body_resets_its_stream_only() {
    let backend = scripted(|seen, stream| {
        use std::io::Write;
        let length = if seen.head.contains("/cut") { 10 } else { 5 };
        stream
            .write_all(
                format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\nhello").as_bytes(),
            )
            .is_ok()
            && length == 5
    });
    let proxy = Proxy::start(&all_to(backend.address));
    block_on(async {
        let mut sender = connect(proxy.addr("web")).await;
        assert!(
            ask(&mut sender, to("/cut").body(empty()).unwrap())
                .await
                .is_err()
        );
        assert_eq!(
            ask(&mut sender, to("/").body(empty()).unwrap())
                .await
                .unwrap()
                .body,
            "hello"
        );
    });
    proxy.stop();
}

/// A client that stops in the middle of its body, whatever it says by that, has not sent all of it: the endpoint
/// must not take it for the whole (RFC 9113, 8.1).
#[test]
fn half_an_upload_never_looks_whole() {
    let (ended, ends) = mpsc::channel();
    let backend = raw(move |mut stream, _| {
        let mut all = Vec::new();
        while !all.ends_with(b"hello") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            all.push(byte[0]);
        }
        drop(ended.send(String::new()));
        // A reset is an end too.
        drop(stream.read_to_end(&mut all));
        drop(ended.send(String::from_utf8_lossy(&all).into_owned()));
    });
    let proxy = Proxy::start(&all_to(backend.address));
    for reason in [h2::Reason::NO_ERROR, h2::Reason::CANCEL] {
        block_on(async {
            let stream = tokio::net::TcpStream::connect(proxy.addr("web"))
                .await
                .unwrap();
            let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
            let driven = tokio::spawn(connection);
            let request = to("/").method("POST").body(()).unwrap();
            let (answer, mut body) = sender.send_request(request, false).unwrap();
            body.send_data("hello".into(), false).unwrap();
            while ends.try_recv().is_err() {
                tokio::task::yield_now().await;
            }
            body.send_reset(reason);
            drop((answer, body, sender));
            drop(driven.await);
        });
        let seen = ends.recv_timeout(DEADLINE).unwrap();
        assert!(seen.starts_with("POST / HTTP/1.1\r\n"), "{seen}");
        assert!(!seen.ends_with("0\r\n\r\n"), "{reason}: {seen}");
    }
    proxy.stop();
}

/// RFC 9110, 9.3.2: an answer to HEAD tells the length that GET would get, and has no body. It is dated.
#[test]
fn answers_to_head_have_no_body() {
    let answer = "{ type: DirectResponse, directResponse: { status: 200, body: hello } }";
    let proxy = Proxy::start(&format!(
        "version: 1
admin: {{ address: 127.0.0.1:0 }}
listeners: [{{ name: web, address: 127.0.0.1:0 }}]
routes: [{{ name: all, rules: [{{ name: all, filters: [{answer}] }}] }}]
"
    ));
    block_on(async {
        let mut sender = connect(proxy.addr("web")).await;
        for (method, body) in [("GET", "hello"), ("HEAD", "")] {
            let request = to("/").method(method).body(empty()).unwrap();
            let answer = ask(&mut sender, request).await.unwrap();
            assert_eq!(answer.body, body, "{method}");
            assert_eq!(answer.headers["content-length"], "5", "{method}");
            assert_eq!(answer.headers["date"].len(), 29, "{method}");
        }
    });
    proxy.stop();
}

/// RFC 9113, 8.5: a CONNECT has no content. Whoever sends one loses that stream, and nobody else's.
#[test]
fn a_connect_that_promises_a_body_resets_its_stream_only() {
    let backend = echo("v1");
    let proxy = Proxy::start(&all_to(backend.address));
    let web = proxy.addr("web");
    block_on(async {
        let stream = tokio::net::TcpStream::connect(web).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        let ask = |request: http::request::Builder| request.body(()).unwrap();
        let (waits, _body) = {
            let upload = ask(to("/upload").method("POST"));
            sender.send_request(upload, false).unwrap()
        };
        let mut sender = sender.ready().await.unwrap();
        let connect = Request::builder()
            .method("CONNECT")
            .uri("a.example:80")
            .header("content-length", "3");
        let (refused, _) = sender.send_request(ask(connect), false).unwrap();
        let error = refused.await.unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::PROTOCOL_ERROR), "{error}");
        let mut sender = sender.ready().await.unwrap();
        let (served, _) = sender.send_request(ask(to("/")), true).unwrap();
        assert_eq!(served.await.unwrap().status(), 200);
        drop(waits);
    });
    proxy.stop();
}
