//! Clients that send too much of something: told to be calm, counted, and gone; nobody else notices.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::wire::{
    BOTH, CALM, CANCEL, CONTINUATION, END_HEADERS, GOAWAY, HEADERS, PING, PRIORITY, Wire, data,
    field, frame, get, headers, request, reset, settings, window_update,
};
use crate::support::backend::{Backend, scripted};
use crate::support::client;
use crate::support::eventually;
use crate::support::proxy::{Proxy, all_to, with_listener};

fn start(backend: &Backend, fields: &str) -> Proxy {
    Proxy::start(&with_listener(&all_to(backend.address), fields))
}

/// The frames of a round.
type Flood = Box<dyn FnMut(u32) -> Vec<u8>>;

fn counted(proxy: &Proxy, kind: &str) -> f64 {
    proxy.metric(
        "weir_http2_limit_exceeded_total",
        &["listener=\"web\"", &format!("kind=\"{kind}\"")],
    )
}

/// Sends `flood` over and over until the proxy ends it; the error that it says.
fn until_calmed(address: SocketAddr, first: &[u8], flood: &mut dyn FnMut(u32) -> Vec<u8>) -> u32 {
    let mut wire = Wire::connect(address);
    wire.send(first);
    let began = Instant::now();
    for round in 0..100_000 {
        if !wire.send(&flood(round)) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "never ended");
        // So that the farewell is read before the reset of a socket closed over unread bytes.
        if round % 16 == 15 {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
    wire.goodbye().unwrap_or(u32::MAX)
}

#[test]
fn every_flood_ends_in_enhance_your_calm_and_is_counted() {
    let backend = scripted(|seen, stream| {
        use std::io::Write;
        if seen.head.contains(" /held ") {
            std::thread::park_timeout(Duration::from_secs(5));
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .is_ok()
    });
    let proxy = start(
        &backend,
        "limits: { streams: 200, http2: { pendingResets: 1000 } }",
    );
    let web = proxy.addr("web");
    let held = headers(1, END_HEADERS, &request("POST", "/held"));
    let open = |n: u32| headers(2 * n + 1, BOTH, &get("/held"));
    let block = get("/");
    let many: Vec<u8> = (0..300).flat_map(|_| field("x", "y")).collect();
    let mut floods: Vec<(&str, Vec<u8>, Flood)> = vec![
        ("ping", vec![], Box::new(|_| frame(PING, 0, 0, &[7; 8]))),
        ("settings", vec![], Box::new(|_| settings(&[(3, 100)]))),
        (
            "priority",
            vec![],
            Box::new(|n| frame(PRIORITY, 0, 2 * n + 1, &[0, 0, 0, 0, 9])),
        ),
        ("empty_data", held.clone(), Box::new(|_| data(1, 0, &[]))),
        (
            "window_update",
            held.clone(),
            Box::new(|n| window_update(n % 2, 1)),
        ),
        (
            "other_frame",
            vec![],
            Box::new(|_| frame(0xfa, 0, 0, b"grease")),
        ),
        (
            "reset",
            vec![],
            Box::new(move |n| [open(n), reset(2 * n + 1, CANCEL)].concat()),
        ),
        (
            "continuation",
            headers(1, 0, &block),
            Box::new(|_| frame(CONTINUATION, 0, 1, &[])),
        ),
        // MadeYouReset: its streams are open, and it is this side that resets them.
        (
            "provoked_reset",
            vec![],
            Box::new(|n| {
                let opened = headers(2 * n + 1, BOTH, &get("/held"));
                let window = window_update(2 * n + 1, 0x7fff_ffff);
                [opened, window].concat()
            }),
        ),
        (
            "provoked_reset",
            vec![],
            Box::new(|n| {
                let short = [get("/held"), field("content-length", "4")].concat();
                headers(2 * n + 1, BOTH, &short)
            }),
        ),
        // Tiny DATA: the engine's own bound, in bytes that it has wasted.
        ("engine", held, Box::new(|_| data(1, 0, b"x").repeat(50))),
    ];
    // Streams over the limit are refused, and that has a bound too.
    floods.push((
        "provoked_reset",
        vec![],
        Box::new(|n| {
            let each = |n| headers(2 * n + 1, END_HEADERS, &request("POST", "/held"));
            (20 * n..20 * n + 20).flat_map(each).collect()
        }),
    ));
    let mut faults = Vec::new();
    for (kind, first, mut flood) in floods {
        let before = counted(&proxy, kind);
        let said = until_calmed(web, &first, &mut *flood);
        if said != CALM {
            faults.push(format!("{kind}: {said}"));
            continue;
        }
        eventually(kind, || {
            (counted(&proxy, kind) > before + 0.5).then_some(())
        });
        assert_eq!(client::get(web, "a", "/", &[]).status, 200, "after {kind}");
    }
    assert!(faults.is_empty(), "{faults:?}");
    // A list of fields over its limit is refused, whatever it takes on the wire; and costs nothing.
    let mut wire = Wire::connect(web);
    wire.send(&headers(1, BOTH, &[get("/"), many].concat()));
    let head = wire.until(|frame| frame.kind == HEADERS).unwrap();
    assert_eq!(head.status(), 431);
    proxy.stop();
}

/// Coming back is part of a flood, so its end is held back; others of its listener wait for nothing.
#[test]
fn a_client_over_a_bound_is_told_at_once_and_let_go_later() {
    let backend = scripted(|_, _| false);
    let proxy = start(&backend, "limits: { http2: { pings: 3 } }");
    let mut wire = Wire::connect(proxy.addr("web"));
    wire.send(&frame(PING, 0, 0, &[7; 8]).repeat(40));
    let told = wire.until(|frame| frame.kind == GOAWAY).unwrap();
    assert_eq!(told.error(), CALM);
    let at = Instant::now();
    assert!(wire.receive().is_none());
    assert!(at.elapsed() > Duration::from_millis(500));
    proxy.stop();
}
