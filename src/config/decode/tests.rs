//! How much is told of a file, and what is left of it.

use super::*;
use crate::config::yaml;

fn decoded(text: &str) -> (Document, Vec<String>) {
    let source = Arc::new(Source {
        name: "t".to_owned(),
        text: text.to_owned(),
    });
    let (root, problems) = yaml::read(&source, &|_| None);
    assert_eq!(problems, []);
    let (document, problems) = document(&mut root.unwrap(), &source);
    (
        document,
        problems
            .into_iter()
            .map(|it| format!("{} {}", it.code, it.path))
            .collect(),
    )
}

#[test]
fn each_problem_is_told_once_with_its_path() {
    for (text, expected) in [
        ("version: 1", &[][..]),
        (
            "version: one\nversions: 1",
            &["W0102 version", "W0101 versions"],
        ),
        ("listeners: {}", &["W0102 listeners"]),
        ("[1]", &["W0102 "]),
        ("text", &["W0102 "]),
        // The listener goes with its required key, and is not told to miss it.
        (
            "listeners: [{ name: '', address: ':80' }]",
            &["W0103 listeners[0].name"],
        ),
        (
            "listeners: [{ name: a, address: ':1', limits: { streams: x, stream: 1 } }]",
            &[
                "W0101 listeners[0].limits.stream",
                "W0102 listeners[0].limits.streams",
            ],
        ),
        (
            "routes: [{ name: a, rules: [{ backendRefs: [{ name: '' }, { name: b, weight: x }, {}] }] }]",
            &[
                "W0103 routes[0].rules[0].backendRefs[0].name",
                "W0102 routes[0].rules[0].backendRefs[1].weight",
                "W0104 routes[0].rules[0].backendRefs[2]",
            ],
        ),
        (
            "routes: [{ rules: [], nam: a }]",
            &["W0101 routes[0].nam", "W0104 routes[0]"],
        ),
        (
            "routes: [{ name: a, rules: [{ split: { key: { cookie: { issue: no } } } }] }]",
            &[
                "W0102 routes[0].rules[0].split.key.cookie.issue",
                "W0104 routes[0].rules[0].split.key.cookie",
            ],
        ),
        (
            "backends: [{ name: a, labels: { a: 1.20, b: no, c: [] } }]",
            &["W0102 backends[0].labels.c"],
        ),
    ] {
        let (_, mut problems) = decoded(text);
        problems.sort();
        let mut expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
        expected.sort();
        assert_eq!(problems, expected, "{text}");
    }
}

#[test]
fn what_is_right_is_kept() {
    let (document, _) = decoded(
        "drain: { delay: 1s, timeout: x }\nlisteners: [{ name: a }, { name: b, address: ':1', x: 1 }]",
    );
    assert_eq!(document.drain.unwrap().delay.get().as_secs(), 1);
    let names: Vec<_> = document
        .listeners
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(names, ["b"]);
}

#[test]
fn texts_are_as_written_and_numbers_are_plain() {
    let (document, problems) = decoded(
        "backends: [{ name: no, labels: { a: 1.20, b: yes, c: 0x10, d: '' } }]\naccessLog: { samplePercent: 5, slowerThan: ~ }",
    );
    assert_eq!(problems, [""; 0]);
    let backend = document.backends.first().unwrap();
    assert_eq!(backend.name.as_str(), "no");
    assert_eq!(
        backend.labels.values().collect::<Vec<_>>(),
        ["1.20", "yes", "0x10", ""]
    );
}

#[test]
fn there_is_an_end() {
    let text = format!("listeners: [{}]", "{ x: 1 }, ".repeat(1000));
    let (_, problems) = decoded(&text);
    assert_eq!(problems.len(), MOST + 1);
    assert_eq!(problems.last().unwrap(), "W0109 ");
}
