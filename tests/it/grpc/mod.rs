//! gRPC through the proxy: the published interoperability cases, and gRPC-Web.

mod web;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use crate::clients::{Running, python, run};
use crate::support::pki::{Authority, Files, Leaf};
use crate::support::proxy::{Proxy, all_to, with_listener};

const INTEROP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/grpc/interop.py");

/// Every case of [`INTEROP`], in its order.
const CASES: [&str; 15] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "cancel_after_begin",
    "cancel_after_first_response",
    "timeout_on_sleeping_server",
    "custom_metadata",
    "status_code_and_message",
    "special_status_message",
    "unimplemented_method",
    "unimplemented_service",
    "compressed_unary",
];

/// A server of the cases, and where it is. With files it speaks TLS.
pub(super) fn server(files: &[String]) -> (Running, SocketAddr) {
    let server = Command::new(python())
        .args([INTEROP, "serve"])
        .args(files)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut server = Running(server);
    let mut port = String::new();
    BufReader::new(server.0.stdout.take().unwrap())
        .read_line(&mut port)
        .unwrap();
    let address = format!("127.0.0.1:{}", port.trim()).parse().unwrap();
    (server, address)
}

/// Asks every case through the proxy, and counts what came of them.
fn all_well(proxy: Proxy, files: &[&str]) {
    let (python, web) = (python(), proxy.addr("web").to_string());
    let arguments = [&[INTEROP, "ask", &web], files].concat();
    let said = run(python.to_str().unwrap(), "python3", &arguments);
    let passed: Vec<_> = said.lines().collect();
    assert_eq!(passed, [&CASES[..], &["all well"]].concat());
    let answers = proxy.metric("weir_requests_total", &["backend=\"v1\"", "code=\"200\""]);
    assert!(answers > 100.0, "{answers}");
    proxy.stop();
}

fn http2(text: &str, fields: &str) -> String {
    text.replace("endpoints", &format!("protocol: h2c, {fields}endpoints"))
}

#[test]
fn interoperability_in_the_clear() {
    let (_server, address) = server(&[]);
    all_well(Proxy::start(&http2(&all_to(address), "")), &[]);
}

#[test]
fn interoperability_over_tls_on_both_sides() {
    let (files, ca) = (Files::new(), Authority::new("test authority"));
    files.put("ca.crt", &ca.pem);
    files.put_pair(
        "server",
        &ca.issue(&Leaf::server(&["web.example", "127.0.0.1"])),
    );
    let [ca, certificate, key] =
        ["ca.crt", "server.crt", "server.key"].map(|name| files.at(name).display().to_string());
    let (_server, address) = server(&[certificate.clone(), key.clone()]);
    let text = http2(&all_to(address), &format!("tls: {{ ca: \"{ca}\" }}, "));
    let pair = format!("{{ certificate: \"{certificate}\", key: \"{key}\" }}");
    let text = with_listener(&text, &format!("tls: {{ certificates: [{pair}] }}"));
    all_well(Proxy::start(&text), &[&ca]);
}
