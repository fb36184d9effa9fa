//! The other ways of moving traffic: at once, and not at all.

use super::{
    Traffic, Version, config, decisions, owners, phase, reach, standing, weighs, with_key,
};
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::proxy::Proxy;

fn post(proxy: &Proxy, verb: &str) -> u16 {
    let mut client = Client::connect(proxy.admin());
    let path = format!("/api/v1/rollouts/pay/{verb}");
    let request = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\ncontent-length: 0\r\n\r\n");
    client.ask(&request).status
}

const BLUE_GREEN: &str =
    "strategy: blueGreen, minimum: 50ms, steps: [{ weight: 0, pause: manual }, { weight: 100 }]";

#[test]
fn blue_green_is_looked_at_switched_at_once_and_switched_back() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let rule = "split: { key: { header: x-user }, force: { header: x-preview } }";
    let rollout = format!("{BLUE_GREEN}, holdback: {{ weight: 10, duration: 300ms }}");
    let proxy = Proxy::start(&with_key(rule, &v1, &v2, &rollout));
    let address = proxy.addr("web");
    eventually("it waits", || {
        let stays = standing(&proxy)["stays"].as_str()?.to_owned();
        stays.contains("waits for a person").then_some(())
    });
    assert!(owners(address, 100).values().all(|name| name == "v1"));
    let preview = get(address, "a", "/", &[("x-preview", "v2")]);
    assert_eq!(preview.who(), "v2");
    assert_eq!(post(&proxy, "promote"), 200);
    // The next request: nine of ten keys, the rest is the control.
    let switched = owners(address, 300);
    let back = switched.values().filter(|name| *name == "v1").count();
    assert!(
        phase(&proxy) != "holdback" || (10..60).contains(&back),
        "{back}"
    );
    reach(&proxy, "promoted");
    assert!(owners(address, 100).values().all(|name| name == "v2"));
    assert_eq!(post(&proxy, "abort"), 200);
    assert!(owners(address, 100).values().all(|name| name == "v1"));
    assert!(decisions(&proxy).contains(&"switched".to_owned()));
    proxy.stop();
}

/// What shows only with all of the traffic is still seen, by the part that was held back.
#[test]
fn blue_green_keeps_a_control() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let rollout = "strategy: blueGreen, minimum: 50ms, holdback: { weight: 50, duration: 10m }";
    let proxy = Proxy::start(&config(&v1, &v2, rollout));
    reach(&proxy, "holdback");
    let traffic = Traffic::start(proxy.addr("web"));
    traffic.more(100);
    v2.fail(100);
    reach(&proxy, "rolledBack");
    drop(traffic);
    proxy.stop();
}

/// Nobody, and no person, is sent to a standby whose checks fail.
#[test]
fn a_standby_is_checked_before_anybody_gets_it() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    v2.fail(100);
    let check = "healthCheck: { http: { path: /healthz }, interval: 50ms, timeout: 500ms, unhealthyAfter: 1, healthyAfter: 1 }";
    let rollout = "strategy: blueGreen, minimum: 50ms, holdback: { weight: 10, duration: 10m }";
    let text = config(&v1, &v2, rollout).replace(
        "{ name: v2, endpoints",
        &format!("{{ name: v2, {check}, endpoints"),
    );
    let proxy = Proxy::start(&text);
    eventually("its checks fail", || {
        let endpoint = proxy.json("/api/v1/backends")[1]["endpoints"][0].clone();
        (endpoint["state"] == "unhealthy").then_some(())
    });
    let (status, why) = super::control::post(&proxy, "/api/v1/rollouts/pay/promote", "");
    assert_eq!(status, 409, "{why}");
    assert!(
        why.contains("no endpoint of the candidate is ready"),
        "{why}"
    );
    assert_eq!(phase(&proxy), "warming");
    assert!(
        owners(proxy.addr("web"), 50)
            .values()
            .all(|name| name == "v1")
    );
    v2.fail(0);
    reach(&proxy, "holdback");
    proxy.stop();
}

/// The switch is one moment for all keys, but for those of the control; so is the way back.
#[test]
fn blue_green_switches_and_returns_between_two_requests() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let rollout = format!("{BLUE_GREEN}, holdback: {{ weight: 10, duration: 10m }}");
    let proxy = Proxy::start(&config(&v1, &v2, &rollout));
    let address = proxy.addr("web");
    eventually("it waits", || {
        let stays = standing(&proxy)["stays"].as_str()?.to_owned();
        stays.contains("waits for a person").then_some(())
    });
    let traffic = Traffic::start(address);
    traffic.more(20);
    assert_eq!(post(&proxy, "promote"), 200);
    let switched = owners(address, 300);
    let held = switched.values().filter(|name| *name == "v1").count();
    assert!((10..60).contains(&held), "{held}");
    assert_eq!(phase(&proxy), "holdback");
    assert_eq!(
        owners(address, 300),
        switched,
        "the control is always the same"
    );
    assert_eq!(post(&proxy, "abort"), 200);
    assert!(owners(address, 300).values().all(|name| name == "v1"));
    assert_eq!(traffic.failed(), 0);
    drop(traffic);
    proxy.stop();
}

#[test]
fn a_fixed_split_is_judged_and_stays() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let proxy = Proxy::start(&config(&v1, &v2, "strategy: ab, steps: [{ weight: 40 }]"));
    weighs(&proxy, 40.0);
    v2.fail(100);
    let traffic = Traffic::start(proxy.addr("web"));
    eventually("the verdict", || {
        (standing(&proxy)["verdict"] == "fail").then_some(())
    });
    let now = standing(&proxy);
    assert_eq!(
        (now["phase"].as_str(), now["weight"].as_f64()),
        (Some("step"), Some(40.0))
    );
    drop(traffic);
    proxy.stop();
}
