//! What a scanner finds at a listener.

use serde_json::Value;

use super::{Pki, run};
use crate::support::backend::echo;
use crate::support::pki::Leaf;
use crate::support::proxy::{Proxy, all_to, with_listener};

/// Scans the listener; complies with what Mozilla recommends under this name, or fails the test.
fn scan(pki: &Pki, proxy: &Proxy, recommendation: &str) -> Value {
    let report = pki.path("report.json");
    let target = format!("127.0.0.1:{}", proxy.addr("web").port());
    let (complies, said) = run(
        "sslyze",
        "the PyPI package sslyze (.ci/install does)",
        &[
            "--certinfo_ca_file",
            &pki.path("ca.crt"),
            "--mozilla_config",
            recommendation,
            "--sslv2",
            "--sslv3",
            "--tlsv1",
            "--tlsv1_1",
            "--tlsv1_2",
            "--compression",
            "--early_data",
            "--openssl_ccs",
            "--fallback",
            "--heartbleed",
            "--robot",
            "--reneg",
            "--ems",
            "--json_out",
            &report,
            "--sni",
            "web.example",
            &target,
        ],
        "",
    );
    assert!(complies && said.contains("OK - Compliant"), "{said}");
    let report = std::fs::read_to_string(report).unwrap();
    // Serial numbers and moduli are larger than any number of ours.
    let large = regex::Regex::new(r": \d{19,}").unwrap();
    let report: Value = serde_json::from_str(&large.replace_all(&report, ": 0")).unwrap();
    let server = &report["server_scan_results"][0];
    assert_eq!(server["scan_status"], "COMPLETED", "{server}");
    server["scan_result"].clone()
}

/// The result of one scan, which must have been done.
fn of<'a>(all: &'a Value, name: &str) -> &'a Value {
    let one = &all[name];
    assert_eq!(one["status"], "COMPLETED", "{name}: {one}");
    &one["result"]
}

#[test]
fn a_scanner_finds_nothing() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let names = ["web.example", "127.0.0.1"];
    pki.issue("rsa", &Leaf::server(&names).rsa());
    let tls = |fields: &str| {
        let pairs = [pki.pair("server"), pki.pair("rsa")].join(", ");
        let tls = format!("tls: {{ certificates: [{pairs}]{fields} }}");
        Proxy::start(&with_listener(&all_to(backend.address), &tls))
    };
    let proxy = tls("");
    let found = scan(&pki, &proxy, "intermediate");
    for weak in ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"] {
        let accepted = &of(&found, &format!("{weak}_cipher_suites"))["accepted_cipher_suites"];
        assert_eq!(accepted.as_array().unwrap().len(), 0, "{weak}: {accepted}");
    }
    // Forward secrecy and authenticated encryption, with either kind of key.
    let accepted = &of(&found, "tls_1_2_cipher_suites")["accepted_cipher_suites"];
    let mut suites: Vec<_> = accepted
        .as_array()
        .unwrap()
        .iter()
        .map(|suite| suite["cipher_suite"]["name"].as_str().unwrap())
        .collect();
    suites.sort_unstable();
    assert_eq!(
        suites,
        [
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        ]
    );
    for (name, field, wanted) in [
        ("tls_compression", "supports_compression", false),
        ("tls_1_3_early_data", "supports_early_data", false),
        (
            "openssl_ccs_injection",
            "is_vulnerable_to_ccs_injection",
            false,
        ),
        ("heartbleed", "is_vulnerable_to_heartbleed", false),
        ("tls_fallback_scsv", "supports_fallback_scsv", true),
        (
            "session_renegotiation",
            "supports_secure_renegotiation",
            true,
        ),
        (
            "session_renegotiation",
            "is_vulnerable_to_client_renegotiation_dos",
            false,
        ),
        ("tls_extended_master_secret", "supports_ems_extension", true),
    ] {
        assert_eq!(of(&found, name)[field], wanted, "{name}.{field}");
    }
    let robot = &of(&found, "robot")["robot_result"];
    assert_eq!(robot, "NOT_VULNERABLE_RSA_NOT_SUPPORTED");
    proxy.stop();

    let proxy = tls(", minVersion: \"1.3\"");
    let found = scan(&pki, &proxy, "modern");
    let accepted = &of(&found, "tls_1_2_cipher_suites")["accepted_cipher_suites"];
    assert_eq!(accepted.as_array().unwrap().len(), 0);
    proxy.stop();
}
