//! A connection is good for the listener whose handshake it was, and for no other: 421.

use std::sync::Arc;

use http::Request;

use super::Pki;
use crate::support::backend::echo;
use crate::support::http2::{ask, block_on, empty};
use crate::support::pki::Leaf;
use crate::support::proxy::Proxy;
use crate::support::tls;

/// Listeners of one address with a route each; `example.org` belongs to the one for every name.
const LISTENERS: [(&str, &str, &str); 4] = [
    ("catch-all", "", "example.org"),
    ("second", "second-example.org", "second-example.org"),
    ("wildcard", "*.wildcard.org", "*.wildcard.org"),
    (
        "fourth",
        "fourth-example.wildcard.org",
        "fourth-example.wildcard.org",
    ),
];

/// SNI, host, status.
const VECTORS: [(&str, &str, u16); 14] = [
    ("example.org", "example.org", 200),
    ("example.org", "second-example.org", 421),
    ("example.org", "unknown-example.org", 404),
    ("second-example.org", "second-example.org", 200),
    ("second-example.org", "example.org", 421),
    ("second-example.org", "unknown-example.org", 421),
    (
        "third-example.wildcard.org",
        "fifth-example.wildcard.org",
        200,
    ),
    (
        "third-example.wildcard.org",
        "fourth-example.wildcard.org",
        421,
    ),
    (
        "fourth-example.wildcard.org",
        "fourth-example.wildcard.org",
        200,
    ),
    (
        "fourth-example.wildcard.org",
        "fifth-example.wildcard.org",
        421,
    ),
    ("unknown-example.org", "example.org", 200),
    ("unknown-example.org", "unknown-example.org", 404),
    // Neither letters' case nor a port makes another host of it.
    ("second-example.org", "SECOND-example.org:8443", 200),
    ("example.org", "second-EXAMPLE.org:443", 421),
];

#[test]
fn httproute_https_listener_detect_misdirected_requests() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let names = [
        "example.org",
        "second-example.org",
        "unknown-example.org",
        "*.wildcard.org",
    ];
    pki.issue("server", &Leaf::server(&names));
    let (mut listeners, mut routes) = (String::new(), String::new());
    for (name, hostname, host) in LISTENERS {
        let hostname = match hostname {
            "" => String::new(),
            some => format!("hostname: \"{some}\", "),
        };
        listeners += &format!(
            "  - {{ name: {name}, address: \"127.0.0.1:0\", {hostname}{} }}\n",
            pki.tls("")
        );
        routes += &format!(
            "  - {{ name: {name}, listeners: [{name}], hostnames: [\"{host}\"], rules: [{{ backendRefs: [{{ name: b }}] }}] }}\n"
        );
    }
    let proxy = Proxy::start(&format!(
        "version: 1\nlisteners:\n{listeners}routes:\n{routes}\
         backends: [{{ name: b, endpoints: [{{ address: \"{}\" }}] }}]\n",
        backend.address
    ));
    let address = proxy.addr("catch-all");
    let config = tls::client(&pki.ca.pem, None);

    for (sni, host, status) in VECTORS {
        let mut client = tls::connect(address, sni, &Arc::new(config.clone())).unwrap();
        let response = client.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(response.status, status, "HTTP/1.1 {sni} {host}");
        // The connection is as good as before for what it is good for.
        let own = if sni == "unknown-example.org" {
            "example.org"
        } else {
            sni
        };
        let response = client.ask(&format!("GET / HTTP/1.1\r\nHost: {own}\r\n\r\n"));
        assert_eq!(response.status, 200, "HTTP/1.1 {sni} {own}");
    }

    // A browser uses one connection for every name of its certificate (RFC 9113, 9.1.1).
    let mut names: Vec<_> = VECTORS.iter().map(|(sni, ..)| *sni).collect();
    names.sort_unstable();
    names.dedup();
    block_on(async {
        for sni in names {
            let mut connection = tls::connect_http2(address, sni, config.clone()).await;
            for (_, host, status) in VECTORS.iter().filter(|(it, ..)| *it == sni) {
                let request = Request::get(format!("https://{host}/"));
                let request = request.body(empty()).unwrap();
                let answer = ask(&mut connection, request).await.unwrap();
                assert_eq!(answer.status.as_u16(), *status, "HTTP/2 {sni} {host}");
                if *status == 421 {
                    assert!(
                        answer.headers["proxy-status"]
                            .to_str()
                            .unwrap()
                            .contains("misdirected"),
                        "{answer:?}"
                    );
                }
            }
        }
    });
    let misdirected = VECTORS.iter().filter(|(.., status)| *status == 421).count();
    let counted = proxy.metric("weir_errors_total", &["reason=\"misdirected\""]);
    let wanted = f64::from(u32::try_from(misdirected * 2).unwrap());
    assert!((counted - wanted).abs() < 0.1, "{counted}");
    proxy.stop();
}

#[test]
fn a_certificate_for_one_listener_opens_no_other() {
    let (pki, backend) = (Pki::new(), echo("b"));
    pki.issue("server", &Leaf::server(&["*.shop.example"]));
    let strict = format!(", clientValidation: {{ ca: \"{}\" }}", pki.path("ca.crt"));
    let proxy = Proxy::start(&format!(
        "version: 1\nlisteners:\n\
         \x20 - {{ name: open, address: \"127.0.0.1:0\", {} }}\n\
         \x20 - {{ name: strict, address: \"127.0.0.1:0\", hostname: strict.shop.example, {} }}\n\
         routes: [{{ name: all, rules: [{{ backendRefs: [{{ name: b }}] }}] }}]\n\
         backends: [{{ name: b, endpoints: [{{ address: \"{}\" }}] }}]\n",
        pki.tls(""),
        pki.tls(&strict),
        backend.address
    ));
    let address = proxy.addr("open");
    let config = Arc::new(tls::client(&pki.ca.pem, None));
    let mut client = tls::connect(address, "open.shop.example", &config).unwrap();
    let around = "GET / HTTP/1.1\r\nHost: strict.shop.example\r\n\r\n";
    assert_eq!(client.ask(around).status, 421);
    // Nor by the target's own form, nor with a session of the open listener.
    let absolute = "GET https://strict.shop.example/ HTTP/1.1\r\nHost: open.shop.example\r\n\r\n";
    assert_eq!(client.ask(absolute).status, 421);
    let told = tls::connect(address, "strict.shop.example", &config).and_then(|mut client| {
        client.send(around);
        client.try_receive(false)
    });
    assert!(told.is_err());
    assert_eq!(backend.requests(), 0);
    proxy.stop();
}
