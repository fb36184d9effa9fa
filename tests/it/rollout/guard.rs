//! The guard: a bad candidate loses its traffic, a good one does not.

use std::time::{Duration, Instant};

use super::{Traffic, Version, config, decisions, owners, phase, reach, weighs, with_key, within};
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::proxy::Proxy;

const HALF: &str = "steps: [{ weight: 50 }, { weight: 100 }]";

#[test]
fn a_bad_candidate_loses_its_traffic_and_its_keys_go_back() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let proxy = Proxy::start(&config(&v1, &v2, HALF));
    let address = proxy.addr("web");
    assert!(
        owners(address, 50).values().all(|name| name == "v1"),
        "not begun"
    );
    weighs(&proxy, 50.0);
    let traffic = Traffic::start(address);
    traffic.more(100);
    assert!(traffic.of("v2") > 10, "the candidate has its share");
    v2.fail(100);
    let began = Instant::now();
    let end = reach(&proxy, "rolledBack");
    within("the rollback", Duration::from_secs(10), began);
    assert_eq!(end["setBy"], "guard");
    assert_eq!(end["weights"]["guard"], 0.0);
    // Whoever asks from now on gets stable, on every worker.
    let mut clients: Vec<_> = (0..8).map(|_| Client::connect(address)).collect();
    let before = v2.requests();
    for (number, client) in (0..80).zip((0..80).map(|it| it % 8)) {
        let (status, name) = super::who(&mut clients[client], &format!("k{number}"));
        assert_eq!((status, name.as_str()), (200, "v1"));
    }
    assert_eq!(v2.requests(), before);
    let decided = decisions(&proxy);
    assert_eq!(decided.last().unwrap(), "rolledBack", "{decided:?}");
    let records = proxy.json("/api/v1/rollouts/pay/history");
    let last = records.as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["by"], &last["basis"]["judgement"]["verdict"]),
        (&"guard".into(), &"fail".into())
    );
    let samples = last["samples"].as_array().unwrap();
    assert!(!samples.is_empty());
    assert!((proxy.metric("weir_rollout_state", &["state=\"rolledBack\""]) - 1.0).abs() < 0.1);
    assert!(proxy.metric("weir_split_weight", &["backend=\"v2\""]).abs() < 0.01);
    drop(traffic);
    // The ids of failed requests are those of the access log.
    let sample = samples[0].as_str().unwrap().to_owned();
    let log = proxy.stop();
    assert!(
        log.lines()
            .any(|line| line.contains(&sample) && line.contains("\"status\":500"))
    );
}

#[test]
fn a_shared_outage_is_nobodys_fault() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let proxy = Proxy::start(&config(&v1, &v2, HALF));
    weighs(&proxy, 50.0);
    let traffic = Traffic::start(proxy.addr("web"));
    traffic.more(50);
    v1.fail(60);
    v2.fail(60);
    traffic.more(600);
    assert!(traffic.failed() > 200, "{}", traffic.failed());
    assert_eq!(phase(&proxy), "step");
    // The same evidence engine, with only one of them broken.
    v1.fail(0);
    v2.fail(100);
    reach(&proxy, "rolledBack");
    drop(traffic);
    proxy.stop();
}

/// One broken client is not a broken version.
#[test]
fn one_key_counts_once() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let proxy = Proxy::start(&config(&v1, &v2, HALF));
    weighs(&proxy, 50.0);
    let address = proxy.addr("web");
    let ours = owners(address, 50);
    let (key, _) = ours.iter().find(|(_, name)| *name == "v2").unwrap();
    v2.fail(100);
    let mut client = Client::connect(address);
    for _ in 0..200 {
        assert_eq!(super::who(&mut client, &format!("u{key}")).0, 500);
    }
    let now = eventually("the events", || {
        let now = super::standing(&proxy);
        (now["failures"]["candidate"].as_u64()? >= 200).then_some(now)
    });
    assert_eq!(now["phase"], "step");
    assert_eq!(now["evidence"][0]["events"]["candidate"], 1);
    proxy.stop();
}

/// Faults that the configuration injects, of which an endpoint knows nothing.
#[test]
fn what_fails_on_purpose_is_no_evidence() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let fault = "filters: [{ type: FaultInjection, faultInjection: { delay: { duration: 5ms }, abort: { status: 500 } } }]";
    let text = config(&v1, &v2, HALF).replace(
        "{ name: v2, weight: 0 }",
        &format!("{{ name: v2, weight: 0, {fault} }}"),
    );
    let proxy = Proxy::start(&text);
    weighs(&proxy, 50.0);
    let traffic = Traffic::start(proxy.addr("web"));
    traffic.more(400);
    assert!(traffic.failed() > 100, "{}", traffic.failed());
    let now = super::standing(&proxy);
    assert_eq!(now["phase"], "step");
    assert_eq!(now["failures"]["candidate"], 0);
    drop(traffic);
    assert_eq!(v2.requests(), 0);
    proxy.stop();
}

#[test]
fn what_is_forced_is_no_evidence() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let rule = "split: { key: { header: x-user }, force: { header: x-want } }";
    let proxy = Proxy::start(&with_key(rule, &v1, &v2, HALF));
    weighs(&proxy, 50.0);
    v2.fail(100);
    for number in 0..60 {
        let user = format!("u{number}");
        let fields = [("x-want", "v2"), ("x-user", user.as_str())];
        assert_eq!(get(proxy.addr("web"), "a", "/", &fields).status, 500);
    }
    let now = eventually("the exclusions", || {
        let excluded = proxy.metric("weir_rollout_excluded", &["reason=\"forced\""]);
        (excluded > 59.0).then(|| super::standing(&proxy))
    });
    assert_eq!(now["phase"], "step");
    assert_eq!(now["failures"]["candidate"], 0);
    proxy.stop();
}

#[test]
fn the_shield_answers_from_stable_and_the_candidate_is_charged() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    v2.fail(100);
    let rollout = format!("{HALF}, shield: {{ percent: 100, header: true }}");
    let proxy = Proxy::start(&config(&v1, &v2, &rollout));
    let traffic = Traffic::start(proxy.addr("web"));
    reach(&proxy, "rolledBack");
    traffic.more(50);
    assert_eq!(traffic.failed(), 0, "no client has seen a failure");
    assert!(v2.requests() > 0);
    let shielded = proxy.metric("weir_shielded_total", &["backend=\"v2\""]);
    assert!((shielded - v2.requests() as f64).abs() < 0.5, "{shielded}");
    drop(traffic);
    let log = proxy.stop();
    assert!(log.contains("\"choice\":\"shield\""), "{log}");
}

#[test]
fn the_shield_is_told_where_that_is_asked_for() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    v2.fail(100);
    let rollout = "shield: { percent: 100, header: true }, analysis: { minKeys: 16 }, steps: [{ weight: 99 }]";
    let proxy = Proxy::start(&config(&v1, &v2, rollout));
    weighs(&proxy, 99.0);
    let shielded = (0..20).any(|number| {
        let key = number.to_string();
        let response = get(proxy.addr("web"), "a", "/", &[("x-user", &key)]);
        response.status == 200 && response.header("x-weir-shielded") == Some("v2")
    });
    assert!(shielded);
    proxy.stop();
}

#[test]
fn a_budget_ends_it_before_the_evidence_does() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    // Never enough keys for a verdict.
    let rollout = format!("{HALF}, budget: {{ failedRequests: 20 }}, analysis: {{ minKeys: 16 }}");
    let proxy = Proxy::start(&config(&v1, &v2, &rollout));
    // Whatever weight the budget allows.
    reach(&proxy, "step");
    let address = proxy.addr("web");
    let ours = owners(address, 500);
    let (key, _) = ours.iter().find(|(_, name)| *name == "v2").unwrap();
    v2.fail(100);
    let mut client = Client::connect(address);
    // Each failure is looked at before the next one, so that the number is the budget's and not that of
    // what a machine does between two looks.
    for failed in 1..=21 {
        assert_eq!(super::who(&mut client, &format!("u{key}")).0, 500);
        let end = eventually("the failure is counted", || {
            let now = super::standing(&proxy);
            (now["failures"]["candidate"] == failed).then_some(now)
        });
        if end["phase"] == "rolledBack" {
            let reason = end["last"]["reason"].as_str().unwrap();
            assert!(reason.contains("budget of failed requests"), "{reason}");
            assert!(failed >= 20, "{failed}: {end}");
            break;
        }
    }
    assert_eq!(super::who(&mut client, &format!("u{key}")).0, 200);
    proxy.stop();
}

/// A share never falls onto the candidate, whatever the rule says about unavailable backends.
#[test]
fn stable_without_an_endpoint_does_not_move_to_the_candidate() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let rule = "split: { key: { header: x-user }, onUnavailable: shift }";
    let text = with_key(rule, &v1, &v2, HALF);
    let gone = format!("endpoints: [{{ address: \"{}\" }}]", v1.backend.address);
    let proxy = Proxy::start(&text.replace(&gone, "endpoints: []"));
    weighs(&proxy, 50.0);
    let all = owners(proxy.addr("web"), 100);
    let unavailable = all.values().filter(|name| *name == "503").count();
    assert!((25..75).contains(&unavailable), "{unavailable}");
    proxy.stop();
    let gone = format!("endpoints: [{{ address: \"{}\" }}]", v2.backend.address);
    let proxy = Proxy::start(&text.replace(&gone, "endpoints: []"));
    let stays = eventually("it stays cold", || {
        let now = super::standing(&proxy);
        (now["phase"] == "warming").then_some(now)
    });
    assert_eq!(stays["weight"], 0.0);
    assert!(
        owners(proxy.addr("web"), 100)
            .values()
            .all(|name| name == "v1")
    );
    proxy.stop();
}
