//! Clients that people use, through the proxy: curl, nghttp, a browser, gRPC.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use tokio_tungstenite::tungstenite;

use crate::support::backend::{echo, raw, scripted};
use crate::support::pki::{Authority, Files, Leaf};
use crate::support::proxy::{Proxy, all_to, config, with_listener};
use crate::support::{DEADLINE, eventually};

/// Runs a client to its end, with a deadline; its output.
pub(crate) fn run(program: &str, package: &str, arguments: &[&str]) -> String {
    let output = Command::new("timeout")
        .args(["30", program])
        .args(arguments)
        .output()
        .unwrap();
    assert_ne!(
        output.status.code(),
        Some(127),
        "{program} is missing: install the Debian package {package}"
    );
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}: {said}{error}",
        output.status
    );
    said
}

/// Killed when dropped.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn curl_over_both_versions() {
    let backend = echo("v1");
    let proxy = Proxy::start(&all_to(backend.address));
    let url = format!("http://{}/things?a=1", proxy.addr("web"));
    let shown = "\n%{http_version} %{response_code} %{num_connects}\n";
    let folder = tempfile::tempdir().unwrap();
    // Large enough that curl asks with `expect: 100-continue` before it sends.
    let file = folder.path().join("upload");
    std::fs::write(&file, "weir".repeat(500_000)).unwrap();
    let upload = format!("@{}", file.display());
    for (flag, version) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
        let curl = |arguments: &[&str]| {
            let fixed = ["--silent", "--show-error", flag, "--write-out", shown];
            run("curl", "curl", &[&fixed[..], arguments].concat())
        };
        let said = curl(&["--include", "--header", "x-mine: 7", &url]);
        for part in [
            "x-backend: v1",
            "GET /things?a=1 HTTP/1.1",
            "x-mine: 7",
            &format!("\n{version} 200 1\n"),
        ] {
            assert!(said.contains(part), "{flag}: {part}: {said}");
        }
        let said = curl(&["--head", &url]);
        assert!(said.ends_with(&format!("\n{version} 200 1\n")), "{said}");
        let said = curl(&["--data-binary", &upload, &url]);
        assert!(
            said.contains("POST /things?a=1 HTTP/1.1")
                && said.matches("weir").count() >= 500_000
                && said.ends_with(&format!("\n{version} 200 1\n")),
            "{flag}: {} bytes",
            said.len()
        );
        // Two requests of one client, one connection. curl 7.88 cannot use one of HTTP/2 with prior
        // knowledge again, whoever the server is: "Error in the HTTP2 framing layer".
        if version == "1.1" {
            let said = curl(&[&url, &url]);
            assert!(
                said.contains("\n1.1 200 1\n") && said.ends_with("\n1.1 200 0\n"),
                "{said}"
            );
        }
    }
    proxy.stop();
}

#[test]
fn nghttp_with_many_streams() {
    let backend = echo("v1");
    let proxy = Proxy::start(&all_to(backend.address));
    let url = format!("http://{}/things", proxy.addr("web"));
    let said = run(
        "nghttp",
        "nghttp2-client",
        &["--verbose", "--multiply=20", "--no-push", &url],
    );
    assert_eq!(said.matches(":status: 200").count(), 20, "{said}");
    assert_eq!(said.matches("x-backend: v1").count(), 20, "{said}");
    assert!(!said.contains("RST_STREAM"), "{said}");
    proxy.stop();
}

/// A page that came through the proxy opens a WebSocket through it, and says what became of it.
fn browse(tls: Option<&Files>) -> String {
    let told = Arc::new(Mutex::new(None::<String>));
    let sink = Arc::clone(&told);
    let page = scripted(move |seen, stream| {
        let target = seen.head.split(' ').nth(1).unwrap_or_default();
        if let Some(what) = target.strip_prefix("/told?") {
            *sink.lock().unwrap() = Some(what.to_owned());
        }
        let body = if target == "/" {
            include_str!("page.html")
        } else {
            ""
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + body).as_bytes()).is_ok()
    });
    let chat = raw(|stream, _| {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        // A connection that the pool has opened ahead speaks no WebSocket.
        let Ok(mut socket) = tungstenite::accept(stream) else {
            return;
        };
        while let Ok(message) = socket.read() {
            if (message.is_text() || message.is_binary()) && socket.send(message).is_err() {
                return;
            }
        }
    });
    let rules = "  - name: r\n    rules:\n\
        \x20     - { name: chat, matches: [{ path: { value: /chat } }], backendRefs: [{ name: chat }] }\n\
        \x20     - { name: page, backendRefs: [{ name: page }] }\n";
    let text = config(rules, &[("chat", chat.address), ("page", page.address)]);
    let proxy = Proxy::start(&match tls {
        None => text,
        Some(files) => {
            let at = |name: &str| files.at(name).display().to_string();
            let (certificate, key) = (at("server.crt"), at("server.key"));
            let pair = format!("{{ certificate: \"{certificate}\", key: \"{key}\" }}");
            with_listener(&text, &format!("tls: {{ certificates: [{pair}] }}"))
        }
    });
    let scheme = if tls.is_some() { "https" } else { "http" };
    let profile = tempfile::tempdir().unwrap();
    let browser = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--ignore-certificate-errors",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            // Else it ends as soon as the page is there.
            "--remote-debugging-port=0",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("{scheme}://{}/", proxy.addr("web")))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("install the Debian package chromium");
    let browser = Running(browser);
    let told = eventually("the page's report", || told.lock().unwrap().take());
    assert_eq!(told, "gr%C3%BC%C3%9Fe%2C100000%2Ctrue%2Ctrue%2C1000");
    drop(browser);
    proxy.stop()
}

#[test]
fn a_browsers_websocket() {
    let log = browse(None);
    assert!(log.contains("\"status\":101"), "{log}");
}

/// Where a page came over HTTP/2, its WebSocket is a stream of the same connection (RFC 8441).
#[test]
fn a_browsers_websocket_over_http2() {
    let (files, ca) = (Files::new(), Authority::new("test authority"));
    files.put_pair("server", &ca.issue(&Leaf::server(&["127.0.0.1"])));
    let log = browse(Some(&files));
    let mut lines = log.lines();
    let chat = lines.find(|line| line.contains("/chat")).unwrap();
    for part in ["\"method\":\"CONNECT\"", "\"status\":200", "HTTP/2"] {
        assert!(chat.contains(part), "{part}: {chat}");
    }
}

pub(crate) fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/venv/bin/python");
    assert!(
        python.exists(),
        "grpcio is missing: run .ci/install, which installs it from PyPI"
    );
    python
}

const GRPC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/clients/both_ends.py");

/// Unary and every streaming shape, with status, details and metadata in trailers as they were sent.
#[test]
fn grpc_by_grpcio() {
    let server = Command::new(python())
        .args([GRPC, "serve"])
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
    // Bound, so that nobody else gets it, but nobody listens.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(
            &"127.0.0.1:0"
                .parse::<std::net::SocketAddr>()
                .unwrap()
                .into(),
        )
        .unwrap();
    let nobody = socket.local_addr().unwrap().as_socket().unwrap();
    let rules = "  - name: r\n    rules:\n\
        \x20     - { name: test, matches: [{ path: { value: /weir.Test } }], backendRefs: [{ name: v1 }] }\n\
        \x20     - { name: gone, matches: [{ path: { value: /weir.Gone } }], backendRefs: [{ name: gone }] }\n";
    let text = config(rules, &[("v1", address), ("gone", nobody)])
        .replace("endpoints", "protocol: h2c, endpoints");
    let proxy = Proxy::start(&text);
    let said = run(
        python().to_str().unwrap(),
        "python3",
        &[GRPC, "ask", &proxy.addr("web").to_string()],
    );
    assert_eq!(said, "all well\n");
    proxy.stop();
}
