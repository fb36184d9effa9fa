//! What outlives the process, and a reload.

use std::path::Path;

use super::{Traffic, Version, config, decisions, owners, phase, reach, standing, weighs, who};
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::proxy::Proxy;

fn kept(v1: &Version, v2: &Version, rollout: &str, folder: &Path) -> String {
    let text = config(v1, v2, rollout);
    format!("{text}state: {{ folder: {} }}\n", folder.display())
}

const THIRD: &str = "steps: [{ weight: 30 }, { weight: 100 }]";

#[test]
fn a_killed_proxy_goes_on_where_it_was() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    let state = folder.path().join("state");
    std::fs::write(&file, kept(&v1, &v2, THIRD, &state)).unwrap();
    let proxy = Proxy::start_path(&file, &["--workers", "2"]);
    weighs(&proxy, 30.0);
    let before = owners(proxy.addr("web"), 300);
    let ours = before.values().filter(|name| *name == "v2").count();
    assert!((60..120).contains(&ours), "{ours}");
    let said = standing(&proxy);
    let disk = || std::fs::read_to_string(state.join("rollouts.state")).ok();
    eventually("the state on disk", || {
        disk().filter(|it| it.contains("\"step\""))
    });
    proxy.signal("KILL");
    drop(proxy);

    let proxy = Proxy::start_path(&file, &["--workers", "1"]);
    let now = standing(&proxy);
    for same in ["phase", "run", "revision", "weight", "setBy", "steps"] {
        assert_eq!(now[same], said[same], "{same}");
    }
    assert_eq!(owners(proxy.addr("web"), 300), before, "the same keys");
    assert_eq!(decisions(&proxy), ["started", "stepped"]);
    // The judgement goes on, too.
    let traffic = Traffic::start(proxy.addr("web"));
    traffic.more(20);
    v2.fail(100);
    reach(&proxy, "rolledBack");
    drop(traffic);
    eventually("the state on disk", || {
        disk().filter(|it| it.contains("rolledBack"))
    });
    proxy.signal("KILL");
    drop(proxy);

    // What was written last is torn: the one before serves, and the rollout is not begun anew.
    let torn = disk().unwrap();
    std::fs::write(state.join("rollouts.state"), &torn[..torn.len() / 2]).unwrap();
    let proxy = Proxy::start_path(&file, &["--workers", "1"]);
    let log = proxy.program_log();
    assert!(log.contains("state is torn"), "{log}");
    assert_eq!(standing(&proxy)["run"], 1);
    assert!(state.join("rollouts.torn").exists());
    proxy.stop();

    // Stopped in order, and it stays rolled back.
    let proxy = Proxy::start_path(&file, &["--workers", "1"]);
    let before = phase(&proxy);
    proxy.stop();
    let proxy = Proxy::start_path(&file, &["--workers", "1"]);
    assert_eq!(phase(&proxy), before);
    proxy.stop();
}

#[test]
fn a_reload_keeps_a_running_rollout_and_another_version_is_another_one() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let text = config(&v1, &v2, THIRD);
    let proxy = Proxy::start(&text);
    weighs(&proxy, 30.0);
    let before = owners(proxy.addr("web"), 200);
    proxy.write_config(&text.replace(
        "weight: 100 }, { name: v2, weight: 0",
        "weight: 1 }, { name: v2, weight: 1",
    ));
    proxy.wait_generation(2);
    assert_eq!(
        owners(proxy.addr("web"), 200),
        before,
        "the file's weights decide nothing"
    );
    let now = standing(&proxy);
    assert_eq!((&now["run"], &now["phase"]), (&1.into(), &"step".into()));
    assert_eq!(now["weights"]["file"], 50.0);

    proxy.write_config(&text.replace("steps:", "revision: \"2.1\", steps:"));
    proxy.wait_generation(3);
    eventually("the second run", || {
        (standing(&proxy)["run"] == 2).then_some(())
    });
    weighs(&proxy, 30.0);
    let other = owners(proxy.addr("web"), 200);
    let moved = other
        .iter()
        .filter(|(key, name)| before.get(key) != Some(name))
        .count();
    assert!(moved > 40, "other clients come first: {moved}");
    assert_eq!(
        decisions(&proxy),
        ["started", "stepped", "aborted", "started", "stepped"]
    );

    // Without the rollout the file's weights hold again.
    let without = text.split("rollouts:").next().unwrap();
    proxy.write_config(without);
    proxy.wait_generation(4);
    assert!(
        owners(proxy.addr("web"), 50)
            .values()
            .all(|name| name == "v1")
    );
    assert_eq!(proxy.json("/api/v1/rollouts"), serde_json::json!([]));
    // Back again: where it was.
    proxy.write_config(&text.replace("steps:", "revision: \"2.1\", steps:"));
    proxy.wait_generation(5);
    assert_eq!(owners(proxy.addr("web"), 200), other);
    proxy.stop();
}

/// What a request would get is explained by what the running proxy has written last.
#[test]
fn explain_knows_how_it_stands() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(&kept(&v1, &v2, THIRD, folder.path()));
    let explain = |user: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_weir"))
            .args([
                "explain",
                "GET",
                "http://a/",
                "-H",
                &format!("x-user: {user}"),
                "--config",
            ])
            .arg(proxy.file())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    weighs(&proxy, 30.0);
    eventually("the state on disk", || {
        explain("u0")
            .contains("pay, run 1, step: v2 has 30 %, set by plan")
            .then_some(())
    });
    for (key, name) in owners(proxy.addr("web"), 20) {
        let said = explain(&format!("u{key}"));
        let chosen = said
            .lines()
            .find(|line| line.contains("chosen by key"))
            .unwrap();
        assert!(chosen.contains(&name), "{key} is {name}'s: {said}");
    }
    proxy.stop();
}

/// Whose events were counted is known after a crash, so that one broken client stays one.
#[test]
fn a_killed_proxy_knows_whose_events_it_has_counted() {
    let (v1, v2) = (Version::new("v1"), Version::new("v2"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    let state = folder.path().join("state");
    std::fs::write(&file, kept(&v1, &v2, THIRD, &state)).unwrap();
    let proxy = Proxy::start_path(&file, &[]);
    weighs(&proxy, 30.0);
    let owners = owners(proxy.addr("web"), 50);
    let (key, _) = owners.iter().find(|(_, name)| *name == "v2").unwrap();
    v2.fail(100);
    let fail = |proxy: &Proxy, until: u64| {
        let mut client = Client::connect(proxy.addr("web"));
        for _ in 0..20 {
            assert_eq!(who(&mut client, &format!("u{key}")).0, 500);
        }
        let now = eventually("the failures", || {
            let now = standing(proxy);
            (now["failures"]["candidate"].as_u64()? >= until).then_some(now)
        });
        assert_eq!(now["evidence"][0]["events"]["candidate"], 1, "{now}");
    };
    fail(&proxy, 20);
    let counted = std::time::SystemTime::now();
    eventually("the state on disk", || {
        let file = std::fs::metadata(state.join("rollouts.state")).ok()?;
        (file.modified().ok()? > counted).then_some(())
    });
    proxy.signal("KILL");
    drop(proxy);
    let proxy = Proxy::start_path(&file, &[]);
    fail(&proxy, 40);

    // Another process with the same folder leaves it alone, says so, and serves.
    let second = Proxy::start_path(&file, &[]);
    let log = second.program_log();
    let said = format!("process {} keeps its state there", proxy.pid());
    assert!(log.contains(&said), "{log}");
    let trouble = &second.json("/api/v1/status")["state"]["trouble"];
    assert!(trouble.as_str().unwrap().contains(&said), "{trouble}");
    second.stop();
    proxy.stop();
}
