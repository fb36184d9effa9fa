//! `weir simulate`: the documented answer, and what is refused.

use std::process::{Command, Output};

fn simulate(arguments: &[&str]) -> Output {
    let weir = env!("CARGO_BIN_EXE_weir");
    Command::new(weir)
        .arg("simulate")
        .args(arguments)
        .output()
        .unwrap()
}

fn json(arguments: &[&str]) -> serde_json::Value {
    let output = simulate(&[arguments, &["-o", "json"]].concat());
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_total_failure_at_given_traffic() {
    let arguments = [
        "--rps",
        "400",
        "--weight",
        "5",
        "--stable-errors",
        "0.1%",
        "--candidate-errors",
        "100%",
    ];
    let few = [
        "--runs",
        "20",
        "--horizon",
        "20s",
        "--candidate-errors",
        "50%",
    ];
    let answer = json(&[&arguments[..], &few].concat());
    assert_eq!(answer["requestsPerSecond"], 400.0);
    assert_eq!(answer["weightPercent"], 5.0);
    let [total, half, good] = answer["candidates"].as_array().unwrap().as_slice() else {
        panic!("{answer}");
    };
    assert_eq!(total["what"], "fails 100 %");
    assert_eq!((&total["seen"], &half["seen"]), (&20.into(), &20.into()));
    let mean = |candidate: &serde_json::Value, key: &str| candidate[key]["mean"].as_f64().unwrap();
    assert!((0.1..1.0).contains(&mean(total, "seconds")), "{total}");
    assert!(mean(half, "seconds") > mean(total, "seconds"));
    assert!(mean(total, "failedRequestsShielded") < mean(total, "failedRequests"));
    assert_eq!(
        (good["isGood"].as_bool(), good["seen"].as_u64()),
        (Some(true), Some(0))
    );
    assert_eq!(good["seconds"], serde_json::Value::Null);
}

#[test]
fn the_same_seed_gives_the_same_answer() {
    let with = |seed| {
        json(&[
            "--runs",
            "3",
            "--horizon",
            "5s",
            "--candidate-slower",
            "2",
            "--seed",
            seed,
        ])
    };
    assert_eq!(with("7"), with("7"));
    assert_ne!(with("7"), with("8"));
}

#[test]
fn a_table_for_people() {
    let output = simulate(&[
        "--runs",
        "2",
        "--horizon",
        "2s",
        "--candidate-errors",
        "100%",
    ]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("fails 100 %") && text.contains("good candidates were rolled back"),
        "{text}"
    );
}

#[test]
fn nonsense_is_refused() {
    for arguments in [
        &["--weight", "100"][..],
        &["--weight", "0"],
        &["--weight", "101"],
        &["--rps", "nan"],
        &["--rps", "0"],
        &["--stable-errors", "-1%"],
        &["--false-alarm", "0"],
        &["--error-tolerance", "0.5"],
        &["--runs", "0"],
        &["--latency", "50"],
    ] {
        let output = simulate(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
    }
}
