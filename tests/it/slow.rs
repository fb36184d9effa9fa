//! Clients that read slowly or not at all: who does not move is cut, who does is not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use http::{Request, Version};
use http_body_util::BodyExt;

use crate::support::backend::{Backend, raw, scripted};
use crate::support::client::get;
use crate::support::http2::{ask, block_on, connect, empty};
use crate::support::proxy::{Proxy, all_to, with_listener};
use crate::support::{DEADLINE, eventually};

/// More than the buffers of every kernel and proxy on the way.
const LARGE: usize = 64 << 20;

/// Sends [`LARGE`] for `/large`, `ok` for anything else.
fn backend() -> Backend {
    scripted(|seen, stream| {
        if !seen.head.contains(" /large ") {
            return stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .is_ok();
        }
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n");
        let piece = vec![b'x'; 1 << 20];
        stream.write_all(head.as_bytes()).is_ok()
            && (0..LARGE >> 20).all(|_| stream.write_all(&piece).is_ok())
    })
}

fn start(backend: &Backend) -> Proxy {
    let timeouts = "timeouts: { write: 1s, idle: 1s }";
    Proxy::start(&with_listener(&all_to(backend.address), timeouts))
}

fn cut(proxy: &Proxy) -> f64 {
    proxy.metric(
        "weir_errors_total",
        &["reason=\"timeout_after_headers\"", "backend=\"v1\""],
    )
}

/// A connection whose kernel takes little on its own.
fn open(web: SocketAddr, request: &str) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    socket.connect(&web.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// What comes until the connection ends, in whatever way.
fn rest(stream: &mut TcpStream) -> usize {
    let (mut total, mut buffer) = (0, vec![0; 1 << 20]);
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        total += count;
    }
    total
}

#[test]
fn a_reader_that_stands_still_is_cut() {
    let backend = backend();
    let proxy = start(&backend);
    let web = proxy.addr("web");
    let began = Instant::now();
    let mut client = open(web, "GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the cut", || (cut(&proxy) > 0.5).then_some(()));
    let took = began.elapsed();
    assert!(
        took > Duration::from_millis(900) && took < Duration::from_secs(5),
        "{took:?}"
    );
    assert!(
        rest(&mut client) < LARGE / 8,
        "what was on its way and no more"
    );
    assert_eq!(get(web, "a", "/", &[]).status, 200);
    let log = proxy.stop();
    assert!(
        log.contains("\"reason\":\"timeout_after_headers\""),
        "{log}"
    );
}

#[test]
fn a_slow_reader_that_moves_is_served_to_the_end() {
    let backend = backend();
    let proxy = start(&backend);
    let mut client = open(
        proxy.addr("web"),
        "GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    let (began, mut total) = (Instant::now(), 0);
    let mut buffer = vec![0; 64 * 1024];
    while began.elapsed() < Duration::from_secs(4) {
        total += client.read(&mut buffer).unwrap();
        std::thread::park_timeout(Duration::from_millis(100));
    }
    assert!(total < LARGE / 8, "it was slow: {total}");
    assert!(total + rest(&mut client) > LARGE, "all, and a head");
    assert!(cut(&proxy) < 0.5);
    proxy.stop();
}

/// Only the stream is reset; the others of its connection are served before and after.
#[test]
fn a_stream_whose_window_stays_shut_is_reset_alone() {
    let backend = backend();
    let proxy = start(&backend);
    let web = proxy.addr("web");
    block_on(async {
        let to = |path: &str| {
            let request = Request::builder()
                .version(Version::HTTP_2)
                .uri(format!("http://a{path}"));
            request.body(empty()).unwrap()
        };
        let mut sender = connect(web).await;
        let held = sender.send_request(to("/large")).await.unwrap();
        let began = Instant::now();
        while cut(&proxy) < 0.5 {
            assert_eq!(ask(&mut sender, to("/")).await.unwrap().body, "ok");
            assert!(began.elapsed() < DEADLINE);
        }
        assert!(began.elapsed() > Duration::from_millis(900));
        assert_eq!(ask(&mut sender, to("/")).await.unwrap().body, "ok");
        let end = held.into_body().collect().await;
        assert!(end.is_err(), "it looks whole");
    });
    proxy.stop();
}

/// Also of a small answer what is not taken is cut, and the connection ends behind it.
#[test]
fn a_connection_with_a_window_of_one_byte_ends() {
    let backend = backend();
    let proxy = start(&backend);
    let mut client = open(proxy.addr("web"), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    // SETTINGS_INITIAL_WINDOW_SIZE = 1; GET http://a/
    let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1];
    let get = [0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x41, 1, b'a'];
    client.write_all(&[settings, get].concat()).unwrap();
    let began = Instant::now();
    let mut all = Vec::new();
    drop(client.read_to_end(&mut all));
    let took = began.elapsed();
    // RST_STREAM.
    let reset = [0, 0, 4, 3, 0, 0, 0, 0, 1];
    assert!(
        all.windows(reset.len()).any(|frame| frame == reset),
        "nobody has seen it: {all:?}"
    );
    assert!(
        took > Duration::from_millis(1800) && took < Duration::from_secs(8),
        "stalled and then idle: {took:?}"
    );
    proxy.stop();
}

/// A tunnel may be idle; but not hold bytes that its client does not take.
#[test]
fn a_tunnel_is_cut_only_while_it_has_something_to_write() {
    let backend = raw(|mut stream, counter| {
        let (mut head, mut byte) = (String::new(), [0]);
        while !head.ends_with("\r\n\r\n") {
            if !matches!(stream.read(&mut byte), Ok(1)) {
                return;
            }
            head.push(char::from(byte[0]));
        }
        counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let switch =
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: flood\r\n\r\n";
        stream.write_all(switch.as_bytes()).unwrap();
        if head.contains(" /flood ") {
            while stream.write_all(&[b'x'; 65536]).is_ok() {}
        } else {
            drop(std::io::copy(&mut stream.try_clone().unwrap(), &mut stream));
        }
    });
    let proxy = start(&backend);
    let web = proxy.addr("web");
    let ask = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: flood\r\n\r\n")
    };
    let mut idle = open(web, &ask("/idle"));
    let mut flooded = open(web, &ask("/flood"));
    eventually("the cut", || (cut(&proxy) > 0.5).then_some(()));
    assert!(rest(&mut flooded) < LARGE / 8);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    idle.write_all(b"still here").unwrap();
    let mut came = Vec::new();
    while !came.ends_with(b"still here") {
        let mut byte = [0];
        idle.read_exact(&mut byte).unwrap();
        came.extend(byte);
    }
    drop(idle);
    proxy.stop();
}
