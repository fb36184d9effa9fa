//! WebSocket over the proxy, with a real implementation on both sides.

mod cases;
mod http2;
pub(crate) mod paths;

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use crate::support::backend::{Backend, echo, raw};
use crate::support::client::Client;
use crate::support::proxy::{Proxy, all_to};
use crate::support::{DEADLINE, eventually};

/// Sends every message back.
fn server() -> Backend {
    raw(|stream, counter| {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let Ok(mut socket) = tungstenite::accept(stream) else {
            return;
        };
        counter.fetch_add(1, Ordering::SeqCst);
        while let Ok(message) = socket.read() {
            if (message.is_text() || message.is_binary()) && socket.send(message).is_err() {
                return;
            }
        }
    })
}

fn open(web: SocketAddr) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect_timeout(&web, DEADLINE).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let (socket, response) = tungstenite::client(format!("ws://{web}/chat"), stream).unwrap();
    assert_eq!(response.status(), 101);
    socket
}

#[test]
fn httproute_backend_protocol_websocket() {
    let backend = server();
    let proxy = Proxy::start(&all_to(backend.address));
    let mut socket = open(proxy.addr("web"));
    let large: Vec<u8> = (0..200_000).map(|n| (n % 251) as u8).collect();
    for message in [
        Message::text("hello"),
        Message::binary(vec![0, 255, 1]),
        Message::binary(large),
    ] {
        socket.send(message.clone()).unwrap();
        assert_eq!(socket.read().unwrap(), message);
    }
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    drop(socket);
    // The request is recorded when the tunnel ends, with the bytes of both directions.
    eventually("the record", || {
        (proxy.metric("weir_response_bytes_total", &["backend=\"v1\""]) > 200_000.0).then_some(())
    });
    let log = proxy.stop();
    assert!(log.contains("\"status\":101"), "{log}");
}

#[test]
fn tunnels_outlive_reloads_and_request_timeouts() {
    let backend = server();
    let text =
        all_to(backend.address).replace("name: all,", "name: all, timeouts: { request: 300ms },");
    let proxy = Proxy::start(&text);
    let mut socket = open(proxy.addr("web"));
    let began = Instant::now();
    for generation in 2..5 {
        proxy.write_config(&text.replace("300ms", &format!("{}ms", 300 + generation)));
        proxy.wait_generation(generation);
        socket.send(Message::text("still")).unwrap();
        assert_eq!(socket.read().unwrap(), Message::text("still"));
    }
    while began.elapsed() < Duration::from_millis(800) {
        std::thread::park_timeout(Duration::from_millis(50));
    }
    socket.send(Message::text("there")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("there"));
    drop(socket);
    proxy.stop();
}

#[test]
fn a_drain_cuts_tunnels_at_its_timeout() {
    let backend = server();
    let proxy = Proxy::start(&all_to(backend.address).replace("timeout: 5s", "timeout: 1s"));
    let mut socket = open(proxy.addr("web"));
    socket.send(Message::text("hello")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("hello"));
    let began = Instant::now();
    proxy.signal("TERM");
    assert!(socket.read().is_err(), "the tunnel is cut");
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(800) && took < Duration::from_secs(5),
        "{took:?}"
    );
    let log = proxy.wait();
    assert!(log.contains("\"status\":101"), "{log}");
}

/// A refused handshake is an ordinary answer, and the client's connection goes on.
#[test]
fn refused_and_stripped_upgrades_are_ordinary_requests() {
    let backend = echo("v1");
    let proxy = Proxy::start(&all_to(backend.address));
    let mut client = Client::connect(proxy.addr("web"));
    let upgrade = |protocol: &str, more: &str| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade{more}\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        )
    };
    let refused = client.ask(&upgrade("websocket", ""));
    assert_eq!(
        (refused.status, refused.seen("upgrade").as_deref()),
        (200, Some("websocket"))
    );
    for protocol in ["h2c", "h2c, websocket", "TLS/1.0"] {
        let response = client.ask(&upgrade(protocol, ", HTTP2-Settings"));
        assert_eq!(response.status, 200, "{protocol}");
        for gone in ["upgrade", "http2-settings", "connection"] {
            assert_eq!(response.seen(gone), None, "{protocol}: {gone}");
        }
    }
    // HTTP/1.0 has no upgrades; a body makes no WebSocket.
    let mut old = Client::connect(proxy.addr("web"));
    let response =
        old.ask("GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!((response.status, response.seen("upgrade")), (200, None));
    proxy.stop();
}

/// Bytes that a client sends before the 101 belong to the next request, not to the tunnel, unless the
/// endpoint agrees (CVE-2026-2833).
#[test]
fn bytes_before_the_switch_are_not_tunnelled_past_a_refusal() {
    let backend = echo("v1");
    let proxy = Proxy::start(&all_to(backend.address));
    let mut client = Client::connect(proxy.addr("web"));
    client.send("GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n");
    assert_eq!(client.receive(false).unwrap().status, 200);
    if let Some(hidden) = client.receive(false) {
        assert_eq!(hidden.seen("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    }
    proxy.stop();
}
