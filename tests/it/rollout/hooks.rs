//! Programs that are told of decisions, and asked before a step.

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::{Traffic, Version, config, phase, reach, standing, weighs};
use crate::support::backend::{Backend, scripted};
use crate::support::eventually;
use crate::support::proxy::Proxy;

/// Heads and bodies of what it was told.
type Told = Arc<Mutex<Vec<(String, serde_json::Value)>>>;

/// A program that answers with these statuses, the last one for ever.
fn hook(statuses: &'static [u16]) -> (Backend, Told) {
    let told = Told::default();
    let (heard, count) = (Arc::clone(&told), AtomicU32::new(0));
    let backend = scripted(move |seen, stream| {
        let body = serde_json::from_slice(&seen.body).unwrap();
        heard.lock().unwrap().push((seen.head.clone(), body));
        let at = usize::try_from(count.fetch_add(1, Ordering::SeqCst)).unwrap();
        let status = statuses[at.min(statuses.len() - 1)];
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).is_ok()
    });
    (backend, told)
}

fn decisions(told: &Told) -> Vec<String> {
    let told = told.lock().unwrap();
    told.iter()
        .map(|(_, body)| body["decision"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn decisions_are_told_signed_and_again_when_they_did_not_arrive() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let (all, heard) = hook(&[503, 200]);
    let (some, only) = hook(&[200]);
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "Jefe\n").unwrap();
    // The third one hangs up on everybody, and nothing waits for it.
    let nobody = crate::support::backend::raw(|_, _| {});
    let rollout = format!(
        "steps: [{{ weight: 50 }}, {{ weight: 100 }}], hooks: [{{ url: \"http://{}/all\", secretFile: {} }}, \
         {{ url: \"http://{}/some\", events: [rollback] }}, {{ url: \"http://{}/\" }}]",
        all.address,
        secret.display(),
        some.address,
        nobody.address
    );
    let proxy = Proxy::start(&config(&v1, &v2, &rollout));
    weighs(&proxy, 50.0);
    v2.fail(100);
    let traffic = Traffic::start(proxy.addr("web"));
    reach(&proxy, "rolledBack");
    drop(traffic);
    eventually("all of it", || {
        let heard = decisions(&heard);
        let all = ["started", "stepped", "rolledBack"].iter();
        // The first one was refused, and came again.
        (heard.iter().filter(|it| *it == "started").count() == 2
            && all.clone().all(|it| heard.iter().any(|one| one == it)))
        .then_some(())
    });
    assert_eq!(decisions(&only), ["rolledBack"]);
    let heard = heard.lock().unwrap();
    let (head, body) = heard
        .iter()
        .find(|(_, body)| body["decision"] == "rolledBack")
        .unwrap();
    assert!(head.starts_with("POST /all HTTP/1.1"), "{head}");
    let signed = head
        .lines()
        .find(|line| line.starts_with("x-weir-signature: sha256="));
    assert_eq!(
        signed.unwrap().len(),
        "x-weir-signature: sha256=".len() + 64
    );
    assert_eq!(
        (&body["by"], &body["judgement"]["verdict"]),
        (&"guard".into(), &"fail".into())
    );
    assert!(!body["samples"].as_array().unwrap().is_empty());
    let (head, _) = &only.lock().unwrap()[0];
    assert!(!head.contains("x-weir-signature"), "{head}");
    eventually("the count", || {
        (proxy.metric("weir_rollout_hooks_total", &["result=\"delivered\""]) > 3.5).then_some(())
    });
    proxy.stop();
}

#[test]
fn a_step_waits_until_it_is_confirmed() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let (gate, asked) = hook(&[409, 200]);
    let rollout = format!(
        "pace: clock, minimum: 100ms, steps: [{{ weight: 40 }}, {{ weight: 100 }}], \
         hooks: [{{ url: \"http://{}/may-it\", confirm: true }}]",
        gate.address
    );
    let proxy = Proxy::start(&config(&v1, &v2, &rollout));
    let traffic = Traffic::start(proxy.addr("web"));
    eventually("the question", || {
        (!asked.lock().unwrap().is_empty()).then_some(())
    });
    assert_eq!(phase(&proxy), "step");
    let stays = standing(&proxy)["stays"].as_str().unwrap().to_owned();
    assert!(stays.contains("waits for a hook"), "{stays}");
    // Asked again after a while, it agrees.
    reach(&proxy, "promoted");
    let asked = asked.lock().unwrap();
    assert_eq!((asked.len(), &asked[0].1["weight"]), (2, &40.0.into()));
    drop(traffic);
    proxy.stop();
}
