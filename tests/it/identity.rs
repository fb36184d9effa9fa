//! Who the client is by its certificate: in rules, in authorization, in what backends are told.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::support::backend::echo;
use crate::support::client::get;
use crate::support::pki::{Authority, Files, Leaf};
use crate::support::proxy::{Proxy, all_to};
use crate::support::tls;

const IDENTITY: &str = "spiffe://shop.example/ns/a/sa/frontend";

/// An authority with a server's and a client's certificate.
fn certificates() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["cert", "dev", "--identity", IDENTITY])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    folder
}

fn config(certificates: &Path, backend: std::net::SocketAddr, authorization: &str) -> String {
    let at = |name: &str| certificates.join(name).display().to_string();
    format!(
        "version: 1\n\
         {authorization}\n\
         listeners:\n\
         \x20 - name: mesh\n\
         \x20   address: 127.0.0.1:0\n\
         \x20   tls:\n\
         \x20     certificates: [{{ certificate: {crt}, key: {key} }}]\n\
         \x20     clientValidation: {{ mode: optional, ca: {ca} }}\n\
         routes:\n\
         \x20 - name: all\n\
         \x20   rules:\n\
         \x20     - name: known\n\
         \x20       matches: [{{ identities: [\"spiffe://shop.example/ns/*/sa/frontend\"] }}]\n\
         \x20       filters: [{{ type: ResponseHeaderModifier, responseHeaderModifier: {{ set: [{{ name: x-rule, value: known }}] }} }}]\n\
         \x20       backendRefs: [{{ name: b }}]\n\
         \x20     - name: anybody\n\
         \x20       filters: [{{ type: ResponseHeaderModifier, responseHeaderModifier: {{ set: [{{ name: x-rule, value: anybody }}] }} }}]\n\
         \x20       backendRefs: [{{ name: b }}]\n\
         backends: [{{ name: b, endpoints: [{{ address: \"{backend}\" }}] }}]\n",
        crt = at("server.crt"),
        key = at("server.key"),
        ca = at("ca.crt"),
    )
}

/// What curl prints, the head included.
fn curl(certificates: &Path, proxy: &Proxy, known: bool, arguments: &[&str], path: &str) -> String {
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--include",
        "--max-time",
        "20",
        "--cacert",
    ])
    .arg(certificates.join("ca.crt"));
    if known {
        curl.arg("--cert").arg(certificates.join("client.crt"));
        curl.arg("--key").arg(certificates.join("client.key"));
    }
    let url = format!("https://{}{path}", proxy.addr("mesh"));
    let output = curl.args(arguments).arg(url).output();
    let output = output.expect("install the Debian package curl");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .to_ascii_lowercase()
}

#[test]
fn a_rule_can_be_for_some_clients_and_backends_learn_who_it_is() {
    let (certificates, backend) = (certificates(), echo("b"));
    let proxy = Proxy::start(&config(certificates.path(), backend.address, ""));
    let folder = certificates.path();
    let forged = [
        "-H",
        "x-forwarded-client-cert: Hash=1;URI=spiffe://shop.example/ns/a/sa/frontend",
    ];
    let known = curl(folder, &proxy, true, &forged, "/");
    assert!(known.contains("x-rule: known"), "{known}");
    assert!(known.contains(&format!(";uri={IDENTITY}")), "{known}");
    assert!(!known.contains("hash=1;"), "{known}");
    let unknown = curl(folder, &proxy, false, &forged, "/");
    assert!(unknown.contains("x-rule: anybody"), "{unknown}");
    assert!(!unknown.contains("x-forwarded-client-cert"), "{unknown}");
    assert!(unknown.contains("x-forwarded-proto"), "{unknown}");
}

#[test]
fn authorization_refuses_with_a_reason_and_only_counts_in_a_dry_run() {
    let (certificates, backend) = (certificates(), echo("b"));
    let rules = |dry_run: bool| {
        format!(
            "authorization:\n\
             \x20 dryRun: {dry_run}\n\
             \x20 deny: [{{ name: internals, paths: [{{ value: /internal }}] }}]\n\
             \x20 allow:\n\
             \x20   - {{ name: read, methods: [GET] }}\n\
             \x20   - {{ name: write, identities: [\"{IDENTITY}\"] }}"
        )
    };
    let folder = certificates.path();
    let proxy = Proxy::start(&config(folder, backend.address, &rules(false)));
    let post = ["--request", "POST"];
    for (known, method, path, status, reason) in [
        (false, &[][..], "/", " 200", ""),
        (false, &post[..], "/", " 403", "error=http_request_denied"),
        (true, &post[..], "/", " 200", ""),
        (
            true,
            &[][..],
            "/internal/x",
            " 403",
            "error=http_request_denied",
        ),
        // What the backend would be sent is what is judged.
        (
            true,
            &["--path-as-is"][..],
            "/a/../internal",
            " 403",
            "error=http_request_denied",
        ),
    ] {
        let answer = curl(folder, &proxy, known, method, path);
        let first = answer.lines().next().unwrap();
        assert!(
            first.contains(status) && answer.contains(reason),
            "{method:?} {path}: {answer}"
        );
    }
    let refused =
        |rule: &str, mode: &str| proxy.metric("weir_authorization_refused_total", &[rule, mode]);
    assert!((refused("rule=\"internals\"", "enforced") - 2.0).abs() < 0.1);
    assert!((refused("rule=\"none\"", "enforced") - 1.0).abs() < 0.1);
    assert!((proxy.metric("weir_errors_total", &["reason=\"forbidden\""]) - 3.0).abs() < 0.1);

    proxy.write_config(&config(folder, backend.address, &rules(true)));
    proxy.wait_generation(2);
    let answer = curl(folder, &proxy, false, &post, "/internal");
    assert!(answer.lines().next().unwrap().contains(" 200"), "{answer}");
    assert!((refused("rule=\"internals\"", "dry_run") - 1.0).abs() < 0.1);
}

/// Connects to a listener and asks: the status and what the backend saw of a field.
fn told(
    proxy: &Proxy,
    listener: &str,
    config: &Arc<rustls::ClientConfig>,
    request: &str,
    field: &str,
) -> (u16, Option<String>) {
    let mut client = tls::connect(proxy.addr(listener), "localhost", config).unwrap();
    let response = client.ask(request);
    (response.status, response.seen(field))
}

#[test]
fn the_certificate_is_told_by_us_alone_unless_the_peer_is_trusted() {
    let (authority, files, backend) = (Authority::new("ca"), Files::new(), echo("b"));
    files.put_pair("server", &authority.issue(&Leaf::server(&["localhost"])));
    files.put("ca.crt", &authority.pem);
    let at = |name: &str| files.at(name).display().to_string();
    let secure = format!(
        "tls: {{ certificates: [{{ certificate: \"{}\", key: \"{}\" }}], clientValidation: {{ mode: optional, ca: \"{}\" }} }}",
        at("server.crt"),
        at("server.key"),
        at("ca.crt")
    );
    let trusting = "trustedProxies: [127.0.0.0/8]";
    let text = all_to(backend.address).replace(
        "  - { name: web, address: \"127.0.0.1:0\" }\n",
        &format!(
            // Listeners of one address would share what counts before a request.
            "  - {{ name: web, address: \"127.0.0.1:0\" }}\n\
             \x20 - {{ name: trusting, address: \"127.0.0.2:0\", {trusting} }}\n\
             \x20 - {{ name: mesh, address: \"127.0.0.3:0\", {secure} }}\n\
             \x20 - {{ name: chained, address: \"127.0.0.4:0\", {secure}, {trusting} }}\n"
        ),
    );
    let proxy = Proxy::start(&text);

    let pair = authority.issue(
        &Leaf::client(&[IDENTITY, "client.example"])
            .subject(&[(rcgen::DnType::CommonName, "front, \"end\"")]),
    );
    let known = Arc::new(tls::client(&authority.pem, Some(&pair)));
    let unknown = Arc::new(tls::client(&authority.pem, None));
    let ours = format!(
        "Hash={};Subject=\"CN=front\\\\, \\\\\\\"end\\\\\\\"\";URI={IDENTITY};DNS=client.example",
        pair.fingerprint()
    );
    let forged = "Hash=1;URI=spiffe://shop.example/ns/a/sa/admin";
    let with = |name: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{name}: {forged}\r\n\r\n");
    let field = "x-forwarded-client-cert";
    for name in [field, "X-Forwarded-Client-Cert"] {
        let (status, seen) = told(&proxy, "mesh", &known, &with(name), field);
        assert_eq!((status, seen.as_deref()), (200, Some(&*ours)));
        let (status, seen) = told(&proxy, "mesh", &unknown, &with(name), field);
        assert_eq!((status, seen), (200, None));
        // A peer that is trusted has its say; ours comes behind it.
        let (_, seen) = told(&proxy, "chained", &known, &with(name), field);
        assert_eq!(seen, Some(format!("{forged}, {ours}")));
        let (_, seen) = told(&proxy, "chained", &unknown, &with(name), field);
        assert_eq!(seen.as_deref(), Some(forged));
    }
    // Another spelling that frameworks take for the same.
    let alias = "x_forwarded_client_cert";
    assert_eq!(told(&proxy, "mesh", &known, &with(alias), alias).1, None);
    // Nor by naming it as belonging to the connection.
    let named =
        format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {field}\r\n{field}: {forged}\r\n\r\n");
    let (_, seen) = told(&proxy, "mesh", &known, &named, field);
    assert_eq!(seen.as_deref(), Some(&*ours));
    // In the clear nobody has a certificate.
    let ask = |listener: &str| {
        let headers = [(field, forged)];
        get(proxy.addr(listener), "a", "/", &headers).seen(field)
    };
    assert_eq!(ask("web"), None);
    assert_eq!(ask("trusting").as_deref(), Some(forged));
    proxy.stop();
}

/// Who asks which listener for what, and the rule that refuses it; `-`: none does.
const REQUESTS: [(&str, &str, &str, &str, &str); 21] = [
    ("nobody", "mesh", "GET", "/healthz", "-"),
    ("nobody", "ops", "GET", "/healthz", "-"),
    ("nobody", "mesh", "POST", "/healthz", "none"),
    ("nobody", "mesh", "GET", "/healthz/x", "none"),
    ("nobody", "mesh", "GET", "/orders", "none"),
    ("ns/a/sa/frontend", "mesh", "GET", "/orders/1", "-"),
    ("ns/a/sa/frontend", "ops", "HEAD", "/orders", "-"),
    ("ns/a/sa/frontend", "mesh", "POST", "/orders", "none"),
    ("ns/a/sa/frontend", "mesh", "GET", "/ordersx", "none"),
    // What the backend is sent is what is judged.
    (
        "ns/a/sa/frontend",
        "mesh",
        "GET",
        "/orders/../internal",
        "none",
    ),
    ("ns/a/sa/frontend", "mesh", "GET", "/x/../orders", "-"),
    ("ns/b/sa/frontend", "mesh", "GET", "/orders", "-"),
    ("ns/a/sa/checkout", "mesh", "POST", "/orders", "-"),
    ("ns/a/sa/checkout", "ops", "POST", "/orders", "none"),
    (
        "ns/a/sa/checkout",
        "mesh",
        "DELETE",
        "/orders/1",
        "no-delete",
    ),
    ("x.clients.example", "mesh", "PUT", "/orders", "-"),
    ("ns/a/sa/batch", "mesh", "GET", "/healthz", "no-batch"),
    ("ns/a/sa/batch", "ops", "GET", "/healthz", "-"),
    ("CN=operator", "ops", "POST", "/anything", "-"),
    ("CN=operator", "ops", "DELETE", "/orders", "no-delete"),
    ("CN=operator", "mesh", "POST", "/anything", "none"),
];

/// A client with a certificate of that name: a path of SPIFFE, a DNS name or a subject.
fn named(authority: &Authority, who: &str) -> Arc<rustls::ClientConfig> {
    let leaf = match who.strip_prefix("CN=") {
        Some(name) => Leaf::client(&["op.example"]).subject(&[(rcgen::DnType::CommonName, name)]),
        None if who.starts_with("ns/") => Leaf::client(&[&format!("spiffe://shop.example/{who}")]),
        None => Leaf::client(&[who]),
    };
    let pair = (who != "nobody").then(|| authority.issue(&leaf));
    Arc::new(tls::client(&authority.pem, pair.as_ref()))
}

fn authorized(files: &Files, backend: std::net::SocketAddr, dry_run: bool) -> String {
    let at = |name: &str| files.at(name).display().to_string();
    let listener = |name: &str, address: &str| {
        format!(
            "  - {{ name: {name}, address: \"{address}:0\", tls: {{ \
             certificates: [{{ certificate: \"{}\", key: \"{}\" }}], \
             clientValidation: {{ mode: optional, ca: \"{}\" }} }} }}\n",
            at("server.crt"),
            at("server.key"),
            at("ca.crt")
        )
    };
    format!(
        "version: 1\nauthorization:\n\
         \x20 dryRun: {dry_run}\n\
         \x20 deny:\n\
         \x20   - {{ name: no-batch, identities: [\"spiffe://shop.example/ns/*/sa/batch\"], listeners: [mesh] }}\n\
         \x20   - {{ name: no-delete, methods: [DELETE], paths: [{{ value: /orders }}] }}\n\
         \x20 allow:\n\
         \x20   - {{ name: readers, identities: [\"spiffe://shop.example/ns/*/sa/frontend\"], methods: [GET, HEAD], paths: [{{ value: /orders }}] }}\n\
         \x20   - {{ name: writers, identities: [\"spiffe://shop.example/ns/a/sa/checkout\", \"*.clients.example\"], paths: [{{ value: /orders }}], listeners: [mesh] }}\n\
         \x20   - {{ name: health, methods: [GET], paths: [{{ type: Exact, value: /healthz }}] }}\n\
         \x20   - {{ name: operators, identities: [\"subject:CN=operator\"], listeners: [ops] }}\n\
         listeners:\n{}{}\
         routes: [{{ name: all, rules: [{{ backendRefs: [{{ name: b }}] }}] }}]\n\
         backends: [{{ name: b, endpoints: [{{ address: \"{backend}\" }}] }}]\n",
        listener("mesh", "127.0.0.11"),
        listener("ops", "127.0.0.12"),
    )
}

#[test]
fn authorization_is_by_identity_method_path_and_listener() {
    let (authority, files, backend) = (Authority::new("ca"), Files::new(), echo("b"));
    files.put_pair("server", &authority.issue(&Leaf::server(&["localhost"])));
    files.put("ca.crt", &authority.pem);
    let proxy = Proxy::start(&authorized(&files, backend.address, false));
    let ask = |who: &str, listener: &str, method: &str, path: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        told(&proxy, listener, &named(&authority, who), &request, "host").0
    };
    let count = |rule: &str| REQUESTS.iter().filter(|it| it.4 == rule).count() as u64;
    let refused = |mode: &str| {
        for rule in ["no-batch", "no-delete", "none"] {
            let labels = [&*format!("rule=\"{rule}\""), &*format!("mode=\"{mode}\"")];
            let counted = proxy.metric("weir_authorization_refused_total", &labels);
            assert_eq!(
                counted.to_string(),
                count(rule).to_string(),
                "{rule} {mode}"
            );
        }
    };
    for (who, listener, method, path, rule) in REQUESTS {
        let status = if rule == "-" { 200 } else { 403 };
        let told = ask(who, listener, method, path);
        assert_eq!(told, status, "{who} {listener} {method} {path}: {rule}");
    }
    assert_eq!(backend.requests(), count("-"));
    refused("enforced");

    proxy.write_config(&authorized(&files, backend.address, true));
    proxy.wait_generation(2);
    for (who, listener, method, path, _) in REQUESTS {
        let told = ask(who, listener, method, path);
        assert_eq!(told, 200, "{who} {listener} {method} {path}");
    }
    refused("dry_run");
    proxy.stop();
}
