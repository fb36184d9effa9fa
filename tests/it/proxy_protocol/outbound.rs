//! Headers that backends get, and connections that no two clients share.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::inbound::{dial_from, with_tls};
use super::{REQUEST, V2, ask, v1_of, v2};
use crate::support::backend::{Backend, raw};
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::haproxy::Haproxy;
use crate::support::http2;
use crate::support::proxy::{Proxy, all_to, with_listener};

/// Answers each request with the header of its connection in hexadecimal, and with the number of the
/// connection.
fn told() -> Backend {
    let connections = AtomicU64::new(0);
    raw(move |stream, requests| {
        let number = connections.fetch_add(1, Ordering::SeqCst);
        drop(serve(stream, number, requests));
    })
}

fn serve(stream: TcpStream, number: u64, requests: &AtomicU64) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut header = Vec::new();
    if reader.fill_buf()?.first() == Some(&b'P') {
        reader.read_until(b'\n', &mut header)?;
    } else {
        header = vec![0; 16];
        reader.read_exact(&mut header)?;
        let mut block = vec![0; usize::from(u16::from_be_bytes([header[14], header[15]]))];
        reader.read_exact(&mut block)?;
        header.extend(block);
    }
    let told: String = header.iter().map(|byte| format!("{byte:02x}")).collect();
    loop {
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
        }
        requests.fetch_add(1, Ordering::SeqCst);
        let head = format!("content-length: 0\r\nx-told: {told}\r\nx-connection: {number}");
        writer.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").as_bytes())?;
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A configuration whose only backend has further fields.
fn telling(backend: SocketAddr, fields: &str) -> String {
    let end = "\" }] }";
    all_to(backend).replace(end, &format!("\" }}], {fields} }}"))
}

/// Asks to keep the connection.
fn keeping() -> String {
    REQUEST.replace("Connection: close\r\n", "")
}

/// What is told of a client of this proxy.
fn header(version: &str, client: &Client, proxy: SocketAddr) -> String {
    let own = client.stream().local_addr().unwrap();
    hexadecimal(&match version {
        "v1" => format!(
            "PROXY TCP4 {} {} {} {}\r\n",
            own.ip(),
            proxy.ip(),
            own.port(),
            proxy.port()
        )
        .into_bytes(),
        _ => v2(0x21, 0x11, &block(own, proxy)),
    })
}

fn block(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut block = Vec::new();
    for end in [source, destination] {
        let SocketAddr::V4(end) = end else {
            panic!("{end}")
        };
        block.extend(end.ip().octets());
    }
    for end in [source, destination] {
        block.extend(end.port().to_be_bytes());
    }
    block
}

#[test]
fn each_client_has_connections_of_its_own() {
    for version in ["v1", "v2"] {
        let backend = told();
        let fields = format!("proxyProtocol: {version}");
        let proxy = Proxy::start_with(&telling(backend.address, &fields), &["--workers", "1"]);
        let address = proxy.addr("web");
        let mut connections = BTreeSet::new();
        let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(address)).collect();
        for round in 0..3 {
            for client in &mut clients {
                let answer = client.ask(&keeping());
                let expected = header(version, client, address);
                assert_eq!(answer.header("x-told"), Some(&*expected), "{version}");
                connections.insert(answer.header("x-connection").unwrap().to_owned());
            }
            // One for each client, used again by it and by nobody else.
            assert_eq!(connections.len(), 4, "{version}, round {round}");
        }
        let open = || proxy.metric("weir_upstream_connections", &[]);
        assert!((open() - 4.0).abs() < 0.1);
        // They go when their clients go.
        clients.truncate(1);
        eventually("one left", || (open() < 1.5).then_some(()));
        assert_eq!(clients[0].ask(&keeping()).status, 200);
        clients.clear();
        eventually("none left", || (open() < 0.5).then_some(()));
        proxy.stop();
    }
}

#[test]
fn many_clients_at_once_are_told_apart() {
    let backend = told();
    let proxy = Proxy::start(&telling(backend.address, "proxyProtocol: v2"));
    let address = proxy.addr("web");
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let mut client = Client::connect(address);
                    let expected = header("v2", &client, address);
                    for _ in 0..5 {
                        let answer = client.ask(&keeping());
                        assert_eq!(answer.header("x-told"), Some(&*expected));
                    }
                }
            });
        }
    });
    assert_eq!(backend.requests(), 16 * 5 * 5);
    proxy.stop();
}

#[test]
fn an_unused_connection_goes_after_its_time_though_its_client_stays() {
    let backend = told();
    let fields = "proxyProtocol: v1, pool: { idleTimeout: 50ms }";
    let proxy = Proxy::start(&telling(backend.address, fields));
    let mut client = Client::connect(proxy.addr("web"));
    assert_eq!(client.ask(&keeping()).status, 200);
    eventually("the end of the idle one", || {
        (proxy.metric("weir_upstream_connections", &[]) < 0.5).then_some(())
    });
    assert_eq!(client.ask(&keeping()).header("x-connection"), Some("1"));
    proxy.stop();
}

/// What was told to us is told on, the address that the client connected to included.
#[test]
fn addresses_told_are_told_on() {
    let backend = told();
    let fields = "proxyProtocol: v2";
    let config = with_listener(&telling(backend.address, fields), "proxyProtocol: {}");
    let proxy = Proxy::start(&config);
    let address = proxy.addr("web");
    let answer = ask(address, &v1_of("192.0.2.7"), REQUEST);
    let (source, destination) = ("192.0.2.7:4660".parse(), "127.0.0.1:80".parse());
    let expected = v2(0x21, 0x11, &block(source.unwrap(), destination.unwrap()));
    assert_eq!(answer.header("x-told"), Some(&*hexadecimal(&expected)));
    // IPv4 that was written as a part of IPv6 is IPv4 again; and IPv6 stays what it is.
    let mapped = b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:127.0.0.1 4660 80\r\n";
    let answer = ask(address, mapped, REQUEST);
    assert_eq!(answer.header("x-told"), Some(&*hexadecimal(&expected)));
    let ipv6 = ask(address, b"PROXY TCP6 2001:db8::7 ::1 4660 80\r\n", REQUEST);
    let begin = hexadecimal(&[V2, &[0x21, 0x21, 0, 36, 0x20, 0x01, 0x0d, 0xb8]].concat());
    assert!(ipv6.header("x-told").unwrap().starts_with(&begin));
    proxy.stop();
}

/// The address of the client as HAProxy was told it.
const SOURCE: &str = " http-request return status 200 content-type text/plain lf-string \"%[src] %[dst_port] %[ssl_fc]\"";

#[test]
fn haproxy_understands() {
    let (files, authority, _) = with_tls();
    let pair = authority.issue(&crate::support::pki::Leaf::server(&["127.0.0.1"]));
    let pem = format!("{}{}", pair.chain, pair.key);
    let tls = format!("tls: {{ ca: \"{}\" }}", files.at("ca.crt").display());
    for (bind, fields, secure) in [
        ("accept-proxy", "proxyProtocol: v1", "0"),
        ("accept-proxy", "proxyProtocol: v2", "0"),
        (
            "accept-proxy proto h2",
            "proxyProtocol: v1, protocol: h2c",
            "0",
        ),
        (
            "accept-proxy proto h2",
            "proxyProtocol: v2, protocol: h2c",
            "0",
        ),
        ("accept-proxy ssl crt server.pem", "proxyProtocol: v1", "1"),
        ("accept-proxy ssl crt server.pem", "proxyProtocol: v2", "1"),
        (
            "accept-proxy ssl crt server.pem alpn h2",
            "proxyProtocol: v2, protocol: h2",
            "1",
        ),
        (
            "accept-proxy ssl crt server.pem alpn h2,http/1.1",
            "proxyProtocol: v2, protocol: auto",
            "1",
        ),
    ] {
        let haproxy = Haproxy::start(bind, SOURCE, &[("server.pem", &pem)]);
        let fields = if secure == "1" {
            format!("{fields}, {tls}")
        } else {
            fields.to_owned()
        };
        let proxy = Proxy::start(&telling(haproxy.address, &fields));
        let address = proxy.addr("web");
        for source in ["127.0.0.41", "127.0.0.42"] {
            let mut client = Client::over(dial_from(source, address));
            for _ in 0..2 {
                let answer = client.ask(&keeping());
                let expected = format!("{source} {} {secure}", address.port());
                assert_eq!(answer.body, expected, "{bind}, {fields}");
            }
        }
        let made = proxy.metric("weir_upstream_connections_total", &[]);
        assert!(
            (made - 2.0).abs() < 0.1,
            "{made} connections: {bind}, {fields}"
        );
        proxy.stop();
    }
}

/// A check is nobody's but the proxy's own, and says so (LOCAL, UNKNOWN).
#[test]
fn health_checks_begin_with_a_header_too() {
    for version in ["v1", "v2"] {
        let haproxy = Haproxy::start("accept-proxy", SOURCE, &[]);
        let check =
            "healthCheck: { http: { path: /, expectedBody: \"127.0.0.1 \" }, interval: 20ms }";
        let fields = format!("proxyProtocol: {version}, {check}");
        let proxy = Proxy::start(&telling(haproxy.address, &fields));
        eventually("the endpoint", || {
            let shown = proxy.json("/api/v1/backends");
            (shown[0]["endpoints"][0]["state"] == "ready").then_some(())
        });
        proxy.stop();
    }
}

#[test]
fn streams_of_one_client_share_a_connection() {
    let haproxy = Haproxy::start("accept-proxy proto h2", SOURCE, &[]);
    let fields = "proxyProtocol: v2, protocol: h2c";
    let proxy = Proxy::start(&telling(haproxy.address, fields));
    let address = proxy.addr("web");
    let asked = Arc::new(AtomicU64::new(0));
    http2::block_on(async {
        for _ in 0..3 {
            let sender = http2::connect(address).await;
            let answers = (0..10).map(|_| {
                let (mut sender, asked) = (sender.clone(), Arc::clone(&asked));
                async move {
                    let request = http::Request::get("http://a.example/").body(http2::empty());
                    let answer = http2::ask(&mut sender, request.unwrap()).await.unwrap();
                    assert!(answer.body.starts_with("127.0.0.1 "), "{answer:?}");
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            });
            let all: Vec<_> = answers.map(tokio::spawn).collect();
            for one in all {
                one.await.unwrap();
            }
        }
    });
    assert_eq!(asked.load(Ordering::SeqCst), 30);
    let made = proxy.metric("weir_upstream_connections_total", &[]);
    assert!((made - 3.0).abs() < 0.1, "{made} connections for 3 clients");
    proxy.stop();
}

#[test]
fn a_reload_turns_it_on_for_the_next_request() {
    let haproxy = Haproxy::start("accept-proxy", SOURCE, &[]);
    let proxy = Proxy::start(&telling(haproxy.address, "labels: {}"));
    let address = proxy.addr("web");
    // Whoever expects a header does not get one.
    let mut client = Client::over(dial_from("127.0.0.43", address));
    assert_eq!(client.ask(&keeping()).status, 502);
    proxy.write_config(&telling(haproxy.address, "proxyProtocol: v1"));
    proxy.wait_generation(2);
    let mut client = Client::over(dial_from("127.0.0.43", address));
    let expected = format!("127.0.0.43 {} 0", address.port());
    assert_eq!(client.ask(&keeping()).body, expected);
    assert_eq!(proxy.json("/api/v1/backends")[0]["proxyProtocol"], "v1");
    // And back: the connection that told is not used for those who are not told of.
    proxy.write_config(&telling(haproxy.address, "labels: {}"));
    proxy.wait_generation(3);
    assert_eq!(get(address, "a.example", "/", &[]).status, 502);
    assert_eq!(
        proxy.json("/api/v1/backends")[0]["proxyProtocol"],
        serde_json::Value::Null
    );
    proxy.stop();
}
