//! Which version, protocol and certificate a client gets, and how sessions are taken up again.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::kx_group;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, NamedGroup};

use super::{Pki, curl, handshakes, refused, s_client};
use crate::support::backend::echo;
use crate::support::pki::{Leaf, Pair};
use crate::support::proxy::{Proxy, all_to, with_listener};
use crate::support::tls;

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n";

#[test]
fn both_versions_are_spoken_and_the_oldest_can_be_raised() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let both = pki.proxy("", backend.address);
    for version in ["--tlsv1.2", "--tlsv1.3"] {
        for (tls_max, http) in [("default", "2"), ("1.2", "2")] {
            if version == "--tlsv1.3" && tls_max == "1.2" {
                continue;
            }
            let (fine, said) = curl(&pki, &both, "web.example", &[version, "--tls-max", tls_max]);
            assert!(fine && said.contains(&format!("[{http} 200 0]")), "{said}");
        }
    }
    for (flag, protocol) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let (fine, said) = s_client(&both, &[flag, "-brief", "-ign_eof"], REQUEST);
        let expected = format!("Protocol version: {protocol}");
        assert!(
            fine && said.contains(&expected) && said.contains("200 OK"),
            "{said}"
        );
    }
    assert!((handshakes(&both, "ok") - 5.0).abs() < 0.1);

    let new = pki.proxy(", minVersion: \"1.3\"", backend.address);
    let (fine, said) = s_client(&new, &["-tls1_3", "-brief"], "");
    assert!(fine && said.contains("TLSv1.3"), "{said}");
    let (fine, said) = s_client(&new, &["-tls1_2", "-brief"], "");
    assert!(
        !fine && said.contains("alert protocol version"),
        "a reason in the alert: {said}"
    );
    refused(&new, "version", 1, "SupportedVersionsExtensionRequired");
    new.stop();
    both.stop();
}

#[test]
fn versions_that_are_broken_are_refused() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let proxy = pki.proxy("", backend.address);
    for (count, version) in ["-tls1", "-tls1_1"].into_iter().enumerate() {
        let weak = [version, "-cipher", "ALL:@SECLEVEL=0", "-brief"];
        let (fine, said) = s_client(&proxy, &weak, "");
        assert!(!fine && said.contains(" alert "), "{said}");
        refused(&proxy, "version", u32::try_from(count).unwrap() + 1, "");
    }
    // Ciphers without forward secrecy or without authentication of what they encrypt.
    for (count, cipher) in ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA"]
        .into_iter()
        .enumerate()
    {
        let weak = [
            "-tls1_2",
            "-cipher",
            &format!("{cipher}:@SECLEVEL=0"),
            "-brief",
        ];
        let (fine, said) = s_client(&proxy, &weak, "");
        assert!(!fine && said.contains("alert handshake failure"), "{said}");
        refused(&proxy, "version", u32::try_from(count).unwrap() + 3, "");
    }
    proxy.stop();
}

#[test]
fn the_protocol_is_agreed_on_by_alpn() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let both = pki.proxy("", backend.address);
    for (offered, chosen) in [
        (&["-alpn", "h2,http/1.1"][..], "ALPN protocol: h2"),
        // Ours is the order that counts.
        (&["-alpn", "http/1.1,h2"][..], "ALPN protocol: h2"),
        (&["-alpn", "http/1.1,spdy/3"][..], "ALPN protocol: http/1.1"),
        (&[][..], "No ALPN negotiated"),
    ] {
        let (fine, said) = s_client(&both, offered, "");
        assert!(fine && said.contains(chosen), "{offered:?}: {said}");
    }
    let (fine, said) = s_client(&both, &["-alpn", "spdy/3", "-brief"], "");
    assert!(
        !fine && said.contains("alert no application protocol"),
        "{said}"
    );
    refused(&both, "no_protocol", 1, "");
    for (flag, answer) in [("--http2", "[2 200 0]"), ("--http1.1", "[1.1 200 0]")] {
        let (fine, said) = curl(&pki, &both, "web.example", &[flag]);
        assert!(fine && said.contains(answer), "{said}");
    }
    // Without ALPN it is HTTP/1.1 (RFC 9113, 3.2).
    let (fine, said) = curl(&pki, &both, "web.example", &["--no-alpn"]);
    assert!(fine && said.contains("[1.1 200 0]"), "{said}");
    both.stop();

    for (protocols, other, alpn, without) in [
        ("[http1]", "h2", "ALPN protocol: http/1.1", "--http1.1"),
        (
            "[h2c]",
            "http/1.1",
            "ALPN protocol: h2",
            "--http2-prior-knowledge",
        ),
    ] {
        let tls = pki.tls("") + &format!(", protocols: {protocols}");
        let one = Proxy::start(&with_listener(&all_to(backend.address), &tls));
        let (fine, said) = s_client(&one, &["-alpn", "h2,http/1.1"], "");
        assert!(fine && said.contains(alpn), "{said}");
        let (fine, said) = s_client(&one, &["-alpn", other], "");
        assert!(!fine && said.contains("no application protocol"), "{said}");
        let flags = ["--no-alpn", without];
        let (fine, said) = curl(&pki, &one, "web.example", &flags);
        assert!(fine && said.contains(" 200 0]"), "{said}");
        one.stop();
    }
}

/// The subject of what a client is shown.
fn shown(proxy: &Proxy, arguments: &[&str]) -> String {
    let (_, said) = s_client(proxy, arguments, "");
    let subject = said.lines().find_map(|line| line.strip_prefix("subject="));
    subject.unwrap_or(&said).trim().to_owned()
}

fn named(text: &str) -> [(rcgen::DnType, &str); 1] {
    [(rcgen::DnType::CommonName, text)]
}

#[test]
fn the_certificate_is_chosen_by_name() {
    let (pki, backend) = (Pki::new(), echo("b"));
    for (file, names) in [
        ("default", &["default.example"][..]),
        ("exact", &["web.shop.example", "SHOP.example"]),
        ("wildcard", &["*.shop.example"]),
    ] {
        pki.issue(file, &Leaf::server(names).subject(&named(file)));
    }
    let all = ["default", "exact", "wildcard"].map(|name| pki.pair(name));
    let tls = format!("tls: {{ certificates: [{}] }}", all.join(", "));
    let config = with_listener(&all_to(backend.address), &tls);
    let proxy = Proxy::start(&config);
    for (name, wanted) in [
        ("web.shop.example", "CN = exact"),
        ("WEB.Shop.example", "CN = exact"),
        ("shop.example", "CN = exact"),
        ("api.shop.example", "CN = wildcard"),
        // A wildcard is one label (RFC 9525, 6.3).
        ("a.api.shop.example", "CN = default"),
        ("unknown.example", "CN = default"),
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            let found = shown(&proxy, &["-servername", name, version]);
            assert_eq!(found, wanted, "{name} {version}");
        }
    }
    assert_eq!(shown(&proxy, &["-noservername"]), "CN = default");
    assert!((handshakes(&proxy, "ok") - 13.0).abs() < 0.1);
    proxy.stop();
}

#[test]
fn the_certificate_is_chosen_by_what_the_client_can_verify() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let names = &["web.example"];
    pki.issue("ecdsa", &Leaf::server(names).subject(&named("ecdsa")));
    pki.issue("rsa", &Leaf::server(names).rsa().subject(&named("rsa")));
    let start = |order: [&str; 2]| {
        let pairs = order.map(|name| pki.pair(name)).join(", ");
        let tls = format!("tls: {{ certificates: [{pairs}] }}");
        let config = with_listener(&all_to(backend.address), &tls);
        Proxy::start(&config)
    };
    let only_rsa = ["-sigalgs", "rsa_pss_rsae_sha256:RSA+SHA256"];
    let only_ecdsa = ["-sigalgs", "ECDSA+SHA256"];
    for (order, first) in [(["ecdsa", "rsa"], "ecdsa"), (["rsa", "ecdsa"], "rsa")] {
        let proxy = start(order);
        for version in ["-tls1_2", "-tls1_3"] {
            let with =
                |more: &[&'static str]| [&["-servername", "web.example", version], more].concat();
            assert_eq!(shown(&proxy, &with(&[])), format!("CN = {first}"));
            assert_eq!(shown(&proxy, &with(&only_rsa)), "CN = rsa");
            assert_eq!(shown(&proxy, &with(&only_ecdsa)), "CN = ecdsa");
        }
        // In TLS 1.2 the cipher says it as well.
        for kind in ["ECDSA", "RSA"] {
            let cipher = format!("ECDHE-{kind}-AES128-GCM-SHA256");
            let arguments = ["-servername", "web.example", "-tls1_2", "-cipher", &cipher];
            assert_eq!(
                shown(&proxy, &arguments),
                format!("CN = {}", kind.to_lowercase())
            );
        }
        proxy.stop();
    }

    // Nothing that suits: said in the alert.
    let tls = format!("tls: {{ certificates: [{}] }}", pki.pair("ecdsa"));
    let config = with_listener(&all_to(backend.address), &tls);
    let proxy = Proxy::start(&config);
    let (fine, said) = s_client(&proxy, &[&["-brief"], &only_rsa[..]].concat(), "");
    assert!(!fine && said.contains("alert handshake failure"), "{said}");
    refused(&proxy, "version", 1, "NoSignatureSchemesInCommon");
    proxy.stop();
}

#[test]
fn a_key_may_stand_in_the_file_of_its_certificate_and_chains_are_sent_whole() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let middle = pki.ca.under("intermediate");
    let Pair { chain, key, .. } = middle.issue(&Leaf::server(&["web.example"]));
    // The order of key and certificates does not matter.
    pki.files.put("key-first.pem", &format!("{key}{chain}"));
    pki.files.put("key-last.pem", &format!("{chain}{key}"));
    for file in ["key-first.pem", "key-last.pem"] {
        let tls = format!(
            "tls: {{ certificates: [{{ certificate: \"{}\" }}] }}",
            pki.path(file)
        );
        let config = with_listener(&all_to(backend.address), &tls);
        let proxy = Proxy::start(&config);
        let (fine, said) = curl(&pki, &proxy, "web.example", &[]);
        assert!(fine && said.contains("[2 200 0]"), "{said}");
        proxy.stop();
    }
}

#[test]
fn sessions_are_taken_up_again() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let proxy = pki.proxy("", backend.address);
    let mut resumed = 0.0;
    for version in ["-tls1_2", "-tls1_3"] {
        let file = pki.path("session");
        let first = [version, "-sess_out", &file, "-ign_eof"];
        let (fine, said) = s_client(&proxy, &first, REQUEST);
        assert!(fine && said.contains("New, "), "{said}");
        let (fine, said) = s_client(&proxy, &[version, "-sess_in", &file, "-ign_eof"], REQUEST);
        assert!(
            fine && said.contains("Reused, ") && said.contains("200 OK"),
            "{said}"
        );
        resumed += 1.0;
        assert!((handshakes(&proxy, "resumed") - resumed).abs() < 0.1);
    }
    // TLS 1.2 without tickets, by the session's number.
    let file = pki.path("session");
    let numbered = ["-tls1_2", "-no_ticket", "-ign_eof"];
    s_client(
        &proxy,
        &[&numbered[..], &["-sess_out", &file]].concat(),
        REQUEST,
    );
    let again = [&numbered[..], &["-sess_in", &file]].concat();
    let (fine, said) = s_client(&proxy, &again, REQUEST);
    assert!(fine && said.contains("Reused, "), "{said}");
    proxy.stop();
}

#[test]
fn a_session_is_taken_up_by_any_worker_and_early_data_by_none() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let proxy = pki.proxy("", backend.address);
    for version in [&[&TLS12][..], &[&TLS13][..]] {
        let mut config = tls::client_with(&pki.ca.pem, None, tls::provider(), version);
        config.enable_early_data = true;
        let config = Arc::new(config);
        for round in 0..6 {
            let mut client = tls::connect(proxy.addr("web"), "web.example", &config).unwrap();
            let kind = client.stream().conn.handshake_kind();
            let wanted = if round == 0 {
                HandshakeKind::Full
            } else {
                HandshakeKind::Resumed
            };
            assert_eq!(kind, Some(wanted), "{round}");
            // No ticket allows early data: a replay could not be told from the first time.
            assert!(!client.stream().conn.is_early_data_accepted());
            assert_eq!(client.ask(REQUEST).status, 200);
        }
    }
    assert!((handshakes(&proxy, "resumed") - 10.0).abs() < 0.1);
    proxy.stop();
}

#[test]
fn key_exchange_is_safe_from_quantum_computers_where_the_client_has_it() {
    let (pki, backend) = (Pki::new(), echo("b"));
    let proxy = pki.proxy("", backend.address);
    let with = |groups: Vec<&'static dyn rustls::crypto::SupportedKxGroup>| {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.kx_groups = groups;
        Arc::new(tls::client_with(
            &pki.ca.pem,
            None,
            Arc::new(provider),
            rustls::ALL_VERSIONS,
        ))
    };
    let agreed = |config: &Arc<ClientConfig>| {
        let mut client = tls::connect(proxy.addr("web"), "web.example", config).unwrap();
        assert_eq!(client.ask(REQUEST).status, 200);
        let group = client.stream().conn.negotiated_key_exchange_group();
        group.unwrap().name()
    };
    for (groups, wanted) in [
        (
            vec![kx_group::X25519MLKEM768, kx_group::X25519],
            NamedGroup::X25519MLKEM768,
        ),
        // What the client prefers comes without a further round trip.
        (
            vec![kx_group::X25519, kx_group::X25519MLKEM768],
            NamedGroup::X25519,
        ),
        (vec![kx_group::X25519], NamedGroup::X25519),
        (vec![kx_group::SECP256R1], NamedGroup::secp256r1),
        (vec![kx_group::SECP384R1], NamedGroup::secp384r1),
    ] {
        assert_eq!(agreed(&with(groups)), wanted);
    }
    proxy.stop();
}

#[test]
fn listeners_of_one_address_are_told_apart_by_name() {
    let (pki, backend) = (Pki::new(), echo("b"));
    pki.issue(
        "shop",
        &Leaf::server(&["*.shop.example"]).subject(&named("shop")),
    );
    let web = format!("hostname: web.example, {}, protocols: [http1]", pki.tls(""));
    let shop = format!(
        "  - {{ name: shop, address: \"127.0.0.1:0\", hostname: \"*.shop.example\", protocols: [http1], \
         tls: {{ certificates: [{}] }} }}\nroutes:",
        pki.pair("shop")
    );
    let config = with_listener(&all_to(backend.address), &web);
    let proxy = Proxy::start(&config.replacen("routes:", &shop, 1));
    assert_eq!(
        shown(&proxy, &["-servername", "a.shop.example"]),
        "CN = shop"
    );
    let (fine, said) = curl(&pki, &proxy, "web.example", &[]);
    assert!(fine && said.contains("[1.1 200 0]"), "{said}");
    // Nobody's name gets no certificate, and is told why (RFC 6066, 3).
    let (fine, said) = s_client(&proxy, &["-servername", "other.example", "-brief"], "");
    assert!(!fine && said.contains("unrecognized name"), "{said}");
    refused(&proxy, "unknown_name", 1, "no listener for other.example");
    // Who asks for no name gets the first.
    let (fine, _) = s_client(&proxy, &["-noservername", "-brief"], "");
    assert!(fine);
    proxy.stop();
}
