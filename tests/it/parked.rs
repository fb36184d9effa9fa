//! Connections that wait for their next request for longer than a moment, and what is left of them.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use crate::support::backend::echo;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::pki::{Authority, Files, Leaf};
use crate::support::proxy::{Proxy, all_to, with_listener};
use crate::support::tls;

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: web.example\r\n\r\n";
/// Longer than a connection is kept whole.
const SILENCE: Duration = Duration::from_millis(1800);

fn is_silent(stream: &mut impl Read) {
    let waited = stream.read(&mut [0]);
    assert_eq!(waited.unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// KiB that belong to no file.
fn anonymous(proxy: &Proxy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn what_was_silent_is_served_again_in_pieces_and_in_a_row() {
    let backend = echo("v1");
    let proxy = Proxy::start(&all_to(backend.address));
    let mut client = Client::connect(proxy.addr("web"));
    for _ in 0..2 {
        assert_eq!(client.ask(REQUEST).status, 200);
        client.stream().set_read_timeout(Some(SILENCE)).unwrap();
        let mut raw: &std::net::TcpStream = client.stream();
        is_silent(&mut raw);
        // A head in two pieces, and two requests at once.
        raw.write_all(&REQUEST.as_bytes()[..20]).unwrap();
        is_silent(&mut raw);
        raw.write_all(&REQUEST.as_bytes()[20..]).unwrap();
        raw.write_all(REQUEST.as_bytes()).unwrap();
        for _ in 0..2 {
            assert_eq!(client.receive(false).unwrap().status, 200);
        }
    }
    assert_eq!(backend.requests(), 6);
    proxy.stop();
}

#[test]
fn what_is_silent_ends_with_its_time_and_with_the_process() {
    let backend = echo("v1");
    let config = all_to(backend.address);
    let short = with_listener(&config, "timeouts: { idle: 2500ms }");
    let proxy = Proxy::start(&short);
    let mut client = Client::connect(proxy.addr("web"));
    assert_eq!(client.ask(REQUEST).status, 200);
    assert!(client.is_closed(), "the idle deadline");
    proxy.stop();

    let proxy = Proxy::start(&config);
    let mut client = Client::connect(proxy.addr("web"));
    assert_eq!(client.ask(REQUEST).status, 200);
    client.stream().set_read_timeout(Some(SILENCE)).unwrap();
    let mut raw: &std::net::TcpStream = client.stream();
    is_silent(&mut raw);
    proxy.signal("TERM");
    assert!(client.is_closed(), "the process goes");
    proxy.wait();
}

#[test]
fn a_secured_connection_is_served_again_and_told_of_its_end() {
    let (files, ca, backend) = (Files::new(), Authority::new("ca"), echo("v1"));
    files.put_pair("web", &ca.issue(&Leaf::server(&["web.example"])));
    let at = |name| files.at(name).display().to_string();
    let pair = format!(
        "certificate: \"{}\", key: \"{}\"",
        at("web.crt"),
        at("web.key")
    );
    let secured = format!("tls: {{ certificates: [{{ {pair} }}] }}");
    let proxy = Proxy::start(&with_listener(&all_to(backend.address), &secured));
    let config = std::sync::Arc::new(tls::client(&ca.pem, None));
    let mut client = tls::connect(proxy.addr("web"), "web.example", &config).unwrap();
    for _ in 0..2 {
        assert_eq!(client.ask(REQUEST).status, 200);
        let tcp = &client.stream().sock;
        tcp.set_read_timeout(Some(SILENCE)).unwrap();
        let mut raw: &std::net::TcpStream = tcp;
        is_silent(&mut raw);
    }
    proxy.signal("TERM");
    // A clean end of TLS (close_notify) reads as the end of data.
    assert!(client.is_closed());
    proxy.wait();
}

/// hyper keeps some 20 KiB a connection.
#[test]
fn little_is_left_of_a_silent_connection() {
    const CONNECTIONS: usize = 400;
    let backend = echo("v1");
    let proxy = Proxy::start(&all_to(backend.address));
    let web = proxy.addr("web");
    let mut one = Client::connect(web);
    assert_eq!(one.ask(REQUEST).status, 200);
    let before = anonymous(&proxy);
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| Client::connect(web)).collect();
    for client in &mut clients {
        assert_eq!(client.ask(REQUEST).status, 200);
    }
    eventually("memory", || {
        let each = anonymous(&proxy).saturating_sub(before) / CONNECTIONS as u64;
        (each < 8).then_some(())
    });
    for client in &mut clients {
        assert_eq!(client.ask(REQUEST).status, 200);
    }
    // Nobody asks for anything any more.
    drop(clients);
    eventually("the rest of the memory", || {
        let kept = anonymous(&proxy).saturating_sub(before);
        (kept < 3072).then_some(())
    });
    proxy.stop();
}
