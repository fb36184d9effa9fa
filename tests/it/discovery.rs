//! Endpoints that DNS or a file tells: they come and go, and nothing that fails takes them away.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::backend::{Backend, Seen, neighbours};
use crate::support::client::{Client, get};
use crate::support::dns::{Dns, Saying};
use crate::support::eventually;
use crate::support::proxy::{Proxy, config};

const ALL: &str = "  - { name: r, rules: [{ backendRefs: [{ name: v1 }] }] }\n";
const NAME: &str = "shop.test";

fn names(number: usize, _: &Seen, stream: &mut TcpStream) -> bool {
    let head = format!("HTTP/1.1 200 OK\r\nx-backend: {number}\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(head.as_bytes()).is_ok()
}

fn ip(backend: &Backend) -> IpAddr {
    backend.address.ip()
}

fn by_dns(dns: &Dns, port: Option<u16>, more: &str) -> String {
    let port = port.map_or_else(String::new, |port| format!("port: {port}, "));
    format!(
        "  - {{ name: v1, loadBalancing: {{ policy: roundRobin }}, dns: {{ {port}minTtl: 20ms, maxTtl: 100ms, timeout: 500ms, resolvers: [\"{}\"], {more} }} }}\n",
        dns.address
    )
}

fn start(backends: &str) -> Proxy {
    Proxy::start(&(config(ALL, &[]) + backends))
}

/// Waits until the endpoints have these addresses.
fn wait_for(proxy: &Proxy, addresses: &[IpAddr]) {
    let wanted: BTreeSet<_> = addresses.iter().map(IpAddr::to_string).collect();
    eventually("the endpoints", || (known(proxy) == wanted).then_some(()));
}

fn known(proxy: &Proxy) -> BTreeSet<String> {
    let backends = proxy.json("/api/v1/backends");
    let endpoints = backends[0]["endpoints"].as_array().unwrap().clone();
    let addresses = endpoints
        .iter()
        .map(|one| one["address"].as_str().unwrap().to_owned());
    let host = |address: String| address.rsplit_once(':').unwrap().0.to_owned();
    addresses.map(host).collect()
}

fn discovery(proxy: &Proxy, what: &str) -> serde_json::Value {
    proxy.json("/api/v1/backends")[0]["discovery"][what].clone()
}

fn who(proxy: &Proxy, requests: usize) -> BTreeSet<String> {
    let web = proxy.addr("web");
    (0..requests)
        .map(|_| get(web, "a", "/", &[]).who())
        .collect()
}

fn set(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}

#[test]
fn endpoints_follow_dns_and_what_is_in_flight_ends() {
    let go = Arc::new(AtomicBool::new(false));
    let gone = Arc::clone(&go);
    let [a, b] = neighbours(move |number, seen, stream| {
        if seen.head.contains("x-slow") {
            eventually("the end of a slow request", || {
                gone.load(Ordering::SeqCst).then_some(())
            });
        }
        names(number, seen, stream)
    });
    let dns = Dns::start();
    dns.set(NAME, &[ip(&a)]);
    let proxy = start(&by_dns(
        &dns,
        Some(a.address.port()),
        &format!("name: {NAME}"),
    ));
    assert_eq!(
        who(&proxy, 4),
        set(&["0"]),
        "the first answer was waited for"
    );
    let mut slow = Client::connect(proxy.addr("web"));
    slow.send("GET / HTTP/1.1\r\nhost: a\r\nx-slow: 1\r\n\r\n");
    eventually("the slow request", || (a.requests() == 5).then_some(()));
    dns.set(NAME, &[ip(&a), ip(&b)]);
    wait_for(&proxy, &[ip(&a), ip(&b)]);
    assert_eq!(who(&proxy, 8), set(&["0", "1"]));
    // The old one goes: no request more, its kept connections close, and the one in flight is served.
    dns.set(NAME, &[ip(&b)]);
    wait_for(&proxy, &[ip(&b)]);
    assert_eq!(who(&proxy, 8), set(&["1"]));
    let open = || proxy.metric("weir_upstream_connections", &[]);
    eventually("kept connections to close", || {
        (open() <= 3.0).then_some(())
    });
    go.store(true, Ordering::SeqCst);
    assert_eq!(slow.receive(false).unwrap().who(), "0");
    eventually("its connection to close", || (open() <= 2.0).then_some(()));
    let log = proxy.program_log();
    assert!(log.contains("endpoints have changed"), "{log}");
    proxy.stop();
}

#[test]
fn what_fails_changes_nothing_and_is_told_from_what_is_empty() {
    let [a] = neighbours(names);
    let dns = Dns::start();
    dns.set(NAME, &[ip(&a)]);
    let of = |more: &str| by_dns(&dns, Some(a.address.port()), &format!("name: {NAME}{more}"));
    let proxy = start(&of(""));
    let result = |expected: &str| {
        eventually("the result", || {
            (discovery(&proxy, "result") == expected).then_some(())
        });
    };
    result("ok");
    for (saying, expected) in [
        (Saying::Failure, "failed"),
        (Saying::NoSuchName, "empty"),
        (Saying::Nothing, "failed"),
        (Saying::Junk, "failed"),
    ] {
        dns.say(saying.clone());
        result(expected);
        assert_eq!(who(&proxy, 3), set(&["0"]), "{saying:?}");
        assert!(
            discovery(&proxy, "trouble").is_string()
                && discovery(&proxy, "goodSecondsAgo").is_u64()
        );
        let counted = proxy.metric(
            "weir_discovery_answers_total",
            &[&format!("result=\"{expected}\"")],
        );
        assert!(counted >= 1.0, "{saying:?}");
        dns.say(Saying::Records);
        result("ok");
    }
    assert!(proxy.metric("weir_discovery_last_success_timestamp_seconds", &[]) > 1e9);
    // No records, where that is to be believed.
    proxy.write_config(&(config(ALL, &[]) + &of(", onEmpty: remove")));
    proxy.wait_generation(2);
    assert_eq!(who(&proxy, 3), set(&["0"]));
    dns.say(Saying::Failure);
    result("failed");
    assert_eq!(who(&proxy, 3), set(&["0"]), "a failure is none");
    dns.say(Saying::Records);
    dns.set(NAME, &[]);
    result("empty");
    let refused = get(proxy.addr("web"), "a", "/", &[]);
    assert_eq!(refused.status, 503);
    assert!(
        refused
            .header("proxy-status")
            .unwrap()
            .contains("no_endpoint")
    );
    assert!(proxy.metric("weir_backend_ready", &["backend=\"v1\""]) < 0.5);
    dns.set(NAME, &[ip(&a)]);
    eventually("an endpoint", || {
        (get(proxy.addr("web"), "a", "/", &[]).status == 200).then_some(())
    });
    let log = proxy.program_log();
    for told in [
        "the last endpoints are kept",
        "the last ones are kept",
        "endpoints are known again",
        "backend has no usable endpoint",
    ] {
        assert!(log.contains(told), "{told}: {log}");
    }
    proxy.stop();
}

#[test]
fn services_tell_ports_priorities_and_weights() {
    let [a, b, c] = neighbours(names);
    let dns = Dns::start();
    let (service, port) = ("_http._tcp.shop.test", a.address.port());
    for (name, backend) in [("a.test", &a), ("b.test", &b), ("c.test", &c)] {
        dns.set(name, &[ip(backend)]);
    }
    dns.set_services(
        service,
        &[
            (10, 3, port, "a.test"),
            (10, 1, port, "b.test"),
            (20, 0, port, "c.test"),
            (20, 1, port, "gone.test"),
        ],
    );
    let proxy = start(&by_dns(
        &dns,
        None,
        &format!("name: {service}, records: srv"),
    ));
    wait_for(&proxy, &[ip(&a), ip(&b), ip(&c)]);
    let mut client = Client::connect(proxy.addr("web"));
    let mut counts = [0_usize; 3];
    for _ in 0..80 {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        counts[client
            .receive(false)
            .unwrap()
            .who()
            .parse::<usize>()
            .unwrap()] += 1;
    }
    assert!(
        counts[0].abs_diff(60) <= 2 && counts[1].abs_diff(20) <= 2 && counts[2] == 0,
        "{counts:?}"
    );
    // Other weights, the same endpoints: their connections stay.
    let made = proxy.metric("weir_upstream_connections_total", &[]);
    dns.set_services(service, &[(10, 1, port, "a.test"), (10, 1, port, "b.test")]);
    wait_for(&proxy, &[ip(&a), ip(&b)]);
    for _ in 0..20 {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(client.receive(false).unwrap().status, 200);
    }
    assert!((proxy.metric("weir_upstream_connections_total", &[]) - made).abs() < 0.5);
    dns.set_services(service, &[(20, 0, port, "c.test")]);
    wait_for(&proxy, &[ip(&c)]);
    assert_eq!(who(&proxy, 4), set(&["2"]));
    proxy.stop();
}

#[test]
fn a_silent_server_delays_the_start_only_so_long_and_long_answers_come_by_tcp() {
    let [a] = neighbours(names);
    let dns = Dns::start();
    dns.say(Saying::Nothing);
    let backends = by_dns(
        &dns,
        Some(a.address.port()),
        &format!("name: {NAME}, records: ipv4"),
    );
    let began = Instant::now();
    let proxy = start(&backends.replace("timeout: 500ms", "timeout: 60s"));
    assert!(began.elapsed() < Duration::from_secs(15));
    assert_eq!(get(proxy.addr("web"), "a", "/", &[]).status, 503);
    assert_eq!(discovery(&proxy, "result"), serde_json::Value::Null);
    proxy.write_config(&(config(ALL, &[]) + &backends));
    proxy.wait_generation(2);
    let many: Vec<IpAddr> = (0..200).map(|n| [127, 1, 0, n].into()).collect();
    dns.set(NAME, &many);
    dns.say(Saying::Records);
    wait_for(&proxy, &many);
    dns.set(NAME, &[ip(&a)]);
    wait_for(&proxy, &[ip(&a)]);
    assert_eq!(get(proxy.addr("web"), "a", "/", &[]).status, 200);
    // A backend that is no more asks nobody.
    proxy.write_config(&config(ALL, &[("v1", a.address)]));
    proxy.wait_generation(3);
    let asked = dns.questions();
    // Long enough for several questions.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(300) {
        get(proxy.addr("web"), "a", "/", &[]);
    }
    assert!(dns.questions() <= asked + 2, "{} {asked}", dns.questions());
    proxy.stop();
}

#[test]
fn a_file_of_endpoints_is_followed() {
    let [a, b] = neighbours(names);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let list = |backends: &[&Backend]| {
        let all = backends
            .iter()
            .map(|it| format!("{{ address: \"{}\" }}", it.address));
        format!("endpoints: [{}]\n", all.collect::<Vec<_>>().join(", "))
    };
    // As the kubelet does it: the file is a link into a folder that is swapped.
    let mut version = 0;
    let mut swap = |text: &str| {
        version += 1;
        let data = path(&format!("..{version}"));
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("v1.yaml"), text).unwrap();
        std::os::unix::fs::symlink(&data, path("..next")).unwrap();
        std::fs::rename(path("..next"), path("..data")).unwrap();
    };
    swap(&list(&[&a]));
    std::os::unix::fs::symlink("..data/v1.yaml", path("v1.yaml")).unwrap();
    let proxy = start(&format!(
        "  - {{ name: v1, loadBalancing: {{ policy: roundRobin }}, endpointsFile: {} }}\n",
        path("v1.yaml").display()
    ));
    assert_eq!(who(&proxy, 4), set(&["0"]));
    swap(&list(&[&a, &b]));
    wait_for(&proxy, &[ip(&a), ip(&b)]);
    assert_eq!(who(&proxy, 4), set(&["0", "1"]));
    for (broken, why) in [
        ("", "the file is empty"),
        (
            "endpoints: [{ address: shop.test:80 }]",
            "is a name, not an address",
        ),
        (
            "endpoints: [{ adress: 127.0.0.1:80 }]",
            "did you mean `address`",
        ),
        ("[", "W0006"),
    ] {
        swap(broken);
        eventually("the trouble", || {
            let trouble = discovery(&proxy, "trouble");
            trouble
                .as_str()
                .is_some_and(|said| said.contains(why))
                .then_some(())
        });
        assert_eq!(who(&proxy, 4), set(&["0", "1"]), "{broken}");
    }
    swap(&list(&[&b]));
    wait_for(&proxy, &[ip(&b)]);
    assert_eq!(who(&proxy, 4), set(&["1"]));
    swap("endpoints: []\n");
    wait_for(&proxy, &[]);
    assert_eq!(who(&proxy, 1), set(&["503"]));
    proxy.stop();
}

#[test]
fn people_are_told_who_says_where_endpoints_are() {
    let [a] = neighbours(names);
    let dns = Dns::start();
    dns.set(NAME, &[ip(&a)]);
    let proxy = start(&by_dns(
        &dns,
        Some(a.address.port()),
        &format!("name: {NAME}"),
    ));
    wait_for(&proxy, &[ip(&a)]);
    dns.say(Saying::Failure);
    eventually("a failure", || {
        (discovery(&proxy, "result") == "failed").then_some(())
    });
    let weir = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let table = weir(&["backends", "--admin", &proxy.admin().to_string()]);
    let source = format!("dns {NAME}:{}", a.address.port());
    assert!(
        table.contains(&source) && table.contains("failed; last good"),
        "{table}"
    );
    assert!(table.contains("ready"), "{table}");
    let file = proxy.file().to_str().unwrap().to_owned();
    let explained = weir(&["explain", "--config", &file, "GET", "http://a/"]);
    assert!(
        explained.contains(&format!("what DNS says of {NAME}")),
        "{explained}"
    );
    assert!(weir(&["check", &file]).is_empty());
    proxy.stop();
}

/// Closing is seen by the endpoint too, not only counted.
#[test]
fn a_removed_endpoint_sees_its_connections_close() {
    let closed = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&closed);
    let [a, b] = neighbours(move |number, request, stream| {
        names(number, request, stream);
        if number == 0 {
            let (mut stream, closed) = (stream.try_clone().unwrap(), Arc::clone(&seen));
            // Nothing more is asked here: the next thing to read is the end.
            let ended = stream.read(&mut [0; 1]).is_ok_and(|count| count == 0);
            closed.store(ended, Ordering::SeqCst);
            return false;
        }
        true
    });
    let dns = Dns::start();
    dns.set(NAME, &[ip(&a)]);
    let proxy = start(&by_dns(
        &dns,
        Some(a.address.port()),
        &format!("name: {NAME}"),
    ));
    assert_eq!(who(&proxy, 1), set(&["0"]));
    dns.set(NAME, &[ip(&b)]);
    eventually("the end of the connection", || {
        closed.load(Ordering::SeqCst).then_some(())
    });
    assert_eq!(who(&proxy, 3), set(&["1"]));
    proxy.stop();
}

/// RFC 2308, 5: that there is nothing holds for the lesser of the SOA record's time to live and its MINIMUM,
/// within the bounds of the backend. Without one it is asked for again at once.
#[test]
fn that_there_is_nothing_holds_for_a_while_too() {
    let [a] = neighbours(names);
    for (saying, soa, least) in [
        (Saying::NoSuchName, Some((60, 1)), Duration::from_secs(1)),
        (Saying::Records, Some((1, 60)), Duration::from_secs(1)),
        (Saying::Records, Some((60, 60)), Duration::from_secs(1)),
        (Saying::NoSuchName, None, Duration::from_millis(20)),
    ] {
        let dns = Dns::start();
        dns.set(NAME, &[ip(&a)]);
        if let Some((ttl, minimum)) = soa {
            dns.set_soa(ttl, minimum);
        }
        let more = format!("name: {NAME}, records: ipv4");
        let text = by_dns(&dns, Some(a.address.port()), &more);
        let most = if soa == Some((60, 60)) { "1s" } else { "30s" };
        let proxy = start(&text.replace("maxTtl: 100ms", &format!("maxTtl: {most}")));
        wait_for(&proxy, &[ip(&a)]);
        dns.set(NAME, &[]);
        dns.say(saying.clone());
        eventually("an empty answer", || {
            (discovery(&proxy, "result") == "empty").then_some(())
        });
        let (asked, from) = (dns.questions(), Instant::now());
        // What was noted may be of the question before, so two are waited for.
        let next = |asked: u64| {
            eventually("another question", || {
                (dns.questions() > asked).then_some(())
            });
            dns.questions()
        };
        next(next(asked));
        assert!(
            from.elapsed() >= least,
            "{saying:?} {soa:?}: {:?}",
            from.elapsed()
        );
        assert_eq!(who(&proxy, 2), set(&["0"]), "the last good ones are kept");
        proxy.stop();
    }
}
