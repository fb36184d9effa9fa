//! TLS and mTLS: handshakes, who is let in, what is renewed, and the way to the backends.

mod backends;
mod clients;
mod directed;
mod envoy;
mod handshakes;
mod hostile;
mod redirect;
mod rotation;
mod scan;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::eventually;
use crate::support::pki::{Authority, Files, Leaf, Pair};
use crate::support::proxy::{Proxy, all_to, with_listener};

/// An authority, and a server's certificate of it in files for `NAME.crt` and `NAME.key`.
struct Pki {
    files: Files,
    ca: Authority,
}

impl Pki {
    /// With `ca.crt` and the pair `server` for `web.example` and 127.0.0.1.
    fn new() -> Self {
        let (files, ca) = (Files::new(), Authority::new("test authority"));
        files.put("ca.crt", &ca.pem);
        let this = Self { files, ca };
        this.issue("server", &Leaf::server(&["web.example", "127.0.0.1"]));
        this
    }

    fn issue(&self, name: &str, leaf: &Leaf) -> Pair {
        let pair = self.ca.issue(leaf);
        self.files.put_pair(name, &pair);
        pair
    }

    fn path(&self, name: &str) -> String {
        self.files.at(name).display().to_string()
    }

    /// A pair of these files as an item of `certificates`.
    fn pair(&self, name: &str) -> String {
        pair(self.files.folder(), name)
    }

    /// `tls` of a listener that shows `server`, with further fields.
    fn tls(&self, fields: &str) -> String {
        format!("tls: {{ certificates: [{}]{fields} }}", self.pair("server"))
    }

    /// A proxy whose only listener has that.
    fn proxy(&self, fields: &str, backend: SocketAddr) -> Proxy {
        Proxy::start(&with_listener(&all_to(backend), &self.tls(fields)))
    }
}

fn pair(folder: &Path, name: &str) -> String {
    let at = |end: &str| folder.join(format!("{name}.{end}")).display().to_string();
    format!(
        "{{ certificate: \"{}\", key: \"{}\" }}",
        at("crt"),
        at("key")
    )
}

/// Handshakes with clients that ended so.
fn handshakes(proxy: &Proxy, result: &str) -> f64 {
    let label = format!("result=\"{result}\"");
    proxy.metric("weir_tls_handshakes_total", &[&label])
}

/// A handshake has ended so for the `count`th time, and the log says it with `why`. Nothing else
/// was counted for it.
fn refused(proxy: &Proxy, result: &str, count: u32, why: &str) {
    eventually(&format!("{count} of {result}"), || {
        (handshakes(proxy, result) > f64::from(count) - 0.5).then_some(())
    });
    assert!(
        (handshakes(proxy, result) - f64::from(count)).abs() < 0.1,
        "{}",
        proxy.ask("/metrics").body
    );
    eventually(&format!("{result} with {why} in the log"), || {
        proxy
            .program_log()
            .lines()
            .any(|line| line.contains(&format!("no handshake: {result}")) && line.contains(why))
            .then_some(())
    });
}

/// The log says it, now or soon: it is written by a thread of its own.
fn logged(proxy: &Proxy, text: &str) {
    eventually(&format!("{text} in the log"), || {
        proxy.program_log().contains(text).then_some(())
    });
}

/// What a program printed on either stream, with what it is told on its standard input.
pub(crate) fn run(program: &str, package: &str, arguments: &[&str], input: &str) -> (bool, String) {
    use std::io::Write;
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{program}: {error}; install {package}"));
    // It may have ended without reading it.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.success(), text)
}

/// `curl` to the proxy under the name `host`, believing `ca`.
fn curl(pki: &Pki, proxy: &Proxy, host: &str, arguments: &[&str]) -> (bool, String) {
    let port = proxy.addr("web").port();
    let (ca, url) = (pki.path("ca.crt"), format!("https://{host}:{port}/"));
    let connect = format!("{host}:{port}:127.0.0.1");
    let fixed = [
        "--silent",
        "--show-error",
        "--max-time",
        "20",
        "--cacert",
        &ca,
        "--resolve",
        &connect,
        "--write-out",
        "[%{http_version} %{http_code} %{ssl_verify_result}]",
    ];
    run(
        "curl",
        "the Debian package curl",
        &[&fixed, arguments, &[&url]].concat(),
        "",
    )
}

/// `openssl s_client` to the proxy; what it is told goes out after the handshake.
fn s_client(proxy: &Proxy, arguments: &[&str], input: &str) -> (bool, String) {
    let address = proxy.addr("web").to_string();
    let fixed = ["20", "openssl", "s_client", "-connect", &address];
    run(
        "timeout",
        "the Debian package openssl",
        &[&fixed, arguments].concat(),
        input,
    )
}
