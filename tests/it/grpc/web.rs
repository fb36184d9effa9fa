//! gRPC-Web, translated to gRPC for a real server: by a client of it, and byte by byte.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};

use super::{http2, server};
use crate::clients::{python, run};
use crate::support::client::{Client, Response};
use crate::support::http2::{ask, block_on, connect};
use crate::support::proxy::{Proxy, all_to, with_listener};

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/grpc/web.py");

fn proxy(backend: std::net::SocketAddr) -> Proxy {
    let text = http2(&all_to(backend), "").replace(
        "name: all,",
        "name: all, matches: [{ path: { value: /grpc.testing.TestService } }],",
    );
    Proxy::start(&with_listener(&text, "grpcWeb: true"))
}

#[test]
fn a_client_in_python() {
    let (_server, address) = server(&[]);
    let proxy = proxy(address);
    let (python, url) = (python(), format!("http://{}", proxy.addr("web")));
    let said = run(python.to_str().unwrap(), "python3", &[CLIENT, &url]);
    assert_eq!(said, "all well\n");
    proxy.stop();
}

/// A message: not compressed, its length, its bytes.
fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), bytes].concat()
}

/// The frames of a body: first byte and payload.
fn frames(mut body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    while !body.is_empty() {
        let length = u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
        found.push((body[0], body[5..5 + length].to_vec()));
        body = &body[5 + length..];
    }
    found
}

/// Base64 that is padded piece by piece.
fn decode(text: &str) -> Vec<u8> {
    let groups = text.as_bytes().chunks(4);
    groups
        .flat_map(|group| STANDARD.decode(group).unwrap())
        .collect()
}

struct Web {
    method: &'static str,
    kind: &'static str,
    body: Vec<u8>,
    chunked: usize,
}

impl Web {
    fn new(method: &'static str, kind: &'static str, body: Vec<u8>) -> Self {
        Self {
            method,
            kind,
            body,
            chunked: 0,
        }
    }

    /// In chunks of so many bytes.
    fn chunked(self, chunked: usize) -> Self {
        Self { chunked, ..self }
    }

    fn ask(&self, proxy: &Proxy) -> Response {
        let mut client = Client::connect(proxy.addr("web"));
        let (method, kind) = (self.method, self.kind);
        let head = format!(
            "POST /grpc.testing.TestService/{method} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nX-Grpc-Web: 1\r\n"
        );
        // Every byte of a request here is ASCII, or has the same one as a character.
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        if self.chunked == 0 {
            let length = self.body.len();
            return client.ask(&format!(
                "{head}Content-Length: {length}\r\n\r\n{}",
                text(&self.body)
            ));
        }
        let chunks = self.body.chunks(self.chunked);
        let chunks: String = chunks
            .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), text(chunk)))
            .collect();
        client.ask(&format!(
            "{head}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
        ))
    }
}

/// A request for answers of 5 and of 0 bytes: `response_parameters { size }`.
const TWO: &[u8] = &[0x12, 2, 8, 5, 0x12, 2, 8, 0];
/// An answer with five zero bytes in its payload, and one without any.
const FIVE: &[u8] = &[0x0a, 7, 0x12, 5, 0, 0, 0, 0, 0];
const NONE: &[u8] = &[0x0a, 0];

#[test]
fn messages_and_trailers_are_frames() {
    let (_server, address) = server(&[]);
    let proxy = proxy(address);
    for (kind, text) in [
        ("application/grpc-web", false),
        ("application/grpc-web+proto", false),
        ("application/grpc-web-text", true),
        ("application/grpc-web-text+proto", true),
    ] {
        for chunked in [0, 1, 7] {
            let body = message(TWO);
            let body = if text {
                STANDARD.encode(&body).into_bytes()
            } else {
                body
            };
            let answer = Web::new("StreamingOutputCall", kind, body)
                .chunked(chunked)
                .ask(&proxy);
            let way = format!("{kind} in chunks of {chunked}: {answer:?}");
            assert_eq!(
                (answer.status, answer.header("content-type")),
                (200, kind.strip_suffix("+proto").or(Some(kind))),
                "{way}"
            );
            let body = if text {
                decode(&answer.body)
            } else {
                answer.body.chars().map(|c| c as u8).collect()
            };
            let found = frames(&body);
            assert_eq!(
                found[..2],
                [(0, FIVE.to_vec()), (0, NONE.to_vec())],
                "{way}"
            );
            let (kind, trailers) = &found[2];
            let trailers = String::from_utf8(trailers.clone()).unwrap();
            assert_eq!((*kind, found.len()), (0x80, 3), "{way}");
            assert!(
                trailers.lines().any(|line| line == "grpc-status: 0"),
                "{trailers}"
            );
            assert!(trailers.ends_with("\r\n"), "{trailers:?}");
        }
    }
    proxy.stop();
}

/// Padded message by message, as clients that stream do.
#[test]
fn text_may_be_padded_in_the_middle() {
    let (_server, address) = server(&[]);
    let proxy = proxy(address);
    // `StreamingInputCall` with payloads of one and of two bytes.
    let one = message(&[0x0a, 3, 0x12, 1, b'x']);
    let two = message(&[0x0a, 4, 0x12, 2, b'x', b'y']);
    let text = STANDARD.encode(one) + &STANDARD.encode(two);
    assert!(text[..text.len() - 4].contains('='));
    let answer = Web::new(
        "StreamingInputCall",
        "application/grpc-web-text",
        text.into_bytes(),
    )
    .ask(&proxy);
    let found = frames(&decode(&answer.body));
    assert_eq!(found[0], (0, vec![8, 3]), "an aggregated size of 3");
    proxy.stop();
}

/// A call that fails at once has its status in the head, whoever says it.
#[test]
fn failures_are_told_in_the_head_or_in_the_trailers() {
    let (_server, address) = server(&[]);
    let proxy = proxy(address);
    let kind = "application/grpc-web-text";
    let empty = STANDARD.encode(message(b"")).into_bytes();
    let unknown = Web::new("UnimplementedCall", kind, empty.clone()).ask(&proxy);
    assert_eq!(
        (unknown.status, unknown.header("grpc-status")),
        (200, Some("12"))
    );
    assert_eq!(
        (unknown.header("content-type"), unknown.body.as_str()),
        (Some(kind), "")
    );

    // `response_status { code: 9, message: "no" }`
    let status = message(&[0x3a, 6, 8, 9, 0x12, 2, b'n', b'o']);
    let failed = Web::new("UnaryCall", kind, STANDARD.encode(status).into_bytes()).ask(&proxy);
    let last = frames(&decode(&failed.body)).pop().unwrap();
    let trailers = String::from_utf8(last.1).unwrap();
    for line in ["grpc-status: 9", "grpc-message: no"] {
        assert!(trailers.lines().any(|it| it == line), "{trailers}");
    }

    // The proxy's own: a broken body, and no route.
    for body in [&b"????"[..], b"AAAA!AAA", b"AAAAAAA"] {
        let broken = Web::new("EmptyCall", kind, body.to_vec()).ask(&proxy);
        let said = (broken.header("grpc-status"), broken.header("content-type"));
        assert_eq!(said, (Some("13"), Some(kind)), "{broken:?}");
    }
    let nowhere = Web::new("../Other/Call", kind, empty).ask(&proxy);
    assert_eq!(
        (nowhere.status, nowhere.header("grpc-status")),
        (200, Some("12")),
        "{nowhere:?}"
    );
    proxy.stop();
}

/// The same over HTTP/2, as browsers have it from a page over TLS.
#[test]
fn over_http2() {
    let (_server, address) = server(&[]);
    let proxy = proxy(address);
    let answer = block_on(async {
        let mut sender = connect(proxy.addr("web")).await;
        let body = Full::new(Bytes::from(STANDARD.encode(message(TWO))));
        let request = http::Request::post("http://a/grpc.testing.TestService/StreamingOutputCall")
            .header("content-type", "application/grpc-web-text")
            .body(body.boxed());
        ask(&mut sender, request.unwrap()).await.unwrap()
    });
    assert_eq!(answer.headers["content-type"], "application/grpc-web-text");
    assert_eq!(answer.trailers, None);
    let found = frames(&decode(&answer.body));
    let kinds: Vec<_> = found.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [0, 0, 0x80]);
    assert_eq!((&found[0].1[..], &found[1].1[..]), (FIVE, NONE));
    proxy.stop();
}

/// Off, nothing is touched.
#[test]
fn it_is_off_by_default() {
    let backend = crate::support::backend::echo("v1");
    let proxy = Proxy::start(&all_to(backend.address));
    let body = STANDARD.encode(message(b"")).into_bytes();
    let answer = Web::new("EmptyCall", "application/grpc-web-text", body).ask(&proxy);
    assert_eq!(
        answer.seen("content-type").as_deref(),
        Some("application/grpc-web-text")
    );
    assert!(answer.body.ends_with("|AAAAAAA="), "{}", answer.body);
    proxy.stop();
}
