//! Kept connections to endpoints: when they are used again, and what a close that crosses a request
//! costs.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::{Duration, Instant};

use crate::support::backend::{Backend, raw, scripted};
use crate::support::client::{Client, get, request};
use crate::support::eventually;
use crate::support::proxy::{Proxy, all_to};

/// Closes each connection after one answer, without saying so.
fn closes_after_each_answer() -> Backend {
    scripted(|_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .unwrap();
        false
    })
}

#[test]
fn an_endpoint_that_closes_after_each_answer_loses_no_get() {
    let backend = closes_after_each_answer();
    let proxy = Proxy::start_with(&all_to(backend.address), &["--workers", "1"]);
    let mut client = Client::connect(proxy.addr("web"));
    for round in 0..20 {
        let response = client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(response.status, 200, "{round}");
    }
    assert_eq!(backend.requests(), 20, "each was read once");
    proxy.stop();
}

/// A close that has arrived costs no POST.
#[test]
fn an_endpoint_that_has_closed_loses_no_post() {
    let backend = closes_after_each_answer();
    let proxy = Proxy::start_with(&all_to(backend.address), &["--workers", "1"]);
    let mut client = Client::connect(proxy.addr("web"));
    for round in 0..20 {
        let response = client.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(response.status, 200, "{round}");
        eventually("the close", || {
            (proxy.metric("weir_upstream_connections", &["backend=\"v1\""]) < 0.5).then_some(())
        });
    }
    assert_eq!(backend.requests(), 20, "each was read once");
    proxy.stop();
}

/// The close of an endpoint that answers and closes meets the next request on the wire. What must not be
/// sent twice goes on new connections until the endpoint is seen to keep them.
#[test]
fn closes_that_cross_cost_no_post() {
    let backend = closes_after_each_answer();
    let proxy = Proxy::start_with(&all_to(backend.address), &["--workers", "1"]);
    let lost = lost_posts(&proxy, 100, Duration::ZERO);
    assert_eq!(lost, 0);
    assert_eq!(backend.requests(), 100, "each was read once");
    proxy.stop();
}

/// The same, where the endpoint closes what has been idle for a while, and requests come just then.
#[test]
fn idle_closes_that_cross_cost_no_post() {
    const IDLE: Duration = Duration::from_millis(40);
    let backend = closes_when_idle(IDLE, "");
    let proxy = Proxy::start_with(&all_to(backend.address), &["--workers", "1"]);
    assert_eq!(lost_posts(&proxy, 20, IDLE), 0);
    proxy.stop();
}

/// POSTs, one after the other and beside one another, need few connections to an endpoint that keeps them:
/// not one each until a sweep has seen that it does.
#[test]
fn posts_reuse_connections_of_endpoints_that_keep_them() {
    const CLIENTS: usize = 8;
    let backend = closes_when_idle(Duration::from_secs(20), "");
    let proxy = Proxy::start_with(&all_to(backend.address), &["--workers", "1"]);
    assert_eq!(lost_posts(&proxy, 200, Duration::ZERO), 0);
    let alone = backend.connections();
    assert!(alone <= 20, "200 needed {alone}");
    let lost = std::thread::scope(|scope| {
        let clients =
            [(); CLIENTS].map(|()| scope.spawn(|| lost_posts(&proxy, 50, Duration::ZERO)));
        clients.map(|client| client.join().unwrap())
    });
    assert_eq!(lost, [0; CLIENTS]);
    let together = backend.connections() - alone;
    assert!(together <= 40, "400 needed {together}");
    proxy.stop();
}

/// Where more are unused than may be kept, the ones go that were used longest ago: what must not be sent
/// twice goes only on young ones, and without them needs a new one each time.
#[test]
fn the_youngest_are_kept() {
    const CLIENTS: usize = 4;
    let (all_wait, released) = (Barrier::new(CLIENTS + 1), AtomicU64::new(0));
    let shared = Arc::new((all_wait, released));
    let held = Arc::clone(&shared);
    let (ended, ends) = mpsc::channel();
    let backend = raw(move |mut stream, requests| {
        let mut head = [0; 1024];
        assert_ne!(stream.read(&mut head).unwrap(), 0);
        let number = requests.fetch_add(1, Ordering::SeqCst);
        held.0.wait();
        // One after the other.
        while held.1.load(Ordering::SeqCst) < number {
            std::thread::yield_now();
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        stream.write_all(answer).unwrap();
        // Until the proxy closes it.
        stream.read_exact(&mut [0]).ok();
        ended.send(number).ok();
    });
    let config = all_to(backend.address).replace("endpoints:", "pool: { maxIdle: 2 }, endpoints:");
    let proxy = Proxy::start_with(&config, &["--workers", "1"]);
    let web = proxy.addr("web");
    std::thread::scope(|scope| {
        let clients = [(); CLIENTS].map(|()| scope.spawn(|| get(web, "a", "/", &[]).status));
        shared.0.wait();
        for number in 0..CLIENTS as u64 {
            shared.1.store(number, Ordering::SeqCst);
            eventually("an answer", || {
                let answered = proxy.metric("weir_requests_total", &[]);
                (answered > number as f64 + 0.5).then_some(())
            });
        }
        for client in clients {
            assert_eq!(client.join().unwrap(), 200);
        }
    });
    let closed: Vec<_> = (2..CLIENTS)
        .map(|_| ends.recv_timeout(Duration::from_secs(5)))
        .collect();
    assert_eq!(closed, [Ok(0), Ok(1)]);
    proxy.stop();
}

/// `Keep-Alive: timeout` counts for every method, less a margin.
#[test]
fn connections_are_kept_no_longer_than_the_endpoint_says() {
    let backend = closes_when_idle(Duration::from_secs(5), "keep-alive: timeout=1, max=100\r\n");
    let proxy = Proxy::start_with(&all_to(backend.address), &["--workers", "1"]);
    let web = proxy.addr("web");
    let opened = || proxy.metric("weir_upstream_connections_total", &["backend=\"v1\""]);
    for _ in 0..3 {
        assert_eq!(get(web, "a", "/", &[]).status, 200);
    }
    assert!(opened() < 1.5, "it is kept");
    eventually("the end of half a second", || {
        (proxy.metric("weir_upstream_connections", &["backend=\"v1\""]) < 0.5).then_some(())
    });
    assert_eq!(get(web, "a", "/", &[]).status, 200);
    assert!(opened() > 1.5);
    proxy.stop();
}

/// Sends POSTs on one connection, each `pause` after the last answer, give or take; how many were lost.
fn lost_posts(proxy: &Proxy, count: u64, pause: Duration) -> u64 {
    let mut client = Client::connect(proxy.addr("web"));
    let mut lost = 0;
    for round in 0..count {
        let response = client.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        assert!(matches!(response.status, 200 | 502), "{response:?}");
        lost += u64::from(response.status == 502);
        if !pause.is_zero() {
            // On either side of the moment, in steps of 50 microseconds.
            let early = Duration::from_micros(50 * (count / 2));
            let due = Instant::now() + pause - early + Duration::from_micros(50 * round);
            while Instant::now() < due {
                std::thread::yield_now();
            }
        }
    }
    lost
}

/// Closes a connection on which nothing has come for so long.
fn closes_when_idle(idle: Duration, fields: &'static str) -> Backend {
    scripted(move |_, stream| {
        stream.set_read_timeout(Some(idle)).unwrap();
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}content-length: 2\r\n\r\nok");
        stream.write_all(answer.as_bytes()).is_ok()
    })
}

/// The second request of a connection is read and the connection reset: GET and PUT go again, exactly
/// once; a POST that was sent does not.
#[test]
fn what_was_sent_goes_again_only_where_that_is_harmless() {
    let backend = scripted(|seen, stream| {
        // Everything else is read, and the connection ends.
        seen.head.contains("/warm")
            && stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .is_ok()
    });
    let proxy = Proxy::start_with(&all_to(backend.address), &["--workers", "1"]);
    let web = proxy.addr("web");
    for (method, tries) in [
        ("GET", 2),
        ("HEAD", 2),
        ("OPTIONS", 2),
        ("DELETE", 2),
        ("POST", 1),
        ("PATCH", 1),
        ("PROPFIND", 1),
    ] {
        assert_eq!(get(web, "a", "/warm", &[]).status, 200);
        let before = backend.requests();
        let response = request(web, method, "a", "/", &[("content-length", "0")]);
        assert_eq!(
            (response.status, backend.requests() - before),
            (502, tries),
            "{method}"
        );
    }
    // A body that was sent is gone.
    assert_eq!(get(web, "a", "/warm", &[]).status, 200);
    let before = backend.requests();
    let mut client = Client::connect(web);
    let put = client.ask("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!((put.status, backend.requests() - before), (502, 1));
    proxy.stop();
}

/// A fresh connection that breaks is no stale one: nothing goes again.
#[test]
fn a_reset_on_a_fresh_connection_is_not_repeated() {
    let backend = scripted(|_, _| false);
    let proxy = Proxy::start(&all_to(backend.address));
    assert_eq!(get(proxy.addr("web"), "a", "/", &[]).status, 502);
    assert_eq!(backend.requests(), 1);
    proxy.stop();
}

/// An endpoint that answers without reading, and resets the connection over what is on its way, is heard.
#[test]
fn an_answer_before_a_reset_reaches_the_client() {
    let backend = raw(|mut stream, requests| {
        let mut head = [0; 1024];
        assert_ne!(stream.read(&mut head).unwrap(), 0);
        requests.fetch_add(1, Ordering::SeqCst);
        let answer = b"HTTP/1.1 413 Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno";
        stream.write_all(answer).unwrap();
    });
    let proxy = Proxy::start_with(&all_to(backend.address), &["--workers", "1"]);
    for round in 1..=20 {
        let mut client = Client::connect(proxy.addr("web"));
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n");
        // Not all of it may be read.
        client.try_send(&"x".repeat(300_000));
        let response = client.receive(false).unwrap();
        assert_eq!((response.status, &*response.body), (413, "no"), "{round}");
        assert_eq!(backend.requests(), round);
    }
    proxy.stop();
}

/// RFC 9112, 9.3: HTTP/1.0 keeps a connection where it says so, and not behind chunks that it may not know.
#[test]
fn an_old_endpoint_that_says_so_is_kept() {
    for (says, kept) in [
        ("connection: keep-alive\r\n", true),
        ("", false),
        ("connection: keep-alive, close\r\n", false),
    ] {
        let answer = format!("HTTP/1.0 200 OK\r\n{says}content-length: 2\r\n\r\nok");
        let backend = scripted(move |_, stream| stream.write_all(answer.as_bytes()).is_ok());
        let proxy = Proxy::start_with(&all_to(backend.address), &["--workers", "1"]);
        let mut client = Client::connect(proxy.addr("web"));
        for _ in 0..3 {
            assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").body, "ok");
        }
        let expected = if kept { 1 } else { 3 };
        assert_eq!(backend.connections(), expected, "{says}");
        proxy.stop();
    }
}
