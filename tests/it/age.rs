//! Connections of clients that become too old: asked to end, then cut, and nothing lost before.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::h2::wire::{
    BOTH, DATA, END_STREAM, GOAWAY, HEADERS, NO_ERROR, PING, SETTINGS, Wire, frame, get, headers,
};
use crate::support::backend::{Backend, echo, scripted};
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::http2::block_on;
use crate::support::proxy::{Proxy, all_to, with_listener};
use crate::websocket::paths::{self, Side};

const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn proxy(backend: std::net::SocketAddr, fields: &str) -> Proxy {
    let fields = format!("timeouts: {{ maxConnectionAge: {fields} }}");
    Proxy::start(&with_listener(&all_to(backend), &fields))
}

/// Sends a piece of an answer every 50 ms until it is told that it is enough, or nobody listens.
fn stream() -> (Backend, Arc<AtomicBool>) {
    let enough = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&enough);
    let backend = scripted(move |_, stream| {
        let began = Instant::now();
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut open = stream.write_all(head).is_ok();
        while open && !told.load(Ordering::SeqCst) && began.elapsed() < Duration::from_secs(15) {
            open = stream.write_all(b"3\r\n...\r\n").is_ok();
            std::thread::park_timeout(Duration::from_millis(50));
        }
        stream.write_all(b"0\r\n\r\n").is_ok()
    });
    (backend, enough)
}

/// Between two requests nothing is closed, as the next one may be on the way: it is answered, and the
/// answer says that it is the last.
#[test]
fn clients_of_http1_are_told_with_their_next_answer() {
    let backend = echo("v1");
    let proxy = proxy(backend.address, "1s");
    let web = proxy.addr("web");
    let (mut idle, mut busy) = (Client::connect(web), Client::connect(web));
    assert_eq!(idle.ask(ASK).header("connection"), None);
    let began = Instant::now();
    loop {
        let answer = busy.ask(ASK);
        assert_eq!(answer.status, 200);
        if answer.header("connection") == Some("close") {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(5), "never told");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert!(
        began.elapsed() > Duration::from_millis(800),
        "{:?}",
        began.elapsed()
    );
    assert!(busy.is_closed());
    // A tenth more or less by chance, so the other may be younger still.
    eventually("the word to the other", || {
        let answer = idle.ask(ASK);
        assert_eq!(answer.status, 200);
        (answer.header("connection") == Some("close")).then_some(())
    });
    assert!(idle.is_closed());
    assert_eq!(Client::connect(web).ask(ASK).header("connection"), None);
    assert!(proxy.metric("weir_errors_total", &[]) < 0.5);
    proxy.stop();
}

/// GOAWAY, and streams that have begun end as they would have.
#[test]
fn clients_of_http2_are_told_by_goaway() {
    let (backend, enough) = stream();
    let proxy = proxy(backend.address, "1s");
    let mut wire = Wire::connect(proxy.addr("web"));
    wire.send(&headers(1, BOTH, &get("/")));
    let mut answered = |kind| {
        wire.until(|frame| {
            assert!(
                frame.kind == kind || matches!(frame.kind, DATA | HEADERS | SETTINGS | PING | 8),
                "{frame:?}"
            );
            frame.kind == kind
        })
        .unwrap()
    };
    let first = answered(GOAWAY);
    assert_eq!(first.error(), NO_ERROR);
    // What may have been sent until then is served; the client says that it has heard (RFC 9113, 6.8).
    let ping = answered(PING);
    assert!(wire.send(&frame(PING, 1, 0, &ping.payload)));
    let last = wire.until(|frame| frame.kind == GOAWAY).unwrap();
    assert_eq!(
        (last.error(), &last.payload[..4]),
        (NO_ERROR, &[0, 0, 0, 1][..])
    );
    for _ in 0..5 {
        let more = wire.until(|frame| frame.kind == DATA).unwrap();
        assert_eq!(more.flags & END_STREAM, 0);
    }
    enough.store(true, Ordering::SeqCst);
    wire.until(|frame| frame.kind == DATA && frame.flags & END_STREAM != 0)
        .unwrap();
    assert_eq!(wire.receive(), None);
    assert!(!wire.silent, "closed after the last stream");
    let log = proxy.stop();
    assert!(
        log.contains("\"status\":200") && !log.contains("\"reason\":\""),
        "{log}"
    );
}

/// What is still going on after the grace is cut and counted: answers of both versions, and tunnels.
#[test]
fn what_does_not_end_is_cut_after_the_grace() {
    let (backend, _) = stream();
    let streaming = proxy(backend.address, "1s, maxConnectionAgeGrace: 1s");
    let began = Instant::now();
    let mut old = Client::connect(streaming.addr("web"));
    old.send(ASK);
    let mut wire = Wire::connect(streaming.addr("web"));
    wire.send(&headers(1, BOTH, &get("/")));
    assert!(old.try_receive(false).is_err(), "cut in the middle");
    while let Some(frame) = wire.receive() {
        assert!(
            frame.kind != DATA || frame.flags & END_STREAM == 0,
            "{frame:?}"
        );
    }
    let took = began.elapsed();
    assert!(
        took > Duration::from_millis(1800) && took < Duration::from_secs(6),
        "{took:?}"
    );
    let endpoint = paths::endpoint(Side::Http1, true);
    let tunnelling = proxy(endpoint.address, "1s, maxConnectionAgeGrace: 1s");
    block_on(async {
        for side in paths::BOTH {
            let answer = paths::ask(side, tunnelling.addr("web"), "/", &[]).await;
            let mut tunnel = answer.tunnel.unwrap();
            tunnel
                .write_all(&[0x82, 0x81, 0, 0, 0, 0, 7])
                .await
                .unwrap();
            let mut bytes = [0; 3];
            tunnel.read_exact(&mut bytes).await.unwrap();
            let end = tunnel.read(&mut bytes).await;
            assert!(!matches!(end, Ok(1..)), "{side:?}: {end:?}");
        }
    });
    for proxy in [streaming, tunnelling] {
        eventually("both in the metrics", || {
            let cut = proxy.metric("weir_errors_total", &["reason=\"connection_age\""]);
            (cut > 1.5).then_some(())
        });
        let log = proxy.stop();
        assert_eq!(
            log.matches("\"reason\":\"connection_age\"").count(),
            2,
            "{log}"
        );
    }
}
