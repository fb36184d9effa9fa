//! What a stopping process, or a listener that goes away, does with the connections that are open.

use std::io::Write;
use std::time::{Duration, Instant};

use http::{Request, Version};

use crate::support::backend::{Backend, scripted};
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::http2::{ask, block_on, connect, empty};
use crate::support::proxy::{Proxy, all_to};

/// Takes a second for `/slow`.
fn slow() -> Backend {
    scripted(|seen, stream| {
        if seen.head.contains("/slow") {
            std::thread::park_timeout(Duration::from_secs(1));
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .is_ok()
    })
}

/// HTTP/1: idle connections end, a kept one is told with its answer. TERM and INT are the same.
#[test]
fn open_connections_are_told_and_idle_ones_end() {
    for signal in ["TERM", "INT"] {
        let backend = slow();
        let proxy = Proxy::start(&all_to(backend.address).replace("delay: 0s", "delay: 600ms"));
        let web = proxy.addr("web");
        let (mut kept, mut idle) = (Client::connect(web), Client::connect(web));
        let mut silent = Client::connect(web);
        for client in [&mut kept, &mut idle] {
            let first = client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!((first.status, first.header("connection")), (200, None));
        }
        let began = Instant::now();
        proxy.signal(signal);
        eventually("not ready", || {
            (proxy.ask("/ready").status == 503).then_some(())
        });
        let last = kept.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(
            (last.status, last.header("connection")),
            (200, Some("close"))
        );
        assert!(kept.is_closed() && idle.is_closed() && silent.is_closed());
        assert!(
            began.elapsed() >= Duration::from_millis(500),
            "idle ones live through the delay"
        );
        proxy.wait();
    }
}

/// HTTP/2: streams in flight end in order, and the connection with them (GOAWAY).
#[test]
fn streams_in_flight_end_in_order() {
    let backend = slow();
    let proxy = Proxy::start(&all_to(backend.address));
    let web = proxy.addr("web");
    block_on(async {
        let to = |path: &str| {
            let request = Request::builder()
                .version(Version::HTTP_2)
                .uri(format!("http://a{path}"));
            request.body(empty()).unwrap()
        };
        let mut sender = connect(web).await;
        let mut second = sender.clone();
        let slow = tokio::spawn(async move { ask(&mut second, to("/slow")).await });
        while backend.requests() == 0 {
            tokio::task::yield_now().await;
        }
        proxy.signal("TERM");
        assert_eq!(slow.await.unwrap().unwrap().body, "ok");
        let after = ask(&mut sender, to("/after")).await;
        assert!(after.is_err(), "{after:?}");
    });
    proxy.wait();
}

/// A listener that a reload takes away: what is in flight on it is answered, then its connections end;
/// those of other listeners go on.
#[test]
fn a_removed_listener_ends_its_connections_after_their_requests() {
    let backend = slow();
    let one = all_to(backend.address);
    let two = one.replace(
        "routes:",
        "  - { name: more, address: \"127.0.0.2:0\" }\nroutes:",
    );
    let proxy = Proxy::start(&two);
    let (web, more) = (proxy.addr("web"), proxy.addr("more"));
    let (mut stays, mut busy, mut idle) = (
        Client::connect(web),
        Client::connect(more),
        Client::connect(more),
    );
    assert_eq!(idle.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    assert_eq!(stays.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the slow request", || {
        (backend.requests() == 3).then_some(())
    });
    proxy.write_config(&one);
    proxy.wait_generation(2);
    assert_eq!(busy.receive(false).unwrap().status, 200);
    assert!(busy.is_closed() && idle.is_closed());
    eventually("refusal", || {
        std::net::TcpStream::connect(more).is_err().then_some(())
    });
    assert_eq!(stays.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    assert_eq!(get(web, "a", "/", &[]).status, 200);
    proxy.stop();
}

/// Nothing that was accepted, or waits to be, is reset while listeners come and go under load.
#[test]
fn no_request_is_lost_while_a_listener_goes() {
    let backend = slow();
    let one = all_to(backend.address);
    let two = one.replace(
        "routes:",
        "  - { name: more, address: \"127.0.0.2:0\" }\nroutes:",
    );
    let proxy = Proxy::start(&two);
    let more = proxy.addr("more");
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let mut served = 0;
                // Refused: the listener has gone. Anything else must be a whole answer.
                while let Ok(mut stream) = std::net::TcpStream::connect(more) {
                    stream
                        .set_read_timeout(Some(Duration::from_secs(10)))
                        .unwrap();
                    stream
                        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                        .unwrap();
                    let mut answer = String::new();
                    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
                    assert!(
                        answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"),
                        "{answer:?} after {served}"
                    );
                    served += 1;
                }
                served
            })
        })
        .collect();
    eventually("some traffic", || (backend.requests() > 200).then_some(()));
    proxy.write_config(&one);
    for thread in threads {
        assert!(thread.join().unwrap() > 0);
    }
    proxy.stop();
}

/// At the deadline the rest is cut and counted, and the exit is still a clean one.
#[test]
fn what_does_not_end_is_cut_at_the_timeout() {
    let backend = scripted(|_, _| {
        std::thread::park_timeout(Duration::from_secs(15));
        false
    });
    let proxy = Proxy::start(&all_to(backend.address).replace("timeout: 5s", "timeout: 700ms"));
    let mut stuck = Client::connect(proxy.addr("web"));
    stuck.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request", || (backend.requests() == 1).then_some(()));
    let began = Instant::now();
    proxy.signal("TERM");
    assert!(
        stuck.receive(false).is_none(),
        "no answer, and none made up"
    );
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(600) && took < Duration::from_secs(4),
        "{took:?}"
    );
    assert!(proxy.wait().contains("\"reason\":\"drained\""));
}
