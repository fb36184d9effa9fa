//! What a listener and a backend allow, and how they say no.

use std::io::Write;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use crate::support::backend::{Backend, echo, scripted};
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::proxy::{Proxy, all_to, config, with_listener};

/// Answers when the barrier opens, so that a request stays in flight as long as a test wants.
fn held(parties: usize) -> (Backend, Arc<Barrier>) {
    let barrier = Arc::new(Barrier::new(parties));
    let gate = Arc::clone(&barrier);
    let backend = scripted(move |seen, stream| {
        if seen.head.contains("/held") {
            gate.wait();
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .is_ok()
    });
    (backend, barrier)
}

/// Exactly at the bound is fine; one more is refused, counted and closes the connection.
#[test]
fn heads_at_and_over_their_bounds() {
    let backend = echo("v1");
    let proxy = Proxy::start(&with_listener(
        &all_to(backend.address),
        "limits: { headerBytes: 8KiB, headerCount: 20, targetBytes: 1KiB }",
    ));
    let web = proxy.addr("web");
    let count = |n: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "x: y\r\n".repeat(n - 1)
        )
    };
    let target = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(n - 1));
    let value = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "y".repeat(n));
    for (request, expected) in [
        (count(20), 200),
        (count(21), 431),
        (target(1024), 200),
        (target(1025), 414),
        (value(7 * 1024), 200),
        (value(8 * 1024), 431),
        (value(64 * 1024), 431),
    ] {
        let mut client = Client::connect(web);
        // A proxy that has seen enough may close before it has everything.
        client.try_send(&request);
        let status = client.receive(false).map_or(0, |response| response.status);
        let start = &request[..request.len().min(40)];
        assert_eq!(status, expected, "{} bytes: {start:?}", request.len());
        if expected != 200 {
            assert!(client.is_closed(), "open after {start:?}");
        }
    }
    proxy.stop();
}

#[test]
fn bodies_at_and_over_their_bound() {
    let backend = echo("v1");
    let proxy = Proxy::start(&with_listener(
        &all_to(backend.address),
        "limits: { bodyBytes: 1KiB }",
    ));
    let web = proxy.addr("web");
    let sized = |n: usize| {
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n{}",
            "z".repeat(n)
        )
    };
    let chunked = |n: usize| {
        let chunk = format!("100\r\n{}\r\n", "z".repeat(256));
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
            chunk.repeat(n / 256)
        )
    };
    for (request, expected) in [
        (sized(1024), 200),
        (sized(1025), 413),
        (chunked(1024), 200),
        (chunked(1280), 413),
    ] {
        let mut client = Client::connect(web);
        client.try_send(&request);
        assert_eq!(client.receive(false).unwrap().status, expected);
        assert!(expected == 200 || client.is_closed());
    }
    assert_eq!(
        backend.requests(),
        2,
        "what is too large never becomes a whole request"
    );
    eventually("the reason", || {
        (proxy.metric("weir_errors_total", &["reason=\"too_large\""]) > 1.5).then_some(())
    });
    proxy.stop();
}

/// The sweep looks four times a second, so a deadline is exact to a quarter.
#[test]
fn slow_clients_are_cut_at_their_deadlines() {
    let backend = echo("v1");
    let proxy = Proxy::start(&with_listener(
        &all_to(backend.address),
        "timeouts: { header: 500ms, idle: 500ms, body: 500ms }",
    ));
    let web = proxy.addr("web");
    let cut = |first: &str, expected: &[u16]| {
        let mut client = Client::connect(web);
        let began = Instant::now();
        client.send(first);
        let mut statuses = Vec::new();
        while let Some(response) = client.receive(false) {
            statuses.push(response.status);
        }
        let took = began.elapsed();
        assert_eq!(statuses, expected, "{first:?}");
        assert!(
            took >= Duration::from_millis(240) && took < Duration::from_secs(5),
            "{took:?} for {first:?}"
        );
    };
    cut("", &[]);
    cut("G", &[]);
    cut("GET / HTTP/1.1\r\nHost: a\r\n", &[]);
    cut("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &[200]);
    cut("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HT", &[200]);
    cut(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab",
        &[408],
    );
    cut(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        &[408],
    );
    assert!(proxy.metric("weir_errors_total", &["reason=\"body_timeout\""]) > 1.5);
    proxy.stop();
}

/// Bytes that come one by one, each well before the next deadline, do not extend that of the head.
#[test]
fn a_dripping_head_is_cut_too() {
    let backend = echo("v1");
    let proxy = Proxy::start(&with_listener(
        &all_to(backend.address),
        "timeouts: { header: 500ms }",
    ));
    let mut client = Client::connect(proxy.addr("web"));
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX: ");
    let began = Instant::now();
    while client.try_send("y") && began.elapsed() < Duration::from_secs(10) {
        std::thread::park_timeout(Duration::from_millis(50));
    }
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    proxy.stop();
}

#[test]
fn requests_over_the_listeners_limit_get_503_at_once() {
    let (backend, gate) = held(3);
    let proxy = Proxy::start(&with_listener(
        &all_to(backend.address),
        "limits: { requests: 2 }",
    ));
    let web = proxy.addr("web");
    let mut clients: Vec<_> = (0..2).map(|_| Client::connect(web)).collect();
    for client in &mut clients {
        client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    eventually("both in flight", || (backend.requests() == 2).then_some(()));
    let refused = get(web, "a", "/", &[]);
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1")),
        "{refused:?}"
    );
    assert!(
        refused
            .header("proxy-status")
            .unwrap()
            .contains("overloaded")
    );
    gate.wait();
    for client in &mut clients {
        assert_eq!(client.receive(false).unwrap().status, 200);
    }
    eventually("a free place", || {
        (get(web, "a", "/", &[]).status == 200).then_some(())
    });
    proxy.stop();
}

#[test]
fn requests_and_connections_over_a_backends_limit() {
    for (limit, word) in [
        ("requests: 1", "requests"),
        ("connections: 1", "connections"),
    ] {
        let (backend, gate) = held(2);
        let text = config(
            "  - { name: r, rules: [{ backendRefs: [{ name: v1 }] }] }\n",
            &[],
        ) + &format!(
            "  - {{ name: v1, limits: {{ {limit} }}, endpoints: [{{ address: \"{}\" }}] }}\n",
            backend.address
        );
        let proxy = Proxy::start(&text);
        let web = proxy.addr("web");
        let mut client = Client::connect(web);
        client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
        eventually("one in flight", || (backend.requests() == 1).then_some(()));
        let refused = get(web, "a", "/", &[]);
        assert_eq!(refused.status, 503, "{word}");
        assert!(
            refused
                .header("proxy-status")
                .unwrap()
                .contains("limit_exceeded"),
            "{refused:?}"
        );
        gate.wait();
        assert_eq!(client.receive(false).unwrap().status, 200);
        assert!(
            proxy.metric(
                "weir_errors_total",
                &["reason=\"limit_exceeded\"", "backend=\"v1\""]
            ) > 0.5
        );
        proxy.stop();
    }
}

/// More connections than allowed wait in the kernel's queue and are served when one has gone.
#[test]
fn connections_over_the_limit_wait() {
    let backend = echo("v1");
    let text = with_listener(&all_to(backend.address), "limits: { connections: 2 }");
    let proxy = Proxy::start_with(&text, &["--workers", "1"]);
    let web = proxy.addr("web");
    let mut open: Vec<_> = (0..2).map(|_| Client::connect(web)).collect();
    for client in &mut open {
        assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    }
    let mut waiting = Client::connect(web);
    waiting.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(open[0].ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    assert_eq!(
        backend.requests(),
        3,
        "the third connection is not served yet"
    );
    drop(open.pop());
    assert_eq!(waiting.receive(false).unwrap().status, 200);
    proxy.stop();
}

/// The same for the whole process, over all listeners and workers; a counter and a line say so.
#[test]
fn the_process_has_a_bound_on_connections_too() {
    let backend = echo("v1");
    let text = all_to(backend.address).replace(
        "routes:",
        "  - { name: other, address: \"127.0.0.2:0\" }\noverload: { connections: 3 }\nroutes:",
    );
    let proxy = Proxy::start_with(&text, &["--workers", "1"]);
    let [web, other] = ["web", "other"].map(|name| proxy.addr(name));
    let mut open = [web, other, web].map(Client::connect);
    for client in &mut open {
        assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    }
    let paused = |listener: &str| {
        let label = format!("listener=\"{listener}\"");
        proxy.metric("weir_accept_pauses_total", &[&label])
    };
    let mut waiting = [web, other].map(Client::connect);
    for client in &mut waiting {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    eventually("both pause", || {
        (paused("web") > 0.5 && paused("other") > 0.5).then_some(())
    });
    let log = proxy.program_log();
    assert!(log.contains("as many connections as there may be"), "{log}");
    assert_eq!(open[0].ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    assert_eq!(backend.requests(), 4, "the others are not served yet");
    drop(open);
    for client in &mut waiting {
        assert_eq!(client.receive(false).unwrap().status, 200);
    }
    proxy.stop();
}

/// Clients that send everything before they read still get the answer, not a reset.
#[test]
fn a_refused_upload_can_read_why() {
    let backend = echo("v1");
    let proxy = Proxy::start(&with_listener(
        &all_to(backend.address),
        "limits: { bodyBytes: 1KiB, headerBytes: 8KiB }",
    ));
    let megabyte = "z".repeat(1 << 20);
    for (start, status) in [
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2097152\r\n\r\n",
            413,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n",
            413,
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nx: ", 431),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 2097152\r\n\r\n",
            400,
        ),
    ] {
        let mut client = Client::connect(proxy.addr("web"));
        client.send(start);
        for _ in 0..2 {
            client.send(&megabyte);
        }
        let answer = client.receive(false).map_or(0, |response| response.status);
        assert_eq!(answer, status, "{start:?}");
        assert!(client.is_closed(), "{start:?}");
    }
    // Who goes on sending is cut.
    let mut client = Client::connect(proxy.addr("web"));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\nz");
    assert_eq!(client.receive(false).unwrap().status, 413);
    let began = Instant::now();
    while client.try_send("z") && began.elapsed() < Duration::from_secs(10) {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    proxy.stop();
}

/// No descriptor is left: established connections are served, accepting pauses and is counted, the
/// processor is left alone, and it recovers by itself.
#[test]
fn accepting_pauses_while_descriptors_are_gone() {
    let backend = echo("v1");
    let proxy = Proxy::start_with(&all_to(backend.address), &["--workers", "1"]);
    let web = proxy.addr("web");
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (mut kept, mut admin) = (Client::connect(web), Client::connect(proxy.admin()));
    let mut failures = || {
        let page = admin
            .ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .body;
        let line = page
            .lines()
            .find(|line| line.starts_with("weir_accept_errors_total{"))
            .unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert_eq!(kept.ask(request).status, 200);
    assert!(failures() < 0.5);
    let process = format!("/proc/{}", proxy.pid());
    // Those that served the questions above are closed.
    let open = eventually("a steady number of descriptors", || {
        let count = || std::fs::read_dir(format!("{process}/fd")).unwrap().count();
        let before = count();
        std::thread::park_timeout(Duration::from_millis(50));
        (before == count()).then_some(before)
    });
    // The largest number counts, and the kernel gives the lowest that is free.
    let limit = format!("--nofile={0}:{0}", open + 3);
    let set = std::process::Command::new("prlimit")
        .args(["--pid", &proxy.pid().to_string(), &limit])
        .status()
        .expect("install the Debian package util-linux, which has prlimit");
    assert!(set.success());
    let mut silent: Vec<_> = (0..8).map(|_| Client::connect(web)).collect();
    eventually("failures", || (failures() > 2.5).then_some(()));
    let mut waiting = Client::connect(web);
    waiting.send(request);
    for _ in 0..50 {
        assert_eq!(kept.ask(request).status, 200, "established ones are served");
    }
    let ticks = || {
        let stat = std::fs::read_to_string(format!("{process}/stat")).unwrap();
        let fields: Vec<_> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = ticks();
    std::thread::park_timeout(Duration::from_secs(1));
    let used = ticks() - before;
    assert!(used < 20, "{used} of 100 ticks used while nothing happens");
    let lines = proxy.program_log().matches("cannot accept").count();
    assert!((1..4).contains(&lines), "{lines} lines");
    silent.clear();
    assert_eq!(waiting.receive(false).unwrap().status, 200);
    assert_eq!(Client::connect(web).ask(request).status, 200);
    proxy.stop();
}
