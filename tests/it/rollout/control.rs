//! What a person may ask, and who has the last word.

use std::process::{Command, Output};

use super::{Traffic, Version, config, decisions, owners, phase, reach, standing, weighs};
use crate::support::client::Client;
use crate::support::proxy::Proxy;

const WAITS: &str = "pace: clock, minimum: 50ms, steps: [{ weight: 20, pause: manual }, { weight: 60, pause: manual }, { weight: 100 }]";

fn weir(proxy: &Proxy, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .arg("rollout")
        .args(arguments)
        .env("WEIR_ADMIN", proxy.admin().to_string())
        .env("USER", "ann")
        .output()
        .unwrap()
}

#[track_caller]
fn does(proxy: &Proxy, arguments: &[&str]) -> String {
    let output = weir(proxy, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refuses(proxy: &Proxy, arguments: &[&str], why: &str) {
    let output = weir(proxy, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    assert!(error.contains(why), "{arguments:?}: {error}");
}

#[test]
fn the_whole_of_it_by_the_command_line() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let proxy = Proxy::start(&config(&v1, &v2, WAITS));
    weighs(&proxy, 20.0);
    let list = does(&proxy, &["list"]);
    assert!(
        list.contains("shop/pay") && list.contains("step 1 of 3"),
        "{list}"
    );
    does(&proxy, &["promote", "pay", "--reason", "looks fine"]);
    weighs(&proxy, 60.0);
    does(
        &proxy,
        &["set-weight", "--weight", "35%", "--reason", "less for now"],
    );
    let status = does(&proxy, &["status"]);
    for said in [
        "35 % by operator",
        "plan 60 %",
        "set by ann until somebody resumes: less for now",
    ] {
        assert!(status.contains(said), "{said}: {status}");
    }
    tells_who(&proxy);
    assert!((proxy.metric("weir_rollout_weight", &[]) - 0.35).abs() < 1e-6);
    assert!((proxy.metric("weir_rollout_weight_set_by", &["by=\"operator\""]) - 1.0).abs() < 0.1);
    let log = proxy.program_log();
    assert!(
        log.contains("\"weightSet\"") && log.contains("\"ann\""),
        "{log}"
    );
    does(&proxy, &["resume"]);
    weighs(&proxy, 60.0);
    // A weight that ends by itself.
    does(&proxy, &["set-weight", "-w", "1%", "--for", "200ms"]);
    weighs(&proxy, 1.0);
    weighs(&proxy, 60.0);
    does(&proxy, &["pause"]);
    assert_eq!(standing(&proxy)["paused"], true);
    does(&proxy, &["resume"]);
    refuses(&proxy, &["resume"], "not paused");
    refuses(&proxy, &["retry"], "neither rolled back nor aborted");
    refuses(&proxy, &["abort", "nope"], "no rollout `nope`");
    let keys = owners(proxy.addr("web"), 200);
    let said = does(&proxy, &["abort", "-r", "enough"]);
    assert!(said.contains("aborted, 0 % by operator ann"), "{said}");
    weighs(&proxy, 0.0);
    assert!(
        owners(proxy.addr("web"), 50)
            .values()
            .all(|name| name == "v1")
    );
    refuses(&proxy, &["promote"], "does not run");
    assert_eq!(
        weir(&proxy, &["status", "-w"]).status.code(),
        Some(1),
        "it did not make it"
    );
    does(&proxy, &["retry"]);
    weighs(&proxy, 20.0);
    // The same version again meets the same clients first.
    let again = owners(proxy.addr("web"), 200);
    assert!(
        again
            .iter()
            .all(|(key, name)| name == "v1" || keys[key] == "v2")
    );
    does(&proxy, &["promote", "--full", "-r", "now"]);
    reach(&proxy, "promoted");
    let watched = does(&proxy, &["status", "-w"]);
    assert!(watched.contains("promoted"), "{watched}");
    let history = does(&proxy, &["history"]);
    for said in ["looks fine", "weightSet", "weightEnded", "enough", "ann"] {
        assert!(history.contains(said), "{said}: {history}");
    }
    let explained = does(&proxy, &["list", "-o", "yaml"]);
    assert!(explained.contains("setBy: \"plan\""), "{explained}");
    proxy.stop();
}

/// Who has set a weight is in every list.
fn tells_who(proxy: &Proxy) {
    let list = does(proxy, &["list"]);
    assert!(list.contains("operator ann"), "{list}");
    let status = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["status", "--admin", &proxy.admin().to_string()])
        .output()
        .unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    let line = "step 2 of 3, 35 % by operator ann";
    assert!(
        status.contains("rollout pay") && status.contains(line),
        "{status}"
    );
}

/// What was decided can be judged again, by a program that has nothing but the record.
#[test]
fn records_are_judged_again_to_the_same_end() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let proxy = Proxy::start(&config(
        &v1,
        &v2,
        "steps: [{ weight: 50 }, { weight: 100 }]",
    ));
    weighs(&proxy, 50.0);
    let traffic = Traffic::start(proxy.addr("web"));
    traffic.more(100);
    v2.fail(100);
    reach(&proxy, "rolledBack");
    drop(traffic);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.json");
    let records = does(&proxy, &["history", "-o", "json"]);
    std::fs::write(&file, &records).unwrap();
    let file = file.to_str().unwrap();
    let said = does(&proxy, &["replay", file]);
    assert!(said.contains("agrees") && said.contains("fail"), "{said}");
    // A record that says something else than its evidence is found out.
    std::fs::write(
        file,
        records.replace("\"verdict\": \"fail\"", "\"verdict\": \"pass\""),
    )
    .unwrap();
    let output = weir(&proxy, &["replay", file]);
    assert_eq!(output.status.code(), Some(1));
    std::fs::write(file, "{}").unwrap();
    refuses(&proxy, &["replay", file], "not a record");
    proxy.stop();
}

/// The guard is stronger than a person, who is stronger than the plan, which is stronger than the file.
#[test]
fn the_guard_has_the_last_word() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let proxy = Proxy::start(&config(&v1, &v2, WAITS));
    weighs(&proxy, 20.0);
    does(&proxy, &["set-weight", "-w", "80%", "-r", "in a hurry"]);
    let set = weighs(&proxy, 80.0);
    assert_eq!(
        (
            set["weights"]["file"].as_f64(),
            set["weights"]["plan"].as_f64()
        ),
        (Some(0.0), Some(20.0))
    );
    v2.fail(100);
    let traffic = Traffic::start(proxy.addr("web"));
    let end = reach(&proxy, "rolledBack");
    assert_eq!(
        (end["weight"].as_f64(), &end["setBy"]),
        (Some(0.0), &"guard".into())
    );
    refuses(&proxy, &["set-weight", "-w", "5%"], "does not run");
    v2.fail(0);
    does(&proxy, &["retry"]);
    weighs(&proxy, 20.0);
    drop(traffic);
    proxy.stop();
}

pub(super) fn post(proxy: &Proxy, path: &str, body: &str) -> (u16, String) {
    let mut client = Client::connect(proxy.admin());
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let response = client.ask(&request);
    (response.status, response.body)
}

#[test]
fn the_api_says_what_is_wrong() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let proxy = Proxy::start(&config(&v1, &v2, WAITS));
    weighs(&proxy, 20.0);
    let root = "/api/v1/rollouts";
    for (path, body, status) in [
        ("/pay/weight", "", 400),
        ("/pay/weight", r#"{"weight": 101}"#, 400),
        (
            "/pay/weight",
            r#"{"weight": 5, "until": "2001-01-01T00:00:00Z"}"#,
            409,
        ),
        (
            "/pay/weight",
            r#"{"weight": 5, "until": "2040-01-01T00:00:00Z", "for": "1s"}"#,
            400,
        ),
        ("/pay/pause", "{", 400),
        ("/pay/pause", r#"{"resaon": "x"}"#, 400),
        ("/none/pause", "", 404),
        ("/pay/explode", "", 404),
        ("/pay", "", 405),
        ("/pay/history", "", 405),
        (
            "/pay/weight",
            r#"{"weight": 5, "owner": "bot", "reason": "night", "until": "2040-01-01T00:00:00Z"}"#,
            200,
        ),
        ("/pay/abort", "", 200),
        ("/pay/abort", "", 409),
    ] {
        let (found, said) = post(&proxy, &format!("{root}{path}"), body);
        assert_eq!(found, status, "{path} {body}: {said}");
    }
    for (path, status) in [
        ("", 200),
        ("/pay", 200),
        ("/pay/verdict", 200),
        ("/none", 404),
        ("/pay/x", 404),
        ("/pay/history/x", 404),
    ] {
        assert_eq!(proxy.ask(&format!("{root}{path}")).status, status, "{path}");
    }
    let verdict = proxy.json(&format!("{root}/pay/verdict"));
    assert_eq!(
        (&verdict["verdict"], &verdict["value"]),
        (&"fail".into(), &(-1).into())
    );
    assert_eq!(phase(&proxy), "aborted");
    assert!(decisions(&proxy).contains(&"weightSet".to_owned()));
    crate::support::promtool(&proxy.ask("/metrics").body);
    proxy.stop();
}
