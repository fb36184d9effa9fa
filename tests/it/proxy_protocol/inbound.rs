//! Headers that clients, or those before them, send.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use socket2::{Domain, Socket, Type};

use super::{REQUEST, V2, ask, count, v1_of, v2, v2_of};
use crate::support::backend::echo;
use crate::support::client::{Client, get};
use crate::support::haproxy::Haproxy;
use crate::support::http2;
use crate::support::pki::{Authority, Files, Leaf};
use crate::support::promtool;
use crate::support::proxy::{Proxy, all_to, config, with_listener};
use crate::tls::run;

/// A listener at which everybody has to send a header.
fn required(backend: SocketAddr) -> String {
    with_listener(&all_to(backend), "proxyProtocol: {}")
}

/// A connection from another address of this machine.
pub(super) fn dial_from(source: &str, address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source: SocketAddr = format!("{source}:0").parse().unwrap();
    socket.bind(&source.into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream
        .set_read_timeout(Some(crate::support::DEADLINE))
        .unwrap();
    stream
}

#[test]
fn the_address_told_is_the_clients_for_everything() {
    let backend = echo("b");
    let config = with_listener(
        &all_to(backend.address),
        "proxyProtocol: {}, trustedProxies: [10.0.0.0/8]",
    );
    let proxy = Proxy::start(&config);
    let address = proxy.addr("web");
    let claims = "GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 203.0.113.9\r\n\
                  X-Request-Id: theirs\r\nConnection: close\r\n\r\n";
    // Trust is by the address in the header, not by the one that sent it.
    let seen = ask(address, &v1_of("10.1.2.3"), claims);
    assert_eq!(
        seen.seen("x-forwarded-for").as_deref(),
        Some("203.0.113.9, 10.1.2.3")
    );
    assert_eq!(seen.seen("x-request-id").as_deref(), Some("theirs"));
    let seen = ask(address, &v2_of([192, 0, 2, 7]), claims);
    assert_eq!(seen.seen("x-forwarded-for").as_deref(), Some("192.0.2.7"));
    assert_ne!(seen.seen("x-request-id").as_deref(), Some("theirs"));
    let ipv6 = b"PROXY TCP6 2001:db8::5 2001:db8::1 4660 80\r\n";
    let seen = ask(address, ipv6, REQUEST);
    assert_eq!(seen.seen("x-forwarded-for").as_deref(), Some("2001:db8::5"));
    // IPv4 within IPv6 is IPv4.
    let mapped = b"PROXY TCP6 ::ffff:10.9.8.7 ::1 4660 80\r\n";
    let seen = ask(address, mapped, claims);
    assert_eq!(
        seen.seen("x-forwarded-for").as_deref(),
        Some("203.0.113.9, 10.9.8.7")
    );
    count(&proxy, "v1", 3);
    count(&proxy, "v2", 1);
    promtool(&proxy.ask("/metrics").body);
    let log = proxy.stop();
    let clients: Vec<_> = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| line["client_ip"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        clients,
        ["203.0.113.9", "192.0.2.7", "2001:db8::5", "203.0.113.9"]
    );
}

#[test]
fn a_split_by_client_address_goes_by_the_address_told() {
    let (a, b) = (echo("a"), echo("b"));
    let routes = "  - { name: r, rules: [{ name: all, split: { key: { clientAddress: true } }, \
                  backendRefs: [{ name: a }, { name: b }] }] }\n";
    let config = config(routes, &[("a", a.address), ("b", b.address)]);
    let proxy = Proxy::start(&with_listener(&config, "proxyProtocol: {}"));
    let address = proxy.addr("web");
    let mut chosen: BTreeMap<u8, BTreeSet<String>> = BTreeMap::new();
    for round in 0..3 {
        for last in 0..32 {
            let client = [198, 51, 100, last];
            let header = match round {
                0 => v1_of(&format!("198.51.100.{last}")),
                _ => v2_of(client),
            };
            let who = ask(address, &header, REQUEST).who();
            chosen.entry(last).or_default().insert(who);
        }
    }
    assert!(
        chosen.values().all(|of_one| of_one.len() == 1),
        "{chosen:?}"
    );
    let all: BTreeSet<_> = chosen.values().flatten().collect();
    assert_eq!(all.len(), 2, "all clients have one backend");
    proxy.stop();
}

#[test]
fn a_header_without_addresses_leaves_the_sockets_own() {
    let backend = echo("b");
    let proxy = Proxy::start(&required(backend.address));
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN 1.2.3.4 5.6.7.8 1 2\r\n".to_vec(),
        v2(0x20, 0x00, &[]),
        v2(0x20, 0x11, &[1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0, 2]),
        v2(0x21, 0x00, &[]),
        v2(0x21, 0x31, &[b'/'; 216]),
    ] {
        let seen = ask(proxy.addr("web"), &header, REQUEST);
        assert_eq!(seen.seen("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    }
    count(&proxy, "own", 6);
    proxy.stop();
}

/// However the bytes arrive, the header is taken and nothing after it.
#[test]
fn headers_may_drip() {
    let backend = echo("b");
    let proxy = Proxy::start(&required(backend.address));
    let fields = [
        &[192, 0, 2, 7, 127, 0, 0, 1, 1, 2, 3, 4][..],
        &[4, 2, 0],
        &[0; 512],
    ]
    .concat();
    for header in [
        v1_of("192.0.2.7"),
        v2_of([192, 0, 2, 7]),
        v2(0x21, 0x11, &fields),
    ] {
        let mut client = Client::connect(proxy.addr("web"));
        client.stream().set_nodelay(true).unwrap();
        for byte in &header {
            client.stream().write_all(&[*byte]).unwrap();
        }
        for byte in REQUEST.bytes() {
            client.stream().write_all(&[byte]).unwrap();
        }
        let seen = client.receive(false).unwrap();
        assert_eq!(seen.seen("x-forwarded-for").as_deref(), Some("192.0.2.7"));
        // With the first requests in the same segment, none of their bytes is lost.
        let mut client = Client::connect(proxy.addr("web"));
        let two = REQUEST.replace("Connection: close\r\n", "") + REQUEST;
        let bytes = [&header[..], two.as_bytes()].concat();
        client.stream().write_all(&bytes).unwrap();
        for _ in 0..2 {
            let seen = client.receive(false).unwrap();
            assert_eq!(seen.seen("x-forwarded-for").as_deref(), Some("192.0.2.7"));
        }
    }
    proxy.stop();
}

#[test]
fn whoever_sends_no_header_is_closed_and_counted() {
    let backend = echo("b");
    let proxy = Proxy::start(&required(backend.address));
    let address = proxy.addr("web");
    let long = [V2, &[0x21, 0x11, 0xff, 0xff]].concat();
    let mut summed = [192, 0, 2, 7, 127, 0, 0, 1, 1, 2, 3, 4, 3, 0, 4, 0, 0, 0, 0];
    summed[18] = 1;
    let table = [
        ("missing", REQUEST.as_bytes().to_vec()),
        (
            "missing",
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
        ),
        ("missing", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("malformed", b"PROXY TCP4 1.1.1.1 1.1.1.1 1 x\r\n".to_vec()),
        ("malformed", b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n".to_vec()),
        ("malformed", v2(0x2f, 0x11, &[0; 12])),
        ("malformed", v2(0x21, 0x11, &[0; 11])),
        (
            "malformed",
            v2(0x21, 0x11, &[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4, 0, 9]),
        ),
        (
            "too_long",
            [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 100]].concat(),
        ),
        ("too_long", long),
        ("checksum", v2(0x21, 0x11, &summed)),
    ];
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for (result, bytes) in &table {
        let mut client = Client::connect(address);
        client.stream().write_all(bytes).unwrap();
        let answer = client.read_to_close();
        assert!(answer.is_empty(), "{result}: {answer:?}");
        *counts.entry(result).or_default() += 1;
        count(&proxy, result, counts[result]);
    }
    // Half a header, then the end; and a probe that says nothing.
    for bytes in [&b"PROXY TCP4 1.1.1.1"[..], &V2[..7], b""] {
        let mut client = Client::connect(address);
        client.stream().write_all(bytes).unwrap();
        client.finish();
        assert!(client.read_to_close().is_empty());
    }
    count(&proxy, "closed", 3);
    let log = proxy.program_log();
    assert!(
        log.contains("no PROXY header: checksum: the PROXY header's checksum is wrong"),
        "{log}"
    );
    assert!(
        !log.contains("no PROXY header: closed"),
        "a probe is told of: {log}"
    );
    assert_eq!(backend.requests(), 0);
    // And others are served as before.
    assert_eq!(ask(address, &v1_of("192.0.2.7"), REQUEST).status, 200);
    proxy.stop();
}

#[test]
fn a_header_that_does_not_come_is_waited_for_until_the_deadline() {
    let backend = echo("b");
    let config = with_listener(
        &all_to(backend.address),
        "proxyProtocol: {}, timeouts: { header: 200ms }",
    );
    let proxy = Proxy::start(&config);
    for bytes in [&b""[..], b"PROXY TCP4", &V2[..12]] {
        let began = Instant::now();
        let mut client = Client::connect(proxy.addr("web"));
        client.stream().write_all(bytes).unwrap();
        assert!(client.read_to_close().is_empty());
        assert!(began.elapsed().as_millis() >= 200, "too early");
    }
    count(&proxy, "timeout", 3);
    proxy.stop();
}

/// Bytes of no meaning, some behind the beginning of a header: nothing breaks, and nothing is kept.
#[test]
fn junk_breaks_nothing() {
    let backend = echo("b");
    let proxy = Proxy::start(&required(backend.address));
    let mut seed = 7_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u8::try_from(seed >> 56).unwrap()
    };
    for round in 0..200 {
        let begin = [&b""[..], b"PROXY ", b"PROXY TCP6 ", V2][round % 4];
        let junk: Vec<u8> = (0..usize::from(next())).map(|_| next()).collect();
        let mut client = Client::connect(proxy.addr("web"));
        // It may be closed before all is written.
        drop(client.stream().write_all(&[begin, &junk].concat()));
        drop(client.stream().shutdown(std::net::Shutdown::Write));
        client.read_to_close();
    }
    crate::support::eventually("no connection", || {
        (proxy.metric("weir_connections", &["listener=\"web\""]) < 0.5).then_some(())
    });
    assert_eq!(
        ask(proxy.addr("web"), &v1_of("192.0.2.7"), REQUEST).status,
        200
    );
    proxy.stop();
}

#[test]
fn peers_that_are_not_trusted_are_served_without() {
    let backend = echo("b");
    let config = with_listener(
        &all_to(backend.address),
        "proxyProtocol: { trustedPeers: [127.0.0.5/32] }",
    );
    let proxy = Proxy::start(&config);
    let address = proxy.addr("web");
    let seen = get(address, "a.example", "/", &[]);
    assert_eq!(seen.seen("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    // Their header is no HTTP.
    assert_eq!(ask(address, &v1_of("192.0.2.7"), REQUEST).status, 400);
    let mut client = Client::connect(address);
    let bytes = [&v2_of([192, 0, 2, 7])[..], REQUEST.as_bytes()].concat();
    client.stream().write_all(&bytes).unwrap();
    let answer = String::from_utf8(client.read_to_close()).unwrap();
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
        "{answer}"
    );
    assert_eq!(backend.requests(), 1);
    // The trusted one is believed, and must send one.
    let mut client = Client::over(dial_from("127.0.0.5", address));
    let bytes = [&v1_of("192.0.2.7")[..], REQUEST.as_bytes()].concat();
    client.stream().write_all(&bytes).unwrap();
    let seen = client.receive(false).unwrap();
    assert_eq!(seen.seen("x-forwarded-for").as_deref(), Some("192.0.2.7"));
    let mut client = Client::over(dial_from("127.0.0.5", address));
    client.send(REQUEST);
    assert!(client.read_to_close().is_empty());
    count(&proxy, "untrusted", 3);
    count(&proxy, "v1", 1);
    count(&proxy, "missing", 1);
    let shown = proxy.json("/api/v1/listeners");
    assert_eq!(shown[0]["proxyProtocol"], "127.0.0.5/32");
    proxy.stop();
}

#[test]
fn a_reload_turns_it_on_and_off() {
    let backend = echo("b");
    let without = all_to(backend.address);
    let proxy = Proxy::start(&without);
    let address = proxy.addr("web");
    // Port 0 stays the port that it was.
    let mut kept = Client::connect(address);
    let request = REQUEST.replace("Connection: close\r\n", "");
    assert_eq!(kept.ask(&request).status, 200);
    assert_eq!(proxy.json("/api/v1/listeners")[0]["proxyProtocol"], "none");

    proxy.write_config(&required(backend.address));
    proxy.wait_generation(2);
    assert_eq!(proxy.json("/api/v1/listeners")[0]["proxyProtocol"], "all");
    assert_eq!(kept.ask(&request).status, 200, "a connection from before");
    let seen = ask(address, &v1_of("192.0.2.7"), REQUEST);
    assert_eq!(seen.seen("x-forwarded-for").as_deref(), Some("192.0.2.7"));
    let mut client = Client::connect(address);
    client.send(REQUEST);
    assert!(client.read_to_close().is_empty());

    proxy.write_config(&without);
    proxy.wait_generation(3);
    let seen = ask(address, b"", REQUEST);
    assert_eq!(seen.seen("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    proxy.stop();
}

#[test]
fn http2_with_prior_knowledge_follows_a_header() {
    let backend = echo("b");
    let proxy = Proxy::start(&required(backend.address));
    let address = proxy.addr("web");
    let answer = http2::block_on(async {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let header = v2_of([192, 0, 2, 7]);
        tokio::io::AsyncWriteExt::write_all(&mut stream, &header)
            .await
            .unwrap();
        let mut sender = http2::begin(stream).await;
        let request = http::Request::get("http://a.example/").body(http2::empty());
        http2::ask(&mut sender, request.unwrap()).await.unwrap()
    });
    assert_eq!(answer.status, 200);
    let said = answer.body.to_lowercase();
    assert!(said.contains("x-forwarded-for: 192.0.2.7\r\n"), "{said}");
    proxy.stop();
}

/// A certificate for 127.0.0.1, its authority, and `tls` of a listener that shows it.
pub(super) fn with_tls() -> (Files, Authority, String) {
    let (files, authority) = (Files::new(), Authority::new("test authority"));
    files.put("ca.crt", &authority.pem);
    files.put_pair("server", &authority.issue(&Leaf::server(&["127.0.0.1"])));
    let at = |name: &str| files.at(name).display().to_string();
    let tls = format!(
        "tls: {{ certificates: [{{ certificate: \"{}\", key: \"{}\" }}] }}",
        at("server.crt"),
        at("server.key")
    );
    (files, authority, tls)
}

#[test]
fn curl_tells_of_itself_before_tls_and_before_http() {
    let backend = echo("b");
    let (files, _, tls) = with_tls();
    let secure = with_listener(
        &all_to(backend.address),
        &format!("proxyProtocol: {{}}, {tls}"),
    );
    let ca = files.at("ca.crt").display().to_string();
    for (config, scheme, versions) in [
        (
            required(backend.address),
            "http",
            ["--http1.1", "--http2-prior-knowledge"],
        ),
        (secure, "https", ["--http1.1", "--http2"]),
    ] {
        let proxy = Proxy::start(&config);
        let url = format!("{scheme}://{}/", proxy.addr("web"));
        let common = [
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--cacert",
            &ca,
            &url,
        ];
        for version in versions {
            // It says which address it has, and it has another than usual.
            let own = [version, "--haproxy-protocol", "--interface", "127.0.0.9"];
            let (fine, said) = run(
                "curl",
                "the Debian package curl",
                &[&own[..], &common].concat(),
                "",
            );
            assert!(
                fine && said
                    .to_lowercase()
                    .contains("x-forwarded-for: 127.0.0.9\r\n"),
                "{said}"
            );
            let (fine, said) = run(
                "curl",
                "the Debian package curl",
                &[&[version], &common[..]].concat(),
                "",
            );
            assert!(!fine, "served without a header: {said}");
        }
        count(&proxy, "v1", 2);
        count(&proxy, "missing", 2);
        proxy.stop();
    }
}

#[test]
fn haproxy_is_understood() {
    let backend = echo("b");
    let (_files, _, tls) = with_tls();
    let plain = Proxy::start(&required(backend.address));
    let config = with_listener(
        &all_to(backend.address),
        &format!("proxyProtocol: {{}}, {tls}"),
    );
    let secure = Proxy::start(&config);
    let options = "proxy-v2-options crc32c,unique-id,ssl,authority";
    for (proxy, server) in [
        (&plain, "send-proxy".to_owned()),
        (&plain, "send-proxy-v2".to_owned()),
        (&plain, format!("send-proxy-v2 {options}")),
        (&plain, "send-proxy-v2 proto h2".to_owned()),
        (&secure, "send-proxy ssl verify none".to_owned()),
        (
            &secure,
            format!("send-proxy-v2 {options} ssl verify none alpn h2"),
        ),
    ] {
        let lines = format!(
            " unique-id-format %[uuid()]\n server weir {} {server}",
            proxy.addr("web")
        );
        let haproxy = Haproxy::start("", &lines, &[]);
        for source in ["127.0.0.21", "127.0.0.22"] {
            let mut client = Client::over(dial_from(source, haproxy.address));
            let seen = client.ask(REQUEST);
            assert_eq!(
                seen.seen("x-forwarded-for").as_deref(),
                Some(source),
                "{server}"
            );
        }
    }
    count(&plain, "v1", 2);
    count(&plain, "v2", 6);
    count(&secure, "v1", 2);
    count(&secure, "v2", 2);
    // Its health checks speak for themselves (LOCAL).
    let lines = format!(
        " option httpchk GET / HTTP/1.1\r\\nHost:\\ a\n server weir {} send-proxy-v2 check check-send-proxy inter 20ms",
        plain.addr("web")
    );
    let _haproxy = Haproxy::start("", &lines, &[]);
    crate::support::eventually("a check", || {
        (super::began(&plain, "own") > 0.5).then_some(())
    });
    plain.stop();
    secure.stop();
}
