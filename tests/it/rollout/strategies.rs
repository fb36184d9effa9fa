//! The other ways of moving traffic: at once, endpoint by endpoint, and not at all.

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

#[test]
fn a_rolling_share_follows_the_endpoints() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let text = config(&v1, &v2, "strategy: rolling, pace: clock, minimum: 100ms");
    let one = |version: &Version| {
        format!(
            "endpoints: [{{ address: \"{}\" }}]",
            version.backend.address
        )
    };
    // The same address by other names of this host: four of stable, one of the candidate.
    let port = v1.backend.address.port();
    let many: Vec<_> = (1..5)
        .map(|n| format!("{{ address: \"127.0.0.{n}:{port}\" }}"))
        .collect();
    let four = format!("endpoints: [{}]", many.join(", "));
    let proxy = Proxy::start(&text.replace(&one(&v1), &four));
    weighs(&proxy, 20.0);
    let traffic = Traffic::start(proxy.addr("web"));
    // The plan goes on, the share does not.
    eventually("a later step", || {
        let now = standing(&proxy);
        (now["steps"][3]["current"] == true).then_some(())
    });
    weighs(&proxy, 20.0);
    proxy.write_config(&text);
    reach(&proxy, "promoted");
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
