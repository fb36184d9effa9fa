//! The plan: how a good candidate comes to all of the traffic, and what happens when nobody knows.

use super::{Traffic, Version, config, decisions, phase, reach, standing, weighs};
use crate::support::proxy::Proxy;

#[test]
fn a_good_candidate_is_promoted_by_the_clock() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let rollout = "pace: clock, minimum: 300ms, steps: [{ weight: 10 }, { weight: 50, pause: 100ms }, { weight: 100 }]";
    let proxy = Proxy::start(&config(&v1, &v2, rollout));
    let traffic = Traffic::start(proxy.addr("web"));
    let end = reach(&proxy, "promoted");
    assert_eq!(
        (end["weight"].as_f64(), &end["setBy"]),
        (Some(100.0), &"plan".into())
    );
    assert_eq!(
        decisions(&proxy),
        ["started", "stepped", "stepped", "promoted"]
    );
    let stable = v1.requests();
    traffic.more(50);
    // What was under way may still end.
    assert!(v1.requests() <= stable + 4);
    drop(traffic);
    proxy.stop();
}

#[test]
fn a_good_candidate_is_promoted_by_evidence() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let rollout =
        "minimum: 100ms, analysis: { falsePass: 0.5 }, steps: [{ weight: 90 }, { weight: 100 }]";
    let proxy = Proxy::start(&config(&v1, &v2, rollout));
    let traffic = Traffic::start(proxy.addr("web"));
    let end = reach(&proxy, "promoted");
    // The limit is 0.5 %: without hundreds of good answers nobody knows.
    assert!(
        end["requests"]["candidate"].as_u64().unwrap() > 140,
        "{end}"
    );
    drop(traffic);
    proxy.stop();
}

#[test]
fn a_step_waits_for_a_person() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let rollout =
        "pace: clock, minimum: 100ms, steps: [{ weight: 50, pause: manual }, { weight: 100 }]";
    let proxy = Proxy::start(&config(&v1, &v2, rollout));
    let traffic = Traffic::start(proxy.addr("web"));
    crate::support::eventually("it waits", || {
        let stays = standing(&proxy)["stays"].as_str()?.to_owned();
        stays.contains("waits for a person").then_some(())
    });
    traffic.more(100);
    assert_eq!(phase(&proxy), "step");
    drop(traffic);
    proxy.stop();
}

#[test]
fn without_data_the_policy_decides() {
    for (policy, end) in [
        ("rollBack", "rolledBack"),
        ("promote", "promoted"),
        ("continue", "promoted"),
    ] {
        let (v1, v2) = (Version::new("v1"), Version::new("v2"));
        let rollout = format!(
            "minimum: 50ms, maximum: 200ms, onNoData: {policy}, steps: [{{ weight: 50 }}, {{ weight: 100 }}]"
        );
        let proxy = Proxy::start(&config(&v1, &v2, &rollout));
        let end = reach(&proxy, end);
        let reason = end["last"]["reason"].as_str().unwrap();
        assert!(reason.contains("gets no requests"), "{policy}: {reason}");
        proxy.stop();
    }
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let rollout = "minimum: 50ms, maximum: 200ms, steps: [{ weight: 50 }, { weight: 100 }]";
    let proxy = Proxy::start(&config(&v1, &v2, rollout));
    crate::support::eventually("it holds", || {
        let stays = standing(&proxy)["stays"].as_str()?.to_owned();
        stays.contains("gets no requests").then_some(())
    });
    weighs(&proxy, 50.0);
    proxy.stop();
}

/// The budget allows less than the first step as written.
#[test]
fn the_first_weight_is_what_the_budget_allows() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let rollout = "budget: { failedRequests: 6 }, steps: [{ weight: 60 }, { weight: 100 }]";
    let proxy = Proxy::start(&config(&v1, &v2, rollout));
    let traffic = Traffic::start(proxy.addr("web"));
    let now = reach(&proxy, "step");
    assert!(now["weight"].as_f64().unwrap() < 10.0, "{now}");
    assert!(now["steps"].as_array().unwrap().len() > 2, "{now}");
    drop(traffic);
    proxy.stop();
}
