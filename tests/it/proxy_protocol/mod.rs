//! The PROXY protocol: whose connection it is, told by who connects and told to backends.

mod inbound;
mod outbound;

use std::io::Write;
use std::net::SocketAddr;

use crate::support::client::{Client, Response};
use crate::support::eventually;
use crate::support::proxy::Proxy;

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [V2, &[command, family], &length, block].concat()
}

/// A header of version 2 for a client of IPv4.
fn v2_of(client: [u8; 4]) -> Vec<u8> {
    v2(
        0x21,
        0x11,
        &[&client[..], &[127, 0, 0, 1, 0x12, 0x34, 0, 80]].concat(),
    )
}

/// A header of version 1.
fn v1_of(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 127.0.0.1 4660 80\r\n").into_bytes()
}

/// The answer to a request behind these bytes, sent at once.
fn ask(address: SocketAddr, header: &[u8], request: &str) -> Response {
    let mut client = Client::connect(address);
    let bytes = [header, request.as_bytes()].concat();
    client.stream().write_all(&bytes).unwrap();
    client.receive(false).unwrap()
}

/// Connections that began so.
fn began(proxy: &Proxy, result: &str) -> f64 {
    let label = format!("result=\"{result}\"");
    proxy.metric("weir_proxy_protocol_total", &["listener=\"web\"", &label])
}

/// So many connections have begun so, and no more.
fn count(proxy: &Proxy, result: &str, expected: u32) {
    let expected = f64::from(expected);
    eventually(&format!("{expected} of {result}"), || {
        (began(proxy, result) > expected - 0.5).then_some(())
    });
    let counted = began(proxy, result);
    assert!((counted - expected).abs() < 0.1, "{result}: {counted}");
}
