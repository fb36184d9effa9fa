//! Every example under `config/` is right: by `weir check`, by the JSON Schema, and the schema itself
//! is the one that the binary prints.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail anywhere"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
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

/// A backend that answers everything with `hello`. Its thread ends with the test's process.
fn hello() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            // One request a connection; its head comes in one piece. A load generator that has done
            // its work leaves in the middle.
            if stream.read(&mut head).is_ok_and(|count| count > 0) {
                let answer =
                    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
                drop(stream.write_all(answer.as_bytes()));
            }
        }
    });
    port
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Every `console` block of the README runs as a script in a folder that holds its `yaml` block as
/// `weir.yaml`, on free ports. Exceptions: the test command, which this is a part of; the origins of the
/// load program, as the test has its own; oha, which only `.ci/install bench` installs.
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
    let (web, tls, backend, admin) = (free_port(), free_port(), hello(), free_port());
    let beside = Path::new(WEIR).parent().unwrap().display();
    let path = format!("{beside}:{}", std::env::var("PATH").unwrap());
    let mut said = Vec::new();
    for block in blocks("console") {
        let commands = block.lines().map(|line| line.strip_prefix("$ ").unwrap());
        let script: String = commands
            .filter(|command| {
                let elsewhere = ["./.ci/test", "cargo run --release --example", "oha "];
                !elsewhere.iter().any(|it| command.starts_with(it))
            })
            .map(|command| {
                let command = command
                    .replace("cargo run --release -- ", "weir ")
                    .replace(":8443", &format!(":{tls}"))
                    .replace(":8080", &format!(":{web}"))
                    .replace(":9001", &format!(":{backend}"))
                    .replace(":9002", &format!(":{backend}"))
                    .replace("-d10s", "-d1s");
                // The proxy of the line before is starting.
                if command == "weir healthcheck --ready" {
                    return "until weir healthcheck --ready; do sleep 0.1; done\n".to_owned();
                }
                command + "\n"
            })
            .collect();
        let bounded = format!(
            "trap 'kill -9 $(jobs -p) 2>/dev/null || true' EXIT\nset -e\n{}",
            script
        );
        let output = Command::new("timeout")
            .args(["60", "bash", "-c", &bounded])
            .env("PATH", &path)
            .env("WEIR_ADMIN", format!("127.0.0.1:{admin}"))
            .current_dir(folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{block}: {text}{error}");
        said.push(text);
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
    let all = said.concat();
    for promised in [
        "2000 requests, 0 failed",
        "a broken candidate loses its traffic: kept",
        "agrees",
        "checkout-v",
        "hello",
        "refused: no certificate",
        "Requests/sec:",
    ] {
        assert!(all.contains(promised), "{promised}: {all}");
    }
    // wrk says so when anything but 2xx and 3xx came, or a connection was lost.
    for fault in ["Non-2xx", "Socket errors"] {
        assert!(!all.contains(fault), "{fault}: {all}");
    }
}

/// A program that is not optimized for what it does would look like any other.
#[test]
fn the_build_without_its_profile_says_what_makes_one() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("deploy/build");
    fs::create_dir(folder.path().join("deploy")).unwrap();
    fs::copy("deploy/build", &script).unwrap();
    let output = Command::new(&script).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("benches/pgo"), "{said}");
}
