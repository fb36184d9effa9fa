//! A rolling rollout: traffic moves as endpoints do, one by one.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Traffic, decisions, phase, reach, standing, weighs};
use crate::support::backend::{Backend, neighbours};
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::proxy::Proxy;

/// Says which endpoints a version has.
fn list(folder: &Path, name: &str, endpoints: &[&Backend]) {
    let all = endpoints
        .iter()
        .map(|it| format!("{{ address: \"{}\" }}", it.address));
    let text = format!("endpoints: [{}]\n", all.collect::<Vec<_>>().join(", "));
    let (next, path) = (folder.join("next"), folder.join(format!("{name}.yaml")));
    std::fs::write(&next, text).unwrap();
    std::fs::rename(next, path).unwrap();
}

fn start(folder: &Path, slow_start: &str, rollout: &str) -> Proxy {
    let file = |name: &str| folder.join(format!("{name}.yaml")).display().to_string();
    Proxy::start(&format!(
        "version: 1\naccessLog: {{ format: json }}\ndrain: {{ delay: 0s, timeout: 5s }}\n\
         listeners: [{{ name: web, address: \"127.0.0.1:0\" }}]\n\
         routes: [{{ name: shop, rules: [{{ name: pay, split: {{ key: {{ header: x-user }}, force: {{ header: x-version }} }}, backendRefs: [{{ name: v1, weight: 100 }}, {{ name: v2, weight: 0 }}] }}] }}]\n\
         backends:\n  - {{ name: v1, endpointsFile: {}, loadBalancing: {{ policy: roundRobin }} }}\n  - {{ name: v2, endpointsFile: {}, loadBalancing: {{ {slow_start} }} }}\n\
         rollouts: [{{ name: pay, rule: shop/pay, stable: v1, candidate: v2, strategy: rolling, {rollout} }}]\n",
        file("v1"),
        file("v2")
    ))
}

/// Endpoints of a version. `x-slow` requests wait for the end of `held`.
fn version<const N: usize>(
    name: &'static str,
    fails: &Arc<AtomicBool>,
    held: &Arc<AtomicBool>,
) -> [Backend; N] {
    let (fails, held) = (Arc::clone(fails), Arc::clone(held));
    neighbours(move |_, seen, stream| {
        if seen.head.contains("x-slow") {
            eventually("the end of slow requests", || {
                (!held.load(Ordering::SeqCst)).then_some(())
            });
        }
        let status = if fails.load(Ordering::SeqCst) {
            500
        } else {
            200
        };
        let answer =
            format!("HTTP/1.1 {status} X\r\nx-backend: {name}\r\ncontent-length: 2\r\n\r\nok");
        stream.write_all(answer.as_bytes()).is_ok()
    })
}

#[test]
fn the_share_follows_the_endpoints_slowly_and_nothing_is_lost() {
    let (fails, held) = (Arc::default(), Arc::new(AtomicBool::new(true)));
    let old: [Backend; 4] = version("v1", &fails, &held);
    let new: [Backend; 4] = version("v2", &fails, &held);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (old, new): (Vec<_>, Vec<_>) = (old.iter().collect(), new.iter().collect());
    list(folder, "v1", &old);
    list(folder, "v2", &[]);
    let slow_start = "slowStart: { window: 4s, fromPercent: 10 }";
    let proxy = start(folder, slow_start, "pace: clock, minimum: 100ms");
    let web = proxy.addr("web");
    let traffic = Traffic::start(web);
    assert_eq!(phase(&proxy), "warming");

    // The first of the new ones: its share grows, at last to a fifth.
    list(folder, "v2", &new[..1]);
    let first = eventually("a first share", || {
        standing(&proxy)["weight"].as_f64().filter(|it| *it > 0.0)
    });
    assert!(first < 12.0, "{first}");
    weighs(&proxy, 20.0);
    let stays = |proxy: &Proxy| standing(proxy)["stays"].as_str().map(str::to_owned);
    eventually("it waits for the endpoints", || {
        stays(&proxy).filter(|it| it.contains("stable still has endpoints"))
    });

    // An old one goes: what it is serving ends, and it gets nothing new.
    let mut slow: Vec<_> = old.iter().map(|_| Client::connect(web)).collect();
    for client in &mut slow {
        client.send("GET / HTTP/1.1\r\nHost: a\r\nx-version: v1\r\nx-slow: 1\r\n\r\n");
    }
    eventually("slow requests everywhere", || {
        let backends = proxy.json("/api/v1/backends");
        let all = backends[0]["endpoints"].as_array()?.clone();
        let busy = |one: &serde_json::Value| one["requestsInFlight"].as_u64() >= Some(1);
        all.iter().all(busy).then_some(())
    });
    list(folder, "v1", &old[1..]);
    weighs(&proxy, 25.0);
    let before = old[0].requests();
    traffic.more(100);
    assert_eq!(old[0].requests(), before, "nothing new");
    held.store(false, Ordering::SeqCst);
    for client in &mut slow {
        assert_eq!(client.receive(false).unwrap().status, 200);
    }

    list(folder, "v2", &new);
    list(folder, "v1", &old[3..]);
    weighs(&proxy, 80.0);
    assert_eq!(phase(&proxy), "step");
    list(folder, "v1", &[]);
    reach(&proxy, "promoted");
    traffic.more(50);
    assert_eq!(traffic.failed(), 0);
    assert_eq!(
        decisions(&proxy).last().map(String::as_str),
        Some("promoted")
    );
    drop(traffic);
    proxy.stop();
}

#[test]
fn it_is_judged_like_a_canary() {
    let (good, bad): (Arc<AtomicBool>, Arc<AtomicBool>) = Default::default();
    let [one, two]: [Backend; 2] = version("v1", &good, &good);
    let [new]: [Backend; 1] = version("v2", &bad, &good);
    let folder = tempfile::tempdir().unwrap();
    list(folder.path(), "v1", &[&one, &two]);
    list(folder.path(), "v2", &[&new]);
    let proxy = start(
        folder.path(),
        "",
        "steps: [{ weight: 30 }, { weight: 100 }]",
    );
    weighs(&proxy, 30.0);
    let traffic = Traffic::start(proxy.addr("web"));
    traffic.more(50);
    bad.store(true, Ordering::SeqCst);
    let end = reach(&proxy, "rolledBack");
    assert_eq!(
        (&end["setBy"], &end["weight"]),
        (&"guard".into(), &0.0.into())
    );
    drop(traffic);
    proxy.stop();
}
