//! Malformed configurations and what is said about each, and the examples, which load cleanly.

use std::path::{Path, PathBuf};

use super::file::parse_with;
use super::problem::{Problem, render, to_json};
use super::{Severity, load, schema};

/// What a person sees; every file of `malformed` has a snapshot with its name.
#[test]
fn malformed_files_are_explained() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/malformed");
    let files = super::file::list(&folder).unwrap();
    assert!(files.len() >= 22);
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let problems = parse_with(name, &text, &|_| None).expect_err(name);
        insta::assert_snapshot!(name.trim_end_matches(".yaml"), render(&problems, false));
    }
}

fn problems(text: &str) -> Vec<Problem> {
    match parse_with("weir.yaml", text, &|_| None) {
        Ok(loaded) => loaded.warnings,
        Err(problems) => problems,
    }
}

#[test]
fn json_has_everything_a_machine_needs() {
    let text =
        "version: 1\nlisteners:\n  - { name: web, address: \":8080\", hostnam: a.example }\n";
    let found = to_json(&problems(text));
    let first = found.get(0).unwrap();
    assert_eq!(
        *first,
        serde_json::json!({
            "code": "W0101", "severity": "error", "message": "unknown key `hostnam`", "file": "weir.yaml",
            "line": 3, "column": 36, "path": "listeners[0].hostnam", "help": "did you mean `hostname`?",
        })
    );
}

#[test]
fn colour_is_drawn_only_when_asked_for() {
    let found = problems("version: 3\n");
    assert!(!render(&found, false).contains('\u{1b}'));
    assert!(render(&found, true).contains('\u{1b}'));
}

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    super::file::list(&folder).unwrap()
}

#[test]
fn every_example_loads_without_a_problem() {
    assert!(examples().len() >= 5);
    for path in examples() {
        match load(&path) {
            Ok(loaded) => assert!(
                loaded.warnings.is_empty(),
                "{}",
                render(&loaded.warnings, false)
            ),
            Err(problems) => panic!("{}", render(&problems, false)),
        }
    }
}

/// A key that is added to the document has to be added to the reference.
#[test]
fn the_full_reference_has_every_key_of_the_schema() {
    fn walk(value: &serde_json::Value, visit: &mut impl FnMut(&str)) {
        if let Some(properties) = value.get("properties").and_then(|it| it.as_object()) {
            properties.keys().for_each(|key| visit(key));
        }
        if let Some(object) = value.as_object() {
            object.values().for_each(|child| walk(child, visit));
        }
        if let Some(list) = value.as_array() {
            list.iter().for_each(|child| walk(child, visit));
        }
    }
    let path = examples()
        .into_iter()
        .find(|path| path.ends_with("full-reference.yaml"))
        .unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    walk(&schema(), &mut |key| {
        assert!(text.contains(&format!("{key}:")), "{key} is missing")
    });
}

/// A rule as the Gateway API's documentation has it, with every field of an `HTTPRoute` that we know.
#[test]
fn a_rule_out_of_an_http_route_is_taken_unchanged() {
    let text = r#"
version: 1
listeners: [{ name: web, address: ":8080" }]
routes:
  - name: route
    hostnames: ["shop.example.com"]
    rules:
    - matches:
      - path:
          type: PathPrefix
          value: /login
        method: GET
        headers:
        - type: Exact
          name: env
          value: canary
        queryParams:
        - name: animal
          value: whale
      filters:
      - type: RequestHeaderModifier
        requestHeaderModifier:
          add:
          - name: my-header
            value: foo
          remove: ["x-old"]
      backendRefs:
      - group: ""
        kind: Service
        name: foo-svc
        port: 8080
        weight: 90
      - name: bar-svc
        port: 8080
        weight: 10
      timeouts: { request: 10s, backendRequest: 2s }
backends:
  - { name: foo-svc, endpoints: [{ address: 10.0.0.1:80 }] }
  - { name: bar-svc, endpoints: [{ address: 10.0.0.2:80 }] }
"#;
    assert_eq!(problems(text), []);
}

#[test]
fn hostile_input_is_refused_and_soon() {
    let laughs: String = std::iter::once("a0: &a0 [x]\n".to_owned())
        .chain((1..40).map(|i| format!("a{i}: &a{i} [*a{0}, *a{0}, *a{0}]\n", i - 1)))
        .collect();
    let chain: String = std::iter::once("- &a0 [x]\n".to_owned())
        .chain((1..5000).map(|i| format!("- &a{i} [*a{}]\n", i - 1)))
        .collect();
    let long = format!("a: &a {}\nb: [{}]", "x".repeat(1 << 20), "*a, ".repeat(100));
    let keys = format!("{{{}}}", "k: v, ".repeat(50_000));
    let elements = format!("version: 1\nbackends: [{}]", "{ nam: x }, ".repeat(50_000));
    let nested = format!("a: {}", "[".repeat(100_000));
    for (what, text) in [
        ("laughs", laughs),
        ("chain", chain),
        ("long", long),
        ("keys", keys),
        ("elements", elements),
        ("nested", nested),
        (
            "one line",
            format!("{{\"version\": 1, \"x\": \"{}\"}}", "y".repeat(1 << 20)),
        ),
    ] {
        let found = problems(&text);
        assert!(
            found
                .iter()
                .any(|problem| problem.severity() == Severity::Error),
            "{what}"
        );
        assert!(render(&found, false).len() < 100_000_000, "{what}");
    }
}

#[test]
fn a_large_file_that_is_right_is_read_in_one_pass() {
    let routes: String = (0..2000)
        .map(|i| {
            format!("  - name: r{i}\n    hostnames: [h{i}.example.com]\n    rules: [{{ backendRefs: [{{ name: b{i}, weight: {i} }}, {{ name: b0 }}] }}]\n")
        })
        .collect();
    let backends: String = (0..2000)
        .map(|i| format!("  - {{ name: b{i}, endpoints: [{{ address: 10.0.0.1:80 }}] }}\n"))
        .collect();
    let text = format!(
        "version: 1\nlisteners: [{{ name: web, address: \":80\" }}]\nroutes:\n{routes}backends:\n{backends}"
    );
    assert_eq!(problems(&text), []);
}

proptest::proptest! {
    /// Whatever the bytes are: no panic, and everything said can be drawn.
    #[test]
    fn any_text_is_read_without_a_panic(text in "[ -~\n\t]{0,80}", prefix in 0..3usize) {
        let prefix = ["", "version: 1\nlisteners:\n", "routes:\n  - name: a\n    rules:\n"].get(prefix).unwrap();
        let found = problems(&format!("{prefix}{text}"));
        let drawn = render(&found, true);
        let json = to_json(&found).to_string();
        proptest::prop_assert!(!drawn.is_empty() && json.len() > 2);
    }
}
