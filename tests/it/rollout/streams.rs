//! Streams of a candidate that has lost its traffic: they have a while, and end.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use super::control::post;
use super::{Traffic, owners, reach, weighs};
use crate::support::backend::{Backend, scripted};
use crate::support::client::Client;
use crate::support::http2::{self, block_on};
use crate::support::proxy::Proxy;
use crate::support::{DEADLINE, eventually};

const GRACE: Duration = Duration::from_millis(400);

/// Plain requests, WebSocket at `/chat` and an answer without an end at `/events`.
fn version(name: &'static str, fails: &Arc<AtomicBool>) -> Backend {
    let fails = Arc::clone(fails);
    scripted(move |seen, stream| {
        let answer = if seen.head.starts_with("GET /chat") {
            chat(name, &seen.head, stream.try_clone().unwrap());
            return false;
        } else if seen.head.starts_with("GET /events") {
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
                .to_owned()
        } else {
            let status = if fails.load(Ordering::SeqCst) {
                500
            } else {
                200
            };
            format!("HTTP/1.1 {status} X\r\nx-backend: {name}\r\ncontent-length: 2\r\n\r\nok")
        };
        stream.write_all(answer.as_bytes()).is_ok()
    })
}

/// Answers every message with its name.
fn chat(name: &'static str, head: &str, mut stream: TcpStream) {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let key = lines.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    let accept = derive_accept_key(key.unwrap().1.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).unwrap();
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    while let Ok(message) = socket.read() {
        if message.is_text() && socket.send(Message::text(name)).is_err() {
            return;
        }
    }
}

fn open(web: SocketAddr, user: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect_timeout(&web, DEADLINE).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut request = format!("ws://{web}/chat").into_client_request().unwrap();
    request
        .headers_mut()
        .insert("x-user", user.parse().unwrap());
    tungstenite::client(request, stream).unwrap().0
}

fn says(socket: &mut WebSocket<TcpStream>) -> Option<String> {
    socket.send(Message::text("who")).ok()?;
    match socket.read() {
        Ok(Message::Text(name)) => Some(name.to_string()),
        _ => None,
    }
}

fn config(versions: [SocketAddr; 2], protocol: &str, rollout: &str) -> String {
    let [v1, v2] = versions;
    format!(
        "version: 1\naccessLog: {{ format: json }}\ndrain: {{ delay: 0s, timeout: 1s }}\n\
         listeners: [{{ name: web, address: \"127.0.0.1:0\", protocols: [http1, h2c] }}]\n\
         routes: [{{ name: shop, rules: [{{ name: pay, split: {{ key: {{ header: x-user }}, force: {{ header: x-version }} }}, backendRefs: [{{ name: v1, weight: 100 }}, {{ name: v2, weight: 0 }}] }}] }}]\n\
         backends:\n  - {{ name: v1, protocol: {protocol}, endpoints: [{{ address: \"{v1}\" }}] }}\n  - {{ name: v2, protocol: {protocol}, endpoints: [{{ address: \"{v2}\" }}] }}\n\
         rollouts: [{{ name: pay, rule: shop/pay, stable: v1, candidate: v2, steps: [{{ weight: 50 }}, {{ weight: 100 }}], {rollout} }}]\n"
    )
}

/// A key of each version.
fn keys(web: SocketAddr) -> [String; 2] {
    let owners = owners(web, 50);
    ["v1", "v2"].map(|name| {
        let mut all = owners.iter();
        let (key, _) = all.find(|(_, owner)| *owner == name).unwrap();
        format!("u{key}")
    })
}

/// Until it is cut, and how long that took.
fn end(socket: &mut WebSocket<TcpStream>, began: Instant) -> Duration {
    while says(socket).is_some() {
        std::thread::park_timeout(Duration::from_millis(20));
        assert!(began.elapsed() < DEADLINE, "it goes on");
    }
    began.elapsed()
}

#[test]
fn what_goes_on_with_a_bad_candidate_ends_after_its_grace() {
    let (good, bad) = (Arc::default(), Arc::new(AtomicBool::new(false)));
    let (v1, v2) = (version("v1", &good), version("v2", &bad));
    let policy = format!("onRollback: {{ grace: {}ms }}", GRACE.as_millis());
    let proxy = Proxy::start(&config([v1.address, v2.address], "http1", &policy));
    let web = proxy.addr("web");
    weighs(&proxy, 50.0);
    let [of_stable, of_candidate] = keys(web);
    let mut stays = open(web, &of_stable);
    let mut goes = open(web, &of_candidate);
    assert_eq!(says(&mut stays).as_deref(), Some("v1"));
    assert_eq!(says(&mut goes).as_deref(), Some("v2"));
    let mut events = Client::connect(web);
    events.send(&format!(
        "GET /events HTTP/1.1\r\nHost: a\r\nx-user: {of_candidate}\r\n\r\n"
    ));
    let traffic = Traffic::start(web);
    traffic.more(50);
    assert_eq!(
        says(&mut goes).as_deref(),
        Some("v2"),
        "nothing has happened"
    );
    bad.store(true, Ordering::SeqCst);
    reach(&proxy, "rolledBack");
    let began = Instant::now();
    drop(traffic);
    let took = end(&mut goes, began);
    assert!(took > GRACE / 4 && took < GRACE + DEADLINE / 2, "{took:?}");
    // Who reads an answer that is cut does not take it for a whole one.
    let read = String::from_utf8(events.read_to_close()).unwrap();
    assert!(
        read.contains("data: 1") && !read.contains("\r\n0\r\n"),
        "{read}"
    );
    assert_eq!(says(&mut stays).as_deref(), Some("v1"));
    // Whoever comes again comes to stable.
    let mut again = open(web, &of_candidate);
    assert_eq!(says(&mut again).as_deref(), Some("v1"));
    eventually("the count", || {
        let labels = ["backend=\"v2\"", "reason=\"rollout_guard\""];
        (proxy.metric("weir_errors_total", &labels) >= 2.0).then_some(())
    });
    drop((stays, again));
    let log = proxy.stop();
    let cut: Vec<_> = log
        .lines()
        .filter(|line| line.contains("\"reason\":\"rollout_guard\""))
        .collect();
    assert!(
        cut.iter().any(|line| line.contains("/chat"))
            && cut.iter().any(|line| line.contains("/events")),
        "{cut:?}"
    );
    assert!(cut.iter().all(|line| line.contains("\"v2\"")), "{cut:?}");
}

#[test]
fn streams_that_are_kept_go_on_and_so_do_those_of_testers() {
    let (good, bad) = (Arc::default(), Arc::default());
    let (v1, v2) = (version("v1", &good), version("v2", &bad));
    for (policy, user) in [
        ("onRollback: { streams: keep, grace: 0s }", None),
        ("onRollback: { grace: 0s }", Some("v2")),
    ] {
        let proxy = Proxy::start(&config([v1.address, v2.address], "http1", policy));
        let web = proxy.addr("web");
        weighs(&proxy, 50.0);
        let [_, of_candidate] = keys(web);
        let mut socket = match user {
            None => open(web, &of_candidate),
            Some(version) => {
                let stream = TcpStream::connect_timeout(&web, DEADLINE).unwrap();
                let mut request = format!("ws://{web}/chat").into_client_request().unwrap();
                request
                    .headers_mut()
                    .insert("x-version", version.parse().unwrap());
                tungstenite::client(request, stream).unwrap().0
            }
        };
        let mut control = open(web, &of_candidate);
        assert_eq!(says(&mut socket).as_deref(), Some("v2"));
        assert_eq!(post(&proxy, "/api/v1/rollouts/pay/abort", "").0, 200);
        let began = Instant::now();
        if user.is_some() {
            end(&mut control, began);
        }
        while began.elapsed() < Duration::from_millis(200) {
            assert_eq!(says(&mut socket).as_deref(), Some("v2"), "{policy}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        drop((socket, control));
        proxy.stop();
    }
}

/// A gRPC call that goes on is told to come again; the connection, which serves others too, stays.
#[test]
fn a_call_ends_with_unavailable() {
    let serve = |name: &'static str| {
        http2::serve(move |request: Request<hyper::body::Incoming>| async move {
            if request.uri().path() != "/shop.Pay/Watch" {
                return http2::echo(name, request).await;
            }
            // A message, and no end.
            let first = Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\x02ok")));
            let frames = futures_util::StreamExt::chain(
                futures_util::stream::once(std::future::ready(first)),
                futures_util::stream::pending(),
            );
            Ok(Response::builder()
                .header("content-type", "application/grpc")
                .header("x-backend", name)
                .body(StreamBody::new(frames).boxed())
                .unwrap())
        })
    };
    let (v1, v2) = (serve("v1"), serve("v2"));
    let policy = "onRollback: { grace: 100ms }";
    let proxy = Proxy::start(&config([v1.address, v2.address], "h2c", policy));
    let web = proxy.addr("web");
    weighs(&proxy, 50.0);
    let [of_stable, of_candidate] = keys(web);
    let call = |path: &str, user: &str| {
        Request::post(format!("http://{web}{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-user", user)
            .body(http2::empty())
            .unwrap()
    };
    block_on(async {
        let mut sender = http2::connect(web).await;
        let stays = sender.send_request(call("/shop.Pay/Watch", &of_stable));
        let mut stays = stays.await.unwrap().into_body();
        assert!(stays.frame().await.unwrap().unwrap().is_data());
        let goes = sender.send_request(call("/shop.Pay/Watch", &of_candidate));
        let goes = goes.await.unwrap();
        assert_eq!(goes.headers()["x-backend"], "v2");
        let read = tokio::spawn(goes.into_body().collect());
        assert_eq!(post(&proxy, "/api/v1/rollouts/pay/abort", "").0, 200);
        let read = read.await.unwrap().unwrap();
        let trailers = read.trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "14", "{trailers:?}");
        assert_eq!(trailers["grpc-message"], "the version was rolled back");
        assert_eq!(&read.to_bytes()[..], b"\0\0\0\0\x02ok");
        let again = http2::ask(&mut sender, call("/", &of_candidate)).await;
        assert_eq!(again.unwrap().headers["x-backend"], "v1");
        let more = tokio::time::timeout(Duration::from_millis(200), stays.frame());
        assert!(more.await.is_err(), "stable's goes on");
    });
    let log = proxy.stop();
    let cut = |line: &&str| line.contains("rollout_guard");
    assert_eq!(log.lines().filter(cut).count(), 1, "{log}");
}
