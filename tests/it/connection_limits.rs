//! What becomes of requests when a backend has as many connections as it may: they wait, but not many and
//! not for long.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::backend::{Backend, echo, scripted};
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::proxy::{Proxy, config};

const ALL: &str = "  - { name: r, rules: [{ backendRefs: [{ name: v1 }] }] }\n";

/// Holds every request for `/held` until the flag is set.
fn holding() -> (Backend, Arc<AtomicBool>, Arc<AtomicU64>) {
    let (go, most) = (
        Arc::new(AtomicBool::new(false)),
        Arc::<AtomicU64>::default(),
    );
    let (free, highest) = (Arc::clone(&go), Arc::clone(&most));
    let open = AtomicU64::new(0);
    let backend = scripted(move |seen, stream| {
        highest.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        if seen.head.contains("/held") {
            eventually("the end of a request", || {
                free.load(Ordering::SeqCst).then_some(())
            });
        }
        open.fetch_sub(1, Ordering::SeqCst);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nx-backend: one\r\ncontent-length: 0\r\n\r\n")
            .is_ok()
    });
    (backend, go, most)
}

fn limited(backends: &[&Backend], fields: &str) -> String {
    let endpoints: String = backends
        .iter()
        .map(|backend| format!("{{ address: \"{}\" }}, ", backend.address))
        .collect();
    config(ALL, &[])
        + &format!(
            "  - {{ name: v1, loadBalancing: {{ policy: roundRobin }}, {fields}, endpoints: [{endpoints}] }}\n"
        )
}

fn pending(proxy: &Proxy) -> f64 {
    proxy.metric("weir_requests_pending", &[])
}

fn ask(proxy: &Proxy, path: &str) -> Client {
    let mut client = Client::connect(proxy.addr("web"));
    client.send(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
    client
}

#[test]
fn requests_wait_for_a_connection_and_more_are_refused_at_once() {
    let (backend, go, most) = holding();
    let text = limited(
        &[&backend],
        "connectTimeout: 15s, limits: { connections: 2, pendingRequests: 3 }",
    );
    let proxy = Proxy::start(&text);
    let mut served: Vec<_> = (0..2).map(|_| ask(&proxy, "/held")).collect();
    eventually("both connections", || {
        (backend.requests() == 2).then_some(())
    });
    served.extend((0..3).map(|_| ask(&proxy, "/held")));
    eventually("three that wait", || (pending(&proxy) > 2.5).then_some(()));
    let began = Instant::now();
    let refused = get(proxy.addr("web"), "a", "/", &[]);
    assert_eq!(refused.status, 503);
    assert!(
        refused
            .header("proxy-status")
            .unwrap()
            .contains("limit_exceeded")
    );
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(backend.requests(), 2, "nothing more has got through");
    go.store(true, Ordering::SeqCst);
    for client in &mut served {
        assert_eq!(client.receive(false).unwrap().status, 200);
    }
    assert!(most.load(Ordering::SeqCst) <= 2);
    assert!(pending(&proxy) < 0.5);
    assert!(proxy.metric("weir_upstream_connections", &[]) <= 2.0);
    proxy.stop();
}

#[test]
fn nobody_waits_longer_than_for_connecting() {
    let (backend, go, _) = holding();
    let text = limited(
        &[&backend],
        "connectTimeout: 200ms, limits: { connections: 1 }",
    );
    let proxy = Proxy::start(&text);
    let mut first = ask(&proxy, "/held");
    eventually("the connection", || (backend.requests() == 1).then_some(()));
    let refused = get(proxy.addr("web"), "a", "/", &[]);
    assert_eq!(refused.status, 503);
    assert!(
        refused
            .header("proxy-status")
            .unwrap()
            .contains("limit_exceeded")
    );
    // A client that leaves waits no longer.
    drop(ask(&proxy, "/held"));
    eventually("nobody waits", || (pending(&proxy) < 0.5).then_some(()));
    go.store(true, Ordering::SeqCst);
    assert_eq!(first.receive(false).unwrap().status, 200);
    proxy.stop();
}

/// One place, two endpoints, several workers: a kept connection to one must go for the other.
#[test]
fn kept_connections_make_room_for_those_who_wait() {
    let all = [echo("one"), echo("two")];
    let text = limited(
        &[&all[0], &all[1]],
        "connectTimeout: 15s, limits: { connections: 1 }",
    );
    let proxy = Proxy::start_with(&text, &["--workers", "3"]);
    let mut clients: Vec<_> = (0..6).map(|_| Client::connect(proxy.addr("web"))).collect();
    let mut seen = [0, 0];
    for _ in 0..10 {
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        }
        for client in &mut clients {
            let answer = client.receive(false).unwrap();
            assert_eq!(answer.status, 200);
            seen[usize::from(answer.who() == "two")] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count >= 20), "{seen:?}");
    assert!(proxy.metric("weir_errors_total", &[]) < 0.5);
    proxy.stop();
}

/// What must not be sent twice does not go on a connection that was kept, and must not wait behind one.
#[test]
fn a_post_gets_the_place_of_a_kept_connection() {
    let (backend, go, _) = holding();
    let text = limited(
        &[&backend],
        "connectTimeout: 15s, limits: { connections: 1 }",
    );
    let proxy = Proxy::start_with(&text, &["--workers", "1"]);
    let mut held = ask(&proxy, "/held");
    eventually("the connection", || (backend.requests() == 1).then_some(()));
    let mut posts: Vec<_> = (0..5)
        .map(|_| {
            let mut client = Client::connect(proxy.addr("web"));
            client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi");
            client
        })
        .collect();
    eventually("five that wait", || (pending(&proxy) > 4.5).then_some(()));
    let shown = proxy.json("/api/v1/backends")[0]["requestsPending"].clone();
    assert_eq!(shown, 5);
    go.store(true, Ordering::SeqCst);
    assert_eq!(held.receive(false).unwrap().status, 200);
    for client in &mut posts {
        assert_eq!(client.receive(false).unwrap().status, 200);
    }
    assert_eq!(backend.requests(), 6);
    proxy.stop();
}

#[test]
fn a_new_endpoint_is_connected_to_before_its_first_request() {
    let (one, two) = (echo("one"), echo("two"));
    let fields = "pool: { preconnect: true }";
    let proxy = Proxy::start(&limited(&[&one], fields));
    let made = || proxy.metric("weir_upstream_connections_total", &[]);
    // One from each worker, before anything was listened on.
    assert!(
        (made() - 2.0).abs() < 0.5 && one.requests() == 0,
        "{}",
        made()
    );
    proxy.write_config(&limited(&[&one, &two], fields));
    proxy.wait_generation(2);
    eventually("a connection from each worker", || {
        (made() > 3.5).then_some(())
    });
    assert_eq!(two.requests(), 0);
    eventually("readiness", || {
        let backends = proxy.json("/api/v1/backends");
        (backends[0]["endpoints"][1]["state"] == "ready").then_some(())
    });
    let web = proxy.addr("web");
    for _ in 0..8 {
        assert_eq!(get(web, "a", "/", &[]).status, 200);
    }
    assert!(
        two.requests() == 4 && (made() - 4.0).abs() < 0.5,
        "{} {}",
        two.requests(),
        made()
    );
    // Whoever cannot be reached gets nothing while another one can.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = format!("{{ address: \"{}\" }}, ]", nobody.local_addr().unwrap());
    drop(nobody);
    let text = limited(&[&one], fields).replace("]  }\n", "] }\n");
    let text = text.replacen(", ] }\n", &format!(", {gone} }}\n"), 1);
    proxy.write_config(&text);
    proxy.wait_generation(3);
    for _ in 0..10 {
        assert_eq!(get(web, "a", "/", &[]).who(), "one");
    }
    eventually("a word about it", || {
        proxy
            .program_log()
            .contains("no connection in advance")
            .then_some(())
    });
    proxy.stop();
}
