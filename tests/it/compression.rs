//! Answers that are compressed on their way, and those that are not.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::support::backend::{Backend, scripted};
use crate::support::client::{Client, dial};
use crate::support::eventually;
use crate::support::proxy::{Proxy, config, with_listener};

/// A text that compresses well.
fn text() -> String {
    "to divide a river, hold it back first; ".repeat(500)
}

/// Answers by path: `/png`, `/short`, `/encoded`, `/fixed`, `/chunked`, else a text with an etag.
fn backend() -> Backend {
    scripted(|seen, stream| {
        let text = text();
        let path = seen.head.split(' ').nth(1).unwrap_or_default();
        let (fields, body) = match path {
            "/png" => ("content-type: image/png\r\n", &*text),
            "/short" => ("content-type: text/plain\r\n", "short"),
            "/encoded" => (
                "content-type: text/plain\r\ncontent-encoding: identity\r\n",
                &*text,
            ),
            "/fixed" => (
                "content-type: text/plain\r\ncache-control: no-transform\r\n",
                &*text,
            ),
            _ => (
                "content-type: text/plain; charset=utf-8\r\netag: \"v1\"\r\naccept-ranges: bytes\r\n",
                &*text,
            ),
        };
        let status = if seen.head.to_lowercase().contains("range: bytes=0-9999") {
            "206 Partial Content\r\ncontent-range: bytes 0-9999/19500"
        } else {
            "200 OK"
        };
        let head = if path == "/chunked" {
            format!("HTTP/1.1 {status}\r\n{fields}transfer-encoding: chunked\r\n\r\n")
        } else {
            format!(
                "HTTP/1.1 {status}\r\n{fields}content-length: {}\r\n\r\n",
                body.len()
            )
        };
        let body = match path {
            _ if seen.head.starts_with("HEAD ") => String::new(),
            "/chunked" => format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
            _ => body.to_owned(),
        };
        stream.write_all((head + &body).as_bytes()).is_ok()
    })
}

fn start(filters: &str, listener: &str) -> (Proxy, Backend) {
    let backend = backend();
    let route = format!(
        "  - {{ name: r, rules: [{{ name: all, filters: [{filters}], backendRefs: [{{ name: v1 }}] }}] }}\n"
    );
    let text = config(&route, &[("v1", backend.address)]);
    let text = if listener.is_empty() {
        text
    } else {
        with_listener(&text, listener)
    };
    (Proxy::start(&text), backend)
}

const FILTER: &str = "{ type: Compression, compression: {} }";

/// Head and body as curl sees them; the body as it came, or decoded.
fn curl(to: SocketAddr, path: &str, accepts: &str, arguments: &[&str]) -> (String, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let head = folder.path().join("head");
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--header"])
        .arg(format!("accept-encoding: {accepts}"))
        .arg("--dump-header")
        .arg(&head)
        .args(arguments)
        .arg(format!("http://{to}{path}"))
        .output()
        .expect("install the Debian package curl");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    let head = std::fs::read_to_string(head).unwrap().to_lowercase();
    (head, output.stdout)
}

#[test]
fn each_algorithm_is_spoken_over_both_versions_of_http() {
    let (proxy, _backend) = start(FILTER, "");
    let web = proxy.addr("web");
    for (accepts, algorithm) in [
        ("gzip", "gzip"),
        ("br", "br"),
        ("zstd", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("zstd;q=0.1, br", "br"),
    ] {
        for path in ["/", "/chunked"] {
            for version in ["--http1.1", "--http2-prior-knowledge"] {
                let (head, body) = curl(web, path, accepts, &[version, "--compressed"]);
                assert!(
                    head.contains(&format!("content-encoding: {algorithm}\r\n")),
                    "{accepts} {path}: {head}"
                );
                assert_eq!(String::from_utf8(body).unwrap(), text(), "{accepts} {path}");
                for said in ["vary: accept-encoding", "etag: w/\"v1\""] {
                    assert!(head.contains(said), "{said}: {head}");
                }
                for gone in ["accept-ranges", "content-length"] {
                    assert!(!head.contains(gone), "{gone}: {head}");
                }
                let (_, raw) = curl(web, path, accepts, &[version]);
                assert!(raw.len() < text().len() / 10, "{}", raw.len());
            }
        }
    }
    // What was sent is what is counted.
    let bytes = proxy.metric("weir_response_bytes_total", &["rule=\"all\""]);
    assert!(bytes < text().len() as f64 * 20.0 / 5.0, "{bytes}");
    proxy.stop();
}

#[test]
fn what_would_gain_nothing_or_must_not_change_is_left_as_it_is() {
    let (proxy, _backend) = start(FILTER, "");
    let web = proxy.addr("web");
    for (path, accepts, arguments, vary) in [
        ("/", "identity", &[][..], true),
        ("/", "gzip;q=0, deflate", &[], true),
        ("/short", "gzip", &[], false),
        ("/png", "gzip", &[], false),
        ("/encoded", "gzip", &[], false),
        ("/fixed", "gzip", &[], false),
        ("/", "gzip", &["--header", "range: bytes=0-9999"], false),
    ] {
        let (head, body) = curl(web, path, accepts, arguments);
        let expected = if path == "/short" {
            "short".to_owned()
        } else {
            text()
        };
        assert_eq!(String::from_utf8(body).unwrap(), expected, "{path}");
        assert_eq!(
            head.contains("vary: accept-encoding"),
            vary,
            "{path}: {head}"
        );
        assert!(head.contains("content-length"), "{path}: {head}");
        assert!(!head.contains("w/"), "{path}: {head}");
    }
    proxy.stop();
}

#[test]
fn the_answer_to_head_is_that_to_get_without_its_body() {
    let (proxy, _backend) = start(FILTER, "");
    let mut client = Client::connect(proxy.addr("web"));
    for _ in 0..2 {
        let answer = client.ask("HEAD / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br\r\n\r\n");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-encoding"), Some("br"));
        assert_eq!(answer.header("etag"), Some("W/\"v1\""));
        assert_eq!(answer.header("content-length"), None);
    }
    proxy.stop();
}

#[test]
fn a_rule_comes_before_its_listener() {
    let listener = "compression: { algorithms: [gzip] }";
    for (filters, expected) in [
        ("", Some("gzip")),
        (
            "{ type: Compression, compression: { algorithms: [br, gzip] } }",
            Some("br"),
        ),
        (
            "{ type: Compression, compression: { algorithms: [] } }",
            None,
        ),
        (
            "{ type: Compression, compression: { minBytes: 1MiB } }",
            None,
        ),
        (
            "{ type: Compression, compression: { contentTypes: [\"application/*\"] } }",
            None,
        ),
    ] {
        let (proxy, _backend) = start(filters, listener);
        let (head, _) = curl(proxy.addr("web"), "/", "gzip, br", &[]);
        let line = head
            .lines()
            .find_map(|line| line.strip_prefix("content-encoding: "));
        assert_eq!(line, expected, "{filters}: {head}");
        proxy.stop();
    }
}

/// Each event arrives when it is sent, compressed or not; and a body that breaks off is not ended.
#[test]
fn what_comes_in_pieces_arrives_in_pieces() {
    let backend = scripted(|seen, stream| {
        let kind = if seen.head.contains("/events") {
            "text/event-stream"
        } else {
            "text/plain"
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let pieces = [
            format!("{head}6\r\nfirst\n\r\n"),
            "7\r\nsecond\n\r\n".to_owned(),
        ];
        for piece in pieces {
            // Without a last chunk: it breaks off.
            drop(stream.write_all(piece.as_bytes()));
            std::thread::park_timeout(Duration::from_secs(1));
        }
        false
    });
    let route = |events: bool| {
        let filter = format!("{{ type: Compression, compression: {{ events: {events} }} }}");
        let route = format!(
            "  - {{ name: r, rules: [{{ name: all, filters: [{filter}], backendRefs: [{{ name: v1 }}] }}] }}\n"
        );
        config(&route, &[("v1", backend.address)])
    };
    for (path, events, compressed) in [
        ("/", false, true),
        ("/events", true, true),
        ("/events", false, false),
    ] {
        let proxy = Proxy::start(&route(events));
        let mut stream = dial(proxy.addr("web"));
        let request = format!("GET {path} HTTP/1.0\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        // HTTP/1.0 has no chunks: what follows the head is the body.
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        assert_eq!(
            head.contains("content-encoding: gzip"),
            compressed,
            "{head}"
        );
        let mut decoder = flate2::write::GzDecoder::new(Vec::new());
        let mut plain = Vec::new();
        let mut next = |expected: &str| {
            eventually(expected, || {
                let mut bytes = [0; 256];
                let count = stream.read(&mut bytes).unwrap();
                assert!(count > 0, "closed before {expected}");
                if compressed {
                    decoder.write_all(&bytes[..count]).unwrap();
                    decoder.flush().unwrap();
                    plain.clone_from(decoder.get_ref());
                } else {
                    plain.extend_from_slice(&bytes[..count]);
                }
                plain.ends_with(expected.as_bytes()).then_some(())
            });
        };
        let began = std::time::Instant::now();
        next("first\n");
        assert!(began.elapsed() < Duration::from_millis(900), "{path}");
        next("second\n");
        drop(stream);
        if compressed {
            assert!(decoder.try_finish().is_err(), "half an answer looks whole");
        }
        proxy.stop();
    }
}

/// Trailers follow a compressed body as they follow any other.
#[test]
fn trailers_follow_a_compressed_body() {
    let backend = scripted(|_, stream| {
        let text = text();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n";
        let body = format!("{:x}\r\n{text}\r\n0\r\nx-sum: 7\r\n\r\n", text.len());
        stream
            .write_all((head.to_owned() + &body).as_bytes())
            .is_ok()
    });
    let route = format!(
        "  - {{ name: r, rules: [{{ name: all, filters: [{FILTER}], backendRefs: [{{ name: v1 }}] }}] }}\n"
    );
    let text = config(&route, &[("v1", backend.address)]);
    let proxy = Proxy::start_with(&text, &["--workers", "1"]);
    let mut stream = dial(proxy.addr("web"));
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE, close\r\nAccept-Encoding: gzip\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = String::from_utf8_lossy(&bytes[bytes.len() - 20..]).into_owned();
    assert!(end.ends_with("\r\n0\r\nx-sum: 7\r\n\r\n"), "{end}");
    // The connection to the backend is kept: the body was read to its end.
    crate::support::client::get(proxy.addr("web"), "a", "/", &[]);
    let made = proxy.metric("weir_upstream_connections_total", &["backend=\"v1\""]);
    assert!((made - 1.0).abs() < 0.1, "{made}");
    let log = proxy.stop();
    assert!(!log.contains("client_closed"), "{log}");
}
