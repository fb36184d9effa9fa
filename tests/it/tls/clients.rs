//! Which clients' certificates let in, and what becomes of the others.

use std::sync::Arc;
use std::time::SystemTime;

use rcgen::DnType::{CommonName, OrganizationName};
use rustls::version::{TLS12, TLS13};

use super::{Pki, curl, handshakes, logged, refused, run};
use crate::support::backend::{Backend, echo};
use crate::support::pki::{Authority, DAY, Leaf, Pair};
use crate::support::proxy::Proxy;
use crate::support::tls;

const FRONTEND: &str = "spiffe://shop.example/ns/blue/sa/frontend";
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: web.example\r\n\r\n";

/// What comes of a request in each version: its status, or how the client was told no.
fn ask(pki: &Pki, proxy: &Proxy, pair: Option<&Pair>) -> [Result<u16, String>; 2] {
    [&TLS12, &TLS13].map(|version| {
        let config = tls::client_with(&pki.ca.pem, pair, tls::provider(), &[version]);
        let mut client = tls::connect(proxy.addr("web"), "web.example", &Arc::new(config))
            .map_err(|error| error.to_string())?;
        assert!(client.try_send(REQUEST));
        match client.try_receive(false) {
            Ok(Some(response)) => Ok(response.status),
            Ok(None) => Err("closed without a word".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
}

/// Each case is tried in both versions of TLS: the metric, the alert, what the log says.
struct Refusal {
    pair: Option<Pair>,
    result: &'static str,
    alert: &'static str,
    log: &'static str,
}

fn check(pki: &Pki, proxy: &Proxy, backend: &Backend, refusals: &[Refusal]) {
    let mut counts = std::collections::HashMap::new();
    for refusal in refusals {
        let before = backend.requests();
        for told in ask(pki, proxy, refusal.pair.as_ref()) {
            let told = told.expect_err(refusal.result);
            assert!(
                told.contains(refusal.alert),
                "{}: the client was told {told}",
                refusal.result
            );
        }
        assert_eq!(backend.requests(), before, "{}", refusal.result);
        let count = counts.entry(refusal.result).or_insert(0);
        *count += 2;
        refused(proxy, refusal.result, *count, refusal.log);
    }
}

#[test]
fn only_good_certificates_let_in() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let validation = format!(
        ", clientValidation: {{ ca: \"{}\", crls: [\"{}\"] }}",
        pki.path("ca.crt"),
        pki.path("crl.pem")
    );
    let good = pki.ca.issue(&Leaf::client(&[FRONTEND]));
    let revoked = pki.ca.issue(&Leaf::client(&[FRONTEND]));
    pki.files.put("crl.pem", &pki.ca.revoke(&[&revoked]));
    let proxy = pki.proxy(&validation, backend.address);
    let now = SystemTime::now();
    let client = || Leaf::client(&[FRONTEND]);
    let (other, impostor) = (
        Authority::new("another authority"),
        Authority::new("test authority"),
    );
    let unlisted = pki.ca.under("intermediate without a list");
    check(
        &pki,
        &proxy,
        &backend,
        &[
            Refusal {
                pair: None,
                result: "no_certificate",
                alert: "CertificateRequired",
                log: "peer sent no certificates",
            },
            Refusal {
                pair: Some(other.issue(&client())),
                result: "unknown_authority",
                alert: "UnknownCA",
                log: "UnknownIssuer",
            },
            // The name of the authority is right, its key is not.
            Refusal {
                pair: Some(impostor.issue(&client())),
                result: "bad_certificate",
                alert: "DecryptError",
                log: "BadSignature",
            },
            Refusal {
                pair: Some(pki.ca.issue(&client().valid(now - 2 * DAY, now - DAY))),
                result: "expired",
                alert: "CertificateExpired",
                log: "expired",
            },
            Refusal {
                pair: Some(pki.ca.issue(&client().valid(now + DAY, now + 2 * DAY))),
                result: "not_yet_valid",
                alert: "CertificateExpired",
                log: "not valid yet",
            },
            Refusal {
                pair: Some(pki.ca.issue(&Leaf::server(&[FRONTEND]))),
                result: "wrong_usage",
                alert: "UnsupportedCertificate",
                log: "client authentication",
            },
            Refusal {
                pair: Some(revoked),
                result: "revoked",
                alert: "CertificateRevoked",
                log: "Revoked",
            },
            // Nobody says whether it is.
            Refusal {
                pair: Some(unlisted.issue(&client())),
                result: "revocation_unknown",
                alert: "",
                log: "UnknownRevocationStatus",
            },
        ],
    );
    assert_eq!(ask(&pki, &proxy, Some(&good)), [Ok(200), Ok(200)]);
    let both = pki.ca.issue(&Leaf::peer(&[FRONTEND]));
    assert_eq!(ask(&pki, &proxy, Some(&both)), [Ok(200), Ok(200)]);
    assert!((handshakes(&proxy, "ok") - 4.0).abs() < 0.1);
    proxy.stop();
}

#[test]
fn a_list_of_revoked_certificates_that_has_ended_lets_nobody_in() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let now = SystemTime::now();
    let other = Authority::new("test authority");
    for (list, log) in [
        (pki.ca.revoke_until(&[], now - 2 * DAY, now - DAY), "xpired"),
        // Signed by somebody else under the same name.
        (other.revoke(&[]), "BadSignature"),
    ] {
        pki.files.put("crl.pem", &list);
        let validation = format!(
            ", clientValidation: {{ ca: \"{}\", crls: [\"{}\"] }}",
            pki.path("ca.crt"),
            pki.path("crl.pem")
        );
        let proxy = pki.proxy(&validation, backend.address);
        let refusal = Refusal {
            pair: Some(pki.ca.issue(&Leaf::client(&[FRONTEND]))),
            result: "revocation_unknown",
            alert: "",
            log,
        };
        check(&pki, &proxy, &backend, &[refusal]);
        proxy.stop();
    }
}

#[test]
fn only_the_allowed_identities_are_let_in() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let validation = format!(
        ", clientValidation: {{ ca: \"{}\", allowedIdentities: \
         [\"spiffe://shop.example/ns/*/sa/frontend\", \"*.clients.example\", \"subject:CN=batch,O=Shop\"] }}",
        pki.path("ca.crt"),
    );
    let proxy = pki.proxy(&validation, backend.address);
    let with = |names: &[&str]| pki.ca.issue(&Leaf::client(names));
    let subject = |parts: &[(rcgen::DnType, &str)]| {
        pki.ca.issue(&Leaf::client(&["x.example"]).subject(parts))
    };
    for pair in [
        with(&[FRONTEND]),
        with(&["spiffe://other.example/x", FRONTEND]),
        with(&["a.clients.example"]),
        subject(&[(OrganizationName, "Shop"), (CommonName, "batch")]),
    ] {
        assert_eq!(ask(&pki, &proxy, Some(&pair)), [Ok(200), Ok(200)]);
    }
    let wrong = [
        with(&["spiffe://shop.example/ns/blue/sa/backend"]),
        with(&["spiffe://shop.example/ns/blue/x/sa/frontend"]),
        with(&["spiffe://shop.example.evil/ns/blue/sa/frontend"]),
        with(&["a.b.clients.example"]),
        with(&["clients.example"]),
        with(&["*.clients.example"]),
        // A name is compared with names of its own kind only.
        subject(&[(CommonName, "a.clients.example")]),
        subject(&[(CommonName, "batch,O=Shop")]),
        subject(&[(CommonName, "batch")]),
    ];
    let refusals: Vec<_> = wrong
        .into_iter()
        .map(|pair| Refusal {
            pair: Some(pair),
            result: "identity_refused",
            alert: "AccessDenied",
            log: "ApplicationVerificationFailure",
        })
        .collect();
    check(&pki, &proxy, &backend, &refusals);
    // Who was refused.
    logged(&proxy, "spiffe://shop.example/ns/blue/sa/backend");
    proxy.stop();
}

#[test]
fn optional_means_none_or_a_good_one_and_none_means_that_nobody_is_asked() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let good = pki.ca.issue(&Leaf::client(&[FRONTEND]));
    let wrong = Authority::new("another").issue(&Leaf::client(&[FRONTEND]));
    let optional = format!(
        ", clientValidation: {{ mode: optional, ca: \"{}\" }}",
        pki.path("ca.crt")
    );
    let proxy = pki.proxy(&optional, backend.address);
    assert_eq!(ask(&pki, &proxy, None), [Ok(200), Ok(200)]);
    assert_eq!(ask(&pki, &proxy, Some(&good)), [Ok(200), Ok(200)]);
    let refusal = Refusal {
        pair: Some(wrong.clone()),
        result: "unknown_authority",
        alert: "UnknownCA",
        log: "UnknownIssuer",
    };
    check(&pki, &proxy, &backend, &[refusal]);
    proxy.stop();

    let proxy = pki.proxy(", clientValidation: { mode: none }", backend.address);
    for pair in [None, Some(&good), Some(&wrong)] {
        assert_eq!(ask(&pki, &proxy, pair), [Ok(200), Ok(200)]);
    }
    proxy.stop();
}

#[test]
fn chains_are_followed_but_not_for_ever() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let validation = format!(", clientValidation: {{ ca: \"{}\" }}", pki.path("ca.crt"));
    let proxy = pki.proxy(&validation, backend.address);
    let mut authority = pki.ca.under("intermediate 1");
    let short = authority.issue(&Leaf::client(&[FRONTEND]));
    assert_eq!(ask(&pki, &proxy, Some(&short)), [Ok(200), Ok(200)]);
    for number in 2..=12 {
        authority = authority.under(&format!("intermediate {number}"));
    }
    let long = authority.issue(&Leaf::client(&[FRONTEND]));
    // Without the authorities between, the way to the root is not known.
    let mut alone = short;
    let end = alone.chain.find("-----END CERTIFICATE-----\n").unwrap() + 26;
    alone.chain.truncate(end);
    // A leaf signs nothing.
    let refusals = [
        Refusal {
            pair: Some(long),
            result: "bad_certificate",
            alert: "",
            log: "MaximumPathDepthExceeded",
        },
        Refusal {
            pair: Some(alone),
            result: "unknown_authority",
            alert: "UnknownCA",
            log: "UnknownIssuer",
        },
    ];
    check(&pki, &proxy, &backend, &refusals);
    proxy.stop();
}

#[test]
fn curl_and_openssl_agree() {
    let (pki, backend) = (Pki::new(), echo("b"));
    pki.issue("client", &Leaf::client(&[FRONTEND]));
    pki.issue("rsa", &Leaf::client(&[FRONTEND]).rsa());
    let validation = format!(", clientValidation: {{ ca: \"{}\" }}", pki.path("ca.crt"));
    let proxy = pki.proxy(&validation, backend.address);
    for name in ["client", "rsa"] {
        let (crt, key) = (
            pki.path(&format!("{name}.crt")),
            pki.path(&format!("{name}.key")),
        );
        for max in ["1.2", "1.3"] {
            let with = ["--cert", &crt, "--key", &key, "--tls-max", max];
            let (fine, said) = curl(&pki, &proxy, "web.example", &with);
            assert!(fine && said.contains(&format!("URI={FRONTEND}")), "{said}");
        }
    }
    for max in ["1.2", "1.3"] {
        let (fine, said) = curl(&pki, &proxy, "web.example", &["--tls-max", max]);
        assert!(!fine && said.contains("alert"), "{said}");
    }
    refused(&proxy, "no_certificate", 2, "");
    // What is asked for, so that clients with several certificates can choose.
    let address = proxy.addr("web").to_string();
    let arguments = ["20", "openssl", "s_client", "-connect", &address];
    let (_, said) = run("timeout", "the Debian package openssl", &arguments, "");
    assert!(
        said.contains("Acceptable client certificate CA names\nCN = test authority"),
        "{said}"
    );
    proxy.stop();
}
