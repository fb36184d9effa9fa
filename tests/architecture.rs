//! Keeps the order of the modules: walks the sources and fails with file and line.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::fs;
use std::path::{Path, PathBuf};

/// Modules from low to high. A module may use those of lower levels, and itself.
const LEVELS: &[&[&str]] = &[
    &["aside"],
    &["config", "telemetry", "drain", "proxy_protocol"],
    &["tls"],
    &["route", "split", "rollout", "http"],
    &["upstream"],
    &["snapshot"],
    &["proxy", "steering"],
    &["listener"],
    &["admin"],
    &["app"],
    &["cli"],
    &["fuzz", "measured"],
];

/// Lines that a file may have.
const LINES: usize = 800;

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 50, "the sources are elsewhere");
    found
}

fn module(path: &Path) -> String {
    let first = path.strip_prefix("src").unwrap().iter().next().unwrap();
    first.to_str().unwrap().trim_end_matches(".rs").to_owned()
}

fn level(module: &str) -> Option<usize> {
    LEVELS.iter().position(|names| names.contains(&module))
}

#[test]
fn modules_use_only_what_lies_below() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let own = module(&path);
        let Some(own_level) = level(&own) else {
            continue;
        };
        for (number, line) in text
            .lines()
            .enumerate()
            .filter(|(_, l)| !l.trim_start().starts_with("//"))
        {
            for used in line.split("crate::").skip(1) {
                let name: String = used
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let allowed = name == own || level(&name).is_none_or(|used| used < own_level);
                if !allowed {
                    faults.push(format!(
                        "{}:{}: {own} uses {name}",
                        path.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    assert!(
        faults.is_empty(),
        "against the order in src/lib.rs:\n{}",
        faults.join("\n")
    );
}

#[test]
fn files_say_what_they_own_and_stay_short() {
    for (path, text) in sources() {
        assert!(
            text.starts_with("//!"),
            "{}: begins without a module doc",
            path.display()
        );
        let lines = text.lines().count();
        assert!(
            lines <= LINES,
            "{}: {lines} lines; split it along its module doc",
            path.display()
        );
    }
}

#[test]
fn pure_modules_have_no_clock_and_no_chance_of_their_own() {
    for (path, text) in sources() {
        if !matches!(module(&path).as_str(), "route" | "split" | "rollout") {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap();
        for word in [
            "Instant::now",
            "SystemTime::now",
            "rand::rng()",
            "tokio::",
            "hyper::",
        ] {
            assert!(!code.contains(word), "{}: has {word}", path.display());
        }
    }
}

#[test]
fn metric_macros_are_used_nowhere() {
    for (path, text) in sources() {
        for word in ["counter!(", "gauge!(", "histogram!("] {
            assert!(!text.contains(word), "{}: has {word}", path.display());
        }
    }
}
