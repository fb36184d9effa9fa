//! Several proxies judge as one: what each has counted adds up.

use std::time::Duration;

use weir::rollout::Moment;
use weir::rollout::evidence::{Conditions, Evidence, Parameters, Totals, Verdict};

use super::{Version, config, owners, standing, weighs};
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::proxy::Proxy;

/// Asks with keys of the candidate, each once; every answer is a failure.
fn fail(proxy: &Proxy, candidate: &Version, prefix: &str, failures: usize) {
    let mut client = Client::connect(proxy.addr("web"));
    candidate.fail(100);
    let mut seen = 0;
    for number in 0.. {
        if super::who(&mut client, &format!("{prefix}{number}")).0 == 500 {
            seen += 1;
        }
        if seen == failures {
            break;
        }
    }
    candidate.fail(0);
    eventually("the evidence", || {
        let now = standing(proxy);
        (now["evidence"][0]["events"]["candidate"] == failures).then_some(())
    });
}

fn totals(proxy: &Proxy) -> Totals {
    let page = proxy.json("/api/v1/rollouts/pay/evidence");
    assert_eq!((&page["rollout"], &page["run"]), (&"pay".into(), &1.into()));
    serde_json::from_value(page["totals"].clone()).unwrap()
}

#[test]
fn two_proxies_know_together_what_neither_knows_alone() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let text = config(&v1, &v2, "steps: [{ weight: 5 }, { weight: 100 }]");
    let proxies = [Proxy::start(&text), Proxy::start(&text)];
    for (proxy, prefix) in proxies.iter().zip(["a", "b"]) {
        weighs(proxy, 5.0);
        assert!(
            owners(proxy.addr("web"), 20)
                .values()
                .any(|name| name == "v1")
        );
        fail(proxy, &v2, prefix, 2);
        assert_eq!(standing(proxy)["verdict"], "undecided");
    }
    let judge = |of: &[Totals]| {
        let now = Moment::from_millis(1_750_000_000_000);
        let mut evidence = Evidence::new(Parameters::default(), now);
        of.iter().for_each(|totals| evidence.merge(totals));
        let later = now.after(Duration::from_secs(60));
        evidence.judge(later, &Conditions::default()).verdict
    };
    let [one, two] = [totals(&proxies[0]), totals(&proxies[1])];
    assert_eq!(judge(std::slice::from_ref(&one)), Verdict::Undecided);
    assert_eq!(judge(std::slice::from_ref(&two)), Verdict::Undecided);
    assert_eq!(judge(&[one, two]), Verdict::Fail);
    for proxy in proxies {
        proxy.stop();
    }
}

#[test]
fn flagger_is_told_to_go_back_or_on() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let proxy = Proxy::start(&config(&v1, &v2, "steps: [{ weight: 5 }, { weight: 100 }]"));
    weighs(&proxy, 5.0);
    let ask = |hook: &str, body: &str| {
        let mut client = Client::connect(proxy.admin());
        let length = body.len();
        client
            .ask(&format!(
                "POST /api/v1/flagger/{hook} HTTP/1.1\r\nHost: localhost\r\ncontent-length: {length}\r\n\r\n{body}"
            ))
            .status
    };
    let canary = r#"{"name": "pay", "namespace": "shop", "phase": "Progressing"}"#;
    let other = r#"{"name": "podinfo", "namespace": "shop", "metadata": {"rollout": "pay"}}"#;
    assert_eq!(ask("rollback", canary), 412);
    assert_eq!(ask("confirm-promotion", other), 412);
    assert_eq!(ask("rollback", r#"{"name": "nope"}"#), 404);
    assert_eq!(ask("rollback", "{}"), 400);
    v2.fail(100);
    owners(proxy.addr("web"), 300);
    eventually("the rollback", || {
        (ask("rollback", other) == 200).then_some(())
    });
    assert_eq!(ask("confirm-promotion", canary), 412);
    proxy.stop();
}
