//! Nothing is left behind: connections, tasks and memory, before and after every fault at once.

use std::time::Duration;

use super::{Script, ask, chaos};
use crate::support::eventually;
use crate::support::proxy::Proxy;

/// Requests of one round.
const REQUESTS: usize = 192;
const CLIENTS: usize = 48;

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
    for round in 0..4 {
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let web = chaos.web;
                scope.spawn(move || {
                    for number in (client..REQUESTS).step_by(CLIENTS) {
                        let kinds = ["http1", "http2", "http1", "http2", "refused", "deaf"];
                        let kind = kinds[number % kinds.len()];
                        let rule = ["plain", "again"][number / kinds.len() % 2];
                        let method = ["GET", "POST"][number / 7 % 2];
                        ask(web, method, &format!("/{kind}/{rule}/{round}/{number}"));
                    }
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
        memory.push(number(proxy, "process_resident_memory_bytes"));
    }
    println!(
        "chaos: {} requests, {before:?}, memory {memory:?}",
        4 * REQUESTS
    );
    // The first round fills what is kept for the next.
    let (settled, last) = (memory[1], memory[3]);
    assert!(last < settled + settled / 10 + (4 << 20), "{memory:?}");
    let counted = number(proxy, "weir_requests_total");
    assert_eq!(counted, 4 * REQUESTS as u64);
    chaos.proxy.stop();
}
