//! Every example under `config/` is right: by `weir check`, by the JSON Schema, and the schema itself
//! is the one that the binary prints.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail anywhere"
)]

use std::fs;
use std::process::Command;

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

fn schema() -> serde_json::Value {
    let output = Command::new(WEIR).arg("schema").output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_schema_file_is_what_the_binary_prints() {
    let file: serde_json::Value =
        serde_json::from_str(&fs::read_to_string("config/weir.schema.json").unwrap()).unwrap();
    assert!(
        file == schema(),
        "run: weir schema > config/weir.schema.json"
    );
}

#[test]
fn examples_pass_the_check_without_a_word() {
    let mut seen = 0;
    for entry in fs::read_dir("config").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        seen += 1;
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("# yaml-language-server: $schema=./weir.schema.json"),
            "{}",
            path.display()
        );
        let output = Command::new(WEIR).arg("check").arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.is_empty(),
            "{}: {said}",
            path.display()
        );
    }
    assert!(seen >= 5, "{seen} examples");
}

#[test]
fn the_schema_accepts_what_is_right_and_refuses_what_is_not() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let right = serde_json::json!({ "version": 1, "listeners": [{ "name": "web", "address": "127.0.0.1:1" }] });
    assert!(validator.is_valid(&right));
    for wrong in [
        serde_json::json!({ "version": 1, "listeners": [{ "name": "web", "adress": "127.0.0.1:1" }] }),
        serde_json::json!({ "version": 1, "routes": [{ "name": "r", "rules": [{ "backendRefs": [{ "name": "b", "weight": 1_000_001 }] }] }] }),
        serde_json::json!({ "version": 2 }),
    ] {
        assert!(!validator.is_valid(&wrong), "{wrong}");
    }
}

/// Every `console` line of the README runs in a folder that holds its `yaml` block as `weir.yaml`.
/// The test command itself is the one exception: this test is a part of it.
#[test]
fn the_readme_does_what_it_says() {
    let readme = fs::read_to_string("README.md").unwrap();
    let blocks = |language: &str| -> Vec<&str> {
        let fence = format!("```{language}\n");
        let opened = readme.split(fence.as_str()).skip(1);
        opened
            .map(|rest| rest.split("```").next().unwrap())
            .collect()
    };
    let folder = tempfile::tempdir().unwrap();
    let [yaml] = blocks("yaml")[..] else {
        panic!("one yaml block is expected")
    };
    fs::write(folder.path().join("weir.yaml"), yaml).unwrap();
    let mut ran = 0;
    for command in blocks("console").iter().flat_map(|block| block.lines()) {
        let command = command.strip_prefix("$ ").unwrap();
        if command == "./.ci/test" {
            continue;
        }
        let arguments = command
            .strip_prefix("cargo run --release -- ")
            .or_else(|| command.strip_prefix("weir "));
        let shell = format!("exec {WEIR} {}", arguments.expect("a command of ours"));
        let output = Command::new("sh")
            .args(["-c", &shell])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{command}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        ran += 1;
    }
    let check = Command::new(WEIR)
        .arg("check")
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(
        check.status.success() && check.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&check.stderr)
    );
    assert_eq!(ran, 2, "the demo and explain");
}
