//! Who the client is by its certificate: in rules, in authorization, in what backends are told.

use std::path::Path;
use std::process::Command;

use crate::support::backend::echo;
use crate::support::proxy::Proxy;

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
