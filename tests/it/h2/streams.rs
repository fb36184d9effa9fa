//! Endpoints that allow few streams on a connection get several connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::client::Client;
use crate::support::proxy::{Proxy, all_to};
use crate::support::{eventually, serve_each};

/// Allows so many streams on a connection, and holds every request until all of them have come.
struct Narrow {
    address: std::net::SocketAddr,
    connections: Arc<AtomicU64>,
    /// Requests that are held now, and the most on one connection at a time.
    held: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
}

fn narrow(streams: u32, together: u64) -> Narrow {
    let [connections, held, most] = [const { AtomicU64::new(0) }; 3].map(Arc::new);
    let all_there = Arc::new(tokio::sync::Barrier::new(together as usize));
    let counts = [&connections, &held, &most].map(Arc::clone);
    let address = serve_each(move |stream| {
        let [connections, held, most] = counts.each_ref().map(Arc::clone);
        connections.fetch_add(1, Ordering::SeqCst);
        let (here, all_there) = (Arc::<AtomicU64>::default(), Arc::clone(&all_there));
        let service = hyper::service::service_fn(move |_| {
            let (here, held) = (Arc::clone(&here), Arc::clone(&held));
            let (most, all_there) = (Arc::clone(&most), Arc::clone(&all_there));
            async move {
                most.fetch_max(here.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                held.fetch_add(1, Ordering::SeqCst);
                all_there.wait().await;
                here.fetch_sub(1, Ordering::SeqCst);
                let body = Full::new(Bytes::from_static(b"ok")).boxed();
                Ok::<_, hyper::Error>(http::Response::new(body))
            }
        });
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(streams)
            .serve_connection(TokioIo::new(stream), service);
        async move { drop(connection.await) }
    });
    Narrow {
        address,
        connections,
        held,
        most,
    }
}

#[test]
fn connections_are_made_when_streams_run_out() {
    for (streams, requests, connections) in [(4, 40, 10), (1, 5, 5), (100, 40, 1)] {
        let backend = narrow(streams, requests);
        let text = all_to(backend.address).replace(
            "{ name: v1, endpoints",
            "{ name: v1, protocol: h2c, endpoints",
        );
        let proxy = Proxy::start_with(&text, &["--workers", "1"]);
        let web = proxy.addr("web");
        let mut clients: Vec<_> = (0..requests)
            .map(|_| {
                let mut client = Client::connect(web);
                client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
                client
            })
            .collect();
        // None is answered before all are there: on fewer connections they would wait for ever.
        for client in &mut clients {
            assert_eq!(client.receive(false).unwrap().status, 200, "{streams}");
        }
        assert_eq!(backend.held.load(Ordering::SeqCst), requests);
        assert!(backend.most.load(Ordering::SeqCst) <= u64::from(streams));
        assert_eq!(
            backend.connections.load(Ordering::SeqCst),
            connections,
            "{streams}"
        );
        proxy.stop();
    }
}

#[test]
fn with_a_limit_of_connections_requests_wait_for_a_stream() {
    let backend = narrow(2, 4);
    let text = all_to(backend.address).replace(
        "{ name: v1, endpoints",
        "{ name: v1, protocol: h2c, connectTimeout: 15s, limits: { connections: 2 }, endpoints",
    );
    let proxy = Proxy::start_with(&text, &["--workers", "1"]);
    let web = proxy.addr("web");
    let mut clients: Vec<_> = (0..16)
        .map(|_| {
            let mut client = Client::connect(web);
            client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
            client
        })
        .collect();
    for client in &mut clients {
        assert_eq!(client.receive(false).unwrap().status, 200);
    }
    eventually("nobody waits", || {
        (proxy.metric("weir_requests_pending", &[]) < 0.5).then_some(())
    });
    assert_eq!(backend.connections.load(Ordering::SeqCst), 2);
    proxy.stop();
}
