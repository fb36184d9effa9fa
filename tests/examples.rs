//! Every example under `config/` is right: by `weir check`, by the JSON Schema, and the schema itself
//! is the one that the binary prints.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

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
