//! Clients that are silent, slow, many, or do not speak TLS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use super::{Pki, handshakes, refused, s_client};
use crate::support::backend::echo;
use crate::support::client::{Client, dial};
use crate::support::{eventually, tls};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n";

/// The record of a client hello, as bytes.
fn hello(pki: &Pki) -> Vec<u8> {
    let config = Arc::new(tls::client(&pki.ca.pem, None));
    let name = ServerName::try_from("web.example").unwrap();
    let mut session = ClientConnection::new(config, name).unwrap();
    let mut bytes = Vec::new();
    session.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_silent_client_is_cut_at_the_deadline() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let proxy = pki.proxy(", handshakeTimeout: 200ms", backend.address);
    let half = hello(&pki);
    // Nothing at all, a byte, half a hello: the deadline is for the whole.
    for (count, begun) in [&half[..0], &half[..1], &half[..half.len() / 2]]
        .into_iter()
        .enumerate()
    {
        let began = Instant::now();
        let mut client = Client::over(dial(proxy.addr("web")));
        client.stream().write_all(begun).unwrap();
        assert!(client.is_closed());
        assert!(began.elapsed().as_millis() >= 200, "too early");
        let count = u32::try_from(count).unwrap() + 1;
        refused(&proxy, "timeout", count, "not done after 200ms");
    }
    // One who goes away is told from one who says nothing.
    drop(dial(proxy.addr("web")));
    refused(&proxy, "closed", 1, "");
    proxy.stop();
}

#[test]
fn more_handshakes_than_the_limit_wait_for_their_turn() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let fields = ", handshakeTimeout: 2s, maxHandshakes: 2";
    let proxy = pki.proxy(fields, backend.address);
    let address = proxy.addr("web");
    let busy = [dial(address), dial(address)];
    eventually("both connections", || {
        (proxy.metric("weir_connections", &[]) > 1.5).then_some(())
    });
    // Waits: no byte comes in answer to its hello.
    let mut waiting = dial(address);
    waiting.write_all(&hello(&pki)).unwrap();
    waiting.set_nonblocking(true).unwrap();
    eventually("the third connection", || {
        (proxy.metric("weir_connections", &[]) > 2.5).then_some(())
    });
    let early = waiting.read(&mut [0; 16]);
    assert!(
        early.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
        "answered out of turn"
    );
    // A turn that ends goes to the next.
    drop(busy);
    waiting.set_nonblocking(false).unwrap();
    let mut first = [0; 1];
    waiting.read_exact(&mut first).unwrap();
    assert_eq!(first, [22], "a handshake record");
    drop(waiting);
    refused(&proxy, "closed", 3, "");
    // Those that have shaken hands take no turn.
    let config = Arc::new(tls::client(&pki.ca.pem, None));
    let mut open: Vec<_> = (0..5)
        .map(|_| tls::connect(address, "web.example", &config).unwrap())
        .collect();
    for client in &mut open {
        assert_eq!(client.ask(REQUEST).status, 200);
    }
    proxy.stop();
}

#[test]
fn plain_http_is_answered_readably() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let proxy = pki.proxy("", backend.address);
    // Also with more behind it than is read: the answer must not be lost in a reset.
    let long = format!(
        "POST / HTTP/1.1\r\nContent-Length: 60000\r\n\r\n{}",
        "x".repeat(60_000)
    );
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for (count, request) in [REQUEST, &long, preface].into_iter().enumerate() {
        let mut client = Client::connect(proxy.addr("web"));
        assert!(client.try_send(request));
        let response = client.receive(false).unwrap();
        assert_eq!(response.status, 400);
        assert_eq!(response.header("connection"), Some("close"));
        assert!(response.body.contains("https://"), "{}", response.body);
        assert!(client.is_closed());
        let count = u32::try_from(count).unwrap() + 1;
        refused(&proxy, "not_tls", count, "does not speak TLS");
    }
    assert_eq!(backend.requests(), 0);
    proxy.stop();
}

/// Sends bytes, and returns what came up to the close.
fn told(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let client = dial(address);
    drop((&client).write_all(bytes));
    Client::over(client).read_to_close()
}

#[test]
fn junk_ends_in_an_alert_or_a_close() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let proxy = pki.proxy(", handshakeTimeout: 500ms", backend.address);
    let address = proxy.addr("web");
    let good = hello(&pki);
    let mut cases: Vec<Vec<u8>> = vec![
        // SSL 2, an empty record, a record larger than there can be, application data first.
        vec![0x80, 0x2e, 0x01, 0x03, 0x01, 0, 0, 0, 0],
        vec![22, 3, 1, 0, 0],
        vec![22, 3, 1, 0xff, 0xff, 1],
        vec![23, 3, 3, 0, 5, 1, 2, 3, 4, 5],
        vec![21, 3, 3, 0, 2, 2, 40],
        vec![0xff; 64],
        vec![0; 64],
    ];
    // Every header byte of a good hello, wrong.
    for at in 0..12 {
        let mut broken = good.clone();
        broken[at] ^= 0x81;
        cases.push(broken);
    }
    let count = cases.len();
    for case in cases {
        let answer = told(address, &case);
        assert!(
            answer.is_empty() || answer[0] == 21 || answer[0] == 22,
            "{answer:?}"
        );
    }
    eventually("all of them counted", || {
        let all = proxy.metric("weir_tls_handshakes_total", &[]);
        (all > f64::from(u32::try_from(count).unwrap()) - 0.5).then_some(())
    });
    assert!(handshakes(&proxy, "ok") < 0.5);
    // Nothing of it hurt: the next client is served.
    let config = Arc::new(tls::client(&pki.ca.pem, None));
    let mut client = tls::connect(address, "web.example", &config).unwrap();
    assert_eq!(client.ask(REQUEST).status, 200);
    proxy.stop();
}

/// Passes bytes on, client hellos in records of a few bytes, each in a packet of its own.
struct Shredder {
    stream: TcpStream,
    size: usize,
    hello: Vec<u8>,
    sent: bool,
}

impl Read for Shredder {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Shredder {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.sent {
            return self.stream.write(bytes);
        }
        self.hello.extend_from_slice(bytes);
        let length = 5 + usize::from(u16::from_be_bytes([self.hello[3], self.hello[4]]));
        if self.hello.len() >= length {
            self.sent = true;
            for part in self.hello[5..length].chunks(self.size) {
                let length = u16::try_from(part.len()).unwrap().to_be_bytes();
                let record = [&[22, 3, 1], &length[..], part].concat();
                self.stream.write_all(&record)?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

#[test]
fn a_client_hello_may_come_in_many_records() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let proxy = pki.proxy("", backend.address);
    for size in [1, 7, 100] {
        let stream = dial(proxy.addr("web"));
        stream.set_nodelay(true).unwrap();
        let mut shredder = Shredder {
            stream,
            size,
            hello: Vec::new(),
            sent: false,
        };
        let config = Arc::new(tls::client(&pki.ca.pem, None));
        let name = ServerName::try_from("web.example").unwrap();
        let mut session = ClientConnection::new(config, name).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut shredder).unwrap();
        }
        let mut client = Client::over(rustls::StreamOwned::new(session, shredder));
        assert_eq!(client.ask(REQUEST).status, 200);
    }
    assert!((handshakes(&proxy, "ok") - 3.0).abs() < 0.1);
    proxy.stop();
}

#[test]
fn a_session_is_not_negotiated_again() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let proxy = pki.proxy("", backend.address);
    // A line that is an R alone asks s_client for it.
    let (fine, said) = s_client(&proxy, &["-tls1_2"], "R\n");
    assert!(
        !fine && said.contains("RENEGOTIATING") && said.contains("no renegotiation"),
        "{said}"
    );
    assert!((handshakes(&proxy, "ok") - 1.0).abs() < 0.1);
    proxy.stop();
}
