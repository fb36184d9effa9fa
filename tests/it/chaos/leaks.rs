//! Nothing is left behind: connections, tasks and memory, before and after every fault at once.

use std::time::Duration;

use super::{Script, ask, chaos};
use crate::support::eventually;
use crate::support::proxy::Proxy;

/// Rounds, and the clients of each, with one request a client.
const ROUNDS: usize = 16;
const CLIENTS: usize = 64;

/// So many rounds at the beginning are compared with as many at the end.
const WINDOW: usize = 4;

/// Bytes that may be left between one window and the other: half of what a leak of 64 KiB a request leaves.
const KEPT: u64 = ((ROUNDS - WINDOW) * CLIENTS * (32 << 10)) as u64;

/// What must be as it was.
#[derive(Debug, PartialEq)]
struct Held {
    clients: u64,
    upstream: u64,
    in_flight: u64,
    tasks: u64,
    descriptors: u64,
}

fn number(proxy: &Proxy, name: &str) -> u64 {
    proxy.metric(name, &[]) as u64
}

fn held(proxy: &Proxy) -> Held {
    Held {
        clients: number(proxy, "weir_connections"),
        upstream: number(proxy, "weir_upstream_connections"),
        in_flight: number(proxy, "weir_requests_in_flight"),
        tasks: number(proxy, "weir_tasks"),
        descriptors: number(proxy, "process_open_fds"),
    }
}

/// Resident bytes that belong to no file: pages of the program come and go as it likes.
fn anonymous(proxy: &Proxy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kib: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kib << 10
}

#[test]
fn nothing_is_left_behind() {
    let chaos = chaos();
    let proxy = &chaos.proxy;
    // The workers look four times a second.
    let before = eventually("the workers' own tasks", || {
        let now = held(proxy);
        (now.tasks > 0).then_some(now)
    });
    *chaos.script.lock().unwrap() = Script {
        all: true,
        ..Script::default()
    };
    let mut memory = Vec::new();
    for round in 0..ROUNDS {
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let web = chaos.web;
                scope.spawn(move || {
                    let kinds = ["http1", "http2", "http1", "http2", "refused", "deaf"];
                    let kind = kinds[client % kinds.len()];
                    let rule = ["plain", "again"][client / kinds.len() % 2];
                    let method = ["GET", "POST"][client / 7 % 2];
                    ask(web, method, &format!("/{kind}/{rule}/{round}/{client}"));
                });
            }
        });
        eventually("what was held before", || {
            let now = held(proxy);
            if now != before {
                std::thread::park_timeout(Duration::from_millis(50));
            }
            (now == before).then_some(())
        });
        memory.push(anonymous(proxy));
    }
    println!("chaos: {before:?}, memory {memory:?}");
    // The allocator gives back what is free when it likes to: a single figure moves by 10 MiB from
    // round to round, the least of a window by 6 MiB. What is in use is at most the least.
    let least = |window: &[u64]| window.iter().copied().min().unwrap();
    let (early, late) = (&memory[..WINDOW], &memory[ROUNDS - WINDOW..]);
    assert!(least(late) < least(early) + KEPT, "{memory:?}");
    let counted = number(proxy, "weir_requests_total");
    assert_eq!(counted, (ROUNDS * CLIENTS) as u64);
    chaos.proxy.stop();
}
